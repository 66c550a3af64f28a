"""What killed processes left in shared memory: files below /dev/shm, which exist without them.

The ranks of a start talk by such files. Python names them `psm_...` (`multiprocessing`'s
`shared_memory`), NCCL `nccl-...`; who made one removes it, unless it was killed.

Standard library only: code inside a cell imports this module too.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - it is looked at, and nothing is made there
"""Where Linux keeps shared memory that has a name."""

_NAMES = re.compile(r"(psm_|nccl-)[\w.-]+", re.ASCII)
_PROCESSES = Path("/proc")


def sweep_shared(since: float, folder: Path = SHARED_MEMORY) -> None:
    """Remove shared memory of this user that was made since then and that nobody has open.

    `since` is in seconds since the epoch. What another process uses stays: its maker keeps it open.
    """
    left: dict[str, Path] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _NAMES.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    about = entry.stat(follow_symlinks=False)
                    if about.st_uid == os.getuid() and about.st_ctime >= since:
                        left[entry.path] = Path(entry.path)
    if not left:
        return
    used = _used(folder)
    for name, path in left.items():
        if name not in used:
            with contextlib.suppress(OSError):
                path.unlink()


def _used(folder: Path) -> set[str]:
    """Return the files in a folder that some process of this user has mapped or open."""
    found: set[str] = set()
    for process in _PROCESSES.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for line in (process / "maps").read_text(errors="replace").splitlines():
                _, slash, rest = line.partition("/")
                if slash:
                    found.add(f"/{rest}")
        with contextlib.suppress(OSError):
            for number in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    found.add(os.readlink(number))
    return {name for name in found if name.startswith(f"{folder}/")}
