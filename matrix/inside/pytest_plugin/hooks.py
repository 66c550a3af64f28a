"""The hooks of one session."""

from __future__ import annotations

import errno
import importlib
import itertools
import os
import signal
import threading
import traceback
from collections.abc import Generator, Sequence
from functools import partial
from types import FrameType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from matrix._util.cores import available_cores
from matrix._util.memory import available_memory_mib
from matrix.inside import gpus
from matrix.inside.concurrency import jobs_for
from matrix.inside.cpu_platform import PLATFORM_VARIABLE
from matrix.inside.pytest_plugin.cases import CaseRunner
from matrix.inside.pytest_plugin.compiler_step import CompilerStep
from matrix.inside.pytest_plugin.imports import import_for_session
from matrix.inside.pytest_plugin.inspection_step import InspectionStep
from matrix.inside.pytest_plugin.jit_step import JitStep
from matrix.inside.pytest_plugin.progress import SessionProgress
from matrix.inside.pytest_plugin.record_file import RecordFile
from matrix.inside.pytest_plugin.selection import (
    NamedTests,
    case_name,
    gpus_of,
    is_isolated,
    is_of_full_suite,
    startup_folder,
)
from matrix.record.model import ErrorKind, Platform
from matrix.record.signature import reason as reason_of

_UNTESTED_STATUS = 5
_NO_RECORD_STATUS = 3
_LAST_SECONDS = 30  # how long an ended session may take over its own end


class SessionHooks:
    """The hooks of one session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._record = RecordFile(config.getoption("--record"), config.rootpath)
        self._platform = self._record.platform(config.getoption("--platform"))
        self._progress = SessionProgress(config)
        self._jit = JitStep(
            self._record,
            self._progress,
            on_gpu=self._platform is Platform.CUDA,
            kept=config.getoption("--jit-cache"),
        )
        self._compiler = CompilerStep(self._record, self._progress, self._platform)
        self._inspections = InspectionStep(self._record, self._progress, self._platform)
        self._cases = CaseRunner(
            self._record,
            self._progress,
            self._jit,
            timeout=config.getoption("--case-timeout"),
            buses=gpus.buses() if self._platform is Platform.CUDA else None,
        )
        self._jobs = 1
        self._begun: set[pytest.Item] = set()
        self._sigterm: Any = None
        self._named: list[NamedTests] = []
        self._left_out: list[pytest.Item] = []
        self._too_few: dict[int, str | None] = {}
        self._full = config.getoption("--suite") == "full"

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionstart(self) -> Generator[None, Any, Any]:
        """Import torch and vLLM."""
        started = yield  # pytest's own heading comes first
        if not self._config.getoption("collectonly"):
            os.environ[PLATFORM_VARIABLE] = self._platform
            self._jit.begin()
            self._compiler.begin()
            self._progress.line("imports  torch and vllm: up to a minute or two")
            imported = import_for_session(self._record, self._platform, self._compiler.finish)
            self._progress.line(imported)
        # Not before the import: one that hangs outside of Python would never come to the handler.
        if threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        ):
            self._sigterm = signal.signal(signal.SIGTERM, _interrupt)
        return started

    def pytest_unconfigure(self) -> None:
        """Remove what the session held for its cases, and put the handler of SIGTERM back."""
        self._compiler.close()
        self._inspections.close()
        self._jit.close()
        if self._sigterm is not None:
            signal.signal(signal.SIGTERM, self._sigterm)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Collect every startup test also where some are named, so that the others are counted."""
        if self._config.getoption("pyargs"):
            return
        named = [NamedTests.of(argument, self._config) for argument in self._config.args]
        folders = {startup_folder(tests.path) for tests in named}
        if len(folders) != 1 or not all(tests.path.exists() for tests in named):
            return
        [folder] = folders
        if folder is not None and folder not in (tests.path for tests in named):
            self._named = named
            self._config.args = [str(folder)]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> Generator[None, Any, Any]:
        """Deselect what the command line did not name, and leave out what is not to run here.

        That is what only the full suite has, where it does not run, and what needs more GPUs. A run
        that is asked for nothing else than the latter has those cases, and its record says why they
        do not apply. Other runs are whole without them.
        """
        if self._named:
            self._deselect_unnamed(session, items)
        result = yield
        self._fit_suite(items)
        kept = [item for item in items if self._too_few_gpus(item) is None]
        if any(map(is_isolated, kept)):
            self._left_out = [item for item in items if item not in kept]
            items[:] = kept
        return result

    def _deselect_unnamed(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        for tests in self._named:
            if not session.testsfailed and not any(map(tests.holds, items)):
                raise pytest.UsageError(f"not found: {tests.text}")
            chosen = [item for item in items if tests.holds(item)]
            if not self._full and chosen and all(map(is_of_full_suite, chosen)):
                raise pytest.UsageError(f"{tests.text}: is of the full suite; add --suite full")
        kept = [item for item in items if any(tests.holds(item) for tests in self._named)]
        if len(kept) < len(items):
            others = [item for item in items if item not in kept]
            self._config.hook.pytest_deselected(items=others)
            items[:] = kept

    def _fit_suite(self, items: list[pytest.Item]) -> None:
        """Put the cases of the full suite last, or leave them out where it does not run."""
        beyond = [item for item in items if is_of_full_suite(item)]
        others = [item for item in items if item not in beyond]
        items[:] = [*others, *beyond] if self._full else others
        if beyond and not items:
            names = ", ".join(case_name(item.name) for item in beyond)
            self._progress.line(f"left out: {names}; --suite full has them")

    def _too_few_gpus(self, item: pytest.Item) -> str | None:
        """Return why the test cannot have its GPUs here, or None."""
        wanted = gpus_of(item)
        if wanted not in self._too_few:
            self._too_few[wanted] = gpus.too_few(wanted, self._platform)
        return self._too_few[wanted]

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Count the cases that are not to run, but for those that could not."""
        startup = [item for item in items if is_isolated(item) and not is_of_full_suite(item)]
        self._record.deselect(sum(self._too_few_gpus(item) is None for item in startup))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Refuse two cases of one name, and decide how many run side by side."""
        names: dict[str, str] = {}
        for item in filter(is_isolated, session.items):
            name = case_name(item.name)
            if name in names:
                raise pytest.UsageError(
                    f"{names[name]} and {item.nodeid} are both the case {name}; rename one"
                )
            names[name] = item.nodeid
        self._progress.width = min(40, max(map(len, names), default=0))
        if names and not self._config.getoption("collectonly"):
            self._jobs = self._jobs_for(len(names), max(map(gpus_of, session.items)))
            beyond = [case_name(item.name) for item in session.items if is_of_full_suite(item)]
            self._record.select(len(names) - len(beyond))
            if self._full:
                self._record.begin_full_suite(beyond)
            self._record.add_provenance({"jobs": self._jobs})
        for item in self._left_out:
            name, why = case_name(item.name), self._too_few_gpus(item)
            self._progress.line(f"{name}  not applicable: {why}")

    def _jobs_for(self, cases: int, gpu_count: int) -> int:
        asked, on_gpu = self._config.getoption("--jobs"), self._platform is Platform.CUDA
        bounded = True
        if on_gpu and asked != 1:
            compat = importlib.import_module("matrix.inside.vllm_compat")
            bounded = "kv_cache_memory_bytes" in compat.engine_arguments()
        return jobs_for(
            asked,
            self._platform,
            cases,
            cores=available_cores(),
            bounded=bounded,
            free_mib=partial(gpus.free_mib, gpu_count) if on_gpu else available_memory_mib,
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Have all that the cases share before the first: answers, modules, kernels."""
        may_run = not self._config.getoption("collectonly") and not session.testsfailed
        if may_run and any(map(is_isolated, session.items)):
            self._inspections.run()
            self._jit.finish()
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> bool | None:
        """Run a case in a forked child, alone or with those that follow it."""
        if is_isolated(item):
            if self._jobs == 1:
                self._cases.run(item)
            elif item not in self._begun:
                self._run_side_by_side(item)
            return True
        if nextitem is None or not is_isolated(nextitem):
            return None
        # No fixture may be up at the fork: its teardown would run in the child, and here again.
        hooks = item.ihook
        hooks.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        runtestprotocol(item, nextitem=None)
        hooks.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run_side_by_side(self, first: pytest.Item) -> None:
        """Run the case and all that follow it, up to one that is not to be forked."""
        session = first.session
        following = session.items[session.items.index(first) :]
        items = list(itertools.takewhile(is_isolated, following))
        self._begun.update(items)
        self._cases.run_side_by_side(session, items, self._jobs)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        """Show nothing of a case's reports: its progress line has shown it already.

        The summaries at the end still ask for the words.
        """
        status = yield
        return (status[0], "", "") if self._cases.logging and status else status

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that cannot be collected."""
        if report.failed:
            why = reason_of(report.longreprtext)
            self._record.fail(
                ErrorKind.INTERNAL, f"cannot collect {report.nodeid}: {why}", write=False
            )

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note what stopped the session."""
        how = "pytest.exit" if isinstance(excinfo.value, pytest.exit.Exception) else "a signal"
        self._record.interrupt(how)

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note an error of pytest or of this plugin."""
        why = reason_of("".join(traceback.format_exception(excinfo.value)))
        self._record.fail(ErrorKind.INTERNAL, why, write=False)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> Generator[None, Any, Any]:
        """Finish the record and decide the exit status; continue if pytest's report is lost."""
        self._finish(session, exitstatus)
        try:
            return (yield)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._progress.line(f"the JUnit report is lost: {error.strerror}")

    def _finish(self, session: pytest.Session, exitstatus: int) -> None:
        if not self._record.path or self._config.getoption("collectonly"):
            return
        stopped = exitstatus == pytest.ExitCode.INTERRUPTED
        harmless = stopped and self._record.only_full_suite_is_left()
        if exitstatus not in (0, 1, 5) and not harmless:
            why = f"pytest ended with status {int(exitstatus)}"
            self._record.fail(ErrorKind.INTERNAL, why, write=False)
        self._jit.close()
        self._record.finish()
        if self._record.trouble is not None:
            session.exitstatus = _NO_RECORD_STATUS
        elif exitstatus == 0 and (self._cases.untested or not self._record.any_judged()):
            session.exitstatus = _UNTESTED_STATUS

    def pytest_terminal_summary(self) -> None:
        """Report a record that could not be written."""
        if self._record.trouble is not None:
            self._progress.line(f"the record is lost: {self._record.trouble}")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # The one who would kill a session that does not come to its end may itself be dead.
    signal.alarm(_LAST_SECONDS)
    raise KeyboardInterrupt
