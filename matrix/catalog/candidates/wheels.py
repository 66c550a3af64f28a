"""Make a candidate from a wheel by its path or address, and read those of companions likewise.

Nothing of a candidate is run or imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from matrix._util.addresses import without_secrets
from matrix._util.scratch import Scratch
from matrix._util.versions import minor_of
from matrix.catalog.candidates.choose import (
    Tags,
    choose_files,
    choose_version,
    machine_tags,
    recorded,
)
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.gathered import CandidateRequest, Gathered, check_pythons, of_wheels
from matrix.catalog.candidates.model import Candidate, File, Wheel
from matrix.catalog.index import FetchError, Index, NoProjectError, read_members
from matrix.catalog.located import find_file, name_of, place_of
from matrix.catalog.package_metadata import wanted_member
from matrix.catalog.projects import Project
from matrix.catalog.published_file import PublishedFile
from matrix.catalog.release import COMPANIONS
from matrix.catalog.releases import Releases
from matrix.catalog.revision import VERSION_FILES


def from_wheel(
    wanted: CandidateRequest,
    location: str,
    sha256: str | None,
    releases: Releases,
    *,
    tags: Tags = machine_tags,
) -> Gathered:
    """Read one wheel, by its path or address, and return it as a candidate.

    The companions of a torch are those of the newest known torch of its minor release, unless named
    ones take their place. Raises FetchError if the wheel cannot be had, CandidateError if it
    is of another project or machine or its hash differs.
    """
    file, members = _read_wheel(location, sha256, VERSION_FILES[wanted.project])
    project = file.project
    if project != str(wanted.project):
        raise CandidateError(f"{file.name}: is a wheel of {project}, not of {wanted.project}")
    published = [PublishedFile(project=project, version="", filename=file.name, url=file.url)]
    chosen = choose_files(
        project, published, wanted.pythons or releases.pythons, file.name, tags=tags
    )
    check_pythons(wanted, chosen, file.name)
    source = Wheel(location=place_of(location), sha256=file.sha256)
    candidate = of_wheels(wanted, source, (file,), members)
    if wanted.project is Project.VLLM:
        return Gathered(candidate=candidate)
    return with_named(_with_known(candidate, releases), wanted, releases, tags=tags)


def named_companions(wanted: CandidateRequest) -> tuple[str, ...]:
    """Return the companions that a person names, as a candidate's source has them."""
    pins = (f"{name}=={version}" for name, version in (wanted.companion_pins or {}).items())
    return (*pins, *map(place_of, wanted.companions))


def with_named(
    gathered: Gathered,
    wanted: CandidateRequest,
    releases: Releases,
    *,
    tags: Tags = machine_tags,
    own_index: Callable[[], Index] = Index,
) -> Gathered:
    """Return a torch with the companions that a person named in place of those that were found.

    A release of one is asked of the user's own index, where uv will take it from. Raises
    CandidateError if that does not have it, and where a release or a wheel is not for this
    machine, or for no Python of the torch.
    """
    candidate, chosen = gathered.candidate, wanted.companion_pins or {}
    pythons = [python for python in releases.pythons if candidate.accepts(python)]
    given = [_companion(location, pythons, tags) for location in wanted.companions]
    named = {file.project for file in given} | chosen.keys()
    kept = tuple(file for file in candidate.companions if file.project not in named)
    pins = {name: pin for name, pin in candidate.pins.items() if name not in named}
    changed = replace(
        candidate,
        companions=(*kept, *given),
        pins={**pins, **chosen},
        without=tuple(name for name in candidate.without if name not in named),
    )
    notes = [note for note in gathered.notes if not any(f"{name} " in note for name in named)]
    if chosen:
        with closing(own_index()) as index:
            notes += _check_releases(chosen, pythons, index, tags)
    return Gathered(candidate=changed, notes=tuple(notes))


def _check_releases(
    chosen: Mapping[str, str], pythons: Sequence[str], index: Index, tags: Tags
) -> Iterator[str]:
    """Look for releases of companions on an index; yield what cannot be known."""
    for name, version in chosen.items():
        where = f"--companion {name}=={version}: your own index"
        try:
            files = choose_version(
                name,
                index.files(name),
                version,
                where,
                another="name a wheel",
                build=f"name one: --companion {name}=={version}+...",
            )
        except NoProjectError:
            raise CandidateError(f"{where} has no {name}; name a wheel") from None
        except FetchError:
            yield f"your own index could not be asked whether it has {name} {version}"
            continue
        choose_files(name, files, pythons, where, tags=tags)


def _companion(location: str, pythons: Sequence[str], tags: Tags) -> File:
    """Return the wheel of a companion that can be installed under one of these Pythons."""
    file, _ = _read_wheel(location)
    published = PublishedFile(project=file.project, version="", filename=file.name, url=file.url)
    choose_files(file.project, [published], pythons, f"--companion {file.name}", tags=tags)
    return file


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


def _read_wheel(
    location: str, sha256: str | None = None, more: str | None = None
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
        members = read_members(path, lambda member: member == more or wanted_member(member))
        size = path.stat().st_size
    if "://" in location:
        published = PublishedFile(project="", version="", filename=name, url=location, size=size)
        return recorded(published, digest), members
    url = Path(location).resolve().as_uri()
    return File(name=name, url=url, sha256=digest, size=size), members
