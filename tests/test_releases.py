from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.cells import Cell, CellError, factors
from matrix.releases import Releases, ReleasesError, load_releases

RELEASES = load_releases()
CELLS = set(RELEASES.cells())
NEWEST_TORCH = ".".join(RELEASES.torch[-1].version.split(".")[:2])

ROW = {
    "version": "0.19.1",
    "torch": "2.10.0",
    "torchvision": "0.25.0",
    "torchaudio": "2.10.0",
    "python": ">=3.10,<3.14",
}
PUBLISHED: dict[str, Any] = {"torch": [{"version": "2.10.0"}], "vllm": [ROW]}
CHOSEN: dict[str, Any] = {
    "pythons": ["3.11"],
    "vllm": ["0.19.1"],
    "default_vllm": {"2.10": "0.19.1"},
}


def load(folder: Path, published: object = None, chosen: object = None) -> Releases:
    releases, cells = folder / "releases.json", folder / "cells.json"
    releases.write_text(json.dumps(PUBLISHED if published is None else published))
    cells.write_text(json.dumps(CHOSEN if chosen is None else chosen))
    return load_releases(releases, cells)


def refusal(name: str) -> str:
    with pytest.raises(CellError) as caught:
        RELEASES.resolve(name)
    message = str(caught.value)
    assert message.startswith(f"cell {name!r}: ")
    assert "\n" not in message
    return message


def test_the_matrix_holds_six_pairs_on_the_pythons_that_they_accept() -> None:
    cells = RELEASES.cells()
    assert len(cells) == 5 * 4 + 3
    assert Cell("3.10", "2.13.0", "0.32.0") not in cells
    assert list(cells) == sorted(set(cells))
    pairs = {(cell.torch, cell.vllm) for cell in cells}
    assert pairs == {
        ("2.9.1", "0.16.0"),
        ("2.10.0", "0.17.1"),
        ("2.10.0", "0.18.1"),
        ("2.10.0", "0.19.1"),
        ("2.11.0", "0.20.2"),
        ("2.13.0", "0.32.0"),
    }


@given(st.sampled_from(RELEASES.cells()))
def test_the_name_of_a_cell_resolves_to_it(cell: Cell) -> None:
    assert RELEASES.resolve(cell.name) == cell


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("py311-torch29", "py311-torch29-vllm016"),
        ("py311-torch210", "py311-torch210-vllm019"),
        ("py313-torch211", "py313-torch211-vllm020"),
        ("py311-torch213", "py311-torch213-vllm032"),
    ],
)
def test_a_short_name_is_the_default_vllm_of_its_torch(short: str, full: str) -> None:
    assert RELEASES.resolve(short) == RELEASES.resolve(full)


def test_a_minor_is_its_newest_known_patch() -> None:
    assert RELEASES.resolve("py311-torch29-vllm011") == Cell("3.11", "2.9.0", "0.11.2")


def test_companions_go_with_the_cells_torch() -> None:
    assert RELEASES.companions(RELEASES.resolve("py311-torch210")) == {
        "torch": "2.10.0",
        "torchvision": "0.25.0",
        "torchaudio": "2.10.0",
    }
    assert RELEASES.companions(Cell("3.11", "2.13.0", "0.32.0"))["torchaudio"] == "2.11.0"


def test_companions_of_what_is_not_known_are_refused() -> None:
    with pytest.raises(CellError, match=r"vLLM 0\.19\.2 is not known here; the nearest: 0\.19\.1"):
        RELEASES.companions(Cell("3.11", "2.10.0", "0.19.2"))
    with pytest.raises(CellError, match=r"vLLM 0\.19\.1 pins torch 2\.10\.0, not 2\.12\.0"):
        RELEASES.companions(Cell("3.11", "2.12.0", "0.19.1"))


def test_an_off_pin_pair_is_refused_with_the_ways_out() -> None:
    assert refusal("py311-torch29-vllm019") == (
        "cell 'py311-torch29-vllm019': vLLM 0.19.1 pins torch 2.10.0, so torch29 cannot go with "
        "vllm019; use py311-torch210-vllm019 or py311-torch29"
    )


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("py311-torch210-cpu", "unknown factor 'cpu'"),
        ("py311-torch299", f"torch 2.99 is not known here; the nearest: {NEWEST_TORCH}"),
        ("py311-torch21", "torch 2.1 is not known here; the nearest: 2.7, 2.10, 2.11"),
        ("py311-torch210-vllm08", "vLLM 0.8 is not known here; the nearest: 0.9"),
        ("py311-torch210-vllm015", "vLLM 0.15.1 pins torch 2.9.1, so torch210 cannot go with"),
        ("py39-torch210", "vLLM 0.19.1 needs Python >=3.10,<3.14, so py39 cannot run it"),
        ("py39-torch210", "; use py310-torch210-vllm019"),
        ("py314-torch29", "use py313-torch29-vllm016"),
        ("py310-torch213-vllm032", "vLLM 0.32.0 needs Python >=3.11,<3.15"),
        ("py311-torch212", "no known vLLM pins torch 2.12; the nearest torch that one pins is"),
        ("py311-torch212", "is 2.11 or 2.13"),
        (
            "py311-torch214",
            "the matrix has no cell for torch 2.14 yet (the nearest: py311-torch213); see "
            "CONTRIBUTING.md",
        ),
        ("py39-torch28", "no cell for torch 2.8 yet (the nearest: py310-torch29); see"),
        ("py310-torch213", "so py310 cannot run it; use py311-torch213-vllm032"),
        ("py310-torch214-vllm033", "cannot run it; the matrix has no cell of it yet"),
        ("py311-torch28-vllm019", "cannot go with vllm019; use py311-torch210-vllm019"),
        ("py314-torch29-vllm019", "use py313-torch210-vllm019 or py313-torch29"),
    ],
)
def test_a_name_that_is_no_cell_is_refused_in_one_clear_line(name: str, part: str) -> None:
    assert part in refusal(name)


numbers = st.integers(0, 40).map(str)


@given(
    st.builds(lambda p, t, v: f"py3{p}-torch2{t}-vllm0{v}", numbers, numbers, numbers)
    | st.builds(lambda p, t: f"py3{p}-torch2{t}", numbers, numbers)
)
def test_what_a_refusal_says_to_use_resolves(name: str) -> None:
    try:
        cell = RELEASES.resolve(name)
    except CellError as error:
        _, use, ways = str(error).partition("; use ")
        assert all(RELEASES.resolve(way) in CELLS for way in ways.split(" or ") if use)
        near = re.findall(r"the nearest: (py[^)]+)", str(error))
        assert all(RELEASES.resolve(way) in CELLS for each in near for way in each.split(", "))
    else:
        said = factors(name)
        assert cell.python == said.python
        assert cell.torch.startswith(f"{said.torch}.")
        assert cell.vllm.startswith(f"{said.vllm}." if said.vllm else "")


def test_a_torch_without_a_default_names_the_matrixs_cell(tmp_path: Path) -> None:
    older = {**ROW, "version": "0.18.1"}
    published = {**PUBLISHED, "vllm": [ROW, older]}
    releases = load(tmp_path, published, {**CHOSEN, "vllm": ["0.18.1"], "default_vllm": {}})
    with pytest.raises(CellError, match=r"no default vLLM; use py311-torch210-vllm018$"):
        releases.resolve("py311-torch210")
    releases = load(tmp_path, published, {**CHOSEN, "vllm": [], "default_vllm": {}})
    with pytest.raises(CellError, match=r"no cell for torch 2\.10 yet; see CONTRIBUTING\.md$"):
        releases.resolve("py311-torch210")


def test_a_torch_may_bound_the_python(tmp_path: Path) -> None:
    published = {**PUBLISHED, "torch": [{"version": "2.10.0", "python": ">=3.12"}]}
    releases = load(tmp_path, published)
    assert releases.cells() == ()
    with pytest.raises(CellError, match=r"torch 2\.10\.0 needs Python >=3\.12, so py311"):
        releases.resolve("py311-torch210")


def test_the_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    older = {**ROW, "version": "0.19.0"}
    both = [load(tmp_path, {**PUBLISHED, "vllm": rows}) for rows in ([ROW, older], [older, ROW])]
    assert both[0] == both[1]
    assert both[0].resolve("py311-torch210-vllm019").vllm == "0.19.1"


@pytest.mark.parametrize(
    ("published", "part"),
    [
        ([], "is not an object"),
        ({"torch": []}, "vllm: is missing; add it"),
        ({**PUBLISHED, "triton": []}, "triton: unknown key; the known ones are torch, torch"),
        ({**PUBLISHED, "vllm": {}}, "vllm: is not a list"),
        ({**PUBLISHED, "vllm": ["0.19.1"]}, "vllm 1: is not an object"),
        ({**PUBLISHED, "vllm": [{"version": "0.19.1"}]}, "vllm 0.19.1: python: is missing"),
        ({**PUBLISHED, "vllm": [{**ROW, "x": ""}]}, "vllm 0.19.1: x: unknown key"),
        ({**PUBLISHED, "vllm": [{**ROW, "torch": 2}]}, "torch: 2 is not a string; quote it"),
        ({**PUBLISHED, "vllm": [{**ROW, "torch": "new"}]}, "torch: 'new' is not a version"),
        ({**PUBLISHED, "vllm": [{**ROW, "torch": "2.9.1"}]}, "2.9.1 is not in the list of torch"),
        ({**PUBLISHED, "vllm": [{**ROW, "python": "3"}]}, "python: '3' is not a range"),
        ({**PUBLISHED, "vllm": [ROW, ROW]}, "vllm 0.19.1: version: is there twice"),
    ],
)
def test_bad_releases_are_refused(tmp_path: Path, published: object, part: str) -> None:
    with pytest.raises(ReleasesError) as caught:
        load(tmp_path, published=published)
    assert str(caught.value).startswith(f"{tmp_path / 'releases.json'}: ")
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "part"),
    [
        ({**CHOSEN, "default": {}}, "default: unknown key"),
        ({**CHOSEN, "vllm": "0.19.1"}, "vllm: is not a list of strings"),
        ({**CHOSEN, "vllm": ["0.19"]}, "vllm: vLLM 0.19 is not known here; the nearest: 0.19.1"),
        ({**CHOSEN, "vllm": ["x"]}, "vllm: 'x' is not a version"),
        ({**CHOSEN, "pythons": ["3.11", "3.11"]}, "pythons: names a version twice"),
        ({**CHOSEN, "pythons": ["3.11.7"]}, "pythons: cell: python '3.11.7' is not a minor"),
        ({**CHOSEN, "default_vllm": []}, "default_vllm: is not an object"),
        ({**CHOSEN, "default_vllm": {"2.9": "0.19.1"}}, "default_vllm 2.9: vLLM 0.19.1 pins"),
        ({**CHOSEN, "default_vllm": {"2.9": "0.16.0"}}, "vLLM 0.16.0 is not known here"),
    ],
)
def test_bad_cells_are_refused(tmp_path: Path, chosen: object, part: str) -> None:
    with pytest.raises(ReleasesError) as caught:
        load(tmp_path, chosen=chosen)
    assert str(caught.value).startswith(f"{tmp_path / 'cells.json'}: ")
    assert part in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.json"
    with pytest.raises(ReleasesError, match=r"none\.json: cannot be read \(No such file"):
        load_releases(missing)
    (tmp_path / "bad.json").write_text('{"torch": [')
    with pytest.raises(ReleasesError, match=r"bad\.json: is not JSON"):
        load_releases(tmp_path / "bad.json")
