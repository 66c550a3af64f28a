"""What a reader must know beside a qualification: what is odd about the question and the records.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

from packaging.version import Version

from matrix._util.text import plural
from matrix._util.versions import minor_of
from matrix.catalog.cells import CellError
from matrix.catalog.releases import Releases
from matrix.qualify.model import PROJECTS
from matrix.qualify.query import (
    Query,
    named,
    oldest_first,
    same_release,
)
from matrix.qualify.runs import (
    CellRun,
    ReleasedRecord,
    ReleaseRuns,
)
from matrix.record.model import Record, to_json
from matrix.record.startup_tests import load_startup_tests


def notes(
    asked: Query,
    every: Sequence[ReleasedRecord],
    sides: tuple[ReleaseRuns, ReleaseRuns],
    today: date,
    held: Iterable[tuple[str, str, str]],
    aside: Mapping[tuple[str, str, str, str], int],
    late: str | None,
) -> Iterator[str]:
    """What is odd about the question, and about each record that stands for a side.

    `every` are the records that were read, `held` the platform, torch and vLLM of those and of all
    others, `aside` how many of a cell were not read, and `late` as for
    `matrix.qualify.engine.qualify`.
    """
    name = PROJECTS[asked.project]
    if Version(asked.baseline) > Version(asked.candidate):
        yield (
            f"the baseline {asked.baseline} is newer than the candidate {asked.candidate}: this"
            " asks what going back changes"
        )
    for platform in asked.platforms:
        lacking = [
            version
            for version, of in zip((asked.baseline, asked.candidate), sides, strict=True)
            if platform not in {on for on, _, _ in of}
        ]
        at = 1 if asked.project == "torch" else 2
        those = {each[at] for each in held if each[0] == platform}
        narrowed = " that was asked for" if any(named(each, those) for each in lacking) else ""
        some = ", ".join(oldest_first(those))
        if lacking:
            has = f"; it has records of {some}" if those else ", nor of any other release"
            yield f"no record of {name} {' or '.join(lacking)} on {platform}{narrowed}{has}"
    cells: dict[tuple[str, str, str, str], list[tuple[Path, Record]]] = {}
    for path, record, torch, vllm in every:
        cells.setdefault((record.cell, record.platform, torch, vllm), []).append((path, record))
    for of in sides:
        for cell in of.values():
            for ran in cell.values():
                key = ran.record.cell, ran.record.platform, ran.torch, ran.vllm
                yield from _oddities(ran, cells[key], aside.get(key, 0), today, late)


def other_names(asked: Query, cells: Iterable[str], releases: Releases) -> Iterator[str]:
    """The environments that run another patch than the candidate, for a name is of a minor."""
    for cell in cells:
        try:
            resolved = releases.resolve(cell)
        except CellError:
            continue
        means = resolved.torch if asked.project == "torch" else resolved.vllm
        if minor_of(means) != minor_of(asked.candidate):
            continue  # an environment of the baseline
        if not same_release(means, asked.candidate):
            yield (
                f"tox -e {cell} installs {PROJECTS[asked.project]} {means}, which is not the"
                f" candidate {asked.candidate}"
            )


def _oddities(
    ran: CellRun, of: Sequence[tuple[Path, Record]], aside: int, today: date, late: str | None
) -> Iterator[str]:
    """What is odd about a record, or about the others of its cell."""
    ahead = [
        (path, record)
        for path, record in of
        if record.started[:10] > today.isoformat() or (late is not None and record.started > late)
    ]
    # Of many with one clock, one tells of it.
    for path, record in sorted(ahead, key=lambda each: (each[1].started, str(each[0])))[-1:]:
        old = late is not None and record.started > late
        counts = "; it counts as the oldest of its cell" if old else ""
        yield f"{path} says that it started on {record.started}, which is yet to come{counts}"
    text = to_json(ran.record)
    others = [(path, record) for path, record in of if path != ran.path]
    copies = [
        path
        for path, record in others
        if record.started == ran.record.started and to_json(record) == text
    ]
    older = len(others) - len(copies) + aside
    if older:
        yield (
            f"{ran.path} decides for {ran.record.cell} on {ran.record.platform}, and"
            f" {plural(older, 'other record')} of it {'does' if older == 1 else 'do'} not"
        )
    if copies:
        copied = ", ".join(sorted(map(str, copies)))
        yield f"{ran.path} is there more than once ({copied}) and counts once"
    for each in ran.beside:
        yield (
            f"{ran.path} decides for {ran.record.cell} on {ran.record.platform}, and {each.path}"
            f" ran with other flags: {each.apart}"
        )


def differs(baseline: CellRun, candidate: CellRun) -> Iterator[str]:
    """What a reader must know of two records that should differ by one release alone."""
    if baseline.vllm != candidate.vllm and baseline.torch != candidate.torch:
        yield (
            f"no patch of vLLM {minor_of(baseline.vllm)} ran on both sides: vLLM {candidate.vllm}"
            f" is held against {baseline.vllm}"
        )
    if load_startup_tests().differ(baseline.record, candidate.record):
        yield "the startup tests changed between the two records"
    first, second = (ran.record.provenance.get("model_source") for ran in (baseline, candidate))
    if first != second:
        yield "the models' source changed between the two records"
