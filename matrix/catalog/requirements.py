"""The requirements of each known vLLM, by its own metadata: the lines of `Requires-Dist`.

`data/requirements.json` is written by `matrix refresh`. It answers for records that do not say
themselves whether their packages were as required. The file is untrusted, and so are its lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from matrix._util.json_file import read_object
from matrix._util.paths import DATA
from matrix.errors import MatrixError

REQUIREMENTS_FILE = DATA / "requirements.json"

Requirements = Mapping[str, tuple[str, ...]]
"""The lines of each release of vLLM, by version, without those of extras."""


class RequirementsError(MatrixError):
    """The file of requirements cannot be read: names the file, the key and the fix."""


@cache
def known_requirements() -> Requirements:
    """Read `data/requirements.json`, once: judging one record after another asks for it."""
    return read_requirements(REQUIREMENTS_FILE)


def requirements_of(vllm: str, package: str) -> Iterator[Requirement]:
    """Yield what a release of vLLM requires of a package, by its normalised name.

    It leaves out a line that packaging cannot read.
    """
    for line in known_requirements().get(vllm, ()):
        # To parse every line of every release takes a second.
        if not line.lower().replace("_", "-").startswith(package[:4]):
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if canonicalize_name(requirement.name) == package:
            yield requirement


def read_requirements(path: Path) -> Requirements:
    """Return the requirements in a file; a file that is not there holds none.

    Raises RequirementsError if it cannot be read or holds something else.
    """
    if not path.exists():
        return {}
    found = read_object(path, RequirementsError)
    for version, lines in found.items():
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise RequirementsError(f"{path}: {version}: is not a list of strings; restore it")
    return {version: tuple(lines) for version, lines in found.items()}


def to_json(requirements: Requirements) -> str:
    """Return the text of the file: one requirement a line, the oldest release first."""
    ordered = {
        version: list(requirements[version]) for version in sorted(requirements, key=Version)
    }
    return json.dumps(ordered, indent=1) + "\n"
