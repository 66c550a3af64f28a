"""The CPU as predictor: the counts of a run without a GPU, compared with those of CUDA.

Pure. CUDA is authoritative, so its record says what there is to predict, and a pair of releases is
compared where both platforms have a record of it, once, whatever the Pythons.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import groupby, product
from operator import attrgetter
from typing import ClassVar, NamedTuple

from packaging.version import InvalidVersion, Version

from matrix._util.enums import StrEnum
from matrix._util.grouped import group
from matrix._util.versions import parse_version
from matrix.catalog.cells import factors, public_key
from matrix.record.model import STARTS, Case, Departure, Outcome, Platform, Record, StartKind
from matrix.record.startup_tests import applies_by_gpus
from matrix.record.stock import not_stock
from matrix.record.writer import to_json
from matrix.rules.counters import COUNTERS, DEFAULT_COUNTERS
from matrix.rules.platform_differences import Explanation, Explanations
from matrix.verdict.ladder import Part, part_of
from matrix.verdict.precedence import is_stock
from matrix.verdict.reasons import Error, Recorded, error_reason
from matrix.verdict.share import Share
from matrix.verdict.stock import departures_of

_TORCH_KEEPS = {name for name in COUNTERS if "." in name}


@dataclass(frozen=True, kw_only=True)
class ComparedPair:
    """A torch and a vLLM release that both platforms ran, and the two cells that are compared.

    `cuda_not_stock` and `cpu_not_stock` are the packages by which these two runs are not stock;
    `cuda_part` and `cpu_part` how many of the cases a partial one of them has. `held_out`: the CPU
    ran before this vLLM release ever ran on CUDA, so nothing of its platform was made to fit CUDA.
    """

    torch: str
    vllm: str
    cuda: str
    cpu: str
    # Of no use in a hash, which is computed for each count, and long.
    cuda_not_stock: tuple[Departure, ...] = field(default=(), hash=False)
    cpu_not_stock: tuple[Departure, ...] = field(default=(), hash=False)
    cuda_part: Part | None = field(default=None, hash=False)
    cpu_part: Part | None = field(default=None, hash=False)
    held_out: bool = field(default=False, hash=False)


class ComparedCount(NamedTuple):
    """One counter of one start on both platforms; ``cpu`` is None if that start never ran there.

    ``why`` holds what explains a difference, and nothing if there is none.
    """

    pair: ComparedPair
    case: str
    start: StartKind
    counter: str
    cuda: int
    cpu: int | None
    why: tuple[Explanation, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether the CPU predicts what CUDA counted."""
        return self.cpu == self.cuda


class PredictionCode(StrEnum):
    """Why a case is not predicted, or why CUDA did not start."""

    CASE_ENDED = "case ended"
    NOT_RUN = "not run"


@dataclass(frozen=True, kw_only=True)
class CaseEnded:
    """The case did not start, or not warm, on this platform; `text` is its record's.

    `cpu_start` is the start that the CPU has and CUDA lacks; `cold` where CUDA has none.
    """

    code: ClassVar[PredictionCode] = PredictionCode.CASE_ENDED
    platform: Platform
    outcome: Outcome
    text: str | None
    cpu_start: StartKind | None = None


@dataclass(frozen=True, kw_only=True)
class NotRunOnCpu:
    """The CPU did not run the case."""

    code: ClassVar[PredictionCode] = PredictionCode.NOT_RUN


@dataclass(frozen=True, kw_only=True)
class PredictedCase:
    """Whether the CPU predicts a case that CUDA's record holds.

    ``started`` is false if CUDA itself has no start to predict; it does not count then.
    ``reason`` says why it is not predicted, or why CUDA did not start; None if it is predicted.
    """

    pair: ComparedPair
    case: str
    started: bool
    reason: CaseEnded | NotRunOnCpu | Recorded | Error | None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of some counts, each a share that the CPU predicts rightly.

    ``expected``: the counters that expectations name (DEFAULT_COUNTERS), in the starts that ran
    on both platforms. ``counted``: the same of all starts that CUDA ran, so that a case which the
    CPU cannot run counts as wrong. ``every``: every counter, in the starts that ran on both.
    ``raised``: those of them that are not 0 on both, since many a counter never moves.
    ``cases``: the cases that CUDA started, and of them those whose every start ran on the CPU too.
    """

    expected: Share
    counted: Share
    every: Share
    raised: Share
    cases: Share


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """CPU and CUDA side by side, by pair (oldest vLLM first), case, start and counter.

    ``one_sided`` names the counters that only one platform has in a start and that no figure
    holds: most belong to the kernels. ``alone`` names CUDA's cells without any record of their
    pair on the CPU: nothing was predicted there, rightly or wrongly.
    """

    pairs: tuple[ComparedPair, ...] = ()
    counts: tuple[ComparedCount, ...] = ()
    predictions: tuple[PredictedCase, ...] = ()
    one_sided: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()

    @cached_property
    def by_case(self) -> Mapping[ComparedPair, Mapping[str, list[ComparedCount]]]:
        """The counts of each pair, by case."""
        found: dict[ComparedPair, dict[str, list[ComparedCount]]] = {
            pair: {} for pair in self.pairs
        }
        for pair, counts in groupby(self.counts, attrgetter("pair")):
            cases = found[pair]
            for case, counts_of_case in groupby(counts, attrgetter("case")):
                cases.setdefault(case, []).extend(counts_of_case)
        return found

    @cached_property
    def figures_of(self) -> Mapping[ComparedPair, Mapping[str, Figures]]:
        """The figures of each case of each pair."""
        found: dict[ComparedPair, dict[str, Figures]] = {pair: {} for pair in self.pairs}
        for pair, predictions in groupby(self.predictions, attrgetter("pair")):
            cases, counts = found[pair], self.by_case[pair]
            for prediction in predictions:
                of_case = counts.get(prediction.case, ())
                cases[prediction.case] = figures(of_case, (prediction,))
        return found

    @cached_property
    def shares(self) -> Mapping[str, Share]:
        """How often each counter is predicted, in the starts that ran on both platforms."""
        both = group((count for count in self.counts if count.cpu is not None), _counter)
        return {
            counter: _share([count.agrees for count in counts]) for counter, counts in both.items()
        }

    @cached_property
    def differences(self) -> tuple[ComparedCount, ...]:
        """The counts that both platforms have and that differ."""
        return tuple(count for count in self.counts if count.cpu is not None and not count.agrees)

    @property
    def unexplained(self) -> tuple[ComparedCount, ...]:
        """The differences without an explanation."""
        return tuple(count for count in self.differences if not count.why)

    @property
    def figures(self) -> Figures:
        """The figures of all pairs together."""
        return total(figure for cases in self.figures_of.values() for figure in cases.values())

    @property
    def held_out(self) -> Figures | None:
        """The figures of the pairs that are held out; None without any."""
        pairs = [cases for pair, cases in self.figures_of.items() if pair.held_out]
        return total(figure for cases in pairs for figure in cases.values()) if pairs else None


NOTHING = Agreement()
"""The agreement of no records."""


def first_on_cuda(records: Iterable[Record]) -> Mapping[str, str]:
    """Return when each vLLM release first ran on CUDA with any torch: the start of that run.

    Whatever became of it. Give it every record that there is, older ones too.
    """
    return first_starts(
        (record.version("vllm") or str(factors(record.cell).vllm), record.started)
        for record in records
        if record.platform == Platform.CUDA
    )


def first_starts(runs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return the first start of each vLLM, of pairs of a version as a record has it and a start."""
    first: dict[str, str] = {}
    for version, started in runs:
        with contextlib.suppress(InvalidVersion):
            vllm = public_key(version)
            first[vllm] = min(started, first.get(vllm, started))
    return first


def agree(
    records: Iterable[Record],
    explanations: Explanations,
    first: Mapping[str, str] | None = None,
) -> Agreement:
    """Hold the records of the CPU against those of CUDA, the same for any order of the records.

    Of a pair of releases with several cells on a platform, the two are compared that have the most
    cases in common; of these, stock ones; of these, two of the same Python; of these, the newest.
    `first` is what `first_on_cuda` returned of all records; None: of these.
    """
    records = list(records)
    if first is None:
        first = first_on_cuda(records)
    found: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for record in records:
        releases = _releases(record)
        if releases is not None:
            found.setdefault(releases, {"cuda": [], "cpu": []})[record.platform].append(record)
    pairs: list[ComparedPair] = []
    counts: list[ComparedCount] = []
    predictions: list[PredictedCase] = []
    one_sided: set[str] = set()
    alone: set[str] = set()
    for (torch, vllm), by_platform in sorted(found.items(), key=lambda item: _order(item[0])):
        ran = [
            record for record in by_platform["cuda"] if any(case.starts for case in record.cases)
        ]
        if not by_platform["cpu"]:
            alone |= {record.cell for record in ran}
        if not ran or not by_platform["cpu"]:
            continue
        cuda, cpu = _preferred(list(product(ran, by_platform["cpu"])))
        pair = ComparedPair(
            torch=torch,
            vllm=vllm,
            cuda=cuda.cell,
            cpu=cpu.cell,
            cuda_not_stock=not_stock(departures_of(cuda)),
            cpu_not_stock=not_stock(departures_of(cpu)),
            cuda_part=part_of(cuda),
            cpu_part=part_of(cpu),
            held_out=vllm in first and cpu.started < first[vllm],
        )
        pairs.append(pair)
        others = {case.case: case for case in cpu.cases}
        for case in sorted(cuda.cases, key=attrgetter("case")):
            other = others.get(case.case)
            if other is None and not applies_by_gpus(cpu, case.case):
                continue  # the CPU is asked for nothing that needs several GPUs
            predictions.append(_prediction(pair, case, other, cpu))
            counts += _counts(pair, case, other, explanations)
            one_sided |= _one_sided(case, other)
    return Agreement(
        pairs=tuple(pairs),
        counts=tuple(counts),
        predictions=tuple(predictions),
        one_sided=tuple(sorted(one_sided)),
        alone=tuple(sorted(alone)),
    )


def figures(counts: Iterable[ComparedCount], predictions: Iterable[PredictedCase]) -> Figures:
    """Return the figures of these counts and predictions."""
    expected: list[bool] = []
    counted: list[bool] = []
    every: list[bool] = []
    raised: list[bool] = []
    for count in counts:
        cuda, cpu = count.cuda, count.cpu
        agrees, spoken_of = cuda == cpu, count.counter in DEFAULT_COUNTERS
        if spoken_of:
            counted.append(agrees)
        if cpu is None:
            continue
        every.append(agrees)
        if spoken_of:
            expected.append(agrees)
        if cuda or cpu:
            raised.append(agrees)
    return Figures(
        expected=_share(expected),
        counted=_share(counted),
        every=_share(every),
        raised=_share(raised),
        cases=_share(
            [prediction.reason is None for prediction in predictions if prediction.started]
        ),
    )


def _share(right: Sequence[bool]) -> Share:
    return Share(right=sum(right), of=len(right))


def total(every: Iterable[Figures]) -> Figures:
    """Return the figures of several together."""
    parts = list(every)

    return Figures(
        expected=_sum(part.expected for part in parts),
        counted=_sum(part.counted for part in parts),
        every=_sum(part.every for part in parts),
        raised=_sum(part.raised for part in parts),
        cases=_sum(part.cases for part in parts),
    )


def _sum(shares: Iterable[Share]) -> Share:
    right = of = 0
    for share in shares:
        right += share.right
        of += share.of
    return Share(right=right, of=of)


def _counter(count: ComparedCount) -> str:
    return count.counter


def _releases(record: Record) -> tuple[str, str] | None:
    """Return the releases that ran, without the local part that names CUDA; None if unknown.

    A run that did not import them is of its cell's pair, but the patch releases are not known.
    """
    try:
        torch, vllm = (public_key(str(record.version(key))) for key in ("torch", "vllm"))
    except InvalidVersion:
        return None
    return torch, vllm


def _order(releases: tuple[str, str]) -> tuple[Version, Version]:
    torch, vllm = releases
    return parse_version(vllm), parse_version(torch)


def _preferred(choices: Sequence[tuple[Record, Record]]) -> tuple[Record, Record]:
    """Return the records of cuda and cpu that show most about each other, in any order."""
    ranks = [_rank(cuda, cpu) for cuda, cpu in choices]
    highest = max(ranks)
    best = [choice for choice, rank in zip(choices, ranks, strict=True) if rank == highest]
    if len(best) == 1:
        return best[0]
    # Records of one second: their texts, which are costly to make, decide.
    return max(best, key=lambda choice: [to_json(record) for record in choice])


def _rank(cuda: Record, cpu: Record) -> tuple[int, int, bool, str, str]:
    started = [{case.case for case in record.cases if case.starts} for record in (cuda, cpu)]
    same = factors(cuda.cell).python == factors(cpu.cell).python
    return (
        len(started[0] & started[1]),
        is_stock(cuda) + is_stock(cpu),
        same,
        cuda.started,
        cpu.started,
    )


def _prediction(pair: ComparedPair, case: Case, other: Case | None, cpu: Record) -> PredictedCase:
    predicted = partial(PredictedCase, pair=pair, case=case.case)
    if not case.starts:
        started = StartKind.COLD if other and other.starts else None
        return predicted(started=False, reason=_ended(case, Platform.CUDA, started))
    if other is None:
        why = error_reason(cpu.error) if cpu.error else NotRunOnCpu()
        return predicted(started=True, reason=why)
    seen, ran_there = ({start.start for start in run.starts} for run in (case, other))
    if seen - ran_there:
        return predicted(started=True, reason=_ended(other, Platform.CPU))
    more = _ended(case, Platform.CUDA, StartKind.WARM) if ran_there - seen else None
    return predicted(started=True, reason=more)


def _ended(case: Case, platform: Platform, cpu_start: StartKind | None = None) -> CaseEnded:
    return CaseEnded(platform=platform, outcome=case.outcome, text=case.reason, cpu_start=cpu_start)


def _counts(
    pair: ComparedPair, case: Case, other: Case | None, explanations: Explanations
) -> Iterable[ComparedCount]:
    for start in STARTS:
        seen = case.started(start)
        if seen is None:
            continue
        matched = other.started(start) if other else None
        if matched is None:
            for counter in DEFAULT_COUNTERS:
                if counter in seen.counters:
                    yield ComparedCount(
                        pair=pair,
                        case=case.case,
                        start=start,
                        counter=counter,
                        cuda=seen.counters[counter],
                        cpu=None,
                    )
            continue
        for counter in _in_order(_common(seen.counters, matched.counters)):
            cuda, cpu = seen.counters.get(counter, 0), matched.counters.get(counter, 0)
            why: tuple[Explanation, ...] = ()
            if cuda != cpu:
                why = explanations.explain(case.case, start, counter, pair.torch, pair.vllm)
            yield ComparedCount(
                pair=pair, case=case.case, start=start, counter=counter, cuda=cuda, cpu=cpu, why=why
            )


def _common(cuda: Mapping[str, int], cpu: Mapping[str, int]) -> set[str]:
    """Return the counters to compare: those of both, and torch's that only one has.

    torch keeps a counter from the first time that it is raised, so a missing one that a rule may
    expect is 0. Those of vLLM depend on its release.
    """
    return (cuda.keys() & cpu.keys()) | ((cuda.keys() | cpu.keys()) & _TORCH_KEEPS)


def _one_sided(case: Case, other: Case | None) -> set[str]:
    found: set[str] = set()
    for seen in case.starts:
        matched = other.started(seen.start) if other else None
        if matched is not None:
            either = seen.counters.keys() | matched.counters.keys()
            found |= either - _common(seen.counters, matched.counters)
    return found


def _in_order(counters: set[str]) -> list[str]:
    """Return counters in the order of a start: those of `DEFAULT_COUNTERS`, then by name."""
    return [
        *(counter for counter in DEFAULT_COUNTERS if counter in counters),
        *sorted(counters.difference(DEFAULT_COUNTERS)),
    ]
