import sys
import types
from pathlib import Path

import pytest

from matrix.inside import vllm_compat


@pytest.mark.parametrize("spelling", ["PretrainedConfig", "PreTrainedConfig"])
def test_a_model_type_unknown_to_transformers_gets_a_plain_configuration(
    monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    class Base:
        pass

    class AutoConfig:
        @staticmethod
        def for_model(model_type: str) -> Base:
            if model_type != "llama":
                raise ValueError(model_type)
            return Base()

    known: dict[str, type] = {"kimi": Base}
    utilities = types.ModuleType("vllm.transformers_utils")
    config = types.ModuleType("vllm.transformers_utils.config")
    vars(config).update({"_CONFIG_REGISTRY": known, "AutoConfig": AutoConfig, spelling: Base})
    vars(utilities)["config"] = config
    monkeypatch.setitem(sys.modules, "vllm", types.ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, utilities.__name__, utilities)
    monkeypatch.setitem(sys.modules, config.__name__, config)
    for name in ("kimi", "llama", "newest", "newest"):
        vllm_compat.learn_model_type(name)
    assert known.keys() == {"kimi", "newest"} and known["kimi"] is Base
    assert issubclass(known["newest"], Base)
    assert vars(known["newest"])["model_type"] == "newest"


@pytest.mark.parametrize(
    ("module", "compiles"),
    [
        ("vllm.model_executor.models.deepseek_v2", True),
        ("vllm.models.deepseek_v32", False),
    ],
)
def test_a_model_apart_from_the_common_ones_is_not_compiled(
    monkeypatch: pytest.MonkeyPatch, module: str, compiles: bool
) -> None:
    registered = types.SimpleNamespace(module_name=module)
    models = types.ModuleType("vllm.model_executor.models")
    vars(models)["ModelRegistry"] = types.SimpleNamespace(
        models={"DeepseekV32ForCausalLM": registered}
    )
    for name in ("vllm", "vllm.model_executor"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, models.__name__, models)
    assert vllm_compat.compiles_sparse_mla() is compiles


@pytest.mark.parametrize(
    ("source", "drafts"),
    [('assert not drafts, "spec decode is not supported."\n', False), ("run = 1\n", True)],
)
def test_the_source_of_the_runner_for_cpus_says_whether_it_drafts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, drafts: bool
) -> None:
    folder = tmp_path
    for name in ("vllm", "vllm.v1", "vllm.v1.worker"):
        folder /= name.rpartition(".")[2]
        folder.mkdir()
        (folder / "__init__.py").touch()
        monkeypatch.delitem(sys.modules, name, raising=False)
    (folder / "cpu_model_runner.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert vllm_compat.cpu_runner_drafts() is drafts
    finally:
        for name in ("vllm.v1.worker", "vllm.v1", "vllm"):
            sys.modules.pop(name, None)
