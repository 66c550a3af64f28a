"""Memory of this machine and of the control group that this process is in, in MiB."""

from pathlib import Path


def total_memory_mib() -> int | None:
    """Return this machine's memory, or the limit of its control group; None if neither is known."""
    found = [mib for mib in (_meminfo("MemTotal"), _cgroup_number("memory.max")) if mib]
    return min(found) if found else None


def available_memory_mib() -> int | None:
    """Return what this process may still take by free memory, control group and ulimit."""
    limit, used = _cgroup_number("memory.max"), _cgroup_number("memory.current")
    found = [_meminfo("MemAvailable"), _address_space()]
    if limit is not None and used is not None:
        # Page cache counts as used and is given back on demand.
        found.append(limit - used + (_cgroup_stat("inactive_file") or 0))
    known = [mib for mib in found if mib is not None]
    return min(known) if known else None


def _meminfo(key: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) // 1024
    return None


def _cgroup_folder() -> Path | None:
    """Return the folder of this process's control group (version 2), None where it has none."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    name = next((line[3:] for line in lines if line.startswith("0::")), None)
    return None if name is None else Path("/sys/fs/cgroup") / name.lstrip("/")


def _cgroup_number(file: str) -> int | None:
    folder = _cgroup_folder()
    try:
        text = (folder / file).read_text(encoding="ascii").strip() if folder else ""
    except OSError:
        return None
    return int(text) // 2**20 if text.isdecimal() else None


def _cgroup_stat(key: str) -> int | None:
    folder = _cgroup_folder()
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines() if folder else []
    except OSError:
        return None
    return next((int(line.split()[1]) // 2**20 for line in lines if line.split()[0] == key), None)


def _address_space() -> int | None:
    """Return what is left of `ulimit -v`, None where there is no limit."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return max(0, limit - used * resource.getpagesize()) // 2**20
    except (ImportError, OSError):
        return None
