"""What a start should count: rules with version specifiers, and the most specific one wins.

Pure, and importable inside a cell. Versions are compared by their base version, so a release
candidate ``2.12.0rc1+cu128`` is judged as 2.12.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from packaging.version import InvalidVersion, Version

from matrix._util.versions import VersionRange, parse_version
from matrix.errors import MatrixError
from matrix.record.model import Platform, StartKind

UPSTREAM = re.compile(r"https://github\.com/(vllm-project|pytorch)/[\w.-]+/[\w./#=-]+", re.ASCII)
"""A link into one of the two projects, which is all that may stand for what upstream says."""


class ExpectationsError(MatrixError):
    """A rule, or a set of rules, that cannot be judged by."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Where a start was observed: the case, the platform, full versions, the effective flags."""

    case: str
    platform: str
    torch: str
    vllm: str
    flags: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What one counter should be, by which rule, on what evidence."""

    value: int
    rule: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Nearest(Expected):
    """What one counter was by the rule that ended last below a situation beyond its end.

    `vllm` and `torch` are the newest releases of which the rule speaks, such as `0.33`; None where
    the rule speaks of the situation's own release.
    """

    vllm: str | None
    torch: str | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A counter that is not as expected; ``observed`` is None where it was not counted at all."""

    start: str
    counter: str
    expected: int
    observed: int | None
    rule: str


@dataclass(frozen=True, kw_only=True)
class Published:
    """What upstream publishes of a start where we measured something else, and where it does."""

    counters: Mapping[str, int]
    link: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the file: conditions (None is any), the counters expected, and the evidence.

    ``counters`` is what was measured; ``upstream`` holds those of them that upstream publishes
    with another number, and None where the two agree or upstream says nothing.
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
    upstream: Published | None = None

    @property
    def of_one_cell(self) -> bool:
        """Whether the rule is of one release of each project, written with `==`."""
        return all(text is not None and "==" in text for text in (self.torch.text, self.vllm.text))

    @property
    def records(self) -> tuple[str, ...]:
        """The records among the evidence."""
        return tuple(item for item in self.evidence if "://" not in item)

    def implies(self, other: Rule) -> bool:
        """Tell whether every situation and start that this rule matches, the other matches too."""
        return (
            self.start == other.start
            and (other.case is None or _case_within(self.case, other.case))
            and (other.platform is None or self.platform == other.platform)
            and other.flags.items() <= self.flags.items()
            and self.torch.implies(other.torch)
            and self.vllm.implies(other.vllm)
        )

    def more_specific(self, other: Rule) -> bool:
        """Tell whether this rule wins over the other one where both match."""
        return self.implies(other) and not other.implies(self)


@dataclass(frozen=True, kw_only=True)
class Expectations:
    """Rules without a tie: in any situation, one of them is the most specific for a counter.

    Raises ExpectationsError, naming both rules and a situation, where two of them tie.
    """

    rules: tuple[Rule, ...]
    name: str = "expectations"
    _asked: dict[tuple[str, str], Sequence[Rule]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Refuse two rules of one id, and two that tie."""
        seen: set[str] = set()
        for rule in self.rules:
            if rule.id in seen:
                raise ExpectationsError(
                    f"{self.name}: rule {rule.id!r}: id: is there twice; give each rule its own"
                )
            seen.add(rule.id)
        for one, other in combinations(self.rules, 2):
            if one.start == other.start and not one.counters.keys().isdisjoint(other.counters):
                _check_tie(one, other, self.name)

    def _of(self, case: str, start: str) -> Sequence[Rule]:
        """Return the rules for this start of this case, in the order of the file."""
        if (case, start) not in self._asked:
            cases = (None, case, case.partition("[")[0])
            self._asked[case, start] = [
                rule for rule in self.rules if rule.start == start and rule.case in cases
            ]
        return self._asked[case, start]

    def expect(self, situation: Situation, start: str) -> Mapping[str, Expected]:
        """Choose what each counter should be in this start; empty where no rule matches.

        Raises ExpectationsError where the situation's torch or vLLM is not a version.
        """
        torch, vllm = _releases(situation)
        best: dict[str, Rule] = {}
        for rule in self._apart_from_releases(situation, start):
            if rule.torch.contains(torch) and rule.vllm.contains(vllm):
                for counter in rule.counters:
                    if counter not in best or rule.more_specific(best[counter]):
                        best[counter] = rule
        return {
            counter: Expected(value=rule.counters[counter], rule=rule.id, evidence=rule.evidence)
            for counter, rule in sorted(best.items())
        }

    def nearest(self, situation: Situation, start: str) -> Mapping[str, Nearest]:
        """Return, of each counter that nothing is expected of here, what the nearest rule had.

        The nearest rule is the one that ended last below the situation: by its vLLM first, then by
        its torch; where two ended together, the more specific one. A rule of one cell says nothing
        of what comes after it where something else is expected of this start.

        Raises ExpectationsError as `expect` does.
        """
        torch, vllm = _releases(situation)
        expected = self.expect(situation, start)
        near: dict[str, Rule] = {}
        goes_on: set[str] = set()
        for rule in self._apart_from_releases(situation, start):
            others = rule.counters.keys() - expected.keys()
            if not others or not _is_below(rule, torch, vllm):
                continue
            for counter in others:
                if not expected or not rule.of_one_cell:
                    goes_on.add(counter)
                if counter not in near or _is_nearer(rule, near[counter], torch, vllm):
                    near[counter] = rule
        return {
            counter: Nearest(
                value=near[counter].counters[counter],
                rule=near[counter].id,
                evidence=near[counter].evidence,
                vllm=_ended(near[counter].vllm, vllm),
                torch=_ended(near[counter].torch, torch),
            )
            for counter in sorted(goes_on)
        }

    def _apart_from_releases(self, situation: Situation, start: str) -> Iterator[Rule]:
        """Yield the rules whose conditions hold here, but for those on torch and vLLM."""
        for rule in self._of(situation.case, start):
            if (
                rule.platform in (None, situation.platform)
                and rule.flags.items() <= situation.flags.items()
            ):
                yield rule


def compare(
    expected: Mapping[str, Expected], observed: Mapping[str, int], start: str
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


def _releases(situation: Situation) -> tuple[Version, Version]:
    """Return the torch and the vLLM of a situation."""
    return (
        _situation_version("torch", situation.torch),
        _situation_version("vllm", situation.vllm),
    )


def _is_below(rule: Rule, torch: Version, vllm: Version) -> bool:
    """Tell whether a rule ended before one of these releases at least, and has the other one."""
    return all(
        versions.ended_before(version) or versions.contains(version)
        for versions, version in ((rule.vllm, vllm), (rule.torch, torch))
    )


def _ended(versions: VersionRange, version: Version) -> str | None:
    """Return the newest release of a range that ended before the version, else None."""
    end = versions.end
    return end.last if end is not None and end.before(version) else None


def _is_nearer(rule: Rule, other: Rule, torch: Version, vllm: Version) -> bool:
    """Tell whether a rule ended later below these releases than the other one."""
    for mine, its, version in (
        (rule.vllm, other.vllm, vllm),
        (rule.torch, other.torch, torch),
    ):
        if mine.contains(version) != its.contains(version):
            return mine.contains(version)
        if mine.contains(version):
            continue
        if mine.end != its.end:
            return mine.end is not None and its.end is not None and mine.end > its.end
    if rule.more_specific(other) or other.more_specific(rule):
        return rule.more_specific(other)
    return rule.id < other.id  # whatever their order in the file


def check_ties(rule: Rule, others: Iterable[Rule], name: str) -> None:
    """Raise ExpectationsError, as `Expectations` does, where a rule ties with one of the others."""
    for other in others:
        if rule.start == other.start and not rule.counters.keys().isdisjoint(other.counters):
            _check_tie(rule, other, name)


def _situation_version(key: str, text: str) -> Version:
    try:
        return parse_version(text)
    except (InvalidVersion, TypeError) as error:
        raise ExpectationsError(f"situation: {key} {text!r} is not a version") from error


def _case_within(case: str | None, condition: str) -> bool:
    """Return whether a case meets the condition, of which a bare name means all its parameters."""
    return case is not None and (case == condition or case.partition("[")[0] == condition)


def _check_tie(one: Rule, other: Rule, name: str) -> None:
    both = sorted(one.counters.keys() & other.counters.keys())
    if (one.platform and other.platform and one.platform != other.platform) or any(
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
    torch, vllm = one.torch.shared(other.torch), one.vllm.shared(other.vllm)
    if torch is None or vllm is None or one.more_specific(other) or other.more_specific(one):
        return
    flags = {**one.flags, **other.flags}
    told = "".join(f", {key}={flags[key]!r}" for key in sorted(flags))
    raise ExpectationsError(
        f"{name}: rules {one.id!r} and {other.id!r} tie on {both[0]}: both match the {one.start} "
        f"start of {case or 'any case'} on {one.platform or other.platform or 'any platform'} with "
        f"torch {torch} and vLLM {vllm}{told}, and neither is more specific; narrow one of them"
    )
