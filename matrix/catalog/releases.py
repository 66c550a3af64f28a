"""The known releases of torch and vLLM: which cells they make, and what a name stands for.

Pure; `matrix.catalog.releases_file` reads them from the package's data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from packaging.version import InvalidVersion, Version

from matrix._util.nearest import with_meant
from matrix._util.versions import (
    distance,
    minor_of,
    neighbours,
    newest_patches,
    parse_version,
    specifier_text,
)
from matrix.catalog.candidates.collection import CandidateError, Candidates
from matrix.catalog.candidates.rows import torch_row, vllm_row
from matrix.catalog.cells import Build, Cell, CellError, Factors, factors, is_candidate
from matrix.catalog.constraints import Constraint
from matrix.catalog.mistyped import factor_names, lacks_hyphen, nearest_cell
from matrix.catalog.projects import Project
from matrix.catalog.release import COMPANIONS, Torch, Unread, Vllm

if TYPE_CHECKING:
    from matrix.catalog.candidates.model import Candidate

_Release = TypeVar("_Release", Torch, Vllm)


@dataclass(frozen=True, kw_only=True)
class Releases:
    """The known releases, oldest first, and which of vLLM's the matrix runs and publishes.

    `candidates` are not releases: they are in no cell but those whose name holds theirs.
    """

    torch: tuple[Torch, ...]
    vllm: tuple[Vllm, ...]
    pythons: tuple[str, ...]
    matrix_vllm: tuple[str, ...]
    unread: tuple[Unread, ...] = ()
    constrained: tuple[Constraint, ...] = ()
    candidates: Candidates = field(default_factory=Candidates)

    @property
    def published(self) -> Mapping[str, tuple[str, ...]]:
        """The versions of the releases by project, `torch` and `vllm`, without candidates."""
        return {
            "torch": tuple(release.version for release in self.torch),
            "vllm": tuple(release.version for release in self.vllm),
        }

    def resolve(self, name: str) -> Cell:
        """Find the cell that an environment name, short or full, stands for.

        A minor release of vLLM stands for its newest patch that pins that torch. Where no patch
        does, the cell is off-pin, of the newest patch of each. A name without a vLLM factor stands
        for the newest vLLM that pins that torch. Yanked releases are skipped. The name of a
        candidate stands for it as it is now. Raises CellError, whose one line names what to use
        instead.
        """
        try:
            wanted = factors(name)
        except CellError as error:
            raise CellError(self._with_nearest(str(error), name)) from None
        if any(factor and is_candidate(factor) for factor in (wanted.torch, wanted.vllm)):
            return self._resolve_candidates(name, wanted)
        release = self._pinning(wanted.torch, wanted.vllm)
        if release is not None:
            torch = release.torch
        else:
            torch = self._newest(name, "torch", self.torch, wanted.torch).version
            if wanted.vllm is None:
                raise self._no_default(name, wanted, torch)
            release = self._newest(name, "vLLM", self.vllm, wanted.vllm)
        self._check_python(name, wanted.python, torch, release)
        return Cell(wanted.python, torch, release.version)

    def cells(self) -> tuple[Cell, ...]:
        """Return every cell that the matrix publishes: its vLLM releases, each with its pin."""
        return tuple(cell for cell in self.on_pin() if cell.vllm in self.matrix_vllm)

    def on_pin(self) -> tuple[Cell, ...]:
        """Return every cell whose vLLM pins its torch, on each Python that both accept.

        Of the patches that share a name, that is the one which the name stands for.
        """
        return tuple(
            sorted(
                Cell(python, release.torch, release.version)
                for release in self.pinning.values()
                for python in self.pythons
                if self._accepts(python, release.torch, release)
            )
        )

    @property
    def pinning(self) -> Mapping[tuple[str, str], Vllm]:
        """The newest vLLM by the minor of the torch that it pins, and its own minor."""
        # Oldest first, so that the newest patch stays.
        return {
            (minor_of(release.torch), minor_of(release.version)): release
            for release in self._unyanked
        }

    def names(self, cell: Cell) -> tuple[str, ...]:
        """Return the names of an on-pin cell: the short one too where it stands for this cell."""
        pinning = None if cell.builds else self._pinning(minor_of(cell.torch))
        is_short = pinning is not None and pinning.version == cell.vllm
        return (cell.short_name, cell.name) if is_short else (cell.name,)

    def pin(self, cell: Cell) -> str:
        """Return the torch that the cell's vLLM pins; raises CellError for an unknown vLLM."""
        return self._known(cell).torch

    def is_off_pin(self, cell: Cell) -> bool:
        """Tell whether the cell's torch differs from its pin; raises CellError as `pin` does."""
        return self.pin(cell) != cell.torch

    def overridden_pin(self, name: str) -> str | None:
        """Return the torch that the vLLM of an off-pin cell pins, by the cell's name.

        None for an on-pin cell, and for a name that does not stand for a cell here.
        """
        try:
            cell = self.resolve(name)
        except CellError:
            return None
        return self.pin(cell) if self.is_off_pin(cell) else None

    def companions(self, cell: Cell) -> Mapping[str, str]:
        """Return the versions of torch, torchvision and torchaudio that go together in this cell.

        Those that its vLLM pins or, off-pin, those that go with its torch; where these are not
        known, those of the newest vLLM that pins this torch. A companion that a torch lacks is left
        out. Raises CellError if the cell's vLLM, its torch or a companion is unknown.
        """
        release = self._known(cell)
        found = release if release.torch == cell.torch else self._companions_of(cell.torch)
        if found is None and cell.torch_build is not None:
            raise self._no_candidate(cell.name, cell.torch_build)
        if found is None:
            known = list(self._torches)
            raise CellError(
                f"cell {cell.name!r}: torch {cell.torch} is not {nearest_known(cell.torch, known)}"
            )
        versions = {"torchvision": found.torchvision, "torchaudio": found.torchaudio}
        without = found.without if isinstance(found, Torch) else ()
        for companion, version in versions.items():
            # A vLLM without such a pin leaves the choice to the resolver.
            if version is None and found is not release and companion not in without:
                raise CellError(
                    f"cell {cell.name!r}: no {companion} is known that goes with torch "
                    f"{cell.torch}; add it to that torch in matrix/data/releases.json"
                )
        pinned = {name: version for name, version in versions.items() if version is not None}
        return {"torch": cell.torch, **pinned}

    def overrides(self, cell: Cell) -> tuple[str, ...]:
        """Return the requirements to override: torch and its companions off-pin, nothing on-pin.

        A candidate's files are named by address and hash. Raises CellError as `companions` does,
        and for a candidate that is no longer known.
        """
        if not self.is_off_pin(cell):
            return ()
        lines = override_lines(self.companions(cell))
        candidate = self.candidate_of(cell, Project.TORCH)
        if candidate is None:
            return lines
        files = _requirements(candidate, cell)
        given = {line.partition(" ")[0] for line in files}
        return (*files, *(line for line in lines if _project(line) not in given))

    def installs(self, cell: Cell, built: str | None = None) -> tuple[str, ...]:
        """Return what a cell installs: torch and, off-pin, companions, vLLM and its constraints.

        `built` is the requirement that installs a vLLM which is built from its sources. Such a
        wheel requires neither torch nor companions, so the cell names them, on-pin too. Raises
        CellError as `overrides` does, and where its vLLM has to be built first.
        """
        overrides = [line for line in self.overrides(cell) if " ; " not in line]
        candidate = self.candidate_of(cell, Project.VLLM)
        if candidate is None:
            own: tuple[str, ...] = (f"vllm=={cell.vllm}",)
        elif built is not None and candidate.is_built:
            own = (built,)
            overrides = overrides or list(override_lines(self.companions(cell)))
            overrides = [line for line in overrides if " ; " not in line]
        else:
            own = _requirements(candidate, cell)
        torch = overrides or [f"torch=={cell.torch}"]
        return (*torch, *own, *self.constraints(cell.vllm))

    def candidate_of(self, cell: Cell, project: Project) -> Candidate | None:
        """Return the candidate that is the cell's torch or vLLM; None if that is a release.

        Raises CellError for a candidate that is not known, or is another build by now.
        """
        build = cell.torch_build if project is Project.TORCH else cell.vllm_build
        if build is None:
            return None
        candidate = self.candidates.of_build(build)
        if candidate is None:
            raise self._no_candidate(cell.name, build)
        return candidate

    @property
    def every_torch(self) -> tuple[Torch, ...]:
        """The releases of torch, oldest first, and then the candidates as rows of their own."""
        rows = (torch_row(candidate) for candidate in self.candidates.of(Project.TORCH))
        return (*self.torch, *rows)

    @property
    def every_vllm(self) -> tuple[Vllm, ...]:
        """The releases of vLLM, oldest first, and then the candidates as rows of their own."""
        rows = (vllm_row(candidate) for candidate in self.candidates.of(Project.VLLM))
        return (*self.vllm, *rows)

    def constraints(self, vllm: str) -> tuple[str, ...]:
        """Return the requirements that the cells of this vLLM get beyond their pins."""
        return tuple(
            constraint.requirement for constraint in self.constrained if constraint.covers(vllm)
        )

    def doubts(self, cell: Cell) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the companions that an off-pin cell lacks, and those that are guessed.

        Raises CellError if the cell's vLLM is unknown.
        """
        torch = self._torches.get(cell.torch)
        if torch is None or not self.is_off_pin(cell):
            return (), ()
        return torch.without, torch.guessed

    def revision(self, project: Project, version: str) -> str | None:
        """Return the git commit of a release, by its version; None if it is unknown."""
        rows = self._torches if project is Project.TORCH else self._vllms
        row = rows.get(parse_version(version).public)
        return row.revision if row is not None else None

    @property
    def cuda_flavour(self) -> str | None:
        """The build of CUDA of the newest torch, such as cu130; None if it is not known."""
        newest = next((row.cuda for row in reversed(self.torch) if row.cuda), None)
        return f"cu{newest.replace('.', '')}" if newest else None

    def including(self, candidate: Candidate) -> Releases:
        """Return these with one more candidate, which replaces the one of its name."""
        return replace(self, candidates=self.candidates.including(candidate))

    def versions(self, project: Project) -> tuple[str, ...]:
        """Return the releases of torch or vLLM, and after them the release keys of candidates."""
        rows: Sequence[Torch | Vllm] = (
            self.every_torch if project is Project.TORCH else self.every_vllm
        )
        return tuple(row.version for row in rows)

    def only(self, project: Project, versions: Collection[Version]) -> Releases:
        """Return these with some releases and candidates of a project alone, all of the other."""
        candidates = replace(
            self.candidates,
            every=tuple(
                candidate
                for candidate in self.candidates.every
                if candidate.project != project or parse_version(candidate.key) in versions
            ),
        )
        if project is Project.TORCH:
            torch = tuple(row for row in self.torch if parse_version(row.version) in versions)
            return replace(self, torch=torch, candidates=candidates)
        vllm = tuple(row for row in self.vllm if parse_version(row.version) in versions)
        return replace(self, vllm=vllm, candidates=candidates)

    def _companions_of(self, torch: str) -> Torch | Vllm | None:
        """Return the release that says what goes with a torch; None for an unknown torch."""
        own = self._torches.get(torch)
        pinning = (release for release in reversed(self.vllm) if release.torch == torch)
        for release in (own, *pinning):
            if release is None or (own is not None and own.without and release is not own):
                continue
            without = release.without if isinstance(release, Torch) else ()
            if all(getattr(release, name) or name in without for name in COMPANIONS):
                return release
        return own

    @cached_property
    def _torches(self) -> Mapping[str, Torch]:
        return {release.version: release for release in self.every_torch}

    @cached_property
    def _vllms(self) -> Mapping[str, Vllm]:
        return {release.version: release for release in self.every_vllm}

    def _resolve_candidates(self, name: str, wanted: Factors) -> Cell:
        """Find the cell of a name that holds a candidate; raises as `resolve`."""
        candidates = {
            factor: self._candidate(name, factor)
            for factor in (wanted.torch, wanted.vllm)
            if factor is not None and is_candidate(factor)
        }
        if wanted.vllm is None:
            newest = [Cell(wanted.python, "0.0", row.version) for row in self._unyanked[-1:]]
            ways = [f"{name}-{cell.name.rpartition('-')[2]}" for cell in newest]
            raise CellError(f"cell {name!r}: no vLLM pins a candidate, so name one; {_use(ways)}")
        vllm = candidates.get(wanted.vllm)
        release = (
            self._newest(name, "vLLM", self.vllm, wanted.vllm)
            if vllm is None
            else self._vllms[vllm.key]
        )
        torch = candidates.get(wanted.torch)
        if torch is not None:
            key = torch.key
        elif minor_of(release.torch) == wanted.torch and release.torch in self._torches:
            key = release.torch
        else:
            key = self._newest(name, "torch", self.torch, wanted.torch).version
        self._check_python(name, wanted.python, key, release)
        for candidate in candidates.values():
            if not candidate.accepts(wanted.python):
                _requirements(candidate, Cell(wanted.python, key, release.version))
        return Cell(wanted.python, key, release.version)

    def _candidate(self, name: str, factor: str) -> Candidate:
        try:
            return self.candidates.named(factor)
        except CandidateError as error:
            if lacks_hyphen(factor):
                lacks = f"cell {name!r}: factor {factor!r} lacks a hyphen"
                raise CellError(self._with_nearest(lacks, name)) from None
            raise CellError(f"cell {name!r}: {error}") from None

    def _no_candidate(self, name: str, build: Build) -> CellError:
        now = self.candidates.get(build.name)
        if now is None:
            return CellError(f"cell {name!r}: candidate {build.name!r} {self._unknown()}")
        return CellError(
            f"cell {name!r}: candidate {build.name!r} was the build {build.identity}, and is"
            f" {now.identity} now; run the cell again"
        )

    def _with_nearest(self, message: str, name: str) -> str:
        """Return a message with the name of a cell that was meant, where a part is mistyped."""
        minors = {
            name: [minor_of(version) for version in versions]
            for name, versions in self.published.items()
        }
        named = [candidate.name for candidate in self.candidates.every]
        near = nearest_cell(
            name,
            factor_names(self.pythons, minors, named),
            [cell.name for cell in self.on_pin()],
        )
        return with_meant(message, None if near == name else near)

    def _unknown(self) -> str:
        return f"is not known; {self.candidates.known()}"

    def _known(self, cell: Cell) -> Vllm:
        release = self._vllms.get(cell.vllm)
        if release is None and cell.vllm_build is not None:
            raise self._no_candidate(cell.name, cell.vllm_build)
        if release is None:
            near = nearest_known(cell.vllm, list(self._vllms))
            raise CellError(f"cell {cell.name!r}: vLLM {cell.vllm} is not {near}")
        return release

    def _newest(
        self, name: str, project: str, releases: tuple[_Release, ...], minor: str
    ) -> _Release:
        """Return the newest patch of a minor release that was not yanked."""
        patches = [release for release in releases if minor_of(release.version) == minor]
        if not patches:
            known = [minor_of(release.version) for release in releases]
            unread = [row for row in self.unread if minor_of(row.version) == minor]
            if project == "vLLM" and unread:
                raise CellError(
                    f"cell {name!r}: the pins of vLLM {unread[-1].version}: {unread[-1].note}"
                )
            unknown = f"cell {name!r}: {project} {minor} is not {nearest_known(minor, known)}"
            raise CellError(self._with_nearest(unknown, name))
        left = [release for release in patches if release.yanked is None]
        if not left:
            raise CellError(
                f"cell {name!r}: {project} {patches[-1].version} was yanked "
                f"({patches[-1].yanked or 'no reason given'}), and no other {minor} is known"
            )
        return left[-1]

    def _pinning(self, torch: str, vllm: str | None = None) -> Vllm | None:
        """Return the newest vLLM that pins a torch of this minor, of all or of one minor."""
        newest_first = reversed(self._unyanked)
        if vllm is not None:
            newest_first = (row for row in newest_first if minor_of(row.version) == vllm)
        return next((row for row in newest_first if minor_of(row.torch) == torch), None)

    @property
    def _unyanked(self) -> Sequence[Vllm]:
        return [release for release in self.vllm if release.yanked is None]

    def _no_default(self, name: str, wanted: Factors, torch: str) -> CellError:
        pinned = [minor_of(release.torch) for release in self._unyanked]
        ways = [
            self._nearest_name(wanted.python, torch, release)
            for minor in _nearest(wanted.torch, pinned)
            if (release := self._pinning(minor)) is not None
        ]
        return CellError(
            f"cell {name!r}: no known vLLM pins torch {wanted.torch}, so name one; {_use(ways)}"
        )

    def _check_python(self, name: str, python: str, torch: str, release: Vllm) -> None:
        if python in self.pythons and self._accepts(python, torch, release):
            return
        bound = self._torches.get(torch)
        instead = _use([self._nearest_name(python, torch, release)])
        for what, pythons in (
            (f"vLLM {release.version}", release.python),
            (f"torch {torch}", bound.python if bound else None),
        ):
            if pythons is not None and not pythons.contains(python):
                raise CellError(
                    f"cell {name!r}: {what} needs Python {specifier_text(pythons)}, so "
                    f"{name.partition('-')[0]} cannot run it; {instead}"
                )
        known = ", ".join(self.pythons)
        raise CellError(
            f"cell {name!r}: Python {python} is not among the matrix's ({known}); {instead}"
        )

    def _nearest_name(self, python: str, torch: str, release: Vllm) -> str:
        """Return the name of that pair with this Python, or the nearest that fits; else ""."""
        fit = [known for known in self.pythons if self._accepts(known, torch, release)]
        near = min(fit, key=lambda known: distance(known, python), default="")
        return Cell(near, torch, release.version).name if near else ""

    def _accepts(self, python: str, torch: str, release: Vllm) -> bool:
        bound = self._torches.get(torch)
        return release.python.contains(python) and (
            bound is None or bound.python is None or bound.python.contains(python)
        )


def _requirements(candidate: Candidate, cell: Cell) -> tuple[str, ...]:
    try:
        return candidate.requirements(cell.python)
    except CandidateError as error:
        raise CellError(f"cell {cell.name!r}: {error}") from None


def _project(line: str) -> str:
    return line.partition("==")[0].partition(" ")[0]


def override_lines(versions: Mapping[str, str]) -> tuple[str, ...]:
    """Return these versions as uv's overrides; a companion without a version is never installed.

    >>> override_lines({"torch": "2.15.0", "torchvision": "0.29.2"})
    ('torch==2.15.0', 'torchvision==0.29.2', 'torchaudio ; python_version < "3"')
    """
    # A marker that no environment fulfils takes the package out of all that requires it.
    absent = [f'{name} ; python_version < "3"' for name in COMPANIONS if name not in versions]
    return (*(f"{name}=={version}" for name, version in versions.items()), *absent)


def newest(releases: Iterable[_Release]) -> tuple[_Release, ...]:
    """Return the newest patch of each minor release, oldest first, without yanked releases."""
    kept = (release for release in releases if release.yanked is None)
    return tuple(newest_patches(kept, lambda release: release.version))


def nearest_known(wanted: str, known: list[str]) -> str:
    """Return what a sentence "2.99 is not ..." ends with: the known versions around it."""
    return f"known here; the nearest: {', '.join(_nearest(wanted, known)) or 'none'}"


def _nearest(wanted: str, known: list[str]) -> list[str]:
    """Return the neighbours of a version, and the oldest two that it may be the beginning of."""
    longer = sorted((text for text in set(known) if text.startswith(wanted)), key=parse_version)
    try:
        around = neighbours(wanted, known)
    except InvalidVersion:  # a cell's name may have more digits than Python reads
        around = []
    return list(dict.fromkeys([*around, *longer[:2]]))


def _use(names: list[str]) -> str:
    good = [name for name in names if name]
    return f"use {' or '.join(good)}" if good else "no Python of the matrix fits"
