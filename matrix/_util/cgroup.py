"""The control groups that limit this process, of version 1, of version 2 and of both.

A hybrid host has both versions; the group of a controller such as `memory` counts there, and the
line of version 2 names another group (cgroups(7)). Standard library only: code inside a cell
imports this module too. `root` is the root of the files, which is another one in tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")

_UNLIMITED = 1 << 62
"""Version 1 shows no limit as the largest number of whole pages, which depends on the page."""
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The file names of a cgroup version, and its line of memory.stat for the page cache."""

    limit: str
    used: str
    cache: str
    kills: str


_FILES = {
    1: _Files(
        limit="memory.limit_in_bytes",
        used="memory.usage_in_bytes",
        cache="total_inactive_file",
        kills="memory.oom_control",
    ),
    2: _Files(
        limit="memory.max", used="memory.current", cache="inactive_file", kills="memory.events"
    ),
}


@dataclass(frozen=True, kw_only=True)
class MemoryGroup:
    """A control group: its folder, and the version whose files lie there."""

    folder: Path
    version: int

    def limit(self) -> int | None:
        """Return how many bytes its processes may have together; None without a limit."""
        number = _number(self.folder / _FILES[self.version].limit)
        return None if number is None or number >= _UNLIMITED else number

    def free(self) -> int | None:
        """Return how many bytes its processes may still take; None without a limit."""
        files, limit = _FILES[self.version], self.limit()
        used = _number(self.folder / files.used)
        if limit is None or used is None:
            return None
        # Page cache counts as used and is given back on demand.
        return max(0, limit - used + (_line(self.folder / "memory.stat", files.cache) or 0))

    def kills(self) -> int | None:
        """Return how many of its processes the kernel has killed for memory; None if unknown."""
        return _line(self.folder / _FILES[self.version].kills, "oom_kill")


def memory_groups(root: Path = ROOT) -> tuple[MemoryGroup, ...]:
    """Return the group of this process, and then those around it, whose limits hold for it too.

    They end at the folder where the hierarchy is mounted: in a container that may be its own group.
    Empty where this process has no such group, or /proc does not show it.
    """
    groups: list[MemoryGroup] = []
    for folder, version in group_folders("memory", root):
        # The limit of a group of version 1 holds for those below it only where it says so.
        if groups and version == 1 and _number(folder / "memory.use_hierarchy") == 0:
            break
        groups.append(MemoryGroup(folder=folder, version=version))
    return tuple(groups)


def group_folders(controller: str, root: Path = ROOT) -> tuple[tuple[Path, int], ...]:
    """Return the folders of the group of this process and of those around it, and their version.

    `controller` is what the groups limit, such as `memory`.
    """
    found = _own_group(root, controller)
    if found is None:
        return ()
    version, group = found
    within, mount = _mount(root, version, group, controller)
    folder = root / str(mount).lstrip("/")
    return tuple((folder / part, version) for part in (within, *within.parents))


def oom_kills(root: Path = ROOT) -> int:
    """Return how many processes the kernel has killed because memory ran out.

    Those of this process's control group where it counts them, else those of the machine.
    """
    for group in memory_groups(root):
        kills = group.kills()
        if kills is not None:
            return kills
    return _line(root / "proc/vmstat", "oom_kill") or 0


def _own_group(root: Path, controller: str) -> tuple[int, PurePosixPath] | None:
    """Return the version and the name of the group of this process that a controller limits."""
    found = None
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controller in controllers.split(","):
            return 1, PurePosixPath(group)
        if number == "0" and not controllers:
            found = 2, PurePosixPath(group)
    return found


def _mount(
    root: Path, version: int, group: PurePosixPath, controller: str
) -> tuple[PurePosixPath, PurePosixPath]:
    """Return the group's name below the mount of its hierarchy, and where that is mounted.

    A group that the mount does not reach, as in a container that only sees its own, counts as the
    one that is mounted (proc_pid_mountinfo(5) has the fields).
    """
    mounts = []
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        of_version_1 = kind[0] == "cgroup" and controller in kind[2].split(",")
        if of_version_1 if version == 1 else kind[0] == "cgroup2":
            mounts.append((PurePosixPath(_plain(fields[3])), PurePosixPath(_plain(fields[4]))))
    if not mounts:
        usual = f"/sys/fs/cgroup/{controller}" if version == 1 else "/sys/fs/cgroup"
        mounts = [(PurePosixPath("/"), PurePosixPath(usual))]
    if ".." not in group.parts:
        for top, point in mounts:
            if group.is_relative_to(top):
                return group.relative_to(top), point
    return PurePosixPath(), mounts[0][1]


def _plain(path: str) -> str:
    """Return a path of mountinfo, which writes spaces and the like as octal numbers."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), path)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """Return the number that a file holds, in its own unit; None for anything else."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None


def _line(path: Path, key: str) -> int | None:
    """Return the number behind a word in a file that has such a line."""
    for line in _lines(path):
        name, _, number = line.partition(" ")
        if name == key and number.strip().isdecimal():
            return int(number)
    return None
