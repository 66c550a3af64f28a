"""The journal of a run of many cells: its jobs, how they ended, and the jobs left to run.

`matrix.run.run_state` writes it. What a killed run did not finish to write is left out; a journal
that is damaged is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from matrix.catalog.cells import Cell
from matrix.errors import MatrixError
from matrix.record.model import ErrorKind, Platform, Record, RecordError
from matrix.record.reader import read
from matrix.record.running import is_running
from matrix.record.upstream import UpstreamSuite
from matrix.run.job import HowEnded, Job, JobEnd, JobEstimate, WhyNot
from matrix.run.machine import Demand, Lack, Resource
from matrix.run.run_state import (
    JOURNAL,
    OLDEST_SCHEMA,
    SCHEMA,
    Begun,
    Happened,
    RunEvent,
    RunStateError,
    is_ahead,
)
from matrix.store.layout import RUNS

_MOST_BYTES = 256 << 20  # of a journal: 100,000 jobs are some 60 MiB


@dataclass(frozen=True, kw_only=True)
class Past:
    """The content of a run's journal: its jobs in order, and the ends of finished jobs.

    `lost` has the machines that were lost while they ran a job, by the job's key.
    """

    begun: Begun
    at: float
    jobs: tuple[Job, ...]
    ends: Mapping[str, JobEnd]
    lost: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def find(records: Path, named: str = "") -> Path:
    """Return the folder of a run: the one of that name, or without a name the newest.

    A run that a clock named which was more than a day ahead counts as the oldest.
    Raises RunStateError if there is none.
    """
    runs = records / RUNS
    if named:
        found = [path for path in (Path(named), runs / named) if (path / JOURNAL).is_file()]
        if not found:
            raise RunStateError(f"--resume {named}: no run of this name in {runs}")
        if found[0].absolute().parent.name != RUNS:
            raise RunStateError(
                f"--resume {named}: is not in the folder {RUNS} of a folder of records; move it"
                " there"
            )
        return found[0]
    now = datetime.now(timezone.utc)
    every = [path.parent for path in runs.glob(f"*/{JOURNAL}") if path.is_file()]
    every.sort(key=lambda path: (not is_ahead(path.name, now), path.name))
    if not every:
        raise RunStateError(f"--resume: no run in {runs}; name the folder by --records")
    return every[-1]


def read_run(folder: Path) -> Past:
    """Read the journal of a run. Raises RunStateError if it is not one of ours."""
    path = folder / JOURNAL
    found = _Reading(path)
    try:
        for line in _lines(path):
            found.take(line)
    except OSError as error:
        raise RunStateError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError, OverflowError, MatrixError) as error:
        if isinstance(error, RunStateError):
            raise
        raise RunStateError(
            f"{path}: is not the journal of a run ({error!r}); begin a new run"
        ) from None
    return found.past()


class _Reading:
    """The state from the lines of a journal that were read so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun: Begun | None = None
        self._count = 0
        self._at = 0.0
        self._jobs: list[Job] = []
        self._keys: set[str] = set()
        self._ends: dict[str, JobEnd] = {}
        self._runs_on: dict[str, str] = {}
        self._lost: dict[str, tuple[str, ...]] = {}

    def take(self, line: Mapping[str, Any]) -> None:
        """Take a line. Raises what a line of a wrong form raises."""
        what = line.get("what")
        if what == Happened.BEGUN and self._begun is None:
            self._check_schema(line.get("schema"))
            self._begun, self._at = _begun(line), _moment(line["at"])
            self._count = int(line.get("jobs", 0))
        elif what == Happened.JOB:
            self._add(job_of(line["job"]))
        elif what == Happened.RESUMED:
            self._check_schema(line.get("schema", OLDEST_SCHEMA))
            self._runs_on.clear()  # what ran when the earlier part was killed ended with it
        elif what == Happened.RUNS:
            self._runs_on[str(line["job"])] = str(line.get("machine"))
        elif what == Happened.FAILED:
            self._runs_on.pop(str(line["job"]), None)
        elif what == Happened.LOST:
            self._lose(str(line["machine"]))
        elif what == Happened.ENDED:
            end = _end(line["end"])
            self._ends[end.job] = end
            self._runs_on.pop(end.job, None)

    def _check_schema(self, schema: object) -> None:
        """Raise RunStateError if another version wrote what follows."""
        if type(schema) is not int or schema < OLDEST_SCHEMA:
            raise RunStateError(f"{self._path}: was written by another version; begin a new run")
        if schema > SCHEMA:
            raise RunStateError(
                f"{self._path}: its schema is {str(schema)[:20]}, newer than this matrix knows"
                f" ({SCHEMA}); update torch-vllm-matrix, or begin a new run"
            )

    def _add(self, job: Job) -> None:
        if job.key in self._keys:
            raise ValueError(f"job {job.key} appears twice")
        if job.environment != job.cell.name:
            raise RunStateError(
                f"{self._path}: job {job.key} would run in another environment than that of its"
                f" cell, {job.cell.name}; begin a new run"
            )
        self._keys.add(job.key)
        self._jobs.append(job)

    def _lose(self, machine: str) -> None:
        for job in [job for job, on in self._runs_on.items() if on == machine]:
            del self._runs_on[job]
            self._lost[job] = (*self._lost.get(job, ()), machine)

    def past(self) -> Past:
        """Return what the journal holds. Raises RunStateError if it has no jobs."""
        if self._begun is None or not self._jobs:
            raise RunStateError(f"{self._path}: has no jobs; begin a new run")
        if len(self._jobs) < self._count:
            what = f"is damaged: it has {len(self._jobs)} of {self._count} jobs"
            raise RunStateError(f"{self._path}: {what}; begin a new run")
        return Past(
            # Where the journal is, whatever it says: nothing is written elsewhere.
            begun=dataclasses.replace(self._begun, records=str(self._path.absolute().parents[2])),
            at=self._at,
            jobs=tuple(self._jobs),
            ends=self._ends,
            lost=self._lost,
        )


def done_records(past: Past) -> dict[str, Path]:
    """Return the records that the jobs of a run left and that stand, by the jobs' keys.

    A record that was interrupted, or is not finished, does not: its job is to run again. Nor does
    one with a part of the cases, which another run left, where the job is to run all; or one that
    lacks the full suite or a test of upstream's for which the run was asked. A run that
    was killed may lack the end of a job in its journal: then it is the cell's next record of those
    that began since, whichever round of the cell it is.
    """
    since = f"{datetime.fromtimestamp(past.at, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    records = Path(past.begun.records)
    wanted = {job.key: _wanted(job, past.begun.options) for job in past.jobs}
    found = {}
    for job in past.jobs:
        end = past.ends.get(job.key)
        if end is not None and end.record is not None:
            path = records / job.platform / Path(end.record).name
            # The clock of a node may be behind, so the time of the record does not count.
            if _stands(path, wanted[job.key]):
                found[job.key] = path
    taken = set(found.values())
    platforms = {job.platform for job in past.jobs}
    left = {platform: _by_cell(records / platform) for platform in platforms}
    for job in sorted(past.jobs, key=lambda job: job.round):
        paths = left[job.platform].get(job.environment, [])
        while job.key not in found and paths:
            path = paths.pop(0)
            if path not in taken and _stands(path, wanted[job.key], since):
                found[job.key] = path
    return found


def _by_cell(folder: Path) -> dict[str, list[Path]]:
    """Return the records of a folder by their cells, oldest first; none where it does not exist.

    It may have a million, so it is listed once.
    """
    found: dict[str, list[Path]] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in sorted(entry.name for entry in entries if entry.name.endswith(".json")):
            found.setdefault(name.partition(".")[0], []).append(folder / name)
    return found


def unended(past: Past, done: Mapping[str, Path], at: float) -> list[RunEvent]:
    """Return the ends that the journal of a killed run lacks of jobs whose records stand."""
    return [
        RunEvent(
            what=Happened.ENDED,
            at=at,
            job=key,
            end=JobEnd(job=key, how=HowEnded.DONE, record=str(path.absolute())),
        )
        for key, path in done.items()
        if (end := past.ends.get(key)) is None or end.record is None
    ]


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """The wanted content of a job's record: all startup cases, the full suite, upstream's tests."""

    whole: bool
    full: bool
    upstream: tuple[str, ...]

    def is_in(self, record: Record) -> bool:
        """Return whether the record has it; one of a run that ended early has what it can have."""
        if self.whole and record.deselected > 0:
            return False
        if record.error is not None:
            return True
        if self.full and record.full_suite is None:
            return False
        found = record.upstream or UpstreamSuite()
        return not self.upstream or (found.has_ended and all(map(found.has, self.upstream)))


def _wanted(job: Job, options: Sequence[str]) -> _Wanted:
    """Return what a job's record is to have, by the options of the cells of its run."""
    given = list(zip(options[::2], options[1::2], strict=False))
    whole = not (job.cases or job.pytest_args)
    return _Wanted(
        whole=whole,
        full=whole and ("--suite", "full") in given,
        upstream=tuple(text for name, text in given if name == "--upstream"),
    )


def _stands(path: Path, wanted: _Wanted, since: str = "") -> bool:
    try:
        record = read(path)
    except RecordError:
        return False
    ended = record.finished and not is_running(path, record)
    interrupted = record.error is not None and record.error.kind == ErrorKind.INTERRUPTED
    return ended and not interrupted and record.started >= since and wanted.is_in(record)


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


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{value!r} is not a list")
    return tuple(map(_text, value))


def _text(value: object) -> str:
    """Return a text that a program can be given. Raises ValueError for one with NUL or the like."""
    text = str(value)
    if "\0" in text:
        raise ValueError(f"{text!r} has a NUL")
    os.fsencode(text)
    return text


def _begun(line: Mapping[str, Any]) -> Begun:
    return Begun(
        records=str(line["records"]),
        options=_texts(line["options"]),
        selection=_texts(line["selection"]),
    )


def _demand(of: Mapping[str, Any]) -> Demand:
    if not isinstance(of, Mapping):
        raise TypeError(f"{of!r} is not a demand")
    names = {item.name for item in dataclasses.fields(Demand)} - {"whole_gpus"}
    whole = of.get("whole_gpus", False) is True  # runs from before it lack it
    return Demand(**{name: int(of[name]) for name in names}, whole_gpus=whole)


def job_of(of: Mapping[str, Any]) -> Job:
    """Return the job of `plain`. Raises KeyError, TypeError, ValueError or MatrixError."""
    at_once = of["cases_at_once"]
    return Job(
        cell=Cell(**{name: str(of["cell"][name]) for name in ("python", "torch", "vllm")}),
        environment=_name(of["environment"]),
        platform=Platform(of["platform"]),
        cases=_texts(of["cases"]),
        pytest_args=_texts(of["pytest_args"]),
        flags=tuple((_text(name), _text(value)) for name, value in of["flags"]),
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
    """Return the name of an environment, which becomes a part of paths."""
    text = str(value)
    if text.startswith("-") or not (text.isascii() and text.replace("-", "").isalnum()):
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
