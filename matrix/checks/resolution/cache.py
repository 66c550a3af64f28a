"""The rung *resolves*: the recorded answers of a resolver for each cell.

The answers are data in the repository (``data/resolutions.json``), since an index changes: each
names the day of its question. `matrix.checks.resolution.resolver` puts the questions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from packaging.version import InvalidVersion

from matrix._util.console import print_status
from matrix._util.json_file import read_object
from matrix._util.paths import DATA
from matrix._util.versions import minor_of, parse_version
from matrix.catalog.candidates.place import answers_folder
from matrix.catalog.cells import Cell, CellError
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases, newest
from matrix.checks.facts import Fact, FactCode, quoted
from matrix.checks.resolution.cause import KEPT_CAUSES, ConflictCause
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.catalog.candidates.model import Candidate

RESOLUTIONS_FILE = DATA / "resolutions.json"

PLATFORM = "manylinux_2_35_x86_64"
"""The platform tag of the recorded questions: the oldest glibc for which every vLLM from 0.12 has
a wheel (those of 0.20 are built for glibc 2.35)."""

KEPT_PACKAGES = (
    "torch",
    "torchvision",
    "torchaudio",
    "triton",
    "transformers",
    "numpy",
    "flashinfer-python",
    "xformers",
    "nvidia-cuda-runtime",
    "nvidia-cuda-runtime-cu12",
    "nvidia-nccl-cu12",
    "nvidia-nccl-cu13",
)
"""The packages of which an answer keeps the version, where it has them."""

CUDA_RUNTIMES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12")
"""Those of KEPT_PACKAGES that only a torch built for CUDA requires. Their version is its CUDA."""

_Release = TypeVar("_Release", Torch, Vllm)
_PLATFORM = re.compile(r"[a-z]+_[0-9]+_[0-9]+_[a-z0-9_]+")
_AHEAD_OF_INDEX = re.compile(r".+ needs \S+, and the index has up to \S+")
_AGAIN = 1  # days after which a lack of the index is asked about again
_NEEDED = {"python", "torch", "vllm", "platform", "asked", "ok"}
_OPTIONAL = {"override", "count", "packages", "cause", "reason", "facts", "more_indexes"}
_OF_BOTH = {"override", "more_indexes"}  # of what resolves and of what does not
_IN_FACTS = {"package", "version", "specifier", "wanted", "python", "platform"}
_OPERANDS: Mapping[str, set[str]] = {
    FactCode.NEEDS_PYTHON: {"package", "wanted"},
    FactCode.NO_WHEEL: {"package"},
    FactCode.NEEDS: {"package", "wanted"},
    FactCode.ASKED_FOR: {"package", "specifier"},
    FactCode.UP_TO: {"wanted"},
    FactCode.ONLY: set(),
    FactCode.ABSENT: {"wanted"},
    FactCode.NO_SUCH_VERSION: set(),
    FactCode.NO_REASON: set(),
}
"""What a kept fact has at least, by its code."""
_FIX = "correct it, or delete the row and let `matrix resolve` ask again"


class ResolutionsError(MatrixError):
    """The data file of resolutions cannot be read, or a row in it is invalid."""


@dataclass(frozen=True, kw_only=True)
class Installs:
    """The files that the environment of a candidate's cell installs, by address and hash.

    `overrides` replace the requirements of packages, `versions` are those of what is named, and
    `candidates` those whose files these are.
    """

    requirements: tuple[str, ...]
    overrides: tuple[str, ...]
    versions: Mapping[str, str]
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, kw_only=True)
class ResolverQuestion:
    """A question for the resolver: a cell, and the versions to force whatever others demand.

    `override` holds torch and its companions for a pair off the pin, and leaves out a companion
    that it does not name; None asks as declared. `installs` is what the cell of a candidate
    installs; None for a cell of releases.
    """

    cell: Cell
    override: Mapping[str, str] | None = None
    installs: Installs | None = None


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """A resolver's answer for a cell on the day `asked`, for a platform tag.

    `ok` with the number of packages as `count` and the versions of KEPT_PACKAGES; or not `ok`, with
    a `cause` (one of KEPT_CAUSES) and the facts. `override` as in `ResolverQuestion`.
    `more_indexes`: further indexes than the default one were set up, so that another machine may
    get another answer.
    """

    cell: Cell
    platform: str
    asked: date
    ok: bool
    override: Mapping[str, str] | None = None
    count: int | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    cause: ConflictCause | None = None
    facts: tuple[Fact, ...] = ()
    more_indexes: bool = False

    @property
    def cuda(self) -> str | None:
        """Return the CUDA of the torch that was found (`12.8`); None for a build without CUDA."""
        found = (self.packages[name] for name in CUDA_RUNTIMES if name in self.packages)
        return next((".".join(version.split(".")[:2]) for version in found), None)

    @property
    def is_unknown(self) -> bool:
        """Tell whether the index only lacks a newer release, which another day's may have."""
        return self.cause is ConflictCause.NOT_PUBLISHED

    def is_older(self, today: date, days: int) -> bool:
        """Tell whether it is older than so many days; an unknown answer is after one day."""
        age = (today - self.asked).days
        return age > days or (self.is_unknown and age >= _AGAIN)

    @property
    def question(self) -> ResolverQuestion:
        """Return the question that this answers."""
        return ResolverQuestion(cell=self.cell, override=self.override)

    @property
    def key(self) -> tuple[Cell, str, bool]:
        """Return what the file holds one answer for."""
        return self.cell, self.platform, self.override is not None


@dataclass(frozen=True, kw_only=True)
class Resolutions:
    """Every recorded answer, one for each key."""

    rows: tuple[Resolution, ...] = ()

    @cached_property
    def _known(self) -> Mapping[tuple[Cell, str, bool], Resolution]:
        return {row.key: row for row in self.rows}

    def resolved(self, cell: Cell, platform: str = PLATFORM) -> Resolution | None:
        """Return the answer for a cell as its environment installs it; None if nobody asked.

        That is with the override where that was asked (a pair off the pin), else as declared.
        """
        found = self._known.get((cell, platform, True))
        return found if found is not None else self._known.get((cell, platform, False))

    def answer(self, question: ResolverQuestion, platform: str = PLATFORM) -> Resolution | None:
        """Return the answer to this very question; None if nobody asked with these versions."""
        found = self._known.get((question.cell, platform, question.override is not None))
        return found if found is not None and found.override == question.override else None

    def stale(self, today: date, days: int) -> tuple[Resolution, ...]:
        """Return the answers that are older than so many days, and unknown ones of another day."""
        return tuple(row for row in self.rows if row.is_older(today, days))

    def including(self, others: Resolutions) -> Resolutions:
        """Return these answers and others, which replace those to the same question."""
        known = {**self._known, **others._known}
        return Resolutions(rows=tuple(known[key] for key in sorted(known)))

    def with_row(self, row: Resolution) -> Resolutions:
        """Return these answers and one more, which replaces an older one."""
        known = {**self._known, row.key: row}
        return Resolutions(rows=tuple(sorted(known.values(), key=lambda row: row.key)))


def pinned_cells(releases: Releases, pythons: Iterable[str]) -> Iterator[Cell]:
    """Yield the newest patch of each vLLM minor with the torch that it pins.

    On the Pythons that fit both. Where the patches of a minor pin several torch minors, the newest
    patch for each of them counts.
    """
    pythons = tuple(pythons)
    for vllm in releases.pinning.values():
        torch = next(release for release in releases.torch if release.version == vllm.torch)
        for python in _fit(pythons, torch, vllm):
            yield Cell(python, torch.version, vllm.version)


def off_pin_cells(releases: Releases, pythons: Iterable[str]) -> Iterator[Cell]:
    """Yield the newest patch of each vLLM minor with the newest of each torch minor it never pins.

    On the Pythons that fit both.
    """
    pythons, pinning = tuple(pythons), releases.pinning
    for vllm in _newest(releases.vllm):
        for torch in _newest(releases.torch):
            if (minor_of(torch.version), minor_of(vllm.version)) not in pinning:
                for python in _fit(pythons, torch, vllm):
                    yield Cell(python, torch.version, vllm.version)


def question(cell: Cell, releases: Releases, *, override: bool = False) -> ResolverQuestion:
    """Return the question about a cell; `override` forces torch and its known companions.

    Raises CellError if they are not known.
    """
    return ResolverQuestion(cell=cell, override=releases.companions(cell) if override else None)


def candidates_path() -> Path:
    """Return the file of the answers about cells of candidates, in the user's cache."""
    return answers_folder() / "resolutions.json"


def load_resolutions(path: Path | None = None) -> Resolutions:
    """Read the answers, by default those of the package; a missing file holds none.

    Raises ResolutionsError, which names the file, the row and the key, for any other file that is
    not valid.
    """
    path = path or RESOLUTIONS_FILE
    if not path.exists():
        return Resolutions()
    data = read_object(path, ResolutionsError)
    if not isinstance(data.get("resolutions"), list):
        raise ResolutionsError(f"{path}: resolutions: is not a list of rows; restore it")
    for key in sorted(data.keys() - {"resolutions"}):
        raise ResolutionsError(f"{path}: {key}: unknown key; delete it")
    rows: dict[tuple[Cell, str, bool], Resolution] = {}
    for number, content in enumerate(data["resolutions"], 1):
        row = _row(content, f"{path}: resolutions {number}")
        if row.key in rows:
            raise ResolutionsError(
                f"{path}: resolutions {number}: {row.cell.name} appears twice; keep one"
            )
        rows[row.key] = row
    return Resolutions(rows=tuple(sorted(rows.values(), key=lambda row: row.key)))


def load_candidate_resolutions() -> Resolutions:
    """Return the answers about cells of candidates; none where their file is damaged.

    A damaged file is set aside with one line on stderr: it is a cache. Raises ResolutionsError
    where it cannot be set aside.
    """
    path = candidates_path()
    try:
        return load_resolutions(path)
    except ResolutionsError as error:
        aside = path.with_name(f"{path.name}.damaged")
        try:
            path.replace(aside)
        except OSError:
            raise error from None
        why = str(error).partition("; ")[0]
        print_status(f"{why}; it was set aside as {aside.name}, ask again with matrix resolve")
        return Resolutions()


def text_of(resolutions: Resolutions) -> str:
    """Return the answers as the data file holds them, one row a line."""
    rows = ",\n".join(f"    {json.dumps(_as_json(row))}" for row in resolutions.rows)
    return f'{{\n  "resolutions": [\n{rows}\n  ]\n}}\n' if rows else '{\n  "resolutions": []\n}\n'


def _as_json(row: Resolution) -> dict[str, object]:
    cell = {"vllm": row.cell.vllm, "torch": row.cell.torch, "python": row.cell.python}
    override = {"override": dict(row.override)} if row.override is not None else {}
    if row.ok:
        answer: dict[str, object] = {"count": row.count, "packages": dict(row.packages)}
    else:
        answer = {"cause": row.cause, **_facts_as_json(row.facts)}
    asked: dict[str, object] = {"asked": row.asked.isoformat()}
    if row.more_indexes:
        asked["more_indexes"] = True
    return {**cell, "platform": row.platform, **override, **asked, "ok": row.ok, **answer}


def _facts_as_json(facts: tuple[Fact, ...]) -> dict[str, object]:
    """Return facts as JSON; what is only quoted stays as it was kept, as the reason."""
    if len(facts) == 1 and facts[0].code is FactCode.QUOTED:
        return {"reason": facts[0].text}
    every = [{name: value for name, value in fact._asdict().items() if value} for fact in facts]
    return {"facts": every}


def _row(row: object, where: str) -> Resolution:
    if not isinstance(row, dict):
        raise ResolutionsError(f"{where}: is not an object; {_FIX}")
    for key in sorted(_NEEDED - row.keys()):
        raise ResolutionsError(f"{where}: {key}: is missing; {_FIX}")
    for key in sorted(row.keys() - _NEEDED - _OPTIONAL):
        raise ResolutionsError(f"{where}: {key}: unknown key; {_FIX}")
    for key in ("python", "torch", "vllm", "platform", "asked"):
        if not isinstance(row[key], str):
            raise ResolutionsError(f"{where}: {key}: {row[key]!r} is not a string; {_FIX}")
    try:
        cell = Cell(row["python"], row["torch"], row["vllm"])
    except CellError as error:
        raise ResolutionsError(f"{where}: {error}") from error
    if not _PLATFORM.fullmatch(row["platform"]):
        raise ResolutionsError(
            f"{where}: platform: {row['platform']!r} is not a platform tag; write it as {PLATFORM}"
        )
    for key in ("ok", "more_indexes"):
        if not isinstance(row.get(key, False), bool):
            raise ResolutionsError(f"{where}: {key}: {row[key]!r} is not true or false; {_FIX}")
    override = row.get("override")
    if override is not None:
        _check_override(override, cell, f"{where}: override")
    answer = _resolved(row, cell, where) if row["ok"] else _failed(row, where)
    return Resolution(
        cell=cell,
        platform=row["platform"],
        asked=_day(row["asked"], f"{where}: asked"),
        ok=row["ok"],
        override=override,
        more_indexes=row.get("more_indexes", False),
        **answer,
    )


def _resolved(row: Mapping[str, Any], cell: Cell, where: str) -> dict[str, Any]:
    _only(row, {"count", "packages"}, "resolves", where)
    count, packages = row["count"], row["packages"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ResolutionsError(f"{where}: count: {count!r} is not a number of packages; {_FIX}")
    _check_versions(packages, f"{where}: packages")
    installed = packages.get("torch")
    if installed is None or parse_version(installed).public != parse_version(cell.torch).public:
        raise ResolutionsError(f"{where}: packages: torch is not {cell.torch}; {_FIX}")
    return {"count": count, "packages": packages}


def _failed(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    why = "reason" if "reason" in row else "facts"
    _only(row, {"cause", why}, "does not resolve", where)
    if row["cause"] not in KEPT_CAUSES:
        raise ResolutionsError(
            f"{where}: cause: {row['cause']!r} is not one of {', '.join(KEPT_CAUSES)}; {_FIX}"
        )
    cause = ConflictCause(row["cause"])
    if why == "facts":
        return {"cause": cause, "facts": _facts(row["facts"], f"{where}: facts")}
    # As it was written before there were facts.
    reason = _one_line(row["reason"], f"{where}: reason")
    if cause is ConflictCause.CONFLICT and _AHEAD_OF_INDEX.fullmatch(reason):
        cause = ConflictCause.NOT_PUBLISHED  # as it was written before there was that cause
    return {"cause": cause, "facts": quoted(reason)}


def _facts(rows: object, where: str) -> tuple[Fact, ...]:
    if not isinstance(rows, list) or not rows:
        raise ResolutionsError(f"{where}: is not a list of facts; {_FIX}")
    return tuple(_fact(row, f"{where} {number}") for number, row in enumerate(rows, 1))


def _fact(row: object, where: str) -> Fact:
    if not isinstance(row, dict):
        raise ResolutionsError(f"{where}: is not an object; {_FIX}")
    code = row.get("code")
    if not isinstance(code, str) or code not in _OPERANDS:
        raise ResolutionsError(
            f"{where}: code: {code!r} is not one of {', '.join(_OPERANDS)}; {_FIX}"
        )
    for key in sorted(_OPERANDS[code] - row.keys()):
        raise ResolutionsError(f"{where}: {key}: is missing; {_FIX}")
    for key in sorted(row.keys() - _IN_FACTS - {"code"}):
        raise ResolutionsError(f"{where}: {key}: unknown key; {_FIX}")
    operands = {key: _one_line(row[key], f"{where}: {key}") for key in row.keys() - {"code"}}
    return Fact(code=FactCode(code), **operands)


def _one_line(text: object, where: str) -> str:
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise ResolutionsError(f"{where}: {text!r} is not one line of text; {_FIX}")
    return text


def _only(row: Mapping[str, Any], keys: set[str], what: str, where: str) -> None:
    for key in sorted(keys - row.keys()):
        raise ResolutionsError(f"{where}: {key}: is missing in what {what}; {_FIX}")
    for key in sorted((row.keys() & (_OPTIONAL - _OF_BOTH)) - keys):
        raise ResolutionsError(f"{where}: {key}: has no place in what {what}; {_FIX}")


def _check_override(override: object, cell: Cell, where: str) -> None:
    _check_versions(override, where)
    if not isinstance(override, dict) or override.get("torch") != cell.torch:
        raise ResolutionsError(f"{where}: torch is not {cell.torch}; {_FIX}")


def _check_versions(packages: object, where: str) -> None:
    if not isinstance(packages, dict):
        raise ResolutionsError(f"{where}: is not an object of package to version; {_FIX}")
    for name, version in packages.items():
        try:
            parse_version(version)
        except (InvalidVersion, TypeError):
            raise ResolutionsError(
                f"{where}: {name}: {version!r} is not a version; {_FIX}"
            ) from None


def _day(text: str, where: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # Newer Pythons read more forms than 3.10 does; the file has one.
    if day is None or day.isoformat() != text:
        raise ResolutionsError(f"{where}: {text!r} is not a date; write it as 2026-11-23")
    return day


def _newest(releases: Iterable[_Release]) -> tuple[_Release, ...]:
    """Return the newest final release of each minor that was not withdrawn, oldest first."""
    return newest(
        release for release in releases if not parse_version(release.version).is_prerelease
    )


def _fit(pythons: Iterable[str], torch: Torch, vllm: Vllm) -> list[str]:
    ranges = [bounds for bounds in (torch.python, vllm.python) if bounds is not None]
    return [python for python in pythons if all(bounds.contains(python) for bounds in ranges)]
