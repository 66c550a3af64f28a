"""The steps of a line: the days of an index, the commits of a repository. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from packaging.version import Version

from matrix._util.text import clip, listed
from matrix.catalog.candidates.channels import ChosenIndex
from matrix.catalog.candidates.choose import wheel_version
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.projects import Project
from matrix.catalog.published_file import PublishedFile
from matrix.catalog.vllm_sources.git import Logged
from matrix.catalog.vllm_sources.version import commit_mark

_DAY = re.compile(r"20[0-9]{6}")
_NOT_NAMED = re.compile(r"[^a-z0-9]")
_SHOWN = 12  # digits of a commit that people see
_NAMED = 20  # characters of a channel in a name


@dataclass(frozen=True, kw_only=True)
class LineStep:
    """One build on a line.

    `name` is that of its candidate, `label` what people call it, `point` its day (2026-11-28) or
    its commit. `version` is what an index calls it, `title` the first line that a commit says.
    """

    name: str
    label: str
    point: str
    version: str | None = None
    title: str | None = None


@dataclass(frozen=True, kw_only=True)
class LineChange:
    """Where a line changes: its last step before the change, and the first step after it, if known.

    `between` are the steps that may be the first one, the last of them for sure after the change.
    `page` shows the commits in between, where a public host has them.
    """

    last: LineStep
    between: tuple[LineStep, ...]
    page: str | None


def nightly_steps(
    project: Project, place: ChosenIndex, files: Iterable[PublishedFile], first: date, last: date
) -> tuple[LineStep, ...]:
    """Return the builds of an index from one day to another, both included, oldest first.

    The day of a version is in it (`2.16.0.dev20261128`), else it is that of the upload. Of the
    builds of a day the newest version counts. Raises CandidateError if there are fewer than two,
    or where one day has a version in several builds.
    """
    where = place.channel or place.index
    days: dict[date, set[Version]] = {}
    outside: set[date] = set()
    for file in files:
        version = wheel_version(file)
        day = None if version is None or file.yanked is not None else _day(version, file)
        if version is None or day is None:
            continue
        if first <= day <= last:
            days.setdefault(day, set()).add(version)
        else:
            outside.add(day)
    if len(days) < 2:
        asked = f"from {first} to {last}"
        raise CandidateError(_too_few(where, project, sorted(days), sorted(outside), asked))
    channel = (place.channel or "dev").partition("/")[0]
    stem = f"{project}{_NOT_NAMED.sub('', channel)[:_NAMED]}"
    steps = []
    for day in sorted(days):
        build = _one_build(where, project, days[day])
        steps.append(
            LineStep(name=f"{stem}{day:%Y%m%d}", label=build, point=day.isoformat(), version=build)
        )
    return tuple(steps)


def commit_steps(line: Sequence[Logged]) -> tuple[LineStep, ...]:
    """Return the steps of a line of commits, named by the beginnings of their hashes."""
    digits = len(commit_mark("0" * 40)) - 1
    while len({logged.commit[:digits] for logged in line}) < len(line):
        digits += 1
    return tuple(
        LineStep(
            name=f"{Project.VLLM}g{logged.commit[:digits]}",
            label=logged.commit[: max(digits, _SHOWN)],
            point=logged.commit,
            title=logged.title,
        )
        for logged in line
    )


def ends_of(text: str) -> tuple[str, str]:
    """Return the two ends of a range `GOOD..BAD`. Raises CandidateError for another text."""
    old, dots, new = text.partition("..")
    if not dots or not old or not new or new.startswith("."):
        raise CandidateError(
            f"--commits {clip(text, 80)!r}: is not a range of commits; write it as GOOD..BAD, such"
            " as v0.33.0..main"
        )
    return old, new


def _one_build(where: str, project: Project, versions: Iterable[Version]) -> str:
    """Return the newest of a day's versions. Raises CandidateError if it has several builds."""
    ordered = sorted(versions)
    public = ordered[-1].public
    builds = [str(version) for version in ordered if version.public == public]
    if len(builds) > 1:
        raise CandidateError(
            f"--channel {where}: has {project} {public} as {listed(builds)}; name one, such as"
            " nightly/cu130"
        )
    return builds[0]


def _too_few(
    where: str, project: Project, days: Sequence[date], outside: Sequence[date], asked: str
) -> str:
    """Return why the days of an index make no line."""
    found = f"only that of {days[0]}" if days else "no build"
    if not outside:
        there = "it has no other whose day is known" if days else "it has none whose day is known"
    else:
        there = f"it has others from {outside[0]} to {outside[-1]}"
    return f"--channel {where}: has {found} of {project} {asked}, and two are needed; {there}"


def _day(version: Version, file: PublishedFile) -> date | None:
    text = str(version.dev) if version.dev is not None else ""
    if _DAY.fullmatch(text):
        try:
            return date(int(text[:4]), int(text[4:6]), int(text[6:]))
        except ValueError:
            return None
    return file.uploaded.date() if file.uploaded is not None else None
