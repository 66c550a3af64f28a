"""What upstream's own tests did stands next to the verdict in every table that a person reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from commanded import make, with_one_record
from matrix import cli
from matrix.record.model import Platform, Record
from matrix.record.upstream import SuiteCase, UpstreamOutcome, UpstreamSuite
from matrix.record.writer import write
from matrix.report.upstream_suite import lines
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import load_expectations
from matrix.verdict.judge import exit_status, judge
from table_schema import validate

NAMES = [f"tests/test_{name}.py::test_it" for name in "abcde"]
SUITE = UpstreamSuite(
    sdist="vllm-0.19.1.tar.gz",
    sha256="0123456789abcdef",
    stand_ins=("tblib",),
    cases=(
        *(
            SuiteCase(case=name, outcome=UpstreamOutcome.FAILED, reason="why", signature="E: no")
            for name in NAMES
        ),
        SuiteCase(case="x\x1b[31m", outcome=UpstreamOutcome.SKIPPED, reason="needs a GPU"),
    ),
)


@pytest.fixture
def rules(tmp_path: Path) -> Expectations:
    return load_expectations(with_one_record(tmp_path) / "rules.toml")


def test_no_verdict_depends_on_them(rules: Expectations) -> None:
    for record in (make(), make(saved=1), make(deselected=2)):
        beside = replace(record, upstream=SUITE)
        assert judge(beside, rules) == judge(record, rules)
        assert beside.is_complete == record.is_complete
        assert beside.total_cases == record.total_cases


def test_a_failed_one_decides_the_exit_status(rules: Expectations) -> None:
    verdict = judge(make(), rules)
    assert exit_status(verdict, make(upstream=SUITE)) == 1
    assert exit_status(verdict, make(upstream=replace(SUITE, cases=SUITE.cases[-1:]))) == 0
    drifts = make(saved=1, upstream=UpstreamSuite())
    assert exit_status(judge(drifts, rules), drifts) == 1


def aggregated(tmp_path: Path, record: Record) -> Path:
    here = with_one_record(tmp_path)
    [path] = here.rglob("py*.json")
    write(record, path)
    out = here / "out"
    given = ["--expectations", str(here / "rules.toml"), "--out", str(out), str(here / "records")]
    assert cli.main(["table", *given]) == 0
    return out


def test_the_table_names_what_failed(tmp_path: Path) -> None:
    out = aggregated(tmp_path, make(upstream=SUITE))
    text = (out / "compatibility.md").read_text(encoding="utf-8")
    names = ", ".join(f"`{name}` (`E: no`)" for name in NAMES[:3])
    assert f"5 of 6 of upstream's own tests failed: {names} and 2 more" in text
    data = json.loads((out / "compatibility.json").read_text(encoding="utf-8"))
    validate(data)
    [entry] = data["cells"]
    assert entry["verdict"] == "compatible"
    found = entry["upstream_tests"]
    assert [found[name] for name in UpstreamOutcome] == [0, 5, 1, 0]
    assert found["failures"][0] == {"case": NAMES[0], "reason": "why", "signature": "E: no"}


def test_on_a_gpu_numbers_say_something() -> None:
    on_gpu, on_cpu = lines(SUITE, Platform.CUDA), lines(SUITE, Platform.CPU)
    assert len(on_cpu) == len(on_gpu) + 1 and not any("compute nothing" in line for line in on_gpu)


def test_without_them_nothing_is_added(tmp_path: Path) -> None:
    out = aggregated(tmp_path, make())
    assert "upstream_tests" not in (out / "compatibility.json").read_text(encoding="utf-8")


def test_a_record_is_shown_with_each_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = with_one_record(tmp_path)
    [path] = here.rglob("py*.json")
    write(make(upstream=SUITE), path)
    assert cli.main(["show", str(path), "--expectations", str(here / "rules.toml")]) == 0
    shown = capsys.readouterr().out
    assert "; upstream's own tests: 5 failed, 1 skipped\n" in shown
    assert (
        "upstream's own tests, from vllm-0.19.1.tar.gz, SHA-256 0123456789ab; stand-ins for the"
        " real ones: tblib\n  on the CPU platform vLLM's kernels compute nothing, " in shown
    )
    assert f"  failed       0.0  {NAMES[0]}\n{'':<20}E: no\n" in shown
    assert "needs a GPU" in shown and "\x1b" not in shown
