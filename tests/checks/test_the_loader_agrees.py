"""Predictions against the dynamic loader, on objects that gcc makes here."""

import subprocess
import sys
from pathlib import Path

import pytest

from matrix.checks.linkage.elf import read_object
from matrix.checks.linkage.link import Abi, Linked
from matrix.checks.linkage.tables import DescribedWheel, Extension, VllmSymbols
from matrix.checks.linkage.verify import agrees, observe, read_loader, write_stub

CHECK = "_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_jb"
CHECK_NAME = "c10::cuda::c10_cuda_check_implementation(int, char const*, char const*, unsigned)"

TRACE = f"""\
\tlibtorch.so => /somewhere/torch/lib/libtorch.so (0x1)
undefined symbol: {CHECK}\t(/somewhere/vllm/_C.abi3.so)
undefined symbol: PyModule_Create2\t(/somewhere/vllm/_C.abi3.so)
undefined symbol: cudaMalloc, version libcudart.so.12\t(/somewhere/vllm/_C.abi3.so)
undefined symbol: other\t(/somewhere/torch/lib/libtorch.so)
"""


def test_the_loaders_words_are_read_without_folders() -> None:
    found = read_loader(
        f"/somewhere/vllm/_C.abi3.so: undefined symbol: {CHECK}\n", TRACE, "_C.abi3.so"
    )
    assert found.line == f"_C.abi3.so: undefined symbol: {CHECK}"
    assert (found.symbol, found.symbols, found.loads) == (CHECK, (CHECK,), False)
    found = read_loader(
        "libcudart.so.12: cannot open shared object file: No such file or directory", "", "x"
    )
    assert (found.library, found.symbol) == ("libcudart.so.12", None)


def test_a_prediction_holds_where_the_loader_names_what_was_predicted() -> None:
    missing = Linked(
        path="vllm/_C.abi3.so", feature=None, abi=Abi.CXX, symbols=(CHECK,), names=(CHECK_NAME,)
    )
    fine = Linked(path="vllm/_C.abi3.so", feature=None, abi=Abi.CXX)
    library = Linked(
        path="vllm/_C.abi3.so", feature=None, abi=Abi.CXX, libraries=("libcudart.so.12",)
    )
    failed = read_loader(f"x: undefined symbol: {CHECK}", TRACE, "_C.abi3.so")
    loads = read_loader("loads", "", "_C.abi3.so")
    no_library = read_loader(
        "libcudart.so.12: cannot open shared object file: no", "", "_C.abi3.so"
    )
    for predicted, found, expected in (
        (missing, failed, True),
        (missing, loads, False),
        (fine, loads, True),
        (fine, failed, False),
        (library, no_library, True),
        (library, failed, False),
        (missing, no_library, False),
        (
            Linked(path="x", feature="DeepGEMM", abi=Abi.CXX, pythons=("3.12",)),
            failed,
            True,
        ),
        (
            Linked(path="x", feature="DeepGEMM", abi=Abi.CXX, pythons=("3.12",)),
            loads,
            False,
        ),
        # The one symbol is right, but the loader misses another one too.
        (
            missing,
            read_loader(failed.line, TRACE.replace("PyModule_Create2", "t"), "_C.abi3.so"),
            False,
        ),
    ):
        assert agrees(predicted, found) is expected


# The real loader.


def compiled(folder: Path, source: str, name: str, *options: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "x.c").write_text(source)
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / name), str(folder / "x.c"), *options]
    subprocess.run(command, check=True)
    return folder / name


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a torch that loads a library of one function, and its Python."""
    library = compiled(
        tmp_path / "torch" / "lib",
        "int torch_one(void) { return 1; }",
        "libtorch.so",
        "-Wl,-soname,libtorch.so",
    )
    (tmp_path / "torch" / "__init__.py").write_text(f"import ctypes; ctypes.CDLL({str(library)!r})")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "stub").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def extension(packages: Path, *calls: str, name: str = "_C.abi3.so", needs: str = "") -> Path:
    source = "".join(f"int {name}(void);\n" for name in calls)
    body = " + ".join(f"{name}()" for name in calls) or "0"
    options = [str(packages / "torch" / "lib" / "libtorch.so")]
    if needs:
        other = compiled(packages / "other", "int other;", needs, f"-Wl,-soname,{needs}")
        options += ["-Wl,--no-as-needed", str(other)]
    made = compiled(packages / "vllm", f"{source}int f(void) {{ return {body}; }}", name, *options)
    if needs:
        other.unlink()
    return made


def test_an_extension_that_finds_all_loads(packages: Path) -> None:
    path = extension(packages, "torch_one")
    assert observe(packages, packages, path, packages / "stub").line == "loads"


def test_the_loader_misses_what_the_elf_file_says(packages: Path) -> None:
    path = extension(packages, "torch_one", "torch_two", "torch_three")
    found = observe(packages, packages, path, packages / "stub")
    assert found.line == f"{path.name}: undefined symbol: {found.symbol}"
    assert found.symbols == ("torch_three", "torch_two")
    assert found.symbol in found.symbols
    with path.open("rb") as file:
        imports = {name.decode() for name in read_object(file).imports}
    assert imports == {*found.symbols, "torch_one"}


def test_a_library_that_is_not_there_is_named(packages: Path) -> None:
    path = extension(packages, "torch_one", needs="libcudart.so.12")
    found = observe(packages, packages, path, packages / "stub")
    assert (found.library, found.symbol, found.loads) == ("libcudart.so.12", None, False)


def test_what_stands_for_the_driver_has_the_names_that_are_asked_for(packages: Path) -> None:
    wanted = Extension(path="vllm/_C.abi3.so", imports=("cuMemCreate", "torch_one", "cudaMalloc"))
    symbols = VllmSymbols(
        wheel=DescribedWheel(project="vllm", version="0.19.1", file="", sha256=""),
        extensions=(wanted,),
    )
    folder = packages / "driver"
    folder.mkdir()
    made = write_stub(symbols, folder)
    with (made / "libcuda.so.1").open("rb") as file:
        assert {name for name in read_object(file).exports if name.startswith(b"cu")} == {
            b"cuMemCreate"
        }
