"""Upstream's own tests run unmodified, a process for each: what dies takes no other along."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from matrix._util.files import digest_of
from matrix.record.model import Platform
from matrix.record.upstream import NOT_ENDED, SuiteCase, UpstreamOutcome, UpstreamSuite
from matrix.rules.upstream.unpack import NOTE, digests_of
from matrix.run import upstream_suite
from matrix.run.upstream_files import UpstreamRequest
from matrix.run.upstream_suite import UpstreamRun, run_upstream

pytestmark = pytest.mark.programs

ROOT = Path(__file__).parents[2]
FILE = "tests/compile/test_small.py"
CONFTEST = """
from tblib import pickling_support
pickling_support.install()
import pytest

@pytest.fixture
def upstreams_own():
    return 7
"""
TESTS = """
import os, signal, time
import multiprocessing as mp
import pytest
from ..utils import forked

def test_passes(upstreams_own):
    assert upstreams_own == 7

@pytest.mark.parametrize("mega", ["0", "1 and more"])
def test_counts(mega):
    assert mega == "0", "33 is not 0"

@forked
def test_forks():
    os._exit(0)

@pytest.mark.skipif(True, reason="needs a Hopper GPU")
def test_is_skipped():
    pass

def test_crashes():
    os.kill(os.getpid(), signal.SIGSEGV)

def test_hangs():
    time.sleep(600)

def _cold_start():
    raise ValueError("the cold start broke")

def test_starts_cold_in_a_child():
    child = mp.get_context("fork").Process(target=_cold_start)
    child.start()
    child.join()
    assert child.exitcode == 0, "Cold-start child failed"

def test_needs_a_module():
    import no_such_module

def test_handles_that():
    try:
        import no_such_module
    except ImportError:
        assert False, "its own fault"

def test_lacks_a_part_of_vllm():
    raise ModuleNotFoundError("No module named 'vllm.no_such_part'", name="vllm.no_such_part")

def test_asks_the_hub():
    class LocalEntryNotFoundError(Exception): pass
    raise LocalEntryNotFoundError("gpt2 is not there")

def test_has_a_driver():
    raise RuntimeError("Found no NVIDIA driver on your system.")

def test_shares_kernels():
    folder = os.environ["FLASHINFER_WORKSPACE_BASE"]
    assert folder not in os.environ["HF_HOME"] and os.path.isdir(os.environ["DG_JIT_CACHE_DIR"])
    assert os.environ["CUDA_CACHE_PATH"] != "/home/user"
    open(os.path.join(folder, "kernel.so"), "x").close()

def test_shares_kernels_and_finds_those_of_others():
    folder = os.environ["FLASHINFER_WORKSPACE_BASE"]
    assert os.path.isfile(os.path.join(folder, "kernel.so"))
    assert "matrix-upstream-" in folder

def test_finds_kernels_of_the_cases():
    assert os.path.isfile(os.path.join(os.environ["FLASHINFER_WORKSPACE_BASE"], "kernel.so"))

def test_is_offline():
    assert os.environ["HF_HUB_OFFLINE"] == "1" and "HF_TOKEN" not in os.environ
    config = "models--openai--gpt-oss-120b/snapshots/" + "0" * 40 + "/config.json"
    here = os.path.join(os.environ["HF_HUB_CACHE"], config)
    assert os.path.isfile(here)
    assert os.path.isfile(os.path.join(os.path.dirname(here), "tokenizer.json"))

def test_has_the_configuration_of_upstream(request):
    assert "slow_test" in "".join(request.config.getini("markers"))
    assert not request.config.getini("xfail_strict")
"""
# As upstream has it: the test makes itself the leader of a group, and its child reports the end.
UTILS = """
import os

def forked(function):
    def test_of_its_own():
        os.setpgrp()
        child = os.fork()
        if not child:
            function()
        assert os.waitpid(child, 0)[1] == 0
    return test_of_its_own
"""


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    """A folder with upstream's tests, as its source distribution would have them."""
    files = {
        "tests/__init__.py": "",
        "tests/conftest.py": CONFTEST,
        "tests/utils.py": UTILS,
        "tests/compile/__init__.py": "",
        FILE: TESTS,
        "tests/compile/test_broken.py": "import no_such_module\n",
        "tests/compile/test_left_out.py": "import pytest\npytest.importorskip('no_such_module')\n",
        "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["slow_test"]\n',
    }
    folder = tmp_path / "vllm-0.19.1"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


class Runs:
    """Runs what is asked for; `kept` has the suite after each test."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder, self.log = folder, log
        self.kept: list[UpstreamSuite] = []

    def __call__(
        self,
        *asked: str,
        seconds: float = 120.0,
        test_seconds: float = 60.0,
        kernels: Path | None = None,
    ) -> dict[str, SuiteCase]:
        run = UpstreamRun(
            request=UpstreamRequest(folder=self.folder, asked=asked),
            platform=Platform.CPU,
            root=ROOT,
            python=(sys.executable,),
            seconds=seconds,
            test_seconds=test_seconds,
            received=(),
            log=self.log,
            kernels=kernels,
        )
        suite = run_upstream(run, self.kept.append)
        return {case.case.rpartition("::")[2]: case for case in suite.cases}


@pytest.fixture
def run(tests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.setenv("CUDA_CACHE_PATH", "/home/user")
    return Runs(tests, tmp_path / "run.upstream.log")


def test_kernels_that_the_cases_built_are_there_and_stay(run: Runs, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "flashinfer").mkdir(parents=True)
    (kept / "flashinfer" / "kernel.so").touch()
    found = run(f"{FILE}::test_finds_kernels_of_the_cases", kernels=kept)
    assert found["test_finds_kernels_of_the_cases"].outcome is UpstreamOutcome.PASSED
    assert (kept / "flashinfer" / "kernel.so").is_file()


def test_each_test_ends_as_it_does_and_none_takes_others_along(
    run: Runs, tests: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = run(FILE, test_seconds=15.0)
    assert {name: case.outcome.value for name, case in found.items()} == {
        "test_passes": "passed",
        "test_counts[0]": "passed",
        "test_counts[1 and more]": "failed",
        "test_forks": "passed",
        "test_is_skipped": "skipped",
        "test_crashes": "failed",
        "test_hangs": "failed",
        "test_starts_cold_in_a_child": "failed",
        "test_needs_a_module": "untested",
        "test_handles_that": "failed",
        "test_lacks_a_part_of_vllm": "failed",
        "test_asks_the_hub": "untested",
        "test_has_a_driver": "untested",
        "test_shares_kernels": "passed",
        "test_shares_kernels_and_finds_those_of_others": "passed",
        "test_finds_kernels_of_the_cases": "passed",
        "test_is_offline": "passed",
        "test_has_the_configuration_of_upstream": "passed",
    }
    assert found["test_is_skipped"].reason == "needs a Hopper GPU"
    assert found["test_crashes"].reason == "killed by SIGSEGV"
    assert (found["test_hangs"].reason or "").startswith("timed out after 15 s")
    assert found["test_needs_a_module"].reason == (
        "needs the module no_such_module, which is not installed here"
    )
    cold = found["test_starts_cold_in_a_child"]
    assert cold.reason == "ValueError: the cold start broke"
    assert "Cold-start child failed" in (cold.failure or "")
    signature = found["test_counts[1 and more]"].signature or ""
    assert signature.startswith("AssertionError: 33 is not 0")
    assert "gpt2 is not there" in (found["test_asks_the_hub"].reason or "")
    last = run.kept[-1]
    of_the_hub = {"tokenizer", "image processor", "configuration class"}
    assert set(last.stand_ins) == {*of_the_hub, "tblib"} and last.sdist is None
    assert last.files == {FILE: digest_of(tests / FILE)}
    assert sorted(path.name for path in tests.rglob("*") if "cache" in path.name) == []
    shown = capfd.readouterr().out
    assert f"upstream  {FILE}::test_passes" in shown
    assert f"== {FILE}::test_crashes\n" in run.log.read_text()


def test_the_record_says_what_is_still_to_run(run: Runs) -> None:
    run(f"{FILE}::test_passes", f"{FILE}::test_is_offline")
    first = {case.case: case.reason for case in run.kept[0].cases}
    assert first == dict.fromkeys((f"{FILE}::test_passes", f"{FILE}::test_is_offline"), NOT_ENDED)


def test_after_each_test_the_record_is_written_once_and_each_file_is_read_once(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def digest(path: Path) -> str:
        read.append(path)
        return digest_of(path)

    monkeypatch.setattr(upstream_suite, "digest_of", digest)
    names = [f"{FILE}::test_passes", f"{FILE}::test_counts"]
    run(names[0], *names)
    at_work = [suite.at_work for suite in run.kept]
    counts = [f"{names[1]}[0]", f"{names[1]}[1 and more]"]
    # At first, after each of two paths is collected, and after each of three tests.
    assert at_work == [names[0], names[0], names[1], *counts, None]
    assert len(read) == 1
    run.kept.clear()
    run(FILE + "::test_counts", counts[1])
    for suite in run.kept:
        shown = [case.case for case in suite.cases]
        assert len(shown) == len(set(shown))


def test_the_record_names_a_source_distribution_only_where_all_files_are_its_own(
    run: Runs, tests: Path
) -> None:
    note = {"file": "vllm-0.19.1.tar.gz", "sha256": "0" * 64, "files": digests_of(tests)}
    (tests / NOTE).write_text(json.dumps(note))
    run(f"{FILE}::test_passes")
    assert (run.kept[-1].sdist, run.kept[-1].sha256) == (note["file"], note["sha256"])
    (tests / "tests/conftest.py").write_text(CONFTEST + "# changed\n")
    run(f"{FILE}::test_passes")
    assert (run.kept[-1].sdist, run.kept[-1].sha256) == (None, None)


def test_failures_take_so_much_room_of_a_record_and_no_more(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = run(f"{FILE}::test_handles_that")["test_handles_that"].failure
    assert full is not None and len(full) > 200
    monkeypatch.setattr(upstream_suite, "_FAILURES_LIMIT", len(json.dumps(full)) + 100)
    first, second = run(f"{FILE}::test_handles_that", f"{FILE}::test_counts[1 and more]").values()
    assert first.failure is not None and second.failure is None
    assert second.outcome is UpstreamOutcome.FAILED
    assert (second.signature or "").startswith("AssertionError: 33 is not 0") and second.reason


def test_what_cannot_be_collected_is_a_case_of_its_own(run: Runs) -> None:
    found = run("tests/compile/test_broken.py", "tests/compile/test_left_out.py", f"{FILE}::nope")
    assert found["tests/compile/test_broken.py"].outcome is UpstreamOutcome.UNTESTED
    assert "module no_such_module" in (found["tests/compile/test_broken.py"].reason or "")
    assert found["tests/compile/test_left_out.py"].outcome is UpstreamOutcome.SKIPPED
    assert found["nope"].outcome is UpstreamOutcome.UNTESTED
    assert found["nope"].reason == "pytest finds no such test there"


def test_a_file_that_cannot_be_collected_in_time_is_untested(run: Runs, tests: Path) -> None:
    (tests / FILE).write_text("import time\ntime.sleep(600)\n")
    [case] = run(FILE, test_seconds=3.0).values()
    assert case.outcome is UpstreamOutcome.UNTESTED
    assert case.reason == "pytest did not collect its tests within 3 s"


def test_a_module_that_upstreams_conftest_needs_is_named(run: Runs, tests: Path) -> None:
    (tests / "tests/conftest.py").write_text("import no_such_module.part\n")
    [case] = run(FILE).values()
    assert case.outcome is UpstreamOutcome.UNTESTED
    assert case.reason == "needs the module no_such_module, which is not installed here"


def test_after_the_time_of_the_run_the_rest_is_untested(run: Runs) -> None:
    found = run(f"{FILE}::test_hangs", f"{FILE}::test_passes", seconds=6.0)
    assert {case.outcome for case in found.values()} == {UpstreamOutcome.UNTESTED}
    assert {case.reason for case in found.values()} == {"the time of the whole run was over"}
