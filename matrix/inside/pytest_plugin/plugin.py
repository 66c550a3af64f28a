"""The pytest plugin that runs startup tests inside a cell and writes the record while they run.

Tests under a folder `tests/startup`, and tests marked `isolated`, each run in a forked child, from
the setup of their fixtures to the teardown: fixtures of any scope are made anew in every child. The
child's reports come back as JSON and are logged here, so `-x`, `--maxfail`, `-rA` and `--junitxml`
see them as if the test had run here. A child that dies or hangs becomes a failed report. With
`--jobs` several run side by side, each under a keeper; all else happens here as it does for one.
What does not come back: warnings, subtests' own reports, properties of the whole test suite.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import itertools
import os
import re
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import IO, Any

import pytest
from _pytest.runner import runtestprotocol

from matrix.inside import gpus, isolation, journal
from matrix.inside import machine_faults as faults
from matrix.inside import supervisor as keepers
from matrix.inside.concurrency import cores, how_many, jobs_of
from matrix.inside.cpu_platform import PLATFORM_VARIABLE, gpu_visible
from matrix.inside.isolation import Ended, IsolationError
from matrix.record import model as records
from matrix.record.model import Case, Record, RecordError, RunError, Rung
from matrix.record.signatures import reason as reason_of

__all__ = [
    "case_name",
    "pytest_addoption",
    "pytest_configure",
]

_EXTENSIONS = (
    "vllm._C",
    "vllm._moe_C",
    "vllm._C_stable_libtorch",
    "vllm._moe_C_stable_libtorch",
)
# How the dynamic linker says that a symbol, or that a library, is not there.
_UNLINKED = re.compile(
    r"undefined symbol: [^\s,]+|[^\s/:]+\.so[.\d]*(?=: cannot open shared object)"
)
_SECTION_BYTES = 64 * 1024
_UNTESTED_STATUS = 5
_NO_RECORD_STATUS = 3
_IMPORTING = "MATRIX_IMPORTING"  # names the file that tells `matrix run` of an import under way
_XPASS = "[XPASS(strict)]"
_ASKING = 60.0  # seconds for what a child is only asked
_LAST_SECONDS = 30  # how long an ended session may take over its own end
_CUT_SHORT = "ended with the session, which another case stopped"
# Two starts at once could be given one and the same free port. Each looks from a port of its own,
# below those that the kernel gives out, unless the user named one.
_PORT = "VLLM_PORT"
_FIRST_PORT, _PORTS_A_CASE = 20000, 100


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run inside a cell."""
    group = parser.getgroup("matrix", "startup tests of a cell")
    group.addoption(
        "--record",
        type=Path,
        metavar="FILE",
        help="the record to fill; `matrix run` makes it",
    )
    group.addoption(
        "--platform",
        choices=["auto", *records.PLATFORMS],
        default="auto",
        help="where the cell runs; auto: what the record says, else MATRIX_PLATFORM, else cpu",
    )
    group.addoption(
        "--case-timeout",
        type=_seconds,
        default=900.0,
        metavar="SECONDS",
        help="how long one case may take before it is killed (default 900)",
    )
    group.addoption(
        "--jobs",
        type=jobs_of,
        metavar="N|auto",
        help="how many cases run side by side (default: auto on cuda, 1 on cpu)",
    )
    group.addoption(
        "--model-source",
        choices=["data", "hub"],
        default="data",
        help="models from this package's data, or from the hub",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and the runner."""
    config.addinivalue_line("markers", "isolated: run this test in a forked child")
    if config.getoption("usepdb"):
        raise pytest.UsageError("--pdb cannot reach into a forked child; use breakpoints and logs")
    if config.getoption("setuponly", False) or config.getoption("setupplan", False):
        raise pytest.UsageError("--setup-only and --setup-plan start nothing; use --collect-only")
    config.pluginmanager.register(_Runner(config), "matrix-runner")


def case_name(test_name: str) -> str:
    """The name of the case that a test is.

    >>> case_name("test_moe_startup[mega_aot=1]")
    'moe_startup[mega_aot=1]'
    """
    return test_name.removeprefix("test_")


class _Runner:
    """The hooks of one session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._timeout: float = config.getoption("--case-timeout")
        self._book = _Book(config.getoption("--record"))
        self._platform = self._book.platform(config.getoption("--platform"))
        self._buses = gpus.buses() if self._platform == "cuda" else []
        self._progress = _Progress(config)
        self._quiet_reports = False
        self._untested = False
        self._jobs = 1
        self._begun: set[pytest.Item] = set()
        self._sigterm: Any = None
        self._named: list[_Named] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionstart(self) -> Generator[None, Any, Any]:
        started = yield  # pytest's own heading comes first
        if not self._config.getoption("collectonly"):
            os.environ["MATRIX_PLATFORM"] = self._platform
            with _import_told():
                self._import()
        # Not before the import: one that hangs outside of Python would never come to the handler.
        if threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        ):
            self._sigterm = signal.signal(signal.SIGTERM, _interrupt)
        return started

    def pytest_unconfigure(self) -> None:
        if self._sigterm is not None:
            signal.signal(signal.SIGTERM, self._sigterm)

    def _import(self) -> None:
        """Climb the rung `imports` once, for all the children to inherit."""
        began = time.monotonic()
        try:
            with _quiet_unless_it_fails(self._book.path):
                torch, vllm, missed = _import_stack(self._platform)
                features = importlib.import_module("matrix.inside.vllm_compat")
                features.preload(self._platform)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            why = reason_of(traceback.format_exc())
            fault = faults.machine_fault(traceback.format_exc())
            if fault is None:
                self._book.add_rung(Rung("imports", False, _since(began), why))
            self._book.fail(fault or "imports", why)
            pytest.exit(f"torch and vLLM do not import: {why}", returncode=1)
        seconds = _since(began)
        self._book.add_rung(Rung("imports", True, seconds, _told_missed(missed)))
        self._book.add_provenance(_stack_facts(torch, vllm, self._platform))
        unfit = _unfit(features, self._platform)
        if unfit is not None:
            self._book.fail(*unfit)
            pytest.exit(unfit[1], returncode=1)
        try:
            self._book.set_flags(features.effective_flags())
        except Exception:
            why = f"effective flags: {reason_of(traceback.format_exc())}"
            self._book.fail("internal", why)
            pytest.exit(why, returncode=1)
        versions = f"torch {torch.__version__}, vllm {vllm.__version__}, {self._platform}"
        self._progress.line(f"imports  {seconds:.1f} s  {versions}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Collect every startup test also where some are named, so that the others are counted."""
        if self._config.getoption("pyargs"):
            return
        named = [_Named.of(each, self._config) for each in self._config.args]
        folders = {_startup_folder(each.path) for each in named}
        if len(folders) != 1 or not all(each.path.exists() for each in named):
            return
        [folder] = folders
        if folder is not None and folder not in (each.path for each in named):
            self._named = named
            self._config.args = [str(folder)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> None:
        if not self._named:
            return
        for name in self._named:
            if not session.testsfailed and not any(map(name.holds, items)):
                raise pytest.UsageError(f"not found: {name.text}")
        kept = [item for item in items if any(name.holds(item) for name in self._named)]
        if len(kept) < len(items):
            others = [item for item in items if item not in kept]
            self._config.hook.pytest_deselected(items=others)
            items[:] = kept

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self._book.deselect(sum(map(_isolated, items)))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        names: dict[str, str] = {}
        for item in filter(_isolated, session.items):
            name = case_name(item.name)
            if name in names:
                raise pytest.UsageError(
                    f"{names[name]} and {item.nodeid} are both the case {name}; rename one"
                )
            names[name] = item.nodeid
        self._progress.width = min(40, max(map(len, names), default=0))
        if names and not self._config.getoption("collectonly"):
            self._jobs = self._how_many(len(names))
            self._book.add_provenance({"jobs": self._jobs})

    def _how_many(self, cases: int) -> int:
        asked, on_gpu = self._config.getoption("--jobs"), self._platform == "cuda"
        bounded = True
        if on_gpu and asked != 1:
            features = importlib.import_module("matrix.inside.vllm_compat")
            bounded = "kv_cache_memory_bytes" in features.engine_arguments()
        return how_many(
            asked, self._platform, cases, cores=cores(), bounded=bounded, free_mib=gpus.free_mib
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> bool | None:
        isolated = _isolated(item)
        if not isolated and (nextitem is None or not _isolated(nextitem)):
            return None
        if isolated and self._jobs > 1:
            if item not in self._begun:
                self._run_side_by_side(item)
            return True
        hooks = item.ihook
        hooks.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        if isolated:
            self._log_reports(item, self._run_case(item))
        else:
            # No fixture may be up at the fork: its teardown would run in the child, and here again.
            runtestprotocol(item, nextitem=None)
        hooks.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _log_reports(self, item: pytest.Item, reports: list[pytest.TestReport]) -> None:
        self._quiet_reports = True
        try:
            for report in reports:
                item.ihook.pytest_runtest_logreport(report=report)
        finally:
            self._quiet_reports = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        # The progress line has said it already; the summaries at the end still ask for the words.
        status = yield
        return (status[0], "", "") if self._quiet_reports and status else status

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            why = reason_of(report.longreprtext)
            self._book.fail("internal", f"cannot collect {report.nodeid}: {why}", write=False)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        how = "pytest.exit" if isinstance(excinfo.value, pytest.exit.Exception) else "a signal"
        self._book.fail("interrupted", f"stopped by {how}", write=False)

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        why = reason_of("".join(traceback.format_exception(excinfo.value)))
        self._book.fail("internal", why, write=False)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if not self._book.path or self._config.getoption("collectonly"):
            return
        if exitstatus not in (0, 1, 5):
            self._book.fail("internal", f"pytest ended with status {int(exitstatus)}", write=False)
        self._book.finish()
        if self._book.trouble is not None:
            session.exitstatus = _NO_RECORD_STATUS
        elif exitstatus == 0 and (self._untested or not self._book.any_judged()):
            session.exitstatus = _UNTESTED_STATUS

    def pytest_terminal_summary(self) -> None:
        if self._book.trouble is not None:
            self._progress.line(f"the record is lost: {self._book.trouble}")

    def _run_case(self, item: pytest.Item) -> list[pytest.TestReport]:
        name = case_name(item.name)
        self._book.put(journal.fold(name, ()))
        self._progress.begin(name)
        with closing(_Task(item, self._book, self._progress, self._kernel_log())) as task:
            try:
                ended = isolation.run_forked(
                    task.run, timeout=self._timeout, output=task.output, watch=task.watch
                )
            except IsolationError as error:
                ended = Ended("raised", _since(task.began), error=f"IsolationError: {error}")
            except KeyboardInterrupt:
                self._cut_short(task, by_signal=True)
                raise
            return self._conclude(task, ended)

    def _run_side_by_side(self, first: pytest.Item) -> None:
        """Run the case and all that follow it, up to one that is not to be forked."""
        session = first.session
        following = session.items[session.items.index(first) :]
        items = list(itertools.takewhile(_isolated, following))
        self._begun.update(items)
        lines = _Lines(self._progress)
        self._progress.line(f"{len(items)} cases, {self._jobs} side by side")

        def tasks() -> Iterator[_Task]:
            for number, item in enumerate(items):
                name = case_name(item.name)
                self._book.put(journal.fold(name, ()))
                port = _FIRST_PORT + number * _PORTS_A_CASE
                line, kernel = lines.case(name), self._kernel_log()
                yield _Task(item, self._book, line, kernel, {_PORT: str(port)})

        def finished(task: _Task, ended: Ended) -> None:
            item = task.item
            with closing(task):
                reports = self._conclude(task, ended)
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            self._log_reports(item, reports)
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

        def cut_short(task: _Task, by_signal: bool) -> None:
            with closing(task):
                self._cut_short(task, by_signal)

        with self._progress.without_files():
            keepers.keep(
                tasks(),
                self._jobs,
                timeout=self._timeout,
                finished=finished,
                cut_short=cut_short,
                stopped=lambda: bool(session.shouldfail or session.shouldstop),
            )

    def _kernel_log(self) -> faults.KernelLog | None:
        return faults.KernelLog(self._buses) if self._platform == "cuda" else None

    def _conclude(self, task: _Task, ended: Ended) -> list[pytest.TestReport]:
        """Record how the case ended; the reports for pytest, or pytest.exit where the test did."""
        item, name, events = task.item, task.name, journal.read(task.diary)
        ended = _with_cold_log(_with_captured(task.folder, ended), task.diary.with_name("cold.log"))
        reports = _reports(item, ended)
        failure = _failure([each for each in reports if each.when != "teardown"])
        case = journal.fold(
            name,
            events,
            ended=ended,
            # That a test passed against its mark is a fault of the mark.
            failure=None if failure is None or failure.startswith(_XPASS) else failure,
            teardown=_failure([each for each in reports if each.when == "teardown"]),
            skipped=_skip_reason(reports),
        )
        logged = task.kernel.since() if task.kernel and case.outcome != "passed" else ()
        case, fault = faults.explained(case, logged)
        if fault is not None:
            self._book.fail(fault, f"{name}: {case.reason}", write=False)
        self._book.put(case)
        untested = next((event for event in events if event["event"] == "untested"), None)
        self._untested = self._untested or untested is not None
        word, good = _last_word(case, reports, untested)
        task.line.end(word, good=good)
        if ended.kind == "returned" and ended.value["exit"] is not None:
            pytest.exit(*ended.value["exit"])
        return reports

    def _cut_short(self, task: _Task, by_signal: bool) -> None:
        """Record a case that was not let come to its end."""
        events, seconds = journal.read(task.diary), time.monotonic() - task.began
        case = journal.fold(task.name, events, seconds=seconds, interrupted=True)
        if by_signal:
            self._book.fail("interrupted", "stopped by a signal", write=False)
        else:
            case = replace(case, reason=_CUT_SHORT)
        self._book.put(case)
        task.line.end("interrupted", good=None)


class _Task:
    """One case at work: the folder of its journal and output, what follows them, and its line."""

    def __init__(
        self,
        item: pytest.Item,
        book: _Book,
        line: _Progress | _Line,
        kernel: faults.KernelLog | None,
        defaults: Mapping[str, str] | None = None,
    ) -> None:
        """`defaults` are environment variables for the case's child, where they are not set."""
        self.item = item
        self.name = case_name(item.name)
        self.line = line
        self.kernel = kernel
        self.began = time.monotonic()
        self._defaults = defaults or {}
        self._temporary = tempfile.TemporaryDirectory(prefix="matrix-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)
        self.diary = self.folder / "journal"
        self.output = self.folder / "output"
        self._watch = _Watch(self.diary, self.output, self.name, book, line, item.config)
        _make_base_temp(item.config)

    def run(self) -> dict[str, Any]:
        """Run the test, in the child."""
        for name, value in self._defaults.items():
            os.environ.setdefault(name, value)
        _capture_apart(self.item.config, self.folder)
        return _run_here(self.item, self.diary)

    def watch(self) -> None:
        self._watch()

    def close(self) -> None:
        self._temporary.cleanup()


class _Book:
    """The record on the disk, and what is known of it here. Without a path it only remembers.

    A disk that refuses a write does not stop the run: `trouble` says so until a write succeeds.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.trouble: str | None = None
        self._cases: dict[str, Case] = {}
        self._record: Record | None = None
        if path is not None:
            try:
                self._record = records.read(path)
            except RecordError as error:
                raise pytest.UsageError(f"--record: {error}; `matrix run` makes one") from None
            self._cases = {case.case: case for case in self._record.cases}

    def platform(self, asked: str) -> str:
        if self._record is None:
            here = "cuda" if gpu_visible(os.environ) else "cpu"
            return os.environ.get(PLATFORM_VARIABLE, here) if asked == "auto" else asked
        if asked not in ("auto", self._record.platform):
            raise pytest.UsageError(
                f"--platform {asked}: but the record {self.path} is of {self._record.platform}"
            )
        return self._record.platform

    def put(self, case: Case) -> None:
        self._cases[case.case] = case
        self._change(cases=tuple(self._cases.values()))

    def any_judged(self) -> bool:
        return any(case.outcome != "not_applicable" for case in self._cases.values())

    def deselect(self, cases: int) -> None:
        """Count cases that are not to run; on the disk with the next write."""
        if self._record is not None:
            self._change(write=False, deselected=self._record.deselected + cases)

    def add_rung(self, rung: Rung) -> None:
        if self._record is not None:
            others = tuple(each for each in self._record.rungs if each.rung != rung.rung)
            self._change(rungs=(*others, rung))

    def add_provenance(self, facts: Mapping[str, object]) -> None:
        if self._record is not None:
            self._change(provenance={**self._record.provenance, **facts})

    def set_flags(self, flags: Mapping[str, object]) -> None:
        self._change(flags=dict(flags))

    def fail(self, kind: str, why: str, *, write: bool = True) -> None:
        """Note why the run as a whole ended early; the first reason stays."""
        if self._record is not None and self._record.error is None:
            self._change(write=write, error=RunError(kind, why))

    def finish(self) -> None:
        self._change(finished=True)

    def _change(self, *, write: bool = True, **fields: Any) -> None:
        if self._record is None or self.path is None:
            return
        self._record = replace(self._record, **fields)
        if write:
            try:
                records.write(self._record, self.path)
                self.trouble = None
            except RecordError as error:
                self.trouble = str(error)


class _Progress:
    """Lines that grow as a case runs: `  moe_startup[mega_aot=1]  cold 61.2 s  warm 20.4 s ...`."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._name = ""
        self._open = False
        self.width = 0

    @property
    def _terminal(self) -> Any:
        return self._config.pluginmanager.get_plugin("terminalreporter")

    def line(self, text: str) -> None:
        if self._terminal is not None:
            self._terminal.ensure_newline()
            self._terminal.write(f"  {text}\n", flush=True)

    def begin(self, name: str) -> None:
        self._name = name
        if self._terminal is not None:
            # Not ensure_newline: after that, pytest writes the file's name again for the next case.
            if self._config.get_terminal_writer().width_of_current_line:
                self._terminal.write("\n")
            self._reopen()

    def event(self, event: Mapping[str, Any]) -> None:
        if piece := _told(event):
            self._piece(piece)

    def stream(self, text: str) -> None:
        """Show what the child wrote (under `-s`)."""
        if self._terminal is not None and text:
            self._close()
            self._terminal.write(text if text.endswith("\n") else text + "\n", flush=True)

    def end(self, word: str, *, good: bool | None) -> None:
        self._piece("  ")
        self._piece(word, **_colour(good))
        self._close()

    def whole(self, name: str, said: str, word: str, *, good: bool | None) -> None:
        """The line of a case at once, as it would have grown."""
        if self._terminal is not None:
            self._terminal.ensure_newline()
            self._terminal.write(f"  {name:<{self.width}}{said}  ")
            self._terminal.write(word, **_colour(good))
            self._terminal.write("\n", flush=True)

    @contextmanager
    def without_files(self) -> Iterator[None]:
        """Keep pytest from the name of the file before each case: neighbours are of several."""
        shown = self._terminal is not None and self._terminal.showfspath
        if shown:
            self._terminal.showfspath = False
        yield
        if shown:
            self._terminal.showfspath = True

    def _piece(self, text: str, **markup: bool) -> None:
        if self._terminal is not None:
            if not self._open:
                self._reopen()
            self._terminal.write(text, flush=True, **markup)

    def _reopen(self) -> None:
        self._terminal.write(f"  {self._name:<{self.width}}", flush=True)
        self._open = True

    def _close(self) -> None:
        if self._terminal is not None and self._open:
            self._terminal.write("\n", flush=True)
            self._open = False


class _Lines:
    """The lines of cases that run side by side: a line cannot grow while its neighbours do."""

    def __init__(self, progress: _Progress) -> None:
        self.progress = progress
        self._began = time.monotonic()

    def case(self, name: str) -> _Line:
        return _Line(self, name)

    def say(self, text: str) -> None:
        self.progress.line(f"[{time.monotonic() - self._began:4.0f} s]  {text}")


class _Line:
    """What is said of one case beside others: its cold start when it is over, at its end all."""

    def __init__(self, lines: _Lines, name: str) -> None:
        self._lines, self._name = lines, name
        self._said = ""

    def event(self, event: Mapping[str, Any]) -> None:
        self._said += _told(event)
        if event["event"] == "started" and event.get("start") == "cold":
            self._lines.say(f"{self._name:<{self._lines.progress.width}}{self._said}")

    def stream(self, text: str) -> None:
        for line in text.splitlines():
            self._lines.progress.line(f"{self._name} | {line}")

    def end(self, word: str, *, good: bool | None) -> None:
        self._lines.progress.whole(self._name, self._said, word, good=good)


def _told(event: Mapping[str, Any]) -> str:
    """What a progress line says of an event."""
    if event["event"] == "starting":
        return f"  {event.get('start')}"
    if event["event"] == "started":
        seconds = event.get("seconds")
        total = seconds.get("total") if isinstance(seconds, Mapping) else seconds
        return f" {total:.1f} s" if isinstance(total, (int, float)) else " done"
    return ""


def _colour(good: bool | None) -> dict[str, bool]:
    return {"yellow": True} if good is None else {"green" if good else "red": True}


class _Watch:
    """Follows a running case: its journal, for progress line and record; under `-s` its output."""

    def __init__(
        self,
        diary: Path,
        output: Path,
        name: str,
        book: _Book,
        progress: _Progress | _Line,
        config: pytest.Config,
    ) -> None:
        self._diary, self._output, self._name = diary, output, name
        self._book, self._progress = book, progress
        self._began = time.monotonic()
        self._seen = 0
        self._shown = 0
        self._streams = config.getoption("capture") == "no"

    def __call__(self) -> None:
        events = journal.read(self._diary)
        for event in events[self._seen :]:
            self._progress.event(event)
            if event["event"] == "started":
                seconds = time.monotonic() - self._began
                self._book.put(journal.fold(self._name, events, seconds=seconds))
        self._seen = len(events)
        if self._streams:
            with suppress(OSError), self._output.open("rb") as file:
                file.seek(self._shown)
                data = file.read()
                self._shown += len(data)
                self._progress.stream(data.decode("utf-8", "replace"))


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # The one who would kill a session that does not come to its end may itself be dead.
    signal.alarm(_LAST_SECONDS)
    raise KeyboardInterrupt


def _isolated(item: pytest.Item) -> bool:
    inside = _startup_folder(item.path) is not None
    return inside or item.get_closest_marker("isolated") is not None


def _startup_folder(path: Path) -> Path | None:
    """The folder tests/startup that holds the path, or is it."""
    places = (path, *path.parents)
    return next((each for each in places if each.parts[-2:] == ("tests", "startup")), None)


@dataclass(frozen=True)
class _Named:
    """A file, a folder or a node id that the command line names: `text` as it was written."""

    text: str
    path: Path
    inner: str

    @classmethod
    def of(cls, text: str, config: pytest.Config) -> _Named:
        path, _, inner = text.partition("::")
        return cls(text, Path(os.path.abspath(config.invocation_params.dir / path)), inner)

    def holds(self, item: pytest.Item) -> bool:
        inner = item.nodeid.partition("::")[2]
        inside = inner == self.inner or inner.startswith((f"{self.inner}::", f"{self.inner}["))
        return self.path in (item.path, *item.path.parents) and (not self.inner or inside)


@contextmanager
def _import_told() -> Iterator[None]:
    """Let `matrix run` know that it was the import that ended this process, should it do so."""
    told = os.environ.pop(_IMPORTING, None)
    if told is None:
        yield
        return
    with suppress(OSError):
        Path(told).touch()
    try:
        yield
    finally:
        with suppress(OSError):
            Path(told).unlink()


@contextmanager
def _quiet_unless_it_fails(record: Path | None) -> Iterator[None]:
    """Hold back what imports print (torch and vLLM print much); show it where one of them fails.

    It is held in a file beside the record, where `matrix run` finds the last words of an import
    that took the whole process with it.
    """
    with _holding_file(record) as held, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = [(number, os.dup(number)) for number in (1, 2)]
        isolation.flush_output()
        for number, _ in kept:
            os.dup2(held.fileno(), number)
        failed = True
        try:
            yield
            failed = False
        finally:
            isolation.flush_output()
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
            if failed:
                held.seek(0)
                os.write(2, held.read()[-_SECTION_BYTES:])


@contextmanager
def _holding_file(record: Path | None) -> Iterator[IO[bytes]]:
    if record is None:
        with tempfile.TemporaryFile() as held:
            yield held
        return
    path = record.with_suffix(".imports.log")
    with path.open("w+b") as held:
        yield held
    path.unlink(missing_ok=True)


def _with_cold_log(ended: Ended, log: Path) -> Ended:
    """Add what the cold start printed, where its case did not live to show it."""
    if ended.kind == "returned" or not log.exists():
        return ended
    said = log.read_text(encoding="utf-8", errors="replace")
    return replace(ended, output=isolation.tail(f"{ended.output}\nthe cold start printed\n{said}"))


def _import_stack(platform: str) -> tuple[Any, Any, dict[str, str]]:
    """torch and vllm, with the extensions that vLLM itself imports only on use, and there forgives.

    On the CPU platform no kernel of an extension ever runs, so one that cannot be linked here says
    nothing of the compiler: for want of the driver's library, of the CUDA libraries that it was
    built with, or of a symbol that this torch does not export. Each is named, with why.
    """
    missed = {}
    torch = importlib.import_module("torch")
    vllm = importlib.import_module("vllm")
    for name in _EXTENSIONS:
        if importlib.util.find_spec(name) is not None:
            try:
                importlib.import_module(name)
            except ImportError as error:
                unlinked = _UNLINKED.search(str(error))
                if platform != "cpu" or unlinked is None:
                    raise
                missed[name] = unlinked[0]
    return torch, vllm, missed


def _told_missed(missed: Mapping[str, str]) -> str | None:
    """The note of the rung `imports` on extensions that were not loaded; None without any."""
    by_library: dict[str, list[str]] = {}
    others = []
    for name, why in missed.items():
        if why.startswith("undefined"):
            others.append(f"not loaded: {name} ({why})")
        else:
            by_library.setdefault(why, []).append(name)
    absent = [
        f"{library} is not here, so not loaded: {', '.join(names)}"
        for library, names in by_library.items()
    ]
    return "; ".join((*absent, *others)) or None


def _stack_facts(torch: Any, vllm: Any, platform: str) -> dict[str, object]:
    """What the record's provenance says of the stack, found without initialising CUDA."""
    triton = None
    with suppress(importlib.metadata.PackageNotFoundError):
        triton = importlib.metadata.version("triton")
    cuda = torch.version.cuda
    return {
        "torch": str(torch.__version__),
        "vllm": str(vllm.__version__),
        "triton": triton,
        "cuda": None if cuda is None else str(cuda),
        "gpu": gpus.first_gpu() if platform == "cuda" else None,
    }


def _unfit(features: Any, platform: str) -> tuple[str, str] | None:
    """The kind of error and why, where vLLM or torch cannot use the machine as it is asked to."""
    chosen = features.chosen_platform()
    if chosen != platform:
        why = f"vLLM chose the platform {chosen}, not {platform}"
        if platform != "cuda":
            return "internal", why
        fault = faults.nvml_fault()
        return ("no_gpu", why) if fault is None else ("no_driver", f"{why}: {fault}")
    if platform != "cuda":
        return None
    # The second question would spoil the forks of this process, so a child of its own asks.
    asked = isolation.run_forked(
        lambda: [features.cuda_spoilt_by_fork(), *features.torch_architectures()], timeout=_ASKING
    )
    spoilt, *built = asked.value or [False]
    if spoilt:
        return "internal", "CUDA was touched while torch and vLLM were imported; no fork can use it"
    capability = features.compute_capability()
    if capability is None or faults.built_for(built, capability):
        return None
    has = f"{capability[0]}.{capability[1]}"
    return (
        "gpu_unsupported",
        f"this torch has code for {', '.join(built)}, and none that a GPU of compute capability"
        f" {has} can run: use another GPU, or a torch that was built for this one",
    )


def _make_base_temp(config: pytest.Config) -> None:
    # Where the parent has none, every child makes one, and none removes the old ones.
    factory = getattr(config, "_tmp_path_factory", None)
    if factory is not None:
        factory.getbasetemp()


def _run_here(item: pytest.Item, diary: Path) -> dict[str, Any]:
    """Run the test, in the child: its reports as JSON, and the arguments of its pytest.exit."""
    os.environ[journal.VARIABLE] = str(diary)
    reports: list[pytest.TestReport] = []
    stop = None
    try:
        reports = runtestprotocol(item, log=False, nextitem=None)
    except pytest.exit.Exception as error:
        stop = [str(error.msg), error.returncode]
    found = []
    for report in reports:
        report.sections = [(name, _clip_section(text)) for name, text in report.sections]
        report.user_properties = [(str(name), str(value)) for name, value in report.user_properties]
        found.append(
            item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
        )
    return {"reports": found, "exit": stop}


def _clip_section(text: str) -> str:
    kept = isolation.tail(text, _SECTION_BYTES)
    left_out = len(text) - len(kept)
    return f"[{left_out} characters before this are left out]\n{kept}" if left_out else kept


def _capture_apart(config: pytest.Config, folder: Path) -> None:
    """Let pytest's capture write to files in the folder, in the child.

    A fork shares the files of its parent's capture, and all its siblings would write to the same.
    """
    manager: Any = config.pluginmanager.get_plugin("capturemanager")
    capturing = getattr(manager, "_global_capturing", None)
    for name in ("out", "err"):
        file: Any = getattr(getattr(capturing, name, None), "tmpfile", None)
        with suppress(AttributeError, OSError):  # no capture, or one in memory: not shared
            number = file.fileno()
            own = os.open(folder / f"captured.{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.dup2(own, number, inheritable=False)
            os.close(own)


def _with_captured(folder: Path, ended: Ended) -> Ended:
    """Add what pytest had captured in a child that died."""
    if ended.kind == "returned":
        return ended
    captured = [isolation.read_tail(folder / f"captured.{name}") for name in ("out", "err")]
    text = "\n".join(part.rstrip() for part in (*captured, ended.output) if part.strip())
    return replace(ended, output=isolation.tail(text))


def _reports(item: pytest.Item, ended: Ended) -> list[pytest.TestReport]:
    """What pytest shall log of this test: the child's own reports, or one that says how it died."""
    if ended.kind == "returned" and (ended.value["reports"] or ended.value["exit"]):
        return [_from_json(item.config, data) for data in ended.value["reports"]]
    sections = [("Captured stdout call", ended.output)] if ended.output.strip() else []
    why = f"{case_name(item.name)}: {ended.reason}"
    died = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={name: 1 for name in item.keywords},
        outcome="failed",
        longrepr=f"{ended.error.rstrip()}\n{why}" if ended.error else why,
        when="call",
        sections=sections,
        duration=ended.seconds,
        user_properties=list(item.user_properties),
    )
    # Nothing was torn down but by the kernel; JUnit's writer wants this report to write the output.
    over = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=died.keywords,
        outcome="passed",
        longrepr=None,
        when="teardown",
        sections=sections,
    )
    return [died, over]


def _from_json(config: pytest.Config, data: dict[str, Any]) -> pytest.TestReport:
    report: Any = config.hook.pytest_report_from_serializable(config=config, data=data)
    # JSON has no tuples, and pytest's own plugins insist on them.
    report.location = tuple(report.location)
    report.sections = [tuple(section) for section in report.sections]
    report.user_properties = [tuple(each) for each in report.user_properties]
    if isinstance(report.longrepr, list):
        report.longrepr = tuple(report.longrepr)
    found: pytest.TestReport = report
    return found


def _failure(reports: list[pytest.TestReport]) -> str | None:
    """The traceback of a test that failed, whether or not it was expected to."""
    for report in reports:
        if report.failed or (hasattr(report, "wasxfail") and report.longrepr):
            return report.longreprtext
    return None


def _skip_reason(reports: list[pytest.TestReport]) -> str | None:
    for report in reports:
        if report.skipped and not hasattr(report, "wasxfail"):
            place = report.longrepr
            text = place[2] if isinstance(place, tuple) else report.longreprtext
            return text.removeprefix("Skipped: ")
    return None


def _last_word(
    case: Case, reports: list[pytest.TestReport], untested: Mapping[str, Any] | None
) -> tuple[str, bool | None]:
    """How the progress line of a case ends, and whether that is good (None: neither)."""
    if untested is not None:
        return f"untested: {untested.get('reason')}", None
    if case.outcome == "not_applicable":
        return f"not applicable: {case.reason}", None
    if case.outcome != "passed":
        outcome, why = case.outcome.replace("_", " "), str(case.reason)
        return why if why.startswith(outcome) else f"{outcome}: {why}", False
    failure = _failure(reports)
    return ("passed", True) if failure is None else (f"failed: {reason_of(failure)}", False)
