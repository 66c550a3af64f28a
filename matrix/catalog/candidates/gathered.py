"""Make a candidate from what a person named: an index, a wheel, a source distribution.

These functions ask an index or read files, once. Nothing of a candidate is run or imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from matrix._util.scratch import Scratch
from matrix._util.text import listed
from matrix._util.versions import minor_of
from matrix.catalog.candidates.addresses import without_secrets
from matrix.catalog.candidates.channels import Place
from matrix.catalog.candidates.choose import (
    Chosen,
    Tags,
    choose_files,
    choose_version,
    machine_tags,
    recorded,
)
from matrix.catalog.candidates.companions import find_companions
from matrix.catalog.candidates.model import (
    Candidate,
    CandidateError,
    Commit,
    File,
    OnIndex,
    Project,
    Sdist,
    Tree,
    Wheel,
)
from matrix.catalog.index import Index, PublishedFile, read_members
from matrix.catalog.located import find_file, name_of
from matrix.catalog.package_metadata import (
    ReleaseMetadata,
    metadata_of,
    read_torch,
    read_vllm,
    wanted_member,
)
from matrix.catalog.release import COMPANIONS
from matrix.catalog.releases import Releases
from matrix.catalog.revision import VERSION_FILES, revision_of

_LOCAL_CUDA = re.compile(r"cu(\d+)(\d)")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a person asks for besides where it is.

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
    """A candidate, and what a person must know of it."""

    candidate: Candidate
    notes: tuple[str, ...] = ()


def from_index(
    wanted: Wanted,
    place: Place,
    version: str | None,
    releases: Releases,
    *,
    index: Index,
    tags: Tags = machine_tags,
) -> Gathered:
    """Read an index once, and return the candidate of a version, by default the newest.

    Raises FetchError where the index does not answer, CandidateError where it has no such version
    or none for this machine and these Pythons.
    """
    where = f"the index {place.index}"
    files = choose_version(wanted.project, index.files(wanted.project), version, where)
    chosen = choose_files(
        wanted.project, files, wanted.pythons or releases.pythons, where, tags=tags
    )
    _check_pythons(wanted, chosen, where)
    members = _members(index, wanted.project, chosen.files[0])
    own = tuple(recorded(file, index.digest(file)) for file in chosen.files)
    source = OnIndex(index=place.index, version=chosen.version, channel=place.channel)
    candidate = _candidate(wanted, source, own, members)
    if wanted.project is Project.VLLM:
        return Gathered(candidate=candidate)
    found = find_companions(
        index, chosen, metadata_of(members), releases.torch, where=where, tags=tags
    )
    candidate = replace(
        candidate, companions=found.files, pins=dict(found.pins), without=found.without
    )
    return _with_named(Gathered(candidate=candidate, notes=found.notes), wanted)


def from_wheel(
    wanted: Wanted,
    location: str,
    sha256: str | None,
    releases: Releases,
    *,
    tags: Tags = machine_tags,
) -> Gathered:
    """Read one wheel, by its path or address, and return it as a candidate.

    The companions of a torch are those of the newest known torch of its minor release, unless named
    ones take their place. Raises FetchError where the wheel cannot be had, CandidateError where it
    is of another project or machine or its hash differs.
    """
    file, members = _wheel(location, sha256, _wanted_of(wanted.project))
    project = file.project
    if project != str(wanted.project):
        raise CandidateError(f"{file.name}: is a wheel of {project}, not of {wanted.project}")
    published = [PublishedFile(project=project, version="", filename=file.name, url=file.url)]
    chosen = choose_files(
        project, published, wanted.pythons or releases.pythons, file.name, tags=tags
    )
    _check_pythons(wanted, chosen, file.name)
    source = Wheel(location=without_secrets(location), sha256=file.sha256)
    candidate = _candidate(wanted, source, (file,), members)
    if wanted.project is Project.VLLM:
        return Gathered(candidate=candidate)
    return _with_named(_with_known(candidate, releases), wanted)


def from_sdist(wanted: Wanted, location: str, sha256: str | None) -> Gathered:
    """Read a source distribution of vLLM, by its path or address, and return it as a candidate.

    Raises FetchError where it cannot be had, CandidateError where it is none of vLLM.
    """
    name = name_of(location)
    try:
        project, version = parse_sdist_filename(name)
    except InvalidSdistFilename:
        raise CandidateError(
            f"--sdist {without_secrets(location)}: is not the name of a source distribution, such"
            " as vllm-0.33.0.tar.gz"
        ) from None
    if str(project) != str(Project.VLLM):
        raise CandidateError(f"{name}: is a source distribution of {project}, not of vllm")
    with Scratch("candidate") as folder:
        path, digest = find_file(location, folder, sha256=sha256)
        members = read_members(path, wanted_member)
    read = read_vllm(str(version), members, "sdist")
    source = Sdist(location=_place(location), sha256=digest)
    return Gathered(candidate=built(wanted, source, str(version), read))


def built(
    wanted: Wanted, source: Sdist | Commit | Tree, version: str, read: ReleaseMetadata
) -> Candidate:
    """Return a candidate of vLLM that is built from its sources, by what these say of it."""
    facts = read.facts
    pins = {key: facts[key] for key in ("torch", *COMPANIONS) if key in facts}
    if wanted.pin is not None:
        pins["torch"] = wanted.pin
    return Candidate(
        project=Project.VLLM,
        name=wanted.name,
        version=version,
        source=source,
        pins=pins,
        python=SpecifierSet(facts["python"]) if "python" in facts else None,
        cuda=facts.get("cuda"),
    )


def _candidate(
    wanted: Wanted, source: OnIndex | Wheel, files: tuple[File, ...], members: Mapping[str, str]
) -> Candidate:
    """Return a candidate of wheels, by its files and the text of some members of one of them."""
    project, version = wanted.project, files[0].version
    if project is Project.TORCH:
        read = read_torch(version, metadata_of(members), "wheel")
        pins: dict[str, str] = {}
    else:
        read = read_vllm(version, members, "wheel")
        pins = {key: read.facts[key] for key in ("torch", *COMPANIONS) if key in read.facts}
        if wanted.pin is not None:
            pins["torch"] = wanted.pin
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


def _cuda_of(version: str) -> str | None:
    """Return the CUDA in a local part, such as 13.0 of `2.16.0+cu130`."""
    found = _LOCAL_CUDA.fullmatch(Version(version).local or "")
    return f"{found[1]}.{found[2]}" if found else None


def _check_pythons(wanted: Wanted, chosen: Chosen, where: str) -> None:
    missing = [python for python in wanted.pythons if python not in chosen.by_python]
    if missing:
        raise CandidateError(
            f"{where}: {wanted.project} {chosen.version} has no wheel for Python {listed(missing)},"
            f" only for {listed(list(chosen.by_python))}"
        )


def _wanted_of(project: Project) -> frozenset[str]:
    return frozenset({VERSION_FILES[project]})


def _members(index: Index, project: Project, file: PublishedFile) -> Mapping[str, str]:
    """Return a wheel's metadata and its version file; the metadata alone where that is cheap."""
    own = _wanted_of(project)
    if not index.ranged(file) and (served := index.served_metadata(file)) is not None:
        return {"METADATA": served}
    return index.members(file, lambda name: name in own or wanted_member(name))


def _with_known(candidate: Candidate, releases: Releases) -> Gathered:
    """Return a torch with the companions of the newest known torch of its minor release."""
    minor = minor_of(candidate.version)
    near = [row for row in releases.torch if minor_of(row.version) == minor]
    same = [row for row in near if Version(row.version) == Version(candidate.version).public]
    row = (same or near)[-1] if near else None
    pins = {name: getattr(row, name) for name in COMPANIONS if getattr(row, name, None)}
    without = tuple(name for name in COMPANIONS if name not in pins)
    notes = [f"{name} {pins[name]} comes from your own index" for name in pins]
    notes += [f"no {name} for it; it goes without, or name one: --companion" for name in without]
    return Gathered(candidate=replace(candidate, pins=pins, without=without), notes=tuple(notes))


def _with_named(gathered: Gathered, wanted: Wanted) -> Gathered:
    """Return a torch with the companions that a person named in place of those that were found."""
    candidate, chosen = gathered.candidate, wanted.companion_pins or {}
    given = [_wheel(location, None, frozenset())[0] for location in wanted.companions]
    named = {file.project for file in given} | chosen.keys()
    kept = tuple(file for file in candidate.companions if file.project not in named)
    pins = {name: pin for name, pin in candidate.pins.items() if name not in named}
    changed = replace(
        candidate,
        companions=(*kept, *given),
        pins={**pins, **chosen},
        without=tuple(name for name in candidate.without if name not in named),
    )
    notes = tuple(note for note in gathered.notes if not any(f"{name} " in note for name in named))
    return Gathered(candidate=changed, notes=notes)


def _wheel(
    location: str, sha256: str | None, more: frozenset[str]
) -> tuple[File, Mapping[str, str]]:
    """Return a wheel as a file, with its hash, and the text of its wanted members."""
    name = name_of(location)
    try:
        parse_wheel_filename(name)
    except (InvalidWheelFilename, ValueError):
        raise CandidateError(
            f"{without_secrets(location)}: is not the name of a wheel, such as"
            " torch-2.16.0-cp312-cp312-manylinux_2_28_x86_64.whl"
        ) from None
    with Scratch("candidate") as folder:
        path, digest = find_file(location, folder, sha256=sha256)
        members = read_members(path, lambda member: member in more or wanted_member(member))
        size = path.stat().st_size
    if "://" in location:
        published = PublishedFile(project="", version="", filename=name, url=location, size=size)
        return recorded(published, digest), members
    url = Path(location).resolve().as_uri()
    return File(name=name, url=url, sha256=digest, size=size), members


def _place(location: str) -> str:
    """Return a location as it is recorded: an address without secrets, or a whole path."""
    return without_secrets(location) if "://" in location else str(Path(location).resolve())


def pythons_of(candidate: Candidate, every: Sequence[str]) -> tuple[str, ...]:
    """Return the Pythons of the matrix that a candidate can be installed on."""
    return tuple(python for python in every if candidate.accepts(python))
