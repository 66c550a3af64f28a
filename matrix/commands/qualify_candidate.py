"""`matrix qualify CANDIDATE`: run the cells that decide, and say whether it qualifies."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from matrix._util.console import print_status
from matrix._util.files import from_here
from matrix._util.nvidia import gpu_visible
from matrix._util.versions import minor_of, newest_patch
from matrix.catalog.candidates.model import Candidate
from matrix.catalog.cells import CellError, candidate_project
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.checks.lookup import load_answers
from matrix.commands import arguments, context
from matrix.commands.output import show
from matrix.errors import MatrixError
from matrix.qualify.candidate_plan import CandidatePlan, CandidateQuery, plan_candidate
from matrix.qualify.engine import QualifyError
from matrix.qualify.model import Qualification, QualificationVerdict
from matrix.qualify.state_files import read_history, write_history
from matrix.qualify.watch import Delta, QualifiedBuild, delta_of
from matrix.record.model import Platform
from matrix.report.qualify import candidate as report
from matrix.report.qualify.watch import nothing_new
from matrix.rules.expectations_file import load_expectations
from matrix.rules.waivers import load_waivers
from matrix.run.candidates.evidence import CandidateRecords
from matrix.run.candidates.runs import ToxRuns, carry_out
from matrix.run.rerun import RECORDS

_RELEASE = re.compile(
    r"(?:(?P<project>torch|vllm)(?:==?|-)?)?(?P<version>[0-9]{1,9}(?:\.[0-9]{1,9}){0,3})", re.ASCII
)
_NOTHING_DECIDES = 3
_INTERRUPTED = 130


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    arguments.must_exist(options.folders)
    releases = load_releases()
    _must_not_be_release(options.candidate, releases)
    candidate = releases.candidates.named(options.candidate)
    history = read_history(options.state, candidate.name)
    if options.watch:
        candidate, releases = _newest(candidate, releases, write=not options.dry_run)
        last = history.last
        known = last is not None and last.identity == candidate.identity
        if last is not None and known and last.verdict is not QualificationVerdict.NOT_ENOUGH:
            render = report.render_nothing_new if options.json else nothing_new
            show(render(last, history), fit=not options.json)
            return last.verdict.exit_status
    is_text = not (options.json or options.markdown)
    asked = _asked(options, candidate, releases)
    evidence = CandidateRecords(
        folders=arguments.given_or_default(options.folders),
        state=options.state,
        releases=releases,
        answers=load_answers(releases),
        expectations=load_expectations(options.expectations),
        waivers=load_waivers(options.waivers),
        today=context.today,
        late=context.late_now,
        say=print_status,
    )
    plan = plan_candidate(asked, evidence.known())
    if options.dry_run or not plan.cells:
        show(_plan_renderer(options)(plan), fit=is_text)
        return 0 if plan.cells else _NOTHING_DECIDES
    runs = ToxRuns(root=Path.cwd(), state=options.state, say=print_status)
    try:
        carried = carry_out(plan, evidence, runs, print_status, runs)
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
    given = arguments.repeated(options, ("under", "count", "timings", "expectations", "waivers"))
    show(_renderer(options)(result, given), fit=is_text)
    return found.exit_status


def _must_not_be_release(text: str, releases: Releases) -> None:
    """Raise MatrixError for a release where the name of a candidate belongs.

    A person writes one as 2.14, torch==2.14, or torch214 as in the name of a cell.
    """
    found = _RELEASE.fullmatch(text)
    if found is None:
        return
    version = found["version"]
    if found["project"] and "." not in version:
        version = f"{version[0]}.{version[1:]}"
    for project, versions in releases.published.items():
        if found["project"] not in (None, project):
            continue
        if version in versions or version in map(minor_of, versions):
            newest = newest_patch(version, versions)
            means = "" if newest == version else f" whose newest patch is {newest}, and"
            raise MatrixError(
                f"{text}: is a release of {project},{means} not a candidate; write"
                f" --{project} {version} --baseline VERSION"
            )


def _newest(candidate: Candidate, releases: Releases, *, write: bool) -> tuple[Candidate, Releases]:
    """Return the newest build of a candidate's channel, and the releases with it."""
    from matrix.catalog.candidates.file import change_candidates
    from matrix.catalog.candidates.newer import newer_build
    from matrix.checks.candidate_cache import forget
    from matrix.report.candidates import replaced_line

    gathered = newer_build(candidate, releases)
    if gathered is None:
        return candidate, releases
    for note in gathered.notes:
        print_status(note)
    newer = gathered.candidate
    if write:
        path = change_candidates(lambda now: now.including(newer))
        print_status(replaced_line(candidate, newer, from_here(path)))
        if newer.build != candidate.build:
            forget(lambda build: build == candidate.build)
    return newer, releases.including(newer)


def _followed(options: argparse.Namespace, candidate: Candidate, found: Qualification) -> Delta:
    """Note what became of findings with this build, and return it."""
    build = QualifiedBuild(
        identity=candidate.identity,
        version=candidate.version,
        day=context.today().isoformat(),
        verdict=found.verdict,
    )
    delta = delta_of(read_history(options.state, candidate.name), build, found)
    print_status(f"{from_here(write_history(options.state, delta.history))} was written")
    return delta


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
    elif options.under is not None:
        under = parse_specifier(options.under, "--under")
    platform = options.platform
    if platform is None:
        platform = Platform.CUDA if gpu_visible(os.environ) else Platform.CPU
    elif platform == "all":
        raise QualifyError("--platform all: a candidate is qualified on one; write cpu or cuda")
    for build in (candidate, under_candidate):
        on_cuda = build is not None and platform == Platform.CUDA and build.is_built
        if build is not None and on_cuda and build.on_cuda is None:
            raise QualifyError(
                f"{build.name}: was added for the platform cpu; qualify it with --platform cpu, or"
                " add it again with --platform cuda: matrix candidate add"
            )
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
        rounds=options.timings or 0,
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


def _renderer(options: argparse.Namespace) -> Callable[[report.Result, Sequence[str]], str]:
    if options.json:
        return report.render
    return report.page if options.markdown else report.lines


def _plan_renderer(options: argparse.Namespace) -> Callable[[CandidatePlan], str]:
    if options.json:
        return report.render_plan
    return report.plan_page if options.markdown else report.plan_lines
