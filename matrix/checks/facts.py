"""The findings of the checks against a cell, as codes with operands.

Pure. `matrix.report.facts` makes the sentences. Named tuples, as the reasons of
`matrix.verdict.reasons` are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matrix._util.enums import StrEnum
from matrix._util.text import clip

LONGEST = 200
"""The most characters of what a resolver or the metadata says of packages."""


class FactCode(StrEnum):
    """A fact from metadata, an index or a resolver about a package."""

    NEEDS_PYTHON = "needs Python"
    NO_WHEEL = "has no wheel for"
    PINS_TORCH = "pins torch"
    NEEDS = "needs"
    ASKED_FOR = "was asked for"
    UP_TO = "the index has up to"
    ONLY = "the index has only"
    ABSENT = "the index has no"
    NO_SUCH_VERSION = "the index has no such version"
    NO_REASON = "the resolver gave no reason"
    QUOTED = "quoted"


class Fact(NamedTuple):
    """A fact from metadata, an index or a resolver about a package.

    `package` at its `version`, or the releases of it that `specifier` allows, or all of them.
    `wanted` is what it needs: a range of Pythons, a torch, a requirement; or which release the
    index has. `python` is the Python, and `platform` the platform, for which that does not fit.
    `text` is quoted: the words of a resolver, of an answer that was kept in words, or of an error.
    """

    code: FactCode
    package: str | None = None
    version: str | None = None
    specifier: str | None = None
    wanted: str | None = None
    python: str | None = None
    platform: str | None = None
    text: str | None = None

    @property
    def key(self) -> str:
        """Return what stands for the fact where failures are compared.

        >>> Fact(code=FactCode.NEEDS, package="vllm", version="0.33.0", wanted="a>=2").key
        'vllm 0.33.0 needs a>=2'
        """
        if self.code is FactCode.QUOTED:
            return self.text or ""
        wanted = self.wanted
        if self.code is FactCode.NEEDS_PYTHON and self.python:
            wanted = f"{wanted}, not {self.python}"
        elif self.code is FactCode.NO_WHEEL:
            python = self.python and f"Python {self.python}"
            wanted = " on ".join(filter(None, (python, self.platform)))
        subject = "" if self.code in _OF_INDEX else self.subject
        return " ".join(filter(None, (subject, self.code, wanted)))

    @property
    def subject(self) -> str:
        """Return the package, with its version or the releases that are meant.

        >>> Fact(code=FactCode.NEEDS, package="b", specifier="<=1.0").subject
        'b<=1.0'
        """
        if self.package is None:
            return ""
        if self.version is not None:
            return f"{self.package} {self.version}"
        return f"{self.package}{self.specifier}" if self.specifier else f"every {self.package}"


_OF_INDEX = (FactCode.UP_TO, FactCode.ONLY, FactCode.ABSENT, FactCode.NO_SUCH_VERSION)


class LinkCode(StrEnum):
    """Why a compiled extension of vLLM does not load with a torch, or why nobody knows."""

    NEEDS = "needs"
    OTHER_PYTHON = "is built for Python"
    UNREADABLE = "cannot be read"
    WITHOUT = "without"
    BUILT = "built from sources"
    NO_EXTENSIONS = "no extensions"
    OTHER_WHEEL = "symbols of another wheel"


class LinkFact(NamedTuple):
    """Why the `extension`, a file, does not load; or which features do not, of many torches.

    It needs a `library` that neither vLLM nor `torch` brings, which brings `instead` another
    version of it or nothing, and a `symbol` and so many `more` that this torch does not export. Or
    it is built for these `pythons`, not for `python`. Or its file could not be read: `text` is the
    error. Where no core extension is concerned, vLLM is without these `features`. Nobody knows
    of a vLLM from sources whose extensions no published wheel has, of a wheel without extensions,
    and where the symbols are those of another wheel.
    """

    code: LinkCode
    extension: str | None = None
    library: str | None = None
    torch: str | None = None
    instead: str | None = None
    symbol: str | None = None
    more: int | None = None
    pythons: tuple[str, ...] | None = None
    python: str | None = None
    text: str | None = None
    features: tuple[str, ...] | None = None

    @property
    def key(self) -> str:
        """Return what stands for the fact where failures are compared.

        >>> LinkFact(code=LinkCode.NEEDS, extension="_C", symbol="c10::f()").key
        '`_C` needs c10::f()'
        """
        match self.code:
            case LinkCode.NEEDS:
                what = f"{self.code} {self.library or self.symbol}"
            case LinkCode.OTHER_PYTHON:
                what = f"{self.code} {', '.join(self.pythons or ())}, not {self.python}"
            case LinkCode.UNREADABLE:
                what = self.text or ""
            case LinkCode.WITHOUT:
                return f"{self.code} {', '.join(self.features or ())}"
            case LinkCode.BUILT | LinkCode.NO_EXTENSIONS | LinkCode.OTHER_WHEEL:
                return self.code
        return f"`{self.extension}` {what}"


AnyFact = Fact | LinkFact


def facts_key(facts: Sequence[AnyFact]) -> str:
    """Return what stands for facts where failures are compared, "" for none.

    Waivers hold signatures that are made from it, so it stays as it is when a sentence changes.
    """
    text = ", and ".join(fact.key for fact in facts)
    return clip(text, LONGEST) if any(map(is_short, facts)) else text


def is_short(fact: AnyFact) -> bool:
    """Return whether its words are cut: those of packages, which an index makes as it likes."""
    return isinstance(fact, Fact) and fact.code is not FactCode.QUOTED


def quoted(text: str) -> tuple[Fact]:
    """Return a text of another's as facts."""
    return (Fact(code=FactCode.QUOTED, text=text),)
