"""Which cells decide about a candidate, and which of them have yet to run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from candidate_runs import MAIN, RC, RELEASES, known, plan, run_of
from candidates import commit_candidate, torch_candidate, vllm_candidate, with_candidates
from made import NO, YES, Answers, failed, passed
from matrix.catalog.candidates.model import Candidate
from matrix.catalog.cells import Cell
from matrix.catalog.projects import Project
from matrix.qualify.candidate_plan import (
    CandidatePlan,
    CandidateQuery,
    LeftOut,
    LeftOutCode,
    narrowed,
    plan_candidate,
    relevant,
)
from matrix.qualify.engine import QualifyError
from matrix.qualify.query import Side
from matrix.qualify.seconds import Seconds, key_of
from matrix.record.model import ErrorKind, Platform, RunError, Rung, RungResult
from matrix.report.qualify.candidate import plan_json, plan_lines
from matrix.verdict import plan_reasons

OLD = Cell("3.12", "2.15.0", "0.33.0")
NEW = Cell("3.12", RC.key, "0.33.0")
SMALL = "small_startup[dense]"


def names(found: CandidatePlan) -> list[str]:
    return [planned.cell.name for planned in found.cells]


def test_a_torch_is_held_against_the_release_below_under_the_newest_vllm() -> None:
    found = plan()
    assert (found.baseline, found.python) == ("2.15.0", "3.12")
    assert names(found) == ["py312-torch215-vllm033", "py312-torch216rc1-vllm033"]
    assert [planned.side for planned in found.cells] == [Side.BASELINE, Side.CANDIDATE]
    assert found.to_run == found.cells
    assert found.query.others == ("0.33.0",) and found.query.candidate == RC.key


def test_a_vllm_is_held_against_the_release_below_with_its_pin_and_the_torch_next_to_it() -> None:
    assert names(plan(candidate=MAIN)) == [
        "py314-torch214-vllm033",
        "py314-torch214-vllmmain",
        "py314-torch215-vllm033",
        "py314-torch215-vllmmain",
    ]
    assert len(plan(candidate=MAIN, count=1).pairs) == 1


def test_the_release_of_the_same_version_is_no_baseline() -> None:
    same = torch_candidate("torch215rc3", "2.15.0+cu130")
    releases = with_candidates(same)
    assert plan(candidate=same, releases=releases).baseline == "2.14.1"
    nightly = torch_candidate("torchnightly", "2.15.0.dev20261127+cu130")
    assert plan(candidate=nightly, releases=with_candidates(nightly)).baseline == "2.14.1"
    patch = torch_candidate("torch2151rc1", "2.15.1+cu130")
    assert plan(candidate=patch, releases=with_candidates(patch)).baseline == "2.15.0"


def test_the_baseline_is_what_an_environment_runs() -> None:
    """Under its pin, 2.14.0, a vLLM has no environment with 2.14.1."""
    patch = torch_candidate("torch2142rc1", "2.14.2+cu130")
    found = plan(candidate=patch, releases=with_candidates(patch))
    left_out = found.left_out[0]
    assert (left_out.code, left_out.baseline, left_out.found) == (
        LeftOutCode.OTHER_RELEASE,
        "2.14.1",
        "torch 2.14.0",
    )
    assert found.baseline == "2.14.1" and found.pairs[0].other == "0.32.0"
    named = plan(candidate=patch, releases=with_candidates(patch), baseline="2.14.0")
    assert names(named) == ["py312-torch214-vllm033", "py312-torch2142rc1-vllm033"]


def test_what_a_static_check_rules_out_is_left_out_on_either_side() -> None:
    for no in (("2.15.0", "0.33.0"), (RC.key, "0.33.0")):
        answers = Answers(links={no: NO}, otherwise=YES)
        asked = CandidateQuery(candidate=RC, platform=Platform.CUDA, count=1)
        found = plan_candidate(asked, known(answers=answers))
        assert found.pairs[0].other == "0.32.0"
        assert found.left_out[0].code is LeftOutCode.CANNOT_WORK
    on_cpu = plan_candidate(replace(asked, platform=Platform.CPU), known(answers=answers))
    assert on_cpu.pairs[0].other == "0.33.0"


def test_without_any_cell_the_plan_says_why() -> None:
    asked = CandidateQuery(candidate=RC, platform=Platform.CUDA)
    found = plan_candidate(asked, known(answers=Answers(otherwise=NO)))
    assert not found.cells and found.left_out[0].code is LeftOutCode.CANNOT_WORK
    assert {item.baseline for item in found.left_out} == {"2.15.0", "2.14.1", "2.14.0"}
    with pytest.raises(QualifyError, match="torch216rc1: no cell can decide"):
        _ = found.query


def test_many_reasons_are_cut_short_and_json_has_all_of_them() -> None:
    left_out = tuple(
        LeftOut(
            code=LeftOutCode.OTHER_RELEASE,
            baseline="2.15.0",
            other=f"0.{number}.0",
            side=Side.BASELINE,
            found=f"torch 2.{number % 10}.0",
        )
        for number in range(20)
    )
    found = replace(plan(), pairs=(), left_out=left_out)
    text = plan_lines(found).splitlines()
    assert text[-1] == "  2 more; --json has all of them"
    assert text[-2].endswith(
        "vLLM 0.17.0 with the baseline 2.15.0: the environment of the baseline has torch 2.7.0"
    )
    content = plan_json(found)["left_out"]
    assert isinstance(content, list) and len(content) == 20


def test_on_cuda_the_newest_and_those_of_the_matrix_decide() -> None:
    found = plan(platform=Platform.CUDA)
    assert [pair.other for pair in found.pairs[:3]] == ["0.33.0", "0.32.0", "0.31.0"]


def test_a_person_narrows_it() -> None:
    under = plan(under=SpecifierSet(">=0.31"))
    assert [pair.other for pair in under.pairs] == ["0.33.0", "0.32.0", "0.31.0"]
    assert len(plan(under=SpecifierSet(">=0.31"), count=2).pairs) == 2
    assert names(plan(python="3.11"))[1] == "py311-torch216rc1-vllm033"
    assert plan(baseline="2.14.1", under=SpecifierSet("==0.32.*")).baseline == "2.14.1"
    with pytest.raises(QualifyError, match=r"--python 3\.10: torch216rc1 is not for it"):
        plan(python="3.10")
    both = plan(under_candidate=MAIN)
    assert names(both) == ["py312-torch215-vllmmain", "py312-torch216rc1-vllmmain"]
    assert both.query.others == (MAIN.key,)
    with pytest.raises(QualifyError, match=r"--baseline 2\.99: is not a release of torch"):
        plan(baseline="2.99")


def test_what_is_built_from_sources_is_a_candidate_like_any_other() -> None:
    fix = commit_candidate()
    found = plan(candidate=fix, releases=with_candidates(fix), python="3.12", count=1)
    assert names(found) == ["py312-torch214-vllm033", "py312-torch214-vllmfix"]


def test_a_record_that_stands_is_not_made_again() -> None:
    path, old = run_of(OLD, passed())
    found = plan((path, old))
    baseline, candidate = found.cells
    assert (baseline.record, baseline.why) == (path, plan_reasons.NotStale(day="2026-11-22"))
    assert (candidate.record, candidate.why) == (None, plan_reasons.NeverRan())
    assert found.to_run == (candidate,)
    fails = run_of(NEW, failed())
    assert not plan((path, old), fails).to_run


def test_a_record_without_what_is_compared_besides_counters_is_made_again() -> None:
    """Without torch's defaults, kernels and caches of one side nothing of them is found."""
    found = plan(run_of(OLD, passed(), defaults=None), run_of(NEW, passed()))
    baseline, candidate = found.cells
    assert (baseline.record, baseline.why) == (None, plan_reasons.ObservedLess(day="2026-11-22"))
    assert found.to_run == (baseline,) and candidate.record is not None
    never_started = RunError(kind=ErrorKind.IMPORTS, reason="ImportError: undefined symbol: x")
    told = run_of(OLD, passed()), run_of(NEW, error=never_started, defaults=None)
    assert not plan(*told).to_run


def test_a_record_of_another_build_or_of_a_stopped_run_does_not_stand() -> None:
    other = torch_candidate(sha256="ab" * 32)
    old = run_of(Cell("3.12", other.key, "0.33.0"), passed())
    found = plan(old)
    assert isinstance(found.cells[1].why, plan_reasons.OtherBuild)
    assert not relevant(found, [old])
    stopped = run_of(NEW, passed(), error=RunError(kind=ErrorKind.INTERRUPTED, reason="^C"))
    assert plan(stopped).cells[1].runs
    full_disk = run_of(NEW, error=RunError(kind=ErrorKind.NO_SPACE, reason="full"))
    assert plan(full_disk).cells[1].runs
    partly = run_of(NEW, passed(), deselected=8)
    assert plan(partly).cells[1].runs


def test_a_quick_one_asks_the_small_startups_alone() -> None:
    partly = run_of(NEW, passed(SMALL), deselected=8)
    found = plan(partly, quick=True)
    assert not found.cells[1].runs and found.query.cases == ("small_startup",)
    whole = run_of(NEW, passed(SMALL), passed("moe"))
    assert not plan(whole, quick=True).cells[1].runs
    ((_, record),) = relevant(found, [whole])
    assert [case.case for case in record.cases] == [SMALL] and record.is_complete
    without = run_of(NEW, passed("moe"), deselected=8)
    assert plan(without, quick=True).cells[1].runs
    assert narrowed(whole[1], ()) is whole[1]


def test_the_minutes_are_those_of_the_nearest_cell() -> None:
    near = run_of(Cell("3.11", "2.14.0", "0.33.0"), passed(), provenance={"seconds": 400.0})
    far = run_of(Cell("3.12", "2.13.0", "0.32.0"), passed(), provenance={"seconds": 900.0})
    found = plan(near, far).cells[1].estimate
    assert (found.run, found.run_of) == (400.0, "py311-torch214-vllm033")
    assert (found.environment, found.total) == (None, 400.0)
    nothing = plan().cells[1].estimate
    assert (nothing.run, nothing.total) == (None, None)
    small = run_of(
        OLD, passed(SMALL, 20.0, 10.0), passed("moe", 60.0, 40.0), provenance={"seconds": 150.0}
    )
    assert plan(small, quick=True).cells[1].estimate.run == 50.0
    # Side by side the cases' seconds overlap: those of the imports and the own ones are left.
    cases = (passed(SMALL, 20.0, 10.0), passed("moe", 60.0, 40.0))
    imports = RungResult(rung=Rung.IMPORTS, ok=True, seconds=15.0)
    facts: dict[str, Any] = {
        "provenance": {"seconds": 100.0, "jobs": 2},
        "rungs": (imports,),
    }
    assert plan(run_of(OLD, *cases, **facts), quick=True).cells[1].estimate.run == 45.0
    assert plan(run_of(OLD, cases[0], **facts), quick=True).cells[1].estimate.run == 100.0
    moe = passed("small_startup[moe]", 30.0, 5.0)
    part: dict[str, Any] = {"deselected": 7, "provenance": {"seconds": 120.0}}
    quick = run_of(OLD, passed(SMALL, 20.0, 10.0), moe, day=23, **part)
    again = run_of(OLD, moe, day=24, **part | {"deselected": 8})  # as in a fresh environment
    for records in ((near, quick), (quick, again), (again, quick)):
        assert plan(*records, quick=True).cells[1].estimate.run == 120.0
    assert plan(near, quick).cells[1].estimate.run == 400.0
    made = Seconds.of([near[1]], environments={key_of(OLD): 30.0, "damaged": 1.0})
    assert made.estimate(NEW).total == 430.0 and made.estimate(NEW).environment_of == OLD.name


def test_the_minutes_of_a_build_are_its_own_where_it_ran() -> None:
    """Another build of the same version is as near, and sorts before it."""
    before = replace(NEW, torch="2.16.0+torch216rc1.b000000000000000")
    runs = [
        run_of(cell, passed(), day=day, provenance={"seconds": seconds})
        for cell, day, seconds in ((NEW, 21, 100.0), (before, 22, 200.0))
    ]
    assert before < NEW
    assert plan(*runs).cells[1].estimate.run == 100.0


@settings(max_examples=30)
@given(
    st.sampled_from(Platform),
    st.sampled_from([RC, MAIN]),
    st.none() | st.integers(1, 5),
    st.none() | st.sampled_from(RELEASES.pythons),
    st.sets(st.sampled_from(["0.33.0", "0.32.0", "0.31.0", "0.26.0"])),
)
def test_one_thing_differs_in_every_pair(
    platform: Platform,
    candidate: Candidate,
    count: int | None,
    python: str | None,
    broken: set[str],
) -> None:
    assume(python is None or candidate.accepts(python))
    links = {("2.15.0", other): NO for other in broken}
    asked = CandidateQuery(candidate=candidate, platform=platform, count=count, python=python)
    found = plan_candidate(asked, known(answers=Answers(links=links)))
    project = asked.project
    for pair in found.pairs:
        old, new = pair.baseline.cell, pair.candidate.cell
        assert old.python == new.python == found.python
        torch = project is Project.TORCH
        assert (old.vllm == new.vllm) is torch and (old.torch == new.torch) is not torch
        mine, before = (new.torch, old.torch) if torch else (new.vllm, old.vllm)
        assert mine == candidate.key and before == found.baseline
        assert Version(before) < Version(Version(candidate.version).public)
        for cell in (old, new):
            assert RELEASES.resolve(cell.name) == cell
    assert count is None or len(found.pairs) <= count
    assert python is None or found.python in (python, None)
    assert len({pair.other for pair in found.pairs}) == len(found.pairs)


def test_a_vllm_below_every_release_has_no_baseline() -> None:
    oldest = vllm_candidate("vllmold", "0.8.0")
    with pytest.raises(QualifyError, match=r"no release of vLLM below 0\.8\.0 is known"):
        plan(candidate=oldest, releases=with_candidates(oldest))
