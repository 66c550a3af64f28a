"""The steps of a line of candidates as cells: each gets a candidate when its turn comes.

The candidates are written into a file of candidates, one after another, so that tox finds them
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matrix._util.addresses import compare_address
from matrix._util.versions import minor_of, newest_patch
from matrix.attribution.bisect import BisectionError, Search
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.file import change_candidates, load_candidates
from matrix.catalog.candidates.model import Candidate
from matrix.catalog.candidates.place import CANDIDATES_VARIABLE
from matrix.catalog.candidates.series import Series, StepError
from matrix.catalog.candidates.steps import LineChange, LineStep
from matrix.catalog.candidates.update import Update, update
from matrix.catalog.cells import Cell, CellError, environment_name, factor_of
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.record.model import Platform
from matrix.run.rerun import Rerun


@dataclass(frozen=True, kw_only=True)
class Other:
    """The half of a pair that stays: a factor of tox, such as vllm033 or vllmmain.

    `version` is the release that it has to stand for; None for a candidate and for whatever patch.
    """

    factor: str
    version: str | None = None


class Line:
    """The steps of a series as cells with the other half of the pair; it writes their candidates.

    `other` is the half of the pair that stays. `file` gets the candidates; in the
    user's own (`shared`) no name is taken from another candidate.
    """

    def __init__(
        self,
        series: Series,
        *,
        other: Other,
        python: str,
        releases: Releases,
        file: Path,
        shared: bool,
    ) -> None:
        """Read what the file has of the steps already."""
        self.series = series
        self._releases = releases
        self._file = file
        self._shared = shared
        self._other = other
        self._steps = {
            environment_name(python, step.name, other.factor): step for step in series.steps
        }
        self._stored = self._load()
        self._made: dict[str, Candidate] = {}
        self.cells: dict[str, Cell] = {}
        """The cells of the steps whose candidates are known, by environment."""
        for name, step in self._steps.items():
            candidate = self._stored.get(step.name)
            if candidate is not None and series.is_of(step, candidate):
                self._made[name] = candidate
                try:
                    self.cells[name] = self._cell(name, candidate)
                except StepError:
                    continue

    @property
    def labels(self) -> dict[str, str]:
        """The label of each environment's step, oldest first."""
        return {name: step.label for name, step in self._steps.items()}

    def step(self, name: str) -> LineStep:
        """Return the step of an environment."""
        return self._steps[name]

    def candidate(self, name: str) -> Candidate | None:
        """Return the candidate of an environment; None if it was never made."""
        return self._made.get(name)

    def make(self, name: str) -> None:
        """Make the candidate of a step and write it down, so that its environment has a cell.

        Raises StepError if this step cannot be had, MatrixError if no step can be.
        """
        step = self._steps[name]
        candidate = self.series.make(step)
        cell = self._cell(name, candidate)
        done = update(self._stored.get(step.name), candidate, force=not self._shared)
        if done is not Update.UNCHANGED or not self._file.exists():
            change_candidates(lambda now: self._now(now).including(candidate), self._file)
            self._stored = self._stored.including(candidate)
        self._made[name] = candidate
        self.cells[name] = cell

    def rerun(self, name: str, platform: Platform, case: str) -> Rerun:
        """Return the run of a case in an environment, which finds its candidate in the file."""
        return Rerun(
            name=name,
            platform=platform,
            cases=(case,),
            environ=((CANDIDATES_VARIABLE, str(self._file)),),
        )

    def _now(self, there: Candidates) -> Candidates:
        """Return what the file has now; where it does not exist yet, what it shall begin with."""
        return there if self._file.exists() else self._stored

    def _load(self) -> Candidates:
        """Return what the file has, with the other half of the pair if that is a candidate."""
        own = self._releases.candidates
        found = load_candidates(self._file)
        if not self._file.exists():
            found = Candidates(channels=own.channels)
        other = own.get(self._other.factor)
        return found if other is None or self._shared else found.including(other)

    def _cell(self, name: str, candidate: Candidate) -> Cell:
        try:
            cell = self._releases.including(candidate).resolve(name)
        except CellError as error:
            raise StepError(str(error)) from None
        there = cell.vllm if self.series.project is Project.TORCH else cell.torch
        if self._other.version not in (None, there):
            raise StepError(
                f"{name} has {self._other.factor} as {there}, not {self._other.version}"
            )
        return cell


def other_half(text: str, project: Project, releases: Releases) -> Other:
    """Return the half of a pair that stays, of a release or of a candidate's name.

    Raises MatrixError if it is not known, or where its name stands for another patch.
    """
    if text.startswith(project):
        return Other(factor=releases.candidates.named(text).name)
    known = releases.published[project]
    try:
        version = newest_patch(text, known)
        minor = minor_of(version)
        factor = factor_of(project, version)
    except ValueError:
        raise BisectionError(
            f"--{project} {text!r}: is neither a release nor the name of a candidate; write it as"
            f" {known[-1]} or {project}main"
        ) from None
    if version not in known:
        raise BisectionError(
            f"--{project} {text}: is not known; `matrix refresh` reads new releases"
        )
    newest = newest_patch(minor, known)
    # A vLLM that pins an older patch of torch has that one, so each step tells which it is.
    if project is Project.VLLM and version != newest:
        raise BisectionError(
            f"--{project} {text}: its environment {factor} stands for {newest}; name that one"
        )
    return Other(factor=factor, version=None if text == minor else version)


def change_of(line: Line, search: Search) -> LineChange | None:
    """Return where a line changes; None while the search continues."""
    found = search.bisection
    if found.next is not None or found.good is None:
        return None
    last, first = found.good, found.candidates[-1]
    old, new = (
        line.series.revision(line.step(name), line.candidate(name)) for name in (last, first)
    )
    repository = line.series.repository
    page = None
    if repository is not None and old is not None and new is not None:
        page = compare_address(repository, old, new)
    between = tuple(line.step(name) for name in found.candidates)
    return LineChange(last=line.step(last), between=between, page=page)
