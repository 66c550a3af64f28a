"""Bisect a line: of releases, or of candidates, each made when its turn comes; run, look again.

The search itself is that of `matrix.attribution.bisect`. What it knows is what the records say of
one case.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from packaging.version import InvalidVersion

from matrix._util.enums import StrEnum
from matrix._util.versions import newest_patch, parse_version
from matrix.attribution.bisect import (
    BisectionError,
    EndsError,
    Search,
    environments_along,
    observed_along,
    parse_range,
    search,
)
from matrix.attribution.observations import Observation, ObservationEnd, observe
from matrix.catalog.candidates.series import StepError
from matrix.catalog.cells import Cell, is_candidate_name
from matrix.catalog.projects import Project
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases
from matrix.record.model import Platform
from matrix.rules.expectations import Expectations
from matrix.run.candidates.line import Line
from matrix.store.loaded import LoadedRecords
from matrix.verdict.grid import environments, ran_cell
from matrix.verdict.judge import judge


class Ends(StrEnum):
    """The stated order of the ends of a line: none, or which end is good."""

    ANY = "any"
    GOOD_BAD = "good_bad"
    BAD_GOOD = "bad_good"


@dataclass(frozen=True, kw_only=True)
class CaseQuery:
    """The case and the platform of a bisection, and the expectations that judge its runs."""

    case: str
    platform: Platform
    expectations: Expectations

    def seen(self, read: LoadedRecords, cells: Mapping[str, Cell], late: str) -> SeenSteps:
        """Return what the records say of these cells; those that began after `late` are last."""
        observations, unclear = observed_along(
            cells, self.case, self.platform, self._observed(read, late)
        )
        return SeenSteps(
            observations=observations,
            unclear=frozenset(unclear),
            details=self._details(read, cells),
        )

    def _observed(self, read: LoadedRecords, late: str) -> Iterator[Observation]:
        """Yield what the records observed of each case, judged by the expectations."""
        for path, record in read.records:
            cell = ran_cell(record) if record.platform == self.platform else None
            if cell is not None:
                verdict = judge(record, self.expectations)
                yield from observe(record, verdict, cell, late, read.runs.get(path, 1))

    def _details(self, read: LoadedRecords, cells: Mapping[str, Cell]) -> dict[str, str]:
        """Return why the newest run of each environment has no result, if it says so."""
        found = {}
        for record in sorted((record for _, record in read.records), key=lambda run: run.started):
            if record.cell in cells and record.platform == self.platform:
                reasons = [case.reason for case in record.cases if case.reason]
                reason = record.error.reason if record.error else (reasons or [""])[0]
                found[record.cell] = reason
        return {name: reason for name, reason in found.items() if reason}


@dataclass(frozen=True, kw_only=True)
class SeenSteps:
    """The records of the steps: the run that represents each, and the unclear steps.

    `details` is why the newest run of a step has no result, as far as it says so.
    """

    observations: Mapping[str, Observation]
    unclear: frozenset[str] = frozenset()
    details: Mapping[str, str] = field(default_factory=dict)


ReadSteps = Callable[[Mapping[str, Cell]], SeenSteps]
"""What the records say of these cells, by environment."""

RunEnvironment = Callable[[str], list[str]]
"""Run an environment, and return what went wrong, a line each."""


@dataclass(frozen=True, kw_only=True)
class ReleaseLine:
    """Releases of one package, oldest first, each in an environment with one of the other package.

    `moving` is the package whose release changes, `cells` are by environment. `unnamed` are the
    releases between the ends that no environment installs.
    """

    moving: Project
    cells: Mapping[str, Cell]
    unnamed: tuple[str, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        """The release of each environment, oldest first."""
        return {name: str(getattr(cell, self.moving)) for name, cell in self.cells.items()}


def release_line(torch: str, vllm: str, python: str, releases: Releases) -> ReleaseLine:
    """Return the line of two texts, of which one is a release and the other a range of releases.

    A minor release is its newest known patch, a candidate's name the candidate. Raises MatrixError
    for other texts, and where fewer than two environments are in the range.
    """
    texts = {Project.TORCH: torch, Project.VLLM: vllm}
    ends = {
        key: parse_range(_newest_ends(text, key, releases), f"--{key}")
        for key, text in texts.items()
    }
    moving, cells = environments_along(
        environments(releases), python, torch=ends[Project.TORCH], vllm=ends[Project.VLLM]
    )
    return ReleaseLine(moving=moving, cells=cells, unnamed=_unnamed(moving, cells, releases))


def recorded_line(
    torch: str, vllm: str, default: str, releases: Releases, ran: Iterable[Cell]
) -> ReleaseLine:
    """Return the line on the Python that `ran` the most of it; without any, on the default one.

    Of Pythons alike the default one counts, or else the newest. Raises MatrixError as
    `release_line` does.
    """
    cells, lines = list(ran), dict[str, ReleaseLine]()
    for python in {cell.python for cell in cells} - {default}:
        with suppress(BisectionError):
            lines[python] = release_line(torch, vllm, python, releases)
    with suppress(BisectionError):
        lines[default] = release_line(torch, vllm, default, releases)
    counts = {
        python: sum(cell in line.cells.values() for cell in cells) for python, line in lines.items()
    }
    if not any(counts.values()):
        return release_line(torch, vllm, default, releases)
    best = max(
        counts, key=lambda python: (counts[python], python == default, parse_version(python))
    )
    return lines[best]


def _unnamed(moving: Project, cells: Mapping[str, Cell], releases: Releases) -> tuple[str, ...]:
    """Return the published releases between the first and the last that have no environment."""
    named = [parse_version(getattr(cell, moving)) for cell in cells.values()]
    every: Sequence[Torch | Vllm] = getattr(releases, moving)
    found = (parse_version(release.version) for release in every if release.yanked is None)
    return tuple(
        str(version)
        for version in sorted(found)
        if named[0] < version < named[-1] and version not in named
    )


def _newest_ends(text: str, project: Project, releases: Releases) -> str:
    """Return a release or a range of releases, with the newest patch for a minor release.

    The name of a candidate becomes its release key. Raises MatrixError for one that nobody has, or
    that is of the other project.
    """
    known, ends = releases.published[project], text.split("..")
    keys = {end: releases.candidates.named(end) for end in ends if is_candidate_name(end)}
    for candidate in keys.values():
        if candidate.project is not project:
            raise BisectionError(
                f"--{project} {text!r}: {candidate.name} is a candidate of {candidate.project};"
                f" name one of {project}"
            )
    try:
        return "..".join(keys[end].key if end in keys else newest_patch(end, known) for end in ends)
    except InvalidVersion:
        return text  # whoever reads the range says what is wrong with it


@dataclass(frozen=True, kw_only=True)
class BisectionProgress:
    """The progress of a bisection of a line: the search, its runs, and its problems."""

    search: Search
    runs: int
    failures: tuple[str, ...] = ()


def bisect_releases(
    line: ReleaseLine,
    first: SeenSteps,
    ruled_out: Collection[str],
    look: ReadSteps,
    run: RunEnvironment | None,
) -> BisectionProgress:
    """Search releases to the end, or without `run` to the next environment that has to run.

    `first` is what the records say before anything runs, `ruled_out` are environments that a check
    rules out. Raises BisectionError if there is nothing to find.
    """
    seen, ran, failures = first, set[str](), list[str]()
    while True:
        found = search(
            line.moving,
            line.labels,
            seen.observations,
            ruled_out,
            seen.unclear,
            without_result=ran.difference(seen.observations),
        )
        following = found.bisection.next
        if following is None or run is None:
            found = replace(found, unnamed=line.unnamed)
            return BisectionProgress(search=found, runs=len(ran), failures=tuple(failures))
        failures += run(following)
        ran.add(following)
        seen = look(line.cells)


def bisect_line(
    line: Line,
    look: ReadSteps,
    run: RunEnvironment | None,
    ends: Ends = Ends.ANY,
    *,
    dry: bool = False,
) -> BisectionProgress:
    """Search a line to its end, or without `run` to the next step that has to run.

    That step's candidate is made, unless it is a `dry` search. A step that cannot be made, or whose
    run has no result, is skipped, and a neighbour takes its place. Raises BisectionError if
    there is nothing to find, or where the ends turn out other than `ends` assumes.
    """
    not_made: dict[str, str] = {}
    ready: set[str] = set()
    ran: set[str] = set()
    failures: list[str] = []
    while True:
        found = _search(line, look(line.cells), ran, not_made, ends)
        following = found.bisection.next
        if following is not None and following not in ready and not dry:
            before = line.cells.get(following)
            ready.add(following)
            try:
                line.make(following)
            except StepError as error:
                not_made[following] = str(error)
                continue
            if line.cells[following] != before:
                continue  # this very build may have a record already
        if following is None or run is None:
            return BisectionProgress(search=found, runs=len(ran), failures=tuple(failures))
        failures += run(following)
        ran.add(following)


def _search(
    line: Line, seen: SeenSteps, ran: set[str], not_made: Mapping[str, str], ends: Ends
) -> Search:
    """Return the progress of the search. Raises BisectionError, also for ends that are not so."""
    labels = line.labels
    try:
        found = search(
            line.series.project,
            labels,
            seen.observations,
            (),
            seen.unclear,
            without_result=ran.difference(seen.observations),
            not_made=not_made,
            details=seen.details,
        )
    except EndsError as error:
        if ends is Ends.ANY:
            raise
        raise _other_ends(labels, error.ends, ends) from None
    if found.symptoms and ends is not Ends.ANY and found.fixed is (ends is Ends.GOOD_BAD):
        usable = [name for name in labels if name not in found.skips]
        both = {name: seen.observations[name] for name in (usable[0], usable[-1])}
        raise _other_ends(labels, both, ends)
    return found


def _other_ends(
    labels: Mapping[str, str], ends: Mapping[str, Observation], wanted: Ends
) -> EndsError:
    words = ("good", "bad") if wanted is Ends.GOOD_BAD else ("bad", "good")
    clauses = [
        f"{labels[name]}, which is to be {word}, {_did(run)}"
        for word, (name, run) in zip(words, ends.items(), strict=True)
    ]
    hint = (
        "--fixed looks for a fix"
        if wanted is Ends.GOOD_BAD
        else "without --fixed a fault is sought"
    )
    return EndsError(f"bisect: {', and '.join(clauses)}; choose other ends ({hint})", ends)


def _did(run: Observation) -> str:
    if run.ended is ObservationEnd.FAILED:
        return f"fails at {run.rung}" + (f" ({run.signature})" if run.signature else "")
    return "counts other than expected" if run.faulty else "runs to its end"
