"""The facts of the read wheels: the GPUs that they have code for, the glibc they need. Pure.

Which pair fits a machine is what `matrix recommend` asks too: `matrix.advice.fits` answers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from matrix._util.versions import parse_version
from matrix.advice.fits import MachineTables, WheelNeeds, misfit, needs_of
from matrix.advice.pairs import Pair, pairs
from matrix.advice.tables_file import load_tables
from matrix.advice.wish import Wish
from matrix.catalog.hardware import Capability, GpuKind, driver_of, plain_name
from matrix.catalog.platform_tags import MACHINES
from matrix.catalog.release import Torch, Vllm
from matrix.checks.gpu_code.fits import CodeFit
from matrix.explain.choice import InstallChoice
from matrix.explain.model import KnownReleases, ProcessorCode, TextVersions


@dataclass(frozen=True, kw_only=True)
class FittingPair:
    """A pair that fits a machine, with what the wheels of its vLLM and of its torch need."""

    pair: Pair
    needs: tuple[WheelNeeds, WheelNeeds]

    @property
    def vllm(self) -> Vllm:
        """The release of vLLM."""
        return self.pair.vllm

    @property
    def glibc(self) -> str | None:
        """The oldest glibc with which both are installed and loaded; None for an unknown one."""
        found = [known for needs in self.needs for known in (needs.wheel_glibc, needs.glibc)]
        return max(filter(None, found), key=parse_version, default=None)


def for_machine(choice: InstallChoice, versions: TextVersions) -> InstallChoice:
    """Return the choice for the driver, the GPU and its processor that a text names.

    What is unknown fits. A torch that the index has without CUDA does not: the commands name no
    other index.
    """
    tables = load_tables()
    name = plain_name(versions.gpu or "")
    capability = tables.hardware.gpus.get(name)
    gpu = None if capability is None else GpuKind(capability=capability, name=name)
    machine = None if gpu is None else tables.hardware.processor_of(gpu)
    wish = Wish(
        driver=driver_of(versions.driver) if versions.driver else None,
        gpu=gpu,
        machine=machine or MACHINES[0],
    )
    torches = {row.version: row for row in choice.releases.torch}

    def fits(row: Vllm) -> bool:
        torch = torches[row.torch]
        if needs_of(torch, tables, wish.machine).is_for_cpu:
            return False
        return misfit(Pair(torch=torch, vllm=row), wish, tables) is None

    return replace(choice, is_for_machine=fits)


def newest_fitting(
    wish: Wish, choice: InstallChoice, tables: MachineTables, is_known: Callable[[WheelNeeds], bool]
) -> FittingPair | None:
    """Return the newest vLLM with its pin that fits; of both must be known what a wish asks.

    For advice, an unknown fact excludes no pair. What is to end an error must be known.
    """
    capability = None if wish.gpu is None else wish.gpu.capability
    for pair in pairs(choice.releases, wish):
        if misfit(pair, wish, tables) is not None or not choice.is_for_machine(pair.vllm):
            continue
        vllm, torch = (
            needs_of(release, tables, wish.machine, capability)
            for release in (pair.vllm, pair.torch)
        )
        if is_known(vllm) and is_known(torch):
            return FittingPair(pair=pair, needs=(vllm, torch))
    return None


def has_code(needs: WheelNeeds) -> bool:
    """Tell whether it is known that a wheel has code for the GPU that was asked about."""
    return needs.code is not None and needs.code.fit is not CodeFit.NONE


def code_by_processor(
    capability: Capability, choice: InstallChoice, tables: MachineTables
) -> tuple[ProcessorCode, ...]:
    """Return which wheels have code for a GPU, by the processor that they are for."""
    found = []
    for machine in MACHINES:
        torch, vllm = (
            [needs_of(release, tables, machine, capability) for release in releases]
            for releases in _both(choice)
        )
        found.append(
            ProcessorCode(
                machine=machine,
                torch=_known(torch, has_code),
                vllm=_known(vllm, has_code),
                unread_torch=_unread(torch),
                unread_vllm=_unread(vllm),
            )
        )
    return tuple(found)


def needing_glibc(
    version: str, choice: InstallChoice, tables: MachineTables, *, by_tag: bool = False
) -> tuple[KnownReleases, KnownReleases]:
    """Return the torch and the vLLM whose libraries, for x86_64, need this glibc or a newer one.

    `by_tag` asks the tags of the wheels, which installers ask for.
    """
    wanted = parse_version(version)

    def needs(wheel: WheelNeeds) -> bool:
        least = wheel.wheel_glibc if by_tag else wheel.glibc
        return least is not None and parse_version(least) >= wanted

    torch, vllm = (
        [needs_of(release, tables, MACHINES[0]) for release in releases]
        for releases in _both(choice)
    )
    return _known(torch, needs), _known(vllm, needs)


def _both(choice: InstallChoice) -> tuple[Sequence[Torch], Sequence[Vllm]]:
    return tuple(choice.torches.values()), choice.vllms


def _known(wheels: Iterable[WheelNeeds], holds: Callable[[WheelNeeds], bool]) -> KnownReleases:
    read = [wheel for wheel in wheels if wheel.is_read]
    return KnownReleases(
        holds=tuple(wheel.version for wheel in read if holds(wheel)),
        asked=tuple(wheel.version for wheel in read),
    )


def _unread(wheels: Iterable[WheelNeeds]) -> KnownReleases:
    every = list(wheels)
    return KnownReleases(
        holds=tuple(wheel.version for wheel in every if not wheel.is_read),
        asked=tuple(wheel.version for wheel in every),
    )
