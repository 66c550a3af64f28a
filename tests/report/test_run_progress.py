"""What is said of a run of many cells: plain lines, and the table on a terminal."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from matrix.catalog.cells import Cell
from matrix.record.model import Platform, StartKind
from matrix.report.run_progress import (
    View,
    done_words,
    dry_lines,
    end_line,
    event_line,
    left_seconds,
    silent_line,
    totals,
    work_words,
)
from matrix.report.run_watchers import LineWatcher, TableWatcher, table
from matrix.run.environments import LINKED_MIB
from matrix.run.job import HowEnded, Job, JobEnd, JobEstimate, WhyNot
from matrix.run.machine import Demand, Lack, Resource
from matrix.run.run_state import Happened, RunEvent
from matrix.run.simulation import Simulated
from matrix.run.stage import Stage
from matrix.run.task import Task, TaskKind
from matrix.run.watcher import Working


def job(minor: int = 19, *, disk: int = 10240, build: float = 150, run: float = 300) -> Job:
    cell = Cell("3.11", "2.10.0", f"0.{minor}.1")
    return Job(
        cell=cell,
        environment=cell.name,
        platform=Platform.CPU,
        estimate=JobEstimate(build_seconds=build, run_seconds=run),
        demand=Demand(disk_mib=disk),
    )


A, B, C = job(19), job(18), job(17)
JOBS = {item.key: item for item in (A, B, C)}
STAGE = Stage(ended=2, ran=2, total=9, cases=("moe_startup[mega_aot=1]",), start=StartKind.WARM)


def task(of: Job, kind: TaskKind = TaskKind.RUN, number: int = 1) -> Task:
    key = of.key if kind is TaskKind.RUN else None
    return Task(
        number=number,
        kind=kind,
        machine="here",
        environment=of.environment,
        demand=of.demand,
        job=key,
    )


def at_work(
    of: Job, kind: TaskKind = TaskKind.RUN, number: int = 1, stage: Stage | None = None
) -> Working:
    return Working(task=task(of, kind, number), began=0.0, stage=stage)


def event(what: Happened, of: Job = A, **more: object) -> RunEvent:
    values = {"environment": of.environment, "job": of.key, **more}
    return RunEvent(what=what, at=0.0, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("happened", "line"),
    [
        (
            event(Happened.BUILDS),
            f"{A.environment}: makes its environment: about 10 GB, some minutes",
        ),
        (
            event(Happened.BUILT, seconds=35.2, works=True),
            f"{A.environment}: its environment is made, 35 s",
        ),
        (
            event(Happened.BUILT, seconds=4.0, works=False, detail="no wheel", log="x.log"),
            f"{A.environment}: its environment cannot be made, 4 s: no wheel (log: x.log)",
        ),
        (event(Happened.RUNS), f"{A.environment} on cpu: runs, about 5 min"),
        (
            event(Happened.REMOVED),
            f"{A.environment}: its environment is removed, since the disk is short",
        ),
        (
            event(Happened.STOPPED, detail="SIGINT"),
            "SIGINT: no further cell begins; running cells write their records",
        ),
        (event(Happened.ENDED), None),
        (
            event(Happened.RUNS, job=A.key, machine="10.0.0.7-abc"),
            f"{A.cell.name} on cpu: runs on 10.0.0.7-abc, about 5 min",
        ),
        (
            event(Happened.FAILED, machine="n", detail="no driver", log="x.log"),
            f"{A.cell.name} on cpu: failed on n: no driver; another node tries (log: x.log)",
        ),
        (event(Happened.JOINED, machine="n", works=True), "n: joins"),
        (
            event(Happened.JOINED, detail="n: has no tox", works=False),
            "n: has no tox; it gets no work",
        ),
        (event(Happened.LOST, machine="n"), "n: is lost; what ran there runs elsewhere"),
    ],
)
def test_each_event_has_a_line(happened: RunEvent, line: str | None) -> None:
    assert event_line(happened, JOBS) == line


def test_a_gpu_that_failed_is_named_with_why_and_what_comes_of_it() -> None:
    why = "uncorrectable\x1b[1m ECC error"
    line = event_line(event(Happened.GPU_FAILED, gpus=("0", "1"), detail=why), JOBS)
    cause = f"failed ({A.cell.name} on cpu: uncorrectable ECC error)"
    assert line is not None and line.startswith(f"GPU 0 or 1, or the driver, {cause}; other cells")
    line = event_line(event(Happened.GPU_FAILED, gpus=("3",), machine="n", detail=why), JOBS)
    assert line is not None and line.startswith(f"GPU 3 on n, or the driver, {cause}; Ray may give")


def test_a_cell_that_begins_has_its_reason() -> None:
    found = event_line(event(Happened.RUNS), JOBS, {A.key: "never\x1b[1m ran"})
    assert found == f"{A.environment} on cpu: runs, about 5 min (never ran)"


def test_what_uv_has_takes_little() -> None:
    small = job(disk=LINKED_MIB, build=20)
    found = event_line(event(Happened.BUILDS), {small.key: small})
    assert found is not None and found.endswith(
        "about 600 MB (uv's cache has the rest), about 20 s"
    )


def test_a_cell_at_work_has_its_case_and_its_seconds() -> None:
    found = work_words(at_work(A, stage=STAGE), 85.2, JOBS)
    assert found == f"{A.environment} on cpu: [3/9] moe_startup[mega_aot=1] warm, 85 s"
    again = replace(A, round=2)
    found = work_words(at_work(again), 3.0, {again.key: again})
    assert found == f"{A.environment} on cpu, run 2: begins, 3 s"
    last = f"matrix: {A.environment}: installs\x1b[1m, 18 s"
    found = work_words(at_work(A, TaskKind.BUILD), 20.0, JOBS, last)
    assert found == f"{A.environment}: makes its environment (installs, 18 s), 20 s"
    found = work_words(at_work(A, TaskKind.REMOVE), 2.0, JOBS)
    assert found == f"{A.environment}: removes its environment, 2 s"


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (
            JobEnd(
                job=A.key,
                how=HowEnded.NOT_RUN,
                why=WhyNot.NO_RECORD,
                log="x.log",
                detail="tox:\n\x1b[31mno disk",
            ),
            "not run: it left no record: tox: no disk (log: x.log)",
        ),
        (
            JobEnd(job=A.key, how=HowEnded.NOT_RUN, why=WhyNot.STOPPED),
            "not run: the run was ended before it began",
        ),
        (
            JobEnd(job=A.key, how=HowEnded.NOT_RUN, why=WhyNot.STOPPED, machine="here"),
            "not run: it was ended before it left a record",
        ),
        (
            JobEnd(
                job=A.key,
                how=HowEnded.NOT_RUN,
                why=WhyNot.FITS_NOWHERE,
                lacks=(Lack(resource=Resource.DISK, needs=1024, has=9),),
            ),
            "not run: no machine has what it needs: it needs 1024 MiB of disk, and 9 are available",
        ),
        (
            JobEnd(
                job=A.key,
                how=HowEnded.SET_ASIDE,
                why=WhyNot.MACHINES_LOST,
                machines=("10.0.0.1-ab", "10.0.0.2-cd"),
            ),
            "set aside: the machines that ran it were lost (10.0.0.1-ab, 10.0.0.2-cd)",
        ),
        (JobEnd(job=A.key, how=HowEnded.DONE, record="r.json"), "r.json"),
    ],
)
def test_the_end_of_a_job_says_why(end: JobEnd, line: str) -> None:
    assert end_line(end, JOBS) == f"{A.environment} on cpu: {line}"
    assert end_line(end, JOBS, "its record") == "its record"


def test_the_time_that_is_left_in_all() -> None:
    """Half of one run of 300 s is over, one environment and two runs of 300 s are to come."""
    view = View(jobs=JOBS, working=(at_work(A), at_work(B, TaskKind.BUILD, 2)), seconds=(150, 50))
    # 150 of A, 100 of B's environment, 300 of B, 150 and 300 of C, two at a time
    assert left_seconds(view) == (150 + 100 + 300 + 150 + 300) / 2
    assert done_words(view) == "0 of 3 cells done, about 8 min left"
    stage = replace(STAGE, ended=3, ran=3, total=4)
    view = View(jobs={A.key: A}, working=(at_work(A, stage=stage),), seconds=(30,))
    assert left_seconds(view) == 10
    assert left_seconds(View(jobs=JOBS, made=[A.environment, B.environment])) == 3 * 300 + 150
    ended = {A.key: JobEnd(job=A.key, how=HowEnded.DONE)}
    assert done_words(View(jobs={A.key: A}, ends=ended)) == "1 of 1 cell done"


def test_nobody_knows_what_is_left_of_a_run_that_takes_longer_than_before() -> None:
    one = {A.key: A}
    for seconds, words in ((250, "0 of 1 cell done, about 50 s left"), (301, "0 of 1 cell done")):
        view = View(jobs=one, working=(at_work(A),), seconds=(seconds,), made=[A.environment])
        assert done_words(view) == words


@given(seconds=st.lists(st.floats(0, 1e5), max_size=3), ended=st.sets(st.sampled_from([A, B, C])))
def test_what_is_left_is_never_negative_and_at_most_all_of_it(
    seconds: list[float], ended: set[Job]
) -> None:
    working = [
        at_work(item, number=number) for number, item in enumerate([A, B, C][: len(seconds)])
    ]
    ends = {item.key: JobEnd(job=item.key, how=HowEnded.DONE) for item in ended}
    left = left_seconds(View(jobs=JOBS, ends=ends, working=working, seconds=seconds))
    assert 0 <= left <= 3 * 450


def test_after_a_silence_one_line_has_all_that_is_at_work() -> None:
    working = [at_work(A, stage=STAGE), at_work(B, TaskKind.BUILD, 2), at_work(C, number=3)]
    view = View(jobs=JOBS, working=working, seconds=(85, 20, 1))
    line = silent_line(view, {2: "Resolved 112 packages"}, most=2)
    assert line.startswith("0 of 3 cells done, about ") and line.endswith("; 1 more")
    assert "[3/9] moe_startup[mega_aot=1] warm, 85 s; " in line
    assert "makes its environment (Resolved 112 packages), 20 s; " in line


def test_a_dry_run_has_the_order_and_a_sum() -> None:
    tasks = [task(B, TaskKind.BUILD), task(B), task(A)]
    nowhere = JobEnd(job=C.key, how=HowEnded.NOT_RUN, why=WhyNot.FITS_NOWHERE)
    found = Simulated(seconds=754, tasks=3, ends=(nowhere,))
    text = dry_lines(tasks, [A, B, C], {A.key: "never ran"}, found)
    head, first, second, unfit, total = text.splitlines()
    assert head.split() == ["cell", "platform", "environment", "run", "why"]
    assert first.split()[:3] == ["1", B.environment, "cpu"] and "  ~10 GB, minutes  " in first
    assert second.split()[:3] == ["2", A.environment, "cpu"] and "is there" in second
    assert unfit == f"{C.environment} on cpu: not run: no machine has what it needs"
    assert total == "2 cells, about 13 min in all"


def test_totals_name_what_there_is() -> None:
    assert totals([0, 0, 5, None]) == "2 compatible, 1 untested, 1 not run"
    assert totals([]) == ""


def test_lines_come_with_events_and_after_a_silence() -> None:
    said: list[str] = []
    watcher = LineWatcher(JOBS, said.append, lambda end: f"judged {end.job}", every=0.0)
    watcher.tick([])
    watcher.tick([at_work(A)])
    watcher.event(event(Happened.RUNS))
    end = JobEnd(job=A.key, how=HowEnded.DONE, record="r.json")
    watcher.event(event(Happened.ENDED, end=end))
    assert len(said) == 3 and "begins" in said[0] and said[1].endswith("runs, about 5 min")
    assert said[2] == f"judged {A.key} (1 of 3 cells done, about 15 min left)"
    watcher = LineWatcher(JOBS, said.append, lambda end: None)
    half = time.monotonic() - 150
    watcher.tick(
        [replace(at_work(item, number=number), began=half) for number, item in enumerate((A, B))]
    )
    watcher.event(event(Happened.ENDED, end=end))
    assert said.pop().endswith("(1 of 3 cells done, about 10 min left)")  # 150 s of B, 450 of C
    watcher.event(event(Happened.BUILT, of=C, works=True))
    assert C.environment in watcher.view([]).made
    watcher.event(event(Happened.REMOVED, of=C))
    assert C.environment not in watcher.view([]).made
    del said[-2:]
    quiet = LineWatcher(JOBS, said.append, lambda end: None)
    quiet.tick([at_work(A)])
    assert len(said) == 3


def shown(view: View, rows: int = 40, width: int = 110) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(view, {2: "Resolved"}, rows, width))
    file = console.file
    assert isinstance(file, io.StringIO)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_the_table_has_a_line_for_each_cell() -> None:
    working = (at_work(A, stage=STAGE), at_work(B, TaskKind.BUILD, 2))
    title, head, first, second, *waits = shown(View(jobs=JOBS, working=working, seconds=(85, 20)))
    assert title.strip().startswith("0 of 3 cells done, about ")
    assert head.split() == ["cell", "what", "seconds", "about"]
    assert first.split() == [
        A.environment,
        "on",
        "cpu",
        "[3/9]",
        STAGE.cases[0],
        "warm",
        "85",
        "5",
        "min",
    ]
    assert "makes its environment (Resolved)" in second and second.endswith("20  2 min")
    assert [line.split()[0] for line in waits] == [C.environment]
    away = (at_work(A, TaskKind.REMOVE),)
    assert "removes its environment" in shown(View(jobs=JOBS, working=away, seconds=(1,)))[2]
    assert shown(View(jobs=JOBS), rows=2)[-1].split() == ["1", "more", "wait"]


@pytest.mark.parametrize("width", [20, 40, 69, 80])
def test_a_narrow_terminal_shows_whole_names_and_cases(width: int) -> None:
    working = (at_work(A, stage=STAGE), at_work(C, TaskKind.BUILD, 2))
    lines = shown(View(jobs=JOBS, working=working, seconds=(85, 20)), width=width)
    text = "".join("".join(lines).split())
    assert all(len(line) <= width for line in lines) and "\N{HORIZONTAL ELLIPSIS}" not in text
    for part in (A.environment, "[3/9]", C.environment, "(Resolved)", B.environment, "waits"):
        assert part in text
    if width < 70:
        assert shown(View(jobs=JOBS), rows=2, width=69)[-1] == "1 more: wait"
        assert f"{A.environment}oncpu:[3/9]{STAGE.cases[0]}warm,85sofabout5min" in text


def test_a_terminal_gets_the_table_and_keeps_the_events(tmp_path: Path) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    with TableWatcher(JOBS, console, lambda end: None) as watcher:
        watcher.tick([at_work(A, stage=STAGE)])
        watcher.event(event(Happened.RUNS))
    text = file.getvalue()
    assert "moe_startup[mega_aot=1]" in text
    assert f"{A.environment} on cpu: runs, about 5 min" in text


def test_a_terminal_that_is_gone_at_the_end_does_not_end_in_an_error() -> None:
    class Terminal(io.StringIO):
        gone = False

        def write(self, text: str) -> int:
            if self.gone:
                raise OSError(5, "Input/output error")
            return super().write(text)

    file = Terminal()
    with TableWatcher(JOBS, Console(file=file, force_terminal=True), lambda end: None) as watcher:
        watcher.tick([at_work(A, stage=STAGE)])
        file.gone = True
    assert "moe_startup" in file.getvalue()
