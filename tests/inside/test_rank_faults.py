"""A start of several ranks fails as its rank did, whatever vLLM makes of that."""

import importlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from matrix.inside import rank_faults
from matrix.inside.isolation import run_forked
from matrix.inside.rank_faults import RankError, explained, noting
from matrix.record.signature import reason, signature

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork and prctl")

LOGGER = logging.getLogger("vllm.v1.executor.multiproc_executor")
ENGINE = logging.getLogger("vllm.v1.engine.core")
BOOM = "ValueError: the graph has no output"


def raises() -> None:
    """Be a worker that fails: vLLM logs its traceback, and tells the engine what it likes."""
    try:
        raise ValueError("the graph has no output")
    except ValueError:
        LOGGER.exception("WorkerProc hit an exception.")


def fails() -> None:
    """Be the engine in its own process that fails."""
    try:
        raise ValueError("the graph has no output")
    except ValueError:
        ENGINE.exception("EngineCore failed to start.")


def dies(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def waits() -> None:
    time.sleep(60)


def start(*workers: Callable[[], None], ends: str = "waits") -> Callable[[], None]:
    """Return a start whose workers do this, the first of them last, and which then fails."""

    def run() -> None:
        with explained():
            context: Any = multiprocessing.get_context("fork")
            processes = [context.Process(target=worker, daemon=True) for worker in workers]
            for process in reversed(processes):
                process.start()
                if ends == "waits":
                    process.join(0.5)
            for process in processes:
                process.terminate()  # as vLLM does with those that are left
            for process in processes:
                process.join()
            raise RuntimeError("cancelled")

    return run


@pytest.mark.parametrize("worker", [raises, fails])
def test_an_error_of_a_rank_is_the_error_of_the_start(worker: Callable[[], None]) -> None:
    ended = run_forked(start(worker, waits), timeout=60)
    assert ended.kind == "raised" and ended.error is not None
    assert "RankError: a rank failed\n" in ended.error and "cancelled" not in ended.error
    assert reason(ended.error) == BOOM
    assert str(signature(ended.error)).startswith(BOOM)


def test_the_first_failure_counts_and_not_what_follows_from_it() -> None:
    def follows() -> None:
        try:
            raise ConnectionError("the other rank is gone")
        except ConnectionError:
            LOGGER.exception("WorkerProc hit an exception.")

    ended = run_forked(start(follows, raises), timeout=60)
    assert reason(str(ended.error)) == BOOM


@pytest.mark.parametrize(
    ("number", "outcome"), [(signal.SIGSEGV, "crashed"), (signal.SIGKILL, "interrupted")]
)
def test_a_rank_that_dies_takes_its_start_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, outcome: str
) -> None:
    # The signal leaves the start no time to remove its folder.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # What another rank says of it does not count.
    ended = run_forked(start(raises, dies(number)), timeout=60, output=tmp_path / "output")
    assert (ended.kind, ended.signal, ended.outcome) == ("signalled", number, outcome)
    assert f"a rank was ended by {signal.Signals(number).name}, and its start" in ended.output


def test_workers_that_the_start_ends_itself_explain_nothing() -> None:
    ended = run_forked(start(waits, waits), timeout=60)
    assert ended.kind == "raised"
    assert str(ended.error).rstrip().endswith("RuntimeError: cancelled")


def test_a_start_that_goes_well_leaves_nothing_behind() -> None:
    popen: Any = importlib.import_module("multiprocessing.popen_fork")
    before = popen.Popen.poll, popen.Popen._send_signal, LOGGER.exception
    with explained():
        assert rank_faults.RANK_FAILURES_VARIABLE in os.environ
    assert (popen.Popen.poll, popen.Popen._send_signal, LOGGER.exception) == before
    assert rank_faults.RANK_FAILURES_VARIABLE not in os.environ


def test_an_error_of_the_start_alone_stays_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), explained():
        raise ZeroDivisionError


def test_a_worker_of_a_new_interpreter_notes_where_the_start_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "failures"
    monkeypatch.setenv(rank_faults.RANK_FAILURES_VARIABLE, str(path))
    with noting():
        raises()
    (line,) = path.read_text().splitlines()
    assert json.loads(line).rstrip().endswith(BOOM)
    path.write_text("no JSON")
    assert rank_faults._first(path) is None and issubclass(RankError, RuntimeError)
