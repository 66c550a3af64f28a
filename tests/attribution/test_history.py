"""Three cases of history, answered from published records and runs of two cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attributions import FLAG, NO_RULES, SAVED
from matrix.attribution.attribute import attribute
from matrix.attribution.model import Attribution, Cause
from matrix.catalog.releases_file import load_releases
from matrix.record.reader import read
from matrix.report.attribution.sentences import sentence
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import load_expectations, parse_expectations
from matrix.verdict.judge import judge

ROOT = Path(__file__).parents[2]


def history(*places: str, rules: Expectations | None = None, **asked: Any) -> list[Attribution]:
    records = [read(ROOT / place) for place in places]
    known = load_expectations() if rules is None else rules
    judged = [(record, judge(record, known)) for record in records]
    return list(attribute(judged, load_releases(), **asked))


# As published when the runs beside them were made: with other tests these would be no neighbours.
TORCH_211 = "tests/attribution/published/py311-torch211-vllm020.json"


TORCH_212 = "tests/attribution/published/py311-torch212-vllm020.json"


PUBLISHED = ("results/cpu/py311-torch211-vllm020.json", "results/cpu/py311-torch212-vllm020.json")


SAVE = {
    "0.17": "results/cpu/py311-torch210-vllm017.json",
    "0.18": "results/cpu/py311-torch210-vllm018.json",
    "0.19": "results/cpu/py311-torch210-vllm019.json",
}


# What changed is told with no rules, as when it was new, and by the rules of today, which expect it
# of the mega artifact's flag: then it is asked for as a change.
AS_NEW_AND_AS_EXPECTED = pytest.mark.parametrize(
    "asked", [{"rules": NO_RULES}, {"changes": True}], ids=["as new", "as expected"]
)


@AS_NEW_AND_AS_EXPECTED
@pytest.mark.parametrize("case", ["model_startup[deepseek_v3.2]", "model_startup[kimi_k2.5]"])
def test_history_the_startup_of_torch_2_12(case: str, asked: dict[str, Any]) -> None:
    """pytorch/pytorch #180912: warm_artifacts_saved is 0 under torch 2.12, for these two models."""
    (found,) = history(TORCH_211, TORCH_212, case=case, **asked)
    assert (found.answer, found.after, found.since) == (Cause.TORCH, "2.11.0", "2.12.1")
    assert sentence(found).startswith(
        f"vLLM 0.20.2 counts warm {SAVED} 4 under torch 2.11.0 and 0 under 2.12.1: torch,"
        " since 2.12"
    )
    changed = {(symptom.counter, symptom.wanted, symptom.observed) for symptom in found.symptoms}
    assert {(SAVED, 4, 0), ("num_compiled_artifacts_loaded", 0, 4)} < changed


@AS_NEW_AND_AS_EXPECTED
def test_history_the_startup_of_torch_2_12_and_after_by_its_flag(asked: dict[str, Any]) -> None:
    """The same with a run under 2.13, and runs of both pairs with the flag of the other."""
    more = ("torch-213/py311-torch213-vllm020", "mega-off/py311-torch212-vllm020")
    places = [f"tests/attribution/{name}.json" for name in more]
    found = history(TORCH_211, TORCH_212, *places, case="small_startup[dense]", **asked)
    found += history(
        *(TORCH_211, TORCH_212, *places),
        case="model_startup[deepseek_v3.2]",
        names=frozenset(["py311-torch212-vllm020"]),
        **asked,
    )
    assert {failure.name for failure in found} == {
        "py311-torch212-vllm020",
        "py311-torch213-vllm020",
    }
    for failure in found:
        assert (failure.answer, failure.after, failure.since) == (Cause.TORCH, "2.11.0", "2.12.1")
    assert sentence(found[-1]) == (
        f"vLLM 0.20.2 counts warm {SAVED} 4 under torch 2.11.0 and 0 under 2.12.1 and 2.13.0:"
        f" torch, since 2.12, by the default of {FLAG} (False at torch 2.11.0, True here) alone:"
        " with the other value it is gone"
    )


def test_history_what_the_missing_run_told() -> None:
    """vLLM 0.19.1 under torch 2.12, as `matrix attribute --run` ran it: torch, and not the pair."""
    runs = ("torch-213/py311-torch213-vllm020", "mega-off/py311-torch212-vllm020")
    places = [TORCH_211, TORCH_212, *(f"tests/attribution/{name}.json" for name in runs)]
    asked = {"case": "small_startup[dense]", "names": frozenset(["py311-torch212-vllm020"])}
    (found,) = history(*places, rules=NO_RULES, **asked)
    assert [run.name for run in found.missing] == ["py311-torch212-vllm019"]
    last = "tests/attribution/vllm-019/py311-torch212-vllm019.json"
    (found,) = history(*places, last, rules=NO_RULES, **asked)
    assert (found.answer, found.missing) == (Cause.TORCH, ())
    assert "and torch 2.12.1 with vLLM 0.19.1 shows it too: torch, since 2.12" in sentence(found)


@pytest.mark.parametrize("places", [(TORCH_211, TORCH_212), PUBLISHED], ids=["then", "today"])
@AS_NEW_AND_AS_EXPECTED
def test_history_the_default_of_the_mega_artifact(
    asked: dict[str, Any], places: tuple[str, str]
) -> None:
    """vllm-project/vllm #37198: it is on by default from torch 2.12."""
    found = history(*places, **asked)
    assert {failure.case for failure in found} == {
        *(f"model_startup[{name}]" for name in ("deepseek_v3.2", "kimi_k2.5", "gpt_oss_120b")),
        *("model_startup[glm_4.5]", "model_startup[minimax_m2.5]"),
        *("small_startup[dense]", "small_startup[moe]"),
    }  # and not moe_startup, whose two cases say themselves whether it is on
    for failure in found:
        assert failure.answer == Cause.TORCH
        assert [(flag.flag, flag.there, flag.here) for flag in failure.flags] == [
            (FLAG, False, True)
        ]
        assert f"with another default of {FLAG} (False at torch 2.11.0" in sentence(failure)


def test_history_what_the_flag_explains_is_no_fault() -> None:
    """Each start counts what it should with its value of the flag, so nothing drifts."""
    assert history(TORCH_211, TORCH_212) == []


def test_history_the_warm_save_mended_in_vllm_0_18() -> None:
    """vllm-project/vllm #35708: 0.17 saves an artifact again on the warm start."""
    (found,) = history(*SAVE.values(), case="moe_startup[mega_aot=0]", changes=True)
    assert found.name == "py311-torch210-vllm018"
    assert (found.answer, found.after, found.since) == (Cause.VLLM, "0.17.1", "0.18.1")
    assert sentence(found) == (
        f"torch 2.10.0 counts warm {SAVED} 1 with vLLM 0.17.1 and 0 with 0.18.1 and 0.19.1: vLLM,"
        " since 0.18"
    )


def test_history_the_warm_save_as_a_drift() -> None:
    """The same, judged by what vLLM does since: 0.17 drifts, until 0.18."""
    rules = parse_expectations(
        f'[[rule]]\nid = "s"\ncase = "moe_startup"\nstart = "warm"\ncounters = {{ {SAVED} = 0 }}\n'
        'vllm = "<99"\n'
        'evidence = ["https://github.com/vllm-project/vllm/issues/35708"]\n',
        "rules",
    )
    (found,) = history(*SAVE.values(), rules=rules)
    assert (found.name, found.case) == ("py311-torch210-vllm017", "moe_startup[mega_aot=0]")
    assert (found.answer, found.until) == (Cause.VLLM, "0.18.1")
    assert sentence(found).endswith("vLLM, until 0.18, where it is gone")
