"""Examine this machine for cells: all that they take of it, asked one by one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from packaging.version import InvalidVersion

from matrix._util.nvidia import dotted
from matrix._util.versions import parse_version
from matrix.catalog.cells import Cell
from matrix.catalog.projects import Project
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases
from matrix.errors import MatrixError
from matrix.record.model import Platform
from matrix.run.doctor import cuda, host, pythons
from matrix.run.doctor.model import (
    CheckState,
    Examination,
    FoundCode,
    MachineCheck,
    Need,
    Remedy,
    joined,
)


def examine(
    cells: Sequence[Cell],
    releases: Releases,
    platform: Platform,
    *,
    root: Path,
    environ: Mapping[str, str] = os.environ,
    network: bool = False,
) -> Examination:
    """Return what this machine has and lacks for these cells; with `network` ask the index too.

    `root` is the checkout in which tox would make their environments.
    """
    uv = pythons.find_uv(root, environ)
    gpus = cuda.gpus_here(environ) if platform is Platform.CUDA else cuda.FoundGpus()
    found = {
        python: pythons.find_python(python, uv, environ)
        for python in dict.fromkeys(cell.python for cell in cells)
    }
    shared = list(_shared(platform, gpus, uv, root, environ))
    if network:
        shared += _index_checks(cells)
    per_cell = [
        (
            cell.name,
            [
                *pythons.python_checks(cell.python, found[cell.python], uv, environ),
                *_of_cell(cell, releases, platform, gpus),
                host.environment_disk_check(cell, root, environ),
                *shared,
            ],
        )
        for cell in cells
    ]
    order = list(Need)
    checks = sorted(joined(per_cell), key=lambda check: order.index(check.need))
    return Examination(
        platform=platform,
        cells=tuple(cell.name for cell in cells),
        system=host.system_here(_called(uv, environ)),
        checks=tuple(checks),
        asked_index=network,
    )


def default_cell(releases: Releases) -> Cell:
    """Return the cell that is examined where none is named: the newest of those that are run.

    Of its Pythons that is the oldest, on which most of them have run.
    """
    cells = releases.cells()
    newest = cells[-1]
    return next(cell for cell in cells if (cell.torch, cell.vllm) == (newest.torch, newest.vllm))


def _shared(
    platform: Platform,
    gpus: cuda.FoundGpus,
    uv: str | None,
    root: Path,
    environ: Mapping[str, str],
) -> Iterator[MachineCheck]:
    """Yield what every cell takes alike."""
    yield host.system_check()
    yield pythons.compiler_check(environ)
    if platform is Platform.CPU:
        yield host.openssl_check()
    else:
        yield pythons.c_compiler_check(environ)
    yield host.checkout_check(root)
    yield pythons.tox_check(root)
    yield pythons.uv_check(uv)
    yield from host.folder_checks(root)
    yield host.memory_check()
    yield from host.limit_checks()
    if gpus.answer is not None and (gpus.answer.gpus or 0) > 1:
        yield host.shared_memory_check()


def _of_cell(
    cell: Cell, releases: Releases, platform: Platform, gpus: cuda.FoundGpus
) -> Iterator[MachineCheck]:
    """Yield what its releases take: wheels for this machine, on cuda a driver and an nvcc."""
    torch = _release(releases.torch, cell.torch)
    vllm = _release(releases.vllm, cell.vllm)
    for row, name in ((torch, "torch"), (vllm, "vLLM")):
        check = None if row is None else host.wheels_check(row, name)
        if check is not None:
            yield check
    if platform is not Platform.CUDA:
        return
    built_for = None if torch is None else torch.cuda
    yield from cuda.gpu_checks(gpus, built_for)
    capability = None if gpus.answer is None else gpus.answer.capability
    nvcc = cuda.nvcc_check(cell, built_for, dotted(capability) if capability else None)
    if nvcc is not None:
        yield nvcc


def _called(uv: str | None, environ: Mapping[str, str]) -> str | None:
    """Return how a person would call this uv."""
    return "uv" if uv is not None and shutil.which("uv", path=environ.get("PATH")) else uv


def _release(rows: Sequence[Torch | Vllm], version: str) -> Torch | Vllm | None:
    """Return the row of a release; None for a candidate, of which nothing is known here."""
    return next((row for row in rows if row.version == version), None)


def _index_checks(cells: Sequence[Cell]) -> Iterator[MachineCheck]:
    """Yield whether the index has the releases of the cells; a candidate is on none."""
    from contextlib import closing

    from matrix.catalog.index import FetchError, Index

    try:
        index = Index(tries=2)
    except MatrixError as error:
        yield MachineCheck(
            need=Need.INDEX,
            state=CheckState.UNKNOWN,
            code=FoundCode.NO_CLIENT,
            detail=str(error),
            remedy=Remedy.INSTALL_CLIENT,
        )
        return
    with closing(index):
        for project in Project:
            wanted = {getattr(cell, project) for cell in cells}
            wanted = {version for version in wanted if "+" not in version}
            try:
                there = {_public(file.version) for file in index.files(project)}
            except FetchError as error:
                yield MachineCheck(
                    need=Need.INDEX,
                    state=CheckState.LACKS,
                    subject=project,
                    code=FoundCode.SILENT,
                    detail=str(error),
                    remedy=Remedy.SET_INDEX,
                )
                continue
            missing = sorted(wanted - there)
            yield MachineCheck(
                need=Need.INDEX,
                state=CheckState.LACKS if missing else CheckState.OK,
                subject=project,
                code=FoundCode.ABSENT if missing else None,
                found=", ".join(sorted(wanted & there)),
                wanted=", ".join(sorted(wanted)),
                remedy=Remedy.SET_INDEX if missing else None,
            )


def _public(version: str) -> str:
    """Return a version as its release has it, without a local part such as that of a flavour."""
    try:
        return parse_version(version).public
    except InvalidVersion:
        return version
