"""The place of the file of candidates, next to tox.ini or in a variable, and of their cache.

Apart from what reads the file, which most checkouts do not have.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from matrix._util.caches import cache_folder
from matrix._util.paths import CHECKOUT

CANDIDATES_VARIABLE = "MATRIX_CANDIDATES"
"""The environment variable that names another file."""


def candidates_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the file of the candidates: MATRIX_CANDIDATES, else candidates.toml by tox.ini."""
    named = environ.get(CANDIDATES_VARIABLE, "")
    return Path(named) if named else CHECKOUT / "candidates.toml"


def answers_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of what was found out of candidates without a run, by their release keys.

    It is in the user's cache: a release key is of one build, so that several checkouts share it.
    """
    return cache_folder(environ) / "candidates"
