"""`matrix candidate`: the builds that are not released yet, and are cells like any other."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix._util.files import from_here
from matrix.commands import arguments
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matrix.catalog.candidates.collection import Candidates
    from matrix.catalog.candidates.gathered import Gathered, Wanted
    from matrix.catalog.candidates.model import Candidate
    from matrix.catalog.candidates.on_cuda import CudaWays
    from matrix.catalog.releases import Releases


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix candidate`."""
    candidate = commands.add_parser(
        "candidate",
        help="add, list, show, remove builds of torch and vLLM that are not released yet",
        epilog="They stand in candidates.toml beside tox.ini, or in the file that MATRIX_CANDIDATES"
        " names. Exit status: 0, or 2 where a candidate cannot be had or is not known.",
    )
    actions = candidate.add_subparsers(metavar="ACTION", required=True)
    _add_add(actions)
    shown = actions.add_parser("list", help="print the candidates, a line each")
    shown.add_argument("--json", action="store_true", help="print them as JSON")
    shown.set_defaults(run=_list, parser=shown)
    shown = actions.add_parser("show", help="print all that is known of one")
    shown.add_argument("name", metavar="NAME")
    shown.add_argument("--json", action="store_true", help="print it as JSON")
    shown.set_defaults(run=_show, parser=shown)
    removed = actions.add_parser(
        "remove", help="take one out of the file and the cache; its records stay"
    )
    removed.add_argument("name", metavar="NAME")
    removed.set_defaults(run=_remove, parser=removed)


def _add_add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    added = actions.add_parser(
        "add",
        help="find a candidate's files once, and write them down by address and hash",
        epilog="The next build from the same place takes the place of the one before it. A channel"
        " is test or nightly (torch), nightly or commit/SHA (vLLM), with a build of CUDA after a"
        " slash, as test/cu130; its address is in candidates.toml ([channels.torch]) or in a"
        " variable such as MATRIX_CHANNEL_TORCH_TEST, if you have your own.",
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
        help="on an index: this version (default: the newest); of a commit or a folder: what it"
        " counts as",
    )
    added.add_argument("--sha256", metavar="H", help="the hash that the wheel or sdist must have")
    added.add_argument(
        "--python",
        metavar="X.Y",
        action="append",
        default=[],
        type=arguments.python,
        help="it must be for this Python (default: those of the matrix that it has a wheel for)",
    )
    added.add_argument(
        "--pin", metavar="V", help="the torch that a vLLM is for, where its metadata says none"
    )
    added.add_argument(
        "--companion",
        metavar="NAME==V|WHEEL",
        action="append",
        default=[],
        help="this torchvision, torchaudio or triton with a torch, of your index or as a wheel",
    )
    _add_cuda_options(added)
    added.add_argument(
        "--force", action="store_true", help="take a name that is taken, or an older build"
    )
    added.set_defaults(run=_add, parser=added)


def _add_cuda_options(added: argparse.ArgumentParser) -> None:
    """Add how vLLM of some sources is had on CUDA."""
    added.add_argument(
        "--platform",
        choices=("auto", "cpu", "cuda"),
        help="of sources: cuda finds how this vLLM is had there (default: auto, cuda where a GPU is"
        " visible)",
    )
    added.add_argument(
        "--build",
        action="store_true",
        help="of sources on cuda: compile it here where no wheel of the commit is published",
    )
    added.add_argument(
        "--no-wheel",
        action="store_true",
        help="of a commit on cuda: take no published wheel of it, whose index is then not asked",
    )


def _add(options: argparse.Namespace) -> int:
    from matrix.catalog.candidates.file import change_candidates, load_candidates
    from matrix.catalog.candidates.gathered import pythons_of
    from matrix.catalog.candidates.update import Update, update
    from matrix.catalog.releases_file import load_releases
    from matrix.checks.candidate_cache import forget
    from matrix.report.candidates import added_lines

    wanted = _wanted(options)
    load_candidates()  # a file that is wrong is wrong at once
    releases = load_releases()
    gathered = _gather(options, wanted, releases)
    candidate = gathered.candidate
    old, done, after = None, Update.UNCHANGED, releases.candidates

    def changed(now: Candidates) -> Candidates | None:
        nonlocal old, done, after
        old = now.get(candidate.name)
        done = update(old, candidate, force=options.force)
        after = now.including(candidate)
        return None if done is Update.UNCHANGED else after

    path = change_candidates(changed)
    if done is not Update.UNCHANGED:
        print_status(f"{from_here(path)} was written")
        if old is not None and old.build != candidate.build:
            gone = old.build
            forget(lambda build: build == gone)
            _forget_wheels(old, after)
    pythons = pythons_of(candidate, releases.pythons)
    cell = _example(releases.including(candidate), candidate, wanted.pythons)
    print("\n".join(added_lines(candidate, done, gathered.notes, pythons, cell)))
    return 0


def _example(releases: Releases, candidate: Candidate, asked: Sequence[str]) -> str | None:
    """Return the name of a cell of a candidate: with the newest vLLM, or the torch of its pin.

    Its Python is one that was asked for, else this one, else the newest that goes with both.
    """
    from matrix.catalog.cells import CellError, environment_name, factor_of
    from matrix.catalog.projects import Project

    if candidate.project is Project.TORCH:
        others = [factor_of("vllm", row.version) for row in reversed(releases.vllm)]
    else:
        others = [factor_of("torch", candidate.pins["torch"])]
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    pythons = (*asked, own, *reversed(releases.pythons))
    for other in dict.fromkeys(others):
        for python in pythons:
            name = environment_name(python, candidate.name, other)
            try:
                return releases.resolve(name).name
            except CellError:
                continue
    return None


def _wanted(options: argparse.Namespace) -> Wanted:
    """Return what is asked for. Raises MatrixError for a name or an option that does not fit."""
    from matrix.catalog.candidates.gathered import Wanted
    from matrix.catalog.cells import candidate_project
    from matrix.catalog.projects import Project

    project = Project(candidate_project(options.name))
    _check_given(options)
    if project is Project.VLLM and options.companion:
        raise MatrixError("--companion: goes with a torch; a vLLM takes those of its torch")
    if project is Project.TORCH and options.pin is not None:
        raise MatrixError("--pin: goes with a vLLM; a torch pins none")
    for name in ("commit", "tree", "sdist"):
        if project is Project.TORCH and getattr(options, name) is not None:
            raise MatrixError(f"--{name}: goes with a vLLM; torch comes as a wheel")
    if options.sha256 is not None and options.wheel is None and options.sdist is None:
        raise MatrixError("--sha256: goes with --wheel and --sdist; an index has its own hashes")
    if options.version is not None and (options.wheel or options.sdist) is not None:
        raise MatrixError("--version: goes with --index, --commit and --tree; a file has its own")
    for option in ("build", "no_wheel", "platform"):
        if getattr(options, option) and not _is_from_sources(options):
            raise MatrixError(
                f"--{option.replace('_', '-')}: goes with --commit, --tree and --sdist alone; the"
                " files of an index and a wheel are as they are"
            )
    for option in ("version", "pin"):
        if getattr(options, option) is not None:
            _check_version(f"--{option}", getattr(options, option))
    return Wanted(
        name=options.name,
        project=project,
        pythons=tuple(options.python),
        pin=options.pin,
        companions=tuple(text for text in options.companion if "==" not in text),
        companion_pins=_pins(options.companion),
    )


def _check_given(options: argparse.Namespace) -> None:
    """Refuse an option without a text, such as that of a variable that is not set."""
    for name in ("index", "wheel", "commit", "tree", "sdist"):
        if getattr(options, name) == "":
            raise MatrixError(f"--{name}: is empty; name one")
    if "" in options.companion:
        raise MatrixError("--companion: is empty; name one")


def _is_from_sources(options: argparse.Namespace) -> bool:
    return any(getattr(options, name) is not None for name in ("commit", "tree", "sdist"))


def _pins(given: list[str]) -> dict[str, str]:
    from matrix.catalog.candidates.model import TORCH_COMPANIONS

    found = {}
    for text in given:
        name, equals, version = text.partition("==")
        if equals:
            if name not in TORCH_COMPANIONS[:2]:
                raise MatrixError(
                    f"--companion {text}: {name!r} is not torchvision or torchaudio; name a wheel"
                )
            found[name] = _check_version(f"--companion {text}", version)
    return found


def _check_version(option: str, text: str) -> str:
    from packaging.version import InvalidVersion

    from matrix._util.versions import parse_version

    try:
        parse_version(text)
    except InvalidVersion:
        raise MatrixError(f"{option}: {text!r} is not a version; write it as 2.16.0") from None
    return text


def _gather(options: argparse.Namespace, wanted: Wanted, releases: Releases) -> Gathered:
    from matrix.catalog.candidates import sources
    from matrix.catalog.candidates.channels import place_of
    from matrix.catalog.candidates.published import from_index
    from matrix.catalog.candidates.wheels import from_wheel
    from matrix.catalog.index import Index

    if options.wheel is not None:
        return from_wheel(wanted, options.wheel, options.sha256, releases)
    ways = _cuda_ways(options, wanted, releases) if _is_from_sources(options) else None
    if options.sdist is not None:
        return sources.from_sdist(wanted, options.sdist, options.sha256, ways)
    if options.commit is not None:
        return sources.from_commit(wanted, options.commit, options.version, print_status, ways)
    if options.tree is not None:
        return sources.from_tree(wanted, options.tree, options.version, ways)
    channels, flavour = releases.candidates.channels, releases.cuda_flavour
    place = place_of(options.index, wanted.project, channels, flavour=flavour)
    index = Index(place.address)
    try:
        return from_index(wanted, place, options.version, releases, index=index)
    finally:
        index.close()


def _cuda_ways(options: argparse.Namespace, wanted: Wanted, releases: Releases) -> CudaWays | None:
    """Return what finds the way of a vLLM from sources to cuda; None for the platform cpu."""
    from matrix.catalog.candidates.on_cuda import CudaWays
    from matrix.record.model import Platform
    from matrix.run.preflight import choose_platform

    asked = options.platform or "auto"
    if choose_platform(asked) is not Platform.CUDA:
        for option in ("build", "no_wheel"):
            if getattr(options, option):
                here = "no GPU is visible here" if asked == "auto" else "cpu is named"
                raise MatrixError(
                    f"--{option.replace('_', '-')}: is for the platform cuda, and {here}; name it:"
                    " --platform cuda"
                )
        return None
    return CudaWays(
        releases=releases,
        pythons=wanted.pythons or releases.pythons,
        say=print_status,
        build=options.build,
        wheel=not options.no_wheel,
        # Nobody named the platform: a GPU is here.
        otherwise=", or add it for the CPU: --platform cpu" if asked == "auto" else "",
    )


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
        print(render_list(every))
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
        print(render_candidate(candidate, pythons))
    return 0


def _remove(options: argparse.Namespace) -> int:
    from matrix.catalog.candidates.file import change_candidates
    from matrix.checks.candidate_cache import forget

    removed: list[tuple[Candidate, Candidates]] = []

    def without(now: Candidates) -> Candidates:
        left = now.excluding(options.name)
        removed.append((now.named(options.name), left))
        return left

    path = change_candidates(without)
    print(f"{options.name} was removed from {from_here(path)}")
    forget(lambda build: build.name == options.name)
    for candidate, left in removed:
        _forget_wheels(candidate, left)
    return 0


def _forget_wheels(candidate: Candidate, left: Candidates) -> None:
    """Remove from the cache what was built of a candidate's sources that nobody has any more."""
    from matrix._util.text import plural
    from matrix.checks.vllm_build.build import forget_wheels

    if removed := forget_wheels(candidate, left.every):
        what = "was" if removed == 1 else "were"
        print_status(f"{plural(removed, 'wheel')} built of it {what} removed from the cache")
