"""Open a line of candidates: the builds of a channel by day, the commits of a repository of vLLM.

These functions ask an index and git.
"""

from __future__ import annotations

from datetime import date

from matrix._util.reported import Say
from matrix.catalog.candidates.channels import Place, place_of
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.on_cuda import CudaWays
from matrix.catalog.candidates.series import Commits, CommitWheels, Nightlies
from matrix.catalog.candidates.steps import commit_steps, ends_of, nightly_steps
from matrix.catalog.index import Index
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.catalog.vllm_sources.git import Repository


def open_nightlies(
    channel: str, project: Project, days: tuple[date, date], *, python: str, releases: Releases
) -> Nightlies:
    """Return the builds of a channel, or of an index by its address, from one day to another.

    Raises CandidateError for a channel that is not known or has fewer than two builds in these
    days, FetchError where the index does not answer.
    """
    place = place_of(
        channel,
        project,
        releases.candidates.channels,
        flavour=releases.cuda_flavour,
        option="--channel",
    )
    index = Index(place.address)
    try:
        files = index.files(project)
    finally:
        index.close()
    return Nightlies(
        project=project,
        place=place,
        steps=nightly_steps(project, place, files, *days),
        python=python,
        releases=releases,
    )


def open_commits(
    address: str,
    ends: str,
    channel: str | None,
    *,
    python: str,
    releases: Releases,
    say: Say,
    ways: CudaWays | None = None,
) -> Commits | CommitWheels:
    """Return the commits of a repository of vLLM between the two of `GOOD..BAD`.

    Each is built from its sources, on cuda had by one of the `ways`, or, with a channel, the wheel
    that it has there. Raises
    MatrixError where git cannot read them, or where the channel has no index for each commit.
    """
    old, new = ends_of(ends)
    repository = Repository(address=address, say=say)
    steps = commit_steps(repository.line(repository.resolve(old), repository.resolve(new)))
    where = repository.shown
    if channel is None:
        return Commits(
            address=address,
            where=where,
            repository=repository.place,
            steps=steps,
            say=say,
            ways=ways,
        )
    name, _, build = channel.partition("/")

    def place(commit: str) -> Place:
        asked = "/".join(filter(None, (name, commit, build)))
        return place_of(asked, Project.VLLM, releases.candidates.channels)

    try:
        has_commits = steps[0].point in place(steps[0].point).index
    except CandidateError:
        has_commits = False
    if not has_commits:
        raise CandidateError(
            f"--channel {channel}: has no index for each commit, so it does not go with"
            " --commits; write --channel commit, or commit/cu129"
        )
    return CommitWheels(
        where=f"{where}, wheels of {channel}",
        repository=repository.place,
        steps=steps,
        python=python,
        releases=releases,
        place_of=place,
    )
