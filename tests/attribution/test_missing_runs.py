"""The runs that would tell more, as environments to start."""

from __future__ import annotations

from attributions import RELEASES, RULES, bad, names, of, record
from matrix.attribution.attribute import attribute, unanswered
from matrix.attribution.known import KnownPairs
from matrix.catalog.cells import Cell
from matrix.checks.lookup import Answer
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Platform,
    RunError,
    Rung,
    RungResult,
)
from matrix.verdict.grid import survey
from matrix.verdict.judge import judge


def test_a_cell_without_an_answer_is_named() -> None:
    crashed = record(
        "2.12.0", cases=(), error=RunError(kind=ErrorKind.INTERRUPTED, reason="Ctrl-C")
    )
    none = record("2.11.0", cases=(Case(case="a", outcome=Outcome.NOT_APPLICABLE),))
    judged = [(run, judge(run, RULES)) for run in (record("2.10.0"), none, crashed)]
    assert unanswered(judged, RELEASES) == (("py311-torch212-vllm020", "cpu"),)
    assert unanswered(judged, RELEASES, names=frozenset(["py311-torch211-vllm020"])) == ()
    assert unanswered(judged, RELEASES, platform=Platform.CUDA) == ()
    assert len(unanswered(judged, RELEASES, case="b")) == 3


def test_missing_runs_are_named_as_environments() -> None:
    found = of("2.12.0", bad("2.12.0"))
    assert names(found) == [("py311-torch211-vllm020", "cpu"), ("py311-torch212-vllm019", "cpu")]
    found = of("2.12.0", bad("2.12.0"), bad("2.11.0"))
    assert names(found) == [("py311-torch210-vllm020", "cpu"), ("py311-torch212-vllm019", "cpu")]


def test_between_two_releases_the_middle_one_is_missing() -> None:
    found = of("2.15.0", bad("2.15.0"), record("2.9.0"), bad("2.15.0", "0.19.0"))
    assert names(found) == [("py311-torch212-vllm020", "cpu")]
    assert (found.after, found.since) == ("2.9.0", "2.15.0")


def test_only_runs_that_can_work_are_missing() -> None:
    """On CUDA nothing off the pin links: it is another vLLM with the same pin, or the CPU."""
    failing = bad("2.11.0", platform="cuda")
    found = of("2.11.0", failing, grid=True, platform="cuda")
    assert names(found) == [("py311-torch211-vllm021", "cuda")]
    shown = [bad("2.11.0", f"0.{minor}.0", platform="cuda") for minor in (21, 22)]
    found = of("2.11.0", failing, *shown, grid=True, platform="cuda")
    assert names(found) == [("py311-torch211-vllm020", "cpu")]
    assert of("2.11.0", failing, *shown, bad("2.11.0"), grid=True, platform="cuda").missing == ()


def test_what_did_not_import_is_not_run_again() -> None:
    dead = record(
        "2.11.0",
        cases=(),
        rungs=(RungResult(rung=Rung.IMPORTS, ok=False, reason="undefined symbol"),),
        error=RunError(kind=ErrorKind.IMPORTS, reason="undefined symbol"),
    )
    found = of("2.12.0", bad("2.12.0"), dead)
    assert names(found) == [("py311-torch210-vllm020", "cpu"), ("py311-torch212-vllm019", "cpu")]


def test_off_the_pin_it_must_be_known_to_link() -> None:
    def links(cell: Cell) -> Answer | None:
        return Answer(ok=True) if cell.torch == "2.13.0" else None

    failing = bad("2.12.0", platform="cuda")
    judged = [(failing, judge(failing, RULES))]
    (found,) = attribute(judged, RELEASES, KnownPairs(grid=survey(RELEASES, links=links)))
    assert names(found) == [("py311-torch211-vllm020", "cuda")]  # its pin
    more = bad("2.11.0", platform="cuda")
    judged.append((more, judge(more, RULES)))
    found = attribute(judged, RELEASES, KnownPairs(grid=survey(RELEASES, links=links)))[1]
    assert names(found) == [("py311-torch213-vllm020", "cuda")]
