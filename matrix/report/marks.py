"""What a square says besides its verdict: as expected, but.

One list of marks for every form of the table: *provisional*, *not stock*, *recompiles warm*, and
how many cases a partial run has.
"""

from __future__ import annotations

from matrix._util.text import plural
from matrix.record.stock import NOT_STOCK, differing
from matrix.report import provisional
from matrix.verdict.ladder import RunEvidence


def marks(ran: RunEvidence | None, most: int = 4) -> tuple[str, ...]:
    """Return the marks of a run, with at most so many names of packages that are not stock."""
    if ran is None:
        return ()
    found = [
        "" if ran.provisional is None else provisional.mark(ran.provisional),
        f"{NOT_STOCK}: {differing(ran.not_stock, most)}" if ran.not_stock else "",
        *others(ran),
    ]
    return tuple(filter(None, found))


def short(ran: RunEvidence | None) -> str:
    """Return what a square that is as expected says besides; "" for a plain one."""
    if ran is None:
        return ""
    return ", ".join([*([NOT_STOCK] if ran.not_stock else []), *others(ran)])


def others(ran: RunEvidence | None) -> tuple[str, ...]:
    """Return the marks but for *provisional* and *not stock*: `2 cases recompile warm`."""
    if ran is None:
        return ()
    again = recompile(len(ran.recompiling))
    return tuple(filter(None, (again, ran.part)))


def recompile(count: int) -> str:
    """Return how many cases compile again on their warm start; "" for none.

    >>> recompile(1), recompile(2)
    ('1 case recompiles warm', '2 cases recompile warm')
    """
    return f"{plural(count, 'case')} {'recompiles' if count == 1 else 'recompile'} warm" * bool(
        count
    )
