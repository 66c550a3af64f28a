"""The table of the faults that are injected into clusters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import fault_table
from fault_table import Found


def pytest_configure(config: pytest.Config) -> None:
    fault_table.register(config)


@pytest.fixture
def found(request: pytest.FixtureRequest) -> Iterator[Found]:
    """Give what the test finds, for the table; at the end of the test nothing may be in it."""
    every = Found()
    yield every
    fault_table.note(request.node, every)
    assert not every.lost and not every.left
