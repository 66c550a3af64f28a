"""Which records show a fault, and its cause. It reads the texts of records.

A record whose text has no failure is not read as one: that would take most of the time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from matrix.errors import MatrixError
from matrix.explain.failures import failures_of
from matrix.explain.model import Fault, FaultKind, ShownBy
from matrix.explain.recognise import LOAD_FAILURE, of_line
from matrix.record.model import EventKind, Outcome, Platform, RecordError
from matrix.store.layout import RecordSource
from matrix.store.texts import StoredText, lacks_duckdb, stored_texts
from matrix.verdict.recompiles import SAVED, counted_again

if TYPE_CHECKING:
    from matrix.catalog.releases import Releases
    from matrix.store.database import OnProgress

_FAILS = re.compile(rb'"(?:failure|signature)": ?"|"ok": ?false|"error": ?\{')
_RECORD = b'"cell"'
_MOST = 24  # records of a fault that are named; the others are counted
_MOST_JUDGED = 3  # records whose rules are read for links


@dataclass(frozen=True, kw_only=True)
class CleanCell:
    """A cell on a platform whose warm starts load all, and how many cases say so."""

    cell: str
    platform: str
    cases: int

    @property
    def is_on_cuda(self) -> bool:
        """Tell whether it ran on CUDA, which alone is authoritative."""
        return self.platform == Platform.CUDA


@dataclass(frozen=True, kw_only=True)
class Looked:
    """The records that show each fault, by its place in the list; how many were looked through.

    `clean` are the cells with a whole run that passed, and no record that compiles again when warm:
    those on CUDA before others, the newest vLLM first. It is known only where a fault is that.
    """

    shown: Mapping[int, tuple[ShownBy, ...]]
    count: int
    clean: tuple[CleanCell, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Warm:
    """The warm starts of a record: the cases that compile again, the number that load everything.

    `unloaded` are the cases of which vLLM logged that it could not load what was compiled.
    `is_whole`: the run came to its end with every case, and all that apply passed.
    """

    shown: ShownBy
    unloaded: tuple[str, ...]
    loading: int
    is_whole: bool


def look_through(
    places: Sequence[RecordSource],
    faults: Sequence[Fault],
    releases: Releases,
    progress: OnProgress,
) -> Looked:
    """Return which records of these places show the faults, newest vLLM first.

    `progress` gets a line for what cannot be read. Raises HistoryError for an object store that
    cannot be read.
    """
    # Records of other warm starts do not explain one that saved nothing.
    again = {
        place
        for place, fault in enumerate(faults)
        if fault.kind is FaultKind.RECOMPILES and fault.has != "0"
    }
    shown: dict[int, list[ShownBy]] = {}
    warm: list[_Warm] = []
    count = 0
    for text in stored_texts(places, progress):
        if _RECORD not in text.content:
            continue
        count += 1
        if again and (started := _warm(text)) is not None:
            warm.append(started)
            for place in again:
                is_unloaded = faults[place].subject == LOAD_FAILURE
                cases = started.unloaded if is_unloaded else started.shown.cases
                if cases:
                    shown.setdefault(place, []).append(replace(started.shown, cases=cases))
        try:
            for place, found in _of_record(text, faults):
                shown.setdefault(place, []).append(found)
        except RecordError as error:
            progress(str(error))
            count -= 1
    for place, every in shown.items():
        every.sort(key=lambda shown_by: _order(shown_by.cell), reverse=True)
        if faults[place].kind is FaultKind.RECOMPILES:
            every[:_MOST_JUDGED] = _with_issues(every[:_MOST_JUDGED])
        elif not lacks_duckdb(places):
            every[:_MOST] = _attributed(every[:_MOST], faults[place], places, releases)
    return Looked(
        shown={place: tuple(every) for place, every in shown.items()},
        count=count,
        clean=_clean(warm),
    )


def _clean(warm: Sequence[_Warm]) -> tuple[CleanCell, ...]:
    """Return the cells whose warm starts load all: those on CUDA first, the newest vLLM first."""
    again = {(run.shown.cell, run.shown.platform) for run in warm if run.shown.cases}
    most: dict[tuple[str, str], int] = {}
    for run in warm:
        key = (run.shown.cell, run.shown.platform)
        if run.is_whole and run.loading and key not in again:
            most[key] = max(run.loading, most.get(key, 0))
    found = [
        CleanCell(cell=cell, platform=platform, cases=cases)
        for (cell, platform), cases in most.items()
    ]
    found.sort(key=lambda clean: (clean.is_on_cuda, _order(clean.cell)), reverse=True)
    return tuple(found)


def _of_record(text: StoredText, faults: Sequence[Fault]) -> Iterator[tuple[int, ShownBy]]:
    """Yield what the record of a text shows, with the place of the fault.

    Raises RecordError for a record that cannot be read.
    """
    if not _FAILS.search(text.content):
        return
    record = text.record()
    failures = list(failures_of(record))
    for place, fault in enumerate(faults):
        named = [failure.case for failure in failures if _shows(fault, failure.signature)]
        if named:
            yield (
                place,
                ShownBy(
                    path=text.path,
                    cell=record.cell,
                    platform=str(record.platform),
                    cases=tuple(dict.fromkeys(filter(None, named))),
                ),
            )


def _shows(fault: Fault, settled: str) -> bool:
    if settled == fault.signature:
        return True
    if fault.subject is None or fault.kind is FaultKind.UNKNOWN:
        return False
    known = of_line(settled)
    return known is not None and (known.kind, known.subject) == (fault.kind, fault.subject)


def _warm(text: StoredText) -> _Warm | None:
    """Return what the warm starts of a record say; None if none was warm.

    The content is untrusted. Of most records only the counters are read, of one that may show what
    loads all the whole.
    """
    try:
        data = json.loads(text.content)
        counters = {
            str(case["case"]): {start["start"]: start["counters"] for start in case["starts"]}
            for case in data["cases"]
        }
        ran = {
            case: starts for case, starts in counters.items() if {"cold", "warm"} <= starts.keys()
        }
        cases = [
            case for case, starts in ran.items() if counted_again(starts["cold"], starts["warm"])
        ]
        unloaded = [
            str(case["case"])
            for case in data["cases"]
            for start in case["starts"]
            if start["start"] == "warm" and _is_unloaded(start)
        ]
        # Where a cold start saved nothing, a warm one has nothing to load.
        loading = sum(
            any(starts["cold"].get(name, 0) > 0 for name in SAVED) for starts in ran.values()
        )
        cell, platform = str(data["cell"]), str(data["platform"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not ran:
        return None
    shown = ShownBy(path=text.path, cell=cell, platform=platform, cases=tuple(cases))
    return _Warm(
        shown=shown,
        unloaded=tuple(dict.fromkeys(unloaded)),
        loading=loading,
        is_whole=not cases and _is_whole(text),
    )


def _is_unloaded(start: Mapping[str, Any]) -> bool:
    """Tell whether vLLM logged of a start that it could not load what was compiled."""
    return any(event["kind"] == EventKind.LOAD_FAILED for event in start.get("events") or ())


def _is_whole(text: StoredText) -> bool:
    """Tell whether a record is of a run with every case, in which all that apply passed."""
    try:
        record = text.record()
    except RecordError:
        return False
    passed = {Outcome.PASSED, Outcome.NOT_APPLICABLE}
    every = record.selected is None or record.selected <= len(record.cases)
    return record.is_complete and every and all(case.outcome in passed for case in record.cases)


def _with_issues(shown: Sequence[ShownBy]) -> list[ShownBy]:
    """Return the records with the issues that their rules name for what compiles again."""
    from matrix.rules.expectations_file import load_expectations
    from matrix.store.load import one_record
    from matrix.verdict.judge import judge

    expectations = load_expectations(None)
    found = []
    for record in shown:
        try:
            verdict = judge(one_record(record.path, lambda _: None), expectations)
        except MatrixError:
            continue
        again = (
            case.recompiles
            for case in verdict.cases
            if case.recompiles is not None and case.case in record.cases
        )
        issues = dict.fromkeys(link for recompiles in again for link in recompiles.issues)
        found.append(replace(record, issues=tuple(issues)))
    return found


def _attributed(
    shown: Sequence[ShownBy], fault: Fault, places: Sequence[RecordSource], releases: Releases
) -> list[ShownBy]:
    """Return the records with the cause of the failure, as `matrix attribute` finds it."""
    from matrix.attribution.attribute import attribute
    from matrix.attribution.known import KnownPairs
    from matrix.attribution.runs_index import judge_records
    from matrix.checks.lookup import load_answers
    from matrix.rules.expectations_file import load_expectations
    from matrix.store.load import newest_records
    from matrix.verdict.grid import grid_of
    from matrix.verdict.precedence import late_from
    from matrix.verdict.table import tabulate

    late = late_from(datetime.now(timezone.utc))
    expectations = load_expectations(None)
    read_all = newest_records(list(places), late, lambda _: None, repeats=None)
    table = tabulate(
        read_all.records, expectations, releases=releases, late=late, running=read_all.running
    )
    answers = load_answers(releases)
    found = attribute(
        judge_records(read_all.records, read_all.runs, table.verdicts, expectations),
        releases,
        KnownPairs(grid=grid_of(table.verdicts, releases, answers), features=answers.features),
        names=frozenset(record.cell for record in shown),
        late=late,
    )
    by_cell = {
        (attribution.name, str(attribution.platform)): attribution
        for attribution in reversed(found)
        if any(_shows(fault, symptom.signature or "") for symptom in attribution.symptoms)
    }
    return [
        replace(record, attribution=by_cell.get((record.cell, record.platform))) for record in shown
    ]


def _order(cell: str) -> tuple[tuple[int, ...], ...]:
    numbers = re.findall(r"\d+", cell.partition("vllm")[2]), re.findall(r"\d+", cell)
    return tuple(tuple(int(number[:9]) for number in part) for part in numbers)
