"""The content of a page's square: the sign of its verdict, the letter of its rung, its marks.

Pure. The page's script makes the same of the packed data.
"""

from __future__ import annotations

from matrix.report.page.data import SHOWN_RUNGS
from matrix.verdict.ladder import Progress
from matrix.verdict.states import VERDICTS, Verdict

LETTERS = ("D", "R", "L", "I", "C", "W", "E", "B")
"""The letter of each rung of `SHOWN_RUNGS`."""
SIGNS = ("×", "≠", "·", "✓")
"""The sign of each verdict, worst first, for readers who do not see colours."""


def mark(progress: Progress, *, predicted: bool = False) -> str:
    """Return what a square shows: the sign of its verdict and the letter of the rung that decides.

    That is the rung where it fails, else the highest that it reached, with a question mark where
    the state of a rung below is unknown; no letter where nothing is known. An asterisk says that it
    ran with packages that are not as the vLLM requires. What is provisional has a sign of its own,
    and so has what is predicted, after what is measured.
    """
    rung = progress.fails or progress.reached
    shown = sign(progress.verdict, ran=progress.ran is not None)
    if progress.fails is None and progress.provisional is not None:
        shown = "≈"
    letter = LETTERS[SHOWN_RUNGS.index(rung)] if rung else ""
    doubt = "?" if progress.fails is None and progress.skipped else ""
    apart = ("*" if progress.not_stock else "") + _extra(progress)
    return shown + letter + doubt + apart + ("◌" if predicted else "")


def _extra(progress: Progress) -> str:
    """Return the signs of a run with cases that recompile warm, and of a partial one."""
    ran = progress.ran
    if ran is None:
        return ""
    return ("↻" if ran.recompiling else "") + ("◔" if ran.part else "")


def sign(verdict: Verdict, *, ran: bool) -> str:
    """Return the sign of a verdict; an untested cell that ran has one of its own."""
    return "?" if ran and verdict == Verdict.UNTESTED else SIGNS[VERDICTS.index(verdict)]


def style(progress: Progress) -> str:
    """Return the classes of a square: its verdict, whether it ran, whether it is the pin."""
    ran, pin = " r" if progress.ran is not None else "", "" if progress.off_pin else " p"
    apart = " n" if progress.not_stock or _extra(progress) else ""
    return f"s{VERDICTS.index(progress.verdict)}{ran}{pin}{apart}"
