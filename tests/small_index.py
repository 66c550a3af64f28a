"""A folder of small wheels as the only index of a real uv, and questions about it."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from datetime import date
from functools import cache
from pathlib import Path

import pytest

from matrix import cli
from matrix.catalog.cells import Cell
from matrix.checks.resolution import resolve_cells
from matrix.checks.resolution.cache import Resolution, ResolverQuestion
from matrix.checks.resolution.lock import Target
from matrix.checks.resolution.resolver import ask, uv

TODAY = date(2026, 11, 23)
ABI3 = "cp38-abi3-manylinux_2_31_x86_64"
CUDA = "nvidia_cuda_runtime_cu12"
FORCED = {"torch": "2.11.0", "torchvision": "0.26.0", "torchaudio": "2.11.0"}


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    needs: Sequence[str] = (),
    *,
    tag: str = "py3-none-any",
    python: str = ">=3.9",
) -> None:
    stem = f"{name}-{version}"
    lines = [
        f"Requires-Python: {python}",
        *(f"Requires-Dist: {requirement}" for requirement in needs),
    ]
    text = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines, ""])
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", text)
        archive.writestr(f"{stem}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")


@cache
def _interpreters() -> Path:
    """Return a cache of uv with nothing but what it learned of the Pythons here.

    An empty one has it start each of them again, which takes longer than what a test asks.
    """
    folder = Path(os.environ["MATRIX_CACHE"], "uv-of-tests")
    environ = {**os.environ, "UV_CACHE_DIR": str(folder), "UV_NO_CONFIG": "1"}
    command = [*uv(), "pip", "compile", "-q", "--no-index", "--python", sys.executable, "-"]
    subprocess.run(command, env=environ, input="", text=True, check=True, capture_output=True)
    return folder


def leave_settings(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """No index, cache or setting of the person who runs the tests."""
    for name in [variable for variable in os.environ if variable.startswith(("UV_", "PIP_"))]:
        patch.delenv(name)
    shutil.copytree(_interpreters(), folder / "cache", dirs_exist_ok=True)
    patch.setenv("UV_CACHE_DIR", str(folder / "cache"))
    patch.setenv("UV_HTTP_RETRIES", "0")
    patch.setenv("UV_NO_CONFIG", "1")
    patch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")


def write_index(patch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Write a folder of wheels, the only place where uv looks: two vLLM, three torch."""
    folder = tmp_path / "index"
    folder.mkdir()
    for torch, vision, triton in (
        ("2.9.1", "0.24.1", "3.5.1"),
        ("2.10.0", "0.25.0", "3.6.0"),
        ("2.11.0", "0.26.0", "3.6.0"),
    ):
        needs = [f"triton=={triton}", f"{CUDA}==12.8.90; platform_machine == 'x86_64'"]
        write_wheel(folder, "torch", torch, needs, tag="py3-none-any")
        write_wheel(folder, "torchvision", vision, [f"torch=={torch}"])
        write_wheel(folder, "torchaudio", torch, [f"torch=={torch}"])
        write_wheel(folder, "triton", triton)
    pins = ["torch==2.10.0", "torchvision==0.25.0", "torchaudio==2.10.0"]
    write_wheel(folder, "vllm", "0.19.1", [*pins, "transformers<6"], tag=ABI3)
    write_wheel(folder, "vllm", "0.18.1", [*pins, "certifi>=2026.10.19"], tag=ABI3)
    write_wheel(folder, "transformers", "5.23.0", ["certifi"])
    write_wheel(folder, CUDA, "12.8.90", python=">=3.3")
    write_wheel(folder, "certifi", "2026.10.18")
    write_wheel(folder, "certifi", "2026.9.1")
    patch.delenv("UV_NO_CONFIG")
    only = f'[[index]]\nurl = "{folder}"\nformat = "flat"\ndefault = true\n'
    (tmp_path / "uv.toml").write_text(only)
    patch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    patch.delenv("UV_DEFAULT_INDEX")
    return folder


def asked(vllm: str, torch: str = "2.10.0", *, glibc: str = "2.35") -> Resolution:
    question = ResolverQuestion(cell=Cell("3.12", torch, vllm))
    return ask(question, Target(python="3.12", glibc=glibc), TODAY)


def resolve(data: Path, *arguments: str, today: date = TODAY) -> int:
    """Run `matrix resolve` on another file of answers, as of another day."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resolve_cells, "_today", lambda: today)
        return cli.main(["resolve", *arguments, "--data", str(data)])
