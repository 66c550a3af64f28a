"""`matrix candidate` as a process: what it is, and how it refuses."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from command import matrix

LINUX = "manylinux_2_17_x86_64"
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def refused(done: subprocess.CompletedProcess[str], fault: str, candidates: Path) -> None:
    """Assert that it is one line on stderr, with exit status 2, and no candidate was written."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if "was written" not in line]
    assert len(lines) == 1
    assert fault in lines[0]
    assert "Traceback" not in done.stderr


def candidate_command(folder: Path, candidates: Path) -> Command:
    """Return what runs `matrix candidate` in a folder, with this file of candidates."""

    def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        none = {"CUDA_VISIBLE_DEVICES": ""}  # a GPU would ask for the way to cuda
        environ = {"MATRIX_CANDIDATES": str(candidates), **none, **environ}
        return matrix(folder, "candidate", *arguments, **environ)

    return command


def metadata(project: str, version: str, *requires: str) -> str:
    lines = [f"Requires-Dist: {line}" for line in requires]
    head = ["Metadata-Version: 2.1", f"Name: {project}", f"Version: {version}"]
    return "\n".join([*head, "Requires-Python: >=3.10", *lines, ""])
