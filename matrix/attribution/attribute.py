"""Whose fault is it? What fails or drifts in a cell, attributed by the cell's neighbours.

Pure. One **symptom** is attributed at a time: a case that fails with a signature, or one counter of
one start that is not what it should be. What it should be is its expectation; an off-pin cell often
has none, and then it is what its vLLM counts under the torch that it pins. With `changes`, what is
as expected but counts otherwise than beside it is attributed too.

A neighbour is judged by what it observed. It **shows** the symptom if it fails at that rung with
the same signature, or counts the same value. It is **clean** if it gets past that rung, or counts
what the symptom's cell should, or what it should itself. Anything else (another failure, a third
value, not run, not applicable) says nothing of this symptom: another defect is attributed on its
own. Of several runs of one pair the newest on the same Python with the pair's own flags speaks for
it (`matrix.attribution.observations` says which these are), and a run from the future counts as
the oldest. What another Python shows is no neighbour of a line: there two things changed.

The rules, in their order; the first that answers does.

1. *Repeats.* The same cell, with the same flags and tests, both shows it and is clean: flaky, or
   the environment, where other packages or another machine tell two of the ones from two of the
   others at least; where they tell one, unknown which of the two. So too where a newer run is clean
   and nothing tells it from the older one. Where a newer one with other tests is clean: unknown.
2. *Pythons.* The same pair is clean on another Python and shows it on no other, and neither line of
   3 changes: the environment. Where one changes, the answer is that of 3, on this Python alone.
3. *Torch line*: the same vLLM under other torch. *vLLM line*: the same torch under other vLLM. A
   line *changes* if it has a clean neighbour. Where it is clean, shows it, is clean again and shows
   it again, it comes and goes, and nothing is told from it.
   - Both lines change: the pair, for neither release does it alone.
   - The torch line changes alone: torch. The vLLM line changes alone: vLLM. Where nothing is known
     of the other line, the run that could still make it the pair is named.
4. *Platform.* Neither line changes, and the same pair is clean on the other platform: the
   environment, with the platform's name.
5. Otherwise unknown, with the runs that would decide. Where only what differs in its Python and in
   something else is clean, both are said, and the runs that differ in one of them are named.

The change lies *since* the first release that shows it, where no release lies between that and the
last clean one, else *between* the two; `until` where the newer ones are clean.

Flags change their default with the releases. Where the effective flags of the cell and its clean
neighbour differ, they are named: the release changed the flag, and the flag may be all there is to
it. A run of the same pair with the neighbour's flags decides that.

Where the tests, the machine or (along torch) other packages differ from those of the clean
neighbour, and no run shows that they make no difference, they are named beside the answer, with the
older of the two as a run to have once more.

Runs that would decide are environments that can work: what was run already is left out, what the
cheap rungs speak against, and off-pin on CUDA what is not known to link.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from packaging.version import Version

from matrix._util.text import listed
from matrix._util.versions import distance, parse_version
from matrix.attribution.bisect import Outcome, bisect
from matrix.attribution.explain import (
    of_line,
    on_pythons,
    or_missing,
    pair_of,
    shown_by,
    state_words,
    subject,
    through,
    too,
    when,
)
from matrix.attribution.neighbours import (
    MACHINE,
    TESTS,
    TORCH,
    VLLM,
    FlagChange,
    Line,
    besides,
    walk,
)
from matrix.attribution.observations import (
    FAILED,
    NOTHING,
    RAN,
    WHOLE_RUN,
    Observation,
    Runs,
    alike,
    observe,
)
from matrix.attribution.symptoms import (
    CLEAN,
    DRIFTS,
    FAILS,
    SHOWS,
    SILENT,
    TELLING,
    Symptom,
    changed,
    failure,
    key_order,
    state_of,
)
from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.record.model import PLATFORMS, Record
from matrix.verdict.grid import Grid, environments, ran_cell
from matrix.verdict.judge import CellVerdict

__all__ = [
    "ANSWERS",
    "ENVIRONMENT",
    "FLAKY",
    "PAIR",
    "TORCH",
    "UNKNOWN",
    "VLLM",
    "Attribution",
    "FlagChange",
    "Judged",
    "Missing",
    "Observation",
    "attribute",
    "observe",
    "unanswered",
]

PAIR = "the pair"
ENVIRONMENT = "the environment"
FLAKY = "flaky"
UNKNOWN = "unknown"
ANSWERS = (TORCH, VLLM, PAIR, ENVIRONMENT, FLAKY, UNKNOWN)

_Point = tuple[Version, Sequence[Sequence[Observation]], Runs]
_ENOUGH = 2  # runs of each kind, before what tells them apart is more than chance


class Judged(NamedTuple):
    """A record and its verdict; it stands for `runs` of its kind (`matrix.store.fingerprint`)."""

    record: Record
    verdict: CellVerdict
    runs: int = 1


@dataclass(frozen=True)
class Missing:
    """A run that would decide: the environment's name, its platform, and what it would tell.

    `flags` are the environment variables to run it with, where it must not have its defaults.
    """

    name: str
    platform: str
    why: str
    flags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Attribution:
    """Who changed, for symptoms of one case that are told alike.

    `name` is the cell's environment. `evidence` is one sentence. `since` is the first release that
    shows it, as far as runs tell, and `after` the last clean one before it; `until` is the first
    clean one after it. `missing` are the runs that would decide or, with an answer, could still
    make it another.
    """

    cell: Cell
    name: str
    platform: str
    case: str
    symptoms: tuple[Symptom, ...]
    answer: str
    evidence: str
    after: str | None = None
    since: str | None = None
    until: str | None = None
    flags: tuple[FlagChange, ...] = ()
    beside: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()


def attribute(
    judged: Iterable[Judged | tuple[Record, CellVerdict]],
    releases: Releases,
    grid: Grid | None = None,
    *,
    names: frozenset[str] | None = None,
    platform: str | None = None,
    case: str | None = None,
    changes: bool = False,
    late: str | None = None,
) -> tuple[Attribution, ...]:
    """Attribute what fails or drifts in each cell, by platform, vLLM, torch, Python and case.

    `judged` are all records at hand, repeats too, or the newest of each kind and setting; `grid`
    tells which missing runs cannot work. `names` (of environments), `platform` and `case` ask for
    these alone; a case is named whole, or without its parameters. `changes` asks for what changed
    as expected, too. What started after `late` comes from the future
    (`matrix.store.summary.late_from`), and counts as the oldest.
    """
    known = _Known.of(judged, releases, grid, late)
    found: list[Attribution] = []
    for own in known.speaking():
        name = own.cell.name
        if names is not None and name not in names:
            continue
        if platform not in (None, own.platform) or not _is_case(own.case, case):
            continue
        found += known.explain(own, changes=changes)
    return tuple(found)


def unanswered(
    judged: Iterable[Judged | tuple[Record, CellVerdict]],
    releases: Releases,
    *,
    names: frozenset[str] | None = None,
    platform: str | None = None,
    case: str | None = None,
) -> tuple[tuple[str, str], ...]:
    """The cells, by name and platform, of which no run tells whether what is asked for fails.

    Their runs did not come to its end, or had none of these cases.
    """
    asked, answered = set(), set()
    for (where, of), pairs in _Known.of(judged, releases, None, None).at.items():
        for each in (each for every in pairs.values() for each in every):
            at = each.cell.name, where
            if platform not in (None, where) or (names is not None and at[0] not in names):
                continue
            asked.add(at)
            if of == WHOLE_RUN:
                told = each.ended == FAILED
            else:
                told = _is_case(of, case) and (each.ended != NOTHING or not each.applies)
            if told:
                answered.add(at)
    return tuple(sorted(asked - answered))


@dataclass(frozen=True)
class _Known:
    """All observations, by platform and case and then by pair."""

    at: Mapping[tuple[str, str], Mapping[tuple[str, str], Runs]]
    releases: Releases
    grid: Grid | None
    environments: Mapping[str, Cell]
    # What every symptom of every case asks again: what speaks on a line, and what could run on it.
    _lines: dict[tuple[str, ...], Sequence[_Point]] = field(default_factory=dict)
    _opened: dict[tuple[str, ...], Sequence[Cell]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        judged: Iterable[Judged | tuple[Record, CellVerdict]],
        releases: Releases,
        grid: Grid | None,
        late: str | None,
    ) -> _Known:
        names = environments(releases)
        at: dict[tuple[str, str], dict[tuple[str, str], list[Observation]]] = {}
        for record, verdict, runs in (Judged(*each) for each in judged):
            if record.error is not None and record.error.kind == "wrong_cell":
                continue
            cell = ran_cell(record) or names.get(record.cell)
            if cell is None:
                continue
            for each in observe(record, verdict, cell, late, runs):
                pairs = at.setdefault((each.platform, each.case), {})
                pairs.setdefault((cell.torch, cell.vllm), []).append(each)
        runs_at = {
            key: {pair: Runs(every) for pair, every in pairs.items()} for key, pairs in at.items()
        }
        return cls(runs_at, releases, grid, names)

    @cached_property
    def _pins(self) -> Mapping[str, str]:
        """The torch that each vLLM pins."""
        return {each.version: each.torch for each in self.releases.vllm}

    @cached_property
    def _along(self) -> Mapping[tuple[str, ...], Sequence[Runs]]:
        """The pairs of each line, by platform, case, what it goes along and the other release."""
        found: dict[tuple[str, ...], list[Runs]] = {}
        for key, pairs in self.at.items():
            for (torch, vllm), runs in pairs.items():
                found.setdefault((*key, VLLM, torch), []).append(runs)
                found.setdefault((*key, TORCH, vllm), []).append(runs)
        return found

    @cached_property
    def _environments_along(self) -> Mapping[tuple[str, ...], Sequence[tuple[str, Cell]]]:
        """The environments of each line, by Python, what it goes along and the other release."""
        found: dict[tuple[str, ...], list[tuple[str, Cell]]] = {}
        for name, cell in self.environments.items():
            found.setdefault((cell.python, VLLM, cell.torch), []).append((name, cell))
            found.setdefault((cell.python, TORCH, cell.vllm), []).append((name, cell))
        return found

    def speaking(self) -> list[Observation]:
        """Of each cell, platform and case the observation that speaks for it, in order.

        Where nobody knows which flags are a cell's own, it is one for each that may be.
        """
        found = []
        for pairs in self.at.values():
            for every in pairs.values():
                for python in every.pythons:
                    found += [_decisive(runs) for runs in every.own(python)]
        ranks = _ranks({each.cell for each in found})

        def order(own: Observation) -> tuple[object, ...]:
            cell = own.cell
            at = ranks[cell.vllm], ranks[cell.torch], ranks[cell.python]
            return PLATFORMS.index(own.platform), *at, own.case, str(sorted(own.flags.items()))

        return sorted(found, key=order)

    def explain(self, own: Observation, *, changes: bool) -> Iterator[Attribution]:
        """The attributions of one observation, those told alike as one."""
        told: dict[object, Attribution] = {}
        for symptom in self._symptoms(own, changes=changes):
            each = self._attribute(own, symptom)
            key = (
                *(each.answer, each.after, each.since, each.until, each.flags, each.beside),
                *(symptom.kind == FAILS, each.missing),
            )
            if key in told:
                first = told[key]
                more = (*first.symptoms, symptom)
                told[key] = Attribution(**{**vars(first), "symptoms": more})
            else:
                told[key] = each
        yield from told.values()

    def _symptoms(self, own: Observation, *, changes: bool) -> Iterator[Symptom]:
        if own.ended == FAILED:
            yield from failure(own)
            return
        if own.ended != RAN:
            return
        drifting = set()
        for key, wanted in sorted(own.expected.items(), key=lambda item: key_order(item[0])):
            if own.counters.get(key) != wanted:
                drifting.add(key)
                start, counter = key
                value = own.counters.get(key)
                yield Symptom(DRIFTS, start=start, counter=counter, observed=value, wanted=wanted)
        keys = [
            key
            for key in TELLING
            if key in own.counters and key not in drifting and (changes or key not in own.expected)
        ]
        reference = self._reference(own, changes=changes) if keys else None
        if reference is not None:
            yield from changed(own, reference, keys)

    def _reference(self, own: Observation, *, changes: bool) -> Observation | None:
        """What an observation without an expectation is held against.

        Off-pin that is its vLLM under the torch that it pins. On-pin, where changes are asked for,
        it is the next older vLLM under the same torch.
        """
        pairs = self.at[own.platform, own.case]
        pin = self._pins.get(own.cell.vllm)
        if pin is not None and pin != own.cell.torch:
            pinned = pairs.get((pin, own.cell.vllm))
            return None if pinned is None else pinned.nearest(own.cell.python)
        if not changes:
            return None
        older = sorted(
            (
                pair
                for pair in pairs
                if pair[0] == own.cell.torch
                and parse_version(pair[1]) < parse_version(own.cell.vllm)
            ),
            key=lambda pair: parse_version(pair[1]),
        )
        return pairs[older[-1]].nearest(own.cell.python) if older else None

    def _attribute(self, own: Observation, symptom: Symptom) -> Attribution:
        pairs = self.at[own.platform, own.case]
        same = pairs[own.cell.torch, own.cell.vllm]
        found = _repeats(own, symptom, same) or _gone(own, symptom, same)
        if found is not None:
            again = found[0] == UNKNOWN and self._can_run(own.cell.name, own.platform) == own.cell
            missing = Missing(own.cell.name, own.platform, "whether it is flaky")
            return self._answer(own, symptom, *found, [missing] if again else ())
        torch, vllm = self._line(own, symptom, TORCH), self._line(own, symptom, VLLM)
        pythons = _pythons(own, symptom, same)
        if pythons and not torch.changes and not vllm.changes:
            return self._by_python(own, symptom, pythons)
        there = f", but {on_pythons(own, symptom, pythons)}" if pythons else ""
        if torch.changes and vllm.changes:
            said = f"{of_line(own, symptom, torch)}, and {of_line(own, symptom, vllm)}{there}"
            return self._changed_by(own, symptom, PAIR, torch, said, vllm, alone=bool(pythons))
        if torch.changes or vllm.changes:
            line, other = (torch, vllm) if torch.changes else (vllm, torch)
            said = of_line(own, symptom, line)
            if len(other.shows) > 1 and not other.again:
                said += f", and {shown_by(own, other)} shows it too"
            said += there
            return self._changed_by(own, symptom, line.what, line, said, other, alone=bool(pythons))
        foreign = self._platform(own, symptom)
        if foreign is not None and foreign.cell == own.cell:
            said = (
                f"{pair_of(own.cell)} {state_words(symptom, own, clean=False)} on {own.platform}"
                f" and {state_words(symptom, foreign, clean=True)} on {foreign.platform}"
            )
            beside = besides(own, foreign, [own], [foreign], packages=True, machine=False)
            missing_runs = self._same_again(own, foreign, beside)
            said += f": the platform{too(beside)}"
            return self._answer(own, symptom, ENVIRONMENT, said, missing_runs)
        return self._unknown(own, symptom, torch, vllm, foreign)

    def _by_python(
        self, own: Observation, symptom: Symptom, clean: Sequence[Observation]
    ) -> Attribution:
        """Rule 2: the same pair is clean on other Pythons."""
        said = (
            f"{pair_of(own.cell)} {state_words(symptom, own, clean=True)} on Python"
            f" {listed([each.cell.python for each in clean])} and"
            f" {state_words(symptom, own, clean=False)} on {own.cell.python}"
        )
        # Another Python brings other packages as a matter of course.
        beside = besides(own, clean[0], [own], clean, packages=False)
        alone = "" if beside else " alone"
        said += f": the environment, Python {own.cell.python}{alone}{too(beside)}"
        missing = self._same_again(own, clean[0], beside)
        return self._answer(own, symptom, ENVIRONMENT, said, missing)

    def _line(self, own: Observation, symptom: Symptom, what: str) -> Line:
        here = parse_version(own.cell.torch if what == TORCH else own.cell.vllm)
        points = []
        for at, told, _ in self._beside(own, what):
            if at == here or not told:
                continue
            seen = told[0][0]
            state = state_of(symptom, seen)
            if len(told) > 1:
                # Nobody knows which flags are its own: it speaks where that makes no difference.
                if any(state_of(symptom, some[0]) != state for some in told):
                    state = SILENT
                alike_to = (some[0] for some in told if alike(some[0].flags, own.flags))
                seen = next(alike_to, seen)
            points.append((at, state, seen))
        near_older, before, far_older = walk(
            each[1:] for each in reversed(points) if each[0] < here
        )
        near_newer, after, far_newer = walk(each[1:] for each in points if each[0] > here)
        shows = (*reversed(near_older), own, *near_newer)
        return Line(what, before, shows, after, far_older or far_newer)

    def _beside(self, own: Observation, what: str) -> Sequence[_Point]:
        """The pairs of a line, by the release that moves along it: what speaks, and all runs."""
        moving, fixed = ("torch", "vllm") if what == TORCH else ("vllm", "torch")
        python, stays = own.cell.python, getattr(own.cell, fixed)
        key = own.platform, own.case, what, stays, python
        if key not in self._lines:
            along = self._along[own.platform, own.case, what, stays]
            found = [
                (parse_version(getattr(runs.every[0].cell, moving)), runs.own(python), runs)
                for runs in along
            ]
            self._lines[key] = sorted(found, key=lambda point: point[0])
        return self._lines[key]

    def _changed_by(
        self,
        own: Observation,
        symptom: Symptom,
        answer: str,
        line: Line,
        said: str,
        other: Line,
        *,
        alone: bool,
    ) -> Attribution:
        """The answer of a line that changes; `other` is the line across it.

        `alone` is that it does so on this Python alone.
        """
        moving = "vllm" if line.what == VLLM else "torch"
        versions = [each.version for each in getattr(self.releases, moving)]
        first, last = (getattr(each.cell, moving) for each in (line.shows[0], line.shows[-1]))
        before = None if line.before is None else getattr(line.before.cell, moving)
        after = None if line.after is None else getattr(line.after.cell, moving)
        flags = self._flags(own, symptom, line)
        moved = when(line.what, versions, before, first, last, after)
        if answer == PAIR:
            moved = f"{line.what} {moved}"
            if other.before is not None or other.after is not None:
                of = [each.version for each in self.releases.vllm]
                ends = [each.cell.vllm for each in (other.shows[0], other.shows[-1])]
                bounds = [
                    None if each is None else each.cell.vllm for each in (other.before, other.after)
                ]
                moved += f" with vLLM {when(VLLM, of, bounds[0], ends[0], ends[1], bounds[1])}"
        if alone:
            moved += f", on Python {own.cell.python} alone"
        there = line.nearest
        assert there is not None
        states: dict[str, list[Observation]] = {SHOWS: [], CLEAN: [], SILENT: []}
        for _, _, every in self._beside(own, line.what):
            for each in every:
                if each.cell.python == own.cell.python:
                    states[state_of(symptom, each)].append(each)
        beside = besides(
            own,
            there,
            states[SHOWS],
            states[CLEAN],
            # Another vLLM brings other packages as a matter of course.
            packages=line.what == TORCH,
        )
        missing = [*self._between(own, line)]
        if answer != PAIR and len(other.shows) == 1:
            missing += self._across(own, other)[:1]
        missing += self._with_flags(own, symptom, there, flags)
        missing += self._same_again(own, there, beside)
        evidence = f"{said}: {answer}, {moved}{through(flags, line)}{too(beside)}"
        return replace(
            self._answer(own, symptom, answer, evidence, missing),
            after=before,
            since=first if before is not None else None,
            until=after,
            flags=flags,
            beside=tuple(dict.fromkeys(each.cell.name for each in (*line.clean, *line.shows))),
        )

    def _flags(self, own: Observation, symptom: Symptom, line: Line) -> tuple[FlagChange, ...]:
        """The flags in which the cell and its nearest clean neighbour differ, and what they do."""
        there = line.nearest
        assert there is not None
        both = sorted(set(own.flags) & set(there.flags))
        differ = [flag for flag in both if own.flags[flag] != there.flags[flag]]
        if not differ:
            return ()
        decides = self._decides(own, symptom, there, differ)
        return tuple(
            FlagChange(flag, own.flags[flag], there.flags[flag], decides) for flag in differ
        )

    def _decides(
        self, own: Observation, symptom: Symptom, there: Observation, differ: Sequence[str]
    ) -> bool | None:
        """Whether the flags alone make it, by runs of either pair with the flags of the other.

        A run of the cell that is clean, with tests that no run showed it with, does not tell.
        """
        ran = self.at[own.platform, own.case][own.cell.torch, own.cell.vllm]
        tests = {
            each.tests
            for each in ran
            if each.cell == own.cell
            and alike(each.flags, own.flags)
            and state_of(symptom, each) == SHOWS
        }
        for home, other, alone in ((own, there, CLEAN), (there, own, SHOWS)):
            for each in self._given(home, other, differ):
                state = state_of(symptom, each)
                confounded = home is own and state == CLEAN and each.tests not in tests
                if state != SILENT and not confounded:
                    return state == alone
        return None

    def _given(
        self, home: Observation, other: Observation, differ: Iterable[str]
    ) -> Iterator[Observation]:
        """The runs of the one's cell with the other's values of these flags, newest first."""
        changed_flags = {flag: other.flags[flag] for flag in differ}
        wanted = {**home.flags, **changed_flags}
        for each in self.at[home.platform, home.case][home.cell.torch, home.cell.vllm]:
            told = each.cell == home.cell and set(changed_flags) <= set(each.flags)
            if told and alike(wanted, each.flags):
                yield each

    def _with_flags(
        self, own: Observation, symptom: Symptom, there: Observation, flags: Sequence[FlagChange]
    ) -> Iterator[Missing]:
        """The same cell with the flags of its clean neighbour, where no run tells yet.

        Where one was clean with other tests, it is the cell with its own flags, and these tests.
        """
        values = {True: "1", False: "0"}
        undecided = bool(flags) and flags[0].decides is None
        if not undecided or any(type(each.there) is not bool for each in flags):
            return
        if self._can_run(own.cell.name, own.platform) == own.cell:
            given = tuple((each.flag, values[bool(each.there)]) for each in flags)
            runs = self._given(own, there, [each.flag for each in flags])
            if any(state_of(symptom, each) == CLEAN for each in runs):
                yield Missing(own.cell.name, own.platform, "whether it is the flag or the tests")
            else:
                yield Missing(own.cell.name, own.platform, "whether it is the flag alone", given)

    def _same_again(
        self, own: Observation, there: Observation, beside: Mapping[str, Sequence[str]]
    ) -> Iterator[Missing]:
        """The older of two runs once more, where their tests or machines differ too."""
        what = [each for each in (TESTS, MACHINE) if each in beside]
        older = min(own, there, key=lambda each: each.age)
        if what and self._can_run(older.cell.name, older.platform) == older.cell:
            why = f"whether it is {' or '.join(what)}"
            yield Missing(older.cell.name, older.platform, why)

    def _platform(self, own: Observation, symptom: Symptom) -> Observation | None:
        """The same pair on another platform, where that is clean; on the same Python if it can."""
        for platform in PLATFORMS:
            runs = self.at.get((platform, own.case), {}).get((own.cell.torch, own.cell.vllm))
            if platform == own.platform or runs is None:
                continue
            seen = runs.nearest(own.cell.python)
            if seen is not None and state_of(symptom, seen) == CLEAN:
                return seen
        return None

    def _unknown(
        self,
        own: Observation,
        symptom: Symptom,
        torch: Line,
        vllm: Line,
        foreign: Observation | None,
    ) -> Attribution:
        missing: list[Missing] = []
        again = torch if torch.again else vllm if vllm.again else None
        apart = None if again is not None else self._apart_by_python(own, symptom) or foreign
        if again is not None:
            said = f"{subject(own, symptom)} comes and goes along {again.what}"
            if self._can_run(own.cell.name, own.platform) is not None:
                missing.append(Missing(own.cell.name, own.platform, "whether it is flaky"))
        elif apart is not None:
            word = _moved(own, apart)
            where = f" on {apart.platform}" if apart.platform != own.platform else ""
            bad, good = (state_words(symptom, each, clean=each is apart) for each in (own, apart))
            said = (
                f"{pair_of(own.cell)} {bad} on Python {own.cell.python}, and {pair_of(apart.cell)}"
                f" {good}{where} on {apart.cell.python}: {word} and Python both differ"
            )
            missing += self._deciding(own, apart, word)
        else:
            said = f"{pair_of(own.cell)} {state_words(symptom, own, clean=False)}"
            shown = [shown_by(own, line) for line in (torch, vllm) if len(line.shows) > 1]
            if shown:
                said += f", and {' and '.join(shown)} shows it too"
            else:
                said += ", and no neighbour that ran tells more"
        if again is None:
            first = {each.name for each in missing}
            for line in (torch, vllm):
                missing += [each for each in self._across(own, line)[:1] if each.name not in first]
        if not missing:
            missing += self._elsewhere(own)
        return self._answer(own, symptom, UNKNOWN, f"{said}: unknown", missing)

    def _apart_by_python(self, own: Observation, symptom: Symptom) -> Observation | None:
        """The nearest clean neighbour of another Python, where that is not all that differs."""
        near: list[tuple[tuple[tuple[int, ...], bool, tuple[Version, ...]], Observation]] = []
        here = own.cell
        for (torch, vllm), every in self.at[own.platform, own.case].items():
            if (torch == here.torch) == (vllm == here.vllm):
                continue
            steps = distance(torch, here.torch), distance(vllm, here.vllm)
            apart = tuple(map(sum, zip(*steps, strict=True)))
            for python in every.pythons:
                seen = every.speaks(python) if python != here.python else None
                if seen is not None and state_of(symptom, seen) == CLEAN:
                    order = (
                        apart,
                        vllm != here.vllm,
                        tuple(map(parse_version, (python, torch, vllm))),
                    )
                    near.append((order, seen))
        return min(near, key=lambda each: each[0])[1] if near else None

    def _deciding(self, own: Observation, there: Observation, word: str) -> Iterator[Missing]:
        """The two runs between a cell and one that differs in its Python and in something else."""
        python = own.cell.python
        beside = Cell(python, there.cell.torch, there.cell.vllm)
        home = Cell(there.cell.python, own.cell.torch, own.cell.vllm)
        for cell, platform, why in (
            (beside, there.platform, f"whether it is {word}"),
            (home, own.platform, f"whether it is Python {python}"),
        ):
            can = self._can_run(cell.name, platform) == cell
            if can and not self._ran(cell, platform, own.case):
                yield Missing(cell.name, platform, why)

    def _answer(
        self,
        own: Observation,
        symptom: Symptom,
        answer: str,
        said: str,
        missing: Iterable[Missing] = (),
    ) -> Attribution:
        return Attribution(
            own.cell,
            own.cell.name,
            own.platform,
            own.case,
            (symptom,),
            answer,
            said,
            missing=tuple(missing),
        )

    def _across(self, own: Observation, line: Line) -> list[Missing]:
        """The runs along a line that could be clean, the likeliest to tell first.

        Along torch that is the pin; then the nearest older release, then the nearest newer one.
        """
        moving = "torch" if line.what == TORCH else "vllm"
        here = getattr(own.cell, moving)
        cells = self._open(own, line.what)

        def rank(cell: Cell) -> tuple[bool, bool, tuple[int, int, int]]:
            there = getattr(cell, moving)
            pinned = moving == "torch" and not self._off_pin(cell)
            return not pinned, parse_version(there) > parse_version(here), distance(there, here)

        why = "whether it is torch" if moving == "torch" else "whether it is vLLM"
        return [Missing(cell.name, own.platform, why) for cell in sorted(cells, key=rank)]

    def _between(self, own: Observation, line: Line) -> Iterator[Missing]:
        """The run that halves what lies between the last clean release and the first that shows."""
        if line.before is None:
            return
        moving = "torch" if line.what == TORCH else "vllm"
        cells = {getattr(cell, moving): cell for cell in self._open(own, line.what)}
        low, high = (getattr(each.cell, moving) for each in (line.before, line.shows[0]))
        inner = [
            each for each in cells if parse_version(low) < parse_version(each) < parse_version(high)
        ]
        order = [low, *sorted(inner, key=parse_version), high]
        found = bisect(order, {low: Outcome.GOOD, high: Outcome.BAD})
        if found.next is not None:
            yield Missing(cells[found.next].name, own.platform, f"since which {line.what}")

    def _open(self, own: Observation, what: str) -> list[Cell]:
        """The environments of a line, on this Python, that nobody ran and that can work."""
        fixed, moving = ("vllm", "torch") if what == TORCH else ("torch", "vllm")
        along = own.cell.python, what, getattr(own.cell, fixed)
        key = own.platform, own.case, *along
        if key not in self._opened:
            self._opened[key] = [
                cell
                for name, cell in self._environments_along.get(along, ())
                if not self._ran(cell, own.platform, own.case)
                and self._can_run(name, own.platform) is not None
            ]
        here = getattr(own.cell, moving)
        return [cell for cell in self._opened[key] if getattr(cell, moving) != here]

    def _ran(self, cell: Cell, platform: str, case: str) -> bool:
        """Whether a cell ran a case, so that one more run with nothing given tells nothing new."""
        pair = cell.torch, cell.vllm
        of = self.at.get((platform, case), {}).get(pair)
        if of is not None and cell.python in of.pythons:
            # Of two sets of flags one more run tells which are its own.
            return len(of.own(cell.python)) < 2
        # A run that did not import says nothing of a case, and would do no more again.
        whole = self.at.get((platform, WHOLE_RUN), {}).get(pair)
        return whole is not None and any(
            each.ended == FAILED for each in whole if each.cell == cell
        )

    def _elsewhere(self, own: Observation) -> Iterator[Missing]:
        """The same pair on the other platform, where nothing on its own can decide."""
        for platform in PLATFORMS:
            if platform == own.platform or self._ran(own.cell, platform, own.case):
                continue
            if self._can_run(own.cell.name, platform) is not None:
                yield Missing(own.cell.name, platform, f"whether it is {own.platform} alone")

    def _can_run(self, name: str, platform: str) -> Cell | None:
        """The cell of an environment, or None where the cheap rungs speak against it.

        Off-pin, where vLLM's extensions are loaded, an environment of which nobody knows whether it
        links is left out too: most do not.
        """
        cell = self.environments.get(name)
        progress = None if cell is None or self.grid is None else self.grid.progress(cell, platform)
        if progress is None:
            return cell
        doubtful = progress.off_pin and "links" in progress.unknown
        return None if progress.ruled_out or doubtful else cell

    def _off_pin(self, cell: Cell) -> bool:
        return self._pins.get(cell.vllm) != cell.torch


def _decisive(runs: Sequence[Observation]) -> Observation:
    """Of the runs of one cell with the same flags, newest first, the one to attribute.

    The newest whole one, or a newer one that found as bad. Where that is well, but an older run
    that nothing tells from it was not, it is the older one: the cell is flaky.
    """
    shown = next((each for each in runs if each.whole), runs[0])
    newest = next((each for each in runs if each.faulty), None)
    if shown.faulty or newest is None:
        return newest if newest is not None and newest.age > shown.age else shown
    same = (
        each
        for each in runs
        if each.faulty
        and (each.age > shown.age or (each.tests, each.setting) == (shown.tests, shown.setting))
    )
    return next(same, shown)


def _repeats(own: Observation, symptom: Symptom, same: Runs) -> tuple[str, str] | None:
    """Rule 1: runs of the very same cell that disagree."""
    runs = [
        each
        for each in same
        if each.cell == own.cell and alike(each.flags, own.flags) and each.tests == own.tests
    ]
    shows = [each for each in runs if state_of(symptom, each) == SHOWS]
    clean = [each for each in runs if state_of(symptom, each) == CLEAN]
    if not shows or not clean:
        return None
    some = [sum(each.runs for each in of) for of in (shows, clean)]
    count = f"{some[0]} of {sum(some)} runs of the same cell"
    said = f"{pair_of(own.cell)} {state_words(symptom, own, clean=False)} in {count}"
    apart = _apart(shows, clean)
    if not apart:
        return FLAKY, f"{said}, and nothing tells them apart: flaky"
    said += f", and in these {listed(apart[:3])}"
    # Two single runs differ in something, whatever it is that made the difference.
    if min(some) < _ENOUGH:
        return UNKNOWN, f"{said}: it may be flaky, or the environment: unknown"
    return ENVIRONMENT, f"{said}: the environment"


def _gone(own: Observation, symptom: Symptom, same: Runs) -> tuple[str, str] | None:
    """Rule 1 too: a newer run of the same cell, with other tests, is clean."""
    states = {
        state_of(symptom, each)
        for each in same
        if each.cell == own.cell
        and alike(each.flags, own.flags)
        and each.tests != own.tests
        and each.age > own.age
    }
    if CLEAN not in states or SHOWS in states:
        return None
    said = (
        f"{pair_of(own.cell)} {state_words(symptom, own, clean=False)}, and"
        f" {state_words(symptom, own, clean=True)} in a newer run with other tests: it may be the"
        " tests, or flaky"
    )
    return UNKNOWN, f"{said}: unknown"


def _apart(shows: Sequence[Observation], clean: Sequence[Observation]) -> list[str]:
    """What is one thing in all that show it and another in all that are clean."""
    found = []
    for key in sorted({key for each in (*shows, *clean) for key in each.setting}):
        here, there = ({each.setting.get(key) for each in some} for some in (shows, clean))
        if len(here) == 1 and not here & there:
            found.append(f"{key} is {or_missing(here)} and not {listed(sorted(map(str, there)))}")
    return found


def _pythons(own: Observation, symptom: Symptom, same: Runs) -> tuple[Observation, ...]:
    """Rule 2: the same pair on other Pythons, where it is clean there and on none shows it."""
    clean = []
    for python in same.pythons:
        seen = same.speaks(python) if python != own.cell.python else None
        if seen is None or not alike(seen.flags, own.flags):
            continue
        state = state_of(symptom, seen)
        if state == SHOWS:
            return ()
        clean += [seen] if state == CLEAN else []
    return tuple(clean)


def _moved(own: Observation, there: Observation) -> str:
    """What differs beside the Python."""
    if there.platform != own.platform:
        return "the platform"
    return TORCH if there.cell.torch != own.cell.torch else VLLM


def _is_case(name: str, asked: str | None) -> bool:
    return asked is None or name == asked or name.partition("[")[0] == asked


def _ranks(cells: Iterable[Cell]) -> dict[str, int]:
    """What sorts the versions of these cells: to compare versions themselves takes longer."""
    texts = {text for cell in cells for text in (cell.python, cell.torch, cell.vllm)}
    order = {each: at for at, each in enumerate(sorted(set(map(parse_version, texts))))}
    return {text: order[parse_version(text)] for text in texts}
