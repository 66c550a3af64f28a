"""matrix.bundle.wheel on small wheels made here."""

import base64
import csv
import hashlib
import io
import os
import struct
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from matrix._util.files import digest_of
from matrix.bundle.fatbin import Pruned
from matrix.bundle.wheel import ProjectMetadata, rewrite, write_project_wheel, zstd_zipfile
from matrix.checks.resolution.resolver import uv
from matrix.errors import MatrixError


def code(arch: int, size: int = 24) -> bytes:
    return bytes([arch]) * size


def library(section: str, *codes: tuple[int, int]) -> bytes:
    """Return an ELF file whose section holds a fatbin of machine code: (architecture, size)."""
    body = b"".join(
        struct.pack("<HHIQ12xI", 2, 0x101, 64, size, arch).ljust(64, b"\x11") + code(arch, size)
        for arch, size in codes
    )
    content = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body
    names = b"\0" + section.encode() + b"\0"
    table = 64 + len(content) + len(names)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    rows = [
        struct.pack("<IIQQQQIIQQ", *[0] * 10),
        struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 64, len(content), 0, 0, 1, 0),
        struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 64 + len(content), len(names), 0, 0, 1, 0),
    ]
    return head + content + names + b"".join(rows)


LIBRARY = library(".nv_fatbin", (80, 1 << 17), (90, 1 << 10))
HOST_ONLY = library(".text", (80, 1 << 17))


def write_wheel(path: Path, files: dict[str, bytes]) -> Path:
    rows = [[name, _hash(content), str(len(content))] for name, content in files.items()]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([*rows, ["a-1.dist-info/RECORD", "", ""]])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o755 << 16
            archive.writestr(info, content)
        archive.writestr("a-1.dist-info/RECORD", text.getvalue())
    return path


def _hash(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return f"sha256={digest.rstrip(b'=').decode()}"


def test_a_wheel_keeps_one_chip_and_a_true_record(tmp_path: Path) -> None:
    files = {
        "a/lib.so.1": LIBRARY,
        "a/__init__.py": b"x = 1\n",
        "a-1.dist-info/METADATA": b"Name: a\n",
    }
    wheel = write_wheel(tmp_path / "a-1-py3-none-any.whl", files)
    pruned = rewrite(wheel, 90)
    assert pruned is not None
    assert (pruned.kept, pruned.dropped) == (1 << 10, 1 << 17)
    assert wheel.stat().st_size < len(LIBRARY) // 50
    with zipfile.ZipFile(wheel) as archive:
        assert {*archive.namelist()} == {*files, "a-1.dist-info/RECORD"}
        found = archive.read("a/lib.so.1")
        assert (len(found), found.count(code(80)), code(90) in found) == (len(LIBRARY), 0, True)
        assert archive.getinfo("a/lib.so.1").external_attr >> 16 == 0o755
        rows = list(csv.reader(archive.read("a-1.dist-info/RECORD").decode().splitlines()))
        for name, digest, size in rows[:-1]:
            content = archive.read(name)
            assert (digest, size) == (_hash(content), str(len(content)))
        assert rows[-1] == ["a-1.dist-info/RECORD", "", ""]
    assert [path.name for path in tmp_path.iterdir()] == [wheel.name]


def test_a_wheel_with_nothing_to_drop_is_not_touched(tmp_path: Path) -> None:
    plain = {"a/lib.so": HOST_ONLY, "a/data.bin": LIBRARY}
    wheel = write_wheel(tmp_path / "a-1-py3-none-any.whl", plain)
    before = wheel.read_bytes()
    assert rewrite(wheel, 90) is None
    assert wheel.read_bytes() == before


def test_the_same_wheel_is_rewritten_to_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        wheel = write_wheel(tmp_path / name / "a-1-py3-none-any.whl", {"a/lib.so": LIBRARY})
        rewrite(wheel, 90)
        digests.add(digest_of(wheel))
    assert len(digests) == 1


def test_a_wheel_is_packed_again_with_zstandard(tmp_path: Path) -> None:
    if sys.version_info < (3, 14):
        pytest.importorskip("backports.zstd", reason="the extra `bundle` installs it")
    text = b"one line and another\n" * 5000
    files = {
        "a/lib.so": LIBRARY,
        "a/data": text,
        "a-1.dist-info/METADATA": b"Metadata-Version: 2.1\nName: a\nVersion: 1\n",
        "a-1.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    wheel = write_wheel(tmp_path / "a-1-py3-none-any.whl", files)
    before = wheel.stat().st_size
    assert rewrite(wheel, None, repack=True) == Pruned()
    assert wheel.stat().st_size < before // 10
    with zstd_zipfile().ZipFile(wheel) as archive:
        assert archive.testzip() is None
        assert archive.read("a/lib.so") == LIBRARY
        assert archive.read("a/data") == text
        assert {info.compress_type for info in archive.infolist()} == {93}
        assert archive.getinfo("a/lib.so").external_attr >> 16 == 0o755
    folder = tmp_path / "installed"
    environ = {**os.environ, "UV_CACHE_DIR": str(tmp_path / "cache")}
    command = [*uv(), "pip", "install", "-q", "--offline", "--no-deps", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], env=environ, check=True)
    assert (folder / "a" / "data").read_bytes() == text


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="zipfile packs with Zstandard itself")
def test_what_packs_with_zstandard_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "backports.zstd.zipfile", None)
    with pytest.raises(MatrixError, match=r"pip install 'torch-vllm-matrix\[bundle\]'"):
        zstd_zipfile()


def test_what_is_no_wheel_is_named(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    wheel.write_bytes(b"not a zip file")
    with pytest.raises(MatrixError, match=r"a-1-py3-none-any\.whl: is not a wheel"):
        rewrite(wheel, 90)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("a/lib.so", LIBRARY)
    before = wheel.read_bytes()
    with pytest.raises(MatrixError, match="no RECORD"):
        rewrite(wheel, 90)
    assert wheel.read_bytes() == before


def test_the_project_has_a_wheel_of_its_metadata(tmp_path: Path) -> None:
    points = {"console_scripts": {"m": "m.cli:main"}, "vllm.platform_plugins": {"p": "m.p:f"}}
    wheel = write_project_wheel(
        tmp_path,
        ProjectMetadata(
            name="a-b",
            version="1.0",
            requires_python=">=3.10",
            dependencies=("packaging>=26.3", "tomli>=2; python_version < '3.11'"),
            entry_points=points,
        ),
    )
    assert wheel.name == "a_b-1.0-py3-none-any.whl"
    (found,) = distributions(path=[str(wheel)])
    metadata = found.metadata
    assert (metadata["Name"], metadata["Version"]) == ("a-b", "1.0")
    assert metadata["Requires-Python"] == ">=3.10"
    assert found.requires == ["packaging>=26.3", "tomli>=2; python_version < '3.11'"]
    assert {(point.group, point.name, point.value) for point in found.entry_points} == {
        ("console_scripts", "m", "m.cli:main"),
        ("vllm.platform_plugins", "p", "m.p:f"),
    }
    with zipfile.ZipFile(wheel) as archive:
        rows = list(csv.reader(archive.read("a_b-1.0.dist-info/RECORD").decode().splitlines()))
        assert {row[0] for row in rows} == {*archive.namelist()}
        for name, digest, size in rows[:-1]:
            content = archive.read(name)
            assert (digest, size) == (_hash(content), str(len(content)))
