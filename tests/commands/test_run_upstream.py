"""`matrix run --upstream`: what is refused, what is fetched, and what the run is asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING, Any

import pytest

from command import matrix
from commanded import CELL, RECORD, make, with_one_record
from matrix import cli
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.record.upstream import SuiteCase, UpstreamOutcome, UpstreamSuite
from matrix.record.writer import write
from matrix.rules.expectations_file import load_expectations
from matrix.rules.upstream.unpack import origin
from matrix.run.cell import RunRequest

if TYPE_CHECKING:
    from fake_tox import FakeTox
    from local_index import Served

FILE = "tests/compile/test_small.py"
MEMBERS = {"tests/__init__.py": "", FILE: "def test_small(): pass\n"}


class Cell:
    """Stands for matrix.run.cell: writes a record with what upstream's tests did."""

    def __init__(self, here: Path) -> None:
        self.path = here / RECORD
        self.asked: list[RunRequest] = []
        self.outcome = UpstreamOutcome.PASSED
        self.reason: str | None = None

    def run_cell(self, request: RunRequest) -> Path:
        self.asked.append(request)
        case = SuiteCase(
            case=f"{FILE}::test_small",
            outcome=self.outcome,
            reason=self.reason,
            signature="E: no",
        )
        write(make(upstream=UpstreamSuite(cases=(case,))), self.path)
        return self.path


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cell:
    here = with_one_record(tmp_path)
    monkeypatch.chdir(here)
    monkeypatch.setenv("MATRIX_CACHE", str(here / "cache"))
    found = Cell(here)
    monkeypatch.setattr("matrix.run.cell.run_cell", found.run_cell)
    rules = load_expectations(here / "rules.toml")
    monkeypatch.setattr("matrix.rules.expectations_file.load_expectations", lambda: rules)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return tests that a person put there."""
    for name, text in MEMBERS.items():
        path = tmp_path / "by hand" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "by hand" / "tests" / "link.py").symlink_to(__file__)
    return tmp_path / "by hand"


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["run", CELL, "--here", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    return shown.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--upstream", "/etc/passwd"], "is not a path of upstream's tests"),
        (["--upstream", "tests/../setup.py"], "is not a path of upstream's tests"),
        (["--upstream", "vllm/envs.py"], "is not a path of upstream's tests"),
        (["--upstream", ""], "is not a path of upstream's tests"),
        (["--upstream", FILE, "--model-source", "hub"], "would run code of the hub"),
        (["--upstream-tests", "x"], "goes with --upstream FILE only"),
        (["--upstream", FILE, "--upstream-tests", "x"], "has neither tests nor vllm-0.19.1/tests"),
    ],
)
def test_what_means_nothing_is_one_line(
    cell: Cell, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in refusal(capsys, *arguments)
    assert cell.asked == []


def test_a_path_that_is_not_there_names_the_nearest(
    cell: Cell, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ["--upstream-tests", str(folder), "--upstream", "tests/h100/test_small.py::test_a"]
    line = refusal(capsys, *wrong)
    assert "vLLM 0.19.1 has no such file among its tests" in line and f"it has {FILE}" in line
    linked = ["--upstream-tests", str(folder), "--upstream", "tests/link.py"]
    assert "has no such file" in refusal(capsys, *linked)
    assert cell.asked == []


def test_a_folder_is_taken_as_it_is(cell: Cell, folder: Path) -> None:
    names = [f"{FILE}::test_small", "tests"]
    given = [word for name in names for word in ("--upstream", name)]
    assert cli.main(["run", CELL, "--here", "--upstream-tests", "by hand", *given, "-x"]) == 0
    [asked] = cell.asked
    assert asked.upstream is not None and asked.pytest_args == ["-x"]
    assert (asked.upstream.folder, asked.upstream.asked) == (folder, tuple(names))


def test_the_tests_of_that_release_are_fetched(
    cell: Cell, served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", served.url)
    for version in ("0.18.0", "0.19.1"):
        content = served.sdist(f"vllm-{version}", MEMBERS)
        served.add("vllm", f"vllm-{version}.tar.gz", content)
    assert cli.main(["run", CELL, "--here", "--upstream", FILE]) == 0
    [asked] = cell.asked
    assert asked.upstream is not None and asked.upstream.folder.name == "vllm-0.19.1"
    assert origin(asked.upstream.folder) is not None
    assert [path for path, _ in served.asked if path.startswith("/files/")] == [
        "/files/vllm-0.19.1.tar.gz"
    ]
    capsys.readouterr()
    assert "no such file" in refusal(capsys, "--upstream", "tests/none.py")


def test_a_release_without_a_source_distribution_is_one_line(
    cell: Cell, served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", served.url)
    served.add("vllm", "vllm-0.18.0.tar.gz", served.sdist("vllm-0.18.0", MEMBERS))
    line = refusal(capsys, "--upstream", FILE)
    assert "vLLM 0.19.1: the index has no source distribution of it" in line
    assert "--upstream-tests DIR" in line


def test_without_the_client_of_an_index_a_folder_does(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pypi_simple", None)
    line = refusal(capsys, "--upstream", FILE)
    assert "pypi_simple is not installed" in line and "--upstream-tests DIR" in line
    assert cell.asked == []


def test_a_candidate_has_no_source_distribution(
    cell: Cell, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vllm = {Project.VLLM: object()}
    monkeypatch.setattr(Releases, "candidate_of", lambda _self, _cell, project: vllm.get(project))
    line = refusal(capsys, "--upstream", FILE)
    assert "its vLLM is a candidate, which has no source distribution" in line
    assert "--upstream-tests DIR" in line and cell.asked == [] and folder.is_dir()


def test_a_failed_test_is_named_and_the_verdict_stays(
    cell: Cell, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Any] = ["--upstream-tests", str(folder), "--upstream", FILE]
    assert cli.main(["run", CELL, "--here", *given]) == 0
    first = capsys.readouterr().out.splitlines()
    assert first[0].endswith(
        "compatible (as expected), 1 case in 312 s; upstream's own tests: 1 passed"
    )
    cell.outcome = UpstreamOutcome.FAILED
    assert cli.main(["run", CELL, "--here", *given]) == 1
    shown = capsys.readouterr().out
    assert ": compatible (as expected), 1 case in 312 s; upstream's own tests: 1 failed\n" in shown
    assert f"  failed       0.0  {FILE}::test_small\n" in shown and f"{'':<20}E: no\n" in shown
    cell.outcome = UpstreamOutcome.UNTESTED
    assert cli.main(["run", CELL, "--here", *given]) == 0
    cell.reason = "interrupted by SIGINT"
    assert cli.main(["run", CELL, "--here", *given]) == 5


@pytest.mark.programs
def test_a_cell_through_tox_gets_the_folder_of_all_releases(
    fake_tox: FakeTox, folder: Path
) -> None:
    named = ["--upstream-tests", str(folder), "--upstream", FILE]
    ended = matrix(fake_tox.here, "run", "--platform", "cpu", CELL, *named, "--", "-k", "dense")
    assert ended.returncode == 0, ended.stderr
    argv = fake_tox.calls()[-1]["argv"]
    own = argv[argv.index("--") + 1 :]
    assert own[own.index("--upstream-tests") :][:4] == named
    assert own[-3:] == ["--", "-k", "dense"]


@pytest.mark.programs
def test_cells_of_two_releases_need_the_tests_of_each(fake_tox: FakeTox, folder: Path) -> None:
    cells = [CELL, "py311-torch210-vllm018"]
    named = ["--upstream-tests", str(folder), "--upstream", FILE]
    ended = matrix(fake_tox.here, "run", "--platform", "cpu", *cells, *named)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "has no vllm-0.19.1/tests, and the cells have 2 versions of vLLM" in ended.stderr
    assert fake_tox.calls() == []
    for version in ("0.19.1", "0.18.1"):
        copytree(folder / "tests", folder / f"vllm-{version}" / "tests", symlinks=True)
    ended = matrix(fake_tox.here, "run", "--platform", "cpu", *cells, *named)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.programs
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([CELL, "--upstream", FILE, "--engine", "ray"], "runs on this machine only"),
        (["--resume", "--upstream", FILE], "leave out --upstream"),
        ([CELL, "--upstream", "tests/none.py", "--upstream-tests", "by hand"], "no such file"),
    ],
)
def test_before_anything_is_built_it_is_refused(
    fake_tox: FakeTox, folder: Path, arguments: list[str], said: str
) -> None:
    assert folder.is_dir()
    ended = matrix(fake_tox.here, "run", "--platform", "cpu", *arguments)
    assert ended.returncode == 2 and said in ended.stderr, ended.stderr
    assert fake_tox.calls() == []
