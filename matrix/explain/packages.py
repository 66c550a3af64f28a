"""Answers to packages that do not go together: pins, torchvision, FlashInfer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from packaging.version import InvalidVersion, Version

from matrix.advice.left_behind import WITH_FLASHINFER
from matrix.catalog.platform_tags import machine_of
from matrix.catalog.release import COMPANIONS, Vllm
from matrix.catalog.requirements import requirements_of
from matrix.explain.choice import InstallChoice
from matrix.explain.conflicts import PYTHON, is_own, is_within
from matrix.explain.model import (
    Demanded,
    Fault,
    FaultAnswer,
    FaultRemedy,
    KnownReleases,
    Meaning,
    RemedyCode,
    TextVersions,
)
from matrix.explain.pythons import python_answer
from matrix.explain.refused import refused_answer

_PROJECTS = ("torch", *COMPANIONS)
_VLLM = re.compile(r"vllm (?P<version>\S+)")
# A signature has <id> for a local version with a date or a hash in it.
_LOCAL = re.compile(r"(?:\+[A-Za-z0-9._-]+|<\w+>)+")


def conflict_answer(fault: Fault, choice: InstallChoice) -> FaultAnswer:
    """Return which vLLM goes with what excludes its pin, and what to install."""
    name = fault.subject or ""
    if fault.file:
        return refused_answer(fault, choice)
    if name == PYTHON and fault.demands:
        return python_answer(fault, choice)
    if fault.wants is not None and not fault.demands:
        return _no_such_version(fault, choice)
    ours = next((demand for demand in fault.demands if _VLLM.match(demand.who)), None)
    others = [_public(demand.range) for demand in fault.demands if demand is not ours]
    others += [_public(f"=={fault.has}")] if fault.has else []
    fits = _fitting(name, others[0]) if others else None
    holds = tuple(row.version for row in choice.vllms if fits and fits(row))
    asked = tuple(row.version for row in choice.vllms)
    newest = choice.newest(lambda row: row.version in holds)
    own = choice.newest(lambda row: ours is not None and ours.who == f"vllm {row.version}")
    remedies = (*choice.install(newest), *choice.install(own))
    own_demands = [demand for demand in fault.demands if is_own(demand.who)]
    if fault.has and fault.demands:
        remedies = (_as_demanded(fault.demands[0], choice), *choice.install(newest))
    elif own_demands and len(own_demands) == len(fault.demands):
        remedies = (_split(own_demands),)
    elif not remedies and own_demands:
        # What a person asked for can give way to what a package needs.
        needed = [demand for demand in fault.demands if demand not in own_demands]
        remedies = tuple(_as_demanded(demand, choice) for demand in needed)
    torch = None
    if name == "torch" and others:
        torch = KnownReleases(
            holds=tuple(version for version in choice.torches if is_within(version, others[0])),
            asked=tuple(choice.torches),
        )
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.PINS,
        torch=torch,
        vllm=KnownReleases(holds=holds, asked=asked) if others else None,
        operands={"name": name, "range": others[0]} if others else {},
        remedies=tuple(dict.fromkeys(remedies)),
    )


def _split(demands: Sequence[Demanded]) -> FaultRemedy:
    """Return what lets uv resolve what a user's own projects, or their extras, exclude.

    https://docs.astral.sh/uv/reference/settings/#conflicts
    """
    names = {re.split(r"[\[:]", demand.who)[0] for demand in demands}
    of_parts = len(names) == 1 and any(re.search(r"[\[:]", demand.who) for demand in demands)
    return FaultRemedy(code=RemedyCode.SPLIT_EXTRAS if of_parts else RemedyCode.SPLIT_MEMBERS)


def _as_demanded(demand: Demanded, choice: InstallChoice) -> FaultRemedy:
    """Return what fulfils a requirement of a text: a command, where the catalog has all of it.

    A package's name, or its version, may be of anybody's: only what is known becomes a command.
    """
    who, _, version = demand.who.partition(" ")
    row = choice.row(version) if who == "vllm" else None
    if row is not None and _fitting(demand.name, demand.range)(row):
        (pinned,) = choice.install(row)
        needed = f"{demand.name}{demand.range}"
        if demand.name == "torch":
            return pinned
        return replace(pinned, requirements=tuple(dict.fromkeys((*pinned.requirements, needed))))
    if who in COMPANIONS and demand.name == "torch":
        for torch in reversed(list(choice.torches.values())):
            if getattr(torch, who) == version and is_within(torch.version, demand.range):
                given = (f"{who}=={version}", f"torch=={torch.version}")
                return FaultRemedy(code=RemedyCode.INSTALL, requirements=given)
    needs = f"{demand.who or 'the request'} needs {demand.name}{demand.range}"
    return FaultRemedy(code=RemedyCode.REQUIREMENT, what=needs)


def _no_such_version(fault: Fault, choice: InstallChoice) -> FaultAnswer:
    """Return what is known of a version that an index does not have."""
    name, wanted = fault.subject or "", fault.wants or ""
    # `has` is the platform that lacks a wheel: the index has the version for others.
    platform = fault.has
    plain = wanted.partition("+")[0]
    if name == "vllm":
        known = tuple(row.version for row in choice.vllms)
        fits: Callable[[Vllm], bool] = lambda row: is_within(row.version, plain)  # noqa: E731 - as the next
    else:
        known = tuple(choice.torches) if name == "torch" else ()
        fits = _fitting(name, plain)
    newest = choice.newest(fits)
    if newest is None and name in (*_PROJECTS, "vllm"):
        newest = choice.newest()
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.NO_SUCH_VERSION,
        torch=KnownReleases(
            holds=tuple(version for version in known if is_within(version, plain)), asked=known
        )
        if name == "torch"
        else None,
        vllm=KnownReleases(
            holds=tuple(row.version for row in choice.vllms if fits(row)),
            asked=tuple(row.version for row in choice.vllms),
        ),
        operands={"name": name, "range": wanted, "local": "" if platform else _local(wanted)},
        remedies=(
            *(choice.install(newest) if platform is None or machine_of(platform) else ()),
            *(() if wanted or newest else (FaultRemedy(code=RemedyCode.SOURCES),)),
        ),
    )


def _local(wanted: str) -> str:
    """Return the local version of a pin to a release, as `cu128`; "" for none, or a candidate's.

    >>> _local("==2.11.0+cu128"), _local("==0.23.1rc1.dev1403+g408.cu129")
    ('cu128', '')
    """
    pin, _, local = wanted.removeprefix("==").partition("+")
    try:
        return "" if Version(pin).is_prerelease else local
    except InvalidVersion:
        return local


def _fitting(name: str, wanted: str) -> Callable[[Vllm], bool]:
    """Return whether the pin of a vLLM for a package is within a range, by the vLLM."""

    def fits(row: Vllm) -> bool:
        if name in _PROJECTS:
            pin = getattr(row, name)
            return pin is not None and is_within(pin, wanted)
        return any(is_within(pin, wanted) for pin in _pins(name, row.version))

    return fits


def _public(wanted: str) -> str:
    """Return a range without local versions, as `+cu128`, which no pin of a release has.

    >>> _public("==2.11.0+cu128"), _public(">=2,!=2.10.0+cpu")
    ('==2.11.0', '>=2,!=2.10.0')
    """
    return _LOCAL.sub("", wanted)


def vision_answer(fault: Fault, versions: TextVersions, choice: InstallChoice) -> FaultAnswer:
    """Return the torchvision that goes with the torch of a text, else with the newest pin."""
    newest, row = choice.newest(), choice.row(versions.vllm or "")
    own = choice.torches.get(versions.torch or (row.torch if row else ""))
    # What the text does not name may be broken by another torch: the newest pair goes apart.
    remedies = choice.install(newest)
    if own is not None:
        requirements = choice.companions(own)
        remedies = (FaultRemedy(code=RemedyCode.INSTALL, requirements=requirements),)
    torch = own or choice.torches.get(newest.torch if newest else "")
    known = tuple(version for version, row in choice.torches.items() if row.torchvision)
    operands = {
        f"torchvision {version}": str(choice.torches[version].torchvision) for version in known
    }
    if versions.torch not in choice.torches:
        operands["unknown torch"] = versions.torch or ""
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.OTHER_COMPANION,
        torch=KnownReleases(holds=(torch.version,) if torch else (), asked=known),
        vllm=choice.pinning([torch.version]) if torch else None,
        operands=operands,
        remedies=remedies,
    )


def flashinfer_answer(fault: Fault, choice: InstallChoice) -> FaultAnswer:
    """Return which vLLM pins the FlashInfer of a text, and what makes its packages alike."""
    wants = _release(fault.wants)
    package = fault.subject or ""
    holds = tuple(
        row.version for row in choice.vllms if wants in _pins("flashinfer-python", row.version)
    )
    # vLLM 0.26 and newer require no cubins; for those an old one that was left is too much.
    both = any(wants in _pins(package, version) for version in holds)
    if wants is None or package not in WITH_FLASHINFER:
        remedies: tuple[FaultRemedy, ...] = ()
    elif both:
        named = (f"flashinfer-python=={wants}", f"{package}=={wants}")
        remedies = (FaultRemedy(code=RemedyCode.INSTALL, requirements=named),)
    else:
        remedies = (FaultRemedy(code=RemedyCode.REMOVE, requirements=(package,)),)
    other = _release(fault.has)
    operands = {"package": package, "has": fault.has or "", "wants": fault.wants or ""}
    with_other = [
        row.version for row in choice.vllms if other in _pins("flashinfer-python", row.version)
    ]
    if other and with_other:
        operands["vllm of the other"] = f"{with_other[0]} {with_other[-1]}"
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.VERSIONS_DIFFER,
        vllm=KnownReleases(holds=holds, asked=tuple(row.version for row in choice.vllms)),
        operands=operands,
        remedies=(*remedies, *(choice.install(choice.newest(lambda row: row.version in holds)))),
    )


def _release(version: str | None) -> str | None:
    """Return a version without its local part; None for what is none."""
    try:
        return Version(version).public if version else None
    except InvalidVersion:
        return None


def _pins(package: str, vllm: str) -> tuple[str, ...]:
    """Return the versions that a vLLM pins a package to: one, or none."""
    bounds = (bound for found in requirements_of(vllm, package) for bound in found.specifier)
    return tuple(bound.version for bound in bounds if bound.operator == "==")
