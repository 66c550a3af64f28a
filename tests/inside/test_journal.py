"""The journal of a case, and the record's case that is made of it."""

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from matrix.inside import journal
from matrix.inside.ended import Ended
from matrix.inside.isolation import run_forked
from matrix.record.model import CacheFiles, CacheKind, Event, EventKind, StartKind

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")


def events(*named: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"event": name, **fields} for name, fields in named]


def started(start: str) -> tuple[str, dict[str, Any]]:
    return "started", {"start": start, "seconds": {"total": 1.5}, "counters": {"n": 3}}


RETURNED = Ended(kind="returned", seconds=12.0)


def test_a_journal_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert journal.read(path) == ()
    journal.Journal(path).write("model", model="é")
    journal.Journal(path).write("starting", start="cold")
    with path.open("a") as file:
        file.write('[1]\n{"event": 3}\nnonsense\n{"event": "torn')
    assert journal.read(path) == (
        {"event": "model", "model": "é"},
        {"event": "starting", "start": "cold"},
    )


def test_a_journal_refuses_what_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        journal.Journal(tmp_path / "journal").write("started", seconds=float("nan"))


def test_fold_while_it_runs() -> None:
    case = journal.fold("x", events(("flags", {"flags": {"A": True}}), started("cold")))
    assert (case.outcome, case.flags, len(case.starts)) == ("running", {"A": True}, 1)


@pytest.mark.parametrize("failure", [None, "AssertionError: 1 != 3"])
def test_fold_passes_when_both_starts_ended_whatever_they_counted(failure: str | None) -> None:
    differs = [] if failure is None else [("differs", {"differences": [failure]})]
    case = journal.fold(
        "x",
        events(("model", {"model": "m"}), started("cold"), started("warm"), *differs),
        ended=RETURNED,
        failure=failure,
    )
    assert (case.outcome, case.reason, case.model, case.seconds) == ("passed", None, "m", 12.0)
    assert [start.start for start in case.starts] == ["cold", "warm"]
    assert case.starts[0].counters == {"n": 3}


def test_fold_a_crash_says_in_which_start() -> None:
    ended = Ended(kind="signalled", seconds=2.0, signal=11, output="ValueError: survived\n")
    case = journal.fold(
        "x",
        events(("starting", {"start": "cold"}), started("cold"), ("starting", {"start": "warm"})),
        ended=ended,
    )
    assert (case.outcome, case.reason) == ("crashed", "killed by SIGSEGV in the warm start")
    assert case.signature == "killed by SIGSEGV"
    assert case.failure == "ValueError: survived\nkilled by SIGSEGV"


def test_fold_a_crash_after_both_starts_is_a_crash() -> None:
    ended = Ended(kind="signalled", seconds=2.0, signal=11)
    case = journal.fold("x", events(started("cold"), started("warm")), ended=ended)
    assert (case.outcome, case.reason) == ("crashed", "killed by SIGSEGV")


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        (Ended(kind="timed_out", seconds=900.0), "timed_out"),
        (Ended(kind="signalled", seconds=1.0, signal=9), "interrupted"),
        (Ended(kind="exited", seconds=1.0, exit_code=0), "crashed"),
        (Ended(kind="exited", seconds=1.0), "crashed"),
        (Ended(kind="signalled", seconds=1.0, signal=64), "crashed"),
        (Ended(kind="signalled", seconds=1.0, signal=9, oom_killed=True), "out_of_memory"),
        (Ended(kind="raised", seconds=1.0, error="x\nMemoryError"), "out_of_memory"),
        (Ended(kind="raised", seconds=1.0, error=""), "failed"),
    ],
)
def test_fold_of_bad_ends(ended: Ended, outcome: str) -> None:
    case = journal.fold("x", (), ended=ended)
    assert case.outcome == outcome
    assert case.reason and case.signature


def test_fold_names_survivors() -> None:
    assert "did not end 2" in Ended(kind="timed_out", seconds=1.0, survivors=(3, 4)).reason


def test_fold_a_failed_start_of_its_own_child(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ended = run_forked(lambda: ctypes.string_at(0), timeout=5, output=tmp_path / "output")
    journal.Journal(path).failed(StartKind.COLD, ended)
    case = journal.fold("x", journal.read(path), ended=RETURNED, failure="Failed: the cold start")
    assert (case.outcome, case.reason) == ("crashed", "killed by SIGSEGV in the cold start")
    assert case.signature == "killed by SIGSEGV"
    assert case.failure and "most recent call first" in case.failure


@pytest.mark.parametrize(
    ("name", "fields", "outcome", "reason"),
    [
        ("failed", {"failure": "ValueError: no"}, "failed", "ValueError: no"),
        ("failed", {"failure": "MemoryError"}, "out_of_memory", "MemoryError"),
        ("failed", {"failure": None}, "failed", None),
        ("not_applicable", {"reason": "needs a GPU"}, "not_applicable", "needs a GPU"),
        ("untested", {"reason": "no rule"}, "interrupted", "no rule"),
    ],
)
def test_fold_of_what_the_test_noted(
    name: str, fields: dict[str, Any], outcome: str, reason: str | None
) -> None:
    case = journal.fold("x", events((name, fields)), ended=RETURNED, skipped="skipped")
    assert (case.outcome, case.reason) == (outcome, reason)


def test_fold_of_a_test_that_noted_nothing() -> None:
    assert journal.fold("x", (), ended=RETURNED, skipped="why").outcome == "not_applicable"
    assert journal.fold("x", (), ended=RETURNED).outcome == "failed"
    assert journal.fold("x", (), ended=RETURNED, failure="E  x\nKeyError: 3").outcome == "failed"
    assert journal.fold("x", (), seconds=2, interrupted=True).outcome == "interrupted"


def test_fold_keeps_only_the_end_of_a_long_failure() -> None:
    ended = Ended(kind="raised", seconds=1.0, error="x" * 100_000 + "\nKeyError: 3")
    case = journal.fold("x", (), ended=ended)
    assert case.failure and len(case.failure) <= 16384
    assert json.dumps(case.failure)


@pytest.mark.parametrize(
    ("logged", "known"),
    [
        (None, None),
        ([], ()),
        (
            [{"kind": "fell_back", "text": "x", "count": 2}],
            (Event(kind=EventKind.FELL_BACK, text="x", count=2),),
        ),
        ([{"kind": "new", "text": "x", "count": 2}], None),
        ([{"kind": "fell_back"}], None),
        (["x"], None),
        ("x", None),
    ],
)
def test_fold_of_what_a_start_logged(logged: object, known: object) -> None:
    name, fields = started("cold")
    case = journal.fold("x", events((name, {**fields, "events": logged})))
    assert case.starts[0].events == known


@pytest.mark.parametrize(
    ("left", "known"),
    [
        (None, None),
        ({}, {}),
        (
            {"fxgraph": {"files": 3, "bytes": 9, "new_files": 1, "new_bytes": 2}},
            {CacheKind.FXGRAPH: CacheFiles(files=3, bytes=9, new_files=1, new_bytes=2)},
        ),
        ({"unheard": {"files": 3, "bytes": 9, "new_files": 1, "new_bytes": 2}}, None),
        ({"fxgraph": {"files": 3}}, None),
        ({"fxgraph": 3}, None),
        ([], None),
    ],
)
def test_fold_of_what_a_start_left(left: object, known: object) -> None:
    name, fields = started("cold")
    more = {"caches": left, "metrics": {"generated_kernel_count": 2}}
    case = journal.fold("x", events((name, {**fields, **more})))
    assert case.starts[0].caches == known
    assert case.starts[0].metrics == {"generated_kernel_count": 2}
