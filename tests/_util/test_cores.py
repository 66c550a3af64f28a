"""How many cores there are, on made-up machines: their /proc and /sys lie in a temporary folder."""

import os
from pathlib import Path

import pytest

from matrix._util.cores import available_cores

_V1 = {"/proc/self/cgroup": "5:cpu,cpuacct:/a\n0::/b\n"}
_V2 = {"/proc/self/cgroup": "0::/a/b\n"}
_FOLDER = "/sys/fs/cgroup/cpu"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({**_V2, "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 8),
        ({**_V2, "/sys/fs/cgroup/a/b/cpu.max": "350000 100000\n"}, 3),
        ({**_V2, "/sys/fs/cgroup/a/b/cpu.max": "50000 100000\n"}, 1),
        ({**_V2, "/sys/fs/cgroup/a/b/cpu.max": "1600000 100000\n"}, 8),
        # A group above limits those below it.
        (
            {
                **_V2,
                "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "/sys/fs/cgroup/a/cpu.max": "200000 100000\n",
            },
            2,
        ),
        ({**_V2, "/sys/fs/cgroup/a/b/cpu.max": "200000 0\n"}, 8),
        ({**_V2, "/sys/fs/cgroup/a/b/cpu.max": "broken\n"}, 8),
        ({**_V2, "/sys/fs/cgroup/a/b/cpu.max": "\xff"}, 8),
        (
            {**_V1, f"{_FOLDER}/a/cpu.cfs_quota_us": "-1\n", f"{_FOLDER}/a/cpu.cfs_period_us": "9"},
            8,
        ),
        (
            {
                **_V1,
                f"{_FOLDER}/a/cpu.cfs_quota_us": "400000\n",
                f"{_FOLDER}/a/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        ({**_V1, f"{_FOLDER}/a/cpu.cfs_quota_us": "400000\n"}, 8),
    ],
)
def test_cores_are_those_of_affinity_and_of_the_strictest_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, text in files.items():
        path = tmp_path / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="latin-1")
    assert available_cores(tmp_path) == cores


def test_without_affinity_all_cores_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores(tmp_path) == 1
