"""matrix.bundle.build: a bundle of small wheels, made and run without a network."""

import contextlib
import importlib.util
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata, resources
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest

from matrix._util import own_version
from matrix._util.files import digest_of
from matrix.bundle import build as bundles
from matrix.bundle.build import BundleRequest, make_bundle, refresh_bundle
from matrix.bundle.manifest import BundleError, faults, read_manifest
from matrix.bundle.plan import Have
from matrix.bundle.run import main as run_bundle
from matrix.catalog.cells import Cell
from matrix.catalog.releases_file import load_releases
from matrix.checks.resolution import resolver
from matrix.checks.resolution.lock import Pinned, Target
from matrix.errors import MatrixError
from matrix.run.environment import left_out_by_bundle

ROOT = Path(__file__).parents[2]
PYTHON = ".".join(map(str, sys.version_info[:2]))
CELL = Cell(PYTHON, "2.9.1", "0.16.0")
TARGET = Target(python=PYTHON)
# What the target has: this Python's own.
HAVE = tuple(Have(name=name, version=metadata.version(name)) for name in ("packaging", "pytest"))


def write_wheel(
    folder: Path, name: str, version: str, needs: Sequence[str] = (), **files: str
) -> None:
    stem = f"{name}-{version}"
    lines = [f"Requires-Dist: {requirement}" for requirement in needs]
    text = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines, ""])
    content = {
        f"{stem}.dist-info/METADATA": text,
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        f"{name}.py": f"version = {version!r}\n",
        **{f"{stem}.data/scripts/{file}": script for file, script in files.items()},
    }
    rows = "".join(f"{path},,\n" for path in [*content, f"{stem}.dist-info/RECORD"])
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        for path, text_of_path in {**content, f"{stem}.dist-info/RECORD": rows}.items():
            archive.writestr(path, text_of_path)


def pinned(name: str, *hashes: str) -> Pinned:
    return Pinned(name=name, version="1", hashes=frozenset(hashes), via=frozenset())


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder of wheels, the only place where uv looks."""
    folder = tmp_path / "index"
    folder.mkdir()
    write_wheel(folder, "torch", "2.9.1", ["triton"])
    write_wheel(folder, "torchvision", "0.24.1", ["torch"])
    write_wheel(folder, "torchaudio", "2.9.1", ["torch"])
    write_wheel(folder, "triton", "3.5.1")
    write_wheel(folder, "vllm", "0.16.0", ["torch==2.9.1", "ray"])
    write_wheel(folder, "ray", "2.0", ["cupy"])
    write_wheel(folder, "cupy", "1.0")
    for had in HAVE:
        write_wheel(folder, had.name, had.version)
    if sys.version_info < (3, 11):
        write_wheel(folder, "tomli", "2.0")
    uv = resolver.uv()
    write_wheel(folder, "uv", "1.0", uv=f'#!/bin/sh\nexec {shlex.join(uv)} "$@"\n')
    # A checkout that the tests run from must not reach the environments that they make.
    monkeypatch.delenv("PYTHONPATH", raising=False)
    config = tmp_path / "index" / "uv.toml"
    config.write_text(f'no-index = true\nfind-links = ["{folder}"]\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(config))
    monkeypatch.setenv("UV_OFFLINE", "1")

    def copy(pinned: Sequence[Pinned], _: Target, into: Path) -> None:
        for distribution in pinned:
            shutil.copy(
                folder / f"{distribution.name}-{distribution.version}-py3-none-any.whl", into
            )

    monkeypatch.setattr(bundles, "fetch", copy)
    return folder


def run(
    bundle: Path, *arguments: str, cwd: Path, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Start the bundle's run.py as a person does."""
    clean = {
        key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")
    }
    return subprocess.run(
        [sys.executable, str(bundle / "run.py"), *arguments],
        cwd=cwd,
        env={**clean, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def run_here(bundle: Path, *arguments: str, work: Path) -> subprocess.CompletedProcess[str]:
    """Run the same in this process; return what the command printed that it would become."""
    started: list[subprocess.CompletedProcess[str]] = []

    def execve(command: str, argv: list[str], environ: dict[str, str]) -> None:
        done = subprocess.run(
            argv, executable=command, env=environ, capture_output=True, text=True, check=False
        )
        started.append(done)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(os, "execve", execve)
        status = run_bundle(["--work", str(work), *arguments], bundle)
    assert status == 2  # what follows execve, which does not return
    (done,) = started
    return subprocess.CompletedProcess(
        done.args, done.returncode, out.getvalue() + done.stdout, done.stderr
    )


@pytest.mark.programs
@pytest.mark.parametrize("split", [None, 50_000])
def test_a_bundle_is_made_and_runs(
    index: Path, tmp_path: Path, split: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    wanted = BundleRequest(
        cells=(CELL,),
        target=TARGET,
        gpu_arch="sm_90" if split else None,
        have=HAVE,
        without=("ray",),
        split=split,
    )
    make_bundle(wanted, load_releases(), out)
    text = (out / "bundle.json").read_text()
    schema = json.loads((resources.files("matrix") / "data" / "bundle.schema.json").read_text())
    jsonschema.validate(json.loads(text), schema)
    assert "://" not in text
    manifest = read_manifest(out)
    assert faults(manifest, out) == []
    cell = manifest.cells[CELL.name]
    assert cell.left_out == {"cupy": "1.0", "ray": "2.0"}
    named = {line.name for line in cell.lock}
    assert {"torch", "vllm", "triton", "torch-vllm-matrix"} <= named
    assert not {"pytest", "packaging", "ray"} & named
    assert "run it there" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    shutil.rmtree(index)
    # What the run itself refuses, it was reached for.
    asked = ("--timeout", "0")
    refusal = "'0' is not a number of seconds above 0"
    done = run_here(out, CELL.short_name, *asked, work=tmp_path / "w")
    assert done.returncode == 2
    assert refusal in done.stderr
    (home,) = (tmp_path / "w").iterdir()
    (environment,) = home.glob(f"{CELL.name}-*")
    assert left_out_by_bundle(environment) == {"cupy", "ray", *cell.have}
    program = (
        "import sys, os, pytest, torch, vllm, matrix, importlib.metadata as m;"
        "print(torch.version, m.version('torch-vllm-matrix'), os.path.dirname(matrix.__file__));"
        "print([e.value for e in m.entry_points(group='vllm.platform_plugins')])"
    )
    printed = subprocess.run(
        [environment / "bin" / "python", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.startswith(f"2.9.1 {own_version.version(ROOT)} {home / 'project' / 'matrix'}\n")
    assert "'matrix.inside.cpu_platform:activate'" in printed

    again = run_here(out, CELL.name, *asked, work=tmp_path / "w")
    assert refusal in again.stderr
    assert "installed already" in again.stdout
    (environment / "whole").unlink()
    (environment / "bin" / "matrix").unlink()
    repaired = run_here(out, CELL.name, *asked, work=tmp_path / "w")
    assert refusal in repaired.stderr
    assert "installing" in repaired.stdout


@pytest.mark.programs
def test_a_bundle_of_an_off_pin_cell_holds_its_torch(index: Path, tmp_path: Path) -> None:
    releases = load_releases()
    cell = Cell(PYTHON, "2.10.0", "0.16.0")
    for name, version in releases.companions(cell).items():
        write_wheel(index, name, version)
    make_bundle(BundleRequest(cells=(cell,), target=TARGET, have=HAVE), releases, tmp_path / "out")
    (made,) = read_manifest(tmp_path / "out").cells.values()
    lock = {line.name: line.version for line in made.lock}
    assert (made.name, lock["vllm"]) == (cell.name, "0.16.0")
    assert lock.items() >= releases.companions(cell).items()
    with pytest.raises(MatrixError, match=r"torch==2\.9\.1"):
        resolver.resolve(["vllm==0.16.0", "torch==2.10.0"], TARGET)


@pytest.mark.programs
def test_without_a_home_the_work_is_in_the_temporary_folder(index: Path, tmp_path: Path) -> None:
    make_bundle(
        BundleRequest(cells=(CELL,), target=TARGET, have=HAVE), load_releases(), tmp_path / "out"
    )
    run(tmp_path / "out", CELL.name, "--timeout", "0", cwd=tmp_path, TMPDIR=str(tmp_path))
    assert len(list((tmp_path / "torch-vllm-matrix").glob(f"bundle-*/{CELL.name}-*"))) == 1


@pytest.mark.programs
def test_a_damaged_wheel_is_not_installed(index: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_bundle(
        BundleRequest(cells=(CELL,), target=TARGET, have=HAVE, split=20_000), load_releases(), out
    )
    (out / "part-000").unlink()
    done = run(out, CELL.name, "--work", "w", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"matrix: {out / 'part-000'}: missing; copy it again\n"
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"have": (Have(name="torch", version="2.9.0"),)}, r"--have torch==2\.9\.0: does not fit"),
        ({"without": ("rya",)}, "--without rya: matches nothing"),
        ({"gpu_arch": "90"}, "write it as sm_90"),
        ({"cells": (Cell(PYTHON, "2.10.0", "0.19.1"),)}, "py3.*-torch210-vllm019: .*torch"),
    ],
)
def test_a_wish_that_cannot_be_is_one_line_and_leaves_nothing(
    index: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    wanted = BundleRequest(**{"cells": (CELL,), "target": TARGET, **change})  # type: ignore[arg-type]
    with pytest.raises(MatrixError, match=message) as raised:
        make_bundle(wanted, load_releases(), tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_folder_with_something_else_is_not_touched(index: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(MatrixError, match="is not empty and no bundle"):
        make_bundle(BundleRequest(cells=(CELL,), target=TARGET), load_releases(), tmp_path / "out")
    with pytest.raises(MatrixError, match="is a file"):
        make_bundle(
            BundleRequest(cells=(CELL,), target=TARGET), load_releases(), tmp_path / "out" / "mine"
        )
    assert (tmp_path / "out" / "mine").read_text() == "x"
    with pytest.raises(BundleError):
        read_manifest(tmp_path / "out")


@pytest.mark.programs
def test_an_older_bundle_gives_way(index: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_bundle(
        BundleRequest(cells=(CELL,), target=TARGET, have=HAVE, split=20_000), load_releases(), out
    )
    make_bundle(BundleRequest(cells=(CELL,), target=TARGET, have=HAVE), load_releases(), out)
    assert not list(out.glob("part-*"))
    assert faults(read_manifest(out), out) == []


@pytest.mark.programs
@pytest.mark.parametrize("split", [None, 20_000])
def test_the_project_alone_is_written_anew(index: Path, tmp_path: Path, split: int | None) -> None:
    out = tmp_path / "out"
    make_bundle(
        BundleRequest(cells=(CELL,), target=TARGET, have=HAVE, split=split), load_releases(), out
    )
    before = read_manifest(out)
    wheels = {part.name: part.stat().st_mtime_ns for part in out.rglob("part-*")}
    other = tmp_path / "other"
    for name in ("matrix", "tests/startup"):
        shutil.copytree(ROOT / name, other / name)
    (other / "matrix" / "more.py").write_text("y = 3\n")
    shutil.copy(ROOT / "pyproject.toml", other)
    (other / "PKG-INFO").write_text("Metadata-Version: 2.4\nVersion: 0.2.0\n")
    refresh_bundle(out, root=other)
    after = read_manifest(out)
    assert faults(after, out) == []
    assert after.files.keys() - before.files.keys() == {
        "project/matrix/more.py",
        "project/torch_vllm_matrix-0.2.0-py3-none-any.whl",
    }
    assert {part.name: part.stat().st_mtime_ns for part in out.rglob("part-*")} == wheels
    done = run_here(out, CELL.name, "--timeout", "0", work=tmp_path / "w")
    assert "is not a number of seconds above 0" in done.stderr
    (home,) = (tmp_path / "w").iterdir()
    assert (home / "project" / "matrix" / "more.py").is_file()
    with pytest.raises(MatrixError, match="is this a bundle"):
        refresh_bundle(other)


@pytest.mark.programs
def test_the_wheels_of_an_older_bundle_are_taken_again(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, wanted = (
        tmp_path / "old",
        tmp_path / "new",
        BundleRequest(cells=(CELL,), target=TARGET, have=HAVE),
    )
    make_bundle(wanted, load_releases(), old)
    fetched: list[str] = []
    copy = bundles.fetch

    def note(pinned: Sequence[Pinned], target: Target, into: Path) -> None:
        fetched.extend(distribution.name for distribution in pinned)
        copy(pinned, target, into)

    monkeypatch.setattr(bundles, "fetch", note)
    make_bundle(replace(wanted, reuse=old, split=50_000), load_releases(), new)
    assert fetched == ["uv"]
    assert faults(read_manifest(new), new) == []
    before, after = read_manifest(old), read_manifest(new)
    assert before.cells == after.cells
    assert all(
        before.files[line.wheel] == after.files[line.wheel] for line in after.cells[CELL.name].lock
    )

    for reuse, message in ((new, "is cut into parts"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(MatrixError, match=message):
            make_bundle(replace(wanted, reuse=reuse), load_releases(), tmp_path / "third")
    (old / before.cells[CELL.name].lock[0].wheel).write_bytes(b"damaged")
    with pytest.raises(MatrixError, match="missing or damaged"):
        make_bundle(replace(wanted, reuse=old), load_releases(), tmp_path / "third")


@pytest.mark.programs
def test_wheels_that_are_packed_again_keep_the_hash_of_the_index(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if sys.version_info < (3, 14):
        pytest.importorskip("backports.zstd", reason="the extra `bundle` installs it")
    out = tmp_path / "out"
    wanted = BundleRequest(cells=(CELL,), target=TARGET, have=HAVE, repack=True)
    make_bundle(wanted, load_releases(), out)
    manifest = read_manifest(out)
    assert faults(manifest, out) == []
    for name, file in manifest.files.items():
        if name.startswith("wheels/") and name != manifest.installer:
            assert file.published == digest_of(index / Path(name).name)
    assert " wheels rewritten, " in capsys.readouterr().out
    done = run_here(out, CELL.name, "--timeout", "0", work=tmp_path / "w")
    assert "is not a number of seconds above 0" in done.stderr


def test_without_uv_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MatrixError, match="pip install uv"):
        resolver.resolve(["vllm"], TARGET)
    with pytest.raises(MatrixError, match="has no pip"):
        bundles.fetch([pinned("a")], TARGET, Path())


@pytest.mark.programs
def test_pip_fetches_what_has_the_right_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pip")
    index, pool = tmp_path / "index", tmp_path / "pool"
    index.mkdir()
    pool.mkdir()
    write_wheel(index, "a", "1")
    (wheel,) = index.iterdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    digest = digest_of(wheel)
    bundles.fetch([pinned("a", digest)], TARGET, pool)
    assert (pool / wheel.name).read_bytes() == wheel.read_bytes()
    for name, hashes in (("a", "0" * 64), ("b", digest)):
        (pool / wheel.name).unlink(missing_ok=True)
        with pytest.raises(MatrixError, match="the wheels cannot be fetched"):
            bundles.fetch([pinned(name, hashes)], TARGET, pool)


def test_pip_gets_the_hashes_and_the_platforms_and_its_error_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = ModuleType("pip")
    pip.__spec__ = ModuleSpec("pip", None)
    monkeypatch.setitem(sys.modules, "pip", pip)
    started: list[list[str]] = []

    def run_pip(command: list[str]) -> subprocess.CompletedProcess[str]:
        started.append(command)
        lock = Path(command[command.index("-r") + 1])
        assert lock.read_text() == f"a==1 --hash=sha256:{'0' * 64} --hash=sha256:{'1' * 64}\n"
        error = "WARNING: slow\nERROR: No matching distribution found for a==1\n"
        return subprocess.CompletedProcess(command, 1, "", error)

    monkeypatch.setattr(bundles, "run_program", run_pip)
    with pytest.raises(MatrixError, match=r"fetched: ERROR: No matching distribution found for a"):
        bundles.fetch([pinned("a", "1" * 64, "0" * 64)], TARGET, tmp_path / "pool")
    assert list(tmp_path.iterdir()) == []
    (command,) = started
    platforms = [command[place + 1] for place, word in enumerate(command) if word == "--platform"]
    assert tuple(platforms) == TARGET.pip_platforms
    bundles.fetch([], TARGET, tmp_path / "pool")
    assert len(started) == 1
