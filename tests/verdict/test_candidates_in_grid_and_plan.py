"""The grid and the plan with candidates: a release is never one, nor the other way."""

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet

from candidates import torch_candidate, vllm_candidate, with_candidates
from matrix._util.versions import chosen_specifier
from matrix.catalog.cells import is_meant
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.record.model import Platform
from matrix.record.startup_tests import load_startup_tests
from matrix.verdict.grid import environments, survey
from matrix.verdict.plan import Wanted, plan

RC = torch_candidate("torch215rc9", "2.15.0+cu130")
MAIN = vllm_candidate()
RELEASES = with_candidates(RC, MAIN)


def planned(wanted: Wanted, releases: Releases = RELEASES) -> set[str]:
    found = plan(survey(releases), releases, [], load_startup_tests(), wanted)
    return {row.cell.name for row in found if row.cell.python == "3.12"}


def named(text: str) -> SpecifierSet:
    return chosen_specifier(text, RELEASES.versions(Project.TORCH), "--torch")


def test_every_candidate_has_environments_and_takes_none_of_a_release() -> None:
    plain, more = environments(with_candidates()), environments(RELEASES)
    assert {name: more[name] for name in plain} == plain
    added = {name for name in more if name not in plain}
    assert all("torch215rc9" in name or "vllmmain" in name for name in added)
    assert {"py312-torch215rc9-vllm033", "py312-torch214-vllmmain"} <= added
    assert more["py312-torch214-vllmmain"].torch == MAIN.pins["torch"]
    for name in added:
        if name.startswith("py312"):
            assert more[name] == RELEASES.resolve(name)


def test_a_candidate_has_a_square_beside_that_of_its_version() -> None:
    grid = survey(RELEASES)
    assert ("cpu", "2.15.0", "0.33.0") in grid.squares
    assert grid.squares[Platform.CPU, RC.key, "0.33.0"].off_pin
    assert not grid.squares[Platform.CPU, MAIN.pins["torch"], MAIN.key].off_pin
    shown = [row.version for row in grid.columns]
    assert RC.key in shown and "2.15.0" in shown
    assert [row.version for row in grid.only(named("torch215rc9"), None).torch] == [RC.key]
    assert [row.version for row in grid.only(named("2.15"), None).torch] == ["2.15.0"]


def test_a_candidate_is_planned_by_its_name_alone() -> None:
    vllm = SpecifierSet("==0.33.0")
    assert planned(Wanted(torch=named("torch215rc9"), vllm=vllm)) == {"py312-torch215rc9-vllm033"}
    release = Wanted(torch=named("2.15"), vllm=vllm, off_pin=True)
    assert planned(release) == {"py312-torch215-vllm033"}
    assert "py312-torch214-vllmmain" in planned(Wanted())


@pytest.mark.parametrize("text", [">=2.9", "==2.15.*", "2.15", "2.15.0"])
def test_a_range_means_releases(text: str) -> None:
    assert not is_meant(named(text), RC.key)
    assert is_meant(named(text), "2.15.0")


def test_what_is_published_does_not_have_a_candidate() -> None:
    assert RC.key not in RELEASES.published["torch"]
    assert RELEASES.cells() == with_candidates().cells()
