"""What is refused before anything of a cell starts: one line, and a record that says why."""

from pathlib import Path

import pytest

from matrix.catalog.projects import Project
from matrix.errors import MatrixError
from matrix.record.model import Departure, ErrorKind, Platform, RunError, Why
from matrix.record.origin import Origin
from matrix.record.reader import read as valid
from matrix.run.cell import (
    RunRefusedError,
    WrongPackagesError,
)
from matrix.run.origin import Installed
from matrix.run.preflight import Refusal
from pytest_stand_in import CELL, INSTALLED, Run, runs_of


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return runs_of(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("installed", "reason"),
    [
        ({"torch": "2.9.1", "vllm": "0.19.1"}, "torch 2.9.1, not 2.10.0"),
        ({"torch": "2.10.0"}, "vllm none, not 0.19.1"),
    ],
)
def test_another_cells_environment_is_refused(
    run: Run, tmp_path: Path, installed: dict[str, str], reason: str
) -> None:
    with pytest.raises(RunRefusedError, match=reason) as caught:
        run("good", installed=installed)
    record = valid(caught.value.path)
    assert record.error is not None and record.error.kind == "wrong_cell"
    assert f"tox -e {CELL.name}" in record.error.reason
    assert "\n" not in str(caught.value)


REQUIREMENTS = {
    "vllm": [
        "torch==2.10.0",
        "flashinfer-python==0.6.6",
        "numpy",
        'ray>=2 ; extra == "ray"',
        'pywin32 ; sys_platform == "win32"',
    ]
}


def test_a_missing_requirement_is_named_before_anything_starts(run: Run) -> None:
    with pytest.raises(
        WrongPackagesError, match=r"flashinfer-python==0\.6\.6 is missing"
    ) as caught:
        run("good", installed={**INSTALLED, "numpy": "2.2.6"}, requirements=REQUIREMENTS)
    record = valid(caught.value.path)
    assert record.finished and record.error is not None and not record.rungs
    assert record.error.kind == "wrong_packages"
    assert [departure.name for departure in record.departures or ()] == ["flashinfer-python"]
    assert not caught.value.path.with_suffix(".log").exists()
    assert "\n" not in str(caught.value)


def test_a_run_notes_whose_version_is_not_the_required_one(run: Run) -> None:
    installed = {**INSTALLED, "numpy": "2.2.6", "flashinfer-python": "0.6.5"}
    record = valid(run("good", installed=installed, requirements=REQUIREMENTS))
    assert record.departures == (
        Departure(
            name="flashinfer-python",
            required="flashinfer-python==0.6.6",
            installed="0.6.5",
            why=Why.OTHER_VERSION,
        ),
    )
    assert valid(run("good")).departures == ()


def test_a_machine_that_cannot_is_refused_with_a_record(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    with pytest.raises(RunRefusedError, match=r"does not run.*record") as caught:
        run("good")
    record = valid(caught.value.path)
    assert record.finished and record.error is not None and record.error.kind == "no_compiler"
    assert not caught.value.path.with_suffix(".log").exists()


def test_cuda_without_a_gpu_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RunRefusedError, match="no GPU is visible") as caught:
        run("good", platform="cuda")
    record = valid(caught.value.path)
    assert record.platform == "cuda"
    assert record.error is not None and record.error.kind == "no_gpu"


@pytest.mark.parametrize("kind", ["no_driver", "driver_too_old", "gpu_full", "gpu_fault"])
def test_a_gpu_that_does_not_do_is_refused_before_anything_starts(
    run: Run, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    told = []

    def refuse(platform: Platform, packages: dict[str, str]) -> Refusal:
        told.append((platform, packages))
        return Refusal(kind=ErrorKind(kind), reason="so it is: correct it")

    monkeypatch.setattr("matrix.run.cell.unusable_gpu", refuse)
    with pytest.raises(RunRefusedError, match=r"so it is: correct it \(record: ") as caught:
        run("good", platform="cuda")
    assert told == [("cuda", INSTALLED)]
    record = valid(caught.value.path)
    assert record.finished and record.cases == () and record.platform == "cuda"
    assert record.error == RunError(kind=ErrorKind(kind), reason="so it is: correct it")
    assert not caught.value.path.with_suffix(".log").exists()


@pytest.mark.parametrize("kind", ["no_gpu", "no_driver", "driver_too_old", "gpu_unsupported"])
def test_what_only_the_import_can_tell_of_a_gpu_is_a_refusal_too(run: Run, kind: str) -> None:
    with pytest.raises(RunRefusedError, match="why it does not do") as caught:
        run(f"unfit {kind}")
    record = valid(caught.value.path)
    assert record.finished and record.error == RunError(
        kind=ErrorKind(kind), reason="why it does not do"
    )


def test_without_startup_tests_there_is_nothing_to_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match="run from a checkout"):
        run("good", root=tmp_path / "elsewhere")


def test_a_records_folder_that_cannot_be_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MatrixError, match="cannot be written"):
        run("good", records=tmp_path / "file")


def test_a_vllm_without_extensions_is_refused_on_cuda(run: Run) -> None:
    origins = {Project.VLLM: Installed(version="0.19.1+empty")}
    with pytest.raises(
        RunRefusedError, match="was built without compiling, which is for"
    ) as raised:
        run("good", origins=origins, platform="cuda")
    record = valid(raised.value.path)
    assert record.platform == "cuda" and record.cases == ()
    assert record.error is not None and record.error.kind is ErrorKind.WRONG_CELL
    assert run("good", origins=origins).parent.name == "cpu"


def test_another_build_than_the_cells_is_refused_before_anything_starts(run: Run) -> None:
    origins = {Project.TORCH: Installed(version="2.10.0", url="https://x.example/torch-2.10.0.whl")}
    with pytest.raises(RunRefusedError, match=r"was installed from torch-2\.10\.0\.whl") as raised:
        run("good", origins=origins)
    record = valid(raised.value.path)
    assert record.error is not None and record.error.kind is ErrorKind.WRONG_CELL
    assert record.origin("torch") == Origin(
        project="torch", version="2.10.0", file="torch-2.10.0.whl"
    )
