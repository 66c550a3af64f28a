"""What a person asks of a pair: a machine, releases, a model, and how much must be known. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from matrix._util.enums import StrEnum
from matrix.catalog.hardware import Driver, GpuKind

MACHINES = ("x86_64", "aarch64")
"""The processors for which there are wheels of vLLM with GPU code."""


class EvidenceKind(StrEnum):
    """On what an advice about a pair rests, the best first.

    `MEASURED`: it ran on this kind of GPU, or on any where none was asked for. `ALIKE`: it ran on
    another GPU of the same compute capability. `ELSEWHERE`: it ran on a GPU of another one, or on
    another processor. `PREDICTED`: it ran on the CPU. `STATIC`: no run speaks of it, only checks.
    """

    MEASURED = "measured"
    ALIKE = "measured on the same capability"
    ELSEWHERE = "measured elsewhere"
    PREDICTED = "predicted"
    STATIC = "static"


_ORDER = tuple(EvidenceKind)


def is_enough(kind: EvidenceKind, least: EvidenceKind) -> bool:
    """Tell whether evidence is at least as good as what is asked for.

    >>> is_enough(EvidenceKind.ALIKE, EvidenceKind.PREDICTED)
    True
    """
    return _ORDER.index(kind) <= _ORDER.index(least)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a pair must fit; None asks nothing of it.

    `cuda` are the CUDA versions for which vLLM's wheel may be built, `glibc` is the machine's.
    `model` is a case of the startup tests, such as `model_startup[glm_4.5]`. `evidence` is the
    least that must be known.
    """

    driver: Driver | None = None
    gpu: GpuKind | None = None
    python: str | None = None
    cuda: SpecifierSet | None = None
    machine: str = MACHINES[0]
    glibc: str | None = None
    model: str | None = None
    torch: SpecifierSet | None = None
    vllm: SpecifierSet | None = None
    evidence: EvidenceKind = EvidenceKind.STATIC
