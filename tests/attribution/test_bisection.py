from __future__ import annotations

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.attribution import bisection as module
from matrix.attribution.bisection import BAD, GOOD, SKIP, Bisection, BisectionError, bisect

NAMES = [f"2.{minor}" for minor in range(9, 9 + 60)]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[str], int, set[str]]:
    """Releases, the place of the first bad one, and those of which nothing can be told."""
    releases = NAMES[: draw(st.integers(2, len(NAMES)))]
    first = draw(st.integers(1, len(releases) - 1))
    skipped = draw(st.sets(st.sampled_from(releases[1:-1]))) if len(releases) > 2 else set()
    return releases, first, skipped


def search(releases: list[str], first: int, skipped: set[str]) -> tuple[Bisection, int, int]:
    """Bisect to the end: the answer, how many releases were asked, how many of them skipped."""
    known = {releases[0]: GOOD, releases[-1]: BAD}
    asked = skips = 0
    while (found := bisect(releases, known)).next is not None:
        assert found.next not in known
        asked += 1
        if found.next in skipped:
            known[found.next] = SKIP
            skips += 1
        else:
            known[found.next] = BAD if releases.index(found.next) >= first else GOOD
    return found, asked, skips


@given(histories())
def test_the_boundary_is_found_in_logarithmic_steps(
    history: tuple[list[str], int, set[str]],
) -> None:
    releases, first, skipped = history
    found, asked, skips = search(releases, first, skipped)
    assert releases[first] in found.candidates
    assert all(each in skipped for each in found.candidates[:-1])
    assert asked <= math.ceil(math.log2(len(releases) - 1)) + skips


@given(histories())
def test_without_a_skip_the_first_bad_one_is_named(
    history: tuple[list[str], int, set[str]],
) -> None:
    releases, first, _ = history
    found, asked, _ = search(releases, first, set())
    assert found.first_bad == releases[first]
    start = bisect(releases, {releases[0]: GOOD, releases[-1]: BAD})
    assert asked <= start.steps


@given(histories())
def test_the_ends_are_asked_first_and_cost_two_runs(
    history: tuple[list[str], int, set[str]],
) -> None:
    releases, first, _ = history
    known: dict[str, str] = {}
    asked = []
    promised = bisect(releases, known).steps
    while (found := bisect(releases, known)).next is not None:
        asked.append(found.next)
        known[found.next] = BAD if releases.index(found.next) >= first else GOOD
    assert asked[:2] == [releases[-1], releases[0]]
    assert found.first_bad == releases[first]
    assert len(asked) <= promised


def test_an_end_that_cannot_be_told_moves_inwards() -> None:
    releases = ["2.9", "2.10", "2.11", "2.12"]
    assert bisect(releases, {"2.12": SKIP}).next == "2.11"
    assert bisect(releases, {"2.12": SKIP, "2.11": BAD, "2.9": SKIP}).next == "2.10"


def test_skipped_releases_leave_candidates() -> None:
    found = bisect(["2.9", "2.10", "2.11"], {"2.9": GOOD, "2.10": SKIP, "2.11": BAD})
    assert found.done and found.first_bad is None
    assert found.candidates == ("2.10", "2.11")


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"2.9": BAD, "2.10": GOOD}, "2.9 is bad and the newer 2.10 is good"),
        ({"2.9": GOOD, "2.10": GOOD}, "all that could be told are good"),
        ({"2.9": BAD, "2.10": BAD}, "no release before 2.9 is good"),
        ({"2.9": SKIP, "2.10": SKIP}, "none could be told"),
    ],
)
def test_outcomes_without_an_answer_are_refused(known: dict[str, str], said: str) -> None:
    with pytest.raises(BisectionError, match=said):
        bisect(["2.9", "2.10"], known)


def test_the_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0
