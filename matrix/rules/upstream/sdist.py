"""Read upstream's numbers from the source distributions of vLLM's releases on an index.

Nothing of a source distribution is kept on disk, imported or run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from matrix._util.versions import parse_version
from matrix.catalog.index import Index
from matrix.catalog.published_file import PublishedFile
from matrix.catalog.refresh_merge import followed, source_distribution
from matrix.errors import MatrixError
from matrix.rules.upstream.changes import UpstreamChange, changes
from matrix.rules.upstream.file import load_upstream, write_upstream
from matrix.rules.upstream.model import FLAG, STARTUP_TESTS, Upstream, UpstreamRelease
from matrix.rules.upstream.tests import read_flag, read_tests

OLDEST_WITH_TESTS = Version("0.16")
"""The oldest release that is read: the first with a test that counts what a start compiles."""

_FLAGS_FILE = "vllm/envs.py"
_MEMBER = re.compile(
    r"[^/]+/(vllm/envs\.py|tests/compile/([\w-]+/){0,4}test_(startup|cold_start|aot_compile)\.py)"
)
_MEMBERS = 16  # of one source distribution; real ones have three


@dataclass(frozen=True, kw_only=True)
class UpstreamRead:
    """The result of a reading: the number of releases read, the changes, the failures."""

    upstream: Upstream
    changes: tuple[UpstreamChange, ...] = ()
    failures: tuple[str, ...] = ()
    read: int = 0


def read_upstream(path: Path, index: Index, *, every: bool = False, jobs: int = 2) -> UpstreamRead:
    """Read the releases that the data file does not have yet, or `every` one, and write the file.

    A release whose source distribution is another one than before is read as well. The file is
    written after each release. What cannot be read is named and the rest continues. Raises
    MatrixError if the index has no list of vLLM's releases or the file cannot be used.
    """
    known = load_upstream(path) if path.exists() else Upstream()
    published = {
        version: source_distribution(files)
        for version, files in followed("vllm", index.files("vllm")).items()
        if Version(version) >= OLDEST_WITH_TESTS
    }
    tasks = {
        version: file
        for version, file in published.items()
        if every or _is_new(known.release(version), file)
    }
    failures: list[str] = []
    found = {known_release.version: known_release for known_release in known.releases}
    read = 0
    for version, release in _read_all(index, tasks, failures, jobs=jobs):
        found[version] = release
        failures += [f"vLLM {version}: {fault}" for fault in release.every_fault()]
        read += 1
        write_upstream(path, _ordered(found))
    upstream = _ordered(found)
    return UpstreamRead(
        upstream=upstream,
        changes=tuple(
            change
            for older, newer in zip(upstream.releases, upstream.releases[1:], strict=False)
            if newer.version in tasks
            for change in changes(older, newer)
        ),
        failures=tuple(sorted(failures, key=_by_release)),
        read=read,
    )


def _read_release(version: str, members: dict[str, str], sha256: str | None) -> UpstreamRelease:
    """Return what a release's source distribution says, by its members that are wanted.

    A member's name begins with the folder of the release. What cannot be read is a fault.
    """
    named = {name.partition("/")[2]: content for name, content in sorted(members.items())}
    files, faults = {}, []
    for path, content in named.items():
        if path == _FLAGS_FILE:
            continue
        startup = path.rpartition("/")[2] in STARTUP_TESTS
        tests = read_tests(content, startup=startup)
        if startup or tests.cases or tests.faults:
            files[path] = tests
    if not any(path.rpartition("/")[2] in STARTUP_TESTS for path in files):
        names = " or ".join(STARTUP_TESTS)
        faults.append(f"its source distribution has no startup test: no {names} in tests/compile")
    default = read_flag(named.get(_FLAGS_FILE, ""), FLAG)
    if default is None:
        faults.append(f"the default of {FLAG} was not found in {_FLAGS_FILE}")
    return UpstreamRelease(
        version=version,
        sha256=sha256,
        files=files,
        flags={} if default is None else {FLAG: default},
        faults=tuple(faults),
    )


def _is_new(known: UpstreamRelease | None, file: PublishedFile | None) -> bool:
    return known is None or known.sha256 != (None if file is None else file.sha256)


def _read_all(
    index: Index, tasks: dict[str, PublishedFile | None], failures: list[str], *, jobs: int
) -> Iterator[tuple[str, UpstreamRelease]]:
    """Read these releases side by side; yield each that could be fetched."""
    workers = ThreadPoolExecutor(jobs)
    try:
        running = {
            workers.submit(_read, index, version, file): version for version, file in tasks.items()
        }
        for future in as_completed(running):
            version = running[future]
            try:
                yield version, future.result()
            except MatrixError as error:
                failures.append(f"vLLM {version}: {error}")
    except BaseException:
        index.stop()
        raise
    finally:
        workers.shutdown(cancel_futures=True)


def _read(index: Index, version: str, file: PublishedFile | None) -> UpstreamRelease:
    if file is None:
        fault = "the index has no source distribution of it"
        return UpstreamRelease(version=version, sha256=None, faults=(fault,))
    return _read_release(version, index.members(file, _wanted()), file.sha256)


def _wanted() -> Callable[[str], bool]:
    """Return a function that selects the members to read, up to a limit."""
    left = _MEMBERS

    def wanted(name: str) -> bool:
        nonlocal left
        if not _MEMBER.fullmatch(name) or not left:
            return False
        left -= 1
        return True

    return wanted


def _ordered(found: dict[str, UpstreamRelease]) -> Upstream:
    order = sorted(found, key=parse_version)
    return Upstream(releases=tuple(found[version] for version in order))


def _by_release(line: str) -> tuple[Version, str]:
    return parse_version(line.split()[1].rstrip(":")), line
