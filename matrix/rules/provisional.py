"""How a case compares with the nearest expectations where its own releases are beyond their end.

Pure, and importable inside a cell. Such a comparison says what changed since the last release that
is known. It does not show what the release should count, so it makes a case neither compatible
nor a drift.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from matrix._util.text import listed
from matrix.record.model import STARTS
from matrix.rules.expectations import Difference, Nearest, compare


@dataclass(frozen=True, kw_only=True)
class Provisional:
    """What the starts of a case count beside the nearest expectations, by start and counter.

    `differences` are the counters that differ from these; without any the case counts the same.
    """

    nearest: Mapping[str, Mapping[str, Nearest]]
    differences: tuple[Difference, ...] = ()

    @property
    def releases(self) -> tuple[str, ...]:
        """The last releases that the rules speak of: `vLLM 0.33`, `vLLM 0.33 with torch 2.14`.

        Only of the counters that differ, where some do.
        """
        differing = {(difference.start, difference.counter) for difference in self.differences}
        return tuple(
            dict.fromkeys(
                last_release(near)
                for start, counters in self.nearest.items()
                for counter, near in counters.items()
                if not differing or (start, counter) in differing
            )
        )

    @property
    def words(self) -> str:
        """Return the comparison in words."""
        if not self.differences:
            return f"counts as {listed(list(self.releases))} did"
        first = self.differences[0]
        near = self.nearest[first.start][first.counter]
        counts = "not counted" if first.observed is None else str(first.observed)
        more = f", and {len(self.differences) - 1} more" if len(self.differences) > 1 else ""
        return (
            f"differs from {last_release(near)} in {first.start} {first.counter}: {counts},"
            f" was {first.expected}{more}"
        )


def last_release(near: Nearest) -> str:
    """Return the last release that a rule speaks of, as people name it.

    >>> last_release(Nearest(value=3, rule="moe", evidence=(), vllm="0.33", torch=None))
    'vLLM 0.33'
    """
    known = [
        f"{name} {last}" for name, last in (("vLLM", near.vllm), ("torch", near.torch)) if last
    ]
    return " with ".join(known)


def provisional_of(
    nearest: Mapping[str, Mapping[str, Nearest]], counted: Mapping[str, Mapping[str, int]]
) -> Provisional | None:
    """Return how starts compare with the nearest expectations; None without any of these.

    Both by start: what was nearest by counter, and what was counted.
    """
    there = {start: counters for start, counters in nearest.items() if counters}
    if not there:
        return None
    found: list[Difference] = []
    for start, counters in there.items():
        found += compare(counters, counted[start], start)
    return Provisional(nearest=there, differences=in_order(found))


def in_order(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """Return differences by start, the cold one first, and counter."""
    return tuple(sorted(differences, key=lambda one: (STARTS.index(one.start), one.counter)))
