"""The key of the run that would happen here, as far as it is known without an installation.

It lists the packages of tox's environments and asks nvidia-smi; nothing is imported or installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from packaging.version import InvalidVersion

from matrix._util.nvidia import is_hidden, smi_visible
from matrix._util.paths import CHECKOUT
from matrix._util.versions import parse_version
from matrix.catalog.cells import PROJECTS, Cell, CellError
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.checks.lookup import Answers
from matrix.record.model import Platform, Record
from matrix.run.rerun import WORK_DIR
from matrix.verdict.run_key import Packages, RunKey, WheelFile, driver_release

_DISTRIBUTION = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-py[0-9.]+)?\.(?:dist|egg)-info")
_SEPARATORS = re.compile(r"[-_.]+")  # of a name, as PEP 503 reads them
_MACHINE = os.uname().machine
_ASKED_FOR = "x86_64"  # the machine of the resolver's kept answers
_GPU_SECONDS = 10.0  # that a plan waits for a driver; a run itself waits longer


class Hardware(NamedTuple):
    """The parts of a key that depend on the machines on which cells run, as far as known.

    `machine` is the kind of processor, `gpus` are the kinds of GPU, `driver` is the NVIDIA driver's
    release.
    """

    machine: str | None = None
    gpus: frozenset[str] = frozenset()
    driver: str | None = None


class ThisMachine:
    """The machine and the environments of a checkout, and the records of what ran.

    `answers` has what a resolver found of each cell, `records` returns every record; it is called
    only where one that does not count can matter. `flags` are those that are asked for. Where the
    cells run `elsewhere`, that says what is known of those machines; nothing is of what is
    installed there. `root` is the checkout.
    """

    def __init__(
        self,
        releases: Releases,
        answers: Answers,
        records: Callable[[], Iterable[Record]],
        *,
        flags: Mapping[str, str] | None = None,
        elsewhere: Hardware | None = None,
        root: Path = CHECKOUT,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Look at nothing yet."""
        self._releases = releases
        self._answers = answers
        self._records = records
        self._flags = flags or {}
        self._elsewhere = elsewhere
        self._root = root
        self._environ = environ

    def key(self, cell: Cell, platform: Platform, *, off_pin: bool) -> RunKey:
        """Return the key of a run of the cell on the platform, if it began now.

        A machine without a visible GPU runs nothing on cuda, so nothing of it is known there.
        """
        folder, installed = self._installed(cell)
        where = self._hardware(platform)
        return RunKey(
            cell=cell,
            files=self._files(cell, folder),
            packages=installed or self._resolved(cell, off_pin=off_pin),
            machine=where.machine,
            gpus=where.gpus,
            driver=where.driver,
            flags=self._flags,
        )

    def _hardware(self, platform: Platform) -> Hardware:
        """Return what is known of the machines that run a cell on the platform."""
        if platform != Platform.CUDA:
            here = Hardware(machine=_MACHINE) if self._elsewhere is None else self._elsewhere
            return Hardware(machine=here.machine)
        found = self._here if self._elsewhere is None else self._elsewhere
        return found if found.gpus else Hardware()

    def _installed(self, cell: Cell) -> tuple[Path | None, Packages | None]:
        """Return the environment of a cell and its packages; None without one."""
        if self._environments is None:
            return None, None
        folder = self._environments / cell.name
        found = environment_packages(folder, cell)
        return (None, None) if found is None else (folder, Packages(versions=found))

    def others(self, cell: str, platform: Platform) -> Iterator[Record]:
        """Yield the records of a cell on a platform, also those that do not count."""
        yield from self._by_cell.get((cell, platform), ())

    @cached_property
    def _by_cell(self) -> Mapping[tuple[str, str], list[Record]]:
        found: dict[tuple[str, str], list[Record]] = {}
        for record in self._records():
            found.setdefault((record.cell, record.platform), []).append(record)
        return found

    @property
    def _environments(self) -> Path | None:
        """The folder of tox's environments; None if no checkout is."""
        if self._elsewhere is not None or not (self._root / "tox.ini").is_file():
            return None
        named = self._environ.get(WORK_DIR)
        return Path(named) if named else self._root / ".tox"

    @cached_property
    def _here(self) -> Hardware:
        return hardware_here(self._environ)

    def _resolved(self, cell: Cell, *, off_pin: bool) -> Packages | None:
        """Return some of the packages that an install would bring, where a resolver was asked."""
        elsewhere = self._elsewhere.machine if self._elsewhere is not None else None
        if (elsewhere or _MACHINE) != _ASKED_FOR:
            return None
        found = self._answers.packages(cell, off_pin=off_pin)
        if found is None:
            return None
        return Packages(versions=found.packages, asked=found.asked.isoformat())

    def _files(self, cell: Cell, folder: Path | None) -> Mapping[str, WheelFile]:
        """Return the wheels of a cell: a candidate's own, and those that are installed."""
        found: dict[str, WheelFile] = {}
        for project in Project:
            try:
                candidate = self._releases.candidate_of(cell, project)
            except CellError:
                continue
            if candidate is not None and (file := candidate.file(cell.python)) is not None:
                found[project] = WheelFile(sha256=file.sha256)
        if folder is not None and not cell.builds:
            from matrix.run.wheel_content import read_note

            for content, published in read_note(folder).items():
                project_name = published.file.partition("-")[0].lower() if published else ""
                if published is not None and project_name in PROJECTS:
                    found[project_name] = WheelFile(content=content, sha256=published.sha256)
        return found


def hardware_here(environ: Mapping[str, str] = os.environ) -> Hardware:
    """Return what is known of this machine, without a GPU where none is visible."""
    if is_hidden(environ):
        return Hardware(machine=_MACHINE)
    lines = smi_visible(environ, "name", "driver_version", seconds=_GPU_SECONDS)
    # A line without both is a message.
    found = [line.rpartition(", ") for line in lines if ", " in line]
    drivers = {driver_release(driver) for _, _, driver in found}
    return Hardware(
        machine=_MACHINE,
        gpus=frozenset(name for name, _, _ in found),
        driver=drivers.pop() if len(drivers) == 1 else None,
    )


def common(every: Iterable[Hardware]) -> Hardware:
    """Return what is known where a cell may run on any of some machines: what they share.

    Of GPUs every kind is known, for a record of one of them stands.

    >>> common([Hardware("x86_64", frozenset({"H200"}), "580.1"), Hardware("x86_64")])
    Hardware(machine='x86_64', gpus=frozenset({'H200'}), driver='580.1')
    """
    found = tuple(every)
    machines = {node.machine for node in found}
    drivers = {node.driver for node in found if node.gpus}
    return Hardware(
        machine=machines.pop() if len(machines) == 1 else None,
        gpus=frozenset().union(*(node.gpus for node in found)),
        driver=drivers.pop() if len(drivers) == 1 else None,
    )


def environment_packages(folder: Path, cell: Cell) -> Mapping[str, str] | None:
    """Return the packages of a cell's environment, by the names of their folders.

    None if that environment is missing, or has other releases: tox makes it again then.
    """
    for site in folder.glob("lib/python*/site-packages"):
        found = listed_packages(site)
        if all(_is_of(found.get(name), getattr(cell, name)) for name in PROJECTS):
            return found
    return None


def listed_packages(site: Path) -> Mapping[str, str]:
    """Return the versions of the packages in a folder by normalized name, without reading a file.

    Their metadata take a second for each environment, and the names of folders say the same.
    """
    try:
        with os.scandir(site) as entries:
            names = [entry.name for entry in entries if entry.name.endswith("-info")]
    except OSError:
        return {}
    return dict(filter(None, map(_distribution, names)))


@lru_cache(maxsize=16384)
def _distribution(folder: str) -> tuple[str, str] | None:
    """Return the name and the version of a package by its folder's name; None for another folder.

    Hundreds of environments share most of theirs: `benchmarks/unchanged.py`.
    """
    match = _DISTRIBUTION.fullmatch(folder)
    return match and (_SEPARATORS.sub("-", match["name"]).lower(), match["version"])


def _is_of(installed: str | None, wanted: str) -> bool:
    try:
        return installed is not None and (
            parse_version(installed).public == parse_version(wanted).public
        )
    except InvalidVersion:
        return False
