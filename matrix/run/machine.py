"""A machine that runs cells: what it has, and what a demand on it lacks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from matrix._util.enums import StrEnum
from matrix.errors import MatrixError


class DemandError(MatrixError):
    """A number of a demand or of a machine that nothing can have."""


class Resource(StrEnum):
    """Resources of a machine or a task: numbers of cores and GPUs, the others in MiB.

    `GPU_MEMORY` is memory of one GPU, `GPUS` is how many GPUs have that much.
    """

    CORES = "cores"
    MEMORY = "memory"
    DISK = "disk"
    GPU_MEMORY = "gpu_memory"
    GPUS = "gpus"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """The resources that a task takes while it runs.

    `cores` are whole cores, `memory_mib` is main memory. `disk_mib` is what the environment of a
    job takes on disk: it is taken as long as the environment is there, not only while a task goes
    on. `gpu_mib` is memory of each of its `gpus` GPUs; 0 if it takes none. With `whole_gpus`
    nothing else has these GPUs meanwhile. Raises DemandError for a negative number, and for memory
    of no GPU.
    """

    cores: int = 1
    memory_mib: int = 0
    disk_mib: int = 0
    gpu_mib: int = 0
    gpus: int = 1
    whole_gpus: bool = False

    def __post_init__(self) -> None:
        """Refuse negative numbers."""
        numbers = (self.cores, self.memory_mib, self.disk_mib, self.gpu_mib, self.gpus)
        if min(numbers) < 0:
            _refuse_negative("demand", self, ("cores", "memory_mib", "disk_mib", "gpu_mib", "gpus"))
        if self.gpu_mib and not self.gpus:
            raise DemandError("demand: memory of a GPU, and no GPU; write 1 or more GPUs")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU: what CUDA_VISIBLE_DEVICES calls it, its name, and its memory in MiB.

    `free_mib` is what may be taken of it. Raises DemandError for a negative number.
    """

    device: str
    name: str
    total_mib: int
    free_mib: int

    def __post_init__(self) -> None:
        """Refuse negative numbers."""
        _refuse_negative(f"GPU {self.device}", self, ["total_mib", "free_mib"])


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The resources of a machine for runs of cells; `name` distinguishes it from the others.

    `disk_mib` is what environments may take together, those included that are there already.
    Raises DemandError for a negative number, and for two GPUs of one device.
    """

    name: str
    cores: int
    memory_mib: int
    disk_mib: int
    gpus: tuple[Gpu, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no machine has."""
        _refuse_negative(f"machine {self.name}", self, ["cores", "memory_mib", "disk_mib"])
        if len({gpu.device for gpu in self.gpus}) < len(self.gpus):
            raise DemandError(f"machine {self.name}: two GPUs have one device; name each once")


@dataclass(frozen=True, kw_only=True)
class Lack:
    """A resource of which a job needs more than a machine has."""

    resource: Resource
    needs: int
    has: int


def lacks(machine: Machine, demands: Iterable[Demand]) -> tuple[Lack, ...]:
    """Return what a machine that does nothing else lacks for each of these demands; () if none.

    >>> machine = Machine(name="here", cores=4, memory_mib=8000, disk_mib=20000)
    >>> [(lack.resource.value, lack.needs, lack.has) for lack in lacks(machine, [Demand(cores=6)])]
    [('cores', 6, 4)]
    """
    every = tuple(demands)
    most = Demand(
        cores=max((demand.cores for demand in every), default=0),
        memory_mib=max((demand.memory_mib for demand in every), default=0),
        disk_mib=max((demand.disk_mib for demand in every), default=0),
        gpu_mib=max((demand.gpu_mib for demand in every), default=0),
        gpus=max((demand.gpus for demand in every if demand.gpu_mib), default=1),
    )
    freest = max((gpu.free_mib for gpu in machine.gpus), default=0)
    pairs = [
        (Resource.CORES, most.cores, machine.cores),
        (Resource.MEMORY, most.memory_mib, machine.memory_mib),
        (Resource.DISK, most.disk_mib, machine.disk_mib),
        (Resource.GPU_MEMORY, most.gpu_mib, freest),
    ]
    if 0 < most.gpu_mib <= freest:
        enough = sum(gpu.free_mib >= most.gpu_mib for gpu in machine.gpus)
        pairs.append((Resource.GPUS, most.gpus, enough))
    return tuple(
        Lack(resource=what, needs=needs, has=has) for what, needs, has in pairs if needs > has
    )


def _refuse_negative(where: str, of: object, names: Iterable[str]) -> None:
    for name in names:
        number = getattr(of, name)
        if number < 0:
            raise DemandError(f"{where}: {name} is {number}; write 0 or more")
