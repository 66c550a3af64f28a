"""Rules that change in the text of their file: all other text stays as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix._util.versions import VersionRange
from matrix.record.model import Platform, StartKind
from matrix.rules.expectations import Expectations, ExpectationsError, Rule
from matrix.rules.expectations_file import (
    EXPECTATIONS_FILE,
    load_expectations,
    parse_expectations,
)
from matrix.rules.rule_toml import rule_toml
from matrix.rules.rules_text import RulesTextError, text_with_rules, with_rules

NEW_RECORD = "results/cpu/py312-torch214-vllm034.json"
ONE = """\
# All rules.

[[rule]]  # the first
id = "a"
case = 'moe'
platform = "cpu"
vllm = '>=0.19,<0.33'  # where it ends
start = "cold"
counters = { num_compiled_artifacts_saved = 3 }
evidence = [
  # records
  "results/cpu/py312-torch213-vllm032.json"  # the newest
]
# Below the rule.

# --- another section ---
"""


def rule(name: str, case: str | None = "moe", platform: str | None = "cpu") -> Rule:
    return Rule(
        id=name,
        start=StartKind.COLD,
        counters={"num_compiled_artifacts_saved": 3},
        evidence=("results/cpu/py312-torch213-vllm032.json",),
        case=case,
        platform=None if platform is None else Platform(platform),
        vllm=VersionRange(">=0.19,<0.33"),
    )


def wider(known: Rule) -> Rule:
    """Return a rule with the end and the evidence of another record."""
    ranged = VersionRange(f"{(known.vllm.text or '').partition(',')[0]},<0.35")
    return dataclasses.replace(known, vllm=ranged, evidence=(*known.evidence, NEW_RECORD))


def new(name: str, case: str | None = "moe", platform: str | None = "cpu") -> Rule:
    found = rule(name, case, platform)
    return dataclasses.replace(found, vllm=VersionRange(">=0.40,<0.41"), evidence=(NEW_RECORD,))


def changed(text: str, *rules: Rule) -> str:
    return text_with_rules(text, parse_expectations(text, "rules.toml"), rules)


def test_a_widened_rule_keeps_its_comments_and_its_place() -> None:
    known = parse_expectations(ONE, "rules.toml").rules[0]
    assert changed(ONE, wider(known)) == ONE.replace("'>=0.19,<0.33'", '">=0.19,<0.35"').replace(
        'vllm032.json"  # the newest\n', f'vllm032.json",  # the newest\n  "{NEW_RECORD}",\n'
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('["a"]', f'[\n    "a",\n    "{NEW_RECORD}",\n]'),
        ('[\n"a"]', f'[\n"a",\n    "{NEW_RECORD}",\n]'),
        ('[\n\t"a",\n]', f'[\n\t"a",\n\t"{NEW_RECORD}",\n]'),
        ('[\n  "a"\n  , # why\n\n]', f'[\n  "a"\n  , # why\n  "{NEW_RECORD}",\n\n]'),
        ('["a" # ]\n]', f'["a", # ]\n    "{NEW_RECORD}",\n]'),
        ("['''a''', ] # b", f'[\n    "a",\n    "{NEW_RECORD}",\n] # b'),
    ],
)
def test_the_evidence_gets_longer_as_it_is_written(before: str, after: str) -> None:
    text = rule_toml(rule("a")).replace('["results/cpu/py312-torch213-vllm032.json"]', before)
    known = parse_expectations(text, "rules.toml").rules[0]
    assert changed(text, wider(known)) == text.replace(before, after).replace("<0.33", "<0.35")


def test_a_new_rule_follows_the_last_of_its_case_and_platform() -> None:
    below = rule_toml(rule("other", "dense"))
    text = ONE.replace("# --- another section ---\n", below)
    first = new("first")
    second = dataclasses.replace(first, id="second", start=StartKind.WARM)
    assert changed(text, first, second) == text.replace(
        f"# Below the rule.\n\n{below}",
        f"# Below the rule.\n\n{rule_toml(first)}\n{rule_toml(second)}\n{below}",
    )


def test_a_comment_of_the_next_rule_stays_with_it() -> None:
    first, second = rule_toml(rule("a")), rule_toml(rule("b", "dense"))
    added = rule_toml(new("new"))
    assert changed(f"{first}# of b\n{second}", new("new")) == f"{first}\n{added}\n# of b\n{second}"


@pytest.mark.parametrize("name", ["dense", None])
def test_a_new_rule_of_another_case_comes_last(name: str | None) -> None:
    rules = (
        new("x", name),
        new("y", "moe", "cuda"),
        dataclasses.replace(new("z", name), start=StartKind.WARM),
    )
    ends = "\n".join(rule_toml(rules[number]) for number in (0, 2, 1))
    assert changed(ONE, *rules) == f"{ONE}\n{ends}"
    assert changed(ONE.rstrip("\n"), *rules) == f"{ONE}\n{ends}"
    assert changed(f"{ONE}\n", *rules) == f"{ONE}\n{ends}"
    assert changed("", *rules) == ends


def test_new_rules_of_the_last_rule_come_before_those_of_another_case() -> None:
    text = rule_toml(rule("a"))
    added = changed(text, new("other", "dense"), new("same"))
    assert added == "\n".join((text, rule_toml(new("same")), rule_toml(new("other", "dense"))))


def test_no_change_is_the_text_itself() -> None:
    known = parse_expectations(ONE, "rules.toml").rules[0]
    assert changed(ONE) == changed(ONE, known) == ONE


def test_rules_that_tie_are_refused() -> None:
    with pytest.raises(ExpectationsError, match="rules 'a' and 'b' tie on"):
        changed(ONE, rule("b"))


INLINE = 'rule = [{ id = "a", vllm = "<0.33", start = "cold", counters = { num_graphs_seen = 1 }, evidence = ["a"] }]'  # noqa: E501


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (INLINE, "not every rule begins with a line"),
        (ONE.replace("vllm =", '"\\u0076llm" ='), "a way that cannot be changed in place"),
    ],
)
def test_what_cannot_be_changed_in_place_is_refused(text: str, message: str) -> None:
    known = parse_expectations(text, "rules.toml").rules[0]
    with pytest.raises(RulesTextError, match=f"rules.toml: .*{message}"):
        changed(text, wider(known))


def test_the_rules_of_the_package_are_changed_in_place() -> None:
    known = load_expectations()
    text = EXPECTATIONS_FILE.read_text(encoding="utf-8")
    ended = [found for found in known.rules if found.vllm.text and "<0.34" in found.vllm.text]
    rules = [dataclasses.replace(found, evidence=(*found.evidence, NEW_RECORD)) for found in ended]
    after = text_with_rules(text, known, rules)
    gone = [line for line in text.splitlines() if line not in set(after.splitlines())]
    assert all(line.startswith("evidence = [") for line in gone)
    assert len(after.splitlines()) == len(text.splitlines()) + len(rules) + 2 * len(gone)


GAPS = st.sampled_from(
    ["", "\n", "\n\n", "# a comment\n", "\n# --- [[rule]] ---\n\n", "# of it\n\n# of the next\n"]
)
COMMENTS = st.sampled_from(["", "  # why", " # ] } \" '"])
CASES = st.sampled_from([None, "moe", "moe[0]", "dense"])
PLATFORMS = st.sampled_from([None, "cpu", "cuda"])
LINE_ENDS = st.sampled_from(["\n", "\r\n"])


@st.composite
def written(draw: st.DrawFn, known: Rule) -> str:
    """Return a rule as somebody may write it."""
    lines = rule_toml(known).splitlines()
    lines = [line + (draw(COMMENTS) if not line.endswith("[") else "") for line in lines]
    if draw(st.booleans()):
        lines[0] = "[[ rule ]]"
    if draw(st.booleans()):
        lines.insert(draw(st.integers(1, 3)), "# [[rule]]")
    if draw(st.booleans()):
        flags = next((line for line in lines if line.startswith("flags")), None)
        if flags is not None:
            lines.remove(flags)
            lines += ["[rule.flags]", "X = true"]
    return "".join(f"{line}\n" for line in lines)


def is_within(lines: Sequence[str], others: Iterator[str]) -> bool:
    """Tell whether all lines are among the others, in the same order."""
    return all(line in others for line in lines)


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


@given(data=st.data(), count=st.integers(0, 5), ends=LINE_ENDS, is_ended=st.booleans())
def test_all_text_outside_the_changed_rules_stays(
    data: st.DataObject, count: int, ends: str, is_ended: bool
) -> None:
    """The law: the text is read as the rules with the changes, and all else in it is as before."""
    rules = [
        dataclasses.replace(
            rule(f"rule-{number}", data.draw(CASES), data.draw(PLATFORMS)),
            # Other releases of torch, so that no two rules tie.
            torch=VersionRange(f"=={number + 1}.*"),
            flags=data.draw(st.sampled_from([{}, {"X": True}])),
            evidence=("a",) * data.draw(st.integers(1, 2)),
        )
        for number in range(count)
    ]
    widened = [found for found in rules if data.draw(st.booleans())]
    added = [
        dataclasses.replace(
            new(f"new-{number}", data.draw(CASES), data.draw(PLATFORMS)),
            torch=VersionRange(f"=={number + 20}.*"),
        )
        for number in range(data.draw(st.integers(0, 4)))
    ]
    kept, text = [data.draw(GAPS)], ""
    text += kept[0]
    for found in rules:
        row, gap = data.draw(written(found)), data.draw(GAPS)
        text += row + gap
        kept += [gap] if found in widened else [row, gap]
    text = text.replace("\n", ends)
    if is_ended:
        text = text.rstrip()
    known = parse_expectations(text.replace(ends, "\n"), "rules.toml")
    assert known.rules == tuple(rules)
    proposed = [*map(wider, widened), *added]
    after = text_with_rules(text, known, data.draw(st.permutations(proposed)))
    read = parse_expectations(after.replace(ends, "\n"), "rules.toml")
    assert {found.id: found for found in read.rules} == {
        found.id: found for found in (*rules, *proposed)
    }
    assert [found.id for found in read.rules if found in rules or found in map(wider, rules)] == [
        found.id for found in rules
    ]
    assert is_within("".join(kept).strip().splitlines(), iter(after.splitlines()))
    assert comments(after) == comments(text)
    assert after.count("\r") == (after.count("\n") if ends == "\r\n" and "\r" in text else 0)
    assert text_with_rules(after, read, proposed) == after
    _check_places(read, rules)


def _check_places(read: Expectations, rules: Sequence[Rule]) -> None:
    """Check that a new rule comes after one of its case and platform, or after all others."""
    ids = [found.id for found in rules]
    for number, found in enumerate(read.rules):
        if found.id in ids:
            continue
        before = read.rules[number - 1] if number else None
        same = {(other.case, other.platform): other.id for other in read.rules if other.id in ids}
        if (found.case, found.platform) in same:
            assert before is not None
            assert (before.case, before.platform) == (found.case, found.platform)
        else:
            assert not any(other.id in ids for other in read.rules[number:])


def test_with_rules_is_what_the_text_is_read_as() -> None:
    known = parse_expectations(ONE, "rules.toml")
    rules = (new("b"), wider(known.rules[0]))
    assert with_rules(known, rules) == parse_expectations(changed(ONE, *rules), "rules.toml")
