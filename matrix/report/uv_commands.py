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
        found.append(f"printf '%s\\n' {quoted(install.overrides)} > {file}")
        options.append(f"--override {file}")
    return [*found, pip_install(install.requirements, f"--python {folder}", options)]


def command_line(install: Install) -> str:
    """Return the same in one line, which ends with the first command that fails."""
    return " && ".join(new_environment(install))


def pip_install(requirements: Iterable[str], before: str = "", after: Iterable[str] = ()) -> str:
    """Return the command that installs requirements, with options before and after them.

    >>> pip_install(["vllm==0.33.0", "cuda-python>=13"], "--python env")
    "uv pip install --python env vllm==0.33.0 'cuda-python>=13'"
    """
    return " ".join(filter(None, ("uv pip install", before, quoted(requirements), *after)))


def pip_uninstall(names: Iterable[str]) -> str:
    """Return the command that removes packages from the environment that is active."""
    return f"uv pip uninstall {quoted(names)}"


def quoted(words: Iterable[str]) -> str:
    """Return words for a shell, each of which is one argument."""
    return " ".join(map(shlex.quote, words))
