"""Runs of cases in forked children, one after another or side by side, and how they ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import pytest

from matrix.inside import isolation, journal, supervisor
from matrix.inside.ended import Ended
from matrix.inside.isolation import IsolationError
from matrix.inside.machine_faults import KernelLog, explained
from matrix.inside.pytest_plugin.jit_step import JitStep
from matrix.inside.pytest_plugin.progress import ConcurrentProgress, SessionProgress
from matrix.inside.pytest_plugin.record_file import RecordFile
from matrix.inside.pytest_plugin.reports import (
    failure_of,
    last_word,
    reports_of,
    skip_reason_of,
    teardown_failure_of,
)
from matrix.inside.pytest_plugin.selection import case_name
from matrix.inside.pytest_plugin.task import CaseTask
from matrix.record.model import Case, ErrorKind, Outcome
from matrix.record.startup_tests import CASE_TIMEOUT

_CUT_SHORT = "ended with the session, which another case stopped"


class CaseRunner:
    """Runs cases, each for at most `timeout` seconds, fills the record and logs pytest's reports.

    `buses` are the PCI addresses of the GPUs whose entries in the kernel's log count; None
    without a GPU. `untested`: some case had no expectation.
    """

    def __init__(
        self,
        record: RecordFile,
        progress: SessionProgress,
        jit: JitStep,
        *,
        timeout: float,
        buses: Sequence[str] | None,
    ) -> None:
        self.untested = False
        self.logging = False
        self._record = record
        self._progress = progress
        self._jit = jit
        self._timeout = timeout
        self._buses = buses

    def run(self, item: pytest.Item) -> None:
        """Run a case to its end, with its reports logged between pytest's start and finish."""
        hooks = item.ihook
        hooks.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        self._log(item, self._run_forked(item))
        hooks.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _run_forked(self, item: pytest.Item) -> list[pytest.TestReport]:
        name = case_name(item.name)
        self._record.put(journal.fold(name, ()))
        self._progress.begin(name)
        with closing(CaseTask(item, self._record, self._progress, self._kernel_log())) as task:
            try:
                ended = isolation.run_forked(
                    task.run, timeout=self._timeout, output=task.output, watch=task.watch
                )
            except IsolationError as error:
                seconds = round(task.seconds(), 3)
                ended = Ended(kind="raised", seconds=seconds, error=f"IsolationError: {error}")
            except KeyboardInterrupt:
                self._cut_short(task, by_signal=True)
                raise
            return self._conclude(task, ended)

    def run_side_by_side(
        self, session: pytest.Session, items: Sequence[pytest.Item], jobs: int
    ) -> None:
        """Run the cases, up to `jobs` of them at once."""
        lines = ConcurrentProgress(self._progress)
        self._progress.line(f"{len(items)} cases, {jobs} side by side")

        def tasks() -> Iterator[CaseTask]:
            for item in items:
                name = case_name(item.name)
                self._record.put(journal.fold(name, ()))
                yield CaseTask(item, self._record, lines.case(name), self._kernel_log())

        def finished(task: CaseTask, ended: Ended) -> None:
            item = task.item
            with closing(task):
                reports = self._conclude(task, ended)
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            self._log(item, reports)
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

        def cut_short(task: CaseTask, *, by_signal: bool) -> None:
            with closing(task):
                self._cut_short(task, by_signal=by_signal)

        with self._progress.without_files():
            supervisor.supervise(
                tasks(),
                jobs,
                timeout=self._timeout,
                finished=finished,
                cut_short=cut_short,
                stopped=lambda: bool(session.shouldfail or session.shouldstop),
            )

    def _log(self, item: pytest.Item, reports: list[pytest.TestReport]) -> None:
        self.logging = True
        try:
            for report in reports:
                item.ihook.pytest_runtest_logreport(report=report)
        finally:
            self.logging = False

    def _kernel_log(self) -> KernelLog | None:
        return None if self._buses is None else KernelLog(self._buses)

    def _conclude(self, task: CaseTask, ended: Ended) -> list[pytest.TestReport]:
        """Record how the case ended; return the reports for pytest, or exit where the test did."""
        name, events = task.name, task.events()
        ended = task.with_output(ended)
        reports = reports_of(task.item, ended)
        case = journal.fold(
            name,
            events,
            ended=ended,
            failure=failure_of(reports),
            teardown=teardown_failure_of(reports),
            skipped=skip_reason_of(reports),
        )
        logged = task.kernel.since() if task.kernel and case.outcome is not Outcome.PASSED else ()
        case, fault = explained(case, logged)
        case = _unless_hindered(case, ended, self._timeout)
        if fault is None and case.outcome is Outcome.INTERRUPTED and case.signature is not None:
            # Others ended it. The run is not complete, so that it takes no other one's place.
            fault = ErrorKind.INTERRUPTED
        decides = not self._record.is_of_full_suite(name)
        if fault is not None and (decides or fault is ErrorKind.GPU_FAULT):
            self._record.fail(fault, f"{name}: {case.reason}", write=False)
        untested = next((event for event in events if event["event"] == "untested"), None)
        if untested is not None and case.outcome is Outcome.PASSED and not decides:
            case = replace(case, reason=str(untested.get("reason")))  # no judge says it later
        self._record.put(case)
        self._jit.add(name, events)
        self.untested = self.untested or untested is not None
        word, good = last_word(case, reports, untested)
        task.line.end(word, good=good)
        if ended.kind == "returned" and ended.value["exit"] is not None:
            pytest.exit(*ended.value["exit"])
        return reports

    def _cut_short(self, task: CaseTask, *, by_signal: bool) -> None:
        """Record a case that was not let come to its end."""
        case = journal.fold(task.name, task.events(), seconds=task.seconds(), interrupted=True)
        if by_signal:
            self._record.interrupt("a signal")
        else:
            case = replace(case, reason=_CUT_SHORT)
        self._record.put(case)
        task.line.end("interrupted", good=None)


def _unless_hindered(case: Case, ended: Ended, limit: float) -> Case:
    """Return the case; a timeout that shows no hang of its own makes it interrupted."""
    if case.outcome is not Outcome.TIMED_OUT:
        return case
    why = ended.idle
    if limit < CASE_TIMEOUT:
        why = f"the limit of {limit:g} s is below the default of {CASE_TIMEOUT:g} s"
    if why is None:
        return case
    return replace(case, outcome=Outcome.INTERRUPTED, reason=f"{case.reason}; {why}")
