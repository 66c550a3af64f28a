"""Ask uv's resolver which packages go together, without installing anything.

`uv pip compile` and not `uv pip install --dry-run`: it answers for any Python and platform, needs
no environment to look into, and prints one pin a line. Only wheels count (`--only-binary`): uv then
runs no code of an index to learn what a source distribution needs, and a release without a wheel
for the platform does not resolve in the hope that somebody can build it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from packaging.version import InvalidVersion

from matrix._util.scratch import Scratch
from matrix._util.versions import parse_version
from matrix.catalog.candidates.model import TORCH_COMPANIONS
from matrix.catalog.cells import Cell
from matrix.catalog.index import FetchError
from matrix.catalog.releases import override_lines
from matrix.checks.facts import Fact, FactCode
from matrix.checks.resolution.cache import (
    CUDA_RUNTIMES,
    KEPT_PACKAGES,
    Resolution,
    ResolverQuestion,
)
from matrix.checks.resolution.candidate_files import check_files
from matrix.checks.resolution.cause import ConflictCause
from matrix.checks.resolution.lock import LockFileError, Pinned, Target, parse_lock
from matrix.checks.resolution.uv_output import (
    conflict_of,
    error_of,
    read_conflict,
    why_install_failed,
)
from matrix.checks.resolution.uv_settings import more_indexes
from matrix.checks.resolution.wheel_tags import wheels_in, without_wheel
from matrix.errors import MatrixError

_TIMEOUT = 1800.0
"""Seconds for one answer: where an index does not serve metadata, uv reads whole wheels."""

SKEWS_RESOLUTION = (
    "UV_BUILD_CONSTRAINT",
    "UV_CONSTRAINT",
    "UV_CUSTOM_COMPILE_COMMAND",
    "UV_EXCLUDE",
    "UV_EXCLUDE_NEWER",
    "UV_OVERRIDE",
    "UV_TORCH_BACKEND",
)
"""What a user may have set for uv for other work; it would change the answer of a cell."""


# What adds to the default index, for a uv that does not show its settings as we know them.
_MORE_INDEXES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_SHOW_SETTINGS = "--show-settings"


class ResolverError(MatrixError):
    """The index or the resolver failed and gave no answer, which says nothing of the cell."""


@dataclass(frozen=True, kw_only=True)
class TimedAnswer:
    """A question, its answer or why there is none, and the seconds that this took."""

    question: ResolverQuestion
    answer: Resolution | ResolverError
    seconds: float


def resolve(
    requirements: Sequence[str], target: Target, overrides: Sequence[str] = ()
) -> dict[str, Pinned]:
    """Pin all that these requirements need on the target, with hashes, by uv's resolver.

    `overrides` replace the requirements of any package on these projects. Raises MatrixError
    where uv is missing, or no set of packages fits.
    """
    more = ["--generate-hashes", "--annotation-style", "split"]
    with Scratch("resolve") as folder:
        if overrides:
            more += _override_option(folder, overrides)
        done = _compile(requirements, target.python, target.uv_platform, more)
    if done.returncode:
        raise MatrixError(why_install_failed(done.stderr).reason)
    return parse_lock(done.stdout)


def ask(question: ResolverQuestion, target: Target, today: date) -> Resolution:
    """Ask whether the packages of a cell resolve on the target, which has the cell's Python.

    Raises ResolverError if the index or uv gives no answer, or a file of a candidate is gone or
    another one by now; MatrixError if uv is missing.
    """
    if question.installs is not None:
        try:
            check_files(question.installs.candidates, target.python)
        except FetchError as error:
            raise ResolverError(str(error)) from error
    answer = _ask(question, target, target.uv_platform, today)
    above = target.uv_platform_above
    if answer.cause is not ConflictCause.NO_WHEEL or above is None:
        return answer
    # A wheel for a glibc between two that uv knows is not among those that uv took.
    newer = _ask(question, target, above, today)
    if newer.cause is ConflictCause.NO_WHEEL:
        return answer
    lacking = without_wheel(wheels_in(_lock(question, target, above)), target) if newer.ok else ()
    if newer.ok and not lacking:
        return newer
    versions = _versions(question)
    for name in lacking:
        if name in versions:
            code, platform = FactCode.NO_WHEEL, tag_of(target)
            lack = Fact(code=code, package=name, version=versions[name], platform=platform)
            return replace(answer, facts=(lack,))
    raise ResolverError(
        f"uv does not know glibc {target.glibc}; for {target.uv_platform} it finds no wheel, for"
        f" {above} it does"
    )


def _lock(question: ResolverQuestion, target: Target, uv_platform: str) -> str:
    """Return the lock of a question that resolves, with the wheels of each package."""
    done = _compile_question(question, target, uv_platform, ["--format", "pylock.toml"])
    if done.returncode:
        raise ResolverError(error_of(done.stderr))
    return done.stdout


def _versions(question: ResolverQuestion) -> dict[str, str]:
    """Return the versions that a question asks for, by name."""
    if question.installs is not None:
        return dict(question.installs.versions)
    forced = question.override or {"torch": question.cell.torch}
    return {**forced, "vllm": question.cell.vllm}


def _ask(question: ResolverQuestion, target: Target, uv_platform: str, today: date) -> Resolution:
    """Ask for the target on a platform that uv knows; raises as `ask`."""
    cell = question.cell
    done = _compile_question(question, target, uv_platform, ["--annotation-style", "split"])
    platform = tag_of(target)
    known = Resolution(
        cell=cell,
        platform=platform,
        asked=today,
        ok=done.returncode == 0,
        override=question.override,
        more_indexes=_has_more_indexes(question, target, uv_platform),
    )
    if known.ok:
        pinned = _pinned(done.stdout, cell)
        return replace(known, count=len(pinned), packages=_packages(pinned))
    explanation = conflict_of(done.stderr)
    if explanation is None:
        raise ResolverError(error_of(done.stderr))
    brought = TORCH_COMPANIONS if question.installs is not None else ()
    conflict = read_conflict(explanation, _versions(question), cell.python, platform, brought)
    if conflict.cause is ConflictCause.INDEX:
        raise ResolverError(conflict.error)
    return replace(known, cause=conflict.cause, facts=conflict.facts)


def _has_more_indexes(question: ResolverQuestion, target: Target, uv_platform: str) -> bool:
    """Return whether uv asks more indexes than the default one, by its variables or its files.

    uv itself answers, since which of its files count depends on folders, workspaces and variables.
    Its settings hold credentials: nothing of them is kept.
    """
    shown = _compile_question(question, target, uv_platform, [_SHOW_SETTINGS])
    found = more_indexes(shown.stdout) if shown.returncode == 0 else None
    return any(os.environ.get(name) for name in _MORE_INDEXES) if found is None else found


def _compile_question(
    question: ResolverQuestion, target: Target, uv_platform: str, more: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Let uv resolve a question, without what a user may have set for other work."""
    installs = question.installs
    if installs is None:
        versions = _versions(question).items()
        requirements = [f"{name}=={version}" for name, version in versions]
        forced = override_lines(question.override) if question.override is not None else ()
    else:
        requirements, forced = list(installs.requirements), installs.overrides
    options = [*more, "--resolution", "highest", "--prerelease", "if-necessary-or-explicit"]
    environ = {key: value for key, value in os.environ.items() if key not in SKEWS_RESOLUTION}
    with Scratch("resolve") as folder:
        if forced:
            options += _override_option(folder, forced)
        return _compile(requirements, target.python, uv_platform, options, environ)


def _packages(pinned: Mapping[str, Pinned]) -> dict[str, str]:
    """Return the versions of KEPT_PACKAGES; the CUDA runtime counts only where torch requires it.

    Other packages require it too, and so do not show that this torch is built for CUDA.
    """
    of_torch = _all_of("torch", pinned)
    return {
        name: pinned[name].version
        for name in KEPT_PACKAGES
        if name in pinned and (name not in CUDA_RUNTIMES or name in of_torch)
    }


def _all_of(name: str, pinned: Mapping[str, Pinned]) -> set[str]:
    """Return a distribution and all that it requires, directly or not."""
    found, more = {name}, {name}
    while more:
        more = {other for other, package in pinned.items() if package.via & more} - found
        found |= more
    return found


def _override_option(folder: Path, overrides: Iterable[str]) -> list[str]:
    """Return uv's option for these overrides, which it reads from a file in the folder."""
    path = folder / "override.txt"
    path.write_text("".join(f"{requirement}\n" for requirement in overrides), encoding="utf-8")
    return ["--override", str(path)]


def _pinned(lock: str, cell: Cell) -> dict[str, Pinned]:
    """Return what uv pinned; raises ResolverError if it is not the cell's torch and vLLM."""
    try:
        pinned = parse_lock(lock)
        for name, version in (("torch", cell.torch), ("vllm", cell.vllm)):
            if (
                name not in pinned
                or parse_version(pinned[name].version).public != parse_version(version).public
            ):
                raise ResolverError(f"uv answered with another {name} than {version}")
        for name in KEPT_PACKAGES:
            if name in pinned:
                parse_version(pinned[name].version)
    except (LockFileError, InvalidVersion) as error:
        raise ResolverError(f"uv's answer cannot be used: {error}") from error
    return pinned


def ask_all(
    questions: Iterable[ResolverQuestion], machine: str, glibc: str, jobs: int, today: date
) -> Iterator[TimedAnswer]:
    """Ask several questions at a time, and yield each when its answer comes.

    Where the caller stops, the questions that have not begun are not asked. Raises MatrixError
    where uv is missing.
    """
    uv()
    workers = ThreadPoolExecutor(jobs)

    def answer_one(question: ResolverQuestion) -> TimedAnswer:
        began = time.monotonic()
        try:
            target = Target(python=question.cell.python, machine=machine, glibc=glibc)
            answer: Resolution | ResolverError = ask(question, target, today)
        except ResolverError as error:
            answer = error
        return TimedAnswer(question=question, answer=answer, seconds=time.monotonic() - began)

    try:
        pending: list[Future[TimedAnswer]] = [
            workers.submit(answer_one, question) for question in questions
        ]
        for done in as_completed(pending):
            yield done.result()
    finally:
        workers.shutdown(cancel_futures=True)


def tag_of(target: Target) -> str:
    """Return the target as the platform tag of a wheel: `manylinux_2_35_x86_64`."""
    return f"manylinux_{target.glibc.replace('.', '_')}_{target.machine}"


def uv() -> list[str]:
    """Return the command that starts uv; raises MatrixError if uv is missing."""
    found = shutil.which("uv")
    if found:
        return [found]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise MatrixError("uv is missing; it resolves the packages: pip install uv")


def program_environ(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for uv (default: this one): no bar of progress, and pip's index."""
    found = {**(os.environ if environ is None else environ), "UV_NO_PROGRESS": "1"}
    if not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & found.keys() and "PIP_INDEX_URL" in found:
        found["UV_DEFAULT_INDEX"] = found["PIP_INDEX_URL"]
    return found


def run_program(
    command: Sequence[str],
    stdin: str = "",
    environ: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program with this text on its standard input.

    Raises MatrixError if it does not run, ResolverError if it takes longer than `seconds`.
    """
    try:
        return subprocess.run(
            command,
            input=stdin,
            env=program_environ(environ),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
        )
    except OSError as error:
        raise MatrixError(
            f"{command[0]}: does not run ({error.strerror}); install it again"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ResolverError(
            f"{Path(command[0]).name} did not end within {seconds:.0f} s; is the index slow?"
        ) from error


def _compile(
    requirements: Sequence[str],
    python: str,
    uv_platform: str,
    more: Sequence[str],
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    command = [
        *uv(),
        *("pip", "compile", "-", "--no-header", "--only-binary", ":all:"),
        *(() if _SHOW_SETTINGS in more else ("--quiet",)),  # which would keep them back
        *("--python-version", python, "--python-platform", uv_platform),
        # Any Python will do to ask about another: without this uv tries to fetch that one.
        *("--python", sys.executable, "--no-python-downloads"),
        *more,
    ]
    return run_program(command, "\n".join(requirements), environ, _TIMEOUT)
