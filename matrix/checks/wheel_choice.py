"""Which wheel of a release an installer takes, of those that an index has. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from matrix._util.versions import newest_patches, parse_version
from matrix.catalog.platform_tags import MACHINES
from matrix.catalog.published_file import PublishedFile

OLDEST_READ = {"torch": Version("2.9"), "vllm": Version("0.14")}
"""The oldest release of each project to read: from here on vLLM's wheel is one for all Pythons."""
PYTHON = "cp312"
"""The Python of the wheels to read, where a wheel is for one."""


def taken(files: Iterable[PublishedFile], machine: str = MACHINES[0]) -> list[PublishedFile]:
    """Return the wheel of each release that an installer takes on a processor.

    Leaves out a release that was yanked, is older than `OLDEST_READ` or is not final. Of several
    wheels of a release the one with the highest build number counts, as for an installer.
    """
    best: dict[tuple[str, str], tuple[tuple[object, ...], PublishedFile]] = {}
    for file in files:
        build, key = _build(file, machine), (file.project, file.version)
        if build is not None and (key not in best or build > best[key][0]):
            best[key] = build, file
    return [file for _, file in best.values()]


def most_useful_first(files: Iterable[PublishedFile]) -> list[PublishedFile]:
    """Return files with the newest patch of each minor release first, newest release first."""
    found = list(files)
    newest = {
        (project, version)
        for project in OLDEST_READ
        for version in newest_patches(
            (file.version for file in found if file.project == project), str
        )
    }
    found.sort(key=lambda file: (file.project, parse_version(file.version)), reverse=True)
    found.sort(key=lambda file: (file.project, file.version) not in newest)
    return found


def _build(file: PublishedFile, machine: str) -> tuple[object, ...] | None:
    """Return the build of a wheel that an installer may take; None if it never takes it."""
    if file.yanked is not None or not file.is_wheel or file.project not in OLDEST_READ:
        return None
    try:
        _, version, build, tags = parse_wheel_filename(file.filename)
    except InvalidWheelFilename:
        return None
    if version.is_prerelease or version.local or version < OLDEST_READ[file.project]:
        return None
    fits = any(
        tag.platform.startswith("manylinux")
        and tag.platform.endswith(f"_{machine}")
        and ((tag.interpreter, tag.abi) == (PYTHON, PYTHON) or tag.abi == "abi3")
        for tag in tags
    )
    return tuple(build or (-1, "")) if fits else None
