"""Which records stand for a release, cell by cell, and what else is known of each cell.

Pure. Of several records of a cell with the same releases the newest that decides counts, as in the
table. It hides none of these:

- a run with other *flags*, whichever is newer: the newest of each kind stands beside it;
- another run of the very same kind (releases, flags and tests) that *failed*;
- a record with cases that does not say which torch or vLLM ran: it stands for no release, and the
  name of its cell is no answer to that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.version import Version

from matrix._util.versions import minor_of
from matrix.catalog.releases import Releases
from matrix.qualify.query import (
    WRONG_CELL,
    Query,
    age,
    may_be_asked,
    oldest_first,
    same_release,
    versions,
)
from matrix.record.model import PLATFORMS, STARTS, Case, Record, to_json, whole
from matrix.record.signatures import signature, signature_of
from matrix.record.startup_tests import load_startup_tests
from matrix.rules.expectations import COUNTERS, Expectations
from matrix.rules.waivers import Place
from matrix.verdict.judge import BROKEN_PAIR, CaseVerdict
from matrix.verdict.states import Verdict
from matrix.verdict.table import Entry, tabulate

MOST_RUNS = 20
"""How many runs of a cell, the newest, tell its seconds."""


ReleasedRecord = tuple[Path, Record, str, str]
"""A record with its file and the exact releases of torch and vLLM that ran."""

Key = tuple[str, str, str]
"""Of a cell without the project in question: platform, other release, Python."""


@dataclass(frozen=True)
class CellRun:
    """A record that counts: the newest that decides of its cell, its file, and what ran in it.

    `runs` are the newest records of the cell with these very releases, for their seconds; `again`
    the others of the same flags and tests, the newest first; `beside` the one that decides of each
    set of other flags. `apart` is what sets this one apart from the record that decides, where it
    stands beside one: its flags, or an older patch of the other project.
    """

    entry: Entry
    path: Path
    torch: str
    vllm: str
    runs: tuple[Record, ...] = ()
    again: tuple[CellRun, ...] = ()
    beside: tuple[CellRun, ...] = ()
    apart: str | None = None

    @property
    def record(self) -> Record:
        """The record itself."""
        return self.entry.record

    @property
    def place(self) -> Place:
        """Where it ran."""
        return Place(self.record.cell, self.record.platform, self.torch, self.vllm)

    @property
    def python(self) -> str:
        """The minor release of Python."""
        return self.entry.factors.python


ReleaseRuns = Mapping[Key, Mapping[str, CellRun]]
"""The records of one release that count, by cell and by the other project's exact release.

`side` puts the cells in their `order`, and the releases of a cell oldest first, whatever the order
of the records: what goes through a side finds the same things in the same order.
"""


@dataclass(frozen=True)
class UnidentifiedRecord:
    """A record that stands for no release: `why`, and whether what it found `blocks` an answer."""

    path: Path
    record: Record
    why: str
    blocks: bool


def release(project: str, told: ReleasedRecord) -> str:
    """The exact release of a project that ran."""
    _, _, torch, vllm = told
    return torch if project == "torch" else vllm


def unsaid(
    asked: Query,
    records: Iterable[tuple[Path, Record]],
    chosen: Iterable[ReleasedRecord],
    releases: Releases,
    late: str | None,
) -> list[UnidentifiedRecord]:
    """The records that may be asked for and stand for no release: of each cell the newest.

    One that is older than a record of its cell that does stand for a release is left out.
    """
    newest: dict[tuple[str, str], tuple[bool, str]] = {}
    for told in chosen:
        ran, (_, record, _, _) = release(asked.project, told), told
        if any(same_release(ran, each) for each in (asked.candidate, asked.baseline)):
            key = record.cell, record.platform
            newest[key] = max(age(record.started, late), newest.get(key, (False, "")))
    found: dict[tuple[str, str, bool], tuple[Path, Record]] = {}
    for path, record in sorted(records, key=lambda each: str(each[0])):
        at = record.cell, record.platform, _is_wrong(record)
        torch, vllm = (None if at[2] else record.provenance.get(of) for of in ("torch", "vllm"))
        if versions(record, releases) is None and may_be_asked(
            asked, record.cell, record.platform, torch, vllm, releases
        ):
            old = age(record.started, late)
            if at not in found or old > age(found[at][1].started, late):
                found[at] = path, record
    return [
        UnidentifiedRecord(path, record, _unsaid_why(record, wrong), not wrong)
        for (cell, platform, wrong), (path, record) in sorted(found.items(), key=lambda of: of[0])
        if age(record.started, late) >= newest.get((cell, platform), (False, ""))
    ]


def _is_wrong(record: Record) -> bool:
    return record.error is not None and record.error.kind == WRONG_CELL


def _unsaid_why(record: Record, wrong: bool) -> str:
    if wrong and record.error is not None:
        return f"ran in an environment that is not this cell ({record.error.reason})"
    return "does not say which torch and vLLM ran its cases"


def side(
    asked: Query,
    version: str,
    chosen: Iterable[ReleasedRecord],
    expectations: Expectations,
    releases: Releases,
    late: str | None = None,
) -> ReleaseRuns:
    """The records of one release that count. What started after `late` is of the future.

    Where the same releases ran under two names of a cell, the newer run stands.
    """
    groups: dict[tuple[str, str, str, str], list[tuple[Path, Record]]] = {}
    for told in chosen:
        path, record, torch, vllm = told
        if same_release(release(asked.project, told), version):
            groups.setdefault((torch, vllm, record.cell, record.platform), []).append(
                (path, record)
            )
    runs = [
        _of_cell(torch, vllm, of, expectations, releases, late)
        for (torch, vllm, _, _), of in sorted(groups.items())
    ]
    found: dict[Key, dict[str, CellRun]] = {}
    for ran in sorted(runs, key=lambda ran: age(ran.record.started, late)):
        other = ran.vllm if asked.project == "torch" else ran.torch
        # A cell's name means a minor release of vLLM; torch must be the very same.
        under = minor_of(other) if asked.other == "vllm" else other
        found.setdefault((ran.record.platform, under, ran.python), {})[other] = ran
    return {
        key: {other: found[key][other] for other in oldest_first(found[key])}
        for key in sorted(found, key=order)
    }


def _of_cell(
    torch: str,
    vllm: str,
    of: Sequence[tuple[Path, Record]],
    expectations: Expectations,
    releases: Releases,
    late: str | None,
) -> CellRun:
    def standing(some: Sequence[tuple[Path, Record]]) -> CellRun:
        contenders = _contenders(some, late)
        [entry] = tabulate(contenders, expectations, releases=releases, late=late).entries
        path = min(path for path, record in some if record is entry.record)
        return CellRun(entry, path, torch, vllm)

    first, tests = standing(of), load_startup_tests()
    flags, ended = _flags(first.record), _ended(first.record)
    groups: dict[tuple[tuple[str, str], ...], list[tuple[Path, Record]]] = {}
    again = []
    for path, record in of:
        differ = _differ(flags, _flags(record))
        if differ:
            groups.setdefault(differ, []).append((path, record))
        elif not tests.differ(record, first.record) and _ended(record) != ended:
            again.append((path, record))
    # A copy of a run tells no more than the run does: of copies the first path is named.
    again.sort(key=lambda each: each[0])
    again.sort(key=lambda each: (age(each[1].started, late), to_json(each[1])), reverse=True)
    return replace(
        first,
        runs=_runs(first.record, of, late),
        again=tuple(standing([each]) for each in again),
        beside=tuple(
            replace(standing(some), apart=", ".join(f"{flag}={value}" for flag, value in differ))
            for differ, some in sorted(groups.items())
        ),
    )


def _contenders(of: Iterable[tuple[Path, Record]], late: str | None) -> list[tuple[Path, Record]]:
    """Without those that the newest whole record replaces anyway, unjudged."""
    told = list(of)
    newest = max((age(record.started, late) for _, record in told if whole(record)), default=None)
    return [
        (path, record)
        for path, record in told
        if newest is None or age(record.started, late) >= newest
    ]


def _flags(record: Record) -> Mapping[tuple[str, str], str]:
    """The effective flags of the run and of each of its cases, as text."""
    found = {("", flag): value for flag, value in record.flags.items()}
    for case in record.cases:
        found.update({(case.case, flag): value for flag, value in case.flags.items()})
    return {key: json.dumps(value, default=str) for key, value in found.items()}


def _differ(
    own: Mapping[tuple[str, str], str], other: Mapping[tuple[str, str], str]
) -> tuple[tuple[str, str], ...]:
    """The flags that both runs know and that are not the same, as the other one has them."""
    both = own.keys() & other.keys()
    return tuple(sorted({(key[1], other[key]) for key in both if own[key] != other[key]}))


def _ended(record: Record) -> object:
    """How a run and its cases ended: runs that are equal in it fail and drift alike."""
    error = record.error and (record.error.kind, record.error.reason)
    broken = [(each.rung, each.reason) for each in record.rungs if not each.ok]
    cases = sorted(
        (each.case, each.outcome, signature_of(each) or "", _counts(each)) for each in record.cases
    )
    return error, broken, cases


def _counts(case: Case) -> list[tuple[str, list[tuple[str, int]]]]:
    """The counters of a case of which an expectation may speak."""
    return [
        (each.start, sorted(one for one in each.counters.items() if one[0] in COUNTERS))
        for each in case.starts
    ]


def _runs(
    record: Record, records: Iterable[tuple[Path, Record]], late: str | None
) -> tuple[Record, ...]:
    """Of the newest runs of the cell, one case at a time, on such a machine, with its flags."""
    found: dict[tuple[bool, str], list[Record]] = {}
    for _, each in records:
        if each.jobs == 1:
            found.setdefault(age(each.started, late), []).append(each)
    newest = (each for old in sorted(found)[-MOST_RUNS:] for each in _without_copies(found[old]))
    flags = _flags(record)
    return tuple(
        each
        for each in newest
        if hardware(each) == hardware(record) and not _differ(flags, _flags(each))
    )


def _without_copies(of: Sequence[Record]) -> Iterable[Record]:
    """The records of one second, each once, whatever the order in which a disk lists them."""
    if len(of) == 1:
        return of
    found = {to_json(each): each for each in of}
    return (found[text] for text in sorted(found))


def hardware(record: Record) -> tuple[object, ...]:
    """The machine as far as a record knows it; a driver is no hardware."""
    gpu = record.provenance.get("gpu")
    name = gpu.get("name") if isinstance(gpu, dict) else None
    return record.provenance.get("machine"), record.provenance.get("cpu"), name


def order(key: Key) -> tuple[int, Version, str, Version]:
    """What orders the cells: platform, the other project's release, Python."""
    platform, under, python = key
    return PLATFORMS.index(platform), Version(under), under, Version(python)


def patch(asked: Query, ran: CellRun) -> Version:
    """The exact release of the other project."""
    return Version(ran.vllm if asked.other == "vllm" else ran.torch)


def newest(asked: Query, of: Mapping[str, CellRun]) -> CellRun:
    """Of the records of a cell that of the newest patch of the other project."""
    return max(of.values(), key=lambda each: patch(asked, each))


PASSED, FAILED, NOT_APPLICABLE, UNKNOWN = "passed", "failed", "not applicable", "unknown"


@dataclass(frozen=True)
class CaseOutcome:
    """What one side says of a case."""

    state: str
    reason: str | None = None
    rung: str | None = None
    signature: str = ""
    case: Case | None = None
    verdict: CaseVerdict | None = None
    flags: Mapping[str, object] = field(default_factory=dict)


def reply(ran: CellRun, name: str) -> CaseOutcome:
    """What the record says of a case."""
    record = ran.record
    for case, verdict in zip(record.cases, ran.entry.verdict.cases, strict=True):
        if case.case == name:
            return replace(_of_case(case, verdict), flags={**record.flags, **case.flags})
    whole = whole_reply(ran)
    if whole.state == FAILED:
        return whole
    if record.deselected:
        return CaseOutcome(UNKNOWN, f"was not asked for: the record holds {ran.entry.part}")
    return CaseOutcome(UNKNOWN, cut_short(record) or "is no case of the record")


def _of_case(case: Case, verdict: CaseVerdict) -> CaseOutcome:
    why = verdict.reason or case.outcome.replace("_", " ")
    if case.outcome == "not_applicable":
        return CaseOutcome(NOT_APPLICABLE, why, None, signature(why), case, verdict)
    if verdict.verdict == Verdict.INCOMPATIBLE:
        found = verdict.signature or signature(why)
        return CaseOutcome(FAILED, why, verdict.rung, found, case, verdict)
    started = all(case.started(start) for start in STARTS)
    if (
        case.outcome != "passed"
        or not started
        or (verdict.verdict == Verdict.UNTESTED and not verdict.rung)
    ):
        return CaseOutcome(UNKNOWN, why, None, "", case, verdict)
    return CaseOutcome(PASSED, None, None, "", case, verdict)


def broken(ran: CellRun) -> tuple[str, str] | None:
    """The rung and the reason for which the whole run failed, by the pair's own fault."""
    error = ran.record.error
    if error is not None:
        return (error.kind, error.reason or error.kind) if error.kind in BROKEN_PAIR else None
    for rung in ran.record.rungs:
        if not rung.ok:
            return rung.rung, rung.reason or f"failed at {rung.rung}"
    return None


def cut_short(record: Record) -> str | None:
    """How the run ended before its time, or None."""
    if record.error is not None:
        return f"ended early: {record.error.reason or record.error.kind.replace('_', ' ')}"
    if not record.finished:
        return "did not finish"
    return None if record.cases else "holds no case"


def said(answer: CaseOutcome) -> str:
    """Why there is no answer, to stand after the name of the side."""
    if answer.state == NOT_APPLICABLE:
        return f"does not apply: {answer.reason}"
    if answer.case is not None:
        return f"has no answer: {answer.reason}"
    return str(answer.reason)


def whole_reply(ran: CellRun) -> CaseOutcome:
    """What the record says of the run as a whole, beside its cases."""
    fault = broken(ran)
    if fault is None:
        return CaseOutcome(PASSED)
    rung, why = fault
    return CaseOutcome(FAILED, why, rung, signature(why) or rung)


def crash(record: Record) -> str | None:
    """The reason for which the run died as a whole, which nobody may have wanted; else None."""
    if record.error is None or record.error.kind not in ("crashed", "timed_out"):
        return None
    return record.error.reason or record.error.kind.replace("_", " ")
