"""`matrix calibrate --write`: change the file of expectations by what records propose."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix._util.files import from_here, read_bytes, write_text
from matrix.catalog.cells import factors, is_candidate
from matrix.catalog.releases_file import load_releases
from matrix.commands import arguments, context
from matrix.commands.calibrate import calibration
from matrix.commands.output import show
from matrix.errors import MatrixError
from matrix.record.reader import read
from matrix.report.calibrate import left_out_lines, render_file, render_update
from matrix.report.check import fault_lines
from matrix.rules.calibrate import published_name
from matrix.rules.calibrate_file import update_rules
from matrix.rules.expectations_file import EXPECTATIONS_FILE, load_expectations
from matrix.rules.founded import find_record
from matrix.rules.rule_faults import RuleChecks
from matrix.rules.upstream.file import load_upstream

if TYPE_CHECKING:
    from matrix.record.model import Record
    from matrix.rules.calibrate_file import ChangedRule


def write_rules(options: argparse.Namespace) -> int:
    """Write what the records propose into the file of expectations, and return the exit status."""
    path = arguments.to_write(options.expectations, EXPECTATIONS_FILE, "--expectations")
    expectations, before = load_expectations(path), read_bytes(path).decode("utf-8")
    folder = None if options.expectations is None else path.parent
    find = partial(find_record, folder=folder)
    checks = RuleChecks.of(load_upstream(), load_releases(), find)
    text, report = before, ""
    left_out: list[str] = []
    changed: list[ChangedRule] = []
    for given in options.records:
        record, name = context.record_of(given), from_here(given)
        _must_be_published(record, name, find)
        found = calibration(record, name, expectations, options)
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
