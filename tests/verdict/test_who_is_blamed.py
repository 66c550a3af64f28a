"""Which errors of a run the pair causes, and which the index, the machine or this project."""

from __future__ import annotations

import pytest

from judgements import words
from matrix.record.model import ErrorKind, RunError, Rung, RungResult
from matrix.rules.expectations import Expectations
from matrix.store.fingerprint import verdict_key
from matrix.verdict.judge import blames_pair, judge
from plans import record


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("not_published", "vllm needs a>=5"),
        ("companion", "torchaudio 2.11.0 does not go with torch 2.15.0"),
        # As records have it from before that kind.
        (
            "resolves",
            (
                "Because only certifi<=2026.10.18 is available and vllm==0.33.0 depends on"
                " certifi>=2026.10.19, we can conclude that vllm==0.33.0 cannot be used."
            ),
        ),
    ],
)
def test_what_the_pair_does_not_cause_is_untested(kind: str, reason: str) -> None:
    rung = RungResult(rung=Rung.RESOLVES, ok=False, seconds=0.0, reason=reason)
    error = RunError(kind=ErrorKind(kind), reason=reason)
    assert not blames_pair(error)
    verdict = judge(record(error=error, rungs=(rung,), cases=()), Expectations(rules=()))
    assert (verdict.verdict, verdict.rung, words(verdict.reason)) == ("untested", None, reason)


def test_two_errors_of_one_kind_share_a_key_only_if_both_blame_the_pair() -> None:
    lacks = (
        "Because only certifi<=2026.10.18 is available and vllm==0.33.0 depends on"
        " certifi>=2026.10.19, we can conclude that vllm==0.33.0 cannot be used."
    )
    found = []
    for reason in ("torch and vllm want different numpy", "torch and vllm differ", lacks):
        rung = RungResult(rung=Rung.RESOLVES, ok=False, seconds=0.0, reason=reason)
        error = RunError(kind=ErrorKind.RESOLVES, reason=reason)
        run = record(error=error, rungs=(rung,), cases=())
        found.append((judge(run, Expectations(rules=())).verdict, verdict_key(run)))
    (one, key), (other, same), (untested, third) = found
    assert (one, other, untested) == ("incompatible", "incompatible", "untested")
    assert key == same != third
