"""`matrix linkage`: pairs, the grid, JSON, and what cannot be answered."""

from pathlib import Path

import pytest

from matrix.checks.linkage.link import link, load_tables
from matrix.checks.linkage.tables import (
    SymbolsError,
    dump,
    file_name,
)
from matrix.cli import main
from matrix.report.linkage import grid, one, to_json, verdict_words
from schemas import valid
from symbol_tables import CHECK, CHECK_NAME, extension, torch_of, vllm_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for symbols in (vllm_of(extension(CHECK)), torch_of(CHECK)):
        name = file_name(symbols.wheel.project, symbols.wheel.version)
        (tmp_path / name).write_bytes(dump(symbols))
    (tmp_path / "torch-next.table").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    return tmp_path


def test_a_pair_is_answered_from_a_folder(folder: Path) -> None:
    tables = load_tables(folder)
    assert (tables.vllm_versions, tables.torch_versions) == (("0.19.1",), ("2.10.0",))
    assert verdict_words(tables.link("0.19.1", "2.10.0", "3.12")) == "links"
    assert tables.link("0.19.1", "2.10.0", "3.13").python == "3.13"


def test_a_release_without_a_table_is_named_with_those_that_have_one(folder: Path) -> None:
    with pytest.raises(SymbolsError, match=r"torch 2\.9\.1: no symbol table \(2\.10\.0 have one\)"):
        load_tables(folder).link("0.19.1", "2.9.1", "3.12")
    with pytest.raises(SymbolsError, match="none have one"):
        load_tables(folder / "nowhere").torch("2.10.0")


def test_a_damaged_table_is_named_and_the_others_are_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (folder / "torch-2.10.0.table").read_bytes()
    (folder / "torch-2.9.1.table").write_bytes(whole[:-100])
    assert main(["linkage", "--tables", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert "torch-2.9.1.table: damaged or cut short" in err
    assert err.count("\n") == 1
    assert "1 pairs: 1 link" in out


def test_one_pair_is_told_by_extension(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ["linkage", "--tables", str(folder), "--vllm", "0.19.1", "--torch", "2.10.0"]
    assert main(pair) == 0
    assert "vLLM 0.19.1 with torch 2.10.0 on Python 3.12: links\n" in capsys.readouterr().out
    (folder / "torch-2.10.0.table").write_bytes(dump(torch_of()))
    assert main(pair) == 1
    out = capsys.readouterr().out
    assert "does not link" in out
    assert f"  needs {CHECK_NAME}\n" in out


def test_json_has_every_symbol(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "torch-2.10.0.table").write_bytes(dump(torch_of()))
    pair = ["linkage", "--tables", str(folder), "--vllm", "0.19.1", "--torch", "2.10.0", "--json"]
    assert main(pair) == 1
    [found] = valid("linkage", capsys.readouterr().out)["pairs"]
    assert (found["ok"], found["verdict"]) == (False, "does not link")
    assert found["extensions"][0]["symbols"] == [CHECK]
    assert found["extensions"][0]["names"] == [CHECK_NAME]
    assert main(["linkage", "--tables", str(folder), "--json"]) == 0
    [row] = valid("linkage", capsys.readouterr().out)["pairs"]
    assert "extensions" not in row


@pytest.mark.parametrize(
    "arguments",
    [
        ["--vllm", "0.19.2", "--torch", "2.10.0"],
        ["--vllm", "0.19.2"],
        ["--read", "nowhere.whl"],
        ["--fill", "--vllm", "0.19.1"],
        ["--vllm", "0.19.1", "--torch", "2.10.0+cu129"],
        ["--torch", "2.10.0+"],
        ["--torch", ">=3"],
        ["--torch", ""],
        ["--vllm", "the newest"],
    ],
)
def test_what_cannot_be_answered_is_one_line(
    folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["linkage", "--tables", str(folder), *arguments]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("matrix: ")
    assert "Traceback" not in out + err


def test_a_build_without_a_table_is_one_line_with_the_release_that_has_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["linkage", "--tables", str(folder), "--torch", "2.10.0+cu999"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("matrix: torch 2.10.0+cu999: no symbol table (2.10.0 have one); ")
    assert err.endswith("--read WHEEL reads that build, and --torch 2.10.0 asks of the release\n")


def test_a_local_version_is_a_build_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The soname of the CUDA runtime that both sides need decides."""
    core = extension(CHECK, needed=("libtorch.so", "libcudart.so.13"))
    for symbols in (
        vllm_of(core),
        torch_of(CHECK, needed=("libcudart.so.13",)),
        torch_of(CHECK, needed=("libcudart.so.12",), version="2.10.0+cu129"),
        torch_of(CHECK, needed=(), version="2.10.0+cpu"),
    ):
        name = file_name(symbols.wheel.project, symbols.wheel.version)
        (tmp_path / name).write_bytes(dump(symbols))
    asked = ["linkage", "--tables", str(tmp_path), "--vllm", "0.19.1", "--torch"]
    assert main([*asked, "2.10.0"]) == 0
    out = capsys.readouterr().out
    assert "torch torch-2.10.0-cp312-cp312-manylinux_2_28_x86_64.whl, x86_64, CUDA 13\n" in out
    assert "vLLM vllm-0.19.1-cp38-abi3-manylinux_2_31_x86_64.whl, x86_64, CUDA 13\n" in out
    assert main([*asked, "2.10.0+cu129"]) == 1
    out = capsys.readouterr().out
    assert "with torch 2.10.0+cu129 on Python 3.12: does not link\n" in out
    assert "x86_64, CUDA 12\n" in out and "  needs libcudart.so.13\n" in out
    assert main([*asked, "2.10.0+cpu", "--json"]) == 1
    [found] = valid("linkage", capsys.readouterr().out)["pairs"]
    assert found["torch"] == "2.10.0+cpu"
    assert found["reason"].startswith("`_C.abi3.so` needs libcudart.so.13 (")
    assert found["builds"]["vllm"]["cuda"] == "13"
    assert found["builds"]["torch"] == {
        "version": "2.10.0+cpu",
        "wheel": "torch-2.10.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl",
        "sha256": "00",
        "machine": "x86_64",
        "cuda": None,
    }
    assert main([*asked, "2.10"]) == 0  # the newest patch of the index, and no other build
    assert "with torch 2.10.0 on" in capsys.readouterr().out


def test_releases_are_named_by_minor_and_by_range(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("0.20.0", "0.20.10", "0.20.9", "0.21.0"):
        symbols = vllm_of(extension(CHECK), version=version)
        (folder / file_name("vllm", version)).write_bytes(dump(symbols))
    asked = ["linkage", "--tables", str(folder), "--json"]

    def vllms(*more: str) -> list[str]:
        assert main([*asked, *more]) == 0
        return [row["vllm"] for row in valid("linkage", capsys.readouterr().out)["pairs"]]

    assert vllms("--vllm", "0.20", "--torch", "2.10") == ["0.20.10"]
    assert vllms("--vllm", ">=0.19.2,<0.21") == ["0.20.0", "0.20.9", "0.20.10"]
    assert vllms("--vllm", "0.20.9", "--torch", ">=2") == ["0.20.9"]
    assert vllms("--torch", "==2.10.*")[-1] == "0.21.0"


@pytest.mark.parametrize("python", ["3", "three", "2.7", "3.12.1"])
def test_a_python_is_a_minor_release(python: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["linkage", "--python", python]) == 2
    assert "is not a minor release of Python" in capsys.readouterr().err


def test_the_grid_has_a_mark_for_each_pair() -> None:
    gemm = extension(CHECK, path="vllm/third_party/deep_gemm/_C.abi3.so")
    found = [
        link(vllm_of(extension(CHECK)), torch_of(), "3.12"),
        link(vllm_of(gemm), torch_of(), "3.12"),
    ]
    shown = grid([found[0]], {"0.19.1": "2.10.0"}, "3.12")
    assert "wheels for x86_64\n" in shown
    assert "        CUDA  2.10.0\nCUDA          12\n" in shown
    assert "0.19.1  none  no*\n" in shown
    assert "the extensions of X" not in shown
    shown = grid([found[1]], {}, "3.12")
    assert "0.19.1  none  -a\n" in shown
    assert "     -a  DeepGEMM\n" in shown
    assert shown.endswith("1 pairs: 1 link, without a feature\n")


def test_nothing_of_a_wheel_reaches_the_terminal_raw() -> None:
    bad = extension("_ZN\x1b[31mred", path="vllm/_C\x1b[2J.abi3.so")
    found = link(vllm_of(bad), torch_of(), "3.12")
    assert "\x1b" not in one(found)
    assert "\x1b" not in grid([found], {}, "3.12")
    assert "\x1b" not in to_json([found], extensions=True)
