"""What a run asks the C++ compiler once: its cases share it, and the user's cache stays apart."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

from matrix.inside import cpp_compiler
from matrix.inside.isolation import IsolationError, run_forked
from matrix.inside.pytest_plugin import compiler_step
from matrix.inside.pytest_plugin.compiler_step import CompilerStep
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.model import Platform
from waiting import alive, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")


class _Progress:
    """What a session prints."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


class _Instructions:
    """What Inductor may have code for; a probe of it runs where this process may probe."""

    probed: ClassVar[list[str]] = []

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def check_build(self, code: str) -> bool:
        self.probed.append(code)
        return self.name == "avx2"


@pytest.fixture(autouse=True)
def codecache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Return the codecache of a torch that precompiles one header below the folder named there."""
    module, torch = ModuleType("torch._inductor.codecache"), ModuleType("torch")
    module.__dict__.update(_HEADER_DIR=str(tmp_path / "user"), _HEADER_LOCK_DIR="")

    def compiled(function: Callable[..., object]) -> Callable[..., object]:
        folder = Path(module._HEADER_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hash.h.gch").touch()
        return lambda _: function

    _Instructions.probed.clear()
    isa = ModuleType("torch._inductor.cpu_vec_isa")
    known = [_Instructions("avx512"), _Instructions("avx2")]
    isa.__dict__.update(
        VecISA=_Instructions,
        valid_vec_isa_list=lambda: [
            str(name) for name in known if name.check_build(f"code of {name}")
        ],
    )
    monkeypatch.setitem(sys.modules, "torch._inductor.cpu_vec_isa", isa)
    torch.__dict__.update(compile=compiled, ones=lambda *_: None)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._inductor.codecache", module)
    monkeypatch.delenv(cpp_compiler.HEADERS_VARIABLE, raising=False)
    return module


class _Record:
    """What a session writes of the step into its record."""

    def __init__(self) -> None:
        self.step: CppCompiler | None = None

    def set_cpp_compiler(self, step: CppCompiler) -> None:
        assert self.step is None
        self.step = step


def step(
    platform: Platform = Platform.CPU, record: _Record | None = None
) -> tuple[CompilerStep, list[str]]:
    progress = _Progress()
    held = CompilerStep(record or _Record(), progress, platform)  # type: ignore[arg-type]
    return held, progress.lines


def test_the_cases_of_a_run_find_the_header_that_the_step_made(
    codecache: ModuleType, tmp_path: Path
) -> None:
    record = _Record()
    held, lines = step(record=record)
    held.begin()
    held.finish()
    cpp_compiler.give_headers(tmp_path / "case")
    folder = Path(codecache._HEADER_DIR)
    assert folder.is_relative_to(tmp_path / "case")
    (header,) = folder.glob("*.gch")
    held_folder = Path(os.environ[cpp_compiler.HEADERS_VARIABLE])
    assert header.samefile(held_folder / "precompiled_headers" / "hash.h.gch")
    assert Path(codecache._HEADER_LOCK_DIR).is_relative_to(folder)
    assert not (tmp_path / "user").exists()
    assert "asked once for all cases" in lines[0]
    assert record.step is not None
    assert record.step.seconds > 0 and record.step.reason is None
    held.close()
    assert not held_folder.exists()
    cpp_compiler.give_headers(tmp_path / "another")
    assert Path(codecache._HEADER_DIR).is_relative_to(tmp_path / "another")


def test_a_step_that_fails_leaves_each_case_its_own(
    codecache: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> object:
        raise RuntimeError("g++: not found")

    monkeypatch.setattr(sys.modules["torch"], "compile", broken)
    record = _Record()
    held, lines = step(record=record)
    held.begin()
    held.finish()
    assert lines[0].endswith("each case prepares its own: RuntimeError: g++: not found")
    assert record.step is not None
    assert record.step.seconds > 0 and record.step.reason == "RuntimeError: g++: not found"
    assert _Instructions.probed == ["code of avx512", "code of avx2"]
    cpp_compiler.give_headers(tmp_path / "case")
    assert Path(codecache._HEADER_DIR).is_relative_to(tmp_path / "case")
    held.close()


def test_a_step_without_a_child_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> object:
        raise IsolationError("cannot fork: no memory")

    monkeypatch.setattr(compiler_step, "Background", refused)
    record = _Record()
    held, lines = step(record=record)
    held.begin()
    held.finish()
    held.close()
    assert record.step == CppCompiler(seconds=0.0, reason="cannot fork: no memory")
    assert lines[0].endswith("each case prepares its own: cannot fork: no memory")


def test_answers_that_this_process_cannot_take_are_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: object) -> object:
        raise KeyError("avx2")

    monkeypatch.setattr(cpp_compiler, "take", broken)
    record = _Record()
    held, lines = step(record=record)
    held.begin()
    held.finish()
    held.close()
    assert record.step is not None and record.step.reason == "KeyError: 'avx2'"
    assert lines[0].endswith("each case prepares its own: KeyError: 'avx2'")


def test_a_torch_without_such_headers_compiles_nothing(
    codecache: ModuleType, tmp_path: Path
) -> None:
    del codecache._HEADER_DIR
    ended = run_forked(lambda: cpp_compiler.precompile(tmp_path / "held"), timeout=60)
    assert (ended.kind, ended.value) == ("returned", 0)
    held, lines = step()
    held.begin()
    held.finish()
    assert cpp_compiler.HEADERS_VARIABLE not in os.environ
    held.close()
    assert len(lines) == 1


def test_this_process_probes_only_what_the_other_one_did_not() -> None:
    ended = run_forked(lambda: cpp_compiler.probe(Path("/nowhere")), timeout=60)
    first, second = ended.value
    assert [first[0], first[2], second[0], second[2]] == ["avx512", False, "avx2", True]
    usual = _Instructions.check_build
    cpp_compiler.take([first, second])
    assert _Instructions.probed == []
    cpp_compiler.take([first])
    assert _Instructions.probed == ["code of avx2"]
    assert _Instructions.check_build is usual


def test_a_torch_that_probes_otherwise_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    isa, asked = sys.modules["torch._inductor.cpu_vec_isa"], list[str]()
    monkeypatch.setattr(isa, "VecISA", object)
    monkeypatch.setattr(isa, "valid_vec_isa_list", lambda: asked.append("asked"))
    cpp_compiler.take([])
    assert asked == ["asked"]


def test_a_session_on_a_gpu_asks_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record = _Record()
    held, lines = step(Platform.CUDA, record)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    held.begin()
    assert list(tmp_path.iterdir()) == []  # no folder, so no child either
    held.finish()
    held.close()
    assert (lines, _Instructions.probed, record.step) == ([], [], None)


def test_a_session_that_ends_before_its_cases_ends_the_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def slow(_: object) -> object:
        Path(os.environ["AT_WORK"]).write_text(str(os.getpid()))
        time.sleep(60)
        raise AssertionError

    monkeypatch.setattr(sys.modules["torch"], "compile", slow)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("AT_WORK", str(tmp_path / "pid"))
    held, _ = step()
    held.begin()
    written = tmp_path / "pid"
    wait_for(lambda: written.exists() and written.read_text())
    held.close()
    assert not alive(int(written.read_text()))
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]
