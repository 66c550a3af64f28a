"""The proposal of a record beyond the end of the rules: a wider rule, or a new one.

Pure. A rule that a record agrees with in all its cases may end later. Where it does not agree, the
rule ends where it did, and another one begins with the record's releases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from packaging.specifiers import Specifier, SpecifierSet
from packaging.version import Version

from matrix._util.versions import VersionRange, minor_of, next_minor, parse_version, specifier_text
from matrix.record.model import Case, Outcome, Platform, Record, Start
from matrix.record.startup_tests import version_of_tests
from matrix.rules.expectations import Expectations, ExpectationsError, Rule, Situation, check_ties
from matrix.rules.rule_toml import unused_id


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A rule to paste, and the ended rule that it follows.

    `widens`: it replaces that rule; else that one stays, and ends where it does.
    `gone` are its counters that the record does not count at all.
    """

    rule: Rule
    follows: Rule
    widens: bool
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Sighting:
    """One start of the record and an ended rule, and the counters that are compared."""

    situation: Situation
    start: Start
    counters: tuple[str, ...]

    def counted(self) -> dict[str, int]:
        seen = self.start.agreed
        return {counter: seen[counter] for counter in self.counters if counter in seen}


def situations(record: Record) -> Iterator[tuple[Situation, Start]]:
    """Yield each start of the cases that passed, and where it was."""
    for case in record.cases:
        if case.outcome == Outcome.PASSED:
            for start in case.starts:
                yield situation_of(record, case), start


def situation_of(record: Record, case: Case) -> Situation:
    """Return where the starts of a case of a record were observed."""
    return Situation(
        case=case.case,
        platform=record.platform,
        torch=str(record.provenance["torch"]),
        vllm=str(record.provenance["vllm"]),
        flags={**record.flags, **case.flags},
        tests=version_of_tests(record),
    )


def proposals(record: Record, expectations: Expectations, evidence: str) -> list[Proposal]:
    """Return what the record proposes for the rules that ended before it, in their order.

    A rule of one cell is not widened: what another cell counts is a rule of its own.
    """
    seen: dict[str, list[_Sighting]] = {}
    for situation, start in situations(record):
        near: dict[str, list[str]] = {}
        for counter, nearest in expectations.nearest(situation, start.start).items():
            near.setdefault(nearest.rule, []).append(counter)
        for name, counters in near.items():
            sighting = _Sighting(situation=situation, start=start, counters=tuple(counters))
            seen.setdefault(name, []).append(sighting)
    found: list[Proposal] = []
    known = {rule.id: rule for rule in expectations.rules}
    for rule in expectations.rules:
        sightings = seen.get(rule.id)
        if not sightings or rule.of_one_cell:
            continue
        wider = _widened(rule, sightings, evidence, known)
        if wider is not None:
            known[rule.id] = wider
            found.append(Proposal(rule=wider, follows=rule, widens=True))
        else:
            found += _split(rule, sightings, evidence, known)
    return found


def _widened(
    rule: Rule, sightings: list[_Sighting], evidence: str, known: Mapping[str, Rule]
) -> Rule | None:
    """Return the rule with a later end; None if it does not count so, or would tie."""
    platform = Platform(sightings[0].situation.platform)
    same = all(
        sighting.counted() == {counter: rule.counters[counter] for counter in sighting.counters}
        for sighting in sightings
    )
    # The record says nothing of the other platform.
    if not same or rule.platform is not platform:
        return None
    torch, vllm = _versions(sightings[0].situation)
    wider = replace(
        rule,
        torch=_to(rule.torch, torch) if rule.torch.ended_before(torch) else rule.torch,
        vllm=_to(rule.vllm, vllm) if rule.vllm.ended_before(vllm) else rule.vllm,
        evidence=tuple(dict.fromkeys((*rule.evidence, evidence))),
    )
    try:
        check_ties(wider, (other for other in known.values() if other.id != rule.id), rule.id)
    except ExpectationsError:
        return None
    return wider


def _split(
    rule: Rule, sightings: list[_Sighting], evidence: str, known: Mapping[str, Rule]
) -> Iterator[Proposal]:
    """Yield rules that begin with the record's releases: one, or one a case where these differ."""
    together = {tuple(sorted(sighting.counted().items())) for sighting in sightings}
    alike = len(together) == 1 and len({sighting.counters for sighting in sightings}) == 1
    taken = set(known)
    for sighting in sightings[:1] if alike else sightings:
        where, counted = sighting.situation, sighting.counted()
        if not counted:
            continue
        torch, vllm = _versions(where)
        case = rule.case if alike else where.case
        of_case = "" if case == rule.case else f"-{case}"
        name = f"{rule.id}{of_case}-{minor_of(where.vllm)}"
        if rule.torch.ended_before(torch):
            name += f"-torch{minor_of(where.torch)}"
        if rule.platform is None:
            name = f"{where.platform}-{name}"
        name = unused_id(name, taken)
        taken.add(name)
        new = replace(
            rule,
            id=name,
            case=case,
            platform=Platform(where.platform),
            torch=_only(torch) if rule.torch.ended_before(torch) else _to(rule.torch, torch),
            vllm=_only(vllm),
            counters=counted,
            evidence=(evidence,),
            upstream=None,
        )
        gone = tuple(counter for counter in sighting.counters if counter not in counted)
        yield Proposal(rule=new, follows=rule, widens=False, gone=gone)


def _versions(situation: Situation) -> tuple[Version, Version]:
    return parse_version(situation.torch), parse_version(situation.vllm)


def _only(version: Version) -> VersionRange:
    """Return the minor release of a version."""
    minor = minor_of(str(version))
    return VersionRange(f">={minor},<{next_minor(minor)}")


def _to(versions: VersionRange, version: Version) -> VersionRange:
    """Return the range with its end after the minor release of this version."""
    end = f"<{next_minor(minor_of(str(version)))}"
    lower = [
        begin for specifier in SpecifierSet(versions.text or "") if (begin := _begin(specifier))
    ]
    return VersionRange(specifier_text(SpecifierSet(",".join([*lower, end]))))


def _begin(specifier: Specifier) -> str | None:
    """Return what a clause says of where a range begins, or leaves out; None: only of its end."""
    if specifier.operator in ("<", "<="):
        return None
    if specifier.operator in ("==", "~="):
        return f">={specifier.version.removesuffix('.*')}"
    return str(specifier)
