"""A case that is as expected and yet compiles again on its warm start: expected is not well."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from matrix.record.model import CacheKind, Case, StartKind
from matrix.rules.expectations import Expected

SAVED = ("num_compiled_artifacts_saved", "num_aot_artifacts_saved")
"""The counters of artifacts that a cold start left for the warm one."""

SAVED_AGAIN = "num_compiled_artifacts_saved"
"""The counter of artifacts that a warm start which only loads leaves at zero."""

_MISSES = ("aot_autograd.autograd_cache_miss", "inductor.fxgraph_cache_miss")
"""The counters of lookups that found nothing in the cache of AOTAutograd or of Inductor."""

_COLD_MISSES, _COLD_SAVES = "aot_autograd.autograd_cache_miss", "aot_autograd.autograd_cache_saved"

_CODE = (CacheKind.FXGRAPH, CacheKind.AOTAUTOGRAD, CacheKind.GENERATED, CacheKind.COMPILED)
"""The kinds of files in which torch keeps compiled code, in the caches of a start.

Not Triton's cache: kernels that vLLM wrote itself are there too, built when they are first called.
"""

_ISSUE = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/\d+", re.ASCII)


class WrittenCode(NamedTuple):
    """The files of compiled code that a start wrote and that its caches did not have before."""

    files: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Recompiles:
    """The recompilations of a warm start, by counter, and the issues that its rules name.

    `code` is what it wrote of compiled code, where it wrote some: all that says so where no counter
    does. The links are the issues and pull requests among the evidence of the rules that expect it.
    """

    counters: Mapping[str, int]
    links: tuple[str, ...] = ()
    code: WrittenCode | None = None

    @property
    def issues(self) -> tuple[str, ...]:
        """The links to issues; those to pull requests where there is no issue."""
        return tuple(link for link in self.links if "/issues/" in link) or self.links


def recompiles(
    case: Case, expected: Mapping[StartKind, Mapping[str, Expected]]
) -> Recompiles | None:
    """Return what the warm start of a case compiled again; None if it only loaded.

    It compiled again if it saved artifacts again, or if it missed more in a cache than what the
    cold start missed and did not save: a function that AOTAutograd never saves misses on every
    start. Where the cold start did not count what it saved, a miss says nothing. It also compiled
    again if it wrote compiled code. A case whose cold start saved nothing has nothing to load, and
    does not recompile.
    """
    cold, warm = case.started(StartKind.COLD), case.started(StartKind.WARM)
    if cold is None or warm is None or not any(cold.counters.get(name, 0) > 0 for name in SAVED):
        return None
    counted = counted_again(cold.counters, warm.counters)
    code = written_code(case)
    if code is not None and not code.files:
        code = None
    if not counted and code is None:
        return None
    rules = expected.get(StartKind.WARM, {})
    links = dict.fromkeys(
        link
        for name in counted
        if name in rules
        for link in rules[name].evidence
        if _ISSUE.fullmatch(link)
    )
    return Recompiles(counters=counted, links=tuple(links), code=code)


def written_code(case: Case) -> WrittenCode | None:
    """Return what the warm start of a case wrote of compiled code; None if nobody looked."""
    warm = case.started(StartKind.WARM)
    if warm is None or warm.caches is None:
        return None
    new = [found for kind, found in warm.caches.items() if kind in _CODE]
    return WrittenCode(
        files=sum(found.new_files for found in new), bytes=sum(found.new_bytes for found in new)
    )


def machine_code(case: Case) -> int | None:
    """Return how many files of machine code the warm start of a case wrote; None: not known."""
    warm = case.started(StartKind.WARM)
    if warm is None or warm.caches is None:
        return None
    found = warm.caches.get(CacheKind.COMPILED)
    return found.new_files if found is not None else 0


def counted_again(cold: Mapping[str, int], warm: Mapping[str, int]) -> dict[str, int]:
    """Return the counters of a warm start that show that it compiled again."""
    counted = {SAVED_AGAIN: warm[SAVED_AGAIN]} if warm.get(SAVED_AGAIN, 0) > 0 else {}
    if _COLD_MISSES in cold and _COLD_SAVES in cold:
        never_saved = max(0, cold[_COLD_MISSES] - cold[_COLD_SAVES])
        counted |= {name: warm[name] for name in _MISSES if warm.get(name, 0) > never_saved}
    return counted
