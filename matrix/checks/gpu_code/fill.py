"""Fetch the wheels that were not read yet from an index, one at a time, and read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from matrix._util.console import spoken
from matrix._util.scratch import Scratch
from matrix._util.text import mib
from matrix._util.versions import newest_patches, parse_version
from matrix.catalog.published_file import PublishedFile
from matrix.checks.gpu_code.read import read_wheels
from matrix.checks.gpu_code.wheels import ReadWheels, load_wheels
from matrix.checks.linkage.fill import OLDEST_READ, PYTHON, PackageSource
from matrix.errors import MatrixError


def fill(
    index: PackageSource, file: Path, machine: str, report: Callable[[str], None] = print
) -> list[str]:
    """Fetch and read each wheel for a processor that the file lacks; the newest patches first.

    Returns what could not be fetched or read, a line each. What was read stays, and a second call
    goes on.
    """
    faults: list[str] = []
    published: list[PublishedFile] = []
    for project in OLDEST_READ:
        try:
            published += index.files(project)
        except MatrixError as error:
            faults.append(str(error))
    for wheel in lacking(published, load_wheels(file), machine):
        size = f", {mib(wheel.size)}" if wheel.size else ""
        try:
            with spoken(f"{wheel.filename}{size}"), Scratch("wheel") as scratch:
                faults += read_wheels([index.fetch(wheel, scratch)], file, report)
        except MatrixError as error:
            faults.append(str(error))
    return faults


def lacking(files: Iterable[PublishedFile], known: ReadWheels, machine: str) -> list[PublishedFile]:
    """Return the wheels for a processor that were not read, one a release.

    The newest patch of each minor release comes first, the newest release before older ones.
    """
    best: dict[tuple[str, str], tuple[tuple[object, ...], PublishedFile]] = {}
    for file in files:
        build = _build(file, machine)
        key = file.project, file.version
        if (
            build is not None
            and known.of(*key, machine) is None
            and (key not in best or build > best[key][0])
        ):
            best[key] = build, file
    found = [file for _, file in best.values()]
    newest = {
        (project, version)
        for project in OLDEST_READ
        for version in newest_patches(
            (file.version for file in found if file.project == project), str
        )
    }
    found.sort(key=lambda file: parse_version(file.version), reverse=True)
    found.sort(key=lambda file: (file.project, file.version) not in newest)
    return found


def _build(file: PublishedFile, machine: str) -> tuple[object, ...] | None:
    """Return the build of a wheel that an installer may take; None where it never takes it."""
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
