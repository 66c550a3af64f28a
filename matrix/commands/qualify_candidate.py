"""`matrix qualify CANDIDATE`: run the cells that decide, and say whether it qualifies."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix._util.files import from_here
from matrix._util.nvidia import gpu_visible
from matrix.catalog.candidates.model import Candidate
from matrix.catalog.candidates.update import Update, update
from matrix.catalog.cells import CellError, candidate_project
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.checks.lookup import Answers, load_answers
from matrix.commands import arguments, context
from matrix.qualify.candidate import completed, qualify_candidate
from matrix.qualify.candidate_plan import (
    CandidatePlan,
    CandidateQuery,
    Known,
    plan_candidate,
    relevant,
)
from matrix.qualify.engine import QualifyError
from matrix.qualify.model import Qualification, Verdict
from matrix.qualify.query import Context
from matrix.qualify.seconds import key_of
from matrix.qualify.state_files import (
    MadeRun,
    environment_seconds,
    read_history,
    read_runs,
    write_history,
)
from matrix.qualify.watch import Build, follow, seen_in, with_build
from matrix.record.model import Platform, Record
from matrix.record.startup_tests import load_startup_tests
from matrix.report.qualify import candidate as report
from matrix.report.qualify.watch import Delta, nothing_new
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import load_expectations
from matrix.rules.waivers import Waivers, load_waivers
from matrix.run.candidate_runs import ToxRuns, carry_out
from matrix.run.rerun import RECORDS
from matrix.store.load import newest_records
from matrix.verdict.plan import stale_reason
from matrix.verdict.table import tabulate

if TYPE_CHECKING:
    from matrix.attribution.model import Attribution
    from matrix.store.loaded import LoadedRecords

_NOTHING_DECIDES = 3
_INTERRUPTED = 130
_EXIT = {Verdict.QUALIFIED: 0, Verdict.NOT_QUALIFIED: 1, Verdict.NOT_ENOUGH: 3}


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    releases = load_releases()
    candidate = releases.candidates.named(options.candidate)
    history = read_history(options.state, candidate.name)
    if options.watch:
        candidate, releases = _newest(candidate, releases, write=not options.dry_run)
        last = history.last
        known = last is not None and last.identity == candidate.identity
        if last is not None and known and last.verdict is not Verdict.NOT_ENOUGH:
            print(nothing_new(last, history), end="")
            return _EXIT[last.verdict]
    asked = _asked(options, candidate, releases)
    evidence = _Records(
        folders=arguments.given_or_default(options.folders),
        state=options.state,
        releases=releases,
        expectations=load_expectations(options.expectations),
        waivers=load_waivers(options.waivers),
    )
    plan = plan_candidate(asked, evidence.known())
    if options.dry_run or not plan.cells:
        print(_plan_renderer(options)(plan), end="")
        return 0 if plan.cells else _NOTHING_DECIDES
    runs = ToxRuns(root=Path.cwd(), state=options.state, say=print_status)
    try:
        carried = carry_out(plan, evidence, runs, print_status)
    except KeyboardInterrupt:
        print_status(
            f"interrupted; what ran is in {RECORDS}, and the same command goes on from there"
        )
        return _INTERRUPTED
    found = carried.qualification
    result = report.Result(
        plan=plan_candidate(asked, evidence.known()),
        carried=carried,
        attributions=evidence.attributions(plan, found) if found.failing else (),
        delta=_followed(options, candidate, found) if options.watch else None,
    )
    print(_renderer(options)(result, _given(options)), end="")
    return found.exit_status


def _newest(candidate: Candidate, releases: Releases, *, write: bool) -> tuple[Candidate, Releases]:
    """Return the newest build of a candidate's channel, and the releases with it."""
    from matrix.catalog.candidates.file import load_candidates, write_candidates
    from matrix.catalog.candidates.newer import newest_build

    gathered = newest_build(candidate, releases)
    newer = gathered.candidate
    if update(candidate, newer) is Update.UNCHANGED:
        return candidate, releases
    for note in gathered.notes:
        print_status(note)
    if write:
        path = write_candidates(load_candidates().including(newer))
        print_status(
            f"{newer.name} is {newer.version} (build {newer.identity}) now; it was"
            f" {candidate.version} (build {candidate.identity}); {from_here(path)} was"
            " written"
        )
    return newer, releases.including(newer)


def _followed(options: argparse.Namespace, candidate: Candidate, found: Qualification) -> Delta:
    """Note what became of findings with this build, and return it."""
    history = read_history(options.state, candidate.name)
    before = [build for build in history.builds if build.identity != candidate.identity]
    build = Build(
        identity=candidate.identity,
        version=candidate.version,
        day=context.today().isoformat(),
        verdict=found.verdict,
    )
    after, changes = follow(with_build(history, build), seen_in(found, build.identity))
    path = write_history(options.state, after)
    print_status(f"{from_here(path)} was written")
    return Delta(history=after, changes=changes, before=before[-1] if before else None)


def _asked(options: argparse.Namespace, candidate: Candidate, releases: Releases) -> CandidateQuery:
    """Return what is asked. Raises QualifyError for an option that does not fit."""
    from matrix._util.versions import parse_specifier

    if len(options.python) > 1:
        raise QualifyError("--python: a candidate is qualified on one; name it once")
    under, under_candidate = None, None
    if options.under and (name := _candidate_name(options.under)) is not None:
        under_candidate = releases.candidates.named(name)
        if under_candidate.project == candidate.project:
            raise QualifyError(
                f"--under {name}: is of the same project as {candidate.name}; name one of the other"
            )
    elif options.under:
        under = parse_specifier(options.under, "--under")
    platform = options.platform
    if platform is None:
        platform = Platform.CUDA if gpu_visible(os.environ) else Platform.CPU
    elif platform == "all":
        raise QualifyError("--platform all: a candidate is qualified on one; write cpu or cuda")
    return CandidateQuery(
        candidate=candidate,
        platform=Platform(platform),
        baseline=_baseline(options.baseline, candidate, releases),
        python=options.python[0] if options.python else None,
        under=under,
        under_candidate=under_candidate,
        count=options.count,
        quick=options.quick,
        jobs=options.jobs,
    )


def _candidate_name(text: str) -> str | None:
    try:
        candidate_project(text)
    except CellError:
        return None
    return text


def _baseline(text: str | None, candidate: Candidate, releases: Releases) -> str | None:
    """Return the baseline as a release; a minor release is its newest known patch."""
    from packaging.version import InvalidVersion

    from matrix._util.versions import newest_patch

    if text is None:
        return None
    try:
        return newest_patch(text, releases.published[candidate.project])
    except InvalidVersion:
        raise QualifyError(f"--baseline {text!r}: is not a release; write it as 2.15.0") from None


@dataclass(frozen=True, kw_only=True)
class _Records:
    """The records of some folders, read again each time, and what they are judged by."""

    folders: Sequence[Path | str]
    state: Path
    releases: Releases
    expectations: Expectations
    waivers: Waivers

    def known(self) -> Known:
        """Return what is known before anything runs."""
        found = self._read()
        return Known(
            releases=self.releases,
            tests=load_startup_tests(),
            expectations=self.expectations,
            records=_told(found),
            answers=self._answers,
            late=context.late_now(),
            environments=environment_seconds(read_runs(self.state)),
        )

    def judge(self, plan: CandidatePlan) -> Qualification:
        """Return the qualification by the records as they are now."""
        found = self._read()
        judging = Context(
            expectations=self.expectations,
            releases=self.releases,
            waivers=self.waivers,
            today=context.today(),
            late=context.late_now(),
        )
        return qualify_candidate(
            plan, _told(found), judging, answers=self._answers, unread=len(found.errors)
        )

    def confirmed(self, plan: CandidatePlan) -> Collection[str]:
        """Return the cells that have a record of a fresh environment which stands for them."""
        tests = load_startup_tests()
        fresh: Mapping[str, MadeRun] = {
            made.record: made for made in read_runs(self.state) if made.fresh
        }
        cells = {planned.cell.name: planned.cell for planned in plan.cells}
        return {
            record.cell
            for path, record in completed(relevant(plan, _told(self._read())))
            if (made := fresh.get(path.name)) is not None
            and made.versions == key_of(cells[record.cell])
            and stale_reason(cells[record.cell], record, tests)[0] is None
        }

    def attributions(self, plan: CandidatePlan, found: Qualification) -> tuple[Attribution, ...]:
        """Return whose change the failures and drifts of the candidate are."""
        from matrix.attribution.attribute import attribute
        from matrix.attribution.runs_index import judge_records

        read = self._read()
        late = context.late_now()
        table = tabulate(read.records, self.expectations, releases=self.releases, late=late)
        return attribute(
            judge_records(read.records, read.runs, table.verdicts, self.expectations),
            self.releases,
            context.grid_of(table.entries),
            names=frozenset(finding.place.cell for finding in found.failing),
            platform=plan.asked.platform,
            late=late,
        )

    def _read(self) -> LoadedRecords:
        """Read the records, with those that runs left meanwhile."""
        new = Path(RECORDS)
        folders = list(self.folders)
        if new.is_dir() and new not in folders:
            folders.append(new)
        found = newest_records(folders, context.late_now(), print_status, repeats=None)
        for error in found.errors:
            print_status(str(error))
        return found

    @cached_property
    def _answers(self) -> Answers:
        answers = load_answers(self.releases)
        for fault in answers.faults:
            print_status(fault)
        return answers


def _told(found: LoadedRecords) -> list[tuple[Path, Record]]:
    return [(Path(from_here(path)), record) for path, record in found.records]


def _given(options: argparse.Namespace) -> list[str]:
    """Return the arguments that are not of the query, to repeat the command."""
    parts = [
        part
        for key in ("under", "count", "expectations", "waivers")
        if (value := getattr(options, key)) is not None
        for part in (f"--{key}", str(value))
    ]
    return [*parts, *map(str, options.folders)]


def _renderer(options: argparse.Namespace) -> Callable[[report.Result, Sequence[str]], str]:
    if options.json:
        return report.render
    return report.page if options.markdown else report.lines


def _plan_renderer(options: argparse.Namespace) -> Callable[[CandidatePlan], str]:
    if options.json:
        return report.render_plan
    return report.plan_page if options.markdown else report.plan_lines
