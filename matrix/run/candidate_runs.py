"""Run the cells that decide about a candidate, and again in a fresh environment what fails.

The runs themselves go through a `RunCell`: tox in earnest, made-up records in tests.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from matrix._util.reported import Say, last_line, run_reported
from matrix._util.text import clean, clip
from matrix.catalog.cells import Cell
from matrix.errors import MatrixError
from matrix.qualify.candidate import Again, to_confirm
from matrix.qualify.candidate_plan import CandidatePlan
from matrix.qualify.model import Qualification
from matrix.qualify.seconds import key_of
from matrix.qualify.state_files import MadeRun, add_run
from matrix.record.reader import read
from matrix.run.rerun import RECORDS, Rerun, RerunError, command, outer_environ, records_of, tox_of

_LOGS = "logs"
_INTERRUPT = 45.0  # seconds for tox to end a cell, whose record is written; tox itself gives it 30


class NotRunError(MatrixError):
    """A cell that left no record; the message says why."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a cell is run: with these startup tests alone (empty: all), in a fresh environment.

    `jobs` is as in `matrix.run.rerun.Rerun`, `progress` stands before each line of progress.
    """

    cell: Cell
    platform: str
    cases: tuple[str, ...] = ()
    fresh: bool = False
    jobs: str | None = None
    progress: str = ""


class RunCell(Protocol):
    """What runs a cell."""

    def __call__(self, name: str, options: RunOptions) -> Path:
        """Run the environment of that name and return its record. Raises NotRunError."""


class Evidence(Protocol):
    """What the records say, read again each time."""

    def judge(self, plan: CandidatePlan) -> Qualification:
        """Return the qualification by the records as they are now."""

    def confirmed(self, plan: CandidatePlan) -> Collection[str]:
        """Return the cells that a record of a fresh environment speaks of, by name."""


@dataclass(frozen=True, kw_only=True)
class NotRun:
    """A cell that should have run and left no record, and why."""

    cell: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What came of a plan: `again` are the cells that ran once more in a fresh environment."""

    qualification: Qualification
    again: tuple[str, ...] = ()
    not_run: tuple[NotRun, ...] = ()


def carry_out(plan: CandidatePlan, evidence: Evidence, run: RunCell, say: Say) -> Carried:
    """Run what has yet to run, judge, run what fails or drifts once more, and judge again.

    A cell that cannot be run stops nothing: without its record there is not enough evidence.
    """
    first = [Again(planned=planned, cases=plan.asked.cases) for planned in plan.to_run]
    not_run = _run_each(plan, first, run, say, fresh=False)
    found = evidence.judge(plan)
    lost = {item.cell for item in not_run}
    again = tuple(
        again
        for again in to_confirm(plan, found, evidence.confirmed(plan))
        if again.planned.cell.name not in lost
    )
    if again:
        not_run += _run_each(plan, again, run, say, fresh=True)
        found = evidence.judge(plan)
    return Carried(
        qualification=found,
        again=tuple(item.planned.cell.name for item in again),
        not_run=tuple(not_run),
    )


def _run_each(
    plan: CandidatePlan, cells: Sequence[Again], run: RunCell, say: Say, *, fresh: bool
) -> list[NotRun]:
    not_run = []
    for number, item in enumerate(cells, 1):
        planned = item.planned
        name, total = planned.cell.name, planned.estimate.total
        about = "" if total is None or fresh else f", about {max(total / 60, 1):.0f} min"
        where = " in a fresh environment" if fresh else ""
        progress = f"{number} of {len(cells)}: {name}{where}"
        say(f"{progress} ({planned.side}{about})")
        began = time.monotonic()
        options = RunOptions(
            cell=planned.cell,
            platform=plan.asked.platform,
            cases=item.cases or plan.asked.cases,
            fresh=fresh,
            jobs=plan.asked.jobs,
            progress=progress,
        )
        try:
            path = run(name, options)
        except NotRunError as error:
            say(f"{progress}: {error}")
            not_run.append(NotRun(cell=name, reason=str(error)))
        else:
            say(f"{progress}: {time.monotonic() - began:.0f} s, record {path}")
    return not_run


@dataclass(frozen=True, kw_only=True)
class ToxRuns:
    """Runs cells through tox in a checkout; `state` is the folder of logs and of the runs made."""

    root: Path
    state: Path
    say: Say
    every: float = 10.0

    def __call__(self, name: str, options: RunOptions) -> Path:
        """Run a cell and return its record, relative to the checkout.

        What tox prints goes to a log. Raises NotRunError where there is no new record, RerunError
        where tox cannot be started.
        """
        run = Rerun(
            name=name,
            platform=options.platform,
            cases=options.cases,
            fresh=options.fresh,
            jobs=options.jobs,
        )
        line = command(run, tox_of(self.root))
        log = self.state / _LOGS / f"{name}.{options.platform}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        made = options.fresh or not (self.root / ".tox" / name).is_dir()
        before, began = records_of(run, self.root), time.monotonic()
        try:
            status = run_reported(
                line,
                log,
                self.say,
                options.progress,
                environ=outer_environ(),
                cwd=self.root,
                every=self.every,
                interrupt=_INTERRUPT,
            )
        except OSError as error:
            raise RerunError(f"{line[0]}: cannot be started: {error.strerror or error}") from None
        took = time.monotonic() - began
        new = sorted(name for name, *_ in records_of(run, self.root) - before)
        if not new:
            last = clip(clean(last_line(log)), 200)
            raise NotRunError(
                f"left no record; tox ended with {status} after {took:.0f} s: {last} (all of it:"
                f" {log})"
            )
        path = Path(RECORDS, options.platform, new[-1])
        self._note(options, path, took if made else None)
        return path

    def _note(self, options: RunOptions, path: Path, took: float | None) -> None:
        """Note the run, and the seconds of its environment where it was made in `took` seconds."""
        record = read(self.root / path)
        seconds = record.provenance.get("seconds")
        made = None
        if took is not None and isinstance(seconds, (int, float)) and record.is_complete:
            made = max(took - seconds, 0.0)
        run = MadeRun(
            cell=options.cell.name,
            versions=key_of(options.cell),
            record=path.name,
            fresh=options.fresh,
            environment_seconds=made,
        )
        add_run(self.state, run)
