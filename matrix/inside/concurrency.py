"""How many cases of a cell run side by side."""

from __future__ import annotations

from collections.abc import Callable

from matrix._util.memory import CASE_MIB
from matrix._util.nvidia import START_MIB
from matrix.record.model import Platform

_AUTO = 0
_CORES_A_CASE = {Platform.CUDA: 1.5, Platform.CPU: 1}
"""Cores for a case. vLLM lets Inductor compile in one thread and a start is one process: eight
cases at once used 4.9 of 16 cores of a machine with an H200 (vLLM 0.26.0). Kernels that are built
just in time have all cores in a step before the cases. On the CPU a start keeps one core busy for
most of its time: nine cases took 720 s on two cores one at a time, and 424 s two at a time."""
_MIB_A_CASE = {Platform.CUDA: START_MIB, Platform.CPU: CASE_MIB}
"""Memory for a case, in MiB: of the GPU, or of this machine."""


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
    asked: int,
    platform: Platform,
    cases: int,
    *,
    cores: int,
    bounded: bool,
    free_mib: Callable[[], int | None],
) -> int:
    """Return how many of the cases run at once.

    `asked` is what `parse_jobs` returned. With `auto` each case has its cores and its memory, of
    which `free_mib` says how much is free: of the GPU, or of this machine for a run on the CPU.
    Where that is unknown, cases run one at a time. `bounded`: the release takes a fixed size for
    the KV cache. One that does not measures the GPU's free memory while it starts, and its
    neighbours would spoil that: then one at a time.
    """
    if platform is Platform.CUDA and not bounded:
        return 1
    most = asked or int(cores / _CORES_A_CASE[platform])
    if asked == _AUTO and min(most, cases) > 1:
        most = min(most, (free_mib() or 0) // _MIB_A_CASE[platform])
    return max(1, min(most, cases))
