"""A record as text: each value survives, schema and reader agree, bad ones are named."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from full_record import CELL, VALIDATOR, make, some_records
from matrix.errors import MatrixError
from matrix.record.content import content_hash
from matrix.record.model import (
    EVENT_LIMIT,
    EVENTS_LIMIT,
    FAILURE_LIMIT,
    ErrorKind,
    Record,
    RecordError,
    RunError,
    StartKind,
    clip_failure,
)
from matrix.record.reader import parse, read
from matrix.record.writer import to_json

DEPARTURE: dict[str, object] = {
    "name": "flashinfer-python",
    "required": "flashinfer-python==0.6.14",
    "installed": None,
    "why": "missing",
    "by": "bundle",
    "imports": [],
}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(some_records)
def test_a_record_survives_its_text(record: Record) -> None:
    text = to_json(record)
    assert parse(text, "r") == record
    assert to_json(parse(text, "r")) == text
    assert text.isascii() and text.endswith("\n")


@settings(deadline=None)
@given(some_records, st.randoms())
def test_the_text_does_not_depend_on_the_order_of_keys(record: Record, random: Any) -> None:
    data = json.loads(to_json(record))
    keys = list(data)
    random.shuffle(keys)
    assert to_json(parse(json.dumps({key: data[key] for key in keys}), "r")) == to_json(record)


@settings(deadline=None)
@given(some_records, st.data())
def test_a_part_of_a_record_is_no_record(record: Record, data: st.DataObject) -> None:
    text = to_json(record).rstrip()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(RecordError, match=r"^here: not a record"):
        parse(text[:cut], "here")


@settings(deadline=None)
@given(st.lists(st.sampled_from(range(40)), min_size=1, max_size=3), json_values)
def test_any_value_in_any_place_is_a_record_or_an_error(steps: list[int], value: object) -> None:
    data: Any = json.loads(to_json(make(error=RunError(kind=ErrorKind.CRASHED, reason="why"))))
    place = data
    for step in steps[:-1]:
        inner = list(place.values()) if isinstance(place, dict) else list(place)
        inner = [item for item in inner if isinstance(item, (dict, list)) and item]
        place = inner[step % len(inner)] if inner else place
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    place[keys[steps[-1] % len(keys)]] = value
    try:
        record = parse(json.dumps(data), "here")
    except RecordError as error:
        assert str(error).startswith("here: ")
        assert "\n" not in str(error)
    else:
        assert parse(to_json(record), "here") == record


def broken(change: Callable[[Any], object]) -> str:
    data = json.loads(to_json(make()))
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("  \n", "the file is empty"),
        ("{", "truncated"),
        ("no", "not JSON at line 1, column 1"),
        ("[]", "must be an object"),
        ("{}", "has no key 'schema'"),
        ('{"schema": 4}', "schema: is 4, newer than this matrix knows (3); update"),
        ('{"schema": 0}', "schema: is 0, but must be 1 to 3"),
        ('{"schema": true}', "schema: is true"),
        ('{"schema": "1"}', 'schema: is "1"'),
        ('{"schema": 1, "schema": 1}', "stands there twice"),
        ('{"schema": NaN}', "not a finite number"),
        ('{"schema": 1e999}', "not a finite number"),
        ("[" * 100_000, "too deep or too large"),
        ("9" * 10_000, "too deep or too large"),
        (broken(lambda d: d.pop("rungs")), "has no key 'rungs'"),
        (broken(lambda d: d.update(user="joe")), "unknown key 'user'"),
        (broken(lambda d: d.update(cell="py311")), "cell: no cell: "),
        (broken(lambda d: d.update(cell="py311-torch210")), "a cell's full name"),
        (broken(lambda d: d.update(cell=f"{CELL}\n")), "cell: no cell: "),
        (broken(lambda d: d.update(platform="tpu")), 'platform: is "tpu", but must be one of cuda'),
        (broken(lambda d: d.update(finished=1)), "finished: is 1, but must be true or false"),
        (broken(lambda d: d.update(error={"kind": "bad"})), "error: has no key 'reason'"),
        (broken(lambda d: d.update(error="bad")), "error: is"),
        (
            broken(lambda d: d.update(error={"kind": "bad", "reason": ""})),
            "error.kind: is",
        ),
        (broken(lambda d: d["provenance"].pop("started")), "provenance: has no key 'started'"),
        (broken(lambda d: d["provenance"].update(started=None)), "provenance.started: is null"),
        (broken(lambda d: d["provenance"].update(seconds=None)), "provenance.seconds: is null"),
        (broken(lambda d: d.update(schema=None)), "schema: is null, but must be a count"),
        (broken(lambda d: d.update(flags={"a\nb": []})), "flags.'a\\nb': is [], but must be"),
        (
            broken(lambda d: d["provenance"].update(x=1)),
            "provenance: has an unknown key 'x'; known",
        ),
        (broken(lambda d: d["provenance"].pop("gpu")), "provenance: has no key 'gpu'"),
        (
            broken(lambda d: d["provenance"].update(os=None)),
            "provenance.os: is null, but must be a",
        ),
        (
            broken(lambda d: d["provenance"].update(torch=2)),
            "provenance.torch: is 2, but must be a",
        ),
        (
            broken(lambda d: d["provenance"].update(jobs=0)),
            "provenance.jobs: is 0, but must be a count (an integer from 1 up, of 64 bits)",
        ),
        (
            broken(lambda d: d["provenance"].update(memory_mib=-1)),
            "provenance.memory_mib: is -1, but must be a number from 0 up, or null",
        ),
        (
            broken(lambda d: d["provenance"].update(memory_mib="@")).replace('"@"', "1e999"),
            "provenance.memory_mib: is not a finite number",
        ),
        (broken(lambda d: d["provenance"]["cpu"].pop("cores")), "cpu: has no key 'cores'"),
        (broken(lambda d: d["provenance"]["cpu"].update(cores=0)), "cpu.cores: is 0, but must be"),
        (broken(lambda d: d["provenance"].update(gpu={})), "provenance.gpu: has no key 'name'"),
        (
            broken(lambda d: d["provenance"].update(gpu="A100")),
            'gpu: is "A100", but must be an obj',
        ),
        (
            broken(lambda d: d["provenance"].update(gpu={"name": "A100", "capability": "sm_80"})),
            'gpu.capability: is "sm_80", but must be a compute capability such as 8.9, or null',
        ),
        (
            broken(lambda d: d["provenance"].update(tests={"commit": None})),
            "provenance.tests: has neither the key 'version' nor 'fingerprint'",
        ),
        (
            broken(lambda d: d["provenance"]["tests"].update(fingerprint="md5:0")),
            'tests.fingerprint: is "md5:0", but must be a text that begins with sha256:',
        ),
        (
            broken(lambda d: d["provenance"].update(command=["a", 1])),
            "command[1]: is 1, but must be",
        ),
        (
            broken(lambda d: d["provenance"].update(model_source="disk")),
            'provenance.model_source: is "disk", but must be one of data, hub',
        ),
        (broken(lambda d: d["cases"][0].update(case="")), 'cases[0].case: is "", but must be the'),
        (
            broken(lambda d: d["cases"][0].update(outcome="ok", failure=1)),
            "cases[0].outcome: is",
        ),
        (broken(lambda d: d["provenance"].update(seconds=10**400)), "provenance.seconds: is 1000"),
        (
            broken(lambda d: d["provenance"].update(started="2026-13-41T00:00:00Z")),
            "provenance.started: is",
        ),
        (
            broken(lambda d: d["provenance"].update(started="2026-11-22T18:00:00+01:00")),
            "provenance.started: is",
        ),
        (broken(lambda d: d["packages"].update(torch=2)), "packages.torch: is 2"),
        (broken(lambda d: d["flags"].update(A=[1])), "flags.A: is [1]"),
        (
            broken(lambda d: d["flags"].update(A="@")).replace('"@"', "1e999"),
            "flags.A: is not a finite number",
        ),
        (
            broken(lambda d: d["cases"][0].update(seconds="@")).replace('"@"', "1e999"),
            "cases[0].seconds: is not a finite number",
        ),
        (broken(lambda d: d.update(cases={})), "cases: is {}, but must be a list"),
        (broken(lambda d: d["cases"][0].update(outcome="ok")), "cases[0].outcome: is"),
        (broken(lambda d: d["cases"][0].update(seconds=-1)), "cases[0].seconds: is -1"),
        (broken(lambda d: d["cases"][0].update(seconds="1")), 'cases[0].seconds: is "1"'),
        (broken(lambda d: d["cases"][0].update(seconds=10**400)), "cases[0].seconds: is 1000"),
        (
            broken(lambda d: d["cases"][0].update(failure="x" * (FAILURE_LIMIT + 1))),
            "cases[0].failure: has 16385 characters, but at most 16384 are kept",
        ),
        (broken(lambda d: d["cases"].append(d["cases"][0])), "cases[1]: is the second case"),
        (
            broken(lambda d: d["cases"][0]["starts"].append(d["cases"][0]["starts"][0])),
            "cases[0].starts[2]: is the second cold start",
        ),
        (
            broken(lambda d: d["cases"][0]["starts"][0]["counters"].update(x=True)),
            "cases[0].starts[0].counters.x: is true",
        ),
        (
            broken(lambda d: d["cases"][0]["starts"][0]["counters"].update(x=2**63)),
            "cases[0].starts[0].counters.x: is 9223372036854775808, but must be a count",
        ),
        (
            broken(lambda d: d["cases"][0]["starts"][0]["counters"].update(x=1.0)),
            "cases[0].starts[0].counters.x: is 1.0",
        ),
        (broken(lambda d: d["rungs"][0].update(rung="flies")), "rungs[0].rung: is"),
        (broken(lambda d: d.update(departures={})), "departures: is {}, but must be a list"),
        (broken(lambda d: d.update(departures=[{}])), "departures[0]: has no key 'name'"),
        (
            broken(lambda d: d.update(departures=[{**DEPARTURE, "why": "x"}])),
            'departures[0].why: is "x", but must be one of missing',
        ),
        (
            broken(lambda d: d.update(departures=[{**DEPARTURE, "imports": [1]}])),
            "departures[0].imports[0]: is 1, but must be a string",
        ),
        (broken(lambda d: d.update(deselected=-1)), "deselected: is -1, but must be a count"),
        (broken(lambda d: d.update(deselected=None)), "deselected: is null, but must be a count"),
    ],
)
def test_a_bad_text_names_its_file_its_key_and_its_fault(text: str, said: str) -> None:
    with pytest.raises(RecordError) as caught:
        parse(text, "records/cpu/x.json")
    assert str(caught.value).startswith("records/cpu/x.json: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, MatrixError)


@pytest.mark.parametrize("key", ["error", "provenance", "flags", "rungs", "platform"])
def test_no_depth_is_another_error(key: str) -> None:
    for depth in range(5, 1200, 13):
        text = broken(lambda d: d.update({key: "@"})).replace('"@"', "[" * depth + "]" * depth)
        with pytest.raises(RecordError, match=r"^r: "):
            parse(text, "r")


def test_a_version_of_more_digits_than_python_reads_is_none(tmp_path: Path) -> None:
    path = tmp_path / f"{CELL}.json"
    path.write_text(broken(lambda d: d["provenance"].update(torch="1" * 5000)), encoding="utf-8")
    assert read(path).cell == CELL


def test_a_value_that_json_cannot_hold_is_refused() -> None:
    for wrong in (float("nan"), object()):
        with pytest.raises(RecordError, match=f"^{CELL}: cannot be written"):
            to_json(make(flags={"A": wrong}))


def test_the_case_knows_its_starts() -> None:
    case = make().cases[0]
    cold = case.started(StartKind.COLD)
    assert cold is not None and cold.seconds["total"] == 61.2
    assert dataclasses.replace(case, starts=()).started(StartKind.WARM) is None


def test_a_long_failure_keeps_its_end() -> None:
    assert clip_failure("short") == "short"
    clipped = clip_failure("x" * FAILURE_LIMIT + "the end")
    assert len(clipped) == FAILURE_LIMIT and clipped.endswith("the end")


@pytest.mark.parametrize(("jobs", "known"), [(7, 7), (1, 1), (None, 1), ("7", 1), (True, 1)])
def test_how_many_ran_side_by_side(jobs: object, known: int) -> None:
    record = make()
    assert record.jobs == 1
    assert dataclasses.replace(record, provenance={**record.provenance, "jobs": jobs}).jobs == known


def test_a_record_from_before_deselected_was_counted_is_complete() -> None:
    old = json.loads(to_json(make(deselected=5)))
    del old["deselected"]
    assert parse(json.dumps(old), "r") == make(deselected=0)
    assert make().is_complete and not make(deselected=5).is_complete
    assert not make(finished=False).is_complete and not make(cases=()).is_complete


def test_nobody_looked_at_the_packages_of_a_record_from_before_departures() -> None:
    old = json.loads(to_json(make(departures=())))
    assert old.pop("departures") == []
    assert parse(json.dumps(old), "r").departures is None


def test_a_record_from_before_events_says_nothing_of_them() -> None:
    [case] = make().cases
    [cold, warm] = case.starts
    assert (cold.events, '"events"' in to_json(make())) == (None, False)
    heard = make(
        cases=(dataclasses.replace(case, starts=(dataclasses.replace(cold, events=()), warm)),)
    )
    [read_cold, read_warm] = parse(to_json(heard), "a").cases[0].starts
    # Nobody listened is not that nothing was logged.
    assert (read_cold.events, read_warm.events) == ((), None)
    assert content_hash(heard) != content_hash(make())


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        (None, r"events: is null, but must be a list"),
        (
            [{"kind": "x", "text": "", "count": 1}],
            r"events\[0\]\.kind: is \"x\", but must be one of",
        ),
        (
            [{"kind": "fell_back", "text": "", "count": 0}],
            r"events\[0\]\.count: is 0, but must be a count",
        ),
        (
            [{"kind": "fell_back", "text": "x" * (EVENT_LIMIT + 1), "count": 1}],
            r"events\[0\]\.text: has 401 characters",
        ),
        (
            [{"kind": "fell_back", "text": "", "count": 1}] * (EVENTS_LIMIT + 1),
            r"events: has 33 items",
        ),
        ([{"kind": "fell_back", "text": ""}], r"events\[0\]: has no key 'count'"),
    ],
)
def test_bad_events_are_named(events: object, fault: str) -> None:
    content = json.loads(to_json(make()))
    content["cases"][0]["starts"][0]["events"] = events
    assert list(VALIDATOR.iter_errors(content))
    with pytest.raises(RecordError, match=fault):
        parse(json.dumps(content), "a")


FILES = {"files": 3, "bytes": 9, "new_files": 1, "new_bytes": 2}
START, RECORD = ("cases", 0, "starts", 0), ()
CONFIG = "torch._inductor.config"
CHECK: dict[str, dict[str, int]] = {"cold": {}, "warm": {}, "graphs": {}}
STEP = {"seconds": 1.5, "reason": "g++: not found"}


def test_a_record_from_before_caches_says_nothing_of_them() -> None:
    [case] = make().cases
    text = to_json(make())
    assert not {'"caches"', '"metrics"', '"defaults"', '"cache_check"'} & set(
        re.findall(r'"\w+"', text)
    )
    read_back = parse(text, "a")
    assert read_back.defaults is None
    assert {(start.caches, start.metrics) for start in read_back.cases[0].starts} == {(None, None)}
    known = dataclasses.replace(case.starts[0], caches={}, metrics={})
    empty = make(defaults={}, cases=(dataclasses.replace(case, starts=(known,)),))
    assert parse(to_json(empty), "a") == empty != make()


@pytest.mark.parametrize("key", ["cpp_compiler", "inspections"])
def test_a_record_from_before_a_step_does_not_know_it(key: str) -> None:
    text = to_json(make())
    assert f'"{key}"' not in text and getattr(parse(text, "a"), key) is None
    content = json.loads(text)
    content[key] = STEP
    assert VALIDATOR.is_valid(content)
    step = getattr(parse(json.dumps(content), "a"), key)
    assert (step.seconds, step.reason) == (1.5, "g++: not found")


@pytest.mark.parametrize(
    ("place", "key", "value", "fault"),
    [
        (START, "caches", None, "caches: is null, but must be an object"),
        (START, "caches", {"unheard": FILES}, "caches: has an unknown key 'unheard'"),
        (START, "caches", {"fxgraph": {"files": 3}}, "caches.fxgraph: has no key 'bytes'"),
        (
            START,
            "caches",
            {"fxgraph": {**FILES, "bytes": -1}},
            "caches.fxgraph.bytes: is -1, but must be a count",
        ),
        (START, "metrics", {"x": 1.5}, "metrics.x: is 1.5, but must be a count"),
        (START, "metrics", {str(n): n for n in range(65)}, "metrics: has 65 items"),
        (RECORD, "cache_check", None, "cache_check: is null, but must be an object"),
        (RECORD, "cache_check", {"cold": {}, "warm": {}}, "cache_check: has no key 'graphs'"),
        (RECORD, "cache_check", {**CHECK, "cold": {"x": -1}}, "cache_check.cold.x: is -1"),
        (RECORD, "cache_check", {**CHECK, "new": {}}, "cache_check: has an unknown key 'new'"),
        (
            RECORD,
            "cache_check",
            {**CHECK, "warm": {str(n): n for n in range(65)}},
            "cache_check.warm: has 65 items",
        ),
        (RECORD, "cpp_compiler", None, "cpp_compiler: is null, but must be an object"),
        (RECORD, "cpp_compiler", {"reason": None}, "cpp_compiler: has no key 'seconds'"),
        (RECORD, "cpp_compiler", {**STEP, "seconds": -1}, "cpp_compiler.seconds: is -1"),
        (RECORD, "cpp_compiler", {**STEP, "reason": 3}, "cpp_compiler.reason: is 3"),
        (RECORD, "cpp_compiler", {**STEP, "new": 3}, "cpp_compiler: has an unknown key 'new'"),
        (RECORD, "inspections", None, "inspections: is null, but must be an object"),
        (RECORD, "inspections", {"seconds": 1}, "inspections: has no key 'reason'"),
        (RECORD, "inspections", {**STEP, "seconds": -1}, "inspections.seconds: is -1"),
        (RECORD, "inspections", {**STEP, "new": 3}, "inspections: has an unknown key 'new'"),
        (RECORD, "defaults", [], "defaults: is [], but must be an object"),
        (RECORD, "defaults", {str(n): {} for n in range(9)}, "defaults: has 9 items"),
        (RECORD, "defaults", {CONFIG: 1}, f"defaults.{CONFIG}: is 1, but must be an object"),
        (RECORD, "defaults", {CONFIG: {"x": {}}}, f"{CONFIG}.x: is {{}}, but must be true, false"),
        (RECORD, "defaults", {CONFIG: {"x": [[]]}}, f"{CONFIG}.x: is [[]], but must be true"),
        (RECORD, "defaults", {CONFIG: {"x": [1] * 17}}, f"{CONFIG}.x: is [1, 1"),
        (RECORD, "defaults", {CONFIG: {"x": "y" * 201}}, f"{CONFIG}.x: is"),
        (RECORD, "defaults", {CONFIG: {"x" * 201: 1}}, f"{CONFIG}: has a key of 201 characters"),
        (
            RECORD,
            "defaults",
            {CONFIG: {str(n): n for n in range(4001)}},
            f"defaults.{CONFIG}: has 4001 items, but at most 4000",
        ),
    ],
)
def test_bad_observations_of_the_compiler_are_named(
    place: tuple[str | int, ...], key: str, value: object, fault: str
) -> None:
    content = json.loads(to_json(make()))
    inner = content
    for step in place:
        inner = inner[step]
    inner[key] = value
    assert list(VALIDATOR.iter_errors(content))
    with pytest.raises(RecordError, match=re.escape(fault)):
        parse(json.dumps(content), "a")
