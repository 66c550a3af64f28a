"""The environment in which vLLM is built: what its sources say that a build needs, and a torch.

It is kept in the cache, one for each Python and set of requirements, since several commits need the
same. A build without a compiler needs neither cmake nor ninja; of torch it needs that it
imports.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from matrix._util.files import write_text
from matrix._util.reported import Say, run_reported
from matrix._util.scratch import Scratch
from matrix._util.text import clean, clip
from matrix.checks.resolution.resolver import SKEWS_RESOLUTION, program_environ, uv
from matrix.checks.resolution.uv_output import error_of
from matrix.errors import MatrixError

# What only a build with a compiler needs.
_OF_COMPILERS = ("cmake", "ninja")
# What setup.py imports, in case the sources do not say it.
_ALWAYS = ("setuptools", "setuptools-scm", "wheel")
_FACTS = "made.json"
# torch/version.py: cuda: Optional[str] = '13.0'
_TORCH_CUDA = re.compile(r"(?m)^cuda\b[^=\n]*=\s*(?:None|['\"](?P<cuda>[\d.]+)['\"])")


class BuildEnvironmentError(MatrixError):
    """The environment of a build cannot be made, which says nothing of the sources."""


class NoPythonError(BuildEnvironmentError):
    """The Python of a build is not here, and uv cannot fetch it."""


@dataclass(frozen=True, kw_only=True)
class BuildEnvironment:
    """An interpreter that has all that a build needs; `versions` are those of its packages.

    `minor` is the release of its Python, such as 3.12. `tools` are the versions that a wheel is
    made with, without those of torch and what torch needs.
    """

    python: Path
    minor: str
    versions: Mapping[str, str]
    tools: Mapping[str, str]

    @property
    def torch_cuda(self) -> str | None:
        """The release of CUDA that its torch says to be built for, "" for none; None: not known."""
        packages = self.python.parents[1] / "lib" / f"python{self.minor}" / "site-packages"
        try:
            text = (packages / "torch" / "version.py").read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        found = _TORCH_CUDA.search(text)
        return (found["cuda"] or "") if found else None


def build_requirements(
    project: Mapping[str, Any], where: str, *, compiles: bool = False
) -> tuple[str, ...]:
    """Return what a pyproject.toml of vLLM says that a build needs, torch and its pin too.

    Where a compiler runs, cmake and ninja are among them. Raises BuildEnvironmentError, which
    begins with `where`, for what is not a requirement, and for one by address, which nobody asked
    to be fetched.
    """
    table = project.get("build-system")
    rows = table.get("requires") if isinstance(table, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
        raise BuildEnvironmentError(
            f"{where}: pyproject.toml: has no list build-system.requires; name other sources"
        )
    found: dict[str, str] = {}
    for row in rows:
        try:
            requirement = Requirement(row)
        except InvalidRequirement:
            requirement = None
        if requirement is None or requirement.url:
            raise BuildEnvironmentError(
                f"{where}: pyproject.toml: build-system.requires: {clip(clean(row), 100)!r} is not"
                " the name of a package with its versions"
            )
        found[canonicalize_name(requirement.name)] = str(requirement)
    always = (*_ALWAYS, "torch", *(_OF_COMPILERS if compiles else ()))
    for name in always:
        found.setdefault(name, name)
    dropped = () if compiles else _OF_COMPILERS
    return tuple(text for name, text in sorted(found.items()) if name not in dropped)


def build_environment(
    requirements: Sequence[str], python: str, cache: Path, say: Say
) -> BuildEnvironment:
    """Return the environment for these requirements and a Python (`3.12`, or a path), made once.

    The caller holds the lock of the cache. Raises BuildEnvironmentError with uv's reason where it
    cannot be made, a NoPythonError if that Python cannot be had; then nothing of it is left.
    """
    folder = _folder(requirements, python, cache)
    made = _made(folder, requirements)
    if made is not None:
        return made
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        _install(folder, requirements, python, say)
        facts = {"python": python, "requirements": sorted(requirements)}
        write_text(folder / _FACTS, json.dumps(facts, indent=1) + "\n")
        made = _made(folder, requirements)
    finally:
        if made is None:
            shutil.rmtree(folder, ignore_errors=True)
    if made is None:
        raise BuildEnvironmentError(f"{folder}: has no Python after uv made it; run it again")
    return made


def made_environment(
    requirements: Sequence[str], python: str, cache: Path
) -> BuildEnvironment | None:
    """Return the environment of `build_environment` where it is there already, else None."""
    return _made(_folder(requirements, python, cache), requirements)


def _folder(requirements: Sequence[str], python: str, cache: Path) -> Path:
    if os.sep in python:
        # The interpreter itself, not that of an environment: each cell has one of those.
        python = str(Path(python).resolve())
    text = "\n".join((python, *sorted(requirements)))
    return cache / "build-environments" / hashlib.sha256(text.encode()).hexdigest()[:16]


def uv_environ() -> dict[str, str]:
    """Return the environment for uv without what a user may have set for other work."""
    return {key: value for key, value in program_environ().items() if key not in SKEWS_RESOLUTION}


def _install(folder: Path, requirements: Sequence[str], python: str, say: Say) -> None:
    interpreter = str(folder / "bin" / "python")
    steps = (
        ("venv", "--quiet", "--no-project", "--python", python, str(folder)),
        ("pip", "install", "--python", interpreter, *requirements),
    )
    with Scratch("build") as scratch:
        log = scratch / "log"
        for step in steps:
            what = f"the environment for builds of vLLM, Python {python}"
            command = [*uv(), *step]
            if run_reported(command, log, say, what, environ=uv_environ()):
                reason = error_of(log.read_text("utf-8", "replace"))
                kind = NoPythonError if step is steps[0] else BuildEnvironmentError
                raise kind(f"{what}: cannot be made ({reason}); correct that and run it again")


def _made(folder: Path, requirements: Sequence[str]) -> BuildEnvironment | None:
    """Return the environment in a folder; None if there is none, or a part of one."""
    interpreter = folder / "bin" / "python"
    if not (folder / _FACTS).is_file() or not os.access(interpreter, os.X_OK):
        return None
    paths = [str(path) for path in folder.glob("lib/python3.*/site-packages")]
    if len(paths) != 1:
        return None
    versions: dict[str, str] = {
        str(canonicalize_name(found.metadata["Name"])): found.version
        for found in importlib.metadata.distributions(path=paths)
    }
    asked = [str(canonicalize_name(Requirement(text).name)) for text in requirements]
    if any(name not in versions for name in asked):
        return None
    tools: dict[str, str] = {name: versions[name] for name in sorted(asked) if name != "torch"}
    minor = Path(paths[0]).parent.name.removeprefix("python")
    return BuildEnvironment(python=interpreter, minor=minor, versions=versions, tools=tools)
