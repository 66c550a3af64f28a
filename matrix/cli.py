"""The `matrix` command: thin; each subcommand imports what it needs, so `run` works in any cell."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from matrix import arguments
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from matrix.attribution import Attribution, Judged, Observation
    from matrix.engines.history import Found
    from matrix.engines.reruns import Rerun
    from matrix.expectations import Expectations
    from matrix.grid import Grid
    from matrix.linkage import Linkage
    from matrix.records import Record
    from matrix.table import Entry, Table
    from matrix.verdicts import CellVerdict

__all__ = ["main"]

_TABLE_REPEATS = 10  # runs: enough to see what is flaky; a year of nightlies would only cost time


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status: 2 for an input that cannot be used."""
    given = list(sys.argv[1:] if argv is None else argv)
    # What follows the first -- is pytest's, and argparse would mix it up with its own. So is, for
    # `run`, what only pytest knows: `tox -e CELL -- -k moe` hands over `-k moe` alone.
    cut = given.index("--") if "--" in given else len(given)
    options, unknown = _parser().parse_known_args(given[:cut])
    options.pytest_args = [*unknown, *given[cut + 1 :]]
    options.given = given
    if "folders" in options and all(not each.startswith("-") for each in unknown):
        # argparse does not know the folders that follow a later option for what they are.
        options.folders = [*options.folders, *map(arguments.place, unknown)]
        options.pytest_args = given[cut + 1 :]
    if options.pytest_args and options.run is not _run:
        options.parser.error(f"unrecognized arguments: {' '.join(options.pytest_args)}")
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except MatrixError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        # The reader has seen enough (`| head`); Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _say(f"{error.filename or 'input or output'}: {error.strerror or error}")
        return 2
    return status


def _run(options: argparse.Namespace) -> int:
    if options.bundle is not None:
        from matrix import offline

        return offline.main(options.given[1:])
    if options.work is not None:
        raise MatrixError(f"--work {options.work}: goes with --bundle DIR only; leave it out")
    from matrix.engines.local import RUN_TIMEOUT, run_cell
    from matrix.expectations import load_expectations
    from matrix.preflight import why_not_cuda
    from matrix.records import read
    from matrix.releases import load_releases
    from matrix.verdicts import exit_status

    # Before the run: a fault in the expectations must not surface after ten minutes.
    expectations = load_expectations()
    cell = load_releases().resolve(options.cell)
    note = why_not_cuda(options.platform)
    if note is not None:
        _say(note)
    done = run_cell(
        cell,
        platform=options.platform,
        records=options.records,
        pytest_args=options.pytest_args,
        timeout=options.timeout or RUN_TIMEOUT,
        model_source=options.model_source,
        jobs=options.jobs,
    )
    if isinstance(done, int):  # pytest was asked for its help or a list, and has given it
        return done
    return exit_status(_print_record(read(done), _from_here(done), expectations))


def _bundle(options: argparse.Namespace) -> int:
    from matrix import bundle
    from matrix.engines.bundles import Wanted, make_bundle, refresh_bundle
    from matrix.releases import load_releases

    if options.refresh:
        refresh_bundle(options.out)
        return 0
    if not options.cells:
        raise MatrixError("no cell named; write one, such as py312-torch210")
    releases = load_releases()
    cells = tuple(dict.fromkeys(releases.resolve(each) for each in options.cells))
    wanted = Wanted(
        cells,
        bundle.Target(bundle.one_python(cells), options.machine),
        gpu_arch=options.gpu_arch,
        have=tuple(bundle.parse_have(each) for each in options.have),
        without=tuple(options.without),
        split=bundle.parse_size(options.split) if options.split else None,
        repack=options.repack,
        reuse=options.reuse,
    )
    make_bundle(wanted, releases, options.out)
    return 0


def _resolve(options: argparse.Namespace) -> int:
    from matrix.engines.resolving import Wish, resolve_cells
    from matrix.releases import load_releases

    wish = Wish(
        cells=tuple(options.cells),
        all_pins=options.all_pins,
        off_pin=options.off_pin,
        stale=options.stale,
        pythons=tuple(options.python),
        torch=options.torch,
        vllm=options.vllm,
        override=options.override,
        refresh=options.refresh,
        machine=options.machine,
        glibc=options.glibc,
        jobs=options.jobs,
    )
    return resolve_cells(wish, load_releases(), options.data)


def _refresh(options: argparse.Namespace) -> int:
    from contextlib import closing

    from matrix.engines.index import Index
    from matrix.engines.refreshes import refresh
    from matrix.releases import RELEASES_FILE
    from matrix.report.releases import render

    path = options.releases or RELEASES_FILE
    with closing(Index(options.index)) as index:
        done = refresh(path, index, check=options.check, jobs=options.jobs)
    print(render(done, _from_here(path), check=options.check), end="")
    for failure in done.failures:
        _say(failure)
    if done.failures:
        return 2
    return 1 if options.check and done.changes else 0


def _linkage(options: argparse.Namespace) -> int:
    from matrix.linkage import DATA

    folder = options.tables or DATA
    if options.read or options.fill:
        if options.vllm or options.torch or options.json:
            raise MatrixError("--read and --fill make tables; ask about a pair in a second call")
        return _make_tables(options, folder)
    return _ask_linkage(options, folder)


def _make_tables(options: argparse.Namespace, folder: Path) -> int:
    from matrix.engines.index import Index
    from matrix.engines.symbols import fill, read_wheels

    faults = read_wheels(options.read, folder) if options.read else []
    if options.fill:
        faults += fill(Index(options.index), folder)
    for fault in faults:
        _say(fault)
    return 2 if faults else 0


def _ask_linkage(options: argparse.Namespace, folder: Path) -> int:
    from matrix.linkage import load_tables
    from matrix.releases import load_releases
    from matrix.report.linkage import grid, one, to_json
    from matrix.symbols import SymbolsError

    tables = load_tables(folder)
    if options.vllm and options.torch:
        found = tables.link(options.vllm, options.torch, options.python)
        print(to_json([found], extensions=True) if options.json else one(found), end="")
        return 0 if found.ok else 1
    vllms = [options.vllm] if options.vllm else tables.vllm_versions
    torches = [options.torch] if options.torch else tables.torch_versions
    linkages: list[Linkage] = []
    faults: dict[str, None] = {}
    for vllm in vllms:
        for torch in torches:
            try:
                linkages.append(tables.link(vllm, torch, options.python))
            except SymbolsError as error:
                faults[str(error)] = None
    for fault in faults:
        _say(fault)
    if not linkages:
        raise MatrixError(f"{folder}: no symbol tables to answer from; matrix linkage --fill")
    pins = {each.version: each.torch for each in load_releases().vllm}
    told = to_json(linkages, extensions=False) if options.json else None
    print(told or grid(linkages, pins, options.python), end="")
    return 2 if faults else 0


def _show(options: argparse.Namespace) -> int:
    from matrix.engines.history import one_record
    from matrix.expectations import load_expectations

    expectations = load_expectations(options.expectations)
    record, name = one_record(options.record, _say), _from_here(options.record)
    _print_record(record, name, expectations, every=options.counters, split=options.seconds)
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from matrix.calibrate import calibrate
    from matrix.engines.history import one_record
    from matrix.expectations import load_expectations

    expectations = load_expectations(options.expectations)
    record, name = one_record(options.record, _say), _from_here(options.record)
    print(calibrate(record, expectations, name=name, every=options.all), end="")
    return 0


def _table(options: argparse.Namespace) -> int:
    # What a table is made of lives to the end: to look through it for cycles takes a tenth more.
    gc.disable()
    try:
        return _write_table(options)
    finally:
        gc.enable()


def _write_table(options: argparse.Namespace) -> int:
    from matrix.grid import environments
    from matrix.notes import load_notes
    from matrix.records import write_text
    from matrix.releases import load_releases
    from matrix.report import agreement, badges, csv_table, markdown, page, table_json

    table, found, status = _read_all(options, repeats=_TABLE_REPEATS)
    table = replace(table, grid=_survey(table.entries), notes=load_notes())
    table = replace(table, attributions=_attributed(options, table, found))
    named = environments(load_releases())
    made = badges.render(table)
    for name, text in (
        ("compatibility.md", markdown.render(table)),
        ("compatibility.json", table_json.render(table)),
        (csv_table.PAGE, csv_table.render(table, named)),
        (agreement.PAGE, agreement.page(table.agreement)),
        (page.PAGE, page.render(table, named, found.times.series)),
        *made.items(),
    ):
        write_text(options.out / name, text)
        print(options.out / name)
    # A record that cannot be read just now may be all that a badge stands for.
    for path in sorted((options.out / badges.FOLDER).glob("*.svg")) if not found.errors else ():
        if f"{badges.FOLDER}/{path.name}" not in made and _is_badge(path):
            path.unlink()
            print(f"{path}: deleted, no record is of that pair any more")
    return status


def _is_badge(path: Path) -> bool:
    """Whether an earlier table made the file; what cannot be read is not touched."""
    from matrix.report.badges import is_own

    try:
        return not path.is_symlink() and is_own(path.name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False


def _ci(options: argparse.Namespace) -> int:
    from matrix.engines import ci

    form = options.format or ci.service(os.environ)
    table, status = _read_table(options)
    ci.tell(table, form, options.out, os.environ)
    return status


def _predict(options: argparse.Namespace) -> int:
    from matrix.report.agreement import lines

    table, status = _read_table(options)
    if not table.agreement.pairs:
        raise MatrixError(
            "no torch and vLLM ran on both platforms; `matrix run CELL --platform cpu` and"
            " `--platform cuda` make records to compare"
        )
    print(lines(table.agreement), end="")
    return status


def _grid(options: argparse.Namespace) -> int:
    from matrix.records import PLATFORMS
    from matrix.report.grid import lines

    asked = _specifiers(options, ("torch", "vllm"))
    table, status = _read_some(options)
    grid = _survey(table.entries).only(asked.get("torch"), asked.get("vllm"))
    for name, releases in (("torch", grid.torch), ("vllm", grid.vllm)):
        if not releases:
            raise MatrixError(
                f"--{name} {getattr(options, name)}: no known release is that; "
                f"`matrix refresh` reads new ones"
            )
    print(lines(grid, (options.platform,) if options.platform else PLATFORMS), end="")
    return status


def _plan(options: argparse.Namespace) -> int:
    from matrix.plan import Wanted, parse_release, plan
    from matrix.provenance import fingerprint
    from matrix.records import PLATFORMS
    from matrix.releases import load_releases
    from matrix.report import plan as report

    wanted = Wanted(
        **_specifiers(options, ("torch", "vllm", "python")),
        platforms=(options.platform,) if options.platform else PLATFORMS,
        stale=options.stale,
        off_pin=options.off_pin,
        new=tuple(parse_release(each, "--new") for each in options.new),
        neighbours=tuple(parse_release(each, "--neighbours") for each in options.neighbours),
    )
    table, status = _read_some(options)
    print_of = fingerprint(Path(__file__).resolve().parents[1])
    records = [entry.record for entry in table.entries]
    planned = plan(_survey(table.entries), load_releases(), records, print_of, wanted)
    if options.names:
        if names := report.names(planned):
            print(names)
        else:
            _say(report.summary(planned))
    elif options.json:
        print(report.content(planned, print_of), end="")
    else:
        print(report.lines(planned, every=options.all), end="")
    return status


def _qualify(options: argparse.Namespace) -> int:
    from matrix.answers import load_answers
    from matrix.engines.qualifying import read
    from matrix.expectations import load_expectations
    from matrix.plan import parse_specifier
    from matrix.qualify import QualifyError, qualify
    from matrix.records import PLATFORMS
    from matrix.releases import load_releases
    from matrix.report import qualify as report
    from matrix.sides import Asked
    from matrix.waivers import load_waivers

    project = "torch" if options.torch is not None else "vllm"
    asked = Asked(
        project,
        _version(getattr(options, project), f"--{project}"),
        _version(options.baseline, "--baseline"),
        PLATFORMS if options.platform == "all" else (options.platform,),
        tuple(options.python),
        parse_specifier(options.under, "--under") if options.under else None,
    )
    expectations, waivers = load_expectations(options.expectations), load_waivers(options.waivers)
    folders = arguments.given_or_default(options.folders)
    releases, late = load_releases(), _late()
    found = read(folders, asked, releases, _say, late)
    for error in found.errors:
        _say(str(error))
    if not found.count and not found.errors:
        named = ", ".join(str(each) for each in folders) or ", ".join(arguments.DEFAULT_FOLDERS)
        raise QualifyError(f"no record in {named}; `matrix run CELL` makes one")
    answers = load_answers(releases)
    told = qualify(
        asked,
        [(Path(_from_here(path)), record) for path, record in found.records],
        expectations,
        releases,
        waivers,
        _today(),
        unread=len(found.errors),
        asks=answers,
        aside=found.aside,
        late=late,
    )
    for fault in answers.faults:
        _say(fault)
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


def _today() -> date:
    """The day, in UTC, by which a waiver holds or has expired."""
    return datetime.now(timezone.utc).date()


def _version(text: str, option: str) -> str:
    """A release as it was named, without a local part such as +cu128."""
    from packaging.version import InvalidVersion, Version

    from matrix.qualify import QualifyError

    try:
        return Version(text).public
    except InvalidVersion:
        raise QualifyError(f"{option} {text!r}: is no release; write it as 2.12.1") from None


def _specifiers(options: argparse.Namespace, keys: Sequence[str]) -> dict[str, SpecifierSet]:
    """The releases that these options ask for, by option."""
    from matrix.plan import parse_specifier

    asked = {key: getattr(options, key) for key in keys}
    return {
        key: parse_specifier(text, f"--{key}") for key, text in asked.items() if text is not None
    }


def _survey(entries: Iterable[Entry]) -> Grid:
    """The grid of all known releases, with these entries as the records."""
    from matrix.answers import load_answers
    from matrix.grid import runs, survey
    from matrix.releases import load_releases

    releases = load_releases()
    answers = load_answers(releases)
    seen = runs(((entry.record, entry.verdict) for entry in entries), releases)
    grid = survey(releases, resolves=answers.resolves, links=answers.links, seen=seen)
    for fault in answers.faults:
        _say(fault)
    return grid


def _read_some(options: argparse.Namespace) -> tuple[Table, int]:
    """As `_read_table`, for what can be told without a single record too."""
    from matrix.table import Table

    if not arguments.given_or_default(options.folders):
        return Table(()), 0
    return _read_table(options)


def _read_table(options: argparse.Namespace) -> tuple[Table, int]:
    """The table of the folders that were named, and the exit status: 2 where a record is bad."""
    table, _, status = _read_all(options)
    return table, status


def _late() -> str:
    """The start after which a record comes from the future, by this machine's clock."""
    from matrix.history import late_from

    return late_from(datetime.now(timezone.utc))


def _read_all(
    options: argparse.Namespace, *, empty: bool = False, repeats: int | None = 0
) -> tuple[Table, Found, int]:
    """The same, and what the table was made of; with `empty` there may be no record yet.

    `repeats` as for `newest_records`.
    """
    from matrix.differences import load_explanations
    from matrix.engines.history import newest_records
    from matrix.expectations import load_expectations
    from matrix.releases import load_releases
    from matrix.report.results import late_lines
    from matrix.table import tabulate

    folders = arguments.given_or_default(options.folders)
    named = ", ".join(str(each) for each in folders) or ", ".join(arguments.DEFAULT_FOLDERS)
    expectations, explanations = load_expectations(options.expectations), load_explanations()
    late = _late()
    found = newest_records(folders, late, _say, repeats=repeats)
    for line in (*map(str, found.errors), *late_lines(found.late)):
        _say(line)
    if not found.records and not (empty and not found.errors):
        raise MatrixError(f"no good record in {named}; `matrix run CELL` makes one")
    table = tabulate(found.records, expectations, explanations, load_releases(), late)
    return table, found, 2 if found.errors else 0


def _attributed(options: argparse.Namespace, table: Table, read: Found) -> tuple[Attribution, ...]:
    """Whose fault is what fails or drifts in the table's cells, by the runs that have a say."""
    from matrix.attribution import attribute
    from matrix.releases import load_releases

    judged = _judged(options, table, read)
    return attribute(judged, load_releases(), table.grid, late=_late())


def _judged(options: argparse.Namespace, table: Table, read: Found) -> list[Judged]:
    """The table's records and all others that have a say, with verdicts."""
    from matrix.attribution import Judged
    from matrix.expectations import load_expectations
    from matrix.verdicts import Remembered, judge

    expectations = Remembered(load_expectations(options.expectations))
    shown = {id(entry.record): entry.verdict for entry in table.entries}
    return [
        Judged(record, shown.get(id(record)) or judge(record, expectations), read.runs.get(path, 1))
        for path, record in read.records
        if path in read.runs or id(record) in shown
    ]


def _attribute(options: argparse.Namespace) -> int:
    from matrix.attribution import attribute, unanswered
    from matrix.engines.reruns import run_all
    from matrix.releases import load_releases
    from matrix.report.attribution import lines, to_json

    if options.cell is None and not options.all:
        raise MatrixError("attribute: name a cell, such as py311-torch212-vllm020, or say --all")
    if options.cell is not None and options.all:
        # What stands in the place of the cell is a folder: `matrix attribute --all results`.
        options.folders = [arguments.place(options.cell), *options.folders]
        options.cell = None
    names = None
    if options.cell is not None:
        names = frozenset([_full_name(options.cell)])
    failures: list[str] = []
    for again in (False, True):
        table, read, status = _read_all(options, repeats=None)
        table = replace(table, grid=_survey(table.entries))
        known = {entry.record.cell for entry in table.entries}
        if names is not None and not names & known:
            (name,) = names
            raise MatrixError(f"{name}: never ran, so there is nothing to attribute; tox -e {name}")
        every = [each for _, each in read.records if names is None or each.cell in names]
        _must_have_run(every, options.platform, options.case)
        asked = {"names": names, "platform": options.platform, "case": options.case}
        judged = _judged(options, table, read)
        found = attribute(
            judged,
            load_releases(),
            table.grid,
            changes=options.changes,
            late=_late(),
            **asked,
        )
        wanted = _reruns(found)
        if again or not options.run_missing or options.dry_run or not wanted:
            break
        print(lines(found), end="", file=sys.stderr)
        failures = run_all(wanted, Path.cwd())
        for failure in failures:
            _say(failure)
        options.folders = _with_new_records(options.folders)
    silent = unanswered(judged, load_releases(), **asked)
    print(to_json(found, silent) if options.json else lines(found, silent), end="")
    if options.run_missing and not wanted:
        _say("no run is missing that could tell more")
    elif options.dry_run:
        run_all(wanted, Path.cwd(), dry=True)
    return 2 if failures else status


def _bisect(options: argparse.Namespace) -> int:
    from matrix.engines.reruns import Rerun, run_all, shown
    from matrix.grid import environments
    from matrix.releases import load_releases
    from matrix.report.attribution import search_lines
    from matrix.search import line_of, parse_range, search, standing

    ends = {key: parse_range(getattr(options, key), f"--{key}") for key in ("torch", "vllm")}
    moving, line = line_of(environments(load_releases()), options.python, **ends)
    tried: set[str] = set()
    failed = False
    hopeless: set[str] | None = None
    while True:
        table, read, status = _read_all(options, empty=options.run_missing, repeats=None)
        if hopeless is None:
            grid = _survey(table.entries)
            climbs = {name: grid.climb(cell, options.platform) for name, cell in line.items()}
            hopeless = {name for name, each in climbs.items() if each is not None and each.hopeless}
            _must_have_run([record for _, record in read.records], None, options.case, whole=True)
        seen, unclear = standing(line, options.case, options.platform, _observed(options, read))
        found = search(moving, line, seen, {*hopeless, *(tried - set(seen))}, unclear)
        following = found.bisection.next
        if following is None or not options.run_missing:
            break
        for failure in run_all([Rerun(following, options.platform, (options.case,))], Path.cwd()):
            _say(failure)
            failed = True
        tried.add(following)
        options.folders = _with_new_records(options.folders)
    print(search_lines(found, options.case, options.platform), end="")
    if following is not None:
        print(f"next: {shown(Rerun(following, options.platform, (options.case,)))}")
    return 2 if failed else status


def _with_new_records(folders: list[Path | str]) -> list[Path | str]:
    """The folders that were named, and the one that runs through tox write to, where it is there.

    Where none was named it is one of those that are looked for anyway.
    """
    new = Path("records")
    return [*folders, new] if folders and new not in folders and new.is_dir() else folders


def _observed(options: argparse.Namespace, read: Found) -> Iterator[Observation]:
    """What the records show of each case, each judged by the expectations."""
    from matrix.attribution import observe
    from matrix.expectations import load_expectations
    from matrix.grid import ran_cell
    from matrix.verdicts import Remembered, judge

    expectations, late = Remembered(load_expectations(options.expectations)), _late()
    for path, record in read.records:
        cell = ran_cell(record) if record.platform == options.platform else None
        if cell is not None:
            runs = read.runs.get(path, 1)
            yield from observe(record, judge(record, expectations), cell, late, runs)


def _must_have_run(
    records: Sequence[Record], platform: str | None, case: str | None, *, whole: bool = False
) -> None:
    """Raise MatrixError for a platform or a case of which these records, if any, tell nothing.

    A case may be named without its parameters, unless it must be named `whole`.
    """
    if platform is not None and records and all(each.platform != platform for each in records):
        cells = {each.cell for each in records}
        cell = cells.pop() if len(cells) == 1 else "CELL"
        raise MatrixError(
            f"--platform {platform}: nothing of what is asked for ran on it; `matrix run {cell}"
            f" --platform {platform}` does"
        )
    names = {each.case for record in records for each in record.cases}
    short = set() if whole else {each.partition("[")[0] for each in names}
    if case is not None and names and case not in names | short:
        raise MatrixError(
            f"--case {case!r}: no record has it; they have {', '.join(sorted(names))}"
        )


def _reruns(found: Iterable[Attribution]) -> list[Rerun]:
    """The missing runs of these attributions, each environment once with all of its cases."""
    from matrix.engines.reruns import Rerun

    wanted: dict[tuple[str, str, tuple[tuple[str, str], ...]], dict[str, None]] = {}
    for each in found:
        for missing in each.missing:
            key = missing.name, missing.platform, missing.flags
            wanted.setdefault(key, {})[each.case] = None
    return [
        Rerun(name, platform, tuple(cases), flags)
        for (name, platform, flags), cases in wanted.items()
    ]


def _full_name(name: str) -> str:
    """The full name of an environment, short or full. Raises CellError where it is none."""
    from matrix.cells import factors
    from matrix.releases import load_releases

    return name if factors(name).vllm is not None else load_releases().resolve(name).name


def _sync(options: argparse.Namespace) -> int:
    from matrix.records import write_text
    from matrix.releases import load_releases
    from matrix.sync import difference, synced

    path, releases = Path("tox.ini"), load_releases()
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MatrixError(f"{path}: is not text ({error}); restore it") from error
    fresh = synced(text, releases)
    changes = difference(text, fresh)
    if not changes:
        print(f"{path} is up to date with matrix/data: {len(releases.on_pin())} on-pin cells")
        return 0
    if options.check:
        _say(f"{path} is stale, it does not say what matrix/data says; run matrix sync")
    else:
        write_text(path, fresh)
        print(f"{path} was written anew: {len(releases.on_pin())} on-pin cells")
    print("\n".join(changes))
    return 1 if options.check else 0


def _check(options: argparse.Namespace) -> int:
    from matrix.expectations import load_expectations
    from matrix.notes import load_notes
    from matrix.releases import load_releases
    from matrix.waivers import load_waivers

    releases = load_releases()
    cells = releases.cells()
    for cell in cells:
        releases.companions(cell)
    print(f"releases      {len(releases.torch)} of torch, {len(releases.vllm)} of vLLM")
    print(f"cells         {len(cells)}, each with its companions")
    expectations = load_expectations(options.expectations)
    print(f"expectations  {len(expectations.rules)} rules, no two of them tie")
    otherwise = sum(len(rule.upstream.counters) for rule in expectations.rules if rule.upstream)
    print(f"upstream      counters measured otherwise than upstream publishes: {otherwise}")
    for line in _check_differences():
        print(line)
    print(f"notes         {len(load_notes())} on pairs of releases")
    waivers = load_waivers(options.waivers)
    expired = [each.id for each in waivers.every if each.expired(_today())]
    over = f", expired: {', '.join(expired)}" if expired else ""
    print(f"waivers       {len(waivers.every)} known failures that are accepted{over}")
    return 0


def _check_differences() -> list[str]:
    """What the published records of this folder say of the explanations, without jsonschema."""
    from matrix.agreement import agree
    from matrix.differences import load_explanations
    from matrix.records import read

    explanations = load_explanations()
    records = [read(path) for path in sorted(Path("results").rglob("*.json"))]
    told = agree(records, explanations)
    used = {why.id for each in told.differences for why in each.why}
    idle = [each.id for each in explanations.every if each.id not in used]
    said = f"differences   explanations: {len(explanations.every)}"
    if not told.pairs:
        return [f"{said}; no torch and vLLM have results of both platforms to hold them against"]
    said += (
        f"; counters that differ: {len(told.differences)}, not explained: {len(told.unexplained)}"
    )
    return [said, *(f"              {each} explains nothing" for each in idle)]


def _print_record(
    record: Record,
    name: str,
    expectations: Expectations,
    *,
    every: bool = False,
    split: bool = False,
) -> CellVerdict:
    from matrix.releases import load_releases
    from matrix.report.terminal import render
    from matrix.verdicts import judge

    verdict = judge(record, expectations)
    told = render(
        record,
        verdict,
        name,
        colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
        every=every,
        split=split,
        pin=load_releases().overridden_pin(record.cell),
    )
    print(told, end="")
    return verdict


def _from_here(path: Path | str) -> str:
    """The path as a person would type it here; the address of an object store as it is."""
    if isinstance(path, str) and "://" in path:
        return path
    whole = Path(path).absolute()
    here = Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else path)


def _say(line: str) -> None:
    from matrix.report.text import clean

    print(f"matrix: {clean(line)}", file=sys.stderr)


def _never_fail_to_encode(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    from matrix import results

    parser = argparse.ArgumentParser(
        prog="matrix", description="The compatibility matrix of torch and vLLM."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run",
        help="run one cell in this environment, write its record and judge it",
        usage="%(prog)s [options] CELL [PYTEST ARGS]",
        allow_abbrev=False,
        epilog="Exit status: 0 compatible, 1 drift or incompatible, 2 cannot run, 5 untested.",
    )
    run.add_argument("cell", metavar="CELL", help="such as py311-torch210-vllm019")
    run.add_argument(
        "--platform",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: cuda where a GPU is visible, else cpu",
    )
    run.add_argument(
        "--records",
        metavar="DIR",
        type=Path,
        default=Path("records"),
        help="where to write the record (default: records)",
    )
    run.add_argument(
        "--model-source",
        choices=("data", "hub"),
        default="data",
        help="the models' configs: the package's data, or the hub (default: data)",
    )
    run.add_argument(
        "--jobs",
        metavar="N|auto",
        type=arguments.jobs,
        help="how many cases run side by side (default: auto on cuda, 1 on cpu)",
    )
    run.add_argument(
        "--timeout",
        metavar="S",
        type=arguments.positive_seconds,
        help="seconds for the whole run",
    )
    run.add_argument(
        "--bundle",
        metavar="DIR",
        type=Path,
        help="check this bundle and run the cell from it, without a network",
    )
    run.add_argument(
        "--work",
        metavar="DIR",
        type=Path,
        help="with --bundle: where to unpack and install (default: in the user's cache folder)",
    )
    run.set_defaults(run=_run, parser=run)

    bundle = commands.add_parser(
        "bundle",
        help="make all that cells need on a machine without a network",
        epilog="There: python3 DIR/run.py CELL [options], or matrix run CELL --bundle DIR.",
        allow_abbrev=False,
    )
    bundle.add_argument(
        "cells", metavar="CELL", nargs="*", help="one or more, all of the same Python"
    )
    bundle.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="an empty folder, or an older bundle"
    )
    bundle.add_argument(
        "--refresh",
        action="store_true",
        help="of the bundle in DIR write this project's part anew and keep the wheels",
    )
    bundle.add_argument(
        "--split", metavar="SIZE", help="cut the bundle into parts of this size, such as 58MiB"
    )
    bundle.add_argument(
        "--gpu-arch",
        metavar="ARCH",
        help="such as sm_90: drop the GPU code of other chips, to make the bundle small",
    )
    bundle.add_argument(
        "--repack",
        action="store_true",
        help="pack the wheels again with the program zstd, to make the bundle smaller still",
    )
    bundle.add_argument(
        "--reuse",
        metavar="DIR",
        type=Path,
        help="an older bundle for the same GPU, not cut: its wheels are taken where they still fit",
    )
    bundle.add_argument(
        "--have",
        metavar="NAME==VERSION",
        action="append",
        default=[],
        help="the target has this: leave it out, and what nothing else requires",
    )
    bundle.add_argument(
        "--without",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave these packages out, such as ray or 'flashinfer-*', and what nothing else"
        " requires, though vLLM asks for them: for what the startup tests never import; the"
        " manifest says so, and a run that imports one fails",
    )
    bundle.add_argument(
        "--machine",
        choices=("x86_64", "aarch64"),
        default="x86_64",
        help="the target's processor (default: x86_64)",
    )
    bundle.set_defaults(run=_bundle, parser=bundle)

    resolve = commands.add_parser(
        "resolve",
        help="ask uv's resolver whether the packages of cells go together; nothing is installed",
        epilog="What was answered before is not asked again. Exit status: 0, or 2 where there was"
        " no answer (no index, no such release there), which is written nowhere.",
        allow_abbrev=False,
    )
    resolve.add_argument(
        "cells", metavar="CELL", nargs="*", help="such as py312-torch210-vllm019, also off the pin"
    )
    resolve.add_argument(
        "--all-pins",
        action="store_true",
        help="the newest patch of each vLLM minor with the torch that it pins",
    )
    resolve.add_argument(
        "--off-pin",
        action="store_true",
        help="the newest patch of each vLLM minor with that of every other torch minor",
    )
    resolve.add_argument(
        "--stale",
        metavar="DAYS",
        nargs="?",
        const=30,
        type=int,
        help="ask again what was answered more than so many days ago (30)",
    )
    resolve.add_argument(
        "--python",
        metavar="X.Y",
        action="append",
        default=[],
        help="with --all-pins, --off-pin: on this Python (default: those of cells.json)",
    )
    for name in ("torch", "vllm"):
        resolve.add_argument(
            f"--{name}",
            metavar="RANGE",
            default="",
            help=f"with --all-pins, --off-pin: of {name} only these, such as '>=2.9'",
        )
    resolve.add_argument(
        "--override",
        action="store_true",
        help="force torch, torchvision and torchaudio whatever vLLM pins, as off-pin cells do",
    )
    resolve.add_argument("--refresh", action="store_true", help="ask again what is known")
    resolve.add_argument(
        "--machine", default="x86_64", help="the processor that it is for (default: x86_64)"
    )
    resolve.add_argument(
        "--glibc", metavar="X.Y", default="2.35", help="its glibc at least (default: 2.35)"
    )
    resolve.add_argument(
        "--jobs",
        metavar="N",
        type=arguments.count,
        default=4,
        help="how many at a time (default: 4)",
    )
    resolve.add_argument(
        "--data", metavar="FILE", type=Path, help="the answers (default: the package's own)"
    )
    resolve.set_defaults(run=_resolve, parser=resolve)

    refresh = commands.add_parser(
        "refresh",
        help="read new releases of torch and vLLM from the package index into the data",
        epilog="Exit status: 0; 1 where --check finds a change; 2 where something could not be"
        " read (the rest is kept).",
        allow_abbrev=False,
    )
    refresh.add_argument(
        "--check", action="store_true", help="write nothing, and say what would change"
    )
    refresh.add_argument(
        "--index",
        metavar="URL",
        help="the index's simple API (default: what uv or pip is set up for, else PyPI)",
    )
    refresh.add_argument(
        "--jobs",
        metavar="N",
        type=arguments.count,
        default=4,
        help="how many releases are read at a time (default: 4)",
    )
    refresh.add_argument(
        "--releases",
        metavar="FILE",
        type=Path,
        help="another file than matrix/data/releases.json",
    )
    refresh.set_defaults(run=_refresh, parser=refresh)

    linkage = commands.add_parser(
        "linkage",
        help="which vLLM links with which torch, by the symbols of their wheels",
        epilog="Exit status: 0, or 1 where the pair that was asked about does not link, or 2 where"
        " a table or a wheel is bad (the rest is still told).",
        allow_abbrev=False,
    )
    linkage.add_argument("--vllm", metavar="VERSION", help="such as 0.20.2 (default: all)")
    linkage.add_argument("--torch", metavar="VERSION", help="such as 2.11.0 (default: all)")
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
        help="with --fill: the index to read (default: what uv or pip is set up for)",
    )
    linkage.add_argument(
        "--tables",
        metavar="DIR",
        type=Path,
        help="where the tables are (default: the package's own)",
    )
    linkage.set_defaults(run=_linkage, parser=linkage)

    show = commands.add_parser("show", help="show one record and its verdict")
    show.add_argument("record", metavar="RECORD", help="also one inside an archive")
    show.add_argument(
        "--counters", action="store_true", help="every counter, not only those that differ"
    )
    show.add_argument("--seconds", action="store_true", help="where the seconds of each start went")
    _finish(show, _show)

    calibrate = commands.add_parser(
        "calibrate", help="propose the expectations that a record would justify"
    )
    calibrate.add_argument("record", metavar="RECORD", help="also one inside an archive")
    calibrate.add_argument("--all", action="store_true", help="propose every counter")
    _finish(calibrate, _calibrate)

    table = commands.add_parser(
        "table",
        help="make the compatibility table of all records",
        epilog="Exit status: 0, or 2 where a record or a folder is bad (the rest is still told).",
    )
    arguments.add_folders(table)
    table.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("docs"),
        help="where to write index.html, compatibility.md, .json and .csv, agreement.md and badges"
        " (default: docs)",
    )
    _finish(table, _table)

    ci = commands.add_parser(
        "ci",
        help="tell a CI service what the records show, failures by signature",
        epilog="GitHub: a job summary, and annotations on stdout. Buildkite: an annotation, by"
        " buildkite-agent where there is one. Exit status: 0, whatever the verdicts, or 2 where a"
        " record or a folder is bad (the rest is still told).",
        allow_abbrev=False,
    )
    arguments.add_folders(ci)
    ci.add_argument(
        "--format",
        choices=("github", "buildkite", "junit"),
        help="default: that of the service it runs under",
    )
    ci.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="write the Markdown or XML there (default: where the service reads it, else stdout)",
    )
    _finish(ci, _ci)

    predict = commands.add_parser(
        "predict",
        help="hold what the CPU counts against CUDA: how much a run without a GPU predicts",
        epilog="Exit status: 0, or 2 where a record is bad or nothing ran on both platforms.",
    )
    arguments.add_folders(predict)
    predict.set_defaults(expectations=None, run=_predict, parser=predict)

    grid = commands.add_parser(
        "grid", help="show how far every torch gets with every vLLM, and where it fails, why"
    )
    _platform_and_folders(grid)
    _releases(grid, ("torch", "vllm"))
    _finish(grid, _grid)

    plan = commands.add_parser(
        "plan",
        help="show which cells would run and why, or name them for tox",
        epilog='tox -e "$(matrix plan --stale --platform cpu --names)" -- --platform cpu runs it.'
        " Exit status: 0, also where nothing is to run; 2 where a record is bad.",
        allow_abbrev=False,
    )
    _platform_and_folders(plan)
    _releases(plan, ("torch", "vllm", "python"))
    plan.add_argument(
        "--stale",
        action="store_true",
        help="only what never ran, or ran with other tests or other versions, or in part",
    )
    plan.add_argument(
        "--off-pin", action="store_true", help="also each torch that the vLLM does not pin"
    )
    plan.add_argument(
        "--new",
        metavar="NAME==VERSION",
        action="append",
        default=[],
        help="only the cells of this release, off-pin ones where none pins it: torch==2.15.0",
    )
    plan.add_argument(
        "--neighbours",
        metavar="NAME==VERSION",
        action="append",
        default=[],
        help="only the cells beside those of this release: the same vLLM under the next torch, or"
        " the same torch under the next vLLM",
    )
    plan.add_argument(
        "--all", action="store_true", help="also what cannot work, with the rung and the reason"
    )
    shape = plan.add_mutually_exclusive_group()
    shape.add_argument(
        "--names", action="store_true", help="the environments' names, comma-joined, for tox -e"
    )
    shape.add_argument("--json", action="store_true", help="as JSON, with what cannot work too")
    _finish(plan, _plan)

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
    _finish(qualify, _qualify)

    attribute = commands.add_parser(
        "attribute",
        help="say whose fault it is that a cell fails or drifts: torch, vLLM, the pair, or none",
        epilog="Exit status: 0; 2 where a record is bad, or a run that --run asked for failed"
        " (what the others told is still said).",
        allow_abbrev=False,
    )
    attribute.add_argument("cell", metavar="CELL", nargs="?", help="such as py311-torch212-vllm020")
    attribute.add_argument("--all", action="store_true", help="every cell that ran")
    _platform_and_folders(attribute)
    attribute.add_argument(
        "--case", metavar="CASE", help="this case alone: moe_startup[mega_aot=1], or moe_startup"
    )
    attribute.add_argument(
        "--changes",
        action="store_true",
        help="also what counts otherwise than beside it, though it is expected to",
    )
    attribute.add_argument(
        "--run",
        dest="run_missing",
        action="store_true",
        help="run what would decide, through tox, and say it again",
    )
    attribute.add_argument(
        "--dry-run", action="store_true", help="print the commands of what would decide"
    )
    attribute.add_argument("--json", action="store_true", help="as JSON")
    _finish(attribute, _attribute)

    bisect = commands.add_parser(
        "bisect",
        help="find the first torch under a vLLM, or vLLM with a torch, where a case does otherwise",
        epilog="Exit status: 0; 2 where a record is bad, where there is nothing to find, or where a"
        " run that --run asked for failed (the search goes on without it).",
        allow_abbrev=False,
    )
    arguments.add_folders(bisect)
    for name, example in (("torch", "2.11.0..2.15.0"), ("vllm", "0.20.2")):
        bisect.add_argument(
            f"--{name}",
            metavar="RANGE",
            required=True,
            help=f"a release, or a range as {example}" if ".." in example else "the same of vLLM",
        )
    bisect.add_argument(
        "--case", metavar="CASE", required=True, help="such as moe_startup[mega_aot=1]"
    )
    bisect.add_argument("--platform", choices=("cuda", "cpu"), required=True)
    bisect.add_argument(
        "--python", metavar="X.Y", type=arguments.python, default="3.11", help="default: 3.11"
    )
    bisect.add_argument(
        "--run",
        dest="run_missing",
        action="store_true",
        help="run each next one through tox, to the end",
    )
    _finish(bisect, _bisect)

    sync = commands.add_parser(
        "sync",
        help="write the environments of tox.ini from the releases",
        epilog="Exit status: 0, or 1 where --check finds it stale.",
    )
    sync.add_argument(
        "--check", action="store_true", help="write nothing; show what would be changed"
    )
    sync.set_defaults(run=_sync, parser=sync)

    check = commands.add_parser(
        "check",
        help="check the releases, the cells, the expectations, explanations, notes and waivers",
    )
    check.add_argument(
        "--waivers", metavar="FILE", type=Path, help="check these (default: the package's own)"
    )
    _finish(check, _check)

    results.add(commands, _show)
    return parser


def _releases(parser: argparse.ArgumentParser, keys: Sequence[str]) -> None:
    examples = {"torch": "'>=2.11'", "vllm": "0.20", "python": "3.12"}
    for key in keys:
        parser.add_argument(
            f"--{key}", metavar="SPEC", help=f"only these: a release or a range, as {examples[key]}"
        )


def _platform_and_folders(parser: argparse.ArgumentParser) -> None:
    arguments.add_folders(parser)
    parser.add_argument("--platform", choices=("cuda", "cpu"), help="default: both")


def _finish(parser: argparse.ArgumentParser, run: object) -> None:
    arguments.add_expectations(parser)
    parser.set_defaults(run=run, parser=parser)
