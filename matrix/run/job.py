"""A job is one run of one cell on one platform; and how jobs end. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matrix._util.enums import StrEnum
from matrix.catalog.cells import Cell
from matrix.errors import MatrixError
from matrix.record.model import Platform
from matrix.run.machine import Demand, Lack

_BUILD_DEMAND = Demand(cores=1, memory_mib=1024)
"""What the build of an environment takes: uv unpacks on some threads and mostly waits for files."""


class JobError(MatrixError):
    """A job that nothing can run."""


@dataclass(frozen=True, kw_only=True)
class JobEstimate:
    """How long a job is thought to take: the build of its environment and its run, in seconds.

    Raises JobError for a number that no time has.
    """

    build_seconds: float
    run_seconds: float

    def __post_init__(self) -> None:
        """Refuse negative numbers, infinity and NaN."""
        for seconds in (self.build_seconds, self.run_seconds):
            if not 0 <= seconds < math.inf:
                raise JobError(f"estimate: {seconds} is not a number of seconds; write 0 or more")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a cell. Jobs of one `environment` share it, wherever it is built.

    `environment` is the name of a tox environment, `cases`
    are the startup tests that run; all where it is empty. `flags` are environment variables of the
    cell. `cases_at_once` is how many cases run side by side; None leaves it to `matrix run --here`.
    `round` distinguishes runs of one cell on one platform. `demand` is what the run takes; its
    `disk_mib` is the environment's. `build` is what the build of the environment takes.

    Raises JobError for an empty name and for a round below 1.
    """

    cell: Cell
    environment: str
    platform: Platform
    cases: tuple[str, ...] = ()
    pytest_args: tuple[str, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()
    cases_at_once: int | None = None
    round: int = 1
    estimate: JobEstimate
    demand: Demand
    build: Demand = _BUILD_DEMAND

    def __post_init__(self) -> None:
        """Refuse a job without a name."""
        if not self.environment:
            raise JobError("job: it has no environment; name one")
        if self.round < 1:
            raise JobError(f"job {self.environment}: round {self.round}; count from 1")

    @property
    def key(self) -> str:
        """Return the name of the job; of the jobs of a selection each has another.

        >>> from matrix.run.machine import Demand
        >>> job = Job(
        ...     cell=Cell("3.11", "2.10.0", "0.19.1"),
        ...     environment="py311-torch210-vllm019",
        ...     platform=Platform.CPU,
        ...     round=2,
        ...     estimate=JobEstimate(build_seconds=40, run_seconds=600),
        ...     demand=Demand(cores=2),
        ... )
        >>> job.key
        'py311-torch210-vllm019/cpu/2'
        """
        return f"{self.environment}/{self.platform}/{self.round}"


class HowEnded(StrEnum):
    """How a job ended.

    `DONE`: its run left a record, whatever its verdict. `NOT_RUN`: there is no record, and
    `JobEnd.why` has the reason. `SET_ASIDE`: the machines that ran it were lost, so that no other
    one gets it.
    """

    DONE = "done"
    NOT_RUN = "not_run"
    SET_ASIDE = "set_aside"


class WhyNot(StrEnum):
    """Why a job has no record; the sentence is made in `matrix.report`.

    `NO_PYTHON`: its Python is not installed, and uv cannot install it. `BUILD_FAILED`: its
    environment could not be built. `NO_RECORD`: the run ended without a record.
    `FITS_NOWHERE`: no machine has what it needs (`JobEnd.lacks`). `NO_MACHINE`: no machine is left.
    `MACHINES_LOST`: as many machines as may be were lost while they ran it. `STOPPED`: the user
    ended the selection first.
    """

    NO_PYTHON = "no_python"
    BUILD_FAILED = "build_failed"
    NO_RECORD = "no_record"
    FITS_NOWHERE = "fits_nowhere"
    NO_MACHINE = "no_machine"
    MACHINES_LOST = "machines_lost"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """The end of a job: each job of a selection has exactly one.

    `job` is its key. `machine` is the last one that had it, `seconds` how long it ran there.
    `record` is the path of its record as the engine names it; `log` that of what its last task
    printed. `detail` is text of the engine, such as the last line of the log: untrusted.
    `machines` are those that were lost with it. `lacks` is what the machine that comes nearest
    lacks.
    """

    job: str
    how: HowEnded
    why: WhyNot | None = None
    record: str | None = None
    machine: str | None = None
    seconds: float | None = None
    log: str | None = None
    detail: str = ""
    machines: tuple[str, ...] = ()
    lacks: tuple[Lack, ...] = ()
