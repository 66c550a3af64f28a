"""`matrix bisect`: since which release, nightly build or commit a case does otherwise."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix.commands import arguments, context
from matrix.commands.output import show
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.catalog.candidates.lines import LineRequest
    from matrix.catalog.cells import Cell
    from matrix.catalog.releases import Releases
    from matrix.run.bisection import BisectionProgress, RunEnvironment, SeenSteps
    from matrix.run.candidates.line import Line
    from matrix.run.rerun import Rerun
    from matrix.store.loaded import LoadedRecords
    from matrix.verdict.table import Table

_FILE = "candidates.bisect.toml"
_PYTHON = "3.11"
_PAIR = "of --torch and --vllm one is a release and the other a range"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix bisect`."""
    bisect = commands.add_parser(
        "bisect",
        help="find the first torch or vLLM release where a case's result changes",
        epilog="A line is a range of releases (--torch or --vllm), the nightly builds of a"
        " channel by their day (--channel --from --to), or the commits of a repository of vLLM"
        " (--commits), each built from its sources or, with --channel commit, as a wheel of that"
        " channel. Exit status: 0; 2 if a record is invalid, if there is nothing to find, or if a"
        " run that --run started left no record (the search continues without it).",
        allow_abbrev=False,
    )
    arguments.add_folders(bisect)
    for name, example in (("torch", "2.11.0..2.15.0"), ("vllm", "0.20.2")):
        bisect.add_argument(
            f"--{name}",
            metavar="RANGE",
            help=f"a release or a candidate, or a range of them as {example}"
            if ".." in example
            else "the same of vLLM",
        )
    _add_line(bisect)
    bisect.add_argument(
        "--case", metavar="CASE", required=True, help="such as moe_startup[mega_aot=1]"
    )
    bisect.add_argument("--platform", choices=("cuda", "cpu"), required=True)
    bisect.add_argument(
        "--python",
        metavar="X.Y",
        type=arguments.python,
        help=f"default: the one with the most records of the releases, without any {_PYTHON}",
    )
    bisect.add_argument(
        "--run",
        dest="run_missing",
        action="store_true",
        help="run each next step through tox, to the end",
    )
    bisect.add_argument(
        "--dry-run",
        action="store_true",
        help="print the maximum number of runs and the first command; write nothing",
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
        "--build",
        action="store_true",
        help="with --commits on cuda: compile commits without a published wheel",
    )
    bisect.add_argument(
        "--fixed", action="store_true", help="with --commits: the older end is bad; find the fix"
    )


def _day(text: str) -> date:
    """Return a day. Raises ArgumentTypeError."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day; write it as 2026-11-28") from None


def _bisect(options: argparse.Namespace) -> int:
    if options.channel is None and options.commits is None:
        _refuse(options)
        if options.torch is None or options.vllm is None:
            raise MatrixError(
                f"bisect: {_PAIR}, such as --vllm 0.20.2 --torch 2.11.0..2.15.0; or name a line of"
                " builds: --channel, --commits"
            )
        return _bisect_releases(options)
    return _bisect_line(options)


def _refuse(options: argparse.Namespace) -> None:
    """Raise MatrixError for an option that is of a line of builds alone."""
    from matrix.catalog.candidates.lines import option_of

    for name in ("first_day", "last_day", "fixed", "candidates", "build"):
        if getattr(options, name):
            raise MatrixError(
                f"{option_of(name)}: does not go with a line of releases; leave it out"
            )


def _bisect_releases(options: argparse.Namespace) -> int:
    from matrix.catalog.releases_file import load_releases
    from matrix.run.bisection import bisect_releases, recorded_line, release_line
    from matrix.run.rerun import Rerun

    releases = load_releases()
    pair = options.torch, options.vllm
    if options.python is not None:
        release_line(*pair, options.python, releases)  # what is wrong with it comes first
    records = _Records(options, releases)
    platform = records.query.platform

    def rerun(name: str) -> Rerun:
        return Rerun(name=name, platform=platform, cases=(options.case,))

    table, read = records.read_table()
    if options.python is None:
        line = recorded_line(*pair, _PYTHON, releases, records.ran(read))
    else:
        line = release_line(*pair, options.python, releases)
    ruled_out = context.grid_of(table.verdicts, releases).ruled_out(line.cells, platform)
    records.check(read)
    first = records.query.seen(read, line.cells, context.late_now())
    run = _runner(options, rerun)
    found = bisect_releases(line, first, ruled_out, records.look_at_releases, run)
    return _finish(options, found, rerun, records)


def _bisect_line(options: argparse.Namespace) -> int:
    """Bisect a line of candidates: nightly builds, wheels of commits, or commits."""
    from matrix.catalog.candidates.lines import open_line
    from matrix.catalog.projects import Project
    from matrix.catalog.releases_file import load_releases
    from matrix.run.bisection import Ends, bisect_line
    from matrix.run.candidates.line import Line, other_half

    releases = load_releases()
    series = open_line(_request(options), releases, print_status)
    other = Project.VLLM if series.project is Project.TORCH else Project.TORCH
    line = Line(
        series,
        other=other_half(getattr(options, other), other, releases),
        python=options.python or _PYTHON,
        releases=releases,
        file=(options.candidates or Path.cwd() / _FILE).absolute(),
        shared=options.candidates is not None,
    )

    records = _Records(options, releases)

    def rerun(name: str) -> Rerun:
        return line.rerun(name, records.query.platform, options.case)

    ends = Ends.ANY
    if options.commits is not None:
        ends = Ends.BAD_GOOD if options.fixed else Ends.GOOD_BAD
    run = _runner(options, rerun)
    found = bisect_line(line, records.look_at_line, run, ends, dry=options.dry_run)
    return _finish(options, found, rerun, records, line)


def _request(options: argparse.Namespace) -> LineRequest:
    """Return the line that is asked for."""
    from matrix.catalog.candidates.lines import LineRequest

    return LineRequest(
        **{field.name: getattr(options, field.name) for field in fields(LineRequest)}
    )


def _runner(options: argparse.Namespace, rerun: Callable[[str], Rerun]) -> RunEnvironment | None:
    """Return what runs an environment through tox; None where nothing is to run."""
    from matrix.run.rerun import run_all

    def run(name: str) -> list[str]:
        failures = run_all([rerun(name)], Path.cwd())
        for failure in failures:
            print_status(failure)
        return failures

    return run if options.run_missing and not options.dry_run else None


class _Records:
    """The records of the options, as they are at each call; `status` is 2 where a record is bad."""

    def __init__(self, options: argparse.Namespace, releases: Releases) -> None:
        from matrix.record.model import Platform
        from matrix.rules.expectations_file import load_expectations
        from matrix.run.bisection import CaseQuery

        self._options = options
        self._releases = releases
        self._looked = False
        self.status = 0
        self.query = CaseQuery(
            case=options.case,
            platform=Platform(options.platform),
            expectations=load_expectations(options.expectations),
        )

    def read_table(self) -> tuple[Table, LoadedRecords]:
        """Return the table and the records of which it is made."""
        options = self._options
        table, read, self.status = context.read_all(
            options,
            self._releases,
            self.query.expectations,
            empty=options.run_missing,
            repeats=None,
        )
        return table, read

    def ran(self, read: LoadedRecords) -> list[Cell]:
        """Return what ran the case on the platform, a cell for each record."""
        from matrix.verdict.grid import ran_cell

        cells = [
            ran_cell(record)
            for _, record in read.records
            if record.platform == self.query.platform
            and any(case.case == self.query.case for case in record.cases)
        ]
        return [cell for cell in cells if cell is not None]

    def check(self, read: LoadedRecords) -> None:
        """Raise MatrixError where there are records and none has the case."""
        every = [record for _, record in read.records]
        context.must_have_run(every, None, self._options.case, whole=True)

    def look_at_releases(self, cells: Mapping[str, Cell]) -> SeenSteps:
        """Return what the records say of releases after a run."""
        self._options.folders = context.with_new_records(self._options.folders)
        _, read = self.read_table()
        return self.query.seen(read, cells, context.late_now())

    def look_at_line(self, cells: Mapping[str, Cell]) -> SeenSteps:
        """Return what the records say of a line of candidates, before the first run and after."""
        from matrix.store.load import newest_records

        folders = arguments.given_or_default(context.with_new_records(self._options.folders))
        late = context.late_now()
        read = newest_records(folders, late, print_status, repeats=None)
        if not self._looked:
            self._looked = True
            for error in read.errors:
                print_status(str(error))
            self.status = 2 if read.errors else 0
            self.check(read)
        return self.query.seen(read, cells, late)


def _finish(
    options: argparse.Namespace,
    found: BisectionProgress,
    rerun: Callable[[str], Rerun],
    records: _Records,
    line: Line | None = None,
) -> int:
    """Print how far the search came and what is to run next; return the exit status."""
    from matrix.report.bisect import first_run, line_text, lines, to_json
    from matrix.run.candidates.line import change_of
    from matrix.run.rerun import shown

    search, asked = found.search, (options.case, records.query.platform)
    following = search.bisection.next
    command = None if following is None else shown(rerun(following))
    if options.dry_run and command is not None:
        show(first_run(search, command, None if line is None else line.series.where))
        return records.status
    change = None if line is None else change_of(line, search)
    if options.json:
        print(to_json(search, *asked, change, None if line is None else found.runs), end="")
    else:
        show(lines(search, *asked) if line is None else line_text(search, *asked, change))
        if command is not None:
            print(f"next: {command}")
    return 2 if found.failures else records.status
