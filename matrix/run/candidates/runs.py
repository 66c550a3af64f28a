"""Run the cells that decide about a candidate, and again in a fresh environment what fails.

Last the two sides are timed in turns, where that is asked for. The runs themselves go through a
`RunCell`: tox in earnest, made-up records in tests.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from matrix._util.reported import Say, last_line, run_reported
from matrix._util.text import clean, clip
from matrix.qualify.candidate import Again, to_confirm
from matrix.qualify.candidate_plan import CandidatePlan
from matrix.qualify.model import Qualification
from matrix.qualify.seconds import key_of
from matrix.qualify.state_files import MadeRound, MadeRun, add_round, add_run
from matrix.qualify.turns import Untimed
from matrix.record.model import Platform
from matrix.record.reader import read
from matrix.run.candidates.options import CellNotRun, NotRunError, RunCell, RunOptions
from matrix.run.candidates.turns import TurnLog, take_turns
from matrix.run.engine import INTERRUPT
from matrix.run.environments import tox_folder
from matrix.run.rerun import RECORDS, Rerun, RerunError, command, outer_environ, records_of, tox_of

_LOGS = "logs"


class EvidenceReader(Protocol):
    """The records, read again each time."""

    def judge(self, plan: CandidatePlan) -> Qualification:
        """Return the qualification by the records as they are now."""

    def confirmed(self, plan: CandidatePlan) -> Collection[str]:
        """Return the cells of which a record of a fresh environment is evidence, by name."""


@dataclass(frozen=True, kw_only=True)
class Carried:
    """The result of a plan: `again` are the cells that ran once more in a fresh environment.

    `untimed` are the pairings that were to take turns, and did not.
    """

    qualification: Qualification
    again: tuple[str, ...] = ()
    not_run: tuple[CellNotRun, ...] = ()
    untimed: tuple[Untimed, ...] = ()


def carry_out(
    plan: CandidatePlan,
    evidence: EvidenceReader,
    run: RunCell,
    say: Say,
    turns: TurnLog | None = None,
) -> Carried:
    """Run what has yet to run, judge, run what fails or drifts once more, and judge again.

    Then the sides take turns as often as the plan has it, and what these runs show is judged like
    any other. A cell that cannot be run stops nothing: without its record there is not enough
    evidence.
    """
    first = [Again(planned=planned, cases=plan.asked.cases) for planned in plan.to_run]
    not_run = _run_each(plan, first, run, say, fresh=False)
    carried = _confirmed(
        plan,
        evidence,
        run,
        say,
        Carried(qualification=evidence.judge(plan), not_run=tuple(not_run)),
    )
    if turns is None or not any(pair.rounds and pair.rounds.left for pair in plan.pairs):
        return carried
    say(f"the verdict before the timings: {carried.qualification.verdict}")
    taken = take_turns(plan, carried.qualification, run, say, turns)
    carried = replace(
        carried,
        qualification=evidence.judge(plan),
        not_run=(*carried.not_run, *taken.not_run),
        untimed=taken.untimed,
    )
    return _confirmed(plan, evidence, run, say, carried)


def _confirmed(
    plan: CandidatePlan, evidence: EvidenceReader, run: RunCell, say: Say, carried: Carried
) -> Carried:
    """Run once more in a fresh environment what fails or drifts and did not yet, and judge."""
    lost = {item.cell for item in carried.not_run}
    again = tuple(
        again
        for again in to_confirm(plan, carried.qualification, evidence.confirmed(plan))
        if again.planned.cell.name not in lost
    )
    if not again:
        return carried
    not_run = _run_each(plan, again, run, say, fresh=True)
    return replace(
        carried,
        qualification=evidence.judge(plan),
        again=tuple(dict.fromkeys((*carried.again, *(item.planned.cell.name for item in again)))),
        not_run=(*carried.not_run, *not_run),
    )


def _run_each(
    plan: CandidatePlan, cells: Sequence[Again], run: RunCell, say: Say, *, fresh: bool
) -> list[CellNotRun]:
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
            not_run.append(CellNotRun(cell=name, reason=str(error)))
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

        What tox prints goes to a log. Raises NotRunError if there is no new record, RerunError
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
        made = options.fresh or not self.has_environment(name)
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
                interrupt=INTERRUPT,
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

    def has_environment(self, name: str) -> bool:
        """Return whether the environment of that name was made already."""
        return (tox_folder(self.root) / name).is_dir()

    def add_round(self, platform: Platform, baseline: Path, candidate: Path) -> None:
        """Note that these two records are a round."""
        made = MadeRound(platform=platform, baseline=baseline.name, candidate=candidate.name)
        add_round(self.state, made)

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
