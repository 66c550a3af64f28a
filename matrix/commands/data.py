"""`matrix refresh` and `linkage`: the package's data from an index and its wheels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status, report_width
from matrix._util.files import from_here
from matrix.commands import arguments, context
from matrix.commands.output import show
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.catalog.candidates.model import Candidate
    from matrix.checks.linkage.link import Linkage


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands `matrix refresh` and `linkage`."""
    _add_refresh(commands)
    _add_linkage(commands)


def _add_refresh(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    refresh = commands.add_parser(
        "refresh",
        help="read new releases of torch and vLLM from the package index into the data",
        epilog="Exit status: 0; 1 if --check finds a change; 2 if something could not be read"
        " (the rest is kept).",
        allow_abbrev=False,
    )
    refresh.add_argument(
        "--check", action="store_true", help="write nothing, and show what would change"
    )
    arguments.add_index(refresh)
    arguments.add_jobs(refresh, 4, "releases are read")
    refresh.add_argument(
        "--releases",
        metavar="FILE",
        type=Path,
        help="another file than matrix/data/releases.json",
    )
    refresh.set_defaults(run=_refresh, parser=refresh)


def _add_linkage(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    linkage = commands.add_parser(
        "linkage",
        help="show which vLLM links with which torch, by the symbols of their wheels",
        epilog="Exit status: 0, or 1 if the requested pair does not link, or 2 if a table or a"
        " wheel is invalid (the others are still printed).",
        allow_abbrev=False,
    )
    for name, examples in (
        ("vllm", "0.20.2, 0.20 (its newest patch) or '>=0.20,<0.24'"),
        ("torch", "2.11.0, 2.11.0+cu129, 2.11 or '>=2.11'"),
    ):
        linkage.add_argument(
            f"--{name}",
            metavar="SPEC",
            help=f"a release or a range, as {examples}, or the name of a candidate, whose wheel is"
            " read once (default: all releases)",
        )
    linkage.add_argument(
        "--python",
        metavar="VERSION",
        type=arguments.python,
        default="3.12",
        help="some files are for one Python only (default: 3.12)",
    )
    linkage.add_argument("--json", action="store_true", help="print JSON")
    linkage.add_argument(
        "--read",
        metavar="WHEEL",
        nargs="+",
        type=Path,
        default=[],
        help="make the tables of these wheels of torch or vLLM",
    )
    linkage.add_argument(
        "--fill",
        action="store_true",
        help="fetch each wheel that has no table yet from the index, one at a time, and read it",
    )
    linkage.add_argument(
        "--index",
        metavar="URL",
        help="with --fill: the index to read (default: the index configured for uv or pip)",
    )
    linkage.add_argument(
        "--tables",
        metavar="DIR",
        type=Path,
        help="where the tables are (default: the package's own)",
    )
    linkage.set_defaults(run=_linkage, parser=linkage)


def _has_symbols(candidate: Candidate, python: str) -> bool:
    """Read the symbols of a candidate, unless a table has them; tell whether it has any."""
    from matrix.checks.linkage.candidate import read_candidate
    from matrix.checks.linkage.tables import VllmSymbols

    if not candidate.has_extensions:
        return False
    table = read_candidate(candidate, python, print_status)
    return not isinstance(table, VllmSymbols) or bool(table.extensions)


def _refresh(options: argparse.Namespace) -> int:
    from contextlib import closing

    from matrix.catalog.index import Index
    from matrix.catalog.refresh import refresh
    from matrix.catalog.releases_file import RELEASES_FILE
    from matrix.report.refresh import render

    path = options.releases or RELEASES_FILE
    if not options.check:
        path = arguments.to_write(options.releases, RELEASES_FILE, "--releases")
    with closing(Index(options.index)) as index:
        done = refresh(path, index, check=options.check, jobs=options.jobs)
    show(render(done, from_here(path), check=options.check))
    for failure in done.failures:
        print_status(failure)
    if done.failures:
        return 2
    return 1 if options.check and done.changes else 0


def _linkage(options: argparse.Namespace) -> int:
    from matrix.checks.linkage.link import SYMBOL_TABLES

    folder = options.tables or SYMBOL_TABLES
    if options.read or options.fill:
        if options.vllm or options.torch or options.json:
            raise MatrixError("--read and --fill make tables; ask about a pair in a second call")
        return _make_tables(options, arguments.to_write(options.tables, SYMBOL_TABLES, "--tables"))
    return _ask_linkage(options, folder)


def _make_tables(options: argparse.Namespace, folder: Path) -> int:
    from matrix.catalog.index import Index
    from matrix.checks.linkage.fill import fill, read_wheels

    faults = read_wheels(options.read, folder) if options.read else []
    if options.fill:
        faults += fill(Index(options.index), folder)
    for fault in faults:
        print_status(fault)
    return 2 if faults else 0


def _ask_linkage(options: argparse.Namespace, folder: Path) -> int:
    from matrix._util.versions import chosen_versions
    from matrix.catalog.projects import Project
    from matrix.catalog.releases_file import load_releases
    from matrix.checks.linkage.by_name import linked
    from matrix.checks.linkage.candidate import candidate_tables
    from matrix.checks.linkage.link import load_tables
    from matrix.checks.linkage.tables import SymbolsError
    from matrix.report.linkage import grid, one, to_json, without_extensions

    releases = load_releases()
    asked = [
        candidate
        for project in Project
        if (candidate := context.named_candidate(getattr(options, project), project, releases))
    ]
    lacks = [candidate for candidate in asked if not _has_symbols(candidate, options.python)]
    if lacks:
        text = without_extensions(lacks[0], options.python, as_json=options.json)
        show(text, fit=not options.json)
        return 0
    keys = {candidate.name: candidate.key for candidate in asked}
    tables = load_tables(folder, candidate_tables(asked))
    vllms, torches = (
        [keys[text]] if text in keys else chosen_versions(text, known, option)
        for text, known, option in (
            (options.vllm, tables.vllm_versions, "--vllm"),
            (options.torch, tables.torch_versions, "--torch"),
        )
    )
    if options.vllm and options.torch and len(vllms) == len(torches) == 1:
        found = linked(tables, vllms[0], torches[0], options.python)
        text = to_json([found], extensions=True) if options.json else one(found)
        show(text, fit=not options.json)
        return 0 if found.ok else 1
    linkages: list[Linkage] = []
    faults: dict[str, None] = {}
    for vllm in vllms:
        for torch in torches:
            try:
                linkages.append(linked(tables, vllm, torch, options.python))
            except SymbolsError as error:
                faults[str(error)] = None
    for fault in faults:
        print_status(fault)
    if not linkages and not faults:
        raise MatrixError(f"{folder}: no symbol tables to answer from; matrix linkage --fill")
    if not linkages:
        return 2
    pins = {release.version: release.torch for release in releases.every_vllm}
    if options.json:
        print(to_json(linkages, extensions=False), end="")
    else:
        show(grid(linkages, pins, options.python, report_width(sys.stdout)))
    return 2 if faults else 0
