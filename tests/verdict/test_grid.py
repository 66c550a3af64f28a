from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from packaging.specifiers import SpecifierSet

from matrix._util import text
from matrix.catalog.cells import Cell
from matrix.catalog.release import Torch
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.checks.declared import declared
from matrix.checks.facts import quoted
from matrix.checks.lookup import Answer
from matrix.record.model import PLATFORMS, RUNGS, Platform, Record, Rung
from matrix.report import grid as report
from matrix.report import grid_text, markdown, table_json
from matrix.report.model import Report
from matrix.verdict.grid import Grid, environments, ran_cell, runs, survey
from matrix.verdict.judge import CellVerdict
from matrix.verdict.ladder import RunEvidence
from matrix.verdict.reasons import recorded
from matrix.verdict.states import Verdict
from matrix.verdict.table import Table
from plans import vllm

SCHEMA = json.loads(
    (Path(markdown.__file__).parents[1] / "data" / "table.schema.json").read_text(encoding="utf-8")
)


RELEASES = Releases(
    torch=(
        Torch(version="2.9.0"),
        Torch(version="2.9.1"),
        Torch(version="2.10.0"),
        Torch(version="2.11.0", python=SpecifierSet(">=3.11")),
        Torch(version="2.12.0"),
        Torch(version="2.12.1", yanked="broken"),
    ),
    vllm=(
        vllm("0.14.0", "2.9.0"),
        vllm("0.14.1", "2.9.1"),
        vllm("0.19.0", "2.10.0"),
        vllm("0.19.1", "2.10.0", "<3.12,>=3.10"),
        vllm("0.20.0", "2.11.0"),
        vllm("0.20.1", "2.11.0", yanked="bad"),
    ),
    pythons=("3.10", "3.11", "3.12"),
    matrix_vllm=("0.19.1",),
)
NEEDS = "`_C.abi3.so` needs c10::f(int)"


def links(cell: Cell) -> Answer | None:
    """Old and new torches do not mix; of 2.9.0 nobody knows."""
    if cell.torch == "2.9.0":
        return None
    old = cell.torch == "2.9.1", cell.vllm.startswith("0.14")
    return Answer(ok=True) if old[0] == old[1] else Answer(ok=False, facts=quoted(NEEDS))


def resolves(cell: Cell, platform: str) -> Answer | None:
    if cell.vllm != "0.20.0":
        return None
    return Answer(ok=cell.python != "3.12", facts=quoted("no certifi"), asked="2026-11-23")


def ran(verdict: Verdict, fails: Rung | None = None, reason: str | None = None) -> RunEvidence:
    top = RUNGS.index(fails) if fails else len(RUNGS)
    passed = frozenset(set(RUNGS[:top]) - {Rung.DECLARED, Rung.LINKS})
    return RunEvidence(
        verdict=verdict, passed=passed, fails=fails, reason=recorded(reason), day="2026-11-22"
    )


SEEN = {
    (Cell("3.11", "2.10.0", "0.19.1"), "cuda"): ran(Verdict.COMPATIBLE),
    (Cell("3.10", "2.10.0", "0.19.1"), "cuda"): ran(
        Verdict.INCOMPATIBLE, Rung.STARTS_COLD, "KeyError: x | y"
    ),
    (Cell("3.11", "2.11.0", "0.19.1"), "cpu"): ran(Verdict.COMPATIBLE),
    (Cell("3.11", "2.9.1", "0.19.1"), "cuda"): ran(Verdict.COMPATIBLE),
    (Cell("3.11", "2.9.0", "0.14.0"), "cpu"): RunEvidence(
        verdict=Verdict.UNTESTED,
        passed=frozenset({Rung.RESOLVES, Rung.IMPORTS}),
        fails=None,
        reason=recorded("no space left"),
        day="2026-11-22",
    ),
}
GRID = survey(RELEASES, resolves=resolves, links=links, seen=SEEN)


def standing(
    torch: str, vllm: str, platform: Platform = Platform.CUDA
) -> tuple[str | None, str | None]:
    shown = GRID.squares[platform, torch, vllm].shown
    return shown.reached, shown.fails


def test_every_pair_of_every_release_has_a_square_with_every_python() -> None:
    assert len(GRID.squares) == 2 * 6 * 6
    assert {len(square.cells) for square in GRID.squares.values()} == {3}
    assert sum(GRID.counts(Platform.CUDA).values()) == 36
    assert sum(GRID.cell_counts(Platform.CPU).values()) == 108


def test_a_pair_gets_as_far_as_its_evidence_goes() -> None:
    assert standing("2.9.1", "0.14.1") == ("links", None)
    assert standing("2.9.0", "0.14.1") == (None, None)
    assert standing("2.10.0", "0.14.1") == (None, "links")
    assert standing("2.10.0", "0.14.1", Platform.CPU) == (None, None)
    # Python 3.12 does not resolve, 3.10 is not for this torch; 3.11 speaks for the pair.
    assert standing("2.11.0", "0.20.0") == ("links", None)
    # Where it ran, the worst Python does.
    assert standing("2.10.0", "0.19.1") == ("imports", "starts cold")
    assert standing("2.11.0", "0.19.1", Platform.CPU) == ("as expected", None)
    assert GRID.squares[Platform.CUDA, "2.9.1", "0.19.1"].shown.contradictions


def test_what_is_asked_is_for_the_python() -> None:
    asked: list[Cell] = []

    def ask(cell: Cell) -> None:
        asked.append(cell)

    survey(RELEASES, links=ask)
    assert Cell("3.10", "2.11.0", "0.20.0") not in asked
    assert Cell("3.12", "2.10.0", "0.19.1") not in asked
    # torch 2.11.0 is not for 3.10 and vLLM 0.19.1 not for 3.12.
    assert len(asked) == len(set(asked)) == 36 * 3 - 6 - 6


def test_a_person_sees_the_newest_patch_what_is_pinned_and_what_ran() -> None:
    assert [row.version for row in GRID.rows] == ["0.14.0", "0.14.1", "0.19.1", "0.20.0"]
    columns = ["2.9.0", "2.9.1", "2.10.0", "2.11.0", "2.12.0"]
    assert [column.version for column in GRID.columns] == columns
    older = {(Cell("3.11", "2.12.1", "0.19.0"), "cpu"): ran(Verdict.COMPATIBLE)}
    seen = survey(RELEASES, seen=older)
    assert [row.version for row in seen.rows][2:4] == ["0.19.0", "0.19.1"]
    assert [column.version for column in seen.columns][-2:] == ["2.12.0", "2.12.1"]


def test_where_all_patches_were_yanked_the_newest_is_shown() -> None:
    torch = (Torch(version="2.9.0", yanked="a"), Torch(version="2.9.1", yanked="b"))
    grid = survey(replace(RELEASES, torch=torch, vllm=(vllm("0.14.1", "2.9.1", yanked="c"),)))
    assert [column.version for column in grid.columns] == ["2.9.1"]
    assert [row.version for row in grid.rows] == ["0.14.1"]


def test_an_environment_stands_for_the_newest_patch_and_its_pin() -> None:
    named = environments(RELEASES)
    assert len(named) == 3 * 4 * 3
    assert all(RELEASES.resolve(name) == cell for name, cell in named.items() if fits(cell))
    assert named["py311-torch29-vllm014"] == Cell("3.11", "2.9.1", "0.14.1")
    assert named["py311-torch212-vllm020"] == Cell("3.11", "2.12.0", "0.20.0")
    assert named["py311-torch210-vllm014"] == Cell("3.11", "2.10.0", "0.14.1")
    two = (vllm("0.11.0", "2.9.0"), vllm("0.11.1", "2.10.0"), vllm("0.11.2", "2.9.1", yanked="x"))
    mixed = environments(replace(RELEASES, vllm=two))
    assert mixed["py311-torch29-vllm011"] == Cell("3.11", "2.9.0", "0.11.0")
    assert mixed["py311-torch210-vllm011"] == Cell("3.11", "2.10.0", "0.11.1")
    assert mixed["py311-torch212-vllm011"] == Cell("3.11", "2.12.0", "0.11.1")


REAL = load_releases()


def fits(cell: Cell, releases: Releases = RELEASES) -> bool:
    return declared(cell, releases).fits


def test_it_is_the_cell_that_the_matrix_has_by_that_name() -> None:
    named = environments(REAL)
    assert all(named[cell.name] == cell for cell in REAL.on_pin())
    assert all(name == cell.name for name, cell in named.items())
    some = [name for name in named if name.startswith("py312-torch21")]
    assert len(some) > 50
    assert all(REAL.resolve(word) == named[word] for word in some if fits(named[word], REAL))


def record(cell: str, **provenance: object) -> Record:
    return Record(
        cell=cell,
        platform=Platform.CPU,
        finished=True,
        provenance={"started": "2026-11-22T18:00:00Z", **provenance},
    )


def test_a_record_counts_for_the_versions_that_ran() -> None:
    verdict = CellVerdict(verdict=Verdict.COMPATIBLE, rung=Rung.AS_EXPECTED)
    judged = [
        (record("py311-torch29-vllm014", torch="2.9.0+cu128", vllm="0.14.0"), verdict),
        (record("py310-torch29-vllm014", torch=None, vllm=None), verdict),
        (record("py310-torch88-vllm014", torch="2.9.0"), verdict),
    ]
    assert set(runs(judged, RELEASES)) == {
        (Cell("3.11", "2.9.0", "0.14.0"), "cpu"),
        (Cell("3.10", "2.9.1", "0.14.1"), "cpu"),
    }
    assert ran_cell(record("py311-torch29-vllm014", torch="main", vllm="0.14.0")) is None


def test_the_grid_reads_as_a_release_manager_would_have_it() -> None:
    told = report.section(GRID)
    links = "links: &#96;\\_C.abi3.so&#96; needs c10::f(int)"
    cuda = told.partition("### cuda\n")[2].partition("### cpu\n")[0].strip().splitlines()
    assert cuda == [
        "| vLLM ↓ torch → | 2.9.0 | 2.9.1 | 2.10.0 | 2.11.0 | 2.12.0 |",
        "| --- | --- | --- | --- | --- | --- |",
        (
            "| **0.14.0** | **declared** | links ? | ❌ links \\[1\\] | ❌ links \\[1\\] |"
            " ❌ links \\[1\\] |"
        ),
        "| **0.14.1** | · | **links ?** | ❌ links \\[1\\] | ❌ links \\[1\\] | ❌ links \\[1\\] |",
        (
            "| **0.19.1** | · | ✅ as expected \\[2\\] | **❌ starts cold \\[3\\]** | links ? |"
            " links ? |"
        ),
        (
            "| **0.20.0** | resolves \\[4\\] | ❌ links \\[1, 4\\] | links \\[4\\] |"
            " **links \\[4\\]** | links \\[4\\] |"
        ),
        "",
        (
            "1. vLLM 0.14.0 to 0.14.1 under torch 2.10.0 to 2.12.0; vLLM 0.20.0 under torch 2.9.1:"
            f" {links}"
        ),
        f"2. vLLM 0.19.1 under torch 2.9.1 on Python 3.10: {links}",
        "3. vLLM 0.19.1 under torch 2.10.0: starts cold: KeyError: x &#124; y",
        (
            "4. vLLM 0.20.0 under torch 2.9.0 to 2.12.0 on Python 3.12: resolves: no certifi"
            " (asked on 2026-11-23)"
        ),
    ]


def test_the_counts_of_each_rung_are_told() -> None:
    told = report.section(GRID)
    head = "| rung | cuda: reached | cuda: fails here | cpu: reached | cpu: fails here |"
    rows = told.partition(head)[2].split("\n\n")[0].splitlines()[2:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [
        *reversed(RUNGS),
        "off-pin, not asked",
    ]
    cuda = sum(int(number) for row in rows for number in row.split("|")[2:4] if number.strip())
    assert cuda == 36
    assert "36 pairs, 108 cells on each platform" in told


def test_what_does_not_build_is_counted_between_declared_and_resolves() -> None:
    unbuilt = RunEvidence(
        verdict=Verdict.INCOMPATIBLE,
        passed=frozenset(),
        fails=Rung.BUILDS,
        reason=recorded("no such member"),
        day="2026-11-22",
    )
    found = survey(RELEASES, seen={(Cell("3.11", "2.10.0", "0.19.1"), "cpu"): unbuilt})
    told = report.section(found).splitlines()
    (at,) = [number for number, line in enumerate(told) if line.startswith("| builds ")]
    assert [cell.strip() for cell in told[at].split("|")[2:6]] == ["", "", "", "1"]
    assert told[at - 1].startswith("| resolves") and told[at + 1].startswith("| declared")
    content = json.loads(table_json.render(Report(table=Table(entries=()), grid=found)))
    Draft202012Validator(SCHEMA).validate(content)
    counts = content["grid"]["counts"]
    assert counts["cpu"]["pairs"]["fails"]["builds"] == 1
    for platform, number in (("cuda", 36), ("cpu", 36)):
        pairs = counts[platform]["pairs"]
        assert sum(pairs["reached"].values()) + sum(pairs["fails"].values()) == number
    assert "builds" not in counts["cuda"]["pairs"]["fails"]


def test_contradictions_and_what_was_yanked_are_named() -> None:
    told = report.section(GRID)
    assert (
        "- `py311-torch29-vllm019` on cuda: does not link (&#96;\\_C.abi3.so&#96; needs"
        " c10::f(int)), but was imported on 2026-11-22\n" in told
    )
    torch = (*RELEASES.torch[:4], Torch(version="2.12.0", yanked="a | b"))
    told = report.section(survey(replace(RELEASES, torch=torch)))
    assert "| 2.12.0\\* |" in told
    assert "\\* Yanked from the index: torch 2.12.0 (a &#124; b).\n" in told


def test_a_run_that_shows_nothing_is_told_with_why() -> None:
    told = report.section(GRID).partition("### cpu\n")[2]
    assert "| **0.14.0** | **❔ imports \\[1\\]** |" in told
    assert "1. vLLM 0.14.0 under torch 2.9.0: untested: no space left\n" in told


def test_on_a_terminal_it_is_aligned() -> None:
    told = grid_text.lines(GRID, (Platform.CUDA,)).splitlines()
    assert told[0] == "cuda: vLLM below, torch to the right"
    assert told[1].split() == ["vLLM", "pins", "2.12.0", "2.11.0", "2.10.0", "2.9.1", "2.9.0"]
    at = told[1].index("2.10.0")
    assert [line[at:].split("  ")[0] for line in told[2:6]] == [
        "links [1]",
        "no starts cold [3] *",
        "no links [2]",
        "no links [2]",
    ]
    assert told[6].startswith("* is the torch that a vLLM pins")
    assert told[7].startswith("  [1] vLLM 0.20.0 under torch 2.9.0 to 2.12.0 on Python 3.12: ")
    assert told[8].startswith("  [2] vLLM 0.14.0 to 0.14.1 under torch 2.10.0 to 2.12.0; ")


def test_the_json_has_every_release_and_obeys_its_schema() -> None:
    content = json.loads(table_json.render(Report(table=Table(entries=()), grid=GRID)))
    Draft202012Validator(SCHEMA).validate(content)
    assert content["schema"] == 3
    grid = content["grid"]
    assert len(grid["squares"]) == 72
    for square in grid["squares"]:
        pythons = [python for result in square["results"] for python in result["pythons"]]
        assert sorted(pythons) == sorted(RELEASES.pythons)
    for platform in PLATFORMS:
        for what, total in (("pairs", 36), ("cells", 108)):
            counts = grid["counts"][platform][what]
            assert sum(counts["reached"].values()) + sum(counts["fails"].values()) == total
    [found] = [
        square
        for square in grid["squares"]
        if (square["platform"], square["torch"], square["vllm"]) == ("cuda", "2.10.0", "0.19.1")
    ]
    assert found["off_pin"] is False
    assert {tuple(result["pythons"]): result["fails"] for result in found["results"]} == {
        ("3.10",): "starts cold",
        ("3.11",): None,
        ("3.12",): "declared",
    }


def test_without_a_grid_the_table_is_as_it_was() -> None:
    Draft202012Validator(SCHEMA).validate(
        json.loads(table_json.render(Report(table=Table(entries=()))))
    )
    assert "Every torch" not in markdown.render(Report(table=Table(entries=())))
    assert report.section(Grid(torch=(), vllm=(), pythons=(), squares={})) == ""


@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False))
def test_the_grid_is_the_same_for_any_order_of_the_records(rng: random.Random) -> None:
    mixed = list(SEEN.items())
    rng.shuffle(mixed)
    again = survey(RELEASES, resolves=resolves, links=links, seen=dict(mixed))
    assert report.section(again) == report.section(GRID)
    assert report.squares(again) == report.squares(GRID)
    assert report.content(again) == report.content(GRID)


LINES = len(table_json.render(Report(table=Table(entries=()), grid=GRID)).splitlines())
CALM = [
    line.count("|")
    for line in report.section(
        survey(RELEASES, links=lambda cell: Answer(ok=False, facts=quoted("x")))
    ).splitlines()
    if line.startswith("|")
]


@settings(deadline=None, max_examples=30)
@given(st.text() | st.just('"squares": []'), st.sampled_from(["links", "resolves"]))
def test_hostile_reasons_are_shown_as_text(said: str, rung: str) -> None:
    answer = Answer(ok=False, facts=quoted(said))
    if rung == "links":
        grid = survey(RELEASES, links=lambda cell: answer)
    else:
        grid = survey(RELEASES, resolves=lambda cell, platform: answer)
    text = table_json.render(Report(table=Table(entries=()), grid=grid))
    Draft202012Validator(SCHEMA).validate(json.loads(text))
    assert len(text.splitlines()) == LINES
    told = report.section(grid).splitlines()
    assert [line.count("|") for line in told if line.startswith("|")] == CALM
    assert not any("<" in line for line in told)


@pytest.mark.parametrize(
    ("places", "told"), [([0], "a"), ([0, 1], "a to b"), ([0, 2], "a, c"), ([0, 1, 3], "a to b, d")]
)
def test_neighbours_are_told_as_a_range(places: list[int], told: str) -> None:
    assert text.spans(["a", "b", "c", "d"], places) == told
