"""The jobs of a plan on a machine: what each takes, by what is known of earlier runs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from matrix._util.memory import CASE_MIB
from matrix._util.nvidia import START_MIB
from matrix.catalog.cells import Cell
from matrix.record.model import Platform
from matrix.run.environments import seconds_for
from matrix.run.job import Job, JobEstimate
from matrix.run.machine import Demand, Machine
from matrix.run.nvidia import gpu_need_mib
from matrix.verdict.plan import Planned

RUN_SECONDS = 600.0
"""How long a run is thought to take where none of the selection ever ran."""

_AT_ONCE = 4  # cases of a cell on a GPU: two cells of four are as fast as one of eight


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Options for the cells of a selection: arguments of pytest, number of cases at once.

    `disk_mib` is what the environment of a cell takes where it is not there, in MiB. `gpus` is how
    many GPUs a cell on cuda sees; with `whole_gpus` several are its own.
    """

    disk_mib: Callable[[Cell], int]
    gpus: int = 1
    whole_gpus: bool = False
    pytest_args: tuple[str, ...] = ()
    cases_at_once: int | None = None


def jobs_of(planned: Iterable[Planned], nodes: Sequence[Machine], asked: Asked) -> tuple[Job, ...]:
    """Return a job for each cell and platform of a plan.

    `nodes` are all machines that may run one, at least one of them. A job takes what it would take
    of the one that has the most; the share of a cell on the CPU fits each of them.
    """
    every = list(planned)
    known = [item.seconds for item in every if item.seconds is not None]
    usual = median(known) if known else RUN_SECONDS
    on_cpu = sum(item.platform == Platform.CPU for item in every)
    most, share = most_of(nodes), _cpu_share(on_cpu, nodes)
    return tuple(_job(item, most, asked, usual=usual, share=share) for item in every)


def most_of(nodes: Iterable[Machine]) -> Machine:
    """Return the machine with the largest GPU, then the most cores and memory."""

    def size(machine: Machine) -> tuple[int, int, int]:
        largest = max((gpu.free_mib for gpu in machine.gpus), default=0)
        return largest, machine.cores, machine.memory_mib

    return max(nodes, key=size)


def fitted(job: Job, nodes: Sequence[Machine]) -> Job:
    """Return the job of an earlier run as one of these machines can run it.

    On the CPU it has fewer cases at once where none of them has the room for as many any longer.
    """
    if job.platform != Platform.CPU:
        return job
    cases = min(job.cases_at_once or 1, max(map(cases_on_cpu, nodes)))
    if cases == job.cases_at_once:
        return job
    most = max(machine.cores for machine in nodes)
    return replace(job, cases_at_once=cases, demand=_for_cases(job.demand, cases, most))


def _for_cases(demand: Demand, cases: int, cores: int) -> Demand:
    """Return a demand with what so many cases at once take of a machine with these cores.

    A case takes a core, as far as there are any, and memory, of which it takes as much for each of
    several GPUs.
    """
    return replace(
        demand, cores=max(min(cases, cores), 1), memory_mib=CASE_MIB * max(cases, demand.gpus)
    )


def _cpu_share(cells: int, nodes: Sequence[Machine]) -> int:
    """Return how many cases at once each of the cells on the CPU has, on whatever machine."""
    on_each = -(-cells // len(nodes))
    return max(1, min(map(cases_on_cpu, nodes)) // max(1, on_each))


def cases_on_cpu(machine: Machine) -> int:
    """Return how many cases run at once on the CPU of this machine: each has a core and memory."""
    return max(1, min(machine.cores, machine.memory_mib // CASE_MIB))


def _job(item: Planned, machine: Machine, asked: Asked, *, usual: float, share: int) -> Job:
    """Return the job of a cell. On the CPU each cell has its share of the cases at once."""
    disk = asked.disk_mib(item.cell)
    cases = asked.cases_at_once
    on_gpu = item.platform == Platform.CUDA
    gpus = asked.gpus if on_gpu else 1
    if cases is None:
        cases = _at_once_on_gpu(machine, gpus) if on_gpu else share
    demand = Demand(
        disk_mib=disk,
        gpu_mib=_gpu_mib(machine) * cases if on_gpu else 0,
        gpus=gpus,
        whole_gpus=asked.whole_gpus and gpus > 1,
    )
    return Job(
        cell=item.cell,
        environment=item.cell.name,
        platform=item.platform,
        pytest_args=asked.pytest_args,
        cases_at_once=cases,
        estimate=JobEstimate(
            build_seconds=seconds_for(disk),
            run_seconds=usual if item.seconds is None else item.seconds,
        ),
        demand=_for_cases(demand, cases, machine.cores),
    )


def gpus_of_a_cell(machine: Machine) -> int:
    """Return how many GPUs a cell sees on this machine where nobody says: two if it has them.

    Some cases need two (`tensor_parallel_startup`), which are of one kind, since a start takes the
    same share of each, and have the memory of a start. Of slices of a GPU CUDA sees one at most.
    """
    if any(gpu.device.startswith("MIG-") for gpu in machine.gpus):
        return 1
    alike = len({(gpu.name, gpu.total_mib) for gpu in machine.gpus}) == 1
    able = sum(gpu.free_mib >= _gpu_mib(machine) for gpu in machine.gpus)
    return 2 if alike and able >= 2 else 1


def _at_once_on_gpu(machine: Machine, gpus: int) -> int:
    """Return how many cases of a cell run at once: as many as fit each of its GPUs, the freest."""
    every = sorted((gpu.free_mib for gpu in machine.gpus), reverse=True)
    free = every[gpus - 1] if len(every) >= gpus else 0
    return max(min(_AT_ONCE, free // _gpu_mib(machine), machine.cores), 1)


def _gpu_mib(machine: Machine) -> int:
    """Return what a case takes of the largest GPU."""
    return gpu_need_mib(max((gpu.total_mib for gpu in machine.gpus), default=START_MIB * 4))
