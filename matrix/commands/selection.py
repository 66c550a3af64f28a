"""The cells that a command's options select: one way for `matrix plan` and `matrix run`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from matrix._util.versions import chosen_specifier
from matrix.catalog.projects import Project
from matrix.catalog.releases_file import load_releases
from matrix.commands import context
from matrix.record.startup_tests import StartupTests, load_startup_tests
from matrix.verdict.plan import Planned, Wanted, parse_release, plan
from matrix.verdict.table import Table


@dataclass(frozen=True, kw_only=True)
class Selected:
    """The cells that are asked for, with the table of the records that decided about them.

    `status` is the exit status of reading these: 2 where a record is bad.
    """

    planned: tuple[Planned, ...]
    table: Table
    tests: StartupTests
    status: int


def select(options: argparse.Namespace, platforms: Sequence[str]) -> Selected:
    """Return the cells that `arguments.add_selection`'s options ask for, on these platforms.

    Reads the records of `options.folders`. Raises PlanError for an option that cannot be used.
    """
    wanted = Wanted(
        **specifiers(options, ("torch", "vllm", "python")),
        platforms=tuple(platforms),
        stale=options.stale,
        off_pin=options.off_pin,
        new=tuple(parse_release(text, "--new") for text in options.new),
        neighbours=tuple(parse_release(text, "--neighbours") for text in options.neighbours),
    )
    table, status = context.read_some(options)
    tests = load_startup_tests()
    records = [entry.record for entry in table.entries]
    grid = context.grid_of(table.verdicts)
    planned = plan(grid, load_releases(), records, tests, wanted, running=table.running)
    return Selected(planned=planned, table=table, tests=tests, status=status)


def specifiers(options: argparse.Namespace, keys: Sequence[str]) -> dict[str, SpecifierSet]:
    """Return the releases that these options ask for, by option."""
    asked = {key: text for key in keys if (text := getattr(options, key)) is not None}
    if not asked:
        return {}
    releases = load_releases()
    known = {str(project): releases.versions(project) for project in Project}
    return {
        key: chosen_specifier(text, known.get(key, ()), f"--{key}") for key, text in asked.items()
    }
