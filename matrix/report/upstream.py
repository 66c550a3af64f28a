"""Where upstream publishes another number than was measured: as Markdown, and as data for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matrix._util.text import code, tabular
from matrix.rules.expectations import Published, Rule


def section(rules: Sequence[Rule]) -> str:
    """The section of the table, or nothing where no rule says that upstream differs."""
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
        "## Where we measured something else than upstream publishes\n\n"
        "What was measured is what is expected.\n\n" + tabular(head, rows, right=(4, 5))
    )


def content(rules: Sequence[Rule]) -> list[dict[str, object]]:
    """The same for a program: one object for each counter."""
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


def _published(rules: Sequence[Rule]) -> Iterator[tuple[Rule, Published]]:
    return ((rule, rule.upstream) for rule in rules if rule.upstream)


def _where(rule: Rule) -> str:
    """The conditions of the rule in a few words; a specifier may hold `<`, so each is code."""
    said = [rule.platform or "any platform"]
    said += [
        f"{name} `{each.text}`"
        for name, each in (("torch", rule.torch), ("vLLM", rule.vllm))
        if each.text
    ]
    said += [f"{code(name)} {code(str(value))}" for name, value in sorted(rule.flags.items())]
    return ", ".join(said)
