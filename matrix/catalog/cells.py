"""A cell: one (python, torch, vLLM) triple, and the environment names that stand for it.

Pure, and importable inside a cell. A name holds minor releases only, the first digit of each
factor being the major:

>>> Cell("3.11", "2.10.0", "0.19.1").name
'py311-torch210-vllm019'
>>> factors("py311-torch29")
Factors(python='3.11', torch='2.9', vllm=None)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

from packaging.version import Version

from matrix._util.versions import parse_version
from matrix.errors import MatrixError

_PREFIXES = ("py", "torch", "vllm")
_EXAMPLE = "a name looks like py311-torch210 or py311-torch210-vllm019"
_FACTOR = re.compile(r"(?P<prefix>[a-z]+)(?P<major>[0-9])(?P<minor>[0-9]+)")
_PYTHON = re.compile(r"[0-9]\.(?:0|[1-9][0-9]*)")


class CellError(MatrixError):
    """A name, or a set of versions, does not stand for a cell."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The minor releases in an environment name, such as ``2.10``; ``vllm`` is None without one."""

    python: str
    torch: str
    vllm: str | None


@total_ordering
@dataclass(frozen=True)  # positional: Cell("3.11", "2.10.0", "0.19.1") reads as its name does
class Cell:
    """One (python, torch, vLLM) triple.

    ``python`` is a minor release (``3.11``); ``torch`` and ``vllm`` are public versions
    (``2.10.0``, ``0.19.1``). Cells sort by version, so 2.9 comes before 2.10.
    Raises CellError for anything else.
    """

    python: str
    torch: str
    vllm: str

    def __post_init__(self) -> None:
        """Refuse versions that a name cannot hold."""
        if not _PYTHON.fullmatch(self.python):
            raise CellError(
                f"cell: python {self.python!r} is not a minor release; write it as 3.11"
            )
        for key, text in (("torch", self.torch), ("vllm", self.vllm)):
            version = _version(key, text)
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
        return f"py{self.python.replace('.', '')}-torch{_digits(self.torch)}"

    @property
    def name(self) -> str:
        """The full name: ``py311-torch210-vllm019``."""
        return f"{self.short_name}-vllm{_digits(self.vllm)}"


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


def cell_of(python: str, torch: str, vllm: str) -> Cell:
    """Build the cell of installed full versions; a local part such as ``+cu128`` is dropped.

    >>> cell_of("3.11.7", "2.10.0+cu128", "0.19.1")
    Cell(python='3.11', torch='2.10.0', vllm='0.19.1')

    Raises CellError where a text is not a version.
    """
    release = _version("python", python).release
    if len(release) < 2:
        raise CellError(f"cell: python {python!r} has no minor release; write it as 3.11")
    torch_version, vllm_version = _version("torch", torch), _version("vllm", vllm)
    return Cell(f"{release[0]}.{release[1]}", torch_version.public, vllm_version.public)


def matches(name: str, cell: Cell) -> bool:
    """Tell whether this environment name, short or full, is a name of that cell.

    A short name fits any vLLM here; ``releases.Releases.resolve`` finds the one it stands for.
    Raises CellError where the name does not have the form of one.
    """
    factors(name)
    return name in (cell.name, cell.short_name)


def _factor(name: str, part: str) -> tuple[str, str]:
    """Split ``torch210`` into ``torch`` and ``2.10``."""
    found = _FACTOR.fullmatch(part)
    prefix = found["prefix"] if found else next((p for p in _PREFIXES if part.startswith(p)), "")
    if prefix not in _PREFIXES or not prefix:
        raise CellError(f"cell {name!r}: unknown factor {part!r}; {_EXAMPLE}")
    if found is None:
        raise CellError(
            f"cell {name!r}: factor {part!r} needs {prefix} and then the digits of a major and "
            f"a minor release; {_EXAMPLE}"
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
