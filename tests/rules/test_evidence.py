"""How far evidence carries a rule, and which rules go beyond it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from matrix._util.versions import VersionRange
from matrix.catalog.projects import Project
from matrix.catalog.releases_file import load_releases
from matrix.record.model import Platform, StartKind
from matrix.report.upstream_tests import beyond
from matrix.rules.evidence import Overrun, evidence_of, overruns
from matrix.rules.expectations import Expectations, Rule
from matrix.rules.expectations_file import load_expectations
from matrix.rules.upstream.file import load_upstream

TAG = "https://github.com/vllm-project/vllm/blob/"
SAVED = "num_compiled_artifacts_saved"
MEGA = "VLLM_USE_MEGA_AOT_ARTIFACT"
EVIDENCE = evidence_of(load_upstream(), load_releases())


def rule(*evidence: str, vllm: str = "<0.33", torch: str | None = "<2.14", **facts: Any) -> Rule:
    given: dict[str, Any] = {
        "id": "one",
        "case": "model_startup[kimi_k2.5]",
        "platform": Platform.CUDA,
        "start": StartKind.COLD,
        "counters": {SAVED: 4},
    }
    return Rule(
        evidence=evidence, vllm=VersionRange(vllm), torch=VersionRange(torch), **given | facts
    )


def _with(one: Rule, project: str, versions: VersionRange) -> Rule:
    return replace(one, vllm=versions) if project == "vllm" else replace(one, torch=versions)


def found(one: Rule) -> list[tuple[str, str, str | None]]:
    every = overruns(Expectations(rules=(one,)), EVIDENCE)
    return [(overrun.platform, overrun.project, overrun.carried) for overrun in every]


def test_no_rule_of_the_package_goes_beyond_its_evidence() -> None:
    assert [*overruns(load_expectations(), EVIDENCE)] == []


def test_each_rule_of_the_package_ends_on_torch_as_well() -> None:
    for expectation in load_expectations().rules:
        assert expectation.torch.end is not None, expectation.id


@pytest.mark.parametrize("project", ["vllm", "torch"])
def test_each_rule_of_the_package_is_refused_a_release_later(project: str) -> None:
    """The law: a rule with a later end is refused, and of the project that it is later for."""
    for expectation in load_expectations().rules:
        end = getattr(expectation, project).end
        assert end is not None
        major, minor = end.bound.release[:2]
        lower = ",".join(
            part
            for part in (getattr(expectation, project).text or "").split(",")
            if part[:2] == ">="
        )
        wider = VersionRange(f"{lower or '>=0'},<{major}.{minor + 9}")
        told = [*overruns(Expectations(rules=(_with(expectation, project, wider),)), EVIDENCE)]
        assert project in {overrun.project for overrun in told}, expectation.id


RECORD = "results/cuda/py312-torch213-vllm032.json"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, []),
        ({"vllm": "<0.34"}, [("cuda", "vllm", "0.32")]),
        ({"vllm": "<=0.32.9"}, []),
        ({"vllm": "==0.31.*"}, []),
        ({"torch": "<2.15"}, [("cuda", "torch", "2.13")]),
        ({"torch": None}, [("cuda", "torch", "2.13")]),
        ({"platform": None}, [("cpu", "vllm", None), ("cpu", "torch", None)]),
        ({"platform": Platform.CPU}, [("cpu", "vllm", None), ("cpu", "torch", None)]),
    ],
)
def test_a_record_carries_to_its_own_releases_on_its_platform(
    facts: dict[str, Any], expected: list[tuple[str, str, str | None]]
) -> None:
    assert sorted(found(rule(RECORD, **facts))) == sorted(expected)


@pytest.mark.parametrize(
    ("link", "facts", "expected"),
    [
        ("v0.33.0/tests/compile/h100/test_startup.py", {"vllm": "<0.34", "torch": "<2.15"}, []),
        # Only a torch that some vLLM pins is one that upstream's CI knows.
        (
            "v0.33.0/tests/compile/h100/test_startup.py",
            {"vllm": "<0.34", "torch": "<2.16"},
            [("cuda", "torch", "2.14")],
        ),
        (
            "v0.31.0/tests/compile/h100/test_startup.py",
            {"vllm": "<0.33", "torch": "<2.15"},
            [("cuda", "vllm", "0.31")],
        ),
        # Without the flag upstream's test speaks of torch before 2.12 alone.
        (
            "v0.33.0/tests/compile/h100/test_startup.py",
            {"flags": {MEGA: False}, "torch": "<2.14"},
            [("cuda", "torch", "2.11")],
        ),
        # The number, the case, the start or the file is not there.
        ("v0.33.0/tests/compile/h100/test_startup.py", {"counters": {"num_graphs_seen": 1}}, None),
        ("v0.33.0/tests/compile/h100/test_startup.py", {"case": "small_startup"}, None),
        (
            "v0.33.0/tests/compile/h100/test_startup.py",
            {"case": "model_startup[deepseek_v3.2]"},
            None,
        ),
        ("v0.99.0/tests/compile/h100/test_startup.py", {}, None),
        ("v0.33.0/tests/compile/test_startup.py", {}, None),
        (
            "v0.33.0/tests/compile/test_aot_compile.py",
            {"counters": {"num_aot_compiles": 1}, "vllm": "<0.34", "torch": "<2.15"},
            [],
        ),
        ("v0.33.0/tests/compile/test_aot_compile.py", {}, None),
    ],
)
def test_a_link_to_a_tag_carries_where_its_test_states_the_number(
    link: str, facts: dict[str, Any], expected: list[tuple[str, str, str | None]] | None
) -> None:
    nothing = [("cuda", "vllm", None), ("cuda", "torch", None)]
    assert found(rule(TAG + link, **facts)) == (nothing if expected is None else expected)


@pytest.mark.parametrize(
    "evidence",
    [
        *("a record", "results/cuda/notes.json", "results/cuda/py312-torch213.json", "cuda", ""),
        *(
            "results/cuda/py312-torch216rc1-vllm032.json",
            "results/cuda/py312-torch213-vllmmain.json",
        ),
    ],
)
def test_what_names_no_cell_of_releases_carries_nothing(evidence: str) -> None:
    assert found(rule(evidence)) == [("cuda", "vllm", None), ("cuda", "torch", None)]


def test_a_rule_beyond_its_evidence_is_told_in_one_line_with_the_end_to_write() -> None:
    (one,) = overruns(Expectations(rules=(rule(RECORD, vllm=">=0.20,<0.40"),)), EVIDENCE)
    assert one == Overrun(
        rule="one",
        platform=Platform.CUDA,
        project=Project.VLLM,
        versions=">=0.20,<0.40",
        carried="0.32",
    )
    (line,) = beyond([one], "rules.toml")
    assert line == (
        "rules.toml: rule 'one': vllm: >=0.20,<0.40, and its evidence on cuda ends with vLLM 0.32;"
        " end the rule with <0.33"
    )
    (_, two) = overruns(Expectations(rules=(rule("a", torch=None),)), EVIDENCE)
    (line,) = beyond([two], "rules.toml")
    assert line == (
        "rules.toml: rule 'one': torch: every release, and its evidence on cuda belongs to no"
        " release of torch; name a record or a link to a tag's test"
    )
