"""Fetch the wheels that were not read yet from an index, one at a time, and read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from matrix._util.console import spoken
from matrix._util.scratch import Scratch
from matrix._util.text import mib
from matrix.catalog.published_file import PublishedFile
from matrix.checks.gpu_code.read import read_wheels
from matrix.checks.gpu_code.wheels import ReadWheels, load_wheels
from matrix.checks.linkage.fill import PackageSource, nothing_new
from matrix.checks.wheel_choice import OLDEST_READ, most_useful_first, taken
from matrix.errors import MatrixError


def fill(
    index: PackageSource, file: Path, machine: str, report: Callable[[str], None] = print
) -> list[str]:
    """Fetch and read each wheel for a processor that the file lacks; the newest patches first.

    Returns what could not be fetched or read, a line each. What was read stays, and a second call
    continues.
    """
    faults: list[str] = []
    published: list[PublishedFile] = []
    for project in OLDEST_READ:
        try:
            published += index.files(project)
        except MatrixError as error:
            faults.append(str(error))
    wanted = lacking(published, load_wheels(file), machine)
    if not wanted and not faults:
        report(nothing_new(file, machine))
    for wheel in wanted:
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
    return most_useful_first(
        file
        for file in taken(files, machine)
        if known.of(file.project, file.version, machine) is None
    )
