"""The words of a run while it continues: a line for each event, and one for what is at work.

Pure. `matrix.report.run_watchers` shows it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from matrix._util.text import aligned, clean, clip, plural
from matrix.run.environments import LINKED_MIB
from matrix.run.job import HowEnded, Job, JobEnd, WhyNot
from matrix.run.machine import Lack, Resource
from matrix.run.run_state import Happened, RunEvent
from matrix.run.simulation import Simulated
from matrix.run.stage import Stage
from matrix.run.task import Task, TaskKind
from matrix.run.watcher import Working

_LINKED = "(uv's cache has the rest)"

_LINE = 100  # characters of a line of a program
_WHY = {
    WhyNot.NO_PYTHON: "its Python is not installed, and uv cannot install it",
    WhyNot.BUILD_FAILED: "its environment could not be made",
    WhyNot.NO_RECORD: "it left no record",
    WhyNot.FITS_NOWHERE: "no machine has what it needs",
    WhyNot.NO_MACHINE: "no machine is left",
    WhyNot.MACHINES_LOST: "the machines that ran it were lost",
    WhyNot.STOPPED: "the run was ended before it began",
}
_KILLED = "it was ended before it left a record"
_LACKS = {
    Resource.MEMORY: "MiB of memory",
    Resource.DISK: "MiB of disk",
    Resource.GPU_MEMORY: "MiB of memory of a GPU",
    Resource.GPUS: "GPUs of that memory",
}


@dataclass(frozen=True, kw_only=True)
class View:
    """The state to show: jobs by key, the ends of finished jobs, and the running tasks.

    `seconds` has how long each task at work has been at it, in the same order. `made` are the
    environments that are there.
    """

    jobs: Mapping[str, Job]
    ends: Mapping[str, JobEnd] = field(default_factory=dict)
    working: Sequence[Working] = ()
    seconds: Sequence[float] = ()
    made: Collection[str] = ()


def duration(seconds: float) -> str:
    """Return a time as people read it.

    >>> duration(12.4), duration(754), duration(8000)
    ('12 s', '13 min', '2 h 13 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def disk(mib: int) -> str:
    """Return a size on disk, roughly.

    >>> disk(10 * 1024), disk(600)
    ('about 10 GB', 'about 600 MB')
    """
    return f"about {_size(mib)}"


def _size(mib: int) -> str:
    return f"{mib / 1024:.0f} GB" if mib >= 1024 else f"{mib} MB"


def whole_install_words(mib: int, seconds: float, *, linked: bool) -> str:
    """Return what an environment takes that is to be made: disk and time.

    >>> whole_install_words(10 * 1024, 150, linked=False)
    'about 10 GB, some minutes'
    >>> whole_install_words(600, 20, linked=True)
    "about 600 MB (uv's cache has the rest), about 20 s"
    """
    time = "some minutes" if seconds >= 60 else f"about {duration(seconds)}"
    return f"{disk(mib)}{chr(32) * linked}{_LINKED * linked}, {time}"


def installing_words(seconds: float, mib: int) -> str:
    """Return the line of an environment that is being made.

    >>> installing_words(29.6, 3500), installing_words(9.1, 3)
    ('installs, 30 s, about 3 GB of disk so far', 'installs, 9 s')
    """
    so_far = f", {disk(mib)} of disk so far" if mib >= 50 else ""
    return f"installs, {seconds:.0f} s{so_far}"


def stage_words(stage: Stage | None) -> str:
    """Return where a run stands: `[3/9] moe_startup[mega_aot=1] warm`."""
    if stage is None:
        return "begins"
    if stage.cases:
        of = "?" if stage.total is None else stage.total
        more = f" and {len(stage.cases) - 1} more" if len(stage.cases) > 1 else ""
        start = f" {stage.start}" if stage.start and not more else ""
        return f"[{stage.number}/{of}] {clean(stage.cases[0])}{start}{more}"
    if stage.upstream is not None:
        return f"upstream's own {clip(clean(stage.upstream), _LINE)}"
    if not stage.imported:
        return "imports torch and vLLM"
    if stage.total is not None and stage.ended < stage.total:
        return f"[{stage.ended}/{stage.total}] prepares its cases"
    return "comes to its end" if stage.total else "prepares its cases"


def alone_words(stage: Stage, seconds: float) -> str:
    """Return the line of a cell that runs alone, of what is known of its own run."""
    rest = stage.left(seconds)
    left = "" if rest is None else f", about {duration(rest)} left"
    return f"{stage_words(stage)}, {seconds:.0f} s{left}"


def named(job: Job) -> str:
    """Return a job as people know it: its cell, its platform, and which of several runs it is."""
    again = f", run {job.round}" if job.round > 1 else ""
    return f"{job.environment} on {job.platform}{again}"


def event_line(
    event: RunEvent, jobs: Mapping[str, Job], why: Mapping[str, str] | None = None
) -> str | None:
    """Return the line of an event; None for the end of a job, of which `end_line` makes one.

    `why` has why each job runs, by its key.
    """
    job = jobs.get(event.job or "")
    if event.what is Happened.BUILDS:
        first = next(job for job in jobs.values() if job.environment == event.environment)
        return f"{event.environment}: makes its environment{_at(event)}: {_install_words(first)}"
    if event.what is Happened.BUILT:
        took = duration(event.seconds or 0.0)
        if event.works:
            return f"{event.environment}: its environment is made, {took}"
        last = f": {event.detail}" if event.detail else ""
        return (
            f"{event.environment}: its environment cannot be made, {took}{last} (log: {event.log})"
        )
    if event.what is Happened.RUNS and job is not None:
        because = clip(clean((why or {}).get(job.key, "")), _LINE)
        about = f"runs{_at(event)}, about {duration(job.estimate.run_seconds)}"
        return f"{named(job)}: {about}{f' ({because})' if because else ''}"
    if event.what is Happened.FAILED and job is not None:
        cause = clip(clean(event.detail), 200) or "it left no record"
        return f"{named(job)}: failed{_at(event)}: {cause}; another node tries (log: {event.log})"
    if event.what is Happened.REMOVED:
        return f"{event.environment}: its environment is removed, since the disk is short"
    if event.what is Happened.STOPPED:
        return f"{event.detail}: no further cell begins; running cells write their records"
    return _machine_line(event, job)


def _machine_line(event: RunEvent, job: Job | None) -> str | None:
    """Return the line of what happened to a node of a cluster, or to a GPU."""
    if event.what is Happened.LOST:
        return f"{event.machine}: is lost; what ran there runs elsewhere"
    if event.what is Happened.JOINED:
        return f"{event.machine}: joins" if event.works else f"{event.detail}; it gets no work"
    if event.what is Happened.GPU_FAILED and job is not None:
        gpus = " or ".join(map(clean, event.gpus))
        cause = clip(clean(event.detail), 200)
        on_ray = "Ray may give it to other cells; take it out of the node"
        here = (
            "other cells get other GPUs where there are enough; CUDA_VISIBLE_DEVICES leaves one out"
        )
        then = on_ray if event.machine else here
        return f"GPU {gpus}{_at(event)}, or the driver, failed ({named(job)}: {cause}); {then}"
    return None


def _at(event: RunEvent) -> str:
    """Return on which node of a cluster; nothing on this machine."""
    return f" on {event.machine}" if event.machine else ""


def _install_words(job: Job) -> str:
    """Return what the environment of a job takes: disk and time."""
    mib = job.demand.disk_mib
    return whole_install_words(mib, job.estimate.build_seconds, linked=mib == LINKED_MIB)


def end_line(end: JobEnd, jobs: Mapping[str, Job], verdict: str | None = None) -> str:
    """Return how a job ended; `verdict` is the line of its record."""
    name = named(jobs[end.job])
    if verdict is not None:
        return verdict
    if end.how is HowEnded.DONE:
        return f"{name}: {end.record}"
    how = "not run" if end.how is HowEnded.NOT_RUN else "set aside"
    why = "" if end.why is None else f": {_WHY[end.why]}"
    if end.why is WhyNot.STOPPED and end.machine is not None:
        why = f": {_KILLED}"
    if end.why is WhyNot.MACHINES_LOST and end.machines:
        why += f" ({', '.join(end.machines)})"
    lacks = f"it needs {lacks_words(end.lacks)}" if end.lacks else ""
    detail = clip(clean(end.detail), 200)
    log = f" (log: {end.log})" if end.log else ""
    more = "".join(f": {text}" for text in (lacks, detail) if text)
    return f"{name}: {how}{why}{more}{log}"


def lacks_words(lacks: Iterable[Lack]) -> str:
    """Return what a job needs more of than there is.

    >>> lacks_words([Lack(resource=Resource.MEMORY, needs=4096, has=2000)])
    '4096 MiB of memory, and 2000 are available'
    """
    return "; ".join(
        f"{_amount(lack)}, and {lack.has} {'is' if lack.has == 1 else 'are'} available"
        for lack in lacks
    )


def _amount(lack: Lack) -> str:
    """Return what is needed of a resource."""
    if lack.resource is Resource.CORES:
        return plural(lack.needs, "core")
    return f"{lack.needs} {_LACKS[lack.resource]}"


def work_words(work: Working, seconds: float, jobs: Mapping[str, Job], last: str = "") -> str:
    """Return what a task at work does; `last` is the last line of its log."""
    if work.task.kind is TaskKind.REMOVE:
        return f"{work.task.environment}: removes its environment, {seconds:.0f} s"
    if work.task.kind is TaskKind.BUILD:
        return f"{work.task.environment}: {build_words(work, last)}, {seconds:.0f} s"
    name = named(jobs[work.task.job or ""])
    return f"{name}: {stage_words(work.stage)}, {seconds:.0f} s"


def build_words(work: Working, last: str) -> str:
    """Return what an environment is at that is being made; `last` is the last line of its log."""
    line = clip(clean(last).removeprefix(f"matrix: {work.task.environment}: "), _LINE)
    return f"makes its environment{' (' * bool(line)}{line}{')' * bool(line)}"


def left_seconds(view: View) -> float:
    """Return how long the rest takes, by the estimates and by how many tasks are at work now."""
    rest, longest = 0.0, 0.0
    waits = {key for key in view.jobs if key not in view.ends}
    unmade = {
        job.environment: job
        for key in sorted(waits)
        if (job := view.jobs[key]).environment not in view.made
    }
    for work, seconds in zip(view.working, view.seconds, strict=True):
        unmade.pop(work.task.environment, None)
        if work.task.job is not None and work.task.job in waits:
            waits.discard(work.task.job)
            whole = _whole(view.jobs[work.task.job].estimate.run_seconds, work.stage, seconds)
        elif work.task.kind is TaskKind.BUILD:
            of = next(job for job in view.jobs.values() if job.environment == work.task.environment)
            whole = of.estimate.build_seconds
        else:
            continue
        own = max(whole - seconds, 0.0)
        rest, longest = rest + own, max(longest, own)
    rest += sum(view.jobs[key].estimate.run_seconds for key in waits)
    rest += sum(job.estimate.build_seconds for job in unmade.values())
    return max(rest / max(len(view.working), 1), longest)


def _whole(estimate: float, stage: Stage | None, seconds: float) -> float:
    """Return how long a run takes, by its estimate and by the cases that it has had so far."""
    if stage is None or not stage.total or not stage.ran:
        return max(estimate, seconds)
    runs = stage.total - (stage.ended - stage.ran)
    return max(seconds / stage.ran * runs, seconds)


def done_words(view: View) -> str:
    """Return how much is done, and the time that is left in all.

    Where all that is left takes longer than it was thought to take, nobody knows how long.
    """
    left = left_seconds(view)
    knows = len(view.ends) < len(view.jobs) and round(left) > 0
    rest = f", about {duration(left)} left" if knows else ""
    return f"{len(view.ends)} of {plural(len(view.jobs), 'cell')} done{rest}"


def silent_line(view: View, last: Mapping[int, str], most: int = 4) -> str:
    """Return one line of all that is at work, after a time without an event.

    `last` has the last line of logs by the number of the task; of many tasks `most` are named.
    """
    shown = [
        work_words(work, seconds, view.jobs, last.get(work.task.number, ""))
        for work, seconds in zip(view.working[:most], view.seconds, strict=False)
    ]
    more = len(view.working) - len(shown)
    shown += [f"{more} more"] if more else []
    return f"{done_words(view)}; {'; '.join(shown)}"


def totals(statuses: Iterable[int | None]) -> str:
    """Return how many cells came to what, by the exit status of each record; None for no record.

    >>> totals([0, 1, 0, None])
    '2 compatible, 1 drift or incompatible or with a failed test, 1 not run'
    """
    found = list(statuses)
    differs = "drift or incompatible or with a failed test"
    words = {0: "compatible", 1: differs, 5: "untested", None: "not run"}
    counts = ((found.count(status), word) for status, word in words.items())
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def dry_lines(
    tasks: Sequence[Task], jobs: Sequence[Job], why: Mapping[str, str], found: Simulated
) -> str:
    """Return what a run would do: a line for each job in the order of their begin, and a sum.

    `why` has why each job runs, by its key; `found` is how the run ends, and when.
    """
    by_key = {job.key: job for job in jobs}
    order = [task.job for task in tasks if task.job is not None]
    made = {task.environment for task in tasks if task.kind is TaskKind.BUILD}
    rows = [
        [
            str(number),
            by_key[key].environment,
            by_key[key].platform,
            _short_install_words(by_key[key]) if by_key[key].environment in made else "is there",
            duration(by_key[key].estimate.run_seconds),
            clip(clean(why.get(key, "")), _LINE),
        ]
        for number, key in enumerate(order, 1)
    ]
    left = [end_line(end, by_key) for end in found.ends if end.how is not HowEnded.DONE]
    head = ["", "cell", "platform", "environment", "run", "why"]
    total = f"{plural(len(order), 'cell')}, about {duration(found.seconds)} in all"
    jobs_made = [by_key[key] for key in order if by_key[key].environment in made]
    if any(job.demand.disk_mib == LINKED_MIB for job in jobs_made):
        left.append(f"~{_size(LINKED_MIB)}: uv's cache has the rest of that environment")
    return "\n".join([*aligned([head, *rows], right=(0,)), *left, total]) + "\n"


def _short_install_words(job: Job) -> str:
    """Return what an environment takes that is to be made, for a column: disk and time."""
    seconds = job.estimate.build_seconds
    time = "minutes" if seconds >= 60 else f"~{duration(seconds)}"
    return f"~{_size(job.demand.disk_mib)}, {time}"
