"""Files that readers take, as the package's own writers write them, for what damages them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from candidates import commit_candidate, torch_candidate, vllm_candidate
from matrix._util.paths import DATA
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.file import write_candidates
from matrix.catalog.cells import Cell
from matrix.qualify.model import QualificationVerdict
from matrix.qualify.state_files import (
    MadeRound,
    MadeRun,
    add_round,
    add_run,
    write_history,
    write_table_watch,
)
from matrix.qualify.table_watch import TablePlace, WatchedTable
from matrix.qualify.watch import (
    CasePlace,
    FindingKey,
    FindingKind,
    Followed,
    QualifiedBuild,
    Status,
    WatchHistory,
)
from matrix.record.model import Platform
from matrix.run.job import HowEnded, Job, JobEnd, JobEstimate, WhyNot
from matrix.run.machine import Demand, Lack, Resource
from matrix.run.run_state import JOURNAL, Begun, Happened, RunEvent, RunState

CELL = Cell("3.11", "2.10.0", "0.19.1")
FOUND = (
    Followed(
        key=FindingKey(
            CasePlace(CELL.name, Platform.CPU, "small_startup[dense]"),
            FindingKind.FAILURE,
            "KeyError: None",
        ),
        status=Status.NEW,
        first="2026-11-27T00:00:00Z",
        last="2026-11-28T00:00:00Z",
        build="2026-11-28T00:00:00Z",
    ),
)


def written(write: Callable[[Path], object], name: str) -> bytes:
    """Return the file of this name that a writer leaves in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        (path,) = Path(folder).rglob(name)
        return path.read_bytes()


def candidates() -> bytes:
    every = (torch_candidate(), vllm_candidate(), commit_candidate())
    found = Candidates(every=every)
    return written(lambda folder: write_candidates(found, folder / "c.toml"), "c.toml")


def history() -> bytes:
    build = QualifiedBuild(
        identity="b" + "0" * 15,
        version="2.16.0rc1",
        day="2026-11-28",
        verdict=QualificationVerdict.NOT_QUALIFIED,
    )
    found = WatchHistory(candidate="torch216rc1", findings=FOUND, builds=(build,))
    return written(lambda folder: write_history(folder, found), "torch216rc1.json")


def rounds() -> bytes:
    made = MadeRound(platform=Platform.CPU, baseline="a.json", candidate="b.json")
    return written(lambda folder: add_round(folder, made), "rounds.json")


def runs() -> bytes:
    made = MadeRun(
        cell=CELL.name, versions="x", record="a.json", fresh=True, environment_seconds=9.5
    )
    return written(lambda folder: add_run(folder, made), "runs.json")


def watched() -> bytes:
    found = WatchedTable(
        findings=FOUND,
        records={TablePlace(CELL.name, Platform.CPU): "0" * 64},
        began="2026-11-27T00:00:00Z",
        last="2026-11-28T00:00:00Z",
    )
    return written(lambda folder: write_table_watch(folder / "watch.json", found), "watch.json")


def journal() -> bytes:
    job = Job(
        cell=CELL,
        environment=CELL.name,
        platform=Platform.CPU,
        pytest_args=("-k", "dense"),
        flags=(("VLLM_X", "1"),),
        cases_at_once=2,
        estimate=JobEstimate(build_seconds=20, run_seconds=300),
        demand=Demand(memory_mib=4096),
    )
    end = JobEnd(
        job=job.key,
        how=HowEnded.NOT_RUN,
        why=WhyNot.FITS_NOWHERE,
        machines=("a",),
        lacks=(Lack(resource=Resource.DISK, needs=2, has=1),),
    )

    def write(folder: Path) -> None:
        state = RunState.begin(Begun(records=str(folder), options=("--timeout", "9")), [job])
        state.note(RunEvent(what=Happened.RUNS, at=1.0, job=job.key, machine="a"))
        state.note(RunEvent(what=Happened.LOST, at=2.0, machine="a"))
        state.note(RunEvent(what=Happened.ENDED, at=3.0, job=job.key, end=end))
        state.close()

    return written(write, JOURNAL)


def resolutions() -> bytes:
    """Return an answer that resolves and one that does not, of the package's own."""
    rows = json.loads((DATA / "resolutions.json").read_text())["resolutions"]
    chosen = [next(row for row in rows if row["ok"] is ok) for ok in (True, False)]
    return json.dumps({"resolutions": chosen}).encode()


def upstream() -> bytes:
    """Return two releases of the package's own with their files of tests."""
    found = json.loads((DATA / "upstream.json").read_text())
    releases = found["releases"][:2]
    names = {digest for release in releases for digest in release["tests"].values()}
    files = [file for file in found["files"] if file["sha256"] in names]
    return json.dumps({**found, "releases": releases, "files": files}).encode()
