"""Faults that are injected for real: how many seeds, and the table of what became of them.

tox -e faults [-- --seeds N] [-k NAME]
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fault_table
from small_cell import Fault, SmallCell, is_whole

IN_ANOTHER_SUITE = {"a node of Ray that is lost": "tox -e ray (tests/cluster)"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=3, help="how often each random fault is tried")


def pytest_configure(config: pytest.Config) -> None:
    fault_table.register(config, IN_ANOTHER_SUITE)


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
    """Return the records of a run that nothing disturbed, and the seconds that it took."""
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
    earlier, seconds = undisturbed
    found = Fault(cell=cell, earlier=earlier, seconds=seconds)
    yield found
    fault_table.note(request.node, found)
