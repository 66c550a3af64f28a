"""Bundles whose hashes match and whose content is bad: a line, and nothing outside a folder."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import random
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import CELL, FILES, item, run, write_bundle
from matrix.bundle import run as offline
from matrix.bundle.manifest import BundleError, BundleItem, faults, read_manifest
from matrix.bundle.parts import Parts

LINE = {"name": "torch", "version": "2.11.0", "wheel": "wheels/a.whl"}
BUILD = {"name": "torch216rc1", "identity": "b" + "0" * 15, "version": "2.16.0rc1"}
WHOLE = {"have": {"numpy": "2.1"}, "left_out": {"pip": "1"}, "lock": [LINE]}


def refused(bundle: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the bundle, which ends in lines and with nothing beside its folders; return them."""
    before = sorted(bundle.parent.iterdir())
    assert run(bundle, work) == 2
    assert set(bundle.parent.iterdir()) - {work} == set(before) - {work}
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith("matrix: ") and line.isprintable() for line in lines)
    return "\n".join(lines)


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "/a",
        "a/../../b",
        "a\0b",
        "a\nb",
        "\x1b[31ma",
        "\ud800",
        "",
        ".",
        "a//b",
        "./a",
        "a" * 1001,
        3,
        None,
        ["a"],
        True,
    ],
)
def test_the_name_of_a_file_is_a_plain_path_below_the_bundle(
    tmp_path: Path, name: object, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "b", FILES)
    data = json.loads((bundle / "bundle.json").read_text())
    data["files"].append({**item("x", b""), "name": name})
    (bundle / "bundle.json").write_text(json.dumps(data))
    assert "bundle.json: is not a manifest" in refused(bundle, tmp_path / "work", capsys)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    "name",
    ["../../evil", "/evil", f"{CELL}/../../evil", f"{CELL}\n", f"{CELL}\0", "py311", "", "a" * 300],
)
def test_the_name_of_a_cell_reaches_no_path_before_it_is_looked_at(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "b", FILES, cells={CELL: WHOLE, name: WHOLE})
    assert "is not a manifest (cells: " in refused(bundle, tmp_path / "work", capsys)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    "line",
    [
        {**LINE, "name": "torch\n--index-url https://evil.example"},
        {**LINE, "version": "2.11.0 ; python_version > '3'"},
        {**LINE, "version": 2},
        {**LINE, "name": "-r"},
        {**LINE, "wheel": "wheels/none.whl"},
        {**LINE, "wheel": ["wheels/a.whl"]},
        {**LINE, "by_file": "yes"},
        {**LINE, "more": 1},
        {"name": "torch"},
        "torch==2.11.0",
        None,
    ],
)
def test_a_line_of_a_lock_has_its_form(
    tmp_path: Path, line: object, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "b", FILES, cells={CELL: {**WHOLE, "lock": [line]}})
    assert "is not a manifest" in refused(bundle, tmp_path / "work", capsys)


def _archive(folder: Path, member: tarfile.TarInfo, size: int = 1 << 20) -> list[BundleItem]:
    """Write the parts of an archive that holds the files, and one member more."""
    pieces = Parts(folder, size, "part")
    with tarfile.open(fileobj=pieces, mode="w|") as archive:  # type: ignore[call-overload]
        archive.addfile(member)
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return pieces.done()


def _parts(bundle: Path, parts: list[BundleItem]) -> None:
    data = json.loads((bundle / "bundle.json").read_text())
    data["parts"] = [
        {"name": part.name, "bytes": part.bytes, "sha256": part.sha256} for part in parts
    ]
    (bundle / "bundle.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
@pytest.mark.parametrize("name", ["wheels/uv.whl", "wheels", "../out", "x"])
def test_a_link_in_the_parts_is_refused(
    tmp_path: Path, kind: bytes, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "b", FILES, 1000)
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc"
    _parts(bundle, _archive(bundle, member))
    assert faults(read_manifest(bundle), bundle) == []
    said = refused(bundle, tmp_path / "work", capsys)
    assert f"the parts contain {name!r}, which does not belong to them" in said
    assert not list((tmp_path / "work").rglob("*.whl"))


def test_parts_that_hold_other_bytes_of_a_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "b", FILES, 1000)
    data = json.loads((bundle / "bundle.json").read_text())
    data["files"][2]["sha256"] = "0" * 64
    (bundle / "bundle.json").write_text(json.dumps(data))
    assert "the parts contain another project/a.py" in refused(bundle, tmp_path / "work", capsys)


@given(st.binary(max_size=3000))
def test_parts_that_are_no_archive_are_one_line(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        bundle = write_bundle(Path(name, "b"), FILES)
        (bundle / "part-000").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        _parts(bundle, [BundleItem(name="part-000", bytes=len(content), sha256=digest)])
        manifest = read_manifest(bundle)
        with pytest.raises(BundleError) as caught:
            offline._untar(manifest, bundle, Path(name, "out"))
        assert len(str(caught.value).splitlines()) == 1


def _wheel(members: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return held.getvalue()


def _damaged() -> bytes:
    content = bytearray(_wheel({"uv-1.data/scripts/uv": random.Random(0).randbytes(3000)}))
    content[200:1200] = b"\xff" * 1000
    return bytes(content)


def _encrypted() -> bytes:
    content = bytearray(_wheel({"uv-1.data/scripts/uv": b"x"}))
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + at] |= 1
    return bytes(content)


def _program(script: bytes) -> bytes:
    return _wheel({"uv-1.data/scripts/uv": b"#!/bin/sh\n" + script})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a wheel"),
        (b"not a zip", "is not a wheel"),
        (_wheel({}), "contains no uv"),
        (_program(b"exit 3"), "the packages cannot be"),
        (_wheel({"uv-1.data/scripts/uv": b"\0\1\2"}), "uv: Exec format error"),
        (
            _program(b"printf '\\377\\33[31m' >&2; exit 3"),
            "cannot be",
        ),
        (_program(b"exit 0"), "was not installed as"),
        (_damaged(), "is not a wheel"),
        (_encrypted(), "is not a wheel"),
    ],
    # The bytes of a wheel hold when it was made, which each process of the tests sees for itself.
    ids=(
        *("empty", "not a zip", "without uv", "exit 3", "not a program", "control characters"),
        *("nothing installed", "damaged", "encrypted"),
    ),
)
def test_an_installer_that_is_bad_is_named(
    tmp_path: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {**FILES, "wheels/uv.whl": content}
    bundle = write_bundle(tmp_path / "b", files)
    lines = refused(bundle, tmp_path / "work", capsys)
    assert said in lines and len(lines.splitlines()) == 1


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to nothing"])
def test_a_file_of_a_bundle_that_is_none_is_named(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "b", {**FILES, "wheels/empty": b""})
    for path in (bundle / "wheels" / "empty", bundle / "bundle.json"):
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to(os.devnull)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("nothing")
        assert f"{path}: " in refused(bundle, tmp_path / "work", capsys)
        assert not (tmp_path / "work").exists()


def test_what_lies_in_the_project_and_is_not_in_the_manifest_is_not_run(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", FILES)
    (bundle / "project" / "sitecustomize.py").write_text("evil")
    offline._copy_project(read_manifest(bundle), bundle, tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["a.py"]


def _keys(value: object, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the ways to all values of a JSON value."""
    items: list[tuple[Any, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [way, *(found for key, inner in items for found in _keys(inner, (*way, key)))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_a_manifest_in_which_anything_is_changed_is_read_or_refused_in_a_line(
    data: st.DataObject,
) -> None:
    """Whatever stands anywhere: no other error, and no name that leads out of a folder."""
    whole = {CELL: {**WHOLE, "candidates": {"torch": BUILD}}}
    with tempfile.TemporaryDirectory() as name:
        bundle = write_bundle(Path(name, "b"), FILES, cells=whole)
        manifest = json.loads((bundle / "bundle.json").read_text())
        changed = copy.deepcopy(manifest)
        *way, last = data.draw(st.sampled_from(_keys(manifest)[1:]))
        holder: Any = changed
        for key in way:
            holder = holder[key]
        change: Callable[[], None] = data.draw(
            st.sampled_from(
                [
                    lambda: holder.__setitem__(last, data.draw(JSON)),
                    lambda: holder.__delitem__(last),
                ]
            )
        )
        change()
        (bundle / "bundle.json").write_text(json.dumps(changed))
        with contextlib.suppress(BundleError):
            found = read_manifest(bundle)
            home = Path(name, "home")
            for cell in found.cells.values():
                assert (home / f"{cell.name}-12345678").parent == home
                for line in cell.lock:
                    text = offline._line(line, found, home)
                    assert text.count("\n") == 1 and text.startswith("torch")
            for part in (*found.parts, *found.files.values()):
                inside = (home / part.name).resolve().relative_to(home)
                assert inside.parts and part.name.isprintable()
            return
        try:
            read_manifest(bundle)
        except BundleError as error:
            assert len(str(error).splitlines()) == 1 and str(error).isprintable()
