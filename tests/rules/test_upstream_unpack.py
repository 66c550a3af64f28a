"""Upstream's tests come from a source distribution: fetched once, and nothing leads out of it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from matrix.catalog import index as index_module
from matrix.catalog.index import FetchError, Index
from matrix.errors import MatrixError
from matrix.rules.upstream import unpack
from matrix.rules.upstream.unpack import NOTE, copy_tests, fetch_tests, origin, unpack_tests

if TYPE_CHECKING:
    from local_index import Served

FILE = "tests/compile/test_small.py"
MEMBERS = {
    "PKG-INFO": "",
    "pyproject.toml": "[tool.pytest.ini_options]\n",
    "setup.py": "raise SystemExit",
    "vllm/__init__.py": "",
    "tests/__init__.py": "",
    FILE: "def test_small(): pass\n",
}


@pytest.fixture
def index(served: Served) -> Iterator[Index]:
    client = Index(served.url, tries=2, backoff=0)
    yield client
    client.close()


def archive(path: Path, *members: tarfile.TarInfo, content: bytes = b"x") -> Path:
    with tarfile.open(path, "w:gz") as sdist:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            sdist.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_only_tests_and_the_configuration_of_pytest_come_to_the_disk(
    served: Served, index: Index, tmp_path: Path
) -> None:
    content = served.sdist("vllm-0.19.1", MEMBERS)
    served.add("vllm", "vllm-0.19.1.tar.gz", content)
    folder = fetch_tests("0.19.1", index, tmp_path / "kept")
    assert folder == tmp_path / "kept" / "vllm-0.19.1"
    assert files(folder) == [NOTE, "pyproject.toml", "tests/__init__.py", FILE]
    named = origin(folder)
    assert named is not None and named[0] == "vllm-0.19.1.tar.gz" and len(named[1]) == 64
    assert [path.name for path in folder.parent.iterdir()] == ["vllm-0.19.1"]


def test_it_is_fetched_once_and_again_where_the_index_has_another(
    served: Served, index: Index, tmp_path: Path
) -> None:
    path = served.add("vllm", "vllm-0.19.1.tar.gz", served.sdist("vllm-0.19.1", MEMBERS))
    for _ in range(2):
        folder = fetch_tests("0.19.1", index, tmp_path)
    assert [address for address, _ in served.asked].count(path) == 1
    served.projects["vllm"].clear()
    changed = {**MEMBERS, FILE: "def test_other(): pass\n"}
    served.add("vllm", "vllm-0.19.1.tar.gz", served.sdist("vllm-0.19.1", changed))
    assert fetch_tests("0.19.1", index, tmp_path) == folder
    assert (folder / FILE).read_text() == "def test_other(): pass\n"


@pytest.mark.parametrize("name", [FILE, "pyproject.toml", "tests/conftest.py", "tests/__init__.py"])
def test_a_folder_whose_files_were_changed_is_of_nobody_and_is_fetched_again(
    served: Served, index: Index, tmp_path: Path, name: str
) -> None:
    served.add("vllm", "vllm-0.19.1.tar.gz", served.sdist("vllm-0.19.1", MEMBERS))
    folder = fetch_tests("0.19.1", index, tmp_path)
    (folder / "tests" / "link.py").symlink_to(__file__)
    (folder / "tests" / "__pycache__").mkdir()
    (folder / "tests" / "__pycache__" / "a.pyc").write_text("")
    known = origin(folder)
    assert known is not None  # none of these is copied
    (folder / name).write_text("changed = True\n")
    assert origin(folder) is None
    assert origin(fetch_tests("0.19.1", index, tmp_path)) == known
    (folder / FILE).unlink()
    assert origin(folder) is None


def test_a_release_without_a_source_distribution_is_one_line(
    served: Served, index: Index, tmp_path: Path
) -> None:
    served.add("vllm", "vllm-0.19.1-cp38-abi3-manylinux1_x86_64.whl", b"")
    with pytest.raises(
        MatrixError, match=r"vLLM 0.19.1: the index has no source .*--upstream-tests"
    ):
        fetch_tests("0.19.1", index, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "vllm-1/tests/../../out.py",
        "vllm-1/tests/../out.py",
        "vllm-1/tests/a\\..\\out.py",
        "vllm-1/tests/a\nb.py",
    ],
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    bad = archive(tmp_path / "bad.tar.gz", member("vllm-1/tests/a.py"), member(name))
    with pytest.raises(FetchError, match="leads out of its folder"):
        unpack_tests(bad, tmp_path / "in")
    assert not (tmp_path / "out.py").exists()


def test_an_absolute_name_does_not_come_to_the_disk(tmp_path: Path) -> None:
    target = tmp_path / "out.py"
    names = (
        f"/{target}",
        str(target),
        "../out.py",
        "vllm-1//tests/b.py",
        "vllm-1/.",
        "vllm-1",
        "/",
        ".",
    )
    good = archive(tmp_path / "x.tar.gz", member("vllm-1/tests/a.py"), *map(member, names))
    unpack_tests(good, tmp_path / "in")
    assert files(tmp_path / "in") == ["tests/a.py"] and not target.exists()


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text("secret")
    kinds = {
        "link.py": member("vllm-1/tests/link.py", tarfile.SYMTYPE, str(secret)),
        "hard.py": member("vllm-1/tests/hard.py", tarfile.LNKTYPE, "vllm-1/tests/a.py"),
        "pipe.py": member("vllm-1/tests/pipe.py", tarfile.FIFOTYPE),
        "folder": member("vllm-1/tests/folder", tarfile.SYMTYPE, str(tmp_path)),
    }
    below = member("vllm-1/tests/folder/through.py")
    all_of_it = archive(tmp_path / "x.tar.gz", member("vllm-1/tests/a.py"), *kinds.values(), below)
    unpack_tests(all_of_it, tmp_path / "in")
    assert files(tmp_path / "in") == ["tests/a.py", "tests/folder/through.py"]
    assert not (tmp_path / "through.py").exists() and secret.read_text() == "secret"


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = archive(tmp_path / "x.tar.gz", *(member("vllm-1/tests/a.py") for _ in range(2)))
    with pytest.raises(FetchError, match="appears twice"):
        unpack_tests(twice, tmp_path / "in")


@pytest.mark.parametrize("limit", ["_MEMBER", "_ALL", "_FILES", "_ARCHIVE"])
def test_what_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(unpack, limit, 1)
    names = (member(f"vllm-1/tests/{name}.py") for name in "ab")
    large = archive(tmp_path / "x.tar.gz", *names, content=b"1234")
    with pytest.raises(FetchError, match="not unpacked"):
        unpack_tests(large, tmp_path / "in")


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08cut"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    with pytest.raises(FetchError, match=r"x\.tar\.gz: (is not an archive|contains no tests)"):
        unpack_tests(path, tmp_path / "in")


def test_an_archive_without_tests_leaves_nothing(
    served: Served, index: Index, tmp_path: Path
) -> None:
    served.add("vllm", "vllm-0.19.1.tar.gz", served.sdist("vllm-0.19.1", {"PKG-INFO": ""}))
    with pytest.raises(FetchError, match="contains no tests"):
        fetch_tests("0.19.1", index, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_copy_has_no_link_and_its_own_configuration(tmp_path: Path) -> None:
    source = tmp_path / "by hand"
    (source / "tests").mkdir(parents=True)
    (source / "tests" / "a.py").write_text("")
    (source / "tests" / "link.py").symlink_to(index_module.__file__)
    copy_tests(source, tmp_path / "copy")
    assert files(tmp_path / "copy") == ["pyproject.toml", "tests/a.py"]


@pytest.mark.parametrize("text", ["", "[]", '{"file": 1, "sha256": "x"}', "[" * 100_000, "\x00"])
def test_a_note_that_is_none_says_that_nobody_knows(tmp_path: Path, text: str) -> None:
    assert origin(tmp_path) is None
    (tmp_path / NOTE).write_text(text)
    assert origin(tmp_path) is None
    (tmp_path / NOTE).write_text(json.dumps({"file": "a", "sha256": "b"}))
    assert origin(tmp_path) is None
    (tmp_path / NOTE).write_text(json.dumps({"file": "a", "sha256": "b", "files": {}}))
    assert origin(tmp_path) == ("a", "b")
