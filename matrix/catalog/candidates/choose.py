"""Choose the files of a candidate among those of an index, for this machine. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from packaging.tags import Tag, compatible_tags, cpython_tags, platform_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from matrix._util.addresses import without_secrets
from matrix._util.text import listed
from matrix._util.versions import parse_version
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.model import File
from matrix.catalog.published_file import PublishedFile

Tags = Callable[[str], Sequence[Tag]]

_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The wheels of one version of a project, by the Python that each is for."""

    version: str
    by_python: dict[str, PublishedFile]

    @property
    def files(self) -> tuple[PublishedFile, ...]:
        """The wheels, each once."""
        return tuple(dict.fromkeys(self.by_python.values()))


def machine_tags(python: str) -> tuple[Tag, ...]:
    """Return the tags of wheels that run on this machine under a Python, the best first."""
    major, minor = map(int, python.split("."))
    platforms = list(platform_tags())
    return (
        *cpython_tags((major, minor), platforms=platforms),
        *compatible_tags((major, minor), f"cp{major}{minor}", platforms),
    )


def choose_version(
    project: str,
    files: Iterable[PublishedFile],
    asked: str | None,
    where: str,
    *,
    another: str = "name another: --index",
    build: str = "name one: --version",
) -> list[PublishedFile]:
    """Return the wheels of the version that was asked for, without one of the newest.

    A version without a local part means the only one of that public version. `where` calls the
    index; `another` and `build` say what to do where it has none, and where it has several builds.
    Raises CandidateError, one line, which names what there is instead.
    """
    wheels: dict[Version, list[PublishedFile]] = {}
    for file in files:
        version = wheel_version(file)
        if version is not None and (file.yanked is None or asked is not None):
            wheels.setdefault(version, []).append(file)
    if not wheels:
        raise CandidateError(f"{where} has no wheel of {project}; {another}")
    if asked is None:
        return wheels[max(wheels)]
    wanted = parse_version(asked)
    found = [version for version in wheels if wanted in (version, Version(version.public))]
    if not found:
        newest = [str(version) for version in sorted(wheels)[-_SHOWN:]]
        raise CandidateError(
            f"{where} has no {project} {asked}; its newest: {', '.join(newest[::-1])}"
        )
    if len(found) > 1:
        names = listed([str(version) for version in sorted(found)])
        raise CandidateError(f"{where} has {project} {asked} as {names}; {build}")
    return wheels[found[0]]


def choose_files(
    project: str,
    files: Sequence[PublishedFile],
    pythons: Iterable[str],
    where: str,
    *,
    tags: Tags = machine_tags,
) -> Chosen:
    """Return the best wheel of one version for each Python that has one, on this machine.

    Raises CandidateError if no wheel is for this machine or for any of these Pythons.
    """
    every = tuple(pythons)
    version = str(wheel_version(files[0]))
    best = {python: _best(files, tags(python)) for python in every}
    found = {python: file for python, file in best.items() if file is not None}
    if found:
        return Chosen(version=version, by_python=found)
    named = [tag for file in files for tag in parse_wheel_filename(file.filename)[3]]
    here = {tag.platform for python in every for tag in tags(python)}
    if not any(tag.platform in here for tag in named):
        platforms = sorted({tag.platform for tag in named})[:_SHOWN]
        raise CandidateError(
            f"{where}: {project} {version} is for {listed(platforms)} alone, not for this machine"
        )
    there = sorted({tag.interpreter for tag in named if tag.platform in here})
    raise CandidateError(
        f"{where}: {project} {version} has no wheel for Python {listed(every)}, only for"
        f" {listed(there)}; choose another with --python, or another version"
    )


def recorded(file: PublishedFile, sha256: str) -> File:
    """Return a file as it is recorded: without credentials, with its hash.

    Raises CandidateError if its address has a query, which may be secret.
    """
    if urlsplit(file.url).query:
        raise CandidateError(
            f"{file.filename}: its address has a query, which may be secret and is not recorded;"
            " use an index whose addresses have none"
        )
    return File(
        name=file.filename,
        url=without_secrets(file.url),
        sha256=sha256,
        size=file.size,
        uploaded=f"{file.uploaded:%Y-%m-%dT%H:%M:%SZ}" if file.uploaded else None,
    )


def _best(files: Iterable[PublishedFile], tags: Sequence[Tag]) -> PublishedFile | None:
    rank = {tag: place for place, tag in enumerate(tags)}
    ranked = [
        (min(places), file.filename, file)
        for file in files
        if (places := [rank[tag] for tag in parse_wheel_filename(file.filename)[3] if tag in rank])
    ]
    return min(ranked, key=lambda one: one[:2])[2] if ranked else None


def wheel_version(file: PublishedFile) -> Version | None:
    """Return the version of a wheel; None for what is not a wheel, or has no readable name."""
    if not file.is_wheel:
        return None
    try:
        return parse_wheel_filename(file.filename)[1]
    except (InvalidWheelFilename, InvalidVersion):
        return None
