"""What a qualification shows and does not judge: defaults, Inductor's numbers, warm code, speed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import Told, make, passed
from matrix.qualify.model import Qualification
from matrix.qualify.speed import SpeedCode
from matrix.qualify.unjudged import Unjudged
from matrix.qualify.unlike import UnlikeCode
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.defaults import compare_defaults
from matrix.record.model import CacheFiles, CacheKind, Case
from matrix.report.qualify.json import render
from matrix.report.qualify.markdown import page
from matrix.report.qualify.text import lines
from qualifications import NEXT, OLD, ask, held, judged

INDUCTOR, DYNAMO = "torch._inductor.config", "torch._dynamo.config"
BEFORE = {INDUCTOR: {"fx_graph_cache": True, "epilogue_fusion": True, "gone": 1}, DYNAMO: {"x": 1}}
AFTER = {INDUCTOR: {"fx_graph_cache": False, "epilogue_fusion": True, "new": 1, "two": 2}}
VALUES = st.sampled_from((True, False, 1, 0, 0.5, None, "1", [1], [True], []))
DEFAULTS = st.dictionaries(
    st.sampled_from((INDUCTOR, DYNAMO)), st.dictionaries(st.sampled_from("abc"), VALUES)
)


def only(found: Qualification) -> Unjudged:
    [unjudged] = found.unjudged
    return unjudged


def both(old: Case, new: Case, **more: Any) -> Qualification:
    """Qualify one run a side; nothing that is observed besides makes a verdict."""
    found = held(make(OLD, old), make(NEXT, new, **more))
    assert found.exit_status == 0
    return found


def observed(
    metrics: dict[str, int] | None = None, new: int | None = None, name: str = "moe"
) -> Case:
    """Return a case that passed, with numbers of both starts and new files of its warm start."""
    cold, warm = passed(name).starts
    caches = None
    if new is not None:
        many = CacheFiles(files=9, bytes=900, new_files=new, new_bytes=new * 20_480)
        caches = {CacheKind.FXGRAPH: many}
    starts = replace(cold, metrics=metrics), replace(warm, metrics=metrics, caches=caches)
    return replace(passed(name), starts=starts)


def test_changed_defaults_are_named_with_both_values() -> None:
    found = held(make(OLD, passed(), defaults=BEFORE), make(NEXT, passed(), defaults=AFTER))
    defaults = only(found).defaults
    assert defaults is not None and (defaults.added, defaults.removed) == (2, 1)
    [change] = defaults.changed
    assert (change.config, change.name) == (INDUCTOR, "fx_graph_cache")
    assert (change.before, change.after) == (True, False)
    text = lines(found)
    assert "  torch._inductor.config.fx_graph_cache: true, now false\n" in text
    assert "  2 names at the candidate alone, 1 at the baseline alone\n" in text
    assert "true, now false" in page(found)
    assert found.exit_status == 0


def test_many_defaults_are_cut_in_text_and_whole_in_json() -> None:
    before = {INDUCTOR: {f"n{number}": True for number in range(60)}}
    after = {INDUCTOR: dict.fromkeys(before[INDUCTOR], False)}
    found = held(make(OLD, passed(), defaults=before), make(NEXT, passed(), defaults=after))
    text = lines(found)
    assert text.count("true, now false") == 40 and "and 20 more; --json has all" in text
    cells = json.loads(render(found))["cells"]
    assert len(cells[0]["unjudged"]["defaults"]["changed"]) == 60
    assert page(found).count("true, now false") == 60


@pytest.mark.parametrize(
    ("old", "new", "side"), [(BEFORE, None, "candidate"), (None, AFTER, "baseline")]
)
def test_a_side_that_does_not_know_its_defaults_is_named(old: Any, new: Any, side: str) -> None:
    found = held(make(OLD, passed(), defaults=old), make(NEXT, passed(), defaults=new))
    assert (only(found).defaults, only(found).lacks) == (None, side)
    assert f"the {side}'s record is older than these observations" in lines(found)


def test_old_records_say_nothing_of_all_this() -> None:
    found = both(passed(), passed())
    unjudged = only(found)
    assert (unjudged.defaults, unjudged.lacks, unjudged.metrics, unjudged.warm_code) == (
        *(None, None),
        *((), ()),
    )
    assert "Defaults" not in lines(found) and "compiled code" not in lines(found)


@given(DEFAULTS, DEFAULTS)
def test_what_changed_is_what_both_have_and_differs(before: Any, after: Any) -> None:
    found = compare_defaults(before, after)
    assert found is not None
    differing = {
        (config, name)
        for config in before.keys() & after.keys()
        for name in before[config].keys() & after[config].keys()
        if json.dumps(before[config][name]) != json.dumps(after[config][name])
    }
    assert {(change.config, change.name) for change in found.changed} == differing
    same = compare_defaults(after, after)
    assert same is not None and (same.changed, same.added, same.removed) == ((), 0, 0)


def test_numbers_of_inductor_that_changed_are_told_with_their_cases() -> None:
    found = both(
        observed({"generated_kernel_count": 21, "ir_nodes_pre_fusion": 36, "old": 1}),
        observed({"generated_kernel_count": 27, "ir_nodes_pre_fusion": 36}),
    )
    changes = [
        (change.start, change.metric, change.before, change.after) for change in only(found).metrics
    ]
    assert changes == [
        ("cold", "generated_kernel_count", 21, 27),
        ("warm", "generated_kernel_count", 21, 27),
    ]
    assert "  cold  generated_kernel_count  21->27  moe\n" in lines(found)
    assert "21 → 27" in page(found)


def code(generated: int, kernels: int = 21) -> Case:
    """Return a case that passed, whose cold start left so many bytes of generated code."""
    found = observed({"generated_kernel_count": kernels, "ir_nodes_pre_fusion": 36})
    held = CacheFiles(files=9, bytes=generated, new_files=9, new_bytes=generated)
    cold, warm = found.starts
    return replace(found, starts=(replace(cold, caches={CacheKind.GENERATED: held}), warm))


OTHER_CODE = "Inductor generates other code of as many nodes and kernels as at the baseline in moe;"


def test_other_code_of_as_many_kernels_is_named_within_a_minor_release() -> None:
    found = held(make("2.11.0", code(900)), make("2.11.1", code(901)), query=ask("torch", "2.11.1"))
    assert f"  {OTHER_CODE} see below\n" in lines(found)
    assert "  cold  caches.generated.bytes  900->901  moe\n" in lines(found)
    assert found.exit_status == 0
    # Of another minor release the code always differs.
    found = both(code(900), code(901))
    assert OTHER_CODE not in lines(found) and "900->901" in lines(found)


@pytest.mark.parametrize(
    ("after", "cores"), [(code(900), 2), (code(901, kernels=22), 2), (code(901), 64)]
)
def test_the_same_code_other_kernels_and_another_machine_are_not_other_code(
    after: Case, cores: int
) -> None:
    old = make("2.11.0", code(900), provenance={"cpu": {"model": "x", "cores": 2}})
    new = make("2.11.1", after, provenance={"cpu": {"model": "x", "cores": cores}})
    found = held(old, new, query=ask("torch", "2.11.1"))
    assert OTHER_CODE not in lines(found)


@pytest.mark.parametrize(
    ("kernels", "nodes", "less"),
    [(34, 36, True), (34, 60, False), (21, 36, False), (12, 36, False)],
)
def test_more_kernels_of_as_many_nodes_are_less_fusion(
    kernels: int, nodes: int, *, less: bool
) -> None:
    found = both(
        observed({"generated_kernel_count": 21, "ir_nodes_pre_fusion": 36}),
        observed({"generated_kernel_count": kernels, "ir_nodes_pre_fusion": nodes}),
    )
    words = (
        "Inductor fuses less: of as many nodes as at the baseline it generates more kernels"
        " (34 instead of 21) in moe; see below"
    )
    assert (words in lines(found)) is less and (words in page(found)) is less


def test_a_warm_start_that_writes_compiled_code_is_named_first() -> None:
    found = both(observed(new=0), observed(new=3))
    [warm] = only(found).warm_code
    assert (warm.case, warm.after.files, warm.after.bytes) == ("moe", 3, 61_440)
    text = lines(found)
    assert "the warm start of 1 case writes more compiled code than the baseline's is" in text
    assert (
        "\nWarm starts that write compiled code, so they are not warm\n  py311-torch212-vllm020 on"
        " cpu, moe: 3 files of compiled code, 60 KiB; the baseline's wrote none\n"
    ) in text
    assert "⚠️ **the warm start of 1 case" in page(found)


@pytest.mark.parametrize(
    ("before", "words", "loud"),
    [
        (3, "the baseline's wrote 3 files of compiled code, 60 KiB", False),
        (None, "what the baseline's wrote is not known", True),
    ],
)
def test_code_that_the_baseline_wrote_too_is_no_news(
    before: int | None, words: str, *, loud: bool
) -> None:
    text = lines(both(observed(new=before), observed(new=3)))
    assert words in text
    assert ("more compiled code than" in text) is loud


def test_a_warm_start_that_writes_nothing_is_not_named() -> None:
    assert only(both(observed(new=3), observed(new=0))).warm_code == ()


def runs(
    torch: str, days: Iterable[int], cold: float, warm: float = 10.0, **more: Any
) -> list[Told]:
    """Return runs of two cases, each a little slower than the one before."""
    return [
        make(
            torch,
            passed("dense", cold=cold + step, warm=warm),
            passed("moe", cold=4 * (cold + step), warm=4 * warm),
            day=day,
            file=f"{torch}.{day}",
            **more,
        )
        for step, day in enumerate(days)
    ]


def test_speed_is_the_geometric_mean_of_runs_in_turns() -> None:
    found = held(*runs(OLD, (10, 12), 50), *runs(NEXT, (11, 13), 60))
    unjudged = only(found)
    assert unjudged.no_speed is None
    cold, warm = unjudged.speeds
    # The geometric mean of x and 4 x is 2 x.
    assert cold.before == pytest.approx((100, 102)) and cold.after == pytest.approx((120, 122))
    assert (cold.cases, cold.slower, cold.steady) == (2, True, True)
    assert cold.ratios == pytest.approx((1.2, 122 / 102))
    assert warm.ratio == pytest.approx(1) and not warm.slower
    text = lines(found)
    assert (
        "cold, geometric mean of 2 cases in 2 rounds: 101.0 s (100.0 to 102.0) -> 121.0 s"
        " (120.0 to 122.0), ratio 1.20 (1.20 to 1.20), 20 % slower, a slowdown\n"
    ) in text
    assert "cold starts are 20 % slower than the baseline's: a slowdown" in text
    assert (
        "warm, geometric mean of 2 cases in 2 rounds: 20.0 s (20.0 to 20.0) -> 20.0 s"
        " (20.0 to 20.0), ratio 1.00 (1.00 to 1.00), the same\n"
    ) in text
    assert found.exit_status == 0


@pytest.mark.parametrize(("cold", "slower"), [(57.4, False), (57.6, True), (40, False)])
def test_more_than_15_percent_is_a_slowdown(cold: float, *, slower: bool) -> None:
    found = held(*runs(OLD, (10, 12), 49.5), *runs(NEXT, (11, 13), cold - 0.5))
    assert only(found).speeds[0].slower is slower
    assert ("a slowdown" in lines(found)) is slower


@pytest.mark.parametrize(
    ("days", "more", "code"),
    [
        ((11,), {}, SpeedCode.TOO_FEW_RUNS),
        ((13, 14), {}, SpeedCode.NOT_IN_TURNS),
        ((8, 9), {}, SpeedCode.NOT_IN_TURNS),
        ((11, 14), {"provenance": {"machine": "aarch64"}}, UnlikeCode.OTHER_MACHINE),
        ((11, 14), {"provenance": {"jobs": 2}}, UnlikeCode.OTHER_JOBS),
        ((11, 14), {"cpp_compiler": CppCompiler(seconds=1, reason="a")}, UnlikeCode.OTHER_STEPS),
        (
            (11, 14),
            {"provenance": {"tests": {"commit": None, "version": 25}}},
            UnlikeCode.OTHER_TESTS,
        ),
        ((11, 13), {}, None),
        ((9, 13), {}, None),
    ],
)
def test_why_speeds_are_not_compared(
    days: tuple[int, ...], more: dict[str, Any], code: SpeedCode | UnlikeCode | None
) -> None:
    found = held(*runs(OLD, (10, 12), 50), *runs(NEXT, days, 90, **more))
    unjudged = only(found)
    assert (unjudged.no_speed and unjudged.no_speed.code) == code
    assert bool(unjudged.speeds) is (code is None)
    assert ("slowdown" in lines(found)) is (code is None)
    assert "comparable: " in lines(found)


def test_runs_of_startup_tests_that_take_another_time_are_left_out() -> None:
    now: dict[str, Any] = {"provenance": {"tests": {"commit": None, "version": 26}}}
    old = [*runs(OLD, (2, 4), 10), *runs(OLD, (10, 12), 50, **now)]
    found = only(held(*old, *runs(NEXT, (3, 5), 90), *runs(NEXT, (11, 13), 60, **now)))
    assert [round(seconds) for seconds in found.speeds[0].before] == [100, 102]
    assert found.speeds[0].slower


def test_runs_side_by_side_compare_with_as_many_at_once() -> None:
    jobs: dict[str, Any] = {"provenance": {"jobs": 2}}
    found = held(*runs(OLD, (10, 12), 50, **jobs), *runs(NEXT, (11, 13), 60, **jobs))
    assert only(found).speeds[0].slower
    assert "not comparable: 2 runs of the baseline and 2 of the candidate" in lines(found)


def test_only_cases_that_passed_in_every_run_count() -> None:
    olds, news = runs(OLD, (10, 12), 50), runs(NEXT, (11, 13), 60)
    path, record = news[0]
    news[0] = path, replace(record, cases=record.cases[:1])
    cold, _ = only(judged([*olds, *news])).speeds
    assert cold.cases == 1 and cold.before == pytest.approx((50, 51))
    news[0] = path, replace(record, cases=())
    unjudged = only(judged([*olds, *news]))
    assert unjudged.no_speed is not None and unjudged.no_speed.code is SpeedCode.TOO_FEW_RUNS
    assert [dropped.started for dropped in unjudged.dropped] == [record.started]
    news[0] = path, replace(record, cases=(passed("other"),))
    assert only(judged([*olds, *news])).no_speed.code is SpeedCode.NO_CASE  # type: ignore[union-attr]


def test_a_slowdown_that_is_not_in_every_round_says_so() -> None:
    found = held(*runs(OLD, (10, 12), 50), *runs(NEXT, (11,), 49), *runs(NEXT, (13,), 80))
    cold = only(found).speeds[0]
    assert (cold.slower, cold.steady) == (True, False)
    text = lines(found)
    assert "since it is more than 15 %, though not in every round\n" in text
    assert "ratio 1.24 (0.98 to 1.57), 24 % slower, a slowdown, though not in every round\n" in text
