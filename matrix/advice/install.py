"""The installation of a pair: requirements, overrides, and the backend of torch. Pure.

`matrix.report.uv_commands` makes the commands of it, for advice and for the page alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from matrix._util.versions import distance, parse_version
from matrix.advice.fits import MachineTables, WheelNeeds, cuda_to_name, needs_of
from matrix.advice.pairs import Pair
from matrix.catalog.cells import Cell
from matrix.catalog.hardware import HardwareTable, flavour_name
from matrix.catalog.platform_tags import MACHINES
from matrix.catalog.releases import Releases
from matrix.verdict.answer import installation
from matrix.verdict.grid import Grid

_PREFERRED = "3.12"  # the Python of most records, for which all known releases have wheels


class Addition(NamedTuple):
    """A requirement beyond vLLM, and its effect in a few words; None where nobody wrote that."""

    requirement: str
    effect: str | None


@dataclass(frozen=True, kw_only=True)
class Install:
    """The arguments of `uv pip install` for a new environment, with a name for its folder.

    `overrides` replace the pins of vLLM. `backend` is uv's name of torch's flavour, where
    the package index may have another than the one that vLLM's wheel is built for. `additions` are
    those of the requirements that vLLM's own metadata does not have.
    """

    environment: str
    python: str
    requirements: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    backend: str | None = None
    additions: tuple[Addition, ...] = ()


def install_of(
    pair: Pair, python: str, releases: Releases, torch: WheelNeeds, hardware: HardwareTable
) -> Install:
    """Return what to install for a pair; `torch` is what is known of torch's wheel on the index."""
    torch_version, vllm = pair.torch.version, pair.vllm.version
    found = installation(Cell(python, torch_version, vllm), releases)
    cuda = cuda_to_name(pair, torch, hardware)
    return Install(
        environment=environment_of(vllm, torch_version if pair.off_pin else None),
        python=python,
        requirements=found.requirements,
        overrides=found.overrides,
        backend=None if cuda is None else flavour_name(cuda),
        additions=tuple(
            Addition(constraint.requirement, constraint.effect)
            for constraint in releases.constrained
            if constraint.covers(vllm)
        ),
    )


def preferred(pythons: Iterable[str]) -> list[str]:
    """Return Pythons in the order in which they are advised.

    >>> preferred(["3.10", "3.11", "3.12", "3.13"])
    ['3.12', '3.11', '3.13', '3.10']
    """
    return sorted(pythons, key=lambda python: (distance(python, _PREFERRED), parse_version(python)))


def environment_of(vllm: str, torch: str | None = None) -> str:
    """Return the name of the folder for a vLLM with its pin, or with another torch.

    >>> environment_of("0.32.0"), environment_of("0.32.0", "2.11.0")
    ('vllm-0.32.0', 'vllm-0.32.0-torch-2.11.0')
    """
    return f"vllm-{vllm}" if torch is None else f"vllm-{vllm}-torch-{torch}"


def installs_of(
    grid: Grid, releases: Releases, tables: MachineTables
) -> Mapping[tuple[str, str], Install]:
    """Return what to install for each pair of a grid on x86_64, by torch and vLLM.

    All are for the first Python of the grid.
    """
    needs = [(torch, needs_of(torch, tables, MACHINES[0])) for torch in grid.torch]
    return {
        (torch.version, vllm.version): install_of(
            Pair(torch=torch, vllm=vllm), python, releases, wheel, tables.hardware
        )
        for python in grid.pythons[:1]
        for torch, wheel in needs
        for vllm in grid.vllm
    }
