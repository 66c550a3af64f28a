"""What the counters of two starts must be by themselves, whatever the releases: no expectation.

A law returns what breaks it, a sentence each, or None where this release does not count what it
speaks of. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Law = Callable[[Mapping[str, int], Mapping[str, int]], Sequence[str] | None]
"""Called with what the cold start counted, and the warm one."""

_SAVED, _LOADED = "num_compiled_artifacts_saved", "num_compiled_artifacts_loaded"
_AOT_SAVED, _AOT_LOADED = "num_aot_artifacts_saved", "num_aot_artifacts_loaded"
_KEPT = (_SAVED, _LOADED, "num_cache_entries_updated", _AOT_SAVED, _AOT_LOADED)
_AOT_COMPILES = "num_aot_compiles"
_CAPTURED = "num_cudagraph_captured"


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


def loads_all(cold: Mapping[str, int], warm: Mapping[str, int]) -> list[str] | None:
    """Hold where the warm start loads all that the cold one saved, and compiles nothing.

    >>> counted = {"num_compiled_artifacts_saved": 3, "num_compiled_artifacts_loaded": 0}
    >>> loads_all(counted, {**counted, "num_compiled_artifacts_loaded": 3})
    ['warm num_compiled_artifacts_saved is 3, not 0']
    """
    if not cold.get(_SAVED) or _LOADED not in warm:
        return None
    wanted = {_SAVED: 0, _LOADED: cold[_SAVED]}
    if _AOT_SAVED in cold:
        wanted |= {_AOT_COMPILES: 0, _AOT_SAVED: 0, _AOT_LOADED: cold[_AOT_SAVED]}
    return [
        f"warm {name} is {warm.get(name)}, not {count}"
        for name, count in wanted.items()
        if warm.get(name) != count
    ]


def loads_or_compiles(cold: Mapping[str, int], warm: Mapping[str, int]) -> list[str] | None:
    """Hold where the warm start has each artifact of the cold one: loaded, or compiled and saved.

    >>> counted = {"num_compiled_artifacts_saved": 3, "num_compiled_artifacts_loaded": 0}
    >>> loads_or_compiles(counted, {**counted, "num_compiled_artifacts_saved": 1})
    ['warm 1 artifacts are saved and 0 loaded, of 3']
    """
    if not cold.get(_SAVED) or _LOADED not in warm:
        return None
    saved, loaded, wanted = warm[_SAVED], warm[_LOADED], cold[_SAVED]
    if saved + loaded == wanted:
        return []
    return [f"warm {saved} artifacts are saved and {loaded} loaded, of {wanted}"]


def captures(graphs: int) -> Law:
    """Return the law that holds where each start captures so many CUDA graphs.

    >>> captures(1)({"num_cudagraph_captured": 1}, {"num_cudagraph_captured": 0})
    ['warm num_cudagraph_captured is 0, not 1']
    """

    def law(cold: Mapping[str, int], warm: Mapping[str, int]) -> list[str] | None:
        if _CAPTURED not in cold:
            return None
        return [
            f"{start} {_CAPTURED} is {counted.get(_CAPTURED)}, not {graphs}"
            for start, counted in (("cold", cold), ("warm", warm))
            if counted.get(_CAPTURED) != graphs
        ]

    return law
