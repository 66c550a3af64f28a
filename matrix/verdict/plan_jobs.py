"""A plan as the jobs of a CI service: a cell each, or several where the service takes fewer jobs.

Pure. A job has one platform and one Python, which its machine must have. Cells share a job only
where there are more cells than jobs: the longest first, each to the job that has the least to do.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matrix.record.model import Platform
from matrix.verdict.plan import PlanError, Planned

ENVIRONMENT_SECONDS = 600.0
"""How long a runner may need to make an environment: some GB from an index, an empty cache."""
UNKNOWN_SECONDS = 1800.0
"""How long a run is taken to be of which no record tells."""

_LEAST_MINUTES = 60
_ROOM = 2  # a time limit is so many times what is expected: a runner may be slow

_Group = tuple[Platform, str]


@dataclass(frozen=True, kw_only=True)
class CiJob:
    """One job: its cells, longest first, its platform and Python, the seconds it should take.

    `unknown` is the number of its cells without recorded seconds.
    """

    cells: tuple[str, ...]
    platform: Platform
    python: str
    seconds: float
    unknown: int = 0

    @property
    def name(self) -> str:
        """A name that no other job of the plan has, made of its first cell's.

        >>> of_cpu = {"platform": Platform.CPU, "python": "3.12"}
        >>> CiJob(cells=("py312-torch214-vllm033",), seconds=1, **of_cpu).name
        'py312-torch214-vllm033-cpu'
        """
        more = len(self.cells) - 1
        return "-".join([self.cells[0], *([f"and-{more}-more"] if more else []), self.platform])

    def minutes(self, most: int) -> int:
        """Return its time limit: twice what it should take, an hour at least, `most` at most."""
        return min(max(math.ceil(self.seconds * _ROOM / 60), _LEAST_MINUTES), most)


def jobs_of(planned: Iterable[Planned], most: int) -> tuple[CiJob, ...]:
    """Return at most `most` jobs that run each planned cell that can work once, longest first.

    Raises PlanError if the cells have more pairs of a platform and a Python than that.
    """
    groups: dict[_Group, list[Planned]] = {}
    for item in planned:
        if item.runs:
            groups.setdefault((item.platform, item.cell.python), []).append(item)
    shares = _shares(groups, most)
    jobs = [
        _job(group, items)
        for group, every in groups.items()
        for items in _balanced(every, shares[group])
    ]
    return tuple(sorted(jobs, key=lambda job: (-job.seconds, job.name)))


def _shares(groups: Mapping[_Group, Sequence[Planned]], most: int) -> dict[_Group, int]:
    """Return how many jobs each group gets: one a cell, or as its share of all seconds allows."""
    if sum(map(len, groups.values())) <= most:
        return {group: len(items) for group, items in groups.items()}
    if len(groups) > most:
        raise PlanError(
            f"--max-jobs {most}: the cells have {len(groups)} kinds of machine, by platform and"
            " Python, and each takes a job; allow more jobs, or choose by --platform and --python"
        )
    seconds = {group: math.fsum(map(_seconds, items)) for group, items in groups.items()}
    shares = dict.fromkeys(groups, 1)
    # The group whose jobs have most to do gets the next one.
    waiting = [(-seconds[group], group) for group, items in groups.items() if len(items) > 1]
    heapq.heapify(waiting)
    for _ in range(most - len(groups)):
        if not waiting:
            break
        _, group = heapq.heappop(waiting)
        shares[group] += 1
        if shares[group] < len(groups[group]):
            heapq.heappush(waiting, (-seconds[group] / shares[group], group))
    return shares


def _balanced(items: Sequence[Planned], count: int) -> list[list[Planned]]:
    """Return the cells in `count` parts, none empty, that take about as long as each other."""
    parts: list[list[Planned]] = [[] for _ in range(count)]
    least = [(0.0, number) for number in range(count)]
    for item in sorted(items, key=lambda item: (-_seconds(item), item.cell.name)):
        taken, number = heapq.heappop(least)
        parts[number].append(item)
        heapq.heappush(least, (taken + _seconds(item), number))
    return parts


def _job(group: _Group, items: Sequence[Planned]) -> CiJob:
    platform, python = group
    return CiJob(
        cells=tuple(item.cell.name for item in items),
        platform=platform,
        python=python,
        seconds=math.fsum(map(_seconds, items)),
        unknown=sum(item.seconds is None for item in items),
    )


def _seconds(item: Planned) -> float:
    """Return how long a cell should take, its environment included."""
    return ENVIRONMENT_SECONDS + (UNKNOWN_SECONDS if item.seconds is None else item.seconds)
