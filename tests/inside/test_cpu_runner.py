import importlib
import os
import sys
import types
from collections.abc import Iterator

import pytest

VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"
SOURCE = f"""
from vllm import envs

HAS_TRITON = False

class VllmConfig:
    dense = True

    @property
    def use_v2_model_runner(self):
        if envs.{VARIABLE} is not None:
            return envs.{VARIABLE}
        return HAS_TRITON and envs.VLLM_ANSWER and self.dense

class Older:
    pass
"""


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Stand in for a vLLM whose configuration asks its environment and Triton, as releases do."""
    package, envs = types.ModuleType("vllm"), types.ModuleType("vllm.envs")
    vars(package)["envs"] = envs
    vars(envs).update(VLLM_ANSWER=True)
    vars(envs)["__getattr__"] = lambda name: {"0": False, "1": True}.get(os.environ.get(name, ""))
    monkeypatch.setitem(sys.modules, "vllm", package)
    config = types.ModuleType("vllm.config.vllm")
    monkeypatch.setitem(sys.modules, config.__name__, config)
    exec(SOURCE, vars(config))  # noqa: S102 - its classes have to name a module of vLLM's
    yield config
    sys.modules.pop("matrix.inside.cpu.runner", None)


def runner(monkeypatch: pytest.MonkeyPatch, asked: str | None) -> types.ModuleType:
    """Import the module where somebody has asked for a runner, and choose one."""
    monkeypatch.setenv(VARIABLE, asked or "")
    if asked is None:
        monkeypatch.delenv(VARIABLE)
    monkeypatch.delitem(sys.modules, "matrix.inside.cpu.runner", raising=False)
    module = importlib.import_module("matrix.inside.cpu.runner")
    module.use_first_runner()
    return module


def test_vllm_is_asked_as_if_nobody_had_chosen(
    vllm: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = runner(monkeypatch, None)
    config = vllm.VllmConfig()
    assert os.environ[VARIABLE] == "0"
    assert not config.use_v2_model_runner
    assert module.has_second_runner(config)
    assert not config.use_v2_model_runner
    assert vllm.HAS_TRITON is False


def test_the_answer_is_that_of_the_configuration(
    vllm: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = runner(monkeypatch, None)
    config = vllm.VllmConfig()
    config.dense = False
    assert not module.has_second_runner(config)


@pytest.mark.parametrize(("asked", "second"), [("0", False), ("1", True)])
def test_a_choice_of_the_environment_stays(
    vllm: types.ModuleType, monkeypatch: pytest.MonkeyPatch, asked: str, second: bool
) -> None:
    module = runner(monkeypatch, asked)
    assert os.environ[VARIABLE] == asked
    assert module.has_second_runner(vllm.VllmConfig()) is second


def test_a_release_without_the_question_has_one_runner(
    vllm: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not runner(monkeypatch, None).has_second_runner(vllm.Older())
