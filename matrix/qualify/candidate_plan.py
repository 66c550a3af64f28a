"""The cells that decide whether a candidate qualifies, and those that have yet to run.

Pure. The candidate and its **baseline**, the newest release below it, are compared under the same
releases (or the same candidate) of the other project, so that one thing differs:

- a torch candidate under the newest vLLM minors that can run both sides: one on the CPU; on CUDA
  the newest, and all that the matrix runs;
- a vLLM candidate with the torch that it pins and the torch next to that one.

All cells are of one Python: the newest that most of these pairs support. A cell that has a record
which stands for it (`matrix.verdict.precedence`, `matrix.verdict.stale.stale_reason`) does not run
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.specifiers import SpecifierSet

from matrix._util.enums import StrEnum
from matrix._util.versions import distance, minor_of, parse_version
from matrix.catalog.candidates.model import Candidate
from matrix.catalog.cells import Cell, CellError
from matrix.catalog.projects import Project
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases, newest
from matrix.checks.declared import Declarations
from matrix.checks.facts import quoted
from matrix.qualify.engine import QualifyError
from matrix.qualify.query import Query, Side
from matrix.qualify.seconds import CellEstimate, Seconds
from matrix.qualify.speed import Round
from matrix.qualify.static_checks import StaticAnswers
from matrix.qualify.turns import TIMED, PlannedRounds, done, rounds_between
from matrix.record.model import Platform, Record
from matrix.record.startup_tests import StartupTests
from matrix.rules.expectations import Expectations
from matrix.verdict import plan_reasons
from matrix.verdict.grid import is_of
from matrix.verdict.ladder import assess, evidence_of
from matrix.verdict.precedence import JudgedRecord, pick_record
from matrix.verdict.reasons import Checked, VerdictReason
from matrix.verdict.stale import stale_reason

_QUICK = TIMED
"""The startup tests, by their functions, of a quick qualification."""
_BASELINES = 3  # how many releases below a candidate may be its baseline
_TORCHES = 2  # the pin of a vLLM candidate, and the torch next to it


class LeftOutCode(StrEnum):
    """Why a release does not help to decide."""

    NO_CELL = "no cell"
    OTHER_RELEASE = "other release"
    CANNOT_WORK = "cannot work"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A baseline with a release of the other project that cannot be compared, and why.

    `side` has the cell that is in the way. `other_release`: that cell stands for `found`.
    """

    code: LeftOutCode
    baseline: str
    other: str
    side: Side
    detail: VerdictReason | None = None
    found: str | None = None


@dataclass(frozen=True, kw_only=True)
class CandidateQuery:
    """The request for the qualification of a candidate.

    Without a `baseline` it is chosen, and so is the `python`. `under` narrows the releases of the
    other project, and `under_candidate` names a candidate of it. `count` is how many of these there
    are (None: see the module), `jobs` how many cases run side by side (None: as a cell chooses),
    `rounds` in how many rounds the two sides are timed in turns.
    """

    candidate: Candidate
    platform: Platform
    baseline: str | None = None
    python: str | None = None
    under: SpecifierSet | None = None
    under_candidate: Candidate | None = None
    count: int | None = None
    quick: bool = False
    jobs: str | None = None
    rounds: int = 0

    @property
    def project(self) -> Project:
        """The project of the candidate."""
        return self.candidate.project

    @property
    def cases(self) -> tuple[str, ...]:
        """The startup tests that it is about, by their functions; empty for all."""
        return _QUICK if self.quick else ()


@dataclass(frozen=True, kw_only=True)
class Known:
    """The facts before a run: releases, static answers, records, times, rounds."""

    releases: Releases
    tests: StartupTests
    expectations: Expectations
    records: Sequence[tuple[Path, Record]] = ()
    answers: StaticAnswers | None = None
    late: str | None = None
    environments: Mapping[str, float] = field(default_factory=dict)
    rounds: Sequence[Round] = ()


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """One cell of one side: whether and why it has yet to run, and how long that takes.

    `record` is the file of the record that stands for it, None if it has yet to run.
    """

    cell: Cell
    side: Side
    why: plan_reasons.PlanReason
    estimate: CellEstimate
    record: Path | None = None

    @property
    def runs(self) -> bool:
        """Whether the cell has yet to run."""
        return self.record is None


@dataclass(frozen=True, kw_only=True)
class PlannedPair:
    """The two cells that are compared under one release, or candidate, of the other project.

    `rounds` are those in which they are timed, None if nobody asked for it.
    """

    other: str
    baseline: PlannedCell
    candidate: PlannedCell
    rounds: PlannedRounds | None = None


@dataclass(frozen=True, kw_only=True)
class CandidatePlan:
    """The cells that decide, in the order in which they run, and what was left out.

    Without pairs nothing can decide; `left_out` says why.
    """

    asked: CandidateQuery
    baseline: str | None
    python: str | None
    pairs: tuple[PlannedPair, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def cells(self) -> tuple[PlannedCell, ...]:
        """Every cell, the baseline of a pair first: without it the candidate's run shows little."""
        return tuple(cell for pair in self.pairs for cell in (pair.baseline, pair.candidate))

    @property
    def to_run(self) -> tuple[PlannedCell, ...]:
        """The cells that have yet to run."""
        return tuple(cell for cell in self.cells if cell.runs)

    @property
    def without_cell(self) -> tuple[LeftOut, ...]:
        """The pairs left out because no environment of that name exists."""
        return tuple(item for item in self.left_out if item.code is LeftOutCode.NO_CELL)

    @property
    def query(self) -> Query:
        """The query for the engine. Raises QualifyError if no cell can decide."""
        if self.baseline is None or self.python is None:
            raise QualifyError(
                f"{self.asked.candidate.name}: no cell can decide; `--dry-run` shows why"
            )
        return Query(
            project=self.asked.project,
            candidate=self.asked.candidate.key,
            baseline=self.baseline,
            platforms=(self.asked.platform,),
            pythons=(self.python,),
            others=tuple(pair.other for pair in self.pairs),
            cases=self.asked.cases,
        )


def narrowed(record: Record, functions: Sequence[str]) -> Record:
    """Return the record as if the startup tests were these functions alone; empty means all."""
    if not functions:
        return record
    cases = tuple(case for case in record.cases if case.case.partition("[")[0] in functions)
    return replace(record, cases=cases, selected=len(cases), deselected=0)


def plan_candidate(asked: CandidateQuery, known: Known) -> CandidatePlan:
    """Return the plan of a qualification.

    Raises QualifyError for a baseline that is not known, and for a Python that the candidate is not
    for.
    """
    if asked.python is not None and not asked.candidate.accepts(asked.python):
        there = [python for python in known.releases.pythons if asked.candidate.accepts(python)]
        raise QualifyError(
            f"--python {asked.python}: {asked.candidate.name} is not for it; it is for"
            f" {', '.join(there) or 'none of the matrix'}"
        )
    planner = _Planner.of(asked, known)
    pythons: Sequence[str] = (
        (asked.python,)
        if asked.python is not None
        else [
            python for python in reversed(known.releases.pythons) if asked.candidate.accepts(python)
        ]
    )
    plans = [planner.on_python(python) for python in pythons]
    if not plans:
        return CandidatePlan(asked=asked, baseline=None, python=None)
    # The newest Python of the best ones; without a pair, one that has more than no environments.
    return max(plans, key=lambda plan: (len(plan.pairs), -len(plan.without_cell)))


@dataclass(frozen=True, kw_only=True)
class _Planner:
    """Finds the cells of one question.

    `records` are those of the platform, as if the startup tests were those that are asked for;
    `seconds` are of these tests, `turns` of the runs that are timed.
    """

    asked: CandidateQuery
    known: Known
    declarations: Declarations
    records: Sequence[tuple[Path, Record]]
    seconds: Seconds
    turns: Seconds

    @classmethod
    def of(cls, asked: CandidateQuery, known: Known) -> _Planner:
        """Return what answers this question."""
        there = [(path, run) for path, run in known.records if run.platform == asked.platform]
        every = [record for _, record in there]
        return cls(
            asked=asked,
            known=known,
            declarations=Declarations(known.releases),
            records=[(path, narrowed(record, asked.cases)) for path, record in there],
            seconds=Seconds.of(every, asked.cases, known.environments),
            turns=Seconds.of(every, TIMED),
        )

    def on_python(self, python: str) -> CandidatePlan:
        """Return the plan on one Python, with the newest baseline that has a pair there."""
        left_out: list[LeftOut] = []
        for baseline in self._baselines:
            pairs: list[PlannedPair] = []
            for other in self._others:
                if len(pairs) == self._count:
                    break
                found = self._pair(python, baseline, other)
                if isinstance(found, LeftOut):
                    left_out.append(found)
                else:
                    pairs.append(found)
            if pairs:
                return CandidatePlan(
                    asked=self.asked,
                    baseline=baseline,
                    python=python,
                    pairs=tuple(pairs),
                    left_out=tuple(left_out),
                )
        return CandidatePlan(asked=self.asked, baseline=None, python=None, left_out=tuple(left_out))

    @property
    def _baselines(self) -> tuple[str, ...]:
        """The releases that may be the baseline, the newest first."""
        asked, project = self.asked, self.asked.project
        rows: tuple[Torch | Vllm, ...] = getattr(self.known.releases, project)
        if asked.baseline is not None:
            known = [row.version for row in rows]
            found = [text for text in known if parse_version(text) == parse_version(asked.baseline)]
            if not found:
                raise QualifyError(
                    f"--baseline {asked.baseline}: is not a release of {project.label} that is"
                    f" known here; the newest is {known[-1] if known else 'none'}"
                )
            return tuple(found)
        limit = parse_version(parse_version(asked.candidate.version).public)
        below = [
            row.version for row in rows if row.yanked is None and parse_version(row.version) < limit
        ]
        if not below:
            raise QualifyError(
                f"{asked.candidate.name}: no release of {project.label} below"
                f" {asked.candidate.version} is known; name one: --baseline"
            )
        return tuple(sorted(below, key=parse_version, reverse=True)[:_BASELINES])

    @property
    def _others(self) -> tuple[str, ...]:
        """The releases, or the candidate, of the other project to try, the best first."""
        asked, releases = self.asked, self.known.releases
        if asked.under_candidate is not None:
            return (asked.under_candidate.key,)
        rows: tuple[Torch | Vllm, ...]
        if asked.project is Project.TORCH:
            rows = newest(releases.vllm)
            every = [row.version for row in reversed(rows) if self._is_asked(row.version)]
        else:
            pin = asked.candidate.pins["torch"]
            rows = newest(releases.torch)
            near = sorted(
                (row.version for row in rows if minor_of(row.version) != minor_of(pin)),
                key=lambda text: (distance(text, pin), parse_version(text) < parse_version(pin)),
            )
            every = [pin, *near]
        if asked.under is None:
            return tuple(every)
        return tuple(text for text in every if asked.under.contains(text, prereleases=True))

    def _is_asked(self, vllm: str) -> bool:
        """Return whether a vLLM is one to try: on CUDA the newest and those of the matrix."""
        asked, releases = self.asked, self.known.releases
        if asked.platform == Platform.CPU or asked.under is not None:
            return True
        return vllm in (*releases.matrix_vllm, newest(releases.vllm)[-1].version)

    @property
    def _count(self) -> int | None:
        """The maximum number of pairs; None for all."""
        asked = self.asked
        if asked.count is not None or asked.under is not None:
            return asked.count
        if asked.project is Project.VLLM:
            return _TORCHES
        return 1 if asked.platform == Platform.CPU else None

    def _pair(self, python: str, baseline: str, other: str) -> PlannedPair | LeftOut:
        cells: dict[Side, PlannedCell] = {}
        for side, release in (
            (Side.BASELINE, baseline),
            (Side.CANDIDATE, self.asked.candidate.key),
        ):
            pair = (release, other) if self.asked.project is Project.TORCH else (other, release)
            found = self._cell(Cell(python, *pair), side)
            if isinstance(found, LeftOut):
                return replace(found, baseline=baseline, other=other)
            cells[side] = found
        before, after = cells[Side.BASELINE], cells[Side.CANDIDATE]
        rounds = self._rounds(before.cell, after.cell) if self.asked.rounds else None
        return PlannedPair(other=other, baseline=before, candidate=after, rounds=rounds)

    def _rounds(self, baseline: Cell, candidate: Cell) -> PlannedRounds:
        known = self.known
        made = rounds_between(baseline, candidate, self.asked.platform, known.rounds, known.tests)
        return PlannedRounds(
            wanted=self.asked.rounds,
            done=done(made),
            baseline=self.turns.estimate(baseline),
            candidate=self.turns.estimate(candidate),
        )

    def _cell(self, cell: Cell, side: Side) -> PlannedCell | LeftOut:
        """Return the plan of one cell, or why its environment cannot be, or is of other releases.

        The names of the baseline and the other release are the caller's.
        """
        try:
            named = self.known.releases.resolve(cell.name)
            declared = self.declarations.of(cell)
        except CellError as error:
            return _left_out(LeftOutCode.NO_CELL, side, detail=Checked(facts=quoted(str(error))))
        if named != cell:
            return _left_out(LeftOutCode.OTHER_RELEASE, side, found=_difference(named, cell))
        counts = self._counting(cell)
        answers, platform = self.known.answers, self.asked.platform
        asked = declared.fits and answers is not None
        progress = assess(
            cell,
            platform,
            declared,
            resolves=answers.resolves(cell, platform) if asked and answers else None,
            links=answers.links(cell) if asked and answers else None,
            ran=None if counts is None else evidence_of(counts.record, counts.verdict),
        )
        if progress.ruled_out:
            return _left_out(LeftOutCode.CANNOT_WORK, side, detail=progress.reason)
        return self._planned(cell, side, counts)

    def _planned(self, cell: Cell, side: Side, counts: JudgedRecord | None) -> PlannedCell:
        why: plan_reasons.PlanReason | None
        record = counts.record if counts is not None else self._of_another_build(cell)
        why = stale_reason(cell, record, self.known.tests)
        if why is None:
            assert record is not None
            day = record.started[:10]
            less = _observed_less(record)
            why = plan_reasons.ObservedLess(day=day) if less else plan_reasons.NotStale(day=day)
        stands = isinstance(why, plan_reasons.NotStale) and counts is not None
        return PlannedCell(
            cell=cell,
            side=side,
            why=why,
            estimate=self.seconds.estimate(cell),
            record=counts.file if stands and counts is not None else None,
        )

    def _counting(self, cell: Cell) -> JudgedRecord | None:
        """Return the record of exactly these releases that counts; None if there is none."""
        own = [(path, record) for path, record in self._named(cell) if is_of(record, cell)]
        return pick_record(own, self.known.expectations, self.known.late) if own else None

    def _of_another_build(self, cell: Cell) -> Record | None:
        """Return the newest record of the cell's name, which is of other releases."""
        return max(
            (record for _, record in self._named(cell)),
            key=lambda record: record.started,
            default=None,
        )

    def _named(self, cell: Cell) -> Iterator[tuple[Path, Record]]:
        for path, record in self.records:
            if record.cell == cell.name:
                yield path, record


def relevant(
    plan: CandidatePlan, records: Iterable[tuple[Path, Record]]
) -> list[tuple[Path, Record]]:
    """Return the records of the cells of a plan, as if the startup tests were those asked for."""
    names = {planned.cell.name: planned.cell for planned in plan.cells}
    return [
        (path, narrowed(record, plan.asked.cases))
        for path, record in records
        if record.platform == plan.asked.platform
        and (cell := names.get(record.cell)) is not None
        and is_of(record, cell)
    ]


def _observed_less(record: Record) -> bool:
    """Return whether a run that started a case is older than all that is compared but not judged.

    These are torch's defaults, Inductor's numbers, the caches on disk and the cache check.
    """
    return record.defaults is None and any(case.starts for case in record.cases)


def _left_out(
    code: LeftOutCode, side: Side, *, detail: VerdictReason | None = None, found: str | None = None
) -> LeftOut:
    return LeftOut(code=code, baseline="", other="", side=side, detail=detail, found=found)


def _difference(named: Cell, wanted: Cell) -> str:
    """Return the release that an environment has instead of the one that is wanted."""
    if named.torch != wanted.torch:
        return f"torch {named.torch}"
    return f"vLLM {named.vllm}"
