import sys
import types
from typing import Any

import pytest

from matrix.inside.stub_image_processor import PlainImageProcessor, use_plain_image_processor


class Torch(types.ModuleType):
    """A stand-in for torch: a tensor is its shape, or its values."""

    @staticmethod
    def zeros(*shape: int) -> tuple[int, ...]:
        return shape

    @staticmethod
    def tensor(values: list[list[int]]) -> list[list[int]]:
        return values


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_patches_are_those_of_the_grids_and_the_tokens(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setitem(sys.modules, "torch", Torch("torch"))
    processor = PlainImageProcessor()
    media = [{"type": "image"}] * count
    made = processor.preprocess(media, return_tensors="pt")
    assert len(made["grid_thws"]) == count
    assert made["pixel_values"][0] == sum(time * h * w for time, h, w in made["grid_thws"])
    assert made["pixel_values"][1:] == (3, 14, 14)
    for medium, (time, height, width) in zip(media, made["grid_thws"], strict=True):
        assert processor.media_tokens_calculator(medium) == time * height * width // 4


def test_it_stands_where_a_module_of_vllm_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("a_model")
    module.cached_get_image_processor = None
    monkeypatch.setitem(sys.modules, "a_model", module)
    use_plain_image_processor("a_model")
    found = module.cached_get_image_processor("folder", trust_remote_code=False)
    assert isinstance(found, PlainImageProcessor)
