"""`matrix ci --format junit`: a suite for a cell, a test for a case, and text that stays text."""

import re
import unicodedata
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ci_tables import FAILURE, TABLE, failed, make, table
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    RunError,
)
from matrix.report import ci


def test_junit_has_a_suite_for_a_cell_and_a_test_for_a_case() -> None:
    root = ET.fromstring(ci.junit(TABLE).encode())
    assert root.attrib == {
        "name": "torch-vllm-matrix",
        "tests": "11",
        "failures": "5",
        "errors": "0",
        "skipped": "2",
        "time": "443.038",
    }
    suites = {suite.attrib["name"]: suite for suite in root}
    assert list(suites)[:2] == ["py311-torch213-vllm032 on cuda", "py311-torch29-vllm016 on cpu"]
    suite = suites["py311-torch210-vllm019 on cpu"]
    assert {key: suite.attrib[key] for key in ("tests", "failures", "skipped", "timestamp")} == {
        "tests": "3",
        "failures": "2",
        "skipped": "0",
        "timestamp": "2026-11-22T18:00:00",
    }
    properties = {item.attrib["name"]: item.attrib["value"] for item in suite.iter("property")}
    assert properties["torch"] == "2.10.0+cu128"
    assert properties["record"] == "py311-torch210-vllm019.json"
    test = suite.findall("testcase")[0]
    assert test.attrib == {
        "classname": "cpu.py311-torch210-vllm019",
        "name": "moe[1]",
        "time": "12.346",
    }
    (failure,) = test
    assert failure.attrib == {"type": "incompatible", "message": "KeyError: 'x' of pid 7"}
    assert failure.text == FAILURE.format(pid=7)


def test_junit_takes_drift_for_a_failure_and_untested_for_skipped() -> None:
    root = ET.fromstring(ci.junit(TABLE).encode())
    found = {
        (test.attrib["classname"], test.attrib["name"]): list(test)
        for test in root.iter("testcase")
    }
    (drift,) = found["cpu.py311-torch29-vllm016", "small[a]"]
    assert drift.attrib["type"] == "drift"
    assert drift.text == (
        "cold num_compiled_artifacts_saved: expected 3, observed 1 (rule cold)\n"
        "warm num_compiled_artifacts_saved: expected 3, observed 1 (rule warm)"
    )
    assert found["cpu.py311-torch29-vllm016", "small[b]"] == []
    (skipped,) = found["cuda.py311-torch213-vllm032", "run"]
    assert (skipped.tag, skipped.attrib["message"]) == ("skipped", "untested: no GPU is visible")
    (imports,) = found["cpu.py310-torch210-vllm019", "imports"]
    assert imports.attrib["message"].endswith("undefined symbol: y")
    (skipped,) = found["cpu.py310-torch210-vllm019", "small[a]"]
    assert skipped.attrib["message"] == "not applicable: no such model"


@pytest.mark.parametrize(
    "record",
    [
        make(
            "py311-torch29-vllm016",
            Case(case="small[a]", outcome=Outcome.INTERRUPTED, reason="Ctrl-C"),
        ),
        make(
            "py311-torch29-vllm016", Case(case="small[a]", outcome=Outcome.RUNNING), finished=False
        ),
        make("py311-torch29-vllm016", error=RunError(kind=ErrorKind.INTERRUPTED, reason="Ctrl-C")),
    ],
)
def test_what_did_not_come_to_its_end_is_an_error_of_junits(record: Any) -> None:
    root = ET.fromstring(ci.junit(table(record)).encode())
    assert root.attrib["errors"] == root[0].attrib["errors"] == root.attrib["tests"] != "0"
    assert {child.tag for test in root.iter("testcase") for child in test} == {"error"}


def test_xml_holds_what_a_failure_says() -> None:
    message = "a <b> & \"c\" 'd' ]]> \t é \U0001f600"
    root = ET.fromstring(ci.junit(table(make("py311-torch210-vllm019", failed(failure=message)))))
    assert root.find(".//failure").text == message  # type: ignore[union-attr]
    odd = ci.junit(table(make("py311-torch210-vllm019", failed(failure="a\x00\x1b[1mb\ud800"))))
    assert ET.fromstring(odd).find(".//failure").text == "ab"  # type: ignore[union-attr]


ODD = st.text(st.characters() | st.sampled_from("\u202e\u2066\u200b\r\n\t\x1b[]m\x9b\x07<&:#"))


@settings(deadline=None)
@example("\u202eright to left\u2066", "one\rtwo\r\nthree\x85")
@given(ODD, ODD)
def test_xml_holds_nothing_that_reorders_or_moves_what_is_shown(reason: str, failure: str) -> None:
    versions = {"started": "2026-11-22T18:00:00Z", "torch": reason, "vllm": failure}
    case = failed(f"x{reason}", reason=reason, failure=failure)
    output = ci.junit(table(make("py311-torch210-vllm019", case, provenance=versions)))
    references = {int(number) for number in re.findall(r"&#(\d+);", output)}
    for mark in {*output, *map(chr, references)} - {"\n", "\t"}:
        assert unicodedata.category(mark)[0] != "C"
    assert ET.fromstring(output.encode()).attrib["failures"] == "1"


@pytest.fixture(autouse=True)
def no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the CI service under which the tests may run."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "BUILDKITE"):
        monkeypatch.delenv(name, raising=False)
