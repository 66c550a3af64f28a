"""Run a cell here: its startup tests in a child process, and a record whatever becomes of it.

This process never imports torch or vLLM, so nothing that they do can take the record with it.
"""

import contextlib
import dataclasses
import os
import platform as machine
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from matrix._util.paths import CHECKOUT
from matrix.catalog.cells import Cell
from matrix.errors import MatrixError
from matrix.record import provenance, signatures
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RecordError,
    RunError,
    Rung,
    RungResult,
    clip_failure,
    read,
    write,
)
from matrix.run.nvidia import unusable_gpu
from matrix.run.preflight import (
    LEAST_FREE_MIB,
    LEAST_MEMORY_MIB,
    Refusal,
    choose_platform,
    preflight,
)
from matrix.run.process import Ended, noting_signals, watch

__all__ = [
    "CASE_TIMEOUT",
    "RUN_TIMEOUT",
    "RunRefused",
    "conclude",
    "record_unstarted",
    "run_cell",
]

RUN_TIMEOUT = 4 * 3600.0
"""Seconds that a whole run may take unless it is told otherwise."""
CASE_TIMEOUT = 900.0
"""Seconds that a case may take unless `--case-timeout` among pytest's arguments says otherwise."""

_ROOT = CHECKOUT
_TAIL = 16 * 1024  # bytes of the log that can tell why it died
_FROM_OUTSIDE = {"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGXCPU"}
# The parser of options says first how it is used, and pytest puts its ERROR before that.
_PYTEST_ERROR = re.compile(
    r"^ERROR: (?:usage: .*?^[^:\n]+: error: )?([^\n]+)", re.MULTILINE | re.DOTALL
)
_UNFIT = {"no_gpu", "no_driver", "driver_too_old", "gpu_unsupported", "gpu_fault"}
_USAGE = 4  # pytest's status for arguments that it does not accept
_NO_FAULT = (0, 5)  # pytest's statuses for a good end: all is well, or there was nothing to run
_CONFUSED = {
    2: "pytest was interrupted, or could not collect the startup tests",
    3: "pytest met an internal error",
    _USAGE: "pytest did not accept its arguments",
}


class RunRefused(MatrixError):
    """The cell cannot run here; its record, at `path`, says why."""

    def __init__(self, reason: str, path: Path) -> None:
        """Keep where the record is."""
        super().__init__(f"{reason} (record: {_shown(path)})")
        self.path = path


def run_cell(
    cell: Cell,
    platform: str = "auto",
    records: Path = Path("records"),
    pytest_args: Sequence[str] = (),
    timeout: float = RUN_TIMEOUT,
    model_source: str = "data",
    jobs: str | None = None,
    *,
    root: Path = _ROOT,
    python: Sequence[str] = (sys.executable,),
    installed: Mapping[str, str] | None = None,
    least_free_mib: int = LEAST_FREE_MIB,
    least_memory_mib: int = LEAST_MEMORY_MIB,
) -> Path | int:
    """Run a cell's startup tests in this environment and return the path of the record.

    Where pytest was asked for something else, such as --help or --collect-only, there is no record:
    then it is pytest's exit status that is returned.

    `timeout` is in seconds, for the whole run. `jobs` is how many cases run side by side: a number
    or auto; None leaves it to the platform. What follows the star is for tests and other
    engines: the checkout, the command of a Python, the packages that count as installed.

    Raises RunRefused, with the record written, where this machine or this environment cannot run
    the cell, or pytest does not accept its arguments; MatrixError where no record can be written or
    there are no startup tests.
    """
    if not (root / "tests" / "startup").is_dir():
        raise MatrixError(f"{root}: no tests/startup here; run from a checkout of the project")
    platform = choose_platform(platform)
    packages = dict(provenance.packages() if installed is None else installed)
    path, record = _first_record(cell, platform, records, model_source, root)
    facts = {each: packages.get(each) for each in ("torch", "vllm", "triton")}
    record = dataclasses.replace(
        record, packages=packages, provenance={**record.provenance, **facts}
    )
    _write(record, path, root)
    refusal = (
        _wrong_cell(cell, packages)
        or preflight(
            path.parent,
            least_free_mib=least_free_mib,
            least_memory_mib=least_memory_mib,
            platform=platform,
        )
        or unusable_gpu(platform, packages)
    )
    if refusal is not None:
        error = RunError(kind=ErrorKind(refusal.kind), reason=refusal.reason)
        _write(dataclasses.replace(record, error=error, finished=True), path, root)
        raise RunRefused(refusal.reason, path)
    log = path.with_suffix(".log")
    with noting_signals() as received:
        with tempfile.TemporaryDirectory(prefix="matrix-", ignore_cleanup_errors=True) as folder:
            arguments = _arguments(path, platform, pytest_args, timeout, model_source, jobs, root)
            importing = Path(folder, "importing")
            environ = _environment(platform, folder, importing)
            ended = watch([*python, *arguments], environ, root, log, timeout, received)
            in_import = importing.exists()
        _keep_last_words(path.with_suffix(".imports.log"), log)
        _forget_host(path.with_suffix(".junit.xml"))
        try:
            left = read(path)
        except RecordError as error:
            fault = f"{_how(ended)}; {error}".replace(str(path), path.name)
            left = dataclasses.replace(
                record, error=RunError(kind=ErrorKind.INTERNAL, reason=fault)
            )
        if _asked_for_something_else(left, ended, in_import):
            for each in (path, log, path.with_suffix(".junit.xml")):
                each.unlink(missing_ok=True)
            return ended.status or 0
        concluded = conclude(left, ended, _tail(log), importing=in_import)
        _write(concluded, path, root)
    refused = _wrong_arguments(concluded, ended) or _found_unfit(concluded)
    if refused and concluded.error is not None:
        raise RunRefused(concluded.error.reason, path)
    return path


def record_unstarted(
    cell: Cell,
    platform: str,
    records: Path,
    error: RunError,
    model_source: str = "data",
    *,
    root: Path = _ROOT,
) -> Path:
    """Write the record of a cell that never started, such as one whose packages do not resolve.

    Returns its path. Raises MatrixError for an unknown platform or where it cannot be written.
    """
    path, record = _first_record(cell, choose_platform(platform), records, model_source, root)
    record = dataclasses.replace(
        record,
        error=error,
        finished=True,
        rungs=(RungResult(rung=Rung.RESOLVES, ok=False, seconds=0.0, reason=error.reason),)
        if error.kind == "resolves"
        else (),
        provenance={
            **record.provenance,
            "python": cell.python,
            **dict.fromkeys(("torch", "vllm", "triton")),
        },
    )
    _write(record, path, root)
    return path


def conclude(record: Record, ended: Ended, output: str, *, importing: bool = False) -> Record:
    """The record as the run left it, made true by how its process ended and what it printed last.

    What a finished run wrote stays as it is. `importing`: the process ended while it imported vLLM.
    """
    known = None if _wrong_arguments(record, ended) else record.error
    record = dataclasses.replace(
        record,
        finished=True,
        provenance={**record.provenance, "seconds": round(ended.seconds, 1)},
        error=known or _error(record, ended, output, importing),
        cases=tuple(_ended_case(case, ended, output) for case in record.cases),
    )
    if record.error and record.error.kind == "imports" and _import_rung(record) is None:
        failed = RungResult(
            rung=Rung.IMPORTS, ok=False, seconds=round(ended.seconds, 1), reason=record.error.reason
        )
        record = dataclasses.replace(record, rungs=(*record.rungs, failed))
    return record


def _asked_for_something_else(record: Record, ended: Ended, importing: bool) -> bool:
    """Whether pytest ended well without a session: after --help, --markers, --collect-only."""
    began = record.finished or record.error or record.rungs or record.cases or importing
    return ended.how == "exited" and ended.status in _NO_FAULT and not began


def _wrong_arguments(record: Record, ended: Ended) -> bool:
    """Whether pytest did not accept its arguments; of that the run itself knows only the status."""
    return ended.how == "exited" and ended.status == _USAGE and not record.cases


def _found_unfit(record: Record) -> bool:
    """Whether only torch and vLLM themselves could tell that this machine's GPU does not do."""
    return record.error is not None and record.error.kind in _UNFIT and not record.cases


def _error(record: Record, ended: Ended, output: str, importing: bool) -> RunError | None:
    """Why the run as a whole ended early, or None where it came to its own end."""
    reason = _how(ended)
    if ended.how in ("timed_out", "interrupted"):
        return RunError(kind=ErrorKind(ended.how), reason=reason)
    said = signatures.reason(output)
    with_said = f"{reason}: {said}" if said else reason
    if ended.status == _USAGE:
        return RunError(kind=ErrorKind.INTERNAL, reason=_wrong_argument(output) or reason)
    if ended.status == 3 or (ended.status == 2 and record.error is None):
        return RunError(kind=ErrorKind.INTERNAL, reason=with_said)
    if ended.oom_kill and ended.signal == "SIGKILL":
        return RunError(kind=ErrorKind.NO_MEMORY, reason=reason)
    if importing and ended.signal not in _FROM_OUTSIDE:
        return RunError(
            kind=ErrorKind.IMPORTS, reason=f"the import of vLLM ended the process; {with_said}"
        )
    if ended.how == "signalled":
        return RunError(kind=ErrorKind.CRASHED, reason=reason)
    if record.finished:
        return None
    if not record.rungs and not record.cases:
        return RunError(kind=ErrorKind.INTERNAL, reason=f"before the import of vLLM {with_said}")
    return RunError(kind=ErrorKind.CRASHED, reason=with_said)


def _wrong_argument(output: str) -> str:
    """The line in which pytest, or its parser of options, says what is wrong; "" without one."""
    found = _PYTEST_ERROR.search(output)
    return found[1].strip() if found else ""


def _how(ended: Ended) -> str:
    if ended.how == "timed_out":
        return f"the run was ended after {ended.seconds:.0f} s, its time limit"
    if ended.how == "interrupted":
        return f"interrupted by {ended.signal}"
    if ended.how == "signalled":
        killer = ", the kernel's out-of-memory killer" if ended.oom_kill else ""
        return f"pytest was killed by {ended.signal}{killer}"
    return _CONFUSED.get(ended.status or 0, f"pytest ended with exit status {ended.status}")


def _ended_case(case: Case, ended: Ended, output: str) -> Case:
    if case.outcome != "running":
        return case
    # A case runs in a child of pytest: the run's time limit, and a signal that another process sent
    # to pytest, say nothing of the case.
    ended_by_others = ended.how in ("timed_out", "interrupted") or ended.signal in _FROM_OUTSIDE
    outcome = Outcome.INTERRUPTED if ended_by_others else Outcome.CRASHED
    if ended.oom_kill and ended.signal == "SIGKILL":
        outcome = Outcome.OUT_OF_MEMORY
    reason = _how(ended)
    return dataclasses.replace(
        case,
        outcome=outcome,
        reason=reason,
        signature=signatures.signature(reason),
        failure=clip_failure(output) or None,
    )


def _import_rung(record: Record) -> RungResult | None:
    return next((rung for rung in record.rungs if rung.rung == "imports"), None)


def _first_record(
    cell: Cell, platform: str, records: Path, model_source: str, root: Path
) -> tuple[Path, Record]:
    started = datetime.now(timezone.utc).replace(microsecond=0)
    while (path := _path(cell, platform, records, started)).exists():
        started += timedelta(seconds=1)
    facts = provenance.provenance(root, started, sys.argv, model_source)
    return path, Record(
        cell=cell.name, platform=Platform(platform), finished=False, provenance=facts
    )


def _path(cell: Cell, platform: str, records: Path, started: datetime) -> Path:
    return records.resolve() / platform / f"{cell.name}.{started:%Y%m%dT%H%M%SZ}.json"


def _write(record: Record, path: Path, root: Path) -> None:
    """Write the record without folders of this machine in any text of it."""

    def clean(text: str | None) -> str | None:
        return None if text is None else provenance.scrub(text, root)

    error = record.error and RunError(
        kind=record.error.kind, reason=clean(record.error.reason) or ""
    )
    rungs = tuple(dataclasses.replace(each, reason=clean(each.reason)) for each in record.rungs)
    cases = tuple(
        dataclasses.replace(
            case,
            reason=clean(case.reason),
            signature=clean(case.signature),
            failure=case.failure and clip_failure(clean(case.failure) or ""),
        )
        for case in record.cases
    )
    write(dataclasses.replace(record, error=error, rungs=rungs, cases=cases), path)


def _wrong_cell(cell: Cell, packages: Mapping[str, str]) -> Refusal | None:
    """What of the cell this environment lacks, by the packages' metadata without local parts."""
    there = {
        "Python": ".".join(machine.python_version_tuple()[:2]),
        **{each: packages.get(each, "none").partition("+")[0] for each in ("torch", "vllm")},
    }
    wanted = {"Python": cell.python, "torch": cell.torch, "vllm": cell.vllm}
    wrong = [
        f"{each} {there[each]}, not {wanted[each]}"
        for each in wanted
        if there[each] != wanted[each]
    ]
    if not wrong:
        return None
    return Refusal(
        kind="wrong_cell",
        reason=f"this environment is not the cell {cell.name}: it has {'; '.join(wrong)}."
        f" Run tox -e {cell.name}",
    )


def _arguments(
    path: Path,
    platform: str,
    pytest_args: Sequence[str],
    timeout: float,
    model_source: str,
    jobs: str | None,
    root: Path,
) -> list[str]:
    """What follows `python`; the caller's arguments stand last, so that they win."""
    startup = root / "tests" / "startup"
    named = [root / each.partition("::")[0] for each in pytest_args if not each.startswith("-")]
    chosen = any(each.exists() and each.resolve().is_relative_to(startup) for each in named)
    return [
        *("-m", "pytest", "-p", "matrix.inside.pytest_plugin"),
        *("-c", str(startup / "pytest.ini"), "--rootdir", str(root)),
        *([] if chosen else ["tests/startup"]),
        *("--record", str(path), "--platform", platform, "--model-source", model_source),
        *("--case-timeout", f"{min(CASE_TIMEOUT, timeout):g}"),
        *(() if jobs is None else ("--jobs", jobs)),
        *("--junitxml", str(path.with_suffix(".junit.xml"))),
        *pytest_args,
    ]


def _environment(platform: str, temporary: str, importing: Path) -> dict[str, str]:
    """The child's environment; what the cases leave in the temporary folder goes with it.

    The file `importing` is there while the child imports vLLM.
    """
    environ = {
        **os.environ,
        "MATRIX_PLATFORM": platform,
        "MATRIX_IMPORTING": str(importing),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": temporary,
        "COLUMNS": str(shutil.get_terminal_size((100, 24)).columns),
    }
    if platform == "cpu":
        environ["CUDA_VISIBLE_DEVICES"] = ""
    return environ


def _keep_last_words(held: Path, log: Path) -> None:
    """Add to the log what an import printed that took the whole process with it."""
    with contextlib.suppress(OSError):
        text = held.read_bytes()
        with log.open("ab") as file:
            file.write(b"\nwhile torch and vLLM were imported:\n" + text)
        held.unlink()


def _forget_host(junit: Path) -> None:
    """Empty the attribute in which pytest names this machine."""
    with contextlib.suppress(OSError):
        text = junit.read_text(encoding="utf-8")
        head, mark, cases = text.partition("<testcase ")
        head = re.sub(r' hostname="[^"]*"', ' hostname=""', head)
        junit.write_text(head + mark + cases, encoding="utf-8")


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _shown(path: Path) -> str:
    """The path as a person would write it: relative where it lies below this folder."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
