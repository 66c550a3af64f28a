"""`matrix resolve`: ask uv's resolver whether the packages of cells go together."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from matrix.commands import arguments
from matrix.commands.output import show


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix resolve`."""
    resolve = commands.add_parser(
        "resolve",
        help="ask uv's resolver whether the packages of cells fit together; nothing is installed",
        epilog="Stored answers are not asked again. Exit status: 0, or 2 if there was no answer"
        " (the index does not answer, or lacks the release); then nothing is stored.",
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
        help="the newest patch of each vLLM minor with that of every other torch minor (implies"
        " --override)",
    )
    resolve.add_argument(
        "--stale",
        metavar="DAYS",
        nargs="?",
        const=30,
        type=int,
        help="ask again for answers that are older than this many days (30)",
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
            help=f"with --all-pins, --off-pin: of {name} only these, as 2.12 (its newest patch) or"
            " '>=2.9'",
        )
    _add_target(resolve)
    resolve.set_defaults(run=_resolve, parser=resolve)


def _add_target(resolve: argparse.ArgumentParser) -> None:
    """Add the options that say how the resolver is asked, and for which machine."""
    resolve.add_argument(
        "--override",
        action="store_true",
        help="force torch, torchvision and torchaudio, whatever vLLM pins, as off-pin cells do",
    )
    resolve.add_argument("--refresh", action="store_true", help="ask again for stored answers")
    resolve.add_argument(
        "--machine", default="x86_64", help="the processor that it is for (default: x86_64)"
    )
    resolve.add_argument(
        "--glibc", metavar="X.Y", default="2.35", help="its lowest glibc (default: 2.35)"
    )
    resolve.add_argument(
        "--jobs",
        metavar="N",
        type=arguments.count,
        default=4,
        help="the number at a time (default: 4)",
    )
    resolve.add_argument(
        "--data",
        metavar="FILE",
        type=Path,
        help="where the answers are read and kept (default: the package's own)",
    )


def _resolve(options: argparse.Namespace) -> int:
    from matrix.catalog.releases_file import load_releases
    from matrix.checks.resolution.cache import RESOLUTIONS_FILE
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
        show("".join(f"{line}\n" for line in resolution.known_lines(plan)))
    if any(not query.cell.builds for query in plan.missing):
        arguments.to_write(options.data, RESOLUTIONS_FILE, "--data")
    began = time.monotonic()
    answers = []
    for number, answered in enumerate(ask_missing(plan, request, options.data), 1):
        answers.append(answered)
        show(f"{resolution.answered_line(plan, number, answered)}\n")
    show(f"{resolution.summary(plan, answers, time.monotonic() - began)}\n")
    return 2 if any(isinstance(timed.answer, ResolverError) for timed in answers) else 0
