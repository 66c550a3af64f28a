"""An image processor for a model whose own is code in its repository, which is not run here.

torch and vLLM are imported inside the functions, so that importing this module is free.
"""

import importlib
from collections.abc import Sequence
from typing import Any


class PlainImageProcessor:
    """Answers what vLLM asks of an image processor while it starts; it looks at no picture.

    Every medium becomes one square of empty patches, as one image does in the real processor
    (Kimi-K2.5: patches of 14 pixels, merged two by two into a token). vLLM's profile run sends
    such a medium through the vision tower.
    """

    num_frames_per_chunk = 4
    patch = 14
    side = 32
    merged = 2

    def media_tokens_calculator(self, medium: Any) -> int:
        """Return how many tokens a medium takes in a prompt."""
        return (self.side // self.merged) ** 2

    def preprocess(self, media: Sequence[Any], **_: Any) -> dict[str, Any]:
        """Return the patches of all media and the grid (time, height, width) of each."""
        import torch

        patches = len(media) * self.side * self.side
        return {
            "pixel_values": torch.zeros(patches, 3, self.patch, self.patch),
            "grid_thws": torch.tensor([[1, self.side, self.side]] * len(media)),
        }


def use_plain_image_processor(module: str) -> None:
    """Let vLLM's module of a model find our image processor where it would load the model's own."""
    ours = PlainImageProcessor()
    vars(importlib.import_module(module))["cached_get_image_processor"] = lambda *_, **__: ours
