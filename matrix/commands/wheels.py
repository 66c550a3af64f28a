"""`matrix wheels`: what the wheels of torch and vLLM need of a machine, and reading them."""

from __future__ import annotations

import argparse
from pathlib import Path

from matrix._util.console import print_status
from matrix.catalog.platform_tags import MACHINES
from matrix.commands import arguments, context
from matrix.commands.output import show
from matrix.errors import MatrixError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix wheels`."""
    wheels = commands.add_parser(
        "wheels",
        help="show CUDA, driver, glibc and GPU code of the wheels of torch and vLLM",
        epilog="The output marks a wheel that was not read. Exit status: 0; 2 if a wheel is"
        " invalid.",
        allow_abbrev=False,
    )
    arguments.add_releases(wheels, ("torch", "vllm"))
    wheels.add_argument("--gpu", metavar="GPU", help="show the code that this GPU can run: h100")
    wheels.add_argument(
        "--machine",
        choices=MACHINES,
        help=f"the processor (default: {MACHINES[0]}); with --fill, of the wheels to read",
    )
    wheels.add_argument("--json", action="store_true", help="print JSON")
    wheels.add_argument(
        "--read",
        metavar="WHEEL",
        nargs="+",
        type=Path,
        default=[],
        help="read these wheels of torch or vLLM into the data (the extra linkage)",
    )
    wheels.add_argument(
        "--fill",
        action="store_true",
        help="fetch each new wheel from the index, one at a time, and read it",
    )
    wheels.add_argument(
        "--index",
        metavar="URL",
        help="with --fill: the index to read (default: the index configured for uv or pip)",
    )
    wheels.add_argument(
        "--file", metavar="FILE", type=Path, help="another file than matrix/data/wheels.json"
    )
    wheels.set_defaults(run=_wheels, parser=wheels)


def _wheels(options: argparse.Namespace) -> int:
    from matrix.checks.gpu_code.wheels import WHEELS_FILE

    path = options.file or WHEELS_FILE
    if options.index is not None and not options.fill:
        raise MatrixError("--index: only --fill asks an index; add --fill")
    if not (options.read or options.fill):
        return _show(options, path)
    from matrix.checks.gpu_code.read import read_wheels

    if given := arguments.given_of(options, ("torch", "vllm", "gpu", "json")):
        raise MatrixError(f"{given[0]}: --read and --fill make data; ask in a second call")
    if options.machine is not None and not options.fill:
        raise MatrixError("--machine: --read takes the processor from the wheel; leave it out")
    path = arguments.to_write(options.file, WHEELS_FILE, "--file")
    faults = read_wheels(options.read, path, print)
    if options.fill:
        from matrix.catalog.index import Index
        from matrix.checks.gpu_code.fill import fill

        faults += fill(Index(options.index), path, options.machine or MACHINES[0])
    for fault in faults:
        print_status(fault)
    return 2 if faults else 0


def _show(options: argparse.Namespace, path: Path) -> int:
    from matrix.advice.fits import MachineTables, needs_of
    from matrix.catalog.hardware_file import load_hardware
    from matrix.catalog.releases_file import load_releases
    from matrix.checks.gpu_code.wheels import load_wheels
    from matrix.report.advice.wheels import content, lines

    context.refuse_candidates(options, "`matrix candidate show {}` names its wheels")
    releases, hardware = load_releases(), load_hardware()
    asked = context.specifiers(options, ("torch", "vllm"), releases)
    tables = MachineTables(hardware=hardware, wheels=load_wheels(path))
    gpu = arguments.read_of(options, "gpu", hardware.gpu)
    capability = None if gpu is None else gpu.capability
    rows = [
        needs_of(release, tables, options.machine or MACHINES[0], capability)
        for key, every in (("vllm", releases.vllm), ("torch", releases.torch))
        # One of the two that was not asked about is left out.
        if key in asked or not asked
        for release in every
        if key not in asked or asked[key].contains(release.version, prereleases=True)
    ]
    if not rows:
        named = " ".join(f"--{key} {getattr(options, key)}" for key in asked)
        raise context.unknown_release(named, releases)
    text = content(rows) if options.json else lines(rows)
    show(text, fit=not options.json)
    return 0
