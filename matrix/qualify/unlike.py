"""Why the seconds of a baseline and of a candidate do not compare, as a code. Pure."""

from __future__ import annotations

from matrix._util.enums import StrEnum
from matrix.record.model import Record
from matrix.record.start_seconds import Unlike, unlike


class UnlikeCode(StrEnum):
    """Why the seconds of two runs do not compare, whatever they ran.

    All comparisons of seconds have these codes: those of a case, of two sides in turns, of a round.
    """

    OTHER_JOBS = "other jobs"
    OTHER_TESTS = "other tests"
    OTHER_MACHINE = "other machine"
    OTHER_STEPS = "other steps"


_CODES = {  # the first that applies is the reason
    Unlike.JOBS: UnlikeCode.OTHER_JOBS,
    Unlike.TESTS: UnlikeCode.OTHER_TESTS,
    Unlike.MACHINE: UnlikeCode.OTHER_MACHINE,
    Unlike.STEPS: UnlikeCode.OTHER_STEPS,
}


def unlike_code(before: Record, after: Record) -> UnlikeCode | None:
    """Return the first reason why the seconds of two runs do not compare; None if they do."""
    found = unlike(before, after)
    return next((code for why, code in _CODES.items() if why in found), None)
