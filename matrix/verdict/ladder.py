"""The ladder of evidence: how far a cell gets on a platform, where it fails, and what is unknown.

Pure. Checks answer the cheap rungs (declared, resolves, links) without a run; a record answers the
others. A record takes precedence over the checks, and where they disagree the progress of the cell
lists the contradiction. A rung without an answer is unknown, which never counts as passed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from matrix._util.enums import StrEnum
from matrix.catalog.cells import Cell
from matrix.checks.declared import Declared
from matrix.checks.facts import AnyFact
from matrix.checks.lookup import Answer
from matrix.record.model import RUNGS, Departure, ErrorKind, Platform, Record, Rung
from matrix.rules.provisional import Provisional
from matrix.verdict.judge import CellVerdict
from matrix.verdict.reasons import Checked, VerdictReason, failure_key, first_line
from matrix.verdict.states import VERDICTS, StepState, Verdict

CHEAP = RUNGS[:3]
"""The rungs that checks answer without running anything."""

BUILDS = Rung.BUILDS
"""The rung that only a vLLM from sources has, below *resolves*; its step is there if it fails."""

_RUN = tuple(rung for rung in RUNGS if rung not in (Rung.DECLARED, Rung.LINKS))
"""The rungs that a run shows, lowest first."""


class Part(NamedTuple):
    """How many of the cases a partial record holds."""

    held: int
    total: int


@dataclass(frozen=True, kw_only=True)
class RunEvidence:
    """The rungs by the record of a real run.

    `passed` are the rungs that the run reached, `fails` the one that it could not, with the
    `reason`; `day` is the day of its start, `part` how many cases a partial record holds,
    `not_stock` the packages that were not as the vLLM requires, `provisional` how it compares with
    the nearest expectations where its releases are beyond their end, `recompiling` the cases that
    are as expected and compile again on their warm start, `issues` the links of each.
    """

    verdict: Verdict
    passed: frozenset[Rung]
    fails: Rung | None
    reason: VerdictReason | None
    day: str
    part: Part | None = None
    not_stock: tuple[Departure, ...] = ()
    provisional: Provisional | None = None
    recompiling: tuple[str, ...] = ()
    issues: tuple[tuple[str, ...], ...] = ()

    @property
    def again(self) -> tuple[object, ...]:
        """The cases that compile again on a warm start, with issues, and the number of cases."""
        return self.recompiling, self.issues, self.part

    @property
    def is_informative(self) -> bool:
        """Whether the run shows something about the pair, and not only about its machine."""
        return self.verdict != Verdict.UNTESTED or bool(self.passed)


@dataclass(frozen=True, kw_only=True)
class LadderStep:
    """One rung of a cell: its state, why, and whether a record shows it.

    `cause` and `promised` as in `Answer`.
    """

    rung: Rung
    state: StepState
    reason: VerdictReason | None = None
    by_record: bool = False
    cause: tuple[AnyFact, ...] = ()
    promised: bool = False


class ContradictionCode(StrEnum):
    """The answer of a static check that a run disproved, and how."""

    RAN_WITHOUT_WHEEL = "not for this Python, but ran"
    INSTALLED = "does not resolve, but was installed"
    NOT_INSTALLED = "resolves, but was not installed"
    IMPORTED = "does not link, but was imported"
    NOT_IMPORTED = "links, but was not imported"


class Contradiction(NamedTuple):
    """An answer of a static check that the run of a `day` disproved.

    `reason` is the check's where that failed, else that of the run's failure; `asked` is the day of
    the check, where its answer can change.
    """

    code: ContradictionCode
    day: str
    reason: VerdictReason | None
    asked: str | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a cell gets on a platform.

    `steps` has every rung, lowest first, and at the end *builds* where sources did not build.
    `reached` is the highest that passed below the one where
    the cell `fails`, `reason` the first line of why. `contradictions` are the answers of cheap
    rungs that a run disproved.
    """

    cell: Cell
    platform: Platform
    steps: tuple[LadderStep, ...]
    verdict: Verdict
    reached: Rung | None
    fails: Rung | None
    reason: VerdictReason | None
    off_pin: bool
    ran: RunEvidence | None = None
    contradictions: tuple[Contradiction, ...] = ()

    def of(self, cell: Cell) -> Progress:
        """Return the progress of another cell, of which the same is known; neither ran."""
        return Progress(
            cell=cell,
            platform=self.platform,
            steps=self.steps,
            verdict=self.verdict,
            reached=self.reached,
            fails=self.fails,
            reason=self.reason,
            off_pin=self.off_pin,
        )

    @property
    def provisional(self) -> Provisional | None:
        """How its run compares with the nearest expectations, where it is beyond their end."""
        return self.ran.provisional if self.ran is not None else None

    @property
    def not_stock(self) -> tuple[Departure, ...]:
        """The packages with which it ran and that were not as the vLLM requires."""
        return self.ran.not_stock if self.ran is not None else ()

    @property
    def unknown(self) -> tuple[Rung, ...]:
        """The rungs without an answer, up to the one where the cell fails."""
        end = len(RUNGS) if self.fails is None else level(self.fails) - 1
        return tuple(step.rung for step in self.steps[:end] if step.state == StepState.UNKNOWN)

    @property
    def unanswered(self) -> tuple[Rung, ...]:
        """Those of the unknown rungs that a check can answer without a run."""
        return tuple(rung for rung in self.unknown if rung in CHEAP)

    @property
    def resolves_unknown(self) -> VerdictReason | None:
        """Why a resolver's answer shows nothing of the packages; None without such an answer."""
        resolves = self.steps[RUNGS.index(Rung.RESOLVES)]
        return resolves.reason if resolves.state == StepState.UNKNOWN else None

    @property
    def answered(self) -> int:
        """How many of the cheap rungs have an answer."""
        return sum(step.state != StepState.UNKNOWN for step in self.steps[: len(CHEAP)])

    @property
    def skipped(self) -> tuple[Rung, ...]:
        """The unknown rungs below the one reached."""
        top = level(self.reached)
        return tuple(rung for rung in self.unknown if level(rung) < top)

    @property
    def cause(self) -> VerdictReason | None:
        """The reason in the form that pairs which fail alike share; None if nothing fails."""
        if self.fails is None:
            return None
        step = next(step for step in self.steps if step.rung == self.fails)
        return _checked(step.cause) or self.reason

    @property
    def without(self) -> VerdictReason | None:
        """Which features do not link where the core does, and why; None if all do."""
        links = self.steps[RUNGS.index(Rung.LINKS)]
        return links.reason if links.state == StepState.PASSED else None

    @property
    def without_cause(self) -> VerdictReason | None:
        """`without` in the form that pairs which lack features for like reasons share."""
        return _checked(self.steps[RUNGS.index(Rung.LINKS)].cause) if self.without else None

    @property
    def ruled_out(self) -> bool:
        """Whether the cheap rungs exclude the cell, and no run disproved them."""
        return self.fails in CHEAP and not self.steps[RUNGS.index(self.fails)].by_record


def level(rung: Rung | None) -> int:
    """Return the place of a rung on the ladder, from 1 up; 0 for None.

    A vLLM that was not built does not resolve, so *builds* has the place of *resolves*.

    >>> level(None), level("declared"), level("builds"), level("resolves"), level("as expected")
    (0, 1, 2, 2, 7)
    """
    if rung == BUILDS:
        rung = Rung.RESOLVES
    return 0 if rung is None else RUNGS.index(rung) + 1


def highest(rungs: Iterable[Rung]) -> Rung | None:
    """Return the highest of some rungs; None if there is none.

    >>> highest({"imports", "declared"})
    'imports'
    """
    return max(rungs, key=level, default=None)


def part_of(record: Record) -> Part | None:
    """Return how many of the cases a partial record holds; None for one with all, or with none.

    A run that ended early holds those that it had begun.
    """
    held, total = len(record.cases), record.total_cases
    if not record.deselected and (held == total or not held):
        return None
    return Part(held=held, total=total)


def evidence_of(record: Record, verdict: CellVerdict) -> RunEvidence:
    """Return what a judged record shows of the rungs."""
    fails = verdict.rung if verdict.verdict in (Verdict.DRIFT, Verdict.INCOMPATIBLE) else None
    if verdict.verdict == Verdict.UNTESTED:
        passed = _passed_untested(record, verdict)
    elif fails is None:
        passed = frozenset(_RUN) if verdict.verdict == Verdict.COMPATIBLE else frozenset()
    else:
        passed = frozenset(rung for rung in _RUN if level(rung) < level(fails))
    return RunEvidence(
        verdict=verdict.verdict,
        passed=passed,
        fails=fails,
        reason=verdict.reason,
        day=record.started[:10],
        part=part_of(record),
        not_stock=verdict.not_stock,
        provisional=verdict.provisional,
        recompiling=verdict.recompiling,
        issues=verdict.issues,
    )


def badness(
    verdict: Verdict, reached: Rung | None, ran: RunEvidence | None
) -> tuple[int | bool, ...]:
    """Return the order in which runs, or checks alone, stand for their pair, the worst first.

    By verdict, then by how far they got; of equal ones first those that are not stock, that
    recompile, that are whole: a partial run on another Python does not hide the cases of a whole
    one. The grid, the table and the badges ask this one.
    """
    standing = VERDICTS.index(verdict), level(reached)
    if ran is None:
        return standing
    return (
        *standing,
        not ran.not_stock,
        -len(ran.recompiling),
        ran.part is not None,
    )


def _passed_untested(record: Record, verdict: CellVerdict) -> frozenset[Rung]:
    """Return the rungs reached by a run that shows nothing of the pair, such as a full disk."""
    if record.error is not None and record.error.kind == ErrorKind.WRONG_CELL:
        return frozenset()
    tops = [verdict.rung, *(rung.rung for rung in record.rungs if rung.ok)]
    top = max(map(level, tops), default=0)
    return frozenset(rung for rung in _RUN if level(rung) <= top)


def assess(
    cell: Cell,
    platform: Platform,
    declared: Declared,
    *,
    resolves: Answer | None = None,
    links: Answer | None = None,
    ran: RunEvidence | None = None,
) -> Progress:
    """Return the progress of a cell on a platform by these answers; None means no answer."""
    steps = (
        _declared(declared),
        _resolves(resolves, ran),
        _links(links, platform, ran),
        *(_NO_RUN if ran is None else (_run_step(rung, ran) for rung in RUNGS[3:])),
    )
    built = (_run_step(BUILDS, ran),) if ran is not None and ran.fails == BUILDS else ()
    # Without a run no other rung than the cheap ones has an answer.
    asked = steps[: len(CHEAP)] if ran is None else (*steps[:1], *built, *steps[1:])
    reached, fails = _standing(asked, declared, ran)
    verdict = Verdict.UNTESTED if fails is None else Verdict.INCOMPATIBLE
    if ran is not None and ran.verdict != Verdict.UNTESTED:
        verdict = ran.verdict
    return Progress(
        cell=cell,
        platform=platform,
        steps=(*steps, *built) if built else steps,
        verdict=verdict,
        reached=reached,
        fails=fails.rung if fails else None,
        reason=first_line(fails.reason) if fails else None,
        off_pin=declared.off_pin,
        ran=ran,
        contradictions=()
        if ran is None
        else tuple(_contradictions(platform, declared, resolves, links, ran)),
    )


def _standing(
    steps: Iterable[LadderStep], declared: Declared, ran: RunEvidence | None
) -> tuple[Rung | None, LadderStep | None]:
    """Return the highest rung that passed below the lowest step that stops the cell, and that step.

    A step that a run got past cannot stop the cell, nor can the pin of an off-pin cell, whose torch
    an override installs.
    """
    top = 0 if ran is None else max(map(level, ran.passed), default=0)
    reached = None
    for step in steps:
        if step.state is StepState.PASSED:
            reached = step.rung
        elif (
            step.state is StepState.FAILED
            and level(step.rung) > top
            and not (step.rung == Rung.DECLARED and declared.fits)
        ):
            return reached, step
    return reached, None


_UNKNOWN_STEPS: dict[Rung, LadderStep] = {
    rung: LadderStep(rung=rung, state=StepState.UNKNOWN) for rung in RUNGS
}
_DECLARED = LadderStep(rung=Rung.DECLARED, state=StepState.PASSED)
_NOT_NEEDED = LadderStep(rung=Rung.LINKS, state=StepState.NOT_NEEDED)
_NO_RUN = tuple(_UNKNOWN_STEPS[rung] for rung in RUNGS[3:])
_RUN_STEPS: dict[Rung, LadderStep] = {
    rung: LadderStep(rung=rung, state=StepState.PASSED, by_record=True) for rung in RUNGS
}


def _declared(declared: Declared) -> LadderStep:
    if declared.ok and not declared.facts:
        return _DECLARED
    state = StepState.PASSED if declared.ok else StepState.FAILED
    return LadderStep(rung=Rung.DECLARED, state=state, reason=_checked(declared.facts))


def _resolves(answer: Answer | None, ran: RunEvidence | None) -> LadderStep:
    if ran is not None and (Rung.RESOLVES in ran.passed or ran.fails == Rung.RESOLVES):
        return _run_step(Rung.RESOLVES, ran)
    if answer is not None and answer.unknown:
        return replace(_answered(Rung.RESOLVES, answer), state=StepState.UNKNOWN)
    return _UNKNOWN_STEPS[Rung.RESOLVES] if answer is None else _answered(Rung.RESOLVES, answer)


def _links(answer: Answer | None, platform: Platform, ran: RunEvidence | None) -> LadderStep:
    if platform == Platform.CPU:
        if answer is None:
            return _NOT_NEEDED
        reason = _checked(answer.facts)
        return LadderStep(rung=Rung.LINKS, state=StepState.NOT_NEEDED, reason=reason)
    if ran is not None and Rung.IMPORTS in ran.passed:
        # The features that do not link stay worth showing.
        kept = answer if answer is not None and answer.ok else Answer(ok=True)
        return LadderStep(
            rung=Rung.LINKS,
            state=StepState.PASSED,
            reason=_checked(kept.facts),
            by_record=True,
            cause=kept.cause,
        )
    if answer is not None and answer.unknown:
        return replace(_answered(Rung.LINKS, answer), state=StepState.UNKNOWN)
    return _UNKNOWN_STEPS[Rung.LINKS] if answer is None else _answered(Rung.LINKS, answer)


def _answered(rung: Rung, answer: Answer) -> LadderStep:
    asked = None if answer.ok else answer.asked
    return LadderStep(
        rung=rung,
        state=StepState.PASSED if answer.ok else StepState.FAILED,
        reason=_checked(answer.facts, asked),
        cause=answer.cause,
        promised=answer.promised,
    )


def _run_step(rung: Rung, ran: RunEvidence | None) -> LadderStep:
    if ran is not None and rung in ran.passed:
        return _RUN_STEPS[rung]
    if ran is not None and rung == ran.fails:
        return LadderStep(rung=rung, state=StepState.FAILED, reason=ran.reason, by_record=True)
    return _UNKNOWN_STEPS[rung]


def _contradictions(
    platform: Platform,
    declared: Declared,
    resolves: Answer | None,
    links: Answer | None,
    ran: RunEvidence,
) -> Iterable[Contradiction]:
    """Yield each cheap rung whose answer the run disproved."""

    def found(
        code: ContradictionCode, reason: VerdictReason | None, asked: str | None = None
    ) -> Contradiction:
        return Contradiction(code=code, day=ran.day, reason=first_line(reason), asked=asked)

    if ran.passed and not declared.fits:
        reason = _checked(declared.facts)
        yield found(ContradictionCode.RAN_WITHOUT_WHEEL, reason)
    if resolves is not None and resolves.unknown:
        resolves = None
    if resolves is not None and not resolves.ok and Rung.RESOLVES in ran.passed:
        yield found(ContradictionCode.INSTALLED, _checked(resolves.facts))
    if resolves is not None and resolves.ok and ran.fails == Rung.RESOLVES:
        yield found(ContradictionCode.NOT_INSTALLED, ran.reason, resolves.asked)
    if platform == Platform.CPU or links is None or links.unknown:
        return
    if not links.ok and Rung.IMPORTS in ran.passed:
        yield found(ContradictionCode.IMPORTED, _checked(links.facts))
    if links.ok and ran.fails == Rung.IMPORTS and "undefined symbol" in failure_key(ran.reason):
        yield found(ContradictionCode.NOT_IMPORTED, ran.reason)


def _checked(facts: tuple[AnyFact, ...], asked: str | None = None) -> Checked | None:
    """Return why a static check says so; None if it does not say why."""
    return Checked(facts=facts, asked=asked) if facts or asked else None
