"""Whether tox can have the Python of a cell: one that is here, or one that uv fetches."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from matrix.run.doctor import pythons
from programs import program

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.mark.parametrize(
    ("minor", "does", "why"),
    [
        (
            "3.99",
            "echo 'error: no Python 3.99:' >&2; echo '  dns error' >&2; exit 1",
            "no Python 3.99: dns error",
        ),
        (
            "3.99",
            "echo 'warning: an error: of a setting' >&2; echo 'error: no Python 3.99' >&2; exit 1",
            "no Python 3.99",
        ),
        (
            "3.99",
            "echo 'error: cannot fetch https://me:secret@mirror.test/3.99' >&2; exit 1",
            "cannot fetch https://mirror.test/3.99",
        ),
        ("3.99", "exit 0", None),
        ("3.99", None, None),  # tox gets a uv for itself, and nobody knows what that finds
        (MINOR, "exit 1", None),
    ],
)
def test_a_python_is_lacking_where_uv_makes_no_environment_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minor: str, does: str | None, why: str | None
) -> None:
    uv = None if does is None else str(program(tmp_path, "uv", does))
    monkeypatch.setattr(pythons, "find_uv", lambda root, environ: uv)
    assert pythons.lacks_python(minor, tmp_path, {"PATH": ""}) == why
