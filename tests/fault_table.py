"""The table of faults at the end of a suite that injects them: how often, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

_KEY = "fault"
_NAME = "table of faults"


@dataclass(kw_only=True)
class Found:
    """What a test of a fault found: what was lost, and what was left over."""

    lost: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def register(config: pytest.Config, in_another: Mapping[str, str] | None = None) -> None:
    """Have the table printed; `in_another` has the faults that another suite injects."""
    config.addinivalue_line("markers", "fault(name): the fault that a test injects")
    if not config.pluginmanager.has_plugin(_NAME):
        config.pluginmanager.register(_Table(in_another or {}), _NAME)


def note(item: pytest.Item, found: Found) -> None:
    """Note what a test of a fault found."""
    marker = item.get_closest_marker("fault")
    assert marker is not None
    item.user_properties.append((_KEY, [marker.args[0], len(found.lost), len(found.left)]))


class _Table:
    """Prints the table at the end, in the one process that has all reports."""

    def __init__(self, in_another: Mapping[str, str]) -> None:
        self._in_another = in_another
        self._rows: dict[str, list[int]] = {}
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)
        if report.when != "teardown":
            return
        for key, value in report.user_properties:
            if key == _KEY:
                assert isinstance(value, list)
                name, lost, left = value
                row = self._rows.setdefault(name, [0, 0, 0, 0])
                for index, number in enumerate((1, lost, left, report.nodeid in self._failed)):
                    row[index] += int(number)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._rows:
            return
        write = terminalreporter.write_line
        terminalreporter.section("faults")
        width = max(map(len, (*self._rows, *self._in_another)))
        write(f"{'fault':{width}}  seeds  lost  left over  failed")
        for name, (seeds, lost, left, failed) in sorted(self._rows.items()):
            write(f"{name:{width}}  {seeds:5}  {lost:4}  {left:9}  {failed:6}")
        for name, where in self._in_another.items():
            write(f"{name:{width}}  in another suite: {where}")
