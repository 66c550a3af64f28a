"""The sentence that each reason of an attribution makes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from answers import COUNT, FAILS_ALONG, FAILURE, MACHINE, ONE, SAVED, TESTS, TORCH, VLLM, words
from attributions import FLASHINFER
from matrix.attribution import reasons
from matrix.attribution.model import Cause
from matrix.attribution.observations import FAILING_RUNGS
from matrix.record.model import Platform
from matrix.report.attribution.sentences import (
    sentence,
)
from matrix.report.attribution.values import to_json

ROOT = Path(__file__).parents[2]


SCHEMA = json.loads((ROOT / "matrix/data/table.schema.json").read_text(encoding="utf-8"))


UNTIL = reasons.Boundary(low="2.13.0", high="2.15.0", precision=reasons.Precision.RANGE)


PAIR = "vLLM 0.20.0 under torch 2.12.0"
PLATFORM = reasons.OtherPlatformClean(platform=Platform.CUDA, counted=1)
TWO = reasons.PythonAndAnotherDiffer(
    differs=reasons.RunDifference.TORCH,
    platform=Platform.CPU,
    python="3.12",
    torch="2.11.0",
    vllm="0.20.0",
    counted=0,
)


STOCK = reasons.StockAndAnotherDiffer(
    differs=reasons.RunDifference.TORCH,
    own=False,
    not_stock=(FLASHINFER,),
    platform=Platform.CPU,
    python="3.11",
    torch="2.11.0",
    vllm="0.20.0",
    counted=0,
)


LINKS = reasons.ExtensionDiffers(
    extensions=("DeepGEMM",),
    change=TORCH,
    lacks=("2.12.0",),
    links=("2.11.0",),
    confounders=(TESTS,),
)


@pytest.mark.parametrize(
    ("reason", "answer", "failure", "count"),
    [
        (
            reasons.AxisChanges(change=TORCH),
            Cause.TORCH,
            f"{FAILS_ALONG}: torch, since 2.12",
            (
                f"vLLM 0.20.0 counts warm {SAVED} 0 under torch 2.11.0 and 3 under 2.12.0 and"
                " 2.13.0: torch, since 2.12"
            ),
        ),
        (
            reasons.AxisChanges(
                change=replace(TORCH, clean=("2.11.0", "2.15.0"), until=UNTIL),
                clean_pythons=("3.12", "3.13"),
            ),
            Cause.TORCH,
            (
                "vLLM 0.20.0 starts warm under torch 2.11.0 and 2.15.0 and fails to start warm"
                f" under 2.12.0 and 2.13.0, but {PAIR} starts warm on Python 3.12 and 3.13: torch,"
                " since 2.12 and until a release after 2.13.0 and up to 2.15.0, where it is gone,"
                " on Python 3.11 alone"
            ),
            (
                f"vLLM 0.20.0 counts warm {SAVED} 0 under torch 2.11.0 and 2.15.0 and 3 under"
                f" 2.12.0 and 2.13.0, but {PAIR} counts warm {SAVED} 0 on Python 3.12 and 3.13:"
                " torch, since 2.12 and until a release after 2.13.0 and up to 2.15.0, where it is"
                " gone, on Python 3.11 alone"
            ),
        ),
        (
            reasons.AxisChanges(
                change=VLLM,
                also_shown=reasons.ShownAlong(along=reasons.Along.TORCH, releases=("2.11.0",)),
            ),
            Cause.VLLM,
            (
                "torch 2.12.0 starts warm with vLLM 0.21.0 and fails to start warm with 0.20.0, and"
                " vLLM 0.20.0 under torch 2.11.0 shows it too: vLLM, until 0.21.0, where it is gone"
            ),
            # A clean neighbour may count another number than the cell should.
            (
                f"torch 2.12.0 counts warm {SAVED} 2 with vLLM 0.21.0 and 3 with 0.20.0, and vLLM"
                " 0.20.0 under torch 2.11.0 shows it too: vLLM, until 0.21.0, where it is gone"
            ),
        ),
        (
            reasons.BothAxesChange(torch=TORCH, vllm=VLLM, confounders=(MACHINE,)),
            Cause.PAIR,
            (
                f"{FAILS_ALONG}, and torch 2.12.0 starts warm with vLLM 0.21.0 and fails to start"
                " warm with 0.20.0: the pair, torch since 2.12 with vLLM until 0.21.0, where it is"
                " gone (the machine differs too, and may be it: the system Suse there, Debian here)"
            ),
            (
                f"vLLM 0.20.0 counts warm {SAVED} 0 under torch 2.11.0 and 3 under 2.12.0 and"
                f" 2.13.0, and torch 2.12.0 counts warm {SAVED} 2 with vLLM 0.21.0 and 3 with"
                " 0.20.0: the pair, torch since 2.12 with vLLM until 0.21.0, where it is gone (the"
                " machine differs too, and may be it: the system Suse there, Debian here)"
            ),
        ),
        (
            reasons.OtherPythonClean(clean_pythons=("3.10", "3.12")),
            Cause.ENVIRONMENT,
            (
                f"{PAIR} starts warm on Python 3.10 and 3.12 and fails to start warm on 3.11: the"
                " environment, Python 3.11 alone"
            ),
            (
                f"{PAIR} counts warm {SAVED} 0 on Python 3.10 and 3.12 and counts warm {SAVED} 3 on"
                " 3.11: the environment, Python 3.11 alone"
            ),
        ),
        (
            reasons.OtherPythonClean(clean_pythons=("3.12",), confounders=(TESTS,)),
            Cause.ENVIRONMENT,
            (
                f"{PAIR} starts warm on Python 3.12 and fails to start warm on 3.11: the"
                " environment, Python 3.11 (the tests differ too, and may be it)"
            ),
            (
                f"{PAIR} counts warm {SAVED} 0 on Python 3.12 and counts warm {SAVED} 3 on 3.11:"
                " the environment, Python 3.11 (the tests differ too, and may be it)"
            ),
        ),
        (
            PLATFORM,
            Cause.ENVIRONMENT,
            f"{PAIR} fails to start warm on cpu and starts warm on cuda: the platform",
            f"{PAIR} counts warm {SAVED} 3 on cpu and counts warm {SAVED} 1 on cuda: the platform",
        ),
        (
            reasons.RepeatsDisagree(shows=1, runs=2),
            Cause.FLAKY,
            (
                f"{PAIR} fails to start warm in 1 of 2 runs of the same cell, and nothing"
                " distinguishes them: flaky"
            ),
            (
                f"{PAIR} counts warm {SAVED} 3 in 1 of 2 runs of the same cell, and nothing"
                " distinguishes them: flaky"
            ),
        ),
        (
            reasons.RepeatsDisagree(
                shows=2,
                runs=4,
                differences=(reasons.RepeatDifference(name="a", shows="5.1", clean=("4.5", None)),),
            ),
            Cause.ENVIRONMENT,
            (
                f"{PAIR} fails to start warm in 2 of 4 runs of the same cell, and in these a is 5.1"
                " and not 4.5 and None: the environment"
            ),
            (
                f"{PAIR} counts warm {SAVED} 3 in 2 of 4 runs of the same cell, and in these a is"
                " 5.1 and not 4.5 and None: the environment"
            ),
        ),
        (
            reasons.RepeatsDisagree(
                shows=1,
                runs=2,
                differences=(reasons.RepeatDifference(name="a", shows=None, clean=("4.5",)),),
            ),
            Cause.UNKNOWN,
            (
                f"{PAIR} fails to start warm in 1 of 2 runs of the same cell, and in these a is"
                " missing and not 4.5: it may be flaky, or the environment: unknown"
            ),
            (
                f"{PAIR} counts warm {SAVED} 3 in 1 of 2 runs of the same cell, and in these a is"
                " missing and not 4.5: it may be flaky, or the environment: unknown"
            ),
        ),
        (
            reasons.NewerRunClean(),
            Cause.UNKNOWN,
            (
                f"{PAIR} fails to start warm, and starts warm in a newer run with other tests: it"
                " may be the tests, or flaky: unknown"
            ),
            (
                f"{PAIR} counts warm {SAVED} 3, and counts warm {SAVED} 0 in a newer run with other"
                " tests: it may be the tests, or flaky: unknown"
            ),
        ),
        (
            LINKS,
            Cause.UNKNOWN,
            (
                f"{FAILS_ALONG}, but DeepGEMM of vLLM 0.20.0 does not link with torch 2.12.0 and"
                " does with 2.11.0: unknown: torch or DeepGEMM can be the cause (the tests"
                " differ too, and may be it)"
            ),
            (
                f"vLLM 0.20.0 counts warm {SAVED} 0 under torch 2.11.0 and 3 under 2.12.0 and"
                " 2.13.0, but DeepGEMM of vLLM 0.20.0 does not link with torch 2.12.0 and does with"
                " 2.11.0: unknown: torch or DeepGEMM can be the cause (the tests differ too,"
                " and may be it)"
            ),
        ),
        (
            replace(
                LINKS,
                lacks=("2.12.0", "2.13.0"),
                links=("2.10.0", "2.11.0"),
                shown_by=reasons.ExtensionEvidence.ALIKE,
                confounders=(),
            ),
            Cause.PAIR,
            (
                f"{FAILS_ALONG}, and DeepGEMM of vLLM 0.20.0 does not link with torch 2.12.0 and"
                " 2.13.0, and does with 2.11.0: the pair, torch since 2.12"
            ),
            (
                f"vLLM 0.20.0 counts warm {SAVED} 0 under torch 2.11.0 and 3 under 2.12.0 and"
                " 2.13.0, and DeepGEMM of vLLM 0.20.0 does not link with torch 2.12.0 and 2.13.0,"
                " and does with 2.11.0: the pair, torch since 2.12"
            ),
        ),
        (
            reasons.ExtensionDiffers(
                extensions=("DeepGEMM", "QuTLASS"),
                change=replace(VLLM, until=None),
                lacks=("0.20.0",),
                links=("0.21.0",),
                shown_by=reasons.ExtensionEvidence.NAMED,
            ),
            Cause.PAIR,
            (
                "torch 2.12.0 starts warm with vLLM 0.21.0 and fails to start warm with 0.20.0, and"
                " DeepGEMM and QuTLASS of vLLM 0.20.0 do not link with torch 2.12.0, and those of"
                " 0.21.0 do: the pair, because the failure names DeepGEMM and QuTLASS"
            ),
            (
                f"torch 2.12.0 counts warm {SAVED} 2 with vLLM 0.21.0 and 3 with 0.20.0, and"
                " DeepGEMM and QuTLASS of vLLM 0.20.0 do not link with torch 2.12.0, and those of"
                " 0.21.0 do: the pair, because the failure names DeepGEMM and QuTLASS"
            ),
        ),
        (
            reasons.Intermittent(along=reasons.Along.VLLM),
            Cause.UNKNOWN,
            f"the failure of {PAIR} comes and goes along vLLM: unknown",
            f"warm {SAVED} 3 of {PAIR} comes and goes along vLLM: unknown",
        ),
        (
            TWO,
            Cause.UNKNOWN,
            (
                f"{PAIR} fails to start warm on Python 3.11, and vLLM 0.20.0 under torch 2.11.0"
                " starts warm on 3.12: torch and Python both differ: unknown"
            ),
            (
                f"{PAIR} counts warm {SAVED} 3 on Python 3.11, and vLLM 0.20.0 under torch 2.11.0"
                f" counts warm {SAVED} 0 on 3.12: torch and Python both differ: unknown"
            ),
        ),
        (
            replace(
                TWO, differs=reasons.RunDifference.PLATFORM, platform=Platform.CUDA, torch="2.12.0"
            ),
            Cause.UNKNOWN,
            (
                f"{PAIR} fails to start warm on Python 3.11, and {PAIR} starts warm on cuda on"
                " 3.12: the platform and Python both differ: unknown"
            ),
            (
                f"{PAIR} counts warm {SAVED} 3 on Python 3.11, and {PAIR} counts warm {SAVED} 0 on"
                " cuda on 3.12: the platform and Python both differ: unknown"
            ),
        ),
        (
            STOCK,
            Cause.UNKNOWN,
            (
                f"{PAIR} fails to start warm, and vLLM 0.20.0 under torch 2.11.0 starts warm (not"
                " stock: without flashinfer-python): the packages too may be the cause, and a stock"
                " run is missing: unknown"
            ),
            (
                f"{PAIR} counts warm {SAVED} 3, and vLLM 0.20.0 under torch 2.11.0 counts warm"
                f" {SAVED} 0 (not stock: without flashinfer-python): the packages too may be the"
                " cause, and a stock run is missing: unknown"
            ),
        ),
        (
            replace(STOCK, differs=reasons.RunDifference.PYTHON, torch="2.12.0", python="3.12"),
            Cause.UNKNOWN,
            (
                f"{PAIR} fails to start warm, and {PAIR} starts warm on Python 3.12 (not stock:"
                " without flashinfer-python): the packages too may be the cause, and a stock run is"
                " missing: unknown"
            ),
            (
                f"{PAIR} counts warm {SAVED} 3, and {PAIR} counts warm {SAVED} 0 on Python 3.12"
                " (not stock: without flashinfer-python): the packages too may be the cause, and a"
                " stock run is missing: unknown"
            ),
        ),
        (
            replace(STOCK, differs=None, torch="2.12.0", own=True),
            Cause.UNKNOWN,
            (
                f"{PAIR} fails to start warm (not stock: without flashinfer-python), and {PAIR}"
                " starts warm in another run of the same cell: the packages may be the cause, and a"
                " stock run is missing: unknown"
            ),
            (
                f"{PAIR} counts warm {SAVED} 3 (not stock: without flashinfer-python), and {PAIR}"
                f" counts warm {SAVED} 0 in another run of the same cell: the packages may be the"
                " cause, and a stock run is missing: unknown"
            ),
        ),
        (
            reasons.NoCleanNeighbour(),
            Cause.UNKNOWN,
            f"{PAIR} fails to start warm, and no neighbour that ran shows more: unknown",
            f"{PAIR} counts warm {SAVED} 3, and no neighbour that ran shows more: unknown",
        ),
        (
            reasons.NoCleanNeighbour(
                also_shown=(
                    reasons.ShownAlong(along=reasons.Along.TORCH, releases=("2.11.0", "2.13.0")),
                    reasons.ShownAlong(along=reasons.Along.VLLM, releases=("0.21.0",)),
                )
            ),
            Cause.UNKNOWN,
            (
                f"{PAIR} fails to start warm, and vLLM 0.20.0 under torch 2.11.0 and 2.13.0 and"
                " torch 2.12.0 with vLLM 0.21.0 shows it too: unknown"
            ),
            (
                f"{PAIR} counts warm {SAVED} 3, and vLLM 0.20.0 under torch 2.11.0 and 2.13.0 and"
                " torch 2.12.0 with vLLM 0.21.0 shows it too: unknown"
            ),
        ),
    ],
)
def test_each_reason_is_a_sentence(
    reason: reasons.AttributionReason, answer: Cause, failure: str, count: str
) -> None:
    assert words(reason, answer) == failure
    assert words(reason, answer, COUNT) == count
    # And it is published as a code with its operands, too.
    named = replace(ONE, reason=reason, answer=answer)
    schema = {**SCHEMA["$defs"]["attribution"], "$defs": SCHEMA["$defs"]}
    (value,) = json.loads(to_json([named]))["attributions"]
    Draft202012Validator(schema).validate(value)
    assert value["evidence"] == sentence(named)
    assert reasons.AttributionCode(value["reason"]["code"]) is reason.code


def test_each_rung_has_its_words() -> None:
    texts = [words(PLATFORM, symptom=replace(FAILURE, rung=rung)) for rung in FAILING_RUNGS]
    assert [text.removeprefix(f"{PAIR} ").partition(":")[0] for text in texts] == [
        "does not build on cpu and is built on cuda",
        "does not resolve on cpu and resolves on cuda",
        "is not imported on cpu and is imported on cuda",
        "fails to start cold on cpu and starts cold on cuda",
        "fails to start warm on cpu and starts warm on cuda",
    ]


def test_a_counter_that_was_not_counted_is_said_to_be_nothing() -> None:
    text = words(reasons.AxisChanges(change=VLLM), Cause.VLLM, replace(COUNT, observed=None))
    assert text.startswith(f"torch 2.12.0 counts warm {SAVED} 2 with vLLM 0.21.0 and nothing with")
