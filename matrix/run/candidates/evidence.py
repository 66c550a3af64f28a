"""The records of a candidate's cells, read again each time. It reads files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.files import from_here
from matrix._util.reported import Say
from matrix.catalog.releases import Releases
from matrix.checks.lookup import Answers
from matrix.qualify.candidate import completed, qualify_candidate
from matrix.qualify.candidate_plan import CandidatePlan, Known, relevant
from matrix.qualify.model import Qualification
from matrix.qualify.query import Context
from matrix.qualify.seconds import key_of
from matrix.qualify.speed import Round
from matrix.qualify.state_files import (
    MadeRun,
    environment_seconds,
    read_rounds,
    read_runs,
)
from matrix.qualify.turns import with_rounds
from matrix.record.model import Record, RecordError
from matrix.record.reader import read
from matrix.record.startup_tests import load_startup_tests
from matrix.rules.expectations import Expectations
from matrix.rules.waivers import Waivers
from matrix.run.rerun import RECORDS
from matrix.store.load import newest_records
from matrix.store.loaded import LoadedRecords
from matrix.verdict.grid import grid_of
from matrix.verdict.stale import stale_reason
from matrix.verdict.table import tabulate

if TYPE_CHECKING:
    from matrix.attribution.model import Attribution


@dataclass(frozen=True, kw_only=True)
class CandidateRecords:
    """The records of some folders, read again each time, and what they are judged by.

    `state` is the folder of the runs made. `today` and `late` are the day, for waivers, and the
    time after which a record is of the future. `say` gets what is wrong with a record.
    """

    folders: Sequence[Path | str]
    state: Path
    releases: Releases
    answers: Answers
    expectations: Expectations
    waivers: Waivers
    today: Callable[[], date]
    late: Callable[[], str]
    say: Say

    def known(self) -> Known:
        """Return what is known before anything runs."""
        found = self._read()
        return Known(
            releases=self.releases,
            tests=load_startup_tests(),
            expectations=self.expectations,
            records=_from_here(found),
            answers=self.answers,
            late=self.late(),
            environments=environment_seconds(read_runs(self.state)),
            rounds=self._rounds(),
        )

    def judge(self, plan: CandidatePlan) -> Qualification:
        """Return the qualification by the records as they are now."""
        found = self._read()
        judging = Context(
            expectations=self.expectations,
            releases=self.releases,
            waivers=self.waivers,
            today=self.today(),
            late=self.late(),
        )
        qualification = qualify_candidate(
            plan, _from_here(found), judging, answers=self.answers, unread=len(found.errors)
        )
        return with_rounds(qualification, plan, self._rounds())

    def confirmed(self, plan: CandidatePlan) -> Collection[str]:
        """Return the cells that have a record of a fresh environment which stands for them."""
        tests = load_startup_tests()
        fresh: Mapping[str, MadeRun] = {
            made.record: made for made in read_runs(self.state) if made.fresh
        }
        cells = {planned.cell.name: planned.cell for planned in plan.cells}
        return {
            record.cell
            for path, record in completed(relevant(plan, _from_here(self._read())))
            if (made := fresh.get(path.name)) is not None
            and made.versions == key_of(cells[record.cell])
            and stale_reason(cells[record.cell], record, tests) is None
        }

    def attributions(self, plan: CandidatePlan, found: Qualification) -> tuple[Attribution, ...]:
        """Return the causes of the candidate's failures and drifts.

        Other candidates of its project have no say: what one of them has too is a change since the
        baseline all the same.
        """
        from matrix.attribution.attribute import attribute
        from matrix.attribution.known import KnownPairs
        from matrix.attribution.runs_index import judge_records

        read, late = self._read(), self.late()
        records = [(path, run) for path, run in read.records if _has_say(run, plan)]
        table = tabulate(records, self.expectations, releases=self.releases, late=late)
        grid = grid_of(table.verdicts, self.releases, self.answers)
        for fault in self.answers.faults:
            self.say(fault)
        return attribute(
            judge_records(records, read.runs, table.verdicts, self.expectations),
            self.releases,
            KnownPairs(grid=grid, features=self.answers.features),
            names=frozenset(finding.place.cell for finding in found.failing),
            platform=plan.asked.platform,
            late=late,
        )

    def _rounds(self) -> list[Round]:
        """Return the rounds of which both records are still there."""
        found = []
        for made in read_rounds(self.state):
            paths = [Path(RECORDS, made.platform, name) for name in (made.baseline, made.candidate)]
            if not all(path.is_file() for path in paths):
                continue
            try:
                baseline, candidate = map(read, paths)
            except RecordError as error:
                self.say(str(error))
                continue
            found.append(Round(baseline=baseline, candidate=candidate))
        return found

    def _read(self) -> LoadedRecords:
        """Read the records, with those that runs left meanwhile."""
        new = Path(RECORDS)
        folders = list(self.folders)
        if new.is_dir() and new not in folders:
            folders.append(new)
        found = newest_records(folders, self.late(), self.say, repeats=None)
        for error in found.errors:
            self.say(str(error))
        return found


def _has_say(record: Record, plan: CandidatePlan) -> bool:
    """Return whether a run is of a release of the candidate's project, or of the candidate."""
    candidate = plan.asked.candidate
    build = record.build(candidate.project)
    return build is None or build.identity == candidate.identity


def _from_here(found: LoadedRecords) -> list[tuple[Path, Record]]:
    """Return the records with their paths as people see them."""
    return [(Path(from_here(path)), record) for path, record in found.records]
