"""Write what a record proposes into the text of the rules, as far as `matrix check` accepts it.

Pure but for the checks, which read the records that the rules name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from matrix.rules.calibrate import Calibration, NewRule
from matrix.rules.expectations import Expectations, Expected, Rule
from matrix.rules.rule_faults import RuleChecks, RuleFault, of_rules
from matrix.rules.rules_text import text_with_rules, with_rules
from matrix.rules.widen import Proposal


@dataclass(frozen=True, kw_only=True)
class ChangedRule:
    """A rule that was added or widened; `before` is what stood in its place."""

    rule: Rule
    before: Rule | None


@dataclass(frozen=True, kw_only=True)
class LeftOutRule:
    """A proposal for a person to decide about, and why.

    `contradicts` are the expectations that it contradicts, by counter, and `faults` are why
    `matrix check` would refuse it.
    """

    rule: Rule
    contradicts: Mapping[str, Expected] = field(default_factory=dict)
    faults: tuple[RuleFault, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RulesUpdate:
    """The text with the proposals, its rules, and what changed.

    `hinders`: `matrix check` would refuse rules that are as before, so the text is not to be used.
    """

    text: str
    expectations: Expectations
    changed: tuple[ChangedRule, ...]
    left_out: tuple[LeftOutRule, ...]
    hinders: tuple[RuleFault, ...]


def accepted(calibration: Calibration) -> tuple[Rule, ...]:
    """Return the proposed rules that contradict no other rule."""
    return tuple(
        part.rule
        for part in calibration.parts
        if isinstance(part, Proposal) or (isinstance(part, NewRule) and not part.contradicts)
    )


def expectations_after(calibration: Calibration, expectations: Expectations) -> Expectations:
    """Return the rules with all that contradicts none of them.

    Raises ExpectationsError where two rules would tie.
    """
    return with_rules(expectations, accepted(calibration))


def update_rules(
    text: str, expectations: Expectations, calibration: Calibration, checks: RuleChecks
) -> RulesUpdate:
    """Return the text of the rules with what a record proposes.

    A proposal that contradicts a rule, or that `matrix check` would refuse, is left out.

    Raises ExpectationsError where two rules would tie, and RulesTextError where the text is written
    in a way that cannot be changed in place.
    """
    left_out = [
        LeftOutRule(rule=part.rule, contradicts=part.contradicts)
        for part in calibration.parts
        if isinstance(part, NewRule) and part.contradicts
    ]
    wanted = {rule.id: rule for rule in accepted(calibration)}
    known = {rule.id: rule for rule in expectations.rules}
    before = checks.check(expectations, ()).faults if wanted else ()
    found = before
    while wanted:
        found = checks.check(with_rules(expectations, tuple(wanted.values())), wanted).faults
        refused = of_rules(found, wanted)
        if not refused:
            break
        left_out += [
            LeftOutRule(rule=wanted.pop(name), faults=of_rules(refused, (name,)))
            for name in sorted({fault.rule for fault in refused})
        ]
    rules = tuple(wanted.values())
    return RulesUpdate(
        text=text_with_rules(text, expectations, rules),
        expectations=with_rules(expectations, rules),
        changed=tuple(ChangedRule(rule=rule, before=known.get(rule.id)) for rule in rules),
        left_out=tuple(left_out),
        hinders=tuple(fault for fault in found if fault not in before) if wanted else (),
    )
