"""The user's cache folder of this project: what is costly to make, and can be made again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return `torch-vllm-matrix` below XDG_CACHE_HOME, by default below ~/.cache.

    It need not be there.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    # The specification of XDG has a relative path ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "torch-vllm-matrix"
