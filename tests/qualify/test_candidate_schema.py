"""The schema of `matrix qualify CANDIDATE --json`: it names every code, and no key is optional."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from matrix.qualify.candidate_plan import LeftOutCode
from matrix.qualify.model import QualificationVerdict
from matrix.qualify.query import Side
from matrix.qualify.watch import FindingKind, Status
from matrix.verdict.plan_reasons import PlanCode
from qualifications import CANDIDATE_SCHEMA, OF_A_CANDIDATE

DEFS = CANDIDATE_SCHEMA["$defs"]
FINDING = DEFS["watch"]["properties"]["findings"]["items"]["properties"]


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema of an object with named keys, at any depth."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


@pytest.mark.parametrize(
    ("named", "codes"),
    [
        (DEFS["side"]["enum"], Side),
        (DEFS["status"]["enum"], Status),
        (DEFS["watch"]["properties"]["counts"]["required"], Status),
        (FINDING["kind"]["enum"], FindingKind),
        (DEFS["left_out"]["properties"]["code"]["enum"], LeftOutCode),
        (DEFS["planned"]["properties"]["because"]["properties"]["code"]["enum"], PlanCode),
        (CANDIDATE_SCHEMA["properties"]["verdict"]["enum"], QualificationVerdict),
        (DEFS["nothing_new"]["properties"]["verdict"]["enum"], QualificationVerdict),
    ],
)
def test_every_code_is_named(named: list[str], codes: Iterable[str]) -> None:
    assert sorted(named) == sorted(codes)


def test_no_key_is_optional_or_unknown() -> None:
    root, *parts = objects(CANDIDATE_SCHEMA)
    assert len(parts) > 8
    for part in parts:
        assert part["required"] == list(part["properties"])
        assert part["additionalProperties"] is False
    one_of = ["plan"], ["nothing_new"]
    answer = root["properties"].keys() - {"schema", "plan", "nothing_new"}
    assert root["required"] == ["schema"]
    assert root["oneOf"] == [{"required": names} for names in one_of]
    assert root["dependentRequired"].keys() == answer
    assert set(root["dependentRequired"]["verdict"]) == {"plan", *answer} - {"verdict"}


def test_the_schema_itself_is_one() -> None:
    OF_A_CANDIDATE.check_schema(CANDIDATE_SCHEMA)
