"""The hardware that wheels depend on: GPUs, drivers, and the needs of each CUDA. Pure.

`matrix.catalog.hardware_file` reads the table from the package's data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from packaging.specifiers import SpecifierSet

from matrix._util.nearest import nearest, with_meant
from matrix._util.versions import parse_version
from matrix.errors import MatrixError

_DRIVER = re.compile(r"[1-9][0-9]{2}(?:\.[0-9]{1,4}){0,2}", re.ASCII)
_ARCH = re.compile(r"(?:sm_?)?(?P<digits>[1-9][0-9]{1,2})[af]?", re.ASCII)
_CAPABILITY = re.compile(r"(?P<major>[1-9][0-9]?)\.(?P<minor>[0-9])", re.ASCII)
_MAKERS = re.compile(r"\b(nvidia|geforce|tesla|quadro|gpu)\b")
# What follows the name of a GPU where a driver reports it: its memory, its form, its power.
_FORM = re.compile(
    r" (sxm\d?|pcie|nvl|hbm\d\w*|\d+gb|\d+ ?gib|laptop|super|oem|workstation|server|edition|"
    r"max q|superchip|generation)\b.*"
)

# The GPUs of other makers, by the names that their drivers and people give them.
_OTHERS = (
    (
        "AMD",
        re.compile(
            r"\b(?:radeon|instinct|firepro|vega ?\d*|mi ?\d{2,3}[a-z]?|gfx ?\d{3,4}[a-z]?"
            r"|w[67]\d00)\b"
        ),
    ),
    ("Intel", re.compile(r"\b(?:gaudi ?\d?|arc|ponte vecchio)\b")),
)
_NEEDS = {"AMD": "ROCm", "Intel": "XPU or HPU"}
# These makers sell processors too, and `rx` is a letter away from `rtx`: they say nothing where the
# text has a name of NVIDIA's.
_LIKELY_OTHERS = (
    ("AMD", re.compile(r"\b(?:amd|rx ?\d{3,4}\w*)\b")),
    ("Intel", re.compile(r"\bintel\b")),
)
_RX = re.compile(r"\brx ?(?=\d)")


class HardwareError(MatrixError):
    """A GPU, a driver or a glibc that a person named cannot be read: one line with the fix."""


class Capability(NamedTuple):
    """A compute capability, such as 9.0."""

    major: int
    minor: int

    @property
    def arch(self) -> int:
        """Its number in the name of an architecture: 90."""
        return self.major * 10 + self.minor

    def __str__(self) -> str:
        """Return it as NVIDIA writes it: `9.0`."""
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True, kw_only=True)
class GpuKind:
    """A kind of GPU: its compute capability and, where the person gave one, its name."""

    capability: Capability
    name: str | None = None

    def is_named(self, reported: str) -> bool:
        """Tell whether a driver reports this kind of GPU by that name.

        >>> GpuKind(name="h200", capability=Capability(9, 0)).is_named("NVIDIA H200")
        True
        """
        return self.name is not None and plain_name(reported) == self.name


class Driver(NamedTuple):
    """A version of NVIDIA's driver, as far as a person knows it: 580, or 580.95.05."""

    text: str
    numbers: tuple[int, ...]

    def is_older(self, least: str) -> bool:
        """Tell whether it is older than a driver; a branch alone may be any of its releases.

        >>> driver_of("580").is_older("580.65.06"), driver_of("580.1").is_older("580.65.06")
        (False, True)
        """
        return self.numbers < _numbers(least)[: len(self.numbers)]


class DriverBranches(NamedTuple):
    """The first and the last branch of the driver that know a GPU; None is unknown, or none."""

    first: str | None = None
    last: str | None = None

    def is_before(self, driver: Driver) -> bool:
        """Tell whether a driver is of a branch before the first.

        >>> DriverBranches(first="570").is_before(driver_of("535.183.06"))
        True
        """
        return self.first is not None and driver.numbers[0] < int(self.first)

    def is_after(self, driver: Driver) -> bool:
        """Tell whether a driver is of a branch after the last."""
        return self.last is not None and driver.numbers[0] > int(self.last)

    def beyond(self, least: str | None) -> DriverBranches:
        """Return the branches without a first one that a least driver is of, or is newer than.

        >>> DriverBranches(first="570").beyond("580.65.06")
        DriverBranches(first=None, last=None)
        """
        if least is None or self.first is None or _numbers(least)[0] < int(self.first):
            return self
        return self._replace(first=None)


NO_BRANCHES = DriverBranches()


@dataclass(frozen=True, kw_only=True)
class CudaRelease:
    """A release of CUDA: the drivers that its programs need, the `least`, and for PTX its `own`.

    `adds` are the GPUs that it is the first to know, `removes` those that it knows no more.
    """

    version: str
    least: str
    own: str
    adds: frozenset[Capability] = frozenset()
    removes: frozenset[Capability] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """Wheels of some releases for some CUDA that the package index does not have."""

    project: str
    versions: SpecifierSet
    cuda: tuple[str, ...]
    index: str
    source: str

    def address(self, version: str, cuda: str) -> str:
        """Return the index of the wheels of a release for one CUDA."""
        return self.index.format(version=version, flavour=flavour_name(cuda))


@dataclass(frozen=True, kw_only=True)
class ModelNeed:
    """The least compute capability with which some releases of vLLM take a model.

    `case` is the startup test of the model, `versions` are the releases whose sources say it.
    """

    case: str
    least: Capability
    versions: SpecifierSet


@dataclass(frozen=True, kw_only=True)
class HardwareTable:
    """Known GPUs, releases of CUDA (oldest first), and flavours.

    `processors` are those that some GPUs come with, by name, `drivers` the rows of those that know
    a GPU: `branches` answers for GPUs without a row, too.
    """

    gpus: Mapping[str, Capability] = field(default_factory=dict)
    processors: Mapping[str, str] = field(default_factory=dict)
    drivers: Mapping[Capability, DriverBranches] = field(default_factory=dict)
    cuda: Mapping[str, CudaRelease] = field(default_factory=dict)
    flavours: tuple[Flavour, ...] = ()
    models: tuple[ModelNeed, ...] = ()

    def gpu(self, text: str) -> GpuKind:
        """Return the GPU that a person names: `h100`, `NVIDIA H100 80GB HBM3`, `sm_90` or `9.0`.

        Raises HardwareError, which says what to write.
        """
        capability = capability_of(text)
        if capability is not None and (not text.strip().isdigit() or self.exists(capability)):
            return GpuKind(capability=capability)
        name = plain_name(text)
        found = self.gpus.get(name)
        if found is None and (short := f"rtx {name}") in self.gpus:
            name, found = short, self.gpus[short]
        if found is None:
            raise self._unknown(text, name)
        return GpuKind(capability=found, name=name)

    def _unknown(self, text: str, name: str) -> HardwareError:
        """Return what is wrong with a name that is not in the table: whose it is, or which is near.

        Where none is near, a name of NVIDIA's within the text is the one that is meant.
        """
        held = self._held(text)
        if (maker := _other_maker(text, is_likely=not held)) is not None:
            return HardwareError(
                f"{text!r}: is a GPU of {maker}, which needs builds of torch and vLLM for"
                f" {_NEEDS[maker]}, and the wheels that are known here are for CUDA; name an NVIDIA"
                " GPU"
            )
        message = (
            f"{text!r}: is not a known GPU; write its compute capability, as sm_90 or 9.0"
            " (nvidia-smi --query-gpu=compute_cap --format=csv)"
        )
        # The names of unlike GPUs differ in a digit or two: the first letter tells the series.
        series = [known for known in self.gpus if known[:1] == name[:1]]
        near = nearest(name, series) or (held[0] if len(held) == 1 else None)
        return HardwareError(with_meant(message, near))

    def _held(self, text: str) -> list[str]:
        """Return the known names that a text holds as words, none of them within another."""
        words = f" {_RX.sub('rtx ', ' '.join(re.findall(r'[a-z0-9]+', _words(text))))} "
        held = [name for name in self.gpus if f" {name} " in words]
        return [
            name
            for name in held
            if not any(f" {name} " in f" {other} " and name != other for other in held)
        ]

    def branches(self, capability: Capability) -> DriverBranches:
        """Return the branches of the driver that know a GPU.

        Where no row has the first one, it is that of the first CUDA that knows the GPU. The oldest
        CUDA of the table is not: an older one may have known its GPUs too.
        """
        known = self.drivers.get(capability, NO_BRANCHES)
        since = self.known_since(capability)
        if known.first is not None or since is None or since == self.oldest_cuda:
            return known
        return known._replace(first=self.cuda[since].own.partition(".")[0])

    def exists(self, capability: Capability) -> bool:
        """Tell whether a known GPU or CUDA is of a compute capability."""
        return capability in self.gpus.values() or self.known_since(capability) is not None

    def processor_of(self, gpu: GpuKind) -> str | None:
        """Return the processor that a GPU comes with; None for one that fits several."""
        return None if gpu.name is None else self.processors.get(gpu.name)

    def capability_of(self, name: str) -> Capability | None:
        """Return the compute capability of a GPU by the name that a driver reports."""
        return self.gpus.get(plain_name(name))

    def needs(self, cuda: str) -> CudaRelease | None:
        """Return what a CUDA needs; None for one that is not in the table."""
        return self.cuda.get(cuda)

    def least_driver(self, cuda: str) -> str | None:
        """Return the oldest driver that runs programs of a CUDA; None for an unknown major.

        The releases of a major share it, so one that is not in the table has that of the newest.
        """
        if (known := self.needs(cuda)) is not None:
            return known.least
        major = parse_version(cuda).major
        same = [row for row in self.cuda.values() if parse_version(row.version).major == major]
        return same[-1].least if same else None

    @property
    def oldest_cuda(self) -> str | None:
        """Return the first CUDA of the table; an older one may have known its GPUs too."""
        return next(iter(self.cuda), None)

    def known_since(self, capability: Capability) -> str | None:
        """Return the first CUDA that knows a GPU; None if no known one does."""
        return next((row.version for row in self.cuda.values() if capability in row.adds), None)

    def known_until(self, capability: Capability) -> str | None:
        """Return the first CUDA that knows a GPU no more; None if every later one knows it."""
        return next((row.version for row in self.cuda.values() if capability in row.removes), None)

    def knows(self, cuda: str, capability: Capability) -> bool:
        """Tell whether the compiler of a CUDA knows a GPU."""
        since, until = self.known_since(capability), self.known_until(capability)
        if since is None:
            return False
        asked = parse_version(cuda)
        return asked >= parse_version(since) and (until is None or asked < parse_version(until))

    def refuses(self, case: str, capability: Capability) -> ModelNeed | None:
        """Return why some vLLM refuses a model on a GPU; None if none is known to."""
        return next(
            (need for need in self.models if need.case == case and capability < need.least), None
        )

    def others(self, project: str, version: str) -> tuple[tuple[str, Flavour], ...]:
        """Return each further CUDA for which there are wheels of a release elsewhere."""
        return tuple(
            (cuda, flavour)
            for flavour in self.flavours
            if flavour.project == project and flavour.versions.contains(version)
            for cuda in flavour.cuda
        )


def capability_of(text: str) -> Capability | None:
    """Return the compute capability of a text such as `sm_90a`, `90` or `9.0`; None for others.

    >>> capability_of("sm_121"), capability_of("h100")
    (Capability(major=12, minor=1), None)
    """
    text = text.strip().lower()
    if found := _CAPABILITY.fullmatch(text):
        return Capability(int(found["major"]), int(found["minor"]))
    if found := _ARCH.fullmatch(text):
        digits = found["digits"]
        return Capability(int(digits[:-1]), int(digits[-1]))
    return None


def plain_name(text: str) -> str:
    """Return the name of a GPU without maker, series, memory and form.

    >>> plain_name("NVIDIA H100 80GB HBM3"), plain_name("GeForce-RTX_5090"), plain_name("rtx5090")
    ('h100', 'rtx 5090', 'rtx 5090')
    """
    return _FORM.sub("", _words(text))


def _words(text: str) -> str:
    """Return the words of the name of a GPU, without its maker and series."""
    words = _MAKERS.sub(" ", re.sub(r"[-_\s]+", " ", text.lower()))
    words = re.sub(r"\brtx(?=[0-9])|(?<=[0-9])(?=ti\b)", r"\g<0> ", words)
    return " ".join(words.split())


def _other_maker(text: str, *, is_likely: bool) -> str | None:
    """Return who makes a GPU that is not NVIDIA's; None if its name does not say so.

    `is_likely` takes the word of a name that may say something else, too.
    """
    words = re.sub(r"[-_\s]+", " ", text.lower())
    forms = (*_OTHERS, *(_LIKELY_OTHERS if is_likely else ()))
    return next((maker for maker, form in forms if form.search(words)), None)


def driver_of(text: str) -> Driver:
    """Return the driver that a person names. Raises HardwareError, which says what to write."""
    if not _DRIVER.fullmatch(text):
        raise HardwareError(
            f"{text!r}: is not a version of a driver; write it as 580 or 580.95.05"
            " (nvidia-smi --query-gpu=driver_version --format=csv)"
        )
    return Driver(text, _numbers(text))


def flavour_name(cuda: str) -> str:
    """Return the name of wheels for a CUDA: `cu129` of 12.9."""
    return f"cu{cuda.replace('.', '')}"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
