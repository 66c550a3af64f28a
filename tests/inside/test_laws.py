"""What two starts count by themselves: tables of the laws."""

from collections.abc import Mapping

import pytest

from matrix.inside.laws import Law, counts, keeps_nothing, loads_or_compiles

SAVED, LOADED = "num_compiled_artifacts_saved", "num_compiled_artifacts_loaded"
GRAPHS = "num_cudagraph_captured"
AOT = {"num_aot_compiles": 1, "num_aot_artifacts_saved": 1, "num_aot_artifacts_loaded": 0}


def counted(saved: int, loaded: int) -> dict[str, int]:
    return {SAVED: saved, LOADED: loaded}


COLD, WARM = counted(3, 0), counted(0, 3)
NOTHING = counted(0, 0)


@pytest.mark.parametrize(
    ("law", "cold", "warm", "broken"),
    [
        (keeps_nothing, NOTHING, NOTHING, []),
        (keeps_nothing, NOTHING, WARM, [f"warm {LOADED} is 3, not 0"]),
        (keeps_nothing, {**NOTHING, **AOT}, NOTHING, ["cold num_aot_artifacts_saved is 1, not 0"]),
        (keeps_nothing, {}, {}, None),
        (loads_or_compiles, COLD, WARM, []),
        (loads_or_compiles, COLD, COLD, []),
        (loads_or_compiles, COLD, counted(1, 2), []),
        (loads_or_compiles, COLD, counted(1, 3), []),
        (loads_or_compiles, COLD, NOTHING, ["warm 0 artifacts are saved and 0 loaded, of 3"]),
        (loads_or_compiles, {}, COLD, None),
        (counts(GRAPHS, 0), {GRAPHS: 0}, {GRAPHS: 0}, []),
        (counts(GRAPHS, 5), {GRAPHS: 5}, {GRAPHS: 6}, [f"warm {GRAPHS} is 6, not 5"]),
        (counts(GRAPHS, 5), COLD, WARM, None),
    ],
)
def test_a_law_says_what_breaks_it(
    law: Law, cold: Mapping[str, int], warm: Mapping[str, int], broken: list[str] | None
) -> None:
    assert law(cold, warm) == broken
