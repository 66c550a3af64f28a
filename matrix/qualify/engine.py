"""A candidate release against its baseline: what broke, was mended, drifts, or is not known.

Pure. Each cell of the baseline is held against the candidate's of the same Python, platform and
other release, case by case. A candidate qualifies by answers alone, never by their absence:

- a failure that the baseline did not have, or has with another signature or at another rung, fails;
- so does a counter that changed, unless the candidate's own expectation wants its count, and one
  that did not change where the candidate's expectation wanted it to; but what no expectation may
  name (not among COUNTERS: how often a pattern matched) is told and not judged;
- a waiver takes a failure or a drift out of the verdict, and stays to be seen;
- where the first rungs (`matrix.qualify.static_checks`) say that a cell of the candidate cannot
  work, and the
  baseline's could, that fails too, without a run; but what cannot be asked with the wheels that
  there are is nobody's failure, and no answer. That they pass is never an answer;
- what the candidate alone ran is held to no baseline: it fails where it drifts from its own
  expectation, and where it fails nobody can say whether that is new;
- without a failure, it is too little evidence where one side of a cell has an answer (it passes or
  fails) and the other has none, where one side alone ran the newest patch of the other project,
  where a record is not whole or another run of the very same did worse, and where nothing passes.

So to take away what both sides answer, or to add what is bad, never makes a candidate qualify. What
the baseline never ran is asked of nobody, and so are older patches: to lose these is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from packaging.version import Version

from matrix.catalog.releases import Releases
from matrix.errors import MatrixError
from matrix.qualify import caveats as oddities
from matrix.qualify.findings import Findings
from matrix.qualify.model import PROJECTS, Qualification
from matrix.qualify.pairing import Counterparts
from matrix.qualify.sides import (
    Aside,
    Asked,
    is_asked,
    named,
    newest,
    oldest_first,
    order,
    release,
    side,
    unsaid,
    versions,
)
from matrix.qualify.static_checks import Asks, FirstRungs, rungs
from matrix.record.model import Record
from matrix.rules.expectations import Expectations
from matrix.rules.waivers import Waivers

__all__ = ["QualifyError", "qualify"]


class QualifyError(MatrixError):
    """A question that cannot be answered: names the option and the mend."""


def qualify(
    asked: Asked,
    records: Iterable[tuple[Path, Record]],
    expectations: Expectations,
    releases: Releases,
    waivers: Waivers,
    today: date,
    unread: int = 0,
    asks: Asks | None = None,
    aside: Aside | None = None,
    late: str | None = None,
) -> Qualification:
    """Hold the candidate against its baseline, the same for any order of the records.

    Of several records of a cell on a platform the newest that decides counts, as in the table, and
    what started after `late` (`matrix.store.summary.late_from`) as older than the rest. `asks`
    answers
    the first rungs; without it they are not known. `aside` is what was not read of many records.
    Raises QualifyError for a release that is unknown, or that is both candidate and baseline.
    """
    aside, told = aside or Aside(), list(records)
    every = [
        (path, record, *found)
        for path, record in told
        if (found := versions(record, releases)) is not None
    ]
    held = aside.releases | {(each[1].platform, each[2], each[3]) for each in every}
    _check(asked, held, releases)
    chosen = [
        each
        for each in every
        if is_asked(asked, each[1].cell, each[1].platform, release(asked.other, each))
    ]
    before, after = (
        side(asked, each, chosen, expectations, releases, late)
        for each in (asked.baseline, asked.candidate)
    )
    lost = unsaid(asked, told, chosen, releases, late)
    notes = list(oddities.notes(asked, every, (before, after), today, held, aside.counts, late))
    first = None if asks is None else FirstRungs.of(asked, (before, after), releases, asks)
    nameless = {(each.record.cell, each.record.platform) for each in lost if each.blocks}
    findings = Findings(waivers, today)
    cells = Counterparts(asked, findings, first, nameless)
    for key, baseline in sorted(before.items(), key=lambda item: order(item[0])):
        cells.cell(baseline, after.get(key, {}))
    for key in sorted(after.keys() - before.keys(), key=order):
        ran = newest(asked, after[key])
        why = "the baseline has no record of this cell"
        if not [each for each in after[key].values() if cells.alone(each, why)]:
            notes.append(
                f"{ran.record.cell} on {ran.record.platform} has no baseline and was compared with"
                " nothing"
            )
    for each in lost:
        if each.blocks:
            cells.unsaid(each)
        else:
            notes.append(f"{each.path} {each.why}, and counts for nothing")
    names = [each.cell for each in findings.unknown if each.rung is None]
    names += [each.candidate.record.cell for each in findings.matches]
    notes += oddities.other_names(asked, dict.fromkeys(names), releases)
    cells.never_ran((before, after))
    of_rungs = () if first is None else rungs(first.every())
    return findings.qualification(asked, tuple(notes), unread, releases, of_rungs)


def _check(asked: Asked, held: Iterable[tuple[str, str, str]], releases: Releases) -> None:
    name = PROJECTS[asked.project]
    published = releases.torch if asked.project == "torch" else releases.vllm
    ran = {torch if asked.project == "torch" else vllm for _, torch, vllm in held}
    known = oldest_first({each.version for each in published} | ran)
    for option, wanted in ((asked.project, asked.candidate), ("baseline", asked.baseline)):
        if named(wanted, known) is None:
            near = ", ".join(_nearest(wanted, known)) or "none"
            raise QualifyError(
                f"--{option} {wanted}: no release of {name} that is known here, and no record is of"
                f" it; the nearest: {near}"
            )
    if Version(asked.candidate) == Version(asked.baseline):
        earlier = [each for each in known if Version(each) < Version(asked.candidate)]
        mend = f"such as {earlier[-1]}" if earlier else "an earlier one"
        raise QualifyError(
            f"--baseline {asked.baseline}: is the candidate itself; name another release, {mend}"
        )


def _nearest(wanted: str, known: Sequence[str]) -> list[str]:
    """The known versions next to the wanted one, and the newest that it may be the beginning of."""
    below = [each for each in known if Version(each) < Version(wanted)][-1:]
    above = [each for each in known if Version(each) > Version(wanted)][:1]
    longer = [each for each in known if each.startswith(f"{wanted}.")][-1:]
    return list(dict.fromkeys([*below, *above, *longer]))
