"""The page as a file: its form, its data, and what hostile records make of it."""

import re
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.catalog.cells import Cell
from matrix.checks.declared import Declarations
from matrix.checks.facts import quoted
from matrix.checks.lookup import Answer
from matrix.errors import MatrixError
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
)
from matrix.report import page
from matrix.report.model import Report
from matrix.report.page import encoding
from matrix.verdict.grid import environments
from matrix.verdict.ladder import assess
from matrix.verdict.states import VERDICTS
from matrix.verdict.table import tabulate
from page_text import decoded
from pages import RELEASES, make, whole_report
from rules import MOE

EVIL = "</script><script>document.title='evil'</script><img src=x onerror=alert(1)> & '\" \u2028"
VOID = {"meta", "input", "br", "img", "link", "hr"}


def moe(loaded: int = 3, **more: Any) -> Case:
    starts = (
        Start(
            start=StartKind.COLD,
            seconds={"total": 61.24, "dynamo": 6.0},
            counters={"num_compiled_artifacts_saved": 3},
        ),
        Start(
            start=StartKind.WARM,
            seconds={"total": 1000.06},
            counters={
                "num_compiled_artifacts_saved": 0,
                "num_compiled_artifacts_loaded": loaded,
                "inductor.extern_calls": 1_000_000,
            },
        ),
    )
    return Case(case="moe", **{"outcome": "passed", "starts": starts, **more})


def failed(message: str, trace: str) -> Case:
    return moe(outcome="failed", starts=(), reason=message, signature=message, failure=trace)


RECORDS = [
    make("py311-torch210-vllm019", "2.10.0+cu128", "0.19.1", moe()),
    make("py311-torch210-vllm018", "2.10.0+cu128", "0.18.1", moe(loaded=1)),
    make("py311-torch211-vllm020", "2.11.0", "0.20.2", failed(EVIL, f"a\n  b {EVIL}\n\x1b[1mc 17")),
    make(
        "py311-torch29-vllm016",
        "2.9.1",
        "0.16.0",
        error=RunError(kind=ErrorKind.NO_SPACE, reason="the disk is full"),
    ),
    make("py311-torch212-vllm020", "2.12.1", "0.20.2", moe()),
    # It ran a nightly that the grid does not have.
    make("py311-torch210-vllm017", "2.10.0.dev1", "0.17.1", moe()),
]


def report_of(records: list[tuple[Path, Record]] = RECORDS) -> Report:
    return whole_report(records, MOE)


REPORT = report_of()
NAMED = environments(RELEASES)


class Read(HTMLParser):
    """The elements of a page, which must nest and end; scripts and the texts of squares."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: Counter[str] = Counter()
        self.ids: list[str] = []
        self.scripts: list[str] = []
        self.squares: list[tuple[str, str]] = []
        self.scopes: list[str | None] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        output = dict(attrs)
        assert len(output) == len(attrs), f"an attribute of {tag} stands there twice"
        assert not any(name.startswith("on") for name in output), f"{tag} has a handler"
        assert not {"src", "srcset", "style"} & set(output), f"{tag} loads something"
        self.seen[tag] += 1
        if "id" in output:
            self.ids.append(str(output["id"]))
        if tag == "th":
            self.scopes.append(output.get("scope"))
        if tag == "script":
            self.scripts.append("")
        if tag == "button" and "tabindex" in output:
            self.squares.append((str(output["class"]), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        if self.open[-1:] == ["button"] and "tbody" in self.open:
            self.squares[-1] = (self.squares[-1][0], data)


def content(text: str) -> dict[str, Any]:
    found: Any = encoding.unembedded(Read(text).scripts[0])
    return dict(found)


PAGE = page.render(REPORT, NAMED)


def test_the_page_is_well_formed_and_asks_for_nothing() -> None:
    read = Read(PAGE)
    assert PAGE.startswith("<!DOCTYPE html>")
    assert len(read.ids) == len(set(read.ids))
    assert (read.seen["script"], read.seen["style"], read.seen["table"]) == (2, 1, 1)
    assert not {"link", "img", "iframe", "object", "base"} & set(read.seen)
    assert set(read.scopes) == {"col", "row"}
    assert "http://" not in PAGE.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in PAGE and "default-src 'none'" in PAGE


def test_the_page_says_for_which_builds_the_first_rungs_answer() -> None:
    text = " ".join(PAGE.split())
    assert "Linux on x86_64 with glibc 2.35, each torch for the CUDA of that wheel." in text


def test_each_square_stands_in_the_page_as_in_the_grid() -> None:
    grid = REPORT.grid
    assert grid is not None
    wanted = [
        grid.squares[Platform.CPU, torch.version, vllm.version].shown
        for vllm in grid.rows[::-1]
        for torch in grid.columns[::-1]
    ]
    read = Read(PAGE)
    assert [message for _, message in read.squares] == [page.mark(item) for item in wanted]
    assert [style[:2] for style, _ in read.squares] == [
        f"s{VERDICTS.index(item.verdict)}" for item in wanted
    ]
    assert [style.endswith(" p") for style, _ in read.squares] == [not c.off_pin for c in wanted]


def test_a_vllm_that_does_not_build_has_a_letter_and_a_step_of_its_own() -> None:
    error = RunError(kind=ErrorKind.BUILDS, reason="error: no such member")
    rung = RungResult(rung=Rung.BUILDS, ok=False, reason="error: no such member")
    report = report_of(
        [make("py311-torch210-vllm019", "2.10.0", "0.19.1", error=error, rungs=(rung,))]
    )
    text = page.render(report, NAMED)
    (square,) = [mark for style, mark in Read(text).squares if " r" in style]
    assert square == "×B"
    assert "<b>D</b> declared, <b>B</b> builds (a vLLM from its sources), <b>R</b> resolves" in text
    data = content(text)
    (climb,) = [climb for climb in data["climbs"] if climb and climb[2] == 8]
    assert data["rungs"][climb[2] - 1] == "builds" and data["rungs"][climb[1] - 1] == "declared"
    steps = [data["steps"][place] for place in decoded(climb[4])]
    assert data["texts"][steps[climb[2] - 1][1]] == "error: no such member"
    assert len(steps) == len(data["rungs"]) == len(page.LETTERS) == len(set(page.LETTERS))


@pytest.mark.parametrize(
    ("ran", "first"), [((), "cuda"), (("cpu",), "cpu"), (("cpu", "cuda"), "cuda")]
)
def test_the_page_opens_on_the_first_platform_on_which_something_ran(
    ran: tuple[str, ...], first: str
) -> None:
    cell = "py311-torch210-vllm019", "2.10.0", "0.19.1", moe()
    text = page.render(report_of([make(*cell, platform=item) for item in ran]), NAMED)
    assert content(text)["first"] == first
    assert f'value="{first}" checked' in text and f"the grid of {first}." in text
    squares = dict(Counter(style for style, _ in Read(text).squares))
    assert any(style.startswith("s3 r") for style in squares) == bool(ran)


def test_a_mark_says_where_a_rung_below_was_not_asked() -> None:
    cell = Cell("3.12", "2.9.0", "0.14.1")
    declared = Declarations(RELEASES).of(cell)
    asked = assess(cell, Platform.CUDA, declared, resolves=Answer(ok=True), links=Answer(ok=True))
    assert page.mark(asked) == "·L"
    assert page.mark(assess(cell, Platform.CUDA, declared, links=Answer(ok=True))) == "·L?"
    assert (
        page.mark(assess(cell, Platform.CUDA, declared, links=Answer(ok=False, facts=quoted("no"))))
        == "×L"
    )


def test_every_climb_of_every_square_is_in_the_data() -> None:
    grid, data = REPORT.grid, content(PAGE)
    assert grid is not None
    for platform in grid.platforms:
        squares = decoded(data["grid"][platform])
        places = iter(squares)
        for vllm in grid.rows[::-1]:
            for torch in grid.columns[::-1]:
                square = grid.squares[platform, torch.version, vllm.version]
                shown, *climbs = decoded(data["squares"][next(places)])
                assert square.cells[shown] == square.shown
                assert [data["climbs"][item][0] for item in climbs] == [
                    VERDICTS.index(progress.verdict) for progress in square.cells
                ]
                for place, climb in zip(climbs, square.cells, strict=True):
                    states = [data["steps"][item] for item in decoded(data["climbs"][place][4])]
                    assert [data["states"][state] for state, _, _ in states] == [
                        step.state for step in climb.steps
                    ]


def test_counts_and_seconds_come_back_from_the_data() -> None:
    data = content(PAGE)
    entry = next(entry for entry in data["entries"] if data["vllm"][entry[2]][0] == "0.18.1")
    what, *numbers = decoded(entry[16])
    shape = decoded(data["whats"][what])
    assert data["texts"][shape[0]] == "moe" and data["verdicts"][shape[2]] == "drift"
    counts = [decoded(data["counts"][item]) for item in numbers[:2]]
    named = {
        data["texts"][name]: value
        for name, value in zip(data["names"][counts[1][0]], counts[1][1:], strict=True)
    }
    assert named == {
        "num_compiled_artifacts_saved": 0,
        "num_compiled_artifacts_loaded": 1,
        "inductor.extern_calls": 1_000_000,
    }
    assert numbers[2:] == [612, 60, 10001]
    names, values, rules = data["expected"][shape[12]]
    wanted = {
        data["texts"][item]: value for item, value in zip(data["names"][names], values, strict=True)
    }
    assert wanted == MOE.rules[1].counters and {data["texts"][item] for item in rules} == {"warm"}


def test_a_record_of_no_cell_of_the_grid_is_there_without_a_place() -> None:
    entries = content(PAGE)["entries"]
    assert [entry[2] for entry in entries].count(-1) == 1
    assert len(entries) == len(REPORT.table.entries)


def test_what_a_record_says_stays_text() -> None:
    assert "<img" not in PAGE and "<script>document" not in PAGE
    assert Read(PAGE).seen["script"] == 2
    data = content(PAGE)
    assert any(
        message.startswith("</script><script>document.title") for message in data["texts"][1:]
    )
    trace = decoded(data["traces"][1])
    lines = []
    while len(trace) > 1:
        shape = data["lines"][trace.pop(1)]
        while "\0" in shape:
            shape = shape.replace("\0", str(trace.pop(1)), 1)
        lines.append(shape)
    assert trace == [0]
    assert lines[0] == "a" and lines[1].startswith("  b </script>") and lines[2] == "c 17"


def blamed(data: dict[str, Any]) -> dict[str, list[tuple[int, str, list[str]]]]:
    """Return what the page says of whose change it is, by the vLLM of the entry."""
    found: dict[str, list[tuple[int, str, list[str]]]] = {}
    for entry in data["entries"]:
        for case, answer, packed in entry[18]:
            numbers, lines = decoded(packed), []
            while numbers:
                line = data["lines"][numbers.pop(0)]
                while "\0" in line:
                    line = line.replace("\0", str(numbers.pop(0)), 1)
                lines.append(line)
            vllm = data["vllm"][entry[2]][0]
            found.setdefault(vllm, []).append((case, data["texts"][answer], lines))
    return found


def test_whose_fault_stands_by_its_case() -> None:
    found = blamed(content(PAGE))
    [(case, answer, lines)] = found["0.18.1"]
    assert (case, answer) == (0, "vLLM")
    assert lines[0].startswith(
        "torch 2.10.0 counts warm num_compiled_artifacts_loaded 3 with vLLM 0.19.1 and 1 with"
        " 0.18.1: vLLM, until 0.19, where it is gone"
    )
    assert lines[1] == "warm num_compiled_artifacts_loaded 1, not 3"
    [(case, answer, lines)] = found["0.20.2"]
    assert (case, answer, lines[1]) == (0, "torch", "")
    assert "fails to start cold under 2.11.0: torch, until 2.12" in lines[0]
    assert lines[2] == "to know whether it is vLLM: py311-torch211-vllm019 on cpu"
    assert set(found) == {"0.18.1", "0.20.2"}


def test_of_too_many_changes_it_is_said_where_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page stays small; what fails or drifts is told whatever else changed."""
    monkeypatch.setattr("matrix.report.page.data._MOST_CHANGES", 1)
    counters = [{"num_compiled_artifacts_saved": saved} for saved in (3, 5)]
    cases = [
        [
            Case(
                case=name,
                outcome=Outcome.PASSED,
                starts=(
                    Start(start=StartKind.COLD, seconds={}, counters=numbers),
                    Start(start=StartKind.WARM, seconds={}, counters={}),
                ),
            )
            for name in "abc"
        ]
        for numbers in counters
    ]
    data = content(
        page.render(
            report_of(
                [
                    make("py311-torch211-vllm020", "2.11.0", "0.20.2", *cases[0], moe()),
                    make("py311-torch212-vllm020", "2.12.1", "0.20.2", *cases[1], moe(loaded=1)),
                ]
            ),
            NAMED,
        )
    )
    found = blamed(data)["0.20.2"]
    assert [(case, answer) for case, answer, _ in found] == [
        (0, "torch"),
        (3, "torch"),
        (-1, "not shown here"),
    ]
    assert found[2][2] == ["of 2 more changes it stands in compatibility.json", ""]


def test_whose_fault_a_run_is_that_came_to_no_case() -> None:
    error = RunError(kind=ErrorKind.IMPORTS, reason=f"ImportError: undefined symbol {EVIL}")
    rungs = (RungResult(rung=Rung.IMPORTS, ok=True),)
    good = make("py311-torch210-vllm019", "2.10.0", "0.19.1", moe(), rungs=rungs)
    data = content(
        page.render(
            report_of([good, make("py311-torch211-vllm019", "2.11.0", "0.19.1", error=error)]),
            NAMED,
        )
    )
    [(case, answer, lines)] = blamed(data)["0.19.1"]
    assert (case, answer) == (-1, "torch")
    assert lines[0] == (
        "vLLM 0.19.1 is imported under torch 2.10.0 and is not imported under 2.11.0: torch, since"
        " 2.11"
    )


def test_a_long_trace_is_cut_at_its_head_and_says_so() -> None:
    whole = "\n".join(f"line {number}" for number in range(100))
    some = report_of([make("py311-torch210-vllm019", "2.10.0", "0.19.1", failed("no", whole))])
    data = content(page.render(some, NAMED))
    assert decoded(data["traces"][1])[0] == 40
    assert len(decoded(data["traces"][1])) == 1 + 2 * 60


@pytest.mark.parametrize("records", [[], RECORDS[:1]])
def test_a_page_without_a_grid_or_without_records(records: list[tuple[Path, Record]]) -> None:
    report = Report(table=tabulate(records, MOE))
    read = Read(page.render(report))
    assert read.squares == []
    assert len(content(page.render(report))["entries"]) == len(records)
    assert f'<span id="ran">{"1 cell on cpu" if records else "nothing"}</span>' in page.render(
        report
    )


def test_the_page_counts_cells_alike_at_its_head_and_at_its_list() -> None:
    """A cell has one entry, of the record that decides; a command counts all records."""
    on_gpu = make("py311-torch210-vllm019", "2.10.0", "0.19.1", moe())
    on_gpu = Path("cuda.json"), replace(on_gpu[1], platform=Platform.CUDA)
    _, older = RECORDS[0]
    older = replace(older, provenance={**older.provenance, "started": "2025-01-01T00:00:00Z"})
    text = page.render(report_of([*RECORDS, on_gpu, (Path("older.json"), older)]))
    assert "<b>cuda</b> 1 cell ran:" in text and "<b>cpu</b> 6 cells ran:" in text
    assert '<span id="ran">1 cell on cuda, 6 cells on cpu</span>' in text


def test_the_same_records_give_the_same_page() -> None:
    assert page.render(report_of(RECORDS[::-1]), NAMED) == PAGE


def test_seconds_over_time_are_kept_where_there_are_two() -> None:
    key = "py311-torch210-vllm019", "cpu", "moe"
    history = {
        (*key, "cold"): [(f"2026-{month:02}-01T00:00:00Z", float(month)) for month in (1, 2, 3)],
        (*key, "warm"): [("2026-01-01T00:00:00Z", 1.0)],
    }
    data = content(page.render(REPORT, NAMED, history))
    past = [item for entry in data["entries"] for item in entry[17]]
    assert len(past) == 1
    case, start, first, last, points = past[0]
    assert (case, start, decoded(points)) == (0, 0, [10, 20, 30])
    assert (data["texts"][first], data["texts"][last]) == ("2026-01-01", "2026-03-01")


def test_only_a_pair_that_its_name_means_is_named() -> None:
    grid, data = REPORT.grid, content(PAGE)
    assert grid is not None
    named = iter(data["named"])
    output = {
        (t.version, v.version): next(named) for v in grid.rows[::-1] for t in grid.columns[::-1]
    }
    assert output["2.10.0", "0.19.1"] == "1"
    # py311-torch29-vllm016 is torch 2.9.1, which that vLLM pins.
    assert (output["2.9.0", "0.16.0"], output["2.9.1", "0.16.0"]) == ("0", "1")


@given(st.lists(st.integers(0, 2**53)))
def test_numbers_come_back(numbers: list[int]) -> None:
    text = encoding.coded(numbers)
    assert decoded(text) == numbers
    assert not set(text) & set("<>&\"'\\ ")


@given(st.text())
def test_no_text_ends_the_script_that_holds_it(text: str) -> None:
    output = encoding.embedded([text])
    assert re.fullmatch("[A-Za-z0-9+/=]+", output)
    assert encoding.unembedded(output) == [text]


@given(st.text(), st.text())
def test_no_record_breaks_the_page(message: str, name: str) -> None:
    case = failed(message, message + "\n" + name)
    some = tabulate([make("py311-torch210-vllm019", "2.10.0", "0.19.1", case)], MOE)
    text = page.render(Report(table=some))
    text.encode()
    read = Read(text)
    assert read.seen["script"] == 2
    data = content(text)
    assert re.sub(r"\s", "", data["texts"][1]).isprintable()


def test_without_jinja_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    page._environment.cache_clear()
    with pytest.raises(MatrixError, match=r"needs Jinja2; pip install"):
        page.render(REPORT)
