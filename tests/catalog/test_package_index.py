"""A package index: which one is asked, what it lists, and every way in which it fails."""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from matrix.catalog.index import FetchError, Index, read_members
from matrix.catalog.index_config import IndexAddressError, certificates, index_address
from matrix.catalog.published_file import PublishedFile
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from local_index import Served

WHEEL = "torch-2.10.0-cp312-cp312-manylinux_2_28_x86_64.whl"
METADATA = "Metadata-Version: 2.1\nName: torch\nVersion: 2.10.0\n"
INFO = "torch-2.10.0.dist-info/METADATA"
TRIES = 3


@pytest.fixture
def index(served: Served) -> Iterator[Index]:
    client = Index(served.url, tries=TRIES, backoff=0)
    yield client
    client.close()


def only(index: Index, project: str = "torch") -> PublishedFile:
    (file,) = index.files(project)
    return file


def fault(index: Index, file: PublishedFile, folder: Path) -> str:
    """Why a file cannot be fetched; nothing of it may be left."""
    with pytest.raises(FetchError) as caught:
        index.fetch(file, folder)
    assert list(folder.iterdir()) == []
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("as_html", [False, True])
@pytest.mark.parametrize("relative", [False, True])
def test_the_files_of_a_project(
    served: Served, index: Index, as_html: bool, relative: bool
) -> None:
    served.as_html = as_html
    content = served.wheel({INFO: METADATA})
    python = ">=3.9,<3.13"
    served.add("torch", WHEEL, content, requires_python=python, yanked="broken", relative=relative)
    served.add("torch", "torch-2.10.0.tar.gz", pep658=METADATA, yanked=True)
    served.add("torch", "torch-2.10.0.exe")
    served.add("torch", "torchvision-2.10.0-py3-none-any.whl")
    wheel, sdist = index.files("torch")
    assert (wheel.project, wheel.version, wheel.filename) == ("torch", "2.10.0", WHEEL)
    assert wheel.sha256 == hashlib.sha256(content).hexdigest()
    assert wheel.requires_python == python
    assert wheel.url == f"{served.url[:-8]}/files/{WHEEL}"
    assert (wheel.yanked, sdist.yanked) == (
        "broken",
        "True" if as_html else "no reason given",
    )
    assert (wheel.is_wheel, sdist.is_wheel) == (True, False)
    assert (wheel.has_metadata, sdist.has_metadata) == (False, True)
    if as_html:
        assert (wheel.size, wheel.uploaded) == (None, None)
    else:
        assert wheel.size == len(content)
        assert wheel.uploaded is not None and wheel.uploaded.isoformat()[:10] == "2026-03-01"


def test_a_project_that_is_not_there(index: Index) -> None:
    with pytest.raises(FetchError, match=r"^torch: is not on the index http\S+ \(404\)"):
        index.files("torch")


@pytest.mark.parametrize(
    "page",
    [
        ("text/plain", "hello"),
        ("application/vnd.pypi.simple.v1+json", "{"),
        ("application/vnd.pypi.simple.v1+json", '{"files": []}'),
        ("application/vnd.pypi.simple.v1+json", '{"meta": {"api-version": "2.0"}}'),
        ("text/html", '<meta name="pypi:repository-version" content="2.0">'),
    ],
)
def test_what_is_no_page_of_an_index(served: Served, index: Index, page: tuple[str, str]) -> None:
    served.pages["torch"] = page
    with pytest.raises(FetchError, match=r"^torch: [^\n]+$") as caught:
        index.files("torch")
    assert "--index" in str(caught.value) or "no JSON" in str(caught.value)


def test_an_index_that_is_busy_is_asked_again(served: Served, index: Index) -> None:
    served.add("torch", WHEEL)
    served.faults["/simple/torch/"] = [(429, {"Retry-After": "0"}), 503]
    assert only(index).filename == WHEEL
    assert len(served.asked) == TRIES


@pytest.mark.parametrize(
    ("status", "said", "asked"),
    [
        (429, "answers 429 Too Many Requests, 3 times", TRIES),
        (403, "answers 403 Forbidden; put a user with access into ~/.netrc", 1),
    ],
)
def test_an_index_that_refuses_is_named(
    served: Served, index: Index, status: int, said: str, asked: int
) -> None:
    served.faults["/simple/torch/"] = [status] * 9
    with pytest.raises(FetchError, match=rf"^torch: the index http\S+: {said}$"):
        index.files("torch")
    assert len(served.asked) == asked


def test_an_index_that_does_not_answer_is_named() -> None:
    nobody = Index("http://127.0.0.1:9/simple", tries=1)
    with pytest.raises(FetchError, match=r"^torch: the index \S+: does not answer \(.+refused"):
        nobody.files("torch")
    nobody.close()


def test_an_address_that_is_none() -> None:
    with pytest.raises(FetchError, match=r"'file:///here' is not an http\(s\) address"):
        Index("file:///here")


def test_a_password_goes_to_the_index_only_and_into_no_message(served: Served) -> None:
    address = served.url.replace("http://", "http://me:secret@")
    index = Index(address, tries=1, backoff=0)
    with pytest.raises(FetchError) as caught:
        index.files("torch")
    assert "secret" not in str(caught.value)
    served.add("torch", WHEEL)
    served.add("torch", WHEEL, url="http://elsewhere.example/x.whl")
    here, there = index.files("torch")
    assert served.users[-1] is not None and served.users[-1].startswith("Basic ")
    assert here.url.startswith("http://me:secret@127.") and "secret" not in there.url
    index.close()


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypi_simple", None)
    with pytest.raises(MatrixError, match=r"pip install 'torch-vllm-matrix\[index\]'$"):
        Index("http://127.0.0.1")


def test_a_file_is_fetched_whole_and_once(served: Served, index: Index, tmp_path: Path) -> None:
    path = served.add("torch", WHEEL, b"x" * 3_000_000)
    file = only(index)
    for _ in range(2):
        assert index.fetch(file, tmp_path) == tmp_path / WHEEL
    assert (tmp_path / WHEEL).read_bytes() == b"x" * 3_000_000
    assert [entry.name for entry in tmp_path.iterdir()] == [WHEEL]
    assert [requested for requested, _ in served.asked].count(path) == 1


@pytest.mark.parametrize("ranges", [False, True])
def test_a_half_file_goes_on_or_begins_again(
    served: Served, index: Index, tmp_path: Path, ranges: bool
) -> None:
    served.ranges = ranges
    content = bytes(range(256)) * 4096
    path = served.add("torch", WHEEL, content)
    served.faults[path] = ["half", "half"]
    assert index.fetch(only(index), tmp_path).read_bytes() == content
    half, more = len(content) // 2, len(content) * 3 // 4
    asked = [part for requested, part in served.asked if requested == path]
    assert asked == [None, f"bytes={half}-", f"bytes={more if ranges else half}-"]
    assert served.sent >= len(content)


@pytest.mark.parametrize("as_html", [False, True])
def test_a_file_that_is_always_half(
    served: Served, index: Index, tmp_path: Path, as_html: bool
) -> None:
    served.as_html = as_html
    path = served.add("torch", WHEEL, b"x" * 1000)
    served.faults[path] = ["half"] * 9
    of = "its" if as_html else "1000"
    said = fault(index, only(index), tmp_path)
    assert re.fullmatch(
        rf"{WHEEL}: only \d+ of {of} bytes came, in 3 tries \(Connection.+\); .+", said
    )


def test_a_wrong_hash(served: Served, index: Index, tmp_path: Path) -> None:
    path = served.add("torch", WHEEL, b"right")
    served.contents[path] = b"wrong"
    wrong = hashlib.sha256(b"wrong").hexdigest()
    assert fault(index, only(index), tmp_path).startswith(f"{WHEEL}: its sha256 is {wrong}, and")


def test_a_file_that_is_larger_than_said(served: Served, index: Index, tmp_path: Path) -> None:
    path = served.add("torch", WHEEL, b"right")
    served.contents[path] = b"right and more"
    assert "larger than the 5 bytes" in fault(index, only(index), tmp_path)


def test_a_file_without_a_hash(served: Served, index: Index, tmp_path: Path) -> None:
    served.add("torch", WHEEL, b"x", hashes={})
    assert "gives no sha256" in fault(index, only(index), tmp_path)


def test_a_file_that_is_not_there(served: Served, index: Index, tmp_path: Path) -> None:
    del served.contents[served.add("torch", WHEEL, b"x")]
    assert fault(index, only(index), tmp_path) == (
        f"{WHEEL}: answers 404 Not Found; it does not exist: name another"
    )


@pytest.mark.parametrize("name", ["../x.whl", "a\\x.whl", ".x.whl", "/etc/x.whl"])
def test_a_name_that_leaves_the_folder(index: Index, tmp_path: Path, name: str) -> None:
    file = PublishedFile(
        project="torch", version="1", filename=name, url=f"{index.url}x", sha256="0" * 64
    )
    assert "is not the name of a file" in fault(index, file, tmp_path)


def test_a_folder_that_cannot_be_written(served: Served, index: Index, tmp_path: Path) -> None:
    served.add("torch", WHEEL, b"x")
    with pytest.raises(FetchError, match=r"none: cannot be written \(No such file"):
        index.fetch(only(index), tmp_path / "none")


def test_who_is_stopped_fetches_nothing(served: Served, index: Index, tmp_path: Path) -> None:
    served.add("torch", WHEEL, b"x")
    file = only(index)
    index.stop()
    assert "stopped" in fault(index, file, tmp_path)


def test_metadata_that_is_served_beside_its_file(served: Served, index: Index) -> None:
    path = served.add("torch", WHEEL, b"never asked for", pep658=METADATA)
    assert index.metadata(only(index)) == METADATA
    assert [requested for requested, _ in served.asked] == ["/simple/torch/", f"{path}.metadata"]


def test_metadata_with_a_wrong_hash(served: Served, index: Index) -> None:
    path = served.add("torch", WHEEL, b"", pep658=METADATA)
    served.contents[f"{path}.metadata"] = b"other"
    with pytest.raises(FetchError, match=rf"^{WHEEL}\.metadata: its sha256 is .+; not read$"):
        index.metadata(only(index))


def test_metadata_that_is_promised_and_not_there(served: Served, index: Index) -> None:
    path = served.add("torch", WHEEL, served.wheel({INFO: METADATA}), pep658=METADATA)
    del served.contents[f"{path}.metadata"]
    assert index.metadata(only(index)) == METADATA


@pytest.mark.parametrize("ranges", [False, True])
def test_metadata_in_a_wheel(served: Served, index: Index, ranges: bool) -> None:
    served.ranges = ranges
    # What does not pack stands before the metadata, as in a real wheel.
    ballast = hashlib.shake_256(b"").digest(2_000_000)
    content = served.wheel({"torch/lib/libtorch.so": ballast, INFO: METADATA})
    served.add("torch", WHEEL, content)
    file = only(index)
    before = served.sent
    assert index.metadata(file) == METADATA
    assert (served.sent - before < 200_000) == ranges


def test_a_server_whose_parts_are_no_archive_is_asked_for_the_whole(
    served: Served, index: Index
) -> None:
    served.ranges = True
    path = served.add("torch", WHEEL, served.wheel({INFO: METADATA}))
    file = only(index)
    served.faults[path] = [206, (206, {"Content-Range": "what"})]
    assert index.metadata(file) == METADATA
    assert served.asked[-1] == (path, None)


def test_metadata_of_a_source_distribution(served: Served, index: Index) -> None:
    content = served.sdist("torch-2.10.0", {"a/PKG-INFO": "no", "PKG-INFO": METADATA, "x": "y"})
    served.add("torch", "torch-2.10.0.tar.gz", content)
    assert index.metadata(only(index)) == METADATA


def test_a_file_without_metadata(served: Served, index: Index) -> None:
    served.add("torch", WHEEL, served.wheel({"a": "b"}))
    with pytest.raises(FetchError, match=f"^{WHEEL}: contains no metadata"):
        index.metadata(only(index))


def nameless_zip() -> bytes:
    """Return a zip whose member has a name that begins with NUL, where zipfile ends it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("name", b"")
    return file.getvalue().replace(b"name", b"\0ame")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.whl", b"no zip"),
        ("b.whl", nameless_zip()),
        ("a.tar.gz", b"no tar"),
        ("a.tar.gz", None),
    ],
)
def test_an_archive_that_cannot_be_read(
    served: Served, tmp_path: Path, name: str, content: bytes | None
) -> None:
    whole = served.sdist("a", {"PKG-INFO": METADATA * 1000})
    (tmp_path / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(FetchError, match=rf"^{name}: is not an archive that can be read \(.+\)$"):
        read_members(tmp_path / name, lambda _: True)


def test_a_member_that_is_too_large_or_no_text(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    path.write_bytes(served.wheel({"large": bytes(9 << 20), "binary": b"\xff"}))
    with pytest.raises(FetchError, match=r"^a\.whl: large: is larger than 8 MiB"):
        read_members(path, lambda name: name == "large")
    with pytest.raises(FetchError, match=r"^a\.whl: binary: is not text"):
        read_members(path, lambda name: name == "binary")


def test_a_link_in_a_source_distribution_is_not_followed(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("a/PKG-INFO")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    (tmp_path / "a.tar.gz").write_bytes(out.getvalue())
    assert read_members(tmp_path / "a.tar.gz", lambda _: True) == {}


NONE = {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}


PIP, UV = "https://pip.example/simple", "https://uv.example/simple"


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, None),
        ({"PIP_INDEX_URL": PIP}, PIP),
        ({"PIP_INDEX_URL": PIP, "UV_INDEX_URL": UV}, UV),
        ({"UV_INDEX_URL": PIP, "UV_DEFAULT_INDEX": UV}, UV),
        ({"UV_DEFAULT_INDEX": f"mine={UV}"}, UV),
        ({"UV_DEFAULT_INDEX": f"{UV}?a=b"}, f"{UV}?a=b"),
        ({"UV_DEFAULT_INDEX": " ", "PIP_INDEX_URL": PIP}, PIP),
    ],
)
def test_the_environment_names_an_index(environ: dict[str, str], address: str | None) -> None:
    assert index_address({**NONE, **environ}) == address


def test_pips_files_name_an_index_and_the_last_one_counts(tmp_path: Path) -> None:
    user, named = tmp_path / "config" / "pip" / "pip.conf", tmp_path / "named.conf"
    user.parent.mkdir(parents=True)
    user.write_text(f"[global]\nindex-url = {PIP}\ncert = /user.pem\n[install]\nindex-url = no\n")
    environ = {
        "UV_NO_CONFIG": "1",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CONFIG_DIRS": str(tmp_path / "none"),
        "VIRTUAL_ENV": str(tmp_path / "none"),
    }
    assert index_address(environ) == PIP
    assert certificates(environ) == "/user.pem"
    named.write_text(f"[global]\nindex-url = {UV}?100%\n")
    environ["PIP_CONFIG_FILE"] = str(named)
    assert index_address(environ) == f"{UV}?100%"
    assert certificates(environ) == "/user.pem"
    assert certificates({**environ, "SSL_CERT_FILE": "/ssl.pem"}) == "/ssl.pem"
    assert certificates({**environ, "SSL_CERT_FILE": "/ssl", "PIP_CERT": "/pip"}) == "/pip"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", None),
        (f'index-url = "{UV}"', UV),
        (f'[pip]\nindex-url = "{UV}"', UV),
        (f'[[index]]\nurl = "{PIP}"\n[[index]]\nurl = "{UV}"\ndefault = true', UV),
        (f'[[index]]\nurl = "{PIP}"', None),
        ("index = 1\npip = 2", None),
    ],
)
def test_uv_toml_names_an_index(tmp_path: Path, text: str, address: str | None) -> None:
    (tmp_path / "uv.toml").write_text(text)
    environ = {"PIP_CONFIG_FILE": os.devnull, "XDG_CONFIG_HOME": str(tmp_path / "none")}
    assert index_address({**environ, "UV_CONFIG_FILE": str(tmp_path / "uv.toml")}) == address
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert index_address(environ, below) == address
    assert index_address({**environ, "UV_NO_CONFIG": "1"}, below) is None


@pytest.mark.parametrize("name", ["UV_CONFIG_FILE", "PIP_CONFIG_FILE"])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    bad = tmp_path / "bad"
    bad.write_text("no = = config")
    with pytest.raises(IndexAddressError, match=r"bad: cannot be read \(.+\); correct it$"):
        index_address({"PIP_CONFIG_FILE": os.devnull, "HOME": str(tmp_path), name: str(bad)})


def test_a_server_that_hangs_is_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matrix.catalog.index._TIMEOUT", (5.0, 0.1))
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        index = Index(f"http://127.0.0.1:{server.getsockname()[1]}/", backoff=0.0)
        with pytest.raises(FetchError, match="does not answer"):
            index.files("torch")
        index.close()
        server.setblocking(False)
        server.accept()[0].close()
        server.accept()[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()
