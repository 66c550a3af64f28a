"""What becomes of the table's findings from night to night, and the file that keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ci_tables import failed, make, passed, table
from matrix.qualify.state_files import StateFileError, read_table_watch, write_table_watch
from matrix.qualify.table_watch import TableDelta, WatchedTable, follow_table
from matrix.qualify.watch import FindingKind, Status
from matrix.record.model import By, Departure, ErrorKind, Record, RunError, Why

CELL, OTHER = "py311-torch210-vllm019", "py311-torch29-vllm016"


def night(day: int, *cases: Any, cell: str = CELL, **more: Any) -> tuple[Path, Record]:
    provenance = {
        "started": f"2026-11-{day:02}T18:00:00Z",
        "seconds": 312.4,
        "python": "3.11.7",
        "torch": "2.10.0+cu128" if cell == CELL else "2.9.1",
        "vllm": "0.19.1" if cell == CELL else "0.16.0",
    }
    return make(cell, *cases, provenance=provenance, **more)


def follow(*nights: tuple[tuple[Path, Record], ...]) -> list[TableDelta]:
    """Watch a table whose nights have these records, the first of them when the watch begins."""
    watched: WatchedTable | None = None
    deltas = []
    for records in nights:
        deltas.append(follow_table(watched, table(*records)))
        watched = deltas[-1].watched
    return deltas


def statuses(delta: TableDelta) -> list[tuple[str, Status, bool]]:
    return [
        (change.now.key.place.case, change.now.status, change.asked) for change in delta.changes
    ]


def test_a_regression_is_new_then_still_there_then_silent_twice_then_reopened() -> None:
    good, bad = passed("moe[1]"), failed()
    deltas = follow(*[(night(day, case),) for day, case in enumerate([good, bad, bad, good], 1)])
    assert [statuses(delta) for delta in deltas] == [
        [],
        [("moe[1]", Status.NEW, True)],
        [("moe[1]", Status.STILL_THERE, True)],
        [("moe[1]", Status.SILENT_ONCE, True)],
    ]
    assert [len(delta.regressed) for delta in deltas] == [0, 1, 0, 0]
    assert [len(delta.open) for delta in deltas] == [0, 1, 1, 1]
    closed = follow_table(deltas[-1].watched, table(night(5, good)))
    assert (statuses(closed), closed.open) == ([("moe[1]", Status.CLOSED, True)], ())
    again = follow_table(closed.watched, table(night(6, bad)))
    assert statuses(again) == [("moe[1]", Status.REOPENED, True)]
    assert len(again.regressed) == len(again.open) == 1
    (change,) = again.changes
    assert (change.now.first, change.now.last) == ("2026-11-02T18:00:00Z", "2026-11-06T18:00:00Z")


def test_a_night_in_which_a_cell_did_not_run_changes_nothing() -> None:
    bad = night(2, failed())
    other = night(3, passed(), cell=OTHER)
    before, after = follow((night(1, passed("moe[1]")),), (bad,), (bad, other))[1:]
    assert statuses(after) == [("moe[1]", Status.NEW, False)]
    assert [entry.record.cell for entry in after.asked] == [OTHER]
    assert (after.regressed, len(after.open)) == ((), 1)
    assert after.watched.findings == before.watched.findings


def test_to_watch_the_same_table_twice_changes_nothing() -> None:
    records = (night(1, failed(), passed("small[a]", saved=1)),)
    first, second = follow(records, records)
    assert second.watched == first.watched
    assert second.asked == ()
    assert not any(change.asked for change in second.changes)


def test_what_was_there_when_the_watch_began_is_no_regression() -> None:
    bad = failed()
    began, next_night = follow((night(1, bad),), (night(2, bad, failed("moe[2]", reason="y")),))
    assert (began.regressed, began.open) == ((), ())
    (new,) = next_night.regressed
    assert new.now.key.place.case == "moe[2]"
    closed, back = follow(
        (night(1, bad),), *[(night(day, passed("moe[1]")),) for day in (2, 3)], (night(4, bad),)
    )[2:]
    assert (statuses(closed)[0][1], closed.open) == (Status.CLOSED, ())
    assert len(back.regressed) == 1


def test_what_came_back_after_it_was_closed_stays_open_in_the_nights_after() -> None:
    good, bad = passed("moe[1]"), failed()
    nights = [(night(day, case),) for day, case in enumerate([bad, good, good, bad, bad], 1)]
    *_, back, after = follow(*nights)
    assert statuses(after) == [("moe[1]", Status.STILL_THERE, True)]
    assert [len(delta.open) for delta in (back, after)] == [1, 1]
    assert [len(delta.regressed) for delta in (back, after)] == [1, 0]
    assert after.changes[0].now.first == "2026-11-04T18:00:00Z"


def test_a_record_that_comes_late_makes_no_newer_night() -> None:
    newest = night(3, passed("moe[1]"))
    began, late = follow((newest,), (newest, night(2, failed(), cell=OTHER)))
    assert began.watched.last == late.watched.last == "2026-11-03T18:00:00Z"
    assert len(late.regressed) == 1


def test_without_a_record_the_watch_begins_and_all_that_comes_is_new() -> None:
    empty, first = follow((), (night(1, failed()),))
    assert empty.watched == WatchedTable()
    assert len(first.regressed) == 1


def test_a_counter_that_drifts_is_a_finding_for_itself() -> None:
    good, off = passed("small[a]"), passed("small[a]", saved=1)
    _, drifted, repaired = follow((night(1, good),), (night(2, off),), (night(3, good),))
    assert {(change.now.key.kind, change.now.key.what) for change in drifted.regressed} == {
        (FindingKind.DRIFT, "cold num_compiled_artifacts_saved"),
        (FindingKind.DRIFT, "warm num_compiled_artifacts_saved"),
    }
    assert {status for _, status, _ in statuses(repaired)} == {Status.SILENT_ONCE}


def test_a_run_that_fails_as_a_whole_answers_for_no_case() -> None:
    error = RunError(kind=ErrorKind.IMPORTS, reason="ImportError: libcudart.so.13: cannot open")
    _, _, broken, repaired = follow(
        (night(1, passed("moe[1]")),),
        (night(2, failed()),),
        (night(3, error=error),),
        (night(4, passed("moe[1]")),),
    )
    assert statuses(broken) == [("", Status.NEW, True), ("moe[1]", Status.NEW, False)]
    assert "libcudart" in broken.regressed[0].now.key.what
    assert [status for _, status, _ in statuses(repaired)] == [Status.SILENT_ONCE] * 2


FLASHINFER = Departure(
    name="flashinfer-python", required=">=0.6", installed=None, why=Why.MISSING, by=By.BUNDLE
)
NO_GPU = RunError(kind=ErrorKind.NO_GPU, reason="no GPU is visible")


@pytest.mark.parametrize(
    "after",
    [
        night(3, passed("moe[1]"), departures=(FLASHINFER,)),
        night(3, error=NO_GPU),
        night(3, passed("small[a]"), deselected=1),
    ],
    ids=["not stock", "no GPU", "other cases"],
)
def test_what_shows_nothing_of_the_case_closes_nothing(after: tuple[Path, Record]) -> None:
    nights = (night(1, passed("moe[1]")),), (night(2, failed()),), (after,)
    assert statuses(follow(*nights)[-1]) == [("moe[1]", Status.NEW, False)]


def test_a_case_that_passes_in_a_run_that_was_cut_short_counts() -> None:
    cut = night(3, passed("moe[1]"), finished=False)
    delta = follow((night(1, passed("moe[1]")),), (night(2, failed()),), (cut,))[-1]
    assert statuses(delta) == [("moe[1]", Status.SILENT_ONCE, True)]


def test_the_state_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    assert read_table_watch(path) is None
    watched = follow((night(1, passed("moe[1]")),), (night(2, failed(), passed(saved=1)),))[
        1
    ].watched
    write_table_watch(path, watched)
    assert read_table_watch(path) == watched
    write_table_watch(path, WatchedTable())
    assert read_table_watch(path) == WatchedTable()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "is not JSON"),
        ("null", "is null"),
        ("[]", "must be an object"),
        ('{"schema": 9}', "schema: is 9"),
        ('{"schema": 1}', "has no key"),
        (
            '{"schema": 1, "began": "", "last": "", "findings": [], "records": [{"cell": 1}]}',
            "records[0]: has no key 'platform'",
        ),
        (
            '{"schema": 1, "began": "", "last": "", "findings": {}, "records": []}',
            "findings: is {}, but must be a list",
        ),
    ],
)
def test_a_damaged_state_is_named_and_left(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(StateFileError, match=r"table\.json") as caught:
        read_table_watch(path)
    assert fault in str(caught.value)
    assert path.read_text() == text


def test_a_finding_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    write_table_watch(path, follow((), (night(1, failed()),))[1].watched)
    content = json.loads(path.read_text())
    content["findings"] *= 2
    path.write_text(json.dumps(content))
    with pytest.raises(StateFileError, match="twice"):
        read_table_watch(path)
