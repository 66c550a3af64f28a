import os
import shutil
from pathlib import Path

import pytest

from matrix.run import preflight as module
from matrix.run.preflight import preflight
from programs import program


def test_a_good_machine_is_not_refused(tmp_path: Path) -> None:
    records = tmp_path / "new" / "records"
    assert preflight(records, temporary=tmp_path, least_free_mib=1, least_memory_mib=1) is None
    assert records.is_dir()


def test_without_fork_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    refusal = preflight(tmp_path)
    assert refusal is not None and refusal.kind == "no_fork"
    assert "WSL" in refusal.reason and "\n" not in refusal.reason


@pytest.mark.parametrize("which", ["records", "temporary"])
def test_too_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    usage = shutil.disk_usage(tmp_path)
    full = tmp_path / "full"
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda folder: usage._replace(free=(5 if Path(folder) == full else 5000) * 2**20),
    )
    folders = {"records": tmp_path / "records", "temporary": tmp_path / "temporary", which: full}
    refusal = preflight(folders["records"], temporary=folders["temporary"])
    assert refusal is not None and refusal.kind == "no_space"
    assert "5 MiB free" in refusal.reason and str(full) in refusal.reason
    assert ("--records" if which == "records" else "TMPDIR") in refusal.reason


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refusal = preflight(tmp_path / "file" / "records")
    assert refusal is not None and refusal.kind == "no_space"
    assert "cannot be written" in refusal.reason and "--records" in refusal.reason


@pytest.mark.parametrize("name", ["a b", "it's", "back\\slash", "tab\tin"])
def test_a_temporary_folder_at_which_the_compilers_command_splits(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    refusal = preflight(tmp_path, temporary=folder, least_free_mib=1, least_memory_mib=1)
    assert refusal is not None and refusal.kind == "unusable_tmpdir"
    assert "set TMPDIR to a path without one" in refusal.reason


def test_too_little_memory(tmp_path: Path) -> None:
    refusal = preflight(tmp_path, least_free_mib=1, least_memory_mib=10**9)
    assert refusal is not None and refusal.kind == "no_memory" and "ulimit" in refusal.reason


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    refusal = preflight(tmp_path, least_free_mib=1, least_memory_mib=1)
    assert refusal is not None and refusal.kind == "no_compiler" and "g++" in refusal.reason


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo 'fatal error: Python.h: No such file' >&2; exit 1", "python3"),
        ("echo warming up >&2; echo 'fatal error: vector: none' >&2; exit 1", "vector: none"),
        ("exit 1", "it printed nothing"),
    ],
)
def test_a_compiler_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    monkeypatch.setenv("CXX", str(program(tmp_path, "cxx", body)))
    refusal = preflight(tmp_path, least_free_mib=1, least_memory_mib=1)
    assert refusal is not None and refusal.kind == "no_compiler" and said in refusal.reason


def test_a_compiler_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    refusal = preflight(tmp_path, least_free_mib=1, least_memory_mib=1)
    assert refusal is not None and "does not run" in refusal.reason


@pytest.mark.parametrize("cxx", ["g++ -O0", "ccache g++", ""])
def test_cxx_is_the_name_of_one_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cxx: str
) -> None:
    program(tmp_path / "bin", "ccache", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CXX", cxx)
    refusal = preflight(tmp_path, least_free_mib=1, least_memory_mib=1)
    assert refusal is not None and refusal.kind == "no_compiler"
    assert repr(cxx) in refusal.reason and "without arguments" in refusal.reason


@pytest.mark.parametrize("name", ["clang++", "c++"])
def test_another_compiler_counts_only_where_cxx_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    program(tmp_path / "bin", name, "exit 0")
    program(tmp_path / "bin", "openssl", "echo 00")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CXX", raising=False)
    refusal = preflight(tmp_path, least_free_mib=1, least_memory_mib=1)
    assert refusal is not None and refusal.kind == "no_compiler" and "g++" in refusal.reason
    monkeypatch.setenv("CXX", name)
    assert preflight(tmp_path, least_free_mib=1, least_memory_mib=1) is None


@pytest.mark.parametrize("body", [None, "echo 'unknown option' >&2; exit 1"])
def test_the_cpu_needs_openssl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str | None
) -> None:
    program(tmp_path / "bin", "g++", "exit 0")
    if body:
        program(tmp_path / "bin", "openssl", body)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(module, "visible_gpus", lambda environ: ())
    for refusal in (
        preflight(tmp_path, platform="cpu", least_free_mib=1, least_memory_mib=1),
        preflight(tmp_path, least_free_mib=1, least_memory_mib=1),
    ):
        assert refusal is not None and refusal.kind == "no_compiler"
        assert "install openssl" in refusal.reason and "\n" not in refusal.reason
    cuda = preflight(tmp_path, platform="cuda", least_free_mib=1, least_memory_mib=1)
    monkeypatch.setattr(module, "visible_gpus", lambda environ: ("GPU 0",))
    assert cuda is None and preflight(tmp_path, least_free_mib=1, least_memory_mib=1) is None
