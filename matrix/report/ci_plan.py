"""A plan as a CI service takes it: GitHub's job matrix, Buildkite's steps.

Pure. All that a service could act on is the name of a cell, a platform, a version or a number: what
is made here contains no text of a record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from matrix._util.enums import StrEnum
from matrix._util.text import plural
from matrix.errors import MatrixError
from matrix.record.model import Platform
from matrix.verdict.plan_jobs import CiJob


class CiPlanError(MatrixError):
    """A plan that a CI service would not take: says what to write instead."""


class PlanFormat(StrEnum):
    """The CI service that a plan is for."""

    GITHUB = "github"
    BUILDKITE = "buildkite"


class ServiceLimits(NamedTuple):
    """The limits of a CI service: jobs of one plan, minutes of one job."""

    jobs: int
    minutes: int


LIMITS = {
    # https://docs.github.com/en/actions/reference/limits: 256 jobs a matrix, six hours a job on
    # GitHub's own runners.
    PlanFormat.GITHUB: ServiceLimits(jobs=256, minutes=360),
    # https://buildkite.com/docs/agent/v3/cli-pipeline: 500 steps a file. Only its owner limits the
    # minutes of a job; a cell ends by itself after four hours.
    PlanFormat.BUILDKITE: ServiceLimits(jobs=500, minutes=24 * 60),
}

QUEUE = "cuda"
"""The Buildkite queue of the agents that have a GPU."""

_OUTPUT_LIMIT = 500_000
"""Characters: GitHub takes 1 MB of a job's outputs, each character as two bytes."""
# The exit statuses of `matrix run` that are an answer: drift, incompatible, or a failed test; and
# untested.
_ANSWERS = (1, 5)
_SAFE = re.compile(r"[a-z0-9-]+", re.ASCII)
_QUEUE = re.compile(r"[A-Za-z0-9_.:/-]{1,100}", re.ASCII)


def github(jobs: Sequence[CiJob]) -> str:
    """Return the job matrix as one line of JSON, for `strategy.matrix` by `fromJSON`.

    Of a plan without jobs the list is empty, which GitHub refuses as a matrix: test it before.
    Raises CiPlanError if it is more than GitHub takes as an output.
    """
    most = LIMITS[PlanFormat.GITHUB].minutes
    include = [
        {
            "name": _safe(job.name),
            "cells": " ".join(map(_safe, job.cells)),
            "platform": _safe(job.platform),
            "python": job.python,
            "minutes": job.minutes(most),
        }
        for job in jobs
    ]
    text = json.dumps({"include": include}, separators=(",", ":"))
    if len(text) > _OUTPUT_LIMIT:
        raise CiPlanError(
            f"the job matrix has {len(text)} characters, and GitHub takes {_OUTPUT_LIMIT}; choose"
            " fewer cells by --torch, --vllm, --python or --platform"
        )
    return text


def github_outputs(jobs: Sequence[CiJob]) -> str:
    """Return the lines that a step appends to `GITHUB_OUTPUT`: `any`, `jobs` and `matrix`."""
    some = "true" if jobs else "false"
    return f"any={some}\njobs={len(jobs)}\nmatrix={github(jobs)}\n"


def buildkite(jobs: Sequence[CiJob], queue: str = QUEUE) -> str:
    """Return the steps as JSON, as `buildkite-agent pipeline upload` takes them.

    A verdict that is not `compatible` is soft: the step shows it, and the build continues to join
    the records. `queue` is that of the agents for cuda. Raises CiPlanError for what cannot be its
    name.
    """
    if not _QUEUE.fullmatch(queue):
        raise CiPlanError(
            f"--queue {queue!r}: is not the name of a queue; write letters, digits and -_.:/"
        )
    most = LIMITS[PlanFormat.BUILDKITE].minutes
    steps = [
        {
            "key": _safe(job.name),
            "label": _label(job),
            "command": command(job),
            **({"agents": {"queue": queue}} if job.platform == Platform.CUDA else {}),
            "artifact_paths": ["records/**/*"],
            "timeout_in_minutes": job.minutes(most),
            "soft_fail": [{"exit_status": status} for status in _ANSWERS],
        }
        for job in jobs
    ]
    return json.dumps({"steps": steps}, indent=1) + "\n"


def command(job: CiJob) -> str:
    """Return the command that runs the cells of a job; the plan has chosen them, whatever ran.

    >>> job = CiJob(cells=("py312-torch214-vllm033",), platform="cpu", python="3.12", seconds=1)
    >>> command(job)
    'matrix run py312-torch214-vllm033 --platform cpu --force'
    """
    return f"matrix run {' '.join(map(_safe, job.cells))} --platform {_safe(job.platform)} --force"


def summary(jobs: Sequence[CiJob], form: PlanFormat, most: int) -> str:
    """Return in one line how many jobs run how many cells, and why cells share a job."""
    cells = sum(len(job.cells) for job in jobs)
    if not jobs:
        return "nothing to run"
    line = f"{plural(cells, 'cell')} in {plural(len(jobs), 'job')}"
    if cells > len(jobs):
        largest = max(len(job.cells) for job in jobs)
        line += (
            f": at most {plural(most, 'job')}, so cells share jobs, up to {largest} in one,"
            " the longest first, balanced by recorded minutes"
        )
    unknown = sum(job.unknown for job in jobs)
    if unknown:
        line += f"; no record shows how long {plural(unknown, 'cell')} will take"
    limit = LIMITS[form].minutes
    long = [job.name for job in jobs if job.seconds > limit * 60]
    if long:
        more = f", and {len(long) - 1} more," if len(long) > 1 else ""
        line += f"; {long[0]}{more} should take longer than the limit of {limit} minutes"
    return line


def _label(job: CiJob) -> str:
    more = len(job.cells) - 1
    return f"{_safe(job.cells[0])}{f' and {more} more' if more else ''} on {_safe(job.platform)}"


def _safe(name: str) -> str:
    """Return a name that no service or shell acts on. Raises CiPlanError for any other."""
    if not _SAFE.fullmatch(name):
        raise CiPlanError(f"{name[:60]!r}: is not the name of a cell; nothing was planned")
    return name
