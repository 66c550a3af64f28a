"""A candidate: what tells it from others, and the cells that its name makes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candidates import (
    commit_candidate,
    torch_candidate,
    vllm_candidate,
    wheel,
    with_candidates,
)
from matrix.catalog.candidates.collection import CandidateError, Candidates
from matrix.catalog.cells import (
    Build,
    Cell,
    CellError,
    build_of,
    candidate_project,
    cell_of,
    factors,
    public_key,
)
from matrix.catalog.projects import Project

CELL = "py312-torch216rc1-vllm033"


def test_a_candidate_and_a_release_of_one_version_are_two_cells() -> None:
    releases = with_candidates(torch_candidate(version="2.15.0+cu130", name="torch215rc9"))
    candidate = releases.resolve("py312-torch215rc9-vllm033")
    release = releases.resolve("py312-torch215-vllm033")
    assert candidate.vllm == release.vllm
    assert cell_of("3.12.1", public_key(candidate.torch), release.vllm) == candidate
    assert candidate != release and hash(candidate) != hash(release)
    assert candidate.name != release.name
    assert sorted([candidate, release]) == [release, candidate]
    assert len({candidate, release}) == 2


def test_two_builds_of_one_name_are_two_cells_of_one_name() -> None:
    old, new = torch_candidate(sha256="a" * 64), torch_candidate(sha256="b" * 64)
    cells = [with_candidates(candidate).resolve(CELL) for candidate in (old, new)]
    assert cells[0] != cells[1]
    assert cells[0].name == cells[1].name == CELL
    assert factors(CELL).torch == "torch216rc1"
    assert cells[0].torch_build == old.build and cells[1].torch_build == new.build
    with pytest.raises(CellError, match=r"was the build b\w+, and is b\w+ now; run the cell again"):
        with_candidates(new).overrides(cells[0])


def test_the_same_build_is_one_candidate_in_whatever_order_its_files_come() -> None:
    one = torch_candidate()
    other = replace(one, files=one.files[::-1], companions=one.companions[::-1])
    assert one.identity == other.identity
    assert one.identity != replace(one, companions=one.companions[1:]).identity
    assert commit_candidate().identity != vllm_candidate("vllmfix").identity


def test_a_candidate_is_installed_by_address_and_hash() -> None:
    releases = with_candidates(torch_candidate())
    cell = releases.resolve(CELL)
    assert releases.is_off_pin(cell)
    overrides = releases.overrides(cell)
    assert [line.partition(" ")[0] for line in overrides] == [
        "torch",
        "torchvision",
        "triton",
        "torchaudio",
    ]
    assert all("-cp312-" in line and "#sha256=" in line for line in overrides[:3])
    assert overrides[3] == 'torchaudio ; python_version < "3"'
    installs = releases.installs(cell)
    assert installs == (*overrides[:3], "vllm==0.33.0", *releases.constraints("0.33.0"))


def test_a_vllm_candidate_runs_with_its_pin_or_off_it() -> None:
    releases = with_candidates(vllm_candidate())
    on_pin = releases.resolve("py312-torch214-vllmmain")
    assert on_pin.torch == "2.14.0" and not releases.is_off_pin(on_pin)
    assert releases.installs(on_pin)[0] == "torch==2.14.0"
    assert releases.installs(on_pin)[1].startswith("vllm @ https://")
    off_pin = releases.resolve("py312-torch215-vllmmain")
    assert releases.overrides(off_pin)[0] == "torch==2.15.0"


def test_a_release_never_stands_for_a_candidate_nor_the_other_way() -> None:
    plain, more = with_candidates(), with_candidates(torch_candidate(), vllm_candidate())
    assert plain.on_pin() == more.on_pin()
    assert plain.cells() == more.cells()
    with pytest.raises(CellError, match=r"torch 2\.16 is not known here"):
        more.resolve("py312-torch216-vllm033")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("py312-torch216rc2-vllm033", "candidate 'torch216rc2': is not known; the known ones are"),
        ("py313-torch216rc1-vllm033", "has no wheel for Python 3.13, only torch-2.16.0"),
        ("py310-torch216rc1-vllmmain", "needs Python >=3.11"),
        ("py312-torch216rc1", "no vLLM pins a candidate, so name one; use py312-torch216rc1-vllm"),
        ("py312-torch215-vllmmian", "candidate 'vllmmian': is not known"),
        ("py312-vllmmain-torch216rc1", "factors out of order; write py312-torch216rc1-vllmmain"),
        ("py312-torch216rc1-vllm099", "vLLM 0.99 is not known here"),
    ],
)
def test_a_name_of_no_cell_is_refused_in_one_line(name: str, fault: str) -> None:
    releases = with_candidates(torch_candidate(), vllm_candidate())
    with pytest.raises(CellError) as raised:
        releases.resolve(name)
    assert fault in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_candidates_a_line_says_how_to_add_one() -> None:
    with pytest.raises(CellError, match="nobody added one yet: matrix candidate add NAME"):
        with_candidates().resolve(CELL)


def test_what_has_to_be_built_has_no_wheel_to_install() -> None:
    releases = with_candidates(commit_candidate())
    cell = releases.resolve("py312-torch214-vllmfix")
    assert cell.vllm_build == commit_candidate().build
    with pytest.raises(CellError, match="is built from its sources, and has no wheel"):
        releases.installs(cell)


@pytest.mark.parametrize(
    "name",
    [
        "torch",
        "torch216",
        "vllm034",
        "torchvision",
        "torchaudio",
        "torch-rc1",
        "Torchmine",
        "rc1",
        "torchmine_",
        "torch2.16rc1",
        "torchmine ",
        "vllm",
        "torch" + "x" * 41,
        "torchmïne",
    ],
)
def test_a_name_that_a_release_could_have_is_refused(name: str) -> None:
    with pytest.raises(CellError, match="is not a name"):
        candidate_project(name)


@pytest.mark.parametrize(
    ("name", "project"),
    [
        ("torch216rc1", "torch"),
        ("torchnightly", "torch"),
        ("vllmmain", "vllm"),
        ("vllm034rc2", "vllm"),
    ],
)
def test_a_name_has_its_project(name: str, project: str) -> None:
    assert candidate_project(name) == project


@given(
    st.from_regex(r"torch[0-9]{0,4}[a-z][a-z0-9]{0,8}", fullmatch=True),
    st.text("0123456789abcdef", min_size=15, max_size=15),
    st.sampled_from(["2.16.0", "2.16.0rc1", "2.17.0.dev20261128", "2.16.0+cu130"]),
)
def test_a_release_key_has_its_build_and_its_version(name: str, digits: str, version: str) -> None:
    if name in ("torchvision", "torchaudio"):
        return
    build = Build(name=name, identity=f"b{digits}")
    key = build.key(version)
    assert build_of(key) == build
    assert public_key(key) == key
    assert key.partition("+")[0] == version.partition("+")[0]
    cell = Cell("3.12", key, "0.33.0")
    assert cell.builds == (build,)
    assert factors(cell.name).torch == name


def test_a_candidate_of_the_other_project_makes_no_cell() -> None:
    with pytest.raises(CellError, match="is a candidate of the other project"):
        Cell("3.12", vllm_candidate().key, "0.33.0")


def test_a_local_version_alone_is_no_candidate() -> None:
    for version in (
        "2.10.0+cu128",
        "0.33.0+empty",
        "2.16.0+torch216rc1",
        "2.16.0+torch216.b" + "0" * 15,
    ):
        assert build_of(version) is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": "vllmrc1"}, "is a name of vllm, not of torch"),
        ({"files": ()}, "has no wheel"),
        ({"version": "2.17.0"}, "is not of version 2.17.0"),
        ({"files": (wheel("vllm", "0.1", "py3-none-any"),)}, "is a wheel of vllm"),
        ({"companions": (wheel("numpy", "2.0", "py3-none-any"),)}, "is not a companion"),
        ({"source": commit_candidate().source, "files": ()}, "torch is not built here"),
    ],
)
def test_a_candidate_that_contradicts_itself_is_refused(
    change: dict[str, object], fault: str
) -> None:
    with pytest.raises(CandidateError, match=fault):
        replace(torch_candidate(), **change)  # type: ignore[arg-type]


def test_a_vllm_without_a_pin_is_refused() -> None:
    with pytest.raises(CandidateError, match=r"add it again with --pin 2\.14\.0"):
        replace(vllm_candidate(), pins={})


@pytest.mark.parametrize(
    ("tag", "python", "fits"),
    [
        ("cp312-cp312-manylinux_2_28_x86_64", "3.12", True),
        ("cp312-cp312-manylinux_2_28_x86_64", "3.11", False),
        ("cp313-cp313t-manylinux_2_28_x86_64", "3.13", False),
        ("cp38-abi3-manylinux_2_31_x86_64", "3.12", True),
        ("cp312-abi3-manylinux_2_31_x86_64", "3.11", False),
        ("py3-none-any", "3.14", True),
        ("py2-none-any", "3.14", False),
    ],
)
def test_a_wheel_is_for_its_pythons(tag: str, python: str, fits: bool) -> None:
    assert wheel("torch", "2.16.0", tag).runs_on(python) is fits


def test_candidates_have_one_of_each_name() -> None:
    found = Candidates().including(torch_candidate()).including(vllm_candidate())
    newer = found.including(torch_candidate(sha256="c" * 64))
    assert len(newer.every) == 2 and newer.of(Project.TORCH)[0].files[0].sha256 == "c" * 64
    assert [candidate.name for candidate in newer.excluding("vllmmain").every] == ["torch216rc1"]
    with pytest.raises(CandidateError, match="the known ones are torch216rc1, vllmmain"):
        newer.excluding("torchmine")
    with pytest.raises(CandidateError, match="appears twice"):
        Candidates(every=(torch_candidate(), torch_candidate()))
