"""`matrix attribute` and `matrix bisect`, as a person calls them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from matrix.catalog.cells import Cell
from matrix.catalog.releases_file import load_releases
from matrix.cli import main
from matrix.commands import context
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
)
from matrix.record.reader import read
from matrix.record.writer import write
from matrix.run import rerun
from matrix.run.rerun import Rerun
from matrix.verdict.grid import Grid
from schemas import valid

ROOT = Path(__file__).parents[2]
OVERRIDDEN = Path(__file__).parents[1] / "attribution"
SCHEMA = json.loads((ROOT / "matrix" / "data" / "table.schema.json").read_text(encoding="utf-8"))
BAD = "py311-torch212-vllm020"
FLAG = "VLLM_USE_MEGA_AOT_ARTIFACT"


def ran(
    torch: str,
    vllm: str,
    fails: str | None = None,
    *,
    minute: int = 0,
    python: str = "3.11",
    day: str = "2026-11-22",
) -> Record:
    cell = Cell(python, torch, vllm)
    starts = (
        Start(start=StartKind.COLD, seconds={}, counters={}),
        Start(start=StartKind.WARM, seconds={}, counters={}),
    )[: 2 if fails is None else 1]
    outcome = "passed" if fails is None else "failed"
    case = Case(
        case="a[b=1]", outcome=Outcome(outcome), reason=fails, signature=fails, starts=starts
    )
    provenance = {
        **read(ROOT / "results" / "cpu" / f"{BAD}.json").provenance,
        "started": f"{day}T18:{minute:02}:00Z",
        "python": f"{python}.1",
        "torch": torch,
        "vllm": vllm,
    }
    return Record(
        cell=cell.name,
        platform=Platform.CPU,
        finished=True,
        provenance=provenance,
        rungs=(RungResult(rung=Rung.IMPORTS, ok=True),),
        cases=(case,),
    )


def save(record: Record, folder: str = "results", name: str | None = None) -> None:
    write(record, Path(folder) / record.platform / f"{name or record.cell}.json")


def dead(torch: str, vllm: str) -> Record:
    """Return a run that did not import."""
    reason = "ImportError: x"
    return replace(
        ran(torch, vllm),
        rungs=(RungResult(rung=Rung.IMPORTS, ok=False, reason=reason),),
        cases=(),
        error=RunError(kind=ErrorKind.IMPORTS, reason=reason),
    )


@pytest.fixture(scope="module")
def grid() -> Grid:
    """Return the grid as the cheap rungs have it: made once, for it is the slow part."""
    return context.grid_of([], load_releases())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: Grid) -> Path:
    monkeypatch.setattr(context, "grid_of", lambda *_: grid)
    monkeypatch.chdir(tmp_path)
    save(ran("2.12.1", "0.20.2", "KeyError: None"))
    return tmp_path


def fake_runs(monkeypatch: pytest.MonkeyPatch, *records: Record) -> list[Rerun]:
    """In the place of tox: a run writes the record of its cell, where there is one to write."""
    calls: list[Rerun] = []

    def run_all(runs: Iterable[Rerun], root: Path, *, dry: bool = False) -> list[str]:
        failures = []
        for run in runs:
            calls.append(run)
            found = [item for item in records if item.cell == run.name]
            for record in found:
                save(record, "records")
            failures += [] if found else [f"{run.name} on cpu: tox ended with 2"]
        return failures

    monkeypatch.setattr(rerun, "run_all", run_all)
    return calls


def test_what_is_missing_is_printed_as_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attribute", BAD, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "no neighbour that ran shows more: unknown" in out
    assert out.endswith(
        "tox -e py311-torch211-vllm020 -- --platform cpu -k 'a[b'\n"
        "tox -e py311-torch212-vllm019 -- --platform cpu -k 'a[b'\n"
    )


def test_missing_runs_decide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, other = ran("2.11.0", "0.20.2"), ran("2.12.1", "0.19.1", "KeyError: None")
    calls = fake_runs(monkeypatch, good, other)
    assert main(["attribute", BAD, "results", "--run"]) == 0
    assert [item.name for item in calls] == [good.cell, other.cell]
    out, err = capsys.readouterr()
    assert "unknown" in err and "unknown" not in out
    assert (
        "vLLM 0.20.2 starts warm under torch 2.11.0 and fails to start warm under 2.12.1, and torch"
        " 2.12.1 with vLLM 0.19.1 shows it too: torch, since 2.12"
    ) in out


def test_a_run_that_fails_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_runs(monkeypatch)
    assert main(["attribute", "--all", "--run"]) == 2
    out, err = capsys.readouterr()
    assert "matrix: py311-torch211-vllm020 on cpu: tox ended with 2" in err
    assert "unknown" in out


def test_one_run_that_fails_discards_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_runs(monkeypatch, ran("2.12.1", "0.19.1", "KeyError: None"))
    assert main(["attribute", BAD, "results", "--run"]) == 2
    out, err = capsys.readouterr()
    assert "matrix: py311-torch211-vllm020 on cpu: tox ended with 2" in err
    assert "to know whether it is vLLM: py311-torch212-vllm019" in err
    assert "py311-torch211-vllm020" in out and "py311-torch212-vllm019" not in out


@pytest.mark.parametrize("given", [["results", "more"], ["--case", "a", "results", "more"]])
def test_folders_may_stand_anywhere(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    save(ran("2.11.0", "0.20.2"), "more")
    for arguments in ([BAD, *given], ["--all", *given], [*given, "--all"]):
        assert main(["attribute", *arguments]) == 0
        assert "torch, since 2.12" in capsys.readouterr().out
    assert main(["attribute", BAD, "--case", "a", "--nonsense", "more"]) == 2
    assert "unrecognized arguments: --nonsense more" in capsys.readouterr().err


def test_with_all_an_address_stays_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stands in the place of the cell is no folder of this machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert main(["attribute", "--all", "s3://bucket/records"]) == 2
    err = capsys.readouterr().err
    assert "s3://bucket/records" in err and "does not exist" not in err


def test_where_nothing_is_missing_nothing_is_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = fake_runs(monkeypatch)
    save(ran("2.12.1", "0.20.2"))
    assert main(["attribute", BAD, "--run"]) == 0
    assert calls == []
    out, err = capsys.readouterr()
    assert out.startswith("nothing fails or differs from what is expected; `matrix qualify` ")
    assert "no other run could show more" in err


def test_json_and_filters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attribute", "--all", "results", "--json", "--platform", "cpu"]) == 0
    text = valid("attribute", capsys.readouterr().out)
    assert [item["answer"] for item in text["attributions"]] == ["unknown"]
    assert main(["attribute", "--all", "--json", "--case", "a"]) == 0
    assert len(valid("attribute", capsys.readouterr().out)["attributions"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--all", "--case", "nosuch"], "--case 'nosuch': no record has it; they have a[b=1]\n"),
        (
            [BAD, "--platform", "cuda"],
            (
                "--platform cuda: nothing of what is asked for ran on it; `matrix run"
                f" {BAD} --platform cuda` does\n"
            ),
        ),
    ],
)
def test_what_nobody_ran_is_not_well(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(ran("2.11.0", "0.20.2"))
    assert main(["attribute", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.removeprefix("matrix: ")) == ("", message)


def test_a_partial_run_is_named_with_its_cell(capsys: pytest.CaptureFixture[str]) -> None:
    save(replace(ran("2.12.1", "0.20.2", "KeyError: None"), deselected=8))
    save(ran("2.11.0", "0.20.2", "KeyError: None"))
    assert main(["attribute", "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{BAD} on cpu, 1 of 9 cases" in lines
    assert "py311-torch211-vllm020 on cpu" in lines
    assert main(["attribute", BAD, "--json"]) == 0
    partial = valid("attribute", capsys.readouterr().out)["partial"]
    whole = {"cell": BAD, "platform": "cpu", "part": "1 of 9 cases", "held": 1, "total": 9}
    assert partial == [whole]
    assert main(["attribute", "py311-torch211-vllm020", "--json"]) == 0
    assert valid("attribute", capsys.readouterr().out)["partial"] == []


def test_a_cell_without_an_answer_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(
        replace(
            ran("2.12.1", "0.20.2"),
            cases=(),
            error=RunError(kind=ErrorKind.INTERRUPTED, reason="Ctrl-C"),
        )
    )
    save(ran("2.11.0", "0.20.2"))
    assert main(["attribute", "--all"]) == 0
    assert capsys.readouterr().out == (
        "nothing fails or differs from what is expected in what has an answer"
        "; `matrix qualify` compares two releases, also by counters without an expectation\n"
        f"no answer in 1 cell, where no run came to one: {BAD} on cpu\n"
    )
    assert main(["attribute", "--all", "--json"]) == 0
    text = valid("attribute", capsys.readouterr().out)
    assert text["attributions"] == []
    assert text["unanswered"] == [{"cell": BAD, "platform": "cpu"}]


def test_a_run_in_another_environment_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = RunError(kind=ErrorKind.WRONG_CELL, reason="torch is 2.11.0, not 2.12.1")
    save(replace(ran("2.12.1", "0.20.2"), cases=(), error=wrong, packages={}))
    assert main(["attribute", BAD]) == 0
    silent = f"no answer in 1 cell, where no run came to one: {BAD} on cpu\n"
    assert capsys.readouterr().out.endswith(silent)
    assert main(["attribute", BAD, "--platform", "cpu", "--json"]) == 0
    assert valid("attribute", capsys.readouterr().out)["unanswered"] == [
        {"cell": BAD, "platform": "cpu"}
    ]


def test_a_cell_of_which_somebody_ended_a_case_has_no_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = ran("2.12.1", "0.20.2")
    killed = Case(case="b", outcome=Outcome.INTERRUPTED, reason="killed from outside by SIGKILL")
    save(replace(found, cases=(*found.cases, killed)))
    silent = f"no answer in 1 cell, where no run came to one: {BAD} on cpu\n"
    for case in ((), ("--case", "b")):
        assert main(["attribute", BAD, *case]) == 0
        assert capsys.readouterr().out.endswith(silent)


def test_a_flaky_cell_is_named_though_its_newest_run_passes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(ran("2.12.1", "0.20.2", minute=30), name=f"{BAD}.new")
    assert main(["attribute", "--all"]) == 0
    assert "nothing distinguishes them: flaky" in capsys.readouterr().out
    assert main(["table"]) == 0
    text = json.loads((here / "build" / "table" / "compatibility.json").read_text(encoding="utf-8"))
    assert [item["answer"] for item in text["attributions"]] == ["flaky"]


def test_a_record_from_the_future_takes_no_failure_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    future = ran("2.12.1", "0.20.2", day="2999-01-01")
    tests = {"commit": None, "fingerprint": "sha256:" + "0" * 64}
    save(replace(future, provenance={**future.provenance, "tests": tests}), name=f"{BAD}.new")
    assert main(["attribute", "--all"]) == 0
    out, err = capsys.readouterr()
    assert "ahead of this machine's clock" in err
    assert "no neighbour that ran shows more: unknown" in out and "newer run" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "attribute: name a cell"),
        (["py311-torch213-vllm020"], "py311-torch213-vllm020: never ran"),
        (["nonsense"], "unknown factor 'nonsense'"),
        ([BAD, "nowhere"], "nowhere: does not exist"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attribute", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]


def test_the_table_has_a_section(here: Path) -> None:
    save(ran("2.11.0", "0.20.2"))
    assert main(["table"]) == 0
    text = json.loads((here / "build" / "table" / "compatibility.json").read_text(encoding="utf-8"))
    Draft202012Validator(SCHEMA).validate(text)
    assert [item["answer"] for item in text["attributions"]] == ["torch"]
    page = (here / "build" / "table" / "compatibility.md").read_text(encoding="utf-8")
    assert "## Who changed\n" in page
    assert "torch, since 2.12" in page


def test_a_run_with_the_other_flag_decides(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Published records, and runs of the same two cells with the other value of the flag."""
    shutil.rmtree(here / "results")
    results = [
        str(OVERRIDDEN / "published" / name)
        for name in ("py311-torch211-vllm020.json", "py311-torch212-vllm020.json")
    ]
    arguments = ["--case", "model_startup[deepseek_v3.2]", "--changes", "--json"]
    assert main(["attribute", BAD, *results, *arguments]) == 0
    (found,) = valid("attribute", capsys.readouterr().out)["attributions"]
    assert [(flag["flag"], flag["decides"]) for flag in found["flags"]] == [(FLAG, None)]
    for folder in ("mega-off", "mega-on"):
        more = str(OVERRIDDEN / folder)
        assert main(["attribute", BAD, *results, more, *arguments]) == 0
        (found,) = valid("attribute", capsys.readouterr().out)["attributions"]
        assert found["answer"] == "torch"
        assert [(flag["flag"], flag["decides"]) for flag in found["flags"]] == [(FLAG, True)]


BISECT = ["bisect", "--torch", "2.9.0..2.15.0", "--vllm", "0.20.2", "--platform", "cpu"]


def test_a_bisection_names_what_is_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BISECT, "--case", "a[b=1]"]) == 0
    out = capsys.readouterr().out
    assert "torch 2.12.1  ran      py311-torch212-vllm020" in out
    assert out.endswith("next: tox -e py311-torch215-vllm020 -- --platform cpu -k 'a[b'\n")


def test_a_bisection_takes_a_minor_release_for_its_newest_patch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*BISECT, "--case", "a[b=1]"]) == 0
    exact = capsys.readouterr().out
    minor = ["bisect", "--torch", "2.9..2.15", "--vllm", "0.20", "--platform", "cpu"]
    assert main([*minor, "--case", "a[b=1]"]) == 0
    assert capsys.readouterr().out == exact


def test_a_bisection_goes_past_what_does_not_import(capsys: pytest.CaptureFixture[str]) -> None:
    """And what another Python shows does not stand under this Python's name."""
    save(ran("2.11.0", "0.20.2"))
    save(dead("2.12.1", "0.20.2"))
    save(ran("2.13.0", "0.20.2", "KeyError: None"))
    save(ran("2.10.0", "0.20.2", python="3.12"))
    arguments = ["--torch", "2.10.0..2.13.0", "--case", "a[b=1]"]
    assert main([*BISECT[:1], *BISECT[3:], *arguments]) == 0
    out = capsys.readouterr().out
    why = "skip (its run has no result for this case)"
    assert f"torch 2.12.1  {why}  py311-torch212-vllm020" in out
    assert f"torch 2.10.0  {'not run':{len(why)}}  py311-torch210-vllm020" in out
    assert out.endswith("next: tox -e py311-torch210-vllm020 -- --platform cpu -k 'a[b'\n")


def test_a_bisection_believes_the_newest_run_of_its_case(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(ran("2.11.0", "0.20.2"))
    save(ran("2.13.0", "0.20.2", "KeyError: None"))
    again = replace(ran("2.12.1", "0.20.2", minute=30), deselected=8)
    save(again, name=f"{BAD}.new")
    arguments = ["--torch", "2.11.0..2.13.0", "--case", "a[b=1]"]
    assert main([*BISECT[:1], *BISECT[3:], *arguments]) == 0
    assert "torch 2.13.0 is the first bad one, 2.12.1 the last good" in capsys.readouterr().out


@pytest.mark.parametrize("case", ["nosuch", "a"])
def test_a_bisection_of_no_known_case_is_refused(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*BISECT, "--case", case, "--run"]) == 2
    assert f"--case {case!r}: no record has it; they have a[b=1]" in capsys.readouterr().err


def test_a_bisection_may_begin_with_no_record(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty").mkdir()
    calls = fake_runs(
        monkeypatch, ran("2.12.1", "0.20.2", "KeyError: None"), ran("2.11.0", "0.20.2")
    )
    arguments = ["bisect", *BISECT[3:], "--torch", "2.11.0..2.12.0", "--case", "a[b=1]", "empty"]
    assert main(arguments) == 2
    assert "no record in empty" in capsys.readouterr().err
    assert main([*arguments, "--run"]) == 0
    assert len(calls) == 2
    assert (
        "the first bad torch is newer than 2.11.0 and at most 2.12.1; 2.12.0 has no name here"
        in capsys.readouterr().out
    )


def test_a_bisection_runs_to_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [ran(torch, "0.20.2") for torch in ("2.9.1", "2.10.0", "2.11.0")]
    bad = [ran(torch, "0.20.2", "KeyError: None") for torch in ("2.13.0", "2.15.0")]
    calls = fake_runs(monkeypatch, *good, *bad)
    assert main([*BISECT, "--case", "a[b=1]", "results", "--run"]) == 0
    out = capsys.readouterr().out
    assert out.endswith(
        "the first bad torch is newer than 2.11.0 and at most 2.12.1; 2.12.0 has no name here\n"
    )
    assert len(calls) == len({item.name for item in calls}) <= 5


def test_a_bisection_goes_on_past_a_run_that_fails_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [ran(torch, "0.20.2") for torch in ("2.9.1", "2.10.0")]
    fake_runs(monkeypatch, *good, ran("2.15.0", "0.20.2", "KeyError: None"))
    assert main([*BISECT, "--case", "a[b=1]", "results", "--run"]) == 2
    out, err = capsys.readouterr()
    assert "matrix: py311-torch211-vllm020 on cpu: tox ended with 2" in err
    assert out.endswith(
        "torch 2.11.0 or 2.12.1 is the first bad one, 2.10.0 the last good;"
        " 2.11.0 cannot be judged; 2.12.0 has no name here\n"
    )


def test_a_bisection_whose_runs_all_fail_looks_for_no_record_of_theirs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_runs(monkeypatch)
    assert main([*BISECT, "--case", "a[b=1]", "results", "--run"]) == 2
    err = capsys.readouterr().err
    assert "tox ended with 2" in err and "does not exist" not in err
    assert err.splitlines()[-1].startswith("matrix: bisect: only py311-torch212-vllm020 of ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--torch", "2.11.0", "--vllm", "0.20.2"], "one is a release and the other a range"),
        (["--torch", "2.12.0..x", "--vllm", "0.20.2"], "--torch '2.12.0..x': is neither"),
        (["--torch", "2.11.0..2.12.1", "--vllm", "9.9"], "fewer than two environments"),
    ],
)
def test_a_bad_line_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bisect", *arguments, "--case", "a", "--platform", "cpu"]) == 2
    assert message in capsys.readouterr().err
