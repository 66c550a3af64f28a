"""Records that show a fault and stand in archives (`matrix results pack`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attributions import bad, record
from commanded import make, written
from explained import choice, commands, evidence, only, read
from histories import pack_all
from matrix.explain.answer import Explainer
from matrix.explain.model import FaultAnswer
from matrix.report.explain import five
from matrix.store import database
from matrix.store.layout import PACK

pytest.importorskip("duckdb")

TEXT = "KeyError: None"


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Make a folder with an archive of two records, and one that is not packed."""
    folder = written(tmp_path, bad("2.12.0"), record("2.11.0"))
    pack_all(folder)
    assert not list(folder.glob("*.json"))
    return written(folder, bad("2.13.0"))


def answered(folder: Path) -> tuple[FaultAnswer, list[str]]:
    lines: list[str] = []
    explainer = Explainer(
        evidence=evidence(), choice=choice(), places=[folder], progress=lines.append
    )
    (answer,) = explainer.answers(read(TEXT))
    return answer, lines


def test_a_record_in_an_archive_is_named_with_whose_change_it_is(packed: Path) -> None:
    answer, lines = answered(packed)
    assert (answer.looked, lines) == (3, [])
    assert answer.records is not None
    newest, older = answer.records
    assert Path(newest.path) == packed / "py311-torch213-vllm020.json"
    assert f"{PACK}/py311-torch212-vllm020.json" in older.path
    for shown in (newest, older):
        assert shown.attribution is not None
        assert shown.attribution.answer == "torch"
    assert commands(answer) == [f"matrix show {newest.path}"]


def test_the_answer_is_that_of_records_that_are_not_packed(tmp_path: Path) -> None:
    runs = (bad("2.12.0"), record("2.11.0"), bad("2.13.0"))
    loose, packed = written(tmp_path / "a", *runs), written(tmp_path / "b", *runs)
    pack_all(packed)
    before, after = only(TEXT, [loose]), only(TEXT, [packed])
    assert before.records is not None
    assert after.records is not None
    assert before.looked == after.looked
    for old, new in zip(before.records, after.records, strict=True):
        assert replace(old, path="", attribution=None) == replace(new, path="", attribution=None)


def test_a_warm_start_that_compiles_again_is_found_with_its_issues(tmp_path: Path) -> None:
    again = "num_compiled_artifacts_saved not as expected, before it is 0, after it is 4"
    run = make(saved=4)
    loose, packed = written(tmp_path / "a", run), written(tmp_path / "b", run)
    pack_all(packed)
    before, after = only(again, [loose]), only(again, [packed])
    assert before.records is not None
    assert after.records is not None
    (old,), (new,) = before.records, after.records
    assert replace(old, path="") == replace(new, path="")
    assert f"{PACK}/" in new.path


def test_an_archive_may_be_named(packed: Path) -> None:
    (archive,) = packed.glob(f"*{PACK}")
    answer, _ = answered(archive)
    assert answer.looked == 2
    assert answer.records is not None
    assert len(answer.records) == 1


def test_a_damaged_archive_is_named_and_the_rest_goes_on(packed: Path) -> None:
    (archive,) = packed.glob(f"*{PACK}")
    archive.write_bytes(b"PAR1")
    answer, lines = answered(packed)
    assert answer.looked == 1
    (line,) = lines
    assert line.startswith(f"{archive}: no archive of records, or a damaged one")


def test_without_duckdb_files_alone_are_read_and_it_says_so(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "duckdb", lambda: None)
    answer, lines = answered(packed)
    assert answer.looked == 1
    assert five(answer)[3].startswith("records    ")
    (line,) = lines
    assert line.startswith("records in archives are not read: duckdb is not installed")
