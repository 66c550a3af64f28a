"""What several commands read: records, the grid, the clock."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix._util.nearest import suggested
from matrix.commands import arguments
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from matrix.attribution.known import KnownPairs
    from matrix.catalog.candidates.model import Candidate
    from matrix.catalog.releases import Releases
    from matrix.checks.lookup import Answers
    from matrix.record.model import Platform, Record
    from matrix.rules.expectations import Expectations
    from matrix.store.loaded import LoadedRecords
    from matrix.verdict.grid import Grid
    from matrix.verdict.judge import CellVerdict
    from matrix.verdict.predictions import Predictions
    from matrix.verdict.table import Table


def read_all(
    options: argparse.Namespace,
    releases: Releases,
    expectations: Expectations | None = None,
    *,
    empty: bool = False,
    damaged: bool = False,
    quiet: bool = False,
    repeats: int | None = 0,
) -> tuple[Table, LoadedRecords, int]:
    """Return the table of the folders that were named, its sources, and the exit status.

    The status is 2 where a record is bad; a line on stderr names it. The expectations are those of
    the options unless the caller has read these. `repeats` is that of `newest_records`. Raises
    MatrixError where no record can be read; with `empty` a folder may have none yet, and a line
    names one that was named, with `damaged` all of them may be damaged, as before a run. With
    `quiet` no line says that the default folders are not there.
    """
    from matrix.report.results import late_lines
    from matrix.rules.expectations_file import load_expectations
    from matrix.store.load import newest_records
    from matrix.verdict.table import tabulate

    found_by = arguments.given_or_default if empty else arguments.required
    folders = (arguments.places_of if quiet else found_by)(options.folders)
    expectations = expectations or load_expectations(options.expectations)
    late = late_now()
    found = newest_records(folders, late, print_status, repeats=repeats)
    none = not (found.records or found.running)
    if none and len(found.errors) == 1 and not (empty and damaged):
        raise MatrixError(str(found.errors[0]))  # it names the fix, and no other place has a record
    for line in (*map(str, found.errors), *late_lines(found.late)):
        print_status(line)
    if none:
        if found.errors and not (empty and damaged):
            named = arguments.named(folders)
            raise MatrixError(f"no record in {named} can be read; name another folder")
        if not empty:
            raise MatrixError(arguments.no_record(folders))
        if not damaged:
            say_if_none(folders, found)
    table = tabulate(
        found.records,
        expectations,
        releases=releases,
        late=late,
        running=found.running,
        first=found.first_on_cuda,
    )
    return table, found, 2 if found.errors else 0


def say_if_none(folders: Sequence[Path | str], found: LoadedRecords) -> None:
    """Say on stderr where the folders hold no record at all, good or bad."""
    if folders and not (found.records or found.running or found.errors):
        print_status(arguments.no_record(folders))


def read_table(options: argparse.Namespace) -> tuple[Table, int]:
    """Return what `read_all` does, without the sources of the table."""
    from matrix.catalog.releases_file import load_releases

    table, _, status = read_all(options, load_releases())
    return table, status


def read_some(options: argparse.Namespace, releases: Releases) -> tuple[Table, int]:
    """Return what `read_table` does, or an empty table where there is no record yet."""
    table, _, status = read_if_any(options, releases)
    return table, status


def read_if_any(
    options: argparse.Namespace, releases: Releases, *, damaged: bool = False
) -> tuple[Table, LoadedRecords | None, int]:
    """Return what `read_all` does, or an empty table without records where there is none yet.

    With `damaged` that is so too where there are none but damaged ones.
    """
    from matrix.verdict.table import Table

    if not arguments.given_or_default(options.folders):
        return Table(entries=()), None, 0
    return read_all(options, releases, empty=True, damaged=damaged, quiet=True)


def record_of(name: str) -> Record:
    """Return the record of an argument. Raises MatrixError, also for a cell, which has many."""
    from matrix.record.model import RecordError
    from matrix.store.load import one_record

    try:
        return one_record(name, print_status)
    except RecordError:
        if not _is_cell(name) or Path(name).exists():
            raise
        listing = f"`matrix results list --cell {name}` names its records"
        raise MatrixError(f"{name}: is a cell, not the file of a record; {listing}") from None


def _is_cell(name: str) -> bool:
    """Tell whether a text is the full name of a cell."""
    from matrix.catalog.cells import CellError, factors

    try:
        return factors(name).vllm is not None
    except CellError:
        return False


def every_record(options: argparse.Namespace, found: LoadedRecords | None) -> Iterable[Record]:
    """Return the records of the folders that were named, not only those that count.

    `found` is what was read of them. Of many records alike, made on machines alike, one may stand
    for the others.
    """
    from matrix.store.layout import by_index
    from matrix.store.load import newest_records

    folders = arguments.places_of(options.folders)
    if found is not None and by_index(folders):
        found = newest_records(folders, late_now(), print_status, repeats=None)
    return [] if found is None else [record for _, record in found.records]


def grid_of(
    judged: Iterable[tuple[Record, CellVerdict]], releases: Releases, answers: Answers | None = None
) -> Grid:
    """Return the grid of all known releases, with these records and their verdicts.

    `answers` are those of the static checks, if the caller has read them.
    """
    from matrix.checks.lookup import load_answers
    from matrix.verdict import grid

    answers = answers or load_answers(releases)
    found = grid.grid_of(judged, releases, answers)
    for fault in answers.faults:
        print_status(fault)
    return found


def known_pairs(grid: Grid, answers: Answers) -> KnownPairs:
    """Return what an attribution asks of pairs: a grid, and what links by the same answers."""
    from matrix.attribution.known import KnownPairs

    return KnownPairs(grid=grid, features=answers.features)


def predictions_of(table: Table, releases: Releases, answers: Answers | None = None) -> Predictions:
    """Return what the table's runs on the CPU predict of CUDA, and how often that was right.

    `answers` are those of the static checks, if the caller has read them and named their faults.
    """
    from matrix.checks.lookup import load_answers
    from matrix.verdict.predictions import predict_pairs

    if answers is None:
        answers = load_answers(releases)
        for fault in answers.faults:
            print_status(fault)
    return predict_pairs(table.entries, releases, resolves=answers.resolves, links=answers.links)


def tell_of_patches(options: argparse.Namespace, known: Mapping[str, Sequence[str]]) -> None:
    """Say on stderr which of several patches a minor release was read as, if nothing was found."""
    from packaging.version import InvalidVersion

    from matrix._util.versions import minor_of, newest_patch

    for key, versions in known.items():
        text = getattr(options, key) or ""
        with contextlib.suppress(InvalidVersion):
            newest = newest_patch(text, versions)
            patches = [version for version in versions if minor_of(version) == minor_of(text)]
            if newest != text and len(patches) > 1:
                print_status(f"--{key} {text} is its newest patch, {newest}; '=={text}.*' has all")


def specifiers(
    options: argparse.Namespace, keys: Sequence[str], releases: Releases
) -> dict[str, SpecifierSet]:
    """Return the releases that these options ask for, by option.

    Raises MatrixError where no release or Python that is known is one of them, and for a candidate
    that is not known.
    """
    from matrix._util.versions import chosen_specifier
    from matrix.catalog.cells import is_meant
    from matrix.catalog.projects import Project

    given = {key: text for key in keys if (text := getattr(options, key)) is not None}
    known = {str(project): releases.versions(project) for project in Project}
    for key in known.keys() & given.keys():
        named_candidate(given[key], key, releases)
    asked = {
        key: chosen_specifier(text, known.get(key, ()), f"--{key}") for key, text in given.items()
    }
    for key, wanted in asked.items():
        versions = releases.pythons if key == "python" else known[key]
        if not any(is_meant(wanted, version) for version in versions):
            raise unknown_release(f"--{key} {given[key]}", releases, python=key == "python")
    return asked


def named_candidate(text: str | None, project: str, releases: Releases) -> Candidate | None:
    """Return the candidate that an option names; None where it names releases.

    Raises MatrixError for a name that no candidate of the project has.
    """
    from matrix.catalog.cells import is_candidate_name

    if text is None or not is_candidate_name(text):
        return None
    candidate = releases.candidates.named(text)
    if candidate.project != project:
        raise MatrixError(
            f"--{project} {text!r}: is a candidate of {candidate.project}; write"
            f" --{candidate.project} {text}"
        )
    return candidate


def refuse_candidates(options: argparse.Namespace, instead: str) -> None:
    """Raise MatrixError where `--torch` or `--vllm` names a candidate, and means releases alone.

    `instead` says which command takes it, with {} where its name goes.
    """
    from matrix.catalog.cells import is_candidate_name
    from matrix.catalog.projects import Project

    for project in Project:
        text = getattr(options, project) or ""
        if is_candidate_name(text):
            raise MatrixError(
                f"--{project} {text}: is the name of a candidate, a build of {project.label} that"
                f" is not published as a final release, and {options.parser.prog} takes releases"
                f" alone; {instead.format(text)}"
            )


def unknown_release(asked: str, releases: Releases, *, python: bool = False) -> MatrixError:
    """Return the error of an option that asks for a release, or a Python, that nobody knows."""
    if python:
        return MatrixError(f"{asked}: is not known; the known are {', '.join(releases.pythons)}")
    near = _nearest_of(asked, releases)
    which = f" (the nearest: {', '.join(near)})" if near else ""
    return MatrixError(f"{asked}: no known release matches{which}; `matrix refresh` reads new ones")


def _nearest_of(asked: str, releases: Releases) -> list[str]:
    """Return the known releases around the one that `--torch 2.99` asks for; none for a range."""
    from packaging.version import InvalidVersion

    from matrix._util.versions import neighbours

    option, _, text = asked.partition(" ")
    try:
        return neighbours(text, releases.published.get(option.removeprefix("--"), ()))
    except InvalidVersion:
        return []


def chosen_platforms(options: argparse.Namespace) -> tuple[Platform, ...]:
    """Return the platform that the options name; all where they name none."""
    from matrix.record.model import PLATFORMS, Platform

    return PLATFORMS if options.platform is None else (Platform(options.platform),)


def today() -> date:
    """Return the day, in UTC, by which a waiver holds or has expired."""
    return datetime.now(timezone.utc).date()


def late_now() -> str:
    """Return the time after which a record is future-dated, by this machine's clock."""
    from matrix.verdict.precedence import late_from

    return late_from(datetime.now(timezone.utc))


def must_have_run(
    records: Sequence[Record], platform: Platform | None, case: str | None, *, whole: bool = False
) -> None:
    """Raise MatrixError if no record, of those given, ran on the platform or has the case.

    A case may be named without its parameters, unless it must be named `whole`. Without a record
    there is nothing to check.
    """
    if platform is not None and records and all(run.platform != platform for run in records):
        cells = {record.cell for record in records}
        cell = cells.pop() if len(cells) == 1 else "CELL"
        raise MatrixError(
            f"--platform {platform}: nothing of what is asked for ran on it; `matrix run {cell}"
            f" --platform {platform}` does"
        )
    names = {seen.case for record in records for seen in record.cases}
    short = set() if whole else {name.partition("[")[0] for name in names}
    if case is not None and names and case not in names | short:
        unknown = f"--case {case!r}: no record has it; they have {', '.join(sorted(names))}"
        raise MatrixError(suggested(unknown, case, names | short))


def with_new_records(folders: list[Path | str]) -> list[Path | str]:
    """Return the folders that were named, and the one that runs through tox write to, if it exists.

    Without a named folder that one is read by default.
    """
    new = Path("records")
    return [*folders, new] if folders and new not in folders and new.is_dir() else folders
