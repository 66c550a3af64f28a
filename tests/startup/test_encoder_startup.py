"""What looks at images, compiled: its first layer, each block, what merges patches, and the model.

Upstream's `test_multimodal_compile.py` counts so, with 32 blocks.
"""

from collections.abc import Callable

import pytest

from matrix.inside.laws import counts

_BLOCKS = 2
_ARGUMENTS = {
    "limit_mm_per_prompt": {"image": 1, "video": 0},
    # With that cache vLLM asks for the text of an image alone, which transformers 5.24 refuses.
    "mm_processor_cache_gb": 0,
}


@pytest.mark.full
def test_encoder_startup(startup: Callable[..., None]) -> None:
    law = counts("num_models_seen", _BLOCKS + 3)
    startup("small-vision", encoder=True, arguments=_ARGUMENTS, law=law)
