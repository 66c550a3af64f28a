"""`matrix sync` and `check`: whether tox.ini agrees with the data, and the data with itself."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix.commands import arguments, context
from matrix.commands.output import show
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.catalog.releases import Releases
    from matrix.rules.expectations import Expectations
    from matrix.rules.rule_faults import RuleFault


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands `matrix sync` and `check`."""
    sync = commands.add_parser(
        "sync",
        help="write the environments of tox.ini from the releases",
        epilog="Exit status: 0, or 1 if --check finds it stale.",
    )
    sync.add_argument(
        "--check", action="store_true", help="write nothing; show what would be changed"
    )
    sync.set_defaults(run=_sync, parser=sync)

    check = commands.add_parser(
        "check",
        help="check the releases, the cells, the expectations, explanations, notes and waivers",
        epilog="Exit status: 0; 1 if a rule contradicts upstream's own startup tests, goes beyond"
        " its evidence, or names a record that is missing or counts otherwise; 2 if a data file is"
        " invalid.",
    )
    check.add_argument(
        "--upstream",
        metavar="FILE",
        type=Path,
        help="compare the expectations with these numbers of upstream's (default: the package's"
        " own)",
    )
    check.add_argument(
        "--waivers", metavar="FILE", type=Path, help="check these (default: the package's own)"
    )
    arguments.finish(check, _check)


def _sync(options: argparse.Namespace) -> int:
    from matrix._util.files import read_text, write_text
    from matrix.catalog.releases_file import load_releases
    from matrix.catalog.tox_ini import difference, synced

    path, releases = Path("tox.ini"), load_releases()
    if not path.is_file():
        raise MatrixError("tox.ini: is not here; run `matrix sync` in a checkout of the matrix")
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise MatrixError(f"{path}: is not text ({error}); restore it") from error
    fresh = synced(text, releases)
    changes = difference(text, fresh)
    if not changes:
        print(f"{path} is up to date with matrix/data: {len(releases.on_pin())} on-pin cells")
        return 0
    if options.check:
        print_status(f"{path} is stale, it differs from matrix/data; run matrix sync")
    else:
        write_text(path, fresh)
        print(f"{path} was written: {len(releases.on_pin())} on-pin cells")
    print("\n".join(changes))
    return 1 if options.check else 0


def _check(options: argparse.Namespace) -> int:
    from matrix.catalog.releases_file import load_releases
    from matrix.report.check import (
        fault_lines,
        otherwise_line,
        release_lines,
        waiver_line,
    )
    from matrix.rules.expectations_file import load_expectations
    from matrix.rules.notes import load_notes
    from matrix.rules.waivers import load_waivers

    releases = load_releases()
    cells = releases.cells()
    for cell in cells:
        releases.companions(cell)
    show("".join(f"{line}\n" for line in release_lines(releases, cells)))
    expectations = load_expectations(options.expectations)
    wrong = fault_lines(_check_rules(options, expectations, releases), expectations.name)
    show("".join(f"{line}\n" for line in (otherwise_line(expectations), *_check_differences())))
    print(f"notes         {len(load_notes())} on pairs of releases")
    print(waiver_line(load_waivers(options.waivers), context.today()))
    for line in wrong:
        print_status(line)
    return 1 if wrong else 0


def _check_rules(
    options: argparse.Namespace, expectations: Expectations, releases: Releases
) -> Collection[RuleFault]:
    """Print the rules and how they compare with upstream's own tests; return what is wrong."""
    from matrix.report.check import rule_line
    from matrix.report.upstream_tests import render_held, render_unread
    from matrix.rules.founded import find_record
    from matrix.rules.rule_faults import RuleChecks
    from matrix.rules.upstream.file import load_upstream

    upstream = load_upstream(options.upstream)
    folder = None if options.expectations is None else options.expectations.parent
    checks = RuleChecks.of(upstream, releases, partial(find_record, folder=folder))
    checked = checks.check(expectations)
    unread = [f"              {line}\n" for line in render_unread(upstream.releases)]
    # One text, so that a terminal shows both in the same columns.
    lines = [
        f"{rule_line(expectations)}\n",
        f"upstream      {render_held(checked.held)}\n",
        *unread,
    ]
    show("".join(lines))
    return checked.faults


def _check_differences() -> list[str]:
    """Return lines: what the published records of this folder show of the explanations."""
    from matrix.record.reader import read_many
    from matrix.report.check import difference_lines
    from matrix.rules.platform_differences import load_explanations
    from matrix.verdict.agreement import agree

    explanations = load_explanations()
    here = arguments.places_of([], arguments.DEFAULT_FOLDERS[:1])
    found, errors = read_many(place for place in here if isinstance(place, Path))
    for error in errors:
        raise error
    records = [record for _, record in found]
    return difference_lines(explanations, agree(records, explanations))
