"""The user's compiler for CUDA, and the GPU architectures that vLLM is built for.

It looks at this machine: for nvcc where PyTorch and vLLM's setup.py look for it, and at the GPUs.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from matrix._util.nvidia import capture, is_hidden, smi_query
from matrix._util.text import clean, clip
from matrix.catalog.cells import Made
from matrix.checks.vllm_build.recipe import Recipe
from matrix.errors import MatrixError

_ARCHITECTURES = "TORCH_CUDA_ARCH_LIST"
_TOOLKIT = "/usr/local/cuda"
_RELEASE = re.compile(r"release (\d+\.\d+)")
_ARCHITECTURE = re.compile(r"\d{1,2}\.\d[a-z]?(\+PTX)?|[A-Z][A-Za-z]+(\+Tegra|\+PTX)?")
_CAPABILITY = re.compile(r"\d{1,2}\.\d")
_PARTS = ("CMAKE_ARGS", "CMAKE_BUILD_TYPE")  # settings that make another wheel


class NoCompilerError(MatrixError):
    """This machine cannot compile for CUDA, or does not say for which GPU."""


def compiled(torch: tuple[str, ...], *, environ: Mapping[str, str] = os.environ) -> Recipe:
    """Return the way that compiles everything, for a torch and the GPUs of this machine.

    `torch` are the requirements that install the torch. Raises NoCompilerError: no nvcc, or neither
    TORCH_CUDA_ARCH_LIST nor a GPU says the architecture.
    """
    home, release = _nvcc(environ)
    architectures = _architectures(environ)
    own = {name: environ[name] for name in _PARTS if environ.get(name)}
    return Recipe(
        made=Made.COMPILED,
        words=f"with nvcc {release} for {architectures}",
        variables={
            "VLLM_TARGET_DEVICE": "cuda",
            "CUDA_HOME": str(home),
            _ARCHITECTURES: architectures,
        },
        torch=torch,
        parts={"nvcc": release, "architectures": architectures, **own},
    )


def check_torch(recipe: Recipe, cuda: str | None) -> None:
    """Raise NoCompilerError if a torch that is built for this CUDA is not that of a recipe.

    `cuda` is such as 13.0, "" for a torch without CUDA, None if it does not say it. What nvcc
    compiles needs the runtime of its own major release, which another torch does not bring.
    """
    if recipe.made is Made.WITHOUT_COMPILING or cuda is None:
        return
    if not cuda:
        raise NoCompilerError(
            f"{', '.join(recipe.torch)}: is built without CUDA on this index, and a build"
            " of vLLM for cuda needs a torch with CUDA; name another index: UV_DEFAULT_INDEX"
        )
    nvcc = recipe.parts.get("nvcc")
    if nvcc is not None and _major(nvcc) != _major(cuda):
        raise NoCompilerError(
            f"--build: nvcc is of CUDA {nvcc}, and the torch is built for CUDA {cuda}; set"
            f" CUDA_HOME to a toolkit of CUDA {_major(cuda)}"
        )


def _major(release: str) -> str:
    return release.partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class Nvcc:
    """The nvcc of a CUDA toolkit: where it is, or would be, and its release, such as 13.0.

    `release` is None if it does not answer, `says` is what it prints then.
    """

    home: Path
    release: str | None = None
    says: str = ""

    @property
    def path(self) -> Path:
        """The program."""
        return self.home / "bin" / "nvcc"


def find_nvcc(environ: Mapping[str, str] = os.environ) -> Nvcc:
    """Return the nvcc that PyTorch, vLLM's setup.py and FlashInfer take; it need not be there."""
    home = environ.get("CUDA_HOME") or environ.get("CUDA_PATH")
    if not home:
        found = shutil.which("nvcc", path=environ.get("PATH"))
        home = str(Path(found).parent.parent) if found else _TOOLKIT
    nvcc = Nvcc(home=Path(home))
    if not nvcc.path.is_file():
        return nvcc
    answer = capture([str(nvcc.path), "--version"])
    release = _RELEASE.search(answer[1]) if answer is not None else None
    if answer is None or answer[0] or release is None:
        return replace(nvcc, says=clip(clean(answer[1]), 100) if answer is not None else "")
    return replace(nvcc, release=release[1])


def _nvcc(environ: Mapping[str, str]) -> tuple[Path, str]:
    """Return the folder of the CUDA toolkit and the release of its nvcc, such as 13.0."""
    found = find_nvcc(environ)
    if not found.path.is_file():
        raise NoCompilerError(
            f"--build: {found.path}: does not exist, and nvcc compiles vLLM for CUDA: install the"
            " CUDA toolkit of the torch, or set CUDA_HOME"
        )
    if found.release is None:
        raise NoCompilerError(
            f"--build: {found.path} --version: does not answer with its release"
            f"{f' ({found.says})' if found.says else ''}; install the CUDA toolkit again, or set"
            " CUDA_HOME"
        )
    return found.home, found.release


def _architectures(environ: Mapping[str, str]) -> str:
    """Return the architectures to compile for, in one order: `9.0;10.0`."""
    given = environ.get(_ARCHITECTURES, "").strip()
    if given:
        names = [name for name in re.split(r"[\s;,]+", given) if name]
        wrong = next((name for name in names if not _ARCHITECTURE.fullmatch(name)), None)
        if wrong is not None:
            raise NoCompilerError(
                f"{_ARCHITECTURES}: {clip(clean(wrong), 40)!r} is not an architecture; write it as"
                " 9.0"
            )
    else:
        gpus = environ.get("CUDA_VISIBLE_DEVICES", "")
        lines = [] if is_hidden(environ) else smi_query(gpus, "compute_cap")
        names = [line for line in lines if _CAPABILITY.fullmatch(line)]
    if not names:
        raise NoCompilerError(
            "--build: no GPU is visible here, so the architecture to compile for is unknown: set"
            f" {_ARCHITECTURES}, such as 9.0 for an H100"
        )
    return ";".join(sorted(set(names), key=_order))


def _order(name: str) -> tuple[float, str]:
    found = re.match(r"\d+\.\d", name)
    return float(found[0]) if found else 0.0, name
