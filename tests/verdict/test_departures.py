"""Packages that are not as vLLM requires: whether a record tells, and what they are blamed for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from histories import some_records
from judgements import words
from made import NO_RULES, ONE_RULE, failed, make, passed
from matrix._util.paths import CHECKOUT
from matrix.attribution.attribute import attribute
from matrix.attribution.observations import ObservationEnd, observe
from matrix.catalog.cells import Cell
from matrix.catalog.releases_file import load_releases
from matrix.catalog.requirements import known_requirements
from matrix.record.model import (
    By,
    Departure,
    ErrorKind,
    Outcome,
    Record,
    RunError,
    Rung,
    RungResult,
    Why,
)
from matrix.record.reader import read
from matrix.record.stock import TORCH_FAMILY, not_stock
from matrix.store.fingerprint import outcome_key, verdict_key
from matrix.store.summary import summarise
from matrix.verdict.judge import CaseVerdict, CellVerdict, judge, judge_running
from matrix.verdict.ladder import evidence_of
from matrix.verdict.precedence import EvidenceLevel, pick_record
from matrix.verdict.stock import departures_of, hindrance
from matrix.verdict.table import tabulate
from rules import ANY_CASE

FLASHINFER = Departure(
    name="flashinfer-python",
    required="flashinfer-python==0.6.8",
    installed=None,
    why=Why.MISSING,
    by=By.BUNDLE,
)
OFF_PIN = Departure(
    name="torch",
    required="torch==2.11.0",
    installed="2.12.1",
    why=Why.OVERRIDDEN,
    by=By.OVERRIDE,
)
CELL = Cell("3.11", "2.11.0", "0.20.2")
NO_FLASHINFER = "ModuleNotFoundError: No module named 'flashinfer'"
PACKAGES = {"vllm": "0.20.2", "torch": "2.11.0+cu130"}


def required(vllm: str) -> dict[str, str]:
    """Return packages that satisfy all pins of a vLLM, at least by their names."""
    found = {"vllm": vllm}
    for line in known_requirements()[vllm]:
        name, _, version = line.partition(";")[0].strip().partition("==")
        found[name.partition("[")[0].partition("<")[0].partition(">")[0].lower()] = version or "99"
    return found


def blamed(**changes: Any) -> Record:
    """Return the complete record of a run in which each case lacked FlashInfer."""
    cases = (failed("moe", reason=NO_FLASHINFER), failed("dense", reason=NO_FLASHINFER))
    more = {"departures": (FLASHINFER,), "packages": PACKAGES, **changes}
    _, record = make("2.11.0", *cases, **more)
    return record


def test_a_failure_by_such_a_package_is_untested_and_names_it() -> None:
    verdict = judge(blamed(), NO_RULES)
    assert verdict.verdict == "untested"
    assert words(verdict.reason) == (
        "moe: flashinfer-python==0.6.8 is missing, so this shows nothing about the pair:"
        f" {NO_FLASHINFER}"
    )
    assert [case.verdict for case in verdict.cases] == ["untested", "untested"]


def test_the_same_failure_in_a_stock_environment_is_the_pairs() -> None:
    verdict = judge(blamed(departures=()), NO_RULES)
    assert verdict.verdict == "incompatible" and verdict.not_stock == ()


@pytest.mark.parametrize("ended", [Outcome.FAILED, Outcome.CRASHED, Outcome.TIMED_OUT])
@pytest.mark.parametrize("by", By)
def test_no_failure_is_the_pairs_where_the_environment_is_not_stock(ended: Outcome, by: By) -> None:
    apart = replace(FLASHINFER, by=by)
    _, record = make("2.11.0", failed("moe", outcome=ended), departures=(OFF_PIN, apart))
    found = judge(record, NO_RULES)
    assert (found.verdict, found.rung, found.fails_at) == ("untested", None, "starts cold")
    assert (
        words(found.reason) == "moe: not stock: without flashinfer-python; failed: why: KeyError: x"
    )
    (case,) = found.cases
    assert (case.verdict, case.rung, case.fails_at) == ("untested", None, "starts cold")
    assert case.signature == "KeyError: x"
    alone = judge(replace(record, departures=(OFF_PIN,)), NO_RULES)
    assert (alone.verdict, alone.rung, alone.fails_at) == ("incompatible", "starts cold", None)
    (case,) = alone.cases
    assert (case.verdict, words(case.reason)) == ("incompatible", "why: KeyError: x")


@given(some_records)
def test_no_run_that_is_not_stock_is_incompatible_or_drifts(record: Record) -> None:
    found = judge(replace(record, departures=(FLASHINFER,)), ANY_CASE)
    stock = judge(replace(record, departures=()), ANY_CASE)
    both: list[tuple[CellVerdict | CaseVerdict, CellVerdict | CaseVerdict]] = [(found, stock)]
    both += zip(found.cases, stock.cases, strict=True)
    for apart, plain in both:
        assert apart.verdict not in ("incompatible", "drift")
        if plain.verdict in ("incompatible", "drift"):
            assert (apart.verdict, apart.fails_at) == ("untested", plain.rung)
        else:
            assert (apart.verdict, apart.rung, words(apart.reason)) == (
                (plain.verdict, plain.rung, words(plain.reason))
            )


def test_a_case_that_fails_warm_keeps_its_rung() -> None:
    case = failed("moe", starts=passed().starts[:1])
    _, record = make("2.11.0", case, departures=(FLASHINFER,))
    assert judge(record, NO_RULES).fails_at == "starts warm"


@pytest.mark.parametrize("as_error", [True, False])
def test_an_import_that_fails_for_any_reason_is_untested_too(as_error: bool) -> None:
    error = RunError(kind=ErrorKind.IMPORTS, reason="OSError: x") if as_error else None
    rung = RungResult(rung=Rung.IMPORTS, ok=False, reason="OSError: x")
    record = blamed(cases=(), error=error, rungs=(rung,))
    found = judge(record, NO_RULES)
    assert (found.verdict, found.rung, found.fails_at) == ("untested", None, "imports")
    assert words(found.reason) == "not stock: without flashinfer-python; failed: OSError: x"
    assert attribute([(record, found)], load_releases()) == ()


def test_what_counts_otherwise_is_untested_and_keeps_its_differences() -> None:
    drifting = passed("moe", num_compiled_artifacts_loaded=2)
    _, record = make("2.11.0", drifting, passed("dense"), departures=(FLASHINFER,))
    found = judge(record, ONE_RULE)
    assert (found.verdict, found.rung, found.fails_at) == ("untested", "starts warm", "as expected")
    assert words(found.reason) == (
        "moe: not stock: without flashinfer-python; differs:"
        " warm num_compiled_artifacts_loaded is 2, expected 3"
    )
    stock = judge(replace(record, departures=()), ONE_RULE)
    assert stock.verdict == "drift" and stock.cases[0].fails_at is None
    assert found.cases[0].differences == stock.cases[0].differences != ()
    assert attribute([(record, found)], load_releases()) == ()
    observed = {seen.case: seen.ended for seen in observe(record, found, CELL)}
    assert observed["moe"] is ObservationEnd.NOTHING
    assert attribute([(replace(record, departures=()), stock)], load_releases()) != ()
    shown = evidence_of(record, found)
    assert (shown.fails, "starts warm" in shown.passed) == (None, True)
    assert "as expected" not in shown.passed


def test_while_it_runs_such_a_case_says_that_the_run_goes_on() -> None:
    drifting = passed("moe", num_compiled_artifacts_loaded=2)
    _, record = make("2.11.0", drifting, failed("dense"), departures=(FLASHINFER,), finished=False)
    found = judge_running(record, ONE_RULE)
    assert (words(found.reason), found.fails_at) == ("the run is in progress", None)
    for case, how in zip(found.cases, ("differs: warm", "failed: why"), strict=True):
        assert (case.verdict, case.rung, case.differences) == ("untested", None, ())
        start = f"the run is in progress; not stock: without flashinfer-python; {how}"
        assert (words(case.reason) or "").startswith(start)


@pytest.mark.parametrize("as_error", [True, False])
def test_an_import_that_fails_by_such_a_package_is_untested(as_error: bool) -> None:
    error = RunError(kind=ErrorKind.IMPORTS, reason=NO_FLASHINFER) if as_error else None
    rung = RungResult(rung=Rung.IMPORTS, ok=False, reason=NO_FLASHINFER)
    record = blamed(cases=(), error=error, rungs=(rung,))
    verdict = judge(record, NO_RULES)
    assert (verdict.verdict, verdict.rung) == ("untested", None)
    stock = judge(replace(record, departures=()), NO_RULES)
    assert (stock.verdict, stock.rung) == ("incompatible", "imports")


def test_what_passes_without_a_package_keeps_its_verdict_and_says_so() -> None:
    _, record = make("2.11.0", passed(), departures=(FLASHINFER,))
    verdict = judge(record, ONE_RULE)
    assert verdict.not_stock == (FLASHINFER,)


def test_such_a_run_never_takes_the_place_of_a_better_one() -> None:
    older, newer = make("2.11.0", passed(), day=20), (Path("b.json"), blamed())
    counts = pick_record([older, newer], NO_RULES)
    assert counts.record is older[1]
    assert hindrance(newer[1]) == FLASHINFER
    assert summarise(newer[1]).evidence == EvidenceLevel.NOTHING
    assert summarise(blamed(departures=())).evidence == EvidenceLevel.CONCLUSIVE


def test_attribution_says_nothing_of_such_a_failure() -> None:
    record = blamed(error=RunError(kind=ErrorKind.IMPORTS, reason=NO_FLASHINFER))
    verdict = judge(record, NO_RULES)
    seen = observe(record, verdict, CELL)
    assert {observation.ended for observation in seen} == {ObservationEnd.NOTHING}
    pairs = [(record, verdict)]
    assert attribute(pairs, load_releases()) == ()
    stock = replace(record, departures=())
    assert attribute([(stock, judge(stock, NO_RULES))], load_releases()) != ()


def test_runs_that_differ_in_it_are_not_equal() -> None:
    _, record = make("2.11.0", passed(), departures=())
    other = replace(record, departures=(FLASHINFER,))
    assert verdict_key(record) != verdict_key(other)
    assert outcome_key(record) != outcome_key(other)
    assert not_stock((OFF_PIN,)) == ()


# Records from before the key.


@pytest.mark.parametrize(
    "changes",
    [
        {"packages": {}},
        {"packages": {"vllm": "0.20.2+empty"}},
        {"packages": {"vllm": "99.0"}},
        {"packages": PACKAGES, "provenance": {"python": "three"}},
        {"packages": PACKAGES, "provenance": {"machine": ""}},
    ],
)
def test_of_an_old_record_nobody_may_know(changes: dict[str, Any]) -> None:
    _, record = make("2.11.0", passed(), **changes)
    assert departures_of(record) is None
    assert judge(record, ONE_RULE).departures is None


def test_an_old_record_is_held_against_the_requirements_of_its_vllm() -> None:
    packages = {**required("0.20.2"), "numpy": "2.2.6", "opencv-python-headless": "4.13"}
    _, record = make("2.11.0", passed(), packages=packages)
    found = {departure.name for departure in departures_of(record) or ()}
    del packages["flashinfer-python"]
    _, without = make("2.11.0", passed(), packages=packages)
    assert {departure.name for departure in departures_of(without) or ()} - found == {
        "flashinfer-python"
    }


def test_a_line_of_the_requirements_that_nobody_can_read_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = {"0.20.2": ("numpy >=", "Torch_Audio>=2; python_version>'3'", "torch-audio>=3")}
    monkeypatch.setattr("matrix.verdict.stock.known_requirements", lambda: lines)
    packages = {**PACKAGES, "torch-audio": "1.0"}
    _, record = make("2.11.0", passed(), packages=packages)
    assert [(found.name, found.required, found.why) for found in departures_of(record) or ()] == [
        ("torch-audio", "Torch_Audio>=2", Why.OTHER_VERSION),
        ("vllm", "numpy >=", Why.UNREADABLE),
    ]


def test_the_torch_of_an_old_off_pin_record_is_an_override() -> None:
    packages = {**required("0.20.2"), "torch": "2.12.1+cu130", "torchvision": "0.27.1"}
    _, record = make("2.12.1", passed(), packages=packages)
    found = [
        departure for departure in departures_of(record) or () if departure.name in TORCH_FAMILY
    ]
    assert [(departure.name, departure.why, departure.by) for departure in found] == [
        ("torch", Why.OVERRIDDEN, By.OVERRIDE),
        ("torchvision", Why.OVERRIDDEN, By.OVERRIDE),
    ]


def test_the_published_records_of_the_first_day_on_cuda_were_not_stock() -> None:
    """They were made from bundles without FlashInfer, and only their packages say so."""
    for platform in ("cuda", "cpu"):
        for path in (CHECKOUT / "results" / platform).glob("py*.json"):
            record = read(path)
            if record.departures is None and record.started < "2026-11-24":
                names = {departure.name for departure in judge(record, NO_RULES).not_stock}
                assert bool(names) is (platform == "cuda"), path.name
                if platform == "cuda" and "torch213" not in path.name:
                    assert "flashinfer-python" in names


def test_a_case_that_timed_out_or_crashed_is_blamed_too() -> None:
    case = failed("moe", outcome=Outcome.CRASHED, reason=NO_FLASHINFER)
    _, record = make("2.11.0", case, departures=(FLASHINFER,))
    assert judge(record, NO_RULES).verdict == "untested"
    table = tabulate([make("2.11.0", case, departures=(FLASHINFER,))], NO_RULES)
    assert table.entries[0].verdict.verdict == "untested"
