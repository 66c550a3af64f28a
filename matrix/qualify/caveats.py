"""Caveats: what is unusual about the query and the records of a qualification.

Pure. Each caveat is a code with its operands; `matrix.report.qualify` makes the sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.version import Version

from matrix._util.enums import StrEnum
from matrix._util.versions import minor_of
from matrix.catalog.cells import CellError
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.qualify.load import ReleasedRecord, UnidentifiedCause
from matrix.qualify.query import (
    CellReleases,
    Context,
    PlatformReleases,
    Query,
    Skipped,
    find_release,
    oldest_first,
    same_release,
)
from matrix.qualify.runs import CellRun, ReleaseRuns, Variant
from matrix.record.model import CellRef, Departure, Platform, Record
from matrix.record.startup_tests import load_startup_tests
from matrix.record.writer import to_json
from matrix.rules.provisional import NearestRelease
from matrix.verdict.states import Verdict


class CaveatCode(StrEnum):
    """The kinds of caveat."""

    BASELINE_NEWER = "baseline newer"
    NO_RECORDS = "no records"
    FUTURE_DATED = "future-dated"
    OLDER_RECORDS = "older records"
    COPIES = "copies"
    OTHER_FLAGS = "other flags"
    OTHER_CELL_NAME = "other cell name"
    NO_BASELINE = "no baseline"
    NOT_STOCK = "not stock"
    PROVISIONAL = "provisional"
    UNIDENTIFIED = "unidentified"
    INSTALLS_ANOTHER = "installs another release"
    NO_COMMON_PATCH = "no common patch"
    TESTS_CHANGED = "tests changed"
    MODELS_CHANGED = "models changed"
    EXTENSIONS_LOST = "extensions lost"
    OTHER_PATCH = "other patch"


class BaselineNewer(NamedTuple):
    """The baseline is newer than the candidate."""

    baseline: str
    candidate: str
    code: Literal[CaveatCode.BASELINE_NEWER] = CaveatCode.BASELINE_NEWER


class NoRecords(NamedTuple):
    """Releases without a record on a platform, which has records of `others`.

    They are `narrowed` where it has some of these releases that the query is not about.
    """

    project: Project
    releases: tuple[str, ...]
    platform: Platform
    narrowed: bool
    others: tuple[str, ...]
    code: Literal[CaveatCode.NO_RECORDS] = CaveatCode.NO_RECORDS


class FutureDated(NamedTuple):
    """A record that started after today; `oldest` where it counts as the oldest of its cell."""

    path: Path
    started: str
    oldest: bool
    code: Literal[CaveatCode.FUTURE_DATED] = CaveatCode.FUTURE_DATED


class OlderRecords(NamedTuple):
    """The record that decides for a cell, and how many others of it do not."""

    path: Path
    cell: str
    platform: Platform
    count: int  # type: ignore[assignment]  # hides that of a tuple, which nobody calls
    code: Literal[CaveatCode.OLDER_RECORDS] = CaveatCode.OLDER_RECORDS


class Copies(NamedTuple):
    """A record of which there are copies."""

    path: Path
    copies: tuple[Path, ...]
    code: Literal[CaveatCode.COPIES] = CaveatCode.COPIES


class OtherFlags(NamedTuple):
    """The record that decides for a cell, and another one that ran with other flags."""

    path: Path
    cell: str
    platform: Platform
    other: Path
    variant: Variant
    code: Literal[CaveatCode.OTHER_FLAGS] = CaveatCode.OTHER_FLAGS


class OtherCellName(NamedTuple):
    """The record that decides for a cell, and another one of the same releases.

    That one ran under another name of a cell, `name`, and does not decide; `verdict` is on it.
    """

    path: Path
    cell: str
    platform: Platform
    other: Path
    name: str
    verdict: Verdict
    code: Literal[CaveatCode.OTHER_CELL_NAME] = CaveatCode.OTHER_CELL_NAME


class NotStockRun(NamedTuple):
    """The record that decides for a cell ran with `packages` that are not as its vLLM requires."""

    path: Path
    cell: str
    platform: Platform
    packages: tuple[Departure, ...]
    code: Literal[CaveatCode.NOT_STOCK] = CaveatCode.NOT_STOCK


class ProvisionalRun(NamedTuple):
    """The record that decides for a cell is beyond the expectations of these cases.

    `releases` are the nearest ones of these, `differ` how many of the cases count otherwise.
    """

    path: Path
    cell: str
    platform: Platform
    releases: tuple[NearestRelease, ...]
    cases: int
    differ: int
    code: Literal[CaveatCode.PROVISIONAL] = CaveatCode.PROVISIONAL


class NoBaseline(NamedTuple):
    """A cell that only the candidate ran, in which nothing is wrong."""

    cell: str
    platform: Platform
    code: Literal[CaveatCode.NO_BASELINE] = CaveatCode.NO_BASELINE


class Unidentified(NamedTuple):
    """A record that belongs to no release and does not count."""

    path: Path
    cause: UnidentifiedCause
    detail: str | None
    code: Literal[CaveatCode.UNIDENTIFIED] = CaveatCode.UNIDENTIFIED


class InstallsAnother(NamedTuple):
    """A cell whose environment installs another `release` of a project than the one in question.

    That one is `candidate`, which may be of the baseline too.
    """

    cell: str
    project: Project
    release: str
    candidate: str
    code: Literal[CaveatCode.INSTALLS_ANOTHER] = CaveatCode.INSTALLS_ANOTHER


class OtherPatch(NamedTuple):
    """Nothing was compared, and another patch of one side has records of what the other side ran.

    `release` is that patch, `instead_of` the one that the command names, and `with_release` the
    other side. `option` is the one of the command that names the patch.
    """

    project: Project
    option: str
    release: str
    instead_of: str
    with_release: str
    code: Literal[CaveatCode.OTHER_PATCH] = CaveatCode.OTHER_PATCH


class NoCommonPatch(NamedTuple):
    """No patch of a vLLM minor release ran on both sides; these two are compared."""

    minor: str
    candidate: str
    baseline: str
    code: Literal[CaveatCode.NO_COMMON_PATCH] = CaveatCode.NO_COMMON_PATCH


class StartupTestsChanged(NamedTuple):
    """The startup tests of the two records differ."""

    code: Literal[CaveatCode.TESTS_CHANGED] = CaveatCode.TESTS_CHANGED


class ModelsChanged(NamedTuple):
    """The models of the two records have different sources."""

    code: Literal[CaveatCode.MODELS_CHANGED] = CaveatCode.MODELS_CHANGED


class ExtensionsLost(NamedTuple):
    """Extensions of `vllm` that do not link with the candidate's `torch` and do at the baseline.

    They may be why counters of this cell differ.
    """

    extensions: tuple[str, ...]
    torch: str
    vllm: str
    baseline_torch: str
    baseline_vllm: str
    code: Literal[CaveatCode.EXTENSIONS_LOST] = CaveatCode.EXTENSIONS_LOST


PairCaveat = NoCommonPatch | StartupTestsChanged | ModelsChanged | ExtensionsLost
"""A caveat of two records that are compared."""

Caveat = (
    BaselineNewer
    | NoRecords
    | FutureDated
    | OlderRecords
    | Copies
    | OtherFlags
    | OtherCellName
    | NotStockRun
    | ProvisionalRun
    | NoBaseline
    | Unidentified
    | InstallsAnother
    | OtherPatch
)
"""A caveat of a qualification."""


def query_caveats(
    query: Query, sides: tuple[ReleaseRuns, ReleaseRuns], held: Iterable[PlatformReleases]
) -> Iterator[Caveat]:
    """Yield what is unusual about the query.

    `sides` are the baseline and the candidate; `held` are the releases of all records, read or
    not.
    """
    if Version(query.baseline) > Version(query.candidate):
        yield BaselineNewer(baseline=query.baseline, candidate=query.candidate)
    for platform in query.platforms:
        lacking = tuple(
            release
            for release, side in zip((query.baseline, query.candidate), sides, strict=True)
            if platform not in {key.platform for key in side}
        )
        if lacking:
            known = {query.release(run.torch, run.vllm) for run in held if run.platform == platform}
            yield NoRecords(
                project=query.project,
                releases=lacking,
                platform=platform,
                narrowed=any(find_release(release, known) for release in lacking),
                others=tuple(oldest_first(known)),
            )


def record_caveats(
    records: Sequence[ReleasedRecord],
    sides: tuple[ReleaseRuns, ReleaseRuns],
    skipped: Skipped,
    context: Context,
) -> Iterator[Caveat]:
    """Yield what is unusual about each run that decides, and about the others of its cell."""
    cells: dict[CellReleases, list[ReleasedRecord]] = {}
    for record in records:
        cells.setdefault(record.place, []).append(record)
    for side in sides:
        for cell in side.values():
            for run in cell.values():
                place = CellReleases(run.record.cell, run.record.platform, run.torch, run.vllm)
                yield from _run_caveats(run, cells[place], skipped.counts.get(place, 0), context)


def _run_caveats(
    run: CellRun, records: Sequence[ReleasedRecord], skipped: int, context: Context
) -> Iterator[Caveat]:
    cell, platform = run.record.cell, run.record.platform
    yield from _future_dated(records, context)
    if packages := run.not_stock:
        yield NotStockRun(path=run.path, cell=cell, platform=platform, packages=packages)
    if compared := [case.provisional for case in run.entry.verdict.cases if case.provisional]:
        yield ProvisionalRun(
            path=run.path,
            cell=cell,
            platform=platform,
            releases=tuple(dict.fromkeys(name for case in compared for name in case.releases)),
            cases=len(compared),
            differ=sum(bool(case.differences) for case in compared),
        )
    others = [record for record in records if record.path != run.path]
    copies = [record.path for record in others if _is_copy(record.record, run.record)]
    older = len(others) - len(copies) + skipped
    if older:
        yield OlderRecords(path=run.path, cell=cell, platform=platform, count=older)
    if copies:
        yield Copies(path=run.path, copies=tuple(sorted(copies, key=str)))
    for other in run.variants:
        assert other.variant is not None
        yield OtherFlags(
            path=run.path, cell=cell, platform=platform, other=other.path, variant=other.variant
        )
    for other in run.namesakes:
        yield OtherCellName(
            path=run.path,
            cell=cell,
            platform=platform,
            other=other.path,
            name=other.record.cell,
            verdict=other.entry.verdict.verdict,
        )


def _is_copy(record: Record, other: Record) -> bool:
    """Return whether two records say the same; their texts are written only where they may."""
    return record.started == other.started and to_json(record) == to_json(other)


def _future_dated(records: Sequence[ReleasedRecord], context: Context) -> Iterator[Caveat]:
    """Yield the last of the future-dated records: one is enough to name a wrong clock."""
    today, late = context.today.isoformat(), context.late
    ahead = [
        (run.record.started, str(run.path), run)
        for run in records
        if run.record.started[:10] > today or (late is not None and run.record.started > late)
    ]
    if ahead:
        started, _, run = max(ahead, key=lambda item: item[:2])
        oldest = late is not None and started > late
        yield FutureDated(path=run.path, started=started, oldest=oldest)


def other_patches(query: Query, held: Iterable[PlatformReleases]) -> Iterator[OtherPatch]:
    """Yield the newest patch of either side that has records of what the other side ran.

    `held` are the releases of all records, read or not.
    """
    ran: dict[str, set[tuple[Platform, str]]] = {}
    for run in held:
        other = query.other_release(run.torch, run.vllm)
        if run.platform in query.platforms and query.accepts(other):
            place = run.platform, minor_of(other) if query.other is Project.VLLM else other
            ran.setdefault(query.release(run.torch, run.vllm), set()).add(place)
    sides = (
        ("baseline", query.baseline, query.candidate),
        (str(query.project), query.candidate, query.baseline),
    )
    for option, asked, against in sides:
        known = find_release(against, ran)
        patches = [
            release
            for release in oldest_first(ran)
            if minor_of(release) == minor_of(asked)
            and not any(same_release(release, side) for side in (asked, against))
            and known is not None
            and ran[release] & ran[known]
        ]
        if patches:
            yield OtherPatch(
                project=query.project,
                option=option,
                release=patches[-1],
                instead_of=asked,
                with_release=against,
            )


def installed_apart(place: CellRef, releases: Releases) -> InstallsAnother | None:
    """Return what the environment of a cell installs instead of a release of it; None for nothing.

    A cell's name means a minor release.
    """
    try:
        named = releases.resolve(place.cell)
    except CellError:
        return None
    for project, release, asked in (
        (Project.TORCH, named.torch, place.torch),
        (Project.VLLM, named.vllm, place.vllm),
    ):
        if minor_of(release) == minor_of(asked) and not same_release(release, asked):
            return InstallsAnother(
                cell=place.cell, project=project, release=release, candidate=asked
            )
    return None


def other_releases(places: Iterable[CellRef], releases: Releases) -> Iterator[Caveat]:
    """Yield the cells whose environment installs another patch than a run of them must have."""
    found = (installed_apart(place, releases) for place in places)
    yield from dict.fromkeys(caveat for caveat in found if caveat is not None)


def pair_caveats(baseline: CellRun, candidate: CellRun) -> Iterator[PairCaveat]:
    """Yield in what two records differ that should differ by one release alone."""
    if baseline.vllm != candidate.vllm and baseline.torch != candidate.torch:
        yield NoCommonPatch(
            minor=minor_of(baseline.vllm), candidate=candidate.vllm, baseline=baseline.vllm
        )
    if load_startup_tests().differ(baseline.record, candidate.record):
        yield StartupTestsChanged()
    first, second = (run.record.provenance.get("model_source") for run in (baseline, candidate))
    if first != second:
        yield ModelsChanged()
