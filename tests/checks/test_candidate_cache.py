"""What was found out of candidates lies in a cache: it goes with them, and may be damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from candidates import torch_candidate
from command import matrix
from fake_wheels import write_torch
from matrix.catalog.candidates.collection import CandidateError, Candidates
from matrix.catalog.candidates.file import load_candidates, write_candidates
from matrix.catalog.candidates.model import Candidate
from matrix.catalog.cells import Cell, Made
from matrix.catalog.releases_file import load_releases
from matrix.checks.candidate_cache import forget
from matrix.checks.linkage.candidate import table_path
from matrix.checks.lookup import load_answers
from matrix.checks.resolution.cache import (
    PLATFORM,
    Resolution,
    Resolutions,
    ResolutionsError,
    candidates_path,
    load_candidate_resolutions,
    load_resolutions,
    text_of,
)
from matrix.checks.resolution.resolve_cells import ResolveRequest, plan_questions
from matrix.record.model import Platform
from vllm_tree import write_tree

CELL = "py312-torch216rc1-vllm033"
DAMAGED = ["{", "[]", '{"resolutions": [{}]}', '{"rows": []}', "\0"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a cache and candidates of its own."""
    monkeypatch.setenv("MATRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MATRIX_CANDIDATES", str(tmp_path / "candidates.toml"))
    return tmp_path


def keep(*every: Candidate) -> None:
    """Keep a table and an answer about each of them."""
    rows = []
    for candidate in every:
        path = table_path(candidate)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}\n")
        cell = Cell("3.12", candidate.key, "0.33.0")
        rows.append(
            Resolution(
                cell=cell, platform=PLATFORM, asked=date(2026, 11, 28), ok=True, count=1,
                packages={"torch": candidate.version.partition("+")[0]},
            )
        )  # fmt: skip
    text = text_of(load_candidate_resolutions().including(Resolutions(rows=tuple(rows))))
    candidates_path().write_text(text)


def kept(*every: Candidate) -> list[bool]:
    """Which of them have a table; their answers must be there in the same way."""
    cells = {row.cell.torch for row in load_resolutions(candidates_path()).rows}
    found = [table_path(candidate).exists() for candidate in every]
    assert found == [candidate.key in cells for candidate in every]
    return found


def other_build(candidate: Candidate) -> Candidate:
    file = replace(candidate.files[0], sha256="9" * 64)
    found = replace(candidate, files=(file, *candidate.files[1:]))
    assert found.key != candidate.key
    return found


def test_only_what_is_of_such_a_build_is_forgotten(here: Path) -> None:
    one, other = torch_candidate(), torch_candidate("torchnightly", "2.17.0.dev20261128")
    newer = other_build(one)
    keep(one, newer, other)
    foreign = table_path(one).with_name("torch-2.11.0.table")
    foreign.write_bytes(b"{}\n")
    forget(lambda build: build == one.build)
    assert kept(one, newer, other) == [False, True, True]
    forget(lambda build: build.name == one.name)
    assert kept(one, newer, other) == [False, False, True]
    forget(lambda build: build.name == one.name)
    assert kept(one, newer, other) == [False, False, True]
    assert foreign.exists()


def test_nothing_is_forgotten_without_a_cache(here: Path) -> None:
    forget(lambda build: True)
    assert not (here / "cache").exists()


def test_what_cannot_be_removed_is_named(here: Path) -> None:
    one = torch_candidate()
    table_path(one).mkdir(parents=True)
    with pytest.raises(CandidateError, match="cannot be removed"):
        forget(lambda build: build == one.build)


def test_remove_forgets_every_build_of_the_name(here: Path) -> None:
    one, other = torch_candidate(), torch_candidate("torchnightly", "2.17.0.dev20261128")
    write_candidates(Candidates(every=(one, other)))
    keep(one, other_build(one), other)
    done = matrix(here, "candidate", "remove", one.name)
    assert (done.returncode, done.stderr) == (0, "")
    assert kept(one, other_build(one), other) == [False, False, True]
    done = matrix(here, "candidate", "remove", one.name)
    assert done.returncode == 2
    assert kept(other) == [True]


def test_a_newer_build_takes_the_place_of_the_older_in_the_cache(here: Path) -> None:
    def add(revision: str) -> Candidate:
        wheel = write_torch(here, "2.16.0", git_version=revision)
        done = matrix(here, "candidate", "add", "torchmine", "--wheel", str(wheel))
        assert done.returncode == 0, done.stderr
        return load_candidates().named("torchmine")

    old, other = add("a" * 40), torch_candidate()
    keep(old, other)
    assert add("a" * 40) == old and kept(old, other) == [True, True]
    new = add("b" * 40)
    keep(new)
    assert kept(old, new, other) == [False, True, True]


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_answers_are_set_aside_with_one_line(
    here: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_candidates(Candidates(every=(torch_candidate(),)))
    path = candidates_path()
    path.parent.mkdir(parents=True)
    path.write_text(text)
    cell = load_releases().resolve(CELL)
    assert load_answers(load_releases()).resolves(cell, Platform.CPU) is None
    said = capsys.readouterr().err
    assert said.startswith("matrix: ") and said.count("\n") == 1 and str(path) in said
    assert "set aside as resolutions.json.damaged" in said
    assert not path.exists()
    assert path.with_name("resolutions.json.damaged").read_text() == text
    assert load_candidate_resolutions() == Resolutions()
    assert capsys.readouterr().err == ""


def test_a_damaged_cache_stops_no_command(here: Path) -> None:
    write_candidates(Candidates(every=(torch_candidate(),)))
    path = candidates_path()
    path.parent.mkdir(parents=True)
    for command in (["grid"], ["plan", "--names"], ["candidate", "remove", "torch216rc1"]):
        path.write_text("{")
        done = matrix(here, *command)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("set aside as resolutions.json.damaged") == 1
    path.write_text("{")
    request = ResolveRequest(cells=("py312-torch211-vllm026",))
    assert plan_questions(request, load_releases()).questions


def test_what_cannot_be_set_aside_is_an_error(here: Path) -> None:
    path = candidates_path()
    path.parent.mkdir(parents=True)
    path.write_text("{")
    (path.parent / "resolutions.json.damaged").mkdir()
    with pytest.raises(ResolutionsError, match="is not JSON"):
        load_candidate_resolutions()


def test_the_wheels_that_were_built_go_with_the_candidate(here: Path) -> None:
    def kept_wheel(state: str, made: Made) -> Path:
        folder = here / "cache/vllm-wheels" / state[:8]
        folder.mkdir(parents=True)
        facts: dict[str, object] = {
            "kind": "tree", "identity": state, "made": made, "name": "x.whl", "log": "x.log",
            "version": "1", "sha256": "", "revision": None, "source_version": "1",
            "python": "3.12", "requirements": [], "tools": {}, "seconds": 1.0,
        }  # fmt: skip
        (folder / "built.json").write_text(json.dumps(facts))
        return folder

    def added() -> tuple[str, str]:
        done = matrix(here, "candidate", "add", "vllmtree", "--tree", str(tree))
        assert done.returncode == 0, done.stderr
        sources = load_candidates().named("vllmtree").sources
        assert sources is not None
        return sources[1], done.stderr

    tree = write_tree(here / "tree", more={"PKG-INFO": "Version: 0.33.0\n"})
    first, _ = added()
    old = kept_wheel(first, Made.WITHOUT_COMPILING)
    assert added()[0] == first and old.exists()
    (tree / "vllm/new.py").write_text("x = 1\n")
    second, said = added()
    assert "1 wheel built of it was removed from the cache" in said and not old.exists()
    own = kept_wheel(second, Made.COMPILED)
    done = matrix(here, "candidate", "remove", "vllmtree")
    assert done.returncode == 0 and not own.exists()
