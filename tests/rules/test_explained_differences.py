"""Explained differences of CPU and CUDA: where one holds, its evidence, and bad ones."""

import re
from pathlib import Path
from typing import Any

import pytest

from made import provenance
from matrix.record.model import Case, Outcome, Platform, Record, RecordError, Start, StartKind
from matrix.record.reader import read
from matrix.record.writer import write
from matrix.rules.platform_differences import (
    DifferencesError,
    Explanation,
    Explanations,
    load_explanations,
    parse_explanations,
)
from matrix.verdict.agreement import agree

ROOT = Path(__file__).parents[2]
ONE = """
[[difference]]
id = "router"
case = "model_startup[glm_4.5]"
start = "cold"
torch = ">=2.11,<2.12"
vllm = ">=0.20"
counters = ["aot_autograd.total"]
text = '''
The router is
compiled apart.'''
evidence = ["results/cuda/py312-torch211-vllm020.json"]
"""


def covers(text: str, **changes: str) -> bool:
    where: dict[str, Any] = {
        "case": "model_startup[glm_4.5]",
        "start": "cold",
        "counter": "aot_autograd.total",
        "torch": "2.11.0",
        "vllm": "0.20.2",
    }
    return bool(parse_explanations(text, "d.toml").explain(**{**where, **changes}))


def test_an_explanation_is_read() -> None:
    [one] = parse_explanations(ONE, "d.toml").every
    assert one.text == "The router is compiled apart."
    assert (one.id, one.counters) == ("router", ("aot_autograd.total",))


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"case": "model_startup[minimax_m2.5]"},
        {"case": "model_startup"},
        {"start": "warm"},
        {"counter": "aot_autograd.ok"},
        {"torch": "2.12.0"},
        {"vllm": "0.19.1"},
    ],
)
def test_an_explanation_holds_where_all_its_conditions_do(elsewhere: dict[str, str]) -> None:
    assert covers(ONE)
    assert covers(ONE, torch="2.11.0rc1")
    assert not covers(ONE, **elsewhere)
    [key] = elsewhere
    assert key == "counter" or covers(re.sub(rf"(?m)^{key} = .*\n", "", ONE), **elsewhere)


def test_a_bare_case_is_every_parameter_of_it() -> None:
    assert covers(ONE.replace("[glm_4.5]", ""))
    assert not covers(ONE.replace("[glm_4.5]", ""), case="moe_startup")


def test_each_explanation_of_a_difference_is_given_in_the_order_of_the_file() -> None:
    text = ONE + ONE.replace('"router"', '"another"')
    found = parse_explanations(text, "d.toml").explain(
        "model_startup[glm_4.5]", StartKind.COLD, "aot_autograd.total", "2.11.0", "0.20.2"
    )
    assert [explanation.id for explanation in found] == ["router", "another"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[[difference]]", "[difference]", "d.toml: difference: is not a list; begin each with"),
        ("[[difference]]", "[[rule]]", "d.toml: rule: unknown key; begin each with"),
        ("[[difference]]", "[[", "d.toml: is not TOML ("),
        ('id = "router"', "", "d.toml: difference 1: id: is missing or empty; name it"),
        ('id = "router"', 'id = " "', "difference 1: id: is missing or empty"),
        ("case =", "cases =", "'router': cases: unknown key; did you mean 'case'?"),
        ("case =", "zzz =", "'router': zzz: unknown key; known are id, case"),
        ('"model_startup[glm_4.5]"', '"[glm]"', "case: '[glm]' is not a case; write moe_startup"),
        ('"cold"', '"hot"', 'start: \'hot\' is unknown; write "cold" or "warm"'),
        ('">=0.20"', "20", "vllm: 20 is not a string; write"),
        ('">=0.20"', '"new"', "vllm: 'new' is not a specifier"),
        ('">=2.11,<2.12"', '">2,<1"', "torch: no version satisfies '>2,<1'; widen it"),
        ('["aot_autograd.total"]', "[]", "counters: is not a list of counters; name at least one"),
        ('["aot_autograd.total"]', "[3]", "counters: is not a list of counters"),
        ('"aot_autograd.total"', '"aot autograd"', "'aot autograd' is not the name of a counter"),
        (
            "The router is\ncompiled apart.",
            " ",
            "' ' is empty; say why the numbers differ",
        ),
        ("text =", "id2 =", "id2: unknown key; did you mean 'id'?"),
        ('"results/cuda', '"records/cuda', "evidence: 'records/cuda/py312-torch211-vllm020.json'"),
        ('"results/', '"https://evil.example/', "is neither a published record, such as"),
        ('["results/cuda/py312-torch211-vllm020.json"]', '"x"', "is not a list of records or"),
    ],
)
def test_a_bad_explanation_is_one_line_that_names_the_fix(old: str, new: str, said: str) -> None:
    assert old in ONE
    with pytest.raises(DifferencesError) as caught:
        parse_explanations(ONE.replace(old, new), "d.toml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("d.toml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["counters", "text", "evidence"])
def test_what_an_explanation_needs(key: str) -> None:
    lines = {
        "id": 'id = "x"',
        "counters": 'counters = ["a"]',
        "text": 'text = "b"',
        "evidence": 'evidence = ["https://github.com/pytorch/pytorch/issues/1"]',
    }
    text = "[[difference]]\n" + "\n".join(lines.values())
    assert parse_explanations(text, "d.toml").every
    with pytest.raises(DifferencesError, match=f"'x': {key}: is missing; add it"):
        parse_explanations(text.replace(lines[key], ""), "d.toml")


def test_an_id_is_there_once() -> None:
    with pytest.raises(DifferencesError, match="'router': id: appears twice; give each its own"):
        parse_explanations(ONE + ONE, "d.toml")


def unfounded(explanations: Explanations, root: Path) -> list[str]:
    """Where the records that an explanation names, those that are there, do not show it."""
    return [
        f"{explanation.id}: {fault}"
        for explanation in explanations.every
        for fault in faults_of(explanation, root)
    ]


def faults_of(one: Explanation, root: Path) -> list[str]:
    paths = [root / item for item in one.evidence if "://" not in item]
    try:
        records = [read(path) for path in paths if path.exists()]
    except RecordError as error:
        return [str(error)]
    if {record.platform for record in records} != {"cpu", "cuda"}:
        return []  # A difference is seen in the records of both platforms only.
    differences = agree(records, Explanations(every=(one,))).differences
    seen = {difference.counter for difference in differences if difference.why}
    return [f"{counter} does not differ there" for counter in one.counters if counter not in seen]


def test_the_shipped_explanations_are_true_to_their_evidence() -> None:
    shipped = load_explanations()
    assert unfounded(shipped, ROOT) == []
    for explanation in shipped.every:
        assert {item.split("/")[1] for item in explanation.evidence if "://" not in item} == {
            "cpu",
            "cuda",
        }, explanation.id


def test_evidence_that_shows_no_difference_is_told(tmp_path: Path) -> None:
    counters = '["aot_autograd.total", "aot_autograd.ok"]'
    text = ONE.replace('["aot_autograd.total"]', counters).replace(
        '["results/cuda/py312-torch211-vllm020.json"]',
        '["results/cuda/py312-torch211-vllm020.json", "results/cpu/py312-torch211-vllm020.json"]',
    )
    explanations = parse_explanations(text, "d.toml")
    for platform, total in (("cuda", 22), ("cpu", 9)):
        assert unfounded(explanations, tmp_path) == []
        record = Record(
            cell="py312-torch211-vllm020",
            platform=Platform(platform),
            finished=True,
            provenance=provenance("2.11.0", "0.20.2", "3.12"),
            cases=(
                Case(
                    case="model_startup[glm_4.5]",
                    outcome=Outcome.PASSED,
                    starts=(
                        Start(
                            start=StartKind.COLD, seconds={}, counters={"aot_autograd.total": total}
                        ),
                    ),
                ),
            ),
        )
        write(record, tmp_path / "results" / platform / "py312-torch211-vllm020.json")
    assert unfounded(explanations, tmp_path) == ["router: aot_autograd.ok does not differ there"]
    (tmp_path / "results/cpu/py312-torch211-vllm020.json").write_text("{}")
    assert "has no key 'schema'" in unfounded(explanations, tmp_path)[0]
