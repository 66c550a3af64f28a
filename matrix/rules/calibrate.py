"""Propose expectations: the rules that a record would justify, for a person to read and commit.

Nothing here edits a file: a run never changes what it is judged by. `calibrate_file` does, when a
person asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

from matrix._util.versions import VersionRange, parse_version
from matrix.errors import MatrixError
from matrix.record.model import Case, Outcome, Platform, Record, Start
from matrix.rules.counters import COUNTERS, DEFAULT_COUNTERS
from matrix.rules.expectations import Expectations, Expected, Nearest, Rule, Situation
from matrix.rules.rule_toml import unused_id
from matrix.rules.widen import Proposal, proposals, situation_of

_FLAGS = ("VLLM_USE_MEGA_AOT_ARTIFACT",)
"""The flags that change these counters, and so belong in a rule."""


class CalibrateError(MatrixError):
    """A record that justifies no rule."""


@dataclass(frozen=True, kw_only=True)
class NotPassed:
    """A case that did not pass, and so justifies no rule; `reason` is the record's."""

    case: str
    outcome: Outcome
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class NewRule:
    """A rule for a start of the record, and the expectations that it contradicts, by counter."""

    rule: Rule
    contradicts: Mapping[str, Expected]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The proposals of a record, in the order of its cases; `name` is the name of the record."""

    name: str
    parts: tuple[Proposal | NotPassed | NewRule, ...]


def calibrate(
    record: Record,
    expectations: Expectations,
    *,
    name: str | None = None,
    every: bool = False,
) -> Calibration:
    """Return rules for what this record observed and the expectations lack or contradict.

    The evidence of each rule is the record where it is published, `results/<platform>/<cell>.json`;
    ``name`` is what errors call the record. ``every`` proposes each counter that a rule may name,
    not only DEFAULT_COUNTERS. A rule holds for the minor releases of the record. Where a rule
    already expects another number, that is named: the two may tie, and a person decides
    between them. A rule that ended before the record's releases is proposed with a later end where
    the record counts the same, and otherwise another rule that begins with these releases.

    Raises CalibrateError for a record that justifies no rule: the run did not end or ended early,
    no case of it started, or it does not say its torch and vLLM.
    """
    name, evidence = name or record.cell, published_name(record)
    _check_justifies(record, name)
    minors = {key: _minor(record, key, name) for key in ("torch", "vllm")}
    taken = {rule.id for rule in expectations.rules}
    found = proposals(record, expectations, evidence)
    taken |= {proposal.rule.id for proposal in found}
    parts: list[Proposal | NotPassed | NewRule] = [*found]
    series = {rule.id for rule in expectations.rules if not rule.of_one_cell}
    for case in record.cases:
        if case.outcome != Outcome.PASSED:
            parts.append(NotPassed(case=case.case, outcome=case.outcome, reason=case.reason))
            continue
        situation = situation_of(record, case)
        for seen in case.starts:
            start = replace(seen, counters=seen.agreed)  # no rule is of one rank
            expected = expectations.expect(situation, start.start)
            near = expectations.nearest(situation, start.start)
            wanted = _unnamed(_wanted(start, expected, every=every), start, near, series)
            if wanted:
                taken.add(rule_id := unused_id(_id(record, case, start), taken))
                parts.append(
                    _rule(
                        rule_id,
                        situation,
                        start,
                        minors=minors,
                        wanted=wanted,
                        expected=expected,
                        evidence=evidence,
                        tests=_since(situation, start, expectations),
                    )
                )
    return Calibration(name=name, parts=tuple(parts))


def _unnamed(
    wanted: Mapping[str, int], start: Start, near: Mapping[str, Nearest], series: set[str]
) -> dict[str, int]:
    """Return the counters that no proposal for an ended rule names.

    A rule of one cell is followed by another one, with the same counters.
    """
    of_series = {counter for counter, nearest in near.items() if nearest.rule in series}
    followed = {
        counter: start.counters[counter]
        for counter in near
        if counter not in of_series and counter in start.counters
    }
    kept = {counter: count for counter, count in wanted.items() if counter not in of_series}
    return kept | followed


def _check_justifies(record: Record, name: str) -> None:
    """Raise CalibrateError for a record that justifies no rule."""
    if not record.finished:
        raise CalibrateError(f"{name}: finished: the run did not end; run the cell again")
    if record.error is not None:
        why = " ".join(record.error.reason.split())
        raise CalibrateError(
            f"{name}: error: {record.error.kind}{f' ({why})' if why else ''}, so the record"
            " justifies no rule; run the cell again"
        )
    if not any(case.starts for case in record.cases):
        raise CalibrateError(
            f"{name}: cases: none of them started, so the record justifies no rule; run the cell"
            " again"
        )


def published_name(record: Record) -> str:
    """Return the path of the record once it is committed; a run's own folder is not committed."""
    return f"results/{record.platform}/{record.cell}.json"


def _minor(record: Record, key: str, name: str) -> str:
    text = record.provenance.get(key)
    try:
        version = parse_version(str(text))
    except InvalidVersion as error:
        raise CalibrateError(
            f"{name}: provenance.{key}: {text!r} is not a version; run the cell again"
        ) from error
    return f"=={version.major}.{version.minor}.*"


def _wanted(start: Start, expected: Mapping[str, Expected], *, every: bool) -> dict[str, int]:
    names: Iterable[str] = DEFAULT_COUNTERS
    if every:
        names = (*DEFAULT_COUNTERS, *sorted(COUNTERS - set(DEFAULT_COUNTERS)))
    return {
        name: start.counters[name]
        for name in names
        if name in start.counters
        and (name not in expected or expected[name].value != start.counters[name])
    }


def _id(record: Record, case: Case, start: Start) -> str:
    # Without the Python: a count does not depend on it.
    pair = record.cell.partition("-")[2] or record.cell
    return f"{record.platform}-{case.case}-{pair}-{start.start}"


def _since(situation: Situation, start: Start, expectations: Expectations) -> VersionRange:
    """Return from which version of the startup tests on a rule of this start holds.

    It is the last one where a rule of this case ends because newer tests count otherwise.
    """
    ends = [
        int(specifier.version)
        for rule in expectations.rules
        if rule.speaks_of(situation.case, situation.platform, start.start)
        for specifier in SpecifierSet(rule.tests.text or "")
        if specifier.operator == "<" and int(specifier.version) <= (situation.tests or 0)
    ]
    return VersionRange(f">={max(ends)}") if ends else VersionRange()


def _rule(
    rule_id: str,
    situation: Situation,
    start: Start,
    *,
    minors: Mapping[str, str],
    wanted: Mapping[str, int],
    expected: Mapping[str, Expected],
    evidence: str,
    tests: VersionRange,
) -> NewRule:
    flags = {flag: situation.flags[flag] for flag in _FLAGS if flag in situation.flags}
    rule = Rule(
        id=rule_id,
        case=situation.case,
        platform=Platform(situation.platform),
        torch=VersionRange(minors["torch"]),
        vllm=VersionRange(minors["vllm"]),
        flags=flags,
        tests=tests,
        start=start.start,
        counters=wanted,
        evidence=(evidence,),
    )
    contradicts = {counter: expected[counter] for counter in wanted if counter in expected}
    return NewRule(rule=rule, contradicts=contradicts)
