"""A run with the real plugin, fakes of torch and vLLM, and startup tests of its own."""

import contextlib
import dataclasses
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from matrix.catalog.cells import Cell
from matrix.record.model import ErrorKind, Record, RunError
from matrix.record.reader import read
from matrix.run import pytest_child
from waiting import alive, wait_for

pytestmark = pytest.mark.programs

ROOT = Path(__file__).parents[2]
CELL = Cell(f"{sys.version_info.major}.{sys.version_info.minor}", "2.10.0", "0.19.1")
INSTALLED = {"torch": "2.10.0+cu128", "vllm": "0.19.1", "triton": "3.6.0"}


def valid(path: Path) -> Record:
    return read(path)


HELPER = "import time; time.sleep(600)"
CASES = f"""
import os, subprocess, sys, time
from pathlib import Path

def test_a():
    pass

def test_slow():
    helper = subprocess.Popen([sys.executable, "-c", {HELPER!r}], start_new_session=True)
    Path(os.environ["PIDS"]).write_text(f"{{os.getpid()}} {{helper.pid}}")
    time.sleep(600)
"""
FAKES = """
import os, sys, types
compat = types.ModuleType("matrix.inside.vllm_compat")
compat.effective_flags = dict
compat.preload = lambda platform: None
compat.chosen_platform = lambda: os.environ["MATRIX_PLATFORM"]
sys.modules[compat.__name__] = compat
"""
ENGINE = """
import sys
from pathlib import Path
from matrix.catalog.cells import Cell
from matrix.errors import MatrixError
from matrix.run.cell import RunRefusedError, RunRequest, run_cell
try:
    done = run_cell(RunRequest(
        cell={cell!r}, platform="cpu", pytest_args=["-p", "fakes", *sys.argv[1:]],
        root=Path.cwd(), installed={installed!r}, least_free_mib=1, least_memory_mib=1, jobs="1",
    ))
except RunRefusedError as refusal:
    sys.exit(f"refused: {{refusal}}")
except MatrixError as error:
    sys.exit(f"wrong: {{error}}")
sys.exit(done if isinstance(done, int) else 0)
"""


@dataclasses.dataclass(frozen=True)
class Checkout:
    """A checkout with the real plugin, fakes of torch and vLLM, and startup tests of its own."""

    root: Path
    pids: Path

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", ENGINE.format(cell=CELL, installed=INSTALLED), *arguments],
            cwd=self.root,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MATRIX"))},
                "PYTHONPATH": f"{ROOT}{os.pathsep}{self.root}",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PIDS": str(self.pids),
                "CXX": "true",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def left(self) -> list[Path]:
        return sorted((self.root / "records" / "cpu").iterdir())

    def record(self) -> Record:
        (path,) = (path for path in self.left() if path.suffix == ".json")
        return valid(path)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "real"
    for name, text in {
        "tests/startup/pytest.ini": "[pytest]\naddopts = -p no:cacheprovider\n",
        "tests/startup/test_cases.py": CASES,
        "fakes.py": FAKES,
        "torch.py": "import types\n__version__ = '2.10.0'\n"
        "version = types.SimpleNamespace(cuda=None)\n",
        "vllm/__init__.py": "__version__ = '0.19.1'\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Checkout(root, tmp_path / "pids")


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--help", "--case-timeout=SECONDS"),
        ("--version", "pytest "),
        ("--markers", "isolated: "),
        ("--collect-only", "test_slow"),
    ],
)
def test_a_person_who_asks_pytest_gets_the_answer(
    checkout: Checkout, argument: str, said: str
) -> None:
    process = checkout.start(argument)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert said in output
    assert checkout.left() == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--wrong"], "unrecognized arguments: --wrong"),
        (["-k", "a and"], "Wrong expression passed to '-k': a and: "),
        (["tests/startup/test_cases.py::test_b"], "not found: tests/startup/test_cases.py::test_b"),
        (["-k", "slwo"], "pytest's arguments select no startup test; "),
    ],
)
def test_a_wrong_argument_is_one_line_and_no_record(
    checkout: Checkout, arguments: list[str], reason: str
) -> None:
    process = checkout.start(*arguments)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith(f"wrong: {reason}"), output
    assert checkout.left() == []


def test_another_torch_than_the_installed_one_is_the_wrong_cell(checkout: Checkout) -> None:
    torch = checkout.root / "torch.py"
    torch.write_text(torch.read_text().replace("2.10.0", "2.11.0"))
    process = checkout.start("-k", "test_a")
    output, _ = process.communicate(timeout=60)
    record = checkout.record()
    assert record.error is not None and record.error.kind == "wrong_cell"
    assert record.error.reason.startswith("torch 2.10.0 is installed, and torch 2.11.0 was ")
    assert record.cases == () and "refused: torch 2.10.0 is installed" in output


def test_a_conftest_that_cannot_be_imported_is_recorded(checkout: Checkout) -> None:
    (checkout.root / "tests/startup/conftest.py").write_text("import nowhere_to_be_found\n")
    process = checkout.start("-k", "slow")
    process.communicate(timeout=60)
    record = checkout.record()
    assert record.error is not None and record.error.kind == "internal"
    assert "nowhere_to_be_found" in record.error.reason


def test_cases_that_an_ended_run_never_began_are_counted(checkout: Checkout) -> None:
    engine = checkout.start("-k", "slow or test_a", "--case-timeout=60")
    with engine:
        wait_for(lambda: checkout.pids.exists() and checkout.pids.read_text())
        engine.terminate()
    record = checkout.record()
    assert record.total_cases == 2 and record.selected == 2


def test_killed_itself_its_pytest_ends_what_the_case_started(checkout: Checkout) -> None:
    engine = checkout.start("-k", "slow")
    with engine:
        wait_for(lambda: checkout.pids.exists() and checkout.pids.read_text())
        engine.kill()
    pids = [int(pid) for pid in checkout.pids.read_text().split()]
    try:
        wait_for(lambda: not any(alive(pid) for pid in pids))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[1], signal.SIGKILL)
    wait_for(lambda: checkout.record().finished)
    record = checkout.record()
    assert record.error == RunError(kind=ErrorKind.INTERRUPTED, reason="stopped by a signal")
    assert [case.outcome for case in record.cases] == ["interrupted"]
    assert record.deselected == 1


def test_a_record_is_clean_before_its_run_has_ended(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed leaves the record that its session wrote."""
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnopqrstuvwx")
    cases = checkout.root / "tests/startup/test_cases.py"
    text = "raise RuntimeError(f'{Path.cwd()}/a.py: {os.environ[\"HF_TOKEN\"]}')"
    cases.write_text(cases.read_text().replace("    pass", f"    {text}", 1))
    engine = checkout.start("-k", "slow or test_a")
    with engine:
        wait_for(lambda: checkout.pids.exists() and checkout.pids.read_text())
        (path,) = (path for path in checkout.left() if path.suffix == ".json")
        content = path.read_text()
        engine.kill()
    assert "a.py: <secret>" in content
    assert "hf_abc" not in content and str(checkout.root) not in content


def test_an_import_that_takes_pytest_along_leaves_its_last_words(checkout: Checkout) -> None:
    (checkout.root / "vllm/__init__.py").write_text(
        "import os\nos.write(2, b'Tried to register an operator twice\\n')\nos.abort()\n"
    )
    process = checkout.start()
    process.communicate(timeout=60)
    record = checkout.record()
    assert record.error is not None and record.error.kind == "imports"
    (log,) = (path for path in checkout.left() if path.suffix == ".log")
    assert "Tried to register an operator twice" in log.read_text()


def test_a_report_that_a_full_disk_refuses_ends_no_run(checkout: Checkout) -> None:
    process = checkout.start("-k", "test_a", "--junitxml=/dev/full")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in output, output
    assert "the JUnit report is lost: No space left on device" in output
    assert "1 failed" in output or "1 passed" in output
    assert checkout.record().finished and checkout.record().error is None


@pytest.mark.parametrize("text", ["", '<?xml version="1.0"?><testsuites><testsuite hostname="h'])
def test_a_report_that_was_cut_short_is_removed(tmp_path: Path, text: str) -> None:
    junit = tmp_path / "cell.junit.xml"
    junit.write_text(text)
    pytest_child.keep_whole_junit(junit)
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_would_name_the_host_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    junit = tmp_path / "cell.junit.xml"
    junit.write_text('<testsuites><testsuite hostname="h"></testsuite></testsuites>')
    monkeypatch.setattr(os, "replace", refuse)
    pytest_child.keep_whole_junit(junit)
    assert list(tmp_path.iterdir()) == []


def test_the_junit_file_does_not_name_the_host(checkout: Checkout) -> None:
    process = checkout.start("-k", "test_a")
    process.communicate(timeout=60)
    (junit,) = (path for path in checkout.left() if path.suffix == ".xml")
    assert 'hostname=""' in junit.read_text() and "<testcase " in junit.read_text()
