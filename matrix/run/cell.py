"""Run a cell here: its startup tests in a child process, and a record whatever becomes of it.

This process never imports torch or vLLM, so nothing that they do can take the record with it.
"""

import argparse
import contextlib
import platform as machine
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NoReturn

from matrix._util.paths import CHECKOUT
from matrix._util.scratch import Scratch
from matrix.catalog.cells import Cell
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.errors import MatrixError
from matrix.record import provenance
from matrix.record.cleaned import clean_record
from matrix.record.model import (
    ErrorKind,
    Platform,
    Record,
    RecordError,
    RunError,
    Rung,
    RungResult,
    with_fault,
)
from matrix.record.reader import read
from matrix.record.running import begun, sweep
from matrix.record.startup_tests import SUITES
from matrix.record.stock import InstalledPackages
from matrix.record.upstream import NOT_ENDED, UpstreamSuite
from matrix.record.writer import write
from matrix.run import pytest_child
from matrix.run.conclusion import (
    conclude,
    describe,
    found_unfit,
    not_run,
    ran_no_session,
    shows_failure,
    why_nothing_ran,
)
from matrix.run.environment import look, read_environment, wrong_packages
from matrix.run.guardian import guarded
from matrix.run.installed_files import (
    PackageFiles,
    broken_install,
    broken_since,
    look_at_files,
)
from matrix.run.nvidia import unusable_gpu
from matrix.run.origin import (
    Installed,
    look_at_origins,
    named_index,
    origins_of,
    without_extensions,
    wrong_origin,
)
from matrix.run.preflight import (
    LEAST_FREE_MIB,
    LEAST_MEMORY_MIB,
    Refusal,
    choose_platform,
    preflight,
)
from matrix.run.process import noting_signals
from matrix.run.pytest_child import PytestChild
from matrix.run.stage import Stage, stage_of
from matrix.run.upstream_files import UpstreamRequest
from matrix.run.upstream_suite import UpstreamRun, run_upstream, suite_not_run

RUN_TIMEOUT = 4 * 3600.0
"""Seconds that a whole run may take by default."""


# As many runs of one cell may begin in one second; a day's worth of names is tried.
_MOST_TRIES = 24 * 3600
_UNSTARTED = {ErrorKind.BUILDS: Rung.BUILDS, ErrorKind.RESOLVES: Rung.RESOLVES}


class RunRefusedError(MatrixError):
    """The cell cannot run here; its record, at `path`, has the reason."""

    def __init__(self, reason: str, path: Path) -> None:
        super().__init__(f"{reason} (record: {_shown(path)})")
        self.path = path


class WrongPackagesError(RunRefusedError):
    """The packages are not what vLLM requires, so the cell stays untested here."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A run of a cell in this environment.

    `platform` is auto, cuda or cpu; `records` the folder of records; `timeout` is in seconds, for
    the whole run. `suite` is one of `SUITES`. `jobs` is how many cases run side by side: a number
    or auto; None is auto. `upstream` is which of upstream's own tests run after the startup tests;
    None is none. The rest is for tests and for other places to run: `root` is the checkout,
    `python` the command of a Python, `installed` the packages that count as installed (None: this
    environment's), `requirements` what each of those requires, `files` their files and `origins`
    where they are from (None: this environment's, or none where `installed` is given), the others
    what the machine must have at least. `words` makes the line that is printed while pytest prints
    nothing, of where the run stands and of its seconds.
    """

    cell: Cell
    platform: str = "auto"
    records: Path = Path("records")
    pytest_args: Sequence[str] = ()
    timeout: float = RUN_TIMEOUT
    model_source: str = "data"
    suite: str = SUITES[0]
    jobs: str | None = None
    upstream: UpstreamRequest | None = None
    root: Path = CHECKOUT
    python: Sequence[str] = (sys.executable,)
    installed: Mapping[str, str] | None = None
    requirements: Mapping[str, Sequence[str]] = field(default_factory=dict)
    files: Sequence[PackageFiles] | None = None
    origins: Mapping[Project, Installed] | None = None
    least_free_mib: int = LEAST_FREE_MIB
    least_memory_mib: int = LEAST_MEMORY_MIB
    words: Callable[[Stage, float], str] | None = field(default=None, compare=False)


def run_cell(request: RunRequest) -> Path | int:
    """Run a cell's startup tests in this environment and return the path of the record.

    Where pytest was asked for something else, such as --help or --collect-only, there is no record:
    the return value then is pytest's exit status.

    Raises RunRefusedError, with the record written, where this machine or this environment cannot
    run the cell; MatrixError, without a record, where pytest does not accept its arguments, they
    select no case, no record can be written, or there are no startup tests.
    """
    root = request.root
    if not (root / "tests" / "startup").is_dir():
        raise MatrixError(f"{root}: no tests/startup here; run from a checkout of the project")
    releases = load_releases()
    with guarded(), begun(_first_records(request, releases)) as (path, record):
        sweep(path.parent)
        seen = _seen(request, releases)
        return _run(request, path, _with_packages(request, record, seen), seen)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """The releases, the environment's packages, and where its torch and vLLM are from."""

    releases: Releases
    environment: InstalledPackages
    origins: Mapping[Project, Installed]


def _seen(request: RunRequest, releases: Releases) -> _Seen:
    """Look at the environment, once."""
    origins = request.origins
    if request.installed is None:
        found = look_at_origins() if origins is None else origins
        return _Seen(releases=releases, environment=read_environment(), origins=found)
    return _Seen(releases=releases, environment=_given(request), origins=origins or {})


def _run(request: RunRequest, path: Path, record: Record, seen: _Seen) -> Path | int:
    """Run the cell of this record, which has no packages yet; as `run_cell`."""
    root = request.root
    record = _write(record, path, root)
    files = _files(request)
    refusal = _wrong_build(request, seen, record.platform) or _unfit(
        request, record, path.parent, files
    )
    if refusal is not None:
        _refuse(refusal, record, path, root)
    with noting_signals() as received, _keeping_kernels(request, record.platform) as keeping:
        child = PytestChild(
            record=path,
            platform=record.platform,
            root=root,
            python=request.python,
            arguments=keeping.pytest_args,
            timeout=request.timeout,
            model_source=request.model_source,
            suite=request.suite,
            jobs=request.jobs,
        )
        try:
            ended, importing = pytest_child.run(child, received, _silent(request, path))
        except OSError as error:
            _refuse(not_run(error), _read_what_is_left(path, record), path, root)
        left = _read_what_is_left(path, record, describe(ended))
        typo = why_nothing_ran(left, ended, child.last_output()) if request.pytest_args else None
        if typo is not None or ran_no_session(left, ended, importing=importing):
            for file in (path, child.log, child.junit):
                file.unlink(missing_ok=True)
            if typo is not None:
                raise MatrixError(f"{typo} (no case ran, and no record was written)")
            return ended.status or 0
        concluded = conclude(left, ended, child.last_output(), importing=importing)
        if shows_failure(concluded) and (broken := broken_since(files, request.cell.name)):
            concluded = with_fault(concluded, broken.error)
        concluded = _write_last(concluded, path, root)
        left_seconds = request.timeout - ended.seconds
        concluded = _with_upstream(keeping, concluded, path, left_seconds, received)
    if found_unfit(concluded) and concluded.error is not None:
        raise RunRefusedError(concluded.error.reason, path)
    return path


def _with_upstream(
    request: RunRequest, record: Record, path: Path, seconds: float, received: Sequence[str]
) -> Record:
    """Run upstream's own tests and return the record with what they did, as it is written.

    Where the run ended early they show nothing, and do not run. Where the disk refuses meanwhile,
    those that have ended stay as they are.
    """
    if request.upstream is None:
        return record
    known = suite_not_run(request.upstream, NOT_ENDED)

    def keep(suite: UpstreamSuite) -> None:
        nonlocal known
        known = suite
        _write_last(replace(record, upstream=suite), path, request.root)

    if record.error is not None:
        suite = suite_not_run(request.upstream, f"the run ended early: {record.error.reason}")
    else:
        run = UpstreamRun(
            request=request.upstream,
            platform=record.platform,
            root=request.root,
            python=request.python,
            seconds=seconds,
            received=received,
            log=path.with_suffix(".upstream.log"),
            kernels=_kept_kernels(request),
        )
        try:
            suite = run_upstream(run, keep)
        except OSError as error:
            suite = known.stopped(f"could not run: {error.strerror or error}")
    return _write_last(replace(record, upstream=suite), path, request.root)


def _kept_kernels(request: RunRequest) -> Path | None:
    """Return the folder in which pytest's --jit-cache keeps the kernels of the cell, if named."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--jit-cache", type=Path)
    kept: Path | None = parser.parse_known_args(list(request.pytest_args))[0].jit_cache
    return None if kept is None else kept.absolute() / request.cell.name


@contextlib.contextmanager
def _keeping_kernels(request: RunRequest, platform: Platform) -> Iterator[RunRequest]:
    """Yield a request that keeps the cases' kernels for upstream's tests, if only meanwhile.

    Raises OSError if no temporary folder can be made.
    """
    if request.upstream is None or platform is Platform.CPU or _kept_kernels(request) is not None:
        yield request
        return
    with Scratch("kernels") as folder:
        yield replace(request, pytest_args=(*request.pytest_args, "--jit-cache", str(folder)))


def _silent(request: RunRequest, path: Path) -> Callable[[float], str] | None:
    """Return what makes a line of where the run stands, by its record; None for none."""
    words = request.words
    if words is None:
        return None

    def line(seconds: float) -> str:
        try:
            stage = stage_of(read(path))
        except RecordError:
            stage = Stage()
        return words(stage, seconds)

    return line


def _refuse(refusal: Refusal, record: Record, path: Path, root: Path) -> NoReturn:
    """Write why the cell does not run, or not to its end, and raise it."""
    _write(replace(with_fault(record, refusal.error), finished=True), path, root)
    wrong = refusal.kind is ErrorKind.WRONG_PACKAGES
    raise (WrongPackagesError if wrong else RunRefusedError)(refusal.reason, path)


def record_unstarted(
    cell: Cell,
    error: RunError,
    *,
    platform: str,
    records: Path,
    model_source: str = "data",
    root: Path = CHECKOUT,
) -> Path:
    """Write the record of a cell that never started: its packages do not resolve or do not build.

    Return its path. Raises MatrixError for an unknown platform or where it cannot be written.
    """
    request = RunRequest(
        cell=cell, platform=platform, records=records, model_source=model_source, root=root
    )
    rung = _UNSTARTED.get(error.kind)
    failed = rung and RungResult(rung=rung, ok=False, seconds=0.0, reason=error.reason)
    facts = {"python": cell.python, **dict.fromkeys(("torch", "vllm", "triton"))}
    tries = (
        (
            path,
            _clean(
                replace(
                    record,
                    error=error,
                    finished=True,
                    rungs=(failed,) if failed else (),
                    provenance={**record.provenance, **facts},
                ),
                root,
            ),
        )
        for path, record in _first_records(request, load_releases())
    )
    with begun(tries) as (path, _):
        return path


def _with_packages(request: RunRequest, record: Record, seen: _Seen) -> Record:
    """Return the record of a run that begins with the packages of its environment."""
    installed = seen.environment.versions
    facts = {name: installed.get(name) for name in ("torch", "vllm", "triton")}
    return replace(
        record,
        packages=dict(installed),
        departures=look(seen.environment, request.cell, seen.releases),
        origins=origins_of(request.cell, seen.releases, seen.origins, record.platform),
        provenance={**record.provenance, **facts},
    )


def _files(request: RunRequest) -> Sequence[PackageFiles]:
    if request.files is None:
        return look_at_files() if request.installed is None else ()
    return request.files


def _given(request: RunRequest) -> InstalledPackages:
    required = request.requirements
    return InstalledPackages(
        versions=request.installed or {}, requires=lambda name: required.get(name, ()), twice={}
    )


def _first_records(request: RunRequest, releases: Releases) -> Iterator[tuple[Path, Record]]:
    """Yield records that hold only how they were made, each a second later, and their paths."""
    platform = choose_platform(request.platform)
    folder = request.records.resolve() / platform
    cell = request.cell
    started = datetime.now(timezone.utc).replace(microsecond=0)
    facts = provenance.provenance(request.root, started, sys.argv, request.model_source)
    origins = origins_of(cell, releases, {}, platform) if cell.builds else None
    asked = request.upstream
    record = Record(
        cell=cell.name,
        platform=platform,
        finished=False,
        provenance=facts,
        origins=origins,
        upstream=None if asked is None else suite_not_run(asked, NOT_ENDED),
    )
    record = _clean(record, request.root)
    for seconds in range(_MOST_TRIES):
        moment = started + timedelta(seconds=seconds)
        path = folder / f"{cell.name}.{moment:%Y%m%dT%H%M%SZ}.json"
        yield (
            path,
            replace(record, provenance={**facts, "started": provenance.timestamp(moment)}),
        )


def _unfit(
    request: RunRequest, record: Record, records: Path, files: Sequence[PackageFiles]
) -> Refusal | None:
    """Return why this environment or this machine cannot run the cell, or None."""
    return (
        _wrong_cell(request.cell, record.packages)
        or wrong_packages(record.departures or (), request.cell, record.packages["torch"])
        or broken_install(files, request.cell.name)
        or preflight(
            records,
            least_free_mib=request.least_free_mib,
            least_memory_mib=request.least_memory_mib,
            platform=record.platform,
        )
        or unusable_gpu(record.platform, record.packages)
    )


def _wrong_build(request: RunRequest, seen: _Seen, platform: Platform) -> Refusal | None:
    cell, origins = request.cell, seen.origins
    return wrong_origin(cell, seen.releases, origins, seen.environment) or without_extensions(
        cell, origins, platform
    )


def _wrong_cell(cell: Cell, packages: Mapping[str, str]) -> Refusal | None:
    """Return what of the cell this environment lacks; local parts of versions do not count."""
    present = {
        "Python": ".".join(machine.python_version_tuple()[:2]),
        **{str(name): packages.get(name, "none").partition("+")[0] for name in Project},
    }
    wanted = {
        "Python": cell.python,
        **{str(name): getattr(cell, name).partition("+")[0] for name in Project},
    }
    wrong = [
        f"{name} {present[name]}, not {version}"
        for name, version in wanted.items()
        if present[name] != version
    ]
    if not wrong:
        return None
    return Refusal(
        kind=ErrorKind.WRONG_CELL,
        reason=(
            f"this environment is not the cell {cell.name}: it has {'; '.join(wrong)}."
            f" Run tox -e {cell.name}"
        ),
    )


def _read_what_is_left(path: Path, begun: Record, ended: str = "the run broke") -> Record:
    """Return the record that the run left, or the one that it began with where it is unreadable."""
    try:
        return read(path)
    except RecordError as error:
        reason = f"{ended}; {error}".replace(str(path), path.name)
        return replace(begun, error=RunError(kind=ErrorKind.INTERNAL, reason=reason))


def _write_last(record: Record, path: Path, root: Path) -> Record:
    """Write the record of a run that has ended; raises MatrixError if that is not possible."""
    try:
        return _write(record, path, root)
    except RecordError as error:
        raise MatrixError(
            f"{error}; the end of the run is lost, and the record there contains what was written"
            " before: make room and run the cell again"
        ) from None


def _write(record: Record, path: Path, root: Path) -> Record:
    """Write the record without folders of this machine in any text, and return it so."""
    return write(_clean(record, root), path)


def _clean(record: Record, root: Path) -> Record:
    """Return the record without what is secret, and with the names of indexes that have one."""
    origins = record.origins and tuple(
        replace(origin, index=named_index(origin.index)) for origin in record.origins
    )
    return clean_record(replace(record, origins=origins), root)


def _shown(path: Path) -> str:
    """Return the path as a person would write it: relative where it is below this folder."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
