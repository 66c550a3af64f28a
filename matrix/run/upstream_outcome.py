"""The meaning of the end of one of upstream's tests for the pair.

Pure, but that it looks whether a module is installed.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence

from matrix.record.machine_marks import machine_fault
from matrix.record.model import Platform, clip_failure
from matrix.record.signature import reason as reason_of
from matrix.record.signature import signature as signature_of
from matrix.record.upstream import INTERRUPTED, SuiteCase, UpstreamOutcome
from matrix.run.process import How, ProcessEnd

_PAIR = ("torch", "triton", "vllm")
"""What the pair itself brings: where one of its modules is missing, the pair fails."""
_DURING = "During handling of the above exception, another exception occurred:"
_NO_MODULE = re.compile(r"^(?:E +)?ModuleNotFoundError: No module named '([\w.]+)'", re.MULTILINE)
_NO_HUB = re.compile(
    r"^(?:E +)?(?:[\w.]+\.)?(?:LocalEntryNotFoundError|OfflineModeIsEnabled)\b"
    r"|[Cc]ouldn't connect to 'https://|outgoing traffic has been disabled"
    r"|Cannot reach https://\S+: offline mode is enabled"
    r"|^(?:E +)?OSError: Can't load .+ (?:for|of) '(?!/)"
    # On the hub a model that transformers does not know brings its classes as code.
    r"|has model type `[^`]*` but Transformers does not recognize this architecture",
    re.MULTILINE,
)
_OF_CHILD = re.compile(r"\bchild\b|\bexitcode\b|\bEngine core initialization failed\b")
_OF_PROCESS = re.compile(r"^\([^()\n]{1,60} pid=\d+\) ", re.MULTILINE)  # before what vLLM prints
_SOURCE = re.compile(r"^ {4}.*\n?", re.MULTILINE)  # a line of a traceback that shows the source
_CHILD = re.compile(r"^Process [\w:-]+:\n(?=Traceback \(most recent call last\):\n)", re.MULTILINE)
_LAST_ERROR = 1000  # characters of a failure's end that show what it asserts
_JUDGED = 200_000  # characters of a failure's end that are judged
# Without a GPU vLLM's compiled operators are not loaded, and its tables of kernels have no platform
# but its own.
_NO_CUDA = re.compile(
    r"Torch not compiled with CUDA enabled|\b0 active drivers\b"
    r"|Tried to instantiate dummy base class|Cannot access accelerator device when none is"
    r"|Distributed package doesn't have NCCL|Attempting to deserialize object on a CUDA device"
    r"|'_OpNamespace' '_(?:\w+_)?C(?:_\w+)?' object has no attribute"
    r"|KeyError: <PlatformEnum\.OOT\b"
    r"|Failed to find a kernel that can implement the \w+ linear layer"
    r"|No [\w ]+ MoE backend supports the deployment configuration"
)
_FROM_OUTSIDE = {"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGXCPU"}
_NOT_FOUND = re.compile(r"^ERROR: (?:not found|found no)", re.MULTILINE)
_NO_TESTS = 5  # pytest's status where there was nothing to run


def of_test(
    name: str, lines: Sequence[Mapping[str, object]], ended: ProcessEnd, output: str, on: Platform
) -> SuiteCase:
    """Return the case of one test, by what the plugin reported and how its process ended.

    `output` is the end of what the process printed.
    """
    phases = [line for line in lines if "when" in line]
    failed = next((line for line in phases if line["outcome"] == "failed"), None)
    skipped = next((line for line in phases if line["outcome"] == "skipped"), None)
    seconds = round(ended.seconds, 1)
    if failed is not None:
        text = _with_cause(str(failed["text"]), str(failed.get("stderr", "")))
        return _failed(name, text, seconds, on)
    if ended.how is not How.EXITED:
        return died(name, ended, output)
    if skipped is not None:
        why = reason_of(str(skipped["text"])) or "upstream gives no reason"
        return SuiteCase(case=name, outcome=UpstreamOutcome.SKIPPED, reason=why, seconds=seconds)
    if {line["when"] for line in phases} >= {"setup", "call", "teardown"} and not ended.status:
        return SuiteCase(case=name, outcome=UpstreamOutcome.PASSED, seconds=seconds)
    return _without_result(name, lines, ended, output, on)


def of_file(
    name: str, lines: Sequence[Mapping[str, object]], ended: ProcessEnd, output: str, on: Platform
) -> SuiteCase:
    """Return the case of a file, or of a name in it, of which no test could be collected."""
    if ended.how is not How.EXITED:
        return died(name, ended, output)
    return _without_result(name, lines, ended, output, on)


def untested(name: str, reason: str, seconds: float = 0.0) -> SuiteCase:
    """Return a case that shows nothing of the pair."""
    return SuiteCase(case=name, outcome=UpstreamOutcome.UNTESTED, reason=reason, seconds=seconds)


def died(name: str, ended: ProcessEnd, output: str) -> SuiteCase:
    """Return the case of a test whose process did not come to its own end."""
    if ended.how is How.INTERRUPTED:
        return untested(name, f"{INTERRUPTED} {ended.signal}", round(ended.seconds, 1))
    if ended.oom_kill and ended.signal == "SIGKILL" and ended.how is How.SIGNALLED:
        why = "killed by the kernel's out-of-memory killer"
        return untested(name, why, round(ended.seconds, 1))
    if ended.how is How.SIGNALLED and ended.signal in _FROM_OUTSIDE:
        return untested(name, f"killed from outside by {ended.signal}", round(ended.seconds, 1))
    timed_out = ended.how is How.TIMED_OUT
    why = f"timed out after {ended.seconds:.0f} s" if timed_out else f"killed by {ended.signal}"
    return SuiteCase(
        case=name,
        outcome=UpstreamOutcome.FAILED,
        reason=why,
        signature=signature_of("timed out" if timed_out else why),
        seconds=round(ended.seconds, 1),
        failure=clip_failure(f"{output.rstrip()}\n{why}"),
    )


def missing_module(text: str) -> str | None:
    """Return the module for whose absence a test failed, if another project than the pair has it.

    What was handled on the way to another error does not count, nor does a module that is missing
    within a package that is there.

    >>> missing_module("ModuleNotFoundError: No module named 'no_such_module.part'")
    'no_such_module.part'
    >>> missing_module("ModuleNotFoundError: No module named 'vllm.no_such_module'")
    """
    found = _NO_MODULE.findall(_not_handled(text))
    if not found:
        return None
    name = str(found[-1])
    top = name.partition(".")[0]
    if top in _PAIR or (top != "tests" and _is_installed(top)):
        return None
    return name


def _with_cause(text: str, stderr: str) -> str:
    """Return the text of a failure; where it says that a child failed, with the child's error last.

    multiprocessing prints the traceback of a child of a test, of which the test sees the exit code.
    """
    stderr = _OF_PROCESS.sub("", stderr)
    children = list(_CHILD.finditer(stderr))
    if not children or not _OF_CHILD.search(text[-_LAST_ERROR:]):
        return text
    return f"{text.rstrip()}\n\n{stderr[children[-1].end() :].strip()}"


def _not_handled(text: str) -> str:
    """Return the text of a failure from its last error on, without those that were handled."""
    return text.rpartition(_DURING)[2]


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _without_result(
    name: str, lines: Sequence[Mapping[str, object]], ended: ProcessEnd, output: str, on: Platform
) -> SuiteCase:
    """Return the case of a process that ended by itself and reported no result of a test."""
    seconds = round(ended.seconds, 1)
    for line in lines:
        if "uncollected" in line:
            return _failed(name, str(line["uncollected"]), seconds, on)
        if "skipped_module" in line:
            why = reason_of(str(line["skipped_module"])) or "upstream gives no reason"
            return SuiteCase(
                case=name, outcome=UpstreamOutcome.SKIPPED, reason=why, seconds=seconds
            )
    if ended.status in (0, _NO_TESTS) or _NOT_FOUND.search(output):
        return untested(name, "pytest finds no such test there", seconds)
    return _failed(name, f"{output.rstrip()}\nexited with status {ended.status}", seconds, on)


def _failed(name: str, text: str, seconds: float, on: Platform) -> SuiteCase:
    """Return the case of a test that failed; untested where that shows nothing of the pair."""
    text = text[-_JUDGED:]
    if (module := missing_module(text)) is not None:
        return untested(name, f"needs the module {module}, which is not installed here", seconds)
    last = _SOURCE.sub("", _not_handled(text))
    if _NO_HUB.search(last):
        why = f"needs files of the hub that the package's data lacks: {reason_of(text)}"
        return untested(name, why, seconds)
    if on is Platform.CPU and _NO_CUDA.search(last):
        return untested(name, "needs a GPU", seconds)
    if (fault := machine_fault(last)) is not None:
        return untested(name, f"{fault}: {reason_of(text)}", seconds)
    return SuiteCase(
        case=name,
        outcome=UpstreamOutcome.FAILED,
        reason=reason_of(text) or None,
        signature=signature_of(text) or None,
        seconds=seconds,
        failure=clip_failure(text) or None,
    )
