"""`matrix attribute`: who changed, and since which release."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix._util.gc import gc_paused
from matrix._util.nearest import suggested
from matrix.commands import arguments, context
from matrix.commands.output import show
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.attribution.model import Attribution
    from matrix.catalog.releases import Releases
    from matrix.record.model import Platform
    from matrix.run.rerun import Rerun
    from matrix.verdict.ladder import Part
    from matrix.verdict.table import Table


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix attribute`."""
    attribute = commands.add_parser(
        "attribute",
        help="find the cause of a failure or drift: torch, vLLM, the pair, or none of them",
        epilog="Exit status: 0; 2 if a record is invalid, or a run that --run started failed (the"
        " answers of the other runs are still printed).",
        allow_abbrev=False,
    )
    attribute.add_argument("cell", metavar="CELL", nargs="?", help="such as py311-torch212-vllm020")
    attribute.add_argument("--all", action="store_true", help="every cell that ran")
    arguments.add_platform_and_folders(attribute)
    attribute.add_argument(
        "--case", metavar="CASE", help="only this case: moe_startup[mega_aot=1], or moe_startup"
    )
    attribute.add_argument(
        "--changes",
        action="store_true",
        help="also counters that are as expected but differ from a neighbouring cell's",
    )
    attribute.add_argument(
        "--run",
        dest="run_missing",
        action="store_true",
        help="run the cells that would decide, through tox, and print the answer again",
    )
    attribute.add_argument(
        "--dry-run", action="store_true", help="print the commands of the runs that would decide"
    )
    attribute.add_argument("--json", action="store_true", help="as JSON")
    arguments.finish(attribute, _attribute)


@gc_paused()
def _attribute(options: argparse.Namespace) -> int:
    from matrix.attribution.attribute import attribute, unanswered
    from matrix.attribution.runs_index import judge_records
    from matrix.catalog.releases_file import load_releases
    from matrix.checks.lookup import load_answers
    from matrix.record.model import Platform
    from matrix.report.attribution.text import lines
    from matrix.report.attribution.values import to_json
    from matrix.rules.expectations_file import load_expectations
    from matrix.run.rerun import run_all

    if options.cell is None and not options.all:
        raise MatrixError("attribute: name a cell, such as py311-torch212-vllm020, or use --all")
    if options.cell is not None and options.all:
        # What stands in the place of the cell is a folder: `matrix attribute --all results`.
        options.folders = [arguments.place(options.cell), *options.folders]
        options.cell = None
    names, releases = None, load_releases()
    platform = Platform(options.platform) if options.platform else None
    if options.cell is not None:
        names = frozenset([_full_name(options.cell, releases)])
    expectations = load_expectations(options.expectations)
    answers = load_answers(releases)
    failures: list[str] = []
    for again in (False, True):
        table, read, status = context.read_all(options, releases, expectations, repeats=None)
        grid = context.grid_of(table.verdicts, releases, answers)
        known = {entry.record.cell for entry in table.entries}
        if names is not None and not names & known:
            (name,) = names
            raise MatrixError(_never_ran(name, releases, known))
        records = [record for _, record in read.records if names is None or record.cell in names]
        context.must_have_run(records, platform, options.case)
        asked = {"names": names, "platform": platform, "case": options.case}
        judged = judge_records(read.records, read.runs, table.verdicts, expectations)
        found = attribute(
            judged,
            releases,
            context.known_pairs(grid, answers),
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
        options.folders = context.with_new_records(options.folders)
    silent = _silent(unanswered(judged, releases, **asked), _untested(table, **asked), found)
    worded = to_json if options.json else lines
    text = worded(found, silent, _parts(table, names))
    show(text, fit=not options.json)
    if options.run_missing and not wanted:
        print_status("no other run could show more")
    elif options.dry_run:
        run_all(wanted, Path.cwd(), dry=True)
    return 2 if failures else status


def _silent(
    unanswered: Iterable[tuple[str, str]],
    untested: Iterable[tuple[str, str]],
    found: Iterable[Attribution],
) -> list[tuple[str, str]]:
    """Return the cells without an answer, in order; an attribution is one."""
    attributed = {(attribution.name, str(attribution.platform)) for attribution in found}
    return sorted({*unanswered, *untested} - attributed)


def _untested(
    table: Table, names: frozenset[str] | None, platform: Platform | None, case: str | None
) -> Iterator[tuple[str, str]]:
    """Yield the cells, by name and platform, of which a selected case did not come to its end.

    Somebody ended it, or the run, or the machine failed it; the other cases can have answers.
    """
    from matrix.verdict.judge import has_no_answer
    from matrix.verdict.states import Verdict

    for entry in table.entries:
        record = entry.record
        is_asked = names is None or record.cell in names
        if not is_asked or platform not in (None, record.platform):
            continue
        selected = [
            found for found in record.cases if case in (None, found.case, found.case.split("[")[0])
        ]
        ended = record.error is not None or not record.finished
        if entry.verdict.verdict is Verdict.UNTESTED and (
            ended or any(map(has_no_answer, selected))
        ):
            yield record.cell, str(record.platform)


def _parts(table: Table, names: frozenset[str] | None) -> dict[tuple[str, str], Part]:
    """Return how many cases each partial run of the table has, by the cell's name and platform."""
    return {
        (cell, platform): part
        for (cell, platform), part in table.parts.items()
        if names is None or cell in names
    }


def _reruns(found: Iterable[Attribution]) -> list[Rerun]:
    """Return the missing runs of these attributions, each environment once with all its cases."""
    from matrix.run.rerun import Rerun

    wanted: dict[tuple[str, Platform, tuple[tuple[str, str], ...]], dict[str, None]] = {}
    for attribution in found:
        for missing in attribution.missing:
            key = missing.name, missing.platform, missing.flags
            wanted.setdefault(key, {})[attribution.case] = None
    return [
        Rerun(name=name, platform=platform, cases=tuple(cases), flags=flags)
        for (name, platform, flags), cases in wanted.items()
    ]


def _never_ran(name: str, releases: Releases, ran: Iterable[str]) -> str:
    """Return that a cell never ran; of one that nothing here makes, which may be meant."""
    from matrix.catalog.cells import CellError

    message = f"{name}: never ran, so there is nothing to attribute; tox -e {name}"
    try:
        releases.resolve(name)
    except CellError:
        return suggested(message, name, ran)
    return message


def _full_name(name: str, releases: Releases) -> str:
    """Return the full name of an environment, given either way. Raises CellError for others."""
    from matrix.catalog.cells import CellError, factors

    try:
        is_full = factors(name).vllm is not None
    except CellError:
        is_full = False  # `resolve` says which name may be meant
    return name if is_full else releases.resolve(name).name
