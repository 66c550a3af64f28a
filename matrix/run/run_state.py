"""The folder of a run of many cells: its jobs, a journal of what happened, and the logs.

It lies in `runs`, below the folder of records, and has no file that a reader takes for a record.
The journal is one file of JSON lines that only grows: what a killed run wrote is there, and a last
line that it did not finish is left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from matrix._util.console import print_status
from matrix._util.enums import StrEnum
from matrix._util.files import FileError, check_folder, write_text
from matrix.errors import MatrixError
from matrix.run.job import Job, JobEnd
from matrix.run.process import SILENCE
from matrix.store.layout import RUNS

JOURNAL = "journal.jsonl"
SCHEMA = 2
"""The number of the journal's form: raise it for a code that older programs do not read.

2: a cell without a Python ends as `no_python`.
"""
OLDEST_SCHEMA = 1

_STAMP = "%Y%m%dT%H%M%SZ"
_PATIENCE = 60.0  # seconds for cells of a killed run to end: tox gives them 30


class RunStateError(MatrixError):
    """A run that cannot be begun, or gone on with: names its folder."""


class Happened(StrEnum):
    """The content of a line of a journal."""

    BEGUN = "begun"
    RESUMED = "resumed"
    JOB = "job"
    BUILDS = "builds"
    BUILT = "built"
    RUNS = "runs"
    FAILED = "failed"
    GPU_FAILED = "gpu_failed"
    ENDED = "ended"
    JOINED = "joined"
    LOST = "lost"
    REMOVED = "removed"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class RunEvent:
    """Something that happened in a run, at a time in seconds since 1970.

    `environment`, `job` (its key), `seconds`, `log` and `detail` are there where they mean
    something; `works` says whether a build or a removal did what it should, or
    whether a machine that joined is fit. `gpus` are those of a job of which one, or the driver,
    failed.
    """

    what: Happened
    at: float
    environment: str | None = None
    job: str | None = None
    machine: str | None = None
    seconds: float | None = None
    works: bool | None = None
    log: str | None = None
    detail: str = ""
    gpus: tuple[str, ...] = ()
    end: JobEnd | None = None


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The request of a run. `records` is the folder of its records, `options` are for cells."""

    records: str
    options: tuple[str, ...] = ()
    selection: tuple[str, ...] = ()


class RunState:
    """The folder of an unfinished run. One process at a time has it; `close` lets go of it.

    `held` is a descriptor for what the process starts: as long as that has it open, it continues,
    and no other process resumes the run.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder. Raises RunStateError if another process has it, or nobody may."""
        self.folder = folder
        self.logs = folder / "logs"
        self._unwritten = b""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self._file = (folder / JOURNAL).open("ab", buffering=0)
            self.held = os.open(self.logs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _refused(folder, error) from None
        if not _lock(self._file.fileno()):
            self.close()
            raise RunStateError(
                f"{folder}: another process is still running this run; wait for its end, or end it"
            )
        self._end_of_line()

    @property
    def lost(self) -> int:
        """The number of lines that the disk never took."""
        return self._unwritten.count(b"\n")

    @classmethod
    def begin(cls, begun: Begun, jobs: Iterable[Job], now: datetime | None = None) -> RunState:
        """Make the folder of a new run, and note what it is asked for and its jobs.

        The journal is there with all jobs or not at all, so that a process that is killed leaves no
        run of some of them. The name of the folder comes after those of the runs before, also where
        the clock was set back since. Raises RunStateError if the folder, or that of a record,
        cannot be written.
        """
        runs, jobs = Path(begun.records, RUNS), tuple(jobs)
        check_folders(Path(begun.records), jobs)
        began = (now or datetime.now(timezone.utc)).replace(microsecond=0)
        at = max(began, _last_begun(runs, began) + timedelta(seconds=1))
        while True:
            folder = runs / f"{at:{_STAMP}}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                at += timedelta(seconds=1)  # two runs began in one second
                continue
            except OSError as error:
                raise _refused(runs, error) from None
            break
        lines = [{"what": Happened.JOB, "job": plain(job)} for job in jobs]
        head = {"what": Happened.BEGUN, "at": began.timestamp(), "schema": SCHEMA, **plain(begun)}
        text = "".join(map(_line, ({**head, "jobs": len(lines)}, *lines)))
        try:
            write_text(folder / JOURNAL, text)
        except FileError:
            raise RunStateError(
                f"{folder / JOURNAL}: cannot be written; make room on its disk"
            ) from None
        state = cls(folder)
        _lock(state.held)
        return state

    @classmethod
    def resume(cls, folder: Path, at: float, patience: float = _PATIENCE) -> RunState:
        """Take the folder of an earlier run, and note that it goes on at that time.

        What a killed process left at work has so many seconds to end. Raises RunStateError if it
        does not.
        """
        state = cls(folder)
        until, spoke = time.monotonic() + patience, -SILENCE
        while not _lock(state.held):
            now = time.monotonic()
            if now - spoke >= SILENCE:
                spoke = now
                left = f"{max(until - now, 0):.0f} s more at most"
                print_status(
                    f"{folder}: waits for processes that an earlier part of this run left, {left}"
                )
            if now > until:
                state.close()
                raise RunStateError(
                    f"{folder}: cells of an earlier part of this run do not end; end them, or begin"
                    " a new run"
                )
            time.sleep(0.1)
        # This program may be newer than the one that began the run, and writes its own codes.
        state.write([{"what": Happened.RESUMED, "at": at, "schema": SCHEMA}])
        return state

    def note(self, event: RunEvent) -> None:
        """Add an event; what the disk refuses stops nothing, and is written with the next one."""
        held = {key: value for key, value in plain(event).items() if value not in (None, "", ())}
        self.write([held])

    def write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines to the journal, and have the disk take them."""
        self._unwritten += "".join(map(_line, lines)).encode()
        self._flush()

    def _flush(self) -> None:
        # A disk that becomes full takes a part of a line.
        with contextlib.suppress(OSError, ValueError):
            while self._unwritten:
                self._unwritten = self._unwritten[self._file.write(self._unwritten) :]

    def close(self) -> None:
        """Let go of the folder."""
        self._flush()
        with contextlib.suppress(OSError):
            self._file.close()
        if self.held >= 0:
            os.close(self.held)
            self.held = -1

    def _end_of_line(self) -> None:
        """End a line that a killed run left unfinished, so that the next one is whole."""
        with contextlib.suppress(OSError), (self.folder / JOURNAL).open("rb") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    self._file.write(b"\n")


def check_folders(records: Path, jobs: Iterable[Job]) -> None:
    """Raise RunStateError if a folder in which the jobs leave their records cannot be written.

    Each job would be built and run, and leave nothing.
    """
    for folder in sorted({records / job.platform for job in jobs}):
        try:
            check_folder(folder)
        except OSError as error:
            raise _refused(folder, error) from None


def is_ahead(name: str, now: datetime) -> bool:
    """Return whether a run has its name of a clock that was more than a day ahead of this one."""
    return name > f"{now + timedelta(days=1):{_STAMP}}"


def _last_begun(runs: Path, now: datetime) -> datetime:
    """Return the newest time that a run in the folder is named by, if not by a clock far ahead."""
    found = []
    with contextlib.suppress(OSError), os.scandir(runs) as entries:
        for entry in entries:
            with contextlib.suppress(ValueError):
                if not is_ahead(entry.name, now):
                    found.append(datetime.strptime(f"{entry.name}+0000", f"{_STAMP}%z"))
    return max(found, default=now - timedelta(seconds=1))


def _lock(opened: int) -> bool:
    """Lock an open file or folder; return whether nobody else has it. A disk may lack locks."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _refused(folder: Path, error: OSError) -> RunStateError:
    return RunStateError(
        f"{folder}: cannot be written: {error.strerror or error}; choose another folder by"
        " --records"
    )


def _line(of: Mapping[str, Any]) -> str:
    return f"{json.dumps(of, sort_keys=True)}\n"


def plain(value: Begun | Job | RunEvent) -> dict[str, Any]:
    """Return a dataclass as JSON has it."""
    found: dict[str, Any] = dataclasses.asdict(value)
    return found
