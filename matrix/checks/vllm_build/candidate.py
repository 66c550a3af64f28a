"""The wheel of a candidate of vLLM that nobody publishes: its sources are fetched and built."""

from __future__ import annotations

from pathlib import Path

from matrix._util.reported import Say
from matrix._util.scratch import Scratch
from matrix.catalog.candidates.model import Candidate, Commit, Sdist, Tree
from matrix.catalog.vllm_sources.sources import open_sources
from matrix.checks.vllm_build.build import build_wheel, find_wheel
from matrix.checks.vllm_build.recipe import EMPTY, Recipe
from matrix.checks.vllm_build.wheels import Built
from matrix.errors import MatrixError


def build_candidate(
    candidate: Candidate,
    python: str,
    say: Say,
    *,
    torch: str | None = None,
    cache: Path | None = None,
    recipe: Recipe = EMPTY,
) -> Built:
    """Return the wheel of a candidate that is built from its sources, by default without compiling.

    `python`, `torch`, `cache` and `recipe` are those of `build_wheel`. Raises
    BuildFailedError if the sources do not build, another MatrixError, one line, where they
    cannot be had, changed since the candidate was added, or this machine cannot build.
    """
    source = candidate.source
    if not isinstance(source, (Commit, Tree, Sdist)):
        raise MatrixError(f"candidate {candidate.name!r}: has wheels, and is not built")
    # Of a tree, what it holds now must be read.
    if candidate.sources is not None and not isinstance(source, Tree):
        named = (*candidate.sources, candidate.version)
        kept = find_wheel(named, python, torch=torch, cache=cache, recipe=recipe)
        if kept is not None:
            return kept
    with Scratch("vllm-sources") as folder:
        place = folder / "sources"
        found = open_sources(source, place, say, version=candidate.version, cache=cache)
        return build_wheel(found, python, say, torch=torch, cache=cache, recipe=recipe)
