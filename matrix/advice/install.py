"""What to install for a pair: requirements, overrides, and the backend of torch. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from matrix.advice.fits import WheelNeeds
from matrix.advice.kinds import MACHINES
from matrix.advice.pairs import Pair
from matrix.catalog.cells import Cell
from matrix.catalog.hardware import flavour_name
from matrix.catalog.releases import Releases


@dataclass(frozen=True, kw_only=True)
class Install:
    """What `uv pip install` gets, for an environment of its own, with a name for its folder.

    `overrides` take the place of what vLLM pins. `backend` is uv's name of torch's flavour, where
    the package index may have another than the one that vLLM's wheel is built for.
    """

    environment: str
    python: str
    requirements: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    backend: str | None = None


def install_of(pair: Pair, python: str, releases: Releases, torch: WheelNeeds) -> Install:
    """Return what to install for a pair; `torch` is what is known of torch's wheel on the index."""
    cell = Cell(python, pair.torch.version, pair.vllm.version)
    of_torch = f"-torch-{pair.torch.version}" if pair.off_pin else ""
    return Install(
        environment=f"vllm-{pair.vllm.version}{of_torch}",
        python=python,
        requirements=(f"vllm=={pair.vllm.version}", *releases.constraints(pair.vllm.version)),
        overrides=releases.overrides(cell),
        backend=_backend(pair, torch),
    )


def _backend(pair: Pair, torch: WheelNeeds) -> str | None:
    """Return the flavour to name; None where the index's own wheel is of vLLM's CUDA.

    What the data has of CUDA was read in wheels for x86_64: for another processor it is named,
    unless that wheel was read too, and has code for GPUs.
    """
    own, cuda = pair.torch.cuda, pair.vllm.cuda
    if own is None or cuda is None:
        return None
    if own.partition(".")[0] != cuda.partition(".")[0]:
        return flavour_name(cuda)
    is_sure = torch.is_read or torch.machine == MACHINES[0]
    return None if is_sure and not torch.is_for_cpu else flavour_name(own)
