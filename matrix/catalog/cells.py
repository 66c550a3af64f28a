"""A cell: one (python, torch, vLLM) triple, and the environment names that stand for it.

Pure, and importable inside a cell. Of releases a name holds the minor releases only, the first
digit of each factor being the major:

>>> Cell("3.11", "2.10.0", "0.19.1").name
'py311-torch210-vllm019'
>>> factors("py311-torch29")
Factors(python='3.11', torch='2.9', vllm=None)

Of a candidate it holds the candidate's own name, which has a letter where a release has digits. The
**release key** of a candidate is its public version with its name and identity as the local part.
So a candidate differs, wherever versions are compared or are keys, from a release of the same
version and from every other candidate, also from one of the same name:

>>> Cell("3.12", "2.16.0+torch216rc1.b3f2a9c81d0e5c77", "0.33.0").name
'py312-torch216rc1-vllm033'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix._util.enums import StrEnum
from matrix._util.versions import minor_of, parse_version
from matrix.errors import MatrixError

PROJECTS = ("torch", "vllm")
"""The projects whose releases and candidates make a cell, as `matrix.catalog.projects` has them.

For what runs in a cell, which imports no more of the catalog than this module.
"""

_PREFIXES = ("py", "torch", "vllm")
_EXAMPLE = "a name looks like py311-torch210 or py311-torch210-vllm019"
_FACTOR = re.compile(r"(?P<prefix>[a-z]+)(?P<major>[0-9])(?P<minor>[0-9]+)")
# A letter after the project: no release has such a factor.
_CANDIDATE = re.compile(r"(?P<project>torch|vllm)(?=[0-9]*[a-z])[a-z0-9]{1,40}")
# It begins with a letter, since a version reads digits alone as a number.
_IDENTITY = re.compile(r"b[0-9a-f]{15}")
_COMPANIONS = ("torchaudio", "torchvision")
PYTHON_VERSION = re.compile(r"[0-9]\.(?:0|[1-9][0-9]*)")
"""A minor release of Python, such as 3.11."""


class CellError(MatrixError):
    """A name, or a set of versions, does not stand for a cell."""


class Made(StrEnum):
    """How the vLLM of a candidate from sources is made.

    `PUBLISHED`: upstream's own wheel of that commit. `COMPILED`: vLLM's own build by the user's
    compiler. `WITH_EXTENSIONS`: Python from the sources, and the extensions of a published wheel of
    another build. On the platform cuda each of these is a way, and `WITHOUT_COMPILING` is none.
    """

    WITHOUT_COMPILING = "built without compiling"
    PUBLISHED = "published wheel of its commit"
    COMPILED = "compiled here"
    WITH_EXTENSIONS = "built with the extensions of a published wheel"


@dataclass(frozen=True, kw_only=True)
class Build:
    """Which build a candidate is: its name, and the digest that distinguishes builds of one name.

    >>> Build(name="torch216rc1", identity="b3f2a9c81d0e5c77").key("2.16.0+cu130")
    '2.16.0+torch216rc1.b3f2a9c81d0e5c77'

    Raises CellError if one of the two has another form.
    """

    name: str
    identity: str

    def __post_init__(self) -> None:
        """Refuse what a release key cannot hold."""
        candidate_project(self.name)
        if not _IDENTITY.fullmatch(self.identity):
            raise CellError(
                f"candidate {self.name!r}: {self.identity!r} is not an identity; it is the letter b"
                " and 15 hexadecimal digits"
            )

    def key(self, version: str) -> str:
        """Return the release key of this build of a version; the version's local part goes."""
        return f"{_version(self.name, version).public}+{self.name}.{self.identity}"


def build_of(version: str) -> Build | None:
    """Return the build of a release key; None if the text is a version and no more."""
    if "+" not in version:
        return None
    name, _, identity = version.partition("+")[2].partition(".")
    if _CANDIDATE.fullmatch(name) and _IDENTITY.fullmatch(identity):
        return Build(name=name, identity=identity)
    return None


def public_key(version: str) -> str:
    """Return a version without its local part, or the release key of a candidate as it is.

    >>> public_key("2.10.0+cu128"), public_key("2.16.0+torch216rc1.b3f2a9c81d0e5c77")
    ('2.10.0', '2.16.0+torch216rc1.b3f2a9c81d0e5c77')

    Raises packaging's InvalidVersion where the text is not a version.
    """
    return version if build_of(version) else parse_version(version).public


def is_meant(wanted: SpecifierSet, version: str) -> bool:
    """Tell whether a filter means a release; a candidate only by its own release key (`===`).

    >>> key = "2.16.0+torch216rc1.b3f2a9c81d0e5c77"
    >>> is_meant(SpecifierSet(">=2.15"), key), is_meant(SpecifierSet(f"==={key}"), key)
    (False, True)
    """
    if build_of(version) is not None and all(clause.operator != "===" for clause in wanted):
        return False
    return wanted.contains(version, prereleases=True)


def candidate_project(name: str) -> str:
    """Return the project of a candidate's name: ``torch`` or ``vllm``.

    Raises CellError for a name that a release could have, or that is not a factor of tox.
    """
    found = _CANDIDATE.fullmatch(name)
    if found is None or name in _COMPANIONS:
        raise CellError(
            f"candidate {name!r}: is not a name; it begins with torch or vllm, has a letter after"
            " that, and small letters and digits only, as torch216rc1 or vllmmain"
        )
    return found["project"]


def is_candidate_name(text: str) -> bool:
    """Tell whether a text has the form of a candidate's name.

    >>> is_candidate_name("torch216rc1"), is_candidate_name("torch216"), is_candidate_name("2.16")
    (True, False, False)
    """
    return _CANDIDATE.fullmatch(text) is not None and text not in _COMPANIONS


def is_candidate(factor: str) -> bool:
    """Tell whether a value of `Factors` is a candidate's name; else it is a minor release.

    >>> is_candidate("torch216rc1"), is_candidate("2.16")
    (True, False)
    """
    return factor[:1].isalpha()


FactorOrder = tuple[bool, Version, str]
"""What sorts the values of `Factors`."""


def factor_order(factor: str) -> FactorOrder:
    """Return what sorts the values of `Factors`: releases by version, then candidates by name."""
    named = is_candidate(factor)
    return named, parse_version("0" if named else factor), factor


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The content of an environment name: minor releases, such as ``2.10``, or candidates.

    ``vllm`` is None without one.
    """

    python: str
    torch: str
    vllm: str | None


@total_ordering
@dataclass(frozen=True)  # positional: Cell("3.11", "2.10.0", "0.19.1") reads as its name does
class Cell:
    """One (python, torch, vLLM) triple.

    ``python`` is a minor release (``3.11``); ``torch`` and ``vllm`` are public versions
    (``2.10.0``, ``0.19.1``) or the release keys of candidates. Cells sort by version, so 2.9 comes
    before 2.10. Raises CellError for anything else.
    """

    python: str
    torch: str
    vllm: str

    def __post_init__(self) -> None:
        """Refuse versions that a name cannot hold."""
        if not PYTHON_VERSION.fullmatch(self.python):
            raise CellError(
                f"cell: python {self.python!r} is not a minor release; write it as 3.11"
            )
        for key, text in (("torch", self.torch), ("vllm", self.vllm)):
            version = _version(key, text)
            if (build := build_of(text)) is not None:
                if candidate_project(build.name) != key:
                    raise CellError(f"cell: {key} {text!r} is a candidate of the other project")
                continue
            if version.local is not None:
                raise CellError(
                    f"cell: {key} {text!r} has a local part; write it as {version.public}"
                )
            if version.epoch or version.major > 9:
                raise CellError(f"cell: {key} {text!r} has no name: its major is not one digit")

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Cell):
            return NotImplemented
        return self._order() < other._order()

    def _order(self) -> tuple[Version, Version, Version, str, str]:
        # The texts last, so that 2.10 and 2.10.0, which are equal as versions, have an order.
        versions = parse_version(self.python), parse_version(self.torch), parse_version(self.vllm)
        return (*versions, self.torch, self.vllm)

    @property
    def short_name(self) -> str:
        """The name without vLLM: ``py311-torch210``."""
        return environment_name(self.python, factor_of("torch", self.torch))

    @property
    def name(self) -> str:
        """The full name: ``py311-torch210-vllm019``."""
        return f"{self.short_name}-{factor_of('vllm', self.vllm)}"

    @property
    def torch_build(self) -> Build | None:
        """The build of its torch, if that is a candidate."""
        return build_of(self.torch)

    @property
    def vllm_build(self) -> Build | None:
        """The build of its vLLM, if that is a candidate."""
        return build_of(self.vllm)

    @property
    def builds(self) -> tuple[Build, ...]:
        """The builds of its candidates; empty for a cell of releases."""
        return tuple(build for build in (self.torch_build, self.vllm_build) if build is not None)


def factors(name: str) -> Factors:
    """Read an environment name, short or full.

    Raises CellError, which says what is wrong with the name, for any other form.
    """
    found: dict[str, str] = {}
    for part in name.split("-"):
        prefix, minor_release = _factor(name, part)
        if prefix in found:
            raise CellError(f"cell {name!r}: two {prefix} factors; {_EXAMPLE}")
        found[prefix] = minor_release
    for prefix in _PREFIXES[:2]:
        if prefix not in found:
            raise CellError(f"cell {name!r}: no {prefix} factor; {_EXAMPLE}")
    if list(found) != list(_PREFIXES[: len(found)]):
        parts = sorted(name.split("-"), key=lambda part: _PREFIXES.index(_factor(name, part)[0]))
        raise CellError(f"cell {name!r}: factors out of order; write {'-'.join(parts)}")
    return Factors(python=found["py"], torch=found["torch"], vllm=found.get("vllm"))


def environment_name(python: str, *values: str) -> str:
    """Return the name of an environment by its Python and its factors, torch's first.

    >>> environment_name("3.12", "vllmmain", "torch215")
    'py312-torch215-vllmmain'
    """
    return "-".join((f"py{python.replace('.', '')}", *sorted(values)))


def factor_of(project: str, version: str) -> str:
    """Return the factor of a release or of a candidate's release key.

    >>> factor_of("torch", "2.10.1"), factor_of("vllm", "0.34.0+vllmmain.b3f2a9c81d0e5c77")
    ('torch210', 'vllmmain')
    """
    build = build_of(version)
    return f"{project}{_digits(version)}" if build is None else build.name


def axis_of(version: str) -> str:
    """Return the value that `Factors` has for a release (its minor) or a candidate (its name).

    >>> axis_of("2.10.1"), axis_of("0.34.0+vllmmain.b3f2a9c81d0e5c77")
    ('2.10', 'vllmmain')
    """
    build = build_of(version)
    return minor_of(version) if build is None else build.name


def cell_of(python: str, torch: str, vllm: str) -> Cell:
    """Build the cell of installed full versions; a local part such as ``+cu128`` is dropped.

    The release key of a candidate stays.

    >>> cell_of("3.11.7", "2.10.0+cu128", "0.19.1")
    Cell(python='3.11', torch='2.10.0', vllm='0.19.1')

    Raises CellError if a text is not a version.
    """
    release = _version("python", python).release
    if len(release) < 2:
        raise CellError(f"cell: python {python!r} has no minor release; write it as 3.11")
    found = (
        text if build_of(text) else _version(key, text).public
        for key, text in (("torch", torch), ("vllm", vllm))
    )
    return Cell(f"{release[0]}.{release[1]}", *found)


def matches(name: str, cell: Cell) -> bool:
    """Tell whether this environment name, short or full, is a name of that cell.

    A short name fits any vLLM here; ``releases.Releases.resolve`` finds the one it stands for.
    Raises CellError if the name does not have the form of one.
    """
    if name in (cell.name, cell.short_name):
        return True
    factors(name)  # refuses what has not the form of a name
    return False


def _factor(name: str, part: str) -> tuple[str, str]:
    """Split ``torch210`` into ``torch`` and ``2.10``, ``vllmmain`` into ``vllm`` and itself."""
    candidate = _CANDIDATE.fullmatch(part)
    if candidate is not None and part not in _COMPANIONS:
        return candidate["project"], part
    found = _FACTOR.fullmatch(part)
    prefix = found["prefix"] if found else next((p for p in _PREFIXES if part.startswith(p)), "")
    if prefix not in _PREFIXES or not prefix:
        raise CellError(f"cell {name!r}: unknown factor {part!r}; {_EXAMPLE}")
    if found is None:
        raise CellError(
            f"cell {name!r}: factor {part!r} needs {prefix} and then the digits of a major and "
            f"a minor release, or the name of a candidate; {_EXAMPLE}"
        )
    minor = found["minor"]
    if minor != "0" and minor.startswith("0"):
        instead = f"{prefix}{found['major']}{minor.lstrip('0') or 0}"
        raise CellError(f"cell {name!r}: factor {part!r} has a zero too many; write {instead}")
    return prefix, f"{found['major']}.{minor}"


def _digits(version: str) -> str:
    parsed = parse_version(version)
    return f"{parsed.major}{parsed.minor}"


def _version(key: str, text: str) -> Version:
    try:
        return parse_version(text)
    except (ValueError, TypeError) as error:  # InvalidVersion, or more digits than Python reads
        raise CellError(f"cell: {key} {text!r} is not a version; write it as 2.10.0") from error
