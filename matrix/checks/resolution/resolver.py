"""Ask uv's resolver what goes together, without installing anything.

`uv pip compile` and not `uv pip install --dry-run`: it answers for any Python and platform, needs
no environment to look into, and prints one pin a line. Only wheels count (`--only-binary`), so that
no code of an index is run to learn what a source distribution needs, and a release without a wheel
for the platform does not resolve by the hope that it could be built.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from packaging.version import InvalidVersion, Version

from matrix.catalog.cells import Cell
from matrix.checks.resolution.cache import PACKAGES, Question, Resolution
from matrix.checks.resolution.installs import conflict_of, error_of, why_install_failed
from matrix.checks.resolution.lock import LockError, Pinned, Target, parse_lock
from matrix.checks.resolution.uv_output import INDEX, read_conflict
from matrix.errors import MatrixError

__all__ = ["Asked", "ResolverFault", "ask", "ask_all", "called", "resolve", "tag_of", "uv"]

_TIMEOUT = 1800.0
"""Seconds for one answer: an index that serves no metadata by itself makes uv read whole wheels."""

# What a user may have set for other work would change the answer of a cell.
_SKEWING = (
    "UV_BUILD_CONSTRAINT",
    "UV_CONSTRAINT",
    "UV_CUSTOM_COMPILE_COMMAND",
    "UV_EXCLUDE",
    "UV_EXCLUDE_NEWER",
    "UV_OVERRIDE",
    "UV_TORCH_BACKEND",
)


class ResolverFault(MatrixError):
    """No answer: the index or the resolver failed, which says nothing of the cell."""


@dataclass(frozen=True)
class Asked:
    """One question that was asked: its answer, or why there is none, and the seconds it took."""

    question: Question
    answer: Resolution | ResolverFault
    seconds: float


def resolve(
    requirements: Sequence[str], target: Target, overrides: Sequence[str] = ()
) -> dict[str, Pinned]:
    """Pin all that these requirements need on the target, with hashes, by uv's resolver.

    `overrides` take the place of what any package requires of these projects. Raises MatrixError
    where there is no uv, or no set of packages fits.
    """
    more = ["--generate-hashes", "--annotation-style", "split"]
    with tempfile.TemporaryDirectory(prefix="matrix-resolve-") as folder:
        if overrides:
            forced = Path(folder, "override.txt")
            forced.write_text("".join(f"{each}\n" for each in overrides), encoding="utf-8")
            more += ["--override", str(forced)]
        done = _compile(requirements, target, more)
    if done.returncode:
        raise MatrixError(why_install_failed(done.stderr).reason)
    return parse_lock(done.stdout)


def ask(question: Question, target: Target, today: date) -> Resolution:
    """Whether the packages of a cell resolve on the target, whose Python is the cell's.

    Raises ResolverFault where the index or uv gives no answer, MatrixError where there is no uv.
    """
    cell, override = question.cell, question.override
    asked = {**(override or {"torch": cell.torch}), "vllm": cell.vllm}
    requirements = [f"{name}=={version}" for name, version in asked.items()]
    more = ["--no-annotate", "--resolution", "highest", "--prerelease", "if-necessary-or-explicit"]
    environ = {key: value for key, value in os.environ.items() if key not in _SKEWING}
    with tempfile.TemporaryDirectory(prefix="matrix-resolve-") as folder:
        if override is not None:
            forced = Path(folder, "override.txt")
            forced.write_text("".join(f"{each}=={override[each]}\n" for each in override))
            more += ["--override", str(forced)]
        done = _compile(requirements, target, more, environ)
    platform = tag_of(target)
    if done.returncode == 0:
        pinned = _pinned(done.stdout, cell)
        packages = {name: pinned[name].version for name in PACKAGES if name in pinned}
        return Resolution(
            cell, platform, today, True, override, count=len(pinned), packages=packages
        )
    said = conflict_of(done.stderr)
    if said is None:
        raise ResolverFault(error_of(done.stderr))
    conflict = read_conflict(said, asked, cell.python, platform)
    if conflict.cause == INDEX:
        raise ResolverFault(conflict.reason)
    return Resolution(
        cell, platform, today, False, override, cause=conflict.cause, reason=conflict.reason
    )


def _pinned(lock: str, cell: Cell) -> dict[str, Pinned]:
    """What uv pinned; raises ResolverFault where that is not the cell's torch and vLLM."""
    try:
        pinned = parse_lock(lock)
        for name, version in (("torch", cell.torch), ("vllm", cell.vllm)):
            if (
                name not in pinned
                or Version(pinned[name].version).public != Version(version).public
            ):
                raise ResolverFault(f"uv answered with another {name} than {version}")
        for name in PACKAGES:
            if name in pinned:
                Version(pinned[name].version)
    except (LockError, InvalidVersion) as error:
        raise ResolverFault(f"uv's answer is none: {error}") from error
    return pinned


def ask_all(
    questions: Iterable[Question], machine: str, glibc: str, jobs: int, today: date
) -> Iterator[Asked]:
    """Ask several questions at a time and give each as it is answered.

    Where the caller stops, what was not begun is not asked. Raises MatrixError where there is no
    uv.
    """
    uv()
    workers = ThreadPoolExecutor(jobs)

    def one(question: Question) -> Asked:
        began = time.monotonic()
        try:
            target = Target(question.cell.python, machine, glibc)
            answer: Resolution | ResolverFault = ask(question, target, today)
        except ResolverFault as fault:
            answer = fault
        return Asked(question, answer, time.monotonic() - began)

    try:
        pending: list[Future[Asked]] = [workers.submit(one, each) for each in questions]
        for done in as_completed(pending):
            yield done.result()
    finally:
        workers.shutdown(cancel_futures=True)


def tag_of(target: Target) -> str:
    """The target as the platform tag of a wheel: `manylinux_2_35_x86_64`."""
    return f"manylinux_{target.glibc.replace('.', '_')}_{target.machine}"


def uv() -> list[str]:
    """The command that is uv; raises MatrixError where there is none."""
    found = shutil.which("uv")
    if found:
        return [found]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise MatrixError("uv is not here, and it resolves the packages: pip install uv")


def called(
    command: Sequence[str],
    given: str = "",
    environ: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program with this text as its input.

    Raises MatrixError where it does not run, ResolverFault where it takes longer than `seconds`.
    """
    environ = {**(os.environ if environ is None else environ), "UV_NO_PROGRESS": "1"}
    if not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & environ.keys() and "PIP_INDEX_URL" in environ:
        environ["UV_DEFAULT_INDEX"] = environ["PIP_INDEX_URL"]
    try:
        return subprocess.run(
            command,
            input=given,
            env=environ,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
        )
    except OSError as error:
        raise MatrixError(f"{command[0]}: does not run ({error.strerror}); mend it") from error
    except subprocess.TimeoutExpired as error:
        raise ResolverFault(
            f"{Path(command[0]).name} did not end within {seconds:.0f} s; is the index slow?"
        ) from error


def _compile(
    requirements: Sequence[str],
    target: Target,
    more: Sequence[str],
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    command = [
        *uv(),
        *("pip", "compile", "-", "--quiet", "--no-header", "--only-binary", ":all:"),
        *("--python-version", target.python, "--python-platform", target.uv_platform),
        # Any Python will do to ask about another: without this uv tries to fetch that one.
        *("--python", sys.executable, "--no-python-downloads"),
        *more,
    ]
    return called(command, "\n".join(requirements), environ, _TIMEOUT)
