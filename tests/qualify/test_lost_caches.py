"""Torch's compile caches without vLLM: which of them lost what another process left there."""

from __future__ import annotations

from typing import Any

import pytest

from made import make, passed
from matrix.qualify.cache_check import CACHE_CHECK
from matrix.qualify.model import DriftKind, Qualification
from matrix.qualify.watch import seen_in
from matrix.record.model import CacheCheck, CheckedCompile
from matrix.report.qualify.markdown import page
from matrix.report.qualify.text import lines
from qualifications import NEXT, OLD, ask, held

AOT, GRAPHS = "aot_autograd.autograd_cache", "inductor.fxgraph_cache"
AOT_HIT, GRAPHS_HIT = f"{AOT}_hit", f"{GRAPHS}_hit"


def check(warm: str = AOT_HIT, graphs: str = GRAPHS_HIT) -> CacheCheck:
    """Return a check as torch 2.11.0 counts it; the second process counts `warm` and `graphs`."""
    return {
        CheckedCompile.COLD: {f"{AOT}_miss": 1, f"{AOT}_saved": 1, f"{GRAPHS}_miss": 1},
        CheckedCompile.WARM: {"aot_autograd.total": 1, **({warm: 1} if warm else {})},
        CheckedCompile.GRAPHS: {"aot_autograd.total": 1, **({graphs: 1} if graphs else {})},
    }


def compared(before: CacheCheck | None, after: CacheCheck | None) -> Qualification:
    return held(
        make(OLD, passed(), cache_check=before),
        make(NEXT, passed(), cache_check=after),
    )


@pytest.mark.parametrize(
    ("after", "counter", "words"),
    [
        (
            check(graphs=f"{GRAPHS}_miss"),
            GRAPHS_HIT,
            (
                "Inductor's cache of graphs misses in a second process what the first one saved,"
                " as with an unstable key; the baseline's hits"
            ),
        ),
        (
            check(warm=f"{AOT}_miss"),
            AOT_HIT,
            "AOTAutograd's cache misses in a second process what the first one saved",
        ),
        (check(warm=""), AOT_HIT, "AOTAutograd's cache is off: a second process does not use it"),
        (
            check(graphs=f"{GRAPHS}_bypass"),
            GRAPHS_HIT,
            "torch bypasses Inductor's cache of graphs in a second process",
        ),
    ],
)
def test_a_cache_without_a_hit_is_found_though_every_case_is_as_before(
    after: CacheCheck, counter: str, words: str
) -> None:
    found = compared(check(), after)
    [drift] = found.drifts
    assert (drift.kind, drift.case, drift.start) == (DriftKind.UNEXPECTED, CACHE_CHECK, "warm")
    assert (drift.counter, drift.before, drift.after, drift.expected) == (counter, 1, 0, 1)
    assert found.exit_status == 1
    text = lines(found)
    assert f"torch.compile alone, without a start of vLLM: {words}" in text
    assert "1->0 (expected 1)" in text and words[:40] in page(found)


def test_caches_that_are_off_are_two_findings() -> None:
    found = compared(check(), check("", ""))
    assert [drift.counter for drift in found.drifts] == [AOT_HIT, GRAPHS_HIT]
    assert lines(found).count("is off: a second process does not use it; the baseline's hits") == 2


def test_a_cache_that_the_baseline_lacks_too_fails_nothing() -> None:
    lost = check(graphs=f"{GRAPHS}_miss")
    found = compared(lost, lost)
    assert [drift.kind for drift in found.drifts] == [DriftKind.AS_BEFORE]
    assert found.exit_status == 0 and "the baseline's has no hit either" in lines(found)


def test_without_the_baselines_check_its_run_would_tell() -> None:
    found = compared(None, check(graphs=f"{GRAPHS}_miss"))
    [unknown] = found.unknown
    assert (unknown.case, unknown.decides) == (CACHE_CHECK, "py311-torch211-vllm020")
    assert found.exit_status == 3 and not found.drifts
    text = lines(found)
    assert f"{GRAPHS_HIT} is 0, and the record of the baseline has no cache check" in text
    assert "tox -e py311-torch211-vllm020 -- --platform cpu\n" in text
    assert "as with an unstable key; the baseline's is not known" in text


@pytest.mark.parametrize(
    ("before", "after"), [(check(), check()), (check(), None), (None, check()), (None, None)]
)
def test_hits_and_records_without_a_check_say_nothing(before: Any, after: Any) -> None:
    found = compared(before, after)
    assert not found.drifts and "torch.compile alone" not in lines(found)


def test_whose_change_it_is_is_known_of_a_torch_under_one_vllm_alone() -> None:
    told = make(OLD, passed(), cache_check=check()), make(NEXT, passed(), cache_check=check(""))
    assert "the baseline's hits under the same vLLM, so torch changed" in lines(held(*told))
    vllms = (
        make(OLD, passed(), cache_check=check(), vllm="0.19.1"),
        make(OLD, passed(), cache_check=check(""), vllm="0.20.2"),
    )
    found = held(*vllms, query=ask("vllm", "0.20.2", "0.19.1"))
    assert "the baseline's hits: py311-torch211-vllm020" in lines(found)


def test_a_watch_follows_a_lost_cache() -> None:
    """A build whose check hits makes the finding silent; one without a check was not asked."""
    lost = seen_in(compared(check(), check(graphs="")), "one")
    [key] = lost.findings
    assert (key.place.case, key.what) == (CACHE_CHECK, f"warm {GRAPHS_HIT}")
    assert key.place in seen_in(compared(check(), check()), "two").clean
    assert key.place not in seen_in(compared(check(), None), "three").clean


def test_a_waiver_accepts_a_lost_cache() -> None:
    waiver = f"""
    [[waiver]]
    id = "known"
    torch = ">=2.12"
    case = "{CACHE_CHECK}"
    start = "warm"
    counters = {{ "{GRAPHS_HIT}" = 0 }}
    why = "known"
    link = "https://github.com/pytorch/pytorch/issues/1"
    until = 2027-01-01
    """
    told = (make(OLD, passed(), cache_check=check()),)
    found = held(*told, make(NEXT, passed(), cache_check=check(graphs="")), waivers=waiver)
    assert found.exit_status == 0 and [drift.kind for drift in found.drifts] == ["not as expected"]
