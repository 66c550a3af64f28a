"""The conclusion of a record from the end of the run's process."""

import errno
import re
from dataclasses import replace

from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Record,
    RunError,
    Rung,
    RungResult,
    clip_failure,
)
from matrix.record.signature import FAILURES
from matrix.record.signature import reason as reason_of
from matrix.record.signature import signature as signature_of
from matrix.record.startup_tests import only_full_suite_is_left
from matrix.run.preflight import Refusal
from matrix.run.process import How, ProcessEnd

_FROM_OUTSIDE = {"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGXCPU"}
# The parser of options first prints its usage, and pytest puts its ERROR before that.
_PYTEST_ERROR = re.compile(
    r"^ERROR: (?:usage: .*?^[^:\n]+: error: )?([^\n]+)", re.MULTILINE | re.DOTALL
)
_UNFIT = {
    ErrorKind.WRONG_CELL,
    ErrorKind.BROKEN_INSTALL,
    ErrorKind.NO_GPU,
    ErrorKind.NO_DRIVER,
    ErrorKind.DRIVER_TOO_OLD,
    ErrorKind.GPU_UNSUPPORTED,
    ErrorKind.GPU_FAULT,
}
_USAGE = 4  # pytest's status for arguments that it does not accept
_NO_TESTS = 5  # pytest's status where there was nothing to run
_NO_FAULT = (0, _NO_TESTS)
_CONFUSED = {
    2: "pytest was interrupted, or could not collect the startup tests",
    3: "pytest had an internal error",
    _USAGE: "pytest did not accept its arguments",
}


def conclude(record: Record, ended: ProcessEnd, output: str, *, importing: bool = False) -> Record:
    """Return the record with how its process ended and what it printed last.

    What a finished run wrote stays as it is. `importing`: the process ended while it imported vLLM.
    """
    record = replace(
        record,
        finished=True,
        provenance={**record.provenance, "seconds": round(ended.seconds, 1)},
        error=record.error or _error(record, ended, output, importing=importing),
        cases=tuple(_ended_case(case, ended, output) for case in record.cases),
        full_suite=record.full_suite
        and tuple(_ended_case(case, ended, output) for case in record.full_suite),
    )
    if (
        record.error is not None
        and record.error.kind == ErrorKind.IMPORTS
        and not any(result.rung == Rung.IMPORTS for result in record.rungs)
    ):
        seconds, reason = round(ended.seconds, 1), record.error.reason
        failed = RungResult(rung=Rung.IMPORTS, ok=False, seconds=seconds, reason=reason)
        record = replace(record, rungs=(*record.rungs, failed))
    return record


def ran_no_session(record: Record, ended: ProcessEnd, *, importing: bool) -> bool:
    """Return whether pytest ended well without a session: after --help or --collect-only."""
    began = record.finished or record.error or record.rungs or record.cases or importing
    return ended.how == How.EXITED and ended.status in _NO_FAULT and not began


def why_nothing_ran(record: Record, ended: ProcessEnd, output: str) -> str | None:
    """Return what is wrong with the user's arguments, so that no case ran; None if nothing is.

    Such a run says nothing of its cell. `output` is what pytest printed last. pytest also refuses
    to start where a conftest cannot be imported, which the arguments do not cause.
    """
    if ended.how != How.EXITED or record.cases or record.full_suite:
        return None
    if ended.status == _USAGE:
        return _wrong_argument(output) or None
    if ended.status == _NO_TESTS and record.error is None and record.deselected:
        return "pytest's arguments select no startup test; `--collect-only -q` lists them"
    return None


def not_run(error: OSError) -> Refusal:
    """Return why pytest could not be started, or not be watched to its end: for a full disk."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    why = error.strerror or str(error)
    return Refusal(
        kind=ErrorKind.NO_SPACE if full else ErrorKind.INTERNAL,
        reason=f"pytest cannot be run: {why}" + (": make room and run it again" if full else ""),
    )


def shows_failure(record: Record) -> bool:
    """Return whether something of the run failed, so that somebody could blame the pair."""
    cases = (*record.cases, *(record.full_suite or ()))
    return record.error is not None or any(case.outcome in FAILURES for case in cases)


def found_unfit(record: Record) -> bool:
    """Return whether what was imported is another release, not whole, or could not use the GPU."""
    return record.error is not None and record.error.kind in _UNFIT and not record.cases


def describe(ended: ProcessEnd) -> str:
    """Return one line about how pytest's process ended."""
    if ended.how == How.TIMED_OUT:
        return f"the run was ended after {ended.seconds:.0f} s, its time limit"
    if ended.how == How.INTERRUPTED:
        return f"interrupted by {ended.signal}"
    if ended.how == How.SIGNALLED:
        killer = ", the kernel's out-of-memory killer" if ended.oom_kill else ""
        return f"pytest was killed by {ended.signal}{killer}"
    return _CONFUSED.get(ended.status or 0, f"pytest ended with exit status {ended.status}")


def _error(record: Record, ended: ProcessEnd, output: str, *, importing: bool) -> RunError | None:
    """Return why the run as a whole ended early, or None if it came to its own end.

    It is None also where others ended it after every case that decides its verdict.
    """
    if _by_others(ended) and only_full_suite_is_left(record):
        return None
    reason = describe(ended)
    if ended.how in (How.TIMED_OUT, How.INTERRUPTED):
        return RunError(kind=ErrorKind(ended.how), reason=reason)
    last = reason_of(output)
    with_last = f"{reason}: {last}" if last else reason
    if ended.status == _USAGE:
        return RunError(kind=ErrorKind.INTERNAL, reason=_wrong_argument(output) or with_last)
    if ended.status == 3 or (ended.status == 2 and record.error is None):
        return RunError(kind=ErrorKind.INTERNAL, reason=with_last)
    if _killed_for_memory(ended):
        return RunError(kind=ErrorKind.NO_MEMORY, reason=reason)
    if importing and ended.signal not in _FROM_OUTSIDE:
        why = f"the import of vLLM ended the process; {with_last}"
        return RunError(kind=ErrorKind.IMPORTS, reason=why)
    if ended.how == How.SIGNALLED:
        return RunError(kind=ErrorKind.CRASHED, reason=reason)
    return None if record.finished else _unfinished(record, with_last)


def _unfinished(record: Record, reason: str) -> RunError:
    """Return the error of a run whose process exited before its end."""
    if not record.rungs and not record.cases:
        return RunError(kind=ErrorKind.INTERNAL, reason=f"before the import of vLLM {reason}")
    return RunError(kind=ErrorKind.CRASHED, reason=reason)


def _wrong_argument(output: str) -> str:
    """Return the line in which pytest, or its parser of options, names the fault; else ""."""
    found = _PYTEST_ERROR.search(output)
    return found[1].strip() if found else ""


def _ended_case(case: Case, ended: ProcessEnd, output: str) -> Case:
    if case.outcome != Outcome.RUNNING:
        return case
    # A case runs in a child of pytest: what others do to pytest tells nothing about the case.
    outcome = Outcome.INTERRUPTED if _by_others(ended) else Outcome.CRASHED
    reason = describe(ended)
    return replace(
        case,
        outcome=Outcome.OUT_OF_MEMORY if _killed_for_memory(ended) else outcome,
        reason=reason,
        signature=signature_of(reason),
        failure=clip_failure(output) or None,
    )


def _by_others(ended: ProcessEnd) -> bool:
    """Return whether the run's time limit, or a signal of another process, ended pytest."""
    return ended.how in (How.TIMED_OUT, How.INTERRUPTED) or ended.signal in _FROM_OUTSIDE


def _killed_for_memory(ended: ProcessEnd) -> bool:
    return ended.oom_kill and ended.signal == "SIGKILL"
