"""Runs of single environments through tox, one after another: those that decide an attribution."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix._util.console import print_status
from matrix._util.text import clean
from matrix.errors import MatrixError
from matrix.record.model import Platform

RECORDS = "records"
"""The folder in which a run leaves its record, below that of tox.ini."""


WORK_DIR = "TOX_WORK_DIR"
"""The environment variable with the folder of tox's environments, in the place of `.tox`."""


class RerunError(MatrixError):
    """Runs that cannot be started: tox or tox.ini is missing."""


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """One environment to run on a platform, with these cases only (all where none is named).

    `flags` are environment variables that it gets, `environ` those that tox itself gets. `fresh`:
    its environment is made again first. `jobs` is how many cases run side by side (None: as
    `matrix run` chooses). `options` are others of `matrix run --here`, `pytest_args` go to pytest.
    `only_make`: its environment is made, and nothing runs; `made`: it is taken as it is.
    """

    name: str
    platform: Platform
    cases: tuple[str, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()
    fresh: bool = False
    environ: tuple[tuple[str, str], ...] = ()
    jobs: str | None = None
    options: tuple[str, ...] = ()
    pytest_args: tuple[str, ...] = ()
    only_make: bool = False
    made: bool = False


def command(run: Rerun, tox: Sequence[str] = ("tox",)) -> list[str]:
    """Return the command line of a run.

    >>> asked = {"platform": Platform.CPU, "cases": ("small_startup[dense]",)}
    >>> run = Rerun(name="py311-torch212-vllm020", **asked)
    >>> print(*command(run))
    tox -e py311-torch212-vllm020 -- --platform cpu -k small_startup[dense]
    """
    set_env = [
        part
        for name, value in run.flags
        for part in ("-x", f"testenv:{run.name}.set_env+={name}={value}")
    ]
    # pytest reads = as the end of a word, so what comes before it has to do.
    words = dict.fromkeys(case.partition("=")[0] for case in run.cases)
    chosen = ["-k", " or ".join(words)] if all(words) and words else []
    # Without the second option tox makes its own environment again, too, which takes 12 s.
    fresh = ["-r", "--no-recreate-provision"] if run.fresh else []
    how = ["--notest"] * run.only_make + ["--skip-env-install"] * run.made
    jobs = [] if run.jobs is None else ["--jobs", run.jobs]
    rest = ["--", *run.pytest_args] if run.pytest_args else []
    own = ["--platform", run.platform, *run.options, *jobs, *chosen, *rest]
    return [*tox, *fresh, *how, "-e", run.name, *set_env, "--", *own]


def shown(run: Rerun) -> str:
    """Return the command line as a person would type it; a case's name may hold anything."""
    variables = (f"{name}={shlex.quote(value)}" for name, value in run.environ)
    return clean(" ".join((*variables, shlex.join(command(run)))))


def run_all(runs: Iterable[Rerun], root: Path, *, dry: bool = False) -> list[str]:
    """Run them in the folder of tox.ini and return what went wrong, a line each.

    What tox prints goes to stderr, and so do what is run and how long it took. With `dry`
    the commands are printed and nothing is run. A run that ends without a record of its own does
    not stop the others. Whether there is one is asked of the folder, for tox ends with statuses of
    its own that `matrix run` has too. Raises RerunError if nothing can be run.
    """
    every = list(runs)
    if dry:
        for run in every:
            print(shown(run))  # noqa: T201 - the answer of a dry run
        return []
    if not every:
        return []
    tox = tox_of(root)
    failures = []
    for number, run in enumerate(every, 1):
        print_status(f"{number} of {len(every)}: {shown(run)}")
        before, began = records_of(run, root), time.monotonic()
        status = _status(command(run, tox), root, dict(run.environ))
        took = time.monotonic() - began
        if records_of(run, root) - before:
            print_status(f"{run.name} ran in {took:.0f} s")
        else:
            failures.append(
                f"{run.name} on {run.platform}: tox ended with {status} after {took:.0f} s and left"
                f" no new record in {RECORDS}, so its answer stays unknown; its"
                " output shows why"
            )
    return failures


def records_of(run: Rerun, root: Path) -> set[tuple[str, int, int]]:
    """Return the records of a run's cell on its platform, by file, time and size."""
    return records_in(root / RECORDS / run.platform, run.name)


def records_in(folder: Path, name: str) -> set[tuple[str, int, int]]:
    """Return the records of an environment in the folder of a platform, as `records_of` does.

    The folder may have a million files: they are listed by name, and those of others not looked at.
    """
    found: set[tuple[str, int, int]] = set()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(f"{name}.") and entry.name.endswith(".json"):
                with contextlib.suppress(OSError):  # pruned meanwhile
                    status = entry.stat()
                    found.add((entry.name, status.st_mtime_ns, status.st_size))
    return found


def outer_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables without those of tox, but for a person's own TOX_WORK_DIR.

    Within an environment of tox they name that one, and the inner tox would take them over.
    """
    kept = () if "TOX_ENV_NAME" in environ else (WORK_DIR,)
    return {
        key: value for key, value in environ.items() if not key.startswith("TOX_") or key in kept
    }


def _status(line: Sequence[str], root: Path, own: Mapping[str, str]) -> int:
    environ = {**outer_environ(), **own}
    try:
        # What this command prints is its answer, maybe JSON: the output of tox goes to stderr.
        return subprocess.run(line, cwd=root, env=environ, stdout=2, check=False).returncode
    except OSError as error:
        raise RerunError(f"{line[0]}: cannot be started: {error.strerror or error}") from None


def tox_of(root: Path) -> list[str]:
    """Return how to call tox for the checkout `root`. Raises RerunError if it cannot run."""
    if not (root / "tox.ini").is_file():
        raise RerunError(f"{root}: no tox.ini there; run this in a checkout of the matrix")
    return tox_command()


def tox_command() -> list[str]:
    """Return how to call tox. Raises RerunError if it is not installed."""
    if importlib.util.find_spec("tox") is not None:
        return [sys.executable, "-m", "tox"]
    found = shutil.which("tox")
    if found is None:
        raise RerunError("tox is not installed; it makes the environments: pip install tox")
    return [found]
