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

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from packaging.version import Version

from matrix._util.versions import minor_of, neighbours
from matrix.catalog.cells import Cell, CellError
from matrix.catalog.releases import Releases
from matrix.errors import MatrixError
from matrix.qualify import caveats as oddities
from matrix.qualify import compare as comparison
from matrix.qualify.model import (
    FAILS_OTHERWISE,
    PROJECTS,
    REGRESSION,
    Failure,
    Findings,
    Qualification,
    Unknown,
)
from matrix.qualify.query import (
    Query,
    Skipped,
    is_asked,
    named,
    oldest_first,
    versions,
)
from matrix.qualify.runs import (
    FAILED,
    PASSED,
    CellRun,
    ReleaseRuns,
    UnidentifiedRecord,
    broken,
    newest,
    order,
    patch,
    release,
    reply,
    side,
    unsaid,
)
from matrix.qualify.static_checks import (
    CANNOT_ASK,
    LOST,
    Asks,
    FirstRungs,
    change,
    failing,
    rungs,
    why_not_asked,
)
from matrix.record.model import Record
from matrix.record.signatures import signature
from matrix.rules.expectations import Expectations
from matrix.rules.waivers import Finding, Place, Waivers
from matrix.verdict.ladder import Progress


class QualifyError(MatrixError):
    """A question that cannot be answered: names the option and the mend."""


def qualify(
    asked: Query,
    records: Iterable[tuple[Path, Record]],
    expectations: Expectations,
    releases: Releases,
    waivers: Waivers,
    today: date,
    unread: int = 0,
    asks: Asks | None = None,
    aside: Skipped | None = None,
    late: str | None = None,
) -> Qualification:
    """Hold the candidate against its baseline, the same for any order of the records.

    Of several records of a cell on a platform the newest that decides counts, as in the table, and
    what started after `late` (`matrix.store.summary.late_from`) as older than the rest. `asks`
    answers
    the first rungs; without it they are not known. `aside` is what was not read of many records.
    Raises QualifyError for a release that is unknown, or that is both candidate and baseline.
    """
    aside, told = aside or Skipped(), list(records)
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


def _check(asked: Query, held: Iterable[tuple[str, str, str]], releases: Releases) -> None:
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
    longer = [each for each in known if each.startswith(f"{wanted}.")][-1:]
    return list(dict.fromkeys([*neighbours(wanted, known), *longer]))


@dataclass(frozen=True)
class Counterparts:
    """Holds the cells of the candidate against those of the baseline, and tells `findings`.

    `nameless` are the cells, by name and platform, of a record that does not say what ran in them.
    """

    asked: Query
    findings: Findings
    first: FirstRungs | None = None
    nameless: Container[tuple[str, str]] = ()

    def cell(self, before: Mapping[str, CellRun], after: Mapping[str, CellRun]) -> None:
        """A cell of the baseline: with each patch of the other project that both sides ran.

        The newest patch that either side ran must have an answer on both. What fails or drifts
        under an older one counts too, but nobody has to run those.
        """
        baseline = newest(self.asked, before)
        if not after:
            self.missing(baseline)
            return
        candidate = newest(self.asked, after)
        first, second = patch(self.asked, baseline), patch(self.asked, candidate)
        both = oldest_first(before.keys() & after.keys())
        pair = (before[both[-1]], after[both[-1]]) if both else (baseline, candidate)
        self._compare(*pair)
        for each in pair[1].beside:
            self._compare(pair[0], each)
        other = PROJECTS[self.asked.other]
        for older in both[:-1]:
            for each in (after[older], *after[older].beside):
                apart = f"{other} {older}" + (f", {each.apart}" if each.apart else "")
                self._compare(before[older], replace(each, apart=apart))
        name = f"{other} {max(first, second)}"
        if first > second:
            self.missing(baseline, f"never ran with {name}")
        for version in oldest_first(after.keys() - before.keys()):
            if after[version] is not pair[1]:
                self.alone(after[version], f"the baseline has no record with {other} {version}")
        if second > first:
            place = self._place(candidate, self.asked.baseline)
            reason = f"the baseline never ran with {name}, and the candidate did"
            self.findings.unknown.append(Unknown(place.cell, place.platform, None, reason, True))

    def alone(self, ran: CellRun, why: str) -> bool:
        """A cell that only the candidate ran, as `why` says; whether anything is wrong with it."""
        pair = self._progress(ran)
        asks = any(each.record.cases for each in (ran, *ran.again, *ran.beside))
        if not asks and pair is not None and change(*pair) == CANNOT_ASK:
            return False
        decides = self._place(ran, self.asked.baseline).cell
        return comparison.alone(self.findings, ran, why, decides)

    def unsaid(self, each: UnidentifiedRecord) -> None:
        """A record whose cases count for neither side."""
        cell, platform = each.record.cell, each.record.platform
        self.findings.unknown.append(Unknown(cell, platform, None, f"{each.path} {each.why}", True))

    def missing(self, baseline: CellRun, never: str = "never ran") -> None:
        """A cell of the baseline that the candidate never ran."""
        place = self._place(baseline, self.asked.candidate)
        pair = self._progress(baseline)
        kind = None if pair is None else change(*pair)
        if pair is not None and kind == LOST:
            self._lost(place, pair[1], baseline)
            return
        if kind != CANNOT_ASK and (place.cell, place.platform) in self.nameless:
            return  # it ran, and what is not known is told of its record
        why = never
        if pair is not None and kind == CANNOT_ASK:
            why = why_not_asked(pair[1])
        elif pair is not None and pair[1].reached is not None and pair[1].fails is None:
            why = f"{never} ({pair[1].reached} is as far as is known, and no answer)"
        self._cell_unknown(place, baseline, why, pair[1] if kind == CANNOT_ASK and pair else None)

    def never_ran(self, sides: tuple[ReleaseRuns, ReleaseRuns]) -> None:
        """What the candidate lost at a first rung with its own pin, where the baseline never ran.

        Off-pin nobody ever promised that, nor saw it: it is told among the rungs, and not judged.
        """
        if self.first is None:
            return
        known = {(platform, under) for side in sides for platform, under, _ in side}
        for (platform, other), every in self.first.every().items():
            under = minor_of(other) if self.asked.other == "vllm" else other
            lost = [
                each for each in every if not each[2].off_pin and change(each[1], each[2]) == LOST
            ]
            if lost and (platform, under) not in known:
                progress = lost[0][2]
                cell = progress.cell
                place = Place(cell.name, platform, cell.torch, cell.vllm)
                self._lost(place, progress, None, [python for python, _, _ in lost])

    def _compare(self, baseline: CellRun, candidate: CellRun) -> None:
        pair = self._progress(baseline, candidate)
        broke = not candidate.record.cases and broken(candidate) is not None
        # Such a run failed, as it had to.
        known = pair is not None and broke and change(*pair) == CANNOT_ASK
        if pair is not None and known and candidate.apart is None:
            self._cell_unknown(candidate.place, baseline, why_not_asked(pair[1]), pair[1])
        comparison.compare(self.findings, baseline, candidate, known)

    def _place(self, ran: CellRun, version: str) -> Place:
        """The same cell with that release of the project in question."""
        releases = {"torch": ran.torch, "vllm": ran.vllm}
        releases[self.asked.project] = version
        try:
            cell = Cell(ran.python, releases["torch"], releases["vllm"]).name
        except CellError:
            cell = ran.record.cell
        return Place(cell, ran.record.platform, **releases)

    def _progress(
        self, baseline: CellRun, candidate: CellRun | None = None
    ) -> tuple[Progress, Progress] | None:
        """How far both sides get, by the releases of the candidate's cell where that ran."""
        if self.first is None:
            return None
        ran = candidate or baseline
        other = ran.vllm if self.asked.other == "vllm" else ran.torch
        return self.first.pair(other, ran.python, ran.record.platform)

    def _lost(
        self,
        place: Place,
        progress: Progress,
        baseline: CellRun | None,
        pythons: Sequence[str] = (),
    ) -> None:
        """A regression that a first rung shows. It is one failure, whatever cases there are."""
        step = failing(progress)
        assert step is not None
        reason = step.reason or f"fails at {step.rung}"
        fault = None if baseline is None else broken(baseline)
        kind, before = REGRESSION, None
        if fault is not None:
            kind, before = FAILS_OTHERWISE, signature(fault[1]) or fault[0]
        found = signature(step.cause or reason) or step.rung
        waiver, expired = self.findings.waived(Finding(place, "", signature=found))
        if len(pythons) > 1:
            reason += f"; so on Python {', '.join(pythons)}"
        self.findings.failures.append(
            Failure(kind, place, "", step.rung, found, reason, before, waiver, expired, False)
        )

    def _cell_unknown(
        self, place: Place, baseline: CellRun, why: str, cannot: Progress | None = None
    ) -> None:
        """No answer of a whole cell; `cannot` is its progress where it cannot be asked."""
        names = [case.case for case in baseline.record.cases] or [""]
        states = [reply(baseline, name).state for name in names]
        passed, failed = states.count(PASSED), states.count(FAILED)
        parts = [f"{passed} passed"] if passed else []
        parts += [f"{failed} failed"] if failed else []
        reason = f"{why}; of its cases {' and '.join(parts or ['none has an answer'])}"
        reason += f" at {baseline.record.cell}"
        step = None if cannot is None else failing(cannot)
        found = waiver = expired = None
        if step is not None:
            found = signature(step.cause or step.reason or step.rung) or step.rung
            waiver, expired = self.findings.waived(Finding(place, "", signature=found))
        self.findings.unknown.append(
            Unknown(
                place.cell,
                place.platform,
                None,
                reason,
                bool(parts),
                found,
                waiver,
                expired,
                None if step is None else step.rung,
            )
        )
