"""Bisection as such: where a result changes along a list of names, in few questions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.attribution.bisect import (
    Bisection,
    BisectionError,
    BisectionOutcome,
    bisect,
)

FOUR = ("2.9", "2.10", "2.11", "2.12")
RELEASES = [f"2.{minor}" for minor in range(9, 9 + 60)]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[str], int, set[str]]:
    """Releases, the place of the first bad one, and those of which nothing can be told."""
    releases = RELEASES[: draw(st.integers(2, len(RELEASES)))]
    first = draw(st.integers(1, len(releases) - 1))
    skipped = draw(st.sets(st.sampled_from(releases[1:-1]))) if len(releases) > 2 else set()
    return releases, first, skipped


def bisected(releases: list[str], first: int, skipped: set[str]) -> tuple[Bisection, int, int]:
    """Bisect to the end: the answer, how many releases were asked, how many of them skipped."""
    known: dict[str, BisectionOutcome] = {
        releases[0]: BisectionOutcome.GOOD,
        releases[-1]: BisectionOutcome.BAD,
    }
    asked = skips = 0
    while (found := bisect(releases, known)).next is not None:
        assert found.next not in known
        asked += 1
        if found.next in skipped:
            known[found.next] = BisectionOutcome.SKIP
            skips += 1
        else:
            known[found.next] = (
                BisectionOutcome.BAD
                if releases.index(found.next) >= first
                else BisectionOutcome.GOOD
            )
    return found, asked, skips


@given(histories())
def test_the_boundary_is_found_in_logarithmic_steps(
    history: tuple[list[str], int, set[str]],
) -> None:
    releases, first, skipped = history
    found, asked, skips = bisected(releases, first, skipped)
    assert releases[first] in found.candidates
    assert all(name in skipped for name in found.candidates[:-1])
    assert asked <= math.ceil(math.log2(len(releases) - 1)) + skips


@given(histories())
def test_without_a_skip_the_first_bad_one_is_named(
    history: tuple[list[str], int, set[str]],
) -> None:
    releases, first, _ = history
    found, asked, _ = bisected(releases, first, set())
    assert found.first_bad == releases[first]
    start = bisect(
        releases, {releases[0]: BisectionOutcome.GOOD, releases[-1]: BisectionOutcome.BAD}
    )
    assert asked <= start.steps


@given(histories())
def test_the_ends_are_asked_first_and_cost_two_runs(
    history: tuple[list[str], int, set[str]],
) -> None:
    releases, first, _ = history
    known: dict[str, BisectionOutcome] = {}
    asked = []
    promised = bisect(releases, known).steps
    while (found := bisect(releases, known)).next is not None:
        asked.append(found.next)
        known[found.next] = (
            BisectionOutcome.BAD if releases.index(found.next) >= first else BisectionOutcome.GOOD
        )
    assert asked[:2] == [releases[-1], releases[0]]
    assert found.first_bad == releases[first]
    assert len(asked) <= promised


def test_an_end_that_cannot_be_told_moves_inwards() -> None:
    releases = ["2.9", "2.10", "2.11", "2.12"]
    assert bisect(releases, {"2.12": BisectionOutcome.SKIP}).next == "2.11"
    assert (
        bisect(
            releases,
            {
                "2.12": BisectionOutcome.SKIP,
                "2.11": BisectionOutcome.BAD,
                "2.9": BisectionOutcome.SKIP,
            },
        ).next
        == "2.10"
    )


@pytest.mark.parametrize(
    ("known", "following", "good", "bad", "candidates", "steps"),
    [
        ({}, "2.12", None, None, FOUR, 4),
        ({"2.12": BisectionOutcome.BAD}, "2.9", None, "2.12", FOUR, 3),
        ({"2.9": BisectionOutcome.GOOD}, "2.12", "2.9", None, FOUR[1:], 3),
        ({"2.12": BisectionOutcome.SKIP}, "2.11", None, None, FOUR, 3),
        ({"2.11": BisectionOutcome.BAD}, "2.9", None, "2.11", FOUR[:3], 2),
        ({"2.10": BisectionOutcome.GOOD}, "2.12", "2.10", None, FOUR[2:], 2),
        (
            {"2.9": BisectionOutcome.GOOD, "2.12": BisectionOutcome.BAD},
            "2.10",
            "2.9",
            "2.12",
            FOUR[1:],
            2,
        ),
        (
            {"2.10": BisectionOutcome.GOOD, "2.11": BisectionOutcome.BAD},
            None,
            "2.10",
            "2.11",
            ("2.11",),
            0,
        ),
    ],
)
def test_each_step_says_what_is_known_and_what_remains(
    known: dict[str, BisectionOutcome],
    following: str | None,
    good: str | None,
    bad: str | None,
    candidates: tuple[str, ...],
    steps: int,
) -> None:
    assert bisect(FOUR, known) == Bisection(
        next=following, good=good, bad=bad, candidates=candidates, steps=steps
    )


def test_skipped_releases_leave_candidates() -> None:
    found = bisect(
        ["2.9", "2.10", "2.11"],
        {"2.9": BisectionOutcome.GOOD, "2.10": BisectionOutcome.SKIP, "2.11": BisectionOutcome.BAD},
    )
    assert found.done and found.first_bad is None
    assert found.candidates == ("2.10", "2.11")


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (
            {"2.9": BisectionOutcome.BAD, "2.10": BisectionOutcome.GOOD},
            "2.9 is bad and the newer 2.10 is good",
        ),
        (
            {"2.9": BisectionOutcome.GOOD, "2.10": BisectionOutcome.GOOD},
            "each known result is good",
        ),
        (
            {"2.9": BisectionOutcome.BAD, "2.10": BisectionOutcome.BAD},
            "no release before 2.9 is good",
        ),
        ({"2.9": BisectionOutcome.SKIP, "2.10": BisectionOutcome.SKIP}, "no result is known"),
    ],
)
def test_outcomes_without_an_answer_are_refused(
    known: dict[str, BisectionOutcome], said: str
) -> None:
    with pytest.raises(BisectionError, match=said):
        bisect(["2.9", "2.10"], known)
