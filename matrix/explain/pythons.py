"""The answer to a Python that a release does not accept."""

from __future__ import annotations

import re

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix.catalog.release import Vllm
from matrix.explain.choice import InstallChoice
from matrix.explain.model import Fault, FaultAnswer, KnownReleases, Meaning

_VERSION = re.compile(r"\d+(?:\.\d+){1,2}")


def python_answer(fault: Fault, choice: InstallChoice) -> FaultAnswer:
    """Return whether a Python is too old or too new, and the install with one that fits.

    pip names the versions that it ignored without their package: it is vLLM where that has a
    release of this version for these Pythons.
    """
    demand = fault.demands[0]
    if not demand.range:
        own = choice.install(choice.row(fault.wants or ""))
        operands = {"who": demand.who, "range": ""}
        return FaultAnswer(
            fault=fault, meaning=Meaning.OTHER_PYTHON, operands=operands, remedies=own
        )
    who = demand.who or _vllm_of(fault, choice)
    project, _, version = who.partition(" ")
    needed = _specifiers(demand.range)
    operands = {"who": who, "range": _words(needed) if needed else demand.range}
    if fault.has and (order := _order(fault.has, needed)):
        operands["order"] = order

    def fits(row: Vllm) -> bool:
        release = {"vllm": row.version, "torch": row.torch}.get(project)
        return release is not None and release == version.partition("+")[0]

    known = _accepting(fault.has, choice) if fault.has else None
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.OTHER_PYTHON,
        vllm=known,
        operands=operands,
        remedies=choice.install(choice.newest(fits)),
    )


def _vllm_of(fault: Fault, choice: InstallChoice) -> str:
    row = choice.row(fault.wants or "")
    is_vllm = row is not None and row.python == _specifiers(fault.demands[0].range)
    return f"vllm {fault.wants}" if is_vllm else ""


def _accepting(python: str, choice: InstallChoice) -> KnownReleases | None:
    """Return the vLLMs that accept a Python; None for a range, as uv has it of a project."""
    try:
        version = Version(python)
    except InvalidVersion:
        return None
    return KnownReleases(
        holds=tuple(row.version for row in choice.vllms if row.python.contains(version)),
        asked=tuple(row.version for row in choice.vllms),
    )


def _order(python: str, needed: SpecifierSet | None) -> str | None:
    """Return whether a Python, or the least of a range, is too old or too new; None if neither."""
    found = _VERSION.search(python)
    if found is None or needed is None or needed.contains(found[0]):
        return None
    least = [
        Version(clause.version.removesuffix(".*"))
        for clause in needed
        if clause.operator in (">", ">=", "~=", "==")
    ]
    return "old" if least and Version(found[0]) < max(least) else "new"


def _words(needed: SpecifierSet) -> str:
    """Return a range with its least first, as people write it."""
    return ",".join(sorted(map(str, needed), reverse=True))


def _specifiers(wanted: str) -> SpecifierSet | None:
    try:
        return SpecifierSet(wanted)
    except InvalidSpecifier:
        return None
