"""What people decided, each kind in its file: what cannot be read is one line that names the file.

What each kind of rule means is in the file of its name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from matrix.errors import MatrixError
from matrix.rules.expectations_file import load_expectations
from matrix.rules.notes import load_notes
from matrix.rules.platform_differences import load_explanations
from matrix.rules.waivers import load_waivers

LOADERS: dict[str, Callable[[Path], object]] = {
    "expectations": load_expectations,
    "notes": load_notes,
    "platform differences": load_explanations,
    "waivers": load_waivers,
}
every_kind = pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)


@every_kind
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory); name another file"),
        (b"\xff\xfe", "is not UTF-8; save it as UTF-8"),
        (b"[[", "is not TOML ("),
        (b"\0", "is not TOML ("),
        (b"x = " + b"[" * 9_999, "is not TOML ("),
        (b"x = 1", "x: unknown key; "),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, load: Callable[[Path], object], content: bytes | None, said: str
) -> None:
    path = tmp_path / "rules.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MatrixError) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}: ") and said in str(raised.value)
    assert "\n" not in str(raised.value)


@every_kind
def test_a_folder_is_no_file_of_rules(tmp_path: Path, load: Callable[[Path], object]) -> None:
    with pytest.raises(MatrixError, match=r": cannot be read \(Is a directory\)"):
        load(tmp_path)


@every_kind
def test_an_empty_file_decides_nothing(tmp_path: Path, load: Callable[[Path], object]) -> None:
    (tmp_path / "rules.toml").touch()
    found = load(tmp_path / "rules.toml")
    assert not getattr(found, "every", None) and not getattr(found, "rules", None)


def test_the_package_s_own_files_are_good() -> None:
    assert load_expectations().rules and load_explanations().every and load_notes()
    load_waivers()  # none may be in force
