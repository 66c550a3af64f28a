"""`matrix candidate`: the builds that are not released yet, and are cells like any other."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

from matrix._util.console import print_status
from matrix._util.files import from_here
from matrix.commands import arguments
from matrix.commands.output import show

_NAMED_STATUS = "Exit status: 0, or 2 where the candidate is not known."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix candidate`."""
    candidate = commands.add_parser(
        "candidate",
        help="add, list, show, remove builds of torch and vLLM that are not released yet",
        epilog="They are in candidates.toml, in the folder of tox.ini, or in the file that"
        " MATRIX_CANDIDATES names. Exit status: 0, or 2 if a candidate is not available or not"
        " known.",
    )
    actions = candidate.add_subparsers(metavar="ACTION", required=True)
    _add_add(actions)
    shown = actions.add_parser(
        "list",
        help="print the candidates, one line for each",
        epilog="Exit status: 0, or 2 if the file of candidates is invalid.",
    )
    shown.add_argument("--json", action="store_true", help="print them as JSON")
    shown.set_defaults(run=_list, parser=shown)
    shown = actions.add_parser("show", help="print all facts about one", epilog=_NAMED_STATUS)
    shown.add_argument("name", metavar="NAME")
    shown.add_argument("--json", action="store_true", help="print it as JSON")
    shown.set_defaults(run=_show, parser=shown)
    removed = actions.add_parser(
        "remove",
        help="remove one from the file and the cache; its records stay",
        epilog=_NAMED_STATUS,
    )
    removed.add_argument("name", metavar="NAME")
    removed.set_defaults(run=_remove, parser=removed)


def _add_add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    added = actions.add_parser(
        "add",
        help="find a candidate's files once, and store them by address and hash",
        epilog="The next build from the same place replaces the previous one. A channel is test"
        " or nightly (torch), nightly or commit/SHA (vLLM), with a build of CUDA after a slash,"
        " as test/cu130; if you have your own, its address is in candidates.toml"
        " ([channels.torch]) or in a variable such as MATRIX_CHANNEL_TORCH_TEST. Exit status: 0,"
        " or 2 if the candidate is not available; then nothing is written.",
        allow_abbrev=False,
    )
    added.add_argument(
        "name", metavar="NAME", help="its factor of tox, such as torch216rc1 or vllmmain"
    )
    place = added.add_mutually_exclusive_group(required=True)
    place.add_argument("--index", metavar="CHANNEL|URL", help="a package index that has it")
    place.add_argument("--wheel", metavar="PATH|URL", help="one wheel")
    place.add_argument("--commit", metavar="REPO@SHA", help="a commit of vLLM, to be built")
    place.add_argument("--tree", metavar="DIR", help="a folder of vLLM's sources, to be built")
    place.add_argument("--sdist", metavar="PATH|URL", help="a source distribution, to be built")
    added.add_argument(
        "--version",
        metavar="V",
        help="on an index: this version (default: the newest); for a commit or a folder: the"
        " version that it counts as",
    )
    added.add_argument("--sha256", metavar="H", help="the hash that the wheel or sdist must have")
    added.add_argument(
        "--python",
        metavar="X.Y",
        action="append",
        default=[],
        type=arguments.python,
        help="the Pythons that it must support (default: those of the matrix that it has a wheel"
        " for)",
    )
    added.add_argument("--pin", metavar="V", help="the torch of a vLLM, if its metadata names none")
    added.add_argument(
        "--companion",
        metavar="NAME==V|WHEEL",
        action="append",
        default=[],
        help="this torchvision, torchaudio or triton with a torch, from your index or as a wheel",
    )
    _add_cuda_options(added)
    added.add_argument(
        "--force",
        action="store_true",
        help="replace a candidate with this name, or accept an older build",
    )
    added.set_defaults(run=_add, parser=added)


def _add_cuda_options(added: argparse.ArgumentParser) -> None:
    """Add how vLLM of some sources is had on CUDA."""
    added.add_argument(
        "--platform",
        choices=("auto", "cpu", "cuda"),
        help="for sources: cuda finds a way to this vLLM on cuda (default: auto, cuda if a GPU is"
        " visible)",
    )
    added.add_argument(
        "--build",
        action="store_true",
        help="for sources on cuda: compile here if no wheel of the commit is published",
    )
    added.add_argument(
        "--no-wheel",
        action="store_true",
        help="for a commit on cuda: use no published wheel, and do not ask its index",
    )


def _add(options: argparse.Namespace) -> int:
    from matrix.catalog.releases_file import load_releases
    from matrix.report.candidates import added_lines
    from matrix.run.candidates.add import AddRequest, add_candidate

    given = {field.name: getattr(options, field.name) for field in fields(AddRequest)}
    added = add_candidate(AddRequest(**given), load_releases(), print_status)
    show("".join(f"{line}\n" for line in added_lines(added)))
    return 0


def _list(options: argparse.Namespace) -> int:
    from matrix.catalog.candidates.gathered import pythons_of
    from matrix.catalog.candidates.place import candidates_path
    from matrix.catalog.releases_file import load_releases
    from matrix.report.candidates import candidate_json, render_list

    releases = load_releases()
    every = releases.candidates.every
    if options.json:
        rows = [
            candidate_json(candidate, pythons_of(candidate, releases.pythons))
            for candidate in every
        ]
        print(json.dumps(rows, indent=2))
    elif every:
        show(f"{render_list(every)}\n")
    else:
        path = from_here(Path(candidates_path()))
        print_status(f"no candidate in {path}; matrix candidate add NAME adds one")
    return 0


def _show(options: argparse.Namespace) -> int:
    from matrix.catalog.candidates.gathered import pythons_of
    from matrix.catalog.releases_file import load_releases
    from matrix.report.candidates import candidate_json, render_candidate

    releases = load_releases()
    candidate = releases.candidates.named(options.name)
    pythons = pythons_of(candidate, releases.pythons)
    if options.json:
        print(json.dumps(candidate_json(candidate, pythons), indent=2))
    else:
        show(f"{render_candidate(candidate, pythons)}\n")
    return 0


def _remove(options: argparse.Namespace) -> int:
    from matrix.run.candidates.add import remove_candidate

    path = remove_candidate(options.name, print_status)
    print(f"{options.name} was removed from {from_here(path)}")
    return 0
