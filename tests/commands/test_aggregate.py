import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from command import matrix
from matrix.catalog.releases_file import load_releases
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
from matrix.record.writer import to_json, write
from matrix.verdict.grid import Grid
from page_text import data_of

ROOT = Path(__file__).parents[2]
CELL = "py311-torch210-vllm019"
WRITTEN = [
    "compatibility.md",
    "compatibility.json",
    "compatibility.csv",
    "agreement.md",
    "index.html",
    "changes.atom",
    "badges/torch210-vllm019.svg",
]
SCHEMA = json.loads((ROOT / "matrix" / "data" / "table.schema.json").read_text(encoding="utf-8"))


def aggregate(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return matrix(here, "table", *arguments)


def make(
    cell: str = CELL, platform: str = "cpu", hour: int = 18, reason: str = "stopped"
) -> Record:
    starts = (
        Start(start=StartKind.COLD, seconds={"total": 61.2}, counters={}),
        Start(start=StartKind.WARM, seconds={"total": 20.1}, counters={}),
    )
    return Record(
        cell=cell,
        platform=Platform(platform),
        finished=True,
        provenance={"started": f"2026-11-22T{hour:02}:00:00Z", "torch": "2.10.0", "vllm": "0.19.1"},
        error=RunError(kind=ErrorKind.INTERRUPTED, reason=reason),
        cases=(
            Case(case="a_case_without_rules", outcome=Outcome.PASSED, seconds=81.3, starts=starts),
        ),
    )


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Make a folder with one published record and one newer record of the same cell and another."""
    write(make(), tmp_path / "results" / "cpu" / f"{CELL}.json")
    write(make(hour=19), tmp_path / "records" / "cpu" / f"{CELL}.20261122T190000Z.json")
    write(make(platform="cuda"), tmp_path / "records" / "cuda" / f"{CELL}.20261122T180000Z.json")
    return tmp_path


@pytest.fixture(scope="module")
def empty_grid() -> Grid:
    return context.grid_of([], load_releases())


@pytest.fixture
def known_grid(monkeypatch: pytest.MonkeyPatch, empty_grid: Grid) -> None:
    """Spare tests of files and messages the survey of all releases, the slow part of a table."""
    monkeypatch.setattr(context, "grid_of", lambda *_: empty_grid)


def outputs(here: Path, folder: str = "build/table") -> list[str]:
    return [(here / folder / name).read_text(encoding="utf-8") for name in WRITTEN]


def test_it_makes_both_tables_of_the_default_folders(here: Path) -> None:
    ended = aggregate(here)
    assert (ended.returncode, ended.stderr) == (0, "")
    *written, api, look = ended.stdout.splitlines()
    assert written == [f"build/table/{name}" for name in WRITTEN]
    of_releases = sorted((here / "build" / "table" / "api").glob("*/*.json"))
    assert api == f"build/table/api: {len(of_releases)} files, one a release"
    assert look.startswith("open build/table/index.html in a browser: ")
    output, content, *_ = outputs(here)
    assert "`a_case_without_rules`" in output and "| 61.2 | 20.1 |" in output
    table = json.loads(content)
    Draft202012Validator(SCHEMA).validate(table)
    assert [(item["platform"], item["started"]) for item in table["cells"]] == [
        ("cuda", "2026-11-22T18:00:00Z"),
        ("cpu", "2026-11-22T19:00:00Z"),
    ]
    files = (item for item in (here / "build").rglob("*") if item.is_file())
    names = {str(item.relative_to(here / "build" / "table")) for item in files}
    assert {name for name in names if not name.startswith("api/")} == set(WRITTEN)


@pytest.mark.usefixtures("known_grid")
def test_the_file_of_a_release_that_went_is_deleted_and_no_other(here: Path) -> None:
    assert aggregate(here).returncode == 0
    folder = here / "build" / "table" / "api" / "vllm"
    known = (folder / "0.19.1.json").read_text(encoding="utf-8")
    (folder / "0.0.1.json").write_text(known.replace("0.19.1", "0.0.1"), encoding="utf-8")
    (folder / "mine.json").write_text("{}", encoding="utf-8")
    (folder / "bytes.json").write_bytes(b"\xff")
    ended = aggregate(here)
    assert (
        ended.stdout.splitlines()[-2]
        == "build/table/api/vllm/0.0.1.json: deleted, the release is not known any more"
    )
    assert {"mine.json", "bytes.json", "0.19.1.json"} <= {item.name for item in folder.iterdir()}
    assert not (folder / "0.0.1.json").exists()


def test_the_same_records_give_the_same_bytes(here: Path) -> None:
    assert aggregate(here, "results", "records", "--out", "one").returncode == 0
    assert aggregate(here, "records", "results", "--out", "other").returncode == 0
    shutil.copytree(here / "results", here / "elsewhere" / "deep")
    assert aggregate(here, "elsewhere", "records", "--out", "third").returncode == 0
    assert outputs(here, "one") == outputs(here, "other") == outputs(here, "third")


@pytest.mark.usefixtures("known_grid")
def test_a_single_record_stands_beside_folders(here: Path) -> None:
    record = f"records/cpu/{CELL}.20261122T190000Z.json"
    ended = aggregate(here, record, "records/cuda")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [item["started"] for item in json.loads(outputs(here)[1])["cells"]] == [
        "2026-11-22T18:00:00Z",
        "2026-11-22T19:00:00Z",
    ]


@pytest.mark.usefixtures("known_grid")
def test_one_default_folder_is_enough(here: Path) -> None:
    shutil.rmtree(here / "results")
    ended = aggregate(here)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.usefixtures("known_grid")
def test_bad_records_are_told_and_the_rest_goes_on(here: Path) -> None:
    folder = here / "records" / "cpu"
    whole = to_json(make())
    for name, bad in {
        f"{CELL}.1.json": whole[: len(whole) // 2],
        f"{CELL}.2.json": "hello",
        f"{CELL}.3.json": whole.replace('"schema": 3', '"schema": 7'),
        f"{CELL}.4.json": whole.replace('"platform": "cpu"', '"platform": 3'),
        f"{CELL}.5.json": whole.replace('"torch": "2.10.0"', '"torch": ["2.10.0"]'),
        "py312-torch210-vllm019.json": whole,
        "\x1b[31m.json": "\x00",
    }.items():
        (folder / name).write_text(bad, encoding="utf-8")
    good = aggregate(here, "results", "--out", "good")
    ended = aggregate(here)
    assert (good.returncode, ended.returncode) == (0, 2)
    lines = ended.stderr.splitlines()
    assert len(lines) == 7
    assert all(line.startswith("matrix: records/cpu/") for line in lines)
    assert "\x1b" not in ended.stderr and "Traceback" not in ended.stderr
    for message in (
        "1.json: not a record: truncated at line ",
        "2.json: not a record: not JSON at line 1, column 1",
        "3.json: schema: is 7, newer than this matrix knows (3); update torch-vllm-matrix",
        "4.json: platform: is 3, but must be one of cuda, cpu",
        '5.json: provenance.torch: is ["2.10.0"], but must be a string',
        f"py312-torch210-vllm019.json: cell: is {CELL}, but the file's name says",
    ):
        assert any(message in line for line in lines), message
    assert "2026-11-22T19:00:00Z" in outputs(here)[0]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "no folder results or records here; `matrix run CELL` makes records, or name"),
        (["results", "nowhere"], "results, nowhere: does not exist; name a folder of records"),
    ],
)
def test_a_missing_folder_is_told(tmp_path: Path, arguments: list[str], line: str) -> None:
    ended = aggregate(tmp_path, *arguments)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"matrix: {line}") and ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "build").exists()


def test_the_script_is_the_command_of_a_bare_checkout(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "aggregate.py"
    ended = subprocess.run(
        [sys.executable, "-I", str(script), "nowhere"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    known = aggregate(tmp_path, "nowhere")
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", known.stderr)


@pytest.mark.usefixtures("known_grid")
def test_a_missing_folder_beside_a_good_one_is_told(here: Path) -> None:
    ended = aggregate(here, "results", "nowhere")
    assert ended.returncode == 2
    assert (
        ended.stderr == "matrix: nowhere: does not exist; name a folder of records, or a record\n"
    )
    assert outputs(here)


@pytest.mark.usefixtures("known_grid")
def test_a_reason_of_megabytes_is_cut_where_it_is_read(here: Path) -> None:
    error = RunError(kind=ErrorKind.IMPORTS, reason="x" * 4_000_000)
    failed = Case(case="a", outcome=Outcome.FAILED, reason="y" * 4_000_000, signature="z" * 10**6)
    rung = RungResult(rung=Rung.IMPORTS, ok=False, reason="v" * 4_000_000)
    record = replace(make(), error=error, cases=(failed,), rungs=(rung,))
    write(record, here / "long" / f"{CELL}.json")
    ended = aggregate(here, "long", "--out", "out")
    assert (ended.returncode, ended.stderr) == (0, "")
    texts = [path.read_text() for path in (here / "out").rglob("*") if path.is_file()]
    texts.append(matrix(here, "show", f"long/{CELL}.json", "--counters").stdout)
    assert any("x" * 200 in text for text in texts)
    for mark in "vxyz":
        assert not any(mark * 2001 in text for text in texts)


def test_an_old_table_is_kept_where_there_is_nothing_to_tell(here: Path) -> None:
    assert aggregate(here).returncode == 0
    old = outputs(here)
    (here / "empty").mkdir()
    assert aggregate(here, "empty").returncode == 2
    assert outputs(here) == old


@pytest.mark.usefixtures("known_grid")
def test_an_out_that_is_a_file_is_told(here: Path) -> None:
    (here / "build").write_text("a file")
    ended = aggregate(here)
    assert ended.returncode == 2
    assert ended.stderr.startswith(
        "matrix: --out build/table: cannot be written: Not a directory; "
    )
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.usefixtures("known_grid")
def test_hostile_text_is_shown_as_text(here: Path) -> None:
    message = "<script>alert('x')</script> | `x` \x1b[31m\n# heading \ud800"
    write(make(hour=20, reason=message), here / "results" / "cpu" / f"{CELL}.json")
    ended = aggregate(here)
    assert (ended.returncode, ended.stderr) == (0, "")
    output, _, _, _, page, *_ = outputs(here)
    assert "<script>alert" not in page
    assert "<script>alert('x')" in json.dumps(data_of(page))
    assert "&lt;script&gt;alert('x')&lt;/script&gt; &#124; &#96;x&#96; \\# heading" in output


def test_a_bad_expectation_is_told(here: Path) -> None:
    (here / "rules.toml").write_text("[[rule]]\nid = 3\n")
    ended = aggregate(here, "--expectations", "rules.toml")
    assert ended.returncode == 2
    assert ended.stderr.startswith("matrix: rules.toml: rule")
    assert len(ended.stderr.splitlines()) == 1
