"""Propose expectations: the rules that a record would justify, for a person to read and commit.

Nothing here edits a file: a run never changes what it is judged by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from packaging.version import InvalidVersion

from matrix._util.versions import VersionRange, parse_version
from matrix.errors import MatrixError
from matrix.record.model import Case, Platform, Record, Start
from matrix.rules.counters import COUNTERS, DEFAULT_COUNTERS
from matrix.rules.expectations import Expectations, Expected, Nearest, Rule, Situation
from matrix.rules.rule_toml import comment, rule_toml, unused_id
from matrix.rules.widen import Proposal, proposals

_FLAGS = ("VLLM_USE_MEGA_AOT_ARTIFACT",)
"""The flags that change these counters, and so belong in a rule."""


class CalibrateError(MatrixError):
    """A record that justifies no rule."""


def calibrate(
    record: Record,
    expectations: Expectations,
    *,
    name: str | None = None,
    every: bool = False,
) -> str:
    """Write, as TOML, rules for what this record observed and the expectations lack or contradict.

    The evidence of each rule is the record where it is published, `results/<platform>/<cell>.json`;
    ``name`` is what errors call the record. ``every`` proposes each counter that a rule may name,
    not only DEFAULT_COUNTERS. A rule holds for the minor releases of the record. Where a rule
    already expects another number, a comment names it: the two may tie, and a person decides
    between them. A rule that ended before the record's releases is proposed with a later end where
    the record counts the same, and otherwise another rule that begins with these releases. What
    proposes nothing is named in a comment.

    Raises CalibrateError for a record that justifies no rule: the run did not end or ended early,
    no case of it started, or it does not say its torch and vLLM.
    """
    name, evidence = name or record.cell, _published(record)
    _check_justifies(record, name)
    minors = {key: _minor(record, key, name) for key in ("torch", "vllm")}
    taken = {rule.id for rule in expectations.rules}
    found = proposals(record, expectations, evidence)
    taken |= {proposal.rule.id for proposal in found}
    parts = [_proposed(proposal) for proposal in found]
    series = {rule.id for rule in expectations.rules if not rule.of_one_cell}
    for case in record.cases:
        if case.outcome != "passed":
            why = f" ({case.reason})" if case.reason else ""
            parts.append(comment(f"{case.case}: {case.outcome}{why}, so it justifies no rule"))
            continue
        situation = Situation(
            case=case.case,
            platform=record.platform,
            torch=str(record.provenance["torch"]),
            vllm=str(record.provenance["vllm"]),
            flags={**record.flags, **case.flags},
        )
        for start in case.starts:
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
                    )
                )
    if not parts:
        parts.append(comment(f"{name}: nothing to propose, every counter asked for is expected"))
    return "\n".join(parts)


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


def _published(record: Record) -> str:
    """Where the record lies once it is committed: a run's own folder is not."""
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


def _rule(
    rule_id: str,
    situation: Situation,
    start: Start,
    *,
    minors: Mapping[str, str],
    wanted: Mapping[str, int],
    expected: Mapping[str, Expected],
    evidence: str,
) -> str:
    flags = {flag: situation.flags[flag] for flag in _FLAGS if flag in situation.flags}
    said = [
        comment(f"rule {expected[name].rule!r} expects {name} = {expected[name].value}")
        for name in wanted
        if name in expected
    ]
    rule = Rule(
        id=rule_id,
        case=situation.case,
        platform=Platform(situation.platform),
        torch=VersionRange(minors["torch"]),
        vllm=VersionRange(minors["vllm"]),
        flags=flags,
        start=start.start,
        counters=wanted,
        evidence=(evidence,),
    )
    return "".join([*said, rule_toml(rule)])


def _proposed(one: Proposal) -> str:
    """Return a proposal for a rule that ended before the record's releases, with what to do."""
    follows = f"rule {one.follows.id!r} ends before this record, which"
    if one.widens:
        return comment(f"{follows} counts the same: put this in its place") + rule_toml(one.rule)
    if one.gone or one.rule.counters.items() - one.follows.counters.items():
        how = "counts otherwise"
    elif one.follows.platform is None:
        how = f"counts the same, on {one.rule.platform} alone"
    else:
        how = "counts the same, but a wider rule would tie with another"
    said = comment(f"{follows} {how}: add this, and leave that one as it is")
    if one.gone:
        said += comment(f"it does not count {', '.join(one.gone)} at all")
    return said + rule_toml(one.rule)
