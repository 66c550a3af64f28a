"""Made-up machines: their /proc and /sys lie in a temporary folder."""

import os
from pathlib import Path

import pytest

from matrix._util.cgroup import memory_groups, oom_kills
from matrix._util.memory import available_memory_mib, total_memory_mib

UNLIMITED = "9223372036854771712\n"
MEMINFO = "MemTotal:       8388608 kB\nMemFree: 1 kB\nMemAvailable:   4194304 kB\n"
V1 = "/sys/fs/cgroup/memory"
V1_MOUNT = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
HYBRID_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    f"{V1_MOUNT}41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n"
)


def put(machine: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = machine / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return machine


def v1(folder: str, *, limit: int, used: int, cache: int = 0) -> dict[str, str]:
    """Return the files of a group of version 1; in MiB."""
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit << 20}\n",
        f"{folder}/memory.usage_in_bytes": f"{used << 20}\n",
        f"{folder}/memory.stat": f"inactive_file 7\ntotal_inactive_file {cache << 20}\n",
    }


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/memory.events": "oom_kill 3\n"}, 3),
        ({"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/memory.events": "oom_kill 4\n"}, 4),
        ({"/proc/self/cgroup": "1:x:/\n", "/proc/vmstat": "pgfault 1\noom_kill 5\n"}, 5),
        (
            {
                "/proc/self/cgroup": "4:cpu,memory:/a/b\n1:name=systemd:/c\n",
                f"{V1}/a/b/memory.oom_control": "under_oom 0\noom_kill 6\n",
                f"{V1}/memory.oom_control": "under_oom 0\noom_kill 9\n",
                "/proc/vmstat": "oom_kill 5\n",
            },
            6,
        ),
        (
            {
                "/proc/self/cgroup": "4:memory:/a\n0::/a\n",
                f"{V1}/a/memory.oom_control": "under_oom 0\noom_kill 7\n",
                f"{V1}/memory.oom_control": "under_oom 0\noom_kill 9\n",
            },
            7,
        ),
        (
            {
                "/proc/self/cgroup": "4:memory:/docker/1\n",
                f"{V1}/memory.oom_control": "under_oom 0\noom_kill 8\n",
            },
            8,
        ),
        (
            {  # a kernel before 4.13 counts none for the group
                "/proc/self/cgroup": "4:memory:/a\n",
                f"{V1}/a/memory.oom_control": "under_oom 0\n",
                "/proc/vmstat": "oom_kill 5\n",
            },
            5,
        ),
        ({"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/memory.events": "oom_kill x\n"}, 0),
        ({"/proc/vmstat": "pgfault 1\n"}, 0),
        ({}, 0),
    ],
)
def test_oom_kills_are_those_of_the_control_group_where_it_counts_them(
    files: dict[str, str], count: int, tmp_path: Path
) -> None:
    assert oom_kills(put(tmp_path, files)) == count


@pytest.mark.parametrize(
    ("files", "total", "available"),
    [
        (  # version 1: the page cache of the group and of those below it is given back
            {"/proc/self/cgroup": "4:memory:/a\n", **v1(f"{V1}/a", limit=2048, used=1024, cache=9)},
            2048,
            1033,
        ),
        (  # version 1 without a limit
            {
                "/proc/self/cgroup": "4:memory:/a\n",
                f"{V1}/a/memory.limit_in_bytes": UNLIMITED,
                f"{V1}/a/memory.usage_in_bytes": "5\n",
            },
            8192,
            4096,
        ),
        (  # a hybrid host: the line of version 2 names another group, which says nothing
            {
                "/proc/self/cgroup": "4:memory:/a\n1:name=systemd:/c\n0::/c\n",
                "/proc/self/mountinfo": HYBRID_MOUNTS,
                **v1(f"{V1}/a", limit=512, used=12),
                "/sys/fs/cgroup/unified/c/memory.max": "1048576\n",
                "/sys/fs/cgroup/c/memory.max": "1048576\n",
            },
            512,
            500,
        ),
        (  # a hybrid host on which version 2 has the memory
            {
                "/proc/self/cgroup": "2:cpu:/b\n0::/c\n",
                "/proc/self/mountinfo": HYBRID_MOUNTS.replace(V1_MOUNT, ""),
                "/sys/fs/cgroup/unified/c/memory.max": f"{64 << 20}\n",
                "/sys/fs/cgroup/unified/c/memory.current": f"{4 << 20}\n",
            },
            64,
            60,
        ),
        (  # a container of version 1: its group is what is mounted, in a place with a space
            {
                "/proc/self/cgroup": "4:memory:/docker/1/x\n",
                "/proc/self/mountinfo": (
                    "35 31 0:32 /docker/1 /a\\040b/memory ro - cgroup cgroup rw,memory\n"
                ),
                **v1("/a b/memory/x", limit=256, used=6),
                **v1("/a b/memory", limit=128, used=28),
            },
            128,
            100,
        ),
        (  # the group around it has the limit, as systemd's slices do
            {
                "/proc/self/cgroup": "0::/slice/a\n",
                "/sys/fs/cgroup/slice/a/memory.max": "max\n",
                "/sys/fs/cgroup/slice/a/memory.current": "5\n",
                "/sys/fs/cgroup/slice/memory.max": f"{64 << 20}\n",
                "/sys/fs/cgroup/slice/memory.current": f"{80 << 20}\n",
            },
            64,
            0,
        ),
        (  # version 1 without hierarchy: what is around it does not limit it
            {
                "/proc/self/cgroup": "4:memory:/a/b\n",
                **v1(f"{V1}/a/b", limit=64, used=4),
                **v1(f"{V1}/a", limit=8, used=4),
                f"{V1}/a/memory.use_hierarchy": "0\n",
            },
            64,
            60,
        ),
        (  # a group outside of the mount, as a process sees that entered a namespace
            {
                "/proc/self/cgroup": "4:memory:/../x\n",
                "/proc/self/mountinfo": V1_MOUNT,
                **v1(V1, limit=64, used=4),
                **v1("/sys/fs/cgroup/x", limit=8, used=4),
            },
            64,
            60,
        ),
        (  # neither file nor line can be read
            {
                "/proc/self/cgroup": "nonsense\n4:memory:/a\n",
                "/proc/self/mountinfo": "nonsense\n1 2 - cgroup\n",
                f"{V1}/a/memory.limit_in_bytes": "none\n",
            },
            8192,
            4096,
        ),
    ],
)
def test_a_limit_of_memory_is_found_in_every_version(
    files: dict[str, str], total: int, available: int, tmp_path: Path
) -> None:
    put(tmp_path, {"/proc/meminfo": MEMINFO, **files})
    assert total_memory_mib(tmp_path) == total
    assert available_memory_mib(tmp_path) == available


def test_an_unreadable_machine_has_no_group(tmp_path: Path) -> None:
    assert memory_groups(tmp_path) == ()


def test_the_group_of_this_machine_holds_this_process() -> None:
    groups = memory_groups()
    if not groups or not (groups[0].folder / "cgroup.procs").exists():
        pytest.skip("no control group of memory is visible here")
    listed = (groups[0].folder / "cgroup.procs").read_text(encoding="ascii").split()
    assert str(os.getpid()) in listed
