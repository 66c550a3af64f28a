"""The schema and the reader accept the same records."""

import json
from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from full_record import CELL, SCHEMA_FILE, VALIDATOR, some_records
from matrix.catalog.cells import Made
from matrix.record.model import (
    FAILURE_LIMIT,
    OUTCOMES,
    PLATFORMS,
    SCHEMA,
    STARTS,
    By,
    ErrorKind,
    Record,
    RecordError,
    Rung,
    Why,
)
from matrix.record.reader import parse
from matrix.record.writer import to_json


@settings(deadline=None)
@given(some_records)
def test_what_is_written_obeys_the_schema(record: Record) -> None:
    assert obeys(json.loads(to_json(record)))


def obeys(data: object) -> bool:
    return bool(VALIDATOR.is_valid(data))


def refusal(data: object) -> str | None:
    try:
        parse(json.dumps(data), "r")
    except RecordError as error:
        return str(error)
    return None


# Each can stand anywhere in a record. Left out is what JSON Schema cannot tell apart or express:
# whole numbers written as 1.0, infinity, days in no calendar, names of cells that no version has.
odd_values = st.sampled_from(
    (
        *(None, True, False, 0, 1, -1, 1.5, -0.5, 23, 10**12, 2**63 - 1, 2**63, 10**400),
        *(
            "",
            "x",
            "cpu",
            "hub",
            "8.9",
            "8",
            "sha256:",
            "sha25",
            "2026-11-22T18:00:00Z",
            "2026-11-22",
        ),
        *("passed", "imports", "cold", CELL, "py311-torch210", "x" * (FAILURE_LIMIT + 1)),
        *([], ["x"], [1], {}, {"x": "y"}, {"x": 1}, {"x": None}, {"x": [1]}),
        *(
            {"name": "GPU"},
            {"name": "GPU", "capability": "8.9"},
            {"name": "GPU", "capability": "8"},
        ),
        *({"name": "GPU", "driver": None, "memory_mib": 1.5}, {"name": None}, {"driver": "570"}),
        *({"model": None, "cores": None}, {"model": "x", "cores": 0}, {"cores": 1}),
        *({"commit": None}, {"commit": None, "version": 22}, {"commit": "x", "version": 0}),
        *({"commit": "x", "fingerprint": "sha256:0"}, {"commit": 1, "fingerprint": "sha256:0"}),
        *(
            {"kind": "imports", "reason": "why"},
            {"kind": "x", "reason": "why"},
            {"kind": "imports"},
        ),
        [{"rung": "links", "ok": True, "seconds": 0, "reason": None}],
        [{"start": "cold", "seconds": {}, "counters": {}}],
        [{"start": "warm", "seconds": {"total": -1}, "counters": {}}],
        [{"start": "warm", "seconds": {}, "counters": {"x": 1.5}}],
    )
)


def containers(data: object) -> list[Any]:
    inner = list(data.values()) if isinstance(data, dict) else data
    if not isinstance(inner, list):
        return []
    return [data, *(container for item in inner for container in containers(item))]


@settings(deadline=None, max_examples=150)
@given(some_records, st.data())
def test_the_schema_and_the_reader_accept_the_same(record: Record, draw: st.DataObject) -> None:
    data = json.loads(to_json(record))
    assert obeys(data) and refusal(data) is None
    for _ in range(draw.draw(st.integers(1, 2))):
        place = draw.draw(st.sampled_from(containers(data)))
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        change = draw.draw(st.sampled_from(("replace", "replace", "add", "remove")))
        if change == "add" and isinstance(place, dict):
            key = draw.draw(
                st.sampled_from(("x", "jobs", "deselected", "version", "gpu", "started"))
            )
            place[key] = deepcopy(draw.draw(odd_values))
        elif keys and change == "remove":
            del place[draw.draw(st.sampled_from(keys))]
        elif keys:
            place[draw.draw(st.sampled_from(keys))] = deepcopy(draw.draw(odd_values))
    why = refusal(data)
    # A case's name or a start can be there twice now, which only the reader refuses.
    assert obeys(data) == (why is None) or "is the second" in str(why), (why, data)


def test_the_schema_and_the_module_agree() -> None:
    properties = SCHEMA_FILE["properties"]
    case = SCHEMA_FILE["$defs"]["case"]["properties"]
    assert properties["schema"]["enum"] == list(range(1, SCHEMA + 1))
    assert properties["platform"]["enum"] == list(PLATFORMS)
    assert properties["error"]["oneOf"][1]["properties"]["kind"]["enum"] == list(ErrorKind)
    departure = properties["departures"]["items"]["properties"]
    assert departure["why"]["enum"] == list(Why) and departure["by"]["enum"] == list(By)
    assert properties["rungs"]["items"]["properties"]["rung"]["enum"] == list(Rung)
    assert properties["origins"]["items"]["properties"]["made"]["enum"] == list(Made)
    assert case["outcome"]["enum"] == list(OUTCOMES)
    assert case["failure"]["maxLength"] == FAILURE_LIMIT
    assert case["starts"]["items"]["properties"]["start"]["enum"] == list(STARTS)
