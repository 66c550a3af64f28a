"""Faults that are injected for real: how many seeds, and the table of what became of them.

tox -e faults [-- --seeds N] [-k NAME]
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from small_cell import Fault, SmallCell, is_whole

NOT_INJECTED = {
    "a node of Ray that is lost": "not here: it takes a cluster",
    "disk full while an environment is made": "needs an environment of some GB",
}
"""What the suite does not try yet, and where else it is tried."""

_KEY = "fault"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=3, help="how often each random fault is tried")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(name): the fault that a test injects")
    config.pluginmanager.register(_Table(), "table of faults")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--seeds")))


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[SmallCell]:
    small = SmallCell(folder=tmp_path)
    yield small
    small.close()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The records of a run that nothing disturbed, and the seconds that it took."""
    small = SmallCell(folder=tmp_path_factory.mktemp("undisturbed"))
    began = time.monotonic()
    status, output = small.run(PACE="0.2", JOBS="1")
    seconds = time.monotonic() - began
    assert status == 0 and is_whole(small.newest()), output
    assert not small.left_running() and not small.left_in_records()
    return small.records, seconds


@pytest.fixture
def fault(
    request: pytest.FixtureRequest, cell: SmallCell, undisturbed: tuple[Path, float]
) -> Iterator[Fault]:
    marker = request.node.get_closest_marker("fault")
    assert marker is not None
    earlier, seconds = undisturbed
    found = Fault(cell=cell, earlier=earlier, seconds=seconds)
    yield found
    request.node.user_properties.append((_KEY, [marker.args[0], len(found.lost), len(found.left)]))


class _Table:
    """Prints the table at the end, in the one process that has all reports."""

    def __init__(self) -> None:
        self._rows: dict[str, list[int]] = {}
        self._failed: set[str] = set()
        self._skipped: dict[str, str] = {}

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
        width = max(map(len, (*self._rows, *NOT_INJECTED)))
        write(f"{'fault':{width}}  seeds  lost  left over  failed")
        for name, (seeds, lost, left, failed) in sorted(self._rows.items()):
            write(f"{name:{width}}  {seeds:5}  {lost:4}  {left:9}  {failed:6}")
        for name, why in NOT_INJECTED.items():
            write(f"{name:{width}}  not injected: {why}")
