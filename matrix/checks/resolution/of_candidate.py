"""The question for the resolver about a cell of candidates.

The resolver gets what tox installs: each file of a candidate by its address and hash.
"""

from __future__ import annotations

from pathlib import Path

from matrix.catalog.cells import Cell
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.checks.resolution.cache import Installs, ResolverQuestion
from matrix.checks.vllm_build.wheels import built_before
from matrix.errors import MatrixError


def question_of(cell: Cell, releases: Releases, *, cache: Path | None = None) -> ResolverQuestion:
    """Return the question about a cell of candidates, as tox installs it: off the pin, forced.

    `cache` is that of built wheels. Raises CellError if a candidate was removed or replaced, or
    companions are not known; MatrixError if its vLLM was not built yet.
    """
    companions, built = releases.companions(cell), None
    found = (releases.candidate_of(cell, project) for project in Project)
    candidates = tuple(candidate for candidate in found if candidate is not None)
    versions = {**companions, "torch": cell.torch, "vllm": cell.vllm}
    for candidate in candidates:
        versions[str(candidate.project)] = candidate.version
        if candidate.is_built:
            built = built_before(candidate, cell.python, cache=cache)
            if built is None:
                raise MatrixError(
                    f"{cell.name}: {candidate.name} is built from its sources, and was not yet for"
                    f" Python {cell.python}: tox -e {cell.name} --notest builds it"
                )
    installs = Installs(
        requirements=releases.installs(cell, built.requirement if built else None),
        overrides=releases.overrides(cell),
        versions=versions,
        candidates=candidates,
    )
    override = companions if releases.is_off_pin(cell) else None
    return ResolverQuestion(cell=cell, override=override, installs=installs)
