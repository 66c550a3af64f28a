"""Which release to run next, to find the first bad one of an ordered list in log2 steps.

Pure. As in `git bisect`, what cannot be told of a release is skipped, and where only skipped
releases lie between the last good and the first bad one, the answer is a few of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matrix.errors import MatrixError

__all__ = ["BAD", "GOOD", "SKIP", "Bisection", "BisectionError", "bisect"]

GOOD = "good"
BAD = "bad"
SKIP = "skip"
"""Nothing can be told of the release: it was asked, and asking again would not help."""


class BisectionError(MatrixError):
    """Outcomes that have no first bad release: says which two contradict each other."""


@dataclass(frozen=True)
class Bisection:
    """How far the search is.

    `next` is the release to run, None when the search is done; then `first_bad` is the answer, or
    one of `candidates` is, where those before the last of them were skipped. `steps` is how many
    more runs it takes at most if none has to be skipped.
    """

    next: str | None
    good: str | None
    bad: str | None
    candidates: tuple[str, ...]
    steps: int

    @property
    def done(self) -> bool:
        """Whether nothing is left to run."""
        return self.next is None

    @property
    def first_bad(self) -> str | None:
        """The first bad release, where it is known."""
        return self.candidates[0] if self.done and len(self.candidates) == 1 else None


def bisect(releases: Sequence[str], known: Mapping[str, str]) -> Bisection:
    """The next step: `releases` from old to new, `known` the outcome of those that were asked.

    The two ends are asked first, the newest before the oldest: without a bad and a good one there
    is nothing to search. An end that was skipped moves inwards.

    >>> bisect(["2.9", "2.10", "2.11", "2.12"], {"2.9": "good", "2.12": "bad"}).next
    '2.10'

    Raises BisectionError where an older release is bad and a newer one good, where all are good or
    all are bad, or where nothing of them can be told.
    """
    told = {each: known.get(each) for each in releases}
    goods = [at for at, each in enumerate(releases) if told[each] == GOOD]
    bads = [at for at, each in enumerate(releases) if told[each] == BAD]
    if goods and bads and bads[0] < goods[-1]:
        raise BisectionError(
            f"bisect: {releases[bads[0]]} is bad and the newer {releases[goods[-1]]} is good, so no"
            " release is the first bad one; run both again, the newest run of each counts, or"
            " narrow the range"
        )
    open_ = [at for at, each in enumerate(releases) if told[each] is None]
    good = goods[-1] if goods else None
    bad = bads[0] if bads else None
    if good is None or bad is None:
        return _end(releases, open_, good, bad)
    between = [at for at in open_ if good < at < bad]
    # The middle of what can be asked, and not of the range: what is skipped costs no balance.
    following = releases[between[(len(between) - 1) // 2]] if between else None
    return Bisection(
        next=following,
        good=releases[good],
        bad=releases[bad],
        candidates=tuple(releases[good + 1 : bad + 1]),
        steps=len(between).bit_length(),
    )


def _end(
    releases: Sequence[str], open_: Sequence[int], good: int | None, bad: int | None
) -> Bisection:
    """The search while one of the two ends is not known."""
    if bad is None:
        above = [at for at in open_ if good is None or at > good]
        if not above:
            every = "all that could be told" if good is not None else "none could be told"
            what = f"{every} are good" if good is not None else every
            raise BisectionError(f"bisect: no release is bad ({what}); widen the range")
        following = above[-1]
    else:
        below = [at for at in open_ if at < bad]
        if not below:
            raise BisectionError(
                f"bisect: no release before {releases[bad]} is good; begin with an older one"
            )
        following = below[0]
    low, high = good if good is not None else -1, bad if bad is not None else len(releases) - 1
    left = [at for at in open_ if low < at < high and at != following]
    return Bisection(
        next=releases[following],
        good=None if good is None else releases[good],
        bad=None if bad is None else releases[bad],
        candidates=tuple(releases[low + 1 : high + 1]),
        steps=1 + (good is None and bad is None) + len(left).bit_length(),
    )
