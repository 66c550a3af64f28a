from pathlib import Path

from histories import CELLS, fill, make, silent
from matrix.engines.history import History
from matrix.records import read_many


def test_overlapping_places_count_once(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make(), make(platform="cuda")])
    places = [folder / "cpu", folder, folder / "cuda" / f"{CELLS[0]}.1.json", tmp_path / "nowhere"]
    (folder / "cpu" / "link.json").symlink_to(folder / "cpu" / f"{CELLS[0]}.0.json")
    every, errors = read_many(places)
    with History(places, silent) as history:
        found = history.newest(None)
    assert sorted(str(path) for path, _ in found.records) == sorted(str(p) for p, _ in every)
    assert sorted(map(str, found.errors)) == sorted(map(str, errors))
