"""Expectations of CUDA are held against upstream's numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from matrix._util.versions import VersionRange
from matrix.catalog.releases_file import load_releases
from matrix.record.model import StartKind
from matrix.report.upstream_tests import contradictions, render_held
from matrix.rules.expectations import Expectations, PublishedCounters, Rule
from matrix.rules.expectations_file import load_expectations
from matrix.rules.upstream.file import load_upstream
from matrix.rules.upstream.hold import UpstreamComparison, hold, our_case, torches_of
from matrix.rules.upstream.model import (
    FLAG,
    ByTorch,
    Upstream,
    UpstreamCase,
    UpstreamFile,
    UpstreamRelease,
    UpstreamStart,
)

SAVED = "num_compiled_artifacts_saved"
PATH = "tests/compile/h100/test_startup.py"
TORCHES = ("2.11.0", "2.12.1")
DEFAULT = ByTorch(values={"<2.12.0.dev": 0, ">=2.12.0.dev": 1})
KIMI = "test_model_startup[kimi_k2.5]"


def case(
    name: str = KIMI, number: ByTorch | int = 4, start: StartKind = StartKind.COLD, **facts: Any
) -> Any:
    value = number if isinstance(number, ByTorch) else ByTorch(values={"": number})
    starts = (UpstreamStart(start=start, numbers={SAVED: value}),)
    return UpstreamCase(case=name, starts=starts, **facts)


def release(version: str, *cases: UpstreamCase, **facts: Any) -> UpstreamRelease:
    files = {PATH: UpstreamFile(sha256=version, cases=cases)}
    return UpstreamRelease(
        **{"version": version, "sha256": "e", "files": files, "flags": {FLAG: DEFAULT}} | facts
    )


def rule(saved: int = 4, **facts: Any) -> Rule:
    given: dict[str, Any] = {
        "id": "r",
        "case": "model_startup[kimi_k2.5]",
        "platform": "cuda",
        "start": StartKind.COLD,
        "counters": {SAVED: saved},
        "evidence": ("results/cuda/py312-torch211-vllm020.json",),
    }
    return Rule(**given | facts)


def held(rules: Rule | tuple[Rule, ...], *releases: UpstreamRelease) -> UpstreamComparison:
    rules = (rules,) if isinstance(rules, Rule) else rules
    return hold(Upstream(releases=releases), Expectations(rules=rules), TORCHES)


def counts(found: UpstreamComparison) -> tuple[int, int, int, int, int]:
    """Return how many there are, agree, contradict, were measured otherwise, have no rule."""
    return (
        found.numbers,
        found.agree,
        len(found.contradictions),
        found.measured,
        found.no_rule + found.beyond,
    )


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, (2, 2, 0, 0, 0)),
        ({"platform": None}, (2, 2, 0, 0, 0)),
        ({"platform": "cpu"}, (2, 0, 0, 0, 2)),
        ({"start": StartKind.WARM}, (2, 0, 0, 0, 2)),
        ({"saved": 9}, (2, 0, 2, 0, 0)),
        ({"torch": VersionRange("<2.12")}, (2, 1, 0, 0, 1)),
        ({"flags": {FLAG: True}}, (2, 1, 0, 0, 1)),
        ({"flags": {FLAG: True}, "saved": 9}, (2, 0, 1, 0, 1)),
        ({"vllm": VersionRange("<0.20")}, (2, 0, 0, 0, 2)),
    ],
)
def test_each_number_is_compared_under_each_torch(
    facts: dict[str, Any], expected: tuple[int, ...]
) -> None:
    assert counts(held(rule(**facts), release("0.20.0", case()))) == expected


def test_a_number_beyond_the_end_of_a_rule_is_counted_as_such() -> None:
    found = held(rule(vllm=VersionRange("<0.20")), release("0.20.0", case()))
    assert (found.beyond, found.no_rule) == (2, 0)
    assert "2 are beyond the end of the rules, 0 have no rule" in render_held(found)


def test_a_rule_that_says_what_upstream_publishes_does_not_contradict() -> None:
    link = "https://github.com/vllm-project/vllm/blob/v0.20.0/x"
    says_so = replace(rule(9), upstream=PublishedCounters(counters={SAVED: 4}, link=link))
    found = held(says_so, release("0.20.0", case()))
    assert counts(found) == (2, 0, 0, 2, 0) and found.ok
    assert "2 were measured otherwise" in render_held(found)
    other = replace(says_so, upstream=PublishedCounters(counters={SAVED: 5}, link=link))
    assert counts(held(other, release("0.20.0", case()))) == (2, 0, 2, 0, 0)


def test_a_number_that_depends_on_torch_is_compared_where_it_holds() -> None:
    number = ByTorch(values={"<2.12.0": 4, ">=2.12.0": 0})
    found = held(rule(), release("0.20.0", case(number=number)))
    assert counts(found) == (2, 1, 1, 0, 0)
    (one,) = found.contradictions
    assert (one.torch, one.vllm, one.expected, one.upstream) == ("2.12.1", "0.20.0", 4, 0)
    assert one.link == f"https://github.com/vllm-project/vllm/blob/v0.20.0/{PATH}"
    none = ByTorch(values={"<2.12.0": 4, ">=2.12.0": None})
    assert counts(held(rule(), release("0.20.0", case(number=none)))) == (1, 1, 0, 0, 0)


def test_a_test_that_is_skipped_says_nothing() -> None:
    found = held(rule(), release("0.20.0", case(torch=">=2.12.0")))
    assert counts(found) == (1, 1, 0, 0, 0)


def test_the_flag_that_the_test_sets_counts_and_not_the_default() -> None:
    moe = case("test_moe_startup[1]", 3, environment={FLAG: "1"})
    mega = rule(3, case="moe_startup[mega_aot=1]", flags={FLAG: True})
    assert counts(held(mega, release("0.20.0", moe))) == (2, 2, 0, 0, 0)


def test_a_case_that_we_do_not_have_has_no_rule() -> None:
    found = held(rule(), release("0.20.0", case("test_parallel_compile_pool", 1)))
    assert counts(found) == (2, 0, 0, 0, 2)


def test_other_tests_than_those_of_a_startup_are_not_compared() -> None:
    files = {"tests/compile/test_aot_compile.py": UpstreamFile(sha256="f", cases=(case(number=1),))}
    assert counts(held(rule(), release("0.20.0", files=files))) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "mega", "ours"),
    [
        ("test_moe_startup", 0, "moe_startup[mega_aot=0]"),
        ("test_moe_startup", None, None),
        ("test_moe_compilation_cold_start", 0, "moe_startup[mega_aot=0]"),
        ("test_model_startup[glm_4.5]", None, "model_startup[glm_4.5]"),
        ("test_model_startup", 0, None),
        ("test_other", 0, None),
    ],
)
def test_our_name_of_a_case(name: str, mega: int | None, ours: str | None) -> None:
    assert our_case(name, mega) == ours


def test_a_rule_that_goes_on_where_upstream_has_no_such_case_is_named() -> None:
    other = case("test_model_startup[glm_4.5]")
    releases = (
        release("0.28.0", case(), other),
        release("0.29.0", other),
        release("0.30.0", other),
    )
    found = held(rule(), *releases)
    assert not found.contradictions and not found.ok
    (one,) = found.vanished
    assert (one.vllm, one.since) == (("0.29.0", "0.30.0"), "0.29.0")
    (line,) = contradictions(found, "rules.toml")
    assert line.startswith(
        "rules.toml: rule 'r': expects numbers of the cold start of model_startup[kimi_k2.5] for"
        " vLLM 0.29.0 to 0.30.0, and upstream's test is without that case since vLLM 0.29.0 ("
    )


@pytest.mark.parametrize(
    "facts",
    [
        {"vllm": VersionRange("<0.29")},
        {"platform": "cpu"},
        {"evidence": ("results/cuda/py312-torch213-vllm029.json",)},
    ],
)
def test_a_rule_that_ends_or_was_measured_there_is_none_of_them(facts: dict[str, Any]) -> None:
    other = case("test_model_startup[glm_4.5]")
    assert held(rule(**facts), release("0.28.0", case()), release("0.29.0", other)).ok


def test_a_release_whose_tests_were_not_read_has_lost_no_case() -> None:
    unread = release("0.29.0", files={}, faults=("its source distribution has no startup test",))
    assert held(rule(), release("0.28.0", case()), unread).ok


def test_one_line_for_all_numbers_that_a_rule_contradicts() -> None:
    found = held(rule(9), release("0.20.0", case()), release("0.21.0", case()))
    (line,) = contradictions(found, "rules.toml")
    assert line == (
        f"rules.toml: rule 'r': {SAVED} = 9 in the cold start of model_startup[kimi_k2.5], and"
        " upstream's test says 4 for vLLM 0.20.0 to 0.21.0 under torch 2.11.0 to 2.12.1"
        f" (4 numbers; https://github.com/vllm-project/vllm/blob/v0.21.0/{PATH}); correct the"
        " rule, or write upstream = {...} with the record that measured it"
    )
    assert render_held(found) == ("4 numbers of 2 releases: 0 agree, 4 contradict, 0 have no rule")


UPSTREAM = load_upstream()
RELEASES = load_releases()


def test_shipped_rules_contradict_nothing_that_upstream_publishes() -> None:
    torches = torches_of(UPSTREAM, RELEASES)
    assert torches[0] == "2.9.1" and len(torches) >= 7
    found = hold(UPSTREAM, load_expectations(), torches)
    assert contradictions(found, "expectations.toml") == []
    assert found.numbers >= 6034 and found.agree + found.beyond >= 5990
    # No vLLM pins torch 2.15 yet, so that no rule speaks of it.
    assert found.beyond <= 1.1 * found.numbers / len(torches)


def test_the_rules_of_before_are_found_to_contradict() -> None:
    """DeepSeek-V3.2 on CUDA: 4 was expected of vLLM 0.19 to 0.31, as it was until 2026-11-28."""
    widened = [
        replace(
            expectation,
            vllm=VersionRange(f"{expectation.vllm.text.split(',')[0]},<0.32"),
            torch=VersionRange(">=2.10" if ">=2.10" in (expectation.torch.text or "") else None),
        )
        if expectation.id.startswith("cuda-model-deepseek_v3.2-")
        and not expectation.id.endswith("-0.25")
        else expectation
        for expectation in load_expectations().rules
        if expectation.vllm.text
        and not expectation.id.endswith("-0.25")
        and "-aot" not in expectation.id
        and not expectation.id.startswith("cuda-model_startup[deepseek_v3.2]-torch213")
    ]
    torches = ("2.9.1", "2.10.0", "2.11.0", "2.12.1", "2.13.0", "2.14.1", "2.15.0")
    found = hold(UPSTREAM, Expectations(rules=tuple(widened)), torches)
    assert len(found.contradictions) == 84
    assert {vanished.since for vanished in found.vanished} == {"0.29.0"}
    assert {vanished.vllm for vanished in found.vanished} == {("0.29.0", "0.30.0", "0.31.0")}
