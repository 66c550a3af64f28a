"""What a data file of rows may be, and what is said of one that is not."""

from pathlib import Path

import pytest
from packaging.version import Version

from matrix._util.toml_rows import check_keys, name_of, read_text, rows, version_range
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
    for value, message in odd.items():
        with pytest.raises(OddError) as caught:
            version_range({"torch": value}, "torch", "f: a", OddError)
        assert str(caught.value).startswith(f"f: a: torch: {message}")


@pytest.mark.parametrize("row", [{}, {"id": ""}, {"id": "  "}, {"id": 3}])
def test_a_row_has_a_name(row: dict[str, object]) -> None:
    assert name_of({**row, "id": "a"}, "f: a 1", OddError) == "a"
    with pytest.raises(OddError, match=r"^f: a 1: id: is missing or empty; name it$"):
        name_of(row, "f: a 1", OddError)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": 1, "torhc": 2}, "torhc: unknown key; did you mean 'torch'?"),
        ({"id": 1, "zzz": 2}, "zzz: unknown key; known are id, torch"),
        ({"torch": 1}, "id: is missing; add it"),
    ],
)
def test_a_row_has_the_known_keys_and_all_that_are_needed(
    row: dict[str, object], reason: str
) -> None:
    check_keys({"id": 1}, "f: a 1", ("id", "torch"), ("id",), OddError)
    with pytest.raises(OddError) as caught:
        check_keys(row, "f: a 1", ("id", "torch"), ("id",), OddError)
    assert str(caught.value) == f"f: a 1: {reason}"
