"""What is missing when an extension links, on small tables and real ones."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrix.catalog.releases_file import load_releases
from matrix.checks.linkage.link import SYMBOL_TABLES, Linkage, Linked, feature_of, link, load_tables
from matrix.checks.linkage.tables import (
    DescribedWheel,
    Extension,
    Library,
    Names,
    TorchSymbols,
)
from matrix.report.linkage import extension_words, to_json, verdict_words
from symbol_tables import CHECK, CHECK_NAME, extension, torch_of, vllm_of


def linked(*extensions: Extension, torch: TorchSymbols | None = None) -> list[Linked]:
    return list(link(vllm_of(*extensions), torch or torch_of(), "3.12").extensions)


def why(found: Linkage) -> str | None:
    """Return the first reason why an extension does not link, in words."""
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
        shutil.copy(SYMBOL_TABLES / name, tmp_path / name)
    pair = ("0.20.2", "2.11.0", "3.12")
    assert load_tables(tmp_path).link(*pair) == load_tables().link(*pair)
