"""The record: what one run of a cell on a platform observed, and nothing of what it should have.

Pure but for `read`, `read_many` and `write`. Importable inside a cell: jsonschema is needed only by
`validate` and `read_many`, which run where records are judged.
"""

import dataclasses
import importlib
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from matrix._util.enums import StrEnum
from matrix._util.files import FileError, write_text
from matrix._util.paths import DATA
from matrix.catalog.cells import CellError, cell_of, factors, matches
from matrix.errors import MatrixError

SCHEMA = 2
"""The schema of the records that are written; older ones are read as they are."""
_OLDEST_SCHEMA = 1


class Platform(StrEnum):
    """What a cell ran on; `cuda` is authoritative, `cpu` needs no GPU."""

    CUDA = "cuda"
    CPU = "cpu"


class StartKind(StrEnum):
    """How vLLM started: with empty compile caches, or with those that a cold start left."""

    COLD = "cold"
    WARM = "warm"


class Rung(StrEnum):
    """How far a cell can get, lowest first."""

    DECLARED = "declared"
    RESOLVES = "resolves"
    LINKS = "links"
    IMPORTS = "imports"
    STARTS_COLD = "starts cold"
    STARTS_WARM = "starts warm"
    AS_EXPECTED = "as expected"


class Outcome(StrEnum):
    """How a case ended, or that it has not ended yet (`running`)."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not_applicable"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    INTERRUPTED = "interrupted"
    RUNNING = "running"


class ErrorKind(StrEnum):
    """Why a run as a whole ended early."""

    NO_COMPILER = "no_compiler"
    NO_SPACE = "no_space"
    NO_FORK = "no_fork"
    NO_MEMORY = "no_memory"
    IMPORTS = "imports"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"
    RESOLVES = "resolves"
    WRONG_CELL = "wrong_cell"
    NO_GPU = "no_gpu"
    NO_DRIVER = "no_driver"
    DRIVER_TOO_OLD = "driver_too_old"
    GPU_UNSUPPORTED = "gpu_unsupported"
    GPU_FULL = "gpu_full"
    GPU_FAULT = "gpu_fault"
    INTERNAL = "internal"


PLATFORMS = tuple(Platform)
STARTS = tuple(StartKind)
RUNGS = tuple(Rung)
OUTCOMES = tuple(Outcome)
ERROR_KINDS = tuple(ErrorKind)
FAILURE_LIMIT = 16 * 1024
"""The most characters of a failure's tail that a record keeps."""

_STARTED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_SCHEMA_FILE = DATA / "record.schema.json"


class RecordError(MatrixError):
    """A record that cannot be read, written or believed: names the file, the key and the mend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """The observation of one start: its seconds by part (`total` and others) and its counters."""

    start: StartKind
    seconds: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One startup test. `passed`: both starts ran to their end; it says nothing of the counts."""

    case: str
    outcome: Outcome
    reason: str | None = None
    signature: str | None = None
    seconds: float = 0.0
    model: str | None = None
    flags: Mapping[str, object] = field(default_factory=dict)
    failure: str | None = None
    starts: tuple[Start, ...] = ()

    def started(self, start: str) -> Start | None:
        """The observation of that start, or None where it never ran to its end."""
        for each in self.starts:
            if each.start == start:
                return each
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class RungResult:
    """A rung of the ladder that the run itself tried, with the seconds it took."""

    rung: Rung
    ok: bool
    seconds: float = 0.0
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunError:
    """Why the run as a whole ended early; `kind` says what kind of end."""

    kind: ErrorKind
    reason: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run of a cell on a platform. `finished` is false while it goes on, or where it died.

    `deselected` counts the cases of the startup tests that this run was not asked for.
    """

    cell: str
    platform: Platform
    finished: bool
    provenance: Mapping[str, object]
    error: RunError | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, object] = field(default_factory=dict)
    rungs: tuple[RungResult, ...] = ()
    cases: tuple[Case, ...] = ()
    deselected: int = 0
    schema: int = SCHEMA

    @property
    def started(self) -> str:
        """When the run started, in UTC, as `2026-11-22T18:00:00Z`: sorts as time does."""
        return str(self.provenance["started"])

    @property
    def jobs(self) -> int:
        """How many cases ran side by side; records from before the key ran one after another."""
        jobs = self.provenance.get("jobs")
        return jobs if type(jobs) is int else 1


def _keys(of: type[Record | Case | Start | RungResult | RunError]) -> dict[str, None]:
    return dict.fromkeys(each.name for each in dataclasses.fields(of))


_RECORD_KEYS, _CASE_KEYS, _START_KEYS = _keys(Record), _keys(Case), _keys(Start)
_RUNG_KEYS, _ERROR_KEYS = _keys(RungResult), _keys(RunError)


def clip_failure(text: str) -> str:
    """The tail of a failure that fits into a record.

    >>> len(clip_failure("x" * 100_000)) == FAILURE_LIMIT
    True
    """
    return text if len(text) <= FAILURE_LIMIT else "…" + text[-(FAILURE_LIMIT - 1) :]


def to_json(record: Record) -> str:
    """The one text of a record: keys sorted, ASCII, one trailing newline.

    Raises RecordError for values that JSON cannot hold, such as NaN.
    """
    try:
        text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise RecordError(f"{record.cell}: cannot be written as JSON: {error}") from None
    return text + "\n"


def parse(text: str, name: str) -> Record:
    """The record that `text` holds. Raises RecordError, which calls the text `name`."""
    return _record(_decode(text, name), name)


def write(record: Record, path: Path) -> None:
    """Write the record so that a reader sees the old file or the new one, never a part.

    Makes the folder where it is missing. Raises RecordError when the disk refuses.
    """
    try:
        write_text(path, to_json(record))
    except FileError as error:
        raise RecordError(str(error)) from None


def read(path: Path) -> Record:
    """The record in a file whose name, up to its first dot, is the record's cell.

    Raises RecordError: no such file, not a record, or a record of another cell, by the file's name
    or by the versions of its provenance (but where its error says so itself: `wrong_cell`).
    """
    return _load(path)[0]


def validate(data: object, name: str) -> None:
    """Check decoded JSON against the record's JSON Schema.

    Raises RecordError for the first fault, or where jsonschema is not installed.
    """
    _check(_validator(), data, name)


def read_many(places: Iterable[Path]) -> tuple[list[tuple[Path, Record]], list[RecordError]]:
    """Every record under the places, by path, and one error for each of them that is bad.

    A place is a folder of records, or the file of one.

    Each is held against the JSON Schema. Raises RecordError only where jsonschema is missing.
    """
    validator = _validator()
    paths: dict[str, Path] = {}
    records: list[tuple[Path, Record]] = []
    errors: list[RecordError] = []
    for place in places:
        if not place.exists():
            errors.append(RecordError(f"{place}: no such folder or record; name one that is there"))
            continue
        for path in _within(place, errors) if place.is_dir() else [place]:
            paths.setdefault(os.path.realpath(path), path)
    for path in sorted(paths.values()):
        try:
            record, data = _load(path)
            _check(validator, data, str(path))
        except RecordError as error:
            errors.append(error)
        else:
            records.append((path, record))
    return records, errors


def _within(folder: Path, errors: list[RecordError]) -> Iterator[Path]:
    """What calls itself a record below the folder; a folder that cannot be read is an error."""

    def refused(error: OSError) -> None:
        errors.append(RecordError(f"{error.filename}: cannot be read: {error.strerror or error}"))

    for where, folders, files in os.walk(folder, onerror=refused):
        for name in (*folders, *files):
            if name.endswith(".json") and not name.startswith("."):
                yield Path(where, name)


def _load(path: Path) -> tuple[Record, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise RecordError(f"{path}: not a record: its bytes are not UTF-8 text") from None
    data = _decode(text, str(path))
    record = _record(data, str(path))
    named = path.name.split(".", 1)[0]
    if record.cell != named:
        raise RecordError(
            f"{path}: cell: is {record.cell}, but the file's name says {named}; rename the file"
        )
    fault = _other_cell(record)
    if fault:
        raise RecordError(f"{path}: {fault}")
    return record, data


def _other_cell(record: Record) -> str | None:
    """Where the provenance tells of another cell than the record does, or None."""
    if record.error is not None and record.error.kind == "wrong_cell":
        return None
    named = factors(record.cell)
    for key in ("python", "torch", "vllm"):
        found = record.provenance.get(key)
        versions = {"python": named.python, "torch": named.torch, "vllm": str(named.vllm)}
        if not isinstance(found, str):
            continue
        try:
            cell = cell_of(**{**versions, key: found})
        except CellError:
            continue  # Not a version that a cell could have: the record does not know it.
        if not matches(record.cell, cell):
            return (
                f"provenance.{key}: is {found}, but the cell is {record.cell}; run the cell again"
                f" by tox -e {record.cell}"
            )
    return None


def _plain(value: object) -> dict[str, object]:
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} is not JSON")


def _decode(text: str, name: str) -> object:
    if not text.strip():
        raise RecordError(f"{name}: not a record: the file is empty; run the cell again")

    def constant(literal: str) -> NoReturn:
        raise RecordError(f"{name}: not a record: {literal} is not a finite number")

    def mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise RecordError(f"{name}: not a record: the key {twice[:80]!r} stands there twice")
        return found

    try:
        data: object = json.loads(text, object_pairs_hook=mapping, parse_constant=constant)
    except json.JSONDecodeError as error:
        whole = text.strip()
        cut = whole.startswith("{") and (not whole.endswith("}") or error.pos >= len(text.rstrip()))
        what = "truncated" if cut else "not JSON"
        raise RecordError(
            f"{name}: not a record: {what} at line {error.lineno}, column {error.colno}"
            f" ({error.msg}); run the cell again"
        ) from None
    except (ValueError, RecursionError):
        raise RecordError(f"{name}: not a record: its JSON is too deep or too large") from None
    return data


_Choice = TypeVar("_Choice", bound=StrEnum)


class _At:
    """A place in the decoded JSON, so that each fault names its file and its key."""

    __slots__ = ("_step", "_under", "name", "value")

    def __init__(
        self, name: str, value: Any, under: "_At | None" = None, step: str | int = ""
    ) -> None:
        self.name, self.value, self._under, self._step = name, value, under, step

    @property
    def key(self) -> str:
        """The way here, such as `cases[0].seconds`; "" for the whole."""
        if self._under is None:
            return ""
        above = self._under.key
        if isinstance(self._step, int):
            return f"{above}[{self._step}]"
        return f"{above}.{self._step[:80]}" if above else self._step[:80]

    def fail(self, fault: str) -> NoReturn:
        where = f"{self.key}: " if self.key else ""
        raise RecordError(f"{self.name}: {where}{fault}")

    def wrong(self, wanted: str) -> NoReturn:
        if _is_endless(self.value):
            self.fail("is not a finite number")
        try:
            shown = json.dumps(self.value)
        except RecursionError:
            self.fail(f"is nested too deep, but must be {wanted}")
        self.fail(f"is {shown if len(shown) <= 60 else shown[:60] + '…'}, but must be {wanted}")

    def keys(self, known: Mapping[str, None], optional: Sequence[str] = ()) -> "_At":
        """This object, if it has exactly these keys, but for the optional ones."""
        members = self.mapping()
        if members.keys() != known.keys():
            for key in known:
                if key not in members and key not in optional:
                    self.fail(f"has no key {key!r}")
            for key in members:
                if key not in known:
                    self.fail(f"has an unknown key {key[:80]!r}; known are {', '.join(known)}")
        return self

    def mapping(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            self.wrong("an object")
        return self.value

    def finite(self) -> "_At":
        """This object, if no number in it is beyond what a number can be, such as 1e999.

        Nor may it be so deep that it could not be written again.
        """
        for key, value in self.mapping().items():
            below = [(1, value)]
            while below:
                depth, each = below.pop()
                if _is_endless(each):
                    self.at(key).fail("has what is not a finite number")
                if isinstance(each, (dict, list)):
                    if depth > _DEEPEST:
                        self.at(key).fail(f"is nested more than {_DEEPEST} deep")
                    inner = each.values() if isinstance(each, dict) else each
                    below += [(depth + 1, one) for one in inner]
        return self

    def at(self, key: str) -> "_At":
        """The member of this object, which has it."""
        return _At(self.name, self.value[key], self, key)

    def each(self, key: str, fit: Callable[[Collection[object]], bool], wanted: str) -> Any:
        """The object there, where all its values fit."""
        found = self.value[key]
        if not isinstance(found, dict):
            self.at(key).wrong("an object")
        if not fit(found.values()):
            bad = next(each for each, value in found.items() if not fit((value,)))
            self.at(key).at(bad).wrong(wanted)
        return found

    def items(self, key: str) -> Iterator["_At"]:
        found = self.value[key]
        if not isinstance(found, list):
            self.at(key).wrong("a list")
        below = self.at(key)
        return (_At(self.name, each, below, i) for i, each in enumerate(found))

    def text(self, key: str) -> str:
        found = self.value[key]
        if not isinstance(found, str):
            self.at(key).wrong("a string")
        return found

    def text_or_none(self, key: str) -> str | None:
        return None if self.value[key] is None else self.text(key)

    def one_of(self, key: str, known: type[_Choice]) -> _Choice:
        """Return the member of the enum that is there."""
        found = self.value[key]
        try:
            return known(found)
        except ValueError:
            self.at(key).wrong(f"one of {', '.join(known)}")

    def truth(self, key: str) -> bool:
        found = self.value[key]
        if not isinstance(found, bool):
            self.at(key).wrong("true or false")
        return found

    def count(self, key: str) -> int:
        found = self.value[key]
        if not _are_counts((found,)):
            self.at(key).wrong(_COUNT)
        return cast(int, found)

    def seconds(self, key: str) -> float:
        found = self.value[key]
        if not _are_seconds((found,)):
            self.at(key).wrong(_SECONDS)
        return float(found)

    def scalars(self, key: str) -> dict[str, object]:
        wanted = "true, false, a number, a string or null"
        return cast("dict[str, object]", self.each(key, _are_scalars, wanted))


_DEEPEST = 20
_COUNT = "a count (an integer from 0 up, of 64 bits)"
_SECONDS = "seconds (a number from 0 up, below 1e12)"


_INT, _NUMBER, _TEXT = frozenset({int}), frozenset({int, float}), frozenset({str})


def _are_counts(values: Collection[Any]) -> bool:
    return not values or (
        _INT.issuperset(map(type, values)) and min(values) >= 0 and max(values) < 2**63
    )


def _are_seconds(values: Collection[Any]) -> bool:
    return not values or (
        _NUMBER.issuperset(map(type, values)) and min(values) >= 0 and max(values) < 1e12
    )


def _are_texts(values: Collection[object]) -> bool:
    return _TEXT.issuperset(map(type, values))


def _are_scalars(values: Collection[object]) -> bool:
    return not any(isinstance(each, (dict, list)) or _is_endless(each) for each in values)


def _is_endless(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _record(data: object, name: str) -> Record:
    at = _At(name, data)
    if "schema" not in at.mapping():
        at.fail("not a record: has no key 'schema'")
    schema = at.count("schema")
    if schema > SCHEMA:
        at.at("schema").fail(
            f"is {schema}, newer than this matrix knows ({SCHEMA}); update torch-vllm-matrix"
        )
    if schema < _OLDEST_SCHEMA:
        at.at("schema").wrong(f"{_OLDEST_SCHEMA} to {SCHEMA}")
    # Records from before the key have none, and nobody counted then.
    at.keys(_RECORD_KEYS, ["deselected"])
    try:
        full = factors(at.text("cell")).vllm is not None
    except CellError as error:
        at.at("cell").fail(f"no cell: {error}")
    if not full:
        at.at("cell").wrong("a cell's full name, such as py311-torch210-vllm019")
    told = at.at("provenance").finite()
    if "started" not in told.mapping():
        told.fail("has no key 'started'")
    if "seconds" in told.value:
        told.seconds("seconds")
    if not _is_time(told.text("started")):
        told.at("started").wrong("a time in UTC, such as 2026-11-22T18:00:00Z")
    return Record(
        cell=at.text("cell"),
        platform=at.one_of("platform", Platform),
        finished=at.truth("finished"),
        provenance=told.mapping(),
        error=None if at.value["error"] is None else _error(at.at("error")),
        packages=at.each("packages", _are_texts, "a string"),
        flags=at.scalars("flags"),
        rungs=tuple(map(_rung, at.items("rungs"))),
        cases=_cases(at),
        deselected=at.count("deselected") if "deselected" in at.value else 0,
        schema=schema,
    )


def _is_time(text: str) -> bool:
    if _STARTED.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        return False
    return True


def _error(at: _At) -> RunError:
    at.keys(_ERROR_KEYS)
    return RunError(kind=at.one_of("kind", ErrorKind), reason=at.text("reason"))


def _rung(at: _At) -> RungResult:
    at.keys(_RUNG_KEYS)
    return RungResult(
        rung=at.one_of("rung", Rung),
        ok=at.truth("ok"),
        seconds=at.seconds("seconds"),
        reason=at.text_or_none("reason"),
    )


def _cases(at: _At) -> tuple[Case, ...]:
    cases: dict[str, Case] = {}
    for each in at.items("cases"):
        case = _case(each)
        if case.case in cases:
            each.fail(f"is the second case of the name {case.case[:80]!r}")
        cases[case.case] = case
    return tuple(cases.values())


def _case(at: _At) -> Case:
    at.keys(_CASE_KEYS)
    starts: dict[str, Start] = {}
    for each in at.items("starts"):
        start = _start(each)
        if start.start in starts:
            each.fail(f"is the second {start.start} start of one case")
        starts[start.start] = start
    return Case(
        case=at.text("case"),
        outcome=at.one_of("outcome", Outcome),
        reason=at.text_or_none("reason"),
        signature=at.text_or_none("signature"),
        seconds=at.seconds("seconds"),
        model=at.text_or_none("model"),
        flags=at.scalars("flags"),
        failure=_failure(at),
        starts=tuple(starts.values()),
    )


def _failure(at: _At) -> str | None:
    text = at.text_or_none("failure")
    if text is not None and len(text) > FAILURE_LIMIT:
        at.at("failure").fail(
            f"has {len(text)} characters, but at most {FAILURE_LIMIT} are kept, of its end"
        )
    return text


def _start(at: _At) -> Start:
    at.keys(_START_KEYS)
    return Start(
        start=at.one_of("start", StartKind),
        seconds=at.each("seconds", _are_seconds, _SECONDS),
        counters=at.each("counters", _are_counts, _COUNT),
    )


def _validator() -> Any:
    try:
        jsonschema = importlib.import_module("jsonschema")
    except ImportError:
        raise RecordError(
            "jsonschema is not installed, and records are checked by it;"
            " install torch-vllm-matrix[table]"
        ) from None
    return jsonschema.Draft202012Validator(json.loads(_SCHEMA_FILE.read_text(encoding="utf-8")))


def _check(validator: Any, data: object, name: str) -> None:
    faults = sorted(validator.iter_errors(data), key=lambda fault: fault.json_path)
    if faults:
        key = faults[0].json_path.removeprefix("$").removeprefix(".")
        message = " ".join(faults[0].message.split())
        message = message if len(message) <= 200 else message[:199] + "…"
        raise RecordError(f"{name}: {key + ': ' if key else ''}{message}")


def whole(record: Record) -> bool:
    """Whether the run came to its end with every case of the startup tests."""
    ended = record.finished and record.error is None
    return ended and bool(record.cases) and not record.deselected
