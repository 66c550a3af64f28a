"""The cache checks of two runs compared: which compile cache of torch lost what it had.

Pure. What is found goes to the `Findings`, as the drift of a counter of a case that is none of the
startup tests: torch compiles alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from matrix._util.enums import StrEnum
from matrix.qualify.model import Drift, DriftKind, Findings
from matrix.qualify.reasons import CacheUnchecked
from matrix.qualify.runs import CellRun
from matrix.record.model import CacheCheck, CheckedCompile, StartKind
from matrix.rules.waivers import Finding

CACHE_CHECK = "cache_check"
"""What stands for the case where the cache check is meant."""


class Cache(StrEnum):
    """A compile cache of torch."""

    AOT_AUTOGRAD = "AOTAutograd"
    GRAPHS = "Inductor's graphs"

    @property
    def compiled(self) -> CheckedCompile:
        """Return the compilation that asks it."""
        return CheckedCompile.WARM if self is Cache.AOT_AUTOGRAD else CheckedCompile.GRAPHS

    @property
    def counter(self) -> str:
        """Return the counter of its hits."""
        return f"{_COUNTERS[self]}_hit"

    def hits(self, check: CacheCheck) -> int:
        """Return how often a process found in it what another one left."""
        return check[self.compiled].get(self.counter, 0)

    def misses(self, check: CacheCheck) -> int:
        """Return how often a process asked it in vain."""
        return check[self.compiled].get(f"{_COUNTERS[self]}_miss", 0)

    def bypasses(self, check: CacheCheck) -> int:
        """Return how often torch went past it, since it could not make a key, or for an error."""
        return check[self.compiled].get(f"{_COUNTERS[self]}_bypass", 0)


_COUNTERS = {
    Cache.AOT_AUTOGRAD: "aot_autograd.autograd_cache",
    Cache.GRAPHS: "inductor.fxgraph_cache",
}


class LostCache(NamedTuple):
    """A cache that has no hit at the candidate, though it had to.

    `misses` counts how often it was asked in vain, `bypasses` how often torch went past it: it is
    off where both are 0. `before` is how often it hit at the baseline, None if that is not
    known.
    """

    cache: Cache
    misses: int
    bypasses: int
    before: int | None


def lost_caches(baseline: CellRun, candidate: CellRun) -> Iterator[LostCache]:
    """Yield the caches without a hit at the candidate; nothing if its check is not known."""
    before, after = baseline.record.cache_check, candidate.record.cache_check
    if after is None:
        return
    for cache in Cache:
        if not cache.hits(after):
            known = None if before is None else cache.hits(before)
            yield LostCache(
                cache=cache,
                misses=cache.misses(after),
                bypasses=cache.bypasses(after),
                before=known,
            )


def compare_cache_checks(findings: Findings, baseline: CellRun, candidate: CellRun) -> None:
    """Add the caches without a hit at the candidate, which fails where the baseline's hits.

    Where the baseline's is not known, a run of the baseline would show it.
    """
    for lost in lost_caches(baseline, candidate):
        finding = Finding(
            place=candidate.place,
            case=CACHE_CHECK,
            signature=None,
            start=StartKind.WARM,
            counter=lost.cache.counter,
            value=0,
        )
        waived = findings.waived(finding)
        if lost.before is None:
            findings.add_unknown(
                candidate,
                CACHE_CHECK,
                CacheUnchecked(counter=lost.cache.counter),
                decides=baseline.place,
                waived=waived,
            )
            continue
        findings.drifts.append(
            Drift(
                kind=DriftKind.UNEXPECTED if lost.before else DriftKind.AS_BEFORE,
                place=candidate.place,
                case=CACHE_CHECK,
                start=StartKind.WARM,
                counter=lost.cache.counter,
                before=lost.before,
                after=0,
                expected=1,
                judged=True,
                waived=waived,
            )
        )
