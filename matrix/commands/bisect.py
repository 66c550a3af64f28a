"""`matrix bisect`: since which release, nightly build or commit a case does otherwise."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix.commands import arguments, context
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.attribution.observations import Observation
    from matrix.catalog.candidates.series import Series
    from matrix.catalog.cells import Cell
    from matrix.catalog.releases import Releases
    from matrix.rules.expectations import Expectations
    from matrix.run.bisection import Seen
    from matrix.run.rerun import Rerun
    from matrix.store.loaded import LoadedRecords

_FILE = "candidates.bisect.toml"
_PAIR = "of --torch and --vllm one is a release and the other a range"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix bisect`."""
    bisect = commands.add_parser(
        "bisect",
        help="find the first torch under a vLLM, or vLLM with a torch, where a case does otherwise",
        epilog="A line is a range of releases (--torch or --vllm), the nightly builds of a channel"
        " by their day (--channel --from --to), or the commits of a repository of vLLM (--commits),"
        " each built from its sources or, with --channel commit, as a wheel of that channel. Exit"
        " status: 0; 2 where a record is bad, where there is nothing to find, or where a run that"
        " --run asked for left no record (the search goes on without it).",
        allow_abbrev=False,
    )
    arguments.add_folders(bisect)
    for name, example in (("torch", "2.11.0..2.15.0"), ("vllm", "0.20.2")):
        bisect.add_argument(
            f"--{name}",
            metavar="RANGE",
            help=f"a release, or a range as {example}" if ".." in example else "the same of vLLM",
        )
    _add_line(bisect)
    bisect.add_argument(
        "--case", metavar="CASE", required=True, help="such as moe_startup[mega_aot=1]"
    )
    bisect.add_argument("--platform", choices=("cuda", "cpu"), required=True)
    bisect.add_argument(
        "--python", metavar="X.Y", type=arguments.python, default="3.11", help="default: 3.11"
    )
    bisect.add_argument(
        "--run",
        dest="run_missing",
        action="store_true",
        help="run each next one through tox, to the end",
    )
    bisect.add_argument(
        "--dry-run",
        action="store_true",
        help="print how many runs it takes at most, and the first command; write nothing",
    )
    bisect.add_argument("--json", action="store_true", help="as JSON")
    bisect.add_argument(
        "--candidates",
        metavar="FILE",
        type=Path,
        help=f"write the candidates of the steps here (default: {_FILE}, of bisections alone)",
    )
    arguments.finish(bisect, _bisect)


def _add_line(bisect: argparse.ArgumentParser) -> None:
    """Add the options of a line below releases."""
    bisect.add_argument(
        "--channel",
        metavar="CHANNEL|URL",
        help="the builds of this index, as nightly/cu130; with --commits: the wheels of commits",
    )
    for option, what in (("from", "first"), ("to", "last")):
        bisect.add_argument(
            f"--{option}", metavar="DATE", dest=f"{what}_day", type=_day, help=f"the {what} day"
        )
    bisect.add_argument(
        "--commits",
        metavar=("REPO", "GOOD..BAD"),
        nargs=2,
        help="the commits of vLLM between two, by the first parent of a merge",
    )
    bisect.add_argument(
        "--fixed", action="store_true", help="of --commits the older end is bad: look for the fix"
    )


def _day(text: str) -> date:
    """Return a day. Raises ArgumentTypeError."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day; write it as 2026-11-28") from None


def _bisect(options: argparse.Namespace) -> int:
    if options.channel is None and options.commits is None:
        _refuse(options, ("first_day", "last_day", "fixed", "candidates"), "a line of releases")
        if options.torch is None or options.vllm is None:
            raise MatrixError(
                f"bisect: {_PAIR}, such as --vllm 0.20.2 --torch 2.11.0..2.15.0; or name a line of"
                " builds: --channel, --commits"
            )
        return _bisect_releases(options)
    return _bisect_line(options)


_OPTIONS = {"first_day": "--from", "last_day": "--to"}


def _refuse(options: argparse.Namespace, names: Sequence[str], what: str) -> None:
    """Raise MatrixError for the first of these options that is given."""
    for name in names:
        if getattr(options, name):
            option = _OPTIONS.get(name, f"--{name}")
            raise MatrixError(f"{option}: does not go with {what}; leave it out")


def _bisect_releases(options: argparse.Namespace) -> int:
    from matrix.attribution.bisect import environments_along, observed_along, parse_range, search
    from matrix.catalog.releases_file import load_releases
    from matrix.report.bisect import lines, to_json
    from matrix.rules.expectations_file import load_expectations
    from matrix.run.rerun import Rerun, run_all, shown
    from matrix.verdict.grid import environments

    releases = load_releases()
    ends = {
        key: parse_range(_newest_ends(getattr(options, key), known), f"--{key}")
        for key, known in releases.published.items()
    }
    moving, axis = environments_along(environments(releases), options.python, **ends)
    labels = {name: getattr(cell, moving) for name, cell in axis.items()}
    expectations = load_expectations(options.expectations)
    tried: set[str] = set()
    failed = False
    ruled_out: set[str] | None = None
    while True:
        table, read, status = context.read_all(
            options, expectations, empty=options.run_missing, repeats=None
        )
        if ruled_out is None:
            grid = context.grid_of(table.entries)
            known = {name: grid.progress(cell, options.platform) for name, cell in axis.items()}
            ruled_out = {
                name
                for name, progress in known.items()
                if progress is not None and progress.ruled_out
            }
            context.must_have_run(
                [record for _, record in read.records], None, options.case, whole=True
            )
        seen, unclear = observed_along(
            axis, options.case, options.platform, _observed(expectations, options.platform, read)
        )
        found = search(
            moving, labels, seen, ruled_out, unclear, without_result=tried.difference(seen)
        )
        following = found.bisection.next
        if following is None:
            break
        rerun = Rerun(name=following, platform=options.platform, cases=(options.case,))
        if not options.run_missing or options.dry_run:
            break
        for failure in run_all([rerun], Path.cwd()):
            print_status(failure)
            failed = True
        tried.add(following)
        options.folders = context.with_new_records(options.folders)
    if options.dry_run and following is not None:
        print(_at_most(found.bisection.steps, f"{len(labels)} releases"))
        print(shown(rerun))
        return status
    shown_as = to_json if options.json else lines
    print(shown_as(found, options.case, options.platform), end="")
    if following is not None and not options.json:
        print(f"next: {shown(rerun)}")
    return 2 if failed else status


def _at_most(runs: int, what: str) -> str:
    return f"at most {runs} run{'' if runs == 1 else 's'} for {what}"


def _newest_ends(text: str, known: Sequence[str]) -> str:
    """Return a release or a range of releases, with the newest patch for a minor release."""
    from packaging.version import InvalidVersion

    from matrix._util.versions import newest_patch

    try:
        return "..".join(newest_patch(end, known) for end in text.split(".."))
    except InvalidVersion:
        return text  # whoever reads the range says what is wrong with it


def _observed(
    expectations: Expectations, platform: str, read: LoadedRecords
) -> Iterator[Observation]:
    """Yield what the records observed of each case, judged by the expectations."""
    from matrix.attribution.observations import observe
    from matrix.verdict.grid import ran_cell
    from matrix.verdict.judge import judge

    late = context.late_now()
    for path, record in read.records:
        cell = ran_cell(record) if record.platform == platform else None
        if cell is not None:
            runs = read.runs.get(path, 1)
            yield from observe(record, judge(record, expectations), cell, late, runs)


def _bisect_line(options: argparse.Namespace) -> int:
    """Bisect a line of candidates: nightly builds, wheels of commits, or commits."""
    from matrix.catalog.releases_file import load_releases
    from matrix.report.bisect import line_text, to_json
    from matrix.run.bisection import Ends, Line, bisect_line, change_of, other_half
    from matrix.run.rerun import run_all, shown

    releases = load_releases()
    series = _series(options, releases)
    moving, other = ("torch", "vllm") if series.project == "torch" else ("vllm", "torch")
    file = (options.candidates or Path.cwd() / _FILE).absolute()
    line = Line(
        series,
        other=other_half(getattr(options, other), type(series.project)(other), releases),
        python=options.python,
        releases=releases,
        file=file,
        shared=options.candidates is not None,
    )
    ends = Ends.ANY
    if options.commits is not None:
        ends = Ends.BAD_GOOD if options.fixed else Ends.GOOD_BAD
    look = _Records(options)

    def run(name: str) -> list[str]:
        failures = run_all([_rerun(options, name, file)], Path.cwd())
        for failure in failures:
            print_status(failure)
        return failures

    can_run = options.run_missing and not options.dry_run
    found = bisect_line(line, look, run if can_run else None, ends, dry=options.dry_run)
    following = found.search.bisection.next
    command = None if following is None else shown(_rerun(options, following, file))
    if options.dry_run and command is not None:
        steps = series.steps
        what = f"{len(steps)} builds of {moving} of {series.where}"
        runs = found.search.bisection.steps
        print(f"{_at_most(runs, what)}, from {steps[0].label} to {steps[-1].label}")
        print(command)
        return look.status
    change = change_of(line, found.search)
    if options.json:
        text = to_json(found.search, options.case, options.platform, change, found.runs)
    else:
        text = line_text(found.search, options.case, options.platform, change)
    print(text, end="")
    if command is not None and not options.json:
        print(f"next: {command}")
    return 2 if found.failures else look.status


def _rerun(options: argparse.Namespace, name: str, file: Path) -> Rerun:
    from matrix.catalog.candidates.place import VARIABLE
    from matrix.run.rerun import Rerun

    return Rerun(
        name=name,
        platform=options.platform,
        cases=(options.case,),
        environ=((VARIABLE, str(file)),),
    )


class _Records:
    """What the records say of the cells of a line; `status` is 2 where a record is bad."""

    def __init__(self, options: argparse.Namespace) -> None:
        from matrix.rules.expectations_file import load_expectations

        self._options = options
        self._expectations = load_expectations(options.expectations)
        self._given = options.folders
        self._checked = False
        self.status = 0

    def __call__(self, cells: Mapping[str, Cell]) -> Seen:
        """Read the records as they are now."""
        from matrix.attribution.bisect import observed_along
        from matrix.run.bisection import Seen
        from matrix.store.load import newest_records

        options = self._options
        folders = arguments.given_or_default(context.with_new_records(self._given))
        read = newest_records(folders, context.late_now(), print_status, repeats=None)
        if not self._checked:
            self._checked = True
            for error in read.errors:
                print_status(str(error))
            self.status = 2 if read.errors else 0
            every = [record for _, record in read.records]
            context.must_have_run(every, None, options.case, whole=True)
        observations = _observed(self._expectations, options.platform, read)
        seen, unclear = observed_along(cells, options.case, options.platform, observations)
        return Seen(
            observations=seen,
            unclear=frozenset(unclear),
            details=_details(read, cells, options.platform),
        )


def _details(read: LoadedRecords, cells: Mapping[str, Cell], platform: str) -> dict[str, str]:
    """Return why the newest run of each of these environments has no result, if it says so."""
    found = {}
    for record in sorted((record for _, record in read.records), key=lambda run: run.started):
        if record.cell in cells and record.platform == platform:
            reasons = [case.reason for case in record.cases if case.reason]
            reason = record.error.reason if record.error else (reasons or [""])[0]
            found[record.cell] = reason
    return {name: reason for name, reason in found.items() if reason}


def _series(options: argparse.Namespace, releases: Releases) -> Series:
    """Return the line that is asked for. Raises MatrixError where there is none."""
    if options.commits is not None:
        _refuse(options, ("vllm", "first_day", "last_day"), "--commits, which is a line of vLLM")
        if options.torch is None:
            raise MatrixError("--commits: names a line of vLLM; name its torch: --torch 2.14.0")
        return _commits(options, releases)
    _refuse(options, ("fixed",), "a line of days, where either end may be the bad one")
    if (options.torch is None) == (options.vllm is None):
        raise MatrixError(
            "--channel: name the half of the pair that stays, --vllm 0.33.0 for a line of torch or"
            " --torch 2.14.0 for one of vLLM, and not both"
        )
    if options.first_day is None or options.last_day is None:
        raise MatrixError("--channel: name the first day and the last: --from DATE --to DATE")
    if options.first_day == options.last_day:
        raise MatrixError(f"--from and --to: both are {options.first_day}; name two days")
    if options.first_day > options.last_day:
        raise MatrixError(
            f"--from {options.first_day}: is later than --to {options.last_day}; the older day is"
            " the first"
        )
    return _nightlies(options, releases)


def _nightlies(options: argparse.Namespace, releases: Releases) -> Series:
    from matrix.catalog.candidates.channels import place_of
    from matrix.catalog.candidates.model import CandidateError, Project
    from matrix.catalog.candidates.series import Nightlies
    from matrix.catalog.candidates.steps import nightly_steps
    from matrix.catalog.index import Index

    project = Project.TORCH if options.torch is None else Project.VLLM
    channels = releases.candidates.channels
    try:
        flavour = context.cuda_flavour(releases)
        place = place_of(options.channel, project, channels, flavour=flavour)
    except CandidateError as error:
        raise MatrixError(str(error).replace("--index", "--channel", 1)) from None
    index = Index(place.address)
    try:
        files = index.files(project)
    finally:
        index.close()
    return Nightlies(
        project=project,
        place=place,
        steps=nightly_steps(project, place, files, options.first_day, options.last_day),
        python=options.python,
        releases=releases,
    )


def _commits(options: argparse.Namespace, releases: Releases) -> Series:
    from matrix.catalog.candidates.channels import Place, place_of
    from matrix.catalog.candidates.model import CandidateError, Project
    from matrix.catalog.candidates.series import Commits, CommitWheels
    from matrix.catalog.candidates.steps import commit_steps, ends_of
    from matrix.catalog.vllm_sources.git import Repository

    address, text = options.commits
    old, new = ends_of(text)
    repository = Repository(address=address, say=print_status)
    steps = commit_steps(repository.line(repository.resolve(old), repository.resolve(new)))
    where = repository.shown
    if options.channel is None:
        return Commits(
            address=address, where=where, repository=repository.place, steps=steps, say=print_status
        )
    name, _, build = options.channel.partition("/")

    def place(commit: str) -> Place:
        asked = "/".join(filter(None, (name, commit, build)))
        return place_of(asked, Project.VLLM, releases.candidates.channels)

    try:
        has_commits = steps[0].point in place(steps[0].point).index
    except CandidateError:
        has_commits = False
    if not has_commits:
        raise MatrixError(
            f"--channel {options.channel}: has no index for each commit, so it does not go with"
            " --commits; write --channel commit, or commit/cu129"
        )
    return CommitWheels(
        where=f"{where}, wheels of {options.channel}",
        repository=repository.place,
        steps=steps,
        python=options.python,
        releases=releases,
        place_of=place,
    )
