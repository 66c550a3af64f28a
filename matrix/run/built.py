"""What a cell installs whose vLLM is built from its sources, and why that could not be built.

It runs where tox runs, before the environment of the cell has any package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from matrix._util.reported import Say
from matrix._util.versions import parse_version
from matrix.catalog.candidates.model import Candidate, CandidateError, Project, Tree
from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.catalog.vllm_sources.sources import tree_state
from matrix.checks.vllm_build.build import BuildFailedError, Built
from matrix.errors import MatrixError
from matrix.record.model import ErrorKind, Platform, RunError
from matrix.run.preflight import choose_platform

# A build that ended so shows nothing of its sources.
_OF_THE_MACHINE = (
    (ErrorKind.NO_SPACE, re.compile(r"No space left on device|Disk quota exceeded")),
    (ErrorKind.NO_MEMORY, re.compile(r"MemoryError|Cannot allocate memory")),
    (
        ErrorKind.NOT_BUILT,
        re.compile(
            r"PermissionError|Permission denied|Too many open files|Name or service not known"
            r"|Temporary failure in name resolution|URLError|ConnectionError|Connection refused"
        ),
    ),
)


class NotBuiltError(MatrixError):
    """A vLLM that was not built; `error` is for the record of its cell."""

    def __init__(self, message: str, error: RunError) -> None:
        super().__init__(message)
        self.error = error


class BuildCandidate(Protocol):
    """What builds a candidate; `matrix.checks.vllm_build.candidate.build_candidate` in earnest."""

    def __call__(
        self, candidate: Candidate, python: str, say: Say, *, torch: str | None = None
    ) -> Built:
        """Return its wheel. Raises BuildFailedError, or another MatrixError."""


def check_sources(candidate: Candidate) -> None:
    """Raise CandidateError where the tree of a candidate is not what was added.

    SourcesError where that tree of vLLM does not exist.
    """
    if not isinstance(candidate.source, Tree):
        return
    path = candidate.source.path
    if tree_state(path) != candidate.source.state:
        raise CandidateError(
            f"candidate {candidate.name!r}: {path} changed since it was added; add it again:"
            f" matrix candidate add {candidate.name} --tree {path}"
        )


def built_requirements(
    cell: Cell,
    releases: Releases,
    *,
    python: Path,
    platform: str,
    say: Say,
    build: BuildCandidate,
) -> tuple[str, ...]:
    """Build the cell's vLLM, and return the requirements that install it with torch.

    `python` is the cell's interpreter, `platform` is auto, cuda or cpu. Raises NotBuiltError: its
    error blames the sources only where the build itself failed. CellError as `Releases.installs`.
    """
    candidate = releases.candidate_of(cell, Project.VLLM)
    if candidate is None or not candidate.is_built:
        return releases.installs(cell)
    if choose_platform(platform) is Platform.CUDA:
        raise _not_built(
            f"candidate {candidate.name!r}: is built without compiling, which is for the platform"
            " cpu alone; run it with --platform cpu, or add a wheel of it: matrix candidate add"
        )
    torch = _torch_of_the_build(candidate, releases)
    say(f"{candidate.name} (vllm {candidate.version}) is built without compiling, or was before")
    try:
        built = build(candidate, str(python), say, torch=f"torch=={torch}")
    except BuildFailedError as error:
        kinds = (kind for kind, pattern in _OF_THE_MACHINE if pattern.search(error.reason))
        kind = next(kinds, ErrorKind.BUILDS)
        at_fault = kind is ErrorKind.BUILDS
        why = "its sources do not build" if at_fault else "this machine could not build it"
        failed = RunError(kind=kind, reason=f"{why}: {error.reason}")
        raise NotBuiltError(str(error), failed) from error
    except MatrixError as error:
        raise _not_built(str(error)) from error
    how = "was built before" if built.from_cache else f"was built in {built.seconds:.0f} s"
    say(f"vllm {built.version} {how}, without compiling")
    return releases.installs(cell, built.requirement)


def _not_built(reason: str) -> NotBuiltError:
    return NotBuiltError(reason, RunError(kind=ErrorKind.NOT_BUILT, reason=reason))


def _torch_of_the_build(candidate: Candidate, releases: Releases) -> str:
    """Return a torch to build beside: the release that the vLLM pins, else the newest one.

    The wheel is the same under every torch, so that each candidate needs one environment of builds.
    """
    known = [row.version for row in releases.torch]
    pin = parse_version(candidate.pins["torch"]).public
    return pin if pin in known else known[-1]
