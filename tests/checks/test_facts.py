"""What checks found is data: each fact has a sentence, and a key by which failures compare."""

import json

import pytest

from matrix.checks.facts import (
    LONGEST,
    AnyFact,
    Fact,
    FactCode,
    LinkCode,
    LinkFact,
    facts_key,
    quoted,
)
from matrix.report import facts as report
from matrix.report.coded import coded
from matrix.report.facts import facts_words
from matrix.verdict.reasons import Checked

VLLM = {"package": "vllm", "version": "0.33.0"}
A = Fact(code=FactCode.NEEDS, package="vllm", version="0.33.0", wanted="a>=2")
C_SO = "_C.abi3.so"
SENTENCES: list[tuple[AnyFact, str]] = [
    (A, "vllm 0.33.0 needs a>=2"),
    (Fact(code=FactCode.NEEDS, package="b", specifier="<=1.0", wanted="a<2"), "b<=1.0 needs a<2"),
    (Fact(code=FactCode.NEEDS, package="b", wanted="a<2"), "every b needs a<2"),
    (
        Fact(code=FactCode.NEEDS_PYTHON, package="torch", version="2.15.0", wanted=">=3.11"),
        "torch 2.15.0 needs Python >=3.11",
    ),
    (
        Fact(code=FactCode.NEEDS_PYTHON, package="b", wanted=">=3.11", python="3.10"),
        "every b needs Python >=3.11, not 3.10",
    ),
    (
        Fact(code=FactCode.NO_WHEEL, package="torch", version="2.7.0", python="3.14"),
        "torch 2.7.0 has no wheel for Python 3.14",
    ),
    (
        Fact(code=FactCode.NO_WHEEL, package="b", version="1", platform="manylinux_2_35_x86_64"),
        "b 1 has no wheel for manylinux_2_35_x86_64",
    ),
    (
        Fact(code=FactCode.NO_WHEEL, package="b", version="1", python="3.12", platform="linux"),
        "b 1 has no wheel for Python 3.12 on linux",
    ),
    (
        Fact(code=FactCode.PINS_TORCH, package="vLLM", version="0.20.2", wanted="2.11.0"),
        "vLLM 0.20.2 pins torch 2.11.0",
    ),
    (Fact(code=FactCode.ASKED_FOR, package="a", specifier=">=2"), "a>=2 was asked for"),
    (Fact(code=FactCode.UP_TO, package="a", wanted="2"), "the index has up to 2"),
    (Fact(code=FactCode.ONLY, package="a", wanted=">1,<2"), "the index has only >1,<2"),
    (Fact(code=FactCode.ABSENT, package="a", wanted="a==3"), "the index has no a==3"),
    (Fact(code=FactCode.NO_SUCH_VERSION, package="a"), "the index has no such version"),
    (Fact(code=FactCode.NO_REASON), "the resolver gave no reason"),
    (Fact(code=FactCode.QUOTED, text="{who} said so"), "{who} said so"),
    (
        LinkFact(code=LinkCode.OTHER_PYTHON, extension="a", pythons=("3.1", "3.2"), python="3.3"),
        "`a` is built for Python 3.1, 3.2, not 3.3",
    ),
    (LinkFact(code=LinkCode.UNREADABLE, extension="a", text="is not ELF"), "`a` is not ELF"),
    (LinkFact(code=LinkCode.WITHOUT, features=("A", "B")), "without A, B"),
    (LinkFact(code=LinkCode.NEEDS, extension="_C", library="libx.so.1"), "`_C` needs libx.so.1"),
    (LinkFact(code=LinkCode.NEEDS, extension="_C", symbol="c10::f()"), "`_C` needs c10::f()"),
]
"""Facts whose key is their sentence, too: that of today."""
UNKNOWN = {
    LinkCode.BUILT: "it is built from its sources, and no published",
    LinkCode.NO_EXTENSIONS: "its wheel has no extensions to link",
    LinkCode.OTHER_WHEEL: "the symbols of another wheel were read",
}


@pytest.mark.parametrize(("fact", "sentence"), SENTENCES)
def test_a_fact_has_a_sentence_and_a_key(fact: AnyFact, sentence: str) -> None:
    """Waivers hold the keys: a sentence may change, these may not."""
    assert facts_words([fact]) == sentence
    assert facts_key([fact]) == sentence


def test_every_code_has_a_sentence() -> None:
    assert {fact.code for fact, _ in SENTENCES} | UNKNOWN.keys() == {*FactCode, *LinkCode}


@pytest.mark.parametrize("code", UNKNOWN)
def test_why_nobody_knows_has_a_sentence_and_a_key(code: LinkCode) -> None:
    assert facts_words([LinkFact(code=code)]).startswith(UNKNOWN[code])
    assert facts_key([LinkFact(code=code)]) == code


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"symbol": "f()", "more": 2}, "needs f() and 2 more"),
        ({"library": "x.so.1", "instead": "x.so.2"}, "needs x.so.1 (torch 2.9 brings x.so.2)"),
        ({"library": "x.so.1"}, "needs x.so.1 (torch 2.9 brings none)"),
        (
            {"library": "x.so.1", "symbol": "f()", "more": 1},
            "needs x.so.1 (torch 2.9 brings none), and f() and 1 more",
        ),
    ],
)
def test_what_an_extension_needs_of_one_torch(more: dict[str, object], sentence: str) -> None:
    fact = LinkFact(code=LinkCode.NEEDS, extension=C_SO, torch="2.9", **more)  # type: ignore[arg-type]
    assert facts_words([fact]) == f"`{C_SO}` {sentence}"
    assert report.link_fault(fact) == sentence
    # Of many torches alike: what this torch has besides does not tell them apart.
    assert fact.key == f"`{C_SO}` needs {more.get('library') or more['symbol']}"


def test_what_goes_without_says_why() -> None:
    fact = LinkFact(
        code=LinkCode.NEEDS, extension="a.so", torch="2.9", symbol="f()", features=("A", "B")
    )
    assert facts_words([fact]) == "without A, B: `a.so` needs f()"


def test_facts_are_one_line_of_limited_length_and_another_s_text_is_whole() -> None:
    two = (A, Fact(code=FactCode.NEEDS, package="b", version="1", wanted="a<2"))
    assert facts_words(two) == facts_key(two) == "vllm 0.33.0 needs a>=2, and b 1 needs a<2"
    long = (A, Fact(code=FactCode.NEEDS, package="b", version="1", wanted="a" * LONGEST))
    assert len(facts_words(long)) == len(facts_key(long)) == LONGEST
    assert facts_words(quoted("a" * 300)) == "a" * 300
    assert facts_words(quoted("\n a\nb")) == "a"
    assert facts_words(()) == facts_key(()) == ""


def test_the_json_of_facts_has_codes_operands_and_the_words() -> None:
    found = coded(Checked(facts=(A,), asked="2026-11-23"))
    assert json.loads(json.dumps(found)) == {
        "code": "checked",
        "operands": {
            "facts": [{"code": "needs", "operands": {**VLLM, "wanted": "a>=2"}}],
            "text": "vllm 0.33.0 needs a>=2",
            "asked": "2026-11-23",
            "by": "asked on 2026-11-23",
        },
    }
