"""A run with upstream's own tests: the record has them apart from its cases, whatever happens."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from matrix.record.model import ErrorKind
from matrix.record.reader import read
from matrix.record.upstream import NOT_ENDED, SuiteCase, UpstreamOutcome, UpstreamSuite
from matrix.run import cell as cells
from matrix.run import pytest_child
from matrix.run.cell import RunRefusedError
from matrix.run.pytest_child import PytestChild
from matrix.run.upstream_files import UpstreamRequest
from matrix.run.upstream_suite import UpstreamRun
from pytest_stand_in import CELL, Run, runs_of

pytestmark = pytest.mark.programs

FILE = "tests/compile/test_small.py"
PASSED = SuiteCase(case=f"{FILE}::test_a", outcome=UpstreamOutcome.PASSED)
FAILED = SuiteCase(case=f"{FILE}::test_b", outcome=UpstreamOutcome.FAILED)
Keep = Callable[[UpstreamSuite], None]


class Upstream:
    """Stands for what runs upstream's tests; `seen` has the records of before and meanwhile."""

    def __init__(self, records: Path, failure: OSError | None = None) -> None:
        self.records, self.failure = records, failure
        self.asked: list[UpstreamRun] = []
        self.seen: list[UpstreamSuite | None] = []
        self.kept: tuple[SuiteCase, ...] = (PASSED,)

    def run(self, run: UpstreamRun, keep: Keep) -> UpstreamSuite:
        self.asked.append(run)
        self._look()
        keep(UpstreamSuite(cases=self.kept))
        self._look()
        if self.failure is not None:
            raise self.failure
        return UpstreamSuite(cases=(PASSED, FAILED))

    def _look(self) -> None:
        [path] = self.records.rglob("py*.json")
        self.seen.append(read(path).upstream)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return runs_of(tmp_path, monkeypatch)


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    found = Upstream(tmp_path / "records")
    monkeypatch.setattr(cells, "run_upstream", found.run)
    return found


@pytest.fixture
def request_of(tmp_path: Path) -> UpstreamRequest:
    return UpstreamRequest(folder=tmp_path, asked=(FILE,))


def test_upstreams_tests_run_after_the_cases_and_stand_apart(
    run: Run, upstream: Upstream, request_of: UpstreamRequest
) -> None:
    record = read(run("good", upstream=request_of))
    assert record.upstream == UpstreamSuite(cases=(PASSED, FAILED))
    assert len(record.cases) == 1 and record.is_complete and record.error is None
    before, meanwhile = upstream.seen
    assert before is not None and [case.reason for case in before.cases] == [NOT_ENDED]
    assert meanwhile == UpstreamSuite(cases=(PASSED,))
    [asked] = upstream.asked
    assert asked.log.name.endswith(".upstream.log") and 0 < asked.seconds < 60
    assert asked.kernels is None


@pytest.mark.parametrize("kept", [["--jit-cache", "kept"], ["--jit-cache=kept"]])
def test_they_use_the_kernels_that_the_run_keeps(
    run: Run, upstream: Upstream, request_of: UpstreamRequest, kept: list[str]
) -> None:
    run("good", upstream=request_of, pytest_args=[*kept, "-k", "good"])
    [asked] = upstream.asked
    assert asked.kernels == Path("kept").absolute() / CELL.name


def test_on_a_gpu_they_use_the_kernels_that_its_cases_built(
    run: Run, upstream: Upstream, request_of: UpstreamRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    def run_child(child: PytestChild, *more: Any) -> object:
        kept = Path(child.arguments[-1])
        assert (child.arguments[:-2], child.arguments[-2]) == (("-k", "good"), "--jit-cache")
        assert kept.is_dir()
        folders.append(kept)
        return usual(replace(child, arguments=child.arguments[:-2]), *more)

    usual = pytest_child.run
    monkeypatch.setattr("matrix.run.cell.unusable_gpu", lambda *_: None)
    monkeypatch.setattr("matrix.run.pytest_child.run", run_child)
    run("good", upstream=request_of, platform="cuda")
    [asked], [kept] = upstream.asked, folders
    assert asked.kernels == kept / CELL.name
    assert not kept.exists()  # the user named no folder to keep


@pytest.mark.parametrize("behaviour", ["SIGSEGV", "import error", "garbage"])
def test_after_a_run_that_ended_early_they_show_nothing(
    run: Run, upstream: Upstream, request_of: UpstreamRequest, behaviour: str
) -> None:
    record = read(run(behaviour, upstream=request_of))
    assert record.upstream is not None and upstream.asked == []
    [case] = record.upstream.cases
    assert (case.case, case.outcome) == (FILE, UpstreamOutcome.UNTESTED)
    assert (case.reason or "").startswith("the run ended early: ")


def test_a_refused_run_says_that_they_did_not_run(
    run: Run, upstream: Upstream, request_of: UpstreamRequest
) -> None:
    with pytest.raises(RunRefusedError) as refused:
        run("good", upstream=request_of, installed={"torch": "2.9.0", "vllm": "0.19.1"})
    record = read(refused.value.path)
    assert record.error is not None and record.error.kind == ErrorKind.WRONG_CELL
    assert record.upstream is not None and upstream.asked == []
    assert [case.reason for case in record.upstream.cases] == [NOT_ENDED]


def test_a_disk_that_refuses_leaves_the_rest_untested(
    run: Run, upstream: Upstream, request_of: UpstreamRequest
) -> None:
    waits = SuiteCase(case=f"{FILE}::test_c", outcome=UpstreamOutcome.UNTESTED, reason=NOT_ENDED)
    upstream.kept = (PASSED, FAILED, waits)
    upstream.failure = OSError(errno.ENOSPC, "No space left on device")
    record = read(run("good", upstream=request_of))
    assert record.upstream is not None and record.is_complete
    assert record.upstream.cases[:2] == (PASSED, FAILED)
    [case] = record.upstream.cases[2:]
    assert (case.case, case.outcome) == (waits.case, UpstreamOutcome.UNTESTED)
    assert case.reason == "could not run: No space left on device"
