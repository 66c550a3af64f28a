"""An installation that breaks, and a disk that fills, while a cell runs: nobody blames the pair."""

import errno
import os
from pathlib import Path

import pytest

from matrix.errors import MatrixError
from matrix.record.model import ErrorKind, RunError
from matrix.record.reader import read as valid
from matrix.record.writer import mark_of
from matrix.rules.expectations import Expectations
from matrix.run import pytest_child
from matrix.run.cell import RunRefusedError
from matrix.run.installed_files import PackageFiles
from matrix.verdict.judge import judge
from matrix.verdict.reasons import Recorded
from matrix.verdict.states import Verdict
from pytest_stand_in import Run, runs_of


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return runs_of(tmp_path, monkeypatch)


@pytest.fixture
def files(tmp_path: Path) -> tuple[PackageFiles, ...]:
    """Return what an environment's torch lists, and has."""
    library = tmp_path / "site" / "torch" / "libtorch.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"y" * 50)
    sizes = {"torch/libtorch.so": 50}
    return (PackageFiles(name="torch", folder=str(tmp_path / "site"), listed=sizes, found=sizes),)


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [("loses cut", "has 1 of 50 bytes"), ("loses gone", "is gone")],
)
def test_a_case_that_failed_after_the_installation_broke_is_untested(
    run: Run, files: tuple[PackageFiles, ...], behaviour: str, said: str
) -> None:
    record = valid(run(behaviour, files=files))
    assert record.error is not None and record.error.kind == "broken_install"
    assert f"torch/libtorch.so of torch {said}: make the env" in record.error.reason
    judged = judge(record, Expectations(rules=()))
    assert judged.verdict == Verdict.UNTESTED
    assert judged.cases[1].reason == Recorded(text=record.error.reason)


def test_an_import_of_a_broken_installation_is_a_refusal(
    run: Run, files: tuple[PackageFiles, ...]
) -> None:
    with pytest.raises(RunRefusedError, match="of torch is gone") as caught:
        run("loses import gone", files=files)
    record = valid(caught.value.path)
    assert record.error is not None and record.error.kind == "broken_install"
    assert "; the run ended so: the import of vLLM ended" in record.error.reason
    assert record.rungs == () and judge(record, Expectations(rules=())).verdict == "untested"


def test_a_run_without_a_failure_does_not_look_at_the_files_again(
    run: Run, files: tuple[PackageFiles, ...]
) -> None:
    assert valid(run("loses nothing gone", files=files)).error is None


def test_a_failure_of_a_whole_installation_is_the_pairs(
    run: Run, files: tuple[PackageFiles, ...]
) -> None:
    record = valid(run("import error", files=files))
    assert record.error is not None and record.error.kind == "imports"


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOSPC, "no_space", "No space left on device: make room and run it again"),
        (errno.EMFILE, "internal", "Too many open files"),
    ],
)
def test_a_pytest_that_cannot_be_run_is_a_refusal(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: int, kind: str, said: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pytest_child, "run", refuse)
    with pytest.raises(RunRefusedError, match="pytest cannot be run") as caught:
        run("good")
    record = valid(caught.value.path)
    assert record.error == RunError(kind=ErrorKind(kind), reason=f"pytest cannot be run: {said}")
    assert record.finished


@pytest.mark.parametrize("is_room", [True, False])
def test_a_disk_that_is_full_at_the_very_end_is_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_room: bool
) -> None:
    """The room that was kept is there, or somebody else took it."""
    replace, begin = os.replace, pytest_child.run

    def refuse(before: Path, after: Path) -> None:
        mark = mark_of(after)
        if mark.exists() and (mark.stat().st_size or not is_room):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(before, after)

    def ends(*arguments: object) -> object:
        ended = begin(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(os, "replace", refuse)
        return ended

    monkeypatch.setattr(pytest_child, "run", ends)
    if is_room:
        path = run("good")
    else:
        with pytest.raises(MatrixError) as caught:
            run("good")
        (path,) = (tmp_path / "records" / "cpu").glob("*.json")
        assert str(caught.value) == (
            f"{path}: cannot be written: No space left on device; the end of the run is lost, and"
            " the record there contains what was written before: make room and run the cell again"
        )
    record = valid(path)
    assert [case.outcome for case in record.cases] == ["passed"]
    assert (record.error is not None and record.error.kind == "no_space") == is_room
    assert not list(path.parent.glob(".*"))
