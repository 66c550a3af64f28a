from __future__ import annotations

import json
from dataclasses import replace

from matrix.attribution.attribute import Attribution, Missing
from matrix.attribution.neighbours import FlagChange
from matrix.attribution.symptoms import Symptom
from matrix.catalog.cells import Cell
from matrix.report.attribution import entries, lines, section, to_json

FAILURE = Symptom("fails", rung="starts warm", signature="KeyError: None", reason="KeyError: None")
COUNT = Symptom("drifts", start="warm", counter="aot_autograd.total", observed=0, wanted=5)
ONE = Attribution(
    Cell("3.11", "2.12.1", "0.20.2"),
    "py311-torch212-vllm020",
    "cpu",
    "small_startup[dense]",
    (COUNT,),
    "torch",
    "vLLM 0.20.2 counts warm aot_autograd.total 5 under torch 2.11.0 and 0 under 2.12.1: torch",
    after="2.11.0",
    since="2.12.1",
    flags=(FlagChange("VLLM_X", True, False),),
    beside=("py311-torch211-vllm020", "py311-torch212-vllm020"),
    missing=(
        Missing("py311-torch212-vllm020", "cpu", "whether it is the flag", (("VLLM_X", "0"),)),
    ),
)


def test_cases_that_are_told_alike_stand_together() -> None:
    told = lines([ONE, replace(ONE, case="small_startup[moe]")])
    assert told == (
        "py311-torch212-vllm020 on cpu\n"
        "  torch\n"
        "    small_startup[dense]: vLLM 0.20.2 counts warm aot_autograd.total 5 under torch 2.11.0"
        " and 0 under 2.12.1: torch\n"
        "    small_startup[dense]  warm aot_autograd.total 0, not 5\n"
        "    small_startup[moe]    warm aot_autograd.total 0, not 5\n"
        "    to know whether it is the flag: py311-torch212-vllm020 on cpu with VLLM_X=0\n"
        "\n"
        "2 in 1 cell: torch 2\n"
    )


def test_different_failures_do_not() -> None:
    one = replace(ONE, symptoms=(FAILURE,))
    other = replace(one, case="b", symptoms=(replace(FAILURE, signature="OSError"),))
    assert lines([one, other]).count("  torch\n") == 2
    assert lines([one, replace(one, case="b")]).count("  torch\n") == 1


def test_what_a_record_says_is_shown_as_text() -> None:
    nasty = "<script>alert(1)</script> | \x1b[31m`x`"
    failure = replace(FAILURE, reason=nasty, signature=nasty)
    one = replace(ONE, case=nasty, evidence=nasty, symptoms=(failure,))
    assert "\x1b" not in lines([one])
    told = section([one])
    assert "<script>" not in told and told.startswith("## Whose fault\n")
    assert {line.count(" | ") for line in told.splitlines() if line.startswith("|")} == {4}


def test_a_run_with_a_flag_of_its_own_is_named_with_it() -> None:
    assert "`py311-torch212-vllm020` on cpu with VLLM\\_X=0 |" in section([ONE])


def test_many_symptoms_are_cut_and_counted() -> None:
    assert "; and 3 more" in lines([replace(ONE, symptoms=(COUNT,) * 9)])


def test_nothing_to_tell() -> None:
    assert lines([]) == "nothing fails or differs\n"
    assert section([]) == ""


def test_cells_without_an_answer_are_named_the_first_ten() -> None:
    silent = [(f"cell{at}", "cpu") for at in range(12)]
    assert lines([], silent[:1]) == (
        "nothing fails or differs in what has an answer\n"
        "no answer in 1 cell, where no run came to one: cell0 on cpu\n"
    )
    assert lines([ONE], silent).endswith("cell8 on cpu, cell9 on cpu and 2 more\n")


def test_nothing_to_tell_is_json_too() -> None:
    assert json.loads(to_json([])) == {"schema": 1, "attributions": [], "unanswered": []}


def test_where_nothing_can_tell_more_it_says_so() -> None:
    one = replace(ONE, answer="unknown", missing=())
    assert "no run that can work and is missing would tell more" in lines([one])
    assert "no run that can work" not in lines([replace(ONE, missing=())])


def test_the_run_itself_has_a_name() -> None:
    assert "the run" in lines([replace(ONE, case="")])


def test_json_holds_all_of_it() -> None:
    (told,) = entries([ONE])
    assert told["flags"] == [{"flag": "VLLM_X", "here": True, "there": False, "decides": None}]
    assert told["missing"] == [
        {
            "cell": "py311-torch212-vllm020",
            "platform": "cpu",
            "why": "whether it is the flag",
            "flags": {"VLLM_X": "0"},
        }
    ]
    assert (told["answer"], told["since"]) == ("torch", "2.12.1")
