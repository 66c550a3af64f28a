"""Make a candidate of vLLM from a git commit or a folder of sources. It runs git alone."""

from __future__ import annotations

from pathlib import Path

from matrix._util.reported import Say
from matrix._util.scratch import Scratch
from matrix.catalog.candidates.addresses import without_secrets
from matrix.catalog.candidates.gathered import Gathered, Wanted, built
from matrix.catalog.candidates.model import CandidateError, Commit, Tree
from matrix.catalog.package_metadata import read_vllm
from matrix.catalog.vllm_sources.git import Repository
from matrix.catalog.vllm_sources.sources import Sources, open_commit, open_tree


def from_commit(wanted: Wanted, text: str, version: str | None, say: Say) -> Gathered:
    """Return the candidate of `REPOSITORY@REVISION`; a path of this machine may be a repository.

    `version` is what it counts as (None: `matrix.catalog.vllm_sources.version` chooses). `say` gets
    the progress. Raises MatrixError where git cannot read it, or it is not vLLM.
    """
    repository, _, revision = text.rpartition("@")
    if not repository or not revision:
        raise CandidateError(
            f"--commit {without_secrets(text)}: write REPOSITORY@REVISION, with a commit or a tag"
        )
    there = Repository(address=repository, say=say)
    commit = there.resolve(revision)
    with Scratch("candidate") as folder:
        found = open_commit(there, commit, folder / "sources", version=version)
        return _gathered(wanted, Commit(repository=there.place, revision=commit), found, version)


def from_tree(wanted: Wanted, folder: str, version: str | None) -> Gathered:
    """Return the candidate of a folder of vLLM's sources, as they are now.

    Raises MatrixError where the folder does not exist, or is not vLLM's.
    """
    with Scratch("candidate") as copy:
        found = open_tree(folder, copy / "sources", version=version)
        source = Tree(path=str(Path(folder).resolve()), state=found.identity)
        return _gathered(wanted, source, found, version)


def _gathered(
    wanted: Wanted, source: Commit | Tree, found: Sources, version: str | None
) -> Gathered:
    read = read_vllm(found.version, found.members(), "sdist")
    candidate = built(wanted, source, found.version, read)
    notes = () if version else (f"its version is {found.version}; another: --version",)
    return Gathered(candidate=candidate, notes=notes)
