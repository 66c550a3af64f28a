import dataclasses
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrix._util.paths import DATA
from matrix.errors import MatrixError
from matrix.record import model as records
from matrix.record.model import (
    ERROR_KINDS,
    FAILURE_LIMIT,
    OUTCOMES,
    PLATFORMS,
    RUNGS,
    STARTS,
    Case,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RecordError,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
    clip_failure,
    parse,
    read,
    read_many,
    to_json,
    validate,
    write,
)

CELL = "py311-torch210-vllm019"


def make(**changes: Any) -> Record:
    record = Record(
        cell=CELL,
        platform=Platform.CPU,
        finished=True,
        provenance={
            "started": "2026-11-22T18:00:00Z",
            "seconds": 312.4,
            "python": "3.11.7",
            "os": "Linux",
            "machine": "x86_64",
            "cpu": {"model": "EPYC", "cores": 2},
            "memory_mib": 24000,
            "gpu": None,
            "torch": "2.10.0+cu128",
            "vllm": "0.19.1",
            "triton": "3.6.0",
            "cuda": "12.8",
            "tests": {"commit": None, "fingerprint": "sha256:00"},
            "command": ["pytest"],
            "model_source": "data",
        },
        packages={"torch": "2.10.0"},
        flags={"VLLM_USE_AOT_COMPILE": True},
        rungs=(RungResult(rung=Rung.IMPORTS, ok=True, seconds=7.1),),
        cases=(
            Case(
                case="moe_startup[mega_aot=1]",
                outcome=Outcome.PASSED,
                seconds=101.2,
                starts=(
                    Start(
                        start=StartKind.COLD,
                        seconds={"total": 61.2},
                        counters={"num_compiled_artifacts_saved": 3},
                    ),
                    Start(
                        start=StartKind.WARM,
                        seconds={"total": 20.2},
                        counters={"num_compiled_artifacts_saved": 0},
                    ),
                ),
            ),
        ),
    )
    return dataclasses.replace(record, **changes)


texts = st.text(max_size=20)
names = st.text(min_size=1, max_size=20)
numbers = st.floats(0, 1e9, allow_nan=False)
flags = st.dictionaries(
    texts, st.booleans() | st.integers() | texts | st.none() | numbers, max_size=3
)
starts = st.builds(
    Start,
    start=st.sampled_from(STARTS),
    seconds=st.dictionaries(texts, numbers, max_size=3),
    counters=st.dictionaries(texts, st.integers(0, 2**63 - 1), max_size=3),
)
cases = st.builds(
    Case,
    case=names,
    outcome=st.sampled_from(OUTCOMES),
    reason=st.none() | texts,
    signature=st.none() | texts,
    seconds=numbers,
    model=st.none() | texts,
    flags=flags,
    failure=st.none() | texts,
    starts=st.lists(starts, max_size=2, unique_by=lambda start: start.start).map(tuple),
)
some_records = st.builds(
    Record,
    cell=st.sampled_from([CELL, "py310-torch29-vllm016"]),
    platform=st.sampled_from(PLATFORMS),
    finished=st.booleans(),
    provenance=st.just(make().provenance),
    error=st.none() | st.builds(RunError, kind=st.sampled_from(ERROR_KINDS), reason=texts),
    packages=st.dictionaries(texts, texts, max_size=3),
    flags=flags,
    rungs=st.lists(
        st.builds(
            RungResult,
            rung=st.sampled_from(RUNGS),
            ok=st.booleans(),
            seconds=numbers,
            reason=st.none() | texts,
        ),
        max_size=3,
    ).map(tuple),
    cases=st.lists(cases, max_size=3, unique_by=lambda case: case.case).map(tuple),
    deselected=st.integers(0, 99),
)
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
@given(some_records)
def test_what_is_written_obeys_the_schema(record: Record) -> None:
    validate(json.loads(to_json(record)), "r")


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
        inner = [each for each in inner if isinstance(each, (dict, list)) and each]
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
        ('{"schema": 3}', "schema: is 3, newer than this matrix knows (2); update"),
        ('{"schema": 0}', "schema: is 0, but must be 1 to 2"),
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
        (
            broken(lambda d: d["provenance"].update(x="@")).replace('"@"', "[" * 90 + "]" * 90),
            "provenance.x: is nested more than 20 deep",
        ),
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
            broken(lambda d: d["provenance"].update(x={"y": ["@"]})).replace('"@"', "-1e999"),
            "provenance.x: has what is not a finite number",
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
    for depth in range(5, 1200):
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
    cold = case.started("cold")
    assert cold is not None and cold.seconds["total"] == 61.2
    assert dataclasses.replace(case, starts=()).started("warm") is None


def test_a_long_failure_keeps_its_end() -> None:
    assert clip_failure("short") == "short"
    clipped = clip_failure("x" * FAILURE_LIMIT + "the end")
    assert len(clipped) == FAILURE_LIMIT and clipped.endswith("the end")


def test_write_makes_the_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "results" / "cpu" / f"{CELL}.json"
    write(make(finished=False), path)
    write(make(), path)
    assert read(path) == make()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_failed_write_keeps_the_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"{CELL}.json"
    write(make(), path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="cannot be written: No space left on device"):
        write(make(finished=False), path)
    assert read(path) == make()

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write(make(finished=False), path)
    assert read(path) == make()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_killed_writer_leaves_a_whole_record(tmp_path: Path) -> None:
    path = tmp_path / f"{CELL}.json"
    write(make(), path)
    script = (
        "import os, sys; from pathlib import Path; from matrix.record import model as records\n"
        "path = Path(sys.argv[1]); old = records.read(path)\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "records.write(old, path)\n"
    )
    root = str(Path(records.__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, "PYTHONPATH": root},
        check=False,
    )
    assert ended.returncode == -9
    assert read(path) == make()
    # What the killed writer left beside it is not taken for a record.
    found, errors = read_many([tmp_path])
    assert [each for each, _ in found] == [path]
    assert not errors


def test_read_knows_both_names_of_a_record(tmp_path: Path) -> None:
    for name in (f"{CELL}.json", f"{CELL}.20261122T180000Z.json"):
        write(make(), tmp_path / name)
        assert read(tmp_path / name) == make()


def test_read_refuses_a_record_of_another_cell(tmp_path: Path) -> None:
    path = tmp_path / "py312-torch210-vllm019.json"
    write(make(), path)
    with pytest.raises(RecordError, match=f"cell: is {CELL}, but the file's name says py312"):
        read(path)


@pytest.mark.parametrize(
    ("key", "version"), [("python", "3.12.3"), ("torch", "2.9.1+cu128"), ("vllm", "0.20.2")]
)
def test_read_refuses_a_record_that_contradicts_its_cell(
    tmp_path: Path, key: str, version: str
) -> None:
    path = tmp_path / f"{CELL}.json"
    facts = make().provenance
    write(make(provenance={**facts, key: version}), path)
    with pytest.raises(RecordError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{path}: provenance.{key}: is {version}, but the cell is {CELL}; run the cell again by"
        f" tox -e {CELL}"
    )
    assert [str(error) for error in read_many([tmp_path])[1]] == [str(caught.value)]
    told = make(
        provenance={**facts, key: version}, error=RunError(kind=ErrorKind.WRONG_CELL, reason="why")
    )
    write(told, path)
    assert read(path) == told


@pytest.mark.parametrize("version", [None, "", "nightly", "2.10.1rc1"])
def test_read_takes_a_version_that_does_not_contradict(tmp_path: Path, version: object) -> None:
    record = make(provenance={**make().provenance, "torch": version})
    write(record, tmp_path / f"{CELL}.json")
    assert read(tmp_path / f"{CELL}.json") == record
    bare = make(provenance={"started": "2026-11-22T18:00:00Z"})
    write(bare, tmp_path / f"{CELL}.json")
    assert read(tmp_path / f"{CELL}.json") == bare


@pytest.mark.parametrize(("jobs", "known"), [(7, 7), (1, 1), (None, 1), ("7", 1), (True, 1)])
def test_how_many_ran_side_by_side(jobs: object, known: int) -> None:
    record = make()
    assert record.jobs == 1
    assert dataclasses.replace(record, provenance={**record.provenance, "jobs": jobs}).jobs == known


def test_the_schema_knows_how_many_ran_side_by_side() -> None:
    data = json.loads(to_json(make()))
    data["provenance"]["jobs"] = 7
    validate(data, "r")
    data["provenance"]["jobs"] = 0
    with pytest.raises(RecordError, match=r"r: provenance\.jobs: "):
        validate(data, "r")


def test_a_record_from_before_deselected_was_counted_is_whole() -> None:
    old = json.loads(to_json(make(deselected=5)))
    del old["deselected"]
    validate(old, "r")
    assert parse(json.dumps(old), "r") == make(deselected=0)


def test_read_says_why_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be read: No such file"):
        read(tmp_path / "none.json")
    with pytest.raises(RecordError, match="cannot be read: Is a directory"):
        read(tmp_path)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(RecordError, match="not UTF-8"):
        read(tmp_path / "bytes.json")


def test_read_many_goes_on_past_the_bad_ones(tmp_path: Path) -> None:
    good = tmp_path / "cpu" / f"{CELL}.json"
    write(make(), good)
    (tmp_path / "cpu" / f"{CELL}.2.json").write_text(to_json(make())[:-20])
    (tmp_path / "cpu" / f"{CELL}.3.json").write_text(
        broken(lambda d: d["provenance"].update(user="joe"))
    )
    (tmp_path / "cpu" / f"{CELL}.log").write_text("not a record")
    found, errors = read_many([tmp_path, tmp_path / "cpu", tmp_path / "missing"])
    assert found == [(good, make())]
    said = [str(error) for error in errors]
    assert said[0].endswith("missing: no such folder or record; name one that is there")
    assert "truncated" in said[1]
    assert "provenance" in said[2] and "'user'" in said[2]
    assert len(said) == 3


def test_read_many_names_a_folder_that_it_may_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write(make(), tmp_path / name / f"{CELL}.json")
    look = os.scandir

    def refuse(place: Any) -> Any:
        if str(place).endswith("b"):
            raise PermissionError(13, "Permission denied", str(place))
        return look(place)

    monkeypatch.setattr(os, "scandir", refuse)
    records, errors = read_many([tmp_path])
    assert [path for path, _ in records] == [tmp_path / "a" / f"{CELL}.json"]
    assert [str(each) for each in errors] == [f"{tmp_path}/b: cannot be read: Permission denied"]


def test_read_many_takes_single_records(tmp_path: Path) -> None:
    path = tmp_path / "cpu" / f"{CELL}.json"
    write(make(), path)
    assert read_many([path]) == ([(path, make())], [])
    assert read_many([path, tmp_path]) == ([(path, make())], [])


def test_a_run_that_came_to_its_end_knows_its_provenance() -> None:
    bare = {"started": "2026-11-22T18:00:00Z"}
    validate(json.loads(to_json(make(finished=False, provenance=bare))), "r")
    with pytest.raises(RecordError, match=r"^r: provenance: 'seconds' is a required property"):
        validate(json.loads(to_json(make(provenance=bare))), "r")


def test_validate_says_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as caught:
        validate({"schema": "x\n" * 500}, "r")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_without_jsonschema_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(RecordError, match=r"install torch-vllm-matrix\[table\]"):
        read_many([])


def test_the_schema_and_the_module_agree() -> None:
    schema = json.loads((DATA / "record.schema.json").read_text())
    properties = schema["properties"]
    case = schema["$defs"]["case"]["properties"]
    assert properties["schema"]["enum"] == [1, records.SCHEMA]
    assert properties["platform"]["enum"] == list(PLATFORMS)
    assert properties["error"]["oneOf"][1]["properties"]["kind"]["enum"] == list(ERROR_KINDS)
    assert properties["rungs"]["items"]["properties"]["rung"]["enum"] == list(RUNGS)
    assert case["outcome"]["enum"] == list(OUTCOMES)
    assert case["failure"]["maxLength"] == FAILURE_LIMIT
    assert case["starts"]["items"]["properties"]["start"]["enum"] == list(STARTS)
