"""`matrix linkage`: what is missing when an extension links, on small tables and real ones."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrix.catalog.releases_file import load_releases
from matrix.checks.linkage.link import DATA, Linkage, Linked, feature_of, link, load_tables
from matrix.checks.linkage.tables import (
    DescribedWheel,
    Extension,
    Library,
    Names,
    SymbolsError,
    TorchSymbols,
    VllmSymbols,
    dump,
    file_name,
)
from matrix.cli import main
from matrix.report.linkage import extension_words, grid, one, to_json, verdict_words

CHECK = "_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_jb"
CHECK_NAME = (
    "c10::cuda::c10_cuda_check_implementation(int, char const*, char const*, unsigned int, bool)"
)


def torch_of(
    *exports: str, needed: tuple[str, ...] = ("libcudart.so.12",), version: str = "2.10.0"
) -> TorchSymbols:
    """A torch whose libc10 exports these, reached through libtorch and libtorch_cpu."""
    file = f"torch-{version}-cp312-cp312-manylinux_2_28_x86_64.whl"
    return TorchSymbols(
        wheel=DescribedWheel(project="torch", version=version, file=file, sha256="00"),
        libraries=(
            Library(name="libtorch.so", needed=("libtorch_cpu.so",), exports=Names.of([])),
            Library(name="libtorch_cpu.so", needed=("libc10.so", *needed), exports=Names.of([])),
            Library(
                name="libc10.so", needed=(), exports=Names.of(name.encode() for name in exports)
            ),
            Library(
                name="libtorch_python.so",
                needed=("libtorch.so",),
                exports=Names.of([b"THPVariable_Wrap"]),
            ),
        ),
    )


def extension(
    *imports: str,
    path: str = "vllm/_C.abi3.so",
    needed: tuple[str, ...] = ("libtorch.so",),
    python: str | None = None,
    exports: tuple[str, ...] = (),
    rpath: tuple[str, ...] = (),
    fault: str | None = None,
) -> Extension:
    return Extension(
        path=path,
        python=python,
        needed=needed,
        rpath=rpath,
        imports=imports,
        versioned={},
        exports=exports,
        fault=fault,
    )


def vllm_of(*extensions: Extension, version: str = "0.19.1") -> VllmSymbols:
    file = f"vllm-{version}-cp38-abi3-manylinux_2_31_x86_64.whl"
    return VllmSymbols(
        wheel=DescribedWheel(project="vllm", version=version, file=file, sha256="00"),
        extensions=extensions,
        demangled={CHECK: CHECK_NAME},
    )


def linked(*extensions: Extension, torch: TorchSymbols | None = None) -> list[Linked]:
    return list(link(vllm_of(*extensions), torch or torch_of(), "3.12").extensions)


def why(found: Linkage) -> str | None:
    """The first reason why an extension does not link, in words."""
    return next(
        (extension_words(found, broken) for broken in found.extensions if not broken.ok), None
    )


def test_a_symbol_that_torch_exports_links() -> None:
    found = link(vllm_of(extension(CHECK)), torch_of(CHECK), "3.12")
    assert (found.ok, verdict_words(found), why(found)) == (True, "links", None)


def test_a_missing_symbol_is_named_demangled() -> None:
    found = link(vllm_of(extension(CHECK, "torch_new_thing")), torch_of(), "3.12")
    assert (found.ok, verdict_words(found)) == (False, "does not link")
    assert why(found) == f"`_C.abi3.so` needs {CHECK_NAME} and 1 more"
    assert found.extensions[0].symbols == (CHECK, "torch_new_thing")


def test_a_symbol_is_found_only_where_the_extension_reaches() -> None:
    away = extension(CHECK, needed=("libc.so.6",))
    near = extension(CHECK, needed=("libtorch_cpu.so",))
    python = extension("THPVariable_Wrap")
    with_python = extension("THPVariable_Wrap", needed=("libtorch_python.so",))
    found = linked(away, near, python, with_python, torch=torch_of(CHECK))
    assert [result.ok for result in found] == [False, True, False, True]


def test_libraries_that_need_each_other_end() -> None:
    ring = TorchSymbols(
        wheel=DescribedWheel(project="torch", version="2.10.0", file="", sha256=""),
        libraries=(
            Library(name="liba.so", needed=("libb.so",), exports=Names.of([b"torch_a"])),
            Library(name="libb.so", needed=("liba.so",), exports=Names.of([b"torch_b"])),
        ),
    )
    [found] = linked(extension("torch_a", "torch_b", needed=("libb.so",)), torch=ring)
    assert found.ok


@pytest.mark.parametrize(
    "name",
    [
        "PyModule_Create2",
        "_PyObject_New",
        "cuTensorMapEncodeTiled",
        "cudaGetLastError",
        "cublasGemmEx",
        "ncclGetVersion",
        "nvrtcGetErrorString",
        "dlopen",
        "_ZSt21ios_base_library_initv",
        "_ZNSt10filesystem7__cxx114path14_M_split_cmptsEv",
        "_ZNKSt10filesystem7__cxx114path11parent_pathEv",
        "_ZTVN10__cxxabiv120__si_class_type_infoE",
        "_ZTVNSt7__cxx1119basic_ostringstreamIcSt11char_traitsIcESaIcEEE",
        "_ZTISt9exception",
        "_Znwm",
        "_ZdlPvm",
        "_ZTIPf",
        "__cxa_throw",
    ],
)
def test_what_does_not_come_from_torch_is_left_apart(name: str) -> None:
    [found] = linked(extension(name))
    assert found.ok
    assert found.abi == "none"


@pytest.mark.parametrize(
    "name",
    [
        CHECK,
        "_ZNSt6vectorIN2at6TensorESaIS1_EE3endEv",
        "_ZTIN3c105ErrorE",
        "aoti_torch_get_dim",
        "torch_call_dispatcher",
        "THPVariable_Wrap",
        "_ZN8pybind116moduleE",
    ],
)
def test_what_must_come_from_torch_is_counted(name: str) -> None:
    assert [result.ok for result in linked(extension(name))] == [False]


def test_a_symbol_of_a_sibling_is_found_there() -> None:
    user = extension("_ZN4vllm4helpEv", needed=("_help.abi3.so",))
    helper = extension(path="vllm/_help.abi3.so", exports=("_ZN4vllm4helpEv",))
    assert all(result.ok for result in linked(user, helper))
    assert not all(result.ok for result in linked(extension("_ZN4vllm4helpEv"), helper))


@pytest.mark.parametrize(
    ("names", "abi"),
    [
        (("aoti_torch_get_dim", "torch_call_dispatcher", "cudaMalloc"), "stable"),
        (("aoti_torch_get_dim", CHECK), "c++"),
        (("PyModule_Create2",), "none"),
        (("aoti_torch_get_dim", "_ZNSt10filesystem7__cxx114path5_ListC1Ev"), "stable"),
    ],
)
def test_the_stable_abi_is_known_by_its_names(names: tuple[str, ...], abi: str) -> None:
    assert linked(extension(*names))[0].abi == abi


def test_a_library_that_nothing_brings_is_its_own_reason() -> None:
    found = link(
        vllm_of(extension(CHECK, needed=("libtorch.so", "libcudart.so.12"))),
        torch_of(needed=("libcudart.so.13", "libcublas.so.13")),
        "3.12",
    )
    assert why(found) == (
        "`_C.abi3.so` needs libcudart.so.12 (torch 2.10.0 brings libcudart.so.13),"
        f" and {CHECK_NAME}"
    )
    assert found.extensions[0].libraries == ("libcudart.so.12",)


@pytest.mark.parametrize(
    "name",
    ["libc.so.6", "libstdc++.so.6", "libcuda.so.1", "ld-linux-x86-64.so.2", "libcudart.so.12"],
)
def test_the_systems_libraries_and_those_that_torch_needs_are_there(name: str) -> None:
    assert linked(extension(needed=(name,)))[0].ok


def test_an_extension_with_folders_of_its_own_may_find_its_libraries_there() -> None:
    there = extension(needed=("libodd.so.1",), rpath=("$ORIGIN/../nvidia/lib",))
    assert linked(there)[0].ok
    found = link(vllm_of(extension(needed=("libodd.so.1",))), torch_of(), "3.12")
    assert why(found) == "`_C.abi3.so` needs libodd.so.1 (torch 2.10.0 brings none)"


def test_a_feature_that_does_not_link_leaves_the_core() -> None:
    gemm = extension(CHECK, path="vllm/third_party/deep_gemm/_C.abi3.so")
    mla = extension(CHECK, path="vllm/_flashmla_C.abi3.so")
    found = link(vllm_of(gemm, mla, extension()), torch_of(), "3.12")
    assert found.ok
    assert verdict_words(found) == "links, without DeepGEMM, FlashMLA"
    assert [result.feature for result in found.extensions] == [None, "FlashMLA", "DeepGEMM"]
    assert str(why(found)).startswith("`_flashmla_C.abi3.so` needs c10::cuda::")


@pytest.mark.parametrize(
    ("path", "feature"),
    [
        ("vllm/_moe_C.abi3.so", None),
        ("vllm/_moe_C_stable_libtorch.abi3.so", None),
        ("vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so", None),
        ("vllm/vllm_flash_attn/_vllm_fa4_C.cpython-312-x86_64-linux-gnu.so", None),
        ("vllm/_qutlass_C.abi3.so", "QuTLASS"),
        ("vllm/third_party/deep_gemm/_C_extension.abi3.so", "DeepGEMM"),
        ("vllm/cumem_allocator.abi3.so", "cumem_allocator"),
    ],
)
def test_what_an_extension_serves(path: str, feature: str | None) -> None:
    assert feature_of(path) == feature


def test_only_files_for_the_cells_python_count() -> None:
    gemm = "vllm/third_party/deep_gemm/_C.cpython-{}-x86_64-linux-gnu.so"
    tables = vllm_of(
        extension(),
        extension(path=gemm.format(312), python="cp312"),
        extension(CHECK, path=gemm.format(313), python="cp313"),
    )
    assert verdict_words(link(tables, torch_of(), "3.12")) == "links"
    assert verdict_words(link(tables, torch_of(), "3.13")) == "links, without DeepGEMM"
    found = link(tables, torch_of(), "3.14")
    assert verdict_words(found) == "links, without DeepGEMM"
    assert len(found.extensions) == 2
    assert "is built for Python 3.12, 3.13, not 3.14" in str(why(found))


def test_a_file_that_is_not_elf_does_not_load() -> None:
    bad = extension(path="vllm/_moe_C.abi3.so", fault="is not an ELF file")
    found = link(vllm_of(extension(), bad), torch_of(), "3.12")
    assert (found.ok, why(found)) == (False, "`_moe_C.abi3.so` is not an ELF file")


shims = st.frozensets(st.sampled_from([f"torch_{letter}" for letter in "abcdefgh"]))


@settings(deadline=None)
@given(shims, shims, shims)
def test_a_torch_that_exports_more_never_links_less(
    wanted: frozenset[str], has: frozenset[str], more: frozenset[str]
) -> None:
    asked = vllm_of(extension(*sorted(wanted)))
    less, bigger = (link(asked, torch_of(*exports), "3.12") for exports in (has, has | more))
    assert bigger.ok >= less.ok
    assert set(less.extensions[0].symbols) == wanted - has


# Tables in a folder.


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


# The command.


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
    [found] = json.loads(capsys.readouterr().out)["pairs"]
    assert (found["ok"], found["verdict"]) == (False, "does not link")
    assert found["extensions"][0]["symbols"] == [CHECK]
    assert found["extensions"][0]["names"] == [CHECK_NAME]
    assert main(["linkage", "--tables", str(folder), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["pairs"]
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
    [found] = json.loads(capsys.readouterr().out)["pairs"]
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
        return [row["vllm"] for row in json.loads(capsys.readouterr().out)["pairs"]]

    assert vllms("--vllm", "0.20", "--torch", "2.10") == ["0.20.10"]
    assert vllms("--vllm", ">=0.19.2,<0.21") == ["0.20.0", "0.20.9", "0.20.10"]
    assert vllms("--vllm", "0.20.9", "--torch", ">=2") == ["0.20.9"]
    assert vllms("--torch", "==2.10.*")[-1] == "0.21.0"


@pytest.mark.parametrize("python", ["3", "three", "2.7", "3.12.1"])
def test_a_python_is_a_minor_release(python: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["linkage", "--python", python])
    assert "no minor release of Python" in capsys.readouterr().err


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


# The package's own tables.


def test_each_vllm_links_with_the_torch_that_it_pins() -> None:
    tables = load_tables()
    pins = {release.version: release.torch for release in load_releases().vllm}
    tried = [
        version for version in tables.vllm_versions if pins.get(version) in tables.torch_versions
    ]
    assert len(tried) >= 20
    for version in tried:
        found = tables.link(version, pins[version], "3.12")
        assert verdict_words(found) == "links", (version, why(found))


@pytest.mark.parametrize(
    ("vllm", "torch", "verdict", "reason"),
    [
        ("0.16.0", "2.9.0", "links", None),
        ("0.19.1", "2.9.1", "does not link", "torch_call_dispatcher"),
        ("0.19.1", "2.11.0", "does not link", "libcudart.so.12 (torch 2.11.0 brings"),
        ("0.20.2", "2.12.1", "does not link", "at::cuda::getCurrentCUDABlasHandle()"),
        ("0.32.0", "2.14.1", "links, without DeepGEMM", "unsigned int, bool)"),
    ],
)
def test_a_pair_off_its_pin(vllm: str, torch: str, verdict: str, reason: str | None) -> None:
    found = load_tables().link(vllm, torch, "3.12")
    assert verdict_words(found) == verdict
    text = to_json([found], extensions=True)
    assert reason is None or reason in text


def test_0_19_1_misses_on_torch_2_9_1_what_its_loader_says() -> None:
    found = load_tables().link("0.19.1", "2.9.1", "3.11")
    assert [result.name for result in found.extensions if result.ok] == ["cumem_allocator.abi3.so"]
    [core] = [result for result in found.extensions if result.name == "_moe_C.abi3.so"]
    assert extension_words(found, core) == f"`_moe_C.abi3.so` needs {CHECK_NAME} and 2 more"


def test_a_copy_of_the_tables_answers_alike(tmp_path: Path) -> None:
    for name in ("vllm-0.20.2.table", "torch-2.11.0.table"):
        shutil.copy(DATA / name, tmp_path / name)
    pair = ("0.20.2", "2.11.0", "3.12")
    assert load_tables(tmp_path).link(*pair) == load_tables().link(*pair)
