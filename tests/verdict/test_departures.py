"""Packages that are not as vLLM requires: whether a record tells, and what they are blamed for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from made import NO_RULES, ONE_RULE, failed, make, passed
from matrix._util.paths import CHECKOUT
from matrix.attribution.attribute import attribute
from matrix.attribution.observations import Ended, observe
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
from matrix.verdict.judge import judge
from matrix.verdict.precedence import Evidence, pick_record
from matrix.verdict.stock import departures_of, hindrance
from matrix.verdict.table import tabulate

FLASHINFER = Departure(
    name="flashinfer-python",
    required="flashinfer-python==0.6.8",
    installed=None,
    why=Why.MISSING,
    by=By.BUNDLE,
)
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
    assert verdict.reason == (
        "moe: flashinfer-python==0.6.8 is missing, so this shows nothing of the pair:"
        f" {NO_FLASHINFER}"
    )
    assert [case.verdict for case in verdict.cases] == ["untested", "untested"]


def test_the_same_failure_in_a_stock_environment_is_the_pairs() -> None:
    verdict = judge(blamed(departures=()), NO_RULES)
    assert verdict.verdict == "incompatible" and verdict.not_stock == ()


def test_another_failure_stays_the_pairs() -> None:
    _, record = make("2.11.0", failed("moe"), departures=(FLASHINFER,))
    assert judge(record, NO_RULES).verdict == "incompatible"


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
    assert summarise(newer[1]).evidence == Evidence.NOTHING
    assert summarise(blamed(departures=())).evidence == Evidence.CONCLUSIVE


def test_attribution_says_nothing_of_such_a_failure() -> None:
    record = blamed(error=RunError(kind=ErrorKind.IMPORTS, reason=NO_FLASHINFER))
    verdict = judge(record, NO_RULES)
    seen = observe(record, verdict, Cell("3.11", "2.11.0", "0.20.2"))
    assert {each.ended for each in seen} == {Ended.NOTHING}
    pairs = [(record, verdict)]
    assert attribute(pairs, load_releases()) == ()
    stock = replace(record, departures=())
    assert attribute([(stock, judge(stock, NO_RULES))], load_releases()) != ()


def test_runs_that_differ_in_it_are_not_equal() -> None:
    _, record = make("2.11.0", passed(), departures=())
    other = replace(record, departures=(FLASHINFER,))
    assert verdict_key(record) != verdict_key(other)
    assert outcome_key(record) != outcome_key(other)
    off_pin = Departure(
        name="torch",
        required="torch==2.11.0",
        installed="2.12.1",
        why=Why.OVERRIDDEN,
        by=By.OVERRIDE,
    )
    assert not_stock((off_pin,)) == ()


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
    found = {each.name for each in departures_of(record) or ()}
    del packages["flashinfer-python"]
    _, without = make("2.11.0", passed(), packages=packages)
    assert {each.name for each in departures_of(without) or ()} - found == {"flashinfer-python"}


def test_the_torch_of_an_old_off_pin_record_is_an_override() -> None:
    packages = {**required("0.20.2"), "torch": "2.12.1+cu130", "torchvision": "0.27.1"}
    _, record = make("2.12.1", passed(), packages=packages)
    found = [each for each in departures_of(record) or () if each.name in TORCH_FAMILY]
    assert [(each.name, each.why, each.by) for each in found] == [
        ("torch", Why.OVERRIDDEN, By.OVERRIDE),
        ("torchvision", Why.OVERRIDDEN, By.OVERRIDE),
    ]


def test_the_published_records_of_the_first_day_on_cuda_were_not_stock() -> None:
    """They were made from bundles without FlashInfer, and only their packages say so."""
    for platform in ("cuda", "cpu"):
        for path in (CHECKOUT / "results" / platform).glob("py*.json"):
            record = read(path)
            if record.departures is None and record.started < "2026-11-24":
                names = {each.name for each in judge(record, NO_RULES).not_stock}
                assert bool(names) is (platform == "cuda"), path.name
                if platform == "cuda" and "torch213" not in path.name:
                    assert "flashinfer-python" in names


def test_a_case_that_timed_out_or_crashed_is_blamed_too() -> None:
    case = failed("moe", outcome=Outcome.CRASHED, reason=NO_FLASHINFER)
    _, record = make("2.11.0", case, departures=(FLASHINFER,))
    assert judge(record, NO_RULES).verdict == "untested"
    table = tabulate([make("2.11.0", case, departures=(FLASHINFER,))], NO_RULES)
    assert table.entries[0].verdict.verdict == "untested"
