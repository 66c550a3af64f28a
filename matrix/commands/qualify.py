"""`matrix qualify`: compare a release or a candidate with an earlier release."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix._util.files import from_here
from matrix._util.gc import gc_paused
from matrix.commands import arguments, context
from matrix.commands.output import show

if TYPE_CHECKING:
    from matrix.catalog.releases import Releases
    from matrix.qualify.model import Qualification
    from matrix.qualify.query import Query


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix qualify`."""
    qualify = commands.add_parser(
        "qualify",
        help="compare a release or a candidate with an earlier release: what broke, drifts, is"
        " unknown",
        epilog="A release is judged by the existing records. For a candidate, the cells that"
        " decide run first, through tox, if they have no record; cases that fail or drift run"
        " once more in a fresh environment. Exit status: 0 qualified, 1 not, 3 not enough"
        " evidence; 2 for an input that cannot be used, also if a record is invalid and nothing"
        " fails.",
        allow_abbrev=False,
    )
    qualify.add_argument(
        "candidate",
        metavar="CANDIDATE",
        nargs="?",
        help="its name in candidates.toml, such as torch216rc1 or vllmmain",
    )
    release = qualify.add_mutually_exclusive_group()
    release.add_argument("--torch", metavar="VERSION", help="a release, as 2.12.1 or 2.12")
    release.add_argument("--vllm", metavar="VERSION", help="a release, as 0.20.2 or 0.20")
    qualify.add_argument(
        "--baseline",
        metavar="VERSION",
        help="the release of the same project to compare with; 2.11 is its newest patch (default"
        " for a candidate: the newest release below it)",
    )
    qualify.add_argument(
        "--platform",
        choices=("cpu", "cuda", "all"),
        help="default: all that have records of the baseline; for a candidate cuda if a GPU is"
        " visible, else cpu",
    )
    qualify.add_argument(
        "--python",
        metavar="X.Y",
        type=arguments.python,
        action="append",
        default=[],
        help="only this Python version (repeatable; for a candidate only one)",
    )
    qualify.add_argument(
        "--under",
        metavar="SPEC",
        help="only with these releases of the other project: 0.20 or '>=0.20'; for a candidate"
        " also a candidate of the other project: vllmmain",
    )
    qualify.add_argument(
        "--waivers",
        metavar="FILE",
        type=Path,
        help="accepted failures (default: the package's own)",
    )
    _add_candidate_options(qualify)
    arguments.add_folders(qualify)
    form = qualify.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as Markdown, for an issue")
    form.add_argument("--json", action="store_true", help="as JSON")
    arguments.finish(qualify, _run)


def _add_candidate_options(qualify: argparse.ArgumentParser) -> None:
    group = qualify.add_argument_group("for a candidate")
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print which cells decide, why, and how long it takes",
    )
    group.add_argument(
        "--quick", action="store_true", help="run and judge only the cases of small_startup"
    )
    group.add_argument(
        "--count",
        metavar="N",
        type=arguments.count,
        help="the maximum number of releases of the other project (default: for a torch 1 on the"
        " CPU and those of the matrix on CUDA, for a vLLM 2)",
    )
    group.add_argument(
        "--jobs",
        metavar="N|auto",
        type=arguments.jobs,
        help="how many cases of a cell run at the same time (default: auto, as many as fit on the"
        " machine; 1 for --timings)",
    )
    group.add_argument(
        "--timings",
        metavar="ROUNDS",
        type=arguments.rounds,
        help="after the verdict, time the cases of small_startup on both sides in turns, in this"
        " many rounds (2 or more; --dry-run shows how long they take)",
    )
    group.add_argument(
        "--watch",
        action="store_true",
        help="take the newest build of its channel, and report the states of earlier findings",
    )
    group.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        default=Path("qualifications"),
        help="the folder for findings, logs and times (default: qualifications)",
    )


def _run(options: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = options.parser
    is_release = options.torch is not None or options.vllm is not None
    if not is_release and options.candidate is None:
        parser.error("name a candidate, or a release by --torch or --vllm")
    if not is_release:
        from matrix.commands.qualify_candidate import run

        return run(options)
    if options.candidate is not None:
        # What stands in the place of the candidate is a folder of records.
        options.folders = [arguments.place(options.candidate), *options.folders]
    if options.baseline is None:
        parser.error("the following arguments are required: --baseline")
    for option in ("dry_run", "quick", "count", "jobs", "timings", "watch"):
        if getattr(options, option):
            parser.error(f"--{option.replace('_', '-')}: goes with a candidate, not with a release")
    options.platform = options.platform or "all"
    return _qualify(options)


@gc_paused()
def _qualify(options: argparse.Namespace) -> int:
    from matrix.catalog.releases_file import load_releases
    from matrix.checks.lookup import load_answers
    from matrix.qualify.engine import QualifyError, qualify
    from matrix.qualify.load import read
    from matrix.qualify.query import Context
    from matrix.rules.expectations_file import load_expectations
    from matrix.rules.waivers import load_waivers

    releases = load_releases()
    query = _query(options, releases)
    expectations, waivers = load_expectations(options.expectations), load_waivers(options.waivers)
    folders = arguments.required(options.folders)
    judging = Context(
        expectations=expectations,
        releases=releases,
        waivers=waivers,
        today=context.today(),
        late=context.late_now(),
    )
    loaded = read(folders, query, judging, print_status)
    for error in loaded.errors:
        print_status(str(error))
    if not loaded.count and not loaded.errors:
        raise QualifyError(arguments.no_record(folders))
    answers = load_answers(judging.releases)
    qualification = qualify(
        query,
        [(Path(from_here(path)), record) for path, record in loaded.records],
        judging,
        answers=answers,
        skipped=loaded.skipped,
        unread=len(loaded.errors),
    )
    for fault in answers.faults:
        print_status(fault)
    given = arguments.repeated(options, ("expectations", "waivers"))
    text = _renderer(options)(qualification, given)
    show(text, fit=not (options.json or options.markdown))
    return qualification.exit_status


def _query(options: argparse.Namespace, releases: Releases) -> Query:
    from matrix._util.versions import parse_specifier
    from matrix.catalog.projects import Project
    from matrix.qualify.query import Query
    from matrix.record.model import PLATFORMS, Platform

    project = Project.VLLM if options.torch is None else Project.TORCH
    known = releases.versions(project)
    return Query(
        project=project,
        candidate=_release(getattr(options, project), f"--{project}", known),
        baseline=_release(options.baseline, "--baseline", known),
        platforms=PLATFORMS if options.platform == "all" else (Platform(options.platform),),
        pythons=tuple(options.python),
        under=(None if options.under is None else parse_specifier(options.under, "--under")),
    )


def _renderer(options: argparse.Namespace) -> Callable[[Qualification, Sequence[str]], str]:
    if options.json:
        from matrix.report.qualify.json import render

        return render
    if options.markdown:
        from matrix.report.qualify.markdown import page

        return page
    from matrix.report.qualify.text import lines

    return lines


def _release(text: str, option: str, known: Sequence[str]) -> str:
    """Return a release as it was named, without a local part such as +cu128.

    A minor release is its newest known patch, the name of a candidate its release key.

    Raises QualifyError where it is not a release.
    """
    from packaging.version import InvalidVersion

    from matrix._util.versions import newest_patch, parse_version
    from matrix.catalog.cells import build_of
    from matrix.qualify.engine import QualifyError

    for version in known:
        build = build_of(version)
        if build is not None and build.name == text:
            return version
    try:
        return parse_version(newest_patch(text, known)).public
    except InvalidVersion:
        raise QualifyError(f"{option} {text!r}: is not a release; write it as 2.12.1") from None
