"""`matrix show`: one record and its verdict."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from matrix._util.console import terminal_of
from matrix._util.files import from_here
from matrix.commands import arguments, context
from matrix.commands.output import show

if TYPE_CHECKING:
    from matrix.record.model import Record
    from matrix.rules.expectations import Expectations
    from matrix.verdict.judge import CellVerdict


SHOWN_JSON = "print JSON, with every counter and all seconds"
SHOWN_STATUS = "Exit status: 0, whatever the verdict, or 2 where the record is bad."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix show`."""
    show = commands.add_parser("show", help="show one record and its verdict", epilog=SHOWN_STATUS)
    show.add_argument("record", metavar="RECORD", help="also one inside an archive")
    show.add_argument(
        "--counters", action="store_true", help="every counter, not only those that differ"
    )
    show.add_argument(
        "--seconds", action="store_true", help="show how each start spent its seconds"
    )
    show.add_argument("--json", action="store_true", help=SHOWN_JSON)
    arguments.finish(show, show_record)


def show_record(options: argparse.Namespace) -> int:
    """Run `matrix show` and return its exit status."""
    from matrix.rules.expectations_file import load_expectations

    expectations = load_expectations(options.expectations)
    record, name = context.record_of(options.record), from_here(options.record)
    if options.json:
        _print_json(record, name, expectations)
    else:
        print_record(record, name, expectations, every=options.counters, split=options.seconds)
    return 0


def print_record(
    record: Record,
    name: str,
    expectations: Expectations,
    *,
    every: bool = False,
    split: bool = False,
) -> CellVerdict:
    """Print a record as these expectations judge it, and return its verdict.

    With `every` each counter is shown, with `split` the parts of the seconds.
    """
    from matrix.catalog.releases_file import load_releases
    from matrix.report.terminal import render
    from matrix.verdict.judge import judge

    verdict = judge(record, expectations)
    text = render(
        record,
        verdict,
        name,
        colour=terminal_of(sys.stdout).colour,
        every=every,
        split=split,
        pin=load_releases().overridden_pin(record.cell),
    )
    show(text)
    return verdict


def _print_json(record: Record, name: str, expectations: Expectations) -> None:
    from matrix.catalog.releases_file import load_releases
    from matrix.report.show_json import to_json
    from matrix.verdict.judge import judge

    pin = load_releases().overridden_pin(record.cell)
    show(to_json(record, judge(record, expectations), name, pin=pin), fit=False)
