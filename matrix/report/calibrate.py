"""The rules that a record proposes, as TOML for a person to paste, with what to do about each."""

from __future__ import annotations

from matrix.rules.calibrate import Calibration, NewRule, NotPassed
from matrix.rules.rule_toml import rule_toml
from matrix.rules.widen import Proposal


def render(found: Calibration) -> str:
    """Return rules and comments as TOML; what proposes nothing is named in a comment."""
    if not found.parts:
        return _comment(
            f"{found.name}: nothing to propose: every requested counter has an expectation"
        )
    return "\n".join(map(_part, found.parts))


def _part(part: Proposal | NotPassed | NewRule) -> str:
    match part:
        case NotPassed(case=case, outcome=outcome, reason=reason):
            why = f" ({reason})" if reason else ""
            return _comment(f"{case}: {outcome}{why}, so it justifies no rule")
        case NewRule(rule=rule, contradicts=contradicts):
            lines = [
                _comment(f"rule {expected.rule!r} expects {counter} = {expected.value}")
                for counter, expected in contradicts.items()
            ]
            return "".join([*lines, rule_toml(rule)])
        case Proposal():
            return _proposal(part)


def _proposal(part: Proposal) -> str:
    """Return a proposal for a rule that ended before the record's releases, with what to do."""
    follows = f"rule {part.follows.id!r} ends before this record, which"
    if part.widens:
        return _comment(f"{follows} counts the same: replace it with this") + rule_toml(part.rule)
    if part.gone or part.rule.counters.items() - part.follows.counters.items():
        how = "counts otherwise"
    elif part.follows.platform is None:
        how = f"counts the same, on {part.rule.platform} alone"
    else:
        how = "counts the same, but a wider rule would tie with another"
    text = _comment(f"{follows} {how}: add this, and leave that one unchanged")
    if part.gone:
        text += _comment(f"it does not count {', '.join(part.gone)} at all")
    return text + rule_toml(part.rule)


def _comment(text: str) -> str:
    """Return a text as one line of comment."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return f"# {' '.join(plain.split())}\n"
