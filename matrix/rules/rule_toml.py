"""A rule as TOML, as it stands in the file of expectations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from matrix.rules.expectations import Rule


def rule_toml(rule: Rule) -> str:
    """Return the row of a rule, from `[[rule]]` on; it is read again as the same rule."""
    lines = ["[[rule]]", f"id = {toml_text(rule.id)}"]
    known = {
        "case": rule.case,
        "platform": rule.platform,
        "torch": rule.torch.text,
        "vllm": rule.vllm.text,
    }
    lines += [f"{key} = {toml_text(value)}" for key, value in known.items() if value is not None]
    if rule.flags:
        lines.append(f"flags = {_table(rule.flags)}")
    if rule.tests.text is not None:
        lines.append(f"tests = {toml_text(rule.tests.text)}")
    lines += [f"start = {toml_text(rule.start)}", f"counters = {_table(rule.counters)}"]
    lines.append(f"evidence = {toml_list(rule.evidence)}")
    if rule.upstream is not None:
        published = _table(rule.upstream.counters), toml_text(rule.upstream.link)
        lines.append("upstream = {{ counters = {}, link = {} }}".format(*published))
    return "".join(f"{line}\n" for line in lines)


def toml_list(items: Sequence[str]) -> str:
    """Return a list of texts: of one in one line, of several with a line for each."""
    if len(items) == 1:
        return f"[{toml_text(items[0])}]"
    return "[\n" + "".join(f"    {toml_text(item)},\n" for item in items) + "]"


def _table(values: Mapping[str, object]) -> str:
    pairs = (f"{_key(key)} = {_value(value)}" for key, value in values.items())
    return f"{{ {', '.join(pairs)} }}"


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").isalnum() else toml_text(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else toml_text(str(value))


def toml_text(value: str) -> str:
    """Return a text in quotes."""
    # JSON and TOML quote alike but for DEL, and for the surrogate pairs of ASCII-only JSON.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def unused_id(rule_id: str, taken: set[str]) -> str:
    """Return the id, or the id with the first number from 2 up that no other rule has taken."""
    number, candidate = 1, rule_id
    while candidate in taken:
        number += 1
        candidate = f"{rule_id}-{number}"
    return candidate
