"""The user's cache folder of this project: what is costly to make, and can be made again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from matrix.errors import MatrixError

CACHE_VARIABLE = "MATRIX_CACHE"
"""The environment variable that names another folder."""


class CacheFolderError(MatrixError):
    """A user without a folder for caches: says what to set."""


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return MATRIX_CACHE, else `torch-vllm-matrix` below XDG_CACHE_HOME, by default ~/.cache.

    It need not be there. Raises CacheFolderError if the user has no home, and none is named.
    """
    if named := environ.get(CACHE_VARIABLE, ""):
        return Path(named).absolute()
    base = environ.get("XDG_CACHE_HOME", "")
    # The specification of XDG has a relative path ignored.
    try:
        root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:
        raise CacheFolderError(
            f"{CACHE_VARIABLE}: is not set, and this user has no home folder for caches; set it"
            " to a folder"
        ) from None
    return root / "torch-vllm-matrix"
