"""Which seconds are noise: values compared with a history, and two small samples with each other.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

_FACTOR = 5.0
"""How many of its own standard deviations (1.4826 MAD) a value may lie off the median.

A nightly asks 18 starts of each cell: at three deviations even normal noise (0.27 % beyond) would
cry at each cell in one night of 20, and the seconds of starts have longer tails than that.
"""
FLOOR_SHARE = 0.15
"""The share of the median below which nothing is a change, however quiet the history was."""
FLOOR_SECONDS = 2.0
"""The seconds below which nothing is a change: a fork and a cold disk cost as much."""
LEAST = 3
"""How many values before it tell what is noise; fewer tell nothing."""
_DEVIATION = 1.4826  # a normal distribution's standard deviation is so many times its MAD
_CHANCE = 0.1


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the median absolute deviation (MAD) from it, of one value or more.

    >>> spread([10.0, 11.0, 30.0])
    (11.0, 1.0)
    """
    middle = median(values)
    return middle, median(abs(value - middle) for value in values)


def beyond_noise(history: Sequence[float], value: float) -> bool:
    """Return whether seconds are so far off those before them that they are not noise.

    They are where they lie off the median by more than `_FACTOR` standard deviations, by the MAD,
    and by more than both floors. Fewer than three earlier values show no noise, so then nothing is
    beyond it.

    >>> beyond_noise([60.0, 61.0, 62.0, 60.5], 90.0), beyond_noise([60.0], 90.0)
    (True, False)
    """
    if len(history) < LEAST:
        return False
    middle, deviation = spread(history)
    return abs(value - middle) > max(_FACTOR * _DEVIATION * deviation, _floor(middle))


def shifted(before: Sequence[float], after: Sequence[float]) -> bool:
    """Return whether one small sample of seconds lies beyond the noise of another.

    It does where the two do not overlap, their medians are apart by more than both floors, and
    there are enough values that samples of one kind would part so in at most one of ten cases:
    three against three, two against five. One value on each side never is.

    >>> shifted([60.0, 61.0, 62.0], [80.0, 81.0, 79.0]), shifted([60.0], [600.0])
    (True, False)
    """
    if not enough(before, after):
        return False
    apart = max(before) < min(after) or max(after) < min(before)
    return apart and abs(median(after) - median(before)) > _floor(median(before))


def enough(before: Sequence[float], after: Sequence[float]) -> bool:
    """Return whether two samples have enough values to separate a change from noise."""
    if not before or not after:
        return False
    return 2 / math.comb(len(before) + len(after), len(before)) <= _CHANCE


def _floor(middle: float) -> float:
    return max(FLOOR_SHARE * middle, FLOOR_SECONDS)


def median(values: Iterable[float]) -> float:
    """Return the middle of the values, of which there is one at least.

    As `statistics.median`, whose import takes as long as reading all published records.

    >>> median([3.0, 1.0, 2.0]), median([1.0, 2.0])
    (2.0, 1.5)
    """
    found = sorted(values)
    half = len(found) // 2
    return found[half] if len(found) % 2 else (found[half - 1] + found[half]) / 2
