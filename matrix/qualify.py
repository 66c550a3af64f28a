"""A candidate release against its baseline: what broke, was mended, drifts, or is not known.

Pure. Each cell of the baseline is held against the candidate's of the same Python, platform and
other release, case by case. A candidate qualifies by answers alone, never by their absence:

- a failure that the baseline did not have, or has with another signature or at another rung, fails;
- so does a counter that changed, unless the candidate's own expectation wants its count, and one
  that did not change where the candidate's expectation wanted it to; but what no expectation may
  name (not among COUNTERS: how often a pattern matched) is told and not judged;
- a waiver takes a failure or a drift out of the verdict, and stays to be seen;
- where the first rungs (`matrix.rungs`) say that a cell of the candidate cannot work, and the
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

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from packaging.version import Version

from matrix.cells import Cell, CellError, factors
from matrix.errors import MatrixError
from matrix.expectations import COUNTERS, Expectations
from matrix.grid import Grid
from matrix.history import enough, shifted
from matrix.ladder import Climb
from matrix.ladder import ran as rungs_of
from matrix.qualification import (
    AS_BEFORE,
    EXPECTED,
    EXPECTED_AGAIN,
    FAILING,
    FAILS_AS_BEFORE,
    FAILS_OTHERWISE,
    NEW,
    NO_RULE,
    NOT_JUDGED,
    PROJECTS,
    REGRESSION,
    REPAIR,
    UNEXPECTED,
    Drift,
    Failure,
    Flag,
    Match,
    Qualification,
    Time,
    Unknown,
)
from matrix.records import STARTS, Record, to_json
from matrix.releases import Releases, minor_of
from matrix.replies import (
    FAILED,
    NOT_APPLICABLE,
    PASSED,
    UNKNOWN,
    Reply,
    broken,
    crash,
    cut_short,
    reply,
    said,
    whole_reply,
)
from matrix.report.text import plural
from matrix.rungs import CANNOT_ASK, LOST, Asks, change, failing, grid_of, rungs
from matrix.sides import (
    Aside,
    Asked,
    Ran,
    Side,
    Told,
    Unsaid,
    fingerprint,
    hardware,
    is_asked,
    newest,
    order,
    patch,
    release,
    same_release,
    side,
    unsaid,
    versions,
)
from matrix.signatures import signature
from matrix.waivers import Finding, Place, Waiver, Waivers

__all__ = ["QualifyError", "qualify"]

_Count = tuple[str, str, "int | None"]
"""A counter of a start and its count: start, counter, count."""


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
    what started after `late` (`matrix.history.late_from`) as older than the rest. `asks` answers
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
    notes = list(_notes(asked, every, (before, after), today, held, aside.counts, late))
    first = None if asks is None else _FirstRungs.of(asked, (before, after), releases, asks)
    nameless = {(each.record.cell, each.record.platform) for each in lost if each.blocks}
    builder = _Builder(asked, waivers, today, first, nameless)
    for key, baseline in sorted(before.items(), key=lambda item: order(item[0])):
        builder.cell(baseline, after.get(key, {}))
    for key in sorted(after.keys() - before.keys(), key=order):
        ran = newest(asked, after[key])
        why = "the baseline has no record of this cell"
        if not [each for each in after[key].values() if builder.alone(each, why)]:
            notes.append(
                f"{ran.record.cell} on {ran.record.platform} has no baseline and was compared with"
                " nothing"
            )
    for each in lost:
        if each.blocks:
            builder.unsaid(each)
        else:
            notes.append(f"{each.path} {each.why}, and counts for nothing")
    cells = [each.cell for each in builder.unknown if each.rung is None]
    cells += [each.candidate.record.cell for each in builder.matches]
    notes += _other_names(asked, dict.fromkeys(cells), releases)
    builder.never_ran((before, after))
    return builder.done(tuple(notes), unread, releases)


def _check(asked: Asked, held: Iterable[tuple[str, str, str]], releases: Releases) -> None:
    name = PROJECTS[asked.project]
    published = releases.torch if asked.project == "torch" else releases.vllm
    ran = {torch if asked.project == "torch" else vllm for _, torch, vllm in held}
    known = sorted({each.version for each in published} | ran, key=Version)
    for option, wanted in ((asked.project, asked.candidate), ("baseline", asked.baseline)):
        if _named(wanted, known) is None:
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


def _named(wanted: str, known: Iterable[str]) -> str | None:
    return next((each for each in known if Version(each) == Version(wanted)), None)


def _nearest(wanted: str, known: Sequence[str]) -> list[str]:
    """The known versions next to the wanted one, and the newest that it may be the beginning of."""
    below = [each for each in known if Version(each) < Version(wanted)][-1:]
    above = [each for each in known if Version(each) > Version(wanted)][:1]
    longer = [each for each in known if each.startswith(f"{wanted}.")][-1:]
    return list(dict.fromkeys([*below, *above, *longer]))


def _notes(
    asked: Asked,
    every: Sequence[Told],
    sides: tuple[Side, Side],
    today: date,
    held: Iterable[tuple[str, str, str]],
    aside: Mapping[tuple[str, str, str, str], int],
    late: str | None,
) -> Iterator[str]:
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
        narrowed = " that was asked for" if any(_named(each, those) for each in lacking) else ""
        some = ", ".join(sorted(those, key=Version))
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


def _other_names(asked: Asked, cells: Iterable[str], releases: Releases) -> Iterator[str]:
    """The environments that run another patch than the candidate, for a name is of a minor."""
    for cell in cells:
        try:
            named = releases.resolve(cell)
        except CellError:
            continue
        means = named.torch if asked.project == "torch" else named.vllm
        if minor_of(means) != minor_of(asked.candidate):
            continue  # an environment of the baseline
        if not same_release(means, asked.candidate):
            yield (
                f"tox -e {cell} installs {PROJECTS[asked.project]} {means}, which is not the"
                f" candidate {asked.candidate}"
            )


def _oddities(
    ran: Ran, of: Sequence[tuple[Path, Record]], aside: int, today: date, late: str | None
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


@dataclass(frozen=True)
class _FirstRungs:
    """The ladder of both releases with every release of the other project."""

    asked: Asked
    grid: Grid
    baseline: str
    candidate: str

    @classmethod
    def of(
        cls,
        asked: Asked,
        sides: tuple[Side, Side],
        releases: Releases,
        asks: Asks,
    ) -> _FirstRungs | None:
        """None where one of the two is no published release, of which these rungs know nothing."""
        published = [each.version for each in getattr(releases, asked.project)]
        named = [_named(each, published) for each in (asked.baseline, asked.candidate)]
        if None in named:
            return None
        baseline, candidate = (str(each) for each in named)
        seen = {
            (Cell(each.python, each.torch, each.vllm), each.record.platform): rungs_of(
                each.record, each.entry.verdict
            )
            for side in sides
            for of in side.values()
            for each in of.values()
        }
        grid = grid_of(releases, asked.project, (baseline, candidate), asks, seen)
        return cls(asked, grid, baseline, candidate)

    def pair(self, other: str, python: str, platform: str) -> tuple[Climb, Climb] | None:
        """The climbs of the baseline and of the candidate with that release of the other one."""
        found = [
            self.grid.climb(self.cell(each, other, python), platform)
            for each in (self.baseline, self.candidate)
        ]
        before, after = found
        return None if before is None or after is None else (before, after)

    def cell(self, release: str, other: str, python: str) -> Cell:
        """The cell of a release of the project in question with one of the other."""
        torch, vllm = (release, other) if self.asked.project == "torch" else (other, release)
        return Cell(python, torch, vllm)

    def every(self) -> Mapping[tuple[str, str], list[tuple[str, Climb, Climb]]]:
        """What was asked for, by platform and release of the other project: on each Python.

        Of the other project those releases that a grid shows: the newest patches, and what ran.
        """
        shown = self.grid.rows if self.asked.other == "vllm" else self.grid.columns
        under = self.asked.under
        others = [
            each.version
            for each in shown
            if under is None or under.contains(each.version, prereleases=True)
        ]
        pythons = [each for each in self.grid.pythons if each in (self.asked.pythons or (each,))]
        return {
            (platform, other): [
                (python, *pair)
                for python in pythons
                if (pair := self.pair(other, python, platform)) is not None
            ]
            for platform in self.asked.platforms
            for other in others
        }


@dataclass
class _Builder:
    """Collects what each pair of cells shows.

    `nameless` are the cells, by name and platform, of a record that does not say what ran in them.
    """

    asked: Asked
    waivers: Waivers
    today: date
    first: _FirstRungs | None = None
    nameless: Container[tuple[str, str]] = ()
    matches: list[Match] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    times: list[Time] = field(default_factory=list)

    def done(self, notes: tuple[str, ...], unread: int, releases: Releases) -> Qualification:
        """The qualification, with the waivers that waived nothing."""
        found: list[Failure | Drift | Unknown] = [*self.failures, *self.drifts, *self.unknown]
        used = {
            waiver.id
            for each in found
            for waiver in (each.waiver, each.expired)
            if waiver is not None
        }
        places = [match.candidate.place for match in self.matches]
        of = [each for each in self.waivers.every if any(each.speaks_of(place) for place in places)]
        known = {minor_of(each.version) for each in getattr(releases, self.asked.project)}
        rest = [each for each in self.waivers.every if each not in of and each.id not in used]
        astray = tuple(each for each in rest if _is_astray(self.asked, each, known))
        return Qualification(
            asked=self.asked,
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
            rungs=() if self.first is None else rungs(self.first.every()),
        )

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
        both = sorted(before.keys() & after.keys(), key=Version)
        pair = (before[both[-1]], after[both[-1]]) if both else (baseline, candidate)
        self.match(*pair)
        for each in pair[1].beside:
            self.match(pair[0], each)
        other = PROJECTS[self.asked.other]
        for older in both[:-1]:
            for each in (after[older], *after[older].beside):
                apart = f"{other} {older}" + (f", {each.apart}" if each.apart else "")
                self.match(before[older], replace(each, apart=apart))
        name = f"{other} {max(first, second)}"
        if first > second:
            self.missing(baseline, f"never ran with {name}")
        for version in sorted(after.keys() - before.keys(), key=Version):
            if after[version] is not pair[1]:
                self.alone(after[version], f"the baseline has no record with {other} {version}")
        if second > first:
            place = self._place(candidate, self.asked.baseline)
            reason = f"the baseline never ran with {name}, and the candidate did"
            self.unknown.append(Unknown(place.cell, place.platform, None, reason, True))

    def alone(self, ran: Ran, why: str) -> bool:
        """What is wrong with a cell that only the candidate ran; whether there is anything.

        Nobody can say whether it is a regression, and it must not go by unseen. What drifts from
        the candidate's own expectation is wrong by itself.
        """
        pair = self._climbs(ran)
        asks = _names(ran, *ran.again, *ran.beside)
        if not asks and pair is not None and change(*pair) == CANNOT_ASK:
            return False
        known = len(self.unknown) + len(self.drifts)
        there = self._place(ran, self.asked.baseline).cell
        for each in (ran, *ran.beside):
            for name in sorted(_names(each, *each.again)):
                answer = reply(each, name)
                if answer.state == PASSED:
                    self._unexpected(each, name, answer)
                elif answer.state == FAILED and answer.case is not None:
                    reason = f"fails ({answer.reason}), and {why}"
                    self._add_unknown(each, name, reason, answer.signature, there)
                self._again(each, name, answer, None)
            fault = whole_reply(each)
            if fault.state == FAILED:
                reason = f"fails ({fault.reason}), and {why}"
                self._add_unknown(each, None, reason, fault.signature, there)
            if each is ran:
                self._others(each, None, _names(each, *each.again))
        return len(self.unknown) + len(self.drifts) > known

    def unsaid(self, each: Unsaid) -> None:
        """A record whose cases count for neither side."""
        cell, platform = each.record.cell, each.record.platform
        self.unknown.append(Unknown(cell, platform, None, f"{each.path} {each.why}", True))

    def _place(self, ran: Ran, version: str) -> Place:
        """The same cell with that release of the project in question."""
        releases = {"torch": ran.torch, "vllm": ran.vllm}
        releases[self.asked.project] = version
        try:
            cell = Cell(ran.python, releases["torch"], releases["vllm"]).name
        except CellError:
            cell = ran.record.cell
        return Place(cell, ran.record.platform, **releases)

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
            why = _cannot_ask(pair[1])
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
        waiver, expired = self._waived(Finding(place, "", signature=found))
        if len(pythons) > 1:
            reason += f"; so on Python {', '.join(pythons)}"
        self.failures.append(
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
            waiver, expired = self._waived(Finding(place, "", signature=found))
        self.unknown.append(
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

    def match(self, baseline: Ran, candidate: Ran) -> None:
        """Two cells, case by case; a run beside the one that decides answers none, but may fail."""
        names = sorted(_names(baseline, candidate))
        no_times = _no_times(baseline, candidate)
        compared = passed = before = 0
        beside = candidate.apart is not None
        pair = self._climbs(baseline, candidate)
        broke = not candidate.record.cases and broken(candidate) is not None
        if pair is not None and broke and change(*pair) == CANNOT_ASK:
            # The run failed, as it had to: it says no more than the wheels do.
            names, before = [], 1
            if not beside:
                self._cell_unknown(candidate.place, baseline, _cannot_ask(pair[1]), pair[1])
        for name in names or ([] if before else [""]):
            old, new = reply(baseline, name), reply(candidate, name)
            answered = {old.state, new.state} <= {PASSED, FAILED}
            compared += answered
            passed += answered and new.state == PASSED
            known = len(self.unknown)
            if not answered:
                self._unanswered(baseline, candidate, name, old, new)
            elif FAILED in (old.state, new.state):
                self._failure(candidate, name, old, new)
            else:
                self._counters(candidate, name, old, new)
                if no_times is None and not beside:
                    self._times(baseline, candidate, name)
            self._again(candidate, name, new, old)
            if (old.state, new.state) == (FAILED, FAILED):
                self._passed_before(baseline, candidate, name, new)
            before += len(self.unknown) - known
        for name in sorted(_names(*candidate.again).difference(names)):
            self._again(candidate, name, reply(candidate, name), reply(baseline, name))
        if names:
            self._whole(baseline, candidate, names)
        if not beside:
            self._others(candidate, baseline, names)
            if not before:
                self._parts(baseline, candidate)
        notes = tuple(_differs(baseline, candidate))
        if beside:
            compared = passed = 0
            no_times, notes = None, ()
        self.matches.append(Match(baseline, candidate, compared, passed, no_times, notes))

    def _whole(self, baseline: Ran, candidate: Ran, names: Sequence[str]) -> None:
        """The run as a whole, where it failed at a rung and none of its cases says so."""
        old, new = whole_reply(baseline), whole_reply(candidate)
        ran = candidate if new.state == FAILED else baseline
        untold = {case.case for case in ran.record.cases}.issuperset(names)
        if untold and FAILED in (old.state, new.state):
            self._failure(candidate, "", old, new)

    def _unanswered(self, baseline: Ran, candidate: Ran, name: str, old: Reply, new: Reply) -> None:
        beside = candidate.apart is not None
        if new.state == FAILED:
            # Nobody can say whether it is a regression, and it must not go by unseen.
            reason = f"fails ({new.reason}), and at the baseline it {said(old)}"
            there = baseline.record.cell if old.state == UNKNOWN else None
            self._add_unknown(candidate, name, reason, new.signature, there)
        elif new.state == PASSED:
            self._unexpected(candidate, name, new)
            same = fingerprint(baseline.record) == fingerprint(candidate.record)
            if old.state == UNKNOWN and not beside and (same or old.case is not None):
                reason = f"passed, and at the baseline it {said(old)}"
                self._add_unknown(candidate, name, reason, None, baseline.record.cell)
        elif beside:
            return
        elif new.state == NOT_APPLICABLE and old.state in (PASSED, FAILED):
            reason = f"{old.state} at the baseline, and now does not apply: {new.reason}"
            self._add_unknown(candidate, name, reason, new.signature)
        elif new.state == UNKNOWN and old.state in (PASSED, FAILED):
            reason = f"{old.state} at the baseline, and now {said(new)}"
            self._add_unknown(candidate, name, reason)

    def _again(self, candidate: Ran, name: str, new: Reply, old: Reply | None) -> None:
        """Other runs of the same releases, flags and tests that did worse than this one."""
        state = "has no answer" if new.state == UNKNOWN else new.state
        known = {(each.rung, each.signature) for each in (new, old) if each and each.signature}
        counts = {each for reply in (new, old) if reply for each in _differences(reply)}
        for ran in candidate.again:
            where = f"another run of the same releases, flags and tests ({ran.path})"
            other = reply(ran, name)
            if other.state == FAILED and (other.rung, other.signature) not in known:
                known.add((other.rung, other.signature))
                reason = f"{state}, and failed in {where}: {other.reason}"
                self._add_unknown(candidate, name, reason, other.signature)
            drifts = [each for each in _differences(other) if each not in counts]
            counts.update(drifts)
            self._add_counters(candidate, name, drifts, f"{state}, and drifts in {where}")

    def _add_counters(
        self, candidate: Ran, name: str, counters: Iterable[_Count], why: str
    ) -> None:
        """What counters leave unknown: once for those that are not waived, and for each waiver."""
        groups: dict[str | None, list[tuple[_Count, Waiver | None, Waiver | None]]] = {}
        for start, counter, value in counters:
            found = self._waived(Finding(candidate.place, name, None, start, counter, value))
            groups.setdefault(found[0].id if found[0] else None, []).append(
                ((start, counter, value), *found)
            )
        for of in groups.values():
            (start, counter, value), waiver, expired = of[0]
            count = "" if value is None else f" {value}"
            more = f" and {len(of) - 1} more" if len(of) > 1 else ""
            self._add_unknown(candidate, name, f"{why}: {start} {counter}{count}{more}")
            self.unknown[-1] = replace(self.unknown[-1], waiver=waiver, expired=expired)

    def _passed_before(self, baseline: Ran, candidate: Ran, name: str, new: Reply) -> None:
        """What fails on both sides, though it passed in another run of the baseline."""
        for ran in baseline.again:
            if reply(ran, name).state == PASSED:
                reason = f"fails, and passed in another run of the baseline ({ran.path})"
                self._add_unknown(candidate, name, reason, new.signature)
                return

    def _others(self, candidate: Ran, baseline: Ran | None, names: Iterable[str]) -> None:
        """Other runs of the very same that died or failed as a whole, where no case tells of it."""
        sides = [each for each in (candidate, baseline) if each is not None]
        known = {(each.rung, each.signature) for each in map(whole_reply, sides)}
        asked = set(names)
        for ran in candidate.again:
            newer = ran.record.started >= candidate.record.started
            where = f"{'a newer' if newer else 'another'} run of the same releases, flags and tests"
            fault, why = whole_reply(ran), crash(ran.record)
            told = fault.state != FAILED or not asked <= {each.case for each in ran.record.cases}
            if why is not None:
                fault, told = Reply(FAILED, why, "", signature(why) or why), False
            if not told and (fault.rung, fault.signature) not in known:
                known.add((fault.rung, fault.signature))
                verb = "failed" if why is None else "died"
                reason = f"{where} {verb} ({ran.path}): {fault.reason}"
                self._add_unknown(candidate, None, reason, fault.signature)

    def _add_unknown(
        self,
        candidate: Ran,
        case: str | None,
        reason: str,
        failure: str | None = None,
        decides: str | None = None,
    ) -> None:
        waiver = expired = None
        if failure is not None:
            waiver, expired = self._waived(Finding(candidate.place, case or "", signature=failure))
        apart = candidate.apart
        self.unknown.append(
            Unknown(
                candidate.record.cell,
                candidate.record.platform,
                case or None,
                reason if apart is None else f"with {apart} it {reason}",
                True,
                failure,
                waiver,
                expired,
                decides=decides,
            )
        )

    def _unexpected(self, ran: Ran, name: str, answer: Reply) -> None:
        """The counters that the candidate's own expectation does not want, without a baseline."""
        assert answer.verdict is not None
        for each in answer.verdict.differences:
            waiver, expired = self._waived(
                Finding(ran.place, name, None, each.start, each.counter, each.observed)
            )
            self.drifts.append(
                Drift(
                    UNEXPECTED,
                    ran.place,
                    name,
                    each.start,
                    each.counter,
                    None,
                    each.observed,
                    each.expected,
                    True,
                    waiver,
                    expired,
                    True,
                    ran.apart,
                )
            )

    def _parts(self, baseline: Ran, candidate: Ran) -> None:
        """A record that is not whole, where no case has told of it yet."""
        for name, ran in (("baseline", baseline), ("candidate", candidate)):
            record = ran.record
            if broken(ran) is not None and not ran.entry.part:
                continue
            why = f"holds {ran.entry.part}" if ran.entry.part else cut_short(record)
            if why:
                reason = f"the record of the {name} {why}"
                self.unknown.append(Unknown(record.cell, record.platform, None, reason, True))

    def _failure(self, candidate: Ran, name: str, old: Reply, new: Reply) -> None:
        if new.state == PASSED:
            self.failures.append(
                Failure(
                    REPAIR,
                    candidate.place,
                    name,
                    old.rung,
                    old.signature,
                    old.reason,
                    apart=candidate.apart,
                )
            )
            if new.verdict is not None:
                self._unexpected(candidate, name, new)
            return
        kind, before = REGRESSION, None
        if old.state == FAILED:
            same = (old.rung, old.signature) == (new.rung, new.signature)
            kind, before = FAILS_AS_BEFORE if same else FAILS_OTHERWISE, old.signature
        waiver, expired = self._waived(Finding(candidate.place, name, signature=new.signature))
        self.failures.append(
            Failure(
                kind,
                candidate.place,
                name,
                new.rung,
                new.signature,
                new.reason,
                before,
                waiver,
                expired,
                apart=candidate.apart,
            )
        )

    def _counters(self, candidate: Ran, name: str, old: Reply, new: Reply) -> None:
        assert old.case and new.case and old.verdict and new.verdict
        if candidate.apart is None:
            self.flags += [
                Flag(candidate.place, name, flag, old.flags.get(flag), new.flags.get(flag))
                for flag in sorted(old.flags.keys() | new.flags.keys())
                if old.flags.get(flag) != new.flags.get(flag)
            ]
        uncounted: list[_Count] = []
        for start in STARTS:
            first, second = old.case.started(start), new.case.started(start)
            assert first and second
            rules = [dict(each.expected.get(start, {})) for each in (old.verdict, new.verdict)]
            off = [
                {each.counter for each in verdict.differences if each.start == start}
                for verdict in (old.verdict, new.verdict)
            ]
            for counter in sorted(first.counters.keys() | second.counters.keys() | rules[1].keys()):
                before, after = _count(first.counters, counter), _count(second.counters, counter)
                wanted = [of[counter].value if counter in of else None for of in rules]
                if wanted[1] is not None and before is None and after is None:
                    uncounted.append((start, counter, None))
                    continue
                kind = _kind(before, after, wanted, [counter in of for of in off])
                if kind == NO_RULE and counter not in COUNTERS:
                    kind = NOT_JUDGED
                if kind is None:
                    continue
                waiver = expired = None
                if kind in FAILING or kind == AS_BEFORE:
                    waiver, expired = self._waived(
                        Finding(candidate.place, name, None, start, counter, after)
                    )
                self.drifts.append(
                    Drift(
                        kind,
                        candidate.place,
                        name,
                        start,
                        counter,
                        before,
                        after,
                        wanted[1],
                        any(each is not None for each in wanted),
                        waiver,
                        expired,
                        apart=candidate.apart,
                    )
                )
        why = "neither side counts what is expected of it"
        self._add_counters(candidate, name, uncounted, why)

    def _times(self, baseline: Ran, candidate: Ran, name: str) -> None:
        for start in STARTS:
            before, after = (_seconds(ran.runs, name, start) for ran in (baseline, candidate))
            if shifted(before, after):
                self.times.append(Time(candidate.place, name, start, before, after))

    def _waived(self, finding: Finding) -> tuple[Waiver | None, Waiver | None]:
        """The waiver that holds for it, or else the one that has expired."""
        waiver = self.waivers.waiving(finding, self.today)
        if waiver is not None and waiver.expired(self.today):
            return None, waiver
        return waiver, None


def _cannot_ask(candidate: Climb) -> str:
    """Why the question cannot be asked of a cell, in words that blame nobody."""
    step, cell = failing(candidate), candidate.cell
    assert step is not None
    why = step.cause or step.reason or "no reason given"
    if step.rung != "links":
        return f"cannot be asked: {why}"
    pins = candidate.steps[0].reason or f"vLLM {cell.vllm} pins another torch"
    return (
        f"cannot be asked with these wheels: {pins}, was built for that, and does not link with"
        f" {cell.torch} ({why})"
    )


def _names(*runs: Ran) -> set[str]:
    return {case.case for ran in runs for case in ran.record.cases}


def _differences(answer: Reply) -> list[_Count]:
    """What is not as its own expectation in a case that passed."""
    if answer.verdict is None or answer.state != PASSED:
        return []
    return [(each.start, each.counter, each.observed) for each in answer.verdict.differences]


def _kind(
    before: int | None, after: int | None, wanted: Sequence[int | None], off: Sequence[bool]
) -> str | None:
    """What a counter's two counts are, or None where nothing is to be told.

    `wanted` and `off`, of the baseline and the candidate: what an expectation says of it, and
    whether it is not as that says.
    """
    if off[1]:
        as_before = before == after and off[0] and wanted[0] == wanted[1]
        return AS_BEFORE if as_before else UNEXPECTED
    if before == after:
        return None
    if wanted[1] is not None:
        return EXPECTED_AGAIN if off[0] else EXPECTED
    if before is None:
        return NEW
    return NO_RULE


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


def _count(counters: Mapping[str, int], counter: str) -> int | None:
    """A count; torch, whose counters have a group before a dot, keeps none until it is raised."""
    return counters.get(counter, 0 if "." in counter else None)


def _no_times(baseline: Ran, candidate: Ran) -> str | None:
    """Why the seconds of two cells cannot be compared, or None."""
    most = max(baseline.record.jobs, candidate.record.jobs)
    if most > 1:
        return f"not comparable: up to {most} cases ran side by side"
    if hardware(baseline.record) != hardware(candidate.record):
        return "not comparable: other machine"
    before, after = len(baseline.runs), len(candidate.runs)
    if not enough([0.0] * before, [0.0] * after):
        return (
            f"not comparable: {plural(before, 'run')} of the baseline and {after} of the candidate"
            " tell no noise; three of each do"
        )
    return None


def _seconds(runs: Iterable[Record], name: str, start: str) -> tuple[float, ...]:
    """The total seconds of a start of a case in those of the runs in which it passed."""
    return tuple(
        seen.seconds["total"]
        for record in runs
        for case in record.cases
        if case.case == name and case.outcome == "passed"
        for seen in [case.started(start)]
        if seen is not None and "total" in seen.seconds
    )


def _differs(baseline: Ran, candidate: Ran) -> Iterator[str]:
    """What a reader must know of two records that should differ by one release alone."""
    if baseline.vllm != candidate.vllm and baseline.torch != candidate.torch:
        yield (
            f"no patch of vLLM {minor_of(baseline.vllm)} ran on both sides: vLLM {candidate.vllm}"
            f" is held against {baseline.vllm}"
        )
    for key, what in (("tests", "the startup tests"), ("model_source", "the models' source")):
        first, second = (ran.record.provenance.get(key) for ran in (baseline, candidate))
        if key == "tests":
            first, second = (
                of.get("fingerprint") if isinstance(of, dict) else None for of in (first, second)
            )
        if first != second:
            yield f"{what} changed between the two records"
