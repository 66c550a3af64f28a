"""What is left out of many records changes nothing that is reported of a release."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import RELEASES, Told, provenance
from matrix import cli
from matrix.catalog.cells import Cell
from matrix.qualify.load import select
from matrix.qualify.model import Qualification
from matrix.qualify.query import MOST_RUNS, Query, Skipped
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Start,
    StartKind,
)
from matrix.record.reader import read
from matrix.record.writer import write
from matrix.report.qualify.json import render
from matrix.report.qualify.text import lines
from matrix.store.layout import INDEX
from matrix.store.query import RunRow
from matrix.store.summary import summarise
from qualifications import ask, judged, notes

LATE = "2026-11-28T20:00:00Z"
QUERY = ask()


def record(
    torch: str | None = "2.11.0",
    day: int = 1,
    cell: str = "py311-torch211-vllm020",
    loaded: int = 3,
    vllm: str = "0.20.2",
    **more: Any,
) -> Record:
    facts = provenance(
        torch and f"{torch}+cu130",
        torch and vllm,
        started=f"2026-11-{day:02}T18:00:00Z",
        machine=more.pop("machine", "x86_64"),
        tests={"commit": None, "fingerprint": more.pop("tests", "sha256:1")},
        jobs=more.pop("jobs", 1),
    )
    starts = (
        Start(start=StartKind.COLD, seconds={"total": 60.0 + day}, counters={"num_graphs_seen": 1}),
        Start(
            start=StartKind.WARM,
            seconds={"total": 10.0},
            counters={"num_compiled_artifacts_loaded": loaded},
        ),
    )
    values: dict[str, Any] = {
        "platform": "cpu",
        "finished": True,
        "provenance": facts,
        "cases": (Case(case="moe", outcome=Outcome.PASSED, starts=starts),),
        **more,
    }
    return Record(cell=cell, **values)


def run_of(path: Path, of: Record) -> RunRow:
    found = summarise(of)
    keys = ("cell", "platform", "started", "torch", "vllm", "error", "jobs", "outcome_key")
    values = {key: getattr(found, key) for key in keys}
    return RunRow(str(path), **values, has_cases=bool(found.cases))


def qualified(query: Query, records: list[Told], skipped: Skipped | None = None) -> Qualification:
    return judged(records, query, late=LATE, skipped=skipped)


def selected(query: Query, records: list[Told]) -> tuple[list[Told], Skipped]:
    paths, skipped = select(query, (run_of(*record) for record in records), RELEASES, LATE)
    return [record for record in records if str(record[0]) in paths], skipped


FAILED = [
    Case(case="moe", outcome=Outcome.FAILED, reason="no", signature=f"KeyError: {name}")
    for name in "xy"
]
# Older tests stored no signature, or one by other rules: what compares is made of the text.
TOLD_BY_TEXT = [
    Case(
        case="moe",
        outcome=Outcome.FAILED,
        reason="no",
        failure=f"KeyError: {name}",
        signature=stored,
    )
    for name in "xy"
    for stored in (None, "KeyError")
]
_RECORD = st.builds(
    record,
    torch=st.sampled_from((None, "2.11.0", "2.12.0", "2.12.1", "2.13.0")),
    day=st.sampled_from((1, 2, 3, 4, 5, 6, 7, 29, 30)),
    cell=st.sampled_from(
        [Cell("3.11", torch, "0.20.2").name for torch in ("2.11.0", "2.12.1")]
        + ["py312-torch212-vllm020"]
    ),
    loaded=st.integers(3, 4),
    vllm=st.sampled_from(("0.20.2", "0.20.2", "0.20.1")),
    jobs=st.sampled_from((1, 1, 2)),
    machine=st.sampled_from(("x86_64", "x86_64", "aarch64")),
    tests=st.sampled_from(("sha256:1", "sha256:1", "sha256:2")),
    flags=st.sampled_from(({}, {"A": True}, {"A": False})),
    platform=st.sampled_from(("cpu", "cuda")),
    finished=st.booleans(),
    deselected=st.integers(0, 1),
    error=st.sampled_from((None, None, "no_space", "crashed", "imports", "wrong_cell")).map(
        lambda kind: kind and RunError(kind=ErrorKind(kind), reason="why")
    ),
)
_RECORDS = st.lists(
    st.one_of(
        _RECORD,
        st.builds(
            lambda run, *cases: _with(run, cases),
            _RECORD,
            st.sampled_from((*FAILED, *TOLD_BY_TEXT)),
        ),
        _RECORD.map(lambda run: _with(run, ())),
        st.just(record()),
    )
)


def _with(run: Record, cases: tuple[Case, ...]) -> Record:
    return Record(**{**vars(run), "cases": cases})


@given(_RECORDS)
def test_what_is_left_out_changes_nothing(records: list[Record]) -> None:
    of = [(Path(f"{number}.json"), run) for number, run in enumerate(records)]
    some, skipped = selected(QUERY, of)
    whole = render(qualified(QUERY, of))
    # An index lists what it has in an order of its own.
    for listed in (some, some[::-1]):
        assert render(qualified(QUERY, listed, skipped)) == whole


def _pair(*candidates: Record) -> list[Told]:
    """Return a baseline that is well, and these of the candidate."""
    records = record(cell=Cell("3.11", "2.11.0", "0.20.2").name), *candidates
    return [(Path(f"{number}.json"), run) for number, run in enumerate(records)]


def _new(day: int, cases: tuple[Case, ...] | None = None, **more: Any) -> Record:
    made = record("2.12.1", day, Cell("3.11", "2.12.1", "0.20.2").name, **more)
    return made if cases is None else _with(made, cases)


def test_a_record_from_the_future_hides_no_failure() -> None:
    """The failure of the future has all in common with the one that decides, but for its start."""
    broken = (FAILED[0],)
    of = _pair(
        _new(19, jobs=2, tests="sha256:2"), _new(21, broken, jobs=2), _new(30, broken, jobs=2)
    )
    some, skipped = selected(QUERY, of)
    assert [path.name for path, _ in some] == ["0.json", "1.json", "2.json", "3.json"]
    assert qualified(QUERY, some, skipped).exit_status == qualified(QUERY, of).exit_status == 1


def test_a_failure_is_told_by_its_text_and_not_by_what_was_stored() -> None:
    """Two failures of one stored signature, and none, are two where their texts are."""
    for first, last in itertools.combinations(TOLD_BY_TEXT, 2):
        apart = first.failure != last.failure
        # As many newer runs as are read for their seconds.
        newer = (_new(3 + number, jobs=2) for number in range(MOST_RUNS))
        of = _pair(_new(1, (first,), jobs=2), _new(2, (last,), jobs=2), *newer)
        some, skipped = selected(QUERY, of)
        read_again = [path.name for path, _ in some][:-MOST_RUNS]
        assert read_again == ["0.json", *(["1.json"] if apart else []), "2.json"]
        assert lines(qualified(QUERY, some, skipped)) == lines(qualified(QUERY, of))


def test_of_a_year_of_nights_few_are_read() -> None:
    """The newest, and as many as tell the seconds; of other releases and questions none."""
    nights = itertools.product(("2.10.0", "2.11.0", "2.12.1"), range(1, 29))
    of = [
        (Path(f"{torch}.{day}.json"), record(torch, day, Cell("3.11", torch, "0.20.2").name))
        for torch, day in nights
    ]
    some, skipped = selected(QUERY, of)
    assert len(some) == 2 * MOST_RUNS
    assert sorted(skipped.counts.values()) == [28 - MOST_RUNS] * 2
    assert {torch for _, torch, _ in skipped.releases} == {"2.10.0", "2.11.0", "2.12.1"}
    [note] = [note for note in notes(qualified(QUERY, some, skipped)) if "torch212" in note]
    assert "2.12.1.28.json decides" in note and "27 other records of it do not" in note
    for query in (
        ask("torch", "2.12.1", "2.11.0", (Platform.CUDA,)),
        ask("torch", "2.12.1", "2.11.0", pythons=("3.12",)),
        ask("torch", "2.14.0", "2.13.0"),
    ):
        assert selected(query, of)[0] == []


def test_with_an_index_and_without_the_same_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.toml").write_text("", encoding="utf-8")
    for torch, day in itertools.product(("2.11.0", "2.12.1"), range(1, 23)):
        name = Cell("3.11", torch, "0.20.2").name
        made = record(torch, day, name, loaded=3 + (torch == "2.12.1"))
        write(made, tmp_path / "many" / f"{name}.{day:02}.json")
    shutil.copy("many/py311-torch212-vllm020.22.json", "many/py311-torch212-vllm020.copy.json")
    (tmp_path / "many" / "bad.json").write_text("{", encoding="utf-8")
    ask = ["qualify", "--torch", "2.12.1", "--baseline", "2.11.0", "--json", "many"]
    ask += ["--expectations", "rules.toml"]
    assert cli.main(ask) == 1
    plain = capsys.readouterr()
    assert cli.main(["results", "index", "many"]) == 2
    assert (tmp_path / "many" / INDEX).is_file()
    seen: list[Path] = []

    def counted(path: Path) -> Record:
        seen.append(path)
        return read(path)

    monkeypatch.setattr("matrix.store.sources.read", counted)
    capsys.readouterr()
    assert cli.main(ask) == 1
    indexed = capsys.readouterr()
    assert indexed.out == plain.out
    assert "bad.json: not a record" in indexed.err and "bad.json: not a record" in plain.err
    assert json.loads(plain.out)["unread"] == 1
    assert len(seen) == 2 * MOST_RUNS + 1  # and the copy


def test_an_old_failure_of_the_very_same_is_seen_by_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is older than a whole run that passed, and than the runs that tell the seconds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.toml").write_text("", encoding="utf-8")
    for torch, day in itertools.product(("2.11.0", "2.12.1"), range(1, MOST_RUNS + 6)):
        name = Cell("3.11", torch, "0.20.2").name
        made = record(torch, day, name, machine="x86_64" if day > 3 else "aarch64")
        if (torch, day) == ("2.12.1", 3):
            made = _with(made, (FAILED[0],))
        write(made, tmp_path / "many" / f"{name}.{day:02}.json")
    ask = ["qualify", "--torch", "2.12.1", "--baseline", "2.11.0", "--platform", "cpu", "--json"]
    ask += ["--expectations", "rules.toml", "many"]
    assert cli.main(ask) == 3
    plain = capsys.readouterr().out
    assert "failed in another run" in plain
    assert cli.main(["results", "index", "many"]) == 0
    capsys.readouterr()
    assert cli.main(ask) == 3
    assert capsys.readouterr().out == plain


def test_an_archive_is_read_like_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for torch in ("2.11.0", "2.12.1"):
        name = Cell("3.11", torch, "0.20.2").name
        write(record(torch, 1, name), tmp_path / "records" / f"{name}.json")
    (tmp_path / "rules.toml").write_text("", encoding="utf-8")
    ask = ["qualify", "--torch", "2.12.1", "--baseline", "2.11.0", "--platform", "cpu"]
    ask += ["--expectations", "rules.toml"]
    assert cli.main(ask) == 0
    assert cli.main(["results", "pack", "records", "--all", "--yes"]) == 0
    assert not list((tmp_path / "records").glob("py*.json"))
    capsys.readouterr()
    assert cli.main(ask) == 0
    assert "1 case of 1 cell compared" in capsys.readouterr().out


@pytest.mark.parametrize("other", [FAILED[0], None])
def test_a_prune_takes_no_failure_from_a_qualification(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    other: Case | None,
) -> None:
    """Of one kind of failure, or of drift, the newest stays; of what is well the newest alone."""
    monkeypatch.chdir(tmp_path)
    rule = """
[[rule]]
id = "loaded"
case = "moe"
vllm = "<99"
start = "warm"
counters = { num_compiled_artifacts_loaded = 3 }
evidence = ["https://github.com/vllm-project/vllm/pull/35709"]
"""
    (tmp_path / "rules.toml").write_text(rule, encoding="utf-8")
    for day in range(1, 9):
        made = _new(day, loaded=4 if other is None and day < 4 else 3)
        made = _with(made, (other,)) if other is not None and day < 4 else made
        write(made, tmp_path / "many" / f"{made.cell}.{day:02}.json")
    base = record("2.11.0", 9, Cell("3.11", "2.11.0", "0.20.2").name)
    write(base, tmp_path / "many" / f"{base.cell}.json")
    ask = ["qualify", "--torch", "2.12.1", "--baseline", "2.11.0", "--platform", "cpu"]
    ask += ["--expectations", "rules.toml", "many"]
    status = cli.main(ask)
    assert status == 3
    assert "in another run" in capsys.readouterr().out
    prune = ["results", "prune", "many", "--keep", "1", "--yes", "--expectations", "rules.toml"]
    assert cli.main(prune) == 0
    left = sorted(path.name for path in (tmp_path / "many").glob("*.json"))
    assert left == [f"{base.cell}.json", *(f"{made.cell}.{day}.json" for day in ("03", "08"))]
    capsys.readouterr()
    assert cli.main(ask) == status
    assert "in another run" in capsys.readouterr().out
