"""Bring the data file of releases up to date with an index, after each release that was read."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from matrix._util.console import print_status
from matrix._util.files import write_text
from matrix._util.text import mib
from matrix.catalog import requirements
from matrix.catalog.index import Index
from matrix.catalog.package_metadata import (
    ReleaseMetadata,
    main_cuda,
    metadata_of,
    read_companion,
    read_torch,
    read_vllm,
    wanted_member,
)
from matrix.catalog.projects import Project
from matrix.catalog.published_file import PublishedFile
from matrix.catalog.refresh_merge import (
    REFRESHED,
    ChangeKind,
    ReleaseRows,
    RowChange,
    changes,
    complete,
    followed,
    gone,
    linux_wheel,
    merge,
    source_distribution,
    to_json,
    to_read,
    unreadable,
)
from matrix.catalog.release import COMPANIONS
from matrix.catalog.releases_file import read_rows
from matrix.catalog.revision import VERSION_FILES, revision_of
from matrix.errors import MatrixError

_IN_A_WHEEL = ("wheel", "metadata")  # sources that have a wheel's own metadata
# The members of a wheel that are read by parts where the index serves its metadata.
_IN_PARTS: Mapping[str, tuple[str, ...]] = {
    "torch": (VERSION_FILES["torch"],),
    "vllm": ("vllm/envs.py", VERSION_FILES["vllm"]),
    **{name: (f"{name}/version.py",) for name in COMPANIONS},
}
_Listed = Mapping[str, Mapping[str, Sequence[PublishedFile]]]  # by project and version


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """The result of a refresh: changes, failures, what the index no longer lists, what was read."""

    changes: tuple[RowChange, ...] = ()
    failures: tuple[str, ...] = ()
    gone: tuple[tuple[str, str], ...] = ()
    read: int = 0


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A release whose metadata is to be read."""

    project: str
    version: str
    files: Sequence[PublishedFile]


def refresh(path: Path, index: Index, *, check: bool = False, jobs: int = 4) -> Refreshed:
    """Read what is new on the index and write it to the data file, after each release.

    A refresh that is interrupted therefore continues where it was. With `check` no release is read
    and nothing is written: the changes name the releases that would be read. What fails is reported
    and the rest continues; the rows of what failed stay as they were. What a vLLM requires goes
    into `requirements.json` in the same folder. Raises MatrixError if a file cannot be read or
    written.
    """
    old: ReleaseRows = {
        project: {str(row["version"]): row for row in rows}
        for project, rows in read_rows(path).items()
    }
    published, failures = _list(index)
    file = _File(path, rows=old)
    rows, tasks = _merge_pages(old, published, failures, file.requirements)
    read = 0
    if check:
        found = changes(old, rows)
        found += _unread_changes(old, tasks, found)
    else:
        rows, read = _read_all(index, tasks, file, rows, failures, jobs=jobs)
        found = changes(old, rows)
    return Refreshed(
        changes=tuple(found),
        failures=tuple(failures),
        gone=tuple(
            (project, version)
            for project in published
            for version in gone(project, old, published[project])
        ),
        read=read,
    )


class _File:
    """The data file and the rows that it has, and the file of requirements in its folder."""

    def __init__(self, path: Path, *, rows: ReleaseRows) -> None:
        self._path, self._rows = path, rows
        self._beside = path.with_name(requirements.REQUIREMENTS_FILE.name)
        self.requirements = requirements.read_requirements(self._beside)

    def write(self, rows: ReleaseRows) -> None:
        """Write the rows where they differ from those of the file."""
        if rows != self._rows:
            write_text(self._path, to_json(rows))
            self._rows = rows

    def write_requirements(self, version: str, lines: Sequence[str]) -> None:
        """Write what a release of vLLM requires, where that differs."""
        if self.requirements.get(version) != tuple(lines):
            self.requirements = {**self.requirements, version: tuple(lines)}
            write_text(self._beside, requirements.to_json(self.requirements))


def _merge_pages(
    old: ReleaseRows, published: _Listed, failures: list[str], required: requirements.Requirements
) -> tuple[ReleaseRows, list[_Task]]:
    """Return the rows with what the index's pages say, and the releases that are to be read.

    A vLLM whose requirements nobody read is among them, if its metadata is that of a wheel.
    """
    rows, tasks = old, []
    for project, releases in published.items():
        new = set(to_read(project, old, releases))
        for version, files in releases.items():
            note = unreadable(files)
            known = "source" in old.get(project, {}).get(version, {})
            try:
                rows = merge(rows, project, version, files, None if known else note)
            except MatrixError as error:
                failures.append(str(error))
                continue
            read_in = old.get(project, {}).get(version, {}).get("source")
            lacks = project == "vllm" and version not in required and read_in in _IN_A_WHEEL
            if (version in new or lacks) and note is None:
                tasks.append(_Task(project=project, version=version, files=files))
    return complete(rows), tasks


def _unread_changes(
    old: ReleaseRows, tasks: Iterable[_Task], found: Iterable[RowChange]
) -> Iterator[RowChange]:
    """Return a change for each release that is to be read and has no other change."""
    shown = {(change.project, change.version) for change in found}
    for task in tasks:
        if (task.project, task.version) not in shown:
            known = task.version in old.get(task.project, {})
            yield RowChange(
                kind=ChangeKind.CHANGED if known else ChangeKind.NEW,
                project=task.project,
                version=task.version,
                what="its metadata is to be read",
            )


def _read_all(
    index: Index,
    tasks: Sequence[_Task],
    file: _File,
    rows: ReleaseRows,
    failures: list[str],
    *,
    jobs: int,
) -> tuple[ReleaseRows, int]:
    """Read these releases side by side; return the rows with them, and how many were read."""
    read, began = 0, time.monotonic()
    workers = ThreadPoolExecutor(jobs)
    try:
        running = {workers.submit(_read, index, task): task for task in tasks}
        for done, future in enumerate(as_completed(running), 1):
            task = running[future]
            name = f"{task.project} {task.version}"
            try:
                metadata, how = future.result()
                rows = complete(merge(rows, task.project, task.version, task.files, metadata))
            except MatrixError as error:
                line = str(error)
                failures.append(line if task.version in line else f"{name}: {line}")
                _progress(f"[{done}/{len(tasks)}] {name}: FAILED")
                continue
            file.write(rows)
            if metadata.requirements is not None:
                file.write_requirements(task.version, metadata.requirements)
            read += 1
            seconds = time.monotonic() - began
            _progress(f"[{done}/{len(tasks)}] {name}: {how}; {seconds:.1f} s in all")
    except BaseException:
        index.stop()
        raise
    finally:
        workers.shutdown(cancel_futures=True)
    file.write(rows)
    return rows, read


def _list(index: Index) -> tuple[_Listed, list[str]]:
    """Return the releases of each project on the index, and why the other projects failed."""
    with ThreadPoolExecutor(len(REFRESHED)) as workers:
        pages = {project: workers.submit(index.files, project) for project in REFRESHED}
    found: dict[str, Mapping[str, Sequence[PublishedFile]]] = {}
    failures = []
    for project, future in pages.items():
        try:
            found[project] = followed(project, future.result())
        except MatrixError as error:
            failures.append(str(error))
    return found, failures


def _read(index: Index, task: _Task) -> tuple[ReleaseMetadata, str]:
    """Read one release by the cheapest file that is enough; also return how, for people."""
    project, version, files = task.project, task.version, task.files
    began = time.monotonic()
    wheel, sdist = linux_wheel(files), source_distribution(files)
    if wheel is not None and (text := index.served_metadata(wheel)) is not None:
        members, source, how = {"METADATA": text}, "metadata", "metadata"
    else:
        parts = wheel is not None and index.ranged(wheel)
        file = wheel if parts or sdist is None else sdist
        assert file is not None  # `unreadable` holds that
        source = "wheel" if file.is_wheel else "sdist"
        how = f"parts of a {source}" if parts else f"{source} of {mib(file.size or 0)}"
        members = _members(index, file)
    if source == "metadata" and wheel is not None and index.ranged(wheel):
        # Not even a request more where the server sends no parts: a wheel of torch has 0.5 GB.
        members |= index.members(wheel, lambda name: name in _IN_PARTS[project])
    if project == "vllm":
        # Its metadata does not say with which CUDA it is built; its sources do.
        if main_cuda(members) is None and sdist is not None and source != "sdist":
            more = _members(index, sdist)
            members |= {name: more[name] for name in more if name.endswith(".py")}
            how += f" and sdist of {mib(sdist.size or 0)}"
    elif project in COMPANIONS and source == "metadata" and wheel is not None:
        # Nor does that of a companion; a module of a few lines in its small wheel does.
        members |= index.members(wheel, lambda name: name in _IN_PARTS[project])
    read = _parse(project, version, members, source)
    return read, f"{how} in {time.monotonic() - began:.1f} s"


def _members(index: Index, file: PublishedFile) -> dict[str, str]:
    if not (file.is_wheel and index.ranged(file)):
        _progress(f"fetching {file.filename}, {mib(file.size or 0)}")
    return index.members(file, lambda name: wanted_member(name) or _has_revision(name))


def _has_revision(name: str) -> bool:
    """Tell whether a member of a wheel or source distribution has the git revision."""
    return any(name == file or name.endswith(f"/{file}") for file in VERSION_FILES.values())


def _parse(project: str, version: str, members: Mapping[str, str], source: str) -> ReleaseMetadata:
    if project == "vllm":
        read = read_vllm(version, members, source)
    elif project == "torch":
        read = read_torch(version, metadata_of(members), source)
    else:
        return read_companion(project, version, members, source)
    texts = (members[name] for name in sorted(members) if _has_revision(name))
    revision = revision_of(Project(project), version, next(texts, None))
    return replace(read, facts={**read.facts, "revision": revision}) if revision else read


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print_status(line)
