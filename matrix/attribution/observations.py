"""What each run of a case came to, as far as runs compare, and which runs speak for their pair.

Pure. A record says with which flags a case ran, and not whether those are its releases' own
defaults or were given to it. So of the runs of one cell those with the same flags stand together,
and its **own** are those of the flags with the most whole runs, then the most runs. Where two have
as many, nobody knows which are its own; one more run with nothing given tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from matrix._util.versions import parse_version
from matrix.catalog.cells import Cell
from matrix.record.model import STARTS, Case, Record
from matrix.record.signatures import signature
from matrix.record.startup_tests import identity_of_tests
from matrix.verdict.judge import BROKEN_PAIR, CaseVerdict, CellVerdict, Verdict

__all__ = [
    "FAILED",
    "FAILING_RUNGS",
    "NOTHING",
    "RAN",
    "WHOLE_RUN",
    "Key",
    "Observation",
    "Runs",
    "alike",
    "newest_first",
    "observe",
    "own_runs",
    "setting",
]

RAN = "ran"
FAILED = "failed"
NOTHING = "nothing"
"""How an observation ended: both starts ran, it failed at a rung, or it says nothing."""

WHOLE_RUN = ""
"""The case that stands for the run itself: what resolves or imports, or does not."""

FAILING_RUNGS = ("resolves", "imports", "starts cold", "starts warm")
"""The rungs that a run can fail at."""

Key = tuple[str, str]
"""A start and a counter."""

_FAMILY = ("torch", "torchvision", "torchaudio", "triton", "vllm", "nvidia-")
_OWN = ("torch-vllm-matrix", "matrix-dev", "pip", "setuptools", "wheel", "uv")


@dataclass(frozen=True)
class Observation:
    """What one run of one case of a cell on a platform came to, as far as it compares.

    `counters` and `expected` are by start and counter. `setting` is the machine and the packages
    beside torch's family, `whole` whether the run had every case, `applies` whether the case is for
    this cell. `tests` names the version of the startup tests (`matrix.record.startup_tests`).
    `late` is
    that the run comes from the future (`matrix.store.summary.late_from`). `runs` is how many runs
    of its kind it stands for, of which it is the newest (`matrix.store.fingerprint`).
    """

    cell: Cell
    platform: str
    case: str
    started: str
    ended: str
    rung: str | None = None
    signature: str | None = None
    reason: str | None = None
    counters: Mapping[Key, int] = field(default_factory=dict)
    expected: Mapping[Key, int] = field(default_factory=dict)
    flags: Mapping[str, object] = field(default_factory=dict)
    setting: Mapping[str, str] = field(default_factory=dict)
    tests: str | None = None
    whole: bool = True
    faulty: bool = False
    applies: bool = True
    late: bool = False
    runs: int = 1

    @property
    def age(self) -> tuple[bool, str, bool, str]:
        """What sorts runs from old to new; of two that started together the faulty one is newer."""
        return not self.late, self.started, self.faulty, self.signature or ""


def newest_first(observations: Iterable[Observation]) -> list[Observation]:
    """The runs from new to old, and those of one age by all that they say.

    Two runs that started in the same second are thus in one order, whatever that of the records.
    """
    found = sorted(observations, key=_age, reverse=True)
    ages = Counter(map(_age, found))
    if len(ages) == len(found):
        return found
    return sorted(
        found,
        # What a run says is dear to write out, and asked only where its age decides nothing.
        key=lambda each: (_age(each), _content(each) if ages[_age(each)] > 1 else ""),
        reverse=True,
    )


def _age(each: Observation) -> tuple[bool, str, bool, str]:
    return each.age


def _content(each: Observation) -> str:
    """All that an observation says, as text; a mapping by its keys."""
    return repr(
        [
            sorted(value.items()) if isinstance(value, Mapping) else value
            for value in vars(each).values()
        ]
    )


def observe(
    record: Record, verdict: CellVerdict, cell: Cell, late: str | None = None, runs: int = 1
) -> tuple[Observation, ...]:
    """What a judged record shows of each case, and of the run as a whole.

    What started after `late` comes from the future (`matrix.store.summary.late_from`). `runs` is
    how many runs the record stands for.
    """
    told = setting(record)
    tests = identity_of_tests(record)
    whole = record.finished and record.error is None and not record.deselected

    def one(case: str, ended: str, **more: object) -> Observation:
        return Observation(
            cell,
            record.platform,
            case,
            record.started,
            ended,
            setting=told,
            tests=tests,
            whole=whole,
            late=late is not None and record.started > late,
            runs=runs,
            **more,  # type: ignore[arg-type]
        )

    found = [_run_of(record, one)]
    for seen, judged in zip(record.cases, verdict.cases, strict=True):
        flags = {**record.flags, **seen.flags}
        if judged.verdict == Verdict.INCOMPATIBLE:
            found.append(
                one(
                    seen.case,
                    FAILED,
                    rung=judged.rung,
                    signature=judged.signature or signature(seen.reason or "") or None,
                    reason=judged.reason,
                    flags=flags,
                    counters=_counters(seen),
                    faulty=True,
                )
            )
        elif seen.outcome == "passed" and all(map(seen.started, STARTS)):
            found.append(
                one(
                    seen.case,
                    RAN,
                    counters=_counters(seen),
                    expected=_expected(judged),
                    flags=flags,
                    faulty=judged.verdict == Verdict.DRIFT,
                )
            )
        else:
            applies = judged.verdict != Verdict.NOT_APPLICABLE
            found.append(one(seen.case, NOTHING, flags=flags, applies=applies))
    return tuple(found)


def alike(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two runs had the same flags, as far as both tell: older tests noted fewer.

    >>> alike({"VLLM_X": True}, {"VLLM_X": True, "VLLM_Y": 1}), alike({"VLLM_X": 1}, {"VLLM_X": 0})
    (True, False)
    """
    return all(other[flag] == value for flag, value in one.items() if flag in other)


def own_runs(every: Iterable[Observation], python: str) -> tuple[Sequence[Observation], ...]:
    """The runs with a pair's own flags on a Python, newest first: those that tell something.

    Where nobody knows which flags are its own (see above), there is one sequence for each that may
    be; none where nothing tells.
    """
    tells = [each for each in every if each.ended != NOTHING and each.cell.python == python]
    if len(tells) < 2:
        return (tells,) if tells else ()
    groups: list[list[Observation]] = []
    for each in newest_first(tells):
        group = next((some for some in groups if alike(some[0].flags, each.flags)), None)
        if group is None:
            groups.append([each])
        else:
            group.append(each)

    def weight(group: Sequence[Observation]) -> tuple[int, int]:
        return sum(each.runs for each in group if each.whole), sum(each.runs for each in group)

    most = max(map(weight, groups), default=None)
    return tuple(group for group in groups if weight(group) == most)


class Runs:
    """The runs of one case of one pair on a platform, newest first, and which of them speak."""

    def __init__(self, every: Iterable[Observation]) -> None:
        """Put them in order."""
        self.every = tuple(newest_first(every))
        self._own: dict[str, tuple[Sequence[Observation], ...]] = {}

    def __iter__(self) -> Iterator[Observation]:
        """All of them, on whatever Python, newest first."""
        return iter(self.every)

    @cached_property
    def pythons(self) -> tuple[str, ...]:
        """The Pythons that they were on, oldest first."""
        return tuple(sorted({each.cell.python for each in self.every}, key=parse_version))

    def own(self, python: str) -> tuple[Sequence[Observation], ...]:
        """As `own_runs`."""
        if python not in self._own:
            self._own[python] = own_runs(self.every, python)
        return self._own[python]

    def speaks(self, python: str) -> Observation | None:
        """The newest run with the pair's own flags on that Python; None where there is none.

        There is none either where nobody knows which flags are its own.
        """
        own = self.own(python)
        return own[0][0] if len(own) == 1 else None

    def nearest(self, python: str) -> Observation | None:
        """What speaks on this Python or, where it did not run there, on another."""
        others = (each for each in self.pythons if each != python)
        told = (self.speaks(each) for each in (python, *others))
        return next((each for each in told if each is not None), None)


def _run_of(record: Record, one: object) -> Observation:
    """What the run as a whole shows: of what resolves and imports."""
    assert callable(one)
    failed = next((rung for rung in record.rungs if not rung.ok), None)
    found: Observation
    rung: str
    if record.error is not None and record.error.kind in BROKEN_PAIR:
        rung, reason = record.error.kind, record.error.reason
    elif failed is not None and failed.rung in FAILING_RUNGS and record.error is None:
        rung, reason = failed.rung, failed.reason or f"failed at {failed.rung}"
    else:
        imported = any(rung.ok and rung.rung == "imports" for rung in record.rungs)
        found = one(WHOLE_RUN, RAN if imported else NOTHING)
        return found
    told = signature(reason) or None
    found = one(WHOLE_RUN, FAILED, rung=rung, signature=told, reason=reason, faulty=True)
    return found


def _counters(case: Case) -> dict[Key, int]:
    return {
        (start.start, counter): value
        for start in case.starts
        for counter, value in start.counters.items()
    }


def _expected(judged: CaseVerdict) -> dict[Key, int]:
    return {
        (start, counter): wanted.value
        for start, rules in judged.expected.items()
        for counter, wanted in rules.items()
    }


def setting(record: Record) -> dict[str, str]:
    """The machine, and the packages beside torch's family: what a repeat can differ in."""
    found = {
        name: version
        for name, version in record.packages.items()
        if not name.startswith(_FAMILY) and name not in _OWN
    }
    told = record.provenance
    for key, name in (("gpu", "name"), ("gpu", "driver"), ("cpu", "model")):
        device = told.get(key)
        if isinstance(device, Mapping) and device.get(name):
            found[f"the {key}'s {name}"] = str(device[name])
    if told.get("os"):
        found["the system"] = str(told["os"])
    return found
