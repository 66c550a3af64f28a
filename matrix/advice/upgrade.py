"""The changes from one vLLM release to another: wheels, packages, starts, notes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from matrix._util.enums import StrEnum
from matrix._util.versions import distance, parse_version, specifier_text
from matrix.advice.evidence import Evidence, MeasuredRun, measured_run, newest_run
from matrix.advice.fits import WheelNeeds, needs_of
from matrix.advice.install import Install, install_of
from matrix.advice.left_behind import LeftBehind, ReleasePackages, left_behind
from matrix.advice.pairs import Pair
from matrix.advice.reasons import MisfitCode, Reason
from matrix.advice.recommend import AdviceFacts, tried
from matrix.advice.wish import Wish
from matrix.catalog.cells import Cell
from matrix.catalog.platform_tags import MACHINES
from matrix.catalog.release import COMPANIONS, Torch, Vllm
from matrix.catalog.releases import Releases
from matrix.catalog.requirements import Requirements
from matrix.record.model import Platform, Record
from matrix.record.start_seconds import Unlike, unlike
from matrix.rules.notes import Note
from matrix.verdict.precedence import is_stock
from matrix.verdict.states import Verdict

_FAILURES = (MisfitCode.FAILS, MisfitCode.PREDICTED_TO_FAIL, MisfitCode.YANKED)


class What(StrEnum):
    """A thing that can differ between two releases."""

    TORCH = "torch"
    TORCHVISION = "torchvision"
    TORCHAUDIO = "torchaudio"
    CUDA = "CUDA of vLLM's wheel"
    CUDA_OF_TORCH = "CUDA of torch's wheel"
    DRIVER = "least driver"
    PYTHON = "Python"
    GLIBC_OF_WHEEL = "glibc of vLLM's wheel"
    GLIBC = "glibc of the libraries"
    GPU_CODE = "GPU code of vLLM"
    GPU_CODE_OF_TORCH = "GPU code of torch"
    PACKAGE = "package"


@dataclass(frozen=True, kw_only=True)
class Change:
    """The old and the new value; None if unknown. `package` is the name of a package."""

    what: What
    old: str | None
    new: str | None
    package: str | None = None

    @property
    def is_one(self) -> bool:
        """Whether the two differ, or may differ because a value is unknown."""
        return self.old != self.new or self.old is None


class PairState(StrEnum):
    """What is known of a pair: it ran, fails, fails on one Python alone, or never ran on a GPU."""

    RAN = "ran"
    FAILS = "fails"
    FAILS_IN_PART = "fails in part"
    NEVER_RAN = "never ran"


class KnownPackages(StrEnum):
    """How many packages of a release are known.

    `ALL`: those that a run had. `SOME`: what it requires, and what a resolver chose of that.
    `REQUIRED`: what it requires, since neither was asked.
    """

    ALL = "all"
    SOME = "some"
    REQUIRED = "required"


@dataclass(frozen=True, kw_only=True)
class UpgradeSide:
    """One of the two releases, with the torch that it pins.

    `cell` is the pair on the Python of the packages, and `fits_python` whether its vLLM is for it.
    `needs` are those of both wheels. `measured` is the newest run of the pair on a GPU, of the
    record `ran`, and `notes` what a person found out about it. `packages` is how many of its
    packages are known. `fails` is why the pair is known to fail on the nearest Python
    that it has, and `works_on` the Pythons on which a run of it did not fail; none of a release
    that was withdrawn. `evidence` is the best that is known of it.
    """

    cell: Cell

    vllm: Vllm
    torch: Torch
    needs: tuple[WheelNeeds, WheelNeeds]
    measured: MeasuredRun | None
    notes: tuple[Note, ...]
    packages: KnownPackages
    ran: Record | None = field(default=None, repr=False)
    fails: Reason | None = None
    works_on: tuple[str, ...] = ()
    evidence: Evidence | None = None

    @property
    def known(self) -> PairState:
        """What is known of the pair."""
        if self.fails is not None:
            return PairState.FAILS_IN_PART if self.works_on else PairState.FAILS
        return PairState.NEVER_RAN if self.measured is None else PairState.RAN

    @property
    def fits_python(self) -> bool:
        """Whether the Python of the packages is one of the vLLM's."""
        return self.vllm.python.contains(self.cell.python)


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """The changes; `every` also has the values that stay the same.

    `python` is that of the packages, and `machine` the processor of the wheels.
    `install` is what to install of the new release, and `left` what stays of the old one in place.
    """

    old: UpgradeSide
    new: UpgradeSide
    python: str
    machine: str
    every: tuple[Change, ...]
    install: Install
    left: tuple[LeftBehind, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        """The values that differ or may differ."""
        return tuple(change for change in self.every if change.is_one)

    @property
    def is_downgrade(self) -> bool:
        """Whether the new release is the older one."""
        return parse_version(self.new.vllm.version) < parse_version(self.old.vllm.version)

    @property
    def unlike(self) -> frozenset[Unlike]:
        """Why the seconds of the two runs do not compare; nothing if they do, or one is absent."""
        old, new = self.old.ran, self.new.ran
        return frozenset() if old is None or new is None else unlike(old, new)

    @property
    def is_in_place(self) -> bool:
        """Whether both releases are for the Python of the packages, so that it may stay."""
        return self.old.fits_python and self.new.fits_python


def upgrade(
    old: str,
    new: str,
    known: AdviceFacts,
    *,
    python: str,
    requirements: Requirements,
    notes: tuple[Note, ...],
) -> Upgrade:
    """Return what changes between two known releases of vLLM, each with its pin."""
    cells = [_cell(version, python, known.releases) for version in (old, new)]
    before, after = (_packages(cell, known, requirements) for cell in cells)
    sides = _side(cells[0], before, known, notes), _side(cells[1], after, known, notes)
    return Upgrade(
        old=sides[0],
        new=sides[1],
        python=python,
        machine=MACHINES[0],
        every=tuple(_changes(*sides)) + tuple(_of_packages(before, after)),
        install=_install(sides[1], python, known),
        left=left_behind(before, after, sides[1].torch.cuda),
    )


def _install(new: UpgradeSide, python: str, known: AdviceFacts) -> Install:
    """Return what to install of the new release, on the nearest Python that it has."""
    fits = [found for found in known.releases.pythons if new.vllm.python.contains(found)]
    nearest = min(fits, key=lambda found: distance(found, python), default=python)
    pair = Pair(torch=new.torch, vllm=new.vllm)
    return install_of(pair, nearest, known.releases, new.needs[1], known.tables.hardware)


def _cell(version: str, python: str, releases: Releases) -> Cell:
    vllm = next(row for row in releases.vllm if row.version == version)
    return Cell(python, vllm.torch, version)


def _side(
    cell: Cell, packages: ReleasePackages, known: AdviceFacts, notes: tuple[Note, ...]
) -> UpgradeSide:
    vllm = next(row for row in known.releases.vllm if row.version == cell.vllm)
    torch = next(row for row in known.releases.torch if row.version == cell.torch)
    machine = MACHINES[0]
    entries = known.runs.on(Platform.CUDA, torch.version, vllm.version)
    entry = newest_run(entries)
    fits = [python for python in known.releases.pythons if vllm.python.contains(python)]
    python = min(fits, key=lambda found: distance(found, cell.python), default=cell.python)
    found = tried(Pair(torch=torch, vllm=vllm), Wish(python=python), known)
    is_gone = isinstance(found, Reason) and found.code is MisfitCode.YANKED
    some = KnownPackages.SOME if packages.resolved else KnownPackages.REQUIRED
    return UpgradeSide(
        cell=cell,
        packages=KnownPackages.ALL if packages.ran else some,
        vllm=vllm,
        torch=torch,
        needs=(needs_of(vllm, known.tables, machine), needs_of(torch, known.tables, machine)),
        measured=None if entry is None else measured_run(entry),
        ran=None if entry is None else entry.record,
        fails=found if isinstance(found, Reason) and found.code in _FAILURES else None,
        works_on=tuple(
            place.python
            for place, other in entries
            if other.verdict.verdict in (Verdict.COMPATIBLE, Verdict.DRIFT) and not is_gone
        ),
        evidence=None if isinstance(found, Reason) else found.evidence,
        notes=tuple(
            note for note in notes if note.covers(Platform.CUDA, torch.version, vllm.version)
        ),
    )


def _changes(old: UpgradeSide, new: UpgradeSide) -> Iterator[Change]:
    values = _values(old), _values(new)
    for what in values[0]:
        yield Change(what=what, old=values[0][what], new=values[1][what])


def _values(side: UpgradeSide) -> Mapping[What, str | None]:
    vllm, torch = side.needs
    newest = _newest(vllm.cuda, torch.cuda)
    drivers = [needs.driver for needs in side.needs if needs.cuda == newest]
    driver = drivers[0] if drivers else None
    companions = {What(name): getattr(side.vllm, name) or "any" for name in COMPANIONS}
    return {
        What.TORCH: side.torch.version,
        **companions,
        What.CUDA: vllm.cuda,
        What.CUDA_OF_TORCH: torch.cuda,
        What.DRIVER: None if driver is None else driver.least,
        What.PYTHON: specifier_text(side.vllm.python),
        What.GLIBC_OF_WHEEL: vllm.wheel_glibc,
        What.GLIBC: _newest(vllm.glibc, torch.glibc) if vllm.glibc and torch.glibc else None,
        What.GPU_CODE: " ".join(vllm.archs) if vllm.is_read else None,
        What.GPU_CODE_OF_TORCH: " ".join(torch.archs) if torch.is_read else None,
    }


def _newest(*versions: str | None) -> str | None:
    """Return the newest of some versions; None if none is known."""
    return max(filter(None, versions), key=parse_version, default=None)


def _packages(cell: Cell, known: AdviceFacts, requirements: Requirements) -> ReleasePackages:
    resolution = known.answers.packages(cell, off_pin=False)
    return ReleasePackages(
        requirements=requirements.get(cell.vllm, ()),
        python=cell.python,
        machine=MACHINES[0],
        resolved={} if resolution is None else resolution.packages,
        installed=_installed(cell, known),
    )


def _installed(cell: Cell, known: AdviceFacts) -> Mapping[str, str]:
    """Return the packages of a run of the pair whose environment was stock; none without one."""
    for platform in (Platform.CUDA, Platform.CPU):
        ran = known.runs.on(platform, cell.torch, cell.vllm, _is_stock, "stock")
        if ran:
            return max(
                (entry.record for _, entry in ran), key=lambda record: record.started
            ).packages
    return {}


def _is_stock(record: Record) -> bool:
    return bool(record.packages) and is_stock(record)


def _of_packages(old: ReleasePackages, new: ReleasePackages) -> Iterator[Change]:
    """Yield the packages that a resolver chose for both; torch and its companions are named."""
    named = {What.TORCH, *COMPANIONS}
    for name in sorted(old.resolved.keys() & new.resolved.keys()):
        if name not in named:
            yield Change(
                what=What.PACKAGE, package=name, old=old.resolved[name], new=new.resolved[name]
            )
