"""What a data file of rows may be, and what is said of one that is not."""

from pathlib import Path

import pytest
from packaging.version import Version

from matrix._util.toml_rows import read_text, rows, version_range
from matrix.errors import MatrixError


class OddError(MatrixError):
    pass


def test_rows_are_in_the_order_of_the_file() -> None:
    assert rows("[[a]]\nx = 1\n[[a]]\nx = 2\n", "f", "a", OddError) == [{"x": 1}, {"x": 2}]
    assert rows("# nothing\n", "f", "a", OddError) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[b]]\nx = 1", "f: b: unknown key; begin each with [[a]]"),
        ("a = 1", "f: a: is not a list; begin each with [[a]]"),
        ("a = [1]", "f: a: is not a list; begin each with [[a]]"),
        ("[[a]]\nday = 2026-02-30", "f: is not TOML ("),
        ("a = " + "[" * 10_000, "f: is not TOML ("),
    ],
)
def test_what_is_no_list_of_rows_is_told(text: str, said: str) -> None:
    with pytest.raises(OddError) as caught:
        rows(text, "f", "a", OddError)
    assert str(caught.value).startswith(said)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(OddError, match=r"none\.toml: cannot be read \(No such file"):
        read_text(tmp_path / "none.toml", OddError)
    (tmp_path / "odd.toml").write_bytes(b"\xff")
    with pytest.raises(OddError, match=r"odd\.toml: is not UTF-8; save it as UTF-8"):
        read_text(tmp_path / "odd.toml", OddError)


def test_a_range_of_releases_is_read_or_told() -> None:
    found = version_range({"torch": ">=2.12"}, "torch", "f: a", OddError)
    assert found.contains(Version("2.12.1")) and not found.contains(Version("2.11.0"))
    assert version_range({}, "torch", "f: a", OddError).contains(Version("2.11.0"))
    odd = {2.12: '2.12 is not a string; write ">=2.12"', ">2.x": ""}
    for value, said in odd.items():
        with pytest.raises(OddError) as caught:
            version_range({"torch": value}, "torch", "f: a", OddError)
        assert str(caught.value).startswith(f"f: a: torch: {said}")
