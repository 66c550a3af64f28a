"""The pytest plugin that runs startup tests inside a cell and writes the record while they run.

Tests under a folder `tests/startup`, and tests marked `isolated`, each run in a forked child, from
the setup of their fixtures to the teardown: every child sets up fixtures of any scope itself. The
child sends its reports back as JSON and this process logs them, so `-x`, `--maxfail`, `-rA` and
`--junitxml` see them as if the test had run here. A child that dies or hangs becomes a failed
report. Several run side by side by default, each under a supervisor; all else happens as it does
for one. Warnings, subtests' own reports and properties of the whole test suite do not come back.

This module is the plugin (`-p matrix.inside.pytest_plugin`): the options and the marker. `hooks`
has the hooks of a session.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from matrix.inside.concurrency import parse_jobs
from matrix.inside.pytest_plugin.hooks import SessionHooks
from matrix.inside.pytest_plugin.selection import case_name
from matrix.record.model import PLATFORMS
from matrix.record.startup_tests import CASE_TIMEOUT, SUITES

__all__ = ["case_name", "pytest_addoption", "pytest_configure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run inside a cell."""
    group = parser.getgroup("matrix", "startup tests of a cell")
    group.addoption(
        "--record",
        type=Path,
        metavar="FILE",
        help="the record to fill; `matrix run` makes it",
    )
    group.addoption(
        "--platform",
        choices=["auto", *PLATFORMS],
        default="auto",
        help="where the cell runs; auto: what the record says, else MATRIX_PLATFORM, else cpu",
    )
    group.addoption(
        "--case-timeout",
        type=_seconds,
        default=CASE_TIMEOUT,
        metavar="SECONDS",
        help=f"how long one case may take before it is killed (default {CASE_TIMEOUT:g})",
    )
    group.addoption(
        "--jobs",
        type=parse_jobs,
        default="auto",
        metavar="N|auto",
        help="how many cases run side by side (default: auto, as many as there is room for)",
    )
    group.addoption(
        "--jit-cache",
        type=Path,
        metavar="DIR",
        help="on a GPU: keep in DIR/CELL what libraries build just in time, and take from there"
        " what an earlier run of this cell built; an absolute path (default: a fresh folder for"
        " each run)",
    )
    group.addoption(
        "--suite",
        choices=SUITES,
        default=SUITES[0],
        help="full: also the cases that are marked full, which do not count in whether the run is"
        f" whole (default: {SUITES[0]})",
    )
    group.addoption(
        "--model-source",
        choices=["data", "hub"],
        default="data",
        help="models from this package's data, or from the hub",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and the hooks of the session."""
    config.addinivalue_line("markers", "isolated: run this test in a forked child")
    config.addinivalue_line("markers", "gpus(count): this case needs so many GPUs")
    config.addinivalue_line("markers", "full: the full suite alone has this case")
    if config.getoption("usepdb"):
        raise pytest.UsageError("--pdb cannot reach into a forked child; use breakpoints and logs")
    if config.getoption("setuponly", default=False) or config.getoption("setupplan", default=False):
        raise pytest.UsageError("--setup-only and --setup-plan start nothing; use --collect-only")
    config.pluginmanager.register(SessionHooks(config), "matrix-runner")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds
