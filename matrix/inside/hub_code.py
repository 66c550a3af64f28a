"""The classes that a model's repository on the hub brings as code, as small ones of our own.

transformers loads them where a test trusts the code of a repository, as upstream's own tests do.
It finds them by `auto_map` in the model's files, in a module next to these that imports this one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matrix.inside import vllm_compat
from matrix.inside.models import Model
from matrix.inside.stub_image_processor import PlainImageProcessor

_FILE = "matrix_hub_code.py"
_CONFIG, _IMAGES = "PlainConfig", "PlainHubImageProcessor"


def add_code(model: Model, folder: Path) -> list[str]:
    """Add to a model's files the classes that its repository brings; return what they are."""
    lines: list[str] = []
    added: list[str] = []
    if model.config_is_code:
        added.append("configuration class")
        lines.append(f"{_CONFIG} = hub_code.config_class({model.model_type!r})")
        _map(folder / "config.json", "AutoConfig", _CONFIG)
    if model.images is not None:
        added.append("image processor")
        lines.append(f"{_IMAGES} = hub_code.image_processor_class()")
        _map(folder / "preprocessor_config.json", "AutoImageProcessor", _IMAGES)
    if lines:
        code = ("from matrix.inside import hub_code", "", *lines, "")
        (folder / _FILE).write_text("\n".join(code), encoding="utf-8")
    return added


def config_class(model_type: str) -> type[Any]:
    """Return transformers' configuration class of a model type, or a plain one if it has none."""
    from vllm.transformers_utils.config import AutoConfig

    plain = vllm_compat.plain_config_class(model_type)
    return type(AutoConfig.for_model(model_type)) if plain is None else plain


def image_processor_class() -> type[Any]:
    """Return a class that transformers can load, and that answers as `PlainImageProcessor` does."""
    from vllm.transformers_utils.processor import BaseImageProcessor

    return type(_IMAGES, (PlainImageProcessor, BaseImageProcessor), {})


def _map(file: Path, kind: str, name: str) -> None:
    """Say in a model's JSON file that transformers finds the class of a kind in our module."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    known["auto_map"] = {kind: f"{Path(_FILE).stem}.{name}"}
    file.write_text(json.dumps(known, indent=2), encoding="utf-8")
