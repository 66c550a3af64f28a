"""Small versions of the models that people serve."""

from collections.abc import Callable

import pytest

# The longest first, for where they run side by side.
_MODELS = {
    "deepseek_v3.2": "deepseek-v3.2",
    "kimi_k2.5": "kimi-k2.5",
    "gpt_oss_120b": "gpt-oss-120b",
    "glm_4.5": "glm-4.5",
    "minimax_m2.5": "minimax-m2.5",
}


@pytest.mark.parametrize("model", _MODELS)
def test_model_startup(model: str, startup: Callable[..., None]) -> None:
    startup(_MODELS[model], arguments={"block_size": 64}, allreduce_fusion=False)
