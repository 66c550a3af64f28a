"""A task of a schedule on a node of a cluster, as an engine on another machine orders it.

Starts tox and reads files. It knows nothing of the cluster: what is ordered and what is left are
texts and bytes, and the engine listens by a function.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from matrix._util.caches import cache_folder
from matrix._util.nvidia import VISIBLE_VARIABLE
from matrix._util.scratch import Scratch
from matrix._util.text import clip
from matrix.errors import MatrixError
from matrix.record.model import StartKind
from matrix.run.environments import Environments, uv_cache
from matrix.run.here import hardware_here
from matrix.run.job import Job
from matrix.run.limits import machine_here
from matrix.run.local_engine import LocalEngine, RunPlace
from matrix.run.machine import Demand, Gpu, Machine
from matrix.run.past_run import job_of
from matrix.run.rerun import tox_command
from matrix.run.run_state import Begun, RunEvent, RunState, plain
from matrix.run.stage import Stage
from matrix.run.task import Finish, Present, ScheduleStep, Task, TaskKind
from matrix.run.watcher import Working

Tell = Callable[[str], bool]
"""Takes a stage as text, and returns whether the run is to stop."""

_EVERY = 1.0  # seconds between two stages that are reported
_ENDS = 60.0  # seconds for what a killed run left at work: tox gives a cell 30
_LOG_LIMIT = 4 << 20  # bytes of a log that go back
_FILE_LIMIT = 64 << 20
_UV = 30.0  # seconds for uv to look for Pythons
_THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True, kw_only=True)
class Order:
    """A task, and the jobs of its environment.

    `options` are those of `matrix run --here` that every cell gets. `made`: the environment was
    made on this node before. `tox` is how to call tox; empty for the node's own. `threads` is the
    OMP_NUM_THREADS of who ordered; None if it has none.
    """

    task: Task
    jobs: tuple[Job, ...]
    options: tuple[str, ...] = ()
    made: bool = False
    tox: tuple[str, ...] = ()
    threads: str | None = None

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps({**asdict(self), "jobs": [plain(job) for job in self.jobs]})

    @classmethod
    def of(cls, text: str) -> Order:
        """Return the order of `text`."""
        data = json.loads(text)
        task = data["task"]
        task |= {
            "kind": TaskKind(task["kind"]),
            "demand": Demand(**task["demand"]),
            "gpus": tuple(task["gpus"]),
        }
        return cls(
            task=Task(**task),
            jobs=tuple(map(job_of, data["jobs"])),
            options=tuple(data["options"]),
            made=data["made"],
            tox=tuple(data["tox"]),
            threads=data["threads"],
        )


@dataclass(frozen=True, kw_only=True)
class Left:
    """The result of a task: its end, and the files of its records and of its log by name.

    The names of records begin with the platform: `cpu/py311-torch210-vllm019.X.json`.
    """

    finish: Finish
    files: Mapping[str, bytes]

    def text(self) -> str:
        """Return the end as JSON."""
        return json.dumps(asdict(self.finish))

    @classmethod
    def of(cls, text: str, files: Mapping[str, bytes]) -> Left:
        """Return what `text` and the files say."""
        end = json.loads(text)
        end["failed_gpus"] = tuple(end["failed_gpus"])
        return cls(finish=Finish(**end), files=files)


@dataclass(frozen=True, kw_only=True)
class NodeInventory:
    """The resources and environments of a node; `tox` is true if it has tox.

    `linked` are the releases that uv links from its cache there. `pythons` are the minor releases
    of Python that it has; None if that is not known, or where uv may fetch others. `processor`
    is the kind of its processor, `driver` the release of its NVIDIA driver.
    """

    machine: Machine
    present: tuple[Present, ...]
    tox: bool
    linked: frozenset[tuple[str, str]] = frozenset()
    pythons: frozenset[str] | None = None
    processor: str | None = None
    driver: str | None = None

    def text(self) -> str:
        """Return it as JSON."""
        pythons = None if self.pythons is None else sorted(self.pythons)
        return json.dumps({**asdict(self), "linked": sorted(self.linked), "pythons": pythons})

    @classmethod
    def of(cls, text: str) -> NodeInventory:
        """Return what `text` says."""
        data: dict[str, Any] = json.loads(text)
        machine = data["machine"]
        machine["gpus"] = tuple(Gpu(**gpu) for gpu in machine["gpus"])
        present = tuple(Present(**item) for item in data["present"])
        pythons = data["pythons"]
        return cls(
            machine=Machine(**machine),
            present=present,
            tox=data["tox"],
            linked=frozenset((name, release) for name, release in data["linked"]),
            pythons=None if pythons is None else frozenset(pythons),
            processor=data["processor"],
            driver=data["driver"],
        )


def look(name: str) -> NodeInventory:
    """Return what this node has."""
    environments = _environments()
    environments.folder.mkdir(parents=True, exist_ok=True)
    environments.sweep()
    machine = machine_here(environments.folder, name=name)
    present = environments.present(environments.cells())
    disk = machine.disk_mib + sum(item.disk_mib for item in present)
    hardware = hardware_here()
    return NodeInventory(
        machine=replace(machine, disk_mib=disk),
        present=present,
        tox=_has_tox(),
        linked=environments.linked(),
        pythons=_pythons(),
        processor=hardware.machine,
        driver=hardware.driver,
    )


def carry_out(order: Order, tell: Tell, root: Path) -> Left:
    """Carry out a task in the checkout `root`, and return what it left.

    Where the run is to stop, the cell is interrupted and writes its record.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray's processes block it
    if order.threads is None:
        os.environ.pop(_THREADS, None)  # Ray sets it to the cores of the task
    else:
        os.environ[_THREADS] = order.threads
    task = order.task
    if task.gpus and os.environ.get(VISIBLE_VARIABLE):
        task = replace(task, gpus=tuple(os.environ[VISIBLE_VARIABLE].split(",")))
    environments = _environments()
    if not _is_free(environments, task.environment, tell):
        return Left(finish=Finish(works=False, detail="its environment is in use there"), files={})
    with Scratch("node") as folder:
        records = folder / "records"
        state = RunState.begin(Begun(records=str(records)), order.jobs)
        alone = _Alone(task=task)
        engine = LocalEngine(
            place=RunPlace(
                root=root,
                tox=[*(order.tox or tox_command()), "--workdir", str(environments.folder)],
                environments=environments,
            ),
            records=records,
            options=order.options,
            jobs={job.key: job for job in order.jobs},
            schedule=alone,
            state=state,
            watcher=_Teller(tell),
            made={task.environment} if order.made else set(),
        )
        try:
            engine.carry_out()
        finally:
            state.close()
        return _left(alone.finish or Finish(works=False), records)


def _is_free(environments: Environments, name: str, tell: Tell) -> bool:
    """Wait until nobody uses an environment here; False if the run is to stop before that.

    A run that was killed may be at its end there. What is still running after `_ENDS` seconds does
    not hinder: it is a run in an environment that is whole.
    """
    until = time.monotonic() + _ENDS
    while environments.in_use(name) and time.monotonic() < until:
        if tell(stage_text(None)):
            return False
        time.sleep(_EVERY)
    return True


def _environments() -> Environments:
    return Environments(folder=cache_folder() / "cluster" / "tox", cache=uv_cache())


def _has_tox() -> bool:
    try:
        return bool(tox_command())
    except MatrixError:
        return False


def _pythons() -> frozenset[str] | None:
    """Return the minor releases of Python here; None if uv may fetch others, or is not found."""
    # uv itself says so by this variable; it reads a file of settings too, which nothing here reads.
    if os.environ.get("UV_PYTHON_DOWNLOADS", "automatic") not in ("never", "manual"):
        return None
    paths = (sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath))
    uv = shutil.which("uv", path=os.pathsep.join(paths))
    line = [uv or "uv", "python", "list", "--only-installed", "--output-format", "json"]
    try:
        listed = subprocess.run(line, capture_output=True, check=True, timeout=_UV).stdout
        found = [item["version_parts"] for item in json.loads(listed)]
        return frozenset(f"{parts['major']}.{parts['minor']}" for parts in found)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None


def _left(finish: Finish, records: Path) -> Left:
    """Read what a task left, before its folder goes."""
    files = {}
    for path in sorted(records.glob("c*/*")):
        if path.is_file() and not path.name.startswith(".") and path.stat().st_size <= _FILE_LIMIT:
            files[f"{path.parent.name}/{path.name}"] = path.read_bytes()
    kept = {key: str(Path(path).relative_to(records)) for key, path in finish.records.items()}
    if finish.log is not None and Path(finish.log).is_file():
        with Path(finish.log).open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _LOG_LIMIT, 0))
            files["log"] = file.read()
    return Left(finish=replace(finish, records=kept, log=None), files=files)


@dataclass(kw_only=True)
class _Alone:
    """The schedule of one task."""

    task: Task
    finish: Finish | None = None

    def start(self) -> ScheduleStep:
        """Return the task."""
        return ScheduleStep(tasks=(self.task,))

    def ended(self, task: Task, finish: Finish) -> ScheduleStep:
        """Keep its end."""
        del task
        self.finish = finish
        return ScheduleStep()

    def stop(self) -> ScheduleStep:
        """Let it come to its end."""
        return ScheduleStep()


class _Teller:
    """Tells who ordered the task how far it is, and stops it where that is wanted."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._reported = 0.0
        self._stops = False

    def event(self, event: RunEvent) -> None:
        """Show nothing: who ordered the task knows."""

    def tick(self, working: Sequence[Working]) -> None:
        """Tell the stage, once a second."""
        if time.monotonic() - self._reported < _EVERY:
            return
        self._reported = time.monotonic()
        stage = next((work.stage for work in working if work.stage is not None), None)
        if self._tell(stage_text(stage)) and not self._stops:
            self._stops = True
            signal.raise_signal(signal.SIGINT)


def stage_text(stage: Stage | None) -> str:
    """Return a stage as JSON."""
    return json.dumps(None if stage is None else asdict(stage))


def stage_from(text: str) -> Stage | None:
    """Return the stage of `stage_text`."""
    data = json.loads(text)
    if data is None:
        return None
    start = data["start"]
    return Stage(
        ended=int(data["ended"]),
        ran=int(data["ran"]),
        total=None if data["total"] is None else int(data["total"]),
        cases=tuple(clip(str(case), 200) for case in data["cases"]),
        start=None if start is None else StartKind(start),
        imported=bool(data["imported"]),
        before=float(data["before"]),
        taken=float(data["taken"]),
    )
