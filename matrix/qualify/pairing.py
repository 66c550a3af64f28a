"""Which run of the candidate answers for which of the baseline, cell by cell, and what has none."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from matrix._util.versions import minor_of
from matrix.catalog.cells import Cell, CellError
from matrix.qualify import compare as comparison
from matrix.qualify.findings import Findings
from matrix.qualify.model import FAILS_OTHERWISE, PROJECTS, REGRESSION, Failure, Unknown
from matrix.qualify.replies import FAILED, PASSED, broken, reply
from matrix.qualify.sides import Asked, Ran, Side, Unsaid, newest, oldest_first, patch
from matrix.qualify.static_checks import (
    CANNOT_ASK,
    LOST,
    FirstRungs,
    change,
    failing,
    why_not_asked,
)
from matrix.record.signatures import signature
from matrix.rules.waivers import Finding, Place
from matrix.verdict.ladder import Climb

__all__ = ["Counterparts"]


@dataclass(frozen=True)
class Counterparts:
    """Holds the cells of the candidate against those of the baseline, and tells `findings`.

    `nameless` are the cells, by name and platform, of a record that does not say what ran in them.
    """

    asked: Asked
    findings: Findings
    first: FirstRungs | None = None
    nameless: Container[tuple[str, str]] = ()

    def cell(self, before: Mapping[str, Ran], after: Mapping[str, Ran]) -> None:
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

    def alone(self, ran: Ran, why: str) -> bool:
        """A cell that only the candidate ran, as `why` says; whether anything is wrong with it."""
        pair = self._climbs(ran)
        asks = any(each.record.cases for each in (ran, *ran.again, *ran.beside))
        if not asks and pair is not None and change(*pair) == CANNOT_ASK:
            return False
        decides = self._place(ran, self.asked.baseline).cell
        return comparison.alone(self.findings, ran, why, decides)

    def unsaid(self, each: Unsaid) -> None:
        """A record whose cases count for neither side."""
        cell, platform = each.record.cell, each.record.platform
        self.findings.unknown.append(Unknown(cell, platform, None, f"{each.path} {each.why}", True))

    def missing(self, baseline: Ran, never: str = "never ran") -> None:
        """A cell of the baseline that the candidate never ran."""
        place = self._place(baseline, self.asked.candidate)
        pair = self._climbs(baseline)
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

    def never_ran(self, sides: tuple[Side, Side]) -> None:
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
                climb = lost[0][2]
                cell = climb.cell
                place = Place(cell.name, platform, cell.torch, cell.vllm)
                self._lost(place, climb, None, [python for python, _, _ in lost])

    def _compare(self, baseline: Ran, candidate: Ran) -> None:
        pair = self._climbs(baseline, candidate)
        broke = not candidate.record.cases and broken(candidate) is not None
        # Such a run failed, as it had to.
        known = pair is not None and broke and change(*pair) == CANNOT_ASK
        if pair is not None and known and candidate.apart is None:
            self._cell_unknown(candidate.place, baseline, why_not_asked(pair[1]), pair[1])
        comparison.compare(self.findings, baseline, candidate, known)

    def _place(self, ran: Ran, version: str) -> Place:
        """The same cell with that release of the project in question."""
        releases = {"torch": ran.torch, "vllm": ran.vllm}
        releases[self.asked.project] = version
        try:
            cell = Cell(ran.python, releases["torch"], releases["vllm"]).name
        except CellError:
            cell = ran.record.cell
        return Place(cell, ran.record.platform, **releases)

    def _climbs(self, baseline: Ran, candidate: Ran | None = None) -> tuple[Climb, Climb] | None:
        """How far both sides get, by the releases of the candidate's cell where that ran."""
        if self.first is None:
            return None
        ran = candidate or baseline
        other = ran.vllm if self.asked.other == "vllm" else ran.torch
        return self.first.pair(other, ran.python, ran.record.platform)

    def _lost(
        self, place: Place, climb: Climb, baseline: Ran | None, pythons: Sequence[str] = ()
    ) -> None:
        """A regression that a first rung shows. It is one failure, whatever cases there are."""
        step = failing(climb)
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
        self, place: Place, baseline: Ran, why: str, cannot: Climb | None = None
    ) -> None:
        """No answer of a whole cell; `cannot` is its climb where it cannot be asked."""
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
