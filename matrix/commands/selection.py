"""The cells that a command's options select: one way for `matrix plan` and `matrix run`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial

from matrix.catalog.releases import Releases
from matrix.checks.lookup import load_answers
from matrix.commands import context
from matrix.record.model import Platform
from matrix.record.startup_tests import StartupTests, load_startup_tests
from matrix.run.here import Hardware, ThisMachine
from matrix.verdict.plan import Planned, Wanted, parse_release, plan
from matrix.verdict.stale import MaxAge
from matrix.verdict.table import Table


@dataclass(frozen=True, kw_only=True)
class Selected:
    """The cells that are asked for, with the table of the records that decided about them.

    `held` are those whose records stand; with --stale they are not among the others. `off_pin` is
    how many cells --off-pin would add where nothing is to run and no record stands. `status` is the
    exit status of reading these: 2 where a record is bad.
    """

    planned: tuple[Planned, ...]
    held: tuple[Planned, ...]
    table: Table
    tests: StartupTests
    status: int
    off_pin: int = 0


def select(
    options: argparse.Namespace,
    releases: Releases,
    platforms: Sequence[Platform],
    *,
    flags: Mapping[str, str] | None = None,
    elsewhere: Hardware | None = None,
    damaged: bool = False,
) -> Selected:
    """Return the cells that `arguments.add_selection`'s options ask for, on these platforms.

    Reads the records of `options.folders`. `flags` are environment variables that the cells are to
    get. Where they run `elsewhere`, records are held against what that says, and not against this
    machine and its environments. With `damaged` they may all be: the cells are to run then.
    Raises PlanError for an option that cannot be used.
    """
    wanted = _wanted(options, platforms, releases)
    table, found, status = context.read_if_any(options, releases, damaged=damaged)
    tests, answers = load_startup_tests(), load_answers(releases)
    every_plan = partial(
        plan,
        context.grid_of(table.verdicts, releases, answers),
        releases,
        [entry.record for entry in table.entries],
        tests,
        running=table.running,
        here=ThisMachine(
            releases,
            answers,
            partial(context.every_record, options, found),
            flags=flags,
            elsewhere=elsewhere,
        ),
    )
    every = every_plan(wanted=wanted)
    planned = _asked_for(every, stale=options.stale)
    held = tuple(item for item in every if item.holds)
    off_pin = 0
    if not options.off_pin and not held and not any(item.runs for item in planned):
        more = every_plan(wanted=replace(wanted, off_pin=True))
        off_pin = sum(item.runs for item in _asked_for(more, stale=options.stale))
    return Selected(
        planned=planned,
        held=held,
        table=table,
        tests=tests,
        status=status,
        off_pin=off_pin,
    )


def _asked_for(every: tuple[Planned, ...], *, stale: bool) -> tuple[Planned, ...]:
    return tuple(item for item in every if item.stale) if stale else every


def _wanted(
    options: argparse.Namespace, platforms: Sequence[Platform], releases: Releases
) -> Wanted:
    """Return what the options ask for, with what is not stale."""
    asked = context.specifiers(options, ("torch", "vllm", "python"), releases)
    max_age = None
    if options.max_age is not None:
        max_age = MaxAge(days=options.max_age, now=datetime.now(timezone.utc))
    return Wanted(
        torch=asked.get("torch"),
        vllm=asked.get("vllm"),
        python=asked.get("python"),
        platforms=tuple(platforms),
        off_pin=options.off_pin,
        new=tuple(parse_release(text, "--new") for text in options.new),
        neighbours=tuple(parse_release(text, "--neighbours") for text in options.neighbours),
        max_age=max_age,
        force=options.force,
    )
