"""The recipe of a vLLM wheel from its sources: the settings of its setup.py. Pure.

The facts are those of setup.py and vllm/envs.py of vLLM 0.17.1, 0.20.2, 0.32.0 and 0.33.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from matrix.catalog.candidates.model import File
from matrix.catalog.cells import Made

SKEWS_BUILD = (
    "SETUPTOOLS_SCM_PRETEND_METADATA",
    "SETUPTOOLS_SCM_PRETEND_VERSION_FOR_VLLM",
    "VLLM_DOCKER_BUILD_CONTEXT",
    "VLLM_MAIN_CUDA_VERSION",
    "VLLM_PRECOMPILED_WHEEL_COMMIT",
    "VLLM_PRECOMPILED_WHEEL_LOCATION",
    "VLLM_PRECOMPILED_WHEEL_VARIANT",
    "VLLM_REQUIRE_RUST_FRONTEND",
    "VLLM_SKIP_PRECOMPILED_VERSION_SUFFIX",
    "VLLM_SKIP_VERSION_SUFFIX",
    "VLLM_TARGET_DEVICE",
    "VLLM_USE_PRECOMPILED",
    "VLLM_USE_PRECOMPILED_RUST",
    "VLLM_VERSION_OVERRIDE",
)
"""A user's settings that would make another wheel than the one that is asked for."""

OF_COMPILERS = ("CMAKE_ARGS", "CMAKE_BUILD_TYPE", "CUDA_HOME", "MAX_JOBS", "NVCC_THREADS")
"""A user's settings that are for a build with a compiler alone."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to build a wheel.

    `words` say it in a line of progress, such as `without compiling`. `variables` are for setup.py.
    `torch` are the requirements of the torch to build with, where the wheel is for that torch
    alone; empty: it serves every torch. `parts` are the other facts that distinguish this wheel
    from others of the same sources. `extensions` is the wheel that has the extensions (None: no
    other wheel has).
    """

    made: Made
    words: str
    variables: Mapping[str, str]
    torch: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    extensions: File | None = None

    @property
    def compiles(self) -> bool:
        """Tell whether a compiler runs, so that cmake, ninja and a user's settings are needed."""
        return self.made is Made.COMPILED

    @property
    def key(self) -> Mapping[str, object]:
        """What distinguishes its wheel from those of other ways; empty for an empty build."""
        if self.made is Made.WITHOUT_COMPILING:
            return {}
        return {"made": str(self.made), "torch": list(self.torch), "parts": dict(self.parts)}


EMPTY = Recipe(
    made=Made.WITHOUT_COMPILING,
    words="without compiling",
    variables={"VLLM_TARGET_DEVICE": "empty"},
)
"""vLLM's own name for a build without extensions, for the platform `cpu`."""


def with_extensions(wheel: File, torch: tuple[str, ...]) -> Recipe:
    """Return the way that takes the extensions out of a published wheel, without a compiler.

    setup.py copies the extensions, the Rust frontend, and what belongs to them, such as DeepGEMM.
    """
    return Recipe(
        made=Made.WITH_EXTENSIONS,
        words=f"with the extensions of {wheel.name}",
        variables={"VLLM_TARGET_DEVICE": "cuda", "VLLM_USE_PRECOMPILED": "1"},
        torch=torch,
        parts={"extensions": wheel.sha256},
        extensions=wheel,
    )
