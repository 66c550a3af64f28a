"""A machine that runs cells: what it has, and what a demand on it lacks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from matrix._util.enums import StrEnum
from matrix.errors import MatrixError


class DemandError(MatrixError):
    """A number of a demand or of a machine that nothing can have."""


class Resource(StrEnum):
    """What a machine has and a task takes; cores are counted, everything else is in MiB."""

    CORES = "cores"
    MEMORY = "memory"
    DISK = "disk"
    GPU = "gpu"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a task takes of its machine while it goes on.

    `cores` are whole cores, `memory_mib` is main memory. `disk_mib` is what the environment of a
    job takes on disk: it is taken as long as the environment is there, not only while a task goes
    on. `gpu_mib` is memory of one GPU; 0 without a GPU. Raises DemandError for a negative number.
    """

    cores: int = 1
    memory_mib: int = 0
    disk_mib: int = 0
    gpu_mib: int = 0

    def __post_init__(self) -> None:
        """Refuse negative numbers."""
        _refuse_negative("demand", self, [item.name for item in fields(self)])


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
    """What runs of cells may take of a machine; `name` tells it apart from the others.

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

    def has(self, resource: Resource) -> int:
        """Return how much of a resource one task can have at most; of GPUs the freest one has."""
        if resource == Resource.GPU:
            return max((gpu.free_mib for gpu in self.gpus), default=0)
        return {
            Resource.CORES: self.cores,
            Resource.MEMORY: self.memory_mib,
            Resource.DISK: self.disk_mib,
        }[resource]


@dataclass(frozen=True, kw_only=True)
class Lack:
    """A resource of which a job needs more than a machine has."""

    resource: Resource
    needs: int
    has: int


def lacks(machine: Machine, demands: Iterable[Demand]) -> tuple[Lack, ...]:
    """Return what a machine that does nothing else lacks for each of these demands; () if none."""
    every = tuple(demands)
    found = []
    for resource in Resource:
        needs = max((needed(demand, resource) for demand in every), default=0)
        if needs > machine.has(resource):
            found.append(Lack(resource=resource, needs=needs, has=machine.has(resource)))
    return tuple(found)


def needed(demand: Demand, resource: Resource) -> int:
    """Return how much of a resource a demand takes."""
    return {
        Resource.CORES: demand.cores,
        Resource.MEMORY: demand.memory_mib,
        Resource.DISK: demand.disk_mib,
        Resource.GPU: demand.gpu_mib,
    }[resource]


def _refuse_negative(where: str, of: object, names: Iterable[str]) -> None:
    for name in names:
        number = getattr(of, name)
        if number < 0:
            raise DemandError(f"{where}: {name} is {number}; write 0 or more")
