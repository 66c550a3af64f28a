"""A folder of records by its commands: the same with an index, with archives and without."""

import contextlib
import io
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from histories import (
    CELLS,
    LATE,
    RAY,
    fill,
    idle,
    indexed,
    make,
    nights,
    pack_all,
    passed,
    quick,
    silent,
    some_records,
    told,
)
from matrix import cli
from matrix.record.model import Departure, ErrorKind, Platform, Record, RunError, Why
from matrix.record.reader import read_many
from matrix.record.writer import to_json, write
from matrix.rules.notes import Note
from matrix.store import database as rows
from matrix.store.layout import INDEX, PACK
from matrix.store.listing import RecordFilter, find
from matrix.store.load import newest_records, times_of
from matrix.store.query import History
from matrix.store.summary import HistoryError, times
from matrix.verdict.judge import judge
from matrix.verdict.precedence import JudgedRecord, pick_record
from matrix.verdict.states import VERDICTS
from rules import ANY_CASE, SAVED, cold_and_warm
from schemas import valid


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
@given(
    st.lists(some_records, max_size=9),
    st.fixed_dictionaries(
        {},
        optional={
            "cell": st.sampled_from(("py311-*", "*torch29*", CELLS[0], "*[*")),
            "torch": st.sampled_from(("2.10", ">=2.10", "2.9.1", "<2")),
            "vllm": st.sampled_from(("0.19.1", "<0.17")),
            "python": st.sampled_from(("3.11", "3.12")),
            "platform": st.sampled_from(Platform),
            "verdict": st.sampled_from(VERDICTS),
            "since": st.sampled_from(("2026-11-02", "2026-11-03T18:00:00Z")),
            "until": st.sampled_from(("2026-11-02", "2026-11-03T18:00:00Z")),
            "case": st.sampled_from(("moe_startup[mega*", "b", "?", "'; DROP TABLE rows; --")),
        },
    ),
)
def test_a_list_is_what_a_naive_filter_finds(
    tmp_path: Path, records: list[Record], asked: dict[str, Any]
) -> None:
    folder = fill(tmp_path, records)
    with History([folder], silent, index=True) as history:
        found = find(history, RecordFilter(**asked), ANY_CASE, {})
    wanted = {to_json(record) for record in records if naive(record, asked)}
    shown = [Path(run.paths[0]).read_text(encoding="utf-8") for run in found]
    assert sorted(shown) == sorted(wanted)
    assert [run.started for run in found] == sorted((e.started for e in found), reverse=True)
    assert all(e.verdict == judge(json_record(e.paths[0]), ANY_CASE).verdict for e in found)


_OLDER_PART = make(started="2026-11-01T18:00:00Z", deselected=3, departures=())
_NOT_STOCK = make(started="2026-11-02T18:00:00Z", departures=(RAY,))


# A complete record that is not stock stands against no stock one, and counts without any.
@quick
@example([_OLDER_PART, _NOT_STOCK], None)
@example([_NOT_STOCK, replace(_OLDER_PART, cases=())], None)
@given(
    st.lists(some_records, max_size=12).flatmap(st.permutations),
    st.sampled_from((LATE, "2026-11-02T00:00:00Z", None)),
)
def test_what_duckdb_leaves_out_never_counts(
    tmp_path: Path, records: list[Record], late: str | None
) -> None:
    folder = fill(tmp_path, records)
    every, _ = read_many([folder])
    with History([folder], silent, index=False) as history:
        shown = history.shown(late)
        found = by_cell(history.newest(late).records)
    wanted = picked(by_cell(every), late)
    assert {run.content for run in wanted.values()} <= shown
    assert picked(found, late) == wanted


Runs = Sequence[tuple[Path, Record]]


def by_cell(records: Runs) -> Mapping[tuple[str, str], Runs]:
    cells: dict[tuple[str, str], list[tuple[Path, Record]]] = {}
    for path, record in records:
        cells.setdefault((record.cell, record.platform), []).append((path, record))
    return cells


def picked(
    cells: Mapping[tuple[str, str], Runs], late: str | None
) -> Mapping[object, JudgedRecord]:
    return {key: pick_record(runs, ANY_CASE, late) for key, runs in cells.items()}


def naive(record: Record, asked: dict[str, str]) -> bool:
    for key, value in asked.items():
        if key in ("torch", "vllm", "python"):
            version = Version(Version(str(record.provenance[key])).public)
            spec = value if value[0] in "<>" else f"=={value}{'.*' if value.count('.') < 2 else ''}"
            held = SpecifierSet(spec).contains(version)
        elif key == "platform":
            held = record.platform == value
        elif key == "verdict":
            held = judge(record, ANY_CASE).verdict == value
        elif key == "since":
            held = record.started >= value
        elif key == "until":
            held = record.started[: len(value)] <= value
        else:
            names = [record.cell] if key == "cell" else [case.case for case in record.cases]
            held = any(fnmatchcase(name, value.replace("[", "[[]")) for name in names)
        if not held:
            return False
    return True


def json_record(path: str) -> Record:
    return read_many([Path(path)])[0][0][1]


@quick
@given(st.lists(some_records, max_size=9), st.sampled_from((LATE, "2026-10-01T00:00:00Z", None)))
def test_times_are_those_of_the_records(
    tmp_path: Path, records: list[Record], late: str | None
) -> None:
    with History([fill(tmp_path, records)], silent) as history:
        wanted = times(records, late)
        assert history.times(late) == wanted
        newest = {key: seconds[-2:] for key, seconds in wanted.series.items()}
        assert history.times(late, most=2).series == newest


def test_the_same_record_twice_counts_once(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make()])
    again = folder / "again" / f"{CELLS[0]}.json"
    again.parent.mkdir()
    # Another layout of the same content.
    again.write_text(json.dumps(json.loads(to_json(make()))), encoding="utf-8")
    with History([folder], silent) as history:
        (listed,) = find(history, RecordFilter(), ANY_CASE, {})
        assert len(listed.paths) == 2
        assert all(len(seconds) == 1 for seconds in history.times().series.values())


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
    monkeypatch.setattr(rows, "duckdb", lambda: None)
    (folder / INDEX).touch()
    assert len(newest_records([folder], LATE, silent).records) == 1
    with pytest.raises(HistoryError, match=r"pip install 'torch-vllm-matrix\[history,table\]'"):
        newest_records([packed], LATE, silent)


def test_what_duckdb_fails_at_is_one_line(tmp_path: Path) -> None:
    history = History([fill(tmp_path, [make()])], silent)
    with pytest.raises(HistoryError, match="cannot be searched") as caught, history:
        history.rows.execute("SELECT *\nFROM nowhere")
    assert "\n" not in str(caught.value)


def matrix(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `matrix results` in that folder, in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = Path.cwd()
    os.chdir(here)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.main(["results", *arguments])
    finally:
        os.chdir(before)
    command = ["matrix", "results", *arguments]
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())


def test_the_commands(tmp_path: Path) -> None:
    for day in (1, 2, 3, 4):
        record = make(started=f"2026-10-0{day}T18:00:00Z", total=60.0 + day)
        write(record, tmp_path / "records" / "cpu" / f"{CELLS[0]}.{day}.json")
    write(make(saved=3, total=99.0), tmp_path / "records" / "cpu" / f"{CELLS[0]}.9.json")
    old, new = (f"records/cpu/{CELLS[0]}.{day}.json" for day in (4, 9))

    ended = matrix(tmp_path, "list", "--since", "2026-10-04", "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [row["paths"] for row in valid("results_list", ended.stdout)] == [[new], [old]]
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
    inside = [f"records/{date}{PACK}/cpu/{CELLS[0]}." for date in ("2026-10-04", "2026-10-22")]
    assert "0  ->  3" in matrix(tmp_path, "diff", f"{inside[0]}4.json", f"{inside[1]}9.json").stdout
    ended = matrix(tmp_path, "prune", "--keep", "2", "--yes")
    assert "deleted 3 records (3 files); 2 stay" in ended.stdout
    assert len(valid("results_list", matrix(tmp_path, "list", "--json").stdout)) == 2
    for arguments in (("prune",), ("prune", "--keep", "0"), ("pack", "nowhere"), ("list", "no")):
        ended = matrix(tmp_path, *arguments)
        assert ended.returncode == 2 and "Traceback" not in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


def test_evidence_is_neither_pruned_nor_packed(tmp_path: Path) -> None:
    """As it lies in the project, through a link, and through `..`."""
    results, aside = tmp_path / "results" / "cpu", tmp_path / "results" / "cuda"
    for day in (1, 2, 3, 4):
        name = f"{CELLS[0]}.json" if day == 1 else f"{CELLS[0]}.{day}.json"
        write(make(started=f"2026-10-0{day}T18:00:00Z"), results / name)
    aside.mkdir()
    (tmp_path / "link").symlink_to(results)
    for place, folder in ((aside, "../cpu"), (tmp_path, "link")):
        told = matrix(place, "prune", folder, "--keep", "1").stdout
        assert "2 records (2 files) would be deleted, 2 stay" in told
    for place, folder in ((aside, "../cpu"), (tmp_path, "link")):
        assert "3 record files are packed" in matrix(place, "pack", folder).stdout


def test_one_packed_file_is_one(tmp_path: Path) -> None:
    write(make(), tmp_path / "records" / "cpu" / f"{CELLS[0]}.json")
    told = matrix(tmp_path, "pack", "records", "--all").stdout
    assert "1 record file is packed; --yes deletes it" in told
    told = matrix(tmp_path, "pack", "records", "--all", "--yes").stdout
    assert "1 record file packed and deleted" in told


def test_evidence_of_a_note_is_neither_pruned_nor_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"results/cuda/{CELLS[1]}.{day}.json" for day in (1, 2, 3)]
    for day, name in enumerate(names, 1):
        write(make(CELLS[1], started=f"2026-10-0{day}T18:00:00Z"), tmp_path / name)
    note = Note(id="a", text="b", evidence=(names[0],))
    monkeypatch.setattr("matrix.rules.notes.load_notes", lambda: (note,))
    assert cli.main(["results", "prune", "results", "--keep", "1"]) == 0
    assert "1 record (1 file) would be deleted, 2 stay" in capsys.readouterr().out
    assert cli.main(["results", "pack", "results"]) == 0
    assert "2 record files are packed" in capsys.readouterr().out


def test_a_record_of_odd_numbers_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    records = tmp_path / "records"
    write(make(), records / f"{CELLS[0]}.json")
    plain = make().provenance
    odds: list[dict[str, object]] = [{"seconds": 10**400}, {"jobs": 10**30}, {"seconds": 1e300}]
    for number, odd in enumerate(odds):
        write(make(provenance={**plain, **odd}), records / f"{CELLS[0]}.{number}.json")
    write(make(selected=10**30), records / f"{CELLS[0]}.8.json")
    write(make(deselected=10**30), records / f"{CELLS[0]}.9.json")
    for arguments in (("list",), ("export", "--parquet", "out"), ("index",)):
        ended = matrix(tmp_path, *arguments)
        assert ended.returncode == 2
        lines = ended.stderr.splitlines()
        assert [line.split(": ")[1] for line in lines] == [
            f"records/{CELLS[0]}.{number}.json" for number in (0, 1, 2, 8, 9)
        ]
    assert "1 records indexed" in ended.stdout
    shown = matrix(tmp_path, "show", f"records/{CELLS[0]}.0.json")
    assert shown.returncode == 2 and "provenance.seconds: is 1000" in shown.stderr


def test_a_list_counts_the_cases_that_apply(tmp_path: Path) -> None:
    record = make(cases=(passed, idle))
    write(record, tmp_path / "records" / f"{CELLS[0]}.json")
    assert " 1/1 " in matrix(tmp_path, "list").stdout
    (listed,) = valid("results_list", matrix(tmp_path, "list", "--json").stdout)
    assert [listed[key] for key in ("cases", "passed", "not_applicable")] == [2, 1, 1]


@pytest.mark.parametrize("index", [False, True])
def test_a_list_says_how_many_of_the_cases_a_partial_run_has(tmp_path: Path, index: bool) -> None:
    ended = RunError(kind=ErrorKind.INTERRUPTED, reason="Ctrl-C")
    most = 2**63 - 1
    for number, record in enumerate(
        (
            make(cases=(passed,), selected=2, deselected=7),
            make(cases=(passed, idle)),
            make(cases=(passed,), selected=9, error=ended),
            make(cases=(passed,), selected=most, deselected=most),
        )
    ):
        write(record, tmp_path / "records" / f"{CELLS[0]}.{number}.json")
    if index:
        assert matrix(tmp_path, "index").returncode == 0
    shown = matrix(tmp_path, "list").stdout.splitlines()
    of = {line.split(f"{CELLS[0]}.")[1][0]: line for line in shown if ".json" in line}
    assert "  drift, 1 of 9 cases  " in of["0"]
    assert " of " not in of["1"] + of["2"]
    assert f"  drift, 1 of {most} cases  " in of["3"]
    assert "ended early" in of["2"] and "ended early" not in of["0"] + of["1"]
    listed = valid("results_list", matrix(tmp_path, "list", "--json").stdout)
    assert {row["paths"][0][-6]: (row["cases"], row["total_cases"]) for row in listed} == {
        "0": (1, 9),
        "1": (2, 2),
        "2": (1, 9),
        "3": (1, most),
    }


def test_a_list_tells_what_was_not_stock(tmp_path: Path) -> None:
    ray = Departure(name="ray", required="ray>=2", installed=None, why=Why.MISSING)
    for number, departures in enumerate(((ray,), (), None)):
        name = f"{CELLS[0]}.{number}.json"
        write(make(cases=(passed,), departures=departures), tmp_path / "records" / name)
    lines = [line for line in matrix(tmp_path, "list").stdout.splitlines() if "not stock" in line]
    assert len(lines) == 1 and ".0.json" in lines[0]
    listed = valid("results_list", matrix(tmp_path, "list", "--json").stdout)
    assert {row["paths"][0][-6]: row["stock"] for row in listed} == {
        "0": False,
        "1": True,
        "2": None,
    }


@pytest.mark.parametrize(
    ("graphs", "mark"),
    [(3, "provisional: as vLLM 0.18"), (2, "provisional: differs from vLLM 0.18")],
)
def test_a_list_marks_a_provisional_verdict(tmp_path: Path, graphs: int, mark: str) -> None:
    rules = cold_and_warm('vllm = "<0.19"', {SAVED: graphs}, {SAVED: 0})
    (tmp_path / "rules.toml").write_text(rules, encoding="utf-8")
    for cell, departures in zip(CELLS, ((RAY,), ()), strict=True):
        write(make(cell, departures=departures), tmp_path / "records" / f"{cell}.json")
    judged = ("list", "--expectations", "rules.toml")
    (row,) = [line for line in matrix(tmp_path, *judged).stdout.splitlines() if CELLS[0] in line]
    assert f" untested, {mark}, not stock " in row
    assert matrix(tmp_path, *judged).stdout.count("provisional") == 1
    asked = matrix(tmp_path, *judged, "--json", "--verdict", "untested").stdout
    (listed,) = valid("results_list", asked)
    assert listed["provisional"]["releases"] == ["vLLM 0.18"]
    assert [found["counter"] for found in listed["provisional"]["differences"]] == (
        [] if graphs == 3 else [SAVED]
    )
    every = valid("results_list", matrix(tmp_path, *judged, "--json").stdout)
    assert [row["provisional"] is None for row in every if row["cell"] == CELLS[1]] == [True]


def test_a_list_tells_of_the_future(tmp_path: Path) -> None:
    write(make(), tmp_path / "records" / f"{CELLS[0]}.json")
    write(make(started="2999-01-01T00:00:00Z"), tmp_path / "records" / f"{CELLS[0]}.1.json")
    ended = matrix(tmp_path, "list")
    assert ended.returncode == 0 and "2 records" in ended.stdout
    (line,) = ended.stderr.splitlines()
    assert "1.json: started at 2999-01-01T00:00:00Z, ahead of this machine's clock" in line


def test_a_packed_record_is_shown_like_a_file(tmp_path: Path) -> None:
    write(make(), tmp_path / "records" / "cpu" / f"{CELLS[0]}.json")
    plain = matrix(tmp_path, "show", f"records/cpu/{CELLS[0]}.json").stdout
    pack_all(tmp_path / "records")
    archive = f"records/2026-10-22{PACK}"
    (listed,) = valid("results_list", matrix(tmp_path, "list", "--json").stdout)
    (name,) = listed["paths"]
    assert name == f"{archive}/cpu/{CELLS[0]}.json"
    ended = matrix(tmp_path, "show", name)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == plain.replace(f"records/cpu/{CELLS[0]}.json", name)
    for wrong, message in (
        (f"{archive}/cpu/none.json", "is not in the archive; `matrix results list`"),
        (f"records/2026-10-23{PACK}/x.json", "does not exist; name"),
    ):
        ended = matrix(tmp_path, "show", wrong)
        assert ended.returncode == 2 and message in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("installed", [True, False])
def test_a_diff_needs_no_duckdb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    night = [*nights(3), make(CELLS[1]), make(platform="cuda"), make(started=LATE, total=9.0)]
    folder = fill(tmp_path, night)
    if not installed:
        monkeypatch.setattr(rows, "duckdb", lambda: None)
    found = times_of((CELLS[0], "cpu"), [folder], "2026-11-10T00:00:00Z", silent)
    assert found == times(nights(3))


def test_overlapping_places_count_once(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make(), make(platform="cuda")])
    places = [folder / "cpu", folder, folder / "cuda" / f"{CELLS[0]}.1.json", tmp_path / "nowhere"]
    (folder / "cpu" / "link.json").symlink_to(folder / "cpu" / f"{CELLS[0]}.0.json")
    every, errors = read_many(places)
    with History(places, silent) as history:
        found = history.newest(None)
    assert sorted(str(path) for path, _ in found.records) == sorted(str(p) for p, _ in every)
    assert sorted(map(str, found.errors)) == sorted(map(str, errors))


def test_what_may_not_be_read_is_told_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, [make()])
    (folder / f"{CELLS[0]}.bad.json").unlink()
    closed, below, inside = tmp_path / "closed", folder / "below", tmp_path / "closed" / "x.json"
    for place in (closed, below):
        place.mkdir()

    def refuse(name: str, *closed: Path) -> None:
        does = getattr(os, name)

        def asked(path: Any, *given: Any, **more: Any) -> Any:
            if str(path) in map(str, closed):
                raise PermissionError(13, "Permission denied", str(path))
            return does(path, *given, **more)

        monkeypatch.setattr(os, name, asked)

    refuse("scandir", closed, below)
    refuse("stat", closed / INDEX, inside)
    with History([folder, closed, inside], silent) as history:
        assert history.count() == 1
    assert [str(error) for error in history.rows.errors] == [
        f"{place}: cannot be read: Permission denied" for place in (below, closed, inside)
    ]
