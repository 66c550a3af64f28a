"""The version of this project by the tags of its checkout: hatchling runs this file as it is.

It takes nothing but the standard library, and one call of git: each cell is built with it.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_UNTAGGED = "0.1.0.dev0"
"""The version where nothing says of a release: the next one, of which this is not yet one."""

_ARCHIVED = ".git_archival.txt"
"""What git fills in where it makes an archive of a commit, as GitHub does."""

TAG = re.compile(r"v(\d+(?:\.\d+)+(?:(?:a|b|rc)\d+)?)", re.ASCII)
"""The tags of releases. Another tag is of none; `scripts/check_release.py` takes the same."""

_GLOBS = ("--match", "v[0-9]*.[0-9]*", "--exclude", "v*[!0-9.abrc]*")
"""What git leaves out of other tags, so that one of them does not hide an older release."""

_DESCRIBED = re.compile(r"(?P<tag>v\d.*?)(?:-(?P<distance>\d+)-g(?P<after>[0-9a-f]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{7,40}", re.ASCII)


def version(root: Path = _ROOT) -> str:
    """Return the version of a checkout, or of an sdist or an archive of one.

    A commit after a release has the release's version and `.post1.dev7+g0123abc`. One after a tag
    of another form has its own name alone: what the tag says need not be a version.
    """
    built = _of_sdist(root)
    if built is not None:
        return built
    described = _described(root)
    texts = _archived(root) if described is None else [described]
    found = (_of_release(text) for text in texts)
    named = (_of_commit(text) for text in texts)
    return next(filter(None, (*found, *named)), _UNTAGGED)


def _of_release(text: str) -> str | None:
    """Return the version of `v0.1.0-7-g0123abc`; None if the tag is not of a release."""
    found = _DESCRIBED.fullmatch(text)
    release = found and TAG.fullmatch(found["tag"])
    if not found or not release:
        return None
    if int(found["distance"] or 0):
        return f"{release[1]}.post1.dev{found['distance']}+g{found['after']}"
    return str(release[1])


def _of_commit(text: str) -> str | None:
    """Return the version of a commit of which no release is known; None if none is named."""
    found = _DESCRIBED.fullmatch(text)
    commit = found["after"] if found else text
    return f"{_UNTAGGED}+g{commit}" if commit and _COMMIT.fullmatch(commit) else None


def _of_sdist(root: Path) -> str | None:
    try:
        text = (root / "PKG-INFO").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^Version: (\S+)$", text, re.MULTILINE)
    return found and found[1]


def _described(root: Path) -> str | None:
    """Return `v0.1.0-7-g0123abc`, or the commit where no tag is of a release; None without git."""
    if not (root / ".git").exists():  # the project's tree may lie in a checkout of another one
        return None
    command = ["git", "-C", str(root), "describe", "--tags", "--long", *_GLOBS]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            [*command, "--always"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environ,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _archived(root: Path) -> list[str]:
    """Return what git filled into an archive: `v0.1.0-7-g0123abc` and the commit."""
    try:
        lines = (root / _ARCHIVED).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.partition(": ")[2].strip() for line in lines]
