"""Extensions of vLLM that link with the baseline and not with the candidate.

vLLM 0.20.2 pins the baseline (2.11.0), and 0.19.1 pins 2.10.0.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from made import ONE_RULE, YES, Answers, failed, make, passed
from matrix import cli
from matrix.catalog.projects import Project
from matrix.qualify.model import Qualification
from matrix.report.qualify.json import render
from matrix.report.qualify.text import lines
from qualifications import NEXT, OLD, held, kinds, notes, reasons, waiver

NAMED = "RuntimeError: the indexer requires Deep-GEMM support"
LINKS, LACKS = {"DeepGEMM": True, "FlashMLA": True}, {"DeepGEMM": False, "FlashMLA": True}


def asked(
    *cases: Any, before: Any = None, platform: str = "cuda", vllm: str = "0.20.2", **more: Any
) -> Qualification:
    """Qualify a torch without DeepGEMM of a vLLM; the baseline has it."""
    answers = Answers(otherwise=YES, features={(OLD, vllm): LINKS, (NEXT, vllm): LACKS})
    first, second = passed("a"), before or passed("b")
    return held(
        make(OLD, first, second, platform=platform, vllm=vllm),
        make(NEXT, *cases, platform=platform, vllm=vllm),
        answers=more.pop("answers", answers),
        **more,
    )


def test_a_failure_that_names_the_extension_cannot_be_asked() -> None:
    found = asked(passed("a"), failed("b", NAMED))
    assert (found.exit_status, kinds(found), found.compared) == (3, [], 1)
    [unknown] = found.unknown
    assert (unknown.rung, unknown.case, unknown.signature) == ("links", "b", NAMED)
    [sentence] = reasons(found)
    assert sentence == (
        "cannot be asked with these wheels: vLLM 0.20.2 pins torch 2.11.0, was built for that, and"
        " DeepGEMM of vLLM 0.20.2 does not link with torch 2.12.1, and does with 2.11.0; it fails"
        f" (why: {NAMED})"
    )
    assert notes(found.matches[0])[-1] == (
        "DeepGEMM of vLLM 0.20.2 does not link with torch 2.12.1, and does with 2.11.0: that may be"
        " why counters differ"
    )
    text = lines(found)
    assert ", 0 not known, 1 case cannot be asked" in text
    assert "Cannot be asked with these wheels: no regression, and no answer" in text
    assert "results on only one side" not in text
    [row] = json.loads(render(found))["unknown"]
    assert (row["code"], row["operands"]["extensions"]) == ("extension not testable", ["DeepGEMM"])
    # A team may accept it.
    accepted = waiver(f"signature = '{NAMED}'")
    assert asked(passed("a"), failed("b", NAMED), waivers=accepted).exit_status == 0


def test_what_else_fails_is_a_regression() -> None:
    assert asked(passed("a"), failed("b", "KeyError: x")).exit_status == 1
    assert asked(passed("a"), failed("b", "FlashMLA is missing")).exit_status == 1
    # No extension is loaded on the CPU, and nothing is known without the tables.
    assert asked(passed("a"), failed("b", NAMED), platform="cpu").exit_status == 1
    known = Answers(otherwise=YES)
    assert asked(passed("a"), failed("b", NAMED), answers=known).exit_status == 1
    # What fails alike on both sides does so whatever links.
    found = asked(passed("a"), failed("b", NAMED), before=failed("b", NAMED))
    assert (found.exit_status, kinds(found)) == (0, ["fails as before"])
    found = asked(passed("a"), failed("b", NAMED), before=failed("b", "KeyError: y"))
    assert (found.exit_status, kinds(found)) == (3, [])


def test_a_vllm_is_built_for_its_own_pin() -> None:
    """What does not link there is a defect of its build."""
    features = {(OLD, "0.19.1"): LINKS, (OLD, "0.20.2"): LACKS}
    found = held(
        make(OLD, passed("a"), platform="cuda", vllm="0.19.1"),
        make(OLD, failed("a", NAMED), platform="cuda"),
        answers=Answers(otherwise=YES, features=features),
        project=Project.VLLM,
        candidate="0.20.2",
        baseline="0.19.1",
    )
    assert (found.exit_status, kinds(found)) == (1, ["regression"])


def test_a_drift_without_an_extension_does_not_decide() -> None:
    drifting = passed("b", num_compiled_artifacts_loaded=2)
    found = asked(passed("a"), drifting)
    assert (found.exit_status, kinds(found), found.failing) == (3, ["no expectation"], ())
    [drift] = json.loads(render(found))["drifts"]
    assert (drift["fails"], drift["without"]) == (False, ["DeepGEMM"])
    text = lines(found)
    assert "0 drifts, 1 drift in 1 case that may be an extension's" in text
    assert "DeepGEMM may be why" in text
    accepted = waiver("counters = ['num_compiled_artifacts_loaded']")
    assert asked(passed("a"), drifting, waivers=accepted).exit_status == 0
    # A regression besides still decides, and so does a drift where all links.
    assert asked(failed("a"), drifting).exit_status == 1
    every = Answers(otherwise=YES, features={(OLD, "0.20.2"): LINKS, (NEXT, "0.20.2"): LINKS})
    assert asked(passed("a"), drifting, answers=every).exit_status == 1
    # A change that the candidate's own rule expects is in no doubt.
    moe = passed("moe", num_compiled_artifacts_loaded=2), passed("moe")
    answers = Answers(otherwise=YES, features={(OLD, "0.20.2"): LINKS, (NEXT, "0.20.2"): LACKS})
    both = [
        make(torch, case, platform="cuda") for torch, case in zip((OLD, NEXT), moe, strict=True)
    ]
    assert held(*both, rules=ONE_RULE, answers=answers).exit_status == 0


def test_of_two_vllms_each_has_its_own_extension() -> None:
    features = {(NEXT, "0.19.1"): LINKS, (NEXT, "0.20.2"): LACKS}
    found = held(
        make(NEXT, passed("a"), passed("b"), platform="cuda", vllm="0.19.1"),
        make(NEXT, passed("a"), failed("b", NAMED), platform="cuda"),
        answers=Answers(otherwise=YES, features=features),
        project=Project.VLLM,
        candidate="0.20.2",
        baseline="0.19.1",
    )
    assert found.exit_status == 3
    [sentence] = reasons(found)
    assert (
        "DeepGEMM of vLLM 0.20.2 does not link with torch 2.12.1, and that of 0.19.1 does;"
        in sentence
    )


def test_deepgemm_of_vllm_0_32_and_torch_2_14_1(capsys: pytest.CaptureFixture[str]) -> None:
    """The published records and symbol tables, as `matrix attribute` reads them."""
    command = ["qualify", "--torch", "2.14.1", "--baseline", "2.13.0", "--platform", "cuda"]
    assert cli.main([*command, "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert [failure for failure in found["failures"] if failure["fails"]] == []
    assert [row["case"] for row in found["unknown"] if row["code"] == "extension not testable"] == [
        "model_startup[deepseek_v3.2]"
    ]
    assert {drift["case"] for drift in found["drifts"] if drift["without"]} == {
        "model_startup[minimax_m2.5]"
    }
