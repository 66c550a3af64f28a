"""What the end of one of upstream's tests shows: the pair is never blamed for what a cell lacks."""

from __future__ import annotations

import pytest

from matrix.record.model import FAILURE_LIMIT, Platform
from matrix.record.upstream import UpstreamOutcome
from matrix.run.process import How, ProcessEnd
from matrix.run.upstream_outcome import died, missing_module, of_file, of_test

NAME = "tests/test_a.py::test_a"
EXITED = ProcessEnd(how=How.EXITED, seconds=1.26, status=1)
NO_MODULE = "ModuleNotFoundError: No module named {!r}"
CAUSE = "\n\nThe above exception was the direct cause of the following exception:\n\n"
DURING = "\n\nDuring handling of the above exception, another exception occurred:\n\n"


def phases(failure: str | None = None, when: str = "call") -> list[dict[str, object]]:
    return [
        {
            "when": phase,
            "outcome": "failed" if failure and phase == when else "passed",
            "text": failure if failure and phase == when else "",
        }
        for phase in ("setup", "call", "teardown")
    ]


@pytest.mark.parametrize(
    ("text", "module"),
    [
        (NO_MODULE.format("no_such.part"), "no_such.part"),
        ("E   " + NO_MODULE.format("no_such"), "no_such"),
        (NO_MODULE.format("no_such") + CAUSE + "ImportError: install it", "no_such"),
        (NO_MODULE.format("no_such") + DURING + "ValueError: 3", None),
        (NO_MODULE.format("tests.none"), "tests.none"),
        (NO_MODULE.format("vllm.none"), None),
        (NO_MODULE.format("torch"), None),
        (NO_MODULE.format("pytest.none"), None),
        ("AssertionError: it printed " + NO_MODULE.format("no_such"), None),
        ("", None),
    ],
)
def test_a_module_counts_as_missing_where_nobody_brings_it(text: str, module: str | None) -> None:
    assert missing_module(text) == module


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("huggingface_hub.errors.LocalEntryNotFoundError: no snapshot", "needs files of the hub"),
        ("OSError: We couldn't connect to 'https://huggingface.co'", "needs files of the hub"),
        ("OSError: Can't load image processor for 'a/model'. If you", "needs files of the hub"),
        ("OSError: Can't load the configuration of 'a/model'. If you", "needs files of the hub"),
        (
            "ValueError: has model type `a` but Transformers does not recognize this architecture.",
            "needs files of the hub",
        ),
        ("AssertionError: Torch not compiled with CUDA enabled", "needs a GPU"),
        ("AttributeError: '_OpNamespace' '_C' object has no attribute 'a'", "needs a GPU"),
        ("KeyError: <PlatformEnum.OOT: 6>", "needs a GPU"),
        ("Failed to find a kernel that can implement the A linear layer.", "needs a GPU"),
        ("No WNA16 MoE backend supports the deployment configuration.", "needs a GPU"),
        ("RuntimeError: 0 active drivers ([]). There should only be one.", "needs a GPU"),
        ("RuntimeError: Tried to instantiate dummy base class CUDAGraph", "needs a GPU"),
        ("RuntimeError: No CUDA GPUs are available", "no_gpu: "),
        ("OSError: [Errno 28] No space left on device", "no_space: "),
    ],
)
def test_what_a_machine_lacks_is_untested(text: str, why: str) -> None:
    case = of_test(NAME, phases(text), EXITED, "", Platform.CPU)
    assert case.outcome is UpstreamOutcome.UNTESTED and (case.reason or "").startswith(why)
    assert case.signature is None and case.seconds == 1.3


@pytest.mark.parametrize(
    "handled",
    [
        "huggingface_hub.errors.LocalEntryNotFoundError: no snapshot",
        "AssertionError: Torch not compiled with CUDA enabled",
        "RuntimeError: No CUDA GPUs are available",
    ],
)
def test_an_error_that_was_handled_does_not_excuse_the_next(handled: str) -> None:
    text = handled + DURING + "AssertionError: 33 is not 0"
    case = of_test(NAME, phases(text), EXITED, "", Platform.CPU)
    assert case.outcome is UpstreamOutcome.FAILED
    assert case.reason == "AssertionError: 33 is not 0"


CHILD = "a line of a log\nProcess ForkProcess-1:\nTraceback (most recent call last):\n  File a\n"
CHILD_FAILED = "AssertionError: Cold-start child failed"
OF_CHILD = f"assert p.exitcode == 0, 'Cold-start child failed'\n{CHILD_FAILED}"


@pytest.mark.parametrize(
    ("failure", "stderr", "reason"),
    [
        (OF_CHILD, CHILD + "ValueError: 3", "ValueError: 3"),
        (OF_CHILD, CHILD + "ValueError: 3\n" + CHILD + "KeyError: 'b'", "KeyError: 'b'"),
        (OF_CHILD, CHILD + "KeyError: 'b'" + DURING + "ValueError: 3", "ValueError: 3"),
        (OF_CHILD, "Traceback (most recent call last):\nValueError: 3", CHILD_FAILED),
        (OF_CHILD, "", CHILD_FAILED),
        ("AssertionError: 33 is not 0", CHILD + "ValueError: 3", "AssertionError: 33 is not 0"),
    ],
)
def test_a_child_that_failed_is_the_cause_where_the_test_says_so(
    failure: str, stderr: str, reason: str
) -> None:
    lines = [{**line, "stderr": stderr} for line in phases(failure)]
    case = of_test(NAME, lines, EXITED, "", Platform.CUDA)
    assert case.outcome is UpstreamOutcome.FAILED and case.reason == reason
    assert (case.failure or "").startswith(failure)


def test_the_engine_that_did_not_start_is_such_a_child() -> None:
    failure = "RuntimeError: Engine core initialization failed. See root cause above."
    error = "AssertionError: Torch not compiled with CUDA enabled"
    child = f"Process EngineCore_DP0:\nTraceback (most recent call last):\n  File a\n{error}\n"
    for mark in ("", "(EngineCore_DP0 pid=12) "):
        marked = "".join(f"{mark}{line}\n" for line in child.splitlines())
        lines = [{**line, "stderr": marked} for line in phases(failure)]
        assert of_test(NAME, lines, EXITED, "", Platform.CPU).reason == "needs a GPU"
        assert of_test(NAME, lines, EXITED, "", Platform.CUDA).reason == error


def test_a_child_that_lacks_files_of_the_hub_shows_nothing_of_the_pair() -> None:
    stderr = CHILD + "IndexError: 0" + DURING + "OSError: Can't load image processor for 'a/model'."
    lines = [{**line, "stderr": stderr} for line in phases(OF_CHILD)]
    case = of_test(NAME, lines, EXITED, "", Platform.CUDA)
    assert case.outcome is UpstreamOutcome.UNTESTED
    assert (case.reason or "").startswith("needs files of the hub")


@pytest.mark.parametrize("when", ["setup", "call", "teardown"])
def test_a_failure_of_any_phase_has_its_signature(when: str) -> None:
    text = "x" * FAILURE_LIMIT + "\nKeyError: 'layer 3'"
    case = of_test(NAME, phases(text, when), EXITED, "", Platform.CUDA)
    assert case.outcome is UpstreamOutcome.FAILED
    assert (case.signature or "").startswith("KeyError") and case.failure is not None
    assert len(case.failure) <= FAILURE_LIMIT


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        # On a GPU the pair has to have what CUDA needs.
        ("AssertionError: Torch not compiled with CUDA enabled", Platform.CUDA),
        ("AttributeError: '_OpNamespace' '_C' object has no attribute 'a'", Platform.CUDA),
        # A line of the source quotes it, torch itself lacks it, and no hub has it.
        ('    match="Failed to find a kernel that can implement the A linear layer"', Platform.CPU),
        ("'_OpNamespace' '_c10d_functional' object has no attribute 'a'", Platform.CPU),
        ("OSError: Can't load the configuration of '/tmp/a'. If you", Platform.CPU),
    ],
)
def test_what_the_pair_should_have_is_its_failure(text: str, platform: Platform) -> None:
    assert of_test(NAME, phases(text), EXITED, "", platform).outcome is UpstreamOutcome.FAILED


def test_a_test_passes_only_where_its_process_came_to_its_end() -> None:
    good = ProcessEnd(how=How.EXITED, seconds=1.0, status=0)
    killed = ProcessEnd(how=How.SIGNALLED, seconds=1.0, signal="SIGABRT")
    for ended, lines, outcome in (
        (good, phases(), UpstreamOutcome.PASSED),
        (EXITED, phases(), UpstreamOutcome.FAILED),
        (EXITED, phases()[:1], UpstreamOutcome.FAILED),
        (killed, phases(), UpstreamOutcome.FAILED),
        (good, [], UpstreamOutcome.UNTESTED),
    ):
        assert of_test(NAME, lines, ended, "", Platform.CPU).outcome is outcome


@pytest.mark.parametrize(
    ("ended", "outcome", "why"),
    [
        (ProcessEnd(how=How.INTERRUPTED, seconds=1.0, signal="SIGINT"), "untested", "interrupted"),
        (ProcessEnd(how=How.SIGNALLED, seconds=1.0, signal="SIGKILL"), "untested", "from outside"),
        (
            ProcessEnd(how=How.SIGNALLED, seconds=1.0, signal="SIGKILL", oom_kill=True),
            "untested",
            "out-of-memory killer",
        ),
        (ProcessEnd(how=How.SIGNALLED, seconds=1.0, signal="SIGSEGV"), "failed", "SIGSEGV"),
        (ProcessEnd(how=How.TIMED_OUT, seconds=900.0), "failed", "timed out after 900 s"),
    ],
)
def test_how_a_process_died_decides(ended: ProcessEnd, outcome: str, why: str) -> None:
    for case in (died(NAME, ended, "log"), of_file(NAME, [], ended, "log", Platform.CPU)):
        assert case.outcome == outcome and why in (case.reason or "")
        assert bool(case.signature) is (outcome == "failed")
