"""The ladder of evidence: how far a cell gets on a platform, where it fails, and what nobody asked.

Pure. The cheap rungs (declared, resolves, links) are answered without running anything, and a
record tells of a real run. A record beats the cheap rungs, and where they contradict it, that is
said. A rung that was not asked is unknown, which never counts as passed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from matrix.catalog.cells import Cell
from matrix.checks.declared import Declared
from matrix.checks.lookup import Answer
from matrix.record.model import RUNGS, Record
from matrix.verdict.judge import COMPATIBLE, DRIFT, INCOMPATIBLE, UNTESTED, CellVerdict

__all__ = [
    "CHEAP",
    "FAILED",
    "NOT_NEEDED",
    "PASSED",
    "UNKNOWN",
    "Climb",
    "Ran",
    "Step",
    "climb",
    "height",
    "ran",
]

PASSED = "passed"
FAILED = "failed"
UNKNOWN = "unknown"
NOT_NEEDED = "not needed"
"""The state of links where vLLM's extensions are not loaded: it says what it says, and decides
nothing."""

CHEAP = RUNGS[:3]
"""The rungs that are answered without running anything."""

_RUN = tuple(rung for rung in RUNGS if rung not in ("declared", "links"))
"""The rungs that a run shows, in their order."""


@dataclass(frozen=True)
class Ran:
    """What the record of a real run shows of the rungs.

    `passed` are the rungs that it reached, `fails` the one that it could not, with the `reason`;
    `day` is when it ran, `part` how many of the cases a partial record holds.
    """

    verdict: str
    passed: frozenset[str]
    fails: str | None
    reason: str | None
    day: str
    part: str | None = None


@dataclass(frozen=True)
class Step:
    """One rung of a cell: its state, why, and whether a record says so.

    `cause` and `promised` as in `Answer`.
    """

    rung: str
    state: str
    reason: str | None = None
    by_record: bool = False
    cause: str | None = None
    promised: bool = False


@dataclass(frozen=True)
class Climb:
    """How far a cell gets on a platform.

    `steps` has every rung. `reached` is the highest that passed below the one where it `fails`,
    `reason` the first line of why. `contradictions` are what the cheap rungs said and a run showed
    otherwise.
    """

    cell: Cell
    platform: str
    steps: tuple[Step, ...]
    verdict: str
    reached: str | None
    fails: str | None
    reason: str | None
    off_pin: bool
    ran: Ran | None = None
    yanked: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()

    @property
    def unknown(self) -> tuple[str, ...]:
        """The rungs that nobody asked, up to the one where it fails."""
        end = len(RUNGS) if self.fails is None else RUNGS.index(self.fails)
        return tuple(step.rung for step in self.steps[:end] if step.state == UNKNOWN)

    @property
    def open(self) -> tuple[str, ...]:
        """Those of the unknown rungs that need no run: they could be asked."""
        return tuple(rung for rung in self.unknown if rung in CHEAP)

    @property
    def asked(self) -> int:
        """How many of the rungs that need no run were asked."""
        return sum(step.state != UNKNOWN for step in self.steps[: len(CHEAP)])

    @property
    def skipped(self) -> tuple[str, ...]:
        """The rungs below the one reached that nobody asked."""
        top = height(self.reached)
        return tuple(rung for rung in self.unknown if height(rung) < top)

    @property
    def cause(self) -> str | None:
        """The reason as pairs that fail alike share it."""
        if self.fails is None:
            return None
        return _first_line(self.steps[RUNGS.index(self.fails)].cause) or self.reason

    @property
    def without(self) -> str | None:
        """Which features do not link where the core does, and why; None where none."""
        links = self.steps[RUNGS.index("links")]
        return links.reason if links.state == PASSED else None

    @property
    def limit(self) -> str | None:
        """The same as pairs that go without them for alike reasons share it."""
        return self.steps[RUNGS.index("links")].cause if self.without else None

    @property
    def hopeless(self) -> bool:
        """Whether the cheap rungs alone say that it cannot work, and no run showed otherwise."""
        return self.fails in CHEAP and not self.steps[RUNGS.index(self.fails)].by_record


def height(rung: str | None) -> int:
    """The place of a rung on the ladder, from 1 up; 0 for none.

    >>> height(None), height("declared"), height("as expected")
    (0, 1, 7)
    """
    return 0 if rung is None else RUNGS.index(rung) + 1


def ran(record: Record, verdict: CellVerdict) -> Ran:
    """What a judged record shows of the rungs."""
    fails = verdict.rung if verdict.verdict in (DRIFT, INCOMPATIBLE) else None
    if verdict.verdict == UNTESTED:
        passed = _passed_untested(record, verdict)
    elif fails is None:
        passed = frozenset(_RUN) if verdict.verdict == COMPATIBLE else frozenset()
    else:
        passed = frozenset(rung for rung in _RUN if height(rung) < height(fails))
    held = len(record.cases)
    part = f"{held} of {held + record.deselected} cases" if record.deselected else None
    return Ran(verdict.verdict, passed, fails, verdict.reason, record.started[:10], part)


def _passed_untested(record: Record, verdict: CellVerdict) -> frozenset[str]:
    """What a run reached that says nothing of the pair: a full disk after the imports."""
    if record.error is not None and record.error.kind == "wrong_cell":
        return frozenset()
    tops = [verdict.rung, *(rung.rung for rung in record.rungs if rung.ok)]
    top = max(map(height, tops), default=0)
    return frozenset(rung for rung in _RUN if height(rung) <= top)


def climb(
    cell: Cell,
    platform: str,
    declared: Declared,
    resolves: Answer | None = None,
    links: Answer | None = None,
    seen: Ran | None = None,
) -> Climb:
    """Put together what is known of a cell on a platform; None is what nobody asked."""
    steps = (
        _declared(declared),
        _resolves(resolves, seen),
        _links(links, platform, seen),
        *(_run_step(rung, seen) for rung in RUNGS[3:]),
    )
    top = max((height(rung) for rung in seen.passed), default=0) if seen is not None else 0
    # What a run got past cannot be what stops it; off-pin, an override installs the torch.
    fails = next(
        (
            step
            for step in steps
            if step.state == FAILED
            and height(step.rung) > top
            and not (step.rung == "declared" and declared.fits)
        ),
        None,
    )
    end = len(RUNGS) if fails is None else RUNGS.index(fails.rung)
    reached = next((step.rung for step in reversed(steps[:end]) if step.state == PASSED), None)
    if seen is not None and seen.verdict != UNTESTED:
        verdict = seen.verdict
    else:
        verdict = UNTESTED if fails is None else INCOMPATIBLE
    return Climb(
        cell=cell,
        platform=platform,
        steps=steps,
        verdict=verdict,
        reached=reached,
        fails=fails.rung if fails else None,
        reason=_first_line(fails.reason) if fails else None,
        off_pin=declared.off_pin,
        ran=seen,
        yanked=declared.yanked,
        contradictions=tuple(_contradictions(platform, declared, resolves, links, seen)),
    )


_NOT_ASKED = {rung: Step(rung, UNKNOWN) for rung in RUNGS}
_RAN = {rung: Step(rung, PASSED, by_record=True) for rung in RUNGS}


def _declared(declared: Declared) -> Step:
    return Step("declared", PASSED if declared.ok else FAILED, declared.reason)


def _resolves(answer: Answer | None, seen: Ran | None) -> Step:
    if seen is not None and ("resolves" in seen.passed or seen.fails == "resolves"):
        return _run_step("resolves", seen)
    return _NOT_ASKED["resolves"] if answer is None else _answered("resolves", answer)


def _links(answer: Answer | None, platform: str, seen: Ran | None) -> Step:
    if platform == "cpu":
        return Step("links", NOT_NEEDED, answer.reason if answer else None)
    if seen is not None and "imports" in seen.passed:
        # What a feature goes without is worth telling still.
        told = answer if answer is not None and answer.ok else Answer(True)
        return Step("links", PASSED, told.reason, True, told.cause)
    return _NOT_ASKED["links"] if answer is None else _answered("links", answer)


def _answered(rung: str, answer: Answer) -> Step:
    reason = answer.reason
    if not answer.ok and answer.by:
        reason = f"{reason or 'no reason given'} ({answer.by})"
    state = PASSED if answer.ok else FAILED
    return Step(rung, state, reason, cause=answer.cause, promised=answer.promised)


def _run_step(rung: str, seen: Ran | None) -> Step:
    if seen is not None and rung in seen.passed:
        return _RAN[rung]
    if seen is not None and rung == seen.fails:
        return Step(rung, FAILED, seen.reason, by_record=True)
    return _NOT_ASKED[rung]


def _contradictions(
    platform: str,
    declared: Declared,
    resolves: Answer | None,
    links: Answer | None,
    seen: Ran | None,
) -> Iterable[str]:
    """Where a run showed something else than a cheap rung says."""
    if seen is None:
        return
    if seen.passed and not declared.fits:
        yield f"is not for this Python ({declared.reason}), but ran on {seen.day}"
    if resolves is not None and not resolves.ok and "resolves" in seen.passed:
        yield f"does not resolve ({_why(resolves)}), but was installed on {seen.day}"
    if resolves is not None and resolves.ok and seen.fails == "resolves":
        by = f" ({resolves.by})" if resolves.by else ""
        yield f"resolves{by}, but was not installed on {seen.day}: {_first_line(seen.reason)}"
    if platform == "cpu" or links is None:
        return
    if not links.ok and "imports" in seen.passed:
        yield f"does not link ({_why(links)}), but was imported on {seen.day}"
    if links.ok and seen.fails == "imports" and "undefined symbol" in (seen.reason or ""):
        yield f"links, but was not imported on {seen.day}: {_first_line(seen.reason)}"


def _why(answer: Answer) -> str:
    return _first_line(answer.reason) or "no reason given"


def _first_line(text: str | None) -> str | None:
    return text.strip().partition("\n")[0] if text and text.strip() else None
