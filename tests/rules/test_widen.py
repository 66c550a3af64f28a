"""What `matrix calibrate` proposes for a record beyond the end of the rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrix._util.versions import VersionRange
from matrix.record.model import Case, Outcome, Platform, Record, Start, StartKind
from matrix.record.reader import read
from matrix.report.calibrate import render
from matrix.rules import calibrate as module
from matrix.rules.expectations import Expectations, Rule
from matrix.rules.expectations_file import load_expectations, parse_expectations
from matrix.rules.rule_toml import rule_toml
from matrix.verdict.judge import judge

ROOT = Path(__file__).parents[2]
SHIPPED = load_expectations()
SAVED, LOADED = "num_compiled_artifacts_saved", "num_compiled_artifacts_loaded"
KNOWN = """
[[rule]]
id = "cold"
case = "moe"
platform = "cuda"
torch = ">=2.10,<2.14"
vllm = ">=0.19,<0.33"
start = "cold"
counters = { num_compiled_artifacts_saved = 3, num_compiled_artifacts_loaded = 0 }
evidence = ["results/cuda/py312-torch213-vllm032.json"]

[[rule]]
id = "warm"
case = "moe"
platform = "cuda"
vllm = "==0.32.*"
start = "warm"
counters = { num_compiled_artifacts_loaded = 3 }
evidence = ["results/cuda/py312-torch213-vllm032.json"]
"""
RULES = parse_expectations(KNOWN, "known.toml")
OLD: Mapping[str, Mapping[str, int]] = {"cold": {SAVED: 3, LOADED: 0}, "warm": {LOADED: 3}}


def calibrate(record: Record, expectations: Expectations, **options: Any) -> str:
    """Return what the command prints."""
    return render(module.calibrate(record, expectations, **options))


def record(
    *counted: Mapping[str, Mapping[str, int]],
    vllm: str = "0.34.0",
    torch: str = "2.13.0+cu130",
    platform: str = "cuda",
    cases: tuple[str, ...] = ("moe",),
) -> Record:
    cell = f"py312-torch{torch[:4].replace('.', '')}-vllm{vllm[:4].replace('.', '')}"
    return Record(
        cell=cell,
        platform=Platform(platform),
        finished=True,
        provenance={"started": "2026-11-28T12:00:00Z", "torch": torch, "vllm": vllm},
        cases=tuple(
            Case(
                case=name,
                outcome=Outcome.PASSED,
                starts=tuple(
                    Start(start=StartKind(start), seconds={"total": 1.0}, counters=counts)
                    for start, counts in starts.items()
                ),
            )
            for name, starts in zip(cases, counted, strict=True)
        ),
    )


def pasted(text: str, known: Expectations) -> Expectations:
    """Return the rules after a person pasted what was proposed, each rule once by its id."""
    proposed = {rule.id: rule for rule in parse_expectations(text, "proposed.toml").rules}
    kept = [proposed.pop(rule.id, rule) for rule in known.rules]
    return Expectations(rules=(*kept, *proposed.values()))


def by_id(expectations: Expectations) -> dict[str, Rule]:
    return {rule.id: rule for rule in expectations.rules}


def test_a_record_that_counts_the_same_widens_the_rule() -> None:
    text = calibrate(record(OLD), RULES)
    assert text == (
        "# rule 'cold' ends before this record, which counts the same: replace it with this\n"
        + KNOWN.partition('\n\n[[rule]]\nid = "warm"')[0]
        .strip()
        .replace("<0.33", "<0.35")
        .replace(
            '["results/cuda/py312-torch213-vllm032.json"]',
            '[\n    "results/cuda/py312-torch213-vllm032.json",\n'
            '    "results/cuda/py312-torch213-vllm034.json",\n]',
        )
        + "\n\n# rule 'warm' ends before this record, which counts the same: replace it with"
        " this\n"
        "[[rule]]\n"
        'id = "warm"\ncase = "moe"\nplatform = "cuda"\nvllm = ">=0.32,<0.35"\nstart = "warm"\n'
        "counters = { num_compiled_artifacts_loaded = 3 }\n"
        'evidence = [\n    "results/cuda/py312-torch213-vllm032.json",\n'
        '    "results/cuda/py312-torch213-vllm034.json",\n]\n'
    )


def test_a_record_that_counts_otherwise_begins_another_rule() -> None:
    text = calibrate(record({**OLD, "cold": {SAVED: 4, LOADED: 0}}), RULES)
    assert text.startswith(
        "# rule 'cold' ends before this record, which counts otherwise: add this, and leave that"
        ' one unchanged\n[[rule]]\nid = "cold-0.34"\n'
    )
    new = by_id(pasted(text, RULES))
    assert (new["cold"], new["cold"].vllm.text) == (RULES.rules[0], ">=0.19,<0.33")
    split = new["cold-0.34"]
    assert (split.vllm.text, split.torch.text) == (">=0.34,<0.35", ">=2.10,<2.14")
    assert (split.counters, split.case) == ({SAVED: 4, LOADED: 0}, "moe")
    assert split.evidence == ("results/cuda/py312-torch213-vllm034.json",)
    assert new["warm"].vllm.text == ">=0.32,<0.35"


def test_a_torch_beyond_the_end_widens_or_splits_torch() -> None:
    same = by_id(pasted(calibrate(record(OLD, vllm="0.32.0", torch="2.16.0"), RULES), RULES))
    assert (same["cold"].torch.text, same["cold"].vllm.text) == (">=2.10,<2.17", ">=0.19,<0.33")
    other = record({**OLD, "cold": {SAVED: 4}}, vllm="0.32.0", torch="2.16.0")
    text = calibrate(other, RULES)
    assert "# it does not count num_compiled_artifacts_loaded at all\n" in text
    split = by_id(pasted(text, RULES))["cold-0.32-torch2.16"]
    assert (split.torch.text, split.vllm.text) == (">=2.16,<2.17", ">=0.32,<0.33")
    assert split.counters == {SAVED: 4}


def test_a_rule_of_both_platforms_is_not_widened_by_a_record_of_one() -> None:
    both = Expectations(
        rules=tuple(dataclasses.replace(rule, platform=None) for rule in RULES.rules)
    )
    text = calibrate(record(OLD), both)
    assert "# rule 'cold' ends before this record, which counts the same, on cuda alone: " in text
    new = by_id(pasted(text, both))["cuda-cold-0.34"]
    assert (new.platform, new.counters) == ("cuda", RULES.rules[0].counters)
    assert judge(record(OLD), pasted(text, both)).verdict == "compatible"


def test_a_rule_of_the_other_platform_hinders_nobody() -> None:
    of_cpu = KNOWN.replace('"cuda"', '"cpu"').replace('id = "', 'id = "cpu-')
    wider = of_cpu.replace("<0.33", "<0.40").replace("==0.32.*", ">=0.32,<0.40")
    text = calibrate(record(OLD), parse_expectations(KNOWN + wider, "known.toml"))
    assert text == calibrate(record(OLD), RULES)
    assert "replace it with this" in text


def test_cases_of_one_rule_that_differ_have_a_rule_each() -> None:
    bare = Expectations(rules=(RULES.rules[0],))
    two = record(
        {"cold": {SAVED: 3, LOADED: 0}}, {"cold": {SAVED: 4, LOADED: 0}}, cases=("moe[0]", "moe[1]")
    )
    new = by_id(pasted(calibrate(two, bare), bare))
    assert new["cold-moe[0]-0.34"].counters[SAVED] == 3
    assert new["cold-moe[1]-0.34"].counters[SAVED] == 4
    assert new["cold"] == RULES.rules[0]


def test_what_would_tie_is_not_widened() -> None:
    cold = dataclasses.replace(RULES.rules[0], flags={"Y": True})
    later = dataclasses.replace(
        cold, id="later", flags={"X": True}, vllm=VersionRange(">=0.33,<0.40")
    )
    newer = dataclasses.replace(record(OLD), flags={"X": False, "Y": True})
    text = calibrate(newer, Expectations(rules=(cold, later)))
    assert "counts the same, but a wider rule would tie with another: add this" in text
    assert by_id(parse_expectations(text, "p.toml"))["cold-0.34"].flags == {"Y": True}


def test_a_case_that_failed_proposes_nothing_for_the_ended_rule() -> None:
    failed = record(OLD, OLD, cases=("moe", "dense"))
    cases = (dataclasses.replace(failed.cases[0], outcome=Outcome.FAILED), failed.cases[1])
    text = calibrate(dataclasses.replace(failed, cases=cases), RULES)
    assert 'id = "cold"' not in text and "# moe: failed, so it justifies no rule" in text


@pytest.mark.parametrize("rule", SHIPPED.rules, ids=lambda rule: rule.id)
def test_a_rule_is_read_again_as_it_was_written(rule: Rule) -> None:
    assert parse_expectations(rule_toml(rule), "one.toml").rules == (rule,)


RECORDS = {str(path): read(path) for path in sorted((ROOT / "results").glob("*/*.json"))}
VERDICTS = {name: judge(run, SHIPPED).verdict for name, run in RECORDS.items()}
# A counter that is gone cannot be expected, so that a record without one stays provisional. A case
# that failed justifies no rule, so that its record stays incompatible.
COUNTING = sorted(
    name
    for name, run in RECORDS.items()
    if VERDICTS[name] == "compatible"
    and all("num_aot_compiles" in start.counters for case in run.cases for start in case.starts)
)
NEWER = st.sampled_from(["0.34.0", "0.35.1", "0.40.0", "1.2.0"])
TORCHES = st.sampled_from([None, "2.15.0+cu132", "2.16.0", "3.0.0"])


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(COUNTING),
    vllm=NEWER,
    torch=TORCHES,
    more=st.integers(0, 1),
    place=st.integers(0, 17),
)
def test_what_a_record_proposes_makes_it_compatible(
    name: str, vllm: str, torch: str | None, more: int, place: int
) -> None:
    """The law: after a person pasted the proposal, the record that justified it is as expected."""
    observed = RECORDS[name]
    versions = {"vllm": vllm, "torch": torch or observed.provenance["torch"]}
    provenance = {**observed.provenance, **versions}
    cases = list(observed.cases)
    changed = cases[place % len(cases)]
    starts = tuple(
        dataclasses.replace(
            start,
            counters={
                name: count + more if name == SAVED else count
                for name, count in start.counters.items()
            },
        )
        for start in changed.starts
    )
    cases[place % len(cases)] = dataclasses.replace(changed, starts=starts)
    newer = dataclasses.replace(observed, provenance=provenance, cases=tuple(cases))
    rules = pasted(calibrate(newer, SHIPPED), SHIPPED)
    found = judge(newer, rules)
    assert found.verdict == "compatible", found.reason
    # What was known before is judged as before.
    for known in (name, *sorted(RECORDS)[place % 4 :: 4]):
        assert judge(RECORDS[known], rules).verdict == VERDICTS[known]
