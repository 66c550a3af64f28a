"""The page that holds CPU and CUDA side by side."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from histories import RAY
from made import reported
from matrix.record.model import Case, Outcome, Platform, Record, Start, StartKind
from matrix.report import agreement, markdown, table_json, upstream
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import parse_expectations
from matrix.rules.platform_differences import Explanations, parse_explanations
from matrix.verdict.agreement import NOTHING, agree

SCHEMA = json.loads(
    (Path(agreement.__file__).parents[1] / "data/table.schema.json").read_text(encoding="utf-8")
)
SAVED, TOTAL = "num_compiled_artifacts_saved", "aot_autograd.total"
WHY = parse_explanations(
    f"""
[[difference]]
id = "router"
counters = ["{TOTAL}"]
text = "The *router* is compiled apart."
evidence = ["results/cuda/py311-torch210-vllm019.json", "https://github.com/pytorch/pytorch/pull/1"]
""",
    "differences.toml",
)
NO_RULES = Expectations(rules=())
UPSTREAM = parse_expectations(
    f"""
[[rule]]
id = "moe-warm"
case = "moe_startup"
platform = "cuda"
torch = ">=2.10,<2.12"
flags = {{ MEGA = true }}
vllm = "<99"
start = "warm"
counters = {{ {SAVED} = 1, "{TOTAL}" = 30 }}
evidence = ["results/cuda/py311-torch210-vllm019.json", "https://github.com/pytorch/pytorch/pull/2"]
upstream = {{ counters = {{ {SAVED} = 0 }}, link = "https://github.com/vllm-project/vllm/pull/3" }}
""",
    "rules.toml",
)


def case(name: str = "moe", total: int = 9, more: str = "inductor.x") -> Case:
    cold = Start(start=StartKind.COLD, seconds={}, counters={SAVED: 3, TOTAL: total, more: 1})
    return Case(
        case=name,
        outcome=Outcome.PASSED,
        starts=(cold, Start(start=StartKind.WARM, seconds={}, counters={SAVED: 0, TOTAL: 6})),
    )


def make(platform: str, *cases: Case, cell: str = "py311-torch210-vllm019") -> tuple[Path, Record]:
    found = {"started": "2026-11-22T18:00:00Z", "torch": "2.10.0+cu128", "vllm": "0.19.1"}
    return Path(f"{cell}.json"), Record(
        cell=cell, platform=Platform(platform), finished=True, provenance=found, cases=cases
    )


RECORDS = [
    make(
        "cuda", case(total=22, more="inductor.triton"), case("mla"), cell="py312-torch210-vllm019"
    ),
    make("cpu", case(), Case(case="mla", outcome=Outcome.NOT_APPLICABLE, reason="no | kernel")),
]
TOLD = reported(RECORDS, NO_RULES, WHY)


def test_the_table_has_the_figures_and_a_link_to_the_page() -> None:
    output = markdown.render(TOLD)
    assert (
        "## The CPU as predictor\n\n"
        "A run without a GPU predicts **3 of 4 (75 %)** of the counters that expectations speak "
        "of, where both platforms ran the case: 3 of 8 (37 %) of all that CUDA counted, since it "
        "cannot run every case. Of every counter it predicts 3 of 4 (75 %), or 2 of 3 (66 %) "
        "without those that are 0 on both. 1 differs, 0 of them not explained. "
        "[Side by side, and why](agreement.md).\n"
    ) in output
    assert output.index("## The CPU as predictor") < output.index("## Cases")
    assert "predictor" not in markdown.render(reported(RECORDS[:1], NO_RULES))


def test_the_page_puts_both_side_by_side_and_says_why() -> None:
    output = agreement.page(TOLD.agreement)
    for line in (
        (
            "| torch 2.10.0, vLLM 0.19.1 | 3 of 4 (75 %) | 3 of 8 (37 %) | 3 of 4 (75 %) |"
            " 2 of 3 (66 %) | 1 of 2 (50 %) |"
        ),
        "| torch 2.10.0, vLLM 0.19.1 | `mla` | - | - | not predicted: no &#124; kernel |",
        "| torch 2.10.0, vLLM 0.19.1 | `moe` | 3 of 4 (75 %) | 3 of 4 (75 %) | predicted |",
        f"| `{TOTAL}` | 1 of 2 (50 %) |",
        "| torch 2.10.0, vLLM 0.19.1 | `mla` | warm | 0 | - | 6 | - | - | not run |",
        "| torch 2.10.0, vLLM 0.19.1 | `moe` | cold | 3 | - | 22, CPU **9** | - | - | ran |",
        f"| torch 2.10.0, vLLM 0.19.1 | `moe` | cold | `{TOTAL}` | 22 | 9 | \\[1\\] |",
        (
            "1. The \\*router\\* is compiled apart. Evidence:"
            " `results/cuda/py311-torch210-vllm019.json`, <https://github.com/pytorch/pytorch/pull/1>."
        ),
    ):
        assert f"{line}\n" in output
    assert "are in no figure: `inductor.triton`, `inductor.x`.\n" in output


def test_a_run_that_is_not_stock_is_marked() -> None:
    path, record = RECORDS[0]
    told = reported([(path, replace(record, departures=(RAY,))), RECORDS[1]], NO_RULES, WHY)
    words = "py312-torch210-vllm019 on cuda is not stock: without ray\n"
    assert f" on cpu\n{words}" in agreement.lines(told.agreement)
    listed = "- torch 2.10.0, vLLM 0.19.1: `py312-torch210-vllm019` on cuda is not stock: without"
    assert f"{listed} ray\n" in agreement.page(told.agreement)
    found = json.loads(table_json.render(told))
    Draft202012Validator(SCHEMA).validate(found)
    [pair] = found["agreement"]["pairs"]
    assert pair["not_stock"] == {"cuda": "not stock: without ray"}
    for text in (agreement.lines(TOLD.agreement), agreement.page(TOLD.agreement)):
        assert "not stock" not in text


def test_a_partial_run_is_said_to_be_so() -> None:
    path, record = RECORDS[1]
    part = replace(record, deselected=7)
    told = reported([RECORDS[0], (path, part)], NO_RULES, WHY)
    listed = "- torch 2.10.0, vLLM 0.19.1: `py311-torch210-vllm019` on cpu ran 2 of 9 cases\n"
    assert listed in agreement.page(told.agreement)
    assert listed in agreement.section(told.agreement)
    assert "py311-torch210-vllm019 on cpu ran 2 of 9 cases\n" in agreement.lines(told.agreement)
    found = json.loads(table_json.render(told))
    Draft202012Validator(SCHEMA).validate(found)
    [pair] = found["agreement"]["pairs"]
    assert pair["parts"] == {"cpu": "2 of 9 cases"}
    assert pair["partial"] == {"cpu": {"held": 2, "total": 9}}
    for text in (agreement.lines(TOLD.agreement), agreement.page(TOLD.agreement)):
        assert " 9 cases" not in text


def test_what_nobody_explained_is_said_to_be_so() -> None:
    output = reported(RECORDS, NO_RULES).agreement
    assert f"| `moe` | cold | `{TOTAL}` | 22 | 9 | not explained |" in agreement.page(output)
    assert "1 differs, 1 of them not explained." in agreement.section(output)


def test_full_agreement_is_said_plainly() -> None:
    output = agree([make("cuda", case())[1], make("cpu", case())[1]], Explanations())
    page = agreement.page(output)
    assert "Nothing, in the starts that ran on both platforms.\n" in page
    assert "All other counters (1) agree" in page
    assert "No counter differs." in agreement.section(output)
    assert "## Not in the figures" not in page


def test_a_page_of_nothing_says_so() -> None:
    output = agreement.page(NOTHING)
    assert "No pair of releases ran on both platforms yet." in output
    assert agreement.section(NOTHING) == ""
    alone = agreement.page(agree([make("cuda", case())[1]], Explanations()))
    assert "no cell of the same releases ran on the CPU: `py311-torch210-vllm019`." in alone


def test_several_pairs_have_a_line_for_all() -> None:
    name = "py311-torch211-vllm020"
    found = {"started": "2026-11-22T18:00:00Z", "torch": "2.11.0", "vllm": "0.20.2"}
    more = [
        (
            Path(f"{name}.json"),
            Record(
                cell=name,
                platform=Platform(platform),
                finished=True,
                provenance=found,
                cases=(case(),),
            ),
        )
        for platform in ("cpu", "cuda")
    ]
    output = reported(RECORDS + more, NO_RULES, WHY).agreement
    assert "| all | 7 of 8 (87 %) | 7 of 12 (58 %) |" in agreement.page(output)
    assert re.search(r"\nall +87 % of 8 +58 % of 12 ", agreement.lines(output))


def test_a_terminal_shows_what_differs_and_the_figures() -> None:
    assert agreement.lines(TOLD.agreement) == (
        "torch 2.10.0, vLLM 0.19.1: py312-torch210-vllm019 on cuda, py311-torch210-vllm019 on cpu\n"
        "\n"
        "case\n"
        "  start  counter             cuda  cpu  why\n"
        "moe\n"
        "  cold   aot_autograd.total    22    9  router\n"
        "\n"
        "case  not predicted\n"
        "mla   no | kernel\n"
        "\n"
        "why\n"
        "router  The *router* is compiled apart.\n"
        "\n"
        "predicted correctly        expected counters  of all that CUDA counted  every counter"
        "  not 0 on both  cases\n"
        "torch 2.10.0, vLLM 0.19.1  75 % of 4          37 % of 8                 75 % of 4    "
        "  66 % of 3      50 % of 2\n"
    )


def test_the_json_obeys_its_schema() -> None:
    content = json.loads(table_json.render(reported(RECORDS, UPSTREAM, WHY)))
    Draft202012Validator(SCHEMA).validate(content)
    output = content["agreement"]
    assert output["figures"]["counted"] == {"right": 3, "of": 8}
    [pair] = output["pairs"]
    assert [item["predicted"] for item in pair["cases"]] == [False, True]
    assert {
        "start": "cold",
        "counter": TOTAL,
        "cuda": 22,
        "cpu": 9,
        "agrees": False,
        "why": ["router"],
    } in pair["cases"][1]["counters"]
    assert output["counters"][TOTAL] == {"right": 1, "of": 2}
    assert content["upstream"] == [
        {
            "rule": "moe-warm",
            "case": "moe_startup",
            "platform": "cuda",
            "torch": ">=2.10,<2.12",
            "vllm": "<99",
            "start": "warm",
            "counter": SAVED,
            "measured": 1,
            "published": 0,
            "link": "https://github.com/vllm-project/vllm/pull/3",
            "records": ["results/cuda/py311-torch210-vllm019.json"],
        }
    ]


def test_what_upstream_publishes_otherwise_is_said_with_both_numbers_and_a_link() -> None:
    output = markdown.render(reported(RECORDS, UPSTREAM))
    assert "## Measured counts that differ from upstream's\n" in output
    assert (
        "| `moe_startup` | cuda, torch `>=2.10,<2.12`, vLLM `<99`, MEGA `True` | warm |"
        f" `{SAVED}` | 1 | [0](https://github.com/vllm-project/vllm/pull/3) |"
        " `results/cuda/py311-torch210-vllm019.json` |\n"
    ).replace("MEGA", "`MEGA`") in output
    assert upstream.section(()) == ""
    assert "upstream publishes" not in markdown.render(reported(RECORDS, NO_RULES))


def shape(output: str) -> list[int]:
    return [line.count("|") for line in output.splitlines() if line.startswith("|")]


def hostile(message: str) -> str:
    name = f"x{message}"
    other = Case(case="y", outcome=Outcome.FAILED, reason=message)
    cuda = make("cuda", case(name, total=22, more=f"b{message}"), case("y"))
    cold = Start(start=StartKind.COLD, seconds={}, counters={TOTAL: 1, f"a{message}": 2})
    cpu = make("cpu", Case(case=name, outcome=Outcome.PASSED, starts=(cold,)), other)
    output = reported([cuda, cpu], NO_RULES)
    Draft202012Validator(SCHEMA).validate(json.loads(table_json.render(output)))
    shown = agreement.lines(output.agreement)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    return agreement.page(output.agreement)


@pytest.mark.parametrize(
    "message", ["a | b", "<script>`x`", "\x1b[31m\n# h\n\n| x |", "[l](javascript:1) \u202e", "*b*"]
)
def test_hostile_text_is_shown_as_text(message: str) -> None:
    output = hostile(message)
    assert shape(output) == shape(hostile("calm"))
    assert "<" not in output and "\n# h" not in output


@settings(deadline=None, max_examples=40)
@given(st.text("<>|`\\*_[]()#~$&@!\n\r\x1b[0;m:/w.", max_size=30))
def test_any_text_is_shown_as_text(message: str) -> None:
    assert shape(hostile(message)) == shape(hostile("calm"))
