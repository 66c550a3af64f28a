"""`matrix show`, `calibrate` and `jit`: what one record shows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status, terminal_of
from matrix._util.files import from_here
from matrix.commands import arguments
from matrix.commands.output import show
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.record.model import Record
    from matrix.rules.expectations import Expectations
    from matrix.verdict.judge import CellVerdict


SHOWN_JSON = "print JSON, with every counter and all seconds"
SHOWN_STATUS = "Exit status: 0, whatever the verdict, or 2 where the record is bad."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands `matrix show`, `calibrate` and `jit`."""
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

    calibrate = commands.add_parser(
        "calibrate",
        help="propose the expectations that a record would justify",
        epilog=SHOWN_STATUS,
    )
    calibrate.add_argument("record", metavar="RECORD", help="also one inside an archive")
    calibrate.add_argument("--all", action="store_true", help="propose every counter")
    arguments.finish(calibrate, _calibrate)

    jit = commands.add_parser(
        "jit",
        help="show the kernel modules that a run built just in time, and list them",
        epilog="Exit status: 0, or 2 if the record or the list is invalid.",
    )
    jit.add_argument("record", metavar="RECORD", help="also one inside an archive")
    jit.add_argument(
        "--write",
        action="store_true",
        help="add new modules to the list, so that later runs build them before their cases",
    )
    jit.add_argument(
        "--list", metavar="FILE", type=Path, help="another list than matrix/data/jit.toml"
    )
    jit.add_argument("--json", action="store_true", help="print JSON")
    arguments.finish(jit, _jit)


def show_record(options: argparse.Namespace) -> int:
    """Run `matrix show` and return its exit status."""
    from matrix.rules.expectations_file import load_expectations

    expectations = load_expectations(options.expectations)
    record, name = _record_of(options), from_here(options.record)
    if options.json:
        _print_json(record, name, expectations)
    else:
        print_record(record, name, expectations, every=options.counters, split=options.seconds)
    return 0


def _print_json(record: Record, name: str, expectations: Expectations) -> None:
    from matrix.catalog.releases_file import load_releases
    from matrix.report.show_json import to_json
    from matrix.verdict.judge import judge

    pin = load_releases().overridden_pin(record.cell)
    show(to_json(record, judge(record, expectations), name, pin=pin), fit=False)


def _record_of(options: argparse.Namespace) -> Record:
    """Return the record of an argument. Raises MatrixError, also for a cell, which has many."""
    from matrix.record.model import RecordError
    from matrix.store.load import one_record

    name = str(options.record)
    try:
        return one_record(name, print_status)
    except RecordError:
        if not _is_cell(name) or Path(name).exists():
            raise
        listing = f"`matrix results list --cell {name}` names its records"
        raise MatrixError(f"{name}: is a cell, not the file of a record; {listing}") from None


def _is_cell(name: str) -> bool:
    """Tell whether a text is the full name of a cell."""
    from matrix.catalog.cells import CellError, factors

    try:
        return factors(name).vllm is not None
    except CellError:
        return False


def _calibrate(options: argparse.Namespace) -> int:
    from matrix.report.calibrate import render
    from matrix.report.stock import mark
    from matrix.rules.calibrate import calibrate
    from matrix.rules.expectations_file import load_expectations
    from matrix.verdict.judge import judge

    expectations = load_expectations(options.expectations)
    record, name = _record_of(options), from_here(options.record)
    apart = mark(judge(record, expectations).not_stock)
    if apart:
        print_status(f"{name}: {apart}; what it counts may not hold for a stock environment")
    print(render(calibrate(record, expectations, name=name, every=options.all)), end="")
    return 0


def _jit(options: argparse.Namespace) -> int:
    from matrix.record.jit_modules import (
        JIT_FILE,
        load_jit_modules,
        new_rows,
        parse_jit_modules,
    )
    from matrix.report.jit import render, to_json

    path = options.list or JIT_FILE
    if options.write:
        path = arguments.to_write(options.list, JIT_FILE, "--list")
    record, name = _record_of(options), from_here(options.record)
    rows = new_rows(record, load_jit_modules(path), name)
    written = options.write and bool(rows)
    if written:
        with path.open("a", encoding="utf-8") as file:
            file.write(rows)
    if options.json:
        new = parse_jit_modules(rows, name)
        show(to_json(record, name, from_here(path), new, written=written), fit=False)
        return 0
    show(render(record, from_here(path), is_new=bool(rows), written=written))
    if rows and record.jit is not None:
        print(rows.strip("\n"))  # TOML
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
