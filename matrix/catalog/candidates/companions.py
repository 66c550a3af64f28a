"""Which companions on an index go with a torch candidate. It asks the index.

triton is the one that torch requires. torchvision and torchaudio are, as for releases, those that
require exactly this torch; else those that accept it, or a build of the day before or after,
by the time of their upload.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix.catalog.candidates.choose import (
    Chosen,
    Tags,
    choose_files,
    choose_version,
    machine_tags,
    recorded,
)
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.model import File
from matrix.catalog.index import Index, NoProjectError
from matrix.catalog.package_metadata import MetadataError, read_companion, requirements_of
from matrix.catalog.published_file import PublishedFile
from matrix.catalog.release import COMPANIONS, Torch

_READ = 6  # versions of a companion whose metadata is read at most, the newest first
_TRITON = ("triton", "pytorch-triton")


@dataclass(frozen=True, kw_only=True)
class Companions:
    """The wheels of the companions, releases from the user's own index, and what there is to say.

    `without` are those that are nowhere.
    """

    files: tuple[File, ...] = ()
    pins: tuple[tuple[str, str], ...] = ()
    without: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Fit:
    chosen: Chosen
    note: str | None = None


def find_companions(
    index: Index,
    torch: Chosen,
    metadata: str,
    releases: Sequence[Torch],
    *,
    where: str,
    tags: Tags = machine_tags,
) -> Companions:
    """Return what goes with a torch, from its own index as far as that has it.

    `metadata` is that of the torch. Where the index has no torchvision or torchaudio that fits, the
    one of the newest known torch of the same minor release is taken from the user's own index.
    Raises FetchError if the index does not answer.
    """
    files: list[File] = []
    pins: list[tuple[str, str]] = []
    without: list[str] = []
    notes: list[str] = []
    for name in COMPANIONS:
        fit = _companion(index, name, torch, where, tags)
        if fit is not None:
            files += _recorded(index, fit.chosen)
            notes += [fit.note] if fit.note else []
            continue
        known = _known(name, torch.version, releases)
        if known is None:
            without.append(name)
            notes.append(f"no {name} for it; it goes without")
        else:
            pins.append((name, known[1]))
            notes.append(
                f"no {name} for it there; {known[1]}, which goes with torch {known[0]}, comes from"
                " your own index"
            )
    for requirement in requirements_of("torch", torch.version, metadata):
        if requirement.name in _TRITON:
            found = _triton(index, requirement.name, requirement.specifier, torch, (where, tags))
            files += _recorded(index, found) if found else []
            if found is None:
                notes.append(f"{requirement} is not there, so it comes from your own index")
    return Companions(
        files=tuple(files), pins=tuple(pins), without=tuple(without), notes=tuple(notes)
    )


def _recorded(index: Index, chosen: Chosen) -> Iterator[File]:
    for file in chosen.files:
        yield recorded(file, index.digest(file))


def _known(name: str, torch: str, releases: Sequence[Torch]) -> tuple[str, str] | None:
    """Return the newest known torch of the same minor release, and its companion."""
    minor = Version(torch).release[:2]
    for release in reversed(releases):
        version = getattr(release, name)
        if Version(release.version).release[:2] == minor and version is not None:
            return release.version, version
    return None


def _triton(
    index: Index, name: str, wanted: SpecifierSet, torch: Chosen, place: tuple[str, Tags]
) -> Chosen | None:
    where, tags = place
    files = _files(index, name)
    fitting = sorted(
        (version for version in files if wanted.contains(version, prereleases=True)), reverse=True
    )
    return _first(name, (files[version] for version in fitting), torch, where, tags)


def _companion(index: Index, name: str, torch: Chosen, where: str, tags: Tags) -> _Fit | None:
    """Return the files of the companion that fits best; None if none does."""
    wanted = Version(torch.version)
    files = _files(index, name)
    usable = [version for version in sorted(files, reverse=True) if _may_fit(name, version, wanted)]
    accepting: list[tuple[Chosen, str | None]] = []
    for version in usable[:_READ]:
        chosen = _first(name, [files[version]], torch, where, tags)
        if chosen is None:
            continue
        required = _required_torch(index, name, chosen)
        exact = any(clause.operator == "==" and "*" not in clause.version for clause in required)
        if required.contains(wanted, prereleases=True):
            if exact:
                return _Fit(chosen=chosen)
            accepting.append((chosen, None))
        elif wanted.is_devrelease and exact:
            accepting.append((chosen, str(required).removeprefix("==")))
    if not accepting:
        return None
    # What accepts it comes before what is for a build of another day.
    best = min(accepting, key=lambda one: (one[1] is not None, _apart(one[0], torch)))
    if best[1] is None:
        note = f"{name} {best[0].version} goes with it by its date only"
    else:
        note = f"{name} {best[0].version} is for torch {best[1]}, the nearest by its date"
    return _Fit(chosen=best[0], note=note)


def _files(index: Index, name: str) -> dict[Version, list[PublishedFile]]:
    """Return the wheels of a project by version; none where the index does not have it."""
    try:
        every = index.files(name)
    except NoProjectError:
        return {}
    found: dict[Version, list[PublishedFile]] = {}
    for file in every:
        if file.is_wheel and file.yanked is None:
            try:
                (same,) = {*choose_version(name, [file], None, "")}
            except CandidateError:
                continue
            found.setdefault(Version(same.version), []).append(same)
    return found


def _may_fit(name: str, version: Version, torch: Version) -> bool:
    """Tell whether a companion can be for a torch: of the same build of CUDA, not newer than it."""
    if torch.local and version.local and version.local != torch.local:
        return False
    if torch.is_devrelease != version.is_devrelease and version.is_devrelease:
        return False
    return name != "torchaudio" or version.release[:2] <= torch.release[:2]


def _first(
    name: str,
    versions: Iterable[Sequence[PublishedFile]],
    torch: Chosen,
    where: str,
    tags: Tags,
) -> Chosen | None:
    """Return the files of the first version that has a wheel for every Python of the torch."""
    for files in versions:
        try:
            chosen = choose_files(name, files, torch.by_python, where, tags=tags)
        except CandidateError:
            continue
        if chosen.by_python.keys() == torch.by_python.keys():
            return chosen
    return None


def _required_torch(index: Index, name: str, chosen: Chosen) -> SpecifierSet:
    """Return which torch a companion requires by its metadata; none where that is unreadable."""
    file = chosen.files[0]
    try:
        read = read_companion(name, chosen.version, {"METADATA": index.metadata(file)}, "metadata")
    except MetadataError:
        return SpecifierSet("<0")
    return SpecifierSet(read.facts.get("requires", ""))


def _apart(chosen: Chosen, torch: Chosen) -> float:
    """Return the seconds between two uploads; without a time they are the farthest apart."""
    times = [_uploaded(choice) for choice in (chosen, torch)]
    if times[0] is None or times[1] is None:
        return float("inf")
    return abs((times[0] - times[1]).total_seconds())


def _uploaded(chosen: Chosen) -> datetime | None:
    known = [file.uploaded for file in chosen.files if file.uploaded is not None]
    return min(known, default=None)
