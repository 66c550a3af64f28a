"""Any text has an answer: it never raises, and what it says is safe to print."""

import json
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from explained import VALIDATOR, choice, evidence, explained, read
from failure_texts import FAILURES
from matrix.explain.answer import Explainer
from matrix.explain.recognise import MARKS
from matrix.report.explain import five, lines
from matrix.report.explain_json import to_json

_MARKS = [mark.decode() for mark, _ in MARKS]
_WORDS = [
    "_ZN3c1013MessageLoggerC1EPKciib",
    "undefined symbol: ",
    "libcudart.so.13",
    ": cannot open shared object",
    "version `GLIBC_2.32' not found (required by /x/_C.so)",
    "(found version 99999",
    "with CUDA capability sm_120 is not compatible with the current PyTorch",
    "vllm 0.19.1 needs torch==2.10.0, and x 1 needs torch",
    "No matching distribution found for ",
    "torch==",
    "9" * 40,
    "==1!2.0+x.*",
    "flashinfer-cubin version (x) does not match flashinfer version (",
    "num_compiled_artifacts_saved 99",
    "Because a==1 depends on torch==2.0 and b==2 depends on torch==3, we can conclude ",
    "x-1-py3-none-any.whl is not a supported wheel on this platform",
    "'_OpNamespace' '_C' object has no attribute 'x'",
    "\x1b[31m",
    "\u202e",
    "::error::",
    "\n",
    " ",
    "'",
]
TEXTS = st.one_of(
    st.text(max_size=300),
    st.binary(max_size=300),
    st.lists(st.sampled_from([*_WORDS, *_MARKS]), max_size=12).map("".join),
    st.tuples(st.sampled_from(list(FAILURES.values())), st.integers(0, 4000)).map(
        lambda cut: cut[0][cut[1] :]
    ),
)


@given(TEXTS)
@settings(deadline=None)
def test_any_text_has_answers_of_five_printable_lines(text: str | bytes) -> None:
    answers = explained(text)
    shown = lines(answers)
    for answer in answers:
        rows = five(answer)
        assert [row[:11].rstrip() for row in rows] == [
            "signature",
            "means",
            "releases",
            "records",
            "to do",
        ]
        assert all(row.isprintable() and len(row) < 3000 for row in rows)
    assert all(mark == "\n" or unicodedata.category(mark)[0] != "C" for mark in shown)
    found = read(text)
    data = json.loads(to_json(answers, [found]))
    VALIDATOR.validate(data)
    assert data["more"] == found.more


@given(TEXTS)
@settings(deadline=None)
def test_a_text_has_the_same_answer_each_time(text: str | bytes) -> None:
    other = Explainer(evidence=evidence(), choice=choice())
    assert other.answers(read(text)) == explained(text)


@given(st.sampled_from(_WORDS), st.integers(1, 200_000))
@settings(deadline=None, max_examples=20)
def test_a_long_text_takes_no_longer_than_its_length(word: str, times: int) -> None:
    """What repeats without an end, such as a symbol of a million letters, is only cut."""
    for answer in explained((word * times)[:2_000_000]):
        assert len(answer.fault.signature) <= 300
