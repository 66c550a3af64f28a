"""`matrix run` of several cells, with a program in the place of tox."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capacity import has_room_for
from command import matrix
from fake_tox import TORCH29, TORCH210, FakeTox
from matrix._util import console
from matrix.commands import run_selection, run_sites
from matrix.record.reader import read
from matrix.record.running import marked_running
from matrix.record.writer import write
from matrix.run.local_engine import LocalEngine
from waiting import alive

pytestmark = pytest.mark.programs

ROOM = ("--cores", "2", "--memory", "16000")
LOST = {"what": "lost", "at": 1.0}


def run(fake: FakeTox, *arguments: str) -> subprocess.CompletedProcess[str]:
    return matrix(fake.here, "run", "--platform", "cpu", *ROOM, *arguments)


def journal(fake: FakeTox) -> list[dict[str, Any]]:
    (path,) = (fake.here / "records/runs").glob("*/journal.jsonl")
    return list(map(json.loads, path.read_text().splitlines()))


def records(fake: FakeTox) -> list[str]:
    return sorted(path.name.split(".")[0] for path in (fake.here / "records/cpu").glob("*.json"))


def test_each_cell_gets_an_environment_and_a_record(fake_tox: FakeTox) -> None:
    ended = run(fake_tox, "py311-torch210", TORCH29)
    assert ended.returncode == 0, ended.stderr
    assert records(fake_tox) == [TORCH210, TORCH29]
    assert sorted(fake_tox.shown()) == sorted(
        f"{what} {name}" for what in ("make", "run") for name in (TORCH210, TORCH29)
    )
    for call in fake_tox.calls():
        argv = call["argv"]
        assert argv[argv.index("--") + 1 :] == [
            *("--platform", "cpu", "--records", "records", "--jobs", "1")
        ]
        assert ("--skip-env-install" in argv) is ("--notest" not in argv)
    first, second, totals, where = ended.stdout.splitlines()
    for line in (first, second):
        assert ": compatible (as expected)" in line and ".json" in line
    assert (totals, where) == ("2 compatible", "records  records")
    whats = [event["what"] for event in journal(fake_tox)]
    assert whats[:3] == ["begun", "job", "job"]
    assert sorted(whats[3:]) == sorted(2 * ["builds", "built", "runs", "ended"])
    assert (
        "makes its environment: about 600 MB (uv's cache has the rest), about 20 s" in ended.stderr
    )
    assert f"{TORCH210} on cpu: runs, about 10 min (never ran)" in ended.stderr
    assert "2 of 2 cells done" in ended.stderr.splitlines()[-1]


def lacks(monkeypatch: pytest.MonkeyPatch, *minors: str) -> None:
    why = dict.fromkeys(minors, "dns error")
    monkeypatch.setattr(run_sites, "lacks_python", lambda minor, root: why.get(minor))


def test_a_python_that_cannot_be_had_is_said_once_before_any_cell(
    fake_tox: FakeTox, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks(monkeypatch, "3.11")
    ended = run(fake_tox, TORCH210, TORCH29)
    assert (ended.returncode, ended.stdout, fake_tox.calls()) == (2, "", [])
    assert ended.stderr.splitlines()[-1] == (
        f"matrix: {TORCH210} and {TORCH29}: Python 3.11 is not installed, and uv cannot install it"
        " (dns error); `uv python install 3.11`, or leave out these cells"
    )
    assert not (fake_tox.here / "records/runs").exists()


def test_a_cell_without_its_python_is_not_run_until_the_run_is_resumed(
    fake_tox: FakeTox, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "py312-torch210-vllm019"
    lacks(monkeypatch, "3.12")
    ended = run(fake_tox, TORCH210, other)
    assert ended.returncode == 5
    assert fake_tox.shown() == [f"make {TORCH210}", f"run {TORCH210}"]
    assert f"{other}: Python 3.12 is not installed, and uv cannot install it" in ended.stderr
    not_run, _, totals, _, again = ended.stdout.splitlines()
    why = "its Python is not installed, and uv cannot install it: dns error"
    assert not_run == f"{other} on cpu: not run: {why}"
    assert totals == "1 compatible, 1 not run"
    assert again.startswith("to run the cells without a complete record: matrix run --resume ")
    whats = [event["what"] for event in journal(fake_tox)]
    assert (whats.count("job"), whats.count("ended")) == (2, 2)

    lacks(monkeypatch)  # `uv python install 3.12`
    resumed = matrix(fake_tox.here, *again.rpartition(": matrix ")[2].split())
    assert resumed.returncode == 0, resumed.stderr
    assert fake_tox.shown()[2:] == [f"make {other}", f"run {other}"]
    assert resumed.stdout.splitlines()[2] == "2 compatible"


def test_a_python_is_not_looked_for_where_the_environment_is_there(
    fake_tox: FakeTox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(fake_tox, TORCH210).returncode == 0
    lacks(monkeypatch, "3.11")
    assert run(fake_tox, TORCH210, "--force").returncode == 0


def test_what_is_for_cells_and_for_pytest_is_handed_on(fake_tox: FakeTox) -> None:
    options = ["--model-source", "hub", "--timeout", "60", "--jobs", "2", "--records", "r"]
    options += ["--suite", "full"]
    ended = run(fake_tox, TORCH210, *options, "--", "-k", "small_startup and dense")
    assert ended.returncode == 0, ended.stderr
    argv = fake_tox.calls()[-1]["argv"]
    assert argv[argv.index("--") + 1 :] == [
        *("--platform", "cpu", "--records", "r", "--model-source", "hub", "--timeout", "60"),
        *("--suite", "full", "--jobs", "2", "--", "-k", "small_startup and dense"),
    ]


@pytest.mark.parametrize("jobs", [(), ("--jobs", "auto")])
@pytest.mark.parametrize(("memory", "cases"), [("7000", "1"), ("64000", "2")])
def test_cases_at_once_is_a_number_that_the_schedule_knows(
    fake_tox: FakeTox, jobs: tuple[str, ...], memory: str, cases: str
) -> None:
    if not has_room_for(int(cases)):
        pytest.skip("this machine has too few cores or too little memory")
    ended = run(fake_tox, TORCH210, *jobs, "--cores", "2", "--memory", memory)
    assert ended.returncode == 0, ended.stderr
    argv = fake_tox.calls()[-1]["argv"]
    assert argv[argv.index("--jobs") + 1] == cases


def test_records_may_lie_outside_of_the_checkout(
    fake_tox: FakeTox, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    ended = run(fake_tox, TORCH210, "--records", str(elsewhere))
    assert ended.returncode == 0, ended.stderr
    assert len(list(elsewhere.glob("cpu/*.json"))) == 1
    assert not (fake_tox.here / "records").exists()


@pytest.mark.parametrize(
    ("told", "status", "last"),
    [
        ({"run": "drift"}, 1, "1 compatible, 1 drift or incompatible or with a failed test"),
        ({"run": "no record"}, 5, "1 compatible, 1 not run"),
        ({"build": "fail"}, 5, "1 compatible, 1 not run"),
        ({"build": "resolves"}, 1, "1 compatible, 1 drift or incompatible or with a failed test"),
    ],
)
def test_the_exit_status_is_that_of_the_worst(
    fake_tox: FakeTox, told: dict[str, str], status: int, last: str
) -> None:
    fake_tox.told(vllm019=told)
    ended = run(fake_tox, TORCH210, TORCH29)
    assert ended.returncode == status
    assert last in ended.stdout.splitlines()
    if status == 5:
        why = "tox: the disk is gone" if "run" in told else "error: no wheel of torch"
        (line,) = (line for line in ended.stdout.splitlines() if "not run:" in line)
        assert why in line and "(log: " in line
        log = fake_tox.here / line.rpartition("(log: ")[2].rstrip(")")
        assert log.read_text().strip() == why
        assert "matrix run --resume records/runs/" in ended.stdout


def test_the_password_of_an_index_is_in_nothing_but_the_log(fake_tox: FakeTox) -> None:
    """It is that of a program that prints an address as it was given."""
    text, line = fake_tox.program.read_text(), "error: https://me:hunter2@index.example/simple: 403"
    fake_tox.program.write_text(text.replace("error: no wheel of torch", line))
    fake_tox.told(vllm019={"build": "fail"})
    ended = run(fake_tox, TORCH210)
    assert ended.returncode == 5 and "index.example/simple: 403" in ended.stdout
    assert "hunter2" not in ended.stdout + ended.stderr + json.dumps(journal(fake_tox))


def test_a_cell_whose_record_holds_does_not_run(fake_tox: FakeTox) -> None:
    run(fake_tox, TORCH210)
    before = fake_tox.shown()
    ended = run(fake_tox, TORCH210)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert f"records hold: {TORCH210}" in ended.stderr and "nothing to run" in ended.stderr
    assert fake_tox.shown() == before
    assert run(fake_tox, TORCH210, "--", "-k", "moe").returncode == 0
    assert fake_tox.shown() == [*before, f"run {TORCH210}"]
    assert run(fake_tox, TORCH210, "--force").returncode == 0
    assert fake_tox.shown() == [*before, *2 * [f"run {TORCH210}"]]
    # An environment of before may be another one by now: tox looks.
    assert "--skip-env-install" not in fake_tox.calls()[-1]["argv"]


def test_a_damaged_record_is_named_and_its_cell_runs(fake_tox: FakeTox) -> None:
    """That is what the line of such a record asks for, also where the folder has no other."""
    damaged = fake_tox.here / f"records/cpu/{TORCH210}.20261101T000000Z.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    ended = run(fake_tox, TORCH210)
    assert ended.returncode == 0, ended.stderr
    assert (
        f"{damaged.name}: not a record: " in ended.stderr and "run the cell again" in ended.stderr
    )
    assert len(list(damaged.parent.glob("*.json"))) > 1 and damaged.read_text() == "{"


def test_a_record_that_holds_decides_the_exit_status(fake_tox: FakeTox) -> None:
    """A cell that is named counts; with --stale those are asked for whose records do not hold."""
    fake_tox.told(vllm019={"run": "drift"})
    assert run(fake_tox, TORCH210).returncode == 1
    again = run(fake_tox, TORCH210, TORCH29)
    assert again.returncode == 1
    failed = "1 drift or incompatible or with a failed test"
    assert f"records hold: {TORCH210} ({failed})" in again.stderr
    asked = ["--torch", "2.10", "--vllm", "0.19", "--python", "3.11"]
    assert [run(fake_tox, *asked, *more).returncode for more in ([], ["--stale"])] == [1, 0]
    assert run(fake_tox, *asked, "--stale", TORCH210).returncode == 1
    assert run(fake_tox, TORCH210, "--dry-run").returncode == 0
    assert len(fake_tox.shown()) == 4


def test_a_limit_of_disk_counts_the_environments_that_are_there(fake_tox: FakeTox) -> None:
    """That takes a while where they are many, so a line says so."""
    for name in (TORCH29, "py311-torch213-vllm032"):
        (fake_tox.here / ".tox" / name / "bin").mkdir(parents=True)
    ended = run(fake_tox, TORCH210, "--disk", "700")
    assert ended.returncode == 0, ended.stderr
    assert "looks at the size of 2 environments on the disk" in ended.stderr


def test_a_cell_that_another_process_runs_is_untested(fake_tox: FakeTox) -> None:
    run(fake_tox, TORCH210)
    (path,) = (fake_tox.here / "records/cpu").glob("*.json")
    write(replace(read(path), finished=False), path)
    with marked_running(path):
        ended = run(fake_tox, TORCH210)
    assert (ended.returncode, ended.stdout) == (5, "")
    assert f"run in another process: {TORCH210}" in ended.stderr


def test_a_run_goes_on_where_a_record_of_before_is_gone(
    fake_tox: FakeTox, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tox.told(vllm019={"run": "no record"})
    run(fake_tox, TORCH210, TORCH29)
    (record,) = (fake_tox.here / "records/cpu").glob("*.json")
    fake_tox.told()
    carry_out = LocalEngine.carry_out

    def removes(engine: LocalEngine) -> Any:
        record.unlink()
        return carry_out(engine)

    monkeypatch.setattr(LocalEngine, "carry_out", removes)
    ended = matrix(fake_tox.here, "run", "--resume")
    assert ended.returncode == 5
    assert "1 compatible, 1 not run" in ended.stdout
    assert f"{record.name}: cannot be read: No such file" in ended.stderr


def test_what_another_run_left_of_a_part_of_the_cases_does_not_end_a_job(
    fake_tox: FakeTox,
) -> None:
    fake_tox.told(vllm019={"run": "no record"})
    run(fake_tox, TORCH210)
    fake_tox.told()
    run(fake_tox, TORCH210, "--force")
    (path,) = (fake_tox.here / "records/cpu").glob("*.json")
    write(replace(read(path), deselected=7), path)
    first = min((fake_tox.here / "records/runs").iterdir())
    ended = matrix(fake_tox.here, "run", "--resume", first.name)
    assert "0 of 1 have a record already" in ended.stderr
    assert "1 compatible" in ended.stdout and len(records(fake_tox)) == 2


def test_options_choose_cells_as_they_do_for_plan(
    fake_tox: FakeTox, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["--torch", "2.10", "--vllm", "0.19", "--python", "3.11"]
    ended = run(fake_tox, *asked, "--stale", "--dry-run")
    assert ended.returncode == 0
    head, first, size, total = ended.stdout.splitlines()
    assert head.split() == ["cell", "platform", "environment", "run", "why"]
    assert size == "~600 MB: uv's cache has the rest of that environment"
    assert first.split()[:3] == ["1", TORCH210, "cpu"] and first.endswith("never ran")
    assert total.startswith("1 cell, about ")
    assert fake_tox.calls() == [] and not (fake_tox.here / "records").exists()
    monkeypatch.setenv("COLUMNS", "60")
    fits = run(fake_tox, *asked, "--stale", "--dry-run").stdout
    assert max(map(len, fits.splitlines())) <= 60
    assert sorted(fits.split()) == sorted(ended.stdout.split())
    both = run(fake_tox, *asked, TORCH29)
    assert both.returncode == 0 and records(fake_tox) == [TORCH210, TORCH29]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_run_ends_its_children_and_goes_on(fake_tox: FakeTox, name: str) -> None:
    """The cell at work writes its record; what has no whole one runs when the run is resumed."""
    fake_tox.told(vllm019={"run": "hangs", "signal": name})
    # Under nohup SIGHUP is ignored, and stays so.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    ended = run(fake_tox, TORCH210, TORCH29, "--cores", "1")
    signal.signal(signal.SIGHUP, before)
    assert ended.returncode == 130
    assert not any(alive(call["pid"]) for call in fake_tox.calls())
    assert f"{name}: no further cell begins" in ended.stderr
    assert f"{TORCH210} on cpu: untested" in ended.stdout
    again = ended.stdout.splitlines()[-1].rpartition(": matrix ")[2].split()
    assert again[:2] == ["run", "--resume"]
    fake_tox.told()
    resumed = matrix(fake_tox.here, *again)
    assert resumed.returncode == 0, resumed.stderr
    assert "2 compatible" in resumed.stdout
    assert fake_tox.shown().count(f"run {TORCH29}") == 1
    once_more = matrix(fake_tox.here, "run", "--resume")
    assert once_more.returncode == 0 and "2 of 2 have a record already" in once_more.stderr


def test_ctrl_c_ends_all_cells_at_work_and_says_where_their_records_are(
    fake_tox: FakeTox,
) -> None:
    first = {"run": "hangs", "signal": "SIGINT", "cells": 2}
    fake_tox.told(vllm019=first, vllm016={"run": "hangs"})
    ended = run(fake_tox, TORCH210, TORCH29)
    assert ended.returncode == 130, ended.stderr
    assert not any(alive(call["pid"]) for call in fake_tox.calls())
    lines = ended.stdout.splitlines()
    for name in (TORCH210, TORCH29):
        (path,) = (fake_tox.here / "records/cpu").glob(f"{name}.*.json")
        made = read(path)
        assert made.finished and made.error is not None and "SIGINT" in str(made.error.reason)
        (line,) = (line for line in lines if line.startswith(f"{name} on cpu: untested"))
        assert line.endswith(f"  records/cpu/{path.name}")
    assert lines[-3:-1] == ["2 untested", "records  records"]
    fake_tox.told()
    resumed = matrix(fake_tox.here, *lines[-1].rpartition(": matrix ")[2].split())
    assert resumed.returncode == 0, resumed.stderr
    assert "2 compatible" in resumed.stdout
    assert len(records(fake_tox)) == 4


@pytest.mark.parametrize(("machines", "runs"), [(["a"], True), (["a", "b"], False)])
def test_a_cell_with_which_two_machines_were_lost_stays_set_aside(
    fake_tox: FakeTox, machines: list[str], runs: bool
) -> None:
    """What was lost before an interruption counts, whatever engine goes on."""
    fake_tox.told(vllm019={"run": "hangs", "signal": "SIGINT"})
    assert run(fake_tox, TORCH210).returncode == 130
    (path,) = (fake_tox.here / "records/runs").glob("*/journal.jsonl")
    with path.open("a") as file:
        for machine in machines:
            begins = {"what": "runs", "job": f"{TORCH210}/cpu/1", "machine": machine}
            file.writelines(
                f"{json.dumps(line)}\n" for line in (begins, LOST | {"machine": machine})
            )
    fake_tox.told()
    before = len(fake_tox.calls())
    dry = matrix(fake_tox.here, "run", "--resume", "--dry-run")
    ended = matrix(fake_tox.here, "run", "--resume")
    aside = f"{TORCH210} on cpu: set aside: the machines that ran it were lost (a, b)"
    assert (len(fake_tox.calls()) > before) is runs
    assert ended.returncode == (0 if runs else 5), ended.stderr
    assert (aside in ended.stdout.splitlines()) is not runs
    assert (aside in dry.stdout.splitlines()) is not runs
    assert "to go on with" not in ended.stdout


def test_a_cell_that_was_killed_has_no_whole_record(fake_tox: FakeTox) -> None:
    fake_tox.told(vllm019={"run": "killed"})
    ended = run(fake_tox, TORCH210)
    assert ended.returncode == 5
    assert f"{TORCH210} on cpu: untested" in ended.stdout
    again = ended.stdout.splitlines()[-1].rpartition(": matrix ")[2].split()
    fake_tox.told()
    assert "1 compatible" in matrix(fake_tox.here, *again).stdout


def test_a_run_goes_on_only_where_its_records_can_be_written(fake_tox: FakeTox) -> None:
    fake_tox.told(vllm019={"run": "no record"})
    run(fake_tox, TORCH210)
    before = fake_tox.calls()
    (fake_tox.here / "records/cpu").touch()
    ended = run(fake_tox, "--resume")
    assert (ended.returncode, ended.stdout, fake_tox.calls()) == (2, "", before)
    assert "records/cpu: cannot be written: Not a directory" in ended.stderr


def test_without_tox_ini_the_line_says_what_to_do(tmp_path: Path) -> None:
    ended = matrix(tmp_path, "run", TORCH210)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "no tox.ini there" in line and "add --here" in line


def test_a_run_goes_on_on_its_own_platform(fake_tox: FakeTox) -> None:
    fake_tox.told(vllm019={"run": "no record"})
    run(fake_tox, TORCH210)
    ended = matrix(fake_tox.here, "run", "--resume", "--platform", "cuda")
    assert ended.returncode == 2
    assert "on cpu; leave out --platform cuda" in ended.stderr


@pytest.mark.parametrize(
    "given",
    [
        ["--dry-run"],
        ["--resume"],
        ["--resume", "x"],
        ["--stale"],
        ["--force"],
        ["--new", "torch==2.15.0"],
        ["--python", "3.11"],
        ["--cores", "1"],
        ["--gpus", "0"],
        ["--cell-gpus", "1"],
        ["--engine", "ray"],
        ["--address", "auto"],
    ],
)
@pytest.mark.parametrize("how", [["--here"], ["--bundle", "."]])
def test_what_one_cell_here_does_not_take_is_refused(
    tmp_path: Path, given: list[str], how: list[str]
) -> None:
    ended = matrix(tmp_path, "run", TORCH210, *how, *given)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"runs one cell in this environment; leave out {given[0]}" in ended.stderr


@pytest.mark.parametrize(
    ("slow", "words", "arguments"),
    [
        ("select", "reads the records and plans, ", [TORCH210, "--dry-run"]),
        ("done_records", "reads the records that its cells left, ", ["--resume", "--dry-run"]),
    ],
)
def test_many_records_are_not_read_in_silence(
    fake_tox: FakeTox,
    monkeypatch: pytest.MonkeyPatch,
    slow: str,
    words: str,
    arguments: list[str],
) -> None:
    fake_tox.told(vllm019={"run": "no record"})
    run(fake_tox, TORCH210)
    spoke = threading.Event()
    reads, print_status = getattr(run_selection, slow), console.print_status

    def lasts(*given: Any, **more: Any) -> Any:
        assert spoke.wait(30)
        return reads(*given, **more)

    def prints(line: str) -> None:
        print_status(line)
        if words in line:
            spoke.set()

    monkeypatch.setattr(console, "_EVERY", 0.01)
    monkeypatch.setattr(console, "print_status", prints)
    monkeypatch.setattr(run_selection, slow, lasts)
    ended = run(fake_tox, *arguments)
    assert ended.returncode == 0 and words in ended.stderr


def test_here_takes_one_cell(tmp_path: Path) -> None:
    ended = matrix(tmp_path, "run", "--here")
    assert ended.returncode == 2 and "name the cell" in ended.stderr


def test_a_journal_whose_job_is_of_another_environment_is_refused(fake_tox: FakeTox) -> None:
    """What it resumes would run another cell than it says."""
    fake_tox.told(vllm019={"run": "no record"})
    run(fake_tox, TORCH210)
    (path,) = (fake_tox.here / "records/runs").glob("*/journal.jsonl")
    own = f'"environment": "{TORCH210}"'
    path.write_text(path.read_text().replace(own, f'"environment": "{TORCH29}"'))
    before = fake_tox.calls()
    ended = run(fake_tox, "--resume")
    assert (ended.returncode, ended.stdout, fake_tox.calls()) == (2, "", before)
    (line,) = ended.stderr.splitlines()
    assert "journal.jsonl: job" in line and TORCH29 in line and TORCH210 in line
