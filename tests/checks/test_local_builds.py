"""Wheels of one release for two CUDA releases, of libraries that gcc links here, end to end."""

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from matrix.checks.linkage.elf import read_object
from matrix.cli import main

TORCH, LOCAL = "2.11.0", "2.11.0+cu129"
TAG = "cp312-cp312-manylinux_2_28_x86_64"


def library(folder: Path, name: str, source: str, *options: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "x.c").write_text(source)
    command = ["gcc", "-shared", "-fPIC", "-o", name, "x.c", f"-Wl,-soname,{name}", *options]
    subprocess.run(command, check=True, cwd=folder)
    (folder / "x.c").unlink()
    return folder / name


def runtime(folder: Path, major: int) -> Path:
    """Return a CUDA runtime, whose symbols have its name as their version, as NVIDIA's have."""
    name = f"libcudart.so.{major}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "versions").write_text(f"{name} {{ global: cuda*; local: *; }};")
    source = "int cudaMalloc(void) { return 0; }"
    return library(folder, name, source, "-Wl,--version-script=versions")


def torch_wheel(folder: Path, version: str, major: int) -> Path:
    """Return a wheel of torch whose CUDA library needs the runtime of this release."""
    made = folder / version
    cudart = runtime(made / "cuda", major)
    source = "int cudaMalloc(void); int c10_cuda(void) { return cudaMalloc(); }"
    c10_cuda = library(made / "lib", "libc10_cuda.so", source, str(cudart))
    torch = library(
        made / "lib",
        "libtorch.so",
        "int c10_cuda(void); int torch_one(void) { return c10_cuda(); }",
        str(c10_cuda),
    )
    return wheel(folder, f"torch-{version}-{TAG}.whl", {"torch/lib": [torch, c10_cuda]})


def vllm_wheel(folder: Path, torch: Path, major: int) -> Path:
    """Return a wheel of vLLM whose extension was linked with this torch and this runtime."""
    with zipfile.ZipFile(torch) as archive:
        libtorch = archive.extract("torch/lib/libtorch.so", folder / "vllm")
    cudart = runtime(folder / "vllm" / "cuda", major)
    source = (
        "int torch_one(void), cudaMalloc(void);"
        "int PyInit__C(void) { return torch_one() + cudaMalloc(); }"
    )
    options = (libtorch, str(cudart), "-Wl,--allow-shlib-undefined")
    extension = library(folder / "vllm" / "made", "_C.abi3.so", source, *options)
    name = "vllm-0.26.0-cp38-abi3-manylinux_2_31_x86_64.whl"
    return wheel(folder, name, {"vllm": [extension]})


def wheel(folder: Path, name: str, files: dict[str, list[Path]]) -> Path:
    project, version = name.split("-")[:2]
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(
            f"{project}-{version}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n",
        )
        for place, paths in files.items():
            for path in paths:
                archive.write(path, f"{place}/{path.name}")
    return folder / name


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    torch = torch_wheel(folder, TORCH, 13)
    local = torch_wheel(folder, LOCAL, 12)
    return {TORCH: torch, LOCAL: local, "vllm": vllm_wheel(folder, torch, 13)}


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return tmp_path / "tables"


def matrix(tables: Path, *arguments: object) -> int:
    return main(["linkage", "--tables", str(tables), *map(str, arguments)])


def test_the_libraries_name_their_runtime_as_real_ones_do(wheels: dict[str, Path]) -> None:
    for version, name in ((TORCH, "libcudart.so.13"), (LOCAL, "libcudart.so.12")):
        with (
            zipfile.ZipFile(wheels[version]) as archive,
            archive.open("torch/lib/libc10_cuda.so") as file,
        ):
            found = read_object(file)
        assert found.needed == (name,) and found.versioned == {name: 1}


@pytest.mark.parametrize("order", [(TORCH, LOCAL), (LOCAL, TORCH)])
def test_a_local_build_that_is_read_has_a_table_of_its_own(
    wheels: dict[str, Path], tables: Path, order: tuple[str, str]
) -> None:
    written: dict[str, bytes] = {}
    for version in order:
        assert matrix(tables, "--read", wheels[version]) == 0
        assert {name: (tables / name).read_bytes() for name in written} == written
        written = {path.name: path.read_bytes() for path in tables.iterdir()}
    assert sorted(written) == [f"torch-{LOCAL}.table", f"torch-{TORCH}.table"]
    assert len(set(written.values())) == 2


@pytest.mark.parametrize(("torch", "status", "cuda"), [(TORCH, 0, "13"), (LOCAL, 1, "12")])
def test_the_runtime_of_the_build_that_is_asked_for_decides(
    wheels: dict[str, Path],
    tables: Path,
    capsys: pytest.CaptureFixture[str],
    torch: str,
    status: int,
    cuda: str,
) -> None:
    assert matrix(tables, "--read", *wheels.values()) == 0
    capsys.readouterr()
    assert matrix(tables, "--vllm", "0.26.0", "--torch", torch, "--json") == status
    [found] = json.loads(capsys.readouterr().out)["pairs"]
    assert found["torch"] == torch and found["builds"]["torch"]["wheel"] == wheels[torch].name
    assert found["builds"]["torch"]["cuda"] == cuda and found["builds"]["vllm"]["cuda"] == "13"
    if status:
        assert found["reason"].startswith("`_C.abi3.so` needs libcudart.so.13 (")


def test_without_the_build_that_is_asked_for_there_is_no_answer(
    wheels: dict[str, Path], tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither build answers for the other one."""
    others = ((TORCH, f"{TORCH}+cu130"), (TORCH, f"{TORCH}+mine"), (TORCH, "2.99.0+cu129"))
    for place, version in (*others, (LOCAL, TORCH)):
        folder = tables / version
        assert matrix(folder, "--read", wheels[place], wheels["vllm"]) == 0
        capsys.readouterr()
        assert matrix(folder, "--vllm", "0.26.0", "--torch", version) == 2
        assert capsys.readouterr().err.startswith("matrix: ")


@pytest.mark.parametrize(
    ("local", "cuda", "words"),
    [
        ("CU129", "12", ""),
        ("cu129", "12", " (torch 2.11.0+cu129 brings libcudart.so.12)"),
        ("cpu", None, ""),
    ],
)
def test_the_name_of_a_build_without_a_table_shows_its_runtime(
    wheels: dict[str, Path],
    tables: Path,
    capsys: pytest.CaptureFixture[str],
    local: str,
    cuda: str | None,
    words: str,
) -> None:
    torch = f"{TORCH}+{local}"
    assert matrix(tables, "--read", wheels[TORCH], wheels["vllm"]) == 0
    capsys.readouterr()
    assert matrix(tables, "--vllm", "0.26", "--torch", torch) == 1
    shown = capsys.readouterr().out
    assert "does not link" in shown and "no table; by the name of the build" in shown
    assert matrix(tables, "--vllm", ">=0.26", "--torch", torch, "--json") == 1
    [found] = json.loads(capsys.readouterr().out)["pairs"]
    assert found["torch"] == torch and found["ok"] is False
    assert found["builds"]["torch"]["cuda"] == cuda and found["builds"]["vllm"]["cuda"] == "13"
    assert found["reason"].startswith("`_C.abi3.so` needs libcudart.so.13")
    assert words in found["reason"]
