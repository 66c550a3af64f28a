"""Which expectation a start has: the most specific rule wins, and bad files are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix._util.versions import VersionRange, VersionRangeError
from matrix.record.model import Platform, StartKind
from matrix.rules.expectations import (
    Difference,
    Expectations,
    ExpectationsError,
    Expected,
    PublishedCounters,
    Rule,
    Situation,
    compare,
)
from matrix.rules.expectations_file import load_expectations, parse_expectations
from rules import LOADED, MEGA, SAVED, TOTAL, situation, values

RULE = """
[[rule]]
id = "one"
vllm = "<99"
start = "cold"
counters = { num_compiled_artifacts_saved = 3 }
evidence = ["records/cpu/one.json"]
"""


def rule(
    name: str,
    value: int = 3,
    *,
    case: str | None = None,
    platform: str | None = None,
    torch: str | None = None,
    vllm: str | None = None,
    flags: dict[str, object] | None = None,
    start: str = "warm",
) -> Rule:
    return Rule(
        id=name,
        start=StartKind(start),
        counters={SAVED: value},
        evidence=("a.json",),
        case=case,
        platform=Platform(platform) if platform else None,
        torch=VersionRange(torch),
        vllm=VersionRange(vllm),
        flags=flags or {},
    )


# The choice of a rule. Conditions are nested by construction, so that no two rules tie.
LADDER = [
    rule("any", 0),
    rule("platform", 1, platform="cuda"),
    rule("case", 2, platform="cuda", case="moe_startup"),
    rule("vllm", 3, platform="cuda", case="moe_startup", vllm=">=0.17"),
    rule("torch", 4, platform="cuda", case="moe_startup", vllm=">=0.18", torch=">=2.10"),
    rule(
        "parameter",
        5,
        platform="cuda",
        case="moe_startup[mega_aot=1]",
        vllm=">=0.18",
        torch=">=2.10",
    ),
    rule(
        "flag",
        6,
        platform="cuda",
        case="moe_startup[mega_aot=1]",
        vllm="==0.19.*",
        torch="==2.10.*",
        flags={MEGA: True},
    ),
]
situations = st.builds(
    Situation,
    case=st.sampled_from(
        ["moe_startup", "moe_startup[mega_aot=1]", "moe_startup[mega_aot=0]", "other"]
    ),
    platform=st.sampled_from(["cpu", "cuda"]),
    torch=st.sampled_from(["2.9.1", "2.10.0", "2.10.1+cu128", "2.11.0"]),
    vllm=st.sampled_from(["0.16.0", "0.17.1", "0.18.1", "0.19.1", "0.20.2"]),
    flags=st.sampled_from([{}, {MEGA: True}, {MEGA: False}, {MEGA: True, "OTHER": "x"}]),
)


@given(st.permutations(LADDER), situations)
def test_the_most_specific_rule_wins_whatever_the_order(
    rules: list[Rule], where: Situation
) -> None:
    alone = [
        expectation
        for expectation in LADDER
        if Expectations(rules=(expectation,)).expect(where, StartKind.WARM)
    ]
    found = Expectations(rules=tuple(rules)).expect(where, StartKind.WARM)
    assert found[SAVED] == Expected(
        value=alone[-1].counters[SAVED], rule=alone[-1].id, evidence=("a.json",)
    )


@given(situations, st.sampled_from(["cold", "warm"]))
def test_without_a_rule_nothing_is_expected(where: Situation, start: StartKind) -> None:
    assert Expectations(rules=()).expect(where, start) == {}
    other = StartKind.WARM if start == StartKind.COLD else StartKind.COLD
    assert Expectations(rules=(rule("one", start=other),)).expect(where, start) == {}


rules = st.builds(
    rule,
    st.just("x"),
    st.just(3),
    case=st.sampled_from([None, "moe_startup", "moe_startup[mega_aot=1]"]),
    platform=st.sampled_from([None, "cpu", "cuda"]),
    torch=st.sampled_from([None, ">=2.10", "<2.10", "==2.10.*", "!=2.10.0"]),
    vllm=st.sampled_from([None, ">=0.17", "<0.19", "==0.17.1"]),
    flags=st.sampled_from([None, {MEGA: True}, {MEGA: False}, {"OTHER": "x"}]),
)


@given(rules, rules, situations)
def test_two_rules_tie_at_load_or_have_a_winner(one: Rule, other: Rule, where: Situation) -> None:
    other = Rule(**{**vars(other), "id": "y"})
    try:
        both = Expectations(rules=(one, other))
    except (ExpectationsError, VersionRangeError) as error:
        assert "rules 'x' and 'y' tie on num_compiled_artifacts_saved" in str(error)
        return
    met = [
        expectation
        for expectation in (one, other)
        if Expectations(rules=(expectation,)).expect(where, StartKind.WARM)
    ]
    found = both.expect(where, StartKind.WARM)
    assert bool(found) == bool(met)
    if len(met) == 2:
        assert one.more_specific(other) != other.more_specific(one)
        assert found[SAVED].rule == ("x" if one.more_specific(other) else "y")


def test_a_tie_names_both_rules_and_a_situation() -> None:
    with pytest.raises(ExpectationsError) as caught:
        parse_expectations(
            """
            [[rule]]
            id = "by-torch"
            case = "moe_startup"
            torch = ">=2.10"
            vllm = "<99"
            start = "warm"
            counters = { num_compiled_artifacts_saved = 0, "aot_autograd.total" = 0 }
            evidence = ["a.json"]
            [[rule]]
            id = "by-vllm"
            case = "moe_startup[mega_aot=1]"
            platform = "cuda"
            vllm = "==0.17.*"
            flags = { A = true }
            start = "warm"
            counters = { num_compiled_artifacts_saved = 1 }
            evidence = ["b.json"]
            """,
            "rules.toml",
        )
    assert str(caught.value) == (
        "rules.toml: rules 'by-torch' and 'by-vllm' tie on num_compiled_artifacts_saved: both "
        "match the warm start of moe_startup[mega_aot=1] on cuda with torch 2.10 and vLLM 0.17, "
        "A=True, and neither is more specific; narrow one of them"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (rule("a", case="moe_startup"), rule("b", case="model_startup")),
        (rule("a", case="moe[x=1]"), rule("b", case="moe[x=2]")),
        (rule("a", platform="cpu"), rule("b", platform="cuda")),
        (rule("a", start="cold"), rule("b", start="warm")),
        (rule("a", flags={MEGA: True}), rule("b", flags={MEGA: False})),
        (rule("a", torch="<2.10"), rule("b", torch=">=2.10")),
        (rule("a", vllm="==0.17.*", torch=">=2.10"), rule("b", vllm=">=0.18")),
        (rule("a"), Rule(id="b", start=StartKind.WARM, counters={LOADED: 3}, evidence=("b.json",))),
    ],
)
def test_rules_that_never_meet_do_not_tie(one: Rule, other: Rule) -> None:
    assert len(Expectations(rules=(one, other)).rules) == 2


BARE, PARAMETER = "moe", "moe[x=1]"


@pytest.mark.parametrize(
    ("one", "other", "case"),
    [
        (BARE, None, BARE),
        (None, BARE, BARE),
        (None, PARAMETER, PARAMETER),
        (BARE, BARE, BARE),
        (PARAMETER, BARE, PARAMETER),
        (BARE, PARAMETER, PARAMETER),
        (None, None, "any case"),
    ],
)
@pytest.mark.parametrize("flags", [({}, {}), ({"A": 1}, {"B": 2}), ({"A": 1, "B": 2}, {"B": 2})])
def test_rules_of_cases_within_each_other_tie_on_the_narrower_case(
    one: str | None,
    other: str | None,
    case: str,
    flags: tuple[dict[str, object], dict[str, object]],
) -> None:
    by_torch = rule("a", case=one, torch=">=2.10", platform="cpu", flags=flags[0])
    by_vllm = rule("b", case=other, vllm=">=0.17", flags=flags[1])
    told = ", A=1, B=2" if flags[0] else ""
    with pytest.raises(
        ExpectationsError,
        match=re.escape(f"start of {case} on cpu with torch 2.10 and vLLM 0.17{told}, and neither"),
    ):
        Expectations(rules=(by_torch, by_vllm))


def test_a_case_whose_parameter_has_brackets_is_one_of_the_bare_case() -> None:
    bare, nested = rule("a", 3, case="moe"), rule("b", 4, case="moe[shape=[2,3]]")
    assert nested.more_specific(bare) and not bare.more_specific(nested)
    found = Expectations(rules=(bare, nested)).expect(situation("moe[shape=[2,3]]"), StartKind.WARM)
    assert values(found) == {SAVED: 4}


def test_even_rules_that_agree_tie() -> None:
    with pytest.raises(
        ExpectationsError, match=r"any case on any platform with torch 0 and vLLM 0"
    ):
        Expectations(rules=(rule("a", 3), rule("b", 3)))


def test_counters_are_chosen_one_by_one() -> None:
    found = parse_expectations(
        """
        [[rule]]
        id = "all"
        vllm = "<99"
        start = "warm"
        counters = { num_compiled_artifacts_saved = 0, "aot_autograd.total" = 30 }
        evidence = ["a.json", "b.json"]
        [[rule]]
        id = "mega"
        flags = { VLLM_USE_MEGA_AOT_ARTIFACT = true }
        vllm = "<99"
        start = "warm"
        counters = { "aot_autograd.total" = 0 }
        evidence = ["c.json"]
        """,
        "rules.toml",
    ).expect(situation(flags={MEGA: True}), StartKind.WARM)
    assert found == {
        SAVED: Expected(value=0, rule="all", evidence=("a.json", "b.json")),
        TOTAL: Expected(value=0, rule="mega", evidence=("c.json",)),
    }
    assert list(found) == sorted(found)


def test_a_bare_case_is_every_parameter_of_it_and_no_other_case() -> None:
    bare = Expectations(rules=(rule("a", case="moe_startup"),))
    exact = Expectations(rules=(rule("a", case="moe_startup[mega_aot=1]"),))
    assert bare.expect(situation("moe_startup"), StartKind.WARM)
    assert bare.expect(situation("moe_startup[mega_aot=1]"), StartKind.WARM)
    assert bare.expect(situation("moe_startup[shape=[2,3]]"), StartKind.WARM)
    assert not bare.expect(situation("moe_startup_more"), StartKind.WARM)
    assert exact.expect(situation("moe_startup[mega_aot=1]"), StartKind.WARM)
    assert not exact.expect(situation("moe_startup[mega_aot=0]"), StartKind.WARM)
    assert not exact.expect(situation("moe_startup"), StartKind.WARM)


@pytest.mark.parametrize(
    ("flags", "met"),
    [({}, False), ({MEGA: False}, False), ({MEGA: "1"}, False), ({MEGA: True, "B": [1]}, True)],
)
def test_a_flag_must_be_there_and_equal(flags: dict[str, object], met: bool) -> None:
    found = Expectations(rules=(rule("a", flags={MEGA: True}),)).expect(
        situation(flags=flags), StartKind.WARM
    )
    assert bool(found) is met


@pytest.mark.parametrize(
    ("tests", "value"), [(23, 3), (24, 5), (30, 5), (1, 3), (None, None)], ids=str
)
def test_a_rule_may_be_of_some_versions_of_the_startup_tests(
    tests: int | None, value: int | None
) -> None:
    rules = parse_expectations(
        RULE.replace("start =", 'tests = "<24"\nstart =')
        + RULE.replace('"one"', '"two"')
        .replace("start =", 'tests = ">=24"\nstart =')
        .replace("= 3", "= 5"),
        "rules",
    )
    asked = situation()._replace(tests=tests)
    found = rules.expect(asked, StartKind.COLD)
    assert values(found) == ({} if value is None else {SAVED: value})
    # Nor is the nearest rule one of other versions.
    beyond = rules.nearest(asked._replace(vllm="99.1"), StartKind.COLD)
    assert values(beyond) == values(found)


def test_rules_of_versions_of_the_startup_tests_that_overlap_tie() -> None:
    text = RULE.replace("start =", 'tests = "<24"\nstart =')
    other = RULE.replace('"one"', '"two"').replace("start =", 'tests = ">=23"\nstart =')
    with pytest.raises(ExpectationsError, match=r"'one' and 'two' tie.*, startup tests 23, and"):
        parse_expectations(text + other, "rules")


@pytest.mark.parametrize("tests", ['">=2.4"', "24", '"24"', '""', '"<=24"', '">3,<5"'])
def test_versions_of_the_startup_tests_are_whole_numbers(tests: str) -> None:
    text = RULE.replace("start =", f"tests = {tests}\nstart =")
    with pytest.raises(ExpectationsError, match=r'rule .one.: tests: .* write "<24" or ">=24"'):
        parse_expectations(text, "rules")


def test_a_situation_without_a_version_is_refused() -> None:
    with pytest.raises(ExpectationsError, match="situation: torch 'None' is not a version"):
        Expectations(rules=()).expect(situation(torch="None"), StartKind.COLD)
    with pytest.raises(ExpectationsError, match="situation: vllm 'x' is not a version"):
        Expectations(rules=()).expect(situation(vllm="x"), StartKind.COLD)


def test_compare_lists_what_differs() -> None:
    expected = {
        TOTAL: Expected(value=30, rule="r", evidence=("a.json",)),
        SAVED: Expected(value=0, rule="r", evidence=("a.json",)),
        LOADED: Expected(value=3, rule="s", evidence=("a.json",)),
    }
    observed = {SAVED: 0, TOTAL: 33, "num_graphs_seen": 1}
    assert compare(expected, observed, StartKind.WARM) == (
        Difference(start=StartKind.WARM, counter=TOTAL, expected=30, observed=33, rule="r"),
        Difference(start=StartKind.WARM, counter=LOADED, expected=3, observed=None, rule="s"),
    )
    assert compare({}, observed, StartKind.COLD) == ()


# Bad files.
@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ('id = "one"\n', "", "rule 1: id: is missing or empty; name it"),
        ('id = "one"', "id = 1", "rule 1: id: is missing or empty; name it"),
        ('id = "one"', 'id = " "', "rule 1: id: is missing or empty; name it"),
        ('start = "cold"\n', "", "rule 'one': start: is missing; add it"),
        ('"cold"', '"tepid"', "rule 'one': start: 'tepid' is unknown; write \"cold\" or \"warm\""),
        ('start = "cold"', "start = 1", "start: 1 is unknown"),
        ("start =", "platform = 'gpu'\nstart =", "platform: 'gpu' is unknown; write \"cuda\" or"),
        ("start =", "case = 'moe['\nstart =", "case: 'moe[' is not a case; write moe_startup or"),
        ("start =", "case = ''\nstart =", "case: '' is not a case"),
        ("start =", "evidance = []\nstart =", "evidance: unknown key; did you mean 'evidence'?"),
        ("start =", "zzz = 1\nstart =", "zzz: unknown key; known are id, case,"),
        ("start =", "torch = 2.10\nstart =", 'torch: 2.1 is not a string; write ">=2.10"'),
        ("start =", "torch = '2.10'\nstart =", "torch: '2.10' is not a specifier; write it as"),
        ('"<99"', "'=>0.17'", "vllm: '=>0.17' is not a specifier"),
        (
            'vllm = "<99"\n',
            "",
            "vllm: has no upper bound; end it after the newest release that its",
        ),
        ('"<99"', '">=0.17"', 'is of, as ">=0.19,<0.34"'),
        ('"<99"', '"!=0.17.0"', "vllm: has no upper bound"),
        ("start =", "torch = ''\nstart =", "torch: is empty; leave the key out"),
        ("start =", "torch = '===2.10'\nstart =", "torch: '===2.10' compares strings; write =="),
        ("start =", "torch = '>=2.12,<2.10'\nstart =", "satisfies '>=2.12,<2.10'; widen it"),
        ("start =", "torch = '<0'\nstart =", "torch: no version satisfies '<0'"),
        ("start =", "torch = '>=2.12.0rc1'\nstart =", "by base version; write >=2.12.0"),
        ("start =", "torch = '==2.12.0+cu128'\nstart =", "by base version; write ==2.12.0"),
        ("start =", "flags = 'X'\nstart =", "flags: is not a table; write { NAME = true }"),
        ("start =", "flags = { X = 1.5 }\nstart =", "flags: X = 1.5 cannot be compared"),
        ("saved = 3", "svaed = 3", "unknown counter 'num_compiled_artifacts_svaed'; did you mean"),
        ("saved = 3", "svaed = 3", f"did you mean '{SAVED}'?"),
        ("num_compiled_artifacts_saved", "zzz", "unknown counter 'zzz'; see COUNTERS"),
        ("num_compiled_artifacts_saved", "aot_autograd.total", 'the whole name, "aot_autograd.tot'),
        ("saved = 3", "saved = -1", "num_compiled_artifacts_saved = -1 is not a count"),
        ("saved = 3", "saved = true", "num_compiled_artifacts_saved = True is not a count"),
        ("saved = 3", "saved = '3'", "num_compiled_artifacts_saved = '3' is not a count"),
        ("{ num_compiled_artifacts_saved = 3 }", "{}", "rule 'one': counters: names no counter"),
        ("{ num_compiled_artifacts_saved = 3 }", "3", "rule 'one': counters: names no counter"),
        ('evidence = ["records/cpu/one.json"]', "", "rule 'one': evidence: is missing; add it"),
        ('["records/cpu/one.json"]', "[]", "evidence: is not a list of records or links; name at"),
        ('["records/cpu/one.json"]', "['']", "evidence: is not a list of records or links"),
        ('["records/cpu/one.json"]', "'a.json'", "evidence: is not a list of records or links"),
        ("[[rule]]", "[[rules]]", "rules.toml: rules: unknown key; begin each with [[rule]]"),
        ("[[rule]]", "[rule]", "rules.toml: rule: is not a list; begin each with [[rule]]"),
        ("[[rule]]", "[[rule", "rules.toml: is not TOML ("),
    ],
)
def test_a_bad_rule_is_refused_with_its_fix(old: str, new: str, part: str) -> None:
    assert old in RULE
    with pytest.raises(ExpectationsError) as caught:
        parse_expectations(RULE.replace(old, new, 1), "rules.toml")
    message = str(caught.value)
    assert message.startswith("rules.toml: ")
    assert part in message
    assert "\n" not in message


def test_an_id_is_used_once() -> None:
    with pytest.raises(ExpectationsError, match=r"rules\.toml: rule 'one': id: appears twice"):
        parse_expectations(RULE + RULE.replace("cold", "warm"), "rules.toml")


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULE)
    found = load_expectations(tmp_path / "rules.toml")
    assert values(found.expect(situation(), StartKind.COLD)) == {SAVED: 3}
    assert parse_expectations("", "empty.toml").rules == ()


# What upstream publishes otherwise.
LINK = "https://github.com/vllm-project/vllm/blob/v0.20.2/tests/compile/test_startup.py#L50-L60"
OTHERWISE = f"""
[[rule]]
id = "one"
vllm = "<99"
start = "cold"
counters = {{ num_compiled_artifacts_saved = 3, "aot_autograd.total" = 9 }}
evidence = ["results/cuda/one.json", "https://github.com/pytorch/pytorch/issues/1"]
upstream = {{ counters = {{ num_compiled_artifacts_saved = 4 }}, link = "{LINK}" }}
"""


def test_a_rule_may_say_what_upstream_publishes_otherwise() -> None:
    found = parse_expectations(OTHERWISE, "rules.toml")
    [one] = found.rules
    assert one.upstream == PublishedCounters(counters={SAVED: 4}, link=LINK)
    assert one.records == ("results/cuda/one.json",)
    # The expectation is the measured count.
    assert values(found.expect(situation(), StartKind.COLD)) == {SAVED: 3, TOTAL: 9}
    assert parse_expectations(RULE, "rules.toml").rules[0].upstream is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("saved = 4", "saved = 3", f"counters: {SAVED} = 3 is also what the rule expects; leave"),
        ("saved = 4", "loaded = 4", f"{LOADED} is not among the rule's own; name a measured"),
        ("saved = 4", "saved = -1", f"counters: {SAVED} = -1 is not a count; write a whole number"),
        ("saved = 4", "savd = 4", "unknown counter 'num_compiled_artifacts_savd'; did you mean"),
        ("{ num_compiled_artifacts_saved = 4 }", "{}", "upstream: counters: names no counter"),
        (f', link = "{LINK}"', "", "upstream: write { counters = { ... }, link = "),
        ("link =", "by = 1, link =", "upstream: write { counters = { ... }, link = "),
        (
            "https://github.com/vllm",
            "https://github.com/x/vllm",
            "is not a link to vllm-project or",
        ),
        ("https://github.com/vllm", "http://github.com/vllm", "is not a link to vllm-project or"),
        ("#L50", ")[x](", "is not a link to vllm-project or pytorch on GitHub; write https://"),
        (f'"{LINK}"', "3", "upstream: link: 3 is not a link to vllm-project or pytorch"),
        ('"results/cuda/one.json", ', "", "upstream: evidence names no record; name the one that"),
    ],
)
def test_a_bad_upstream_is_one_line_that_names_the_fix(old: str, new: str, said: str) -> None:
    assert old in OTHERWISE
    with pytest.raises(ExpectationsError) as caught:
        parse_expectations(OTHERWISE.replace(old, new), "rules.toml")
    assert str(caught.value).startswith("rules.toml: rule 'one': upstream: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_upstream_that_is_no_table_is_told() -> None:
    with pytest.raises(ExpectationsError, match=r"'one': upstream: write \{"):
        parse_expectations(RULE + "upstream = 4\n", "rules.toml")
