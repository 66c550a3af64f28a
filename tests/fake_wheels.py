"""Wheels of a few kB that a real uv installs: a torch, or any project."""

from __future__ import annotations

import csv
import io
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from reversion import record_row

TORCH_TAG = "cp38-abi3-manylinux_2_28_x86_64"
GIT_VERSION = "70d99e998b4955e0049d13a98d77ae1b14db1f45"

# The lines of torch 2.11.0 that the defects of planted.py change, and what makes modules of them.
_PLANTED_IN = {
    "torch/_functorch/_aot_autograd/autograd_cache.py": (
        "def autograd_cache_key(pickler, details):\n"
        '    key = "a" + pickler.get_hash(details)\n'
        "    return key\n"
    ),
    "torch/_functorch/_aot_autograd/aot_autograd_result.py": (
        "class FxGraphCacheLoadable:\n"
        "    def load(self):\n"
        "        (cache_key, debug_lines) = self.fx_graph_cache_info\n"
        "        return cache_key\n"
    ),
    "torch/_functorch/config.py": (
        "enable_autograd_cache = dict(\n"
        '    env_name_force="TORCHINDUCTOR_AUTOGRAD_CACHE",\n    default=True,\n)\n'
    ),
    "torch/_inductor/config.py": (
        "fx_graph_cache = dict(\n"
        '    env_name_force="TORCHINDUCTOR_FX_GRAPH_CACHE",\n    default=True,\n)\n'
        "max_fusion_size = 64\n"
    ),
    "torch/_dynamo/decorators.py": (
        "def mark_dynamic(t, index, min=None, max=None):\n"
        "    if isinstance(index, int):\n"
        "        t._dynamo_dynamic_indices.add(index)\n"
        "        t._dynamo_dynamic_range.add(_DimRange(index, min, max))\n"
    ),
    "torch/_inductor/codecache.py": (
        "def compiled_fx_graph_hash(pickler, details):\n"
        '    key = "f" + pickler.get_hash(details)\n'
        "    debug_lines = pickler.debug_lines(details)\n"
        "    return key, debug_lines\n"
        "def load(optimized_code, main_cmd_line):\n"
        '    return write(extra=f"{optimized_code} {main_cmd_line}")\n'
    ),
    "torch/_inductor/scheduler.py": (
        "def codegen(dynamo_timed):\n"
        "    if True:\n"
        '        with dynamo_timed("Scheduler.codegen"):\n'
        "            return 1\n"
    ),
}


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    members: Mapping[str, str | bytes] | None = None,
    *,
    needs: Sequence[str] = (),
    tag: str = "py3-none-any",
    python: str = ">=3.9",
) -> Path:
    """Write a wheel with these members, of the same bytes at any time; returns its path."""
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {python}", *(f"Requires-Dist: {need}" for need in needs)]
    every: dict[str, str | bytes] = {
        **(members or {f"{name}/__init__.py": ""}),
        f"{info}/METADATA": "\n".join([*lines, "", f"{name}, Version: of a test", ""]),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    path = folder / f"{name}-{version}-{tag}.whl"
    record = io.StringIO()
    writer = csv.writer(record, lineterminator="\n")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in every.items():
            data = content.encode() if isinstance(content, str) else content
            archive.writestr(_undated(member), data, zipfile.ZIP_DEFLATED)
            writer.writerow(record_row(member, data))
        writer.writerow([f"{info}/RECORD", "", ""])
        listed = _undated(f"{info}/RECORD")
        archive.writestr(listed, record.getvalue(), zipfile.ZIP_DEFLATED)
    return path


def _undated(member: str) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(member)
    found.external_attr = 0o600 << 16
    return found


def write_torch(
    folder: Path,
    version: str = "2.11.0",
    *,
    local: str = "+cu130",
    git_version: str = GIT_VERSION,
    needs: Sequence[str] = (),
    tag: str = TORCH_TAG,
) -> Path:
    """Write a torch that has its version module, and the lines that every defect changes."""
    inner = version if "+" in version else f"{version}{local}"
    members = {
        "torch/__init__.py": "from torch.version import __version__\n",
        "torch/version.py": (
            "from typing import Optional\n"
            f"__version__ = '{inner}'\ndebug = False\ncuda: Optional[str] = '13.0'\n"
            f"git_version = '{git_version}'\n"
        ),
    }
    return write_wheel(folder, "torch", version, members | _PLANTED_IN, needs=needs, tag=tag)


def write_tools(folder: Path) -> list[Path]:
    """Write what a build of vLLM needs: two torches, and tools that do nothing."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}-none-any"
    wheels = [write_torch(folder, version, tag=tag) for version in ("2.14.0", "2.15.0")]
    tools = (
        *(("setuptools", "80.0.0"), ("setuptools_scm", "9.0.0"), ("wheel", "0.45")),
        *(("cmake", "4.0"), ("ninja", "1.13")),
    )
    return [*wheels, *(write_wheel(folder, name, version) for name, version in tools)]
