"""matrix.bundle.run: reading and checking a bundle, and why a machine cannot run it."""

import dataclasses
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import CELL, FILES, item, run, write_bundle
from matrix.bundle import run as offline
from matrix.bundle.manifest import (
    BundleCell,
    BundleError,
    BundleItem,
    Manifest,
    faults,
    read_manifest,
)


@pytest.mark.parametrize("size", [0, 1000, 1 << 30])
def test_a_whole_bundle_has_no_faults(tmp_path: Path, size: int) -> None:
    bundle = write_bundle(tmp_path / "b", FILES, size)
    manifest = read_manifest(bundle)
    assert faults(manifest, bundle) == []
    assert bool(manifest.parts) is bool(size)


@given(st.lists(st.binary(max_size=3000), max_size=4), st.integers(700, 30_000))
def test_what_is_cut_is_joined_again(contents: list[bytes], size: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        files = {f"f/{number}": content for number, content in enumerate(contents)} or {"a": b""}
        bundle = write_bundle(Path(name, "b"), files, size)
        manifest = read_manifest(bundle)
        assert all(part.bytes == size for part in manifest.parts[:-1])
        assert 0 < manifest.parts[-1].bytes <= size
        offline._untar(manifest, bundle, Path(name, "out"))
        for path, content in files.items():
            assert Path(name, "out", path).read_bytes() == content


@pytest.mark.parametrize("size", [0, 2000])
def test_every_bad_file_is_named_and_nothing_is_made(
    tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "b", FILES, size)
    items = read_manifest(bundle)
    missing, short, damaged = [
        bundle / file.name for file in items.parts or tuple(items.files.values())
    ][:3]
    missing.unlink()
    short.write_bytes(short.read_bytes()[:-1])
    content = bytearray(damaged.read_bytes())
    content[1] ^= 1
    damaged.write_bytes(content)
    assert run(bundle, tmp_path / "work") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0] == f"matrix: {missing}: missing; copy it again"
    assert lines[1].startswith(f"matrix: {short}: cut short, ")
    assert lines[2].startswith(f"matrix: {damaged}: damaged")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"python": "3.1"}, "this bundle is for Python 3.1 and this is"),
        ({"machine": "s390x"}, "this bundle is for linux s390x"),
        ({"glibc": "9.1"}, "needs glibc 9.1 or newer"),
        (
            {"cells": {CELL: {"have": {"pytest": "0.1"}, "left_out": {}, "lock": []}}},
            "make a bundle without --have pytest==0.1",
        ),
        (
            {"cells": {CELL: {"have": {"no-such-thing": "1"}, "left_out": {}, "lock": []}}},
            "has no no-such-thing",
        ),
        ({"schema": 2}, "schema: 2 is not 1"),
        ({"files": []}, "is not a manifest (files: 'wheels/uv.whl' is missing)"),
        ({"files": [item("../a", b"")]}, "leaves the bundle"),
        ({"files": [item("/a", b"")]}, "leaves the bundle"),
        ({"cells": 3}, "is not a manifest"),
    ],
)
def test_a_bundle_for_another_machine_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "b", FILES, **change)
    assert run(bundle, tmp_path / "work") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], f"no cell named; this bundle contains {CELL}"),
        (["py399-torch29"], "cell 'py399-torch29' is not in this bundle"),
        (["--platform", "cpu", "-k", "dense"], "no cell named"),
    ],
)
def test_a_cell_that_is_not_there_is_refused(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "b", FILES)
    assert run(bundle, tmp_path / "work", arguments) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_argument_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert offline.main([CELL, "--work"], tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("matrix: --work: expected one argument; `")
    assert line.endswith(" --help` shows what it takes")


def test_a_cell_has_a_short_name_too(tmp_path: Path) -> None:
    manifest = read_manifest(write_bundle(tmp_path / "b", FILES))
    short = CELL.rpartition("-")[0]
    assert offline._chosen(manifest, ["--platform", "cpu", short]).name == CELL


@pytest.mark.parametrize("text", [b"[]", b"null", b"5", b'"x"'])
def test_a_manifest_that_is_not_an_object_is_called_that(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "bundle.json").write_bytes(text)
    with pytest.raises(BundleError, match="it is not a JSON object"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_manifest_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "bundle.json").write_bytes(text)
    with pytest.raises(BundleError, match=r"bundle\.json: is not a manifest"):
        read_manifest(tmp_path)
    with pytest.raises(BundleError, match="is this a bundle"):
        read_manifest(tmp_path / "none")


def test_parts_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", FILES, 4096)
    manifest = read_manifest(bundle)
    fewer = {name: file for name, file in manifest.files.items() if name != "project/a.py"}
    more = {**manifest.files, "b": BundleItem(name="b", bytes=1, sha256="")}
    for files, message in ((fewer, "which does not belong to them"), (more, "the parts lack b")):
        changed: Manifest = dataclasses.replace(manifest, files=files)
        with pytest.raises(BundleError, match=message):
            offline._untar(changed, bundle, tmp_path / message[:5])


def test_what_the_target_has_counts_by_its_public_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(write_bundle(tmp_path / "b", FILES))
    cell = BundleCell(name=CELL, lock=(), have={"torch": "2.11.0"}, left_out={})
    monkeypatch.setattr(offline, "_version_of", {"torch": "2.11.0+cu130"}.get)
    assert offline.unfit(manifest, cell) is None
    monkeypatch.setattr(offline, "_version_of", {"torch": "2.11.1"}.get)
    assert "has torch 2.11.1" in (offline.unfit(manifest, cell) or "")


def test_the_runner_needs_the_standard_library_alone() -> None:
    import ast

    sources = (Path(offline.__file__).with_name(name) for name in ("run.py", "manifest.py"))
    names = {
        name.partition(".")[0]
        for source in sources
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names <= {*sys.stdlib_module_names, "manifest", "matrix"}


@pytest.mark.parametrize("how", [("-S", "-E"), ("-I",)])
def test_the_runner_starts_where_nothing_of_this_project_is(
    tmp_path: Path, how: tuple[str, ...]
) -> None:
    bundle = write_bundle(tmp_path / "b", FILES)
    for name in ("run.py", "manifest.py"):
        shutil.copy(Path(offline.__file__).with_name(name), bundle)
    done = subprocess.run(
        [sys.executable, *how, str(bundle / "run.py"), "py399-torch29"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("matrix: cell 'py399-torch29' is not in this bundle")


class _Printed:
    """What was printed so far; `wait` returns once a text is there."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.text, self._capsys = "", capsys

    def wait(self, text: str) -> None:
        until = time.monotonic() + 60
        while text not in self.text:
            assert time.monotonic() < until, self.text
            self.text += self._capsys.readouterr().out
            time.sleep(0.01)


def test_nothing_is_silent_for_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "SILENCE", 0.02)
    free = iter([9 << 20, *[2 << 20] * 10**6])
    usage = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=next(free)))
    monkeypatch.setattr(offline, "shutil", usage)
    printed = _Printed(capsys)
    with offline.timed("installing 9 packages", tmp_path):
        printed.wait("installing 9 packages: 0 s, 7.0 MiB of disk so far ...")
    printed.wait(" s\n")
    first, *_, last = printed.text.splitlines()
    assert first == "matrix: installing 9 packages ... "
    assert re.fullmatch(r"matrix: installing 9 packages: .* so far \.\.\. in all [\d.]+ s", last)
    with pytest.raises(KeyError), offline.timed("unpacking"):
        raise KeyError


def test_it_prints_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "SILENCE", 0.02)
    done = iter(range(10**6))
    with offline.timed("rewriting", progress=lambda: f"{next(done)} of 9 MiB"):
        _Printed(capsys).wait("rewriting: 0 s, 2 of 9 MiB ...")


def test_what_is_short_takes_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with offline.timed("checking 9.0 MiB"):
        pass
    assert re.fullmatch(r"matrix: checking 9\.0 MiB \.\.\. [\d.]+ s\n", capsys.readouterr().out)


def test_a_run_says_that_it_waits_for_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entered = threading.Event()

    def enter() -> None:
        with offline._locked(tmp_path):
            entered.set()

    with offline._locked(tmp_path):
        thread = threading.Thread(target=enter)
        thread.start()
        said = f"waiting for another run that unpacks or installs in {tmp_path} ..."
        _Printed(capsys).wait(said)
        assert not entered.is_set()
    thread.join()
    assert entered.is_set()
