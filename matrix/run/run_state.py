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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from matrix._util.enums import StrEnum
from matrix.catalog.cells import Cell
from matrix.errors import MatrixError
from matrix.record.model import ErrorKind, RecordError
from matrix.record.reader import read
from matrix.record.running import is_running
from matrix.run.job import HowEnded, Job, JobEnd, JobEstimate, WhyNot
from matrix.run.machine import Demand, Lack, Resource
from matrix.run.rerun import records_in

RUNS = "runs"
"""The folder of runs, below that of records."""

JOURNAL = "journal.jsonl"
SCHEMA = 1

_MOST_BYTES = 256 << 20  # of a journal: 100,000 jobs are some 60 MiB
_STAMP = "%Y%m%dT%H%M%SZ"


class RunStateError(MatrixError):
    """A run that cannot be begun, or gone on with: names its folder."""


class Happened(StrEnum):
    """What a line of a journal tells."""

    BEGUN = "begun"
    JOB = "job"
    BUILDS = "builds"
    BUILT = "built"
    RUNS = "runs"
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
    whether a machine that joined is fit.
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
    end: JobEnd | None = None


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What a run was asked for. `records` is the folder of its records, `options` are for cells."""

    records: str
    options: tuple[str, ...] = ()
    selection: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Past:
    """What the journal of a run holds: its jobs in order, and how those ended that did."""

    begun: Begun
    at: float
    jobs: tuple[Job, ...]
    ends: Mapping[str, JobEnd]


class RunState:
    """The folder of a run that goes on. One process at a time has it; `close` lets go of it."""

    def __init__(self, folder: Path) -> None:
        """Take the folder. Raises RunStateError where another process has it, or nobody may."""
        self.folder = folder
        self.logs = folder / "logs"
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self._file = (folder / JOURNAL).open("a", encoding="utf-8")
        except OSError as error:
            raise RunStateError(
                f"{folder}: cannot be written: {error.strerror or error}; choose another folder by"
                " --records"
            ) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise RunStateError(
                f"{folder}: this run goes on in another process; wait for its end, or end it"
            ) from None
        except OSError:
            pass  # a disk without locks
        self.lost = 0
        self._end_of_line()

    @classmethod
    def begin(cls, begun: Begun, jobs: Iterable[Job], now: datetime | None = None) -> RunState:
        """Make the folder of a new run, and note what it is asked for and its jobs."""
        runs = Path(begun.records, RUNS)
        began = at = (now or datetime.now(timezone.utc)).replace(microsecond=0)
        while True:
            folder = runs / f"{at:{_STAMP}}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                at += timedelta(seconds=1)  # two runs began in one second
                continue
            except OSError as error:
                raise RunStateError(
                    f"{runs}: cannot be written: {error.strerror or error}; choose another folder"
                    " by --records"
                ) from None
            break
        state = cls(folder)
        head = {"what": Happened.BEGUN, "at": began.timestamp(), "schema": SCHEMA, **plain(begun)}
        lines = [head, *({"what": Happened.JOB, "job": plain(job)} for job in jobs)]
        state.write(lines)
        if state.lost:
            state.close()
            raise RunStateError(f"{folder / JOURNAL}: cannot be written; make room on its disk")
        return state

    def note(self, event: RunEvent) -> None:
        """Add an event; what the disk refuses is counted in `lost` and stops nothing."""
        held = {key: value for key, value in plain(event).items() if value not in (None, "")}
        self.write([held])

    def write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines to the journal, and have the disk take them."""
        text = "".join(f"{json.dumps(line, sort_keys=True)}\n" for line in lines)
        try:
            self._file.write(text)
            self._file.flush()
        except (OSError, ValueError):
            self.lost += 1

    def log(self, name: str) -> Path:
        """Return the path of a log, which is empty."""
        path = self.logs / f"{name}.log"
        path.write_bytes(b"")
        return path

    def close(self) -> None:
        """Let go of the folder."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _end_of_line(self) -> None:
        """End a line that a killed run left unfinished, so that the next one is whole."""
        with contextlib.suppress(OSError), (self.folder / JOURNAL).open("rb") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    self.write_raw("\n")

    def write_raw(self, text: str) -> None:
        """Add text to the journal as it is."""
        with contextlib.suppress(OSError):
            self._file.write(text)
            self._file.flush()


def find(records: Path, named: str = "") -> Path:
    """Return the folder of a run: the one of that name, or without a name the newest.

    Raises RunStateError where there is none.
    """
    runs = records / RUNS
    if named:
        found = [path for path in (Path(named), runs / named) if (path / JOURNAL).is_file()]
        if not found:
            raise RunStateError(f"--resume {named}: no run of this name in {runs}")
        return found[0]
    every = sorted(path.parent for path in runs.glob(f"*/{JOURNAL}") if path.is_file())
    if not every:
        raise RunStateError(f"--resume: no run in {runs}; name the folder by --records")
    return every[-1]


def read_run(folder: Path) -> Past:
    """Read the journal of a run. Raises RunStateError where it is not one of ours."""
    path = folder / JOURNAL
    begun: Begun | None = None
    at = 0.0
    jobs: list[Job] = []
    ends: dict[str, JobEnd] = {}
    try:
        for line in _lines(path):
            what = line.get("what")
            if what == Happened.BEGUN and begun is None:
                if line.get("schema") != SCHEMA:
                    raise RunStateError(f"{path}: was written by another version; begin a new run")
                begun, at = _begun(line), _moment(line["at"])
            elif what == Happened.JOB:
                jobs.append(job_of(line["job"]))
            elif what == Happened.ENDED:
                end = _end(line["end"])
                ends[end.job] = end
    except OSError as error:
        raise RunStateError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError, OverflowError, MatrixError) as error:
        if isinstance(error, RunStateError):
            raise
        raise RunStateError(
            f"{path}: is not the journal of a run ({error!r}); begin a new run"
        ) from None
    if begun is None or not jobs:
        raise RunStateError(f"{path}: has no jobs; begin a new run")
    return Past(begun=begun, at=at, jobs=tuple(jobs), ends=ends)


def done_records(past: Past) -> dict[str, Path]:
    """Return the records that the jobs of a run left and that stand, by the jobs' keys.

    A record that was interrupted, or is not finished, does not: its job is to run again. Nor does
    one with a part of the cases, which another run left, where the job is to run all. Of the rounds
    of a cell each takes the next record.
    """
    since = f"{datetime.fromtimestamp(past.at, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    left: dict[tuple[str, str], list[Path]] = {}
    found = {}
    for job in sorted(past.jobs, key=lambda job: job.round):
        place = (job.platform, job.environment)
        if place not in left:
            folder = Path(past.begun.records, job.platform)
            names = sorted(name for name, *_ in records_in(folder, job.environment))
            whole = not (job.cases or job.pytest_args)
            paths = (folder / name for name in names)
            left[place] = [path for path in paths if _stands(path, since, whole=whole)]
        if left[place]:
            found[job.key] = left[place].pop(0)
    return found


def _stands(path: Path, since: str, *, whole: bool) -> bool:
    try:
        record = read(path)
    except RecordError:
        return False
    ended = record.finished and not is_running(path, record)
    interrupted = record.error is not None and record.error.kind == ErrorKind.INTERRUPTED
    part = whole and record.deselected > 0
    return ended and not interrupted and not part and record.started >= since


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that are whole; raises ValueError for a file too large to be a journal."""
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError("too large")
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue  # a killed run left it unfinished
            if isinstance(line, dict):
                yield line


def plain(value: Begun | Job | RunEvent) -> dict[str, Any]:
    """Return a dataclass as JSON has it."""
    found: dict[str, Any] = dataclasses.asdict(value)
    return found


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{value!r} is not a list")
    return tuple(map(str, value))


def _begun(line: Mapping[str, Any]) -> Begun:
    return Begun(
        records=str(line["records"]),
        options=_texts(line["options"]),
        selection=_texts(line["selection"]),
    )


def _demand(of: Mapping[str, Any]) -> Demand:
    return Demand(**{item.name: int(of[item.name]) for item in dataclasses.fields(Demand)})


def job_of(of: Mapping[str, Any]) -> Job:
    """Return the job of `plain`. Raises KeyError, TypeError, ValueError or MatrixError."""
    at_once = of["cases_at_once"]
    return Job(
        cell=Cell(**{name: str(of["cell"][name]) for name in ("python", "torch", "vllm")}),
        environment=_name(of["environment"]),
        platform=_name(of["platform"]),
        cases=_texts(of["cases"]),
        pytest_args=_texts(of["pytest_args"]),
        flags=tuple((str(name), str(value)) for name, value in of["flags"]),
        cases_at_once=None if at_once is None else int(at_once),
        round=int(of["round"]),
        estimate=JobEstimate(
            build_seconds=float(of["estimate"]["build_seconds"]),
            run_seconds=float(of["estimate"]["run_seconds"]),
        ),
        demand=_demand(of["demand"]),
        build=_demand(of["build"]),
    )


def _moment(value: object) -> float:
    """Return a time since 1970. Raises ValueError or OverflowError for one that no clock has."""
    moment = float(str(value))
    datetime.fromtimestamp(moment, timezone.utc)
    return moment


def _name(value: object) -> str:
    """Return the name of an environment or of a platform, which becomes a part of paths."""
    text = str(value)
    if not (text.isascii() and text.replace("-", "").isalnum()):
        raise ValueError(f"{text!r} is not a name")
    return text


def _end(of: Mapping[str, Any]) -> JobEnd:
    why = of["why"]
    return JobEnd(
        job=str(of["job"]),
        how=HowEnded(of["how"]),
        why=None if why is None else WhyNot(why),
        record=None if of["record"] is None else str(of["record"]),
        machine=None if of["machine"] is None else str(of["machine"]),
        seconds=None if of["seconds"] is None else float(of["seconds"]),
        log=None if of["log"] is None else str(of["log"]),
        detail=str(of["detail"]),
        machines=_texts(of["machines"]),
        lacks=tuple(map(_lack, of["lacks"])),
    )


def _lack(of: Mapping[str, Any]) -> Lack:
    return Lack(resource=Resource(of["resource"]), needs=int(of["needs"]), has=int(of["has"]))
