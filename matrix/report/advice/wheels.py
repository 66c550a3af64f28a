"""The needs of wheels, one line for each, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from matrix._util.text import aligned
from matrix.advice.fits import WheelNeeds
from matrix.report.advice import words
from matrix.report.advice.recommend import wheel_values


def lines(rows: Sequence[WheelNeeds]) -> str:
    """Return a table of wheels as text."""
    head = ["", "CUDA", "driver", "for PTX", "glibc", "of libraries", "GPU code"]
    return "\n".join(aligned([head, *map(_row, rows)])) + "\n"


def _row(needs: WheelNeeds) -> list[str]:
    return [
        f"{words.NAMES[needs.project]} {needs.version}",
        words.cuda_words(needs),
        f">={needs.driver.least}" if needs.driver else _without_driver(needs),
        f">={needs.driver.own}" if needs.driver else _without_driver(needs),
        f">={needs.wheel_glibc}" if needs.wheel_glibc else words.UNKNOWN,
        (needs.glibc or "none") if needs.is_read else words.NOT_READ,
        words.code_words(needs)
        if needs.code or needs.is_for_cpu
        else " ".join(needs.archs) or words.NOT_READ,
    ]


def _without_driver(needs: WheelNeeds) -> str:
    """Return why no driver is named: the wheel needs none, or its CUDA has none that is known."""
    return words.UNKNOWN if needs.cuda else words.cuda_words(needs)


def content(rows: Sequence[WheelNeeds]) -> str:
    """Return the wheels as JSON; null is what was not read or is not known."""
    return json.dumps({"schema": 1, "wheels": list(map(wheel_values, rows))}, indent=1) + "\n"
