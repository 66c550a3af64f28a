"""How many cores this process may use, by affinity and by control groups.

`root` is the root of the files, which is another one in tests.
"""

from __future__ import annotations

import os
from pathlib import Path

from matrix._util.cgroup import ROOT, group_folders


def available_cores(root: Path = ROOT) -> int:
    """Return how many whole cores this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    else:
        found = os.cpu_count() or 1
    quotas = (_quota(folder, version) for folder, version in group_folders("cpu", root))
    return max(1, int(min([found, *(quota for quota in quotas if quota is not None)])))


def _quota(folder: Path, version: int) -> float | None:
    """Return the cores whose time a control group may use; None without a limit (cgroups(7))."""
    try:
        if version == 1:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        else:
            quota, _, period = (
                (folder / "cpu.max").read_text(encoding="ascii").strip().partition(" ")
            )
    except (OSError, UnicodeError):
        return None
    # No limit is -1 in version 1, and the word max in version 2.
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None
    return int(quota) / int(period)
