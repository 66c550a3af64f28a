"""Whose fault is it? What fails or drifts in a cell, attributed by the cell's neighbours.

Pure. One **symptom** is attributed at a time: a case that fails with a signature, or one counter of
one start that is not what it should be. What it should be is its expectation; an off-pin cell often
has none, and then it is what its vLLM counts under the torch that it pins. With `changes`, what is
as expected but counts otherwise than beside it is attributed too.

A neighbour is judged by what it observed. It **shows** the symptom if it fails at that rung with
the same signature, or counts the same value. It is **clean** if it gets past that rung, or counts
what the symptom's cell should, or what it should itself. Anything else (another failure, a third
value, not run, not applicable) says nothing of this symptom: another defect is attributed on its
own. Of several runs of one pair the newest whole one on the same Python speaks for it.

The rules, in their order; the first that answers does.

1. *Repeats.* The same cell, with the same flags and tests, both shows it and is clean: the
   environment, where other packages or another machine tell the ones from the others, else flaky.
2. *Pythons.* The same pair is clean on another Python and shows it on no other: the environment.
3. *Torch line*: the same vLLM under other torch. *vLLM line*: the same torch under other vLLM. A
   line *changes* if it has a clean neighbour. Where it is clean, shows it, is clean again and shows
   it again, it comes and goes, and nothing is told from it.
   - Both lines change: the pair, for neither release does it alone.
   - The torch line changes alone: torch. The vLLM line changes alone: vLLM. Where nothing is known
     of the other line, the run that could still make it the pair is named.
4. *Platform.* Neither line changes, and the same pair is clean on the other platform: the
   environment, with the platform's name.
5. Otherwise unknown, with the runs that would decide.

The change lies *since* the first release that shows it, where no release lies between that and the
last clean one, else *between* the two; `until` where the newer ones are clean.

Flags change their default with the releases. Where the effective flags of the cell and its clean
neighbour differ, they are named: the release changed the flag, and the flag may be all there is to
it. A run of the same pair with the neighbour's flags decides that.

Runs that would decide are environments that can work: what was run already is left out, what the
cheap rungs speak against, and off-pin on CUDA what is not known to link.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.version import Version

from matrix.bisection import BAD, GOOD, bisect
from matrix.calibrate import DEFAULT_COUNTERS
from matrix.cells import Cell
from matrix.grid import Grid, environments, ran_cell
from matrix.records import PLATFORMS, RUNGS, STARTS, Case, Record
from matrix.releases import Releases, minor_of
from matrix.signatures import signature_of
from matrix.verdicts import BROKEN_PAIR, DRIFT, INCOMPATIBLE, CaseVerdict, CellVerdict

__all__ = [
    "ANSWERS",
    "CHANGED",
    "CLEAN",
    "ENVIRONMENT",
    "FAILED",
    "FAILS",
    "FLAKY",
    "NOTHING",
    "PAIR",
    "RAN",
    "SHOWS",
    "SILENT",
    "TORCH",
    "UNKNOWN",
    "VLLM",
    "Attribution",
    "FlagChange",
    "Missing",
    "Observation",
    "Symptom",
    "attribute",
    "observe",
    "speaks",
    "state_of",
    "symptoms_between",
]

TORCH = "torch"
VLLM = "vLLM"
PAIR = "the pair"
ENVIRONMENT = "the environment"
FLAKY = "flaky"
UNKNOWN = "unknown"
ANSWERS = (TORCH, VLLM, PAIR, ENVIRONMENT, FLAKY, UNKNOWN)

SHOWS = "shows"
CLEAN = "clean"
SILENT = "silent"
"""What a neighbour says of a symptom."""

FAILS = "fails"
DRIFTS = "drifts"
CHANGED = "changed"
"""The kinds of symptom. `changed`: nothing says that it is wrong, but it is not as beside it."""

WHOLE_RUN = ""
"""The case that stands for the run itself: what resolves or imports, or does not."""

RAN = "ran"
FAILED = "failed"
NOTHING = "nothing"
"""How an observation ended: both starts ran, it failed at a rung, or it says nothing."""

_FAMILY = ("torch", "torchvision", "torchaudio", "triton", "vllm", "nvidia-")
_OWN = ("torch-vllm-matrix", "matrix-dev", "pip", "setuptools", "wheel", "uv")
_DOES = {
    "resolves": ("resolves", "does not resolve"),
    "imports": ("is imported", "is not imported"),
    "starts cold": ("starts cold", "fails to start cold"),
    "starts warm": ("starts warm", "fails to start warm"),
}
_Key = tuple[str, str]


@dataclass(frozen=True)
class Observation:
    """What one run of one case of a cell on a platform came to, as far as it compares.

    `counters` and `expected` are by start and counter. `setting` is the machine and the packages
    beside torch's family, `whole` whether the run had every case.
    """

    cell: Cell
    platform: str
    case: str
    started: str
    ended: str
    rung: str | None = None
    signature: str | None = None
    reason: str | None = None
    counters: Mapping[_Key, int] = field(default_factory=dict)
    expected: Mapping[_Key, int] = field(default_factory=dict)
    flags: Mapping[str, object] = field(default_factory=dict)
    setting: Mapping[str, str] = field(default_factory=dict)
    tests: str | None = None
    whole: bool = True
    faulty: bool = False


@dataclass(frozen=True)
class Symptom:
    """One thing to attribute: a failure at a rung by its signature, or one counter of one start."""

    kind: str
    rung: str | None = None
    signature: str | None = None
    reason: str | None = None
    start: str | None = None
    counter: str | None = None
    observed: int | None = None
    wanted: int | None = None

    @property
    def key(self) -> _Key:
        """The start and the counter."""
        return str(self.start), str(self.counter)

    @property
    def told(self) -> str:
        """The symptom in a few words."""
        if self.kind == FAILS:
            said = self.reason or self.signature or "without a reason"
            return f"{_DOES[str(self.rung)][1]}: {said}"
        known = "not counted" if self.observed is None else str(self.observed)
        return f"{self.start} {self.counter} {known}, not {self.wanted}"


@dataclass(frozen=True)
class FlagChange:
    """A flag that is `here` in the cell and `there` in its clean neighbour.

    `decides`: True where runs show that the flag alone makes the difference, False where they show
    that it does not, None where no run tells.
    """

    flag: str
    here: object
    there: object
    decides: bool | None = None


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
    judged: Iterable[tuple[Record, CellVerdict]],
    releases: Releases,
    grid: Grid | None = None,
    *,
    names: frozenset[str] | None = None,
    platform: str | None = None,
    case: str | None = None,
    changes: bool = False,
) -> tuple[Attribution, ...]:
    """Attribute what fails or drifts in each cell, by platform, vLLM, torch, Python and case.

    `judged` are all records at hand, repeats too; `grid` tells which missing runs cannot work.
    `names` (of environments), `platform` and `case` ask for these alone; a case is named whole, or
    without its parameters. `changes` asks for what changed as expected, too.
    """
    known = _Known.of(judged, releases, grid)
    found: list[Attribution] = []
    for own in known.newest():
        name = own.cell.name
        if names is not None and name not in names:
            continue
        if platform not in (None, own.platform) or not _is_case(own.case, case):
            continue
        found += known.explain(own, changes=changes)
    return tuple(found)


def observe(record: Record, verdict: CellVerdict, cell: Cell) -> tuple[Observation, ...]:
    """What a judged record shows of each case, and of the run as a whole."""
    told = _setting(record)
    tests = record.provenance.get("tests")
    tests_of = tests.get("fingerprint") if isinstance(tests, Mapping) else None
    whole = record.finished and record.error is None and not record.deselected

    def one(case: str, ended: str, **more: object) -> Observation:
        return Observation(
            cell,
            record.platform,
            case,
            record.started,
            ended,
            setting=told,
            tests=tests_of if isinstance(tests_of, str) else None,
            whole=whole,
            **more,  # type: ignore[arg-type]
        )

    found = [_run_of(record, verdict, one)]
    for seen, judged in zip(record.cases, verdict.cases, strict=True):
        flags = {**record.flags, **seen.flags}
        if judged.verdict == INCOMPATIBLE:
            text = signature_of(seen) or seen.reason
            found.append(
                one(
                    seen.case,
                    FAILED,
                    rung=judged.rung,
                    signature=text,
                    reason=judged.reason,
                    flags=flags,
                    counters=_counters(seen),
                    faulty=True,
                )
            )
        elif seen.outcome == "passed" and all(map(seen.started, STARTS)):
            found.append(
                one(
                    seen.case,
                    RAN,
                    counters=_counters(seen),
                    expected=_expected(judged),
                    flags=flags,
                    faulty=judged.verdict == DRIFT,
                )
            )
        else:
            found.append(one(seen.case, NOTHING, flags=flags))
    return tuple(found)


def state_of(symptom: Symptom, seen: Observation) -> str:
    """Whether an observation shows the symptom, is clean of it, or says nothing of it."""
    if seen.ended == NOTHING:
        return SILENT
    if symptom.kind == FAILS:
        if seen.ended == RAN:
            return CLEAN
        if seen.rung == symptom.rung:
            return SHOWS if seen.signature == symptom.signature else SILENT
        return CLEAN if _height(seen.rung) > _height(symptom.rung) else SILENT
    if seen.ended != RAN:
        return SILENT
    value = seen.counters.get(symptom.key)
    if value == symptom.observed:
        return SHOWS
    expected = seen.expected.get(symptom.key)
    as_it_should = expected is not None and value == expected and symptom.kind == DRIFTS
    return CLEAN if value == symptom.wanted or as_it_should else SILENT


def symptoms_between(bad: Observation, good: Observation) -> tuple[Symptom, ...]:
    """What the one shows and the other does not: a failure, or the counters that differ."""
    if bad.ended == FAILED:
        return _failure(bad)
    if bad.ended != RAN or good.ended != RAN:
        return ()
    return tuple(_changed(bad, good, bad.counters))


def _failure(own: Observation) -> tuple[Symptom, ...]:
    if own.rung not in _DOES:
        return ()
    return (Symptom(FAILS, rung=own.rung, signature=own.signature, reason=own.reason),)


def _changed(bad: Observation, good: Observation, keys: Iterable[_Key]) -> Iterator[Symptom]:
    for start, counter in sorted(keys, key=_key_order):
        if counter not in DEFAULT_COUNTERS:
            continue
        one, other = bad.counters.get((start, counter)), good.counters.get((start, counter))
        if one is not None and other is not None and one != other:
            yield Symptom(CHANGED, start=start, counter=counter, observed=one, wanted=other)


@dataclass(frozen=True)
class _Line:
    """One line of neighbours, along torch or vLLM, around a cell.

    `shows` are the neighbours around the cell that show the symptom with nothing clean between;
    `before` and `after` the clean ones that bound them. `again` is set where it shows beyond those.
    """

    what: str
    before: Observation | None
    shows: tuple[Observation, ...]
    after: Observation | None
    again: bool

    @property
    def changes(self) -> bool:
        return (self.before is not None or self.after is not None) and not self.again

    @property
    def clean(self) -> tuple[Observation, ...]:
        return tuple(each for each in (self.before, self.after) if each is not None)

    @property
    def nearest(self) -> Observation | None:
        """The clean neighbour to hold the cell against: the older one where there is one."""
        return self.before if self.before is not None else self.after


@dataclass(frozen=True)
class _Known:
    """All observations, by platform and case and then by pair, newest first."""

    at: Mapping[tuple[str, str], Mapping[tuple[str, str], Sequence[Observation]]]
    releases: Releases
    grid: Grid | None
    environments: Mapping[str, Cell]

    @classmethod
    def of(
        cls,
        judged: Iterable[tuple[Record, CellVerdict]],
        releases: Releases,
        grid: Grid | None,
    ) -> _Known:
        names = environments(releases)
        at: dict[tuple[str, str], dict[tuple[str, str], list[Observation]]] = {}
        for record, verdict in judged:
            if record.error is not None and record.error.kind == "wrong_cell":
                continue
            cell = ran_cell(record) or names.get(record.cell)
            if cell is None:
                continue
            for each in observe(record, verdict, cell):
                pairs = at.setdefault((each.platform, each.case), {})
                pairs.setdefault((cell.torch, cell.vllm), []).append(each)
        for pairs in at.values():
            for every in pairs.values():
                every.sort(key=lambda each: (each.whole, each.started), reverse=True)
        return cls(at, releases, grid, names)

    def newest(self) -> list[Observation]:
        """Of each cell, platform and case the observation that speaks for it, in order."""
        found: dict[tuple[str, str, Cell], Observation] = {}
        for (platform, case), pairs in self.at.items():
            for every in pairs.values():
                for each in every:
                    key = platform, case, each.cell
                    # A run of some cases, or with flags of its own, hides no whole one, unless
                    # what the former found is as bad.
                    first = found.setdefault(key, each)
                    alike = each.flags == first.flags
                    if each.faulty and alike and each.started > first.started:
                        found[key] = each
        return sorted(found.values(), key=_order)

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
            yield from _failure(own)
            return
        if own.ended != RAN:
            return
        drifting = set()
        for key, wanted in sorted(own.expected.items(), key=lambda item: _key_order(item[0])):
            if own.counters.get(key) != wanted:
                drifting.add(key)
                start, counter = key
                value = own.counters.get(key)
                yield Symptom(DRIFTS, start=start, counter=counter, observed=value, wanted=wanted)
        reference = self._reference(own, changes=changes)
        if reference is not None:
            keys = [
                key
                for key in own.counters
                if key not in drifting and (changes or key not in own.expected)
            ]
            yield from _changed(own, reference, keys)

    def _reference(self, own: Observation, *, changes: bool) -> Observation | None:
        """What an observation without an expectation is held against.

        Off-pin that is its vLLM under the torch that it pins. On-pin, where changes are asked for,
        it is the next older vLLM under the same torch.
        """
        pairs = self.at[own.platform, own.case]
        pin = next(
            (each.torch for each in self.releases.vllm if each.version == own.cell.vllm), None
        )
        if pin is not None and pin != own.cell.torch:
            return speaks(pairs.get((pin, own.cell.vllm), ()), own.cell.python)
        if not changes:
            return None
        older = sorted(
            (
                pair
                for pair in pairs
                if pair[0] == own.cell.torch and Version(pair[1]) < Version(own.cell.vllm)
            ),
            key=lambda pair: Version(pair[1]),
        )
        return speaks(pairs[older[-1]], own.cell.python) if older else None

    def _attribute(self, own: Observation, symptom: Symptom) -> Attribution:
        pairs = self.at[own.platform, own.case]
        same = pairs[own.cell.torch, own.cell.vllm]
        found = _repeats(own, symptom, same) or _pythons(own, symptom, same)
        if found is not None:
            return self._answer(own, symptom, *found)
        torch, vllm = self._line(own, symptom, TORCH), self._line(own, symptom, VLLM)
        if torch.changes and vllm.changes:
            said = f"{_of_line(own, symptom, torch)}, and {_of_line(own, symptom, vllm)}"
            return self._changed_by(own, symptom, PAIR, torch, said, vllm)
        if torch.changes or vllm.changes:
            line, other = (torch, vllm) if torch.changes else (vllm, torch)
            said = _of_line(own, symptom, line)
            if len(other.shows) > 1 and not other.again:
                said += f", and {_shown_by(own, other)} shows it too"
            return self._changed_by(own, symptom, line.what, line, said, other)
        foreign = self._platform(own, symptom)
        if foreign is not None:
            said = (
                f"{_pair(own.cell)} {_state_words(symptom, own, clean=False)} on {own.platform} and"
                f" {_state_words(symptom, foreign, clean=True)} on {foreign.platform}"
            )
            return self._answer(own, symptom, ENVIRONMENT, f"{said}: the platform")
        return self._unknown(own, symptom, torch, vllm)

    def _line(self, own: Observation, symptom: Symptom, what: str) -> _Line:
        moving, fixed = ("torch", "vllm") if what == TORCH else ("vllm", "torch")
        points: dict[Version, tuple[str, Observation]] = {}
        for every in self.at[own.platform, own.case].values():
            cell = every[0].cell
            if getattr(cell, fixed) != getattr(own.cell, fixed) or cell == own.cell:
                continue
            seen = speaks(every, own.cell.python)
            if seen is not None and seen.cell != own.cell:
                points[Version(getattr(cell, moving))] = state_of(symptom, seen), seen
        here = Version(getattr(own.cell, moving))
        points[here] = SHOWS, own
        older = [points[at] for at in sorted(points, reverse=True) if at < here]
        newer = [points[at] for at in sorted(points) if at > here]
        near_older, before, far_older = _walk(older)
        near_newer, after, far_newer = _walk(newer)
        shows = (*reversed(near_older), own, *near_newer)
        return _Line(what, before, shows, after, far_older or far_newer)

    def _changed_by(
        self,
        own: Observation,
        symptom: Symptom,
        answer: str,
        line: _Line,
        said: str,
        other: _Line,
    ) -> Attribution:
        """The answer of a line that changes; `other` is the line across it."""
        moving = "vllm" if line.what == VLLM else "torch"
        versions = [each.version for each in getattr(self.releases, moving)]
        first, last = (getattr(each.cell, moving) for each in (line.shows[0], line.shows[-1]))
        before = None if line.before is None else getattr(line.before.cell, moving)
        after = None if line.after is None else getattr(line.after.cell, moving)
        flags = self._flags(own, symptom, line)
        when = _when(line.what, versions, before, first, last, after)
        if answer == PAIR:
            when = f"{line.what} {when}"
            if other.before is not None or other.after is not None:
                of = [each.version for each in self.releases.vllm]
                ends = [each.cell.vllm for each in (other.shows[0], other.shows[-1])]
                bounds = [
                    None if each is None else each.cell.vllm for each in (other.before, other.after)
                ]
                when += f" with vLLM {_when(VLLM, of, bounds[0], ends[0], ends[1], bounds[1])}"
        missing = [*self._between(own, line)]
        if answer != PAIR and len(other.shows) == 1:
            missing += self._across(own, other)[:1]
        missing += self._with_flags(own, flags)
        return Attribution(
            own.cell,
            own.cell.name,
            own.platform,
            own.case,
            (symptom,),
            answer,
            f"{said}: {answer}, {when}{_through(flags, line)}{_also(own, line)}",
            after=before,
            since=first if before is not None else None,
            until=after,
            flags=flags,
            beside=tuple(dict.fromkeys(each.cell.name for each in (*line.clean, *line.shows))),
            missing=tuple(missing),
        )

    def _flags(self, own: Observation, symptom: Symptom, line: _Line) -> tuple[FlagChange, ...]:
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
        """Whether the flags alone make it, by runs of either pair with the flags of the other."""
        pairs = self.at[own.platform, own.case]
        for home, other, alone in ((own, there, CLEAN), (there, own, SHOWS)):
            for each in pairs[home.cell.torch, home.cell.vllm]:
                if all(each.flags.get(flag) == other.flags[flag] for flag in differ):
                    state = state_of(symptom, each)
                    if state != SILENT:
                        return state == alone
        return None

    def _with_flags(self, own: Observation, flags: Sequence[FlagChange]) -> Iterator[Missing]:
        """The same cell with the flags of its clean neighbour, where no run tells yet."""
        values = {True: "1", False: "0"}
        undecided = bool(flags) and flags[0].decides is None
        if not undecided or any(type(each.there) is not bool for each in flags):
            return
        if self._can_run(own.cell.name, own.platform) == own.cell:
            given = tuple((each.flag, values[bool(each.there)]) for each in flags)
            yield Missing(own.cell.name, own.platform, "whether it is the flag alone", given)

    def _platform(self, own: Observation, symptom: Symptom) -> Observation | None:
        """The same pair on another platform, where that is clean; as it should be counts there."""
        for platform in PLATFORMS:
            pairs = self.at.get((platform, own.case), {})
            every = pairs.get((own.cell.torch, own.cell.vllm), ())
            seen = speaks(every, own.cell.python) if platform != own.platform else None
            if seen is not None and state_of(symptom, seen) == CLEAN:
                return seen
        return None

    def _unknown(
        self, own: Observation, symptom: Symptom, torch: _Line, vllm: _Line
    ) -> Attribution:
        missing: list[Missing] = []
        if torch.again or vllm.again:
            line = torch if torch.again else vllm
            said = f"{_subject(own, symptom)} comes and goes along {line.what}"
            again = self._can_run(own.cell.name, own.platform)
            if again is not None:
                missing.append(Missing(own.cell.name, own.platform, "whether it is flaky"))
        else:
            said = f"{_pair(own.cell)} {_state_words(symptom, own, clean=False)}"
            shown = [_shown_by(own, line) for line in (torch, vllm) if len(line.shows) > 1]
            if shown:
                said += f", and {' and '.join(shown)} shows it too"
            else:
                said += ", and no neighbour that ran tells more"
            missing += [*self._across(own, torch)[:1], *self._across(own, vllm)[:1]]
            if not missing:
                missing += self._elsewhere(own)
        return self._answer(own, symptom, UNKNOWN, f"{said}: unknown", missing)

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

    def _across(self, own: Observation, line: _Line) -> list[Missing]:
        """The runs along a line that could be clean, the likeliest to tell first.

        Along torch that is the pin; then the nearest older release, then the nearest newer one.
        """
        moving = "torch" if line.what == TORCH else "vllm"
        here = Version(getattr(own.cell, moving))
        cells = self._open(own, line.what)

        def rank(cell: Cell) -> tuple[bool, bool, int]:
            at = Version(getattr(cell, moving))
            pinned = moving == "torch" and not self._off_pin(cell)
            return not pinned, at > here, _distance(at, here)

        why = "whether it is torch" if moving == "torch" else "whether it is vLLM"
        return [Missing(cell.name, own.platform, why) for cell in sorted(cells, key=rank)]

    def _between(self, own: Observation, line: _Line) -> Iterator[Missing]:
        """The run that halves what lies between the last clean release and the first that shows."""
        if line.before is None:
            return
        moving = "torch" if line.what == TORCH else "vllm"
        cells = {getattr(cell, moving): cell for cell in self._open(own, line.what)}
        low, high = (getattr(each.cell, moving) for each in (line.before, line.shows[0]))
        inner = [each for each in cells if Version(low) < Version(each) < Version(high)]
        order = [low, *sorted(inner, key=Version), high]
        found = bisect(order, {low: GOOD, high: BAD})
        if found.next is not None:
            yield Missing(cells[found.next].name, own.platform, f"since which {line.what}")

    def _open(self, own: Observation, what: str) -> list[Cell]:
        """The environments of a line, on this Python, that nobody ran and that can work."""
        fixed, moving = ("vllm", "torch") if what == TORCH else ("torch", "vllm")
        # A run that did not import says nothing of a case, and would do no more again.
        pairs = {
            pair
            for case in (own.case, WHOLE_RUN)
            for pair, every in self.at.get((own.platform, case), {}).items()
            if case == own.case or any(each.ended == FAILED for each in every)
        }
        return [
            cell
            for name, cell in self.environments.items()
            if cell.python == own.cell.python
            and getattr(cell, fixed) == getattr(own.cell, fixed)
            and getattr(cell, moving) != getattr(own.cell, moving)
            and (cell.torch, cell.vllm) not in pairs
            and self._can_run(name, own.platform) is not None
        ]

    def _elsewhere(self, own: Observation) -> Iterator[Missing]:
        """The same pair on the other platform, where nothing on its own can decide."""
        for platform in PLATFORMS:
            ran = self.at.get((platform, own.case), {})
            pair = own.cell.torch, own.cell.vllm
            if platform == own.platform or pair in ran:
                continue
            if self._can_run(own.cell.name, platform) is not None:
                yield Missing(own.cell.name, platform, f"whether it is {own.platform} alone")

    def _can_run(self, name: str, platform: str) -> Cell | None:
        """The cell of an environment, or None where the cheap rungs speak against it.

        Off-pin, where vLLM's extensions are loaded, an environment of which nobody knows whether it
        links is left out too: most do not.
        """
        cell = self.environments.get(name)
        climb = None if cell is None or self.grid is None else self.grid.climb(cell, platform)
        if climb is None:
            return cell
        doubtful = climb.off_pin and "links" in climb.unknown
        return None if climb.hopeless or doubtful else cell

    def _off_pin(self, cell: Cell) -> bool:
        return not any(
            each.version == cell.vllm and each.torch == cell.torch for each in self.releases.vllm
        )


def _repeats(
    own: Observation, symptom: Symptom, same: Sequence[Observation]
) -> tuple[str, str] | None:
    """Rule 1: runs of the very same cell that disagree."""
    runs = [
        each
        for each in same
        if each.cell == own.cell and each.flags == own.flags and each.tests == own.tests
    ]
    shows = [each for each in runs if state_of(symptom, each) == SHOWS]
    clean = [each for each in runs if state_of(symptom, each) == CLEAN]
    if not shows or not clean:
        return None
    count = f"{len(shows)} of {len(shows) + len(clean)} runs of the same cell"
    subject = f"{_pair(own.cell)} {_state_words(symptom, own, clean=False)} in {count}"
    apart = _apart(shows, clean)
    if apart:
        return ENVIRONMENT, f"{subject}, and in these {_and(apart[:3])}: the environment"
    return FLAKY, f"{subject}, and nothing tells them apart: flaky"


def _apart(shows: Sequence[Observation], clean: Sequence[Observation]) -> list[str]:
    """What is one thing in all that show it and another in all that are clean."""
    found = []
    for key in sorted({key for each in (*shows, *clean) for key in each.setting}):
        here, there = ({each.setting.get(key) for each in some} for some in (shows, clean))
        if len(here) == 1 and not here & there:
            found.append(f"{key} is {_or_none(here)} and not {_and(sorted(map(str, there)))}")
    return found


def _pythons(
    own: Observation, symptom: Symptom, same: Sequence[Observation]
) -> tuple[str, str] | None:
    """Rule 2: the same pair on other Pythons."""
    states: dict[str, str] = {}
    for each in same:
        if each.cell.python != own.cell.python and each.flags == own.flags:
            states.setdefault(each.cell.python, state_of(symptom, each))
    clean = sorted((python for python, each in states.items() if each == CLEAN), key=Version)
    if not clean or SHOWS in states.values():
        return None
    said = (
        f"{_pair(own.cell)} {_state_words(symptom, own, clean=True)} on Python {_and(clean)} and"
        f" {_state_words(symptom, own, clean=False)} on {own.cell.python}"
    )
    return ENVIRONMENT, f"{said}: the environment, Python {own.cell.python} alone"


def _walk(
    points: Iterable[tuple[str, Observation]],
) -> tuple[list[Observation], Observation | None, bool]:
    """From the cell outwards: what shows it, the first clean one, and whether it shows beyond."""
    shows: list[Observation] = []
    clean: Observation | None = None
    for state, seen in points:
        if state == CLEAN and clean is None:
            clean = seen
        elif state == SHOWS and clean is not None:
            return shows, clean, True
        elif state == SHOWS:
            shows.append(seen)
    return shows, clean, False


def speaks(every: Iterable[Observation], python: str) -> Observation | None:
    """The observation that speaks for a pair: on the same Python where it ran there."""
    tells = [each for each in every if each.ended != NOTHING]
    return next((each for each in tells if each.cell.python == python), next(iter(tells), None))


def _run_of(record: Record, verdict: CellVerdict, one: object) -> Observation:
    """What the run as a whole shows: of what resolves and imports."""
    assert callable(one)
    failed = next((rung for rung in record.rungs if not rung.ok), None)
    found: Observation
    if record.error is not None and record.error.kind in BROKEN_PAIR:
        rung, reason = record.error.kind, record.error.reason
    elif failed is not None and failed.rung in _DOES and record.error is None:
        rung, reason = failed.rung, failed.reason or f"failed at {failed.rung}"
    else:
        imported = any(rung.ok and rung.rung == "imports" for rung in record.rungs)
        found = one(WHOLE_RUN, RAN if imported else NOTHING)
        return found
    found = one(WHOLE_RUN, FAILED, rung=rung, signature=reason, reason=reason, faulty=True)
    return found


def _counters(case: Case) -> dict[_Key, int]:
    return {
        (start.start, counter): value
        for start in case.starts
        for counter, value in start.counters.items()
    }


def _expected(judged: CaseVerdict) -> dict[_Key, int]:
    return {
        (start, counter): wanted.value
        for start, rules in judged.expected.items()
        for counter, wanted in rules.items()
    }


def _setting(record: Record) -> dict[str, str]:
    """The machine, and the packages beside torch's family: what a repeat can differ in."""
    found = {
        name: version
        for name, version in record.packages.items()
        if not name.startswith(_FAMILY) and name not in _OWN
    }
    told = record.provenance
    for key, name in (("gpu", "name"), ("gpu", "driver"), ("cpu", "model")):
        device = told.get(key)
        if isinstance(device, Mapping) and device.get(name):
            found[f"the {key}'s {name}"] = str(device[name])
    if told.get("os"):
        found["the system"] = str(told["os"])
    return found


def _of_line(own: Observation, symptom: Symptom, line: _Line) -> str:
    """What a line shows, in words: where it is clean and where it is not."""
    by_torch = line.what == TORCH
    goods = [each.cell.torch if by_torch else each.cell.vllm for each in line.clean]
    bads = [each.cell.torch if by_torch else each.cell.vllm for each in line.shows]
    clean = line.nearest
    assert clean is not None
    under, other = ("under torch", "under") if by_torch else ("with vLLM", "with")
    who = f"vLLM {own.cell.vllm}" if by_torch else f"torch {own.cell.torch}"
    on = "" if clean.cell.python == own.cell.python else f" (on Python {clean.cell.python})"
    if symptom.kind == FAILS:
        does, fails = _DOES[str(symptom.rung)]
        return f"{who} {does} {under} {_and(goods)}{on} and {fails} {other} {_and(bads)}"
    value = clean.counters.get(symptom.key)
    return (
        f"{who} counts {symptom.start} {symptom.counter} {value} {under} {_and(goods)}{on} and"
        f" {'nothing' if symptom.observed is None else symptom.observed} {other} {_and(bads)}"
    )


def _shown_by(own: Observation, line: _Line) -> str:
    """The neighbours of a line that show it too."""
    others = [each.cell for each in line.shows if each.cell != own.cell]
    if line.what == TORCH:
        return f"vLLM {own.cell.vllm} under torch {_and([each.torch for each in others])}"
    return f"torch {own.cell.torch} with vLLM {_and([each.vllm for each in others])}"


def _state_words(symptom: Symptom, seen: Observation, *, clean: bool) -> str:
    if symptom.kind == FAILS:
        return _DOES[str(symptom.rung)][0 if clean else 1]
    value = symptom.wanted if clean else symptom.observed
    value = seen.counters.get(symptom.key, value) if clean and seen.ended == RAN else value
    if clean and value == symptom.observed:
        value = symptom.wanted
    return f"counts {symptom.start} {symptom.counter} {value}"


def _subject(own: Observation, symptom: Symptom) -> str:
    if symptom.kind == FAILS:
        return f"the failure of {_pair(own.cell)}"
    return f"{symptom.start} {symptom.counter} {symptom.observed} of {_pair(own.cell)}"


def _when(
    what: str,
    versions: Sequence[str],
    before: str | None,
    first: str,
    last: str,
    after: str | None,
) -> str:
    """When it came and went along a line, as exactly as the runs tell.

    A minor release stands for its first one known here to show it, where no other release lies
    between that and the last clean one.
    """
    said = []
    if before is not None:
        said.append(f"since {_boundary(versions, before, first)}")
    if after is not None:
        said.append(f"until {_boundary(versions, last, after)}, where it is gone")
    return " and ".join(said)


def _boundary(versions: Sequence[str], low: str, high: str) -> str:
    """Where something changed that was not there at `low` and was at `high`, or the reverse."""
    inner = _inner(versions, low, high)
    if all(minor_of(each) == minor_of(high) for each in inner) and minor_of(low) != minor_of(high):
        return minor_of(high)
    return f"a release after {low} and up to {high}" if inner else high


def _inner(versions: Sequence[str], low: str, high: str) -> list[str]:
    return [each for each in versions if Version(low) < Version(each) < Version(high)]


def _through(flags: Sequence[FlagChange], line: _Line) -> str:
    """What to say of the flags that differ."""
    if not flags:
        return ""
    there = line.nearest
    assert there is not None
    name = f"{line.what} {there.cell.torch if line.what == TORCH else there.cell.vllm}"
    told = _and([f"{each.flag} ({each.there} at {name}, {each.here} here)" for each in flags])
    if flags[0].decides is None:
        return f", with another default of {told}"
    if flags[0].decides:
        return f", by the default of {told} alone: with the other value it is gone"
    return f", and not by the default of {told}: with the other value it stays"


def _also(own: Observation, line: _Line) -> str:
    """The packages beside torch's family that differ too: they could be the cause as well."""
    there = line.nearest
    assert there is not None
    names = [
        f"{name} {there.setting[name]} there, {own.setting[name]} here"
        for name in sorted(set(own.setting) & set(there.setting))
        if own.setting[name] != there.setting[name] and not name.startswith("the ")
    ]
    if not names or line.what == VLLM:  # Another vLLM brings other packages as a matter of course.
        return ""
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f" (other packages differ too: {'; '.join(names[:2])}{more})"


def _pair(cell: Cell) -> str:
    return f"vLLM {cell.vllm} under torch {cell.torch}"


def _and(words: Sequence[str]) -> str:
    """Words in a row.

    >>> _and(["2.11.0", "2.12.1", "2.13.0"])
    '2.11.0, 2.12.1 and 2.13.0'
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _or_none(values: Iterable[str | None]) -> str:
    return _and(sorted("missing" if each is None else each for each in values))


def _is_case(name: str, asked: str | None) -> bool:
    return asked is None or name == asked or name.partition("[")[0] == asked


def _height(rung: str | None) -> int:
    return RUNGS.index(rung) if rung in RUNGS else -1


def _key_order(key: _Key) -> tuple[int, int, str]:
    start, counter = key
    rank = DEFAULT_COUNTERS.index(counter) if counter in DEFAULT_COUNTERS else len(DEFAULT_COUNTERS)
    return STARTS.index(start), rank, counter


def _distance(one: Version, other: Version) -> int:
    """How far two releases are apart, enough to order them."""
    return (
        abs(one.major - other.major) * 10**6
        + abs(one.minor - other.minor) * 1000
        + abs(one.micro - other.micro)
    )


def _order(own: Observation) -> tuple[int, Version, Version, Version, str]:
    cell = own.cell
    versions = Version(cell.vllm), Version(cell.torch), Version(cell.python)
    return (PLATFORMS.index(own.platform), *versions, own.case)
