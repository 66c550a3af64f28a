"""Make a candidate of vLLM from a git commit, a folder of sources or a source distribution.

Of other programs it runs git alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from packaging.utils import parse_sdist_filename

from matrix._util.addresses import without_secrets
from matrix._util.reported import Say
from matrix._util.scratch import Scratch
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.gathered import CandidateRequest, Gathered, built
from matrix.catalog.candidates.model import Candidate, Commit, Sdist, Tree
from matrix.catalog.candidates.on_cuda import CudaWays
from matrix.catalog.index import read_members
from matrix.catalog.located import find_file, name_of, place_of
from matrix.catalog.package_metadata import read_vllm, wanted_member
from matrix.catalog.projects import Project
from matrix.catalog.vllm_sources.git import Repository
from matrix.catalog.vllm_sources.sources import Sources, open_commit, open_sdist, open_tree


def from_commit(
    wanted: CandidateRequest, text: str, version: str | None, say: Say, ways: CudaWays | None = None
) -> Gathered:
    """Return the candidate of `REPOSITORY@REVISION`; a path of this machine may be a repository.

    `version` is what it counts as (None: `matrix.catalog.vllm_sources.version` chooses). `say` gets
    the progress; `ways` finds how it is had on cuda (None: it is for the CPU alone). Raises
    MatrixError if git cannot read it, or it is not vLLM.
    """
    repository, _, revision = text.rpartition("@")
    # Where the one @ of an address ends its login, git would take the login for a host.
    whole = "/" in repository.partition("://")[2] or "://" not in repository
    if not repository or not revision or not whole:
        raise CandidateError(
            f"--commit {without_secrets(text)}: write REPOSITORY@REVISION, with a commit or a tag"
        )
    there = Repository(address=repository, say=say)
    commit = there.resolve(revision)
    with Scratch("candidate") as folder:
        found = open_commit(there, commit, folder / "sources", version=version)
        source = Commit(repository=there.place, revision=commit)
        return _gathered(wanted, source, found, version, ways)


def from_tree(
    wanted: CandidateRequest, folder: str, version: str | None, ways: CudaWays | None = None
) -> Gathered:
    """Return the candidate of a folder of vLLM's sources, as they are now; `ways` as `from_commit`.

    Raises MatrixError if the folder does not exist, or is not vLLM's.
    """
    with Scratch("candidate") as copy:
        found = open_tree(folder, copy / "sources", version=version)
        source = Tree(path=str(Path(folder).resolve()), state=found.identity)
        return _gathered(wanted, source, found, version, ways)


def from_sdist(
    wanted: CandidateRequest, location: str, sha256: str | None, ways: CudaWays | None = None
) -> Gathered:
    """Read a source distribution of vLLM, by its path or address, and return it as a candidate.

    It is unpacked, so that what is not vLLM's is refused here and not at its build. `ways` as
    `from_commit`. Raises MatrixError if it cannot be had, or is not vLLM's.
    """
    name = name_of(location)
    try:
        project, version = parse_sdist_filename(name)
    except ValueError:  # also for a number of more digits than Python reads
        raise CandidateError(
            f"--sdist {without_secrets(location)}: is not the name of a source distribution, such"
            " as vllm-0.33.0.tar.gz"
        ) from None
    if str(project) != str(Project.VLLM):
        raise CandidateError(f"{name}: is a source distribution of {project}, not of vllm")
    with Scratch("candidate") as folder:
        path, digest = find_file(location, folder, sha256=sha256)
        members = read_members(path, wanted_member)
        read = read_vllm(str(version), members, "sdist")
        source = Sdist(location=place_of(location), sha256=digest)
        candidate = _checked(wanted, built(wanted, source, str(version), read), name)
        found = open_sdist(str(path), folder / "sources", sha256=digest)
        return Gathered(candidate=candidate) if ways is None else ways.find(candidate, found, None)


def _checked(wanted: CandidateRequest, candidate: Candidate, where: str) -> Candidate:
    """Return a candidate. Raises CandidateError if it is not for a Python that is asked for."""
    for python in wanted.pythons:
        if not candidate.accepts(python):
            raise CandidateError(
                f"{where}: is for Python {candidate.python}, not for {python}; name another"
            )
    return candidate


def _gathered(
    wanted: CandidateRequest,
    source: Commit | Tree,
    found: Sources,
    version: str | None,
    ways: CudaWays | None,
) -> Gathered:
    read = read_vllm(found.version, found.members(), "sdist")
    candidate = built(wanted, source, found.version, read)
    made = Gathered(candidate=_checked(wanted, candidate, found.shown))
    if ways is not None:
        made = ways.find(made.candidate, found, version)
    counts_as = made.candidate.version
    notes = () if version else (f"its version is {counts_as}; another: --version",)
    return replace(made, notes=(*notes, *made.notes))
