"""The git revision that a build of torch or vLLM was made from, by its files as text. Pure."""

from __future__ import annotations

import re

from matrix.catalog.projects import Project

# torch/version.py: git_version = '3f2a...'
_TORCH = re.compile(
    r"""^git_version(?:\s*:[^=\n]+)?\s*=\s*["']([0-9a-f]{7,64})["']""", re.MULTILINE
)
# vllm/_version.py, by setuptools-scm: __commit_id__ = commit_id = 'g4152872ac'
_VLLM = re.compile(
    r"""^(?:__commit_id__|commit_id)\s*=.*?["']g?([0-9a-f]{7,64})["']\s*$""", re.MULTILINE
)
REVISION = re.compile("[0-9a-f]{7,64}")
"""The hash of a commit, or its beginning."""
_LOCAL = re.compile(r"(?:^|\.)g([0-9a-f]{7,40})(?:\.|$)")

VERSION_FILES = {"torch": "torch/version.py", "vllm": "vllm/_version.py"}
"""The file of each project, in a wheel and where it is installed, that has the revision."""


def revision_of(project: Project, version: str, text: str | None) -> str | None:
    """Return the revision that a version file says, of vLLM also the one in its version.

    It may be the beginning of a hash alone; None if neither says one.

    >>> revision_of(Project.TORCH, "2.16.0", "git_version = '3f2a9c81d0e5c77'")
    '3f2a9c81d0e5c77'
    >>> revision_of(Project.VLLM, "0.33.1.dev3+g4152872ac.empty", None)
    '4152872ac'
    """
    pattern = _TORCH if project is Project.TORCH else _VLLM
    if text is not None and (found := pattern.search(text)):
        return found[1]
    return commit_in(version) if project is Project.VLLM else None


def commit_in(version: str) -> str | None:
    """Return the beginning of the commit that a version names; None if it names none.

    >>> commit_in("0.33.1.dev3+g4152872ac.cu129")
    '4152872ac'
    """
    found = _LOCAL.search(version.partition("+")[2])
    return found[1] if found else None


def same_revision(one: str, other: str) -> bool:
    """Tell whether two revisions are one, of which either may be cut short."""
    return one.startswith(other) or other.startswith(one)
