"""The comparison of a case beyond the end of the expectations with the nearest ones.

Pure, and importable inside a cell. Such a comparison says what changed against the nearest release
that is known. It does not show what the release should count, so it makes a case neither compatible
nor a drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from matrix._util.enums import StrEnum
from matrix.record.model import StartKind
from matrix.rules.expectations import Difference, Nearest, compare, in_order


class ComparisonCode(StrEnum):
    """How starts compare with the nearest expectations."""

    SAME_AS = "same as"
    DIFFERS_FROM = "differs from"


class NearestRelease(NamedTuple):
    """The vLLM and the torch that a rule covers next to those of a run; None if it covers these."""

    vllm: str | None
    torch: str | None


class SameAs(NamedTuple):
    """The starts count the same as with these releases."""

    releases: tuple[NearestRelease, ...]
    code: Literal[ComparisonCode.SAME_AS] = ComparisonCode.SAME_AS


class DiffersFrom(NamedTuple):
    """This counter differs from the nearest release that its rule covers, and `more` others do."""

    release: NearestRelease
    difference: Difference
    more: int
    code: Literal[ComparisonCode.DIFFERS_FROM] = ComparisonCode.DIFFERS_FROM


class Provisional(NamedTuple):
    """The counts of a case's starts and the nearest expectations, by start and counter.

    `differences` are the counters that differ from these; without any the case counts the same.
    """

    nearest: Mapping[StartKind, Mapping[str, Nearest]]
    differences: tuple[Difference, ...] = ()

    @property
    def releases(self) -> tuple[NearestRelease, ...]:
        """The nearest releases of the rules.

        Only of the counters that differ, where some do.
        """
        differing = {(difference.start, difference.counter) for difference in self.differences}
        return tuple(
            dict.fromkeys(
                nearest_release(near)
                for start, counters in self.nearest.items()
                for counter, near in counters.items()
                if not differing or (start, counter) in differing
            )
        )

    @property
    def comparison(self) -> SameAs | DiffersFrom:
        """Return the comparison in short: its first difference, or that there is none."""
        if not self.differences:
            return SameAs(releases=self.releases)
        first = self.differences[0]
        release = nearest_release(self.nearest[first.start][first.counter])
        return DiffersFrom(release=release, difference=first, more=len(self.differences) - 1)


def nearest_release(near: Nearest) -> NearestRelease:
    """Return the releases that the nearest rule covers next to those of the run."""
    return NearestRelease(vllm=near.vllm, torch=near.torch)


def provisional_of(
    nearest: Mapping[StartKind, Mapping[str, Nearest]],
    counted: Mapping[StartKind, Mapping[str, int]],
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
