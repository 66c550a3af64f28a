"""The evidence for a pair on a machine: runs on GPUs, runs on the CPU, checks. Pure.

Only the records of pairs that someone asks about are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matrix.advice.kinds import EvidenceKind
from matrix.advice.wish import Wish
from matrix.catalog.cells import Cell
from matrix.catalog.hardware import HardwareTable, capability_of
from matrix.record.model import Platform, Record, Rung, StartKind
from matrix.rules.expectations import Expectations
from matrix.verdict.grid import ran_cell
from matrix.verdict.judge import CaseVerdict
from matrix.verdict.ladder import Part, Progress
from matrix.verdict.prediction import ANSWERS, Prediction, predict
from matrix.verdict.recompiles import Recompiles
from matrix.verdict.states import StepState, Verdict
from matrix.verdict.table import Entry, tabulate

_MEASURED = (EvidenceKind.MEASURED, EvidenceKind.ALIKE, EvidenceKind.ELSEWHERE)


@dataclass(frozen=True, kw_only=True)
class CaseStarts:
    """How one case starts: the seconds of both starts, and what the warm one compiles again."""

    case: str
    verdict: Verdict
    cold: float | None = None
    warm: float | None = None
    recompiles: Recompiles | None = None


@dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """The result of a pair's run on a GPU; `part` is the number of cases of a partial run."""

    cell: str
    python: str | None
    record: str
    day: str
    gpu: str | None
    driver: str | None
    verdict: Verdict
    cases: tuple[CaseStarts, ...]
    part: Part | None = None
    is_stock: bool = True

    def of_case(self, name: str) -> CaseStarts | None:
        """Return how a case starts; None if the run has no answer of it."""
        return next((case for case in self.cases if case.case == name), None)


@dataclass(frozen=True, kw_only=True)
class CpuRun:
    """A run of a pair on the CPU that predicts nothing: `started` cases started warm, of `cases`.

    `has_model`: the model that was asked for is among them; None if none was.
    """

    cell: str
    record: str
    day: str
    cases: int
    started: int
    has_model: bool | None
    part: Part | None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """On what the advice about a pair rests; `passed` and `unknown` are the rungs of checks.

    `without` are the features that do not link, of a pair that links. `on_cpu` is a run of the pair
    on the CPU from which nothing is predicted.
    """

    kind: EvidenceKind
    measured: MeasuredRun | None = None
    predicted: Prediction | None = None
    passed: tuple[Rung, ...] = ()
    unknown: tuple[Rung, ...] = ()
    without: tuple[str, ...] = ()
    on_cpu: CpuRun | None = None


class PairRuns:
    """The records, by the pair that ran; each is judged when someone asks about its pair."""

    def __init__(
        self,
        records: Iterable[tuple[Path, Record]],
        expectations: Callable[[], Expectations],
        late: str | None = None,
    ) -> None:
        """Sort the records by their pair; `expectations` are read when the first is judged."""
        self._read, self._late = expectations, late
        self._expectations: Expectations | None = None
        self._records: dict[tuple[str, str], list[tuple[Path, Record]]] = {}
        self._judged: dict[object, tuple[tuple[Cell, Entry], ...]] = {}
        for path, record in records:
            cell = ran_cell(record)
            if cell is not None:
                self._records.setdefault((cell.torch, cell.vllm), []).append((path, record))

    @property
    def cases(self) -> tuple[str, ...]:
        """The names of all cases that a record has."""
        found = {
            case.case
            for records in self._records.values()
            for _, record in records
            for case in record.cases
        }
        return tuple(sorted(found))

    def has_measured(self, torch: str, vllm: str) -> bool:
        """Tell whether a record is of a run of the pair on a GPU, whatever it shows."""
        records = self._records.get((torch, vllm), ())
        return any(record.platform == Platform.CUDA for _, record in records)

    def torches(self, vllm: str) -> tuple[str, ...]:
        """Return each torch with which a vLLM has a record, in the order of their names."""
        return tuple(sorted(torch for torch, other in self._records if other == vllm))

    def pythons(self, torch: str, vllm: str) -> frozenset[str]:
        """Return the Pythons on which the pair ran on a GPU."""
        return frozenset(cell.python for cell, _ in self.on(Platform.CUDA, torch, vllm))

    def on(
        self,
        platform: Platform,
        torch: str,
        vllm: str,
        accepts: Callable[[Record], bool] = lambda _: True,
        name: object = None,
    ) -> tuple[tuple[Cell, Entry], ...]:
        """Return what the records of a pair on a platform show, one for each Python.

        Those that `accepts` refuses do not compete; `name` stands for it.
        """
        key = platform, torch, vllm, name
        if key not in self._judged:
            records = [
                (path, record)
                for path, record in self._records.get((torch, vllm), ())
                if record.platform == platform and accepts(record)
            ]
            found = ((ran_cell(entry.record), entry) for entry in self._entries(records))
            self._judged[key] = tuple((cell, entry) for cell, entry in found if cell is not None)
        return self._judged[key]

    def _entries(self, records: Sequence[tuple[Path, Record]]) -> Sequence[Entry]:
        if not records:
            return ()
        if self._expectations is None:
            self._expectations = self._read()
        return tabulate(records, self._expectations, late=self._late).entries


def evidence_for(
    progress: Progress, wish: Wish, runs: PairRuns, hardware: HardwareTable
) -> Evidence:
    """Return the best that is known of a cell on CUDA for a machine.

    `progress` has the answers of the checks. A run on another Python is evidence for the pair too.
    Where a model was asked for, only a run that has an answer of it counts.
    """
    cell = progress.cell
    passed, unknown = (
        tuple(step.rung for step in progress.steps if step.state is state and not step.by_record)
        for state in (StepState.PASSED, StepState.UNKNOWN)
    )
    for kind in _MEASURED:
        ran = runs.on(
            Platform.CUDA,
            cell.torch,
            cell.vllm,
            partial(_is_of_kind, kind, wish, hardware),
            (kind, wish.gpu, wish.machine),
        )
        telling = [(place, entry) for place, entry in ran if _tells(entry, wish.model)]
        if telling:
            entry = min(telling, key=lambda found: (found[0].python != cell.python, found[0]))[1]
            return Evidence(kind=kind, measured=measured_run(entry), passed=passed, unknown=unknown)
    on_cpu = runs.on(Platform.CPU, cell.torch, cell.vllm)
    predicted = predict(
        progress, [(place, entry) for place, entry in on_cpu if _speaks_of(entry, wish.model)]
    )
    kind = EvidenceKind.STATIC if predicted is None else EvidenceKind.PREDICTED
    return Evidence(
        kind=kind,
        predicted=predicted,
        passed=passed,
        unknown=unknown,
        on_cpu=_on_cpu(on_cpu, cell.python, wish.model) if predicted is None else None,
    )


def _on_cpu(entries: Sequence[tuple[Cell, Entry]], python: str, model: str | None) -> CpuRun | None:
    """Return a run of a pair on the CPU, the one on the Python where there is one."""
    if not entries:
        return None
    _, entry = min(entries, key=lambda found: (found[0].python != python, found[0]))
    cases = entry.verdict.cases
    return CpuRun(
        cell=entry.record.cell,
        record=entry.file,
        day=entry.date,
        cases=len(entry.record.cases),
        started=sum(map(_has_started_warm, cases)),
        has_model=None if model is None else any(case.case == model for case in cases),
        part=entry.part,
    )


def failed_everywhere(entries: Sequence[tuple[Cell, Entry]]) -> Entry | None:
    """Return a run of a pair that shows a failure, where no run on any Python shows another end."""
    verdicts = {entry.verdict.verdict for _, entry in entries}
    if Verdict.INCOMPATIBLE not in verdicts or verdicts & {Verdict.COMPATIBLE, Verdict.DRIFT}:
        return None
    return next(entry for _, entry in entries if entry.verdict.verdict is Verdict.INCOMPATIBLE)


def failing_case(entries: Sequence[tuple[Cell, Entry]], case: str) -> Entry | None:
    """Return a run in which a case fails, where it comes to another end in none."""
    found = [
        (entry, verdict.verdict)
        for _, entry in entries
        for verdict in entry.verdict.cases
        if verdict.case == case and verdict.verdict in ANSWERS
    ]
    fails = [entry for entry, verdict in found if verdict is Verdict.INCOMPATIBLE]
    return fails[0] if fails and len(fails) == len(found) else None


def newest_run(entries: Sequence[tuple[Cell, Entry]]) -> Entry | None:
    """Return the newest run of a pair that tells something, of several Pythons; None without."""
    telling = [entry for _, entry in entries if _tells(entry)]
    return max(telling, key=lambda entry: entry.record.started, default=None)


def _tells(entry: Entry, model: str | None = None) -> bool:
    """Tell whether a run has a verdict, or at least started warm, though no rule judges that.

    With a model: whether that holds of the case of this name.
    """
    if model is not None:
        return any(case.case == model and _has_answer(case) for case in entry.verdict.cases)
    return entry.verdict.verdict in ANSWERS or Rung.STARTS_WARM in entry.ran.passed


def _speaks_of(entry: Entry, model: str | None) -> bool:
    """Tell whether a run has a verdict on a model, or failed as a whole; of none any run has."""
    return (
        model is None
        or entry.verdict.verdict is Verdict.INCOMPATIBLE
        or any(case.case == model and case.verdict in ANSWERS for case in entry.verdict.cases)
    )


def _has_answer(case: CaseVerdict) -> bool:
    return case.verdict in ANSWERS or case.rung == Rung.STARTS_WARM


def _has_started_warm(case: CaseVerdict) -> bool:
    return case.verdict is Verdict.COMPATIBLE or case.rung == Rung.STARTS_WARM


def _is_of_kind(kind: EvidenceKind, wish: Wish, hardware: HardwareTable, record: Record) -> bool:
    return _kind(record, wish, hardware) is kind


def _kind(record: Record, wish: Wish, hardware: HardwareTable) -> EvidenceKind:
    gpu = _gpu_of(record)
    if record.provenance.get("machine") not in (None, wish.machine):
        return EvidenceKind.ELSEWHERE
    if wish.gpu is None:
        return EvidenceKind.MEASURED
    name, capability = gpu.get("name"), gpu.get("capability")
    known = capability_of(str(capability)) or hardware.capability_of(str(name))
    if known != wish.gpu.capability:
        return EvidenceKind.ELSEWHERE
    is_it = wish.gpu.name is None or wish.gpu.is_named(str(name))
    return EvidenceKind.MEASURED if is_it else EvidenceKind.ALIKE


def _gpu_of(record: Record) -> Mapping[str, object]:
    gpu = record.provenance.get("gpu")
    return gpu if isinstance(gpu, Mapping) else {}


def measured_run(entry: Entry) -> MeasuredRun:
    """Return what a run on a GPU shows."""
    gpu = _gpu_of(entry.record)
    name, driver = gpu.get("name"), gpu.get("driver")
    cell = ran_cell(entry.record)
    return MeasuredRun(
        cell=entry.record.cell,
        python=None if cell is None else cell.python,
        record=entry.file,
        day=entry.date,
        gpu=str(name) if name is not None else None,
        driver=str(driver) if driver is not None else None,
        verdict=entry.verdict.verdict,
        cases=tuple(_starts(case) for case in entry.verdict.cases if _has_answer(case)),
        part=entry.part,
        is_stock=not entry.verdict.not_stock,
    )


def _starts(case: CaseVerdict) -> CaseStarts:
    totals: dict[StartKind, float | None] = {}
    if case.observed is not None:
        for start in case.observed.starts:
            totals[start.start] = start.seconds.get("total")
    return CaseStarts(
        case=case.case,
        verdict=case.verdict,
        cold=totals.get(StartKind.COLD),
        warm=totals.get(StartKind.WARM),
        recompiles=case.recompiles,
    )
