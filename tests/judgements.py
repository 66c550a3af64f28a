"""Records of a few cases, their rules, and the verdict on them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import rules
from matrix.record.model import (
    Case,
    Outcome,
    Platform,
    Record,
    Start,
    StartKind,
)
from matrix.report.reasons import reason_words
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import parse_expectations
from matrix.verdict.judge import (
    CellVerdict,
    judge,
)
from matrix.verdict.reasons import VerdictReason

RULES = parse_expectations(
    rules.MOE_TEXT
    + """
[[rule]]
id = "warm-mega"
case = "moe"
vllm = "<99"
start = "warm"
torch = ">=2.10"
flags = { VLLM_USE_MEGA_AOT_ARTIFACT = true }
counters = { num_compiled_artifacts_loaded = 1 }
evidence = ["a record"]

[[rule]]
id = "dense"
case = "dense"
vllm = "<99"
start = "cold"
counters = { num_compiled_artifacts_saved = 3 }
evidence = ["a record"]
""",
    "rules.toml",
)


GOOD: Mapping[str, Mapping[str, int]] = {
    "cold": {"num_compiled_artifacts_saved": 3},
    "warm": {"num_compiled_artifacts_saved": 0, "num_compiled_artifacts_loaded": 3},
}


def make_case(
    name: str = "moe",
    outcome: str = "passed",
    counters: Mapping[str, Mapping[str, int]] = GOOD,
    **more: Any,
) -> Case:
    starts = tuple(
        Start(start=StartKind(start), seconds={"total": 1.0}, counters=counts)
        for start, counts in counters.items()
    )
    return Case(case=name, outcome=Outcome(outcome), starts=starts, **more)


def make(*cases: Case, **changes: Any) -> Record:
    record = Record(
        cell="py311-torch210-vllm019",
        platform=Platform.CPU,
        finished=True,
        provenance={
            "started": "2026-11-22T18:00:00Z",
            "torch": "2.10.0+cu128",
            "vllm": "0.19.1",
        },
        cases=cases,
    )
    return dataclasses.replace(record, **changes)


def judged(*cases: Case, rules: Expectations = RULES, **changes: Any) -> CellVerdict:
    return judge(make(*cases, **changes), rules)


def words(reason: VerdictReason | None) -> str | None:
    """Return the sentence of a reason, None for none."""
    return None if reason is None else reason_words(reason)
