"""A data file that programs write: a JSON object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matrix._util.files import read_text
from matrix.errors import MatrixError


def read_object(path: Path, error: type[MatrixError]) -> dict[str, Any]:
    """Return the object that a file holds. Raises `error`, which names the file and the fix."""
    try:
        found = json.loads(read_text(path))
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror}); name another file") from fault
    except (ValueError, RecursionError) as fault:
        raise error(f"{path}: is not JSON ({fault}); restore it") from fault
    if not isinstance(found, dict):
        raise error(f"{path}: is not an object; restore it")
    return found
