"""`matrix run`, `bundle` and `resolve`: cells are run, carried elsewhere, resolved."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from matrix._util.console import print_status
from matrix.commands import arguments
from matrix.commands import context as reading
from matrix.commands.record import print_record
from matrix.errors import MatrixError

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands `matrix run`, `bundle` and `resolve`."""
    run = commands.add_parser(
        "run",
        help="run one cell in this environment, write its record and judge it",
        usage="%(prog)s [options] CELL [PYTEST ARGS]",
        allow_abbrev=False,
        epilog="Exit status: 0 compatible, 1 drift or incompatible, 2 cannot run, 5 untested.",
    )
    run.add_argument("cell", metavar="CELL", help="such as py311-torch210-vllm019")
    run.add_argument(
        "--platform",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: cuda where a GPU is visible, else cpu",
    )
    run.add_argument(
        "--records",
        metavar="DIR",
        type=Path,
        default=Path("records"),
        help="where to write the record (default: records)",
    )
    run.add_argument(
        "--model-source",
        choices=("data", "hub"),
        default="data",
        help="the models' configs: the package's data, or the hub (default: data)",
    )
    run.add_argument(
        "--jobs",
        metavar="N|auto",
        type=arguments.jobs,
        help="how many cases run side by side (default: auto on cuda, 1 on cpu)",
    )
    run.add_argument(
        "--timeout",
        metavar="S",
        type=arguments.positive_seconds,
        help="seconds for the whole run",
    )
    run.add_argument(
        "--bundle",
        metavar="DIR",
        type=Path,
        help="check this bundle and run the cell from it, without a network",
    )
    run.add_argument(
        "--work",
        metavar="DIR",
        type=Path,
        help="with --bundle: where to unpack and install (default: in the user's cache folder)",
    )
    run.set_defaults(run=_run, parser=run, takes_pytest_args=True)

    bundle = commands.add_parser(
        "bundle",
        help="make all that cells need on a machine without a network",
        epilog="There: python3 DIR/run.py CELL [options], or matrix run CELL --bundle DIR.",
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
        help="of the bundle in DIR write this project's part anew and keep the wheels",
    )
    bundle.add_argument(
        "--split", metavar="SIZE", help="cut the bundle into parts of this size, such as 58MiB"
    )
    bundle.add_argument(
        "--gpu-arch",
        metavar="ARCH",
        help="such as sm_90: drop the GPU code of other chips, to make the bundle small",
    )
    bundle.add_argument(
        "--repack",
        action="store_true",
        help="pack the wheels again with the program zstd, to make the bundle smaller still",
    )
    bundle.add_argument(
        "--reuse",
        metavar="DIR",
        type=Path,
        help="an older bundle for the same GPU, not cut: its wheels are taken where they still fit",
    )
    bundle.add_argument(
        "--have",
        metavar="NAME==VERSION",
        action="append",
        default=[],
        help="the target has this: leave it out, and what nothing else requires",
    )
    bundle.add_argument(
        "--without",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave these packages out, such as ray or 'flashinfer-*', and what nothing else"
        " requires, though vLLM asks for them: for what the startup tests never import; the"
        " manifest says so, and a run that imports one fails",
    )
    bundle.add_argument(
        "--machine",
        choices=("x86_64", "aarch64"),
        default="x86_64",
        help="the target's processor (default: x86_64)",
    )
    bundle.set_defaults(run=_bundle, parser=bundle)

    resolve = commands.add_parser(
        "resolve",
        help="ask uv's resolver whether the packages of cells go together; nothing is installed",
        epilog="What was answered before is not asked again. Exit status: 0, or 2 where there was"
        " no answer (no index, no such release there), which is written nowhere.",
        allow_abbrev=False,
    )
    resolve.add_argument(
        "cells", metavar="CELL", nargs="*", help="such as py312-torch210-vllm019, also off the pin"
    )
    resolve.add_argument(
        "--all-pins",
        action="store_true",
        help="the newest patch of each vLLM minor with the torch that it pins",
    )
    resolve.add_argument(
        "--off-pin",
        action="store_true",
        help="the newest patch of each vLLM minor with that of every other torch minor",
    )
    resolve.add_argument(
        "--stale",
        metavar="DAYS",
        nargs="?",
        const=30,
        type=int,
        help="ask again what was answered more than so many days ago (30)",
    )
    resolve.add_argument(
        "--python",
        metavar="X.Y",
        action="append",
        default=[],
        help="with --all-pins, --off-pin: on this Python (default: those of cells.json)",
    )
    for name in ("torch", "vllm"):
        resolve.add_argument(
            f"--{name}",
            metavar="RANGE",
            default="",
            help=f"with --all-pins, --off-pin: of {name} only these, such as '>=2.9'",
        )
    resolve.add_argument(
        "--override",
        action="store_true",
        help="force torch, torchvision and torchaudio whatever vLLM pins, as off-pin cells do",
    )
    resolve.add_argument("--refresh", action="store_true", help="ask again what is known")
    resolve.add_argument(
        "--machine", default="x86_64", help="the processor that it is for (default: x86_64)"
    )
    resolve.add_argument(
        "--glibc", metavar="X.Y", default="2.35", help="its glibc at least (default: 2.35)"
    )
    resolve.add_argument(
        "--jobs",
        metavar="N",
        type=arguments.count,
        default=4,
        help="how many at a time (default: 4)",
    )
    resolve.add_argument(
        "--data", metavar="FILE", type=Path, help="the answers (default: the package's own)"
    )
    resolve.set_defaults(run=_resolve, parser=resolve)


def _run(options: argparse.Namespace) -> int:
    if options.bundle is not None:
        from matrix.bundle import run as offline

        return offline.main(options.given[1:])
    if options.work is not None:
        raise MatrixError(f"--work {options.work}: goes with --bundle DIR only; leave it out")
    from matrix.catalog.releases_file import load_releases
    from matrix.record.reader import read
    from matrix.rules.expectations_file import load_expectations
    from matrix.run.cell import RUN_TIMEOUT, RunRequest, run_cell
    from matrix.run.nvidia import why_not_cuda
    from matrix.verdict.judge import exit_status

    # Before the run: a fault in the expectations must not surface after ten minutes.
    expectations = load_expectations()
    cell = load_releases().resolve(options.cell)
    note = why_not_cuda(options.platform)
    if note is not None:
        print_status(note)
    request = RunRequest(
        cell=cell,
        platform=options.platform,
        records=options.records,
        pytest_args=options.pytest_args,
        timeout=options.timeout or RUN_TIMEOUT,
        model_source=options.model_source,
        jobs=options.jobs,
    )
    done = run_cell(request)
    if isinstance(done, int):  # pytest was asked for its help or a list, and has given it
        return done
    return exit_status(print_record(read(done), reading.from_here(done), expectations))


def _bundle(options: argparse.Namespace) -> int:
    from matrix.bundle import plan as bundle
    from matrix.bundle.build import Wanted, make_bundle, refresh_bundle
    from matrix.catalog.releases_file import load_releases
    from matrix.checks.resolution.lock import Target

    if options.refresh:
        refresh_bundle(options.out)
        return 0
    if not options.cells:
        raise MatrixError("no cell named; write one, such as py312-torch210")
    releases = load_releases()
    cells = tuple(dict.fromkeys(releases.resolve(each) for each in options.cells))
    wanted = Wanted(
        cells,
        Target(python=bundle.one_python(cells), machine=options.machine),
        gpu_arch=options.gpu_arch,
        have=tuple(bundle.parse_have(each) for each in options.have),
        without=tuple(options.without),
        split=bundle.parse_size(options.split) if options.split else None,
        repack=options.repack,
        reuse=options.reuse,
    )
    make_bundle(wanted, releases, options.out)
    return 0


def _resolve(options: argparse.Namespace) -> int:
    from matrix.catalog.releases_file import load_releases
    from matrix.checks.resolution.resolve_cells import ResolveRequest, ask_missing, plan_questions
    from matrix.checks.resolution.resolver import ResolverError
    from matrix.report import resolution

    request = ResolveRequest(
        cells=tuple(options.cells),
        all_pins=options.all_pins,
        off_pin=options.off_pin,
        stale=options.stale,
        pythons=tuple(options.python),
        torch=options.torch,
        vllm=options.vllm,
        override=options.override,
        refresh=options.refresh,
        machine=options.machine,
        glibc=options.glibc,
        jobs=options.jobs,
    )
    plan = plan_questions(request, load_releases(), options.data)
    if request.cells:
        for line in resolution.known_lines(plan):
            print(line)
    began = time.monotonic()
    answers = []
    for number, answered in enumerate(ask_missing(plan, request, options.data), 1):
        answers.append(answered)
        print(resolution.answered_line(plan, number, answered), flush=True)
    print(resolution.summary(plan, answers, time.monotonic() - began), flush=True)
    return 2 if any(isinstance(timed.answer, ResolverError) for timed in answers) else 0
