"""A start on several GPUs: each rank is held against what is expected, and against the first."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from full_record import VALIDATOR
from full_record import make as whole
from judgements import GOOD, RULES, judged, make, make_case, words
from matrix.record.model import Case, Rank, Record, RecordError
from matrix.record.reader import parse, read
from matrix.record.writer import to_json
from matrix.report import markdown
from matrix.report.model import Report
from matrix.report.provisional import difference, of_rank
from matrix.report.terminal import render
from matrix.rules.calibrate import NewRule, calibrate
from matrix.rules.counters import COUNTERS
from matrix.rules.expectations import RANKS_ALIKE, Expectations, compare, compare_ranks
from matrix.rules.expectations_file import load_expectations
from matrix.store.fingerprint import verdict_key
from matrix.verdict.judge import judge
from matrix.verdict.table import tabulate

SAVED, LOADED = "num_compiled_artifacts_saved", "num_compiled_artifacts_loaded"


def on_ranks(
    *others: Mapping[str, Mapping[str, int]],
    name: str = "moe",
    first: Mapping[str, Mapping[str, int]] = GOOD,
) -> Case:
    """Return a case whose first rank counts `first`, with another rank for each of `others`."""
    case = make_case(name, counters=first)
    starts = tuple(
        dataclasses.replace(
            start,
            ranks=tuple(
                Rank(rank=number, counters=counted[start.start])
                for number, counted in enumerate((first, *others))
            ),
        )
        for start in case.starts
    )
    return dataclasses.replace(case, starts=starts)


def test_ranks_that_all_count_as_expected_are_compatible() -> None:
    verdict = judged(on_ranks(GOOD))
    assert (verdict.verdict, verdict.cases[0].differences) == ("compatible", ())


def test_a_rank_that_counts_otherwise_is_a_drift_that_names_it() -> None:
    record = make(on_ranks({**GOOD, "warm": {SAVED: 3, LOADED: 0}}))
    verdict = judge(record, RULES)
    assert verdict.verdict == "drift"
    assert words(verdict.reason) == f"moe: warm {LOADED} of rank 1 is 0, expected 3, and 1 more"
    first, second = verdict.cases[0].differences
    assert (first.rank, first.rule, second.counter, second.observed) == (1, "warm", SAVED, 3)
    assert difference(first)["rank"] == 1
    assert of_rank(second) == " of rank 1"
    page = markdown.render(Report(table=tabulate([(Path("a.json"), record)], RULES)))
    assert f"warm `{LOADED}` of rank 1: expected 3, observed 0" in page


def test_ranks_that_differ_drift_where_nothing_is_expected() -> None:
    verdict = judged(on_ranks({"cold": {SAVED: 4}, "warm": GOOD["warm"]}, name="other"))
    assert verdict.verdict == "drift"
    assert words(verdict.reason) == f"other: cold {SAVED} of rank 1 is 4, expected 3"
    assert verdict.cases[0].differences[0].rule == RANKS_ALIKE
    alike = judged(on_ranks(GOOD, name="other"))
    assert (alike.verdict, alike.cases[0].no_rule) == ("untested", ("cold", "warm"))


def test_where_every_rank_drifts_alike_each_is_named() -> None:
    cold = {**GOOD, "cold": {SAVED: 5}}
    verdict = judged(on_ranks(cold, first=cold))
    assert [(differing.rank, differing.observed) for differing in verdict.cases[0].differences] == [
        (0, 5),
        (1, 5),
    ]


def test_a_counter_that_no_rule_may_expect_may_differ() -> None:
    other = {start: {**counted, "inductor.pattern_count": 7} for start, counted in GOOD.items()}
    assert judged(on_ranks(other)).verdict == "compatible"


def test_the_terminal_shows_the_ranks() -> None:
    def shown(case: Case) -> list[str]:
        record = make(case)
        return render(record, judge(record, RULES), "records/x.json").splitlines()

    assert any(line.endswith("saved 3 (each of 2 ranks)") for line in shown(on_ranks(GOOD)))
    lines = shown(on_ranks({**GOOD, "warm": {SAVED: 0, LOADED: 2}}))
    assert any(
        line.strip() == f"! {LOADED} of rank 1  observed    2  expected    3" for line in lines
    )


def test_the_terminal_shows_where_the_seconds_of_each_rank_went() -> None:
    case = on_ranks(GOOD)
    ranks = tuple(
        dataclasses.replace(rank, seconds={"load": 1.5 + rank.rank})
        for rank in case.starts[0].ranks or ()
    )
    cold = dataclasses.replace(case.starts[0], seconds={"total": 9.0, "engine": 8.0}, ranks=ranks)
    record = make(dataclasses.replace(case, starts=(cold, case.starts[1])))
    lines = render(record, judge(record, RULES), "x.json", split=True).splitlines()
    rows = [line.split() for line in lines if line.startswith("moe ")]
    assert ["moe", "cold", "9.0", "-", "-", "-", "-", "-", "-", "8.0", "1.0", "-"] in rows
    assert ["moe", "rank", "1", "-", "-", "-", "2.5", "-", "-", "-", "-", "-", "-"] in rows


def test_a_record_keeps_each_rank() -> None:
    record = whole(cases=(on_ranks(GOOD),))
    text = to_json(record)
    assert parse(text, "r").cases == record.cases
    assert VALIDATOR.is_valid(json.loads(text))
    assert '"ranks"' not in to_json(whole(cases=(make_case(),)))


@pytest.mark.parametrize(
    ("ranks", "why"),
    [
        ([], "ranks: is empty; a start of one process is without the key"),
        ([{"rank": 0, "seconds": {}, "counters": {}}] * 2, "is the second rank 0 of one start"),
        ([{"rank": -1, "seconds": {}, "counters": {}}], "rank: is -1"),
        ([{"rank": 0, "seconds": {}}], "counters"),
        (
            [{"rank": n, "seconds": {}, "counters": {}} for n in range(65)],
            "has 65 items, but at most 64 are kept",
        ),
        (7, "ranks: is 7, but must be a list"),
    ],
)
def test_bad_ranks_are_named(ranks: object, why: str) -> None:
    data = json.loads(to_json(whole(cases=(on_ranks(GOOD),))))
    data["cases"][0]["starts"][0]["ranks"] = ranks
    with pytest.raises(RecordError, match=re.escape(why)):
        parse(json.dumps(data), "r")
    assert VALIDATOR.is_valid(data) == why.startswith("is the second")


def test_what_another_rank_counted_decides_the_verdict() -> None:
    def key(case: Case) -> str:
        return verdict_key(make(case))

    other = on_ranks({**GOOD, "warm": {SAVED: 0, LOADED: 2}})
    assert len({key(on_ranks(GOOD)), key(other), key(make_case())}) == 3


_COUNTED = st.dictionaries(st.sampled_from(sorted(COUNTERS)[:4]), st.integers(0, 2), max_size=4)


@given(counted=_COUNTED, ranks=st.integers(1, 4))
def test_ranks_that_count_alike_differ_as_one_process_would(
    counted: dict[str, int], ranks: int
) -> None:
    rules = next(rule for rule in RULES.rules if rule.start == "cold").expects
    alone = compare(rules, counted, RULES.rules[0].start)
    every = compare_ranks(rules, dict.fromkeys(range(ranks), counted), RULES.rules[0].start)
    assert [differing._replace(rank=None) for differing in every] == list(alone) * ranks


@given(counted=st.lists(_COUNTED, min_size=1, max_size=4))
def test_ranks_drift_exactly_where_one_counts_otherwise(counted: list[dict[str, int]]) -> None:
    start = RULES.rules[0].start
    found = compare_ranks({}, dict(enumerate(counted)), start)
    differing = {
        (rank, name)
        for rank, counters in enumerate(counted)
        for name in COUNTERS
        if counters.get(name, 0) != counted[0].get(name, 0)
    }
    assert {(item.rank, item.counter) for item in found} == differing


def test_a_record_of_one_process_is_judged_as_before() -> None:
    record: Record = make(make_case())
    assert record.cases[0].starts[0].counted == {None: GOOD["cold"]}
    assert judge(record, RULES).verdict == "compatible"


def test_a_rule_is_proposed_of_what_all_ranks_count_alike() -> None:
    def proposed(case: Case) -> dict[str, dict[str, int]]:
        record = whole(cases=(case,))
        parts = calibrate(record, Expectations(rules=())).parts
        return {
            str(part.rule.start): dict(part.rule.counters)
            for part in parts
            if isinstance(part, NewRule)
        }

    assert proposed(on_ranks(GOOD)) == GOOD
    other = {**GOOD, "warm": {SAVED: 0, LOADED: 2}}
    assert proposed(on_ranks(other)) == {**GOOD, "warm": {SAVED: 0}}


REAL = {
    "0.20": "results/cuda/py312-torch211-vllm020.20261129T105513Z.json",
    "0.26": "tests/verdict/two_gpus/py312-torch211-vllm026.20261129T105515Z.json",
}


@pytest.mark.parametrize(
    ("vllm", "verdict", "provisional"),
    [("0.20", "compatible", None), ("0.26", "untested", "counts as vLLM 0.20 did")],
)
def test_the_real_records_of_two_gpus(vllm: str, verdict: str, provisional: str | None) -> None:
    """Both ranks of both releases count alike, and what 0.20 did is expected of 0.20 alone."""
    record = read(Path(__file__).parents[2] / REAL[vllm])
    found = judge(record, load_expectations())
    assert found.verdict == verdict and len(found.cases) == 11
    cases = [case for case in found.cases if case.case.startswith("tensor_parallel_startup")]
    assert [case.verdict for case in cases] == [verdict] * 2
    starts = [
        start
        for case in record.cases
        if case.case.startswith("tensor_parallel_startup")
        for start in case.starts
    ]
    assert len(starts) == 4
    for start in starts:
        first, second = start.ranks or ()
        counted = COUNTERS & first.counters.keys()
        assert len(counted) >= 8
        for counter in counted:
            assert first.counters[counter] == second.counters[counter] == start.counters[counter]
    lines = render(record, found, "r.json")
    assert (provisional or "as expected") in lines and ("provisional" in lines) == bool(provisional)
