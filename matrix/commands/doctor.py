"""`matrix doctor`: what this machine lacks to run cells."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from matrix._util.console import print_status, spoken, terminal_of
from matrix.commands.output import show


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix doctor`."""
    doctor = commands.add_parser(
        "doctor",
        help="list what this machine lacks to run cells, with commands that help",
        epilog="Nothing is installed or downloaded. Exit status: 0 if nothing is lacking, 1 if"
        " something is, 2 for a name that is not a cell.",
    )
    doctor.add_argument(
        "cells",
        metavar="CELL",
        nargs="*",
        help="such as py312-torch211-vllm026 (default: the newest of those that are published)",
    )
    doctor.add_argument(
        "--platform",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: cuda if a GPU is visible, else cpu",
    )
    doctor.add_argument(
        "--network", action="store_true", help="also ask the index whether it has the releases"
    )
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(run=_doctor, parser=doctor)


def _doctor(options: argparse.Namespace) -> int:
    from matrix.catalog.releases_file import load_releases
    from matrix.report.doctor import content, lines
    from matrix.run.doctor.examine import default_cell, examine
    from matrix.run.nvidia import why_not_cuda
    from matrix.run.preflight import choose_platform

    releases = load_releases()
    cells = [releases.resolve(name) for name in dict.fromkeys(options.cells)]
    note = why_not_cuda(options.platform)
    if note is not None:
        print_status(note)
    with spoken("looks at this machine"):
        found = examine(
            tuple(dict.fromkeys(cells)) or (default_cell(releases),),
            releases,
            choose_platform(options.platform),
            root=Path.cwd(),
            network=options.network,
        )
    text = content(found) if options.json else lines(found, terminal_of(sys.stdout))
    show(text, fit=not options.json)
    return found.exit_status
