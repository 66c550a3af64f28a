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

_DESCRIBED = re.compile(r"(?:v(\d[\w.]*?)(?:-(\d+)-g([0-9a-f]+))?|([0-9a-f]{7,40}))", re.ASCII)


def version(root: Path = _ROOT) -> str:
    """Return the version of a checkout, or of an sdist or an archive of one.

    A commit after a release has the release's version and `.post1.dev7+g0123abc`.
    """
    built = _of_sdist(root)
    if built is not None:
        return built
    for text in (_described(root), _archived(root)):
        if text is not None and (found := _DESCRIBED.fullmatch(text)):
            release, distance, after, alone = found.groups()
            if release is None:
                return f"{_UNTAGGED}+g{alone}"
            if int(distance or 0):
                return f"{release}.post1.dev{distance}+g{after}"
            return str(release)
    return _UNTAGGED


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
    command = ["git", "-C", str(root), "describe", "--tags", "--long", "--match", "v[0-9]*"]
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


def _archived(root: Path) -> str | None:
    """Return what git filled into an archive: `v0.1.0-7-g0123abc`, else the commit."""
    try:
        lines = (root / _ARCHIVED).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = (line.partition(": ")[2].strip() for line in lines)
    return next((text for text in found if _DESCRIBED.fullmatch(text)), None)
