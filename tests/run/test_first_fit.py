"""The first place of many whose needs fit, against a search from the front."""

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from matrix.run.first_fit import FirstFit, Needs, fits

_NEEDS = st.tuples(*[st.integers(0, 3)] * 6)
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "drop", "first", "first"]),
        st.integers(0, 20),
        _NEEDS,
        st.frozensets(st.integers(0, 20)),
    )
)


@given(st.lists(_NEEDS, max_size=20), _STEPS)
def test_it_finds_what_a_search_from_the_front_finds(
    needs: list[Needs],
    steps: list[tuple[str, int, Needs, frozenset[int]]],
) -> None:
    tree, inside = FirstFit(needs), set(range(len(needs)))
    for step, place, most, refused in steps:
        if step == "first":
            expected = next(
                (
                    place
                    for place in range(len(needs))
                    if place in inside and fits(needs[place], most) and place not in refused
                ),
                None,
            )
            assert tree.first(most, partial(_is_not_in, refused)) == expected
        elif place < len(needs) and step == "put":
            tree.put(place)
            inside.add(place)
        elif place < len(needs):
            tree.drop(place)
            inside.discard(place)


def _is_not_in(refused: frozenset[int], place: int) -> bool:
    return place not in refused
