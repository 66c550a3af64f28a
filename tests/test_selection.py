"""matrix.selection: what is left out of many records changes nothing that is told of a release."""

from __future__ import annotations

import itertools
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrix import cli
from matrix.cells import Cell
from matrix.engines.history import INDEX
from matrix.expectations import Expectations
from matrix.history import summarise
from matrix.qualify import MOST_RUNS, Aside, Asked, Qualification, qualify
from matrix.records import Case, Record, RunError, Start, read, write
from matrix.releases import load_releases
from matrix.report import qualify as report
from matrix.selection import Run, select
from matrix.waivers import Waivers

RELEASES = load_releases()
TODAY = date(2026, 11, 23)
ASKED = Asked("torch", "2.12.1", "2.11.0")
Told = tuple[Path, Record]


def record(
    torch: str | None = "2.11.0",
    day: int = 1,
    cell: str = "py311-torch211-vllm020",
    loaded: int = 3,
    **more: Any,
) -> Record:
    facts = {
        "started": f"2026-11-{day:02}T18:00:00Z",
        "seconds": 70.0,
        "os": "Linux",
        "machine": more.pop("machine", "x86_64"),
        "memory_mib": 24000,
        "triton": None,
        "cuda": None,
        "command": ["matrix"],
        "model_source": "data",
        "python": "3.11.7",
        "torch": torch and f"{torch}+cu130",
        "vllm": torch and "0.20.2",
        "cpu": {"model": "EPYC", "cores": 2},
        "gpu": None,
        "tests": {"commit": None, "fingerprint": "sha256:1"},
        "jobs": more.pop("jobs", 1),
    }
    starts = (
        Start("cold", {"total": 60.0 + day}, {"num_graphs_seen": 1}),
        Start("warm", {"total": 10.0}, {"num_compiled_artifacts_loaded": loaded}),
    )
    values: dict[str, Any] = {
        "platform": "cpu",
        "finished": True,
        "provenance": facts,
        "cases": (Case("moe", "passed", starts=starts),),
        **more,
    }
    return Record(cell=cell, **values)


def run_of(path: Path, of: Record) -> Run:
    found = summarise(of)
    keys = ("cell", "platform", "started", "torch", "vllm", "whole", "error", "jobs", "judged")
    return Run(str(path), **{key: getattr(found, key) for key in keys})


def told(asked: Asked, records: list[Told], aside: Aside | None = None) -> Qualification:
    none = Expectations(())
    return qualify(asked, records, none, RELEASES, Waivers(), TODAY, aside=aside)


def selected(asked: Asked, records: list[Told]) -> tuple[list[Told], Aside]:
    paths, aside = select(asked, (run_of(*each) for each in records), RELEASES)
    return [each for each in records if str(each[0]) in paths], aside


failed = Case("moe", "failed", reason="no", signature="KeyError: x")
_RECORD = st.builds(
    record,
    torch=st.sampled_from((None, "2.11.0", "2.12.0", "2.12.1", "2.13.0")),
    day=st.integers(1, 8),
    cell=st.sampled_from(
        [Cell("3.11", torch, "0.20.2").name for torch in ("2.11.0", "2.12.1")]
        + ["py312-torch212-vllm020"]
    ),
    loaded=st.integers(3, 4),
    jobs=st.sampled_from((1, 1, 2)),
    machine=st.sampled_from(("x86_64", "x86_64", "aarch64")),
    platform=st.sampled_from(("cpu", "cuda")),
    finished=st.booleans(),
    deselected=st.integers(0, 1),
    error=st.sampled_from((None, None, "no_space", "imports", "wrong_cell")).map(
        lambda kind: kind and RunError(kind, "why")
    ),
)
_RECORDS = st.lists(
    st.one_of(_RECORD, _RECORD.map(lambda each: _with(each, (failed,))), st.just(record()))
)


def _with(each: Record, cases: tuple[Case, ...]) -> Record:
    return Record(**{**vars(each), "cases": cases})


@settings(deadline=None, max_examples=100)
@given(_RECORDS)
def test_what_is_left_out_changes_nothing(records: list[Record]) -> None:
    of = [(Path(f"{at}.json"), each) for at, each in enumerate(records)]
    some, aside = selected(ASKED, of)
    assert report.render(told(ASKED, some, aside)) == report.render(told(ASKED, of))


def test_of_a_year_of_nights_few_are_read() -> None:
    """The newest, and as many as tell the seconds; of other releases and questions none."""
    nights = itertools.product(("2.10.0", "2.11.0", "2.12.1"), range(1, 30))
    of = [
        (Path(f"{torch}.{day}.json"), record(torch, day, Cell("3.11", torch, "0.20.2").name))
        for torch, day in nights
    ]
    some, aside = selected(ASKED, of)
    assert len(some) == 2 * MOST_RUNS
    assert sorted(aside.counts.values()) == [29 - MOST_RUNS] * 2
    assert {torch for _, torch, _ in aside.releases} == {"2.10.0", "2.11.0", "2.12.1"}
    [note] = [each for each in told(ASKED, some, aside).notes if "torch212" in each]
    assert "2.12.1.29.json decides" in note and "28 other records of it do not" in note
    for asked in (
        Asked("torch", "2.12.1", "2.11.0", ("cuda",)),
        Asked("torch", "2.12.1", "2.11.0", pythons=("3.12",)),
        Asked("torch", "2.14.0", "2.13.0"),
    ):
        assert selected(asked, of)[0] == []


def test_with_an_index_and_without_the_same_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.toml").write_text("", encoding="utf-8")
    for torch, day in itertools.product(("2.11.0", "2.12.1"), range(1, 26)):
        name = Cell("3.11", torch, "0.20.2").name
        made = record(torch, day, name, loaded=3 + (torch == "2.12.1"))
        write(made, tmp_path / "many" / f"{name}.{day:02}.json")
    shutil.copy("many/py311-torch212-vllm020.25.json", "many/py311-torch212-vllm020.copy.json")
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

    monkeypatch.setattr("matrix.engines.history.read", counted)
    capsys.readouterr()
    assert cli.main(ask) == 1
    indexed = capsys.readouterr()
    assert indexed.out == plain.out
    assert "bad.json: not a record" in indexed.err and "bad.json: not a record" in plain.err
    assert json.loads(plain.out)["unread"] == 1
    assert len(seen) == 2 * MOST_RUNS + 1  # and the copy


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
