"""Expected counts of a start: rules with version specifiers; the most specific rule wins.

Pure, and importable inside a cell. Versions are compared by their base version, so a release
candidate ``2.12.0rc1+cu128`` is judged as 2.12.0.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from packaging.version import InvalidVersion

from matrix._util.versions import Base, VersionRange, base_of, parse_version
from matrix.errors import MatrixError
from matrix.record.model import STARTS, Platform, StartKind
from matrix.rules.counters import COUNTERS

UPSTREAM = re.compile(r"https://github\.com/(vllm-project|pytorch)/[\w.-]+/[\w./#=-]+", re.ASCII)
"""A link into one of the two projects, which is all that may stand for what upstream says."""


RANKS_ALIKE = "ranks-alike"
"""The rule of a counter of which nothing else is expected: each rank counts what the first does."""


class ExpectationsError(MatrixError):
    """A rule, or a set of rules, that cannot be judged by."""


class Situation(NamedTuple):
    """The situation of a start: the case, the platform, full versions, the effective flags.

    `tests` is the version of the startup tests; None if nobody knows it.
    """

    case: str
    platform: Platform
    torch: str
    vllm: str
    flags: Mapping[str, object]
    tests: int | None = None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The expected value of one counter, with its rule and evidence."""

    value: int
    rule: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Nearest(Expected):
    """The value of one counter by the rule that is nearest to the situation.

    `vllm` and `torch` are the releases of which the rule speaks that are nearest to the situation's
    own, such as `0.33`; None if the rule covers that one.
    """

    vllm: str | None
    torch: str | None


class Difference(NamedTuple):
    """A counter that is not as expected; ``observed`` is None if it was not counted at all.

    ``rank`` is the rank that counted it; None if the start is one process.
    """

    start: StartKind
    counter: str
    expected: int
    observed: int | None
    rule: str
    rank: int | None = None


class PublishedCounters(NamedTuple):
    """Upstream's number for a start if another was measured, with its link."""

    counters: Mapping[str, int]
    link: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the file: conditions (None is any), the counters expected, and the evidence.

    ``counters`` is what was measured; ``upstream`` holds those of them that upstream publishes
    with another number, and None if the two agree or upstream says nothing. ``tests`` are the
    versions of the startup tests that count so, where another version counts otherwise.
    """

    id: str
    start: StartKind
    counters: Mapping[str, int]
    evidence: tuple[str, ...]
    case: str | None = None
    platform: Platform | None = None
    torch: VersionRange = field(default_factory=VersionRange)
    vllm: VersionRange = field(default_factory=VersionRange)
    flags: Mapping[str, object] = field(default_factory=dict)
    tests: VersionRange = field(default_factory=VersionRange)
    upstream: PublishedCounters | None = None

    @cached_property
    def expects(self) -> Mapping[str, Expected]:
        """The expectation for each of its counters; made once, for thousands of starts."""
        return {
            counter: Expected(value=value, rule=self.id, evidence=self.evidence)
            for counter, value in self.counters.items()
        }

    @cached_property
    def of_one_cell(self) -> bool:
        """Whether the rule covers only one release of each project, written with `==`."""
        return all(text is not None and "==" in text for text in (self.torch.text, self.vllm.text))

    @property
    def records(self) -> tuple[str, ...]:
        """The records among the evidence."""
        return tuple(item for item in self.evidence if "://" not in item)

    def speaks_of(self, case: str, platform: Platform, start: StartKind) -> bool:
        """Tell whether it is of this start of this case there; a bare name is all parameters."""
        return (
            self.start == start
            and self.case in (None, case, case.partition("[")[0])
            and self.platform in (None, platform)
        )

    def holds_in(self, situation: Situation) -> bool:
        """Tell whether its flags and its versions of the startup tests are those of a situation."""
        if self.flags and not self.flags.items() <= situation.flags.items():
            return False
        if self.tests.text is None:
            return True
        return situation.tests is not None and self.tests.has(_tests(situation.tests))

    def implies(self, other: Rule) -> bool:
        """Tell whether every situation and start that this rule matches, the other matches too."""
        return (
            self.start == other.start
            and (other.case is None or _case_within(self.case, other.case))
            and (other.platform is None or self.platform == other.platform)
            and other.flags.items() <= self.flags.items()
            and self.torch.implies(other.torch)
            and self.vllm.implies(other.vllm)
            and self.tests.implies(other.tests)
        )

    def more_specific(self, other: Rule) -> bool:
        """Tell whether this rule wins over the other one where both match."""
        return self.implies(other) and not other.implies(self)


class _Beside(NamedTuple):
    """The ids of the rules of these releases (`here`), and of the ones next to them.

    A rule `below` ended before one of the releases at least, and not after the other one. A rule
    `above` has the vLLM and begins with a newer torch.
    """

    torch: Base
    vllm: Base
    here: frozenset[str]
    below: frozenset[str]
    above: frozenset[str]

    @classmethod
    def of(cls, rules: Iterable[Rule], torch: Base, vllm: Base) -> _Beside:
        """Look at each rule."""
        here: set[str] = set()
        below: set[str] = set()
        above: set[str] = set()
        for rule in rules:
            in_vllm = rule.vllm.has(vllm)
            if not in_vllm and not rule.vllm.is_below(vllm):
                continue
            if rule.torch.has(torch):
                (here if in_vllm else below).add(rule.id)
            elif rule.torch.is_below(torch):
                below.add(rule.id)
            elif in_vllm and rule.torch.is_above(torch):
                above.add(rule.id)
        return cls(
            torch=torch,
            vllm=vllm,
            here=frozenset(here),
            below=frozenset(below),
            above=frozenset(above),
        )


@dataclass(frozen=True, kw_only=True)
class Expectations:
    """Rules without a tie: in any situation, one of them is the most specific for a counter.

    Raises ExpectationsError, naming both rules and a situation, where two of them tie.
    """

    rules: tuple[Rule, ...]
    name: str = "expectations"
    _asked: dict[tuple[str, str, str], Sequence[Rule]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _beside: dict[tuple[str, str], _Beside] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Refuse two rules of one id, and two that tie."""
        seen: set[str] = set()
        # By start, platform and bare case: rules of two of these never match one start.
        earlier: dict[StartKind, dict[tuple[Platform | None, str | None], list[Rule]]] = {}
        for rule in self.rules:
            if rule.id in seen:
                raise ExpectationsError(
                    f"{self.name}: rule {rule.id!r}: id: appears twice; give each rule its own"
                )
            seen.add(rule.id)
            groups = earlier.setdefault(rule.start, {})
            bare = None if rule.case is None else rule.case.partition("[")[0]
            for (platform, case), others in groups.items():
                if _may_be_one(platform, rule.platform) and _may_be_one(case, bare):
                    for other in others:
                        _check_tie(other, rule, self.name)
            groups.setdefault((rule.platform, bare), []).append(rule)

    def _of(self, case: str, platform: Platform, start: StartKind) -> Sequence[Rule]:
        """Return the rules for this start of this case there, in the order of the file."""
        key = case, platform, start
        if key not in self._asked:
            self._asked[key] = [
                rule for rule in self.rules if rule.speaks_of(case, platform, start)
            ]
        return self._asked[key]

    def expect(self, situation: Situation, start: StartKind) -> Mapping[str, Expected]:
        """Choose what each counter should be in this start; empty if no rule matches.

        Raises ExpectationsError if the situation's torch or vLLM is not a version.
        """
        best: dict[str, Rule] = {}
        for rule in self._chosen(self._beside_pair(situation).here, situation, start):
            for counter in rule.counters:
                if counter not in best or rule.more_specific(best[counter]):
                    best[counter] = rule
        return {counter: best[counter].expects[counter] for counter in sorted(best)}

    def nearest(
        self,
        situation: Situation,
        start: StartKind,
        expected: Mapping[str, Expected] | None = None,
    ) -> Mapping[str, Nearest]:
        """Return, of each counter that nothing is expected of here, what the nearest rule had.

        The nearest rule is the one that ended last below the situation: by its vLLM first, then by
        its torch; where two ended together, the more specific one. Where all of them ended with an
        older vLLM, a rule that has this vLLM and begins with a newer torch is nearer. A rule of one
        cell says nothing of what comes after it where something else is expected of this start.
        `expected` is what `expect` returned of this start, for a caller who has it.

        Raises ExpectationsError as `expect` does.
        """
        if expected is None:
            expected = self.expect(situation, start)
        near: dict[str, Rule] = {}
        goes_on: set[str] = set()
        pair = self._beside_pair(situation)
        for rule in self._chosen(pair.below, situation, start):
            for counter in rule.counters.keys() - expected.keys():
                if not expected or not rule.of_one_cell:
                    goes_on.add(counter)
                if counter not in near or _is_nearer(rule, near[counter], pair):
                    near[counter] = rule
        for rule in self._chosen(pair.above, situation, start):
            for counter in rule.counters.keys() & goes_on:
                if _begins_nearer(rule, near[counter], pair):
                    near[counter] = rule
        return {
            counter: Nearest(
                value=near[counter].counters[counter],
                rule=near[counter].id,
                evidence=near[counter].evidence,
                vllm=_next_to(near[counter].vllm, pair.vllm),
                torch=_next_to(near[counter].torch, pair.torch),
            )
            for counter in sorted(goes_on)
        }

    def _chosen(
        self, ids: Container[str], situation: Situation, start: StartKind
    ) -> Iterator[Rule]:
        """Yield those of these rules whose conditions on the rest hold here."""
        for rule in self._of(situation.case, situation.platform, start):
            if rule.id in ids and rule.holds_in(situation):
                yield rule

    def _beside_pair(self, situation: Situation) -> _Beside:
        """Return where the rules are relative to the releases of a situation.

        Found once for a pair: a record asks it of two starts of each of its cases.
        """
        pair = situation.torch, situation.vllm
        if pair not in self._beside:
            self._beside[pair] = _Beside.of(self.rules, *_releases(situation))
        return self._beside[pair]


def compare(
    expected: Mapping[str, Expected], observed: Mapping[str, int], start: StartKind
) -> tuple[Difference, ...]:
    """List the counters that are not as expected, sorted by name.

    A counter that no rule expects makes no difference, whatever it is.
    """
    return tuple(
        Difference(
            start=start,
            counter=counter,
            expected=wanted.value,
            observed=observed.get(counter),
            rule=wanted.rule,
        )
        for counter, wanted in sorted(expected.items())
        if observed.get(counter) != wanted.value
    )


def compare_ranks(
    expected: Mapping[str, Expected],
    counted: Mapping[int | None, Mapping[str, int]],
    start: StartKind,
) -> tuple[Difference, ...]:
    """List the counters of each rank that are not as expected, by rank and name.

    `counted` is what each rank counted, the first one first (`Start.counted`). A counter that a
    rule may expect, and none does here, is to be what it is on the first rank.
    """
    found: list[Difference] = []
    first: Mapping[str, int] = next(iter(counted.values()), {})
    for rank, counters in counted.items():
        found += [
            difference._replace(rank=rank) for difference in compare(expected, counters, start)
        ]
        if counters is first:
            continue
        for counter in sorted(COUNTERS & (first.keys() | counters.keys()) - expected.keys()):
            wanted, observed = first.get(counter, 0), counters.get(counter, 0)
            if wanted != observed:
                found.append(
                    Difference(
                        start=start,
                        counter=counter,
                        expected=wanted,
                        observed=observed,
                        rule=RANKS_ALIKE,
                        rank=rank,
                    )
                )
    return tuple(found)


def in_order(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """Return differences by start, the cold one first, counter and rank."""

    def place(one: Difference) -> tuple[int, str, int]:
        return STARTS.index(one.start), one.counter, one.rank or 0

    return tuple(sorted(differences, key=place))


def _releases(situation: Situation) -> tuple[Base, Base]:
    """Return the base of the torch and of the vLLM of a situation."""
    return (
        _situation_version("torch", situation.torch),
        _situation_version("vllm", situation.vllm),
    )


def _tests(number: int) -> Base:
    """Return a version of the startup tests as a range compares it."""
    return base_of(parse_version(str(number)))


def _next_to(versions: VersionRange, base: Base) -> str | None:
    """Return the release of a range that is next to this one; None if the range has this one."""
    end, first = versions.end, versions.first
    if end is not None and end.before(base):
        return end.last
    return first.text if first is not None and versions.is_above(base) else None


def _begins_nearer(rule: Rule, other: Rule, pair: _Beside) -> bool:
    """Tell whether a rule that has this vLLM and a newer torch is nearer than the other one."""
    if not other.vllm.has(pair.vllm):
        return True
    if not other.torch.is_above(pair.torch):
        return False
    first, its = rule.torch.first, other.torch.first
    if first is not None and its is not None and first.version != its.version:
        return first.version < its.version
    return rule.more_specific(other) or (not other.more_specific(rule) and rule.id < other.id)


def _is_nearer(rule: Rule, other: Rule, pair: _Beside) -> bool:
    """Tell whether a rule ended later below these releases than the other one."""
    for mine, its, base in (
        (rule.vllm, other.vllm, pair.vllm),
        (rule.torch, other.torch, pair.torch),
    ):
        if mine == its:
            continue
        if (has := mine.has(base)) != its.has(base):
            return has
        if has:
            continue
        if mine.end != its.end:
            return mine.end is not None and its.end is not None and mine.end > its.end
    if rule.more_specific(other) or other.more_specific(rule):
        return rule.more_specific(other)
    return rule.id < other.id  # whatever their order in the file


def check_ties(rule: Rule, others: Iterable[Rule], name: str) -> None:
    """Raise ExpectationsError, as `Expectations` does, where a rule ties with one of the others."""
    for other in others:
        if rule.start == other.start and _may_be_one(rule.platform, other.platform):
            _check_tie(rule, other, name)


def _situation_version(key: str, text: str) -> Base:
    try:
        return base_of(parse_version(text))
    except (InvalidVersion, TypeError) as error:
        raise ExpectationsError(f"situation: {key} {text!r} is not a version") from error


def _case_within(case: str | None, condition: str) -> bool:
    """Return whether a case meets the condition, of which a bare name means all its parameters."""
    return case is not None and (case == condition or case.partition("[")[0] == condition)


def _may_be_one(condition: str | None, other: str | None) -> bool:
    """Return whether one start can meet both conditions, of which None is met by all."""
    return condition is None or other is None or condition == other


def _check_tie(one: Rule, other: Rule, name: str) -> None:
    if one.counters.keys().isdisjoint(other.counters):
        return
    if one.flags and any(
        one.flags[key] != other.flags[key] for key in one.flags.keys() & other.flags.keys()
    ):
        return
    case = one.case or other.case
    if one.case is not None and other.case is not None:
        if _case_within(one.case, other.case):
            case = one.case
        elif _case_within(other.case, one.case):
            case = other.case
        else:
            return
    if (tests := one.tests.shared(other.tests)) is None:
        return
    if (vllm := one.vllm.shared(other.vllm)) is None:
        return
    if (torch := one.torch.shared(other.torch)) is None:
        return
    if one.more_specific(other) or other.more_specific(one):
        return
    both = sorted(one.counters.keys() & other.counters.keys())
    flags = {**one.flags, **other.flags}
    flagged = "".join(f", {key}={flags[key]!r}" for key in sorted(flags))
    if one.tests.text is not None or other.tests.text is not None:
        flagged += f", startup tests {tests}"
    raise ExpectationsError(
        f"{name}: rules {one.id!r} and {other.id!r} tie on {both[0]}: both match the {one.start} "
        f"start of {case or 'any case'} on {one.platform or other.platform or 'any platform'} with "
        f"torch {torch} and vLLM {vllm}{flagged}, and neither is more specific; narrow one of them"
    )
