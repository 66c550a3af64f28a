"""The user's cache folder of this project: what is costly to make, and can be made again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "MATRIX_CACHE"
"""The environment variable that names another folder."""


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return MATRIX_CACHE, else `torch-vllm-matrix` below XDG_CACHE_HOME, by default ~/.cache.

    It need not be there.
    """
    if named := environ.get(VARIABLE, ""):
        return Path(named).absolute()
    base = environ.get("XDG_CACHE_HOME", "")
    # The specification of XDG has a relative path ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "torch-vllm-matrix"
