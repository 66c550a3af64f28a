"""The journal of a run: what was written is read, whatever the disk or a kill did to its end."""

from __future__ import annotations

import json
import os
import resource
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commanded import make
from matrix._util.child import Child
from matrix._util.files import DiskFullError
from matrix.catalog.cells import Cell
from matrix.record.model import ErrorKind, RunError
from matrix.record.reader import read_many
from matrix.record.upstream import NOT_ENDED, SuiteCase, UpstreamOutcome, UpstreamSuite
from matrix.record.writer import write
from matrix.run import run_state
from matrix.run.job import HowEnded, Job, JobEnd, JobEstimate, WhyNot
from matrix.run.machine import Demand, Lack, Resource
from matrix.run.past_run import done_records, find, read_run, unended
from matrix.run.run_state import JOURNAL, Begun, Happened, RunEvent, RunState, RunStateError

CELL = Cell("3.11", "2.10.0", "0.19.1")
NOW = datetime(2026, 11, 29, 1, 2, 3, tzinfo=timezone.utc)
NUMBERS = st.integers(0, 10**6)
TEXTS = st.text(max_size=20)
GIVEN = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
"""What a program can be given."""


def a_job(**more: Any) -> Job:
    values = {
        "cell": CELL,
        "environment": CELL.name,
        "platform": "cpu",
        "estimate": JobEstimate(build_seconds=20, run_seconds=300),
        "demand": Demand(cores=1, memory_mib=4096, disk_mib=600),
    }
    return Job(**{**values, **more})


jobs = st.builds(
    a_job,
    platform=st.sampled_from(["cpu", "cuda"]),
    cases=st.lists(GIVEN, max_size=2).map(tuple),
    pytest_args=st.lists(GIVEN, max_size=3).map(tuple),
    flags=st.lists(st.tuples(GIVEN, GIVEN), max_size=2).map(tuple),
    cases_at_once=st.none() | st.integers(1, 9),
    round=st.integers(1, 9),
    estimate=st.builds(JobEstimate, build_seconds=NUMBERS, run_seconds=st.floats(0, 1e6)),
    demand=st.builds(
        Demand,
        cores=NUMBERS,
        memory_mib=NUMBERS,
        disk_mib=NUMBERS,
        gpu_mib=NUMBERS,
        whole_gpus=st.booleans(),
    ),
)
ends = st.builds(
    JobEnd,
    job=TEXTS,
    how=st.sampled_from(HowEnded),
    why=st.none() | st.sampled_from(WhyNot),
    record=st.none() | TEXTS,
    machine=st.none() | TEXTS,
    seconds=st.none() | st.floats(0, 1e6),
    log=st.none() | TEXTS,
    detail=TEXTS,
    machines=st.lists(GIVEN, max_size=2).map(tuple),
    lacks=st.lists(
        st.builds(Lack, resource=st.sampled_from(Resource), needs=NUMBERS, has=NUMBERS), max_size=2
    ).map(tuple),
)


def begin(folder: Path, *every: Job, **more: Any) -> RunState:
    return RunState.begin(Begun(records=str(folder), **more), every, now=NOW)


@given(
    every=st.lists(jobs, min_size=1, max_size=3, unique_by=lambda job: job.key),
    ended=st.lists(ends, max_size=3),
    options=st.lists(GIVEN, max_size=2).map(tuple),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    every: list[Job],
    ended: list[JobEnd],
    options: tuple[str, ...],
) -> None:
    folder = tmp_path_factory.mktemp("records")
    state = begin(folder, *every, options=options)
    for end in ended:
        state.note(RunEvent(what=Happened.ENDED, at=1.0, job=end.job, end=end))
    state.close()
    past = read_run(state.folder)
    assert past.begun == Begun(records=str(folder), options=options)
    assert past.jobs == tuple(every) and past.at == NOW.timestamp()
    assert past.ends == {end.job: end for end in ended}


@given(cut=st.integers(0, 2000), more=st.binary(max_size=30))
def test_a_journal_that_is_cut_anywhere_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, cut: int, more: bytes
) -> None:
    """What a kill, a full disk or a damaged disk leaves never ends in a traceback."""
    state = begin(tmp_path_factory.mktemp("records"), a_job(), a_job(round=2))
    state.note(
        RunEvent(what=Happened.ENDED, at=1.0, job="x", end=JobEnd(job="x", how=HowEnded.DONE))
    )
    state.close()
    path = state.folder / JOURNAL
    path.write_bytes(path.read_bytes()[:cut] + more)
    try:
        past = read_run(state.folder)
    except RunStateError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert past.jobs == (a_job(), a_job(round=2))


def test_an_unfinished_line_does_not_take_the_next_with_it(tmp_path: Path) -> None:
    state = begin(tmp_path, a_job())
    state.close()
    with (state.folder / JOURNAL).open("a") as file:
        file.write('{"what": "en')
    again = RunState(state.folder)
    end = JobEnd(job="x", how=HowEnded.DONE)
    again.note(RunEvent(what=Happened.ENDED, at=1.0, job="x", end=end))
    again.close()
    assert read_run(state.folder).ends == {"x": end}


def test_two_runs_of_one_second_have_two_folders(tmp_path: Path) -> None:
    first, second = begin(tmp_path, a_job()), begin(tmp_path, a_job())
    assert first.folder != second.folder
    assert read_run(first.folder).at == read_run(second.folder).at == NOW.timestamp()
    assert find(tmp_path) == second.folder and find(tmp_path, first.folder.name) == first.folder
    with pytest.raises(RunStateError, match="another process is still running this run"):
        RunState(first.folder)
    first.close()
    RunState(first.folder).close()
    second.close()


def test_the_newest_run_is_the_last_begun_also_where_the_clock_was_set_back(
    tmp_path: Path,
) -> None:
    """A run of a clock that was far ahead counts as the oldest, and moves no other."""
    now = datetime.now(timezone.utc)
    moments = [now + timedelta(days=900), now, now - timedelta(hours=3), now + timedelta(seconds=9)]
    folders = []
    for moment in moments:
        state = RunState.begin(Begun(records=str(tmp_path)), [a_job()], moment)
        state.close()
        folders.append(state.folder)
        (tmp_path / "runs/99991231T235959Z").mkdir(exist_ok=True)
    assert sorted(folders[1:]) == folders[1:] and max(folders) == folders[0]
    assert find(tmp_path) == folders[-1]
    at = read_run(folders[2]).at
    assert at == moments[2].replace(microsecond=0).timestamp()


def test_a_run_has_no_file_that_counts_as_a_record(tmp_path: Path) -> None:
    state = begin(tmp_path, a_job())
    (state.logs / "x.run.log").write_text("y")
    state.close()
    read, errors = read_many([tmp_path])
    assert (list(read), list(errors)) == ([], [])


def refuse_changed(folder: Path, head: dict[str, Any], job: dict[str, Any]) -> None:
    """Change the first lines of a journal, that of the run and that of its job."""
    state = begin(folder, a_job())
    state.close()
    path = state.folder / JOURNAL
    begun, line = map(json.loads, path.read_text().splitlines())
    begun.update(head)
    line["job"].update(job)
    path.write_text(f"{json.dumps(begun)}\n{json.dumps(line)}\n")
    with pytest.raises(RunStateError, match="is not the journal of a run"):
        read_run(state.folder)


@pytest.mark.parametrize(
    "change",
    [
        {"environment": "../../etc"},
        {"environment": ""},
        {"platform": "/tmp"},
        {"round": 0},
        {"round": 1e999},
        {"cell": {"python": "3.11"}},
        {"demand": {"cores": -1}},
        {"estimate": {"build_seconds": 1, "run_seconds": 1e999}},
        {"flags": [["a"]]},
        {"cases": "dense"},
        {"environment": "-rf"},
        {"cases": ["a\0b"]},
        {"pytest_args": ["\ud800"]},
        {"flags": [["A", "\0"]]},
    ],
)
def test_a_job_that_is_not_one_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    refuse_changed(tmp_path, {}, change)


def test_options_that_no_program_can_be_given_are_refused(tmp_path: Path) -> None:
    refuse_changed(tmp_path, {"options": ["--x\0"]}, {})


def test_a_job_that_is_there_twice_is_refused_with_the_file(tmp_path: Path) -> None:
    state = begin(tmp_path, a_job())
    state.close()
    path = state.folder / JOURNAL
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(RunStateError, match=r"journal\.jsonl: .*appears twice"):
        read_run(state.folder)


@pytest.mark.parametrize("change", [{"at": 1e300}, {"at": float("nan")}, {"at": []}])
def test_a_time_that_no_clock_has_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    state = begin(tmp_path, a_job())
    state.close()
    path = state.folder / JOURNAL
    head, line = map(json.loads, path.read_text().splitlines())
    path.write_text(f"{json.dumps({**head, **change})}\n{json.dumps(line)}\n")
    with pytest.raises(RunStateError, match="is not the journal of a run"):
        read_run(state.folder)


def test_the_records_of_a_run_are_where_its_journal_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the journal names: the folder was moved, or somebody else wrote it."""
    RunState.begin(Begun(records=str(tmp_path / "old")), [a_job()], now=NOW).close()
    (tmp_path / "old").rename(tmp_path / "new")
    folder = find(tmp_path / "new")
    assert read_run(folder).begun.records == str(tmp_path / "new")
    monkeypatch.chdir(folder)
    assert read_run(find(Path("records"), ".")).begun.records == str(tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    folder.rename(tmp_path / "alone")
    with pytest.raises(RunStateError, match="alone: is not in the folder runs"):
        find(Path("records"), "alone")


def test_a_pipe_is_not_a_journal(tmp_path: Path) -> None:
    state = begin(tmp_path, a_job())
    state.close()
    later = tmp_path / "runs" / "30000101T000000Z"
    later.mkdir()
    os.mkfifo(later / JOURNAL)
    assert find(tmp_path) == state.folder
    with pytest.raises(RunStateError, match="no run of this name"):
        find(tmp_path, later.name)


def leave(folder: Path, minute: int, **changes: Any) -> Path:
    record = make(**changes)
    about = {**record.provenance, "started": f"2026-11-29T01:{minute:02}:00Z"}
    path = folder / "cpu" / f"{record.cell}.20261129T01{minute:02}00Z.json"
    write(make(provenance=about, **changes), path)
    return path


def test_a_job_is_done_by_the_records_that_stand(tmp_path: Path) -> None:
    """Rounds take one each; what is older, interrupted or not finished is none."""
    state = begin(tmp_path, a_job(round=2), a_job(), a_job(round=3))
    state.close()
    leave(tmp_path, 1)
    leave(tmp_path, 3, finished=False)
    leave(tmp_path, 4, error=RunError(kind=ErrorKind.INTERRUPTED, reason="Ctrl-C"))
    (tmp_path / "cpu" / f"{CELL.name}.20261129T010430Z.json").write_text("{")
    first, second = leave(tmp_path, 5), leave(tmp_path, 6)
    assert done_records(read_run(state.folder)) == {a_job().key: first, a_job(round=2).key: second}


TEST = "tests/compile/test_a.py::test_b"


def upstream_with(*ends: tuple[UpstreamOutcome, str | None]) -> UpstreamSuite:
    return UpstreamSuite(
        cases=tuple(
            SuiteCase(case=f"{TEST}[{number}]", outcome=outcome, reason=reason)
            for number, (outcome, reason) in enumerate(ends)
        )
    )


PASSED = (UpstreamOutcome.PASSED, None)
UNTESTED = UpstreamOutcome.UNTESTED
FULL, UPSTREAM = ("--suite", "full"), ("--upstream", TEST)


@pytest.mark.parametrize(
    ("options", "changes", "stands"),
    [
        ((), {"full_suite": (), "upstream": upstream_with(PASSED)}, True),
        (FULL, {}, False),
        (FULL, {"full_suite": ()}, True),
        (UPSTREAM, {}, False),
        (UPSTREAM, {"upstream": upstream_with()}, False),
        (UPSTREAM, {"upstream": upstream_with(PASSED, (UNTESTED, NOT_ENDED))}, False),
        (UPSTREAM, {"upstream": upstream_with(PASSED, (UNTESTED, "interrupted by SIGINT"))}, False),
        (UPSTREAM, {"upstream": upstream_with(PASSED, (UNTESTED, "needs a GPU"))}, True),
        ((*UPSTREAM, "--upstream", "tests/b.py"), {"upstream": upstream_with(PASSED)}, False),
        ((*FULL, *UPSTREAM), {"upstream": upstream_with(PASSED)}, False),
        (
            (*FULL, *UPSTREAM),
            {"error": RunError(kind=ErrorKind.RESOLVES, reason="no such wheel")},
            True,
        ),
    ],
)
def test_a_record_stands_where_it_has_all_that_the_run_was_asked_for(
    tmp_path: Path, options: tuple[str, ...], changes: dict[str, Any], *, stands: bool
) -> None:
    state = begin(tmp_path, a_job(), options=("--timeout", "9", *options))
    state.close()
    path = leave(tmp_path, 5, **changes)
    assert done_records(read_run(state.folder)) == ({a_job().key: path} if stands else {})


def test_a_disk_that_refuses_a_line_stops_nothing(tmp_path: Path) -> None:
    state = begin(tmp_path, a_job())
    state.close()
    state.note(RunEvent(what=Happened.STOPPED, at=1.0))
    assert state.lost == 1


def test_what_a_full_disk_refused_is_written_when_it_has_room(tmp_path: Path) -> None:
    """The disk takes a part of a line, and then nothing; the next lines come after the rest."""
    state, keys = begin(tmp_path, a_job()), [f"job {number}" for number in range(900)]
    path = state.folder / JOURNAL
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for key in keys:
        if key == keys[1]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40, limits[1]))
        if key == keys[-1]:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert state.lost == len(keys) - 2
        end = JobEnd(job=key, how=HowEnded.DONE)
        state.note(RunEvent(what=Happened.ENDED, at=1.0, job=key, end=end))
    assert state.lost == 0
    state.close()
    assert list(read_run(state.folder).ends) == keys


def runs(state: RunState, job: Job, machine: str) -> None:
    state.note(RunEvent(what=Happened.RUNS, at=1.0, job=job.key, machine=machine))


def loses(state: RunState, machine: str) -> None:
    state.note(RunEvent(what=Happened.LOST, at=1.0, machine=machine))


def test_the_machines_that_a_job_lost_are_read(tmp_path: Path) -> None:
    """Only those count that ran it at that moment; neither those of an earlier part that ended."""
    one, two, three = a_job(), a_job(round=2), a_job(round=3)
    state = begin(tmp_path, one, two, three)
    runs(state, one, "a")
    runs(state, two, "b")
    state.note(RunEvent(what=Happened.ENDED, at=1.0, end=JobEnd(job=two.key, how=HowEnded.NOT_RUN)))
    loses(state, "a")
    loses(state, "b")
    runs(state, one, "c")
    runs(state, three, "d")
    state.close()
    again = RunState.resume(state.folder, 2.0)
    loses(again, "c")
    loses(again, "never seen")
    runs(again, three, "e")
    loses(again, "e")
    again.close()
    assert read_run(state.folder).lost == {one.key: ("a",), three.key: ("e",)}


def done(job: Job, path: Path) -> RunEvent:
    end = JobEnd(job=job.key, how=HowEnded.DONE, record=str(path))
    return RunEvent(what=Happened.ENDED, at=1.0, job=job.key, end=end)


def test_the_record_that_the_journal_names_counts_before_others(tmp_path: Path) -> None:
    """A node's clock may be behind, so that its record seems older than the run."""
    one, two = a_job(), a_job(round=2)
    state = begin(tmp_path, one, two)
    behind, other = leave(tmp_path, 1), leave(tmp_path, 5)
    state.note(done(two, behind))
    state.close()
    past = read_run(state.folder)
    assert done_records(past) == {one.key: other, two.key: behind}


def test_a_record_that_is_gone_or_was_interrupted_counts_for_nothing(tmp_path: Path) -> None:
    one, two = a_job(), a_job(round=2)
    state = begin(tmp_path, one, two)
    stopped = leave(tmp_path, 4, error=RunError(kind=ErrorKind.INTERRUPTED, reason="Ctrl-C"))
    state.note(done(one, stopped))
    state.note(done(two, tmp_path / "cpu" / "gone.json"))
    state.note(done(a_job(round=3), tmp_path.parent / "elsewhere.json"))
    state.close()
    assert done_records(read_run(state.folder)) == {}


def test_the_end_that_a_killed_run_did_not_note_is_made_up_for(tmp_path: Path) -> None:
    one, two = a_job(), a_job(round=2)
    state = begin(tmp_path, one, two)
    paths = leave(tmp_path, 3), leave(tmp_path, 4)
    state.note(done(one, paths[0]))
    past = read_run(state.folder)
    (event,) = unended(past, done_records(past), 9.0)
    assert event.end == JobEnd(job=two.key, how=HowEnded.DONE, record=str(paths[1]))
    state.note(event)
    state.close()
    past = read_run(state.folder)
    assert set(past.ends) == {one.key, two.key}
    assert unended(past, done_records(past), 9.0) == []


def test_a_run_that_could_not_note_all_its_jobs_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise DiskFullError(f"{path}: the disk is full")

    monkeypatch.setattr(run_state, "write_text", full)
    with pytest.raises(RunStateError, match=r"journal\.jsonl: cannot be written; make room"):
        begin(tmp_path, a_job())
    with pytest.raises(RunStateError, match="no run in"):
        find(tmp_path)


def test_a_run_is_resumed_when_what_a_killed_process_left_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = begin(tmp_path, a_job())
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    left = Child(command, tmp_path / "log", keeps=(state.held,))
    state.close()
    with pytest.raises(RunStateError, match="cells of an earlier part of this run do not end"):
        RunState.resume(state.folder, 1.0, patience=0.0)
    assert "waits for processes that an earlier part of this run left" in capsys.readouterr().err
    monkeypatch.setattr(run_state, "SILENCE", 0.0)
    with pytest.raises(RunStateError, match="do not end"):
        RunState.resume(state.folder, 1.0, patience=0.3)
    assert capsys.readouterr().err.count("left, 0 s more at most") > 1
    left.end()
    RunState.resume(state.folder, 1.0, patience=0.0).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunStateError, match="file/cpu: cannot be written: Not a directory"):
        begin(tmp_path / "file", a_job())
