"""`matrix table`, `ci`, `predict`, `grid` and `plan`: what many records show together."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status, terminal_of
from matrix._util.gc import gc_paused
from matrix.commands import arguments, context
from matrix.commands.output import show
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.verdict.plan import Planned

_REPEATS = 10  # runs: enough to see what is flaky; a year of nightlies would only cost time


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands `matrix table`, `ci`, `predict`, `grid` and `plan`."""
    _add_table(commands)
    _add_ci(commands)
    _add_predict(commands)
    _add_grid(commands)
    _add_plan(commands)


def _add_table(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    table = commands.add_parser(
        "table",
        help="make the compatibility table of all records",
        epilog="Exit status: 0, or 2 if a record or a folder is invalid (the others are still"
        " printed).",
    )
    arguments.add_folders(table)
    table.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("build", "table"),
        help="where to write index.html, compatibility.md, .json and .csv, agreement.md,"
        " changes.atom, badges and api (default: build/table)",
    )
    arguments.finish(table, _table)


def _add_ci(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    ci = commands.add_parser(
        "ci",
        help="report the records to a CI service, with failures grouped by signature",
        epilog="GitHub: a job summary, and annotations on stdout. Buildkite: an annotation, by"
        " buildkite-agent if there is one. Exit status: 0, whatever the verdicts, or 2 if a"
        " record or a folder is invalid (the others are still printed).",
        allow_abbrev=False,
    )
    arguments.add_folders(ci)
    ci.add_argument(
        "--format",
        choices=("github", "buildkite", "junit"),
        help="default: that of the CI service that runs the command",
    )
    ci.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="write the Markdown or XML there (default: the place where the service reads it,"
        " else stdout)",
    )
    arguments.finish(ci, _ci)


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    predict = commands.add_parser(
        "predict",
        help="compare the CPU's counts with CUDA's: how well a run without a GPU predicts",
        epilog="Exit status: 0, or 2 if a record is invalid or nothing ran on both platforms.",
    )
    arguments.add_folders(predict)
    predict.add_argument("--json", action="store_true", help="print JSON")
    predict.set_defaults(expectations=None, run=_predict, parser=predict)


def _add_grid(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    grid = commands.add_parser(
        "grid",
        help="show how far every torch gets with every vLLM, and why it fails",
        epilog="Exit status: 0, whatever the verdicts, or 2 if a record or a folder is invalid"
        " (the others are still shown).",
    )
    arguments.add_platform_and_folders(grid)
    arguments.add_releases(grid, ("torch", "vllm"))
    shape = grid.add_mutually_exclusive_group()
    shape.add_argument(
        "--width",
        metavar="N",
        type=arguments.width,
        help="the maximum number of columns (default: COLUMNS, or those of the terminal; else, in a"
        " pipe or a file, a line is as long as it needs to be)",
    )
    shape.add_argument("--json", action="store_true", help="print JSON, with every release")
    arguments.finish(grid, _grid)


def _add_plan(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    plan = commands.add_parser(
        "plan",
        help="show which cells would run and why, or print them for tox",
        epilog='tox -e "$(matrix plan --stale --platform cpu --names)" -- --platform cpu runs it.'
        " Exit status: 0, also if no cell has to run; 2 if a record is invalid.",
        allow_abbrev=False,
    )
    arguments.add_platform_and_folders(plan)
    arguments.add_selection(plan)
    plan.add_argument(
        "--all",
        action="store_true",
        help="also cells that cannot work, with the rung and the reason",
    )
    shape = plan.add_mutually_exclusive_group()
    shape.add_argument(
        "--names", action="store_true", help="the environments' names, comma-joined, for tox -e"
    )
    shape.add_argument("--json", action="store_true", help="as JSON, with what cannot work too")
    shape.add_argument(
        "--format",
        choices=("github", "buildkite"),
        help="the jobs of a CI service: GitHub's matrix, for fromJSON, also in GITHUB_OUTPUT as"
        " matrix, jobs and any; or Buildkite's steps, for `buildkite-agent pipeline upload`",
    )
    ci = plan.add_argument_group("with --format")
    ci.add_argument(
        "--max-jobs",
        metavar="N",
        type=arguments.ci_jobs,
        help="the maximum number of jobs, with several cells each if necessary (default: the"
        " limit of the service, 256 or 500)",
    )
    ci.add_argument(
        "--queue", metavar="NAME", help="Buildkite's queue of agents with a GPU (default: cuda)"
    )
    arguments.finish(plan, _plan)


@gc_paused()
def _table(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from matrix._util.files import write_text
    from matrix.advice.install import installs_of
    from matrix.advice.tables_file import load_tables
    from matrix.attribution.attribute import attribute
    from matrix.attribution.runs_index import judge_records
    from matrix.catalog.releases_file import load_releases
    from matrix.checks.lookup import load_answers
    from matrix.record.startup_tests import load_startup_tests
    from matrix.record.tables import TABLE_FILE
    from matrix.report import agreement, api, badges, csv_table, feed, markdown, page, table_json
    from matrix.report.model import report_of
    from matrix.rules.expectations_file import load_expectations
    from matrix.rules.notes import load_notes
    from matrix.rules.platform_differences import load_explanations
    from matrix.verdict.answer import answers
    from matrix.verdict.changes import changes
    from matrix.verdict.grid import environments
    from matrix.verdict.stale import stale_of

    _check_out(options.out)
    expectations, releases = load_expectations(options.expectations), load_releases()
    table, found, status = context.read_all(options, releases, expectations, repeats=_REPEATS)
    checked = load_answers(releases)
    grid = context.grid_of(table.verdicts, releases, checked)
    predictions = context.predictions_of(table, releases, checked)
    late = context.late_now()
    judged = judge_records(found.records, found.runs, table.verdicts, expectations)
    report = replace(
        report_of(table, expectations, load_explanations()),
        grid=grid,
        predictions=predictions,
        attributions=attribute(judged, releases, context.known_pairs(grid, checked), late=late),
        notes=load_notes(),
        answers=answers(grid, table.entries, releases, predictions),
        stale=stale_of(table.entries, load_startup_tests()),
        installs=installs_of(grid, releases, load_tables()),
        asked=checked.asked,
    )
    named = environments(releases)
    made = badges.render(table, grid)
    for name, text in (
        ("compatibility.md", markdown.render(report)),
        (TABLE_FILE, table_json.render(report)),
        (csv_table.CSV_FILE, csv_table.render(report, named)),
        (agreement.AGREEMENT_FILE, agreement.page(report.agreement)),
        (page.PAGE_FILE, page.render(report, named, found.times.series)),
        (feed.FEED_FILE, feed.render(changes(((run.record, run.verdict) for run in judged), late))),
        *made.items(),
    ):
        write_text(options.out / name, text)
        print(options.out / name)
    _write_api(options.out, api.render(report))
    if not found.errors:  # the pair of a badge may have only a record that cannot be read just now
        _delete_badges(options.out / badges.FOLDER, {Path(name).name for name in made})
    print(f"open {options.out / page.PAGE_FILE} in a browser: it needs no server and no network")
    return status


def _delete_badges(folder: Path, made: Collection[str]) -> None:
    """Delete the badges of pairs that have no record any more."""
    for path in sorted(folder.glob("*.svg")):
        if path.name not in made and _is_badge(path):
            path.unlink()
            print(f"{path}: deleted, no record is of that pair any more")


def _write_api(out: Path, files: Mapping[str, str]) -> None:
    """Write the small file of each release, and delete those of releases that went."""
    from matrix._util.files import read_text, write_text
    from matrix.record.tables import API_FOLDER
    from matrix.report import api

    for name, text in files.items():
        write_text(out / name, text)
    if files:
        print(f"{out / API_FOLDER}: {len(files)} files, one a release")
    for path in sorted((out / API_FOLDER).glob("*/*.json")) if files else ():
        name = path.relative_to(out).as_posix()
        try:
            gone = name not in files and not path.is_symlink() and api.is_own(name, read_text(path))
        except (OSError, UnicodeDecodeError):
            continue
        if gone:
            path.unlink()
            print(f"{path}: deleted, the release is not known any more")


def _check_out(folder: Path) -> None:
    """Raise MatrixError where nothing can be written into a folder, before the records are read."""
    from matrix._util.files import check_folder

    try:
        check_folder(folder)
    except OSError as error:
        raise MatrixError(
            f"--out {folder}: cannot be written: {error.strerror or error}; name another folder"
        ) from None


def _is_badge(path: Path) -> bool:
    """Tell whether an earlier table made the file; not if it cannot be read."""
    from matrix._util.files import read_text
    from matrix.report.badges import is_own

    try:
        return not path.is_symlink() and is_own(path.name, read_text(path))
    except (OSError, UnicodeDecodeError):
        return False


@gc_paused()
def _ci(options: argparse.Namespace) -> int:
    from matrix.report.ci_services import service, tell

    form = options.format or service(os.environ)
    table, status = context.read_table(options)
    tell(table, form, options.out, os.environ)
    return status


def _predict(options: argparse.Namespace) -> int:
    from matrix.catalog.releases_file import load_releases
    from matrix.report import prediction
    from matrix.report.agreement import lines
    from matrix.report.predict_json import to_json
    from matrix.rules.platform_differences import load_explanations
    from matrix.verdict.agreement import agree

    releases = load_releases()
    table, _, status = context.read_all(options, releases)
    records = (entry.record for entry in table.entries)
    agreement = agree(records, load_explanations(), table.first_on_cuda)
    if not agreement.pairs:
        raise MatrixError(
            "no torch and vLLM ran on both platforms; `matrix run CELL --platform cpu` and"
            " `--platform cuda` make records to compare"
        )
    if not options.json:
        show(lines(agreement))
    accuracy = context.predictions_of(table, releases).accuracy
    if options.json:
        show(to_json(agreement, accuracy), fit=False)
    else:
        show("".join(f"{line}\n" for line in prediction.summary(accuracy)))
    return status


@gc_paused()
def _grid(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from matrix.catalog.releases_file import load_releases
    from matrix.checks.lookup import load_answers
    from matrix.report.grid import to_json
    from matrix.report.grid_text import lines, outside_line
    from matrix.verdict.grid import outside

    releases = load_releases()
    asked = context.specifiers(options, ("torch", "vllm"), releases)
    table, status = context.read_some(options, releases)
    answers = load_answers(releases)
    known = context.grid_of(table.verdicts, releases, answers)
    grid = known.only(asked.get("torch"), asked.get("vllm"))
    platforms = context.chosen_platforms(options)
    predictions = context.predictions_of(table, releases, answers)
    shown = [pair for pair in table.verdicts if pair[0].platform in platforms]
    if left_out := outside(known, shown, releases, asked):
        print_status(outside_line(left_out))
    if options.json:
        show(to_json(grid.within(platforms), predictions), fit=False)
        return status
    terminal = terminal_of(sys.stdout)
    if options.width is not None:
        terminal = replace(terminal, width=options.width)
    print(lines(grid, platforms, predictions, terminal), end="")
    return status


@gc_paused()
def _plan(options: argparse.Namespace) -> int:
    from matrix.catalog.releases_file import load_releases
    from matrix.commands.selection import select
    from matrix.report.plan import content, lines, names, summary
    from matrix.run.here import Hardware

    _check_ci_options(options)
    platforms = context.chosen_platforms(options)
    elsewhere = Hardware() if options.format else None
    releases = load_releases()
    selected = select(options, releases, platforms, elsewhere=elsewhere)
    planned = selected.planned
    if not (planned or options.stale):  # records that hold leave no stale cell
        context.tell_of_patches(options, releases.published)
    if options.names:
        if found := names(planned):
            print(found)
        else:
            print_status(summary(planned, held=selected.held, off_pin=selected.off_pin))
    elif options.json:
        print(content(planned, selected.tests.current), end="")
    elif options.format:
        _plan_for_ci(options, planned)
    else:
        show(lines(planned, every=options.all, held=selected.held, off_pin=selected.off_pin))
    return selected.status


def _check_ci_options(options: argparse.Namespace) -> None:
    """Refuse an option that goes with another form of plan. Exits as argparse does."""
    for name, given, form in (
        ("--max-jobs", options.max_jobs, options.format),
        ("--queue", options.queue, options.format == "buildkite"),
    ):
        if given is not None and not form:
            options.parser.error(
                f"{name}: goes with --format{' buildkite' if name == '--queue' else ''}"
            )


def _plan_for_ci(options: argparse.Namespace, planned: Sequence[Planned]) -> None:
    """Print the plan as the jobs of a CI service, and on stderr how many they are."""
    from matrix.report import ci_plan
    from matrix.report.ci_services import hand_over
    from matrix.verdict.plan_jobs import jobs_of

    form = ci_plan.PlanFormat(options.format)
    limit = ci_plan.LIMITS[form].jobs
    most = min(options.max_jobs or limit, limit)
    jobs = jobs_of(planned, most)
    if form is ci_plan.PlanFormat.GITHUB:
        print(ci_plan.github(jobs))
        hand_over(ci_plan.github_outputs(jobs), os.environ)
    else:
        print(ci_plan.buildkite(jobs, options.queue or ci_plan.QUEUE), end="")
    print_status(ci_plan.summary(jobs, form, most))
