"""A small catalogue for advice: three vLLM releases, two of torch, one wheel that nobody read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

import made
from matrix.advice.evidence import PairRuns
from matrix.advice.fits import MachineTables
from matrix.advice.recommend import AdviceFacts, declarations
from matrix.catalog.cells import Cell
from matrix.catalog.hardware_file import load_hardware
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases
from matrix.checks.gpu_code.wheels import Groups, ReadWheel, ReadWheels
from matrix.checks.resolution.cache import Resolution
from matrix.record.model import Record
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import parse_expectations
from rules import LOADED, cold_and_warm

RULES = parse_expectations(
    cold_and_warm('vllm = "<99"', {"num_graphs_seen": 1}, {LOADED: 3}), "rules.toml"
)
HARDWARE = load_hardware()
BOTH = {"manylinux_2_28_x86_64": ("cp38-abi3",), "manylinux_2_28_aarch64": ("cp38-abi3",)}
TORCH = (
    Torch(
        version="2.10.0",
        python=SpecifierSet(">=3.10"),
        torchvision="0.25.0",
        torchaudio="2.10.0",
        cuda="12.8",
        wheels=BOTH,
    ),
    Torch(
        version="2.11.0",
        python=SpecifierSet(">=3.10"),
        torchvision="0.26.0",
        torchaudio="2.11.0",
        cuda="13.0",
        wheels=BOTH,
    ),
)
H200 = {"name": "NVIDIA H200", "capability": "9.0", "driver": "580.159.04", "memory_mib": 143771}


def vllm(version: str, torch: str, **more: Any) -> Vllm:
    values = {
        "python": SpecifierSet(">=3.10,<3.14"),
        "torchvision": None,
        "torchaudio": None,
        "cuda": "13.0",
        "wheels": BOTH,
        **more,
    }
    return Vllm(version=version, torch=torch, **values)


VLLM = (
    vllm("0.18.0", "2.10.0", cuda="12.9"),
    vllm("0.19.0", "2.10.0", cuda="12.9", wheels={"manylinux_2_31_x86_64": ("cp38-abi3",)}),
    vllm("0.20.0", "2.11.0", python=SpecifierSet(">=3.11,<3.14")),
)


def wheel(project: str, version: str, groups: Groups | None, **more: Any) -> ReadWheel:
    library = "torch/lib/libtorch_cuda.so" if project == "torch" else "vllm/_C.abi3.so"
    values = {"machine": "x86_64", "file": f"{project}.whl", "record": "00", "glibc": "2.28"}
    return ReadWheel(
        project=project,
        version=version,
        code={library: groups} if groups else {},
        **{**values, **more},
    )


def archs(*names: str) -> Groups:
    return {frozenset(names): 3}


WHEELS = (
    wheel("torch", "2.10.0", archs("sm_70", "sm_80", "sm_90", "sm_120")),
    wheel("torch", "2.11.0", archs("sm_80", "sm_90", "sm_120")),
    wheel("vllm", "0.18.0", archs("sm_70", "sm_80", "sm_90", "sm_120"), glibc="2.30"),
    wheel("vllm", "0.20.0", archs("sm_80", "sm_90")),
)


class Told(made.Answers):
    """What the checks answer, with packages by vLLM, and features by torch and vLLM."""

    def __init__(
        self,
        packages: Mapping[str, Resolution] | None = None,
        features: Mapping[tuple[str, str], Mapping[str, bool]] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self._packages, self._features = packages or {}, features or {}

    def features(self, cell: Cell) -> Mapping[str, bool] | None:
        return self._features.get((cell.torch, cell.vllm))

    def packages(self, cell: Cell, *, off_pin: bool) -> Resolution | None:
        return self._packages.get(cell.vllm)


def on_gpu(torch: str, *cases: Any, **more: Any) -> tuple[Path, Record]:
    """Return a run on an H200, unless its provenance says otherwise."""
    facts = {"gpu": H200, **more.pop("provenance", {})}
    return made.make(torch, *cases, platform="cuda", provenance=facts, **more)


def known(
    *records: tuple[Path, Record],
    vllms: tuple[Vllm, ...] = VLLM,
    wheels: tuple[ReadWheel, ...] = WHEELS,
    rules: Expectations = RULES,
    answers: Told | None = None,
) -> AdviceFacts:
    releases = Releases(
        torch=TORCH, vllm=vllms, pythons=("3.10", "3.11", "3.12", "3.13"), matrix_vllm=()
    )
    return AdviceFacts(
        releases=releases,
        declared=declarations(releases),
        tables=MachineTables(hardware=HARDWARE, wheels=ReadWheels().including(wheels)),
        answers=answers or Told(),
        runs=PairRuns(records, lambda: rules),
    )
