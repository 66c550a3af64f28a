"""`matrix qualify`: a release is held against an earlier one."""

from __future__ import annotations

import argparse
from pathlib import Path

from matrix._util.console import print_status
from matrix._util.gc import gc_paused
from matrix.commands import arguments
from matrix.commands import context as reading

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix qualify`."""
    qualify = commands.add_parser(
        "qualify",
        help="hold a release against an earlier one: what broke, was mended, drifts, is not known",
        epilog="Exit status: 0 qualified, 1 not, 3 not enough evidence; 2 for an input that cannot"
        " be used, also where a record is bad and nothing fails.",
        allow_abbrev=False,
    )
    candidate = qualify.add_mutually_exclusive_group(required=True)
    candidate.add_argument("--torch", metavar="VERSION", help="the candidate, such as 2.12.1")
    candidate.add_argument("--vllm", metavar="VERSION", help="the candidate, such as 0.20.2")
    qualify.add_argument(
        "--baseline",
        metavar="VERSION",
        required=True,
        help="the release of the same project to hold it against",
    )
    qualify.add_argument(
        "--platform",
        choices=("cpu", "cuda", "all"),
        default="all",
        help="default: all that have records of the baseline",
    )
    qualify.add_argument(
        "--python",
        metavar="X.Y",
        type=arguments.python,
        action="append",
        default=[],
        help="only this Python (may be there twice)",
    )
    qualify.add_argument(
        "--under",
        metavar="SPEC",
        help="only under these releases of the other project: 0.20 or '>=0.20'",
    )
    qualify.add_argument(
        "--waivers",
        metavar="FILE",
        type=Path,
        help="failures that are accepted (default: the package's own)",
    )
    arguments.add_folders(qualify)
    form = qualify.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as Markdown, for an issue")
    form.add_argument("--json", action="store_true", help="as JSON")
    arguments.finish(qualify, _qualify)


@gc_paused()
def _qualify(options: argparse.Namespace) -> int:
    from matrix._util.versions import parse_specifier
    from matrix.catalog.releases import load_releases
    from matrix.checks.lookup import load_answers
    from matrix.qualify.engine import QualifyError, qualify
    from matrix.qualify.load import read
    from matrix.qualify.query import Query
    from matrix.record.model import PLATFORMS
    from matrix.report import qualify as report
    from matrix.rules.expectations import load_expectations
    from matrix.rules.waivers import load_waivers

    project = "torch" if options.torch is not None else "vllm"
    asked = Query(
        project,
        _version(getattr(options, project), f"--{project}"),
        _version(options.baseline, "--baseline"),
        PLATFORMS if options.platform == "all" else (options.platform,),
        tuple(options.python),
        parse_specifier(options.under, "--under") if options.under else None,
    )
    expectations, waivers = load_expectations(options.expectations), load_waivers(options.waivers)
    folders = arguments.given_or_default(options.folders)
    releases, late = load_releases(), reading.late_now()
    found = read(folders, asked, releases, print_status, late)
    for error in found.errors:
        print_status(str(error))
    if not found.count and not found.errors:
        raise QualifyError(f"no record in {arguments.named(folders)}; `matrix run CELL` makes one")
    answers = load_answers(releases)
    told = qualify(
        asked,
        [(Path(reading.from_here(path)), record) for path, record in found.records],
        expectations,
        releases,
        waivers,
        reading.today(),
        unread=len(found.errors),
        asks=answers,
        aside=found.aside,
        late=late,
    )
    for fault in answers.faults:
        print_status(fault)
    make = report.render if options.json else report.page if options.markdown else report.lines
    given = [
        *(
            part
            for key in ("expectations", "waivers")
            if (path := getattr(options, key)) is not None
            for part in (f"--{key}", str(path))
        ),
        *map(str, options.folders),
    ]
    print(make(told, given), end="")
    return told.exit_status


def _version(text: str, option: str) -> str:
    """A release as it was named, without a local part such as +cu128."""
    from packaging.version import InvalidVersion, Version

    from matrix.qualify.engine import QualifyError

    try:
        return Version(text).public
    except InvalidVersion:
        raise QualifyError(f"{option} {text!r}: is no release; write it as 2.12.1") from None
