"""What is predicted of a pair that never ran on CUDA, and how often that is right."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histories import RAY
from made import failed, make
from matrix._util.grouped import group
from matrix.catalog.cells import Cell
from matrix.checks.facts import quoted
from matrix.checks.lookup import Answer
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Rung,
    Start,
    StartKind,
)
from matrix.report import csv_table, grid, grid_text, markdown, page, prediction, table_json
from matrix.report.model import Report
from matrix.verdict.grid import runs, survey
from matrix.verdict.prediction import Forecast
from matrix.verdict.predictions import Predictions, predict_pairs
from matrix.verdict.share import Share
from matrix.verdict.states import Verdict
from matrix.verdict.table import Table, tabulate
from page_text import readable
from plans import RELEASES
from rules import ANY_CASE, HIT, MISS, SAVED
from table_schema import validate

TORCH, VLLM = "2.10.0", "0.19.1"
YES, NO = Answer(ok=True), Answer(ok=False, facts=quoted("no"))
UNKNOWN = Answer(ok=False, unknown=True, facts=quoted("who knows"))
PlacedRecord = tuple[Path, Record]
Links = Mapping[tuple[str, str], Answer | None]


def case(name: str = "moe", saved: int = 3, **warm: int) -> Case:
    """Return a case that started cold and warm; one that saved 3 is as expected."""
    kept = {"aot_autograd.autograd_cache_saved": 3, MISS: 3}
    starts = (
        Start(start=StartKind.COLD, seconds={}, counters={SAVED: saved, **kept}),
        Start(start=StartKind.WARM, seconds={}, counters={SAVED: 0, HIT: 3, **warm}),
    )
    return Case(case=name, outcome=Outcome.PASSED, starts=starts)


def again(name: str = "moe") -> Case:
    """Return a case that is as expected and compiles again on its warm start."""
    return case(name, **{MISS: 2})


def skipped(name: str) -> Case:
    return Case(case=name, outcome=Outcome.NOT_APPLICABLE, reason="no kernel")


def ran(
    platform: str, *cases: Case, torch: str = TORCH, vllm: str = VLLM, **more: Any
) -> PlacedRecord:
    return make(torch, *cases, vllm=vllm, platform=Platform(platform), departures=(), **more)


def report_of(records: Iterable[PlacedRecord], links: Links | None = None) -> Report:
    """Return the table and the grid of these records, with what they predict."""

    def linked(cell: Cell) -> Answer | None:
        return (links or {}).get((cell.torch, cell.vllm), YES)

    table = tabulate(records, ANY_CASE, releases=RELEASES)
    return Report(
        table=table,
        grid=survey(
            RELEASES,
            resolves=lambda _cell, _platform: YES,
            links=linked,
            seen=runs(table.verdicts, RELEASES),
        ),
        predictions=predict_pairs(
            table.entries, RELEASES, resolves=lambda _cell, _platform: YES, links=linked
        ),
    )


def predicted(*records: PlacedRecord, links: Links | None = None) -> Predictions:
    return report_of(records, links).predictions


def shown(*records: PlacedRecord, links: Links | None = None) -> str:
    """Return what a terminal shows of the pair on CUDA, and below its grid."""
    report = report_of(records, links)
    assert report.grid is not None
    lines = grid_text.lines(report.grid, (Platform.CUDA,), report.predictions).splitlines()
    at = lines[1].index(TORCH)
    [row] = [line for line in lines if line.startswith(VLLM)]
    below = lines[[line.startswith("* is the torch") for line in lines].index(True) + 1 :]
    return "\n".join([row[at:].split("  ")[0], *below])


LEGEND = "predicted: what the CPU's run and the first rungs predict; "
NOBODY = f"{LEGEND}no case that ran on both has a verdict, so nobody knows how often that is right"


def test_a_pair_that_never_ran_on_cuda_keeps_its_rung_and_gets_a_prediction() -> None:
    assert shown(ran("cpu", case(), again("mla"))).splitlines() == [
        "links, predicted as expected *",
        NOBODY,
        (
            "  vLLM 0.19.1 under torch 2.10.0: as expected, 1 case recompiles warm;"
            " by py311-torch210-vllm019 on cpu (2026-11-22);"
            " checks passed: declared, resolves and links"
        ),
    ]


@pytest.mark.parametrize(
    ("cases", "error", "word"),
    [
        ((case(), case("b", saved=1)), None, "drift"),
        ((case(), failed("b", "KeyError: x")), None, "no starts cold"),
        ((), RunError(kind=ErrorKind.IMPORTS, reason="ImportError: x"), "no imports"),
    ],
)
def test_what_the_cpu_fails_or_drifts_at_is_predicted(
    cases: tuple[Case, ...], error: RunError | None, word: str
) -> None:
    text = shown(ran("cpu", *cases, error=error))
    assert text.splitlines()[0] == f"links, predicted {word} *"
    assert f"2.10.0: {word}; by py311" in text


def test_what_nobody_asked_is_named() -> None:
    cpu = ran("cpu", case(), skipped("mla"), deselected=7)
    text = shown(cpu, links={(TORCH, VLLM): None})
    assert text.splitlines()[0] == "resolves, predicted as expected *"
    assert (
        "1 case without an answer; checks passed: declared and resolves; not asked: links" in text
    )
    assert predicted(cpu, links={(TORCH, VLLM): UNKNOWN}).of[CELL].unasked == (Rung.LINKS,)
    assert predicted(cpu).of[CELL].unanswered == ("mla",)
    assert predicted(cpu).of[CELL].part == (2, 9)


CELL = Cell("3.11", TORCH, VLLM)


def test_a_failing_rung_stays_the_answer() -> None:
    text = shown(ran("cpu", case()), links={(TORCH, VLLM): NO})
    assert text == "no links [1] *\n  [1] vLLM 0.19.1 under torch 2.10.0: links: no"


@pytest.mark.parametrize("python", ["3.10", "3.11"])
def test_a_pair_that_ran_on_cuda_on_any_python_has_no_prediction(python: str) -> None:
    cuda = ran("cuda", case(), python=python)
    assert predicted(ran("cpu", case()), cuda).of == {}
    assert "predicted" not in shown(ran("cpu", case()), cuda)


def test_a_run_of_cuda_without_an_answer_leaves_the_prediction() -> None:
    full = RunError(kind=ErrorKind.NO_SPACE, reason="no space left")
    text = shown(ran("cpu", case()), ran("cuda", error=full, finished=False))
    assert text.startswith("links, predicted as expected")
    # A part of the cases that drifted is an answer.
    some = ran("cuda", case(saved=1), deselected=8)
    assert predicted(ran("cpu", case()), some).of == {}


def test_a_run_of_the_cpu_without_a_verdict_predicts_nothing() -> None:
    full = RunError(kind=ErrorKind.NO_SPACE, reason="no space left")
    assert predicted(ran("cpu", error=full, finished=False)).of == {}
    assert predicted().of == {}


def test_the_same_python_predicts_else_the_worst() -> None:
    here, there = ran("cpu", case()), ran("cpu", case(saved=1), python="3.10")
    of = predicted(here, there).of
    assert {cell.python: (found.cpu, found.verdict) for cell, found in of.items()} == {
        "3.10": ("py310-torch210-vllm019", Verdict.DRIFT),
        "3.11": ("py311-torch210-vllm019", Verdict.COMPATIBLE),
    }
    assert predicted(there).of[CELL].verdict is Verdict.DRIFT


def accuracy(
    cpu: PlacedRecord, cuda: PlacedRecord, links: Links | None = None
) -> tuple[Share, Share]:
    found = predicted(cpu, cuda, links=links).accuracy
    assert found.cases.of - found.cases.right == len(found.wrong)
    return found.cases, found.apart


def test_a_prediction_is_held_against_what_cuda_showed_case_by_case() -> None:
    cpu = ran("cpu", case("a"), again("b"), case("c"), skipped("d"), failed("e"), case("f"))
    cuda = ran(
        "cuda", case("a"), case("b"), case("c", saved=1), case("d"), failed("e"), skipped("f")
    )
    assert accuracy(cpu, cuda) == (Share(right=2, of=4), Share(right=1, of=2))
    wrong = predicted(cpu, cuda).accuracy.wrong
    assert [(miss.case, miss.predicted, miss.measured) for miss in wrong] == [
        ("b", Forecast(Verdict.COMPATIBLE, None, True), Forecast(Verdict.COMPATIBLE)),
        ("c", Forecast(Verdict.COMPATIBLE), Forecast(Verdict.DRIFT)),
    ]
    *lines, last = prediction.summary(predicted(cpu, cuda).accuracy)
    assert lines == [
        "",
        "predicted wrongly          case  predicted                     on cuda",
        "torch 2.10.0, vLLM 0.19.1  b     as expected, recompiles warm  as expected",
        "torch 2.10.0, vLLM 0.19.1  c     as expected                   drift",
        "",
    ]
    assert last == (
        f"{LEGEND}of 4 cases that ran on both, 2 were predicted correctly; of the 2 that failed or"
        " drifted on cuda, 1"
    )


def test_a_run_that_fails_as_a_whole_answers_for_its_cases() -> None:
    broken = RunError(kind=ErrorKind.IMPORTS, reason="ImportError: x")
    both = ran("cpu", error=broken), ran("cuda", error=broken)
    assert accuracy(*both) == (Share(right=1, of=1), Share(right=1, of=1))
    good = ran("cuda", case("a"), case("b"), skipped("c"))
    assert accuracy(both[0], good) == (Share(right=0, of=2), Share(right=0, of=0))
    assert accuracy(ran("cpu", case("a"), skipped("b")), both[1]) == (
        Share(right=0, of=1),
        Share(right=0, of=1),
    )


def test_a_pair_whose_first_rungs_fail_is_not_predicted_and_does_not_count() -> None:
    both = ran("cpu", case()), ran("cuda", case())
    assert accuracy(*both)[0] == Share(right=1, of=1)
    assert accuracy(*both, links={(TORCH, VLLM): NO})[0] == Share(right=0, of=0)


def test_a_stock_run_of_cuda_decides() -> None:
    path, apart = ran("cuda", again("a"), case("b"), day=23)
    other = path, replace(apart, departures=(RAY,))
    stock = ran("cuda", case("a"), python="3.10")
    assert predicted(ran("cpu", case("a")), other).accuracy.cases == Share(right=0, of=1)
    assert predicted(ran("cpu", case("a")), other, stock).accuracy.cases == Share(right=1, of=1)


def test_every_form_of_the_table_shows_it_apart() -> None:
    report = report_of([ran("cpu", case(), skipped("mla"))])
    text = markdown.render(report)
    assert "| **links, predicted as expected** |" in text
    assert "*Predicted*, never measured: what the CPU's run" in text
    content = json.loads(table_json.render(report))
    validate(content)
    assert content["grid"]["predictions"]["cases"] == {"right": 0, "of": 0}
    [found] = [square for square in content["grid"]["squares"] if "predicted" in square]
    assert (found["platform"], found["torch"], found["vllm"]) == ("cuda", TORCH, VLLM)
    assert {row["verdict"] for row in found["results"]} == {"untested"}
    [row] = found["predicted"]
    assert (row["pythons"], row["verdict"], row["unanswered"]) == (
        ["3.10", "3.11"],
        "compatible",
        ["mla"],
    )
    rows = list(csv.DictReader(io.StringIO(csv_table.render(report))))
    assert {
        (row["platform"], row["python"], row["verdict"]) for row in rows if row["predicted"]
    } == {
        ("cuda", "3.10", "untested"),
        ("cuda", "3.11", "untested"),
    }
    assert report.grid is not None
    square = report.grid.squares[Platform.CUDA, TORCH, VLLM]
    assert page.mark(square.shown, predicted=True) == "·L◌"
    text = readable(page.render(replace(report, table=Table(entries=()))))
    assert text.count(">·L◌</button>") == 1
    assert '"predicted as expected","as expected; by py311-torch210-vllm019 on cpu' in text
    wrong = report_of([ran("cpu", case()), ran("cuda", case(saved=1))])
    validate(json.loads(table_json.render(wrong)))


KINDS: Mapping[str, tuple[Case, ...]] = {
    "good": (case(), case("b")),
    "again": (again(), case("b")),
    "drift": (case(saved=1), case("b")),
    "fails": (failed(), case("b")),
    "apart": (skipped("moe"), case("b")),
    "nothing": (),
}
PLACES = st.tuples(
    st.sampled_from(["cpu", "cuda"]),
    st.sampled_from(["3.10", "3.11"]),
    st.sampled_from(["2.10.0", "2.11.0"]),
    st.sampled_from(["0.19.1", "0.26.0"]),
)
ANSWERS = st.sampled_from([YES, NO, UNKNOWN, None])
PAIRS = st.tuples(st.sampled_from(["2.10.0", "2.11.0"]), st.sampled_from(["0.19.1", "0.26.0"]))


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(PLACES, st.sampled_from(sorted(KINDS)), max_size=8),
    st.dictionaries(PAIRS, ANSWERS),
)
def test_predictions_change_nothing_that_is_measured(
    found: Mapping[tuple[str, str, str, str], str], links: Links
) -> None:
    records = [
        ran(platform, *KINDS[kind], python=python, torch=torch, vllm=vllm)
        for (platform, python, torch, vllm), kind in found.items()
    ]
    report = report_of(records, links)
    assert report.grid is not None
    squares = grid.squares(report.grid, report.predictions)
    assert [
        {key: value for key, value in square.items() if key != "predicted"} for square in squares
    ] == grid.squares(report.grid)
    for counts in ("counts", "torch", "vllm"):
        assert (
            grid.content(report.grid, report.predictions)[counts]
            == (grid.content(report.grid)[counts])
        )
    answered = {
        (torch, vllm)
        for (platform, _, torch, vllm), kind in found.items()
        if platform == "cuda" and kind != "nothing"
    }
    for cell in report.predictions.of:
        assert (cell.torch, cell.vllm) not in answered
        square = report.grid.squares[Platform.CUDA, cell.torch, cell.vllm]
        progress = square.on_python(cell.python)
        assert progress is not None and progress.fails is None
    # The pairs that count are predicted as if their records of CUDA did not exist.
    of_cpu = [(path, record) for path, record in records if record.platform is Platform.CPU]
    without = report_of(of_cpu, links).predictions
    by_pair = group(without.of, lambda cell: (cell.torch, cell.vllm))
    assert report.predictions.accuracy.pairs == len(answered & by_pair.keys())
    assert without.accuracy.pairs == 0
    for wrong in report.predictions.accuracy.wrong:
        cells = by_pair[wrong.torch, wrong.vllm]
        assert any(without.of[cell].cases.get(wrong.case) == wrong.predicted for cell in cells)
