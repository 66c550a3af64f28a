"""A request for a pair: a machine, releases, a model, and the least evidence. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from matrix.advice.kinds import EvidenceKind
from matrix.catalog.hardware import Driver, GpuKind
from matrix.catalog.platform_tags import MACHINES


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The conditions that a pair must fit; None is no condition.

    `cuda` are the CUDA versions for which vLLM's wheel may be built, `glibc` is the machine's.
    `is_machine_assumed`: the processor is that with which the GPU comes, and nobody named one.
    `without_gpu`: the machine has none. `model` is a case of the startup tests, such as
    `model_startup[glm_4.5]`. `evidence` is the least that must be known.
    """

    driver: Driver | None = None
    gpu: GpuKind | None = None
    python: str | None = None
    cuda: SpecifierSet | None = None
    machine: str = MACHINES[0]
    is_machine_assumed: bool = False
    without_gpu: bool = False
    glibc: str | None = None
    model: str | None = None
    torch: SpecifierSet | None = None
    vllm: SpecifierSet | None = None
    evidence: EvidenceKind = EvidenceKind.STATIC
