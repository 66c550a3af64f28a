"""`matrix attribute` and `bisect`: who changed, and since which release."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix._util.gc import gc_paused
from matrix.commands import arguments, context
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.attribution.model import Attribution
    from matrix.attribution.observations import Observation
    from matrix.record.model import Record
    from matrix.rules.expectations import Expectations
    from matrix.run.rerun import Rerun
    from matrix.store.loaded import LoadedRecords
    from matrix.verdict.table import Table


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands `matrix attribute` and `bisect`."""
    _add_attribute(commands)
    _add_bisect(commands)


def _add_attribute(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    attribute = commands.add_parser(
        "attribute",
        help="say whose fault it is that a cell fails or drifts: torch, vLLM, the pair, or none",
        epilog="Exit status: 0; 2 where a record is bad, or a run that --run asked for failed"
        " (what the others told is still said).",
        allow_abbrev=False,
    )
    attribute.add_argument("cell", metavar="CELL", nargs="?", help="such as py311-torch212-vllm020")
    attribute.add_argument("--all", action="store_true", help="every cell that ran")
    arguments.add_platform_and_folders(attribute)
    attribute.add_argument(
        "--case", metavar="CASE", help="this case alone: moe_startup[mega_aot=1], or moe_startup"
    )
    attribute.add_argument(
        "--changes",
        action="store_true",
        help="also what counts otherwise than beside it, though it is expected to",
    )
    attribute.add_argument(
        "--run",
        dest="run_missing",
        action="store_true",
        help="run what would decide, through tox, and say it again",
    )
    attribute.add_argument(
        "--dry-run", action="store_true", help="print the commands of what would decide"
    )
    attribute.add_argument("--json", action="store_true", help="as JSON")
    arguments.finish(attribute, _attribute)


def _add_bisect(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bisect = commands.add_parser(
        "bisect",
        help="find the first torch under a vLLM, or vLLM with a torch, where a case does otherwise",
        epilog="Exit status: 0; 2 where a record is bad, where there is nothing to find, or where a"
        " run that --run asked for failed (the search goes on without it).",
        allow_abbrev=False,
    )
    arguments.add_folders(bisect)
    for name, example in (("torch", "2.11.0..2.15.0"), ("vllm", "0.20.2")):
        bisect.add_argument(
            f"--{name}",
            metavar="RANGE",
            required=True,
            help=f"a release, or a range as {example}" if ".." in example else "the same of vLLM",
        )
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
    arguments.finish(bisect, _bisect)


@gc_paused()
def _attribute(options: argparse.Namespace) -> int:
    from matrix.attribution.attribute import attribute, unanswered
    from matrix.catalog.releases_file import load_releases
    from matrix.report.attribution.text import lines
    from matrix.report.attribution.values import to_json
    from matrix.rules.expectations_file import load_expectations
    from matrix.run.rerun import run_all

    if options.cell is None and not options.all:
        raise MatrixError("attribute: name a cell, such as py311-torch212-vllm020, or say --all")
    if options.cell is not None and options.all:
        # What stands in the place of the cell is a folder: `matrix attribute --all results`.
        options.folders = [arguments.place(options.cell), *options.folders]
        options.cell = None
    names = None
    if options.cell is not None:
        names = frozenset([_full_name(options.cell)])
    expectations = load_expectations(options.expectations)
    failures: list[str] = []
    for again in (False, True):
        table, read, status = context.read_all(options, expectations, repeats=None)
        grid = context.grid_of(table.entries)
        known = {entry.record.cell for entry in table.entries}
        if names is not None and not names & known:
            (name,) = names
            raise MatrixError(f"{name}: never ran, so there is nothing to attribute; tox -e {name}")
        records = [record for _, record in read.records if names is None or record.cell in names]
        _must_have_run(records, options.platform, options.case)
        asked = {"names": names, "platform": options.platform, "case": options.case}
        judged = context.judged(expectations, table, read)
        found = attribute(
            judged,
            load_releases(),
            grid,
            changes=options.changes,
            late=context.late_now(),
            **asked,
        )
        wanted = _reruns(found)
        if again or not options.run_missing or options.dry_run or not wanted:
            break
        print(lines(found, parts=_parts(table, names)), end="", file=sys.stderr)
        failures = run_all(wanted, Path.cwd())
        for failure in failures:
            print_status(failure)
        options.folders = _with_new_records(options.folders)
    silent = unanswered(judged, load_releases(), **asked)
    shown = to_json if options.json else lines
    print(shown(found, silent, _parts(table, names)), end="")
    if options.run_missing and not wanted:
        print_status("no run is missing that could tell more")
    elif options.dry_run:
        run_all(wanted, Path.cwd(), dry=True)
    return 2 if failures else status


def _parts(table: Table, names: frozenset[str] | None) -> dict[tuple[str, str], str]:
    """Return how many cases each partial run of the table has, by the cell's name and platform."""
    return {
        (cell, platform): part
        for (cell, platform), part in table.parts.items()
        if names is None or cell in names
    }


def _must_have_run(
    records: Sequence[Record], platform: str | None, case: str | None, *, whole: bool = False
) -> None:
    """Raise MatrixError if no record, of those given, ran on the platform or has the case.

    A case may be named without its parameters, unless it must be named `whole`. Without a record
    there is nothing to check.
    """
    if platform is not None and records and all(run.platform != platform for run in records):
        cells = {record.cell for record in records}
        cell = cells.pop() if len(cells) == 1 else "CELL"
        raise MatrixError(
            f"--platform {platform}: nothing of what is asked for ran on it; `matrix run {cell}"
            f" --platform {platform}` does"
        )
    names = {seen.case for record in records for seen in record.cases}
    short = set() if whole else {name.partition("[")[0] for name in names}
    if case is not None and names and case not in names | short:
        raise MatrixError(
            f"--case {case!r}: no record has it; they have {', '.join(sorted(names))}"
        )


def _reruns(found: Iterable[Attribution]) -> list[Rerun]:
    """Return the missing runs of these attributions, each environment once with all its cases."""
    from matrix.run.rerun import Rerun

    wanted: dict[tuple[str, str, tuple[tuple[str, str], ...]], dict[str, None]] = {}
    for attribution in found:
        for missing in attribution.missing:
            key = missing.name, missing.platform, missing.flags
            wanted.setdefault(key, {})[attribution.case] = None
    return [
        Rerun(name=name, platform=platform, cases=tuple(cases), flags=flags)
        for (name, platform, flags), cases in wanted.items()
    ]


def _full_name(name: str) -> str:
    """Return the full name of an environment, given either way. Raises CellError for others."""
    from matrix.catalog.cells import factors
    from matrix.catalog.releases_file import load_releases

    return name if factors(name).vllm is not None else load_releases().resolve(name).name


def _bisect(options: argparse.Namespace) -> int:
    from matrix.attribution.bisect import environments_along, observed_along, parse_range, search
    from matrix.catalog.releases_file import load_releases
    from matrix.report.bisect import lines
    from matrix.rules.expectations_file import load_expectations
    from matrix.run.rerun import Rerun, run_all, shown
    from matrix.verdict.grid import environments

    releases = load_releases()
    ends = {
        key: parse_range(
            _newest_ends(getattr(options, key), [release.version for release in known]), f"--{key}"
        )
        for key, known in (("torch", releases.torch), ("vllm", releases.vllm))
    }
    moving, axis = environments_along(environments(releases), options.python, **ends)
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
            _must_have_run([record for _, record in read.records], None, options.case, whole=True)
        seen, unclear = observed_along(
            axis, options.case, options.platform, _observed(expectations, options.platform, read)
        )
        found = search(
            moving, axis, seen, ruled_out, unclear, without_result=tried.difference(seen)
        )
        following = found.bisection.next
        if following is None:
            break
        rerun = Rerun(name=following, platform=options.platform, cases=(options.case,))
        if not options.run_missing:
            break
        for failure in run_all([rerun], Path.cwd()):
            print_status(failure)
            failed = True
        tried.add(following)
        options.folders = _with_new_records(options.folders)
    print(lines(found, options.case, options.platform), end="")
    if following is not None:
        print(f"next: {shown(rerun)}")
    return 2 if failed else status


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


def _with_new_records(folders: list[Path | str]) -> list[Path | str]:
    """Return the folders that were named, and the one that runs through tox write to, if it exists.

    Without a named folder that one is read by default.
    """
    new = Path("records")
    return [*folders, new] if folders and new not in folders and new.is_dir() else folders
