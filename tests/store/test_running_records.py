"""A run that goes on: the same with an index and without, and nothing takes it for dead."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from histories import CELLS, make, passed
from matrix import cli
from matrix.record.model import Case, Outcome, Record
from matrix.record.running import marked_running
from matrix.record.writer import write
from matrix.store.layout import INDEX
from rules import ANY_CASE_TEXT

GOES_ON = make(
    started="2026-10-23T18:00:00Z",
    finished=False,
    cases=(passed, Case(case="b", outcome=Outcome.RUNNING)),
)


@contextlib.contextmanager
def folder(here: Path, *others: Record, indexed: bool) -> Iterator[None]:
    """A folder `records` with other records, and one that is being written."""
    for number, record in enumerate(others):
        write(record, here / "records" / "cpu" / f"{record.cell}.{number}.json")
    path = here / "records" / "cpu" / f"{CELLS[0]}.9.json"
    with marked_running(path):
        write(GOES_ON, path)
        if indexed:
            (here / "records" / INDEX).touch()
        yield


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    status = cli.main(list(command))
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize(
    ("others", "shown"),
    [
        ((), ("untested", "the run is going on")),
        ((make(cases=(), deselected=9),), ("untested", "the run is going on")),
        ((make(deselected=1, finished=False),), ("untested", "the run did not finish")),
        ((make(),), ("compatible", None)),
    ],
    ids=["alone", "with a typo", "with a part", "with a complete one"],
)
def test_the_table_shows_a_run_that_goes_on_only_where_nothing_else_has_an_answer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    indexed: bool,
    others: tuple[Record, ...],
    shown: tuple[str, str | None],
) -> None:
    monkeypatch.chdir(tmp_path)
    rules = tmp_path / "rules.toml"
    rules.write_text(ANY_CASE_TEXT, encoding="utf-8")
    with folder(tmp_path, *others, indexed=indexed):
        cli.main(["table", "records", "--out", "out", "--expectations", str(rules)])
    (cell,) = json.loads((tmp_path / "out" / "compatibility.json").read_text("utf-8"))["cells"]
    assert (cell["verdict"], cell["reason"]) == shown


@pytest.mark.parametrize("indexed", [True, False])
def test_a_plan_does_not_start_it_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    indexed: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    only = ("--torch", "2.10", "--vllm", "0.19", "--python", "3.11", "--platform", "cpu")
    with folder(tmp_path, make(deselected=1), indexed=indexed):
        assert printed(capsys, "plan", "records", *only, "--stale").endswith("nothing to run\n")
        assert "is running since 2026-10-23T18:00:00Z" in printed(capsys, "plan", "records", *only)
    assert "1 to run" in printed(capsys, "plan", "records", *only, "--stale")


def test_lists_name_it_and_nothing_packs_or_deletes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with folder(tmp_path, make(), make(started="2026-10-21T18:00:00Z"), indexed=True):
        listed = printed(capsys, "results", "list", "--verdict", "untested", "records")
        assert " running " in listed and "1 record" in listed
        assert " running " not in printed(
            capsys, "results", "list", "--verdict", "compatible", "records"
        )
        rows = json.loads(printed(capsys, "results", "list", "--json", "records"))
        assert (rows[0]["verdict"], rows[0]["running"]) == ("untested", True)
        assert "1 record (1 file) would be deleted, 1 stay" in printed(
            capsys, "results", "prune", "--keep", "1", "records"
        )
        assert "2 record files packed" in printed(
            capsys, "results", "pack", "--all", "--yes", "records"
        )
        assert len(list((tmp_path / "records").rglob("*.json"))) == 1
    assert " running " not in printed(capsys, "results", "list", "records")


def test_a_list_finds_it_by_releases_that_no_other_record_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with folder(tmp_path, make(CELLS[1]), indexed=True):
        for option in (("--torch", "2.10"), ("--vllm", "0.19.1"), ("--verdict", "untested")):
            listed = printed(capsys, "results", "list", *option, "records")
            assert " running " in listed and "1 record" in listed, option
