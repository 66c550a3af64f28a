"""`matrix bundle`: make what cells need on a machine without a network."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix.catalog.platform_tags import MACHINES
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.catalog.candidates.model import File
    from matrix.catalog.cells import Cell
    from matrix.catalog.releases import Releases
    from matrix.record.model import Platform


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix bundle`."""
    bundle = commands.add_parser(
        "bundle",
        help="collect everything that cells need on a machine without a network",
        epilog="There: python3 DIR/run.py CELL [options], or matrix run CELL --bundle DIR. Exit"
        " status: 0, or 2 if the bundle cannot be made.",
        allow_abbrev=False,
    )
    bundle.add_argument(
        "cells", metavar="CELL", nargs="*", help="one or more, all of the same Python"
    )
    bundle.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="an empty folder, or an older bundle"
    )
    bundle.add_argument(
        "--refresh",
        action="store_true",
        help="write this project's part of the bundle in DIR again, and keep the wheels",
    )
    bundle.add_argument(
        "--split", metavar="SIZE", help="split the bundle into parts of this size, such as 58MiB"
    )
    _add_contents(bundle)
    bundle.set_defaults(run=_bundle, parser=bundle)


def _add_contents(bundle: argparse.ArgumentParser) -> None:
    """Add the options that say what is in a bundle and how small it is made."""
    bundle.add_argument(
        "--gpu-arch",
        metavar="ARCH",
        help="such as sm_90: drop the GPU code of other chips, to make the bundle small",
    )
    bundle.add_argument(
        "--repack",
        action="store_true",
        help="pack the wheels again with Zstandard, to make the bundle smaller still",
    )
    bundle.add_argument(
        "--reuse",
        metavar="DIR",
        type=Path,
        help="an older bundle for the same GPU, not split: its wheels are reused if they still fit",
    )
    bundle.add_argument(
        "--have",
        metavar="NAME==VERSION",
        action="append",
        default=[],
        help="leave out this package, which the target has, and those that nothing else requires",
    )
    bundle.add_argument(
        "--without",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave out these packages that vLLM requires, such as ray or 'flashinfer-*', and"
        " those that nothing else requires; for packages that the startup tests never import; the"
        " records are then not stock, and a case that imports one is untested",
    )
    bundle.add_argument(
        "--platform",
        choices=("cpu", "cuda"),
        default="cpu",
        help="for a vLLM from sources: its wheel for this platform (default: cpu, built without"
        " compiling)",
    )
    bundle.add_argument(
        "--machine",
        choices=MACHINES,
        default="x86_64",
        help="the target's processor (default: x86_64)",
    )


def _bundle(options: argparse.Namespace) -> int:
    from matrix.bundle.build import BundleRequest, check_out, make_bundle, refresh_bundle
    from matrix.bundle.plan import one_python, parse_have, parse_size
    from matrix.catalog.releases_file import load_releases
    from matrix.checks.resolution.lock import Target
    from matrix.record.model import Platform

    if options.refresh:
        refresh_bundle(options.out)
        return 0
    if not options.cells:
        raise MatrixError("no cell named; write one, such as py312-torch210")
    check_out(options.out)  # before the hours that a build may take
    releases = load_releases()
    cells = tuple(dict.fromkeys(releases.resolve(name) for name in options.cells))
    wanted = BundleRequest(
        cells=cells,
        target=Target(python=one_python(cells), machine=options.machine),
        gpu_arch=options.gpu_arch,
        have=tuple(parse_have(requirement) for requirement in options.have),
        without=tuple(options.without),
        split=parse_size(options.split) if options.split else None,
        repack=options.repack,
        reuse=options.reuse,
        built=_built(cells, releases, Platform(options.platform)),
    )
    make_bundle(wanted, releases, options.out)
    return 0


def _built(cells: Iterable[Cell], releases: Releases, platform: Platform) -> dict[str, File]:
    """Return the wheels of the vLLM from sources by cell; builds those that are not there.

    Raises MatrixError where it is not had on that platform, or has to be compiled.
    """
    from matrix.catalog.candidates.collection import CandidateError
    from matrix.catalog.candidates.model import File
    from matrix.catalog.cells import Made
    from matrix.catalog.projects import Project
    from matrix.checks.vllm_build.candidate import build_candidate
    from matrix.checks.vllm_build.wheels import built_before
    from matrix.record.model import Platform
    from matrix.run.built import built_requirements, check_sources

    found = {}
    for cell in cells:
        candidate = releases.candidate_of(cell, Project.VLLM)
        if candidate is None or not candidate.is_built:
            continue
        check_sources(candidate)
        way = candidate.on_cuda.way if candidate.on_cuda is not None else None
        if platform is Platform.CUDA and way is Made.COMPILED:
            raise CandidateError(
                f"candidate {candidate.name!r}: is compiled where it runs, so no bundle holds it"
                " for cuda; add it again without --build: matrix candidate add"
            )
        before = built_before(candidate, cell.python) if platform is Platform.CPU else None
        requirement = before.requirement if before is not None else None
        if requirement is None:
            lines = built_requirements(
                cell,
                releases,
                python=Path(cell.python),  # uv takes it as a version
                platform=platform,
                say=print_status,
                build=build_candidate,
            )
            requirement = next(line for line in lines if line.startswith("vllm @ "))
        found[cell.name] = File.of_requirement(requirement)
    return found
