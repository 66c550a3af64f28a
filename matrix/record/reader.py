"""Read records, and refuse what is not one: the only validator of records on the read path.

Importable inside a cell. `matrix/data/record.schema.json` says the same to other programs; a test
holds the two equal. Only the reader refuses what a JSON Schema cannot express: a file that is not
of the cell its name says, a case or a start that is there twice, a day that is in no calendar.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeGuard

from matrix._util.files import read_text
from matrix._util.text import clip
from matrix.catalog.cells import PROJECTS, CellError, axis_of, cell_of, factors
from matrix.record.case_reader import cases_of, clipped, failure_of, name_of
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.inspections import Inspections
from matrix.record.jit import CAPABILITY, Jit, JitModule
from matrix.record.json_value import (
    NAME_RECORD,
    TEXTS,
    JsonValue,
    decode,
    is_amount,
    is_text,
)
from matrix.record.model import (
    LEFT_OUT,
    REASON_LIMIT,
    SCHEMA,
    By,
    Case,
    Departure,
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
    Why,
)
from matrix.record.origin_reader import read_origins
from matrix.record.start_reader import cache_check_of, defaults_of, start_of
from matrix.record.tables import is_table
from matrix.record.upstream_reader import read_upstream_suite

RECORD_LIMIT = 16 << 20
"""The most bytes of a record's file that are read: hundreds of times a record of today."""
NOTHING_THERE = "does not exist; name a folder of records, or a record"
"""What is wrong with a place that is neither."""
_OLDEST_SCHEMA = 1
_STARTED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_AMOUNT = "a number from 0 up, or null"


def parse(text: str, name: str) -> Record:
    """Return the record that `text` holds. Raises RecordError, which calls the text `name`."""
    if len(text) > RECORD_LIMIT:
        raise RecordError(f"{name}: not a record: has more than {RECORD_LIMIT >> 20} MiB")
    return _record(decode(text, name))


def read(path: Path) -> Record:
    """Return the record in a file whose name, up to its first dot, is the record's cell.

    Raises RecordError: no such file, not a record, or a record of another cell, by the file's name
    or by the versions of its provenance (unless its error says so itself: `wrong_cell`).
    """
    try:
        text = read_text(path, RECORD_LIMIT)
    except OSError as error:
        why = error.strerror or error
        raise RecordError(f"{path}: cannot be read: {why}; {NAME_RECORD}") from None
    except UnicodeDecodeError:
        why = "its bytes are not UTF-8 text"
        raise RecordError(f"{path}: not a record: {why}; {NAME_RECORD}") from None
    return of_file(text, path)


def of_file(text: str, path: Path) -> Record:
    """Return the record of a file that holds this text; raises RecordError as `read` does."""
    record = parse(text, str(path))
    named = path.name.split(".", 1)[0]
    if record.cell != named:
        raise RecordError(
            f"{path}: cell: is {record.cell}, but the file's name says {named}; rename the file"
        )
    fault = _other_cell(record)
    if fault:
        raise RecordError(f"{path}: {fault}")
    return record


def read_many(places: Iterable[Path]) -> tuple[list[tuple[Path, Record]], list[RecordError]]:
    """Return every record under the places, by path, and one error for each that is bad.

    A place is a folder of records, or the file of one.
    """
    paths: dict[str, Path] = {}
    records: list[tuple[Path, Record]] = []
    errors: list[RecordError] = []
    for place in places:
        if not place.exists():
            errors.append(RecordError(f"{place}: {NOTHING_THERE}"))
            continue
        for path in _within(place, errors) if place.is_dir() else [place]:
            paths.setdefault(os.path.realpath(path), path)
    for path in sorted(paths.values()):
        try:
            records.append((path, read(path)))
        except RecordError as error:
            errors.append(error)
    return records, errors


def _within(folder: Path, errors: list[RecordError]) -> Iterator[Path]:
    """Find what has the name of a record below the folder; note a folder that cannot be read."""

    def refused(error: OSError) -> None:
        errors.append(RecordError(f"{error.filename}: cannot be read: {error.strerror or error}"))

    cut = len(str(folder))
    for where, folders, files in os.walk(folder, onerror=refused):
        for name in (*folders, *files):
            if name.startswith(".") or not name.endswith(".json"):
                continue
            if not is_table(where[cut:], name):
                yield Path(where, name)


def _other_cell(record: Record) -> str | None:
    """Say which version of the provenance is not the cell's, if any."""
    if record.error is not None and record.error.kind == ErrorKind.WRONG_CELL:
        return None
    named = factors(record.cell)
    for key in ("python", *PROJECTS):
        found = record.version(key)
        if found is None:
            continue
        try:
            # The others are of no matter here.
            cell = cell_of(**{"python": "3.11", "torch": "0.0", "vllm": "0.0", key: found})
        except CellError:
            continue  # Not a version that a cell could have: the record does not know it.
        own = cell.python if key == "python" else axis_of(getattr(cell, key))
        if own != getattr(named, key):
            return (
                f"provenance.{key}: is {found}, but the cell is {record.cell}; run the cell again"
                f" by tox -e {record.cell}"
            )
    return None


def _is_time(value: object) -> TypeGuard[str]:
    if not isinstance(value, str) or not _STARTED.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value.removesuffix("Z"))
    except ValueError:
        return False
    return True


def _is_capability(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and CAPABILITY.fullmatch(value) is not None


def _is_fingerprint(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.startswith("sha256:")


def _is_model_source(value: object) -> TypeGuard[str]:
    return value in ("data", "hub")


def _keys(
    model: type[
        Record
        | Case
        | CppCompiler
        | Inspections
        | Jit
        | JitModule
        | RungResult
        | RunError
        | Departure
    ],
) -> dict[str, None]:
    return dict.fromkeys(field.name for field in dataclasses.fields(model))


_RECORD_KEYS, _CASE_KEYS = _keys(Record), _keys(Case)
_COMPILER_KEYS, _INSPECTIONS_KEYS = _keys(CppCompiler), _keys(Inspections)
_JIT_KEYS, _MODULE_KEYS = _keys(Jit), _keys(JitModule)
_RUNG_KEYS, _ERROR_KEYS = _keys(RungResult), _keys(RunError)
_DEPARTURE_KEYS = _keys(Departure)


def _record(value: JsonValue) -> Record:
    if "schema" not in value.mapping():
        value.fail(f"not a record: has no key 'schema'; {NAME_RECORD}")
    schema = value.count("schema")
    if schema > SCHEMA:
        value.member("schema").fail(
            f"is {schema}, newer than this matrix knows ({SCHEMA}); update torch-vllm-matrix"
        )
    if schema < _OLDEST_SCHEMA:
        value.member("schema").wrong(f"{_OLDEST_SCHEMA} to {SCHEMA}")
    # Records from before these keys lack them: nobody counted, or looked, then.
    value.has_keys(_RECORD_KEYS, ["deselected", *LEFT_OUT])
    cell = _cell(value)
    finished = value.boolean("finished")
    error = None if value.data["error"] is None else _error(value.member("error"))
    return Record(
        cell=cell,
        platform=value.one_of("platform", Platform),
        finished=finished,
        provenance=_provenance(value.member("provenance"), ended=finished and error is None),
        error=error,
        packages=value.values("packages", is_text, "a string", sure=TEXTS),
        departures=_departures(value),
        origins=read_origins(value) if "origins" in value.data else None,
        flags=value.scalars("flags"),
        rungs=tuple(map(_rung, value.items("rungs"))),
        cases=cases_of(value, "cases", _case),
        full_suite=cases_of(value, "full_suite", _case) if "full_suite" in value.data else None,
        selected=value.count("selected") if value.data.get("selected") is not None else None,
        deselected=value.count("deselected") if "deselected" in value.data else 0,
        jit=_jit(value.member("jit")) if "jit" in value.data else None,
        cpp_compiler=_cpp_compiler(value.member("cpp_compiler"))
        if "cpp_compiler" in value.data
        else None,
        inspections=_inspections(value.member("inspections"))
        if "inspections" in value.data
        else None,
        defaults=defaults_of(value.member("defaults")) if "defaults" in value.data else None,
        cache_check=cache_check_of(value.member("cache_check"))
        if "cache_check" in value.data
        else None,
        upstream=read_upstream_suite(value.member("upstream"))
        if "upstream" in value.data
        else None,
        schema=schema,
    )


def _departures(value: JsonValue) -> tuple[Departure, ...] | None:
    if value.data.get("departures") is None:
        return None
    return tuple(map(_departure, value.items("departures")))


def _departure(value: JsonValue) -> Departure:
    value.has_keys(_DEPARTURE_KEYS)
    imports = value.items("imports")
    return Departure(
        name=value.text("name"),
        required=value.text("required"),
        installed=value.text_or_none("installed"),
        why=value.one_of("why", Why),
        by=value.one_of("by", By),
        imports=tuple(name.whole_text() for name in imports),
    )


def _cell(value: JsonValue) -> str:
    name = value.text("cell")
    try:
        full = factors(name).vllm is not None
    except CellError as error:
        value.member("cell").fail(f"no cell: {error}")
    if not full:
        value.member("cell").wrong("a cell's full name, such as py311-torch210-vllm019")
    return name


def _provenance(value: JsonValue, *, ended: bool) -> Mapping[str, object]:
    """Return the provenance; that of a run that came to its end must say all but the optional."""
    members = value.mapping()
    if "started" not in members:
        value.fail("has no key 'started'")
    optional = _OPTIONAL_FACTS if ended else _FACTS
    value.has_keys(_FACTS, optional)
    for key in members:
        _FACTS[key](value, key)
    return members


def _started(value: JsonValue, key: str) -> None:
    value.fitting(key, is_text, "a string")
    value.fitting(key, _is_time, "a time in UTC, such as 2026-11-22T18:00:00Z")


def _amount(value: JsonValue, key: str) -> None:
    if value.data[key] is not None:
        value.fitting(key, is_amount, _AMOUNT)


def _cpu(value: JsonValue, key: str) -> None:
    cpu = value.member(key)
    cpu.has_keys(_CPU)
    cpu.text_or_none("model")
    if cpu.data["cores"] is not None:
        cpu.count("cores", 1)


def _gpu(value: JsonValue, key: str) -> None:
    gpu = value.member(key)
    if gpu.data is None:
        return
    gpu.has_keys(_GPU, [fact for fact in _GPU if fact != "name"])
    for fact in gpu.data:
        _GPU[fact](gpu, fact)


def _capability(value: JsonValue, key: str) -> None:
    if value.data[key] is not None:
        value.fitting(key, _is_capability, "a compute capability such as 8.9, or null")


def _tests(value: JsonValue, key: str) -> None:
    tests = value.member(key)
    tests.has_keys(_TESTS, ("version", "fingerprint"))
    if len(tests.data) == 1:
        tests.fail("has neither the key 'version' nor 'fingerprint'")
    for fact in tests.data:
        _TESTS[fact](tests, fact)


def _fingerprint(value: JsonValue, key: str) -> None:
    value.fitting(key, _is_fingerprint, "a text that begins with sha256:")


def _command(value: JsonValue, key: str) -> None:
    for word in value.items(key):
        if not isinstance(word.data, str):
            word.wrong("a string")


def _model_source(value: JsonValue, key: str) -> None:
    value.fitting(key, _is_model_source, "one of data, hub")


def _from_one(value: JsonValue, key: str) -> None:
    value.count(key, 1)


_FACTS: Mapping[str, Callable[[JsonValue, str], object]] = {
    "started": _started,
    "seconds": JsonValue.seconds,
    "python": JsonValue.text,
    "os": JsonValue.text,
    "machine": JsonValue.text,
    "cpu": _cpu,
    "memory_mib": _amount,
    "gpu": _gpu,
    "torch": JsonValue.text_or_none,
    "vllm": JsonValue.text_or_none,
    "triton": JsonValue.text_or_none,
    "cuda": JsonValue.text_or_none,
    "tests": _tests,
    "command": _command,
    "model_source": _model_source,
    "jobs": _from_one,
}
_OPTIONAL_FACTS = ("jobs",)
_CPU = dict.fromkeys(("model", "cores"))
_GPU: Mapping[str, Callable[[JsonValue, str], object]] = {
    "name": JsonValue.text,
    "capability": _capability,
    "driver": JsonValue.text_or_none,
    "memory_mib": _amount,
}
_TESTS: Mapping[str, Callable[[JsonValue, str], object]] = {
    "commit": JsonValue.text_or_none,
    "version": _from_one,
    "fingerprint": _fingerprint,
}


def _error(value: JsonValue) -> RunError:
    value.has_keys(_ERROR_KEYS)
    return RunError(
        kind=value.one_of("kind", ErrorKind), reason=clip(value.text("reason"), REASON_LIMIT)
    )


def _cpp_compiler(value: JsonValue) -> CppCompiler:
    value.has_keys(_COMPILER_KEYS)
    return CppCompiler(seconds=value.seconds("seconds"), reason=clipped(value, "reason"))


def _inspections(value: JsonValue) -> Inspections:
    value.has_keys(_INSPECTIONS_KEYS)
    return Inspections(seconds=value.seconds("seconds"), reason=clipped(value, "reason"))


def _jit(value: JsonValue) -> Jit:
    value.has_keys(_JIT_KEYS)
    return Jit(
        seconds=value.seconds("seconds"),
        reason=clipped(value, "reason"),
        modules=tuple(map(_jit_module, value.items("modules"))),
    )


def _jit_module(value: JsonValue) -> JitModule:
    value.has_keys(_MODULE_KEYS)
    return JitModule(
        library=value.text("library"),
        name=value.text("name"),
        seconds=None if value.data["seconds"] is None else value.seconds("seconds"),
        built_by=value.text_or_none("built_by"),
        generator=value.text_or_none("generator"),
        arguments=value.scalars("arguments"),
    )


def _rung(value: JsonValue) -> RungResult:
    value.has_keys(_RUNG_KEYS)
    return RungResult(
        rung=value.one_of("rung", Rung),
        ok=value.boolean("ok"),
        seconds=value.seconds("seconds"),
        reason=clipped(value, "reason"),
    )


def _case(value: JsonValue) -> Case:
    value.has_keys(_CASE_KEYS)
    starts: dict[StartKind, Start] = {}
    for item in value.items("starts"):
        start = start_of(item)
        if start.start in starts:
            item.fail(f"is the second {start.start} start of one case")
        starts[start.start] = start
    return Case(
        case=name_of(value),
        outcome=value.one_of("outcome", Outcome),
        reason=clipped(value, "reason"),
        signature=clipped(value, "signature"),
        seconds=value.seconds("seconds"),
        model=value.text_or_none("model"),
        flags=value.scalars("flags"),
        failure=failure_of(value),
        starts=tuple(starts.values()),
    )
