"""The commands of uv that an answer gives a person to copy."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matrix.advice.install import Install


def new_environment(install: Install) -> list[str]:
    """Return the commands that make an environment of its own with a pair, and change no other.

    `--python` names it: without, uv takes an environment that is active, and then `.venv`.
    """
    folder = shlex.quote(install.environment)
    found = [f"uv venv {folder} --python {install.python}"]
    options = [] if install.backend is None else [f"--torch-backend={install.backend}"]
    if install.overrides:
        file = f"{folder}/overrides.txt"
        found.append(write_overrides(install.overrides, file))
        options.append(f"--override {file}")
    return [*found, pip_install(install.requirements, f"--python {folder}", options)]


def write_overrides(overrides: Iterable[str], file: str) -> str:
    r"""Return the command that writes a file of overrides, one on each line.

    >>> print(write_overrides(["torch==2.11.0"], "overrides.txt"))
    printf '%s\n' torch==2.11.0 > overrides.txt
    """
    return f"printf '%s\\n' {_quoted(overrides)} > {file}"


def pip_install(requirements: Iterable[str], before: str = "", after: Iterable[str] = ()) -> str:
    """Return the command that installs requirements, with options before and after them.

    >>> pip_install(["vllm==0.33.0", "cuda-python>=13"], "--python env")
    "uv pip install --python env vllm==0.33.0 'cuda-python>=13'"
    """
    return " ".join(filter(None, ("uv pip install", before, _quoted(requirements), *after)))


def pip_uninstall(names: Iterable[str]) -> str:
    """Return the command that removes packages from the environment that is active."""
    return f"uv pip uninstall {_quoted(names)}"


def _quoted(words: Iterable[str]) -> str:
    return " ".join(map(shlex.quote, words))
