"""The releases and cells that exist: which pair a name means, which pins which, and bad data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from matrix.catalog.cells import Cell, CellError, factors
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import RELEASES_FILE, ReleasesError, load_releases, read_rows
from matrix.catalog.tox_ini import describe

RELEASES = load_releases()
ON_PIN = set(RELEASES.on_pin())
TORCHES = sorted({release.version.rpartition(".")[0] for release in RELEASES.torch}, key=Version)
VLLMS = sorted({".".join(release.version.split(".")[:2]) for release in RELEASES.vllm}, key=Version)
NEWEST_TORCH = ".".join(RELEASES.torch[-1].version.split(".")[:2])

ROW = {
    "version": "0.19.1",
    "torch": "2.10.0",
    "torchvision": "0.25.0",
    "torchaudio": "2.10.0",
    "python": ">=3.10,<3.14",
}
PUBLISHED: dict[str, Any] = {"torch": [{"version": "2.10.0"}], "vllm": [ROW]}
CHOSEN: dict[str, Any] = {"pythons": ["3.11"], "vllm": ["0.19"]}


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


def test_the_matrix_runs_twenty_pairs_on_the_pythons_that_they_accept() -> None:
    cells = RELEASES.cells()
    assert len(cells) == 6 * 4 + 12 * 5 + 2 * 4
    assert Cell("3.10", "2.13.0", "0.32.0") not in cells
    assert Cell("3.14", "2.10.0", "0.19.1") not in cells
    assert list(cells) == sorted(set(cells))
    assert set(cells) <= ON_PIN
    pairs = {(cell.torch, cell.vllm) for cell in cells}
    assert pairs == {
        ("2.9.1", "0.14.1"),
        ("2.9.1", "0.15.1"),
        ("2.9.1", "0.16.0"),
        ("2.10.0", "0.17.1"),
        ("2.10.0", "0.18.1"),
        ("2.10.0", "0.19.1"),
        ("2.11.0", "0.20.2"),
        ("2.11.0", "0.21.0"),
        ("2.11.0", "0.22.1"),
        ("2.11.0", "0.23.0"),
        ("2.11.0", "0.24.0"),
        ("2.11.0", "0.25.1"),
        ("2.11.0", "0.26.0"),
        ("2.13.0", "0.27.1"),
        ("2.13.0", "0.28.0"),
        ("2.13.0", "0.29.0"),
        ("2.13.0", "0.30.0"),
        ("2.13.0", "0.31.0"),
        ("2.13.0", "0.32.0"),
        ("2.14.0", "0.33.0"),
    }


@pytest.mark.parametrize("python", RELEASES.pythons)
def test_every_pair_of_the_data_resolves_from_its_name_and_back(python: str) -> None:
    resolved = []
    for torch in TORCHES:
        for vllm in VLLMS:
            name = Cell(python, torch, vllm).name
            try:
                cell = RELEASES.resolve(name)
            except CellError as error:
                assert "cannot run it" in str(error)
                continue
            resolved.append(cell)
            assert (cell.name, cell.python) == (name, python)
            assert RELEASES.is_off_pin(cell) == (cell not in ON_PIN)
            assert RELEASES.companions(cell)["torch"] == cell.torch
            if RELEASES.is_off_pin(cell):
                assert len(RELEASES.overrides(cell)) == 3
            else:
                assert RELEASES.overrides(cell) == ()
    assert {cell for cell in ON_PIN if cell.python == python} <= set(resolved)
    assert len({(cell.torch, cell.vllm) for cell in resolved}) == len(resolved)


@given(st.sampled_from(RELEASES.on_pin()))
def test_the_names_of_a_cell_resolve_to_it(cell: Cell) -> None:
    assert cell.name in RELEASES.names(cell)
    assert {RELEASES.resolve(name) for name in RELEASES.names(cell)} == {cell}


@pytest.mark.parametrize("torch", TORCHES)
def test_a_short_name_is_the_newest_vllm_that_pins_its_torch(torch: str) -> None:
    pinning = [
        release.version for release in RELEASES.vllm if release.torch.startswith(f"{torch}.")
    ]
    name = Cell("3.11", torch, "0.1").short_name
    if pinning:
        assert RELEASES.resolve(name).vllm == max(pinning, key=Version)
    else:
        assert "no known vLLM pins torch" in refusal(name)


def test_the_short_names_that_commands_of_this_project_use() -> None:
    assert RELEASES.resolve("py311-torch29") == Cell("3.11", "2.9.1", "0.16.0")
    assert RELEASES.resolve("py311-torch210") == Cell("3.11", "2.10.0", "0.19.1")


@pytest.mark.parametrize(
    ("name", "torch", "vllm", "off_pin"),
    [
        ("py312-torch212-vllm020", "2.12.1", "0.20.2", True),
        ("py311-torch29-vllm013", "2.9.0", "0.13.0", False),
        ("py311-torch29-vllm016", "2.9.1", "0.16.0", False),
        ("py311-torch29-vllm019", "2.9.1", "0.19.1", True),
        # Two patches of one vLLM pin two torches: each name is the patch that pins its torch.
        ("py311-torch28-vllm011", "2.8.0", "0.11.0", False),
        ("py311-torch29-vllm011", "2.9.0", "0.11.2", False),
        ("py311-torch211-vllm011", "2.11.0", "0.11.2", True),
    ],
)
def test_a_pair_is_on_pin_where_a_patch_pins_it(
    name: str, torch: str, vllm: str, off_pin: bool
) -> None:
    cell = RELEASES.resolve(name)
    assert (cell.torch, cell.vllm, RELEASES.is_off_pin(cell)) == (torch, vllm, off_pin)


def test_companions_go_with_the_cells_torch() -> None:
    assert RELEASES.companions(RELEASES.resolve("py311-torch210")) == {
        "torch": "2.10.0",
        "torchvision": "0.25.0",
        "torchaudio": "2.10.0",
    }
    assert RELEASES.companions(Cell("3.11", "2.13.0", "0.32.0"))["torchaudio"] == "2.11.0"
    off_pin = RELEASES.resolve("py312-torch212-vllm020")
    assert RELEASES.overrides(off_pin) == (
        "torch==2.12.1",
        "torchvision==0.27.1",
        "torchaudio==2.11.0",
    )


def test_companions_of_what_is_not_known_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CellError, match=r"vLLM 0\.19\.9 is not known here; the nearest: 0\.19\.1"):
        RELEASES.companions(Cell("3.11", "2.10.0", "0.19.9"))
    with pytest.raises(CellError, match=r"vLLM 0\.19\.9 is not known"):
        RELEASES.is_off_pin(Cell("3.11", "2.10.0", "0.19.9"))
    with pytest.raises(CellError, match=r"torch 2\.12\.9 is not known here; the nearest: 2\.12\.1"):
        RELEASES.companions(Cell("3.11", "2.12.9", "0.19.1"))
    torch = [*PUBLISHED["torch"], {"version": "2.12.1", "torchvision": "0.27.1"}]
    releases = load(tmp_path, {**PUBLISHED, "torch": torch})
    cell = releases.resolve("py311-torch212-vllm019")
    with pytest.raises(CellError) as caught:
        releases.overrides(cell)
    assert str(caught.value) == (
        "cell 'py311-torch212-vllm019': no torchaudio is known that goes with torch 2.12.1; add it "
        "to that torch in matrix/data/releases.json"
    )


def test_yanked_releases_are_passed_over(tmp_path: Path) -> None:
    newer = {**ROW, "version": "0.19.2", "yanked": "broken"}
    gone = {**ROW, "version": "0.18.0", "yanked": ""}
    torch = [
        *PUBLISHED["torch"],
        {"version": "2.11.0"},
        {"version": "2.11.1", "yanked": "bad wheel"},
        {"version": "2.12.0", "yanked": "bad wheel"},
    ]
    releases = load(
        tmp_path,
        {"torch": torch, "vllm": [ROW, newer, gone]},
        {**CHOSEN, "vllm": ["0.18", "0.19"]},
    )
    assert releases.resolve("py311-torch210").vllm == "0.19.1"
    assert releases.resolve("py311-torch211-vllm019") == Cell("3.11", "2.11.0", "0.19.1")
    assert releases.matrix_vllm == ("0.19.1",)
    assert {cell.vllm for cell in releases.on_pin()} == {"0.19.1"}
    for name, reason in (
        ("py311-torch210-vllm018", "vLLM 0.18.0 was yanked (no reason given), and no other 0.18"),
        ("py311-torch212-vllm019", "torch 2.12.0 was yanked (bad wheel), and no other 2.12"),
    ):
        with pytest.raises(CellError) as caught:
            releases.resolve(name)
        assert reason in str(caught.value)


def test_a_pin_is_followed_even_where_its_torch_was_yanked(tmp_path: Path) -> None:
    releases = load(tmp_path, {**PUBLISHED, "torch": [{"version": "2.10.0", "yanked": "late"}]})
    assert [cell.name for cell in releases.on_pin()] == ["py311-torch210-vllm019"]
    assert releases.resolve("py311-torch210") == releases.on_pin()[0]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("py311-torch210-cpu", "unknown factor 'cpu'"),
        ("py311-torch299", f"torch 2.99 is not known here; the nearest: {NEWEST_TORCH}"),
        ("py311-torch21", "torch 2.1 is not known here; the nearest: 2.7, 2.10, 2.11"),
        ("py311-torch210-vllm08", "vLLM 0.8 is not known here; the nearest: 0.9"),
        ("py39-torch210", "vLLM 0.19.1 needs Python >=3.10,<3.14, so py39 cannot run it"),
        ("py39-torch210", "; use py310-torch210-vllm019"),
        (
            "py39-torch27",
            "Python 3.9 is not among the matrix's (3.10, 3.11, 3.12, 3.13, 3.14); use",
        ),
        ("py314-torch29", "use py313-torch29-vllm016"),
        ("py310-torch213-vllm032", "vLLM 0.32.0 needs Python >=3.11,<3.15"),
        ("py310-torch213", "so py310 cannot run it; use py311-torch213-vllm032"),
        ("py310-torch212-vllm033", "so py310 cannot run it; use py311-torch212-vllm033"),
        ("py314-torch29-vllm019", "so py314 cannot run it; use py313-torch29-vllm019"),
        ("py312-torch212", "no known vLLM pins torch 2.12, so name one; use py312-torch212-vllm0"),
        ("py315-torch215", "no known vLLM pins torch 2.15, so name one; use py314-torch215-vllm0"),
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
        assert not use or all(RELEASES.resolve(way).name == way for way in ways.split(" or "))
    else:
        said = factors(name)
        assert cell.python == said.python
        assert cell.torch.startswith(f"{said.torch}.")
        assert cell.vllm.startswith(f"{said.vllm}." if said.vllm else "")


def test_a_torch_may_bound_the_python(tmp_path: Path) -> None:
    published = {**PUBLISHED, "torch": [{"version": "2.10.0", "python": ">=3.12"}]}
    releases = load(tmp_path, published)
    assert releases.cells() == ()
    with pytest.raises(CellError) as caught:
        releases.resolve("py311-torch210")
    assert str(caught.value) == (
        "cell 'py311-torch210': torch 2.10.0 needs Python >=3.12, so py311 cannot run it; no "
        "Python of the matrix fits"
    )


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
        (
            {**PUBLISHED, "vllm": [{**ROW, "revision": "main"}]},
            "vllm 0.19.1: revision: 'main' is not the hash of a commit; write 7 digits or more",
        ),
        ({**PUBLISHED, "vllm": [{**ROW, "torch": "new"}]}, "torch: 'new' is not a version"),
        ({**PUBLISHED, "vllm": [{**ROW, "torch": "2.9.1"}]}, "2.9.1 is not in the list of torch"),
        ({**PUBLISHED, "vllm": [{**ROW, "python": "3"}]}, "python: '3' is not a range"),
        ({**PUBLISHED, "vllm": [ROW, ROW]}, "vllm 0.19.1: version: appears twice"),
        (
            {**PUBLISHED, "torch": [{"version": "2.10.0", "without": "triton"}]},
            "torch 2.10.0: without: 'triton' is unknown; the names are torchaudio and torchvision",
        ),
        (
            {
                **PUBLISHED,
                "torch": [{"version": "2.10.0", "torchaudio": "2.9.0", "without": "torchaudio"}],
            },
            "torch 2.10.0: without: torchaudio has a release too; keep one of the two",
        ),
        (
            {**PUBLISHED, "torch": [{"version": "2.10.0", "guessed": 1}]},
            "torch 2.10.0: guessed: 1 is not a string",
        ),
        ({**PUBLISHED, "vllm": [{**ROW, "without": ""}]}, "vllm 0.19.1: without: unknown key"),
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
        ({**CHOSEN, "vllm": "0.19"}, "vllm: is not a list of strings"),
        ({**CHOSEN, "vllm": ["0.19.1"]}, "vllm: '0.19.1' is not a minor release; write it as 0.19"),
        ({**CHOSEN, "vllm": ["0.16"]}, "vllm: vLLM 0.16 is not known here; the nearest: 0.19"),
        ({**CHOSEN, "vllm": ["x"]}, "vllm: 'x' is not a version"),
        ({**CHOSEN, "pythons": ["3.11", "3.11"]}, "pythons: names a version twice"),
        ({**CHOSEN, "pythons": ["3.11.7"]}, "pythons: cell: python '3.11.7' is not a minor"),
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


def test_the_pin_that_an_off_pin_cell_overrides_by_its_name() -> None:
    assert RELEASES.overridden_pin("py312-torch212-vllm020") == "2.11.0"
    assert RELEASES.overridden_pin("py311-torch29") is None
    assert RELEASES.overridden_pin("py311-torch99") is None


def test_a_vllm_without_a_pin_is_refused_with_its_note(tmp_path: Path) -> None:
    note = {"version": "0.20.0", "python": ">=3.10", "note": "its sdist asks for no torch"}
    releases = load(tmp_path, {**PUBLISHED, "vllm": [ROW, note]})
    with pytest.raises(CellError, match=r"the pins of vLLM 0\.20\.0: its sdist asks for no torch"):
        releases.resolve("py311-torch210-vllm020")


def test_companions_that_only_another_vllm_names(tmp_path: Path) -> None:
    other = {"version": "0.20.0", "torch": "2.11.0", "python": ">=3.10"}
    torch = [{"version": "2.10.0"}, {"version": "2.11.0"}]
    releases = load(tmp_path, {"torch": torch, "vllm": [ROW, other]})
    assert releases.companions(Cell("3.11", "2.10.0", "0.20.0")) == {
        "torch": "2.10.0",
        "torchvision": "0.25.0",
        "torchaudio": "2.10.0",
    }


def test_a_torch_goes_without_what_is_built_for_another_cuda(tmp_path: Path) -> None:
    newer = {
        "version": "2.11.0",
        "torchvision": "0.26.0",
        "without": "torchaudio",
        "guessed": "torchvision",
    }
    # Another vLLM pins this torch with a torchaudio, which does not make that one fit.
    pins = {**ROW, "version": "0.20.0", "torch": "2.11.0", "torchaudio": "2.11.0"}
    published = {"torch": [*PUBLISHED["torch"], newer], "vllm": [ROW, pins]}
    releases = load(tmp_path, published)
    cell = releases.resolve("py311-torch211-vllm019")
    assert releases.companions(cell) == {"torch": "2.11.0", "torchvision": "0.26.0"}
    assert releases.overrides(cell) == (
        "torch==2.11.0",
        "torchvision==0.26.0",
        'torchaudio ; python_version < "3"',
    )
    assert releases.doubts(cell) == (("torchaudio",), ("torchvision",))
    on_pin = releases.resolve("py311-torch211-vllm020")
    assert releases.companions(on_pin)["torchaudio"] == "2.11.0"
    assert releases.doubts(on_pin) == ((), ())
    assert "without torchaudio (each is built for another CUDA)" in describe(cell, releases)
    assert "with a torchvision that only its date chose" in describe(cell, releases)
    assert "without" not in describe(on_pin, releases)


@pytest.mark.parametrize("name", ["torchvision", "torchaudio"])
def test_the_companions_of_the_data_are_built_for_their_torchs_cuda(name: str) -> None:
    """torchaudio 2.11.0 (CUDA 13.0) refuses torch 2.15.0 (CUDA 13.2) when it is imported."""
    built = {row["version"]: row["cuda"] for row in read_rows(RELEASES_FILE)[name]}
    for torch in RELEASES.torch:
        companion = getattr(torch, name)
        assert companion is None or built[companion] == torch.cuda, torch.version
        assert (companion is None) == (name in torch.without)
        assert torch.guessed == ()
