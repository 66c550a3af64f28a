"""Read and write `candidates.toml`, the file of the candidates; a person can read and review it.

It is next to tox.ini. The variable MATRIX_CANDIDATES names another file.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from matrix._util.addresses import AddressError, file_address, index_address
from matrix._util.files import write_text
from matrix._util.text import pip_install
from matrix._util.toml_rows import check_keys, choice_of, read_text
from matrix._util.versions import parse_version, specifier_set
from matrix.catalog.candidates.channels import CHANNELS
from matrix.catalog.candidates.collection import CandidateError, Candidates
from matrix.catalog.candidates.model import (
    WAYS,
    Candidate,
    CandidateSource,
    Commit,
    File,
    OnCuda,
    OnIndex,
    Sdist,
    SourceKind,
    Tree,
    Wheel,
    companion_pin,
)
from matrix.catalog.candidates.place import CANDIDATES_VARIABLE, candidates_path
from matrix.catalog.cells import PYTHON_VERSION
from matrix.catalog.lock import alone
from matrix.catalog.projects import Project
from matrix.catalog.release import COMPANIONS
from matrix.errors import MatrixError

try:
    # A step of a bisection writes the file and reads it, and Python's own parser is the slow part.
    import tomli as tomllib
except ModuleNotFoundError:
    import tomllib  # type: ignore[import-not-found,no-redef]

_HEAD = """\
# Candidates: builds of torch and vLLM that are not final releases. `matrix candidate` writes this
# file, and a person may review or edit it. Each file is installed by its address and hash.

"""
_ASKED = ("pythons", "companions")
_SOURCES: Mapping[SourceKind, tuple[type[CandidateSource], tuple[str, ...], tuple[str, ...]]] = {
    SourceKind.INDEX: (OnIndex, ("index", "version"), ("channel", *_ASKED)),
    SourceKind.WHEEL: (Wheel, ("location", "sha256"), ()),
    SourceKind.COMMIT: (Commit, ("repository", "revision"), ()),
    SourceKind.TREE: (Tree, ("path", "state"), ()),
    SourceKind.SDIST: (Sdist, ("location", "sha256"), ()),
}
_NEEDED = ("name", "project", "version", "source")
_KEYS = (
    *(*_NEEDED, "python", "cuda", "revision", "pins", "without", "files", "companions"),
    "on-cuda",
)
_FILE_NEEDED = ("name", "url", "sha256")
_FILE_KEYS = (*_FILE_NEEDED, "size", "uploaded")
_PINNED = ("torch", "torchvision", "torchaudio")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PART = re.compile(r"[0-9a-f]{7,64}")
_CUDA = re.compile(r"[0-9]+\.[0-9]+")
_CHANNEL = re.compile(r"[a-z][\w./+-]*")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\dZ)?", re.ASCII)
_LARGEST = 1 << 63  # bytes; TOML has no larger number
_CHANNEL_NAME = re.compile(r"[a-z][a-z0-9_]*")


class CandidatesFileError(MatrixError):
    """A file of candidates that cannot be read or is wrong: names the file, the key, the fix."""


def load_candidates(path: Path | None = None) -> Candidates:
    """Read the candidates, by default those of `candidates_path`; without a file there are none.

    Raises CandidatesFileError, one line, for a file that cannot be read or that is wrong.
    """
    path = path or candidates_path()
    if str(path) == os.devnull or not _is_there(path):
        return Candidates()
    return parse_candidates(read_text(path, CandidatesFileError), str(path))


def _is_there(path: Path) -> bool:
    """Tell whether there is a file of this name.

    Raises CandidatesFileError for a folder, or whatever else is not a file.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as fault:  # such as a link that leads to itself
        raise CandidatesFileError(
            f"{path}: cannot be read ({fault.strerror}); name another"
        ) from None
    if not stat.S_ISREG(mode):
        raise CandidatesFileError(f"{path}: is not a file; name another")
    return True


def parse_candidates(text: str, name: str) -> Candidates:
    """Return the candidates of a text. Raises CandidatesFileError, which calls the text `name`."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as fault:
        raise CandidatesFileError(f"{name}: is not TOML ({fault}); correct or restore it") from None
    check_keys(data, name, ("channels", "candidate"), (), CandidatesFileError)
    rows = data.get("candidate", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CandidatesFileError(
            f"{name}: candidate: is not a list; begin each with [[candidate]]"
        )
    every = [_candidate(row, number, name) for number, row in enumerate(rows, 1)]
    try:
        return Candidates(
            every=tuple(sorted(every, key=lambda one: (one.project, one.name))),
            channels=_channels(data.get("channels", {}), name),
        )
    except CandidateError as error:
        raise CandidatesFileError(f"{name}: {error}") from None


def write_candidates(candidates: Candidates, path: Path | None = None) -> Path:
    """Write the candidates, all at once, and return the file; without any it is an empty list.

    Raises MatrixError if the extra `index` is not installed, FileError if the disk refuses,
    CandidatesFileError if the file could not be read again: an index may answer nonsense.
    """
    path = path or candidates_path()
    text = render_candidates(candidates)
    parse_candidates(text, str(path))
    write_text(path.resolve(), text)  # a link stays, and what it leads to changes
    return path


def change_candidates(
    change: Callable[[Candidates], Candidates | None], path: Path | None = None
) -> Path:
    """Write what `change` makes of the candidates, and return their file; None: it stays as it is.

    Of two processes that do so at once, the second one sees what the first one wrote. Raises as
    `load_candidates`, `write_candidates` and `alone` do, and what `change` raises.
    """
    path = path or candidates_path()
    if str(path) == os.devnull:
        raise CandidatesFileError(
            f"{path}: keeps no candidates; name a file: {CANDIDATES_VARIABLE}"
        )
    _is_there(path)
    file = path.resolve()  # whoever changes it by a link waits too
    with alone(file.with_name(f".{file.name}.lock")):
        changed = change(load_candidates(path))
        if changed is not None:
            write_candidates(changed, path)
    return path


def render_candidates(candidates: Candidates) -> str:
    """Return the text of the file: the same for the same candidates, in whatever order."""
    try:
        import tomli_w
    except ImportError:
        raise MatrixError(
            f"tomli_w is not installed; it writes the file of candidates: {pip_install('index')}"
        ) from None
    data: dict[str, Any] = {}
    if candidates.channels:
        data["channels"] = {
            project: dict(sorted(named.items()))
            for project, named in sorted(candidates.channels.items())
        }
    rows = sorted(candidates.every, key=lambda one: (one.project, one.name))
    data["candidate"] = [_row(candidate) for candidate in rows]
    return _HEAD + tomli_w.dumps(data)


def _row(candidate: Candidate) -> dict[str, Any]:
    source = candidate.source
    _, needed, optional = _SOURCES[source.kind]
    facts = {key: getattr(source, key) for key in (*needed, *optional)}
    facts |= {key: list(facts[key]) for key in _ASKED if key in facts}
    row: dict[str, Any] = {
        "name": candidate.name,
        "project": str(candidate.project),
        "version": candidate.version,
        "python": None if candidate.python is None else str(candidate.python) or None,
        "cuda": candidate.cuda,
        "revision": candidate.revision,
        "without": list(candidate.without),
        "source": {"kind": str(source.kind), **_known(facts)},
        "pins": dict(sorted(candidate.pins.items())),
        "files": _file_rows(candidate.files),
        "companions": _file_rows(candidate.companions),
        "on-cuda": _on_cuda_row(candidate.on_cuda),
    }
    return _known(row)


def _on_cuda_row(way: OnCuda | None) -> dict[str, Any]:
    if way is None:
        return {}
    return _known({"way": WAYS[way.way], "index": way.index, "files": _file_rows(way.files)})


def _file_rows(files: Sequence[File]) -> list[dict[str, Any]]:
    return [
        _known({key: getattr(file, key) for key in _FILE_KEYS})
        for file in sorted(files, key=lambda file: file.name)
    ]


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value not in (None, [], {})}


def _candidate(row: Mapping[str, object], number: int, name: str) -> Candidate:
    called = row.get("name")
    where = f"{name}: candidate {called if isinstance(called, str) else number}"
    check_keys(row, where, _KEYS, _NEEDED, CandidatesFileError)
    project = choice_of(row, "project", Project, where, CandidatesFileError)
    assert project is not None  # it is among the needed keys
    try:
        return Candidate(
            project=project,
            name=_text(row, "name", where),
            version=_version(row, "version", where),
            source=_source(row["source"], where),
            files=_files(row, "files", where),
            companions=_files(row, "companions", where),
            without=_names(row, "without", where),
            pins=_pins(row, where),
            python=_python(row, where),
            cuda=_matching(row, "cuda", where, _CUDA, "13.0") if "cuda" in row else None,
            revision=(
                _matching(row, "revision", where, _PART, "the hash of a commit")
                if "revision" in row
                else None
            ),
            on_cuda=_on_cuda(row["on-cuda"], where) if "on-cuda" in row else None,
        )
    except CandidateError as error:
        raise CandidatesFileError(f"{name}: {error}") from None


def _source(value: object, where: str) -> CandidateSource:
    where = f"{where}: source"
    if not isinstance(value, dict):
        raise CandidatesFileError(f"{where}: is not a table; begin it with [candidate.source]")
    if "kind" not in value:
        raise CandidatesFileError(f"{where}: kind: is missing; write {' or '.join(SourceKind)}")
    kind = choice_of(value, "kind", SourceKind, where, CandidatesFileError)
    assert kind is not None
    model, needed, optional = _SOURCES[kind]
    check_keys(value, where, ("kind", *needed, *optional), needed, CandidatesFileError)
    given = [key for key in (*needed, *optional) if key in value]
    facts: dict[str, Any] = {key: _text(value, key, where) for key in given if key not in _ASKED}
    if "version" in facts:
        _version(value, "version", where)
    if "sha256" in facts:
        _matching(value, "sha256", where, _SHA256, "64 small hexadecimal digits")
    if "revision" in facts:
        _matching(value, "revision", where, _REVISION, "the full hash of a commit")
    if "channel" in facts:
        _matching(value, "channel", where, _CHANNEL, "test/cu130")
    checks = (("index", index_address), ("repository", file_address), ("location", file_address))
    for key, check in checks:
        if key in facts:
            _clean(facts[key], check, f"{where}: {key}")
    facts |= {key: _asked(value[key], key, where) for key in given if key in _ASKED}
    source: CandidateSource = model(**facts)
    return source


def _asked(value: object, key: str, where: str) -> tuple[str, ...]:
    """Return what a person asked for besides the place: Pythons, or companions."""
    example = "3.12" if key == "pythons" else "torchvision==0.30.0"
    if not isinstance(value, list) or not value:
        raise CandidatesFileError(f'{where}: {key}: is not a list; write ["{example}"]')
    every = {f"{key} {number}": text for number, text in enumerate(value, 1)}
    for number in every:
        text = _text(every, number, where)
        pin = companion_pin(text)
        if key == "pythons":
            _matching(every, number, where, PYTHON_VERSION, example)
        elif pin is None:
            _clean(text, file_address, f"{where}: {number}")
        elif pin[0] in COMPANIONS:
            _version({number: pin[1]}, number, where)
        else:
            raise CandidatesFileError(
                f"{where}: {number}: {text!r} is not a companion; write {example}"
            )
    return tuple(value)


def _on_cuda(value: object, where: str) -> OnCuda:
    where = f"{where}: on-cuda"
    if not isinstance(value, dict):
        raise CandidatesFileError(f"{where}: is not a table; begin it with [candidate.on-cuda]")
    check_keys(value, where, ("way", "index", "files"), ("way",), CandidatesFileError)
    way = next((way for way, word in WAYS.items() if word == value["way"]), None)
    if way is None:
        quoted = " or ".join(f'"{word}"' for word in WAYS.values())
        raise CandidatesFileError(f"{where}: way: {value['way']!r} is unknown; write {quoted}")
    index = _text(value, "index", where) if "index" in value else None
    if index is not None:
        _clean(index, index_address, f"{where}: index")
    return OnCuda(way=way, index=index, files=_files(value, "files", where))


def _clean(text: str, check: Callable[[str], str], where: str) -> None:
    """Refuse an address that is none, or that holds a user, a password or a query."""
    try:
        clean = check(text)
    except AddressError as error:
        raise CandidatesFileError(f"{where}: {error}") from None
    if clean != text:
        raise CandidatesFileError(
            f"{where}: contains a user, a password or another secret; write {clean}, and put the"
            " credentials into ~/.netrc"
        )


def _files(row: Mapping[str, object], key: str, where: str) -> tuple[File, ...]:
    value = row.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise CandidatesFileError(f"{where}: {key}: is not a list of files; write {_table(key)}")
    return tuple(_file(item, f"{where}: {key} {number}") for number, item in enumerate(value, 1))


def _file(row: Mapping[str, object], where: str) -> File:
    check_keys(row, where, _FILE_KEYS, _FILE_NEEDED, CandidatesFileError)
    url = _text(row, "url", where)
    _clean(url, file_address, f"{where}: url")
    if urlsplit(url).scheme not in ("http", "https", "file"):
        raise CandidatesFileError(f"{where}: url: {url!r} has no scheme; write https:// or file://")
    size = row.get("size")
    if size is not None and (type(size) is not int or not 0 <= size < _LARGEST):
        raise CandidatesFileError(f"{where}: size: {size!r} is not a number of bytes; correct it")
    return File(
        name=_text(row, "name", where),
        url=url,
        sha256=_matching(row, "sha256", where, _SHA256, "64 small hexadecimal digits"),
        size=size,
        uploaded=(
            _matching(row, "uploaded", where, _TIME, "2026-11-27T03:10:00Z")
            if "uploaded" in row
            else None
        ),
    )


def _table(key: str) -> str:
    return f"[[candidate.{key}]] before each"


def _names(row: Mapping[str, object], key: str, where: str) -> tuple[str, ...]:
    value = row.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise CandidatesFileError(f'{where}: {key}: is not a list of names; write ["torchaudio"]')
    return tuple(canonicalize_name(name) for name in value)


def _pins(row: Mapping[str, object], where: str) -> dict[str, str]:
    value = row.get("pins", {})
    where = f"{where}: pins"
    if not isinstance(value, dict):
        raise CandidatesFileError(f'{where}: is not a table; write torch = "2.14.0" in it')
    check_keys(value, where, _PINNED, (), CandidatesFileError)
    return {key: _version(value, key, where) for key in value}


def _python(row: Mapping[str, object], where: str) -> SpecifierSet | None:
    if "python" not in row:
        return None
    text = _text(row, "python", where)
    try:
        return specifier_set(text)
    except InvalidSpecifier:
        raise CandidatesFileError(
            f"{where}: python: {text!r} is not a range; write it as >=3.10,<3.14"
        ) from None


def _channels(value: object, name: str) -> dict[str, dict[str, str]]:
    where = f"{name}: channels"
    if not isinstance(value, dict):
        raise CandidatesFileError(f"{where}: is not a table; begin it with [channels.torch]")
    check_keys(value, where, tuple(Project), (), CandidatesFileError)
    found: dict[str, dict[str, str]] = {}
    for project, rows in value.items():
        if not isinstance(rows, dict):
            raise CandidatesFileError(
                f"{where}: {project}: is not a table; begin it with [channels.{project}]"
            )
        for channel in rows:
            if not _CHANNEL_NAME.fullmatch(channel):
                raise CandidatesFileError(
                    f"{where}: {project}: {channel!r} is not a name; write it as"
                    f" {CHANNELS[Project(project)][0].name}"
                )
            address = _text(rows, channel, f"{where}: {project}")
            _clean(address, index_address, f"{where}: {project}: {channel}")
            found.setdefault(project, {})[channel] = address
    return found


def _text(row: Mapping[str, object], key: str, where: str) -> str:
    value = row[key]
    if not isinstance(value, str) or not value or not value.isprintable():
        raise CandidatesFileError(f"{where}: {key}: {value!r} is not a text; quote it")
    return value


def _version(row: Mapping[str, object], key: str, where: str) -> str:
    text = _text(row, key, where)
    try:
        parse_version(text)
    except InvalidVersion:
        raise CandidatesFileError(
            f"{where}: {key}: {text!r} is not a version; write it as 2.16.0rc1"
        ) from None
    return text


def _matching(
    row: Mapping[str, object], key: str, where: str, form: re.Pattern[str], example: str
) -> str:
    text = _text(row, key, where)
    if not form.fullmatch(text):
        raise CandidatesFileError(f"{where}: {key}: {text!r} has another form; write {example}")
    return text
