"""A qualification as text, Markdown and JSON."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

from made import failed, make, passed
from matrix.record.model import Case, Outcome
from matrix.report.qualify.markdown import page
from matrix.report.qualify.text import lines
from qualifications import (
    NEXT,
    OLD,
    held,
    on_cuda,
)


def test_the_title_names_the_platforms_that_were_asked_for() -> None:
    both = make(OLD, passed()), make(NEXT, passed())
    title = "torch 2.12.1 against 2.11.0"
    assert lines(held(*both)).startswith(f"{title} on cpu: qualified\n")
    lost = on_cuda(OLD, passed())
    assert lines(held(*both, lost)).startswith(f"{title} on cuda and cpu: not enough")
    assert lines(held(*both, lost, platforms=("cpu",))).startswith(f"{title} on cpu: qual")
    none = held(*both, platforms=("cuda",))
    assert lines(none).startswith(f"{title} on cuda: not enough evidence\n")


HOSTILE = "<script>alert(1)</script> | `a` [b](http://evil.example) @you $x$ \x1b[31m\n# head"


def test_what_a_record_says_is_text() -> None:
    bad = Case(case=HOSTILE, outcome=Outcome.FAILED, reason=HOSTILE, signature=HOSTILE)
    drifting = {f"x{HOSTILE}": 3}
    flags = {HOSTILE: HOSTILE}
    told = held(
        make(OLD, replace(bad, outcome=Outcome.PASSED, starts=passed().starts), passed()),
        make(NEXT, bad, replace(passed(**drifting), flags=flags), packages={"a": HOSTILE}),
        make(OLD, passed(), python="3.12", provenance={"os": HOSTILE}, packages={"a": "1"}),
        make(NEXT, passed(), python="3.12", packages={"a": HOSTILE}),
    )
    text = page(told)
    rest = text.replace("<details>", "").replace("</details>", "")
    rest = rest.replace("<summary>", "").replace("</summary>", "")
    assert "<" not in rest and "\x1b" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert "http://" not in text and "@you" not in text and "\n# head" not in text
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    for _, table in itertools.groupby(widths):
        assert len(list(table)) >= 3
    assert all(each.isprintable() for each in lines(told) if each != "\n")


def test_the_markdown_is_for_an_umbrella_issue() -> None:
    told = held(
        make(OLD, passed("a"), passed("b"), passed("c"), packages={"triton": "3.6.0"}),
        make(NEXT, failed("a"), failed("b"), passed("c"), packages={"triton": "3.7.1"}),
    )
    text = page(told)
    assert text.startswith("## ❌ torch 2.12.1 against 2.11.0 on cpu: not qualified\n")
    assert text.count("**KeyError: x**") == 1  # grouped by signature
    assert "| `py311-torch212-vllm020` | cpu | 2.12.1, 0.20.2 | `b` | starts cold |" in text
    assert "packages that differ: triton 3.6.0 → 3.7.1" in text
    assert "`results/cpu/py311-torch212-vllm020.json`" in text
    assert "tox -e py311-torch212-vllm020 -- --platform cpu\n" in text
    assert "`py311-torch212-vllm020` (off-pin)" in text


def test_a_signature_can_be_copied_whole() -> None:
    long = "ValueError: " + "boom and bang " * 20
    told = held(make(OLD, passed()), make(NEXT, failed(signature=long.strip())))
    assert len(long) > 280 and f"  {long.strip()}\n" in lines(told)
