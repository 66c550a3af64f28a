"""`matrix show`, `calibrate` and `jit`: what one record shows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status, terminal_of
from matrix._util.files import from_here
from matrix.commands import arguments
from matrix.commands.output import show
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.record.model import Record
    from matrix.rules.calibrate import Calibration
    from matrix.rules.calibrate_file import ChangedRule
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
    record, name = _record_of(options.record), from_here(options.record)
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


def _record_of(name: str) -> Record:
    """Return the record of an argument. Raises MatrixError, also for a cell, which has many."""
    from matrix.record.model import RecordError
    from matrix.store.load import one_record

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
    from matrix.rules.calibrate_file import expectations_after
    from matrix.rules.expectations_file import load_expectations

    if options.write:
        return _write_rules(options)
    expectations = load_expectations(options.expectations)
    for number, given in enumerate(options.records):
        found = _calibration(_record_of(given), from_here(given), expectations, options)
        print("\n" * bool(number) + render(found), end="")
        if number < len(options.records) - 1:
            expectations = expectations_after(found, expectations)
    return 0


def _calibration(
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


def _write_rules(options: argparse.Namespace) -> int:
    """Write what the records propose into the file of expectations, and return the exit status."""
    from matrix._util.files import read_bytes, write_text
    from matrix.catalog.releases_file import load_releases
    from matrix.report.calibrate import fault_lines, left_out_lines, render_file, render_update
    from matrix.rules.calibrate_file import update_rules
    from matrix.rules.expectations_file import EXPECTATIONS_FILE, load_expectations
    from matrix.rules.founded import find_record
    from matrix.rules.rule_faults import RuleChecks
    from matrix.rules.upstream.file import load_upstream

    path = arguments.to_write(options.expectations, EXPECTATIONS_FILE, "--expectations")
    expectations, before = load_expectations(path), read_bytes(path).decode("utf-8")
    folder = None if options.expectations is None else path.parent
    find = partial(find_record, folder=folder)
    checks = RuleChecks.of(load_upstream(), load_releases(), find)
    text, report = before, ""
    left_out: list[str] = []
    changed: list[ChangedRule] = []
    for given in options.records:
        record, name = _record_of(given), from_here(given)
        _must_be_published(record, name, find)
        found = _calibration(record, name, expectations, options)
        update = update_rules(text, expectations, found, checks)
        if update.hinders:
            line = fault_lines(update.hinders, expectations.name)[0]
            raise MatrixError(f"{name}: its rules would make `matrix check` refuse another: {line}")
        text, expectations = update.text, update.expectations
        report += render_update(update, found)
        left_out += left_out_lines(update, found)
        changed += update.changed
    if text != before:
        write_text(path.resolve() if path.is_symlink() else path, text)
    show(report + render_file(from_here(path), changed))
    for line in left_out:
        print_status(line)
    return 1 if left_out else 0


def _must_be_published(record: Record, name: str, find: Callable[[str], Path | None]) -> None:
    """Raise MatrixError unless the record is of releases, and where a rule names it as evidence."""
    from matrix.catalog.cells import factors, is_candidate
    from matrix.record.reader import read
    from matrix.rules.calibrate import published_name

    cell, evidence = factors(record.cell), published_name(record)
    if is_candidate(cell.torch) or is_candidate(cell.vllm or ""):
        raise MatrixError(
            f"{name}: a candidate is evidence of no release; calibrate the record of a release"
        )
    path = find(evidence)
    if path is None or read(path) != record:
        what = "is not there" if path is None else "is the record of another run"
        raise MatrixError(
            f"{name}: a rule names it as {evidence}, which {what}; copy it there first"
        )


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
    record, name = _record_of(options.record), from_here(options.record)
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
