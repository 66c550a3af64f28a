"""The marks of a square besides its verdict, such as cases that recompile warm.

One list of marks for every form of the table: *provisional*, *not stock*, *recompiles warm*, and
how many cases a partial run has.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

from matrix._util.text import plural
from matrix.report import provisional, stock
from matrix.report.reasons import NO_ISSUE
from matrix.verdict.ladder import Part, RunEvidence

_ISSUE = re.compile(
    r"https://github\.com/[\w.-]+/(?P<name>[\w.-]+)/(?:issues|pull)/(?P<number>\d+)", re.ASCII
)


def marks(ran: RunEvidence | None, most: int = 4) -> tuple[str, ...]:
    """Return the marks of a run, with at most so many names of packages that are not stock."""
    if ran is None:
        return ()
    found = [
        "" if ran.provisional is None else provisional.mark(ran.provisional),
        stock.mark(ran.not_stock, most),
        *others(ran),
    ]
    return tuple(filter(None, found))


def short(ran: RunEvidence | None) -> str:
    """Return what a square that is as expected says besides; "" for a plain one."""
    if ran is None:
        return ""
    again = recompile(len(ran.recompiling))
    return ", ".join(
        filter(None, (stock.NOT_STOCK if ran.not_stock else "", again, part(ran.part)))
    )


def others(ran: RunEvidence | None) -> tuple[str, ...]:
    """Return the marks but for *provisional* and *not stock*.

    Such as `2 cases recompile warm (vllm#38051)` and `1 of 9 cases`.
    """
    if ran is None:
        return ()
    return tuple(filter(None, (recompile_for(ran.issues), part(ran.part))))


def part(found: Part | None) -> str:
    """Return how many of the cases a partial run has; "" for a whole one.

    >>> part(Part(held=1, total=9))
    '1 of 9 cases'
    """
    return "" if found is None else f"{found.held} of {found.total} cases"


def recompile_for(
    issues: Sequence[tuple[str, ...]], shown: Callable[[str], str] | None = None
) -> str:
    """Return how many cases compile again on their warm start, and their issues; "" for none.

    `issues` are the links of each case; `shown` writes one, by default as `issue_name` does.

    >>> recompile_for([("https://github.com/vllm-project/vllm/issues/38051",), ()])
    '2 cases recompile warm (vllm#38051; 1 case: no public issue known)'
    """
    if not issues:
        return ""
    named = ", ".join(dict.fromkeys(map(shown or issue_name, itertools.chain(*issues))))
    unknown = sum(not links for links in issues)
    if not named:
        why = NO_ISSUE
    else:
        why = f"{named}; {plural(unknown, 'case')}: {NO_ISSUE}" if unknown else named
    return f"{recompile(len(issues))} ({why})"


def issue_name(link: str) -> str:
    """Return an issue by its repository and number, or the link itself where it is another.

    >>> issue_name("https://github.com/vllm-project/vllm/issues/38051")
    'vllm#38051'
    """
    found = _ISSUE.fullmatch(link)
    return f"{found['name']}#{found['number']}" if found else link


def recompile(count: int) -> str:
    """Return how many cases compile again on their warm start; "" for none.

    >>> recompile(1), recompile(2)
    ('1 case recompiles warm', '2 cases recompile warm')
    """
    return f"{plural(count, 'case')} {'recompiles' if count == 1 else 'recompile'} warm" * bool(
        count
    )
