"""`matrix watch`: what became of the table's findings since it was watched last."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from matrix._util.gc import gc_paused
from matrix.commands import arguments, context
from matrix.commands.output import show
from matrix.errors import MatrixError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix watch`."""
    watch = commands.add_parser(
        "watch",
        help="report which failures and drifts are new, still there or gone since the last time",
        epilog="The first time stores the existing findings; only later ones are regressions."
        " GitHub: also the outputs regressed, open and asked of the step. Exit status: 0, or 2 if"
        " a record, a folder or the state is invalid.",
        allow_abbrev=False,
    )
    arguments.add_folders(watch)
    watch.add_argument(
        "--state",
        metavar="FILE",
        type=Path,
        required=True,
        help="the file for the findings, outside of the folders of records",
    )
    watch.add_argument(
        "--issue",
        metavar="DIR",
        type=Path,
        help="write title.txt, body.md and comment.md of an issue there",
    )
    arguments.finish(watch, _watch)


@gc_paused()
def _watch(options: argparse.Namespace) -> int:
    from matrix._util.files import write_text
    from matrix.catalog.releases_file import load_releases
    from matrix.qualify.state_files import read_table_watch, write_table_watch
    from matrix.qualify.table_watch import follow_table
    from matrix.report import ci_issue
    from matrix.report.ci_services import hand_over

    _check_state(options.state, options.folders or map(Path, arguments.DEFAULT_FOLDERS))
    before = read_table_watch(options.state)
    table, status = context.read_some(options, load_releases())
    delta = follow_table(before, table)
    if options.issue is not None:
        made = ci_issue.issue(delta, table, _run_address(os.environ))
        for name, text in (
            ("title.txt", f"{made.title}\n"),
            ("body.md", made.body),
            ("comment.md", made.comment),
        ):
            write_text(options.issue / name, text)
    show(ci_issue.line(delta))
    hand_over(ci_issue.outputs(delta), os.environ)
    # Last: what could not be handed over is new the next time, too.
    write_table_watch(options.state, delta.watched)
    return status


def _check_state(state: Path, places: Iterable[Path | str]) -> None:
    """Raise MatrixError for a state that every reader of records would take for one."""
    for place in places:
        if isinstance(place, Path) and state.resolve().is_relative_to(place.resolve()):
            raise MatrixError(f"--state {state}: is in {place}, among records; keep it outside")


def _run_address(environ: Mapping[str, str]) -> str | None:
    """Return the address of GitHub's run that this is a step of."""
    parts = [environ.get(f"GITHUB_{key}") for key in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
    server, repository, run = parts
    return f"{server}/{repository}/actions/runs/{run}" if all(parts) else None
