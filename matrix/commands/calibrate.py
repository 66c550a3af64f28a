"""`matrix calibrate`: the expectations that records would justify."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix._util.files import from_here
from matrix.commands import arguments, context

if TYPE_CHECKING:
    from matrix.record.model import Record
    from matrix.rules.calibrate import Calibration
    from matrix.rules.expectations import Expectations


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix calibrate`."""
    calibrate = commands.add_parser(
        "calibrate",
        help="propose the expectations that a record would justify",
        epilog="Exit status: 0; 1 if --write leaves out a rule that contradicts another one, or"
        " that `matrix check` would refuse; 2 if a record or the expectations are invalid, or the"
        " file cannot be changed.",
    )
    calibrate.add_argument(
        "records",
        metavar="RECORD",
        nargs="+",
        help="also one inside an archive; each of several is compared with the rules that the"
        " records before it leave",
    )
    calibrate.add_argument("--all", action="store_true", help="propose every counter")
    calibrate.add_argument(
        "--write",
        action="store_true",
        help="change the file of expectations: widen its rules where they stand, and add the new"
        " ones; all else in it stays as it is",
    )
    arguments.finish(calibrate, _calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    from matrix.report.calibrate import render
    from matrix.rules.calibrate_file import expectations_after
    from matrix.rules.expectations_file import load_expectations

    if options.write:
        from matrix.commands.calibrate_write import write_rules

        return write_rules(options)
    expectations = load_expectations(options.expectations)
    for number, given in enumerate(options.records):
        found = calibration(context.record_of(given), from_here(given), expectations, options)
        print("\n" * bool(number) + render(found), end="")
        if number < len(options.records) - 1:
            expectations = expectations_after(found, expectations)
    return 0


def calibration(
    record: Record, name: str, expectations: Expectations, options: argparse.Namespace
) -> Calibration:
    """Return what a record proposes, and print a line where its environment was not stock."""
    from matrix.report.stock import mark
    from matrix.rules.calibrate import calibrate
    from matrix.verdict.judge import judge

    apart = mark(judge(record, expectations).not_stock)
    if apart:
        print_status(f"{name}: {apart}; what it counts may not hold for a stock environment")
    return calibrate(record, expectations, name=name, every=options.all)
