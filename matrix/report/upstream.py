"""Differences between upstream's and measured numbers, as Markdown and as data for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matrix._util.text import code, tabular
from matrix.rules.expectations import PublishedCounters, Rule


def section(rules: Sequence[Rule]) -> str:
    """Return the section of the table; "" if no rule says that upstream differs."""
    rows = [
        [
            code(rule.case or "every case"),
            _where(rule),
            rule.start,
            code(counter),
            str(rule.counters[counter]),
            f"[{number}]({published.link})",
            ", ".join(code(record) for record in rule.records),
        ]
        for rule, published in _published(rules)
        for counter, number in sorted(published.counters.items())
    ]
    if not rows:
        return ""
    head = ["case", "where", "start", "counter", "measured", "upstream", "record"]
    return (
        "## Measured counts that differ from upstream's\n\n"
        "The expectation is the measured count.\n\n" + tabular(head, rows, right=(4, 5))
    )


def content(rules: Sequence[Rule]) -> list[dict[str, object]]:
    """Return the same as JSON values: one object for each counter."""
    return [
        {
            "rule": rule.id,
            "case": rule.case,
            "platform": rule.platform,
            "torch": rule.torch.text,
            "vllm": rule.vllm.text,
            "start": rule.start,
            "counter": counter,
            "measured": rule.counters[counter],
            "published": number,
            "link": published.link,
            "records": list(rule.records),
        }
        for rule, published in _published(rules)
        for counter, number in sorted(published.counters.items())
    ]


def _published(rules: Sequence[Rule]) -> Iterator[tuple[Rule, PublishedCounters]]:
    return ((rule, rule.upstream) for rule in rules if rule.upstream)


def _where(rule: Rule) -> str:
    """Return the conditions of the rule in a few words; each is code, since it may hold `<`."""
    conditions = [rule.platform or "any platform"]
    conditions += [
        f"{name} `{versions.text}`"
        for name, versions in (
            ("torch", rule.torch),
            ("vLLM", rule.vllm),
            ("startup tests", rule.tests),
        )
        if versions.text
    ]
    conditions += [f"{code(name)} {code(str(value))}" for name, value in sorted(rule.flags.items())]
    return ", ".join(conditions)
