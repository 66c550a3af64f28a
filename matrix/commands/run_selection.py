"""`matrix run` of a selection: which cells, on what, and how it ended."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from matrix._util.console import print_status, spoken
from matrix._util.files import from_here
from matrix._util.grouped import group
from matrix._util.text import at_most, listed, pip_install, plural
from matrix.catalog.cells import Cell
from matrix.catalog.releases_file import load_releases
from matrix.commands import arguments, upstream_tests
from matrix.commands.output import show
from matrix.commands.run_sites import Machines, Site, Work, site_of
from matrix.commands.selection import select
from matrix.errors import MatrixError
from matrix.record.model import Platform, RecordError
from matrix.record.reader import read
from matrix.record.startup_tests import SUITES
from matrix.report.plan import why_words
from matrix.report.run_progress import dry_lines, end_line, event_line, lacks_words, totals
from matrix.report.run_watchers import LineWatcher, TableWatcher
from matrix.report.terminal import verdict_line
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import load_expectations
from matrix.run.environments import needs_mib
from matrix.run.here import Hardware
from matrix.run.job import HowEnded, Job, JobEnd, WhyNot
from matrix.run.nvidia import why_not_cuda
from matrix.run.past_run import done_records, find, read_run, unended
from matrix.run.preflight import choose_platform
from matrix.run.run_state import Begun, Happened, RunEvent, RunState, check_folders
from matrix.run.selection_jobs import Asked, fitted, gpus_of_a_cell, jobs_of, most_of
from matrix.run.simulation import Simulated, estimated_seconds, simulate
from matrix.run.task import Task
from matrix.store.merge import check_target
from matrix.verdict.judge import exit_status, judge
from matrix.verdict.plan import Planned
from matrix.verdict.plan_reasons import Running

_FILTERS = ("stale", "off_pin", "new", "neighbours", "torch", "vllm", "python")
_FIXED = (
    *("force", "max_age", "jobs", "cell_gpus", "timeout", "model_source"),
    *("suite", "upstream", "upstream_tests"),
)
"""The options, other than filters, that the cells of a run got when it began."""
_UNTESTED, _INTERRUPTED = 5, 130
_MOST_NAMES = 5  # of cells that a line names


@dataclass(frozen=True, kw_only=True)
class _Selection:
    """The jobs to run, why each runs, and those of an earlier part of the run that have a record.

    `begun` is what the run was asked for. `state` is that of a resumed run, `lost` has the
    machines that were lost with a job in the earlier part, by the job's key. `statuses` are those
    of the cells that do not run: their records hold, or another process runs them. `unfit` has the
    ends of the jobs that cannot begin, since no Python for them can be installed.
    """

    begun: Begun
    jobs: tuple[Job, ...]
    why: Mapping[str, str] = field(default_factory=dict)
    done: Mapping[str, Path] = field(default_factory=dict)
    state: RunState | None = None
    lost: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()
    unfit: tuple[JobEnd, ...] = ()

    @property
    def fit(self) -> tuple[Job, ...]:
        """Return the jobs that can begin."""
        unfit = {end.job for end in self.unfit}
        return tuple(job for job in self.jobs if job.key not in unfit)


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """The cells that are asked for: those that are named, and those that the options choose.

    `named` are the names of the first. `statuses` has the exit status of each cell's record.
    """

    planned: Sequence[Planned]
    named: frozenset[str]
    statuses: Mapping[str, int]


def run_selection(options: argparse.Namespace) -> int:
    """Run the cells that the options select, through tox, and return the exit status."""
    root = Path.cwd()
    if not (root / "tox.ini").is_file():
        raise MatrixError(
            f"{root}: no tox.ini there, and matrix run makes environments by tox: run it in a"
            " checkout of the matrix, or add --here to run one cell in this environment"
        )
    options.pytest_args = options.pytest_args[len(options.unknown) :]
    if any(word.startswith("-") for word in options.unknown):
        options.parser.refuse_unknown(options.unknown, " (those of pytest come after --)")
    # argparse knows no cells that follow an option.
    options.cells += options.unknown
    expectations = load_expectations()
    upstream_tests.check(options)
    if options.upstream and options.engine == "ray":
        raise MatrixError("--upstream: runs on this machine only; leave out --engine ray")
    if options.resume is None:
        check_target(options.records)
    with site_of(options, root) as site, ExitStack() as stack:
        again = options.resume is not None
        selection = _resumed(options, site, stack) if again else _selected(options, site)
        if not selection.jobs:
            return 0 if options.dry_run else _judged_already(selection, expectations)
        if not options.dry_run:
            selection = _with_pythons(selection, site)
        machines = site.machines(selection.fit)
        tasks, found = _simulated(selection, machines)
        if options.dry_run:
            show(dry_lines(tasks, selection.jobs, selection.why, found))
            return 0
        return _carry_out(selection, site, machines, expectations)


def _with_pythons(selection: _Selection, site: Site) -> _Selection:
    """Return a selection with the ends of the jobs whose Python cannot be installed; name them.

    Raises MatrixError where no job can begin.
    """
    with spoken("looks for the Pythons of the cells"):
        lacking = site.lacking(selection.jobs)
    gone = [job for job in selection.jobs if job.environment in lacking]
    lines = []
    for python, jobs in group(gone, lambda job: job.cell.python).items():
        names = list(dict.fromkeys(job.environment for job in jobs))
        lines.append(
            f"{listed(at_most(_MOST_NAMES, names))}: Python {python} is not installed, and uv"
            f" cannot install it ({lacking[names[0]]}); `uv python install {python}`, or leave out"
            " these cells"
        )
    if gone and len(gone) == len(selection.jobs):
        for line in lines[:-1]:
            print_status(line)
        raise MatrixError(lines[-1])
    for line in lines:
        print_status(line)
    ends = [
        JobEnd(
            job=job.key,
            how=HowEnded.NOT_RUN,
            why=WhyNot.NO_PYTHON,
            detail=lacking[job.environment],
        )
        for job in gone
    ]
    return replace(selection, unfit=tuple(ends))


def _selected(options: argparse.Namespace, site: Site) -> _Selection:
    """Return the jobs of what the options select; says which cells' records hold."""
    most = most_of(site.every)
    if site.elsewhere is not None and options.platform == "auto":
        platform = Platform.CUDA if most.gpus else Platform.CPU
    else:
        platform = choose_platform(options.platform)
        note = why_not_cuda(options.platform) if site.elsewhere is None else None
        if note is not None:
            print_status(note)
    if options.cell_gpus is not None and platform is not Platform.CUDA:
        raise MatrixError(
            f"--cell-gpus {options.cell_gpus}: is for cuda, and these cells run on {platform};"
            " leave it out"
        )
    with spoken("reads the records and plans"):
        chosen = _chosen(options, platform, elsewhere=site.elsewhere)
    running = [item for item in chosen.planned if isinstance(item.why, Running) and not item.stale]
    left = [item for item in chosen.planned if item not in running]
    # Other cases were asked for than those of which a record that holds speaks.
    others = options.pytest_args or options.upstream or options.suite != SUITES[0]
    held = [] if others else [item for item in left if not item.stale]
    left = [item for item in left if item not in held]
    answers = [chosen.statuses.get(item.cell.name, _UNTESTED) for item in held]
    if running:
        print_status(f"run in another process: {_names(running)}")
    if held:
        print_status(f"records hold: {_names(held)} ({totals(answers)})")
    if not left:
        again = " (--force runs also those whose records hold)" if held else ""
        print_status(f"nothing to run{again}")
    asked = Asked(
        disk_mib=partial(needs_mib, linked=site.linked()),
        gpus=options.cell_gpus or (1 if site.elsewhere else gpus_of_a_cell(most)),
        whole_gpus=site.elsewhere is not None,
        pytest_args=tuple(options.pytest_args),
        cases_at_once=None if options.jobs in (None, "auto") else int(options.jobs),
    )
    jobs = jobs_of(left, site.every, asked)
    return _Selection(
        begun=Begun(
            records=str(options.records),
            options=_cell_options(options, [item.cell for item in left]),
            selection=tuple(options.given[1:]),
        ),
        jobs=jobs,
        # A record may hold where only a part of the cases is asked for.
        why={job.key: why_words(item) for job, item in zip(jobs, left, strict=True) if item.stale},
        statuses=(
            *(_UNTESTED for _ in running),
            # With --stale only those are asked for whose records do not hold.
            *(
                status
                for item, status in zip(held, answers, strict=True)
                if not options.stale or item.cell.name in chosen.named
            ),
        ),
    )


def _chosen(
    options: argparse.Namespace, platform: Platform, *, elsewhere: Hardware | None
) -> _Chosen:
    """Return the cells that are named, and those that the options choose and that can work."""
    releases = load_releases()
    named = [releases.resolve(name) for name in dict.fromkeys(options.cells)]
    filters = any(getattr(options, name) for name in _FILTERS)
    if not named and not filters:
        raise MatrixError("no cell is selected: name one, or choose by --stale, --torch, --new ...")
    folders = [path for path in (Path("results"), options.records) if path.is_dir()]
    asked = {**vars(options), "folders": folders, "stale": False}
    found: dict[str, Planned] = {}
    statuses: dict[str, int] = {}

    def cells(wanted: Mapping[str, object]) -> tuple[Planned, ...]:
        given = argparse.Namespace(**wanted)
        read = select(given, releases, [platform], elsewhere=elsewhere, damaged=True)
        statuses.update(
            (record.cell, exit_status(verdict))
            for record, verdict in read.table.verdicts
            if record.platform == platform
        )
        return read.planned

    if named:
        whole = {**asked, **dict.fromkeys(("torch", "vllm", "python")), "off_pin": True}
        every = {item.cell: item for item in cells({**whole, "new": [], "neighbours": []})}
        for cell in named:
            if cell not in every:
                raise MatrixError(f"{cell.name}: no environment of that name; tox -e {cell.name}")
            found[cell.name] = every[cell]
    if filters:
        chosen = cells(asked)
        if not chosen:
            raise MatrixError("no cell is selected: the options match none; see `matrix plan`")
        cannot = [item for item in chosen if not item.runs]
        if len(cannot) == len(chosen) and not named:
            raise MatrixError(f"cannot work: {_names(cannot)}; `matrix plan --all` shows why")
        if cannot:
            print_status(f"cannot work: {_names(cannot)} (`matrix plan --all` shows why)")
        found = {**{item.cell.name: item for item in chosen if item.runs}, **found}
    return _Chosen(
        planned=tuple(found.values()),
        named=frozenset(cell.name for cell in named),
        statuses=statuses,
    )


def _resumed(options: argparse.Namespace, site: Site, stack: ExitStack) -> _Selection:
    """Return what is left of an earlier run: the jobs without a complete record.

    No process of it is still running then, and its journal has the end of each other job.
    """
    given = arguments.given_of(options, (*_FILTERS, *_FIXED))
    if options.cells or given or options.pytest_args:
        what = (*options.cells, *given, "--")[0]
        raise MatrixError(f"--resume runs the cells of that run; leave out {what}")
    folder = find(options.records, options.resume)
    past = read_run(folder)
    if options.platform not in ("auto", *(job.platform for job in past.jobs)):
        raise MatrixError(
            f"--resume runs the cells of that run on {past.jobs[0].platform}; leave out"
            f" --platform {options.platform}"
        )
    state = None
    if not options.dry_run:
        check_folders(Path(past.begun.records), past.jobs)
        state = stack.enter_context(closing(RunState.resume(folder, time.time())))
        past = read_run(folder)
    with spoken(f"{folder}: reads the records that its cells left"):
        done = done_records(past)
    if state is not None:
        for event in unended(past, done, time.time()):
            state.note(event)
    print_status(f"{folder}: {len(done)} of {len(past.jobs)} have a record already")
    return _Selection(
        begun=past.begun,
        jobs=tuple(fitted(job, site.every) for job in past.jobs if job.key not in done),
        done=done,
        state=state,
        lost=past.lost,
    )


def _cell_options(options: argparse.Namespace, cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return the options that every cell gets as they were given here; fetch upstream's tests."""
    source = ("--model-source", options.model_source) if options.model_source != "data" else ()
    timeout = () if options.timeout is None else ("--timeout", f"{options.timeout:g}")
    suite = ("--suite", options.suite) if options.suite != SUITES[0] else ()
    return (*source, *timeout, *suite, *_upstream_options(options, cells))


def _upstream_options(options: argparse.Namespace, cells: Sequence[Cell]) -> tuple[str, ...]:
    if not options.upstream or not cells:
        return ()
    folder = options.upstream_tests
    if not options.dry_run:
        with spoken("fetches upstream's tests"):
            folder = upstream_tests.folder_for(options, cells, load_releases())
    named = () if folder is None else ("--upstream-tests", str(folder))
    return (*named, *(word for text in options.upstream for word in ("--upstream", text)))


def _names(items: Sequence[Planned]) -> str:
    return listed(at_most(_MOST_NAMES, [item.cell.name for item in items]))


def _simulated(selection: _Selection, machines: Machines) -> tuple[list[Task], Simulated]:
    """Return the tasks in the order in which they would begin, and what comes of them.

    Raises MatrixError where the limits let no job run.
    """
    order: list[Task] = []
    jobs = selection.fit
    estimated = estimated_seconds(jobs)

    def seconds(task: Task, job: Job | None) -> float:
        order.append(task)
        return estimated(task, job)

    found = simulate(jobs, machines.every, machines.present, seconds=seconds, lost=selection.lost)
    unfit = [end for end in found.ends if end.why is WhyNot.FITS_NOWHERE]
    if len(unfit) == len(jobs):
        raise MatrixError(
            f"{unfit[0].job.split('/')[0]} needs {lacks_words(unfit[0].lacks)}: raise the limit, or"
            " run it elsewhere"
        )
    return order, found


def _carry_out(
    selection: _Selection, site: Site, machines: Machines, expectations: Expectations
) -> int:
    """Run the jobs, show how it goes, and print how each cell ended; return the exit status."""
    jobs = {job.key: job for job in selection.jobs}
    judged = _Judged(expectations)
    records = Path(selection.begun.records).absolute()
    state = selection.state or RunState.begin(selection.begun, selection.jobs)
    try:
        print_status(f"the run is kept in {from_here(state.folder)}")
        for end in selection.unfit:
            state.note(RunEvent(what=Happened.ENDED, at=time.time(), job=end.job, end=end))
        with _watching(
            {job.key: job for job in selection.fit}, judged, selection.why, machines.made
        ) as watcher:
            work = Work(
                jobs=selection.fit,
                records=records,
                options=selection.begun.options,
                state=state,
                watcher=watcher,
                lost=selection.lost,
            )
            engine = site.engine(work, machines)
            ends = (*selection.unfit, *engine.carry_out())
    finally:
        state.close()
    _print_done(selection, judged)
    for end in ends:
        print(end_line(end, jobs, judged(end)))
    for event in engine.gpu_faults:
        print(event_line(event, jobs))
    print(f"{totals(judged.statuses.get(key) for key in (*selection.done, *jobs))}")
    print(f"records  {from_here(records)}")
    left = judged.unfinished or any(end.how is HowEnded.NOT_RUN for end in ends)
    if left or engine.stopped:
        folder = from_here(state.folder)
        print(f"to run the cells without a complete record: matrix run --resume {folder}")
    if state.lost:
        lost = plural(state.lost, "line")
        print_status(f"{state.folder}: the journal lacks {lost} that the disk refused")
    if engine.stopped:
        return _INTERRUPTED
    return _worst((*judged.of((*selection.done, *jobs)), *selection.statuses))


def _judged_already(selection: _Selection, expectations: Expectations) -> int:
    """Return the exit status where nothing is left to run."""
    judged = _Judged(expectations)
    _print_done(selection, judged)
    return _worst((*judged.of(selection.done), *selection.statuses))


def _print_done(selection: _Selection, judged: _Judged) -> None:
    """Print what the jobs came to that ended in an earlier part of the run."""
    for key, path in selection.done.items():
        try:
            print(judged.of_record(key, path))
        except RecordError as error:  # somebody removed it meanwhile
            print_status(str(error))


class _Judged:
    """Judges records as jobs end; `statuses` has the exit status of each, by the job's key.

    `unfinished` are the jobs whose records have no end, or none of upstream's tests: something
    ended their runs.
    """

    def __init__(self, expectations: Expectations) -> None:
        self.statuses: dict[str, int] = {}
        self.unfinished: set[str] = set()
        self._expectations = expectations
        self._releases = load_releases()
        self._lines: dict[str, str] = {}

    def __call__(self, end: JobEnd) -> str | None:
        """Return the first line of what is shown of the job's record; None without a good one."""
        if end.record is None:
            return None
        if end.job not in self._lines:
            try:
                self._lines[end.job] = self.of_record(end.job, Path(end.record))
            except RecordError:
                return None
        return self._lines[end.job]

    def of_record(self, key: str, path: Path) -> str:
        """Return the first line of what is shown of a record, and where it is."""
        record = read(path)
        verdict = judge(record, self._expectations)
        self.statuses[key] = exit_status(verdict, record)
        upstream = None if record.error else record.upstream
        if not record.finished or (upstream is not None and not upstream.has_ended):
            self.unfinished.add(key)
        pin = self._releases.overridden_pin(record.cell)
        line = verdict_line(record, verdict, off_pin=pin is not None)
        return f"{line}  {from_here(path)}"

    def of(self, keys: Iterable[str]) -> list[int]:
        """Return the exit status of each of these jobs; one without a record is untested."""
        return [self.statuses.get(key, _UNTESTED) for key in keys]


def _worst(statuses: Collection[int]) -> int:
    """Return 0 where all are compatible, 1 where one drifts or is incompatible, else 5."""
    return 1 if 1 in statuses else max(statuses, default=0)


@contextmanager
def _watching(
    jobs: Mapping[str, Job], judged: _Judged, why: Mapping[str, str], made: Iterable[str]
) -> Iterator[LineWatcher]:
    """Show a run as a table where stderr is a terminal and rich is there, else as lines."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        try:
            from rich.console import Console
        except ImportError:
            print_status(f"{pip_install('run')} shows this as a table")
        else:
            console = Console(stderr=True)
            with TableWatcher(jobs, console, judged, why=why, made=made) as watcher:
                yield watcher
            return
    yield LineWatcher(jobs, print_status, judged, why=why, made=made)
