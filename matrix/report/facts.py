"""The sentences of what the checks found against a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matrix._util.text import clip
from matrix.checks.facts import (
    LONGEST,
    AnyFact,
    Fact,
    FactCode,
    LinkCode,
    LinkFact,
    is_short,
)

NO_REASON = "no reason given"
"""The words for an answer without any fact."""

_FORMS: Mapping[FactCode, str] = {
    FactCode.NEEDS_PYTHON: "{who} needs Python {wanted}{unlike}",
    FactCode.NO_WHEEL: "{who} has no wheel for {target}",
    FactCode.PINS_TORCH: "{who} pins torch {wanted}",
    FactCode.NEEDS: "{who} needs {wanted}",
    FactCode.ASKED_FOR: "{who} was asked for",
    FactCode.UP_TO: "the index has up to {wanted}",
    FactCode.ONLY: "the index has only {wanted}",
    FactCode.ABSENT: "the index has no {wanted}",
    FactCode.NO_SUCH_VERSION: "the index has no such version",
    FactCode.NO_REASON: "the resolver gave no reason",
}
_UNKNOWN: Mapping[LinkCode, str] = {
    LinkCode.BUILT: "it is built from its sources, and no published wheel has its extensions",
    LinkCode.NO_EXTENSIONS: "its wheel has no extensions to link",
    LinkCode.OTHER_WHEEL: "the symbols of another wheel were read",
}


def facts_words(facts: Sequence[AnyFact]) -> str:
    """Return facts in one line; "" for none."""
    text = ", and ".join(map(_words, facts)).strip().partition("\n")[0]
    return clip(text, LONGEST) if any(map(is_short, facts)) else text


def asked_words(day: str) -> str:
    """Return when a resolver was asked."""
    return f"asked on {day}"


def _words(fact: AnyFact) -> str:
    return link_words(fact) if isinstance(fact, LinkFact) else _fact_words(fact)


def _fact_words(fact: Fact) -> str:
    if fact.code is FactCode.QUOTED:
        return fact.text or ""
    python = f"Python {fact.python}" if fact.python else ""
    return _FORMS[fact.code].format(
        who=fact.subject,
        wanted=fact.wanted or "",
        unlike=f", not {fact.python}" if fact.python else "",
        target=" on ".join(filter(None, (python, fact.platform))),
    )


def link_words(fact: LinkFact) -> str:
    """Return why an extension does not load, or which features do not.

    >>> lacks = LinkFact(code=LinkCode.NEEDS, extension="_C.so", symbol="c10::f()", more=2)
    >>> link_words(lacks)
    '`_C.so` needs c10::f() and 2 more'
    """
    without = f"without {', '.join(fact.features)}" if fact.features else ""
    if fact.code is LinkCode.WITHOUT:
        return without
    if fact.code in _UNKNOWN:
        return _UNKNOWN[fact.code]
    return ": ".join(filter(None, (without, f"`{fact.extension}` {link_fault(fact)}")))


def link_fault(fact: LinkFact) -> str:
    """Return what is wrong with an extension, without its name."""
    if fact.code is LinkCode.UNREADABLE:
        return fact.text or ""
    if fact.code is LinkCode.OTHER_PYTHON:
        return f"is built for Python {', '.join(fact.pythons or ())}, not {fact.python}"
    library, symbol = fact.library, fact.symbol
    if library and fact.torch:
        library = f"{library} (torch {fact.torch} brings {fact.instead or 'none'})"
    if symbol and fact.more:
        symbol = f"{symbol} and {fact.more} more"
    return f"needs {', and '.join(filter(None, (library, symbol)))}"
