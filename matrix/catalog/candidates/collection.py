"""The candidates that there are, by name.

Most checkouts have none, so this module imports no model of one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from matrix._util.nearest import suggested
from matrix.catalog.projects import Project
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matrix.catalog.candidates.model import Candidate
    from matrix.catalog.cells import Build


class CandidateError(MatrixError):
    """A candidate that contradicts itself, is not known, or cannot be had."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """All candidates, by name; `channels` are the addresses that a person set, by project."""

    every: tuple[Candidate, ...] = ()
    channels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse two candidates of one name."""
        names = [candidate.name for candidate in self.every]
        for name in names:
            if names.count(name) > 1:
                raise CandidateError(f"candidate {name!r}: appears twice; keep one")

    def get(self, name: str) -> Candidate | None:
        """Return the candidate of a name; None without one."""
        return next((candidate for candidate in self.every if candidate.name == name), None)

    def named(self, name: str) -> Candidate:
        """Return the candidate of a name. Raises CandidateError, which names those there are."""
        found = self.get(name)
        if found is None:
            unknown = f"candidate {name!r}: is not known; {self.known()}"
            raise CandidateError(suggested(unknown, name, (row.name for row in self.every)))
        return found

    def of_build(self, build: Build | None) -> Candidate | None:
        """Return the candidate of a build; None for a release, and for a build that it was once."""
        found = self.get(build.name) if build is not None else None
        return found if found is not None and found.build == build else None

    def of(self, project: Project) -> tuple[Candidate, ...]:
        """Return the candidates of torch or of vLLM, by name."""
        return tuple(candidate for candidate in self.every if candidate.project == project)

    def known(self) -> str:
        """Return the end of a sentence: which candidates there are, or how to add one."""
        if not self.every:
            return "nobody added one yet: matrix candidate add NAME"
        return f"the known ones are {', '.join(candidate.name for candidate in self.every)}"

    def including(self, candidate: Candidate) -> Candidates:
        """Return these with one more, which replaces the one of its name."""
        others = (entry for entry in self.every if entry.name != candidate.name)
        return self._with((*others, candidate))

    def excluding(self, name: str) -> Candidates:
        """Return these without one. Raises CandidateError if there is none of the name."""
        self.named(name)
        return self._with(candidate for candidate in self.every if candidate.name != name)

    def _with(self, every: Iterable[Candidate]) -> Candidates:
        return Candidates(
            every=tuple(sorted(every, key=lambda one: (one.project, one.name))),
            channels=self.channels,
        )
