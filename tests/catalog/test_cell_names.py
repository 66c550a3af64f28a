"""The name of a cell, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.catalog.cells import Cell, CellError, Factors, cell_of, factors, matches

minors = st.integers(0, 40)
cells = st.builds(
    lambda python, torch, vllm, patch: Cell(
        f"3.{python}", f"{torch[0]}.{torch[1]}.{patch}", f"{vllm[0]}.{vllm[1]}.{patch}"
    ),
    minors,
    st.tuples(st.integers(0, 9), minors),
    st.tuples(st.integers(0, 9), minors),
    st.integers(0, 9),
)


def minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


@given(cells)
def test_a_name_says_the_minor_releases_of_its_cell(cell: Cell) -> None:
    assert factors(cell.name) == Factors(
        python=cell.python, torch=minor(cell.torch), vllm=minor(cell.vllm)
    )
    assert factors(cell.short_name) == Factors(
        python=cell.python, torch=minor(cell.torch), vllm=None
    )


@given(cells)
def test_factors_build_the_name_again(cell: Cell) -> None:
    said = factors(cell.name)
    assert said.vllm is not None
    assert Cell(said.python, said.torch, said.vllm).name == cell.name


@given(cells, cells)
def test_a_cell_matches_its_own_names_only(one: Cell, other: Cell) -> None:
    assert matches(one.name, one)
    assert matches(one.short_name, one)
    assert matches(one.name, other) == (one.name == other.name)
    assert matches(one.short_name, other) == (one.short_name == other.short_name)


@given(st.text(alphabet="pytorchvlm0123456789-.", max_size=24))
def test_a_name_is_read_or_refused_in_one_line(name: str) -> None:
    try:
        factors(name)
    except CellError as error:
        assert repr(name) in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("factor", "release"),
    [("vllm019", "0.19"), ("vllm020", "0.20"), ("vllm10", "1.0"), ("vllm09", "0.9")],
)
def test_the_first_digit_is_the_major(factor: str, release: str) -> None:
    assert factors(f"py311-torch29-{factor}").vllm == release


def test_cell_of_drops_patches_of_python_and_local_parts() -> None:
    cell = cell_of("3.11.7", "2.10.0+cu128", "0.19.1+cpu")
    assert cell == Cell("3.11", "2.10.0", "0.19.1")
    assert cell.name == "py311-torch210-vllm019"
    assert cell.short_name == "py311-torch210"


def test_a_release_candidate_keeps_its_version_and_has_the_name_of_its_minor() -> None:
    cell = cell_of("3.12.1", "2.12.0rc1+cu128", "0.20.2")
    assert cell.torch == "2.12.0rc1"
    assert cell.name == "py312-torch212-vllm020"


def test_cells_sort_by_version_not_by_text() -> None:
    old, new = Cell("3.11", "2.9.1", "0.16.0"), Cell("3.11", "2.10.0", "0.19.1")
    assert sorted([new, old]) == [old, new]
    assert old < new
    assert new > old
    assert old <= Cell("3.11", "2.9.1", "0.16.0")
    assert Cell("3.9", "2.10.0", "0.19.1") < old
    with pytest.raises(TypeError):
        assert old < "py311-torch29-vllm016"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("py311-cpu", "unknown factor 'cpu'"),
        ("", "unknown factor ''"),
        ("py311-torch210-", "unknown factor ''"),
        ("py311-torch210-cuda12", "unknown factor 'cuda12'"),
        ("py311-Torch210", "unknown factor 'Torch210'"),
        ("py311", "no torch factor"),
        ("torch210-vllm019", "no py factor"),
        ("py311-torch210-torch29", "two torch factors"),
        ("py3-torch210", "'py3' needs py and then the digits"),
        ("py311-torch2.10", "'torch2.10' needs torch and then the digits"),
        ("py311-torch", "'torch' needs torch"),
        ("py311-torch210-vllm0019", "'vllm0019' has a zero too many; write vllm019"),
        ("torch210-py311", "out of order; write py311-torch210"),
        ("vllm019-torch210-py311", "out of order; write py311-torch210-vllm019"),
    ],
)
def test_a_bad_name_is_refused_with_the_reason(name: str, part: str) -> None:
    with pytest.raises(CellError) as caught:
        factors(name)
    assert str(caught.value).startswith(f"cell {name!r}: ")
    assert part in str(caught.value)
    with pytest.raises(CellError):
        matches(name, Cell("3.11", "2.10.0", "0.19.1"))


@pytest.mark.parametrize(
    ("python", "torch", "vllm", "part"),
    [
        ("3", "2.10.0", "0.19.1", "python '3' has no minor release"),
        ("three", "2.10.0", "0.19.1", "python 'three' is not a version"),
        ("3.11.7", "nightly", "0.19.1", "torch 'nightly' is not a version; write it as 2.10.0"),
        ("3.11.7", "2.10.0", "", "vllm '' is not a version"),
        ("3.11.7", "2.10.0", "10.0.0", "vllm '10.0.0' has no name"),
        ("3.11.7", "1!2.10.0", "0.19.1", "torch '1!2.10.0' has no name"),
    ],
)
def test_versions_that_make_no_cell_are_refused(
    python: str, torch: str, vllm: str, part: str
) -> None:
    with pytest.raises(CellError, match=r"^cell: ") as caught:
        cell_of(python, torch, vllm)
    assert part in str(caught.value)


def test_a_cell_is_made_of_a_python_minor_and_public_versions() -> None:
    with pytest.raises(CellError, match=r"python '3\.11\.7' is not a minor release"):
        Cell("3.11.7", "2.10.0", "0.19.1")
    with pytest.raises(CellError, match=r"local part; write it as 2\.10\.0"):
        Cell("3.11", "2.10.0+cu128", "0.19.1")
