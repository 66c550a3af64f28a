"""Needs of cells on any machine: system, disks, memory, limits. Reads and writes files."""

from __future__ import annotations

import os
import platform as system_platform
import resource
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from packaging.version import Version

from matrix._util.cgroup import ROOT, group_folders
from matrix._util.memory import CASE_MIB, available_memory_mib
from matrix._util.shared_memory import SHARED_MEMORY
from matrix.catalog.cells import Cell
from matrix.catalog.platform_tags import is_for_linux, machine_of, wheel_glibc
from matrix.catalog.release import Torch, Vllm
from matrix.run.doctor.model import CheckState, FoundCode, HostSystem, MachineCheck, Need, Remedy
from matrix.run.environments import Environments, is_whole, needs_mib, tox_folder, uv_cache
from matrix.run.preflight import LEAST_FREE_MIB
from matrix.run.rerun import RECORDS
from matrix.run.toolchain import openssl_fault, splits, writable_mib

SHARED_MIB = 1024
"""What NVIDIA's guide of NCCL gives a container for several GPUs; Docker's own default is 64."""

FILES = 1024
"""The open files that Linux gives a process by itself; no run was seen with fewer."""

THREADS = 1024
"""The threads, with those of all its processes, below which nobody has seen a run."""


def system_here(uv: str | None) -> HostSystem:
    """Return what /etc/os-release says of this system."""
    try:
        found = system_platform.freedesktop_os_release()
    except OSError:
        found = {}
    kinds = (found.get("ID", ""), *found.get("ID_LIKE", "").split())
    return HostSystem(kinds=tuple(filter(None, kinds)), is_root=os.geteuid() == 0, uv=uv)


def system_check() -> MachineCheck:
    """Return whether this system can fork: each start runs in a forked process."""
    name = system_platform.system()
    forks = hasattr(os, "fork") and name == "Linux"
    return MachineCheck(
        need=Need.SYSTEM,
        state=CheckState.OK if forks else CheckState.LACKS,
        found=name,
        wanted="Linux",
        remedy=None if forks else Remedy.USE_LINUX,
    )


def checkout_check(root: Path) -> MachineCheck:
    """Return whether a folder has the tox.ini by which `matrix run` makes environments."""
    there = (root / "tox.ini").is_file()
    return MachineCheck(
        need=Need.CHECKOUT,
        state=CheckState.OK if there else CheckState.LACKS,
        found="tox.ini" if there else None,
        code=None if there else FoundCode.ABSENT,
        wanted="tox.ini",
        remedy=None if there else Remedy.USE_CHECKOUT,
    )


def wheels_check(release: Torch | Vllm, project: str) -> MachineCheck | None:
    """Return whether a release has wheels for this processor and glibc.

    None if nothing is known of its wheels: those of sources are built here.
    """
    if not release.wheels:
        return None
    machine = system_platform.machine()
    libc, version = system_platform.libc_ver()
    check = MachineCheck(
        need=Need.WHEELS,
        state=CheckState.OK,
        subject=f"{project} {release.version}",
        found=machine,
        wanted=machine,
    )
    if not any(is_for_linux(tag, machine) for tag in release.wheels):
        wanted = ", ".join(sorted(tag for tag in release.wheels if machine_of(tag)))
        return _lacking(replace(check, wanted=wanted))
    needed = wheel_glibc(release.wheels, machine)
    if needed is None:
        return check
    check = replace(check, wanted=f"{machine}, glibc {needed}")
    if libc != "glibc" or not version:
        check = replace(check, found=f"{machine}, {libc or 'no glibc known'}")
        return _lacking(check) if libc else replace(check, state=CheckState.UNKNOWN)
    check = replace(check, found=f"{machine}, glibc {version}")
    return check if Version(version) >= Version(needed) else _lacking(check)


def _lacking(check: MachineCheck) -> MachineCheck:
    """Return the check of wheels that do not fit this machine."""
    return replace(check, state=CheckState.LACKS, remedy=Remedy.USE_OTHER_MACHINE)


def openssl_check() -> MachineCheck:
    """Return whether openssl runs, by which inductor names its C++ header on the CPU."""
    fault = openssl_fault()
    return MachineCheck(
        need=Need.OPENSSL,
        state=CheckState.LACKS if fault else CheckState.OK,
        code=FoundCode.DOES_NOT_START if fault else None,
        detail=fault,
        remedy=Remedy.INSTALL_OPENSSL if fault else None,
    )


def environment_disk_check(cell: Cell, root: Path, environ: Mapping[str, str]) -> MachineCheck:
    """Return whether the environment of a cell has room, or is there."""
    folder = tox_folder(root, environ)
    if is_whole(folder / cell.name):
        return MachineCheck(
            need=Need.ENVIRONMENTS_DISK,
            state=CheckState.OK,
            subject=str(folder),
            found=_there_mib(folder),
            code=FoundCode.THERE,
        )
    linked = Environments(folder=folder, cache=uv_cache()).linked()
    return _room(Need.ENVIRONMENTS_DISK, folder, needs_mib(cell, linked))


def folder_checks(root: Path) -> Iterator[MachineCheck]:
    """Yield whether records and temporary files have room, and whether torch compiles there."""
    yield _room(Need.RECORDS_DISK, root / RECORDS, LEAST_FREE_MIB)
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        yield MachineCheck(
            need=Need.TEMPORARY_DISK,
            state=CheckState.LACKS,
            code=FoundCode.NOT_WRITABLE,
            detail=str(error.strerror),
            wanted=LEAST_FREE_MIB,
            remedy=Remedy.SET_TMPDIR,
        )
        return
    yield _room(Need.TEMPORARY_DISK, temporary, LEAST_FREE_MIB)
    wrong = splits(temporary)
    yield MachineCheck(
        need=Need.TEMPORARY_PATH,
        state=CheckState.LACKS if wrong else CheckState.OK,
        found=str(temporary),
        code=FoundCode.SPLITS if wrong else None,
        remedy=Remedy.SET_TMPDIR if wrong else None,
    )


def memory_check(root: Path = ROOT) -> MachineCheck:
    """Return whether a case has the memory that it takes at most."""
    available = available_memory_mib(root)
    if available is None:
        state = CheckState.UNKNOWN
    else:
        state = CheckState.OK if available >= CASE_MIB else CheckState.LACKS
    return MachineCheck(
        need=Need.MEMORY,
        state=state,
        found=available,
        code=FoundCode.NOT_KNOWN if available is None else None,
        wanted=CASE_MIB,
        remedy=Remedy.FREE_MEMORY if state is CheckState.LACKS else None,
    )


def limit_checks(root: Path = ROOT) -> Iterator[MachineCheck]:
    """Yield the limits on open files and threads; with less than runs had, nobody knows."""
    for need, limit, wanted, remedy in (
        (Need.OPEN_FILES, _soft(resource.RLIMIT_NOFILE), FILES, Remedy.RAISE_FILES),
        (Need.THREADS, _threads(root), THREADS, Remedy.RAISE_THREADS),
    ):
        enough = limit is None or limit >= wanted
        yield MachineCheck(
            need=need,
            state=CheckState.OK if enough else CheckState.UNKNOWN,
            found=limit,
            wanted=wanted,
            remedy=None if enough else remedy,
        )


def shared_memory_check(folder: Path = SHARED_MEMORY) -> MachineCheck:
    """Return whether two ranks have the shared memory by which they talk."""
    try:
        free = shutil.disk_usage(folder).total // 2**20
    except OSError as error:
        return MachineCheck(
            need=Need.SHARED_MEMORY,
            state=CheckState.LACKS,
            subject=str(folder),
            code=FoundCode.NOT_WRITABLE,
            detail=error.strerror or "",
            wanted=SHARED_MIB,
            remedy=Remedy.ENLARGE_SHARED_MEMORY,
        )
    enough = free >= SHARED_MIB
    return MachineCheck(
        need=Need.SHARED_MEMORY,
        state=CheckState.OK if enough else CheckState.LACKS,
        subject=str(folder),
        found=free,
        wanted=SHARED_MIB,
        remedy=None if enough else Remedy.ENLARGE_SHARED_MEMORY,
    )


def _room(need: Need, folder: Path, wanted: int) -> MachineCheck:
    """Return whether so many MiB are free where a folder is, or will be made."""
    remedy = Remedy.SET_TMPDIR if need is Need.TEMPORARY_DISK else Remedy.MAKE_ROOM
    there = _existing(folder)
    try:
        free = writable_mib(there)
    except OSError as error:
        return MachineCheck(
            need=need,
            state=CheckState.LACKS,
            subject=str(folder),
            code=FoundCode.NOT_WRITABLE,
            detail=error.strerror or str(error),
            wanted=wanted,
            remedy=remedy,
        )
    return MachineCheck(
        need=need,
        state=CheckState.OK if free >= wanted else CheckState.LACKS,
        subject=str(folder),
        found=free,
        wanted=wanted,
        remedy=None if free >= wanted else remedy,
    )


def _existing(folder: Path) -> Path:
    every = (folder, *folder.absolute().parents)
    return next((path for path in every if path.is_dir()), folder)


def _there_mib(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free // 2**20
    except OSError:
        return None


def _soft(kind: int) -> int | None:
    limit = resource.getrlimit(kind)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _threads(root: Path) -> int | None:
    """Return the least limit on threads, of this user and of its control groups."""
    limits = [None if os.geteuid() == 0 else _soft(resource.RLIMIT_NPROC)]
    for folder, _ in group_folders("pids", root):
        try:
            text = (folder / "pids.max").read_text(encoding="ascii").strip()
        except OSError:
            continue
        limits.append(int(text) if text.isdecimal() else None)
    return min((limit for limit in limits if limit is not None), default=None)
