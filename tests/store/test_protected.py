from pathlib import Path

import pytest

from histories import CELLS, make
from matrix.record.writer import write
from matrix.store import ingest as summaries
from matrix.store.protected import evidence_of

NAME = f"results/cpu/{CELLS[0]}.json"


def content(path: Path) -> str:
    return str(summaries.of_file(str(path), path.name, 0, 0)["content"])


def test_evidence_is_known_however_it_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / NAME
    write(make(), file)
    (tmp_path / "link").symlink_to(file.parent)
    (tmp_path / "link.json").symlink_to(file)
    (tmp_path / "results" / "cuda").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "results").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "results" / "cuda")
    named = evidence_of([NAME, "https://example.com/1"], ())
    for path in (
        f"../cpu/{file.name}",
        f"{tmp_path}/link/{file.name}",
        "../../link.json",
        str(file),
    ):
        assert named.has(path, "other")
    assert named.has(f"../../data/{NAME}", "other")  # what the link's own name says
    for path in (f"../cuda/{file.name}", "results/cpu", f"../../my{NAME}"):
        assert not named.has(path, "other")


def test_a_copy_of_evidence_is_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(make(), tmp_path / NAME)
    copy = tmp_path / f"{CELLS[0]}.copy.json"
    write(make(), copy)
    other = tmp_path / f"{CELLS[0]}.other.json"
    write(make(saved=7), other)
    monkeypatch.chdir(tmp_path)
    named = evidence_of([NAME, "results/cpu/none.json"])
    assert named.has(str(copy), content(copy))
    assert not named.has(str(other), content(other))
