"""`matrix upstream`: what vLLM's own startup tests say of each release."""

from __future__ import annotations

import argparse
from pathlib import Path

from matrix._util.console import print_status
from matrix._util.files import from_here
from matrix.commands import arguments
from matrix.commands.output import show


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix upstream`."""
    upstream = commands.add_parser(
        "upstream",
        help="read the numbers of vLLM's own startup tests from its source distributions into the"
        " data",
        epilog="Exit status: 0; 2 if something could not be read (the rest is kept).",
        allow_abbrev=False,
    )
    upstream.add_argument(
        "--all", action="store_true", help="read every release again, not only new ones"
    )
    arguments.add_index(upstream)
    arguments.add_jobs(upstream, 2, "releases are read")
    upstream.add_argument(
        "--upstream",
        metavar="FILE",
        type=Path,
        help="another file than matrix/data/upstream.json",
    )
    upstream.set_defaults(run=_upstream, parser=upstream)


def _upstream(options: argparse.Namespace) -> int:
    from contextlib import closing

    from matrix.catalog.index import Index
    from matrix.report.upstream_tests import render_read
    from matrix.rules.upstream.file import UPSTREAM_FILE
    from matrix.rules.upstream.sdist import read_upstream

    path = arguments.to_write(options.upstream, UPSTREAM_FILE, "--upstream")
    with closing(Index(options.index)) as index:
        done = read_upstream(path, index, every=options.all, jobs=options.jobs)
    show(render_read(done, from_here(path)))
    for failure in done.failures:
        print_status(failure)
    return 2 if done.failures else 0
