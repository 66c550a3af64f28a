import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from failure_texts import CHAINED, FAILURES, INDEX
from matrix.record.model import Case, Outcome, clip_failure
from matrix.record.signature import signature, signature_of

SAME = (
    ("cuda-library-deepseek", "cuda-library-glm", "cuda-library-moe-fork"),
    ("unknown-model-torch29", "unknown-model-torch211"),
    ("driver-too-old-kimi", "driver-too-old-glm"),
    ("undefined-parse-schema-1", "undefined-parse-schema-2"),
    ("hash-tp-1", "hash-tp-2"),
    ("python-3.10", "python-3.11", "python-3.12", "python-3.13"),
    ("group-3.11", "group-3.12", "group-3.13"),
    ("warn-hip-stream", "hip-cascade-silu"),
    ("warn-parse-library", "op-of-parse-library"),
    ("cudart13-registry", "cudart13-traceback"),
    ("auto-functionalized-tp1", "auto-functionalized-tp2"),
    ("no-kernel-27", "no-kernel-210", "no-kernel-logrus", "no-kernel-stern"),
    ("ninja-repeated", "ninja-command"),
    ("driver-12040", "driver-12080"),
    ("glibc-warning", "glibc-error"),
    ("bfloat16-t4", "bfloat16-v100"),
    ("pip-conflict-ascend", "uv-conflict-ascend"),
)
"""The names of the failures that are one defect each."""


def test_the_corpus_is_whole_and_names_nobody() -> None:
    assert FAILURES.keys() == INDEX.keys()
    assert len(FAILURES) >= 25
    for name, text in FAILURES.items():
        assert not re.search(r"/(?:home|Users)/(?!user/|ray/)", text), name
        assert INDEX[name]["from"]


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_of_the_corpus_has_its_signature(name: str) -> None:
    wanted, text = INDEX[name]["signature"], FAILURES[name]
    assert signature(text) == wanted
    assert signature(wanted) == wanted
    written = Case(
        case="x",
        outcome=Outcome(INDEX[name].get("outcome", "failed")),
        failure=text,
        signature="of old",
    )
    assert signature_of(written) == wanted


@pytest.mark.parametrize("names", SAME, ids=lambda names: names[0])
def test_one_defect_has_one_signature(names: tuple[str, ...]) -> None:
    assert len({signature(FAILURES[name]) for name in names}) == 1


def test_different_defects_of_the_corpus_differ() -> None:
    assert {name for names in SAME for name in names} <= FAILURES.keys()
    told = {signature(text) for text in FAILURES.values()}
    assert len(told) == len(FAILURES) - sum(len(names) - 1 for names in SAME)


@settings(deadline=None, max_examples=200)
@given(
    name=st.sampled_from(sorted(FAILURES)),
    folder=st.from_regex(r"/[a-z]{1,8}(/[a-z0-9_.]{1,12}){0,3}", fullmatch=True),
    number=st.integers(1, 4_000_000),
    minute=st.integers(0, 59),
    python=st.integers(10, 14),
    carets=st.booleans(),
)
def test_another_run_of_a_failure_has_its_signature(
    name: str, folder: str, number: int, minute: int, python: int, carets: bool
) -> None:
    assume(name != "hang")  # its frames are told last
    text = FAILURES[name]
    text = re.sub(r"(?<=, line )\d+", str(number), text)
    text = re.sub(r"pid=\d+", f"pid={number}", text)
    text = re.sub(r"\b0x[0-9a-f]+", hex(number), text)
    text = re.sub(r"\b(\d\d-\d\d \d\d):\d\d:", rf"\1:{minute:02}:", text)
    text = re.sub(
        r'(?<=File ")[^"\n]*site-packages/',
        f"{folder}/lib/python3.{python}/site-packages/",
        text,
    )
    if not carets and "CompilationError" not in text:  # Triton has its own, below a kernel
        text = re.sub(r"(?m)^(?:\(.*\])?[ |]*[~^]+\n", "", text)
    assert signature(text) == INDEX[name]["signature"]


def test_a_case_tells_by_todays_rules() -> None:
    old = Case(case="x", outcome=Outcome.FAILED, failure=CHAINED, signature="KeyError: <id>")
    assert signature_of(old) == "KeyError: <id> @ vllm/backends.py:load"
    assert (
        signature_of(Case(case="x", outcome=Outcome.FAILED, signature="as written")) == "as written"
    )
    assert (
        signature_of(Case(case="x", outcome=Outcome.FAILED, failure=" \n", signature="as written"))
        == "as written"
    )
    assert signature_of(Case(case="x", outcome=Outcome.PASSED)) is None
    assert signature_of(Case(case="x", outcome=Outcome.PASSED, failure=CHAINED)) is None


@pytest.mark.parametrize("outcome", ["crashed", "timed_out"])
def test_an_error_that_was_only_logged_is_not_why_a_process_died(outcome: str) -> None:
    case = Case(
        case="x",
        outcome=Outcome(outcome),
        failure=CHAINED,
        signature="pytest was killed by SIGKILL",
    )
    assert signature_of(case) == "pytest was killed by SIGKILL"
    case = Case(
        case="x", outcome=Outcome(outcome), failure=f"{CHAINED}killed by SIGSEGV", signature="old"
    )
    assert signature_of(case) == "killed by SIGSEGV"


def test_the_tail_of_a_failure_is_enough() -> None:
    text = FAILURES["cuda-library-deepseek"]
    cut = clip_failure("a line of a log\n" * 2000 + text)
    assert signature(cut) == signature(text)
