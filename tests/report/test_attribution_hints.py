"""What else an attribution says: flags, defaults, what differs too, runs that are missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from answers import (
    COUNT,
    FAILS_ALONG,
    FAILURE,
    FLAG,
    MACHINE,
    ONE,
    PACKAGES,
    RERUN,
    SAVED,
    TESTS,
    TORCH,
    VLLM,
    words,
)
from matrix.attribution import reasons
from matrix.attribution.model import Cause, FlagDifference
from matrix.attribution.symptoms import Symptom
from matrix.record.defaults import DefaultChange
from matrix.record.model import DefaultValue
from matrix.report.attribution.sentences import (
    missing_runs,
    question_words,
    sentence,
    symptom_words,
)
from matrix.report.attribution.values import to_json
from matrix.verdict.reasons import Recorded


@pytest.mark.parametrize(
    ("decides", "text"),
    [
        (None, ", with another default of VLLM_X (False at torch 2.11.0, True here)"),
        (
            True,
            (
                ", by the default of VLLM_X (False at torch 2.11.0, True here) alone: with the"
                " other value it is gone"
            ),
        ),
        (
            False,
            (
                ", and not by the default of VLLM_X (False at torch 2.11.0, True here): with the"
                " other value it stays"
            ),
        ),
    ],
)
def test_a_flag_that_differs_is_named_with_what_runs_show_of_it(
    decides: bool | None, text: str
) -> None:
    flags = [replace(FLAG, decides=decides)]
    assert words(ONE.reason, Cause.TORCH, flags=flags) == f"{FAILS_ALONG}: torch, since 2.12{text}"


def test_changed_defaults_are_a_hint_with_both_values() -> None:
    values: list[tuple[str, DefaultValue, DefaultValue]] = [
        ("a", True, False),
        ("b", [1], None),
        ("c", 1, 2),
        ("d", 1, 2),
    ]
    changes = [
        DefaultChange(config="torch._inductor.config", name=name, before=before, after=after)
        for name, before, after in values
    ]
    plain = replace(ONE, reason=reasons.AxisChanges(change=TORCH))
    said = sentence(replace(plain, defaults=tuple(changes[:1])))
    hint = "; a hint: torch changed the default of torch._inductor.config.a from true to false"
    assert said == f"{sentence(plain)}{hint} there"
    assert sentence(replace(plain, defaults=tuple(changes))).endswith(
        f"{hint}, the default of torch._inductor.config.b from [1] to null and 2 other defaults"
        " there"
    )
    content = json.loads(to_json([replace(plain, defaults=tuple(changes))]))
    defaults = content["attributions"][0]["defaults"]
    assert defaults[1] == {
        "config": "torch._inductor.config",
        "name": "b",
        "before": [1],
        "after": None,
    }


def test_flags_are_named_at_the_nearest_clean_release_of_their_axis() -> None:
    flags = [FLAG, FlagDifference(flag="Y", here="a", there=None)]
    assert words(reasons.AxisChanges(change=VLLM), Cause.VLLM, flags=flags).endswith(
        ", with another default of VLLM_X (False at vLLM 0.21.0, True here) and Y (None at vLLM"
        " 0.21.0, a here)"
    )


@pytest.mark.parametrize(
    ("confounders", "text"),
    [
        ([TESTS], " (the tests differ too, and may be it)"),
        (
            [TESTS, MACHINE, replace(PACKAGES, changes=PACKAGES.changes[:1])],
            (
                " (the tests, the machine and other packages differ too, and may be it: the system"
                " Suse there, Debian here; a 2 there, 1 here)"
            ),
        ),
        (
            [MACHINE, PACKAGES],
            (
                " (the machine and other packages differ too, and may be it: the system Suse there,"
                " Debian here; a 2 there, 1 here and 2 more)"
            ),
        ),
    ],
)
def test_what_differs_too_is_named(confounders: Sequence[reasons.Confounder], text: str) -> None:
    reason = reasons.AxisChanges(change=TORCH, confounders=tuple(confounders))
    assert words(reason, Cause.TORCH) == f"{FAILS_ALONG}: torch, since 2.12{text}"


@pytest.mark.parametrize(
    ("code", "subjects", "text"),
    [
        (reasons.QuestionCode.FLAKY, (), "whether it is flaky"),
        (reasons.QuestionCode.FLAG, (), "whether it is the flag alone"),
        (reasons.QuestionCode.FLAG_OR_TESTS, (), "whether it is the flag or the tests"),
        (reasons.QuestionCode.CAUSE, ("torch",), "whether it is torch"),
        (reasons.QuestionCode.CAUSE, ("platform",), "whether it is the platform"),
        (reasons.QuestionCode.CAUSE, ("3.11",), "whether it is Python 3.11"),
        (reasons.QuestionCode.CAUSE, ("packages",), "whether it is other packages"),
        (
            reasons.QuestionCode.CAUSE,
            ("tests", "machine"),
            "whether it is the tests or the machine",
        ),
        (reasons.QuestionCode.FIRST_RELEASE, ("vLLM",), "since which vLLM"),
        (reasons.QuestionCode.ONE_PLATFORM, ("cuda",), "whether it is cuda alone"),
    ],
)
def test_what_a_missing_run_would_answer(
    code: reasons.QuestionCode, subjects: tuple[str, ...], text: str
) -> None:
    assert question_words(reasons.Question(code=code, subjects=subjects)) == text


def test_a_missing_run_that_must_be_stock_says_so() -> None:
    stock = replace(RERUN, stock=True)
    (line,) = missing_runs(replace(ONE, missing=(stock,)))
    assert line.endswith(f"{RERUN.name} on cpu in a stock environment with VLLM_X=0")
    assert "stock" not in missing_runs(replace(ONE, missing=(RERUN,)))[0]
    (value,) = json.loads(to_json([replace(ONE, missing=(stock,))]))["attributions"]
    assert value["missing"][0]["stock"] is True


def test_a_package_that_one_side_lacks_is_missing_there() -> None:
    change = reasons.EnvironmentChange(name="ray", here=None, there="2")
    confounder = replace(PACKAGES, changes=(change, replace(change, here="2", there=None)))
    text = words(reasons.AxisChanges(change=TORCH, confounders=(confounder,)), Cause.TORCH)
    assert text.endswith(": ray 2 there, missing here; ray missing there, 2 here)")


@pytest.mark.parametrize(
    ("symptom", "text"),
    [
        (replace(FAILURE, reason=Recorded(text="it broke")), "fails to start warm: it broke"),
        (replace(FAILURE, reason=None), "fails to start warm: KeyError: None"),
        (replace(FAILURE, reason=None, signature=None), "fails to start warm: without a reason"),
        (COUNT, f"warm {SAVED} 3, not 0"),
        (replace(COUNT, observed=None), f"warm {SAVED} not counted, not 0"),
    ],
)
def test_a_symptom_in_words(symptom: Symptom, text: str) -> None:
    assert symptom_words([symptom]) == text
