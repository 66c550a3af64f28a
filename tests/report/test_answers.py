"""The first answer for each vLLM: which torch stands for it, and the words of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from matrix.catalog.cells import Cell
from matrix.record.model import Case, Departure, Record, Start, StartKind, Why
from matrix.report import answers as worded
from matrix.report.page.links import TextPart, linked
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import parse_expectations
from matrix.verdict.answer import VllmAnswer, answers, installation
from matrix.verdict.grid import Grid, runs, survey
from matrix.verdict.table import tabulate
from pages import RELEASES, make
from rules import MOE


def moe(loaded: int = 3, **more: object) -> Case:
    starts = (
        Start(start=StartKind.COLD, counters={"num_compiled_artifacts_saved": 3}),
        Start(
            start=StartKind.WARM,
            counters={"num_compiled_artifacts_saved": 0, "num_compiled_artifacts_loaded": loaded},
        ),
    )
    return Case(**{"case": "moe", "outcome": "passed", "starts": starts, **more})  # type: ignore[arg-type]


def answered(*records: tuple[Path, Record], rules: Expectations = MOE) -> dict[str, VllmAnswer]:
    table = tabulate(records, rules, releases=RELEASES)
    grid = survey(RELEASES, seen=runs(table.verdicts, RELEASES))
    return {answer.vllm.version: answer for answer in answers(grid, table.entries, RELEASES)}


H200 = {"gpu": {"name": "NVIDIA H200"}}
PINNED = ("py311-torch211-vllm020", "2.11.0", "0.20.2")
NEWER = ("py311-torch212-vllm020", "2.12.1", "0.20.2")


def test_every_vllm_has_an_answer_newest_first() -> None:
    found = answered()
    assert list(found) == [release.version for release in reversed(RELEASES.vllm)]
    assert all(answer.torch == answer.vllm.torch for answer in found.values())
    assert {answer.entry for answer in found.values()} == {None}


def of(records: Iterable[tuple[Path, Record]]) -> tuple[VllmAnswer, worded.AnswerWords]:
    answer = answered(*records)["0.20.2"]
    return answer, worded.words(answer)


def test_the_pin_stands_where_it_ran_as_expected() -> None:
    answer, said = of(
        [
            make(*PINNED, moe(), platform="cuda", provenance=H200),
            make(*NEWER, moe(), platform="cuda", provenance=H200),
        ]
    )
    assert (answer.torch, answer.others, answer.off_pin) == ("2.11.0", ("2.12.1",), False)
    assert (said.label, said.warm) == ("✓ starts warm", "starts warm: 1 case, none compiles again")
    assert (said.where, said.started) == ("NVIDIA H200", "2026-11-22T18:00:00Z")
    assert said.build == "torch 2.11.0, Python 3.11"
    assert said.others == "as expected too with torch 2.12.1"


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_a_pair_that_ran_on_the_cpu_alone_is_answered_on_its_python(python: str) -> None:
    cell = f"py{python.replace('.', '')}-torch211-vllm020"
    answer, _ = of([make(cell, "2.11.0", "0.20.2", moe(), platform="cpu")])
    assert answer.entry is None and answer.elsewhere is not None
    assert answer.progress.cell == Cell(python, "2.11.0", "0.20.2")


def test_another_torch_stands_where_the_pin_has_no_good_run() -> None:
    good = make(*NEWER, moe(), platform="cuda", provenance=H200)
    for pinned in ([], [make(*PINNED, moe(loaded=1), platform="cuda")]):
        answer, said = of([*pinned, good])
        assert (answer.torch, answer.off_pin) == ("2.12.1", True)
        assert said.others == ("not as expected with torch 2.11.0" if pinned else "")


PARTIAL: dict[str, Any] = {"selected": 1, "deselected": 8}
RAY = Departure(name="ray", required="ray>=2.48", installed=None, why=Why.MISSING)
WITHOUT_RAY: dict[str, Any] = {"departures": (RAY,)}


@pytest.mark.parametrize("more", [PARTIAL, WITHOUT_RAY])
def test_a_whole_stock_run_stands_before_another_one_of_the_pin(more: dict[str, Any]) -> None:
    pinned = make(*PINNED, moe(), platform="cuda", **more)
    answer, wording = of([pinned, make(*NEWER, moe(), platform="cuda")])
    assert (answer.torch, answer.others, answer.marked) == ("2.12.1", (), ("2.11.0",))
    assert wording.label == "✓ starts warm"
    assert wording.others == "as expected, but in part or not stock, with torch 2.11.0"


def test_a_whole_run_stands_before_a_stock_one() -> None:
    pinned = make(*PINNED, moe(), platform="cuda", **PARTIAL)
    answer, _ = of([pinned, make(*NEWER, moe(), platform="cuda", **WITHOUT_RAY)])
    assert answer.torch == "2.12.1"


def test_an_answer_has_the_marks_of_its_run() -> None:
    answer, wording = of([make(*PINNED, moe(), platform="cuda", **(PARTIAL | WITHOUT_RAY))])
    assert (answer.torch, answer.off_pin) == ("2.11.0", False)
    assert wording.label == "✓ starts warm, not stock, 1 of 9 cases"
    assert wording.warm == "starts warm: 1 case, none compiles again; only 1 of 9 cases ran"
    assert wording.packages == "not stock: without ray"
    _, wording = of([make(*PINNED, moe(loaded=1), platform="cuda", **PARTIAL)])
    assert wording.label == "≠ counts differ, 1 of 9 cases"
    assert wording.warm.endswith("; only 1 of 9 cases ran")


@pytest.mark.parametrize(
    ("case", "label", "warm"),
    [
        (
            moe(loaded=1),
            "≠ counts differ",
            "starts cold and warm, but counts differ: moe: warm num_compiled_artifacts_loaded is 1",
        ),
        (
            moe(outcome="failed", starts=(), reason="no room"),
            "× fails",
            "fails: starts cold; moe: no room",
        ),
        (moe(case="other"), "? no answer", "ran, without an answer: other: no expectation for"),
    ],
)
def test_what_ran_and_is_not_good_says_why(case: Case, label: str, warm: str) -> None:
    _, said = of([make(*PINNED, case, platform="cuda")])
    assert said.label == label and said.warm.startswith(warm)
    assert said.where == "cuda"


def test_what_never_ran_says_what_is_known() -> None:
    _, said = of([])
    assert (said.label, said.warm) == ("· never ran", "never ran; checks passed: declared")
    assert (said.where, said.started, said.packages) == ("", "", "")
    _, said = of([make(*PINNED, moe(), platform="cpu")])
    assert said.warm == "never ran on cuda; compatible on cpu, 2026-11-22"


ISSUE = "https://github.com/vllm-project/vllm/issues/38051"
AGAIN = parse_expectations(
    "".join(
        f'[[rule]]\nid = "{start}"\nstart = "{start}"\nvllm = "<1"\n'
        f'counters = {{ num_compiled_artifacts_saved = 4 }}\nevidence = ["{ISSUE}"]\n'
        for start in ("cold", "warm")
    ),
    "rules.toml",
)


def test_what_recompiles_is_named_with_its_issue() -> None:
    starts = tuple(
        Start(start=start, counters={"num_compiled_artifacts_saved": 4}) for start in StartKind
    )
    cases = [moe(case=name, starts=starts) for name in "abcde"]
    found = answered(make(*PINNED, *cases, platform="cuda"), rules=AGAIN)["0.20.2"]
    said = worded.words(found)
    assert said.label == "↻ recompiles"
    assert said.warm == (
        "starts warm, but 5 of 5 cases compile again: a, b, c and 2 more (vllm#38051)"
    )


def test_a_grid_without_squares_has_no_answer() -> None:
    assert answers(Grid(torch=(), vllm=(), pythons=(), squares={}), (), RELEASES) == ()


def test_a_torch_without_known_companions_overrides_itself_alone() -> None:
    found = installation(Cell("3.12", "2.3.0", "0.20.2"), RELEASES)
    assert found.overrides == ("torch==2.3.0",)


def test_only_issues_upstream_are_links() -> None:
    text = "see vllm#38051, https://github.com/pytorch/pytorch/pull/7 and evil#1 or xvllm#2"
    links = [part for part in linked(text) if part.link]
    assert links == [
        TextPart("vllm#38051", "https://github.com/vllm-project/vllm/issues/38051"),
        TextPart(*["https://github.com/pytorch/pytorch/pull/7"] * 2),
    ]
    assert "".join(part.text for part in linked(text)) == text
    assert list(linked("")) == []
    assert [part.link for part in linked("javascript:alert(1)")] == [""]
