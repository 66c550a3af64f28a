"""What one rank of a start on several GPUs counts otherwise is attributed as any drift is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from attributions import NO_RULES, SAVED, attributed, of, record
from matrix._util.paths import DATA
from matrix.attribution.model import Cause
from matrix.record.model import Rank, Record
from matrix.report.attribution.sentences import sentence, symptom_words
from matrix.report.attribution.values import to_json

SCHEMA = json.loads((DATA / "table.schema.json").read_text("utf-8"))
VALID = Draft202012Validator({**SCHEMA["$defs"]["attribution"], "$defs": SCHEMA["$defs"]})


def ranked(torch: str, *saved: int) -> Record:
    """Return a record whose ranks saved so many artifacts on the warm start."""
    made = record(torch, saved=saved[0])
    (case,) = made.cases
    cold, warm = case.starts
    ranks = tuple(Rank(rank=number, counters={SAVED: count}) for number, count in enumerate(saved))
    return replace(made, cases=(replace(case, starts=(cold, replace(warm, ranks=ranks))),))


@pytest.mark.parametrize("rules", [True, False])
def test_a_rank_that_counts_otherwise_is_torchs_where_torch_changed(*, rules: bool) -> None:
    asked: dict[str, Any] = {} if rules else {"rules": NO_RULES}
    found = of("2.12.0", ranked("2.11.0", 0, 0), ranked("2.12.0", 0, 4), **asked)
    (symptom,) = found.symptoms
    assert (found.answer, symptom.rank, symptom.observed, symptom.wanted) == (Cause.TORCH, 1, 4, 0)
    assert symptom_words(found.symptoms) == f"warm {SAVED} of rank 1 4, not 0"
    assert f"counts warm {SAVED} of rank 1 0 under torch 2.11.0" in sentence(found)
    (value,) = json.loads(to_json([found]))["attributions"]
    VALID.validate(value)
    assert value["symptoms"][0]["rank"] == 1


def test_ranks_that_drift_alike_are_one_symptom() -> None:
    found = of("2.12.0", ranked("2.11.0", 0, 0), ranked("2.12.0", 4, 4))
    assert [(symptom.rank, symptom.observed) for symptom in found.symptoms] == [(None, 4)]
    found = of("2.12.0", ranked("2.11.0", 0, 0), ranked("2.12.0", 4, 3))
    assert [(symptom.rank, symptom.observed) for symptom in found.symptoms] == [(None, 4), (1, 3)]


def test_a_neighbour_whose_ranks_agree_is_clean_whatever_they_count() -> None:
    found = of("2.12.0", ranked("2.11.0", 3, 3), ranked("2.12.0", 0, 4), rules=NO_RULES)
    ranks = [symptom for symptom in found.symptoms if symptom.rank is not None]
    assert [(symptom.rank, symptom.wanted) for symptom in ranks] == [(1, 0)]
    assert found.answer is Cause.TORCH


def test_ranks_that_agree_are_nothing_to_attribute() -> None:
    assert attributed(ranked("2.11.0", 0, 0), ranked("2.12.0", 0, 0)) == ()
