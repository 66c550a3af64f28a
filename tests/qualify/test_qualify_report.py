"""A qualification as text, Markdown and JSON."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import replace

import pytest

from made import failed, make, passed
from matrix._util.enums import StrEnum
from matrix.catalog.projects import Project
from matrix.qualify.caveats import CaveatCode
from matrix.qualify.load import UnidentifiedCause
from matrix.qualify.model import DriftKind, FailureKind, QualificationVerdict
from matrix.qualify.reasons import TimesCode, UnknownCode
from matrix.qualify.runs import CaseState, MissingCode
from matrix.qualify.speed import DroppedCode, SpeedCode
from matrix.qualify.unlike import UnlikeCode
from matrix.record.model import Case, Outcome
from matrix.report.qualify.json import render
from matrix.report.qualify.markdown import page
from matrix.report.qualify.text import lines
from qualifications import (
    NEXT,
    OLD,
    SCHEMA,
    held,
    on_cuda,
    reasons,
)

UNJUDGED = ("$defs", "unjudged", "properties")


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
    found = held(
        make(OLD, replace(bad, outcome=Outcome.PASSED, starts=passed().starts), passed()),
        make(NEXT, bad, replace(passed(**drifting), flags=flags), packages={"a": HOSTILE}),
        make(OLD, passed(), python="3.12", provenance={"os": HOSTILE}, packages={"a": "1"}),
        make(NEXT, passed(), python="3.12", packages={"a": HOSTILE}),
    )
    text = page(found)
    rest = text.replace("<details>", "").replace("</details>", "")
    rest = rest.replace("<summary>", "").replace("</summary>", "")
    assert "<" not in rest and "\x1b" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert "http://" not in text and "@you" not in text and "\n# head" not in text
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    for _, table in itertools.groupby(widths):
        assert len(list(table)) >= 3
    assert all(character.isprintable() for character in lines(found) if character != "\n")


def test_the_markdown_is_for_an_umbrella_issue() -> None:
    found = held(
        make(OLD, passed("a"), passed("b"), passed("c"), packages={"triton": "3.6.0"}),
        make(NEXT, failed("a"), failed("b"), passed("c"), packages={"triton": "3.7.1"}),
    )
    text = page(found)
    assert text.startswith("## ❌ torch 2.12.1 against 2.11.0 on cpu: not qualified\n")
    assert text.count("**KeyError: x**") == 1  # grouped by signature
    assert "| `py311-torch212-vllm020` | cpu | 2.12.1, 0.20.2 | `b` | starts cold |" in text
    assert "packages that differ: triton 3.6.0 → 3.7.1" in text
    assert "`results/cpu/py311-torch212-vllm020.json`" in text
    assert "tox -e py311-torch212-vllm020 -- --platform cpu\n" in text
    assert "`py311-torch212-vllm020` (off-pin)" in text


def test_a_signature_can_be_copied_whole() -> None:
    long = "ValueError: " + "boom and bang " * 20
    found = held(make(OLD, passed()), make(NEXT, failed(signature=long.strip())))
    assert len(long) > 280 and f"  {long.strip()}\n" in lines(found)


def operands(text: str, code: str) -> dict[str, object]:
    """Return the operands of a code in the JSON."""
    content = json.loads(text)
    coded = [*content["unknown"], *content["caveats"]]
    for cell in content["cells"]:
        coded += [*cell["caveats"], *([cell["no_times"]] if cell["no_times"] else [])]
    [found] = [item["operands"] for item in coded if item["code"] == code]
    assert isinstance(found, dict)
    return found


def test_the_json_has_codes_and_operands_beside_the_sentences() -> None:
    rerun = make(NEXT, passed(), failed("b"), day=20, file="rerun")
    flags = make(NEXT, passed(), day=21, file="flags", flags={"A": 1})
    found = held(
        make(OLD, passed(), passed("b")),
        make(NEXT, passed(), passed("b"), flags={"A": 2}),
        rerun,
        flags,
        make(OLD, passed(), passed("c"), python="3.12"),
        make(NEXT, passed(), python="3.12", deselected=1),
    )
    text = render(found)
    assert operands(text, "rerun failed") == {
        "state": "passed",
        "path": "results/cpu/rerun.json",
        "detail": "why: KeyError: x",
        "because": {"code": "recorded", "operands": {"text": "why: KeyError: x"}},
    }
    assert operands(text, "answer lost") == {
        "baseline": "passed",
        "candidate": {"code": "not selected", "operands": {"held": 1, "total": 2}},
    }
    assert operands(text, "other flags") == {
        "path": "results/cpu/py311-torch212-vllm020.json",
        "cell": "py311-torch212-vllm020",
        "platform": "cpu",
        "other": "results/cpu/flags.json",
        "variant": {"project": None, "release": None, "flags": [{"flag": "A", "value": "1"}]},
    }
    content = json.loads(text)
    sentences = {caveat["text"] for caveat in content["caveats"]}
    assert sentences <= set(content["notes"])
    assert [item["reason"] for item in content["unknown"]] == reasons(found)
    assert content["cells"][0]["no_times"] == {
        "code": "too few runs",
        "operands": {"baseline": 1, "candidate": 2},
    }


@pytest.mark.parametrize(
    ("codes", "where"),
    [
        (UnknownCode, ("properties", "unknown", "items", "properties", "code")),
        (CaveatCode, ("$defs", "caveat", "properties", "code")),
        (MissingCode, ("$defs", "missing", "properties", "code")),
        ([*TimesCode, *UnlikeCode], ("$defs", "no_times", "properties", "code")),
        ([*SpeedCode, *UnlikeCode], (*UNJUDGED, "no_speed", "properties", "code")),
        ([*DroppedCode, *UnlikeCode], (*UNJUDGED, "dropped", "items", "properties", "code")),
        (UnidentifiedCause, ("$defs", "operands", "properties", "cause")),
        (CaseState, ("$defs", "operands", "properties", "state")),
        (FailureKind, ("properties", "failures", "items", "properties", "kind")),
        (DriftKind, ("properties", "drifts", "items", "properties", "kind")),
        (QualificationVerdict, ("properties", "verdict")),
        (Project, ("properties", "project")),
    ],
)
def test_the_schema_has_all_codes(codes: Iterable[StrEnum], where: tuple[str, ...]) -> None:
    part = SCHEMA
    for key in where:
        part = part[key]
    assert sorted(part["enum"]) == sorted(codes)
