"""Damaged archives of records and indexes of folders: errors, and no other record is lost."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histories import CELLS, make, pack_all
from matrix.record.writer import write
from matrix.store.layout import INDEX, PACK
from matrix.store.query import History

pytest.importorskip("duckdb")

GOOD = make(started="2026-10-30T00:00:00Z", total=5.0)


@cache
def whole(name: str) -> bytes:
    """Return the bytes of an archive, or of an index, of three records."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(3):
            write(make(total=float(number)), Path(folder, f"{CELLS[0]}.{number}.json"))
        if name == INDEX:
            with History([Path(folder)], lambda _: None, index=True):
                pass
        else:
            pack_all(Path(folder))
        (path,) = Path(folder).glob(INDEX if name == INDEX else f"*{PACK}")
        return path.read_bytes()


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        # The end of a Parquet file says where everything is.
        first = draw(st.sampled_from([0, max(0, len(changed) - 2000)]))
        at = draw(st.integers(first, max(first, len(changed) - 1)))
        kind = draw(st.sampled_from(["flip", "cut", "end"]))
        if kind == "flip" and at < len(changed):
            changed[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del changed[at : at + draw(st.integers(0, 64))]
        elif kind == "end" and draw(st.integers(0, 9)) == 0:
            del changed[at:]
    return bytes(changed)


@pytest.mark.parametrize("name", [f"2026-11-01{PACK}", INDEX])
@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_file_harms_no_other_record(name: str, data: st.DataObject) -> None:
    content = data.draw(damaged(whole(name)))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "records")
        good = folder / f"{CELLS[0]}.good.json"
        write(GOOD, good)
        (folder / name).write_bytes(content)
        with History([folder], lambda _: None, index=True) as history:
            found = history.newest(None, None)
            errors = [*history.rows.errors, *history.errors, *found.errors]
        assert good in [path for path, _ in found.records]
        assert all(str(error).strip() for error in errors)
        if name == INDEX:
            assert [path for path, _ in found.records] == [good]
        assert {path.name for path in Path(place).rglob("*")} <= {
            "records", good.name, name, INDEX
        }  # fmt: skip
