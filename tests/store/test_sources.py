import os
from pathlib import Path
from typing import Any

import pytest

from histories import CELLS, fill, make, silent
from matrix.record.reader import read_many
from matrix.store.layout import INDEX
from matrix.store.query import History


def test_overlapping_places_count_once(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make(), make(platform="cuda")])
    places = [folder / "cpu", folder, folder / "cuda" / f"{CELLS[0]}.1.json", tmp_path / "nowhere"]
    (folder / "cpu" / "link.json").symlink_to(folder / "cpu" / f"{CELLS[0]}.0.json")
    every, errors = read_many(places)
    with History(places, silent) as history:
        found = history.newest(None)
    assert sorted(str(path) for path, _ in found.records) == sorted(str(p) for p, _ in every)
    assert sorted(map(str, found.errors)) == sorted(map(str, errors))


def test_what_may_not_be_read_is_told_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, [make()])
    (folder / f"{CELLS[0]}.bad.json").unlink()
    closed, below, inside = tmp_path / "closed", folder / "below", tmp_path / "closed" / "x.json"
    for each in (closed, below):
        each.mkdir()

    def refuse(name: str, *closed: Path) -> None:
        does = getattr(os, name)

        def asked(path: Any, *given: Any, **more: Any) -> Any:
            if str(path) in map(str, closed):
                raise PermissionError(13, "Permission denied", str(path))
            return does(path, *given, **more)

        monkeypatch.setattr(os, name, asked)

    refuse("scandir", closed, below)
    refuse("stat", closed / INDEX, inside)
    with History([folder, closed, inside], silent) as history:
        assert history.count() == 1
    assert [str(each) for each in history.rows.errors] == [
        f"{each}: cannot be read: Permission denied" for each in (below, closed, inside)
    ]
