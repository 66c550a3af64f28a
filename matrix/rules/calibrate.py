"""Propose expectations: the rules that a record would justify, for a person to read and commit.

Nothing here edits a file: a run never changes what it is judged by.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from packaging.version import InvalidVersion

from matrix._util.versions import parse_version
from matrix.errors import MatrixError
from matrix.record.model import Case, Record, Start
from matrix.rules.counters import COUNTERS, DEFAULT_COUNTERS
from matrix.rules.expectations import Expectations, Expected, Situation

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
    between them. What proposes nothing is said in a comment.

    Raises CalibrateError for a record that justifies no rule: the run did not end or ended early,
    no case of it started, or it does not say its torch and vLLM.
    """
    name, evidence = name or record.cell, _published(record)
    _check_justifies(record, name)
    minors = {key: _minor(record, key, name) for key in ("torch", "vllm")}
    taken = {rule.id for rule in expectations.rules}
    parts: list[str] = []
    for case in record.cases:
        if case.outcome != "passed":
            why = f" ({case.reason})" if case.reason else ""
            parts.append(_comment(f"{case.case}: {case.outcome}{why}, so it justifies no rule"))
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
            wanted = _wanted(start, expected, every=every)
            if wanted:
                rule_id = _unused(_id(record, case, start), taken)
                taken.add(rule_id)
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
        parts.append(_comment(f"{name}: nothing to propose, every counter asked for is expected"))
    return "\n".join(parts)


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


def _unused(rule_id: str, taken: set[str]) -> str:
    number, candidate = 1, rule_id
    while candidate in taken:
        number += 1
        candidate = f"{rule_id}-{number}"
    return candidate


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
    lines = [
        _comment(f"rule {expected[name].rule!r} expects {name} = {expected[name].value}")
        for name in wanted
        if name in expected
    ]
    lines += [
        "[[rule]]\n",
        f"id = {_text(rule_id)}\n",
        f"case = {_text(situation.case)}\n",
        f"platform = {_text(situation.platform)}\n",
        f"torch = {_text(minors['torch'])}\n",
        f"vllm = {_text(minors['vllm'])}\n",
        f"flags = {_table(flags)}\n" if flags else "",
        f"start = {_text(start.start)}\n",
        f"counters = {_table(wanted)}\n",
        f"evidence = [{_text(evidence)}]\n",
    ]
    return "".join(lines)


def _table(values: Mapping[str, object]) -> str:
    pairs = (f"{_key(key)} = {_value(value)}" for key, value in values.items())
    return f"{{ {', '.join(pairs)} }}"


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").isalnum() else _text(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _text(str(value))


def _text(value: str) -> str:
    # JSON and TOML quote alike but for DEL, and for the surrogate pairs of ASCII-only JSON.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    plain = "".join(char if char.isprintable() else " " for char in text)
    return f"# {' '.join(plain.split())}\n"
