"""pytest's reports of a test in a child: sent as JSON, read again here, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from matrix.inside.ended import Ended, tail
from matrix.inside.pytest_plugin.selection import case_name
from matrix.record.model import Case, Outcome
from matrix.record.signature import reason as reason_of

_SECTION_BYTES = 64 * 1024
"""How much of one captured output comes back from a child: its last 64 KiB."""

_XPASS = "[XPASS(strict)]"


def run_and_report(item: pytest.Item) -> dict[str, Any]:
    """Run the test, in the child; return its reports as JSON, and the arguments of its pytest.exit.

    The two are the values of `reports` and `exit`; `exit` is None for a test that did not call it.
    """
    reports: list[pytest.TestReport] = []
    stop = None
    try:
        reports = runtestprotocol(item, log=False, nextitem=None)
    except pytest.exit.Exception as error:
        stop = [str(error.msg), error.returncode]
    data = []
    for report in reports:
        report.sections = [(name, _clip_section(text)) for name, text in report.sections]
        report.user_properties = [(str(name), str(value)) for name, value in report.user_properties]
        data.append(
            item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
        )
    return {"reports": data, "exit": stop}


def _clip_section(text: str) -> str:
    kept = tail(text, _SECTION_BYTES)
    left_out = len(text) - len(kept)
    return f"[{left_out} characters before this are left out]\n{kept}" if left_out else kept


def reports_of(item: pytest.Item, ended: Ended) -> list[pytest.TestReport]:
    """Return what pytest logs of a test: the child's own reports, or one of how the child died."""
    if ended.kind == "returned" and (ended.value["reports"] or ended.value["exit"]):
        return [_from_json(item.config, data) for data in ended.value["reports"]]
    sections = [("Captured stdout call", ended.output)] if ended.output.strip() else []
    why = f"{case_name(item.name)}: {ended.reason}"
    died = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome="failed",
        longrepr=f"{ended.error.rstrip()}\n{why}" if ended.error else why,
        when="call",
        sections=sections,
        duration=ended.seconds,
        user_properties=list(item.user_properties),
    )
    # Only the kernel tore the test down; JUnit's writer wants this report to write the output.
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
    report.user_properties = [tuple(item) for item in report.user_properties]
    if isinstance(report.longrepr, list):
        report.longrepr = tuple(report.longrepr)
    read: pytest.TestReport = report
    return read


def failure_of(reports: Sequence[pytest.TestReport]) -> str | None:
    """Return the traceback of a test that failed, whether or not it was expected to.

    That a test passed against its mark is a fault of the mark, so it is None.
    """
    failure = _failure([report for report in reports if report.when != "teardown"])
    return None if failure is None or failure.startswith(_XPASS) else failure


def teardown_failure_of(reports: Sequence[pytest.TestReport]) -> str | None:
    """Return the traceback of a teardown that failed."""
    return _failure([report for report in reports if report.when == "teardown"])


def _failure(reports: Sequence[pytest.TestReport]) -> str | None:
    for report in reports:
        if report.failed or (hasattr(report, "wasxfail") and report.longrepr):
            return report.longreprtext
    return None


def skip_reason_of(reports: Sequence[pytest.TestReport]) -> str | None:
    """Return why a test was skipped, or None for one that was not."""
    for report in reports:
        if report.skipped and not hasattr(report, "wasxfail"):
            place = report.longrepr
            text = place[2] if isinstance(place, tuple) else report.longreprtext
            return text.removeprefix("Skipped: ")
    return None


def last_word(
    case: Case, reports: Sequence[pytest.TestReport], untested: Mapping[str, Any] | None
) -> tuple[str, bool | None]:
    """Return how the progress line of a case ends, and whether that is good (None: neither).

    `untested` is the journal's event of that name, if there was one.
    """
    if untested is not None:
        return f"untested: {untested.get('reason')}", None
    if case.outcome is Outcome.NOT_APPLICABLE:
        return f"not applicable: {case.reason}", None
    if case.outcome is not Outcome.PASSED:
        outcome, why = case.outcome.replace("_", " "), str(case.reason)
        return why if why.startswith(outcome) else f"{outcome}: {why}", False
    failure = _failure(reports)
    return ("passed", True) if failure is None else (f"failed: {reason_of(failure)}", False)
