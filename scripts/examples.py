"""Run the commands that README and the guide show, and print each with its output.

cog calls `console` from comments in the Markdown: `python -m cogapp -r -P FILE ...` in the root of
the checkout writes the outputs, and `--check` instead of `-r` fails where one differs. A command
sees the published records and the package's data alone: no record of this machine, no network.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("matrix", "results", "tests", "tox.ini", "toxfile.py", "pyproject.toml")
"""What of the checkout a command finds in its working directory."""

_LIMIT_S = 60


def run(command: str, *, status: int = 0, candidates: str | None = None) -> str:
    """Return what a line of bash prints, where `matrix` is this checkout's.

    `status` is the exit status that it must have, and `candidates` a file of candidates that it
    reads, relative to the root of the checkout.

    Raises:
        RuntimeError: the command ends with another exit status.

    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        for entry in SHOWN:
            (folder / entry).symlink_to(ROOT / entry)
        programs = folder / ".bin"
        programs.mkdir()
        program = programs / "matrix"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m matrix "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        variables = {
            "HOME": name,
            "LANG": "C.UTF-8",
            "MATRIX_CACHE": f"{name}/.cache",
            "MATRIX_CANDIDATES": str(ROOT / candidates if candidates else folder / "none.toml"),
            "NO_COLOR": "1",
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        if done.returncode != status:
            raise RuntimeError(
                f"{command}: exit status {done.returncode}, not {status}:\n{done.stdout}"
            )
        return done.stdout


def console(command: str, *, status: int = 0, candidates: str | None = None) -> None:
    """Print a block of Markdown with a command and its output; see `run` for the arguments."""
    output = run(command, status=status, candidates=candidates)
    lines = "\n".join(line.rstrip() for line in output.rstrip().splitlines())
    print(f"```console\n$ {command}\n{lines}\n```")
