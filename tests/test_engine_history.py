import itertools
import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix.engines import archives
from matrix.engines import history as engine
from matrix.engines.history import INDEX, PACK, Asked, History, newest_records
from matrix.expectations import parse_expectations
from matrix.history import HistoryError, times
from matrix.records import Case, Record, RunError, Rung, Start, read_many, to_json, write
from matrix.report import markdown, table_json
from matrix.report.table import tabulate
from matrix.verdicts import VERDICTS, judge

ROOT = Path(__file__).parents[1]
CELLS = ("py311-torch210-vllm019", "py311-torch29-vllm016")
LATE = "2026-11-20T00:00:00Z"
RULES = parse_expectations(
    """
[[rule]]
id = "cold"
start = "cold"
counters = { num_compiled_artifacts_saved = 3 }
evidence = ["results/cpu/py311-torch29-vllm016.json"]

[[rule]]
id = "warm"
start = "warm"
counters = { num_compiled_artifacts_saved = 0 }
evidence = ["a record"]
""",
    "rules.toml",
)


def make(
    cell: str = CELLS[0],
    platform: str = "cpu",
    started: str = "2026-11-02T18:00:00Z",
    total: float = 60.0,
    saved: int = 0,
    **more: Any,
) -> Record:
    starts = (
        Start("cold", {"total": total}, {"num_compiled_artifacts_saved": 3}),
        Start("warm", {"total": 20.0}, {"num_compiled_artifacts_saved": saved}),
    )
    torch, vllm = ("2.10.0+cu128", "0.19.1") if cell == CELLS[0] else ("2.9.1", "0.16.0")
    provenance = {
        "started": started,
        "seconds": 3.0,
        "python": "3.11.7",
        "os": "Linux",
        "machine": "x86_64",
        "cpu": {"model": None, "cores": 2},
        "memory_mib": 1,
        "gpu": None,
        "torch": torch,
        "vllm": vllm,
        "triton": None,
        "cuda": None,
        "tests": {"commit": None, "fingerprint": "sha256:0"},
        "command": [],
        "model_source": "data",
    }
    values: dict[str, Any] = {
        "cell": cell,
        "platform": platform,
        "finished": True,
        "provenance": provenance,
        "cases": (Case("moe_startup[mega_aot=1]", "passed", starts=starts),),
        **more,
    }
    return Record(**values)


passed = make().cases[0]
drifted = make(saved=7).cases[0]
failed = Case(
    "b", "failed", reason="it \ud800 broke\0", signature="\ud800", starts=passed.starts[:1]
)
idle = Case("c", "not_applicable")
some_records = st.builds(
    make,
    cell=st.sampled_from(CELLS),
    platform=st.sampled_from(("cpu", "cuda")),
    started=st.sampled_from([f"2026-11-{day:02}T18:00:00Z" for day in (1, 2, 3, 4, 29, 30)]),
    finished=st.booleans(),
    error=st.sampled_from((None, None, "no_space", "imports", "timed_out", "wrong_cell")).map(
        lambda kind: kind and RunError(kind, "why")
    ),
    rungs=st.sampled_from(((), (), (Rung("imports", False),))),
    cases=st.sampled_from(((passed,), (drifted,), (passed, failed), (failed,), (idle,), ())),
    deselected=st.integers(0, 1),
)
folders = itertools.count()
quick = settings(
    deadline=None,
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def silent(line: str) -> None:
    """Nobody listens."""


def fill(tmp_path: Path, records: list[Record]) -> Path:
    """A new folder with these records, and a bad file among them."""
    folder = tmp_path / f"many[{next(folders)}]*"
    for at, record in enumerate(records):
        path = folder / record.platform / f"{record.cell}.{at}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(record), encoding="utf-8")
    folder.mkdir(exist_ok=True)
    (folder / f"{CELLS[0]}.bad.json").write_text('{"schema": 1,', encoding="utf-8")
    return folder


def told(records: list[tuple[Path, Record]], late: str | None) -> tuple[str, str]:
    table = tabulate(records, RULES, late=late)
    return markdown.render(table), table_json.render(table)


def indexed(
    folder: Path, late: str | None = LATE, **more: Any
) -> tuple[tuple[str, str], list[str]]:
    with History([folder], silent, index=True, **more) as history:
        found = history.newest(late)
    return told(found.records, late), [str(error) for error in found.errors]


@quick
@given(st.lists(some_records, max_size=9), st.sampled_from((LATE, None)))
def test_the_table_is_that_of_all_records(
    tmp_path: Path, records: list[Record], late: str | None
) -> None:
    folder = fill(tmp_path, records)
    every, errors = read_many([folder])
    assert len(every) == len(records)
    plain = told(every, late), [str(error) for error in errors]
    assert indexed(folder, late) == plain  # the index is made
    assert indexed(folder, late) == plain  # and read


@quick
@given(st.lists(some_records, max_size=9), some_records)
def test_an_archive_is_as_good_as_its_files(
    tmp_path: Path, records: list[Record], more: Record
) -> None:
    folder = fill(tmp_path, records)
    plain, errors = indexed(folder)
    with History([folder], silent, index=True) as history:
        packed = archives.pack(folder, history, "9999", (), silent)
    assert len(packed.files) == len(records)
    assert indexed(folder)[0] == plain  # each record is there twice, and counts once
    for path in packed.files:
        path.unlink()
    assert indexed(folder) == (plain, errors)
    # A second night goes into the same archives.
    write(more, folder / f"{more.cell}.more.json")
    wanted = told(
        [*((Path(f"{at}.json"), each) for at, each in enumerate(records)), (Path("9.json"), more)],
        LATE,
    )[1].count('"cell"')
    with History([folder], silent, index=True) as history:
        for path in archives.pack(folder, history, "9999", (), silent).files:
            path.unlink()
        count = history.count()
    with History([folder], silent) as history:
        assert history.count() == count == len(records) + 1
    assert indexed(folder)[0][1].count('"cell"') == wanted


@quick
@given(
    st.lists(some_records, max_size=9),
    st.fixed_dictionaries(
        {},
        optional={
            "cell": st.sampled_from(("py311-*", "*torch29*", CELLS[0], "*[*")),
            "torch": st.sampled_from(("2.10", ">=2.10", "2.9.1", "<2")),
            "vllm": st.sampled_from(("0.19.1", "<0.17")),
            "python": st.sampled_from(("3.11", "3.12")),
            "platform": st.sampled_from(("cpu", "cuda")),
            "verdict": st.sampled_from(VERDICTS),
            "since": st.sampled_from(("2026-11-02", "2026-11-03T18:00:00Z")),
            "until": st.sampled_from(("2026-11-02", "2026-11-03T18:00:00Z")),
            "case": st.sampled_from(("moe_startup[mega*", "b", "?", "'; DROP TABLE rows; --")),
        },
    ),
)
def test_a_list_is_what_a_naive_filter_finds(
    tmp_path: Path, records: list[Record], asked: dict[str, str]
) -> None:
    folder = fill(tmp_path, records)
    with History([folder], silent, index=True) as history:
        found = history.find(Asked(**asked), RULES)
    wanted = {to_json(each) for each in records if naive(each, asked)}
    shown = [Path(each.paths[0]).read_text(encoding="utf-8") for each in found]
    assert sorted(shown) == sorted(wanted)
    assert [each.started for each in found] == sorted((e.started for e in found), reverse=True)
    assert all(e.verdict == judge(json_record(e.paths[0]), RULES).verdict for e in found)


def naive(record: Record, asked: dict[str, str]) -> bool:
    for key, value in asked.items():
        if key in ("torch", "vllm", "python"):
            version = Version(Version(str(record.provenance[key])).public)
            spec = value if value[0] in "<>" else f"=={value}{'.*' if value.count('.') < 2 else ''}"
            held = SpecifierSet(spec).contains(version)
        elif key == "platform":
            held = record.platform == value
        elif key == "verdict":
            held = judge(record, RULES).verdict == value
        elif key == "since":
            held = record.started >= value
        elif key == "until":
            held = record.started[: len(value)] <= value
        else:
            names = [record.cell] if key == "cell" else [each.case for each in record.cases]
            held = any(fnmatchcase(name, value.replace("[", "[[]")) for name in names)
        if not held:
            return False
    return True


def json_record(path: str) -> Record:
    return read_many([Path(path)])[0][0][1]


@quick
@given(st.lists(some_records, max_size=9))
def test_times_are_those_of_the_records(tmp_path: Path, records: list[Record]) -> None:
    with History([fill(tmp_path, records)], silent) as history:
        assert history.times() == times(records)


def test_an_index_follows_its_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make(), make(started="2026-11-03T18:00:00Z", saved=1)])
    before = indexed(folder)
    (folder / "cpu" / f"{CELLS[0]}.1.json").unlink()
    after = indexed(folder)
    assert before[0] != after[0] == told(read_many([folder])[0], LATE)
    write(make(saved=3, started="2026-11-04T18:00:00Z"), folder / "cpu" / f"{CELLS[0]}.0.json")
    assert indexed(folder)[0] == told(read_many([folder])[0], LATE) != after[0]
    (folder / INDEX).write_bytes(b"PAR1 damaged PAR1")
    assert indexed(folder)[0] == told(read_many([folder])[0], LATE)
    (folder / f"{CELLS[0]}.bad.json").unlink()
    assert indexed(folder)[1] == []


def test_an_index_of_other_rules_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, [make()])
    plain = indexed(folder)
    made = (folder / INDEX).read_bytes()
    monkeypatch.setattr(engine, "_stamp", lambda: "another")
    assert indexed(folder) == plain
    assert (folder / INDEX).read_bytes() != made


def test_an_archive_of_other_rules_is_read_and_packed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, [make(), make(CELLS[1], saved=1)])
    plain = indexed(folder)
    pack_all(folder)
    monkeypatch.setattr(engine, "_stamp", lambda: "another")
    said: list[str] = []
    with History([folder], said.append, index=True) as history:
        assert told(history.newest(LATE).records, LATE) == plain[0]
        archives.pack(folder, history, "9999", (), said.append)
    assert "was packed by another release" in said[0]
    with History([folder], said.append) as history:
        assert told(history.newest(LATE).records, LATE) == plain[0]
    assert len(said) == 1


def pack_all(folder: Path) -> None:
    with History([folder], silent, index=True) as history:
        for path in archives.pack(folder, history, "9999", (), silent).files:
            path.unlink()


def test_a_folder_that_nobody_may_write_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, [make()])
    said: list[str] = []

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    with History([folder], said.append, index=True) as history:
        assert history.count() == 1
    assert "cannot be written" in said[0]
    assert not list(folder.glob(".*"))


def test_the_same_record_twice_counts_once(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make()])
    again = folder / "again" / f"{CELLS[0]}.json"
    again.parent.mkdir()
    # Another layout of the same content.
    again.write_text(json.dumps(json.loads(to_json(make()))), encoding="utf-8")
    with History([folder], silent) as history:
        (listed,) = history.find(Asked(), RULES)
        assert len(listed.paths) == 2
        assert all(len(each) == 1 for each in history.times().series.values())


def test_side_by_side_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path, [make(started=f"2026-11-0{day}T18:00:00Z") for day in range(1, 6)])
    alone = indexed(folder)
    (folder / INDEX).unlink()
    monkeypatch.setattr(engine, "_ALONE", 1)
    monkeypatch.setattr(engine, "_CHUNK", 2)
    assert indexed(folder, jobs=2) == alone


def test_overlapping_places_count_once(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make(), make(platform="cuda")])
    places = [folder / "cpu", folder, folder / "cuda" / f"{CELLS[0]}.1.json", tmp_path / "nowhere"]
    (folder / "cpu" / "link.json").symlink_to(folder / "cpu" / f"{CELLS[0]}.0.json")
    every, errors = read_many(places)
    with History(places, silent) as history:
        found = history.newest(None)
    assert sorted(str(path) for path, _ in found.records) == sorted(str(p) for p, _ in every)
    assert sorted(map(str, found.errors)) == sorted(map(str, errors))


def test_a_record_from_the_future_is_told(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make(), make(started="2026-11-30T18:00:00Z")])
    for places in ([folder], [folder / "cpu"]):
        found = newest_records(places, LATE, silent)
        assert [started for _, started in found.late] == ["2026-11-30T18:00:00Z"]
    with History([folder], silent) as history:
        assert history.newest(LATE).late == found.late
        assert history.newest("2026-10-01T00:00:00Z").late == []  # then it is our clock


def test_without_duckdb_few_records_are_read_and_archives_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, [make()])
    packed = fill(tmp_path, [make()])
    pack_all(packed)
    monkeypatch.setattr(engine, "_duckdb", lambda: None)
    (folder / INDEX).touch()
    assert len(newest_records([folder], LATE, silent).records) == 1
    with pytest.raises(HistoryError, match=r"install torch-vllm-matrix\[history,table\]"):
        newest_records([packed], LATE, silent)


def test_a_damaged_archive_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make()])
    (folder / f"2026-01{PACK}").write_bytes(b"PAR1 no")
    duckdb.execute("COPY (SELECT 1 AS a) TO ? (FORMAT parquet)", [str(folder / f"2026-02{PACK}")])
    with History([folder], silent) as history:
        found = history.newest(LATE)
    assert len(found.records) == 1
    lines = [str(error) for error in found.errors]
    assert sum("no archive of records, or a damaged one" in line for line in lines) == 2
    assert all("\n" not in line for line in lines)


def test_what_duckdb_fails_at_is_one_line(tmp_path: Path) -> None:
    history = History([fill(tmp_path, [make()])], silent)
    with pytest.raises(HistoryError, match="cannot be searched") as caught, history:
        history._db.execute("SELECT *\nFROM nowhere")
    assert "\n" not in str(caught.value)


def test_an_archive_that_lies_is_told(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make()])
    pack_all(folder)
    (archive,) = folder.glob(f"*{PACK}")
    other = tmp_path / f"x{PACK}"
    duckdb.execute(
        f"COPY (SELECT * REPLACE ('{CELLS[1]}' AS cell) FROM read_parquet(?)) TO ?"
        " (FORMAT parquet)",
        [engine._literal(str(archive)), str(other)],
    )
    with History([other], silent) as history:
        found = history.newest(LATE)
    assert not found.records
    assert "says another cell or time than its summary does" in str(found.errors[0])


@quick
@given(st.lists(some_records, max_size=9), st.booleans(), st.integers(1, 2))
def test_pruning_changes_no_table(
    tmp_path: Path, records: list[Record], packed: bool, keep: int
) -> None:
    from matrix.pruning import Policy, Stored, prunable

    folder = fill(tmp_path, records)
    if packed:
        pack_all(folder)
    before = indexed(folder)
    with History([folder], silent) as history:
        shown = history.shown(LATE)
        stored = [(Stored(*row[:6], row[0] in shown), row[6]) for row in history.stored(LATE)]
        gone = {each.key for each in prunable((each for each, _ in stored), Policy(keep))}
        archives.delete(history, [p for each, ps in stored if each.key in gone for p in ps])
    assert indexed(folder) == before
    with History([folder], silent) as history:
        assert len(history.stored(LATE)) == len(stored) - len(gone)


def test_an_export_has_every_start_and_counter(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make(), make(CELLS[1], cases=(passed, failed)), make()])
    pack_all(folder)
    write(make(platform="cuda"), folder / "cuda" / f"{CELLS[0]}.json")
    with History([folder], silent) as history:
        written = archives.export(history, tmp_path / "out")
    counts = {
        path.stem: duckdb.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()
        for path in written
    }
    assert counts == {"records": (3,), "starts": (8,), "counters": (7,)}


def matrix(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "matrix", "results", *arguments],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_the_commands(tmp_path: Path) -> None:
    for day in (1, 2, 3, 4):
        record = make(started=f"2026-10-0{day}T18:00:00Z", total=60.0 + day)
        write(record, tmp_path / "records" / "cpu" / f"{CELLS[0]}.{day}.json")
    write(make(saved=3, total=99.0), tmp_path / "records" / "cpu" / f"{CELLS[0]}.9.json")
    old, new = (f"records/cpu/{CELLS[0]}.{day}.json" for day in (4, 9))

    ended = matrix(tmp_path, "list", "--since", "2026-10-04", "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [each["paths"] for each in json.loads(ended.stdout)] == [[new], [old]]
    assert matrix(tmp_path, "list", "--since", "yesterday").returncode == 2

    ended = matrix(tmp_path, "diff", old, new)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "num_compiled_artifacts_saved  0  ->  3" in ended.stdout
    assert "cold  total  64.0  ->  99.0" in ended.stdout
    assert "warm  total" not in ended.stdout
    assert matrix(tmp_path, "diff", old, old).returncode == 0

    ended = matrix(tmp_path, "prune", "--keep", "2")
    assert ended.returncode == 0 and "3 records (3 files) would be deleted, 2 stay" in ended.stdout
    assert len(list(tmp_path.rglob("*.json"))) == 5

    ended = matrix(tmp_path, "pack", "--all", "--yes")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not list(tmp_path.rglob("*.json"))
    inside = [f"records/{at}{PACK}/cpu/{CELLS[0]}." for at in ("2026-10-04", "2026-11-02")]
    assert "0  ->  3" in matrix(tmp_path, "diff", f"{inside[0]}4.json", f"{inside[1]}9.json").stdout
    ended = matrix(tmp_path, "prune", "--keep", "2", "--yes")
    assert "deleted 3 records (3 files); 2 stay" in ended.stdout
    assert len(json.loads(matrix(tmp_path, "list", "--json").stdout)) == 2
    for arguments in (("prune",), ("prune", "--keep", "0"), ("pack", "nowhere"), ("list", "no")):
        ended = matrix(tmp_path, *arguments)
        assert ended.returncode == 2 and "Traceback" not in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
