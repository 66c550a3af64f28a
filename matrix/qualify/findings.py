"""What a qualification has found so far, each finding with the waiver that holds for it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from datetime import date

from packaging.version import Version

from matrix._util.versions import minor_of
from matrix.catalog.cells import factors
from matrix.catalog.releases import Releases
from matrix.qualify.model import Drift, Failure, Flag, Match, Qualification, Time, Unknown
from matrix.qualify.sides import Asked, Ran
from matrix.qualify.static_checks import Rungs
from matrix.rules.waivers import Finding, Waiver, Waivers

__all__ = ["Findings", "Waived"]

Waived = tuple["Waiver | None", "Waiver | None"]
"""The waiver that holds for something, and the one that has expired; at most one of them."""


@dataclass
class Findings:
    """Collects what cells, and pairs of runs, show; everything in the order of its finding."""

    waivers: Waivers
    today: date
    matches: list[Match] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    times: list[Time] = field(default_factory=list)

    def waived(self, finding: Finding) -> Waived:
        """The waiver that holds for it, or else the one that has expired."""
        waiver = self.waivers.waiving(finding, self.today)
        if waiver is not None and waiver.expired(self.today):
            return None, waiver
        return waiver, None

    def add_unknown(
        self,
        ran: Ran,
        case: str | None,
        reason: str,
        failure: str | None = None,
        decides: str | None = None,
        waived: Waived = (None, None),
    ) -> None:
        """What leaves a case of a run without an answer, or the whole run where there is no case.

        A `failure` is the signature by which it can be waived; without one it is as `waived` says.
        """
        if failure is not None:
            waived = self.waived(Finding(ran.place, case or "", signature=failure))
        waiver, expired = waived
        self.unknown.append(
            Unknown(
                ran.record.cell,
                ran.record.platform,
                case or None,
                reason if ran.apart is None else f"with {ran.apart} it {reason}",
                True,
                failure,
                waiver,
                expired,
                decides=decides,
            )
        )

    def qualification(
        self,
        asked: Asked,
        notes: tuple[str, ...],
        unread: int,
        releases: Releases,
        rungs: tuple[Rungs, ...],
    ) -> Qualification:
        """The qualification that they make, with the waivers that waived nothing."""
        found: list[Failure | Drift | Unknown] = [*self.failures, *self.drifts, *self.unknown]
        used = {
            waiver.id
            for each in found
            for waiver in (each.waiver, each.expired)
            if waiver is not None
        }
        places = [match.candidate.place for match in self.matches]
        of = [each for each in self.waivers.every if any(each.speaks_of(place) for place in places)]
        known = {minor_of(each.version) for each in getattr(releases, asked.project)}
        rest = [each for each in self.waivers.every if each not in of and each.id not in used]
        astray = tuple(each for each in rest if _is_astray(asked, each, known))
        return Qualification(
            asked=asked,
            today=self.today,
            matches=tuple(self.matches),
            failures=tuple(self.failures),
            drifts=tuple(self.drifts),
            flags=tuple(self.flags),
            unknown=tuple(self.unknown),
            times=tuple(self.times),
            idle=tuple(each for each in of if each.id not in used),
            astray=astray,
            elsewhere=len(rest) - len(astray),
            notes=notes,
            unread=unread,
            rungs=rungs,
        )


def _is_astray(asked: Asked, waiver: Waiver, known: Container[str]) -> bool:
    """Whether a waiver that matches no cell speaks of the candidate, and so may be mistyped.

    `known` are the minor releases that there are of the project in question.
    """
    if not getattr(waiver, asked.project).contains(Version(asked.candidate)):
        return False
    if waiver.platform not in (None, *asked.platforms):
        return False
    if waiver.cell is None:
        return True
    named = factors(waiver.cell)
    minor = named.torch if asked.project == "torch" else str(named.vllm)
    of = minor == minor_of(asked.candidate) or minor not in known
    return of and (not asked.pythons or named.python in asked.pythons)
