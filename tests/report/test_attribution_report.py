"""What `matrix attribute` prints: text, Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import replace

from answers import COUNT, FAILURE, ONE, SAVED, TORCH
from matrix.attribution import reasons
from matrix.attribution.model import Cause
from matrix.report.attribution.markdown import section
from matrix.report.attribution.text import lines
from matrix.report.attribution.values import entries, to_json
from matrix.verdict.ladder import Part
from matrix.verdict.reasons import Recorded


def test_cases_that_share_an_answer_stand_together() -> None:
    assert lines([ONE, replace(ONE, case="small_startup[moe]")]) == (
        "py311-torch212-vllm020 on cpu\n"
        "  torch\n"
        f"    small_startup[dense]: vLLM 0.20.0 counts warm {SAVED} 0 under torch 2.11.0 and 3"
        " under 2.12.0 and 2.13.0: torch, since 2.12, with another default of VLLM_X (False at"
        " torch 2.11.0, True here)\n"
        f"    small_startup[dense]  warm {SAVED} 3, not 0\n"
        f"    small_startup[moe]    warm {SAVED} 3, not 0\n"
        "    to know whether it is the flag alone: py311-torch212-vllm020 on cpu with VLLM_X=0\n"
        "\n"
        "2 in 1 cell: torch 2\n"
    )


def test_different_failures_do_not() -> None:
    failing = replace(ONE, symptoms=(FAILURE,))
    other = replace(failing, case="b", symptoms=(replace(FAILURE, signature="OSError"),))
    assert lines([failing, other]).count("  torch\n") == 2
    assert lines([failing, replace(failing, case="b")]).count("  torch\n") == 1


def test_without_an_axis_other_sentences_stand_apart() -> None:
    flaky = replace(
        ONE, rests_on=(), answer=Cause.FLAKY, reason=reasons.RepeatsDisagree(shows=1, runs=2)
    )
    other = replace(flaky, case="b", reason=reasons.RepeatsDisagree(shows=1, runs=3))
    assert lines([flaky, other]).count("  flaky\n") == 2
    assert lines([flaky, replace(flaky, case="b")]).count("  flaky\n") == 1


def test_what_a_record_says_is_shown_as_text() -> None:
    nasty = "<script>alert(1)</script> | \x1b[31m`x`"
    failure = replace(FAILURE, reason=Recorded(text=nasty), signature=nasty)
    change = reasons.EnvironmentChange(name=nasty, here=nasty, there=nasty)
    reason = reasons.AxisChanges(
        change=TORCH,
        confounders=(reasons.Confounder(kind=reasons.ConfounderKind.PACKAGES, changes=(change,)),),
    )
    hostile = replace(ONE, case=nasty, reason=reason, symptoms=(failure,))
    assert "\x1b" not in lines([hostile])
    text = section([hostile])
    assert "<script>" not in text and text.startswith("## Who changed\n")
    assert {line.count(" | ") for line in text.splitlines() if line.startswith("|")} == {4}


def test_a_run_with_a_flag_of_its_own_is_named_with_it() -> None:
    assert "`py311-torch212-vllm020` on cpu with VLLM\\_X=0 |" in section([ONE])


def test_a_long_sentence_is_whole_in_a_terminal_and_cut_in_a_table() -> None:
    changes = tuple(
        reasons.EnvironmentChange(name=f"{name}-{'of-a-long-name' * 12}", here="1", there="2")
        for name in "abc"
    )
    packages = reasons.Confounder(kind=reasons.ConfounderKind.PACKAGES, changes=changes)
    long = replace(ONE, reason=reasons.AxisChanges(change=TORCH, confounders=(packages,)))
    found = lines([long]).splitlines()
    assert max(map(len, found)) > 400
    whole, cut = lines([long]), section([long])
    assert "…" in cut and "…" not in whole


def test_the_section_says_which_cell_ran_in_part() -> None:
    parts = {(ONE.name, "cpu"): Part(held=1, total=9)}
    assert "| `py311-torch212-vllm020` on cpu, 1 of 9 cases |" in section([ONE], parts)
    assert "of 9 cases" not in section([ONE], {(ONE.name, "cuda"): Part(held=1, total=9)})


def test_many_symptoms_are_cut_and_counted() -> None:
    assert "; and 3 more" in lines([replace(ONE, symptoms=(COUNT,) * 9)])


def test_nothing_to_report() -> None:
    assert lines([]).startswith("nothing fails or differs from what is expected; `matrix qualify` ")
    assert section([]) == ""
    empty = {"schema": 2, "attributions": [], "unanswered": [], "partial": []}
    assert json.loads(to_json([])) == empty


def test_cells_without_an_answer_are_named_the_first_ten() -> None:
    silent = [(f"cell{number}", "cpu") for number in range(12)]
    assert lines([], silent[:1]) == (
        "nothing fails or differs from what is expected in what has an answer"
        "; `matrix qualify` compares two releases, also by counters without an expectation\n"
        "no answer in 1 cell, where no run came to one: cell0 on cpu\n"
    )
    assert lines([ONE], silent).endswith("cell8 on cpu, cell9 on cpu and 2 more\n")


def test_where_no_run_would_tell_more_it_says_so() -> None:
    unknown = replace(ONE, answer=Cause.UNKNOWN, reason=reasons.NoCleanNeighbour(), missing=())
    assert "no missing run that can work would decide" in lines([unknown])
    assert "no run that can work" not in lines([replace(ONE, missing=())])


def test_the_run_itself_has_a_name() -> None:
    assert "the run" in lines([replace(ONE, case="")])


def test_json_holds_all_of_it() -> None:
    (value,) = entries([ONE])
    assert value["flags"] == [{"flag": "VLLM_X", "here": True, "there": False, "decides": None}]
    assert value["missing"] == [
        {
            "cell": "py311-torch212-vllm020",
            "platform": "cpu",
            "question": {"code": "flag", "subjects": ()},
            "why": "whether it is the flag alone",
            "flags": {"VLLM_X": "0"},
            "stock": False,
        }
    ]
    assert (value["answer"], value["since"]) == ("torch", "2.12.0")
    (value,) = json.loads(to_json([ONE]))["attributions"]
    assert value["reason"] == {
        "code": "axis_changes",
        "change": {
            "along": "torch",
            "clean": ["2.11.0"],
            "shows": ["2.12.0", "2.13.0"],
            "counted": 0,
            "since": {"low": "2.11.0", "high": "2.12.0", "precision": "minor"},
            "until": None,
        },
        "also_shown": None,
        "clean_pythons": [],
        "confounders": [],
    }
