"""`matrix jit`: the kernel modules that a run built just in time."""

from __future__ import annotations

import argparse
from pathlib import Path

from matrix._util.files import from_here
from matrix.commands import arguments, context
from matrix.commands.output import show


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix jit`."""
    jit = commands.add_parser(
        "jit",
        help="show the kernel modules that a run built just in time, and list them",
        epilog="Exit status: 0, or 2 if the record or the list is invalid.",
    )
    jit.add_argument("record", metavar="RECORD", help="also one inside an archive")
    jit.add_argument(
        "--write",
        action="store_true",
        help="add new modules to the list, so that later runs build them before their cases",
    )
    jit.add_argument(
        "--list", metavar="FILE", type=Path, help="another list than matrix/data/jit.toml"
    )
    jit.add_argument("--json", action="store_true", help="print JSON")
    arguments.finish(jit, _jit)


def _jit(options: argparse.Namespace) -> int:
    from matrix.record.jit_modules import (
        JIT_FILE,
        load_jit_modules,
        new_rows,
        parse_jit_modules,
    )
    from matrix.report.jit import render, to_json

    path = options.list or JIT_FILE
    if options.write:
        path = arguments.to_write(options.list, JIT_FILE, "--list")
    record, name = context.record_of(options.record), from_here(options.record)
    rows = new_rows(record, load_jit_modules(path), name)
    written = options.write and bool(rows)
    if written:
        with path.open("a", encoding="utf-8") as file:
            file.write(rows)
    if options.json:
        new = parse_jit_modules(rows, name)
        show(to_json(record, name, from_here(path), new, written=written), fit=False)
        return 0
    show(render(record, from_here(path), is_new=bool(rows), written=written))
    if rows and record.jit is not None:
        print(rows.strip("\n"))  # TOML
    return 0
