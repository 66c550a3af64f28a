"""The classes that a model's repository on the hub brings as code, as small ones of our own.

transformers loads them where a test trusts the code of a repository, as upstream's own tests do.
It finds them by `auto_map` in the model's files, in a module next to these that imports this one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matrix.inside import vllm_compat
from matrix.inside.models import Model
from matrix.inside.stub_image_processor import PlainImageProcessor

_FILE = "matrix_hub_code.py"
_CONFIG, _IMAGES = "PlainConfig", "PlainHubImageProcessor"
_KIMI_MEDIA: dict[str, object] = {
    "patch_size": PlainImageProcessor.patch,
    "merge_kernel_size": PlainImageProcessor.merged,
    "temporal_merge_kernel_size": PlainImageProcessor.num_frames_per_chunk,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "in_patch_limit": 16384,
    "in_patch_limit_each_frame": 4096,
    "in_patch_limit_video": None,
    "patch_limit_on_one_side": 512,
    "fixed_output_tokens": None,
    "sample_fps": 2.0,
    "max_num_frames_each_video": None,
    "timestamp_mode": "hh:mm:ss.fff",
}
"""What Kimi-K2.5 gives its image processor, by its `preprocessor_config.json` on the hub.

A vLLM that has an image processor of its own for it (0.33 has) wants these numbers from there. The
startup tests replace the processor of each vLLM, so the model's folder does not have that file.
"""


def add_code(model: Model, folder: Path) -> list[str]:
    """Add to a model's files the classes that its repository brings; return what they are."""
    lines: list[str] = []
    added: list[str] = []
    if model.config_is_code:
        added.append("configuration class")
        lines.append(f"{_CONFIG} = hub_code.config_class({model.model_type!r})")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        _map(folder / "config.json", config, "AutoConfig", _CONFIG)
    if model.images is not None:
        added.append("image processor")
        lines.append(f"{_IMAGES} = hub_code.image_processor_class()")
        media = {"media_proc_cfg": _KIMI_MEDIA}
        _map(folder / "preprocessor_config.json", media, "AutoImageProcessor", _IMAGES)
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


def _map(file: Path, content: Mapping[str, object], kind: str, name: str) -> None:
    """Write a model's JSON file, so that transformers finds the class of a kind in our module."""
    mapped = {**content, "auto_map": {kind: f"{Path(_FILE).stem}.{name}"}}
    file.write_text(json.dumps(mapped, indent=2), encoding="utf-8")
