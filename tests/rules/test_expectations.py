from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from made import provenance
from matrix._util.versions import VersionRange, VersionRangeError
from matrix.record.model import Case, Outcome, Platform, Record, RecordError, Start, StartKind
from matrix.record.reader import read
from matrix.record.writer import write
from matrix.rules.expectations import (
    Difference,
    Expectations,
    ExpectationsError,
    Expected,
    Published,
    Rule,
    Situation,
    compare,
)
from matrix.rules.expectations_file import load_expectations, parse_expectations
from matrix.verdict.judge import judge

ROOT = Path(__file__).parents[2]

MEGA = "VLLM_USE_MEGA_AOT_ARTIFACT"
SAVED = "num_compiled_artifacts_saved"
LOADED = "num_compiled_artifacts_loaded"
TOTAL = "aot_autograd.total"
HIT = "aot_autograd.autograd_cache_hit"
MISS = "aot_autograd.autograd_cache_miss"

RULE = """
[[rule]]
id = "one"
start = "cold"
counters = { num_compiled_artifacts_saved = 3 }
evidence = ["records/cpu/one.json"]
"""


def situation(
    case: str = "moe_startup[mega_aot=1]",
    platform: str = "cuda",
    torch: str = "2.10.0",
    vllm: str = "0.19.1",
    flags: dict[str, object] | None = None,
) -> Situation:
    return Situation(case=case, platform=platform, torch=torch, vllm=vllm, flags=flags or {})


def values(found: Mapping[str, Expected]) -> dict[str, int]:
    return {counter: expected.value for counter, expected in found.items()}


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


# Version ranges. The boundaries are small, so that a grid holds a version of every stretch.
GRID = [
    Version(".".join(map(str, release)))
    for release in product(range(4), range(4), range(4), (0, 1))
]
numbers = st.integers(0, 2).map(str)
releases = st.lists(numbers, min_size=1, max_size=3).map(".".join)
long_releases = st.lists(numbers, min_size=2, max_size=3).map(".".join)
clauses = (
    st.builds("{}{}".format, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), releases)
    | st.builds("{}{}.*".format, st.sampled_from(["==", "!="]), releases)
    | long_releases.map("~={}".format)
)
specifiers = st.lists(clauses, min_size=1, max_size=3).map(",".join)


def sampled(text: str) -> set[Version]:
    specifier = SpecifierSet(text)
    return {version for version in GRID if version in specifier}


def range_of(text: str) -> VersionRange:
    try:
        return VersionRange(text)
    except (ExpectationsError, VersionRangeError) as error:
        assert "no version satisfies" in str(error)
        assert not sampled(text)
        reject()


@given(specifiers, specifiers)
@settings(max_examples=60)
def test_implication_of_ranges_agrees_with_sampling(one: str, other: str) -> None:
    left, right = range_of(one), range_of(other)
    assert left.implies(right) == (sampled(one) <= sampled(other))


@given(specifiers, specifiers)
@settings(max_examples=60)
def test_a_shared_version_is_found_where_there_is_one(one: str, other: str) -> None:
    left, right = range_of(one), range_of(other)
    shared = left.shared(right)
    assert (shared is not None) == bool(sampled(one) & sampled(other))
    if shared is not None:
        assert left.contains(shared)
        assert right.contains(shared)


@given(specifiers)
def test_every_range_implies_itself_and_every_version(text: str) -> None:
    found = range_of(text)
    assert found.implies(found)
    assert found.implies(VersionRange())


@pytest.mark.parametrize(
    ("one", "other", "implied"),
    [
        ("==2.10.*", ">=2.10", True),
        ("==2.10.*", ">=2.10,<2.11", True),
        (">=2.10,<2.11", "==2.10.*", True),
        ("~=2.10.0", "==2.10.*", True),
        ("==2.10.0", "==2.10", True),
        (">2.9", ">=2.10", False),
        ("<2.10", "<=2.9.1", False),
        ("!=2.12.0", "<2.12", False),
        (None, ">=0", True),
        (None, ">=0.1", False),
    ],
)
def test_implication_at_the_edges(one: str | None, other: str | None, implied: bool) -> None:
    assert VersionRange(one).implies(VersionRange(other)) is implied


@pytest.mark.parametrize("version", ["2.12.0rc1+cu128", "2.12.0.dev20260401", "2.12.0.post1"])
def test_versions_are_judged_by_their_base(version: str) -> None:
    assert VersionRange(">=2.12").contains(Version(version))
    assert not VersionRange("<2.12").contains(Version(version))


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
    alone = [each for each in LADDER if Expectations(rules=(each,)).expect(where, "warm")]
    found = Expectations(rules=tuple(rules)).expect(where, "warm")
    assert found[SAVED] == Expected(
        value=alone[-1].counters[SAVED], rule=alone[-1].id, evidence=("a.json",)
    )


@given(situations, st.sampled_from(["cold", "warm"]))
def test_without_a_rule_nothing_is_expected(where: Situation, start: str) -> None:
    assert Expectations(rules=()).expect(where, start) == {}
    other = "warm" if start == "cold" else "cold"
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
    met = [each for each in (one, other) if Expectations(rules=(each,)).expect(where, "warm")]
    found = both.expect(where, "warm")
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
    found = Expectations(rules=(bare, nested)).expect(situation("moe[shape=[2,3]]"), "warm")
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
        start = "warm"
        counters = { num_compiled_artifacts_saved = 0, "aot_autograd.total" = 30 }
        evidence = ["a.json", "b.json"]
        [[rule]]
        id = "mega"
        flags = { VLLM_USE_MEGA_AOT_ARTIFACT = true }
        start = "warm"
        counters = { "aot_autograd.total" = 0 }
        evidence = ["c.json"]
        """,
        "rules.toml",
    ).expect(situation(flags={MEGA: True}), "warm")
    assert found == {
        SAVED: Expected(value=0, rule="all", evidence=("a.json", "b.json")),
        TOTAL: Expected(value=0, rule="mega", evidence=("c.json",)),
    }
    assert list(found) == sorted(found)


def test_a_bare_case_is_every_parameter_of_it_and_no_other_case() -> None:
    bare = Expectations(rules=(rule("a", case="moe_startup"),))
    exact = Expectations(rules=(rule("a", case="moe_startup[mega_aot=1]"),))
    assert bare.expect(situation("moe_startup"), "warm")
    assert bare.expect(situation("moe_startup[mega_aot=1]"), "warm")
    assert bare.expect(situation("moe_startup[shape=[2,3]]"), "warm")
    assert not bare.expect(situation("moe_startup_more"), "warm")
    assert exact.expect(situation("moe_startup[mega_aot=1]"), "warm")
    assert not exact.expect(situation("moe_startup[mega_aot=0]"), "warm")
    assert not exact.expect(situation("moe_startup"), "warm")


@pytest.mark.parametrize(
    ("flags", "met"),
    [({}, False), ({MEGA: False}, False), ({MEGA: "1"}, False), ({MEGA: True, "B": [1]}, True)],
)
def test_a_flag_must_be_there_and_equal(flags: dict[str, object], met: bool) -> None:
    found = Expectations(rules=(rule("a", flags={MEGA: True}),)).expect(
        situation(flags=flags), "warm"
    )
    assert bool(found) is met


def test_a_situation_without_a_version_is_refused() -> None:
    with pytest.raises(ExpectationsError, match="situation: torch 'None' is not a version"):
        Expectations(rules=()).expect(situation(torch="None"), "cold")
    with pytest.raises(ExpectationsError, match="situation: vllm 'x' is not a version"):
        Expectations(rules=()).expect(situation(vllm="x"), "cold")


def test_compare_lists_what_differs() -> None:
    expected = {
        TOTAL: Expected(value=30, rule="r", evidence=("a.json",)),
        SAVED: Expected(value=0, rule="r", evidence=("a.json",)),
        LOADED: Expected(value=3, rule="s", evidence=("a.json",)),
    }
    observed = {SAVED: 0, TOTAL: 33, "num_graphs_seen": 1}
    assert compare(expected, observed, "warm") == (
        Difference(start="warm", counter=TOTAL, expected=30, observed=33, rule="r"),
        Difference(start="warm", counter=LOADED, expected=3, observed=None, rule="s"),
    )
    assert compare({}, observed, "cold") == ()


# Bad files.
@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ('id = "one"\n', "", "rule 1: id: is missing; name the rule"),
        ('id = "one"', "id = 1", "rule 1: id: 1 is not a name"),
        ('id = "one"', 'id = " "', "rule 1: id: ' ' is not a name"),
        ('start = "cold"\n', "", "rule 'one': start: is missing; add it"),
        ('"cold"', '"tepid"', "rule 'one': start: 'tepid' is unknown; write \"cold\" or \"warm\""),
        ('start = "cold"', "start = 1", "start: 1 is unknown"),
        ("start =", "platform = 'gpu'\nstart =", "platform: 'gpu' is unknown; write \"cuda\" or"),
        ("start =", "case = 'moe['\nstart =", "case: 'moe[' is not a case; write moe_startup or"),
        ("start =", "case = ''\nstart =", "case: '' is not a case"),
        ("start =", "evidance = []\nstart =", "evidance: unknown key; did you mean 'evidence'?"),
        ("start =", "zzz = 1\nstart =", "zzz: unknown key; the known ones are id, case,"),
        ("start =", "torch = 2.10\nstart =", 'torch: 2.1 is not a string; write ">=2.10"'),
        ("start =", "torch = '2.10'\nstart =", "torch: '2.10' is not a specifier; write it as"),
        ("start =", "vllm = '=>0.17'\nstart =", "vllm: '=>0.17' is not a specifier"),
        ("start =", "torch = ''\nstart =", "torch: is empty; leave the key out"),
        ("start =", "torch = '===2.10'\nstart =", "torch: '===2.10' compares texts; write =="),
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
        ("[[rule]]", "[[rules]]", "rules.toml: rules: unknown key; each rule begins with [[rule]]"),
        ("[[rule]]", "[rule]", "rules.toml: rule: is not a list; begin each rule with [[rule]]"),
        ("[[rule]]", "[[rule", "rules.toml: is not TOML ("),
    ],
)
def test_a_bad_rule_is_refused_with_its_mend(old: str, new: str, part: str) -> None:
    assert old in RULE
    with pytest.raises(ExpectationsError) as caught:
        parse_expectations(RULE.replace(old, new, 1), "rules.toml")
    message = str(caught.value)
    assert message.startswith("rules.toml: ")
    assert part in message
    assert "\n" not in message


def test_an_id_is_used_once() -> None:
    with pytest.raises(ExpectationsError, match=r"rules\.toml: rule 'one': id: is there twice"):
        parse_expectations(RULE + RULE.replace("cold", "warm"), "rules.toml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExpectationsError, match=r"none\.toml: cannot be read \(No such file"):
        load_expectations(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ExpectationsError, match=r"bad\.toml: is not UTF-8"):
        load_expectations(tmp_path / "bad.toml")


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULE)
    found = load_expectations(tmp_path / "rules.toml")
    assert values(found.expect(situation(), "cold")) == {SAVED: 3}
    assert parse_expectations("", "empty.toml").rules == ()


# What upstream publishes otherwise.
LINK = "https://github.com/vllm-project/vllm/blob/v0.20.2/tests/compile/test_startup.py#L50-L60"
OTHERWISE = f"""
[[rule]]
id = "one"
start = "cold"
counters = {{ num_compiled_artifacts_saved = 3, "aot_autograd.total" = 9 }}
evidence = ["results/cuda/one.json", "https://github.com/pytorch/pytorch/issues/1"]
upstream = {{ counters = {{ num_compiled_artifacts_saved = 4 }}, link = "{LINK}" }}
"""


def test_a_rule_may_say_what_upstream_publishes_otherwise() -> None:
    found = parse_expectations(OTHERWISE, "rules.toml")
    [one] = found.rules
    assert one.upstream == Published(counters={SAVED: 4}, link=LINK)
    assert one.records == ("results/cuda/one.json",)
    # What was measured is what is expected.
    assert values(found.expect(situation(), "cold")) == {SAVED: 3, TOTAL: 9}
    assert parse_expectations(RULE, "rules.toml").rules[0].upstream is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("saved = 4", "saved = 3", f"counters: {SAVED} = 3 is what the rule expects, too; leave"),
        ("saved = 4", "loaded = 4", f"{LOADED} is not among the rule's own; name what was"),
        ("saved = 4", "saved = -1", f"counters: {SAVED} = -1 is not a count; write a whole number"),
        ("saved = 4", "savd = 4", "unknown counter 'num_compiled_artifacts_savd'; did you mean"),
        ("{ num_compiled_artifacts_saved = 4 }", "{}", "upstream: counters: names no counter"),
        (f', link = "{LINK}"', "", "upstream: write { counters = { ... }, link = "),
        ("link =", "by = 1, link =", "upstream: write { counters = { ... }, link = "),
        ("https://github.com/vllm", "https://github.com/x/vllm", "is no link to vllm-project or"),
        ("https://github.com/vllm", "http://github.com/vllm", "is no link to vllm-project or"),
        ("#L50", ")[x](", "is no link to vllm-project or pytorch on GitHub; write https://"),
        (f'"{LINK}"', "3", "upstream: link: 3 is no link to vllm-project or pytorch"),
        ('"results/cuda/one.json", ', "", "upstream: evidence names no record; name the one that"),
    ],
)
def test_a_bad_upstream_is_one_line_that_names_the_mend(old: str, new: str, said: str) -> None:
    assert old in OTHERWISE
    with pytest.raises(ExpectationsError) as caught:
        parse_expectations(OTHERWISE.replace(old, new), "rules.toml")
    assert str(caught.value).startswith("rules.toml: rule 'one': upstream: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_upstream_that_is_no_table_is_told() -> None:
    with pytest.raises(ExpectationsError, match=r"'one': upstream: write \{"):
        parse_expectations(RULE + "upstream = 4\n", "rules.toml")


# The rules of the package.
SHIPPED = load_expectations()


def test_shipped_evidence_is_a_record_or_an_upstream_link() -> None:
    upstream = re.compile(
        r"https://github\.com/(vllm-project/vllm|pytorch/pytorch)/"
        r"((pull|issues)/\d+|blob/v\d+\.\d+\.\d+/tests/[\w/]+\.py)"
    )
    record = re.compile(r"(results|records)/(cpu|cuda)/py\d+-torch\d+-vllm\d+(\.\w+)?\.json")
    for each in SHIPPED.rules:
        for item in each.evidence:
            assert upstream.fullmatch(item) or record.fullmatch(item), each.id


def test_the_loaded_counter_is_expected_only_where_vllm_has_it() -> None:
    for each in SHIPPED.rules:
        if LOADED in each.counters:
            assert each.vllm.implies(VersionRange(">=0.17")), each.id


@pytest.mark.parametrize(
    ("torch", "mega", "total"),
    [
        ("2.9.1", True, 30),
        ("2.9.1", False, 30),
        ("2.10.0rc1", True, 0),
        ("2.10.0+cu128", True, 0),
        ("2.10.0+cu128", False, 30),
        ("2.11.0", True, 0),
    ],
)
def test_moe_on_cuda_draws_the_line_at_torch_2_10(torch: str, mega: bool, total: int) -> None:
    where = situation(torch=torch, vllm="0.20.2", flags={MEGA: mega})
    assert values(SHIPPED.expect(where, "cold")) == {
        SAVED: 3,
        LOADED: 0,
        TOTAL: 33,
        MISS: 3,
        HIT: 0,
    }
    assert values(SHIPPED.expect(where, "warm")) == {
        SAVED: 0,
        LOADED: 3,
        TOTAL: total,
        MISS: 0,
        HIT: 0,
    }


@pytest.mark.parametrize(("vllm", "saved"), [("0.17.1", 1), ("0.18.1", 0), ("0.19.1", 0)])
def test_moe_on_cuda_saved_one_too_many_in_vllm_0_17(vllm: str, saved: int) -> None:
    found = values(SHIPPED.expect(situation(vllm=vllm, flags={MEGA: False}), "warm"))
    assert found == {SAVED: saved, LOADED: 3, TOTAL: 30, MISS: 0, HIT: saved}


@pytest.mark.parametrize(("vllm", "counted"), [("0.17.1", {SAVED: 0, LOADED: 0}), ("0.18.1", {})])
def test_the_mega_artifact_was_not_counted_before_vllm_0_19(
    vllm: str, counted: dict[str, int]
) -> None:
    where = situation(vllm=vllm, flags={MEGA: True})
    for start in ("cold", "warm"):
        found = values(SHIPPED.expect(where, start))
        assert {name: found[name] for name in (SAVED, LOADED) if name in found} == counted


@pytest.mark.parametrize(
    ("case", "torch", "counts"),
    [
        ("gpt_oss_120b", "2.11.0", (3, 0, 3)),
        ("deepseek_v3.2", "2.11.0", (4, 4, 0)),
        ("kimi_k2.5", "2.11.0", (4, 4, 0)),
        ("glm_4.5", "2.12.0", (4, 0, 4)),
        ("minimax_m2.5", "2.12.0", (3, 0, 3)),
    ],
)
def test_models_on_cuda(case: str, torch: str, counts: tuple[int, int, int]) -> None:
    where = situation(f"model_startup[{case}]", torch=torch, vllm="0.20.2", flags={MEGA: False})
    assert values(SHIPPED.expect(where, "cold")) == {SAVED: counts[0], LOADED: 0}
    assert values(SHIPPED.expect(where, "warm")) == {SAVED: counts[1], LOADED: counts[2]}


def shipped(where: Situation) -> dict[str, dict[str, int]]:
    return {start: values(SHIPPED.expect(where, start)) for start in ("cold", "warm")}


MODELS = ["gpt_oss_120b", "deepseek_v3.2", "kimi_k2.5", "glm_4.5", "minimax_m2.5"]
CASES = [
    "small_startup[dense]",
    "small_startup[moe]",
    *(f"model_startup[{each}]" for each in MODELS),
]


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mega", [True, False])
def test_the_mega_artifact_decides_and_not_torch(case: str, platform: str, mega: bool) -> None:
    """Torch 2.12 turns it on by default (vllm-project/vllm #37198)."""
    first, *others = [
        shipped(situation(case, platform, torch, "0.20.2", {MEGA: mega}))
        for torch in ("2.10.0", "2.11.0", "2.12.0rc1", "2.12.0", "2.13.0")
    ]
    assert first["cold"] and first["warm"]
    assert all(each == first for each in others)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("case", ["deepseek_v3.2", "kimi_k2.5"])
@pytest.mark.parametrize(("mega", "saved", "loaded"), [(False, 4, 0), (True, 0, 4)])
def test_two_models_save_again_without_the_mega_artifact(
    case: str, platform: str, mega: bool, saved: int, loaded: int
) -> None:
    found = shipped(situation(f"model_startup[{case}]", platform, "2.12.1", "0.20.2", {MEGA: mega}))
    assert (found["cold"][SAVED], found["cold"][LOADED]) == (4, 0)
    assert (found["warm"][SAVED], found["warm"][LOADED]) == (saved, loaded)


@pytest.mark.parametrize(
    ("vllm", "artifacts"),
    [("0.19.0", 4), ("0.24.0", 4), ("0.25.0", 9), ("0.26.0", 9), ("0.28.0", 9)],
)
@pytest.mark.parametrize("mega", [False, True])
def test_deepseek_on_cuda_shares_no_subgraph_from_vllm_0_25(
    vllm: str, artifacts: int, mega: bool
) -> None:
    found = shipped(situation("model_startup[deepseek_v3.2]", "cuda", "2.11.0", vllm, {MEGA: mega}))
    assert found["cold"] == {SAVED: artifacts, LOADED: 0}
    if mega and vllm == "0.19.0":  # upstream's test of it does not know, and no record does
        assert found["warm"] == {}
    else:
        again = (0, artifacts) if mega else (artifacts, 0)
        assert (found["warm"][SAVED], found["warm"][LOADED]) == again


@pytest.mark.parametrize("vllm", ["0.29.0", "0.31.0", "0.33.0"])
def test_nothing_is_expected_of_deepseek_on_cuda_where_it_is_not_compiled(vllm: str) -> None:
    where = situation("model_startup[deepseek_v3.2]", "cuda", "2.13.0", vllm, {MEGA: True})
    assert shipped(where) == {"cold": {}, "warm": {}}


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("vllm", ["0.17.1", "0.18.1"])
def test_no_artifact_is_expected_where_the_mega_artifact_is_not_counted(
    case: str, platform: str, vllm: str
) -> None:
    for start, found in shipped(situation(case, platform, vllm=vllm, flags={MEGA: True})).items():
        assert not found.get(SAVED) and not found.get(LOADED), start


def unfounded(expectations: Expectations, root: Path) -> list[str]:
    """Where a record that a rule names as evidence, by its path from the root, is none."""
    return [
        f"{rule.id}: {evidence}: {fault}"
        for rule in expectations.rules
        for evidence in rule.evidence
        if "://" not in evidence and (fault := fault_of(rule, evidence, root))
    ]


def fault_of(rule: Rule, evidence: str, root: Path) -> str | None:
    # A run's own records lie in records/, which git ignores: another checkout has none of them.
    if not re.fullmatch(r"results/(cpu|cuda)/[\w-]+\.json", evidence):
        return "is no published record"
    try:
        record = read(root / evidence)
    except RecordError as error:
        return str(error).replace(f"{root}/", "")
    facts = {key: str(record.provenance[key]) for key in ("torch", "vllm")}
    alone = Expectations(rules=(rule,))
    for case in record.cases:
        where = Situation(
            case=case.case,
            platform=record.platform,
            torch=facts["torch"],
            vllm=facts["vllm"],
            flags={**record.flags, **case.flags},
        )
        for start in case.starts:
            expected = alone.expect(where, start.start)
            if expected and not compare(expected, start.counters, start.start):
                return None
    return "has no start that the rule matches and that counts so"


def test_the_records_that_the_rules_name_are_their_evidence() -> None:
    assert unfounded(load_expectations(), ROOT) == []


RUNS = sorted(ROOT.glob("tests/attribution/*/*.json"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.parent.name)
def test_runs_that_no_rule_was_made_of_are_as_expected(path: Path) -> None:
    """Two cells with the other value of the mega artifact's flag, and two beside them."""
    told = judge(read(path), SHIPPED)
    assert told.verdict == "compatible", told.reason


def test_the_rules_of_other_cells_foretell_torch_2_12() -> None:
    """What torch 2.12 counts with vLLM 0.20, by rules with other evidence as well."""
    own = "results/cpu/py311-torch212-vllm020.json"
    others = Expectations(rules=tuple(each for each in SHIPPED.rules if set(each.records) - {own}))
    told = {each.case: each for each in judge(read(ROOT / own), others).cases}
    # DeepSeek-V3.2 does not apply to the other published cells with the mega artifact.
    alone = {"model_startup[deepseek_v3.2]"}
    foretold = {case for case, each in told.items() if each.verdict == "compatible"}
    assert foretold >= told.keys() - alone
    assert not any(each.differences for each in told.values())


@pytest.mark.parametrize(
    ("evidence", "changes", "fault"),
    [
        (None, {}, None),
        ("https://example.org/issues/1", {}, None),
        ("records/cpu/py311-torch210-vllm019.json", {}, "is no published record"),
        ("/results/cpu/py311-torch210-vllm019.json", {}, "is no published record"),
        ("results/cpu/../cpu/py311-torch210-vllm019.json", {}, "is no published record"),
        ("a record", {}, "is no published record"),
        ("results/cuda/py311-torch210-vllm019.json", {}, "cannot be read: No such file"),
        (None, {"cell": "py312-torch210-vllm019"}, "cell: is py312-torch210-vllm019, but"),
        (None, {"platform": "cuda"}, "has no start that the rule matches"),
        (None, {"saved": 4}, "has no start that the rule matches"),
        (None, {"case": "small_startup[moe]"}, "has no start that the rule matches"),
    ],
)
def test_what_is_no_evidence_is_told(
    tmp_path: Path, evidence: str | None, changes: dict[str, Any], fault: str | None
) -> None:
    path = "results/cpu/py311-torch210-vllm019.json"
    values: dict[str, Any] = {
        "case": "moe_startup[mega_aot=1]",
        "saved": 3,
        "cell": "py311-torch210-vllm019",
        "platform": "cpu",
        **changes,
    }
    record = Record(
        cell=values["cell"],
        platform=values["platform"],
        finished=True,
        provenance=provenance("2.10.0+cu128", "0.19.1"),
        cases=(
            Case(
                case=values["case"],
                outcome=Outcome.PASSED,
                starts=(
                    Start(start=StartKind.COLD, seconds={}, counters={SAVED: values["saved"]}),
                ),
            ),
        ),
    )
    write(record, tmp_path / path)
    one = rule("one", case="moe_startup", platform="cpu", start="cold")
    named = replace(one, evidence=(evidence or path,))
    told = unfounded(Expectations(rules=(named,)), tmp_path)
    assert len(told) == bool(fault)
    assert all(each.startswith(f"one: {named.evidence[0]}: ") for each in told)
    assert fault is None or fault in told[0]
