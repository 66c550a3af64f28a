"""Laws for the counters of two starts that hold for all releases, without an expectation.

A law returns what breaks it, a sentence each, or None if this release has no counter for it.
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Law = Callable[[Mapping[str, int], Mapping[str, int]], Sequence[str] | None]
"""Called with what the cold start counted, and the warm one."""

_SAVED, _LOADED = "num_compiled_artifacts_saved", "num_compiled_artifacts_loaded"
_AOT = ("num_aot_artifacts_saved", "num_aot_artifacts_loaded")
_KEPT = (_SAVED, _LOADED, "num_cache_entries_updated", *_AOT)


def keeps_nothing(cold: Mapping[str, int], warm: Mapping[str, int]) -> list[str] | None:
    """Hold where neither start saves or loads anything: the compile cache is off.

    >>> keeps_nothing({"num_compiled_artifacts_saved": 3}, {"num_compiled_artifacts_saved": 0})
    ['cold num_compiled_artifacts_saved is 3, not 0']
    """
    if _SAVED not in warm:
        return None
    starts = (("cold", cold), ("warm", warm))
    return [
        f"{start} {name} is {counted[name]}, not 0"
        for start, counted in starts
        for name in _KEPT
        if counted.get(name)
    ]


def loads_or_compiles(cold: Mapping[str, int], warm: Mapping[str, int]) -> list[str] | None:
    """Hold where the warm start has each artifact of the cold one: loaded, or compiled and saved.

    vLLM 0.17 saves one again that it has loaded.

    >>> counted = {"num_compiled_artifacts_saved": 3, "num_compiled_artifacts_loaded": 0}
    >>> loads_or_compiles(counted, {**counted, "num_compiled_artifacts_saved": 1})
    ['warm 1 artifacts are saved and 0 loaded, of 3']
    """
    if not cold.get(_SAVED) or _LOADED not in warm:
        return None
    saved, loaded, wanted = warm[_SAVED], warm[_LOADED], cold[_SAVED]
    if saved + loaded >= wanted:
        return []
    return [f"warm {saved} artifacts are saved and {loaded} loaded, of {wanted}"]


def counts(counter: str, wanted: int) -> Law:
    """Return the law that holds where this counter of each start is this number.

    >>> counts("num_models_seen", 1)({"num_models_seen": 1}, {"num_models_seen": 0})
    ['warm num_models_seen is 0, not 1']
    """

    def law(cold: Mapping[str, int], warm: Mapping[str, int]) -> list[str] | None:
        if counter not in cold:
            return None
        return [
            f"{start} {counter} is {counted.get(counter)}, not {wanted}"
            for start, counted in (("cold", cold), ("warm", warm))
            if counted.get(counter) != wanted
        ]

    return law
