"""Symbol tables: as bytes and back, damaged ones, and how a folder of them is filled."""

import json
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrix.catalog.index import FetchError
from matrix.catalog.published_file import PublishedFile
from matrix.checks.linkage.elf import read_wheel
from matrix.checks.linkage.fill import fill, lacking, nothing_new, read_wheels
from matrix.checks.linkage.link import load_tables
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
    load,
)
from matrix.errors import MatrixError

TORCH = DescribedWheel(
    project="torch",
    version="2.10.0",
    file="torch-2.10.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    sha256="ab" * 32,
)
VLLM = DescribedWheel(
    project="vllm",
    version="0.19.1",
    file="vllm-0.19.1-cp38-abi3-manylinux_2_31_x86_64.whl",
    sha256="cd" * 32,
)
texts = st.text(max_size=12)
names = st.frozensets(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))


def torch(*libraries: Library) -> TorchSymbols:
    return TorchSymbols(
        wheel=TORCH,
        libraries=libraries
        or (Library(name="libc10.so", needed=(), exports=Names.of([b"a", b"b"])),),
    )


@settings(deadline=None)
@given(names)
def test_a_set_of_names_holds_its_names(known: frozenset[bytes]) -> None:
    plain = Names.of(known)
    hashed = Names.load(memoryview(plain.dump()), len(plain))
    for name in known:
        text = name.decode("utf-8", "surrogateescape")
        assert text in plain
        assert text in hashed
    assert len(hashed) == len(plain) == len(known)
    assert hashed == plain


@settings(deadline=None)
@given(names, st.text(min_size=1, max_size=30))
def test_a_set_of_names_holds_no_other(known: frozenset[bytes], other: str) -> None:
    hashed = Names.load(memoryview(Names.of(known).dump()), len(known))
    assert (other in hashed) is (other.encode("utf-8", "surrogateescape") in known)
    assert 1 not in hashed


def test_a_library_as_large_as_torchs_keeps_every_name_apart() -> None:
    many = [f"_ZN2at4_ops{number}4callERKNS_6TensorE" for number in range(60_000)]
    hashed = Names.load(memoryview(Names.of(name.encode() for name in many).dump()), len(many))
    assert all(name in hashed for name in many)
    assert not any(f"{name}l" in hashed for name in many)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Library, name=texts, needed=st.lists(texts).map(tuple), exports=names.map(Names.of)
        ),
        max_size=4,
    ),
    st.dictionaries(texts, texts, max_size=2),
)
def test_a_table_of_torch_comes_back(libraries: list[Library], faults: dict[str, str]) -> None:
    symbols = TorchSymbols(wheel=TORCH, libraries=tuple(libraries), faults=faults)
    content = dump(symbols)
    assert load(content, "x") == symbols
    assert dump(load(content, "x")) == content


several = st.lists(texts, unique=True, max_size=4).map(lambda found: tuple(sorted(found)))
extensions = st.builds(
    Extension,
    path=texts,
    python=st.none() | st.just("cp312"),
    needed=st.lists(texts, max_size=3).map(tuple),
    rpath=st.lists(texts, max_size=2).map(tuple),
    imports=several,
    versioned=st.dictionaries(texts, st.integers(1, 99), max_size=3),
    exports=several,
    fault=st.none() | texts,
)


@settings(deadline=None)
@given(
    st.lists(extensions, unique_by=lambda extension: extension.path, max_size=4),
    st.dictionaries(texts, texts, max_size=3),
)
def test_a_table_of_vllm_comes_back(found: list[Extension], demangled: dict[str, str]) -> None:
    symbols = VllmSymbols(
        wheel=VLLM,
        extensions=tuple(sorted(found, key=lambda extension: extension.path)),
        demangled=demangled,
    )
    content = dump(symbols)
    assert load(content, "x") == symbols
    assert dump(load(content, "x")) == content


def test_a_table_of_vllm_has_a_name_a_line() -> None:
    content = dump(
        VllmSymbols(
            wheel=VLLM, extensions=(Extension(path="vllm/_C.abi3.so", imports=("a_b", "c_d")),)
        )
    )
    assert b'\n"a_b",\n"c_d"\n' in content
    assert json.loads(content.split(b"\n", 1)[0])["sha256"] == "cd" * 32


@settings(deadline=None)
@given(st.data())
def test_a_byte_that_changed_is_seen(data: st.DataObject) -> None:
    content = bytearray(dump(torch()))
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda other: other != content[at]))
    content[at] = byte
    with pytest.raises(SymbolsError, match=r"torch\.table: .*matrix linkage --read WHEEL"):
        load(bytes(content), "torch.table")


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_a_table_that_was_cut_is_named_with_its_fix(size: int) -> None:
    content = dump(torch())
    with pytest.raises(SymbolsError, match=r"torch\.table: .*matrix linkage --read WHEEL"):
        load(content[: size % len(content)], "torch.table")


def resigned(content: bytes, change: Callable[[dict[str, object]], None]) -> bytes:
    """Return the table with another header, and a checksum that is right."""
    import hashlib

    line, _, body = content.partition(b"\n")
    header = json.loads(line)
    del header["checksum"]
    change(header)
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode() + b"\n"
    header["checksum"] = hashlib.sha256(text + body).hexdigest()
    return json.dumps(header, separators=(",", ":"), sort_keys=True).encode() + b"\n" + body


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema", 2, "schema is 2, and this matrix reads 1"),
        ("project", "numpy", "not torch or vllm"),
        ("project", "vllm", "not as a symbol table should be"),
        ("version", "new", "not as a symbol table should be"),
        ("version", None, "not as a symbol table should be"),
        ("libraries", [{"name": "a", "needed": [], "exports": 7}], "not as a symbol table"),
        ("libraries", [{"name": "a", "needed": [], "exports": -1}], "not as a symbol table"),
        ("libraries", [], "not as a symbol table should be"),
        ("faults", 3, "not as a symbol table should be"),
    ],
)
def test_a_table_of_another_shape_is_named(key: str, value: object, message: str) -> None:
    content = resigned(dump(torch()), lambda header: header.update({key: value}))
    with pytest.raises(SymbolsError, match=message):
        load(content, "torch-2.10.0.table")


@pytest.mark.parametrize("content", [b"", b"\n", b"[]\n", b"3\n", b"null\n", b"PK\3\4", b"{}\n"])
def test_what_is_no_table_is_named(content: bytes) -> None:
    with pytest.raises(SymbolsError, match=r"a\.table: no symbol table"):
        load(content, "a.table")


# The tables of the repository.


def test_every_table_of_the_package_is_whole() -> None:
    tables = load_tables()
    assert len(tables.torch_versions) >= 10
    assert len(tables.vllm_versions) >= 20
    for version in tables.torch_versions:
        found = tables.torch(version)
        assert found.faults == {}
        assert {"libtorch_cpu.so", "libtorch_cuda.so", "libc10.so", "libtorch_python.so"} <= {
            library.name for library in found.libraries
        }
    for version in tables.vllm_versions:
        assert all(extension.fault is None for extension in tables.vllm(version).extensions)


def test_the_tables_of_the_package_stay_small() -> None:
    paths = list(load_tables().folder.glob("*.table"))
    assert sum(path.stat().st_size for path in paths) < 9 << 20


# Filling.


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("library")
    (folder / "x.c").write_text("int torch_f(void); int g(void) { return torch_f(); }")
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / "x.so"), str(folder / "x.c")]
    subprocess.run(command, check=True)
    return (folder / "x.so").read_bytes()


def published(
    name: str, version: str, *, sha256: str = "00", yanked: str | None = None
) -> PublishedFile:
    project = name.partition("-")[0]
    return PublishedFile(
        project=project,
        version=version,
        filename=name,
        url=f"x://{name}",
        sha256=sha256,
        size=10,
        yanked=yanked,
    )


def torch_wheel(version: str, *, python: str = "cp312", build: str = "") -> str:
    return f"torch-{version}{build}-{python}-{python}-manylinux_2_28_x86_64.whl"


def vllm_wheel(version: str, machine: str = "x86_64") -> str:
    return f"vllm-{version}-cp38-abi3-manylinux_2_31_{machine}.whl"


class FakeIndex:
    """An index whose wheels hold one library; some cannot be fetched."""

    def __init__(self, files: list[PublishedFile], content: bytes, broken: str = "none") -> None:
        self.published, self.content, self.broken = files, content, broken
        self.fetched: list[str] = []

    def files(self, project: str) -> tuple[PublishedFile, ...]:
        if project == self.broken:
            raise FetchError(f"{project}: the index says 404; look at its address")
        return tuple(file for file in self.published if file.project == project)

    def fetch(self, file: PublishedFile, folder: Path) -> Path:
        self.fetched.append(file.filename)
        if self.broken in file.filename:
            raise FetchError(f"{file.filename}: its sha256 is 1, and the index has 0; not kept")
        path = folder / file.filename
        inside = "vllm/_C.abi3.so" if file.project == "vllm" else "torch/lib/libc10.so"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(inside, self.content)
        return path


def test_the_wheel_of_a_release_is_the_one_that_an_installer_takes(tmp_path: Path) -> None:
    files = [
        published(torch_wheel("2.10.0"), "2.10.0"),
        published(torch_wheel("2.10.0", build="-3"), "2.10.0"),
        published(torch_wheel("2.10.0", build="-2"), "2.10.0"),
        published(torch_wheel("2.10.0", python="cp313"), "2.10.0"),
        published("torch-2.10.0-cp312-cp312-win_amd64.whl", "2.10.0"),
        published("torch-2.10.0.tar.gz", "2.10.0"),
        published(torch_wheel("2.8.0"), "2.8.0"),
        published(torch_wheel("2.11.0rc1"), "2.11.0rc1"),
        published(torch_wheel("2.12.0"), "2.12.0", yanked="broken"),
        published(vllm_wheel("0.19.0"), "0.19.0"),
        published(vllm_wheel("0.19.1"), "0.19.1"),
        published(vllm_wheel("0.19.1", "aarch64"), "0.19.1"),
        published(vllm_wheel("0.20.0"), "0.20.0"),
    ]
    found = lacking(files, load_tables(tmp_path))
    assert [file.filename for file in found] == [
        vllm_wheel("0.20.0"),
        vllm_wheel("0.19.1"),
        torch_wheel("2.10.0", build="-3"),
        vllm_wheel("0.19.0"),
    ]


def test_a_fill_fetches_what_has_no_table_and_a_second_one_nothing(
    tmp_path: Path, library: bytes
) -> None:
    files = [
        published(torch_wheel("2.10.0"), "2.10.0"),
        published(vllm_wheel("0.19.1"), "0.19.1"),
    ]
    index, reported = FakeIndex(files, library), list[str]()
    assert fill(index, tmp_path, reported.append) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "torch-2.10.0.table",
        "vllm-0.19.1.table",
    ]
    assert [line.partition(" ")[0] for line in reported] == [
        "vllm-0.19.1.table",
        "torch-2.10.0.table",
    ]
    assert fill(index, tmp_path, reported.append) == []
    assert len(index.fetched) == 2
    assert reported[2:] == [nothing_new(tmp_path)]


def test_a_table_of_another_wheel_or_a_damaged_one_is_made_anew(
    tmp_path: Path, library: bytes
) -> None:
    files = [published(torch_wheel("2.10.0"), "2.10.0")]
    index = FakeIndex(files, library)
    fill(index, tmp_path, lambda _: None)
    path = tmp_path / "torch-2.10.0.table"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    fill(index, tmp_path, lambda _: None)
    assert path.read_bytes() == whole
    fill(FakeIndex([replace(files[0], sha256="11")], library), tmp_path, lambda _: None)
    assert path.read_bytes() != whole


@pytest.mark.parametrize("broken", ["vllm-0.19.1", "vllm"])
def test_what_cannot_be_fetched_is_named_and_the_rest_is_done(
    tmp_path: Path, library: bytes, broken: str
) -> None:
    files = [
        published(torch_wheel("2.10.0"), "2.10.0"),
        published(vllm_wheel("0.19.1"), "0.19.1"),
    ]
    [fault] = fill(FakeIndex(files, library, broken), tmp_path, lambda _: None)
    assert fault.startswith(broken)
    assert [path.name for path in tmp_path.iterdir()] == ["torch-2.10.0.table"]


def test_only_the_named_releases_are_filled(tmp_path: Path, library: bytes) -> None:
    files = [published(torch_wheel(version), version) for version in ("2.10.0", "2.11.0")]
    index = FakeIndex(files, library)
    assert fill(index, tmp_path, lambda _: None, only=[("torch", "2.10.0")]) == []
    assert index.fetched == [torch_wheel("2.10.0")]


def test_wheels_that_are_here_are_read_and_the_bad_ones_named(
    tmp_path: Path, library: bytes
) -> None:
    good, bad = tmp_path / vllm_wheel("0.19.1"), tmp_path / vllm_wheel("0.20.2")
    with zipfile.ZipFile(good, "w") as archive:
        archive.writestr("vllm/_C.abi3.so", library)
    bad.write_bytes(b"half a file")
    reported: list[str] = []
    [fault] = read_wheels([bad, good], tmp_path / "tables", reported.append)
    assert fault.startswith(bad.name)
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["vllm-0.19.1.table"]
    assert load_tables(tmp_path / "tables").vllm("0.19.1") == read_wheel(good)


def test_reading_a_wheel_leaves_the_table_of_another_build(tmp_path: Path, library: bytes) -> None:
    """`torch 2.10.0` and `2.10.0+cu129` differ in CUDA, and so may two files of one version."""
    index, tables = FakeIndex([], library), tmp_path / "tables"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    plain = index.fetch(published(torch_wheel("2.10.0"), "2.10.0"), tmp_path / "first")
    local = index.fetch(published(torch_wheel("2.10.0+cu129"), "2.10.0"), tmp_path / "first")
    assert read_wheels([plain, local], tables, lambda _: None) == []
    found = load_tables(tables)
    assert found.torch_versions == ("2.10.0", "2.10.0+cu129")
    assert found.torch("2.10.0+cu129").wheel.file == local.name
    before = (tables / "torch-2.10.0.table").read_bytes()

    with zipfile.ZipFile(tmp_path / "second" / plain.name, "w") as archive:
        archive.writestr("torch/lib/libc10.so", library)
        archive.writestr("torch/lib/libtorch.so", library)
    [fault] = read_wheels([tmp_path / "second" / plain.name], tables, lambda _: None)
    assert fault == (
        f"{plain.name}: torch-2.10.0.table is of another build, {plain.name}, and stays; name"
        " another folder: --tables DIR"
    )
    assert (tables / "torch-2.10.0.table").read_bytes() == before
    # The same wheel may be read again, and a damaged table is of no build.
    assert read_wheels([plain], tables, lambda _: None) == []
    (tables / "torch-2.10.0.table").write_bytes(before[:-9])
    assert read_wheels([tmp_path / "second" / plain.name], tables, lambda _: None) == []
    assert load_tables(tables).torch("2.10.0").wheel.sha256 != ""


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, library: bytes) -> None:
    (tmp_path / "tables").write_bytes(b"")
    wheel = tmp_path / vllm_wheel("0.19.1")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("vllm/_C.abi3.so", library)
    [fault] = read_wheels([wheel], tmp_path / "tables", lambda _: None)
    assert "cannot be written" in fault


def test_a_table_under_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / file_name("torch", "2.11.0")).write_bytes(dump(torch()))
    with pytest.raises(MatrixError, match=r"contains torch 2\.10\.0; give it the name"):
        load_tables(tmp_path).torch("2.11.0")
