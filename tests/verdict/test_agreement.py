import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from histories import RAY
from matrix._util.grouped import group
from matrix.record.model import Case, ErrorKind, Outcome, Record, RunError, Start, StartKind
from matrix.report.agreement import prediction_words
from matrix.rules.platform_differences import Explanations, parse_explanations
from matrix.verdict.agreement import NOTHING, Agreement, agree, figures, first_on_cuda
from matrix.verdict.share import Share

SAVED = "num_compiled_artifacts_saved"
LOADED = "num_compiled_artifacts_loaded"
TOTAL = "aot_autograd.total"
NONE = Explanations()
WHY = parse_explanations(
    """
[[difference]]
id = "router"
case = "model_startup[glm]"
counters = ["aot_autograd.total"]
text = "The router is compiled apart."
evidence = ["https://github.com/vllm-project/vllm/pull/1"]
""",
    "differences.toml",
)
Counters = Mapping[str, int]


def case(
    name: str = "moe", cold: Counters | None = None, warm: Counters | None = None, **more: Any
) -> Case:
    starts = [
        Start(
            start=StartKind.COLD,
            seconds={},
            counters=cold or {SAVED: 3, TOTAL: 9, "num_graphs_seen": 0},
        )
    ]
    starts += [
        Start(
            start=StartKind.WARM,
            seconds={},
            counters=warm or {SAVED: 0, TOTAL: 6, "num_graphs_seen": 0},
        )
    ]
    return Case(case=name, **{"outcome": "passed", "starts": tuple(starts), **more})


def skipped(name: str = "moe", reason: str = "no CPU kernel", **more: Any) -> Case:
    return Case(case=name, **{"outcome": "not_applicable", "reason": reason, **more})


def make(platform: str, *cases: Case, cell: str = "py311-torch210-vllm019", **more: Any) -> Record:
    found = {"started": "2026-11-22T18:00:00Z", "torch": "2.10.0+cu128", "vllm": "0.19.1"}
    return Record(
        **{
            "cell": cell,
            "platform": platform,
            "finished": True,
            "provenance": {**found, **more.pop("provenance", {})},
            "cases": cases,
            **more,
        }
    )


def test_identical_records_agree_fully() -> None:
    told = agree([make("cuda", case(), case("other")), make("cpu", case(), case("other"))], NONE)
    every = told.figures
    assert (every.expected, every.counted) == (Share(right=8, of=8), Share(right=8, of=8))
    assert (every.every, every.raised, every.cases) == (
        Share(right=12, of=12),
        Share(right=6, of=6),
        Share(right=2, of=2),
    )
    assert told.differences == () == told.unexplained
    assert told.pairs[0].cuda == told.pairs[0].cpu == "py311-torch210-vllm019"


def ran(platform: str, started: str, torch: str = "2.10.0", total: int = 9) -> Record:
    cold = {SAVED: 3, TOTAL: total}
    found = {"started": f"2026-11-{started}T18:00:00Z", "torch": torch}
    return make(platform, case(cold=cold), provenance=found)


@pytest.mark.parametrize(
    ("records", "held_out"),
    [
        ([ran("cpu", "20"), ran("cuda", "21")], True),
        ([ran("cpu", "21"), ran("cuda", "20")], False),
        ([ran("cpu", "20"), ran("cuda", "20")], False),
        # The same vLLM with another torch, or an older run of the same pair, was seen before.
        ([ran("cpu", "21"), ran("cuda", "22"), ran("cuda", "20", torch="2.9.1")], False),
        ([ran("cpu", "21"), ran("cuda", "22"), ran("cuda", "20")], False),
    ],
)
def test_a_pair_is_held_out_if_the_cpu_ran_first(records: list[Record], held_out: bool) -> None:
    for order in itertools.permutations(records):
        found = agree(order, NONE)
        assert [pair.held_out for pair in found.pairs] == [held_out]
        assert found.held_out == (found.figures if held_out else None)


def test_a_run_on_cuda_that_showed_nothing_counts_too() -> None:
    refused = make("cuda", skipped(), provenance={"started": "2026-11-19T18:00:00Z"})
    [pair] = agree([ran("cpu", "20"), ran("cuda", "21"), refused], NONE).pairs
    assert not pair.held_out


def test_the_first_run_can_be_one_that_is_not_compared() -> None:
    records = [ran("cpu", "20"), ran("cuda", "21")]
    assert first_on_cuda(records) == {"0.19.1": "2026-11-21T18:00:00Z"}
    [pair] = agree(records, NONE, {"0.19.1": "2026-11-18T18:00:00Z"}).pairs
    assert not pair.held_out


def test_figures_of_held_out_pairs_stand_apart() -> None:
    seen = [
        make("cuda", case(), provenance={"vllm": "0.18.1"}),
        make("cpu", case(cold={SAVED: 1, TOTAL: 9}), provenance={"vllm": "0.18.1"}),
    ]
    found = agree([*seen, ran("cpu", "20"), ran("cuda", "21")], NONE)
    assert found.held_out is not None
    assert found.held_out.expected == Share(right=4, of=4)
    assert found.figures.expected == Share(right=7, of=8)


def test_a_difference_has_both_numbers_and_its_reason() -> None:
    cuda = make("cuda", case("model_startup[glm]", cold={SAVED: 4, TOTAL: 22}))
    cpu = make("cpu", case("model_startup[glm]", cold={SAVED: 3, TOTAL: 9}))
    told = agree([cuda, cpu], WHY)
    assert [
        (difference.start, difference.counter, difference.cuda, difference.cpu)
        for difference in told.differences
    ] == [
        ("cold", SAVED, 4, 3),
        ("cold", TOTAL, 22, 9),
    ]
    assert [[why.id for why in difference.why] for difference in told.differences] == [
        [],
        ["router"],
    ]
    assert [count.counter for count in told.unexplained] == [SAVED]
    assert told.figures.every == Share(right=3, of=5)
    # What agrees needs no reason, though the explanation speaks of it.
    assert not any(count.why for count in told.counts if count.agrees)


def test_a_case_that_the_cpu_cannot_run_is_not_predicted() -> None:
    told = agree([make("cuda", case(), case("mla")), make("cpu", case(), skipped("mla"))], NONE)
    assert told.figures.cases == Share(right=1, of=2)
    assert told.figures.expected == Share(right=4, of=4)
    assert told.figures.counted == Share(right=4, of=8)
    assert told.figures.every == Share(right=6, of=6)
    [mla] = [prediction for prediction in told.predictions if prediction.case == "mla"]
    assert (mla.started, prediction_words(mla.reason)) == (True, "no CPU kernel")
    assert told.differences == ()


def test_only_the_starts_of_both_are_compared() -> None:
    half = case(outcome="failed", reason="KeyError")
    half = replace(half, starts=half.starts[:1])
    told = agree([make("cuda", case()), make("cpu", half)], NONE)
    assert {count.start for count in told.counts if count.cpu is not None} == {"cold"}
    assert told.figures.counted == Share(right=2, of=4)
    assert [prediction_words(prediction.reason) for prediction in told.predictions] == [
        "failed: KeyError"
    ]
    told = agree([make("cuda", half), make("cpu", case())], NONE)
    assert told.figures.counted == Share(right=2, of=2)
    assert told.figures.cases == Share(right=0, of=1)
    assert [prediction_words(prediction.reason) for prediction in told.predictions] == [
        "failed on CUDA, but started warm on the CPU: KeyError"
    ]


def test_what_cuda_did_not_start_is_no_case_to_predict() -> None:
    broken = skipped(outcome="failed", reason="ValueError")
    for other, reason in (
        (case(), "failed on CUDA, but started on the CPU"),
        (broken, "failed on"),
    ):
        told = agree([make("cuda", case("a"), broken), make("cpu", case("a"), other)], NONE)
        assert told.figures.cases == Share(right=1, of=1)
        [moe] = [prediction for prediction in told.predictions if prediction.case == "moe"]
        assert not moe.started
        assert prediction_words(moe.reason).startswith(reason)


def test_a_case_that_the_cpu_was_not_asked_for_is_not_predicted() -> None:
    told = agree([make("cuda", case(), case("b")), make("cpu", case(), deselected=1)], NONE)
    assert [prediction_words(prediction.reason) for prediction in told.predictions] == [
        "was not run",
        "",
    ]
    dead = make("cpu", error=RunError(kind=ErrorKind.IMPORTS, reason="undefined symbol"))
    told = agree([make("cuda", case()), dead], NONE)
    assert [prediction_words(prediction.reason) for prediction in told.predictions] == [
        "undefined symbol"
    ]
    assert told.figures.counted == Share(right=0, of=4)


def test_releases_are_compared_by_version_and_not_by_python_or_build() -> None:
    cuda = make("cuda", case(), cell="py312-torch210-vllm019", provenance={"torch": "2.10.0+cu130"})
    assert agree([cuda, make("cpu", case())], NONE).pairs[0].cuda == "py312-torch210-vllm019"
    for other in ({"torch": "2.10.1"}, {"vllm": "0.19.0"}, {"vllm": None}, {"vllm": "unknown"}):
        told = agree([cuda, make("cpu", case(), provenance=other)], NONE)
        assert told.pairs == ()
        assert told.alone == ("py312-torch210-vllm019",)


def test_the_same_python_is_preferred_and_each_pair_counts_once() -> None:
    cuda = [make("cuda", case(), cell=f"py3{minor}-torch210-vllm019") for minor in (11, 12)]
    cpu = [make("cpu", case(), cell=f"py3{minor}-torch210-vllm019") for minor in (10, 12, 13)]
    [pair] = agree([*cuda, *cpu], NONE).pairs
    assert (pair.cuda, pair.cpu) == ("py312-torch210-vllm019",) * 2
    # A partial run of the same Python does not hide a whole one of another.
    part = replace(cpu[1], cases=(), deselected=1)
    [pair] = agree([*cuda[1:], cpu[2], part], NONE).pairs
    assert pair.cpu == "py313-torch210-vllm019"
    late = replace(cpu[0], provenance={**cpu[0].provenance, "started": "2026-11-23T18:00:00Z"})
    [pair] = agree([*cuda[1:], late, cpu[2]], NONE).pairs
    assert pair.cpu == "py310-torch210-vllm019"


def test_a_stock_run_is_preferred_to_one_that_is_not() -> None:
    other = "py312-torch210-vllm019"
    apart = make("cuda", case(), departures=(RAY,))
    stock = make("cuda", case(), cell=other, departures=())
    [pair] = agree([apart, stock, make("cpu", case())], NONE).pairs
    assert (pair.cuda, pair.cuda_not_stock) == (other, ())
    [pair] = agree([apart, make("cpu", case(), departures=())], NONE).pairs
    assert (pair.cuda_not_stock, pair.cpu_not_stock) == ((RAY,), ())


def test_pairs_sort_as_versions_do() -> None:
    cells = ("py311-torch210-vllm019", "py311-torch29-vllm016", "py311-torch29-vllm09")
    versions = (("2.10.0", "0.19.1"), ("2.9.1", "0.16.0"), ("2.9.1", "0.9.0"))
    records = [
        make(platform, case(), cell=cell, provenance={"torch": torch, "vllm": vllm})
        for cell, (torch, vllm) in zip(cells, versions, strict=True)
        for platform in ("cpu", "cuda")
    ]
    assert [pair.vllm for pair in agree(records, NONE).pairs] == ["0.9.0", "0.16.0", "0.19.1"]


def test_a_counter_of_torch_that_was_never_raised_is_0() -> None:
    cuda = make("cuda", case(cold={"aot_autograd.ok": 7, "inductor.triton": 3, LOADED: 1}))
    cpu = make("cpu", case(cold={"inductor.cpp": 3}))
    told = agree([cuda, cpu], NONE)
    seen = {
        count.counter: (count.cuda, count.cpu) for count in told.counts if count.start == "cold"
    }
    # Kernels' counters are one platform's own, and vLLM's are there or not by its release.
    assert seen == {"aot_autograd.ok": (7, 0)}
    assert told.one_sided == ("inductor.cpp", "inductor.triton", LOADED)


def test_nothing_is_nothing() -> None:
    assert agree([], NONE) == NOTHING == Agreement()
    assert agree([make("cpu", case()), make("cuda", skipped())], NONE).pairs == ()
    assert NOTHING.figures.expected == Share(right=0, of=0)
    assert Share(right=0, of=0).part is None


def test_a_percentage_is_never_rounded_up() -> None:
    assert str(Share(right=999, of=1000)) == "999 of 1000 (99 %)"
    assert str(Share(right=3, of=3)) == "3 of 3 (100 %)"


def test_groups_keep_every_count() -> None:
    told = agree([make("cuda", case()), make("cpu", case())], NONE)
    by_start = group(told.counts, lambda count: count.start)
    assert list(by_start) == ["cold", "warm"]
    assert [count for counts in by_start.values() for count in counts] == list(told.counts)


names = st.sampled_from([SAVED, LOADED, TOTAL, "aot_autograd.ok", "num_graphs_seen", "inductor.x"])
counted = st.dictionaries(names, st.integers(0, 3))
ended = st.builds(
    lambda cold, warm, n: Case(
        case="moe",
        outcome=Outcome("passed" if n == 2 else "failed"),
        starts=(
            Start(start=StartKind.COLD, seconds={}, counters=cold),
            Start(start=StartKind.WARM, seconds={}, counters=warm),
        )[:n],
    ),
    counted,
    counted,
    st.integers(0, 2),
)
several = st.lists(
    st.builds(
        lambda platform, python, one, day: make(
            platform,
            one,
            cell=f"py3{python}-torch210-vllm019",
            provenance={"started": f"2026-11-{day}T18:00:00Z"},
        ),
        st.sampled_from(["cuda", "cpu"]),
        st.integers(10, 12),
        ended,
        st.integers(20, 22),
    ),
    max_size=5,
)


@given(several)
def test_agreement_is_the_same_for_any_order(records: list[Record]) -> None:
    told = agree(records, WHY)
    for other in itertools.islice(itertools.permutations(records), 24):
        assert agree(other, WHY) == told


@given(several)
def test_shares_are_between_0_and_1(records: list[Record]) -> None:
    told = agree(records, WHY)
    every = told.figures
    for share in (every.expected, every.counted, every.every, every.raised, every.cases):
        assert 0 <= share.right <= share.of
        assert share.part is None or 0 <= share.part <= 1
    # What CUDA counted holds what both counted; and every part adds up to the whole.
    assert every.counted.of >= every.expected.of
    assert every.counted.right == every.expected.right
    assert every.every.of - every.raised.of == every.every.right - every.raised.right
    assert every.every.of - every.every.right == len(told.differences)
    parts = [figures(counts, ()) for counts in group(told.counts, lambda one: one.counter).values()]
    assert sum(part.every.of for part in parts) == every.every.of
    assert sum(part.counted.right for part in parts) == every.counted.right


@given(ended)
def test_what_a_platform_counts_agrees_with_itself(one: Case) -> None:
    told = agree([make("cuda", one), make("cpu", one)], NONE)
    assert all(count.agrees for count in told.counts)
    assert not told.one_sided
    assert told.figures.cases.part in (None, 1.0)


@given(ended, ended)
def test_the_two_platforms_differ_as_much_either_way(one: Case, other: Case) -> None:
    there = agree([make("cuda", one), make("cpu", other)], NONE)
    back = agree([make("cuda", other), make("cpu", one)], NONE)
    seen = {
        (difference.start, difference.counter, difference.cuda, difference.cpu)
        for difference in there.differences
    }
    assert seen == {
        (difference.start, difference.counter, difference.cpu, difference.cuda)
        for difference in back.differences
    }


def test_a_case_of_two_gpus_is_not_asked_of_the_cpu() -> None:
    two = case("tensor_parallel_startup[dense]")
    told = agree([make("cuda", case(), two), make("cpu", case())], NONE)
    assert told.figures.cases == Share(right=1, of=1)
    # A CPU that ran a part of its cases is asked, as of any case.
    told = agree([make("cuda", case(), two), make("cpu", case(), deselected=1)], NONE)
    assert told.figures.cases == Share(right=1, of=2)
