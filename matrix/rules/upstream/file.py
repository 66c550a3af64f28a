"""Read and write the data file of upstream's numbers.

Releases stand there oldest first, each in one line that names its files of tests by their SHA-256.
What was read in a file of tests stands there once, however many releases have it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion

from matrix._util.files import read_text, write_text
from matrix._util.paths import DATA
from matrix._util.versions import parse_version
from matrix.record.model import STARTS, StartKind
from matrix.rules.upstream.model import (
    ByTorch,
    Upstream,
    UpstreamCase,
    UpstreamError,
    UpstreamFile,
    UpstreamRelease,
    UpstreamStart,
    bounds_of,
)

UPSTREAM_FILE = DATA / "upstream.json"
_FIX = "restore it, or run `matrix upstream --all`"


def load_upstream(path: Path | None = None) -> Upstream:
    """Read upstream's numbers, by default those of the package.

    Raises UpstreamError, which names the file and the key.
    """
    path = path or UPSTREAM_FILE
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UpstreamError(f"{path}: cannot be read ({reason}); {_FIX}") from error
    return parse_upstream(text, str(path))


def parse_upstream(text: str, name: str) -> Upstream:
    """Read upstream's numbers from the text of the file, which errors call `name`.

    Raises UpstreamError as `load_upstream` does.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UpstreamError(f"{name}: is not JSON ({error}); {_FIX}") from error
    top = _Item(data, name)
    top.has({"releases", "files"})
    files = {
        item.text("sha256"): UpstreamFile(
            sha256=item.text("sha256"),
            cases=tuple(_case(case) for case in item.items("cases")),
            faults=item.texts("faults"),
        )
        for item in top.items("files")
        if item.has({"sha256", "cases"}, {"faults"})
    }
    releases = [_release(item, files) for item in top.items("releases")]
    versions = [parse_version(release.version) for release in releases]
    if versions != sorted(set(versions)):
        raise UpstreamError(f"{name}: releases: are not in order, each once; {_FIX}")
    used = {file.sha256 for release in releases for file in release.files.values()}
    for unused in sorted(files.keys() - used):
        raise UpstreamError(f"{name}: files: no release has {unused}; {_FIX}")
    return Upstream(releases=tuple(releases))


def write_upstream(path: Path, upstream: Upstream) -> None:
    """Write the file where it differs from what is there."""
    text = to_json(upstream)
    if not path.is_file() or read_text(path) != text:
        write_text(path, text)


def to_json(upstream: Upstream) -> str:
    """Return the text of the file."""
    files = {
        file.sha256: file
        for release in upstream.releases
        for _, file in sorted(release.files.items())
    }
    releases = [json.dumps(_release_row(release)) for release in upstream.releases]
    return (
        '{\n  "releases": [\n'
        + ",\n".join(f"    {line}" for line in releases)
        + '\n  ],\n  "files": [\n'
        + ",\n".join(_file_lines(file) for file in files.values())
        + "\n  ]\n}\n"
    )


class _Item:
    """A value of the file and its place, for an error."""

    def __init__(self, value: object, where: str) -> None:
        self.value: Any = value
        self.where = where

    def fail(self, what: str) -> UpstreamError:
        return UpstreamError(f"{self.where}: {what}; {_FIX}")

    def has(self, needed: set[str], optional: Iterable[str] = ()) -> bool:
        """Return True for an object of these keys. Raises UpstreamError for anything else."""
        if not isinstance(self.value, dict):
            raise self.fail("is not an object")
        for key in sorted(needed - self.value.keys()):
            raise self.fail(f"{key} is missing")
        for key in sorted(self.value.keys() - needed - set(optional)):
            raise self.fail(f"{key!r} is an unknown key")
        return True

    def at(self, key: str, default: object = None) -> _Item:
        return _Item(self.value.get(key, default), f"{self.where}: {key}")

    def items(self, key: str) -> list[_Item]:
        found = self.at(key, [])
        if not isinstance(found.value, list):
            raise found.fail("is not a list")
        return [_Item(item, f"{found.where} {n}") for n, item in enumerate(found.value, 1)]

    def text(self, key: str, default: str | None = None) -> str:
        found = self.at(key, default)
        if not isinstance(found.value, str):
            raise found.fail("is not a string")
        return found.value

    def texts(self, key: str) -> tuple[str, ...]:
        found = self.items(key)
        for item in found:
            if not isinstance(item.value, str):
                raise item.fail("is not a string")
        return tuple(item.value for item in found)

    def mapping(self, key: str) -> dict[str, Any]:
        found = self.at(key, {})
        if not isinstance(found.value, dict):
            raise found.fail("is not an object")
        return found.value

    def settings(self, key: str) -> dict[str, str | None]:
        found = self.mapping(key)
        for name, value in found.items():
            if value is not None and not isinstance(value, str):
                raise self.at(key).fail(f"{name} is neither a string nor null")
        return found

    def by_torch(self, key: str) -> dict[str, ByTorch]:
        return {
            name: _by_torch(_Item(value, f"{self.where}: {key}: {name}"))
            for name, value in self.mapping(key).items()
        }


def _release(item: _Item, files: Mapping[str, UpstreamFile]) -> UpstreamRelease:
    item.has({"version", "sha256", "tests", "flags"}, {"faults"})
    version, digests = item.text("version"), item.mapping("tests")
    try:
        parse_version(version)
    except InvalidVersion as error:
        raise item.fail(f"{version!r} is not a version") from error
    item = _Item(item.value, f"{item.where} ({version})")
    for path, digest in digests.items():
        if not isinstance(digest, str) or digest not in files:
            raise item.fail(f"tests: {path}: files have no {digest!r}")
    return UpstreamRelease(
        version=version,
        sha256=None if item.value["sha256"] is None else item.text("sha256"),
        files={path: files[digest] for path, digest in digests.items()},
        flags=item.by_torch("flags"),
        faults=item.texts("faults"),
    )


def _case(item: _Item) -> UpstreamCase:
    item.has({"case", "starts"}, {"torch", "parameters", "environment", "fixtures", "engine"})
    found = UpstreamCase(
        case=item.text("case"),
        torch=item.text("torch", ""),
        parameters=item.mapping("parameters"),
        environment=item.settings("environment"),
        fixtures=item.texts("fixtures"),
        engine=item.mapping("engine"),
        starts=tuple(_start(start) for start in item.items("starts")),
    )
    _range(found.torch, item)
    return found


def _start(item: _Item) -> UpstreamStart:
    item.has({"start", "numbers"}, {"environment"})
    if item.text("start") not in STARTS:
        raise item.fail(f"start: {item.text('start')!r} is neither cold nor warm")
    return UpstreamStart(
        start=StartKind(item.text("start")),
        numbers=item.by_torch("numbers"),
        environment=item.settings("environment"),
    )


def _by_torch(item: _Item) -> ByTorch:
    values = item.value if isinstance(item.value, dict) else {"": item.value}
    for versions, value in values.items():
        _range(versions, item)
        whole = type(value) is int and value >= 0
        if not whole and (value is not None or not isinstance(item.value, dict)):
            raise item.fail(f"{value!r} is not a count")
    return ByTorch(values=values)


def _range(versions: str, item: _Item) -> None:
    try:
        bounds_of(versions)
    except ValueError as error:
        raise item.fail(f"{versions!r} is not a range of torch releases") from error


def _release_row(one: UpstreamRelease) -> dict[str, object]:
    row: dict[str, object] = {
        "version": one.version,
        "sha256": one.sha256,
        "tests": {path: file.sha256 for path, file in sorted(one.files.items())},
        "flags": _numbers(one.flags),
    }
    return row | ({"faults": list(one.faults)} if one.faults else {})


def _file_lines(file: UpstreamFile) -> str:
    """Return a file of tests: a line for the settings of a case, a line for each start of it."""
    head = f'    {{"sha256": {json.dumps(file.sha256)}, "cases": ['
    cases = ",\n".join(_case_lines(case) for case in file.cases)
    tail = f'], "faults": {json.dumps(list(file.faults))}}}' if file.faults else "]}"
    return f"{head}\n{cases}\n    {tail}" if cases else head + tail


def _case_lines(case: UpstreamCase) -> str:
    row: dict[str, object] = {
        "case": case.case,
        "torch": case.torch,
        "parameters": dict(case.parameters),
        "environment": dict(case.environment),
        "fixtures": list(case.fixtures),
        "engine": dict(case.engine),
    }
    settings = json.dumps({key: value for key, value in row.items() if value or key == "case"})
    starts = ",\n".join(f"        {json.dumps(_start_row(start))}" for start in case.starts)
    return f'      {settings[:-1]}, "starts": [\n{starts}\n      ]}}'


def _start_row(one: UpstreamStart) -> dict[str, object]:
    row: dict[str, object] = {"start": one.start, "numbers": _numbers(one.numbers)}
    return row | ({"environment": dict(one.environment)} if one.environment else {})


def _numbers(found: Mapping[str, ByTorch]) -> dict[str, object]:
    return {
        name: number.values[""]
        if number.values.keys() == {""} and number.values[""] is not None
        else dict(number.values)
        for name, number in sorted(found.items())
    }
