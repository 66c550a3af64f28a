"""Memory of this machine and of the control groups that this process is in, in MiB.

`root` is the root of the files, which is another one in tests.
"""

from pathlib import Path

from matrix._util.cgroup import ROOT, memory_groups

CASE_MIB = 4096
"""What a case takes of memory at most, in MiB, with the process that it is forked from."""


def total_memory_mib(root: Path = ROOT) -> int | None:
    """Return this machine's memory, or the limit of its control group; None if neither is known."""
    limits = (group.limit() for group in memory_groups(root))
    found = [_meminfo(root, "MemTotal"), *(_mib(limit) for limit in limits)]
    return min((mib for mib in found if mib), default=None)


def available_memory_mib(root: Path = ROOT) -> int | None:
    """Return what this process may still take by free memory, control groups and ulimit."""
    free = (group.free() for group in memory_groups(root))
    found = [_meminfo(root, "MemAvailable"), _address_space(), *(_mib(size) for size in free)]
    return min((mib for mib in found if mib is not None), default=None)


def _mib(size: int | None) -> int | None:
    return None if size is None else size // 2**20


def _meminfo(root: Path, key: str) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) // 1024
    return None


def _address_space() -> int | None:
    """Return what is left of `ulimit -v`, None if there is no limit."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return max(0, limit - used * resource.getpagesize()) // 2**20
    except (ImportError, OSError):
        return None
