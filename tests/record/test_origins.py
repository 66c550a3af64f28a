"""Where a record's torch and vLLM are from, and what that makes of its cell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from full_record import make
from made import NO_RULES
from matrix.catalog.cells import Build
from matrix.record.model import ErrorKind, Outcome, Record, RecordError, RunError
from matrix.record.origin import Origin
from matrix.record.reader import parse, read
from matrix.record.writer import to_json, write
from matrix.store.load import newest_records
from matrix.store.summary import summarise
from matrix.verdict.grid import ran_cell
from matrix.verdict.table import tabulate

OLD = Build(name="torch210rc1", identity="b" + "1" * 15)
NEW = Build(name="torch210rc1", identity="b" + "2" * 15)
CELL = "py311-torch210rc1-vllm019"


def ran(build: Build | None, day: int = 22, outcome: Outcome = Outcome.PASSED) -> Record:
    """Return a run of torch 2.10.0, the release (None) or a candidate of the same version."""
    record = make()
    return replace(
        record,
        cell="py311-torch210-vllm019" if build is None else CELL,
        provenance={**record.provenance, "started": f"2026-11-{day}T18:00:00Z"},
        origins=(Origin(project="torch", candidate=build), Origin(project="vllm")),
        cases=tuple(replace(case, outcome=outcome, reason="KeyError: x") for case in record.cases),
    )


def put(folder: Path, *records: Record) -> Path:
    for number, record in enumerate(records):
        write(record, folder / record.platform / f"{record.cell}.{number}.json")
    return folder


def test_a_release_and_a_candidate_of_one_version_are_two_cells() -> None:
    release, candidate = ran(None), ran(OLD)
    assert release.provenance["torch"] == candidate.provenance["torch"] == "2.10.0+cu128"
    assert release.version("torch") == "2.10.0+cu128"
    assert candidate.version("torch") == f"2.10.0+torch210rc1.{OLD.identity}"
    assert ran_cell(release) != ran_cell(candidate) != ran_cell(ran(NEW))
    keys = {summarise(record).verdict_key for record in (release, candidate, ran(NEW))}
    assert len(keys) == 3
    assert {
        entry.record.cell for entry in tabulate(files(release, candidate), NO_RULES).entries
    } == {
        release.cell,
        candidate.cell,
    }


def files(*records: Record) -> list[tuple[Path, Record]]:
    return [(Path(f"{number}.json"), record) for number, record in enumerate(records)]


def test_two_builds_of_one_name_never_compete() -> None:
    failing = ran(OLD, 22, Outcome.FAILED)
    table = tabulate(files(failing, ran(NEW, 23)), NO_RULES)
    (entry,) = table.entries
    assert entry.record.build("torch") == NEW
    # Of one build the failure would count, though the later run is complete.
    (entry,) = tabulate(files(failing, ran(OLD, 21)), NO_RULES).entries
    assert entry.record == failing


@pytest.mark.parametrize("indexed", [False, True])
def test_of_each_build_a_record_counts_with_and_without_an_index(
    tmp_path: Path, indexed: bool
) -> None:
    folder = put(tmp_path, ran(OLD, 21, Outcome.FAILED), ran(OLD, 22), ran(NEW, 23), ran(NEW, 24))
    if indexed:
        from matrix import cli

        assert cli.main(["results", "index", str(folder)]) == 0
    found = newest_records([folder], None, lambda line: None, repeats=0)
    assert {record.build("torch") for _, record in found.records} == {OLD, NEW}


def test_a_candidate_that_was_never_installed_has_its_version(tmp_path: Path) -> None:
    record = ran(OLD)
    origin = Origin(project="torch", candidate=OLD, version="2.10.0")
    facts = {**record.provenance, "torch": None, "vllm": None}
    error = RunError(kind=ErrorKind.RESOLVES, reason="no such file")
    record = replace(record, provenance=facts, origins=(origin,), error=error, cases=())
    assert record.version("torch") == OLD.key("2.10.0")
    assert summarise(record).torch == OLD.key("2.10.0")
    assert read(next((put(tmp_path, record) / "cpu").iterdir())) == record


def test_a_candidates_record_without_its_origin_is_of_another_cell(tmp_path: Path) -> None:
    record = replace(ran(OLD), origins=None)
    path = next((put(tmp_path, record) / "cpu").iterdir())
    with pytest.raises(RecordError, match=r"provenance\.torch: is 2\.10\.0\+cu128, but the cell"):
        read(path)


def test_old_records_read_as_before() -> None:
    data = json.loads(to_json(replace(make(), origins=None)))
    assert "origins" not in data
    record = parse(json.dumps(data), "r")
    assert record.origins is None and record.version("torch") == "2.10.0+cu128"
    assert record.builds == "" and record.build("torch") is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"project": "jax"}, 'origins[0].project: is "jax", but must be one of torch, vllm'),
        ({"candidate": {"name": "torch216", "identity": OLD.identity}}, "is not a build"),
        ({"candidate": {"name": "torchrc", "identity": "x"}}, "is not a build"),
        ({"candidate": {"name": "vllmrc", "identity": OLD.identity}}, "not a candidate of torch"),
        ({"candidate": "torchrc"}, "must be an object"),
        ({"index": 1}, "origins[0].index: is 1, but must be a string"),
        ({"more": 1}, "has an unknown key 'more'"),
    ],
)
def test_a_bad_origin_is_refused(change: dict[str, object], fault: str) -> None:
    data = json.loads(to_json(ran(OLD)))
    data["origins"][0] |= change
    with pytest.raises(RecordError) as raised:
        parse(json.dumps(data), "r")
    assert fault in str(raised.value)


def test_two_origins_of_one_project_are_refused() -> None:
    data = json.loads(to_json(ran(OLD)))
    data["origins"].append(data["origins"][0])
    with pytest.raises(RecordError, match="is the second origin of torch"):
        parse(json.dumps(data), "r")
