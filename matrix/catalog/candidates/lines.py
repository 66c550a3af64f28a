"""Open a line of candidates: the builds of a channel by day, the commits of a repository of vLLM.

These functions ask an index and git.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from matrix._util.reported import Say
from matrix.catalog.candidates.channels import ChosenIndex, place_of
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.on_cuda import CudaWays
from matrix.catalog.candidates.series import Commits, CommitWheels, Nightlies, Series
from matrix.catalog.candidates.steps import commit_steps, ends_of, nightly_steps
from matrix.catalog.index import Index
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.catalog.vllm_sources.git import Repository

_OPTIONS = {"first_day": "--from", "last_day": "--to"}


@dataclass(frozen=True, kw_only=True)
class LineRequest:
    """A line of candidates as a person asks for it, by the options of `matrix bisect`.

    `commits` are the address of a repository and `GOOD..BAD`; without them the builds of `channel`
    from the first day to the last. `torch` or `vllm` is the half of the pair that stays. `build`:
    compile commits on cuda of which no wheel is published. `fixed`: the older commit is bad.
    """

    python: str
    platform: str
    torch: str | None = None
    vllm: str | None = None
    channel: str | None = None
    commits: Sequence[str] | None = None
    first_day: date | None = None
    last_day: date | None = None
    build: bool = False
    fixed: bool = False


def option_of(field: str) -> str:
    """Return the option of `matrix bisect` that a field stands for."""
    return _OPTIONS.get(field, f"--{field}")


def open_line(asked: LineRequest, releases: Releases, say: Say) -> Series:
    """Return the line that is asked for.

    Raises MatrixError for options that do not go together, and as `_open_nightlies` and
    `_open_commits` do.
    """
    if asked.commits is not None:
        return _asked_commits(asked, asked.commits, releases, say)
    _refuse(asked, ("fixed",), "a line of days, where either end may be the bad one")
    _refuse(asked, ("build",), "a line of days, whose builds are wheels")
    if (asked.torch is None) == (asked.vllm is None):
        raise CandidateError(
            "--channel: name the half of the pair that stays, --vllm 0.33.0 for a line of torch or"
            " --torch 2.14.0 for one of vLLM, and not both"
        )
    first, last = asked.first_day, asked.last_day
    if first is None or last is None:
        raise CandidateError("--channel: name the first day and the last: --from DATE --to DATE")
    if first == last:
        raise CandidateError(f"--from and --to: both are {first}; name two days")
    if first > last:
        raise CandidateError(
            f"--from {first}: is later than --to {last}; the older day is the first"
        )
    assert asked.channel is not None  # else it is a line of commits, or of releases
    project = Project.TORCH if asked.torch is None else Project.VLLM
    return _open_nightlies(
        asked.channel, project, (first, last), python=asked.python, releases=releases
    )


def _asked_commits(
    asked: LineRequest, commits: Sequence[str], releases: Releases, say: Say
) -> Commits | CommitWheels:
    names = ("vllm", "first_day", "last_day")
    _refuse(asked, names, "--commits, which is a line of vLLM")
    on_cuda = asked.platform == "cuda"
    if asked.torch is None:
        raise CandidateError("--commits: names a line of vLLM; name its torch: --torch 2.14.0")
    if asked.build and (not on_cuda or asked.channel is not None):
        raise CandidateError("--build: goes with --commits on --platform cuda, without --channel")
    ways = CudaWays(releases=releases, pythons=(asked.python,), say=say, build=asked.build)
    address, ends = commits
    return _open_commits(
        address,
        ends,
        asked.channel,
        python=asked.python,
        releases=releases,
        say=say,
        ways=ways if on_cuda else None,
    )


def _refuse(asked: LineRequest, names: Sequence[str], what: str) -> None:
    """Raise CandidateError for the first of these options that is given."""
    for name in names:
        if getattr(asked, name):
            raise CandidateError(f"{option_of(name)}: does not go with {what}; leave it out")


def _open_nightlies(
    channel: str, project: Project, days: tuple[date, date], *, python: str, releases: Releases
) -> Nightlies:
    """Return the builds of a channel, or of an index by its address, from one day to another.

    Raises CandidateError for a channel that is not known or has fewer than two builds in these
    days, FetchError if the index does not answer.
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


def _open_commits(
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
    MatrixError if git cannot read them, or where the channel has no index for each commit.
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

    def place(commit: str) -> ChosenIndex:
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
