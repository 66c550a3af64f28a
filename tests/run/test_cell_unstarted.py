"""Records of cells whose environment could not be made."""

from pathlib import Path

import pytest

from candidates import commit_candidate, torch_candidate
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.file import write_candidates
from matrix.catalog.cells import Made
from matrix.catalog.releases_file import load_releases
from matrix.record.model import ErrorKind, RunError, Rung, RungResult
from matrix.record.reader import read as valid
from matrix.rules.expectations_file import load_expectations
from matrix.run.cell import (
    record_unstarted,
)
from matrix.verdict.judge import judge
from pytest_stand_in import CELL


def test_a_cell_that_does_not_resolve_has_a_record(tmp_path: Path) -> None:
    error = RunError(kind=ErrorKind.RESOLVES, reason="Because torch has no version of that kind")
    path = record_unstarted(CELL, error, platform="cpu", records=tmp_path)
    record = valid(path)
    assert record.error == error and record.finished
    assert record.rungs == (
        RungResult(rung=Rung.RESOLVES, ok=False, seconds=0.0, reason=error.reason),
    )
    assert record.packages == {} and record.provenance["torch"] is None
    assert record.provenance["python"] == CELL.python


@pytest.mark.parametrize(
    ("kind", "verdict", "rung"),
    [
        (ErrorKind.BUILDS, "incompatible", "builds"),
        (ErrorKind.NOT_BUILT, "untested", None),
    ],
)
def test_only_sources_that_do_not_build_are_incompatible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: ErrorKind, verdict: str, rung: str | None
) -> None:
    listed = write_candidates(Candidates(every=(commit_candidate(),)), tmp_path / "c.toml")
    monkeypatch.setenv("MATRIX_CANDIDATES", str(listed))
    cell = load_releases().resolve("py312-torch214-vllmfix")
    error = RunError(kind=kind, reason="ImportError: no y")
    record = valid(record_unstarted(cell, error, platform="cpu", records=tmp_path))
    assert [result.rung for result in record.rungs if not result.ok] == ([rung] if rung else [])
    found = judge(record, load_expectations())
    assert (found.verdict, found.rung) == (verdict, rung)
    origin = record.origin("vllm")
    assert origin is not None
    assert (origin.revision, origin.made) == ("41" * 20, Made.WITHOUT_COMPILING)


def test_a_candidate_that_does_not_resolve_has_a_record_of_its_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = write_candidates(Candidates(every=(torch_candidate(),)), tmp_path / "c.toml")
    monkeypatch.delenv("MATRIX_INDEX_NAME", raising=False)
    monkeypatch.setenv("MATRIX_CANDIDATES", str(listed))
    cell = load_releases().resolve("py312-torch216rc1-vllm033")
    error = RunError(kind=ErrorKind.RESOLVES, reason="Because the file does not exist")
    record = valid(record_unstarted(cell, error, platform="cpu", records=tmp_path))
    assert record.cell == "py312-torch216rc1-vllm033"
    assert record.build("torch") == torch_candidate().build
    assert record.version("torch") == torch_candidate().key
    origin = record.origin("torch")
    assert origin is not None and origin.index == torch_candidate().index
    monkeypatch.setenv("MATRIX_INDEX_NAME", "our mirror")
    path = record_unstarted(cell, error, platform="cpu", records=tmp_path)
    origin = valid(path).origin("torch")
    assert origin is not None and origin.index == "our mirror" and origin.sha256 is not None
    assert "rc.example" not in path.read_text()
