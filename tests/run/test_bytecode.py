"""Bytecode of one environment in another: real modules, compiled by this Python."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from matrix.run.bytecode import share_bytecode


def module(
    site: Path, name: str = "a/b.py", text: str = "X = 1\n", *, compiled: bool = True
) -> Path:
    path = site / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if compiled:
        py_compile.compile(str(path))
    return path


def link(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)
    return target


def bytecode(site: Path) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in site.rglob("*.pyc"))


def test_a_file_that_both_have_is_compiled_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    link(module(one), other / "a/b.py")
    assert share_bytecode(other, [one]) == 1
    # Python takes it, and calls the module by its own path.
    done = subprocess.run(
        [sys.executable, "-v", "-c", "import a.b; print(a.b.__file__, a.b.X)"],
        cwd=other,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{other / 'a/b.py'} 1\n"
    assert f"matches {other / 'a/b.py'}" in done.stderr
    assert share_bytecode(other, [one]) == 0


def test_only_the_very_file_counts(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for name in ("copy", "changed", "gone", "none"):
        module(one, f"{name}.py", compiled=name != "none")
    module(other, "copy.py", compiled=False)
    module(other, "changed.py", "X = 2\n", compiled=False)
    link(one / "none.py", other / "none.py")
    assert share_bytecode(other, [one]) == 0 and bytecode(other) == []


def test_what_pytest_keeps_and_what_has_no_source_stays_where_it_is(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    source = module(one)
    (cached,) = (source.parent / "__pycache__").iterdir()
    cached.rename(cached.with_name(f"{cached.stem}-pytest-9.0.0.pyc"))
    module(one, "lost.py").unlink()
    (one / "__pycache__/readme.txt").write_text("")
    link(source, other / "a/b.py")
    assert share_bytecode(other, [one]) == 0


def test_of_many_environments_the_first_are_looked_through(tmp_path: Path) -> None:
    sites = [tmp_path / str(number) for number in range(3)]
    other = tmp_path / "other"
    for number, site in enumerate(sites):
        link(module(site, f"m{number}.py"), other / f"m{number}.py")
    assert share_bytecode(other, sites) == 2
    assert bytecode(other) == ["m0", "m1"]
    assert share_bytecode(other, [tmp_path / "nowhere"]) == 0


def test_a_disk_without_links_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    link(module(one), other / "a/b.py")

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert share_bytecode(other, [one]) == 0 and bytecode(other) == []
