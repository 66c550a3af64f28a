"""The environments of cells: which may be removed, what they take, and what is said of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from matrix.catalog.cells import Cell
from matrix.report.run_progress import installing_words
from matrix.run.environments import (
    LINKED_MIB,
    WHOLE_MIB,
    Environments,
    EnvironmentsError,
    needs_mib,
    tox_folder,
    uv_cache,
)
from matrix.run.installing import Installing
from matrix.run.rerun import outer_environ
from matrix.run.task import Present
from waiting import wait_for

CELL = Cell("3.11", "2.10.0", "0.19.1")
NAME = CELL.name


@pytest.fixture
def found(tmp_path: Path) -> Environments:
    return Environments(folder=tmp_path / "tox", cache=tmp_path / "uv")


def make(found: Environments, name: str = NAME, *, whole: bool = True) -> Path:
    folder = found.folder / name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").write_bytes(b"x" * 5000)
    if whole:
        (folder / "lib/python3.11/site-packages/vllm-0.19.1.dist-info").mkdir(parents=True)
    return folder


def unpack(cache: Path, name: str, version: str, *, real: bool = True) -> None:
    folder = cache / "archive-v0" / f"{name}{version}{real}"
    (folder / f"{name}-{version}.dist-info").mkdir(parents=True)
    (folder / name).mkdir()
    if real:
        (folder / name / "_C.abi3.so").touch()


def test_an_environment_that_nobody_uses_is_there_and_goes(found: Environments) -> None:
    make(found)
    make(found, "py311-torch29-vllm016", whole=False)
    make(found, "unit")
    (found.folder / "py311-torch29-vllm016-x").mkdir()
    names = {NAME, "py311-torch29-vllm016"}
    assert found.present([*names, "py311-torch213-vllm032"]) == (
        Present(environment=NAME, disk_mib=1),
        Present(environment="py311-torch29-vllm016", disk_mib=1, usable=False),
    )
    assert found.cells() == names
    assert [item.disk_mib for item in found.present(names, sized=False)] == [0, 0]
    away = found.remove(NAME)
    assert away.is_dir() and not (found.folder / NAME).exists()
    found.sweep()
    assert not away.exists() and (found.folder / "unit").is_dir()


@pytest.mark.parametrize("by_tox", [True, False])
def test_an_environment_in_use_stays(found: Environments, tmp_path: Path, by_tox: bool) -> None:
    """A process whose program is in it uses it, and so does a tox that is to make it."""
    folder = make(found)
    program = tmp_path / "tox" if by_tox else folder / "bin/sleeper"
    program.parent.mkdir(exist_ok=True)
    words = ["-e", f"unit,{NAME}"] if by_tox else []
    script = tmp_path / "script/tox" if by_tox else program
    script.parent.mkdir(exist_ok=True)
    script.write_text("import time; print('up', flush=True); time.sleep(60)")
    line = [sys.executable, str(script), *words]
    with subprocess.Popen(line, stdout=subprocess.PIPE, cwd=tmp_path) as user:
        assert user.stdout is not None and user.stdout.readline()
        assert found.present(frozenset((NAME,))) == ()
        with pytest.raises(EnvironmentsError, match="is in use and is kept"):
            found.remove(NAME)
        if by_tox:  # of another checkout
            assert not Environments(folder=tmp_path / "other/tox", cache=tmp_path).in_use(NAME)
        user.kill()
    assert folder.is_dir()
    found.remove(NAME)


def test_an_environment_that_tox_makes_in_a_folder_that_it_is_given_stays(
    found: Environments, tmp_path: Path
) -> None:
    """On a node tox works in a copy of the checkout; with TOX_WORK_DIR in the checkout itself."""
    make(found)
    (tmp_path / "script").mkdir()
    script = tmp_path / "script/tox"
    script.write_text("import time; print('up', flush=True); time.sleep(60)")
    line = [sys.executable, str(script), "-e", NAME]
    checkout = replace(found, root=tmp_path / "script")
    for more, at, seen in (
        (["--workdir", str(found.folder)], tmp_path / "uv", found),
        ([], tmp_path / "script", checkout),
    ):
        at.mkdir(exist_ok=True)
        with subprocess.Popen([*line, *more], stdout=subprocess.PIPE, cwd=at) as user:
            assert user.stdout is not None and user.stdout.readline()
            assert seen.in_use(NAME)
            user.kill()


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({}, ".tox"),
        ({"TOX_WORK_DIR": "work"}, "work"),
        ({"TOX_WORK_DIR": "/large/work", "TOX_SKIP_ENV": "x"}, "/large/work"),
        ({"TOX_WORK_DIR": "/large/work", "TOX_ENV_NAME": "unit"}, ".tox"),
    ],
)
def test_environments_are_where_a_person_has_tox_make_them(
    tmp_path: Path, environ: dict[str, str], folder: str
) -> None:
    """Within an environment of tox the variable is that environment's."""
    assert tox_folder(tmp_path, environ) == tmp_path / folder
    kept = {"A": "1", **({"TOX_WORK_DIR": folder} if folder != ".tox" else {})}
    assert outer_environ({"A": "1", **environ}) == kept


def test_one_that_cannot_be_removed_is_named(found: Environments) -> None:
    with pytest.raises(EnvironmentsError, match="cannot be removed: No such file"):
        found.remove(NAME)


def test_what_is_linked_frees_nothing(found: Environments, tmp_path: Path) -> None:
    folder = make(found)
    (tmp_path / "cached").write_bytes(b"x" * (3 << 20))
    (folder / "linked").hardlink_to(tmp_path / "cached")
    (present,) = found.present(frozenset((NAME,)))
    assert present.disk_mib == 1
    (folder / "loop").symlink_to(folder)
    (tmp_path / "cached").unlink()
    (present,) = found.present(frozenset((NAME,)))
    assert present.disk_mib == 4


def test_what_uv_has_in_its_cache_takes_little(found: Environments) -> None:
    """A wheel of a test, which has no library, is none of what a cell installs."""
    assert needs_mib(CELL, found.linked()) == WHOLE_MIB
    unpack(found.cache, "torch", "2.10.0+cu128")
    unpack(found.cache, "vllm", "0.19.1", real=False)
    assert found.linked() == {("torch", "2.10.0")}
    assert needs_mib(CELL, found.linked()) == WHOLE_MIB
    unpack(found.cache, "vllm", "0.19.1")
    assert needs_mib(CELL, found.linked()) == LINKED_MIB


def test_an_install_is_never_silent(tmp_path: Path) -> None:
    said: list[str] = []
    installing = Installing(tmp_path / "tox" / NAME, said.append, installing_words, every=0.02)
    wait_for(lambda: len(said) > 1, "two lines")
    installing.end()
    told = len(said)
    assert said[0].startswith("installs, 0 s") and len(said) == told


def test_uv_s_cache_is_where_uv_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a user whom nothing knows, such as a container's that got a number alone."""

    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    for name, value in (("UV_CACHE_DIR", "/u"), ("XDG_CACHE_HOME", "/c"), ("HOME", "/h")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    found = [uv_cache()]
    for name in ("UV_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name)
        found.append(uv_cache())
    assert found == [Path("/u"), Path("/c/uv"), Path("/h/.cache/uv"), Path(".uv_cache")]
