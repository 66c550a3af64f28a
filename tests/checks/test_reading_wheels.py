"""What a wheel imports and exports, on shared objects that gcc makes here."""

import contextlib
import io
import re
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matrix.checks.linkage.elf import Dynamic, ElfError, read_folder, read_object, read_wheel
from matrix.checks.linkage.tables import TorchSymbols, VllmSymbols, dump
from matrix.errors import MatrixError

Build = Callable[..., Path]

EXTENSION = """
#include <stdio.h>
extern int aoti_torch_get_dim(void);
extern int torch_weak(void) __attribute__((weak));
extern int _ZN3c105checkEi(int);
__attribute__((visibility("hidden"))) int hidden(void) { return 1; }
static int local(void) { return 2; }
int sibling(void) { return hidden() + local(); }
__attribute__((weak)) int weak_export(void) { return 3; }
int PyInit__C(void) {
    puts("x");
    return aoti_torch_get_dim() + _ZN3c105checkEi(1) + (torch_weak ? torch_weak() : 0);
}
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compile a shared object of C source."""
    gcc = shutil.which("gcc")
    assert gcc is not None, "these tests need gcc, as does a cell"

    def make(source: str, name: str = "libx.so", *options: str, folder: Path | None = None) -> Path:
        folder = folder or tmp_path_factory.mktemp("elf")
        (folder / "x.c").write_text(source)
        out = folder / name
        command = [gcc, "-shared", "-fPIC", "-O1", "-o", str(out), str(folder / "x.c"), *options]
        subprocess.run(command, check=True, capture_output=True)
        return out

    return make


def read(path: Path) -> Dynamic:
    with path.open("rb") as file:
        return read_object(file)


def wheel(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def without_sections(content: bytes) -> bytes:
    """Return the file as `strip --strip-section-headers` leaves it."""
    changed = bytearray(content)
    changed[0x28:0x30] = bytes(8)  # where the section headers are
    changed[0x3C:0x40] = bytes(4)  # how many, and which has their names
    return bytes(changed)


def test_imports_and_exports_are_those_that_the_loader_sees(build: Build) -> None:
    found = read(build(EXTENSION))
    assert sorted(found.imports) == [b"_ZN3c105checkEi", b"aoti_torch_get_dim"]
    assert {b"PyInit__C", b"sibling", b"weak_export"} <= set(found.exports)
    assert not {b"hidden", b"local", b"puts", b"torch_weak"} & set(found.exports)


def test_symbols_with_a_version_are_counted_by_it(build: Build) -> None:
    found = read(build(EXTENSION))
    assert found.versioned == {"GLIBC_2.2.5": 1}  # puts
    assert b"puts" not in found.imports


def test_a_version_script_makes_no_export_an_import(build: Build, tmp_path: Path) -> None:
    (tmp_path / "versions").write_text("V_1 { global: aoti_torch_get_dim; local: *; };")
    source = "int aoti_torch_get_dim(void) { return 1; } int other(void) { return 2; }"
    library = build(source, "libv.so", f"-Wl,--version-script={tmp_path / 'versions'}")
    assert b"aoti_torch_get_dim" in read(library).exports
    assert b"other" not in read(library).exports
    user = "int aoti_torch_get_dim(void); int f(void) { return aoti_torch_get_dim(); }"
    found = read(build(user, "libu.so", str(library), f"-Wl,-rpath,{tmp_path}"))
    assert (found.imports, found.versioned) == ((), {"V_1": 1})
    assert found.rpath == (str(tmp_path),)
    assert found.needed[0].endswith("libv.so")


def test_needed_libraries_are_in_their_order(build: Build) -> None:
    one = build("int one(void) { return 1; }", "libone.so", "-Wl,-soname,libone.so.3")
    two = build("int two(void) { return 2; }", "libtwo.so", "-Wl,-soname,libtwo.so")
    source = "int one(void); int two(void); int f(void) { return one() + two(); }"
    found = read(build(source, "libz.so", str(two), str(one)))
    assert found.needed[:2] == ("libtwo.so", "libone.so.3")


@pytest.mark.parametrize("hash_style", ["gnu", "sysv", "both"])
def test_section_headers_are_not_needed(build: Build, tmp_path: Path, hash_style: str) -> None:
    path = build(EXTENSION, "liby.so", f"-Wl,--hash-style={hash_style}")
    bare = tmp_path / "bare.so"
    bare.write_bytes(without_sections(path.read_bytes()))
    with_headers, found = read(path), read(bare)
    assert found.needed == with_headers.needed
    assert set(found.exports) == set(with_headers.exports)
    # Versions are in sections; without them a name may be anyone's.
    assert set(with_headers.imports) <= set(found.imports)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an ELF file"),
        (b"#!/bin/sh\nexit 0\n", "not an ELF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not an ELF file"),
        (b"\x7fELF\x01\x01" + bytes(100), "another machine"),
        (b"\x7fELF\x02\x02" + bytes(100), "another machine"),
        (b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + struct.pack("<H", 183), "another machine"),
        (b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + struct.pack("<H", 62), "damaged"),
    ],
)
def test_what_is_no_such_object_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ElfError, match=message):
        read_object(io.BytesIO(content))


def test_an_object_file_is_no_shared_object(tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text("int f(void) { return 1; }")
    subprocess.run(["gcc", "-c", "-o", tmp_path / "x.o", tmp_path / "x.c"], check=True)
    with pytest.raises(ElfError, match="no shared object"):
        read(tmp_path / "x.o")


def test_a_file_that_is_cut_is_refused_wherever_it_is(build: Build) -> None:
    content = build(EXTENSION).read_bytes()
    for end in (*range(20, len(content), 499), len(content) - 1):
        with pytest.raises(ElfError, match=r"damaged|not an ELF"):
            read_object(io.BytesIO(content[:end]))


def test_a_file_without_section_headers_that_is_cut_is_refused(build: Build) -> None:
    content = without_sections(build(EXTENSION).read_bytes())
    read_object(io.BytesIO(content))
    for end in range(64, 12_000, 997):
        with pytest.raises(ElfError, match="damaged"):
            read_object(io.BytesIO(content[:end]))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_damaged_file_raises_nothing_else(build: Build, data: st.DataObject) -> None:
    whole = _whole(build)
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        head = data.draw(st.booleans())
        at = data.draw(st.integers(0, 1023 if head else len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ElfError):
        read_object(io.BytesIO(bytes(content)))


_made: list[bytes] = []


def _whole(build: Build) -> bytes:
    if not _made:
        _made.append(build(EXTENSION).read_bytes())
    return _made[0]


def test_a_wheel_of_vllm_gives_each_extension(build: Build, tmp_path: Path) -> None:
    extension = build(EXTENSION).read_bytes()
    user = build("int sibling(void); int f(void) { return sibling(); }").read_bytes()
    path = wheel(
        tmp_path / "vllm-0.19.1-cp38-abi3-manylinux_2_31_x86_64.whl",
        {
            "vllm/_C.abi3.so": extension,
            "vllm/third_party/deep_gemm/_C.cpython-312-x86_64-linux-gnu.so": user,
            "vllm/spinloop.abi3.so": b"this is not one",
            "vllm/so.py": b"",
            "vllm/notes.social": b"",
        },
    )
    reported: list[str] = []
    found = read_wheel(path, report=reported.append)
    assert isinstance(found, VllmSymbols)
    assert found.wheel.version == "0.19.1"
    assert re.fullmatch(r"[0-9a-f]{64}", found.wheel.sha256)
    core, spinloop, gemm = found.extensions
    assert (core.path, core.python, core.fault) == ("vllm/_C.abi3.so", None, None)
    assert core.imports == ("_ZN3c105checkEi", "aoti_torch_get_dim")
    assert core.exports == ("sibling",)
    assert (gemm.python, gemm.imports, gemm.exports) == ("cp312", ("sibling",), ())
    assert spinloop.fault == "is not an ELF file"
    assert found.demangled == {"_ZN3c105checkEi": "c10::check(int)"}
    assert reported == [extension.path for extension in found.extensions]


def test_a_wheel_of_torch_gives_what_each_library_exports(build: Build, tmp_path: Path) -> None:
    path = wheel(
        tmp_path / "torch-2.10.0-3-cp312-cp312-manylinux_2_28_x86_64.whl",
        {
            "torch/lib/libc10.so": build(EXTENSION).read_bytes(),
            "torch/lib/libgomp.so.1": b"\x7fELF\x01\x01" + bytes(64),
        },
    )
    found = read_wheel(path, sha256="ab" * 32)
    assert isinstance(found, TorchSymbols)
    assert (found.wheel.version, found.wheel.sha256) == ("2.10.0", "ab" * 32)
    [library] = found.libraries
    assert library.name == "libc10.so"
    assert "sibling" in library.exports
    assert "aoti_torch_get_dim" not in library.exports
    assert list(found.faults) == ["torch/lib/libgomp.so.1"]


def test_the_same_wheel_gives_the_same_bytes(build: Build, tmp_path: Path) -> None:
    files = {f"vllm/_{number}.abi3.so": build(EXTENSION).read_bytes() for number in range(3)}
    name = "vllm-0.19.1-cp38-abi3-manylinux_2_31_x86_64.whl"
    for folder, order in (("a", list(files)), ("b", list(reversed(files)))):
        (tmp_path / folder).mkdir()
        wheel(tmp_path / folder / name, {path: files[path] for path in order})
    one, two = (read_wheel(tmp_path / folder / name, sha256="00") for folder in "ab")
    assert dump(one) == dump(two)


def test_an_installed_wheel_reads_as_the_wheel_does(build: Build, tmp_path: Path) -> None:
    content = build(EXTENSION).read_bytes()
    path = wheel(
        tmp_path / "torch-2.10.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        {"torch/lib/libc10.so": content, "torch/lib/README.so.txt": b"", "torch/x.py": b""},
    )
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "site/torch/lib/README.so.txt").unlink()
    installed, packed = read_folder(tmp_path / "site", "torch", "2.10.0"), read_wheel(path)
    assert isinstance(installed, TorchSymbols)
    assert isinstance(packed, TorchSymbols)
    assert installed.libraries == packed.libraries


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vllm.whl", "name a wheel of torch or vLLM"),
        ("numpy-2.3.0-cp312-cp312-manylinux_2_28_x86_64.whl", "a wheel of numpy"),
        ("torch-2.10.0-cp312-cp312-win_amd64.whl", "not for Linux on x86_64"),
        ("torch-2.10.0-cp312-cp312-manylinux_2_28_aarch64.whl", "not for Linux on x86_64"),
    ],
)
def test_another_wheel_is_refused_by_its_name(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ElfError, match=message) as refusal:
        read_wheel(wheel(tmp_path / name, {"a": b""}))
    assert name in str(refusal.value)


def test_a_wheel_that_is_cut_damaged_or_not_there_is_named(build: Build, tmp_path: Path) -> None:
    name = "vllm-0.19.1-cp38-abi3-manylinux_2_31_x86_64.whl"
    path = tmp_path / name
    with pytest.raises(ElfError, match=f"{name}: no such file; name"):
        read_wheel(path)
    wheel(path, {"vllm/_C.abi3.so": build(EXTENSION).read_bytes()})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ElfError, match=f"{name}: cannot be read .*fetch the wheel again"):
        read_wheel(path)
    path.write_bytes(whole[:200] + bytes(100) + whole[300:])
    found = read_wheel(path)
    assert isinstance(found, VllmSymbols)
    assert "cannot be unpacked" in str(found.extensions[0].fault)


def test_a_wheel_without_a_library_is_named(tmp_path: Path) -> None:
    path = wheel(tmp_path / "vllm-0.19.1-py3-none-manylinux_2_31_x86_64.whl", {"vllm/a.py": b""})
    with pytest.raises(ElfError, match="contains no shared object"):
        read_wheel(path)
    with pytest.raises(ElfError, match="name its site-packages"):
        read_folder(tmp_path, "vllm", "0.19.1")


def test_a_missing_library_of_ours_is_one_clear_line(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build(EXTENSION)
    monkeypatch.setitem(__import__("sys").modules, "elftools.elf.elffile", None)
    with pytest.raises(MatrixError, match=r"pip install 'torch-vllm-matrix\[linkage\]'"):
        read(path)
