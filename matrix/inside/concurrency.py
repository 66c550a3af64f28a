"""How many cases of a cell run side by side."""

from __future__ import annotations

from collections.abc import Callable

from matrix._util.cores import CPU_CASE_CORES
from matrix._util.nvidia import START_MIB
from matrix.record.model import Platform

_AUTO = 0
_CORES_A_CASE = {Platform.CUDA: 1.5, Platform.CPU: CPU_CASE_CORES}
"""Cores for a case. vLLM lets Inductor compile in one thread and a start is one process: eight
cases at once used 4.9 of 16 cores of a machine with an H200 (vLLM 0.26.0). Kernels that are built
just in time have all cores in a step before the cases. On the CPU a start also runs its kernels."""


def parse_jobs(text: str) -> int:
    """Return the value of `--jobs`: a count from 1 up, or 0 for `auto`. Raises ValueError.

    >>> parse_jobs("auto"), parse_jobs("7")
    (0, 7)
    """
    if text == "auto":
        return _AUTO
    jobs = int(text)
    if jobs < 1:
        raise ValueError(text)
    return jobs


def jobs_for(
    asked: int | None,
    platform: Platform,
    cases: int,
    *,
    cores: int,
    bounded: bool,
    free_mib: Callable[[], int | None],
) -> int:
    """Return how many of the cases run at once.

    `asked` is what `parse_jobs` returned; None leaves it to the platform. The CPU runs one case
    after another unless it is asked for more: there the compiler and the kernels both want the
    cores. On a GPU (auto) a case gets its cores, and memory for one start. `bounded`: the release
    takes a fixed size for the KV cache. One that does not measures the GPU's free memory while it
    starts, and its neighbours would spoil that: then one at a time.
    """
    if platform is Platform.CUDA and not bounded:
        return 1
    if asked is None:
        asked = _AUTO if platform is Platform.CUDA else 1
    most = asked or int(cores / _CORES_A_CASE[platform])
    if asked == _AUTO and platform is Platform.CUDA and min(most, cases) > 1:
        most = min(most, (free_mib() or 0) // START_MIB)
    return max(1, min(most, cases))
