from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from matrix.catalog.cells import Cell, CellError
from matrix.catalog.releases import Releases, Torch, Vllm
from matrix.catalog.releases_file import load_releases
from matrix.checks.declared import Declarations, declared

LINUX = "manylinux_2_28_x86_64"
ARM = "manylinux_2_28_aarch64"
TORCH = (
    Torch(version="2.9.1"),
    Torch(
        version="2.10.0",
        python=SpecifierSet(">=3.10"),
        wheels={LINUX: ("cp310", "cp312", "cp313t")},
    ),
    Torch(version="2.11.0", yanked="broken metadata", wheels={ARM: ("cp312",)}),
)
VLLM = (
    Vllm(
        version="0.16.0",
        torch="2.9.1",
        torchvision="0.24.1",
        torchaudio="2.9.1",
        python=SpecifierSet(">=3.9"),
    ),
    Vllm(
        version="0.19.1",
        torch="2.10.0",
        torchvision="0.25.0",
        torchaudio="2.10.0",
        python=SpecifierSet("<3.14,>=3.9"),
        wheels={"manylinux1_x86_64": ("cp310-abi3",), ARM: ("cp39-abi3",)},
    ),
    Vllm(
        version="0.20.0",
        torch="2.11.0",
        torchvision="0.26.0",
        torchaudio="2.11.0",
        python=SpecifierSet(">=3.10"),
        yanked="bad wheel",
    ),
)
RELEASES = Releases(
    torch=TORCH, vllm=VLLM, pythons=("3.9", "3.10", "3.12", "3.13", "3.14"), matrix_vllm=()
)


@pytest.mark.parametrize(
    ("cell", "ok", "off_pin", "fits", "reason"),
    [
        (("3.12", "2.10.0", "0.19.1"), True, False, True, None),
        (("3.12", "2.10", "0.19.1"), None, None, None, "torch 2.10 is not a known release"),
        (("3.12", "2.9.1", "0.19.1"), False, True, True, "vLLM 0.19.1 pins torch 2.10.0"),
        # Nothing says for which Pythons torch 2.9.1 is, so nothing speaks against it.
        (("3.14", "2.9.1", "0.16.0"), True, False, True, None),
        (("3.14", "2.9.1", "0.19.1"), False, True, False, "vLLM 0.19.1 needs Python >=3.9,<3.14"),
        (("3.9", "2.10.0", "0.16.0"), False, True, False, "torch 2.10.0 needs Python >=3.10"),
        (("3.9", "2.9.1", "0.19.1"), False, True, False, "vLLM 0.19.1 has no wheel for Python 3.9"),
        # A wheel for the free-threaded build is another one.
        (
            ("3.13", "2.10.0", "0.19.1"),
            False,
            False,
            False,
            "torch 2.10.0 has no wheel for Python 3.13",
        ),
        (
            ("3.12", "2.11.0", "0.20.0"),
            False,
            False,
            False,
            "torch 2.11.0 has no wheel for Linux x86_64",
        ),
    ],
)
def test_the_metadata_says_whether_a_cell_goes_together(
    cell: tuple[str, str, str],
    ok: bool | None,
    off_pin: bool | None,
    fits: bool | None,
    reason: str | None,
) -> None:
    if ok is None:
        with pytest.raises(CellError, match=str(reason)):
            declared(Cell(*cell), RELEASES)
        return
    found = declared(Cell(*cell), RELEASES)
    assert (found.ok, found.off_pin, found.fits, found.reason) == (ok, off_pin, fits, reason)


def test_what_is_no_release_is_named() -> None:
    with pytest.raises(CellError, match=r"vLLM 0\.99\.0 is not a known release; `matrix refresh`"):
        declared(Cell("3.12", "2.10.0", "0.99.0"), RELEASES)


def test_a_yanked_release_is_marked_and_not_failed() -> None:
    found = declared(Cell("3.12", "2.9.1", "0.20.0"), RELEASES)
    assert found.yanked == ("vLLM 0.20.0 was yanked (bad wheel)",)
    assert found.reason == "vLLM 0.20.0 pins torch 2.11.0"
    both = declared(Cell("3.12", "2.11.0", "0.20.0"), RELEASES)
    assert [line.partition(" was")[0] for line in both.yanked] == ["torch 2.11.0", "vLLM 0.20.0"]
    assert declared(Cell("3.12", "2.9.1", "0.16.0"), RELEASES).yanked == ()


def test_an_empty_reason_for_a_yank_is_one_too() -> None:
    torch = (Torch(version="2.9.1", yanked=""),)
    releases = Releases(torch=torch, vllm=VLLM[:1], pythons=("3.12",), matrix_vllm=())
    assert declared(Cell("3.12", "2.9.1", "0.16.0"), releases).yanked


REAL = load_releases()
DECLARATIONS = Declarations(REAL)


def test_every_cell_of_the_matrix_is_declared() -> None:
    assert all(DECLARATIONS.of(cell).ok for cell in REAL.cells())


@given(
    st.sampled_from(REAL.pythons),
    st.sampled_from([release.version for release in REAL.torch]),
    st.sampled_from(REAL.vllm),
)
def test_a_failure_has_a_reason_and_a_pass_none(python: str, torch: str, vllm: Vllm) -> None:
    found = DECLARATIONS.of(Cell(python, torch, vllm.version))
    assert found.ok == (found.reason is None) == (found.fits and not found.off_pin)
    assert found.off_pin == (torch != vllm.torch)
    assert found == declared(Cell(python, torch, vllm.version), REAL)
