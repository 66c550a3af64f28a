"""What a model's repository brings as code: it is found by transformers' own rule, and is small."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from matrix.inside.hub_code import config_class, image_processor_class
from matrix.inside.models import MODELS
from matrix.inside.stub_image_processor import PlainImageProcessor
from matrix.inside.upstream_plugin import fill_hub


class Base:
    """A class of transformers."""


class Known:
    """A configuration class that transformers has itself."""


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a stand-in for what vLLM takes from transformers, which knows one model type."""

    def for_model(model_type: str) -> Known:
        if model_type != "known":
            raise ValueError(model_type)
        return Known()

    package: Any = types.ModuleType("vllm.transformers_utils")
    config: Any = types.ModuleType("vllm.transformers_utils.config")
    config.AutoConfig = types.SimpleNamespace(for_model=for_model)
    config.PretrainedConfig = Base
    package.config = config
    processor: Any = types.ModuleType("vllm.transformers_utils.processor")
    processor.BaseImageProcessor = Base
    for module in (types.ModuleType("vllm"), package, config, processor):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return config


def loaded(folder: Path, file: str, kind: str) -> Any:
    """Return the class that transformers would load for a kind: that of `auto_map`."""
    module, name = json.loads((folder / file).read_text())["auto_map"][kind].split(".")
    names: dict[str, Any] = {}
    exec((folder / f"{module}.py").read_text(), names)  # noqa: S102 - transformers imports it
    return names[name]


def snapshot(hub: Path, name: str) -> Path:
    """Return the folder of a model in the hub's cache."""
    repository = str(MODELS[name].repository).replace("/", "--")
    return next((hub / f"models--{repository}" / "snapshots").iterdir())


@pytest.mark.usefixtures("transformers")
def test_a_repository_brings_the_classes_that_its_model_needs(tmp_path: Path) -> None:
    assert set(fill_hub(tmp_path)) == {"tokenizer", "configuration class", "image processor"}
    minimax = loaded(snapshot(tmp_path, "minimax-m2.5"), "config.json", "AutoConfig")
    assert minimax.model_type == "minimax_m2" and issubclass(minimax, Base)
    kimi = snapshot(tmp_path, "kimi-k2.5")
    images = loaded(kimi, "preprocessor_config.json", "AutoImageProcessor")
    assert issubclass(images, Base) and issubclass(images, PlainImageProcessor)
    assert "auto_map" not in json.loads((kimi / "config.json").read_text())
    media = json.loads((kimi / "preprocessor_config.json").read_text())["media_proc_cfg"]
    assert (media["merge_kernel_size"], media["temporal_merge_kernel_size"]) == (2, 4)


@pytest.mark.usefixtures("transformers")
def test_a_model_without_code_has_its_own_files_and_a_tokenizer(tmp_path: Path) -> None:
    fill_hub(tmp_path)
    model = MODELS["glm-4.5"]
    files = {file.name for file in snapshot(tmp_path, model.name).iterdir()}
    own = {file.name for file in model.folder.iterdir()}
    assert files == own | {"tokenizer.json", "tokenizer_config.json"}
    content = (snapshot(tmp_path, model.name) / "config.json").read_bytes()
    assert content == (model.folder / "config.json").read_bytes()


def test_what_is_in_the_cache_stays(tmp_path: Path) -> None:
    fill_hub(tmp_path)
    kept = snapshot(tmp_path, "minimax-m2.5") / "config.json"
    kept.write_text("of somebody")
    assert fill_hub(tmp_path) == []
    assert kept.read_text() == "of somebody"


@pytest.mark.usefixtures("transformers")
def test_transformers_own_class_comes_first() -> None:
    assert config_class("known") is Known
    assert config_class("unknown").model_type == "unknown"


def test_transformers_5_spells_its_base_differently(transformers: Any) -> None:
    del transformers.PretrainedConfig
    transformers.PreTrainedConfig = Base
    assert issubclass(config_class("unknown"), Base)
    assert issubclass(image_processor_class(), Base)
