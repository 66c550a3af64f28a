"""Bring the data file of releases up to date with an index: read what is new, write as it comes."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from matrix._util.console import print_status
from matrix._util.files import write_text
from matrix._util.text import mib
from matrix.catalog.index import Index, Published
from matrix.catalog.package_metadata import (
    Read,
    main_cuda,
    read_companion,
    read_torch,
    read_vllm,
    wanted_member,
)
from matrix.catalog.refresh import (
    PROJECTS,
    Change,
    Rows,
    changes,
    due,
    finished,
    gone,
    linux_wheel,
    listed,
    merged,
    source_distribution,
    text,
    unreadable,
)
from matrix.catalog.releases_file import read_rows
from matrix.errors import MatrixError

__all__ = ["Refreshed", "refresh"]

_Files = Sequence[Published]
_Task = tuple[str, str, _Files]  # project, version, its files


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did: what changed, what failed and why, and what the index lists no more."""

    changes: tuple[Change, ...]
    failures: tuple[str, ...] = ()
    gone: tuple[tuple[str, str], ...] = ()
    read: int = 0


def refresh(path: Path, index: Index, *, check: bool = False, jobs: int = 4) -> Refreshed:
    """Read what is new on the index and write it to the data file, after each release.

    So a refresh that is ended goes on where it was. With `check` nothing of a release is read and
    nothing written: the changes tell which releases would be. What fails is told and the rest goes
    on; the rows of what failed stay as they were. Raises MatrixError where the file cannot be read
    or written.
    """
    old: Rows = {
        project: {str(row["version"]): row for row in rows}
        for project, rows in read_rows(path).items()
    }
    kept = old
    published, failures = _list(index)
    rows, tasks = old, []
    for project, releases in published.items():
        new = set(due(project, old, releases))
        for version, files in releases.items():
            nothing = unreadable(project, files)
            known = "source" in old.get(project, {}).get(version, {})
            try:
                rows = merged(rows, project, version, files, None if known else nothing)
            except MatrixError as error:
                failures.append(str(error))
                continue
            if version in new and nothing is None:
                tasks.append((project, version, files))
    left = [(name, each) for name in published for each in gone(name, old, published[name])]
    rows = finished(rows)
    if check:
        found = changes(old, rows)
        told = {(each.project, each.version) for each in found}
        found += [
            Change("changed" if version in old.get(project, {}) else "new", project, version, why)
            for project, version, _ in tasks
            for why in ["its metadata is to be read"]
            if (project, version) not in told
        ]
        return Refreshed(tuple(found), tuple(failures), tuple(left))
    done, good, began = 0, 0, time.monotonic()
    workers = ThreadPoolExecutor(jobs)
    try:
        running = {workers.submit(_read, index, task): task for task in tasks}
        for future in as_completed(running):
            project, version, files = running[future]
            done += 1
            try:
                read, how = future.result()
                rows = finished(merged(rows, project, version, files, read))
            except MatrixError as error:
                said = str(error)
                failures.append(said if version in said else f"{project} {version}: {said}")
                _progress(f"[{done}/{len(tasks)}] {project} {version}: FAILED")
                continue
            kept, good = _write(path, rows, kept), good + 1
            seconds = time.monotonic() - began
            _progress(f"[{done}/{len(tasks)}] {project} {version}: {how}; {seconds:.1f} s in all")
    except BaseException:
        index.stop()
        raise
    finally:
        workers.shutdown(cancel_futures=True)
    _write(path, rows, kept)
    return Refreshed(tuple(changes(old, rows)), tuple(failures), tuple(left), good)


def _list(
    index: Index,
) -> tuple[dict[str, dict[str, tuple[Published, ...]]], list[str]]:
    """The releases of each project that the index lists, and why it does not list the others."""
    with ThreadPoolExecutor(len(PROJECTS)) as workers:
        asked = {project: workers.submit(index.files, project) for project in PROJECTS}
    found, failures = {}, []
    for project, future in asked.items():
        try:
            found[project] = listed(project, future.result())
        except MatrixError as error:
            failures.append(str(error))
    return found, failures


def _read(index: Index, task: _Task) -> tuple[Read, str]:
    """Read one release by the cheapest file that will do; also says how, for a person."""
    project, version, files = task
    began = time.monotonic()
    wheel, sdist = linux_wheel(project, files), source_distribution(files)
    if wheel is not None and (served := index.served_metadata(wheel)) is not None:
        members, source, how = {"METADATA": served}, "metadata", "metadata"
    else:
        parts = wheel is not None and index.ranged(wheel)
        file = wheel if parts or sdist is None else sdist
        assert file is not None  # `unreadable` has seen to it
        source = "wheel" if file.is_wheel else "sdist"
        how = f"parts of a {source}" if parts else f"{source} of {mib(file.size or 0)}"
        members = _members(index, file)
    if project == "vllm":
        # Its metadata does not say with which CUDA it is built; its sources do.
        if source == "metadata" and wheel is not None and index.ranged(wheel):
            members |= index.members(wheel, lambda name: name == "vllm/envs.py")
        if main_cuda(members) is None and sdist is not None and source != "sdist":
            more = _members(index, sdist)
            members |= {name: more[name] for name in more if name.endswith(".py")}
            how += f" and sdist of {mib(sdist.size or 0)}"
    read = _understood(project, version, members, source)
    return read, f"{how} in {time.monotonic() - began:.1f} s"


def _members(index: Index, file: Published) -> dict[str, str]:
    if not (file.is_wheel and index.ranged(file)):
        _progress(f"fetching {file.filename}, {mib(file.size or 0)}")
    return index.members(file, wanted_member)


def _understood(project: str, version: str, members: Mapping[str, str], source: str) -> Read:
    if project == "vllm":
        return read_vllm(version, members, source)
    metadata = next(
        (members[name] for name in sorted(members) if name.endswith(("METADATA", "PKG-INFO"))), ""
    )
    if project == "torch":
        return read_torch(version, metadata, source)
    return read_companion(project, version, metadata, source)


def _write(path: Path, rows: Rows, kept: Rows) -> Rows:
    """Write the rows where they differ from those that the file has; it has these now."""
    if rows != kept:
        write_text(path, text(rows))
    return rows


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print_status(line)
