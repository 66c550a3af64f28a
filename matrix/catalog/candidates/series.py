"""Lines of candidates to search: the nightlies of an index, the commits of a repository.

A line is a sequence of steps from old to new. A step becomes a candidate only when it is asked
for: a line may have hundreds. These functions ask an index and git.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from matrix._util.reported import Say
from matrix.catalog.candidates.channels import ChosenIndex
from matrix.catalog.candidates.choose import Tags, machine_tags
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.gathered import CandidateRequest
from matrix.catalog.candidates.model import Candidate, Commit, OnIndex
from matrix.catalog.candidates.on_cuda import CudaWays
from matrix.catalog.candidates.published import from_index
from matrix.catalog.candidates.sources import from_commit
from matrix.catalog.candidates.steps import LineStep
from matrix.catalog.index import FetchError, Index, NoProjectError
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.catalog.revision import commit_in
from matrix.catalog.vllm_sources.folder import SourcesError
from matrix.catalog.vllm_sources.version import VersionError
from matrix.errors import MatrixError

_REPOSITORIES = {
    Project.TORCH: "https://github.com/pytorch/pytorch",
    Project.VLLM: "https://github.com/vllm-project/vllm",
}


class StepError(MatrixError):
    """A step that cannot become a candidate; the other steps may."""


class Series(Protocol):
    """A line of builds of one project; `where` is the index or repository, without credentials."""

    @property
    def project(self) -> Project:
        """The project whose builds these are."""

    @property
    def where(self) -> str:
        """The index or repository, without credentials."""

    @property
    def steps(self) -> Sequence[LineStep]:
        """The builds, oldest first, each with a name of its own."""

    @property
    def repository(self) -> str | None:
        """The repository of the commits that the builds are of, without credentials, if known."""

    def revision(self, step: LineStep, candidate: Candidate | None) -> str | None:
        """Return the commit that a step is of, as far as its candidate or itself says so."""

    def make(self, step: LineStep) -> Candidate:
        """Return the candidate of a step. Raises StepError if the step cannot be one."""

    def is_of(self, step: LineStep, candidate: Candidate) -> bool:
        """Tell whether a candidate, maybe of an older search, is of this step."""


@dataclass(frozen=True, kw_only=True)
class Nightlies:
    """The builds of an index, one a day."""

    project: Project
    place: ChosenIndex
    steps: tuple[LineStep, ...]
    python: str
    releases: Releases
    tags: Tags = machine_tags

    @property
    def where(self) -> str:
        """The index, by the name of its channel where it has one."""
        return self.place.channel or self.place.index

    @property
    def repository(self) -> str | None:
        """The project's own repository, of an index that is a channel."""
        return _REPOSITORIES[self.project] if self.place.channel is not None else None

    def revision(self, step: LineStep, candidate: Candidate | None) -> str | None:  # noqa: ARG002
        """Return the commit that a candidate's files name."""
        return None if candidate is None else _commit_of(candidate)

    def make(self, step: LineStep) -> Candidate:
        """Read the index, and return the candidate of a day."""
        wanted = CandidateRequest(name=step.name, project=self.project, pythons=(self.python,))
        index = Index(self.place.address)
        try:
            found = from_index(
                wanted, self.place, step.version, self.releases, index=index, tags=self.tags
            )
        except (CandidateError, FetchError) as error:
            raise StepError(str(error)) from None
        finally:
            index.close()
        return found.candidate

    def is_of(self, step: LineStep, candidate: Candidate) -> bool:
        """Tell whether a candidate is the version of this step, of this index."""
        return candidate.index == self.place.index and candidate.version == step.version


@dataclass(frozen=True, kw_only=True)
class Commits:
    """The commits of a repository of vLLM, each from its sources; `ways` as `from_commit`."""

    address: str
    where: str
    repository: str
    steps: tuple[LineStep, ...]
    say: Say
    ways: CudaWays | None = None
    project: Project = Project.VLLM

    def revision(self, step: LineStep, candidate: Candidate | None) -> str | None:  # noqa: ARG002
        """Return the commit."""
        return step.point

    def make(self, step: LineStep) -> Candidate:
        """Fetch the commit, and return its candidate."""
        wanted = CandidateRequest(name=step.name, project=self.project)
        text = f"{self.address}@{step.point}"
        try:
            return from_commit(wanted, text, None, self.say, self.ways).candidate
        except (CandidateError, SourcesError, VersionError) as error:
            raise StepError(str(error)) from None

    def is_of(self, step: LineStep, candidate: Candidate) -> bool:
        """Tell whether a candidate is this commit of this repository, for the same platform."""
        same = candidate.source == Commit(repository=self.repository, revision=step.point)
        return same and (self.ways is None or candidate.on_cuda is not None)


@dataclass(frozen=True, kw_only=True)
class CommitWheels:
    """The commits of a repository of vLLM, as wheels of a channel that has an index for each."""

    where: str
    repository: str
    steps: tuple[LineStep, ...]
    python: str
    releases: Releases
    place_of: Callable[[str], ChosenIndex]
    tags: Tags = machine_tags
    project: Project = Project.VLLM

    def revision(self, step: LineStep, candidate: Candidate | None) -> str | None:  # noqa: ARG002
        """Return the commit."""
        return step.point

    def make(self, step: LineStep) -> Candidate:
        """Read the index of a commit, and return the candidate of its wheel."""
        place = self.place_of(step.point)
        wanted = CandidateRequest(name=step.name, project=self.project, pythons=(self.python,))
        index = Index(place.address)
        try:
            found = from_index(wanted, place, None, self.releases, index=index, tags=self.tags)
        except (CandidateError, NoProjectError) as error:
            raise StepError(str(error)) from None
        finally:
            index.close()
        built_from = _commit_of(found.candidate)
        if built_from is not None and not step.point.startswith(built_from):
            raise StepError(
                f"{place.index}: its vllm {found.candidate.version} is of commit {built_from}, not"
                f" of {step.label}"
            )
        return found.candidate

    def is_of(self, step: LineStep, candidate: Candidate) -> bool:
        """Tell whether a candidate is a wheel of the index of this commit."""
        place = self.place_of(step.point)
        return isinstance(candidate.source, OnIndex) and candidate.source.index == place.index


def _commit_of(candidate: Candidate) -> str | None:
    """Return the commit that a wheel names, maybe its beginning alone; None if it names none."""
    return candidate.revision or commit_in(candidate.version)
