"""Which cells are to run: filters, stale ones, new releases and their neighbours."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.checks.facts import quoted
from matrix.checks.lookup import Answer
from matrix.record.model import (
    ErrorKind,
    Platform,
    Record,
    RunError,
    Rung,
    RungResult,
)
from matrix.report import plan as report
from matrix.verdict.grid import runs, survey
from matrix.verdict.judge import CellVerdict
from matrix.verdict.plan import PlanError, Wanted, parse_release, plan
from matrix.verdict.reasons import recorded
from matrix.verdict.states import Verdict
from plans import COMMIT, NOW, RELEASES, TESTS, UNKNOWN, links, planned, record, vllm

ON_PIN = {("2.9.0", "0.16.0"), ("2.10.0", "0.19.1"), ("2.11.0", "0.20.0"), ("2.11.0", "0.26.0")}


def pairs(wanted: Wanted, *records: Record) -> list[tuple[str, str]]:
    todo = (item.cell for item in planned(wanted, *records) if item.runs)
    return list(dict.fromkeys((cell.torch, cell.vllm) for cell in todo))


CUDA = Wanted(platforms=(Platform.CUDA,))


def test_without_a_filter_it_is_every_pinned_pair_on_both_platforms() -> None:
    found = planned(Wanted())
    assert {(item.cell.torch, item.cell.vllm) for item in found} == ON_PIN | {("2.13.0", "0.27.0")}
    assert [item.platform for item in found] == ["cuda"] * 10 + ["cpu"] * 10
    assert all(report.why_words(item) == "never ran" and item.stale for item in found if item.runs)
    assert [item.cell.name for item in found if not item.runs] == ["py310-torch211-vllm020"] * 2
    assert report.why_words(found[4]) == "vLLM 0.20.0 needs Python >=3.11"
    assert [item.cell.name for item in found[:4]] == [
        "py310-torch29-vllm016",
        "py311-torch29-vllm016",
        "py310-torch210-vllm019",
        "py311-torch210-vllm019",
    ]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(torch=SpecifierSet(">=2.11")), ["0.20.0", "0.26.0", "0.27.0"]),
        (Wanted(vllm=SpecifierSet("==0.20.*")), ["0.20.0"]),
        (Wanted(torch=SpecifierSet("==2.12.*")), []),
        (Wanted(python=SpecifierSet("==3.10"), vllm=SpecifierSet("==0.20.*")), []),
        (
            Wanted(torch=SpecifierSet("==2.12.*"), off_pin=True, platforms=(Platform.CUDA,)),
            ["0.16.0", "0.19.1", "0.20.0", "0.26.0"],
        ),
    ],
)
def test_it_is_filtered_by_releases(wanted: Wanted, found: list[str]) -> None:
    assert [vllm for _, vllm in pairs(wanted)] == found


def test_off_pin_pairs_are_asked_for_and_what_cannot_work_is_pruned() -> None:
    found = planned(Wanted(off_pin=True, platforms=(Platform.CUDA,), python=SpecifierSet("==3.11")))
    assert len(found) == 30
    lost = [item for item in found if not item.runs]
    assert {item.cell.torch for item in lost} == {"2.9.0", "2.10.0", "2.11.0", "2.12.0"}
    assert {report.why_words(item) for item in lost} == {"needs c10::f()"}
    # On the CPU its extensions are not needed.
    on_cpu = Wanted(off_pin=True, platforms=(Platform.CPU,), python=SpecifierSet("==3.11"))
    assert all(item.runs for item in planned(on_cpu))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, None),
        ({"provenance": {"vllm": "0.19.0"}}, "ran torch 2.10.0 with vLLM 0.19.0"),
        (
            {"provenance": {"tests": {"commit": COMMIT, "fingerprint": "sha256:" + "0" * 64}}},
            "startup tests changed: graphs are counted once; a case starts with images",
        ),
        (
            {"provenance": {"tests": {"commit": COMMIT, "version": 2}}},
            "startup tests changed: a case starts with images",
        ),
        # That its files were changed is for people.
        ({"provenance": {"tests": {"commit": f"{COMMIT}+changed", **NOW}}}, None),
        ({"provenance": {"tests": {"commit": None, "version": 3}}}, None),
        # Where no case started, none can start otherwise.
        (
            {
                "provenance": {"tests": {"commit": COMMIT, "version": 2}},
                "cases": (),
                "error": RunError(kind=ErrorKind.IMPORTS, reason="x"),
            },
            None,
        ),
        # A run that answers nothing does not stand for its cell.
        ({"cases": ()}, "its run had no case"),
        ({"cases": (), "rungs": (RungResult(rung=Rung.IMPORTS, ok=True),)}, "its run had no case"),
        ({"provenance": {"tests": {"commit": COMMIT, "version": 5}}}, UNKNOWN),
        ({"provenance": {"tests": {"commit": COMMIT, "fingerprint": "sha256:old"}}}, UNKNOWN),
        ({"provenance": {"tests": {"commit": COMMIT, "fingerprint": None}}}, UNKNOWN),
        ({"provenance": {"tests": None}}, UNKNOWN),
        ({"deselected": 8}, "ran 1 of 9 cases"),
        (
            {"error": RunError(kind=ErrorKind.NO_SPACE, reason="x")},
            "its run ended early (no space)",
        ),
        # That it cannot be imported is an answer.
        ({"error": RunError(kind=ErrorKind.IMPORTS, reason="x")}, None),
    ],
)
def test_stale_is_what_did_not_run_as_it_would_now(more: dict[str, Any], why: str | None) -> None:
    wanted = Wanted(torch=SpecifierSet("==2.10.*"), python=SpecifierSet("==3.11"), stale=True)
    both = planned(wanted, record(**more), record(platform="cpu"))
    assert [(item.platform, report.why_words(item)) for item in both] == (
        [("cuda", why)] if why else []
    )
    [cuda, cpu] = planned(
        Wanted(torch=wanted.torch, python=wanted.python), record(**more), record(platform="cpu")
    )
    assert report.why_words(cuda) == (why or "ran on 2026-11-22, not stale")
    assert not cpu.stale


def test_a_change_makes_stale_only_what_it_can_affect() -> None:
    old: dict[str, Any] = {"provenance": {"tests": {"commit": COMMIT, "version": 1}}}
    wanted = Wanted(torch=SpecifierSet("==2.10.*"), python=SpecifierSet("==3.11"), stale=True)
    [cuda, cpu] = planned(wanted, record(**old), record(platform="cpu", **old))
    assert (cuda.tests_changed, cpu.tests_changed) == ((2, 3), (3,))
    content = json.loads(report.content([cpu], TESTS.current))
    assert content["cells"][0]["tests_changed"] == [3]
    failed: dict[str, Any] = {"provenance": {"tests": {"commit": None, "version": 3}}, "cases": ()}
    failed["rungs"] = (
        RungResult(rung=Rung.IMPORTS, ok=False, seconds=0.0, reason="undefined symbol"),
    )
    [cpu] = planned(wanted, record(**failed), record(platform="cpu", **failed))
    assert (cpu.platform, cpu.tests_changed) == ("cpu", (4,))


def test_a_run_that_died_is_stale() -> None:
    died = Record(
        cell="py311-torch210-vllm019",
        platform=Platform.CUDA,
        finished=False,
        provenance=record().provenance,
    )
    wanted = Wanted(torch=SpecifierSet("==2.10.*"), python=SpecifierSet("==3.11"), stale=True)
    assert report.why_words(planned(wanted, died)[0]) == "its run did not finish"


def test_the_seconds_are_those_of_its_own_run_or_of_its_pair() -> None:
    found = planned(CUDA, record(), record("py310-torch29-vllm016", deselected=3))
    told = {item.cell.name: (item.seconds, item.seconds_of) for item in found}
    assert told["py311-torch210-vllm019"] == (300.0, "py311-torch210-vllm019")
    assert told["py310-torch210-vllm019"] == (300.0, "py311-torch210-vllm019")
    assert told["py310-torch29-vllm016"] == (None, None)


@pytest.mark.parametrize(
    ("new", "found"),
    [
        ("torch==2.11.0", [("2.11.0", "0.20.0"), ("2.11.0", "0.26.0")]),
        ("torch==2.11", [("2.11.0", "0.20.0"), ("2.11.0", "0.26.0")]),
        # Nobody pins it: the nearest vLLM on either side.
        ("torch==2.12.0", [("2.12.0", "0.26.0")]),
        ("torch==2.14.0", [("2.14.0", "0.27.0")]),
        ("vllm==0.20.0", [("2.11.0", "0.20.0")]),
    ],
)
def test_a_new_release_brings_its_cells(new: str, found: list[tuple[str, str]]) -> None:
    wanted = Wanted(new=(parse_release(new, "--new"),), platforms=(Platform.CUDA,))
    assert pairs(wanted) == found
    assert all(report.why_words(item).startswith("new ") for item in planned(wanted) if item.runs)


def test_what_the_index_lacked_is_no_reason_to_run_nothing() -> None:
    wanted = Wanted(new=((Project.VLLM, "0.27.0"),))

    def found(*, unknown: bool) -> set[bool]:
        lacks = Answer(ok=False, unknown=unknown, facts=quoted("needs certifi>=2"))
        grid = survey(RELEASES, resolves=lambda *_: lacks)
        return {item.runs for item in plan(grid, RELEASES, [], TESTS, wanted)}

    assert (found(unknown=True), found(unknown=False)) == ({True}, {False})


def test_a_patch_that_only_some_environments_run_brings_those() -> None:
    two = (vllm("0.11.0", "2.9.0"), vllm("0.11.2", "2.10.0"))
    releases = Releases(torch=RELEASES.torch, vllm=two, pythons=("3.11",), matrix_vllm=())
    for version, torch in (("0.11.0", "2.9.0"), ("0.11.2", "2.10.0")):
        found = plan(survey(releases), releases, [], TESTS, Wanted(new=((Project.VLLM, version),)))
        assert {(item.cell.torch, item.cell.vllm) for item in found} == {(torch, version)}


def test_both_sides_of_a_torch_that_nobody_pins_are_told() -> None:
    wanted = Wanted(new=((Project.TORCH, "2.12.0"),), platforms=(Platform.CPU,))
    assert pairs(wanted) == [("2.12.0", "0.26.0"), ("2.12.0", "0.27.0")]
    on_cuda = planned(Wanted(new=((Project.TORCH, "2.12.0"),), platforms=(Platform.CUDA,)))
    assert {item.cell.vllm: item.runs for item in on_cuda} == {"0.26.0": True, "0.27.0": False}


@pytest.mark.parametrize(
    ("beside", "found"),
    [
        (
            "vllm==0.20.0",
            {
                ("2.10.0", "0.20.0"),
                ("2.12.0", "0.20.0"),
                ("2.11.0", "0.19.1"),
                ("2.11.0", "0.26.0"),
            },
        ),
        ("vllm==0.16.0", {("2.10.0", "0.16.0"), ("2.9.0", "0.19.1")}),
        ("torch==2.14.0", {("2.13.0", "0.27.0"), ("2.14.0", "0.26.0")}),
        (
            "torch==2.11.0",
            {
                ("2.10.0", "0.20.0"),
                ("2.12.0", "0.20.0"),
                ("2.10.0", "0.26.0"),
                ("2.12.0", "0.26.0"),
                ("2.11.0", "0.19.1"),
                ("2.11.0", "0.27.0"),
            },
        ),
    ],
)
def test_neighbours_are_one_release_away(beside: str, found: set[tuple[str, str]]) -> None:
    release = parse_release(beside, "--neighbours")
    assert set(pairs(Wanted(neighbours=(release,), platforms=(Platform.CPU,)))) == found
    both = Wanted(neighbours=(release,), new=(release,), platforms=(Platform.CPU,))
    assert found < set(pairs(both))


def test_why_names_the_release_and_what_is_stale() -> None:
    wanted = Wanted(new=((Project.VLLM, "0.19.1"),), neighbours=((Project.VLLM, "0.19.1"),))
    found = planned(wanted, record())
    told = {(item.cell.name, item.platform): report.why_words(item) for item in found}
    assert (
        told["py311-torch210-vllm019", Platform.CUDA]
        == "new vLLM 0.19.1; ran on 2026-11-22, not stale"
    )
    assert told["py311-torch211-vllm019", Platform.CUDA] == "next to vLLM 0.19.1; never ran"


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("torch==2.99.0", "torch==2.99.0: no environment runs it; the nearest is 2.14"),
        ("vllm==0.19.0", "vllm==0.19.0: no environment runs it; of 0.19 it is 0.19.1"),
    ],
)
def test_a_release_that_no_environment_runs_is_told(release: str, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        planned(Wanted(new=(parse_release(release, "--new"),)))
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is not a release"),
        ("torch", "is not a release"),
        ("torch==", "is not a release"),
        ("torch==x", "is not a release"),
        ("numpy==1.0", "'numpy' is neither torch nor vllm"),
        ("==2.15.0", "'' is neither torch nor vllm"),
    ],
)
def test_a_bad_release_is_told(text: str, wrong: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_release(text, "--new")
    assert str(caught.value) == f"--new {text!r}: {wrong}; write it as torch==2.15.0"


RECORDS = [
    record(f"py3{python}-torch210-vllm019", platform, deselected=number)
    for number, (python, platform) in enumerate(
        (p, q) for p in ("10", "11") for q in ("cuda", "cpu")
    )
]


@settings(deadline=None, max_examples=25)
@given(st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_the_plan_is_the_same_for_any_order_of_the_records(
    rng: random.Random, stale: bool, off_pin: bool
) -> None:
    wanted = Wanted(
        stale=stale, off_pin=off_pin, new=((Project.TORCH, "2.10.0"),) if off_pin else ()
    )
    mixed = RECORDS.copy()
    rng.shuffle(mixed)
    assert planned(wanted, *mixed) == planned(wanted, *RECORDS)


@settings(deadline=None, max_examples=25)
@given(st.sets(st.sampled_from(range(4))), st.booleans())
def test_a_stale_plan_is_what_of_the_whole_plan_is_stale(some: set[int], off_pin: bool) -> None:
    records = [RECORDS[number] for number in some]
    whole = planned(Wanted(off_pin=off_pin), *records)
    assert planned(Wanted(off_pin=off_pin, stale=True), *records) == tuple(
        item for item in whole if item.stale
    )
    keys = [(item.cell, item.platform) for item in whole]
    assert len(set(keys)) == len(keys)


def test_a_record_that_a_run_shows_to_fail_is_planned_still() -> None:
    broken = record(error=RunError(kind=ErrorKind.IMPORTS, reason="undefined symbol"))
    verdict = CellVerdict(
        verdict=Verdict.INCOMPATIBLE, rung=Rung.IMPORTS, reason=recorded("undefined symbol")
    )
    grid = survey(RELEASES, links=links, seen=runs([(broken, verdict)], RELEASES))
    found = plan(grid, RELEASES, [broken], TESTS, Wanted(torch=SpecifierSet("==2.10.*")))
    assert all(item.runs for item in found)
    assert "fails at imports" in report.lines(found)
