"""`matrix run`: run cells through tox, or with --here one in this environment."""

from __future__ import annotations

import argparse
from pathlib import Path

from matrix._util.console import print_status
from matrix._util.files import from_here
from matrix.commands import arguments, upstream_tests
from matrix.commands.show import print_record
from matrix.errors import MatrixError

_OF_MANY = (
    *("torch", "vllm", "python", "stale", "max_age", "force", "off_pin", "new", "neighbours"),
    *("dry_run", "resume", "cores", "memory", "disk", "gpus", "cell_gpus", "engine"),
    "address",
)
"""The options of runs through tox, which mean nothing with --here."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix run`."""
    run = commands.add_parser(
        "run",
        help="run cells through tox, write their records and judge them",
        usage="%(prog)s [options] CELL... [-- PYTEST ARGS]\n"
        "       %(prog)s --here [options] CELL [PYTEST ARGS]",
        allow_abbrev=False,
        epilog="Exit status: 0 if every cell is compatible, 1 if one drifts or is incompatible,"
        " or a case of --suite full or a test of --upstream fails, 5 if one is untested or did"
        " not run, or the tests of --upstream did not run to their end, 2 if nothing can run, 130"
        " after Ctrl-C.",
    )
    run.add_argument("cells", metavar="CELL", nargs="*", help="such as py311-torch210-vllm019")
    run.add_argument(
        "--platform",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: cuda if a GPU is visible, else cpu",
    )
    run.add_argument(
        "--records",
        metavar="DIR",
        type=Path,
        default=Path("records"),
        help="where to write the records (default: records)",
    )
    run.add_argument(
        "--model-source",
        choices=("data", "hub"),
        default="data",
        help="the models' configs: the package's data, or the hub (default: data)",
    )
    run.add_argument(
        "--suite",
        choices=("startup", "full"),
        default="startup",
        help="the cases that decide the verdict; with full also cases that do not: the cache off,"
        " moved or foreign, the engine in its own process, and more; if one of them fails, the"
        " exit status is 1 (default: startup)",
    )
    run.add_argument(
        "--jobs",
        metavar="N|auto",
        type=arguments.jobs,
        help="how many cases of a cell run at the same time (default: auto, as many as fit on the"
        " machine)",
    )
    run.add_argument(
        "--timeout",
        metavar="S",
        type=arguments.positive_seconds,
        help="seconds for the whole run of a cell",
    )
    _add_selection(run)
    upstream_tests.add(run)
    _add_here(run)
    run.set_defaults(run=_run, parser=run, takes_pytest_args=True, expectations=None)


def _add_selection(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group(
        "which cells, in addition to those that are named; each gets an environment by tox"
    )
    arguments.add_selection(group)
    how = run.add_argument_group("how a selection runs")
    how.add_argument(
        "--dry-run", action="store_true", help="show what would run, in which order, for how long"
    )
    how.add_argument(
        "--resume",
        metavar="RUN",
        nargs="?",
        const="",
        help="continue an earlier run, by default the newest: run the cells without a complete"
        " record",
    )
    arguments.add_limits(how)
    how.add_argument(
        "--cell-gpus",
        type=int,
        choices=(1, 2),
        help="GPUs that a cell on cuda sees; with 2, its cases for two GPUs run too (default: 2"
        " if this machine has two, else 1; 1 with --engine ray, which cannot share two)",
    )
    how.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: on the nodes of a Ray cluster; the limits apply to each node (the extra ray;"
        " default: local, on this machine)",
    )
    how.add_argument(
        "--address",
        metavar="HOST:PORT|auto",
        help="with --engine ray: the cluster to join, auto for the one that this machine is in"
        " (default: one that starts here and ends with the run)",
    )


def _add_here(run: argparse.ArgumentParser) -> None:
    here = run.add_argument_group("one cell, without tox")
    here.add_argument(
        "--here",
        action="store_true",
        help="run the cell in this environment, as tox does inside the environment that it made",
    )
    here.add_argument(
        "--bundle",
        metavar="DIR",
        type=Path,
        help="check this bundle and run the cell from it, without a network (implies --here)",
    )
    here.add_argument(
        "--work",
        metavar="DIR",
        type=Path,
        help="with --bundle: where to unpack and install (default: in the user's cache folder)",
    )


def _run(options: argparse.Namespace) -> int:
    alone = options.here or options.bundle is not None
    if alone and (given := arguments.given_of(options, _OF_MANY)):
        raise MatrixError(f"--here: runs one cell in this environment; leave out {given[0]}")
    if options.bundle is not None:
        from matrix.bundle.run import main

        return main(options.given[1:])
    if options.work is not None:
        raise MatrixError(f"--work {options.work}: goes with --bundle DIR only; leave it out")
    if options.here:
        return _run_here(options)
    from matrix.commands.run_selection import run_selection

    return run_selection(options)


def _run_here(options: argparse.Namespace) -> int:
    """Run one cell in this environment; what follows its name goes to pytest."""
    if not options.cells:
        options.parser.error("--here: name the cell that this environment is")
    # As one command line would have it: a path after the cell's name is one of pytest's.
    name, pytest_args = options.cells[0], [*options.cells[1:], *options.pytest_args]
    from matrix.catalog.releases_file import load_releases
    from matrix.record.reader import read
    from matrix.report.run_progress import alone_words
    from matrix.rules.expectations_file import load_expectations
    from matrix.run.cell import RUN_TIMEOUT, RunRequest, WrongPackagesError, run_cell
    from matrix.run.environment import absent_companions
    from matrix.run.nvidia import why_not_cuda
    from matrix.verdict.judge import exit_status, judge

    # Before the run: a fault in the expectations must not surface after ten minutes.
    expectations = load_expectations()
    releases = load_releases()
    cell = releases.resolve(name)
    note = why_not_cuda(options.platform)
    if note is not None:
        print_status(note)
    absent = absent_companions(cell, releases)
    if absent is not None:
        from matrix.report.candidates import absent_line

        print_status(absent_line(absent))
    request = RunRequest(
        cell=cell,
        platform=options.platform,
        records=options.records,
        pytest_args=pytest_args,
        timeout=options.timeout or RUN_TIMEOUT,
        model_source=options.model_source,
        suite=options.suite,
        jobs=options.jobs,
        upstream=upstream_tests.request_here(options, cell, releases),
        words=alone_words,
    )
    try:
        done = run_cell(request)
    except WrongPackagesError as error:
        print_status(f"untested: {error}")
        return exit_status(judge(read(error.path), expectations))
    if isinstance(done, int):  # pytest was asked for its help or a list, and has given it
        return done
    record = read(done)
    verdict = print_record(record, from_here(done), expectations)
    return exit_status(verdict, record)
