"""`matrix results`: list, compare, index, pack, export and prune many records."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix._util.paths import PUBLISHED
from matrix._util.text import plural
from matrix.commands import context
from matrix.commands.arguments import (
    add_folders,
    add_releases,
    finish,
    given_or_default,
    must_exist_any,
    no_folder,
    no_record,
    place,
    places_of,
    required,
)
from matrix.commands.output import show
from matrix.commands.show import SHOWN_JSON, SHOWN_STATUS, show_record
from matrix.errors import MatrixError
from matrix.verdict.states import VERDICTS, Verdict

if TYPE_CHECKING:
    from matrix.rules.expectations import Expectations
    from matrix.store.protected import ProtectedRecords


_OWN = ("records",)
"""The default of commands that write to a folder of records."""

_READ_STATUS = "Exit status: 0, or 2 if a record cannot be read (the others are still read)."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands below `matrix results`."""
    results = commands.add_parser("results", help="list, compare, pack and prune many records")
    below = results.add_subparsers(metavar="COMMAND", required=True)
    _add_list(below)
    _add_show(below)
    _add_index(below)
    _add_diff(below)
    _add_pack(below)
    _add_export(below)
    _add_merge(below)
    _add_prune(below)


def _add_list(below: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = below.add_parser(
        "list", help="list records, newest first", epilog=_READ_STATUS, allow_abbrev=False
    )
    add_folders(listing)
    listing.add_argument("--cell", metavar="PATTERN", help="such as 'py311-torch210-*'")
    add_releases(listing, ("torch", "vllm", "python"))
    listing.add_argument("--platform", choices=("cuda", "cpu"))
    listing.add_argument("--verdict", choices=[str(verdict) for verdict in VERDICTS])
    listing.add_argument("--since", metavar="DAY", type=_day, help="such as 2026-11-01, in UTC")
    listing.add_argument("--until", metavar="DAY", type=_day, help="that day is included")
    listing.add_argument("--case", metavar="PATTERN", help="such as 'moe_startup*'")
    listing.add_argument("--json", action="store_true", help="print JSON")
    finish(listing, _list)


def _add_show(below: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    shown = below.add_parser(
        "show", help="show one record and its verdict, as `matrix show`", epilog=SHOWN_STATUS
    )
    shown.add_argument("record", metavar="RECORD", help="also one inside an archive")
    shown.add_argument("--counters", action="store_true", help="every counter")
    shown.add_argument(
        "--seconds", action="store_true", help="show how each start spent its seconds"
    )
    shown.add_argument("--json", action="store_true", help=SHOWN_JSON)
    finish(shown, show_record)


def _add_index(below: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    index = below.add_parser(
        "index",
        help="make or update the index of folders of records, which you can delete",
        epilog=_READ_STATUS,
    )
    add_folders(index)
    index.set_defaults(run=_index, parser=index)


def _add_diff(below: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    diff = below.add_parser(
        "diff",
        help="show what differs between two records",
        epilog="Exit status: 0 if equal, 1 if verdicts, cases, counters or seconds beyond noise"
        " differ, 2 if a record is invalid.",
    )
    diff.add_argument("before", metavar="A", help="a record's path, also one inside an archive")
    diff.add_argument("after", metavar="B", help="another")
    diff.add_argument(
        "--history",
        metavar="FOLDER",
        action="append",
        type=place,
        default=[],
        help="records that show the noise of seconds (default: results and records)",
    )
    diff.add_argument("--json", action="store_true", help="print JSON")
    finish(diff, _diff)


def _add_pack(below: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    pack = below.add_parser(
        "pack",
        help="put records into one archive a day",
        epilog="Without --yes the record files stay with the archives, and count once. "
        + _READ_STATUS,
        allow_abbrev=False,
    )
    pack.add_argument("folder", metavar="FOLDER", nargs="?", type=place, help=f"default: {_OWN[0]}")
    pack.add_argument("--all", action="store_true", help="today's records too")
    pack.add_argument("--yes", action="store_true", help="delete the record files that are packed")
    finish(pack, _pack)


def _add_export(below: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = below.add_parser(
        "export",
        help="write records, starts and counters as Parquet, for any other engine",
        epilog=_READ_STATUS,
    )
    add_folders(export)
    export.add_argument(
        "--parquet", metavar="DIR", type=Path, required=True, help="the target folder"
    )
    export.set_defaults(run=_export, parser=export)


def _add_merge(below: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    merge = below.add_parser(
        "merge",
        help="merge folders of records, such as the artifacts of CI jobs, into one",
        epilog="The same record is stored once, and two records of one name are both kept; logs"
        " and JUnit files go with their records. A second merge changes nothing. Exit status: 0,"
        " or 2 if something was rejected (the rest is merged).",
        allow_abbrev=False,
    )
    merge.add_argument(
        "folders",
        metavar="FOLDER",
        nargs="+",
        type=place,
        help="folders, single records, archives of records, an object store's address",
    )
    merge.add_argument("--into", metavar="DIR", type=place, required=True, help="the target folder")
    merge.set_defaults(run=_merge, parser=merge)


def _add_prune(below: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    prune = below.add_parser(
        "prune",
        help="show which records a policy deletes, and delete them",
        epilog="Never deleted: the newest record of a cell on a platform, its newest whole one,"
        " what the table shows, what an expectation or an explanation names, the first of a vLLM on"
        f" CUDA, and what comes from the future. {_READ_STATUS}",
        allow_abbrev=False,
    )
    add_folders(prune, _OWN, stores=False)
    prune.add_argument(
        "--keep", metavar="N", type=int, help="select records beyond the N newest of a cell"
    )
    prune.add_argument("--older-than", metavar="DAYS", type=_days, help="such as 90d")
    prune.add_argument("--yes", action="store_true", help="delete")
    finish(prune, _prune)


def _list(options: argparse.Namespace) -> int:
    from matrix.catalog.releases_file import load_releases
    from matrix.record.model import Platform
    from matrix.report.results import late_lines, listed_json, listed_lines
    from matrix.rules.expectations_file import load_expectations
    from matrix.store.listing import RecordFilter, find
    from matrix.store.query import History

    own = "`matrix results list --cell '*{}*'` lists the records of its cells"
    context.refuse_candidates(options, own)
    expectations = load_expectations(options.expectations)
    asked = RecordFilter(
        **{
            key: getattr(options, key)
            for key in ("cell", "torch", "vllm", "python", "since", "until", "case")
        },
        platform=Platform(options.platform) if options.platform else None,
        verdict=Verdict(options.verdict) if options.verdict else None,
    )
    releases = load_releases()
    known = releases.published
    folders = required(options.folders)
    with History(folders, print_status) as history:
        listed = find(history, asked, expectations, known)
        status = _tell(history.errors)
        for line in late_lines(history.late(context.late_now())):
            print_status(line)
        if not (listed or status) and asked == RecordFilter():
            print_status(no_record(folders))
    if not listed:  # a record may be of a release that is not known any more
        context.specifiers(options, ("torch", "vllm", "python"), releases)
        context.tell_of_patches(options, known)
    text = listed_json(listed) if options.json else listed_lines(listed)
    show(text, fit=not options.json)
    return status


def _index(options: argparse.Namespace) -> int:
    from matrix.store.query import History

    with History(_folders(options.folders), print_status, index=True) as history:
        status, count = _tell(history.errors), history.count()
    print(f"{count} records indexed")
    return status


def _diff(options: argparse.Namespace) -> int:
    from matrix.report.diff import diff_json, diff_lines
    from matrix.rules.expectations_file import load_expectations
    from matrix.store.diff import Aspect, differences
    from matrix.store.load import one_record, times_of

    expectations = load_expectations(options.expectations)
    names = options.before, options.after
    before, after = (one_record(name, print_status) for name in names)
    places = given_or_default(options.history)
    late = context.late_now()
    times = times_of((before.cell, before.platform), places, late, print_status)
    diff = differences(before, after, expectations, times)
    seen = {started for series in times.series.values() for started, _ in series}
    known = sum(started <= before.started for started in seen)
    text = diff_json(diff, names) if options.json else diff_lines(diff, names, history=known)
    show(text, fit=not options.json)
    telling = {Aspect.VERDICT, Aspect.CASE, Aspect.COUNTER, Aspect.SECONDS}
    return int(any(change.notable and change.aspect in telling for change in diff.changes))


def _pack(options: argparse.Namespace) -> int:
    from matrix.rules.expectations_file import load_expectations
    from matrix.store.archive import pack
    from matrix.store.query import History

    now = datetime.now(timezone.utc)
    before = "9999" if options.all else f"{now:%Y-%m-%dT00:00:00Z}"
    if isinstance(options.folder, str):
        raise MatrixError("an object store is not packed from here; pack the folder it comes from")
    (folder,) = required([options.folder] if options.folder else [], _OWN)
    if not (isinstance(folder, Path) and folder.is_dir()):
        raise MatrixError(f"{folder}: is not a folder; name one with records")
    with History([folder], print_status, index=True) as history:
        status = _tell(history.errors)
        named = _named(load_expectations(options.expectations))
        packed = pack(
            folder,
            history.rows,
            before,
            named.has,
            print_status,
            drop=options.yes,
        )
    for archive in packed.archives:
        print(archive)
    if options.yes:
        print(f"{plural(packed.deleted, 'record file')} packed and deleted")
    else:
        count = len(packed.files)
        verb, them = ("is", "it") if count == 1 else ("are", "them")
        print(f"{plural(count, 'record file')} {verb} packed; --yes deletes {them}")
    return status


def _export(options: argparse.Namespace) -> int:
    from matrix.store.export import export
    from matrix.store.query import History

    with History(required(options.folders), print_status) as history:
        status = _tell(history.errors)
        for path in export(history.rows, options.parquet):
            print(path)
    return status


def _merge(options: argparse.Namespace) -> int:
    from matrix.report.results import merged_line, refused_lines
    from matrix.store.merge import merge

    if isinstance(options.into, str):
        raise MatrixError("--into: an object store is not written; merge into a folder, upload it")
    must_exist_any(options.folders)
    merged = merge(options.folders, options.into, print_status)
    for line in refused_lines(merged):
        print_status(line)
    print(merged_line(merged, options.into), end="")
    return 2 if merged.refused else 0


def _prune(options: argparse.Namespace) -> int:
    from matrix.report.results import prune_lines
    from matrix.rules.expectations_file import load_expectations
    from matrix.store.archive import delete
    from matrix.store.query import History
    from matrix.store.retention import RetentionPolicy, prunable

    now = datetime.now(timezone.utc)
    before = None
    if options.older_than is not None:
        before = f"{now - timedelta(days=options.older_than):%Y-%m-%dT%H:%M:%SZ}"
    policy = RetentionPolicy(keep=options.keep, before=before)
    places = required(options.folders, _OWN)
    if any(isinstance(place, str) for place in places):
        raise MatrixError("an object store is not pruned from here; prune the folder it comes from")
    expectations = load_expectations(options.expectations)
    named = _named(expectations)
    with History(places, print_status) as history:
        status = _tell(history.errors)
        stored = history.for_policy(context.late_now(), expectations, named)
        gone = prunable(stored, policy)
        files = [path for record in gone for path in record.paths]
        done = delete(history.rows, files, print_status) if options.yes and files else None
        print(prune_lines(gone, files, len(stored) - len(gone), done=done), end="")
    return status


def _named(expectations: Expectations) -> ProtectedRecords:
    """Return the records that are evidence, for the package's own explanations and notes too."""
    from matrix.rules.notes import load_notes
    from matrix.rules.platform_differences import load_explanations
    from matrix.store.protected import named_records

    return named_records(expectations, load_explanations(), load_notes())


def _folders(given: Sequence[Path | str]) -> list[Path | str]:
    """Return what `required` does, but no folder of a wheel: an index is a file in each folder."""
    if not given and places_of(given) == [PUBLISHED]:
        raise MatrixError(no_folder())
    return required(given)


def _tell(errors: Sequence[MatrixError]) -> int:
    for error in errors:
        print_status(str(error))
    return 2 if errors else 0


def _day(text: str) -> str:
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"):
        try:
            parsed = datetime.strptime(text, form).replace(tzinfo=timezone.utc)
            if parsed.strftime(form) == text:
                return text
        except ValueError:
            continue
    raise argparse.ArgumentTypeError(
        f"{text!r} is neither a day, such as 2026-11-22, nor a time, such as 2026-11-22T18:00:00Z"
    )


def _days(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}d?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days, such as 90d")
    return int(text.removesuffix("d"))
