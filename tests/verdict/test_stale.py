"""Which records stand for their cells: runs without an answer, age, force, and other machines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from matrix.catalog.cells import Cell
from matrix.record.model import Case, Outcome, Platform, Record, Rung
from matrix.report import plan as report
from matrix.verdict import plan_reasons as reasons
from matrix.verdict.grid import runs, survey
from matrix.verdict.judge import CellVerdict
from matrix.verdict.plan import Planned, Wanted, plan
from matrix.verdict.plan_reasons import KeyPart
from matrix.verdict.run_key import Packages, RunKey
from matrix.verdict.stale import MaxAge, stale_reason
from matrix.verdict.states import Verdict
from plans import COMMIT, RELEASES, TESTS, record

CELL = Cell("3.11", "2.10.0", "0.19.1")
ONE = Wanted(
    torch=SpecifierSet("==2.10.*"), python=SpecifierSet("==3.11"), platforms=(Platform.CUDA,)
)


class Place:
    """A machine with one kind of GPU, and a folder of records."""

    def __init__(self, gpu: str | None, *every: Record, **more: Any) -> None:
        self.gpu, self.every, self.more = gpu, every, more
        self.asked = 0

    def key(self, cell: Cell, platform: Platform, *, off_pin: bool) -> RunKey:
        gpus = frozenset((self.gpu,)) if self.gpu else frozenset()
        return RunKey(cell=cell, gpus=gpus, **self.more)

    def others(self, cell: str, platform: Platform) -> Iterable[Record]:
        self.asked += 1
        return [made for made in self.every if (made.cell, made.platform) == (cell, platform)]


def on(gpu: str, day: int = 22, **more: Any) -> Record:
    facts = {"started": f"2026-11-{day}T18:00:00Z", "gpu": {"name": gpu}}
    return record(provenance={**facts, **more.pop("provenance", {})}, **more)


def planned(counts: Record, here: Place | None, wanted: Wanted = ONE) -> Planned:
    verdict = CellVerdict(verdict=Verdict.COMPATIBLE, rung=Rung.AS_EXPECTED)
    grid = survey(RELEASES, seen=runs([(counts, verdict)], RELEASES))
    [item] = plan(grid, RELEASES, [counts], TESTS, wanted, here=here)
    return item


H100, H200 = on("NVIDIA H100 80GB HBM3", 23), on("NVIDIA H200")


def test_a_record_of_another_gpu_is_stale_and_says_so() -> None:
    item = planned(H100, Place("NVIDIA H200", H100))
    assert (item.stale, item.holds) == (True, False)
    assert report.why_words(item) == ("ran on NVIDIA H100 80GB HBM3, now on NVIDIA H200")
    assert planned(H100, None).holds
    assert planned(H100, Place(None, H100)).holds


def test_two_kinds_of_machine_keep_their_records_in_one_folder() -> None:
    for gpu, day in (("NVIDIA H100 80GB HBM3", 23), ("NVIDIA H200", 22)):
        item = planned(H100, Place(gpu, H200, H100))
        assert item.holds
        assert item.why == reasons.NotStale(day=f"2026-11-{day}")
    assert planned(H100, Place("NVIDIA A100", H200, H100)).stale


@pytest.mark.parametrize(
    "other",
    [
        on("NVIDIA H200", deselected=3),
        on("NVIDIA H200", provenance={"tests": {"commit": COMMIT, "version": 1}}),
        on("NVIDIA H200", provenance={"vllm": "0.19.0"}),
        record(),  # nobody knows on which GPU
    ],
)
def test_another_record_stands_only_where_it_would_by_itself(other: Record) -> None:
    item = planned(H100, Place("NVIDIA H200", other, H100))
    assert isinstance(item.why, reasons.OtherGpu)


def test_the_newest_of_several_that_stand_is_named() -> None:
    newer = on("NVIDIA H200", 22)
    older = on("NVIDIA H200", 20)
    for every in ((newer, older), (older, newer)):
        assert planned(H100, Place("NVIDIA H200", *every)).why == reasons.NotStale(day="2026-11-22")


def test_other_records_are_looked_for_only_where_the_machine_or_environment_differs() -> None:
    old = on("NVIDIA H100", provenance={"tests": {"commit": COMMIT, "version": 1}})
    here = Place("NVIDIA H200", on("NVIDIA H200"))
    item = planned(old, here)
    assert isinstance(item.why, reasons.TestsChanged)
    assert [type(also) for also in item.also] == [reasons.OtherGpu]
    assert report.why_words(item) == (
        "startup tests changed: graphs are counted once; a case starts with images; ran on NVIDIA"
        " H100, now on NVIDIA H200"
    )
    same = Place("NVIDIA H200")
    assert planned(H200, same).holds
    assert same.asked == 0


def test_every_part_that_differs_is_told_in_the_line() -> None:
    made = replace(H100, packages={"ray": "1"})
    item = planned(made, Place("NVIDIA H200", packages=Packages({"ray": "2"})))
    assert report.why_words(item) == (
        "ran with ray 1 (now 2); ran on NVIDIA H100 80GB HBM3, now on NVIDIA H200"
    )
    assert item.not_compared == (KeyPart.FILES, KeyPart.MACHINE, KeyPart.DRIVER)


def case(outcome: str, reason: str | None = None) -> Case:
    return Case(case="b", outcome=Outcome(outcome), reason=reason)


@pytest.mark.parametrize(
    ("bad", "stale"),
    [
        (case("out_of_memory"), True),
        (case("interrupted", "Ctrl-C"), True),
        (case("failed", "OSError: No space left on device"), True),
        (case("failed", "AssertionError"), False),
        (case("failed"), False),
        (case("timed_out", "No space left on device"), False),
        (case("not_applicable", "no such model"), False),
    ],
)
def test_a_record_with_a_case_that_the_machine_kept_from_an_answer_is_stale(
    bad: Case, stale: bool
) -> None:
    made = record(cases=(Case(case="a", outcome=Outcome.PASSED), bad))
    found = stale_reason(CELL, made, TESTS)
    assert found == (reasons.CasesUntested(cases=("b",)) if stale else None)


NOW = datetime(2026, 11, 29, 18, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("started", "most", "why"),
    [
        ("2026-11-22T18:00:00Z", 7, None),  # to the second
        ("2026-11-22T17:59:59Z", 7, reasons.TooOld(days=7, most=7)),
        ("2026-10-20T18:00:00Z", 1, reasons.TooOld(days=40, most=1)),
        ("2027-01-01T00:00:00Z", 1, None),  # a clock that was wrong makes no record old
    ],
)
def test_a_record_can_be_too_old(started: str, most: int, why: reasons.TooOld | None) -> None:
    made = record(provenance={"started": started})
    item = planned(made, None, replace(ONE, max_age=MaxAge(days=most, now=NOW)))
    assert item.stale is (why is not None)
    assert item.why == (why or reasons.NotStale(day=started[:10]))


def test_the_age_is_that_of_the_record_that_stands() -> None:
    wanted = replace(ONE, max_age=MaxAge(days=6, now=NOW))
    item = planned(H100, Place("NVIDIA H200", H200, H100), wanted)
    assert item.why == reasons.TooOld(days=7, most=6)


def test_what_is_forced_is_stale_and_a_better_reason_comes_first() -> None:
    forced = replace(ONE, force=True)
    assert planned(H200, None, forced).why == reasons.Forced(day="2026-11-22")
    assert isinstance(planned(H200, Place("NVIDIA H100"), forced).why, reasons.OtherGpu)
    aged = replace(forced, max_age=MaxAge(days=1, now=NOW))
    assert isinstance(planned(H200, None, aged).why, reasons.TooOld)
    assert planned(H200, None, replace(forced, stale=True)).stale
