"""Members of an archive are written below a folder, whatever the archive has and Python offers."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix._util.archives import BAD_ARCHIVE, unpack_member

Item = tuple[str, bytes, str]  # a name, a type of tarfile, where a link leads


def unpack_all(path: Path, to: Path, *items: Item) -> None:
    with tarfile.open(path, "w") as archive:
        for name, kind, link in items:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            info.mode = 0o755 if name.endswith(".sh") else 0o644
            info.size = 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"new") if info.size else None)
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            unpack_member(archive, member, to)


@pytest.fixture(params=["with the filter", "without the filter"])
def to(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "without the filter":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python has no filter `data`")
    folder = tmp_path / "to"
    folder.mkdir()
    return folder


def test_files_folders_and_links_inside(to: Path, tmp_path: Path) -> None:
    unpack_all(
        tmp_path / "a.tar",
        to,
        ("v/docs", tarfile.DIRTYPE, ""),
        ("/v/tools/run.sh", tarfile.REGTYPE, ""),
        ("v/a.py", tarfile.REGTYPE, ""),
        ("v/docs/a.py", tarfile.SYMTYPE, "../a.py"),
    )
    assert (to / "v/docs/a.py").read_bytes() == b"new"
    assert (to / "v/docs/a.py").is_symlink()
    assert os.access(to / "v/tools/run.sh", os.X_OK)
    assert not os.access(to / "v/a.py", os.X_OK)


@pytest.mark.parametrize(
    "items",
    [
        [("../out", tarfile.REGTYPE, "")],
        [("v/../../out", tarfile.REGTYPE, "")],
        [("v", tarfile.SYMTYPE, "/etc")],
        [("v/link", tarfile.SYMTYPE, "../../out")],
        [("a", tarfile.SYMTYPE, "."), ("b", tarfile.SYMTYPE, "a/../..")],
        [("v/pipe", tarfile.FIFOTYPE, "")],
        [("v/disk", tarfile.BLKTYPE, "")],
    ],
)
def test_a_member_that_leads_out_or_is_a_device(
    to: Path, tmp_path: Path, items: list[Item]
) -> None:
    with pytest.raises(tarfile.TarError):
        unpack_all(tmp_path / "a.tar", to, *items)
    assert not (tmp_path / "out").exists()


def test_a_file_replaces_a_link_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tarfile, "data_filter", raising=False)  # it writes through such a link
    to = tmp_path / "to"
    to.mkdir()
    unpack_all(
        tmp_path / "a.tar",
        to,
        ("a", tarfile.REGTYPE, ""),
        ("b", tarfile.SYMTYPE, "a"),
        ("b", tarfile.REGTYPE, ""),
    )
    assert not (to / "b").is_symlink()


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "out"]), min_size=1, max_size=4).map(
    "/".join
)
KINDS = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)


@given(items=st.lists(st.tuples(NAMES, KINDS, NAMES), max_size=6))
def test_nothing_is_written_outside(
    tmp_path_factory: pytest.TempPathFactory, items: list[Item]
) -> None:
    place = tmp_path_factory.mktemp("any")
    folder = place / "in/to"
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(tarfile, "data_filter", raising=False)
        try:
            unpack_all(place / "a.tar", folder, *items)
        except (*BAD_ARCHIVE, OSError):
            pass
    assert {path.name for path in place.iterdir()} == {"a.tar", "in"}
    assert list((place / "in").iterdir()) == [folder]
    for path in folder.rglob("*"):
        try:
            path.stat()
        except OSError as error:
            if error.errno == errno.ELOOP:  # it leads nowhere
                continue
        real = Path(os.path.realpath(path))
        assert real == folder or folder in real.parents
