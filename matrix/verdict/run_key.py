"""The key of a cell: what decides whether its record holds, part by part.

Pure. A key has a part for all that a run's answer depends on: releases, startup tests, wheels and
other packages, the kind of machine, GPU and driver, flags. A record has one, and so has what would
run here and now, as far as that is known without installing anything. The record holds where no
part differs. A part that one of the two keys does not know never differs; it is *not compared*,
and the plan names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from packaging.version import InvalidVersion

from matrix._util.versions import parse_version
from matrix.catalog.cells import PROJECTS, Cell, build_of
from matrix.catalog.projects import Project
from matrix.record.environment import OWN_PACKAGES
from matrix.record.model import Platform, Record
from matrix.record.startup_tests import StartupTests
from matrix.verdict import plan_reasons as reasons
from matrix.verdict.grid import ran_cell
from matrix.verdict.plan_reasons import KeyPart

OF_THE_ENVIRONMENT = frozenset(KeyPart) - {KeyPart.RELEASES, KeyPart.TESTS}
"""The parts in which two machines, or two environments of one cell, can differ."""

_OF_THE_HARNESS = frozenset((*OWN_PACKAGES, "iniconfig", "pluggy", "pytest"))
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class WheelFile(NamedTuple):
    """A wheel by the digest of its rows of RECORD, and by its SHA-256; None if not known."""

    content: str | None = None
    sha256: str | None = None


class Packages(NamedTuple):
    """The versions of packages by normalized name.

    They are all packages of an environment, or some that the resolver found on the day `asked`.
    """

    versions: Mapping[str, str]
    asked: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunKey:
    """The key of a record, or of what would run; a part that nobody knows is None or empty.

    `day` is when it ran. `files` are the wheels of torch and vLLM, by project. `gpus` are the kinds
    of GPU: that of the run, or each that is here, of which one is enough. `driver` has the first
    two numbers of the version. `flags` are those that a run saw, or that are asked for.
    """

    cell: Cell | None = None
    day: str = ""
    files: Mapping[str, WheelFile] = field(default_factory=dict)
    packages: Packages | None = None
    machine: str | None = None
    gpus: frozenset[str] = frozenset()
    driver: str | None = None
    flags: Mapping[str, object] = field(default_factory=dict)


class Here(Protocol):
    """The run that would happen here, and the records other than those that count."""

    def key(self, cell: Cell, platform: Platform, *, off_pin: bool) -> RunKey:
        """Return the key of a run of the cell on the platform, if it began now."""
        ...

    def others(self, cell: str, platform: Platform) -> Iterable[Record]:
        """Return the records of a cell on a platform, also those that do not count."""
        ...


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """In which parts a record differs from what would run, and which were not compared.

    `tests_changed` are the versions of the startup tests that can affect the record.
    """

    differences: tuple[reasons.KeyDifference, ...] = ()
    not_compared: tuple[KeyPart, ...] = ()
    tests_changed: tuple[int, ...] = ()

    @property
    def parts(self) -> tuple[KeyPart, ...]:
        """The parts that differ, each once."""
        return tuple(dict.fromkeys(_PARTS[difference.code] for difference in self.differences))


_PARTS = {
    reasons.PlanCode.OTHER_RELEASES: KeyPart.RELEASES,
    reasons.PlanCode.OTHER_BUILD: KeyPart.RELEASES,
    reasons.PlanCode.UNKNOWN_TESTS: KeyPart.TESTS,
    reasons.PlanCode.TESTS_CHANGED: KeyPart.TESTS,
    reasons.PlanCode.OTHER_FILE: KeyPart.FILES,
    reasons.PlanCode.OTHER_PACKAGES: KeyPart.PACKAGES,
    reasons.PlanCode.OTHER_MACHINE: KeyPart.MACHINE,
    reasons.PlanCode.OTHER_GPU: KeyPart.GPU,
    reasons.PlanCode.OTHER_DRIVER: KeyPart.DRIVER,
    reasons.PlanCode.OTHER_FLAGS: KeyPart.FLAGS,
}


def part_of(reason: reasons.StaleReason | None) -> KeyPart | None:
    """Return the part of the key that a reason is of; None for any other reason."""
    return None if reason is None else _PARTS.get(reason.code)


def key_of(record: Record) -> RunKey:
    """Return the key of a record, as far as the record knows it."""
    gpu = record.provenance.get("gpu")
    facts = gpu if isinstance(gpu, Mapping) else {}
    name, driver = _text(facts.get("name")), _text(facts.get("driver"))
    return RunKey(
        cell=ran_cell(record),
        day=record.started[:10],
        files={
            origin.project: WheelFile(content=origin.content, sha256=origin.sha256)
            for origin in record.origins or ()
        },
        packages=Packages(versions=record.packages) if record.packages else None,
        machine=_text(record.provenance.get("machine")),
        gpus=frozenset((name,)) if name else frozenset(),
        driver=driver and driver_release(driver),
        flags=record.flags,
    )


def driver_release(version: str) -> str:
    """Return the release of an NVIDIA driver, without the number of its build.

    >>> driver_release("580.159.04")
    '580.159'
    """
    return ".".join(version.split(".")[:2])


def other_releases(
    ran: Cell | None, now: Cell | None
) -> reasons.RanOtherReleases | reasons.OtherBuild | None:
    """Return how the releases that ran differ from those that would run, or None.

    Two builds of one candidate differ too. What nobody knows does not differ.
    """
    if ran is None or now is None or ran == now:
        return None
    pairs = [(getattr(ran, project), getattr(now, project)) for project in PROJECTS]
    differing = [(before, after) for before, after in pairs if before != after]
    if len(differing) == 1:
        one, other = map(build_of, differing[0])
        if one is not None and other is not None and one.name == other.name:
            return reasons.OtherBuild(candidate=one.name, ran=one.identity, here=other.identity)
    return reasons.RanOtherReleases(torch=ran.torch, vllm=ran.vllm)


def compare(record: Record, now: RunKey, tests: StartupTests) -> Comparison:
    """Hold a record against what would run now.

    Startup tests that this checkout does not know differ from its own: nobody knows what such a
    record measured. Where the releases differ nothing else is compared.
    """
    ran = key_of(record)
    releases = other_releases(ran.cell, now.cell)
    if releases is not None:
        return Comparison(differences=(releases,))
    found: list[reasons.KeyDifference] = []
    unknown: list[KeyPart] = [KeyPart.RELEASES] if None in (ran.cell, now.cell) else []
    changes = tests.changes_since(record)
    if changes is None:
        found.append(reasons.UnknownTests())
    elif changes:
        found.append(reasons.TestsChanged(changes=tuple(change.changed for change in changes)))
    for part, difference in _compared(ran, now, record.platform):
        if difference is None:
            unknown.append(part)
        else:
            found += difference
    return Comparison(
        differences=tuple(found),
        not_compared=tuple(unknown),
        tests_changed=tuple(change.number for change in changes or ()),
    )


_Compared = tuple[KeyPart, "tuple[reasons.KeyDifference, ...] | None"]
"""A part, and how it differs; None if it was not compared."""


def _compared(ran: RunKey, now: RunKey, platform: Platform) -> Iterable[_Compared]:
    """Yield each part that depends on the environment or the machine."""
    yield from _files(ran.files, now.files)
    yield KeyPart.PACKAGES, _packages(ran, now.packages)
    if ran.machine is None or now.machine is None:
        yield KeyPart.MACHINE, None
    elif ran.machine != now.machine:
        yield KeyPart.MACHINE, (reasons.OtherMachine(ran=ran.machine, here=now.machine),)
    if platform is Platform.CUDA:
        yield KeyPart.GPU, _gpus(ran.gpus, now.gpus)
        if ran.driver is None or now.driver is None:
            yield KeyPart.DRIVER, None
        elif ran.driver != now.driver:
            yield KeyPart.DRIVER, (reasons.OtherDriver(ran=ran.driver, here=now.driver),)
    yield from _flags(ran.flags, now.flags)


def _files(ran: Mapping[str, WheelFile], now: Mapping[str, WheelFile]) -> Iterable[_Compared]:
    """Yield the wheels that differ, and once that some were not compared.

    Two files that hold the same are the same file, whatever an index made of it.
    """
    unknown = False
    for project in Project:
        before, after = ran.get(project, WheelFile()), now.get(project, WheelFile())
        for digest, other in zip(before, after, strict=True):
            if digest is not None and other is not None:
                if digest != other:
                    differs = reasons.OtherFile(project=project, ran=digest, here=other)
                    yield KeyPart.FILES, (differs,)
                break
        else:
            unknown = True
    if unknown:
        yield KeyPart.FILES, None


def _packages(ran: RunKey, now: Packages | None) -> tuple[reasons.KeyDifference, ...] | None:
    if ran.packages is None or now is None:
        return None
    before, after = ran.packages.versions, now.versions
    if before == after:
        return ()
    if now.asked is None:
        names = before.keys() | after.keys()
    elif now.asked > ran.day:
        # What is resolved has other releases of these in no cell.
        names = after.keys() - set(PROJECTS)
    else:
        return None  # it does not say what a resolver would find since the run
    changes = tuple(
        reasons.PackageChange(name=name, ran=before.get(name), here=after.get(name))
        for name in sorted(names - _OF_THE_HARNESS)
        if before.get(name) != after.get(name) and not _same(before.get(name), after.get(name))
    )
    return (reasons.OtherPackages(changes=changes, resolved=now.asked),) if changes else ()


def _same(one: str | None, other: str | None) -> bool:
    """Tell whether two texts are one version, as a folder's name and metadata may spell it."""
    if one is None or other is None:
        return False
    try:
        return parse_version(one) == parse_version(other)
    except InvalidVersion:
        return False


def _gpus(ran: frozenset[str], now: frozenset[str]) -> tuple[reasons.KeyDifference, ...] | None:
    if not ran or not now:
        return None
    if ran & now:
        return ()
    return (reasons.OtherGpu(ran=" or ".join(sorted(ran)), here=tuple(sorted(now))),)


def _flags(ran: Mapping[str, object], asked: Mapping[str, object]) -> Iterable[_Compared]:
    """Yield the flags that are asked for and that a run saw with other values.

    Those that its record does not list were not compared.
    """
    changes = tuple(
        reasons.FlagChange(name=name, ran=_flag_text(ran[name]), asked=_flag_text(value))
        for name, value in sorted(asked.items())
        if name in ran and _flag_text(ran[name]) != _flag_text(value)
    )
    if changes:
        yield KeyPart.FLAGS, (reasons.RanWithOtherFlags(flags=changes),)
    if not asked.keys() <= ran.keys():
        yield KeyPart.FLAGS, None


def _flag_text(value: object) -> str:
    """Return the value of a flag as an environment variable has it.

    >>> _flag_text(True), _flag_text("false"), _flag_text(3)
    ('1', '0', '3')
    """
    text = str(value)
    if text.lower() in _TRUE:
        return "1"
    return "0" if text.lower() in _FALSE else text


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
