"""Bisection of real cells: what records say of each, which are skipped, and the ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attributions import FLASHINFER
from matrix.attribution import bisect as module
from matrix.attribution.bisect import (
    BisectionError,
    BisectionOutcome,
    Search,
    Skip,
    SkipCode,
    bisect,
    environments_along,
    observed_along,
    parse_range,
)
from matrix.attribution.observations import Observation, ObservationEnd
from matrix.catalog.cells import Cell
from matrix.catalog.projects import Project
from matrix.record.model import WHOLE_RUN, Platform, Rung, StartKind
from matrix.report.bisect import lines

LINE = {
    cell.name: cell for cell in (Cell("3.11", f"2.{minor}.0", "0.20.0") for minor in range(9, 25))
}
NAMES = list(LINE)
SAVED = (StartKind.WARM, "num_compiled_artifacts_saved")


def search(moving: Project, line: Mapping[str, Cell], *more: Any, **options: Any) -> Search:
    labels = {name: getattr(cell, moving) for name, cell in line.items()}
    return module.search(moving, labels, *more, **options)


def observed(name: str, ended: ObservationEnd, **more: Any) -> Observation:
    return Observation(
        cell=LINE[name], platform=Platform.CPU, case="a", started="2026", ended=ended, **more
    )


def ran(name: str, saved: int = 0) -> Observation:
    return observed(name, ObservationEnd.RAN, counters={SAVED: saved})


def failed(name: str, signature: str = "KeyError: None") -> Observation:
    return observed(name, ObservationEnd.FAILED, rung=Rung.STARTS_WARM, signature=signature)


def run_to_the_end(told: dict[str, Observation], ruled_out: set[str]) -> tuple[Search, int]:
    seen: dict[str, Observation] = {}
    while (found := search(Project.TORCH, LINE, seen, ruled_out)).bisection.next is not None:
        following = found.bisection.next
        assert following not in seen and following not in ruled_out
        seen[following] = told[following]
    return found, len(seen)


@given(st.integers(1, len(NAMES) - 1), st.sampled_from(["fails", "counts", "fixed"]))
@settings(max_examples=40, deadline=None)
def test_the_first_that_does_otherwise_is_found(first: int, how: str) -> None:
    old, new = (ran, failed) if how == "fails" else (failed, ran)
    told = {
        name: ran(name, 4 if number >= first else 0)
        if how == "counts"
        else (new if number >= first else old)(name)
        for number, name in enumerate(NAMES)
    }
    found, runs = run_to_the_end(told, set())
    assert found.bisection.first_bad == NAMES[first]
    assert found.fixed is (how == "fixed")
    assert runs <= 2 + math.ceil(math.log2(len(NAMES) - 1))


@given(st.integers(1, len(NAMES) - 1), st.sets(st.sampled_from(NAMES), max_size=len(NAMES) - 4))
@settings(max_examples=40, deadline=None)
def test_what_cannot_work_is_never_asked(first: int, ruled_out: set[str]) -> None:
    told = {name: (failed if number >= first else ran)(name) for number, name in enumerate(NAMES)}
    left = [number for number, name in enumerate(NAMES) if name not in ruled_out]
    if not min(left) < first <= max(left):
        with pytest.raises(BisectionError, match="have the same result"):
            run_to_the_end(told, ruled_out)
        return
    found, _ = run_to_the_end(told, ruled_out)
    assert NAMES[first] in found.bisection.candidates


def test_another_failure_between_is_skipped() -> None:
    line = {name: LINE[name] for name in NAMES[:3]}
    seen = {
        NAMES[0]: ran(NAMES[0]),
        NAMES[1]: failed(NAMES[1], "other"),
        NAMES[2]: failed(NAMES[2]),
    }
    found = search(Project.TORCH, line, seen)
    assert found.outcomes[NAMES[1]] == "skip"
    assert f"torch 2.10.0  skip (it does something else)  {NAMES[1]}" in lines(
        found, "a", Platform.CPU
    )
    assert lines(found, "a", Platform.CPU).endswith(
        "torch 2.10.0 or 2.11.0 is the first bad one, 2.9.0 the last good;"
        " 2.10.0 cannot be judged\n"
    )


def test_an_end_that_says_nothing_is_passed_over() -> None:
    nothing = observed(NAMES[2], ObservationEnd.NOTHING)
    line = {name: LINE[name] for name in NAMES[:3]}
    found = search(Project.TORCH, line, {NAMES[0]: ran(NAMES[0]), NAMES[2]: nothing})
    assert found.bisection.next == NAMES[1]
    assert "at most 1 more run to the end" in lines(found, "a", Platform.CPU)
    with pytest.raises(BisectionError, match="only py311-torch29-vllm020 of 3"):
        search(Project.TORCH, line, {NAMES[2]: nothing}, {NAMES[1]})


def test_a_search_is_told_in_its_own_words() -> None:
    line = {name: LINE[name] for name in NAMES[:2]}
    one, two = NAMES[:2]
    told = lines(search(Project.TORCH, line, {one: ran(one), two: ran(two, 4)}), "a", Platform.CPU)
    assert "torch 2.9.0   as before" in told and "torch 2.10.0  changed" in told
    assert told.endswith("torch 2.10.0 is the first changed one, 2.9.0 the last as before\n")
    told = lines(search(Project.TORCH, line, {one: failed(one), two: ran(two)}), "a", Platform.CPU)
    assert "torch 2.9.0   bad " in told and "torch 2.10.0  good" in told
    assert told.endswith("torch 2.10.0 is the first good one, 2.9.0 the last bad\n")
    told = lines(search(Project.TORCH, line, {one: ran(one), two: failed(two)}), "a", Platform.CPU)
    assert told.endswith("torch 2.10.0 is the first bad one, 2.9.0 the last good\n")
    told = lines(search(Project.TORCH, line, {two: failed(two)}), "a", Platform.CPU)
    assert "torch 2.9.0   not run" in told and "torch 2.10.0  ran" in told


def test_what_did_not_import_is_skipped_and_not_asked_again() -> None:
    dead = replace(failed(NAMES[1]), case=WHOLE_RUN, rung=Rung.IMPORTS, started="2027")
    line = {name: LINE[name] for name in NAMES[:3]}
    every = [ran(NAMES[0]), dead, failed(NAMES[2])]
    for observations in (every, [*every, ran(NAMES[1])]):  # it ran before it no longer imported
        seen, unclear = observed_along(line, "a", Platform.CPU, observations)
        assert unclear == set()
        found = search(Project.TORCH, line, seen)
        assert (found.outcomes[NAMES[1]], found.bisection.done) == ("skip", True)
    seen, _ = observed_along(
        line, "a", Platform.CPU, [*every, replace(ran(NAMES[1]), started="2028")]
    )
    assert search(Project.TORCH, line, seen).bisection.first_bad == NAMES[2]


def test_each_skip_has_its_reason() -> None:
    line = {name: LINE[name] for name in NAMES[:5]}
    seen = {
        NAMES[0]: ran(NAMES[0]),
        NAMES[1]: observed(NAMES[1], ObservationEnd.NOTHING),
        NAMES[4]: failed(NAMES[4]),
    }
    found = search(Project.TORCH, line, seen, [NAMES[2]], without_result=[NAMES[3]])
    codes = {name: skip.code for name, skip in found.skips.items()}
    assert codes == {
        NAMES[1]: SkipCode.NO_RESULT,
        NAMES[2]: SkipCode.RULED_OUT,
        NAMES[3]: SkipCode.NO_RESULT,
    }
    assert {
        name for name, outcome in found.outcomes.items() if outcome is BisectionOutcome.SKIP
    } == set(codes)
    text = lines(found, "a", Platform.CPU)
    assert text.count("skip (its run has no result for this case)") == 2
    assert text.count("skip (a check shows that it cannot run)") == 1


def test_an_end_that_did_not_import_moves_inwards() -> None:
    dead = replace(failed(NAMES[2]), case=WHOLE_RUN, rung=Rung.IMPORTS)
    line = {name: LINE[name] for name in NAMES[:3]}
    seen, _ = observed_along(line, "a", Platform.CPU, [ran(NAMES[0]), dead])
    assert search(Project.TORCH, line, seen).bisection.next == NAMES[1]


def test_only_the_case_on_its_python_and_platform_stands_for_an_environment() -> None:
    line = {NAMES[0]: LINE[NAMES[0]]}
    here = ran(NAMES[0])
    other = [
        replace(here, cell=replace(here.cell, python="3.12")),
        replace(here, platform=Platform.CUDA),
        replace(here, case="b"),
        replace(here, case=WHOLE_RUN),
        replace(here, ended=ObservationEnd.NOTHING),  # it was cut short, and so can be asked again
    ]
    assert observed_along(line, "a", Platform.CPU, other) == ({}, set())
    assert observed_along(line, "a", Platform.CPU, [*other, here]) == ({NAMES[0]: here}, set())
    never = replace(here, ended=ObservationEnd.NOTHING, applies=False)
    seen, _ = observed_along(line, "a", Platform.CPU, [never])
    assert seen[NAMES[0]].ended is ObservationEnd.NOTHING


def test_the_newest_run_of_a_case_speaks_whole_or_not() -> None:
    old = failed(NAMES[0])
    new = replace(ran(NAMES[0]), started="2027", complete=False)
    seen, _ = observed_along({NAMES[0]: LINE[NAMES[0]]}, "a", Platform.CPU, [old, new])
    assert seen[NAMES[0]] == new


def test_what_ran_with_two_sets_of_flags_is_asked_again() -> None:
    line = {name: LINE[name] for name in NAMES[:3]}
    one = replace(failed(NAMES[1]), flags={"VLLM_X": True}, complete=False)
    other = replace(ran(NAMES[1]), flags={"VLLM_X": False}, complete=False, started="2027")
    every = [ran(NAMES[0]), failed(NAMES[2]), one, other]
    seen, unclear = observed_along(line, "a", Platform.CPU, every)
    assert unclear == {NAMES[1]} and NAMES[1] not in seen
    found = search(Project.TORCH, line, seen, (), unclear)
    assert (found.bisection.next, found.outcomes[NAMES[1]]) == (NAMES[1], BisectionOutcome.UNCLEAR)
    assert "ran with flags that may not be its own" in lines(found, "a", Platform.CPU)
    seen, unclear = observed_along(line, "a", Platform.CPU, [*every, replace(one, started="2028")])
    found = search(Project.TORCH, line, seen, (), unclear)
    assert found.bisection.first_bad == NAMES[1]


@pytest.mark.parametrize(
    "text", ["", "x", "2.11.0..", "2.12.0..2.11.0", "2.11.0..2.11.0", "..2.11"]
)
def test_a_bad_range_is_refused(text: str) -> None:
    with pytest.raises(BisectionError, match=r"--torch .* write it as 2\.11\.0"):
        parse_range(text, "--torch")


RC, RC_OF_2_12, OTHER = (
    f"{version}+{name}.b{digit * 15}"
    for version, name, digit in (
        ("2.13.0", "torchrc", "1"),
        ("2.12.0rc1", "torchrc", "2"),
        ("2.11.0", "torchother", "3"),
    )
)


def test_a_candidate_may_be_an_end_or_the_fixed_release() -> None:
    assert parse_range(RC, "--torch") == RC
    assert parse_range(f"2.10.0..{RC}", "--torch") == ("2.10.0", RC)
    with_rc = {**LINE, **{key: Cell("3.11", key, "0.20.0") for key in (RC, RC_OF_2_12, OTHER)}}
    moving, found = environments_along(with_rc, "3.11", ("2.10.0", RC), "0.20.0")
    versions = [cell.torch for cell in found.values()]
    # The release of its own version, and other candidates, are no part of the line.
    assert (moving, versions) == ("torch", ["2.10.0", "2.11.0", "2.12.0", RC])
    _, found = environments_along(with_rc, "3.11", ("2.10.0", RC_OF_2_12), "0.20.0")
    assert [cell.torch for cell in found.values()] == ["2.10.0", "2.11.0", RC_OF_2_12]
    _, found = environments_along(with_rc, "3.11", (OTHER, "2.13.0"), "0.20.0")
    assert [cell.torch for cell in found.values()] == [OTHER, "2.12.0", "2.13.0"]
    _, found = environments_along(with_rc, "3.11", ("2.10.0", "2.13.0"), "0.20.0")
    assert all(key not in found for key in (RC, RC_OF_2_12, OTHER))
    fixed = {f"a{minor}": Cell("3.11", RC, f"0.{minor}.0") for minor in (19, 20)}
    assert environments_along(fixed, "3.11", RC, ("0.19.0", "0.20.0"))[0] == "vllm"


def test_a_line_is_one_range_and_one_release() -> None:
    moving, found = environments_along(LINE, "3.11", ("2.10.0", "2.12.0"), "0.20.0")
    assert (moving, list(found)) == ("torch", NAMES[1:4])
    # An environment stands for its minor release, whatever the patch at the end of a range.
    patched = {**LINE, NAMES[5]: Cell("3.11", "2.14.1", "0.20.0")}
    assert (
        list(environments_along(patched, "3.11", ("2.12.3", "2.14.0"), "0.20.0")[1]) == NAMES[3:6]
    )
    # Two are enough, and their order is that of the releases, not of the file or of the names.
    backwards = dict(reversed(LINE.items()))
    _, found = environments_along(backwards, "3.11", ("2.9.0", "2.10.0"), "0.20.0")
    assert list(found) == NAMES[:2]
    for torch, vllm in ((("2.10.0", "2.12.0"), ("0.19.0", "0.20.0")), ("2.10.0", "0.20.0")):
        with pytest.raises(BisectionError) as caught:
            environments_along(LINE, "3.11", torch, vllm)
        assert str(caught.value) == (
            "bisect: of --torch and --vllm one is a release and the other a range, such as"
            " --vllm 0.20.2 --torch 2.11.0..2.15.0"
        )
    with pytest.raises(
        BisectionError, match=r"fewer than two environments on Python 3.12 \(none\)"
    ):
        environments_along(LINE, "3.12", ("2.10.0", "2.12.0"), "0.20.0")


def test_a_line_of_one_torch_moves_along_vllm() -> None:
    cells = [Cell("3.11", "2.10.0", f"0.{minor}.0") for minor in (10, 9, 8)]
    line = {cell.name: cell for cell in (*cells, Cell("3.11", "2.11.0", "0.9.0"))}
    moving, found = environments_along(line, "3.11", "2.10.0", ("0.8.0", "0.10.0"))
    assert (moving, [cell.vllm for cell in found.values()]) == (
        "vllm",
        ["0.8.0", "0.9.0", "0.10.0"],
    )
    assert search(moving, found, {}).release(next(iter(found))) == "0.8.0"
    with pytest.raises(BisectionError, match=rf"\({cells[1].name}\); a name stands"):
        environments_along(line, "3.11", "2.10.0", ("0.9.0", "0.9.9"))


def test_a_run_that_failed_before_any_case_ended_with_nothing() -> None:
    line = {NAMES[0]: LINE[NAMES[0]]}
    dead = replace(failed(NAMES[0]), case=WHOLE_RUN, rung=Rung.IMPORTS, started="2027")
    seen, _ = observed_along(line, "a", Platform.CPU, [ran(NAMES[0]), dead])
    assert (seen[NAMES[0]].case, seen[NAMES[0]].ended) == ("a", ObservationEnd.NOTHING)
    # Of the same second the failure counts, and otherwise the run that has a result.
    seen, _ = observed_along(
        line, "a", Platform.CPU, [replace(ran(NAMES[0]), started="2027"), dead]
    )
    assert seen[NAMES[0]].ended is ObservationEnd.NOTHING
    never = observed(NAMES[0], ObservationEnd.NOTHING, applies=False)
    seen, _ = observed_along(line, "a", Platform.CPU, [ran(NAMES[0]), never])
    assert seen[NAMES[0]] == ran(NAMES[0])


def test_until_both_ends_ran_nothing_counts_as_fixed() -> None:
    line = {name: LINE[name] for name in NAMES[:3]}
    for seen in ({}, {NAMES[0]: failed(NAMES[0])}, {NAMES[2]: ran(NAMES[2])}):
        assert search(Project.TORCH, line, seen).fixed is False


def test_the_errors_of_a_search_say_what_can_run() -> None:
    line = {name: LINE[name] for name in NAMES[:3]}
    with pytest.raises(BisectionError) as caught:
        search(Project.TORCH, line, {}, NAMES)
    assert str(caught.value) == (
        "bisect: only nothing of 3 environments can run this case; choose another platform, or"
        " widen the range"
    )
    with pytest.raises(BisectionError) as caught:
        search(Project.TORCH, line, {NAMES[0]: ran(NAMES[0]), NAMES[2]: ran(NAMES[2])})
    assert str(caught.value) == (
        f"bisect: {NAMES[0]} and {NAMES[2]} have the same result, or each fails in its own way: no"
        " release between them changes it; `matrix results diff` shows two records side by side"
    )
    with pytest.raises(BisectionError, match=r"no release is bad \(no result is known\); widen"):
        bisect(["2.9"], {"2.9": BisectionOutcome.SKIP})
    with pytest.raises(BisectionError, match=r"bad \(each known result is good\); widen"):
        bisect(["2.9"], {"2.9": BisectionOutcome.GOOD})
    with pytest.raises(BisectionError) as caught:
        bisect(
            ("2.9", "2.10", "2.11", "2.12"),
            {"2.9": BisectionOutcome.BAD, "2.12": BisectionOutcome.GOOD},
        )
    assert str(caught.value) == (
        "bisect: 2.9 is bad and the newer 2.12 is good, so no release is the first bad one; run"
        " both again, the newest run of each counts, or narrow the range"
    )


@pytest.mark.parametrize("fixed", [False, True])
def test_a_pass_that_is_not_stock_is_neither_good_nor_bad(fixed: bool) -> None:
    line = {name: LINE[name] for name in NAMES[:4]}
    before, after = (failed, ran) if fixed else (ran, failed)
    seen = {name: before(name) for name in NAMES[:2]} | {name: after(name) for name in NAMES[2:4]}
    assert search(Project.TORCH, line, seen).bisection.first_bad == NAMES[2]
    apart = NAMES[2] if fixed else NAMES[1]
    found = search(
        Project.TORCH, line, seen | {apart: replace(seen[apart], not_stock=(FLASHINFER,))}
    )
    assert found.outcomes[apart] is BisectionOutcome.SKIP
    assert len(found.bisection.candidates) == 2 and NAMES[2] in found.bisection.candidates
    assert found.skips == {apart: Skip(code=SkipCode.NOT_STOCK, not_stock=(FLASHINFER,))}
    why = "skip (not stock: without flashinfer-python; a stock run is missing)"
    assert why in lines(found, "a", Platform.CPU)
    every = {
        name: replace(ran(name, number), not_stock=(FLASHINFER,))
        for number, name in enumerate(NAMES[:2])
    }
    both = {name: LINE[name] for name in NAMES[:2]}
    assert search(Project.TORCH, both, every).bisection.first_bad == NAMES[1]


def test_what_cannot_be_made_is_skipped_with_its_reason() -> None:
    line = {name: LINE[name] for name in NAMES[:5]}
    seen = {NAMES[0]: ran(NAMES[0]), NAMES[4]: failed(NAMES[4])}
    more = {"not_made": {NAMES[2]: "it is gone"}, "details": {NAMES[1]: "a full disk"}}
    found = search(Project.TORCH, line, seen, without_result=[NAMES[1]], **more)
    assert found.skips == {
        NAMES[1]: Skip(code=SkipCode.NO_RESULT, detail="a full disk"),
        NAMES[2]: Skip(code=SkipCode.NOT_MADE, detail="it is gone"),
    }
    assert found.bisection.next == NAMES[3]
    text = lines(found, "a", Platform.CPU)
    assert "skip (its run has no result for this case: a full disk)" in text
    assert "skip (it cannot be made: it is gone)" in text
    every = dict.fromkeys(NAMES[:5], "it is gone")
    with pytest.raises(BisectionError, match=r"only nothing of 5 .* this case \(it is gone\);"):
        search(Project.TORCH, line, {}, not_made=every)
