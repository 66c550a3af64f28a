"""A candidate as a person asks for it, and as it is made from its wheels or its sources. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix._util.text import listed
from matrix.catalog.candidates.choose import Chosen
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.model import Candidate, Commit, File, OnIndex, Sdist, Tree, Wheel
from matrix.catalog.package_metadata import ReleaseMetadata, metadata_of, read_torch, read_vllm
from matrix.catalog.projects import Project
from matrix.catalog.release import COMPANIONS
from matrix.catalog.revision import VERSION_FILES, revision_of

_LOCAL_CUDA = re.compile(r"cu(\d+)(\d)")


@dataclass(frozen=True, kw_only=True)
class CandidateRequest:
    """The request of a person, apart from the place.

    `pythons` are those that it must be for (empty: those of the matrix, as far as it has a wheel),
    `pin` the torch that a vLLM is for where its metadata says none, `companions` the wheels of
    companions that a person names, and `companion_pins` their releases from the own index.
    """

    name: str
    project: Project
    pythons: tuple[str, ...] = ()
    pin: str | None = None
    companions: tuple[str, ...] = ()
    companion_pins: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """A candidate, and what a person must know about it."""

    candidate: Candidate
    notes: tuple[str, ...] = ()


def check_pythons(wanted: CandidateRequest, chosen: Chosen, where: str) -> None:
    """Raise CandidateError if the chosen wheels leave out a Python that is asked for."""
    missing = [python for python in wanted.pythons if python not in chosen.by_python]
    if missing:
        raise CandidateError(
            f"{where}: {wanted.project} {chosen.version} has no wheel for Python {listed(missing)},"
            f" only for {listed(list(chosen.by_python))}"
        )


def built(
    wanted: CandidateRequest, source: Sdist | Commit | Tree, version: str, read: ReleaseMetadata
) -> Candidate:
    """Return a candidate of vLLM that is built from its sources, by what these say of it."""
    facts = read.facts
    return Candidate(
        project=Project.VLLM,
        name=wanted.name,
        version=version,
        source=source,
        pins=_pins(wanted, facts),
        python=SpecifierSet(facts["python"]) if "python" in facts else None,
        cuda=facts.get("cuda"),
    )


def of_wheels(
    wanted: CandidateRequest,
    source: OnIndex | Wheel,
    files: tuple[File, ...],
    members: Mapping[str, str],
) -> Candidate:
    """Return a candidate of wheels, by its files and the text of some members of one of them."""
    project, version = wanted.project, files[0].version
    if project is Project.TORCH:
        read = read_torch(version, metadata_of(members), "wheel")
        pins: dict[str, str] = {}
    else:
        read = read_vllm(version, members, "wheel")
        pins = _pins(wanted, read.facts)
    python = read.facts.get("python")
    return Candidate(
        project=project,
        name=wanted.name,
        version=version,
        source=source,
        files=files,
        pins=pins,
        python=SpecifierSet(python) if python else None,
        cuda=read.facts.get("cuda") or _cuda_of(version),
        revision=revision_of(project, version, members.get(VERSION_FILES[project])),
    )


def _pins(wanted: CandidateRequest, facts: Mapping[str, str]) -> dict[str, str]:
    """Return what a vLLM pins by its metadata; the torch that was asked for where it pins none."""
    pins = {key: facts[key] for key in ("torch", *COMPANIONS) if key in facts}
    return pins if wanted.pin is None else {"torch": wanted.pin, **pins}


def _cuda_of(version: str) -> str | None:
    """Return the CUDA in a local part, such as 13.0 of `2.16.0+cu130`."""
    found = _LOCAL_CUDA.fullmatch(Version(version).local or "")
    return f"{found[1]}.{found[2]}" if found else None


def pythons_of(candidate: Candidate, every: Sequence[str]) -> tuple[str, ...]:
    """Return the Pythons of the matrix that a candidate can be installed on."""
    return tuple(python for python in every if candidate.accepts(python))
