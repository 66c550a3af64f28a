"""The journal of another version of this program: read, or refused with one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from matrix.catalog.cells import Cell
from matrix.record.model import Platform
from matrix.run import run_state
from matrix.run.job import HowEnded, Job, JobEstimate, WhyNot
from matrix.run.machine import Demand, Resource
from matrix.run.past_run import read_run
from matrix.run.run_state import (
    JOURNAL,
    OLDEST_SCHEMA,
    SCHEMA,
    Begun,
    RunState,
    RunStateError,
)

CELL = Cell("3.11", "2.10.0", "0.19.1")
JOB = Job(
    cell=CELL,
    environment=CELL.name,
    platform=Platform.CPU,
    estimate=JobEstimate(build_seconds=20, run_seconds=300),
    demand=Demand(cores=1, memory_mib=4096, disk_mib=600),
)
NEWER = SCHEMA + 1


def of_schema(folder: Path, schema: object) -> Path:
    """Return the folder of a run whose journal has this number."""
    state = RunState.begin(Begun(records=str(folder)), [JOB])
    state.close()
    path = state.folder / JOURNAL
    head, job = path.read_text().splitlines()
    path.write_text(f"{json.dumps({**json.loads(head), 'schema': schema})}\n{job}\n")
    return state.folder


def test_the_journal_of_an_older_program_is_read(tmp_path: Path) -> None:
    folder = of_schema(tmp_path, OLDEST_SCHEMA)
    with (folder / JOURNAL).open("a") as file:
        file.write(f"{json.dumps({'what': 'resumed', 'at': 2.0})}\n")
    assert read_run(folder).jobs == (JOB,)


@pytest.mark.parametrize("resumed", [False, True])
def test_the_journal_of_a_newer_program_is_refused_before_its_codes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, resumed: bool
) -> None:
    """Such a program can also have resumed a run that an older one began."""
    folder = of_schema(tmp_path, SCHEMA if resumed else NEWER)
    if resumed:
        monkeypatch.setattr(run_state, "SCHEMA", NEWER)
        RunState.resume(folder, at=2.0).close()
    end = {"what": "ended", "job": JOB.key, "end": {"why": "too hot"}}
    with (folder / JOURNAL).open("a") as file:
        file.write(f"{json.dumps(end)}\n")
    with pytest.raises(RunStateError) as refused:
        read_run(folder)
    assert str(refused.value) == (
        f"{folder / JOURNAL}: its schema is {NEWER}, newer than this matrix knows ({SCHEMA});"
        " update torch-vllm-matrix, or begin a new run"
    )


@pytest.mark.parametrize("schema", [0, -1, None, True, "2", [], 1.5])
def test_a_journal_without_a_number_of_ours_is_refused(tmp_path: Path, schema: object) -> None:
    with pytest.raises(RunStateError, match="written by another version; begin a new run"):
        read_run(of_schema(tmp_path, schema))


def test_a_new_code_of_the_journal_raises_its_number() -> None:
    """A program of before calls such a journal damaged. Raise SCHEMA, then add the code here."""
    codes = [code for kind in (HowEnded, WhyNot, Resource, Platform) for code in kind]
    known = (
        "done not_run set_aside no_python build_failed no_record fits_nowhere no_machine"
        " machines_lost stopped cores memory disk gpu_memory gpus cuda cpu"
    )
    assert (SCHEMA, " ".join(codes)) == (2, known)
