"""The free resources of a machine, and its environments. Pure: a schedule changes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from matrix._util.enums import StrEnum
from matrix.run.first_fit import Needs
from matrix.run.machine import Demand, Machine
from matrix.run.task import Present


class CopyState(StrEnum):
    """The state of an environment on a machine.

    `LEFT`: what a failed build left, or what cannot be used. `STUCK`: it could not be removed.
    """

    BUILDING = "building"
    READY = "ready"
    LEFT = "left"
    REMOVING = "removing"
    STUCK = "stuck"


SERVES = (CopyState.BUILDING, CopyState.READY)
"""The states of an environment in which jobs can run, now or soon."""


@dataclass(kw_only=True, slots=True)
class Copy:
    """An environment on a machine.

    `users` are the runs in it; `needed` returns whether a waiting job could run in it.
    """

    environment: str
    disk_mib: int
    state: CopyState
    users: int = 0
    needed: bool = False


class Host:
    """A machine and its tasks. It is changed in place: copies would cost most of the time.

    `blocked` is the place of the first job that could run here but for what others have taken.
    `held` is the place of the job for which nothing else begins here. `suspects` is how many tasks
    continue here that were on a lost machine before. `coming_mib` is the disk that removals will
    give. `idle_as` is what the machine has, where the board counts it among the idle.
    """

    def __init__(self, machine: Machine) -> None:
        """Take a machine on which nothing runs."""
        self.machine = machine
        self.name = machine.name
        self.free_cores = machine.cores
        self.free_memory = machine.memory_mib
        self.free_disk = machine.disk_mib
        self.coming_mib = 0
        self._stuck_mib = 0
        self.free_gpus = {gpu.device: gpu.free_mib for gpu in machine.gpus}
        self._all_gpus = dict(self.free_gpus)
        self._failed_gpus: set[str] = set()
        most_gpu = max(self.free_gpus.values(), default=0)
        self.copies: dict[str, Copy] = {}
        self.pending: set[str] = set()
        self.building = 0
        self.suspects = 0
        self.blocked: int | None = None
        self.held: int | None = None
        self.tasks: set[int] = set()
        self.idle_as: Needs | None = None
        # What a build, and then a run, can have when nothing else goes on here.
        self.totals: Needs = (
            machine.cores,
            machine.memory_mib,
            machine.disk_mib,
            machine.cores,
            machine.memory_mib,
            most_gpu,
        )

    def add_present(self, present: Present) -> Copy:
        """Take an environment that is here already, and return it."""
        copy = Copy(
            environment=present.environment,
            disk_mib=present.disk_mib,
            state=CopyState.READY if present.usable else CopyState.LEFT,
        )
        self.add(copy)
        return copy

    def usable(self) -> Machine:
        """Return the machine without the disk of what cannot be removed."""
        return replace(self.machine, disk_mib=self.totals[2])

    def free(self) -> Needs:
        """Return what a build can have now, and then a run when nothing else runs here."""
        _, _, _, cores, memory, gpu = self.totals
        return self.free_cores, self.free_memory, max(0, self.free_disk), cores, memory, gpu

    def has_gpus(self, demand: Demand) -> bool:
        """Tell whether enough GPUs have the memory when nothing else runs here."""
        if not demand.gpu_mib:
            return True
        fit = (gpu for gpu in self.machine.gpus if gpu.free_mib >= demand.gpu_mib)
        return sum(1 for _ in fit) >= demand.gpus

    def has_room(self, demand: Demand) -> bool:
        """Tell whether a task that takes this can begin now; disk is asked elsewhere."""
        if demand.cores > self.free_cores or demand.memory_mib > self.free_memory:
            return False
        return not demand.gpu_mib or len(self._gpus_for(demand)) == demand.gpus

    def take(self, demand: Demand) -> tuple[str, ...]:
        """Take this, and return the devices of the GPUs that were taken: the freest ones."""
        self.free_cores -= demand.cores
        self.free_memory -= demand.memory_mib
        if not demand.gpu_mib:
            return ()
        devices = self._gpus_for(demand)
        for device in devices:
            self.free_gpus[device] -= self._of_gpu(demand, device)
        return devices

    def give(self, demand: Demand, devices: Iterable[str]) -> None:
        """Give back what was taken."""
        self.free_cores += demand.cores
        self.free_memory += demand.memory_mib
        for device in devices:
            self.free_gpus[device] += self._of_gpu(demand, device)

    def gpus_failed(self, devices: Iterable[str]) -> None:
        """Note that one of these GPUs failed: none of them is taken where others are enough."""
        self._failed_gpus |= self._all_gpus.keys() & set(devices)

    def at_once(self, demand: Demand) -> int:
        """Return how many such runs fit here at once, at least 1.

        As many environments may be here whose jobs wait: more would take disk, and other machines
        could run them.
        """
        machine = self.machine
        most = machine.cores // max(demand.cores, 1)
        if demand.memory_mib:
            most = min(most, machine.memory_mib // demand.memory_mib)
        if demand.gpu_mib:
            each = [gpu.free_mib // demand.gpu_mib for gpu in machine.gpus]
            if demand.whole_gpus:
                each = [min(number, 1) for number in each]
            most = min(most, sum(each) // demand.gpus)
            # None has two places on one GPU.
            while most > 1 and sum([min(number, most) for number in each]) < most * demand.gpus:
                most -= 1
        return max(1, most)

    def add(self, copy: Copy) -> None:
        """Take disk for an environment that is here from now on."""
        self.copies[copy.environment] = copy
        self.free_disk -= copy.disk_mib

    def resize(self, copy: Copy, disk_mib: int) -> None:
        """Take other disk for an environment."""
        self.free_disk += copy.disk_mib - disk_mib
        copy.disk_mib = disk_mib

    def removing(self, copy: Copy) -> None:
        """Note that an environment is removed from now on."""
        copy.state = CopyState.REMOVING
        self.coming_mib += copy.disk_mib

    def removed(self, copy: Copy, *, works: bool) -> None:
        """Note that an environment was removed, or could not be."""
        self.coming_mib -= copy.disk_mib
        if works:
            self.free_disk += copy.disk_mib
            del self.copies[copy.environment]
        else:
            copy.state = CopyState.STUCK
            self._stuck_mib += copy.disk_mib
            cores, memory, *_, gpu = self.totals
            disk = max(0, self.machine.disk_mib - self._stuck_mib)
            self.totals = (cores, memory, disk, cores, memory, gpu)

    def to_remove(self, mib: int, *, but: str, needed: bool) -> list[Copy]:
        """Return environments whose removal gives that much disk; none where it cannot be had.

        The oldest go first: what was there before, then what jobs of this selection have used. None
        is in use; those that a waiting job needs come last, and only where they are asked for.
        """
        chosen: list[Copy] = []
        given = 0
        for copy in self._removable(needed=needed):
            if given >= mib:
                break
            if copy.environment != but:
                chosen.append(copy)
                given += copy.disk_mib
        if given < mib:
            return []
        # A large one that came last may do without some before it.
        for copy in tuple(chosen):
            if given - copy.disk_mib >= mib:
                chosen.remove(copy)
                given -= copy.disk_mib
        return chosen

    def _removable(self, *, needed: bool) -> Iterator[Copy]:
        idle = (
            copy
            for copy in self.copies.values()
            if not copy.users and (copy.state is CopyState.READY or copy.state is CopyState.LEFT)
        )
        if not needed:
            return (copy for copy in idle if not copy.needed)
        return iter(sorted(idle, key=lambda copy: copy.needed))

    def _of_gpu(self, demand: Demand, device: str) -> int:
        """Return what is taken of a GPU."""
        return self._all_gpus[device] if demand.whole_gpus else demand.gpu_mib

    def _gpus_for(self, demand: Demand) -> tuple[str, ...]:
        free = self.free_gpus
        fit = [device for device, mib in free.items() if mib >= demand.gpu_mib]
        if demand.whole_gpus:
            fit = [device for device in fit if free[device] == self._all_gpus[device]]
        failed = self._failed_gpus
        if failed and self._are_enough(demand):
            fit = [device for device in fit if device not in failed]
        # The sort keeps the machine's order among equals.
        fit.sort(key=lambda device: (device in failed, -free[device]))
        return tuple(fit[: demand.gpus])

    def _are_enough(self, demand: Demand) -> bool:
        """Tell whether the GPUs that did not fail have this when nothing else runs here."""
        fit = {device for device, mib in self._all_gpus.items() if mib >= demand.gpu_mib}
        return len(fit - self._failed_gpus) >= demand.gpus
