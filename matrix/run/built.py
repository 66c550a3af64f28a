"""The installation of a vLLM from sources in a cell, and the reason if its build failed.

It runs where tox runs, before the environment of the cell has any package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from matrix._util.reported import Say
from matrix._util.text import listed
from matrix._util.versions import parse_version
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.model import Candidate, File, OnCuda, Tree
from matrix.catalog.cells import Cell, Made
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.catalog.vllm_sources.sources import tree_state
from matrix.checks.linkage.candidate import read_candidate
from matrix.checks.linkage.link import link, load_tables
from matrix.checks.linkage.tables import TorchSymbols
from matrix.checks.linkage.why import link_fact
from matrix.checks.vllm_build.build import BuildFailedError
from matrix.checks.vllm_build.compiler import compiled
from matrix.checks.vllm_build.recipe import EMPTY, Recipe, with_extensions
from matrix.checks.vllm_build.wheels import Built
from matrix.errors import MatrixError
from matrix.record.model import ErrorKind, Platform, RunError
from matrix.run.preflight import choose_platform

# A build that ended so shows nothing of its sources.
_OF_THE_MACHINE = (
    (ErrorKind.NO_SPACE, re.compile(r"No space left on device|Disk quota exceeded")),
    (
        ErrorKind.NO_MEMORY,
        re.compile(
            r"MemoryError|Cannot allocate memory|virtual memory exhausted"
            r"|Killed signal terminated program|died due to signal 9|signal: 9 \(SIGKILL\)"
        ),
    ),
    (
        ErrorKind.NOT_BUILT,
        re.compile(
            r"signal: (?:1|2|3|15) \(SIG"
            r"|PermissionError|Permission denied|Too many open files|Name or service not known"
            r"|Temporary failure in name resolution|URLError|ConnectionError|Connection refused"
            r"|unable to access|Could not resolve host|Failed to clone"
            r"|Unsupported gpu architecture|cannot find -l|fatal error: Python\.h"
            # A toolkit that is not whole, or not that of the torch.
            r"|CMake Error.*(?:simple test program|[Cc]annot find|Can't find|Could (?:NOT|not) find"
            r"|No CMAKE_\w+_COMPILER)"
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
        self,
        candidate: Candidate,
        python: str,
        say: Say,
        *,
        torch: str | None = None,
        recipe: Recipe = EMPTY,
    ) -> Built:
        """Return its wheel. Raises BuildFailedError, or another MatrixError."""


def check_sources(candidate: Candidate) -> None:
    """Raise CandidateError if the tree of a candidate is not what was added.

    SourcesError if that tree of vLLM does not exist.
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

    `python` is the cell's interpreter, `platform` is auto, cuda or cpu. On cuda the candidate says
    the way, and a published wheel of its commit is not built. Raises NotBuiltError: its error
    blames the sources only where the build itself failed. CellError as `Releases.installs`.
    """
    candidate = releases.candidate_of(cell, Project.VLLM)
    if candidate is None or not candidate.is_built:
        return releases.installs(cell)
    recipe, torch = EMPTY, f"torch=={_torch_of_the_build(candidate, releases)}"
    try:
        if choose_platform(platform) is Platform.CUDA:
            way = _way(candidate)
            if way.way is Made.PUBLISHED:
                file = _file(candidate, way, cell.python)
                say(f"{candidate.name}: {file.name} of {way.index} is the wheel of its commit")
                return releases.installs(cell, file.requirement)
            recipe = _recipe(candidate, way, cell, releases, say)
        say(f"{candidate.name} (vllm {candidate.version}) is built {recipe.words}, or was before")
        built = build(candidate, str(python), say, torch=torch, recipe=recipe)
    except BuildFailedError as error:
        raise _failed(error) from error
    except MatrixError as error:
        raise _not_built(str(error)) from error
    how = "was built before" if built.from_cache else f"was built in {built.seconds:.0f} s"
    say(f"vllm {built.version} {how}, {recipe.words}")
    return releases.installs(cell, built.requirement)


def _way(candidate: Candidate) -> OnCuda:
    """Return how a candidate is had on cuda. Raises CandidateError if nobody asked for it."""
    if candidate.on_cuda is None:
        raise CandidateError(
            f"candidate {candidate.name!r}: was added for the platform cpu; run it with --platform"
            " cpu, or add it again with --platform cuda: matrix candidate add"
        )
    return candidate.on_cuda


def _recipe(candidate: Candidate, way: OnCuda, cell: Cell, releases: Releases, say: Say) -> Recipe:
    """Return how the wheel of a candidate is built for the torch of a cell.

    Raises MatrixError: no compiler here, or linkage does not say that the extensions link.
    """
    torch = _torch_requirements(cell, releases)
    if way.way is Made.COMPILED:
        return compiled(torch)
    wheel = _file(candidate, way, cell.python)
    _check_links(candidate, wheel, cell, releases, say)
    return with_extensions(wheel, torch)


def _file(candidate: Candidate, way: OnCuda, python: str) -> File:
    found = way.file(python)
    if found is None:
        names = listed([file.name for file in way.files])
        raise CandidateError(
            f"candidate {candidate.name!r}: {names} has no wheel for Python {python}; use another"
            " Python, or add it again with --build"
        )
    return found


def _check_links(
    candidate: Candidate, wheel: File, cell: Cell, releases: Releases, say: Say
) -> None:
    """Raise MatrixError unless linkage says that the extensions of a release link.

    Where nobody knows it, they are not taken either.
    """
    release, torch = parse_version(wheel.version).public, releases.candidate_of(cell, Project.TORCH)
    tables = load_tables()
    if torch is None:
        linkage = tables.link(release, cell.torch, cell.python)
    else:
        symbols = read_candidate(torch, cell.python, say)
        assert isinstance(symbols, TorchSymbols)  # it is a candidate of torch
        linkage = link(tables.vllm(release), symbols, cell.python)
    if not linkage.ok:
        broken = next(linked for linked in linkage.extensions if not linked.ok)
        raise CandidateError(
            f"candidate {candidate.name!r}: the extensions of {wheel.name} do not link with torch"
            f" {linkage.torch}: {link_fact(linkage, broken).key}; compile it: add it again with"
            " --build"
        )
    if linkage.without:
        without = listed(list(linkage.without))
        say(f"{wheel.name}: its extensions link, but those of {without} do not")


def _torch_requirements(cell: Cell, releases: Releases) -> tuple[str, ...]:
    """Return what installs the cell's torch alone, for a build of vLLM."""
    candidate = releases.candidate_of(cell, Project.TORCH)
    if candidate is None:
        return (f"torch=={cell.torch}",)
    own = candidate.file(cell.python)
    files = (own, *candidate.companions_on(cell.python)) if own is not None else ()
    return tuple(file.requirement for file in files if file.project in ("torch", "triton"))


def _failed(error: BuildFailedError) -> NotBuiltError:
    kinds = (kind for kind, pattern in _OF_THE_MACHINE if pattern.search(error.reason))
    kind = next(kinds, ErrorKind.BUILDS)
    at_fault = kind is ErrorKind.BUILDS
    why = "its sources do not build" if at_fault else "this machine could not build it"
    return NotBuiltError(str(error), RunError(kind=kind, reason=f"{why}: {error.reason}"))


def _not_built(reason: str) -> NotBuiltError:
    return NotBuiltError(reason, RunError(kind=ErrorKind.NOT_BUILT, reason=reason))


def _torch_of_the_build(candidate: Candidate, releases: Releases) -> str:
    """Return a torch for a build that serves every torch: the vLLM's pin, else the newest one.

    So each candidate needs one environment of builds without compiling.
    """
    known = [row.version for row in releases.torch]
    pin = parse_version(candidate.pins["torch"]).public
    return pin if pin in known else known[-1]
