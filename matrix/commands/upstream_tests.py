"""The options of `matrix run` for upstream's own tests."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.catalog.cells import Cell
    from matrix.catalog.releases import Releases
    from matrix.run.upstream_files import UpstreamRequest


def add(run: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = run.add_argument_group("upstream's tests, vLLM's own, in addition to the startup tests")
    group.add_argument(
        "--upstream",
        metavar="FILE[::TEST]",
        action="append",
        default=[],
        help="also run this test file of that vLLM's source distribution, unmodified, with the"
        " package's configs instead of the hub's models; its result never changes the verdict;"
        " repeatable; not with --engine ray",
    )
    group.add_argument(
        "--upstream-tests",
        metavar="DIR",
        type=Path,
        help="a folder with the tests of that vLLM, or with a folder vllm-VERSION of each,"
        " which cells of several vLLMs need (default: fetched from the index; the extra index)",
    )


def check(options: argparse.Namespace) -> None:
    """Raise MatrixError for options that mean nothing, before anything is fetched."""
    if not options.upstream:
        if options.upstream_tests is not None:
            raise MatrixError("--upstream-tests: goes with --upstream FILE only; name a file")
        return
    from matrix.run.upstream_files import check_asked

    check_asked(options.upstream)
    if options.model_source != "data":
        raise MatrixError(
            "--upstream: upstream's tests would run code of the hub; leave out --model-source hub"
        )


def request_here(
    options: argparse.Namespace, cell: Cell, releases: Releases
) -> UpstreamRequest | None:
    """Return what a run in this environment is to run of upstream's tests; None for nothing."""
    check(options)
    if not options.upstream:
        return None
    from matrix.run.upstream_files import UpstreamRequest, tests_folder

    folder = folder_for(options, [cell], releases)
    asked = tuple(options.upstream)
    return UpstreamRequest(folder=tests_folder(folder, cell, asked), asked=asked)


def folder_for(options: argparse.Namespace, cells: Sequence[Cell], releases: Releases) -> Path:
    """Return the folder that has upstream's tests for these cells; fetch them unless one is named.

    Raises MatrixError where a cell has no such tests, or lacks a file that is asked for.
    """
    from matrix.run.upstream_files import check_each, fetched, tests_folder

    asked = options.upstream
    if options.upstream_tests is None:
        return fetched(cells, releases, asked)
    check_each(options.upstream_tests, cells)
    for cell in cells:
        tests_folder(options.upstream_tests, cell, asked)
    named: Path = options.upstream_tests
    return named.absolute()
