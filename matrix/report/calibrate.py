"""The rules that a record proposes, as TOML to paste, or as lines once they are written."""

from __future__ import annotations

from collections.abc import Collection

from matrix._util.text import clean, plural
from matrix.report.check import fault_lines
from matrix.rules.calibrate import Calibration, NewRule, NotPassed
from matrix.rules.calibrate_file import ChangedRule, LeftOutRule, RulesUpdate
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
        case NotPassed():
            return _comment(_not_passed(part))
        case NewRule(rule=rule, contradicts=contradicts):
            lines = [
                _comment(f"rule {expected.rule!r} expects {counter} = {expected.value}")
                for counter, expected in contradicts.items()
            ]
            return "".join([*lines, rule_toml(rule)])
        case Proposal():
            return _proposal(part)


def render_update(update: RulesUpdate, found: Calibration) -> str:
    """Return a line for each rule that was widened or added for a record, and for the record."""
    lines = [f"{clean(found.name)}: {_counts(update.changed)}", *map(_changed, update.changed)]
    lines += [
        f"  {clean(_not_passed(part))}" for part in found.parts if isinstance(part, NotPassed)
    ]
    return "".join(f"{line}\n" for line in lines)


def render_file(path: str, changed: Collection[ChangedRule]) -> str:
    """Return the line about the file of rules, with all that changed in it."""
    if not changed:
        return f"{path} is unchanged\n"
    return f"{path} was written: {_counts(changed)}\n"


def left_out_lines(update: RulesUpdate, found: Calibration) -> list[str]:
    """Return a line for each proposal that was left out, with why and what to do."""
    return [line for item in update.left_out for line in _left_out(item, found.name)]


def _left_out(item: LeftOutRule, name: str) -> list[str]:
    where = f"{name}: left out"
    return [
        *(
            f"{where}: rule {item.rule.id!r}: counts {counter} = {item.rule.counters[counter]}, and"
            f" rule {expected.rule!r} expects {expected.value}; find out why,"
            f" `matrix calibrate {name}` prints the new rule"
            for counter, expected in item.contradicts.items()
        ),
        *fault_lines(item.faults, where),
    ]


def _changed(item: ChangedRule) -> str:
    rule, before = item.rule, item.before
    if before is None:
        ranges = f"torch {rule.torch.text or 'any'}, vllm {rule.vllm.text or 'any'}"
        return f"  added {clean(rule.id)}: {ranges}"
    ends = [
        f"{key} {now.text} (was {then.text})"
        for key, now, then in (
            ("torch", rule.torch, before.torch),
            ("vllm", rule.vllm, before.vllm),
        )
        if now != then
    ]
    return f"  widened {clean(rule.id)}: {', '.join(ends)}"


def _counts(changed: Collection[ChangedRule]) -> str:
    widened = sum(item.before is not None for item in changed)
    added = len(changed) - widened
    parts = [
        *([f"{plural(widened, 'rule')} widened"] if widened else []),
        *([f"{plural(added, 'rule')} added"] if added else []),
    ]
    return ", ".join(parts) or "no rule to widen or to add"


def _not_passed(part: NotPassed) -> str:
    why = f" ({part.reason})" if part.reason else ""
    return f"{part.case}: {part.outcome}{why}, so it justifies no rule"


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
