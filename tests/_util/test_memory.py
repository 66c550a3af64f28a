import resource
import subprocess
import sys
from pathlib import Path

import pytest

from matrix._util.memory import available_memory_mib, total_memory_mib

MEMINFO = "MemTotal:       8388608 kB\nMemFree: 1 kB\nMemAvailable:   4194304 kB\n"
GROUP = "/sys/fs/cgroup/a"


def put(machine: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = machine / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("files", "total", "available"),
    [
        ({}, None, None),
        ({"/proc/meminfo": "MemFree: 1 kB\n"}, None, None),
        ({"/proc/meminfo": MEMINFO}, 8192, 4096),
        (
            {
                "/proc/meminfo": MEMINFO,
                "/proc/self/cgroup": "1:cpu:/b\n0::/a\n",
                f"{GROUP}/memory.max": f"{2048 << 20}\n",
                f"{GROUP}/memory.current": f"{1024 << 20}\n",
                f"{GROUP}/memory.stat": f"anon 5\ninactive_file {256 << 20}\n",
            },
            2048,
            1280,
        ),
        (
            {
                "/proc/meminfo": MEMINFO,
                "/proc/self/cgroup": "0::/a\n",
                f"{GROUP}/memory.max": "max\n",
                f"{GROUP}/memory.current": "1\n",
            },
            8192,
            4096,
        ),
        (
            {
                "/proc/self/cgroup": "0::/a\n",
                f"{GROUP}/memory.max": f"{64 << 20}\n",
                f"{GROUP}/memory.current": f"{4 << 20}\n",
            },
            64,
            60,
        ),
    ],
)
def test_memory_is_the_least_of_machine_and_control_group(
    tmp_path: Path, files: dict[str, str], total: int | None, available: int | None
) -> None:
    put(tmp_path, files)
    assert total_memory_mib(tmp_path) == total
    assert available_memory_mib(tmp_path) == available


def test_a_ulimit_counts_as_memory() -> None:
    limit = 512 << 20
    code = "from matrix._util.memory import available_memory_mib; print(available_memory_mib())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        check=True,
    )
    assert 0 < int(done.stdout) < 512


def test_this_machine_has_memory() -> None:
    total, available = total_memory_mib(), available_memory_mib()
    assert total is not None and available is not None and 0 < available <= total
