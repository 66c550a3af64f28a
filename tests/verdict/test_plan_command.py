"""`matrix plan` and `matrix grid`: what they print, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from matrix.cli import main
from matrix.record.model import Platform
from matrix.record.reader import read
from matrix.record.writer import write
from matrix.report import plan as report
from matrix.verdict.plan import Wanted
from plans import COMMIT, TESTS, UNKNOWN, planned, record
from programs import program

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for environments in an empty folder, for the checkout may have cells of its own."""
    monkeypatch.setenv("TOX_WORK_DIR", str(tmp_path / "tox"))


def test_a_plan_reads_as_a_table() -> None:
    wanted = Wanted(torch=SpecifierSet("==2.11.*"), platforms=(Platform.CUDA,))
    ran = record(
        "py311-torch211-vllm020", provenance={"torch": "2.11.0", "vllm": "0.20.0", "seconds": 90}
    )
    found = planned(wanted, ran)
    assert report.lines(found) == (
        "environment             platform  minutes  known        why\n"
        "py311-torch211-vllm020  cuda          1.5  as expected  ran on 2026-11-22, not stale\n"
        "py310-torch211-vllm026  cuda            -  links ?      never ran\n"
        "py311-torch211-vllm026  cuda            -  links ?      never ran\n"
        "2 to run; 1 more would run again, though its record holds (--stale leaves it out);"
        " 1 cannot work (--all shows why)\n"
    )
    every = report.lines(found, every=True)
    assert every.splitlines()[1] == (
        "py310-torch211-vllm020  cuda            -  fails at declared"
        "  vLLM 0.20.0 needs Python >=3.11"
    )
    assert every.endswith("; 1 cannot work\n")
    assert report.names(found) == (
        "py311-torch211-vllm020,py310-torch211-vllm026,py311-torch211-vllm026"
    )
    assert report.lines(()).splitlines()[-1] == "nothing to run"
    assert report.names(()) == ""


def test_a_plan_as_json_has_what_cannot_run_too() -> None:
    wanted = Wanted(torch=SpecifierSet("==2.11.*"), platforms=(Platform.CUDA,))
    content = json.loads(report.content(planned(wanted), TESTS.current))
    assert (content["schema"], content["tests_version"]) == (2, 4)
    first, second = content["cells"][:2]
    assert first["tests_changed"] == []
    assert (first["runs"], first["fails"], first["stale"]) == (False, "declared", True)
    assert second["name"] == "py311-torch211-vllm020"
    assert second["unknown"] == ["resolves", "imports", "starts cold", "starts warm", "as expected"]


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(list(arguments))
    said = capsys.readouterr()
    return status, said.out, said.err


NO_RECORD = "matrix: no record in records; `matrix run CELL` makes one\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder without records."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "records").mkdir()
    return tmp_path


def test_the_command_plans_without_a_record(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = command(capsys, "plan", "--vllm", "0.20", "--platform", "cpu")
    assert (status, err) == (0, NO_RECORD)
    assert "py312-torch211-vllm020  cpu" in out
    assert "py312-torch210" not in out
    status, names, _ = command(
        capsys, "plan", "--vllm", "0.20", "--python", "3.12", "--off-pin", "--names"
    )
    assert status == 0
    assert "py312-torch211-vllm020" in names.strip().split(",")
    assert all(name.endswith("-vllm020") for name in names.strip().split(","))
    status, text, _ = command(capsys, "plan", "--vllm", "0.20", "--json", "--platform", "cuda")
    assert {cell["platform"] for cell in json.loads(text)["cells"]} == {"cuda"}


def test_the_command_says_that_nothing_is_to_run(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(capsys, "plan", "--torch", "2.10", "--vllm", "0.28", "--names") == (
        0,
        "",
        f"{NO_RECORD}matrix: nothing to run; --off-pin adds 5 cells\n",
    )
    status, out, _ = command(capsys, "plan", "--torch", "2.10", "--vllm", "0.28")
    assert (status, out.splitlines()[-1]) == (0, "nothing to run; --off-pin adds 5 cells")
    for more in (("--stale",), ("--stale", "--off-pin")):
        status, out, _ = command(capsys, "plan", "--torch", "2.10", "--vllm", "0.28", *more)
        assert ("--off-pin adds 5 cells" in out) is (more == ("--stale",))


def test_the_minutes_are_of_those_to_run() -> None:
    names = "py310-torch211-vllm026", "py311-torch211-vllm026"
    facts = {"torch": "2.11.0", "vllm": "0.26.0", "seconds": 90}
    ran = [
        record(name, provenance=facts, deselected=deselected)
        for name, deselected in zip(names, (False, True), strict=True)
    ]
    wanted = Wanted(vllm=SpecifierSet("==0.26.*"), platforms=(Platform.CUDA,))
    text = report.lines(planned(wanted, *ran)).splitlines()[-1]
    assert text == (
        "1 to run; 2 minutes for the 1 whose minutes are known; 1 more would run again, though its"
        " record holds (--stale leaves it out)"
    )


def test_the_command_reads_the_records_and_tells_bad_ones(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = read(ROOT / "results" / "cuda" / "py312-torch211-vllm026.json")
    tests = {"commit": COMMIT, "fingerprint": "sha256:old"}
    told = replace(told, provenance={**told.provenance, "tests": tests})
    write(told, here / "results" / "cuda" / "py312-torch211-vllm026.json")
    asked = ("plan", "--vllm", "0.26", "--python", "3.12", "--stale", "--platform", "cuda")
    status, out, err = command(capsys, *asked)
    assert (status, err) == (0, "")
    assert out.splitlines()[1].endswith(UNKNOWN)
    (here / "results" / "py312-torch211-vllm020.json").write_text("{")
    status, again, err = command(capsys, *asked)
    assert (status, again) == (2, out)
    assert err.startswith("matrix: results/py312-torch211-vllm020.json: not a record: ")


def test_a_run_that_was_not_stock_is_stale(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("plan", "--vllm", "0.16", "--python", "3.12", "--stale", "--platform", "cuda")
    record = ROOT / "results" / "cuda" / "py312-torch29-vllm016.json"
    status, out, _ = command(capsys, *asked, str(record))
    assert status == 0
    assert "its environment was not stock (without flashinfer-" in out.splitlines()[1]


def test_the_grid_is_told_on_a_terminal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("grid", "--vllm", "0.20", "--torch", ">=2.10,<2.12", "--platform", "cuda")
    status, out, err = command(capsys, *asked)
    assert (status, err) == (0, NO_RECORD)
    assert out.splitlines()[1].split() == ["vLLM", "pins", "2.11.0", "2.10.0"]
    row = out.splitlines()[2]
    assert row.split() == ["0.20.2", "2.11.0", "links", "[1]", "*", "no", "links", "[2]"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plan", "--torch", "x"), "--torch 'x': is neither a release nor a specifier"),
        (
            ("plan", "--new", "2.15.0"),
            "--new '2.15.0': is not a release; write it as torch==2.15.0",
        ),
        (("plan", "--new", "torch==9.9.0"), "torch==9.9.0: no environment runs it; the nearest"),
        (("plan", "nowhere"), "nowhere: does not exist"),
        (("grid", "--vllm", "9.9"), "--vllm 9.9: no known release matches (the nearest: "),
    ],
)
def test_bad_input_is_told_in_a_line(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    status, out, err = command(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.removeprefix(NO_RECORD).startswith(f"matrix: {said}")


def test_the_command_says_that_it_found_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = command(capsys, "plan", "--vllm", "0.20", "--platform", "cpu")
    assert status == 0
    assert err.startswith("matrix: no folder results or records here, so no record is read")


@pytest.fixture
def held(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a record that stands, of a run today, and the plan of that cell with `--stale`."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    made = read(ROOT / "results" / "cuda" / "py312-torch211-vllm026.json")
    now = f"{datetime.now(timezone.utc) - timedelta(days=3, hours=1):%Y-%m-%dT%H:%M:%SZ}"
    write(
        replace(made, provenance={**made.provenance, "started": now}),
        here / f"records/{made.cell}.json",
    )
    return here


HELD = ("plan", "--vllm", "0.26", "--python", "3.12", "--platform", "cuda", "--stale")


def test_where_nothing_is_stale_a_line_says_how_many_records_hold(
    held: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holds = "nothing to run: 1 record holds (not known, so not compared: "
    status, out, err = command(capsys, *HELD)
    assert (status, err) == (0, "")
    assert out.startswith(holds)
    assert out.endswith("machine of 1, gpu of 1, driver of 1)\n")
    assert len(out.splitlines()) == 1
    status, out, err = command(capsys, *HELD, "--names")
    assert (status, out) == (0, "")
    assert err.startswith(f"matrix: {holds}")
    status, out, err = command(capsys, *HELD, "--json")
    assert (status, json.loads(out)["cells"]) == (0, [])


def test_a_record_that_holds_runs_again_by_force_or_for_its_age(
    held: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def why(*more: str) -> str:
        status, out, _ = command(capsys, *HELD, *more)
        assert status == 0
        return out.splitlines()[-2] if "1 to run" in out else out

    assert ", asked for by --force" in why("--force")
    assert why("--max-age", "2").endswith("ran 3 days ago, and a record may be 2 days old")
    assert why("--max-age", "4").startswith("nothing to run: 1 record holds")


@pytest.mark.parametrize("days", ["0", "-1", "x", "1.5", "", "1" * 6, "٣"])
def test_a_bad_age_is_refused(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", f"--max-age={days}"]) == 2
    assert f"{days!r} is not a number of days from 1 up" in capsys.readouterr().err


def test_the_environment_that_would_run_is_compared(
    held: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = read(next((held / "records").glob("*.json")))
    monkeypatch.setenv("TOX_WORK_DIR", str(held / "work"))
    site = held / "work" / made.cell / "lib" / "python3.12" / "site-packages"
    for name, version in made.packages.items():
        (site / f"{name.replace('-', '_')}-{version}.dist-info").mkdir(parents=True)
    status, out, _ = command(capsys, *HELD)
    assert (status, "packages of" in out) == (0, False)
    (site / f"transformers-{made.packages['transformers']}.dist-info").rename(
        site / "transformers-9.9.dist-info"
    )
    _, out, _ = command(capsys, *HELD)
    assert out.splitlines()[1].endswith(
        f"ran with transformers {made.packages['transformers']} (now 9.9)"
    )
    # A CI service's machines are others.
    _, _, err = command(capsys, *HELD, "--format", "github")
    assert err == "matrix: nothing to run\n"
    _, text, _ = command(capsys, *HELD, "--json")
    [cell] = json.loads(text)["cells"]
    assert cell["because"]["code"] == "other packages"
    assert cell["because"]["operands"]["changes"][0]["name"] == "transformers"
    assert cell["not_compared"] == ["files", "machine", "gpu", "driver"]


@pytest.mark.parametrize("index", [False, True])
def test_a_record_of_this_gpu_holds_beside_a_newer_one_of_another(
    held: Path, index: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [path] = (held / "records").glob("*.json")
    made = read(path)
    gpu = made.provenance["gpu"]
    assert isinstance(gpu, dict)
    now = f"{datetime.now(timezone.utc) - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    newer = {**made.provenance, "started": now, "gpu": {**gpu, "name": "NVIDIA H100 80GB HBM3"}}
    write(replace(made, provenance=newer), path.with_suffix(".newer.json"))
    program(held, "nvidia-smi", 'echo "$GPU, 580.159.04"')
    monkeypatch.setenv("PATH", f"{held}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    if index:
        assert main(["results", "index", "records"]) == 0
        capsys.readouterr()
    for name, held_on in (
        ("NVIDIA H200", made.started[:10]),
        ("NVIDIA H100 80GB HBM3", now[:10]),
        ("NVIDIA A100", None),
    ):
        monkeypatch.setenv("GPU", name)
        status, out, _ = command(capsys, *HELD)
        assert status == 0
        if held_on is None:
            assert "ran on NVIDIA H100 80GB HBM3, now on NVIDIA A100" in out
            continue
        assert out.startswith("nothing to run: 1 record holds")
        _, out, _ = command(capsys, *HELD[:-1])
        assert f"ran on {held_on}, not stale" in out
