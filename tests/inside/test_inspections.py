"""What a run asks of vLLM's model classes once: kept for its cases, harmless to their forks."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from matrix.inside import inspections, vllm_compat
from matrix.inside.isolation import IsolationError, run_forked
from matrix.inside.pytest_plugin import inspection_step
from matrix.inside.pytest_plugin.inspection_step import InspectionStep
from matrix.record.inspections import Inspections
from matrix.record.model import Platform

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")
REGISTRY = "vllm.model_executor.models.registry"


class _Lazy:
    module_name = "json.tool"

    def __init__(self, registry: ModuleType) -> None:
        self._registry = registry

    def inspect_model_cls(self) -> None:
        answers = Path(os.environ["VLLM_CACHE_ROOT"], "modelinfos")
        answers.mkdir(parents=True, exist_ok=True)
        text = self._registry._run_in_subprocess(lambda: str(os.getpid()))
        (answers / "a.json").write_text(text)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    def another_interpreter(_: object) -> None:
        raise AssertionError("vLLM would be imported again")

    module = ModuleType(REGISTRY)
    module.__dict__.update(
        _run_in_subprocess=another_interpreter,
        ModelRegistry=SimpleNamespace(models={"A": _Lazy(module), "B": SimpleNamespace()}),
    )
    monkeypatch.setitem(sys.modules, REGISTRY, module)
    monkeypatch.delenv(inspections.INSPECTIONS_VARIABLE, raising=False)
    return module


def asked(folder: Path, platform: Platform = Platform.CPU) -> dict[str, object]:
    ended = run_forked(lambda: inspections.ask(["A", "B", "C"], platform, folder), timeout=60)
    assert ended.kind == "returned", ended.error
    found: dict[str, object] = ended.value
    return found


def test_one_child_asks_and_a_model_that_fails_hinders_no_other(tmp_path: Path) -> None:
    before = dict(os.environ)
    assert asked(tmp_path) == {"answered": 1, "modules": ["json.tool"]}
    assert (tmp_path / "modelinfos" / "a.json").read_text() != str(os.getpid())
    assert dict(os.environ) == before


def test_a_start_begins_with_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inspections.give(tmp_path / "empty")
    assert not (tmp_path / "empty").exists()
    asked(tmp_path / "held")
    monkeypatch.setenv(inspections.INSPECTIONS_VARIABLE, str(tmp_path / "held"))
    inspections.give(tmp_path / "own")
    assert [path.name for path in (tmp_path / "own").rglob("*.json")] == ["a.json"]


@pytest.mark.parametrize(
    ("spoiling", "kept"),
    [
        ("colorsys", ["json.tool", "quopri"]),
        ("quopri", []),
        ("nothing", ["json.tool", "quopri", "colorsys"]),
    ],
)
def test_what_spoils_a_fork_is_left_to_the_starts(
    spoiling: str, kept: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use_cuda() -> None:
        assert spoiling not in sys.modules, "CUDA was initialised before the fork"

    monkeypatch.setattr(inspections, "_use_cuda", use_cuda)
    monkeypatch.setattr(inspections, "_KERNELS", ("colorsys", "not_installed"))
    monkeypatch.setattr(vllm_compat, "STARTED", ("quopri",))
    for name in ("colorsys", "quopri"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert asked(tmp_path, Platform.CUDA)["modules"] == kept


def test_a_start_asks_itself_where_the_answers_cannot_be_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(tmp_path / "held")
    monkeypatch.setenv(inspections.INSPECTIONS_VARIABLE, str(tmp_path / "held"))
    (tmp_path / "own").touch()  # a file where the folder should be
    inspections.give(tmp_path / "own")
    assert (tmp_path / "own").is_file()


def test_modules_are_imported_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert inspections.import_all(["colorsys", "not_installed"]) == 1
    assert "colorsys" in sys.modules


class _Session:
    """What a session writes of the step: into its record, and in lines of progress."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.steps: list[Inspections] = []
        self.lines: list[str] = []

    def set_inspections(self, step: Inspections) -> None:
        self.steps.append(step)

    def line(self, text: str) -> None:
        self.lines.append(text)

    def run(self) -> Inspections:
        step = InspectionStep(self, self, Platform.CPU)  # type: ignore[arg-type]
        step.run()
        step.close()
        [found] = self.steps
        return found


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> _Session:
    models = {"a": SimpleNamespace(architecture="A")}
    monkeypatch.setattr(inspection_step, "MODELS", models)
    return _Session()


def test_the_step_that_answers_is_in_the_record(session: _Session) -> None:
    found = session.run()
    assert found.seconds > 0 and found.reason is None
    assert session.lines[0].endswith(" s  1 models for all cases, 1 modules imported")


def test_a_vllm_that_keeps_no_answer_is_the_reason(session: _Session, registry: ModuleType) -> None:
    registry.__dict__["ModelRegistry"].models.clear()
    assert session.run().reason == "no answer is kept"
    assert session.lines == ["inspects no model before the cases: no answer is kept"]


def test_a_child_that_fails_is_the_reason(
    session: _Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise RuntimeError("no such registry")

    monkeypatch.setattr(inspections, "ask", broken)
    assert session.run().reason == "RuntimeError: no such registry"
    assert session.lines[0].endswith("before the cases: RuntimeError: no such registry")


def test_a_step_without_a_child_says_why(
    session: _Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> object:
        raise IsolationError("cannot fork: no memory")

    monkeypatch.setattr(inspection_step, "run_forked", refused)
    assert session.run().reason == "cannot fork: no memory"
    assert inspections.INSPECTIONS_VARIABLE not in os.environ
