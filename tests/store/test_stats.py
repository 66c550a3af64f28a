"""matrix.store.stats: which seconds are noise."""

import doctest

from hypothesis import given
from hypothesis import strategies as st

from matrix.store import stats
from matrix.store.stats import FLOOR_SECONDS, FLOOR_SHARE, beyond_noise, shifted


def test_the_examples_hold() -> None:
    assert doctest.testmod(stats).failed == 0


@given(st.lists(st.floats(0, 1e4), max_size=2), st.floats(0, 1e4))
def test_few_values_tell_no_noise(before: list[float], value: float) -> None:
    assert not beyond_noise(before, value)
    assert not shifted(before[:1], [value])
    assert not shifted([], [value] * 9)


@given(st.lists(st.floats(1, 1e4), min_size=3, max_size=9), st.floats(0, 1e5))
def test_noise_is_the_same_for_any_order_and_never_below_the_floors(
    before: list[float], value: float
) -> None:
    assert beyond_noise(before, value) == beyond_noise(before[::-1], value)
    middle = sorted(before)[len(before) // 2]
    if len(before) % 2 and beyond_noise(before, value):
        assert abs(value - middle) > max(FLOOR_SECONDS, FLOOR_SHARE * middle)


def test_a_noisy_history_hides_more() -> None:
    assert beyond_noise([60, 61, 59, 60], 75)
    assert not beyond_noise([60, 75, 48, 60, 70], 75)
    assert not beyond_noise([60, 61, 59, 60], 68)
    assert beyond_noise([60, 61, 59, 60], 45)
    assert not beyond_noise([2.0, 2.0, 2.0], 3.9)


def test_small_samples_must_part() -> None:
    assert shifted([60, 61, 62], [80, 81, 79])
    assert shifted([60, 61], [80, 81, 79, 80, 82])
    assert not shifted([60, 61], [80, 81])
    assert not shifted([60, 61, 80], [80, 81, 79])
    assert not shifted([60, 61, 62], [63, 64, 65])
