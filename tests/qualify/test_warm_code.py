"""A warm start that writes machine code again is a drift, though every counter is as before."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from histories import RAY
from made import make, passed
from matrix.qualify.model import DriftKind, Qualification
from matrix.qualify.warm_code import COMPILED_AGAIN
from matrix.qualify.watch import Status, WatchHistory, follow, seen_in
from matrix.record.model import CacheFiles, CacheKind, Case
from matrix.report.qualify.json import render
from matrix.report.qualify.markdown import page
from matrix.report.qualify.text import lines
from matrix.rules.expectations_file import parse_expectations
from matrix.verdict.recompiles import SAVED_AGAIN
from qualifications import NEXT, OLD, ask, held

WORDS = "the warm start of 1 case writes more compiled code than the baseline's is known to"


def case(new: int | None, kind: CacheKind = CacheKind.COMPILED, name: str = "moe") -> Case:
    """Return a case that passed; its warm start wrote so many files. None: nobody looked."""
    cold, warm = passed(name).starts
    caches = None
    if new is not None:
        many = CacheFiles(files=9, bytes=900, new_files=new, new_bytes=new * 20_480)
        caches = {kind: many}
    return replace(passed(name), starts=(cold, replace(warm, caches=caches)))


def compared(old: Case, new: Case, waivers: str = "") -> Qualification:
    return held(make(OLD, old), make(NEXT, new), waivers=waivers)


def test_a_warm_start_that_compiles_again_does_not_qualify() -> None:
    found = compared(case(0), case(7))
    [drift] = found.drifts
    assert (drift.kind, drift.case, drift.start) == (DriftKind.UNEXPECTED, "moe", "warm")
    assert (drift.counter, drift.before, drift.after, drift.expected) == (COMPILED_AGAIN, 0, 7, 0)
    assert found.exit_status == 1
    text = lines(found)
    assert f"{WORDS} under the same vLLM, so torch changed; see below" in text
    assert f"warm  {COMPILED_AGAIN}  0->7 (expected 0)  moe" in text
    assert COMPILED_AGAIN in page(found)
    assert COMPILED_AGAIN in json.dumps(json.loads(render(found)))


def test_a_baseline_that_wrote_no_file_of_that_kind_wrote_none() -> None:
    found = compared(case(0, CacheKind.FXGRAPH), case(2))
    assert [drift.before for drift in found.drifts] == [0] and found.exit_status == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (case(3), case(7)),  # the baseline's is not warm either
        (case(0), case(0)),
        (case(3), case(0)),
        (case(None), case(7)),  # the baseline does not know
        (case(0), case(None)),
        (case(0, CacheKind.GENERATED), case(7, CacheKind.GENERATED)),  # sources, no compiler
        (case(0, name="dense"), case(7)),  # no such case at the baseline
    ],
)
def test_what_may_have_another_reason_is_not_judged(old: Case, new: Case) -> None:
    assert compared(old, new).drifts == ()


@pytest.mark.parametrize("side", ["baseline", "candidate"])
def test_between_environments_of_which_one_is_not_stock_it_is_not_judged(side: str) -> None:
    sides = {name: (RAY,) if name == side else () for name in ("baseline", "candidate")}
    old = make(OLD, case(0), departures=sides["baseline"])
    found = held(old, make(NEXT, case(7), departures=sides["candidate"]))
    [drift] = found.drifts
    assert (drift.kind, drift.not_stock) == (DriftKind.NOT_JUDGED, (side,))
    assert found.failing == ()
    assert f"{WORDS}; see below" in lines(found)


def saves_again(warm: int, again: int) -> Case:
    """Return a case whose cold start saved artifacts, and whose warm start saved and wrote some."""
    found = case(warm)
    cold, second = found.starts
    return replace(
        found,
        starts=(
            replace(cold, counters={**cold.counters, SAVED_AGAIN: 4}),
            replace(second, counters={**second.counters, SAVED_AGAIN: again}),
        ),
    )


@pytest.mark.parametrize(
    ("expected", "drifts"), [(4, {SAVED_AGAIN}), (0, {COMPILED_AGAIN, SAVED_AGAIN})]
)
def test_what_the_candidates_own_expectation_has_is_no_drift(
    expected: int, drifts: set[str]
) -> None:
    rules = parse_expectations(
        f"""
        [[rule]]
        id = "again"
        case = "moe"
        torch = "==2.12.*"
        vllm = "<99"
        start = "warm"
        counters = {{ {SAVED_AGAIN} = {expected} }}
        evidence = ["a record"]
        """,
        "rules.toml",
    )
    found = held(make(OLD, saves_again(0, 0)), make(NEXT, saves_again(4, 4)), rules=rules)
    assert {drift.counter for drift in found.drifts} == drifts
    assert {drift.kind.fails for drift in found.drifts} == {expected == 0}
    assert bool(seen_in(found, "one").compiling) is (expected == 0)


def test_what_another_run_of_the_baseline_did_too_is_not_the_candidates() -> None:
    earlier = make(OLD, case(3), day=21, file="earlier")
    assert held(earlier, make(OLD, case(0)), make(NEXT, case(7))).drifts == ()
    unknown = make(OLD, case(None), day=21, file="earlier")
    assert len(held(unknown, make(OLD, case(0)), make(NEXT, case(7))).drifts) == 1


def test_torch_is_not_named_where_one_of_the_baselines_is_not_known() -> None:
    other = case(None, name="dense")
    found = held(make(OLD, case(0), other), make(NEXT, case(7), case(7, name="dense")))
    words = WORDS.replace("1 case writes", "2 cases writes")
    assert f"{words}; see below" in lines(found)


def test_torch_is_not_named_where_another_patch_of_vllm_ran() -> None:
    old, new = make(OLD, case(0), vllm="0.20.1"), make(NEXT, case(7), vllm="0.20.2")
    assert f"{WORDS}; see below" in lines(held(old, new))


def test_of_another_vllm_nobody_says_that_torch_changed() -> None:
    found = held(
        make(OLD, case(0), vllm="0.19.1"),
        make(OLD, case(7), vllm="0.20.2"),
        query=ask("vllm", "0.20.2", "0.19.1"),
    )
    assert found.exit_status == 1
    assert f"{WORDS}; see below" in lines(found)


def test_a_watch_follows_a_warm_start_that_compiles_again() -> None:
    seen = seen_in(compared(case(0), case(7)), "one")
    [key] = seen.findings
    assert (key.place.case, key.what) == ("moe", f"warm {COMPILED_AGAIN}")
    assert key.place in seen_in(compared(case(0), case(0)), "two").clean


@pytest.mark.parametrize(
    ("old", "new", "silent"),
    [
        (case(0), case(0), True),
        (case(None), case(0), True),
        (case(0), case(None), False),  # nobody looked
        (case(3), case(7), False),  # the baseline's does so too, and nobody says whose it is
        (case(None), case(7), False),
    ],
)
def test_a_watch_closes_it_only_where_the_warm_start_is_known_to_write_none(
    old: Case, new: Case, silent: bool
) -> None:
    history = WatchHistory(candidate="torchnightly")
    first, _ = follow(history, seen_in(compared(case(0), case(7)), "one"))
    after, (change,) = follow(first, seen_in(compared(old, new), "two"))
    assert change.asked is silent
    assert after.findings[0].status is (Status.SILENT_ONCE if silent else Status.NEW)


def test_a_waiver_accepts_it() -> None:
    waiver = f"""
    [[waiver]]
    id = "known"
    torch = ">=2.12"
    case = "moe"
    start = "warm"
    counters = ["{COMPILED_AGAIN}"]
    why = "known"
    link = "https://github.com/pytorch/pytorch/issues/1"
    until = 2027-01-01
    """
    found = compared(case(0), case(7), waiver)
    assert found.exit_status == 0 and len(found.drifts) == 1
