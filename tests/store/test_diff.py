from dataclasses import replace
from typing import Any

import pytest

from histories import CELLS, make, nights
from matrix.record.model import Record
from matrix.report.results import diff_lines
from matrix.store.diff import differences
from matrix.store.summary import times
from rules import ANY_CASE

BEFORE = nights(4)[-1]
SLOW = make(started="2026-11-09T18:00:00Z", total=200.0)


def told(after: Record, history: int = 4) -> list[str]:
    """What is said of the seconds from `BEFORE` to this, after so many records of its cell."""
    diff = differences(BEFORE, after, ANY_CASE, times(nights(4)[-history:] if history else []))
    return diff_lines(diff, ("a", "b"), history=history).splitlines()


def test_seconds_beyond_noise_are_told() -> None:
    assert told(SLOW)[0].startswith("before  ")
    assert "  moe_startup[mega_aot=1] cold  total  60.0  ->  200.0" in told(SLOW)
    assert told(make(started="2026-11-09T18:00:00Z", total=61.0))[-1] == (
        "1 start took other seconds, none of them beyond noise as far as 4 records of the cell tell"
    )


@pytest.mark.parametrize(
    ("more", "cells"),
    [
        ({"cell": CELLS[1]}, f"{CELLS[0]} on cpu and {CELLS[1]} on cpu"),
        ({"platform": "cuda"}, f"{CELLS[0]} on cpu and {CELLS[0]} on cuda"),
    ],
)
def test_another_cell_is_said_first_and_its_seconds_do_not_compare(
    more: dict[str, Any], cells: str
) -> None:
    lines = told(make(started="2026-11-09T18:00:00Z", total=200.0, **more))
    assert lines[0] == f"different cells: {cells}"
    assert "1 start took other seconds, which do not compare between cells" in lines
    assert "200.0" not in "\n".join(lines)


def test_few_records_tell_no_noise() -> None:
    for history, count in ((0, "0 records"), (1, "1 record"), (2, "2 records")):
        assert told(SLOW, history)[-1] == (
            f"1 start took other seconds; {count} of the cell before it:"
            " too few to tell noise (3 needed)"
        )


def test_other_jobs_do_not_compare() -> None:
    other = replace(SLOW, provenance={**SLOW.provenance, "jobs": 8})
    lines = told(other)
    assert any("as many cases did not run side by side" in line for line in lines)
    assert "200.0" not in "\n".join(lines)
