"""matrix.qualify.runs: which records stand for a release, cell by cell."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from made import NO_RULES, RELEASES, Told, failed, make, passed, ran
from matrix.qualify.query import (
    Query,
    age,
    is_asked,
    may_be_asked,
    named,
    oldest_first,
    same_release,
    versions,
    versions_of,
)
from matrix.qualify.runs import (
    MOST_RUNS,
    CellRun,
    ReleaseRuns,
    hardware,
    newest,
    order,
    patch,
    release,
    side,
    unsaid,
)
from matrix.record.model import ErrorKind, Record, RunError, Rung, RungResult

OLD, NEXT = "2.11.0", "2.12.1"
NAME = "py311-torch212-vllm020"
LATE = "2026-11-24T18:00:00Z"
ASKED = Query("torch", NEXT, OLD)
OF_VLLM = Query("vllm", "0.20.2", "0.19.1")
NOTHING_SAID = {"torch": None, "vllm": None}
WRONG = RunError(kind=ErrorKind.WRONG_CELL, reason="it has torch 2.11.0, not 2.12.1")


def said(of: Told) -> tuple[Path, Record, str, str]:
    found = versions(of[1], RELEASES)
    assert found is not None
    return (*of, *found)


def side_of(*records: Told, asked: Query = ASKED, late: str | None = None) -> ReleaseRuns:
    """The side of the candidate."""
    return side(asked, asked.candidate, map(said, records), NO_RULES, RELEASES, late)


def decides(*records: Told, late: str | None = None) -> CellRun:
    """The run that decides, where all are of one cell and one pair of releases."""
    [[found]] = [list(of.values()) for of in side_of(*records, late=late).values()]
    return found


def run(file: str, *cases: Any, **more: Any) -> Told:
    return make(NEXT, *(cases or (passed(),)), file=file, **more)


def names(runs: tuple[CellRun, ...]) -> list[str]:
    return [each.path.stem for each in runs]


@pytest.mark.parametrize(
    ("torch", "vllm", "error", "cases", "found"),
    [
        ("2.12.1", "0.20.2", None, True, ("2.12.1", "0.20.2")),
        # A local version says how it was built, and is the same release.
        ("2.12.1+cu130", "0.20.2+cpu", None, True, ("2.12.1", "0.20.2")),
        ("2.12.0.dev3+git1", "0.20.2rc1", None, True, ("2.12.0.dev3", "0.20.2rc1")),
        # What does not say a release is of its name only where no case ran.
        (None, None, None, False, ("2.12.1", "0.20.2")),
        (None, "0.20.1", None, False, ("2.12.1", "0.20.1")),
        ("2.12.0", "junk", None, False, ("2.12.0", "0.20.2")),
        (None, None, None, True, None),
        (None, "0.20.2", None, True, None),
        ("2.12.1", "junk", None, True, None),
        ("2.12.1", "0.20.2", "imports", True, ("2.12.1", "0.20.2")),
        ("2.12.1", "0.20.2", "wrong_cell", True, None),
        (None, None, "wrong_cell", False, None),
    ],
)
def test_the_releases_of_a_record(
    torch: object, vllm: object, error: str | None, cases: bool, found: tuple[str, str] | None
) -> None:
    assert versions_of(NAME, torch, vllm, error, cases, RELEASES) == found


def test_a_name_that_stands_for_no_cell_says_no_release() -> None:
    assert versions_of("py311-torch99-vllm020", None, None, None, False, RELEASES) is None


def test_the_releases_are_those_of_the_provenance() -> None:
    assert versions(run("a")[1], RELEASES) == (NEXT, "0.20.2")
    assert versions(run("a", provenance=NOTHING_SAID)[1], RELEASES) is None
    assert versions(make(NEXT, provenance=NOTHING_SAID)[1], RELEASES) == (NEXT, "0.20.2")
    assert versions(run("a", error=WRONG)[1], RELEASES) is None


def test_the_release_of_a_project() -> None:
    told = said(run("a"))
    assert (release("torch", told), release("vllm", told)) == (NEXT, "0.20.2")
    assert (ASKED.other, OF_VLLM.other) == ("vllm", "torch")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(0, 9))
def test_zeros_at_its_end_make_no_other_release(parts: list[int], last: int) -> None:
    one = ".".join(map(str, parts))
    assert same_release(one, f"{one}.0") and same_release(f"{one}.0", one)
    assert same_release(one, f"{one}.{last}") is (last == 0)
    assert not same_release(one, f"{one}.dev1")


def test_a_release_is_named_as_it_is_known() -> None:
    assert named("2.12", ["2.11.0", "2.12.0", "2.12"]) == "2.12.0"
    assert named("2.13", ["2.11.0", "2.12.0"]) is None


@pytest.mark.parametrize(
    ("narrowed", "platform", "other", "wanted"),
    [
        ({}, "cpu", "0.20.2", True),
        ({"platforms": ("cuda",)}, "cpu", "0.20.2", False),
        ({"pythons": ("3.11", "3.12")}, "cpu", "0.20.2", True),
        ({"pythons": ("3.12",)}, "cpu", "0.20.2", False),
        ({"under": SpecifierSet(">=0.20")}, "cpu", "0.20.2", True),
        ({"under": SpecifierSet(">=0.20")}, "cpu", "0.21.0rc1", True),
        ({"under": SpecifierSet(">=0.20.3")}, "cpu", "0.20.2", False),
    ],
)
def test_what_is_asked(narrowed: Any, platform: str, other: str, wanted: bool) -> None:
    assert is_asked(replace(ASKED, **narrowed), NAME, platform, other) is wanted


@pytest.mark.parametrize(
    ("asked", "cell", "torch", "vllm", "wanted"),
    [
        (ASKED, NAME, None, None, True),
        (ASKED, "py311-torch211-vllm020", None, None, True),
        (ASKED, "py311-torch213-vllm020", None, None, False),
        # What it does say is exact, whatever its name means.
        (ASKED, NAME, "2.12.1+cu130", None, True),
        (ASKED, NAME, "2.12.0", None, False),
        (ASKED, NAME, "junk", None, True),
        (OF_VLLM, NAME, None, None, True),
        (OF_VLLM, NAME, None, "0.20.1", False),
        (replace(ASKED, under=SpecifierSet("==0.20.1")), NAME, None, "0.20.1", True),
        (replace(ASKED, under=SpecifierSet("==0.20.1")), NAME, None, None, False),
        (replace(ASKED, pythons=("3.12",)), NAME, None, None, False),
        (ASKED, "py311-torch99-vllm020", "2.12.1", None, False),
    ],
)
def test_what_may_be_asked(
    asked: Query, cell: str, torch: object, vllm: object, wanted: bool
) -> None:
    assert may_be_asked(asked, cell, "cpu", torch, vllm, RELEASES) is wanted


_STARTED = st.integers(1, 28).map(lambda day: f"2026-11-{day:02}T18:00:00Z")


@given(_STARTED, _STARTED, st.one_of(st.none(), _STARTED))
def test_what_is_of_the_future_is_older_than_all_else(
    one: str, other: str, late: str | None
) -> None:
    future = [late is not None and each > late for each in (one, other)]
    if future[0] == future[1]:
        assert (age(one, late) < age(other, late)) is (one < other)
    else:
        assert (age(one, late) < age(other, late)) is future[0]


def test_the_newest_that_decides_stands_for_the_cell() -> None:
    assert decides(run("old", day=1), run("new", day=2)).path.stem == "new"
    # A run that was cut short hides no whole one, and one of the future hides none.
    whole = run("whole", day=1)
    assert decides(whole, run("short", day=2, finished=False)).path.stem == "whole"
    future = run("future", day=25)
    assert decides(whole, future).path.stem == "future"
    assert decides(whole, future, late=LATE).path.stem == "whole"
    assert decides(future, late=LATE).path.stem == "future"
    cut = [run(str(day), day=day, finished=False) for day in (1, 25)]
    assert decides(*cut).path.stem == "25"
    assert decides(*cut, late=LATE).path.stem == "1"


def test_a_copy_is_one_run_and_the_first_path_names_it() -> None:
    one = run("b")
    found = decides(one, (one[0].with_name("a.json"), one[1]))
    assert (found.path.stem, found.again, found.beside) == ("a", (), ())


def test_a_run_with_other_flags_stands_beside() -> None:
    on, off = {"flags": {"A": True, "B": 1}}, {"flags": {"A": False}}
    found = decides(
        run("old", failed(), day=1, **off), run("off", day=2, **off), run("on", day=3, **on)
    )
    assert (found.path.stem, found.apart) == ("on", None)
    assert [(each.path.stem, each.apart) for each in found.beside] == [("off", "A=false")]
    # The failure with those flags is hidden by the newer run with them, and is not `again`.
    assert found.again == ()
    # Of a flag that only one knows nobody says that it was another.
    assert decides(run("a"), run("b", day=23, **on)).beside == ()


def test_the_flags_of_a_case_are_flags_of_the_run() -> None:
    cases = [replace(passed(), flags={"A": value}) for value in (1, 2)]
    [beside] = decides(run("a", cases[0], day=1), run("b", cases[1], day=2)).beside
    assert (beside.path.stem, beside.apart) == ("a", "A=1")


def test_another_run_of_the_very_same_stays_where_it_ended_otherwise() -> None:
    other_tests = {"tests": {"commit": None, "fingerprint": "sha256:2"}}
    found = decides(
        run("failed", failed(), day=1),
        run("y", failed(signature="KeyError: y"), day=3),
        run("same", passed(cold=99.0), day=4),
        run("counts", passed(num_compiled_artifacts_loaded=4), day=5),
        run("nobody's", passed(**{"inductor.pattern_matcher_count": 4}), day=6),
        run("imports", day=7, rungs=(RungResult(rung=Rung.IMPORTS, ok=False),)),
        run("died", day=2, error=RunError(kind=ErrorKind.CRASHED, reason="SIGKILL")),
        run("tests", failed(), day=7, provenance=other_tests),
        run("decides", day=8),
    )
    assert found.path.stem == "decides"
    assert names(found.again) == ["imports", "counts", "y", "died", "failed"]


def test_what_is_of_the_future_comes_last_of_the_same() -> None:
    runs = [run("future", failed(), day=25), run("past", failed(), day=1), run("decides", day=2)]
    assert names(decides(*runs, late=LATE).again) == ["past", "future"]


def test_the_seconds_are_of_runs_of_its_kind() -> None:
    gpu = {"gpu": {"name": "H100", "driver": "1"}}
    others = [
        run("jobs", day=1, provenance={"jobs": 2}),
        run("machine", day=2, provenance={"machine": "aarch64"}),
        run("cpu", day=3, provenance={"cpu": {"model": "Xeon", "cores": 2}}),
        run("gpu", day=4, provenance=gpu),
        run("flags", day=5, flags={"A": 1}),
    ]
    same = [run(str(day), day=day, flags={"A": 2}) for day in (6, 7, 8)]
    found = decides(*others, *reversed(same))
    assert found.runs == tuple(record for _, record in same)


def test_of_many_runs_the_newest_tell_the_seconds() -> None:
    nights = [run(str(day), day=day) for day in range(1, MOST_RUNS + 4)]
    assert decides(*nights).runs == tuple(record for _, record in nights[3:])
    # Those of the future are the oldest.
    late = nights[-2][1].started
    assert decides(*nights, late=late).runs == tuple(record for _, record in nights[3 - 1 : -1])


def test_two_runs_of_one_second_both_tell_their_seconds() -> None:
    one, other = run("a", passed(cold=60.0)), run("b", passed(cold=70.0))
    copy = (Path("results/cpu/c.json"), one[1])
    for records in itertools.permutations((one, other, copy)):
        assert sorted(each.cases[0].seconds for each in decides(*records).runs) == [70.0, 80.0]


def test_cells_are_apart_by_platform_python_and_the_other_release() -> None:
    found = side_of(
        run("a"),
        run("b", platform="cuda"),
        run("c", python="3.12"),
        run("d", vllm="0.20.1"),
        run("e", vllm="0.19.1"),
        make(OLD, passed(), python="3.13"),
    )
    # A vLLM is of its minor release, with each patch apart.
    assert {key: sorted(of) for key, of in found.items()} == {
        ("cpu", "0.20", "3.11"): ["0.20.1", "0.20.2"],
        ("cuda", "0.20", "3.11"): ["0.20.2"],
        ("cpu", "0.20", "3.12"): ["0.20.2"],
        ("cpu", "0.19", "3.11"): ["0.19.1"],
    }
    # A torch is exactly itself.
    of_vllm = side_of(run("a"), make("2.12.0", passed()), make(NEXT, vllm="0.20.1"), asked=OF_VLLM)
    assert sorted(of_vllm) == [("cpu", "2.12.0", "3.11"), ("cpu", "2.12.1", "3.11")]


_KINDS = [
    run("a", day=1),
    run("b", failed(), day=2),
    run("c", day=2, finished=False),
    run("d", day=3, flags={"A": 1}),
    run("e", failed(), day=4, flags={"A": 2}),
    run("f", day=26),
    run("g", day=5, error=RunError(kind=ErrorKind.CRASHED, reason="x")),
    run("h", passed(), vllm="0.20.1"),
    run("i", platform="cuda"),
]


@given(st.permutations(_KINDS), st.sampled_from([None, LATE]))
def test_the_order_of_the_records_is_nothing(records: list[Told], late: str | None) -> None:
    found, wanted = (side_of(*each, late=late) for each in (records, _KINDS))
    assert found == wanted
    # What goes through them finds the same in the same order.
    assert [(key, list(of)) for key, of in found.items()] == [
        (key, list(of)) for key, of in wanted.items()
    ]


def lost(*records: Told, late: str | None = None) -> list[tuple[str, bool]]:
    chosen = [said(each) for each in records if versions(each[1], RELEASES) is not None]
    found = unsaid(ASKED, records, chosen, RELEASES, late)
    return [(each.path.stem, each.blocks) for each in found]


def test_a_record_that_stands_for_no_release_is_told() -> None:
    nameless = run("nameless", provenance=NOTHING_SAID)
    # Whatever it says that ran, it was meant to be of its name.
    wrong = run("wrong", error=WRONG, provenance={"torch": "2.13.0"})
    assert lost(nameless) == [("nameless", True)]
    assert lost(wrong) == [("wrong", False)]
    assert lost(nameless, wrong) == [("nameless", True), ("wrong", False)]
    [of_nobody] = unsaid(ASKED, [nameless], [], RELEASES, None)
    assert of_nobody.why == "does not say which torch and vLLM ran its cases"
    [of_another] = unsaid(ASKED, [wrong], [], RELEASES, None)
    assert of_another.why == (
        "ran in an environment that is not this cell (it has torch 2.11.0, not 2.12.1)"
    )
    # Nobody asks for it, or it says what ran.
    assert lost(make("2.13.0", passed(), provenance=NOTHING_SAID)) == []
    assert lost(run("said")) == []
    assert lost(make(NEXT, provenance=NOTHING_SAID)) == []


def test_a_record_that_says_what_ran_leaves_out_older_ones_that_do_not() -> None:
    nameless = [run(str(day), day=day, provenance=NOTHING_SAID) for day in (3, 5)]
    assert lost(*nameless) == lost(*reversed(nameless)) == [("5", True)]
    assert lost(*nameless, run("said", day=4)) == [("5", True)]
    assert lost(*nameless, run("said", day=6)) == []
    assert lost(*nameless, run("said", day=6, platform="cuda")) == [("5", True)]
    # What says that another release ran, says nothing of these.
    other = run("other", day=6, provenance={"torch": "2.12.0"})
    assert lost(*nameless, other) == [("5", True)]


def test_of_the_future_and_without_a_release_is_the_oldest() -> None:
    past, future = (run(str(day), day=day, provenance=NOTHING_SAID) for day in (2, 26))
    assert lost(past, future) == [("26", True)]
    assert lost(past, future, late=LATE) == [("2", True)]
    assert lost(future, run("said", day=1), late=LATE) == []
    assert lost(past, run("said", day=27), late=LATE) == [("2", True)]


def test_a_driver_is_no_hardware() -> None:
    def with_gpu(gpu: object) -> tuple[object, ...]:
        return hardware(run("a", provenance={"gpu": gpu})[1])

    assert with_gpu({"name": "H100", "driver": "1"}) == with_gpu({"name": "H100", "driver": "2"})
    cpu = {"model": "EPYC", "cores": 2}
    assert with_gpu({"name": "H100"}) == ("x86_64", cpu, "H100")
    assert with_gpu(None) == with_gpu("H100") == ("x86_64", cpu, None)


def test_releases_are_in_one_order_also_where_two_spell_the_same() -> None:
    for spelled in itertools.permutations(("2.12.0", "2.9.1", "2.12")):
        assert oldest_first(spelled) == ["2.9.1", "2.12", "2.12.0"]


def test_cells_are_in_the_order_of_their_versions() -> None:
    keys = itertools.product(("cuda", "cpu"), ("0.9", "0.10"), ("3.9", "3.10"))
    told = list(keys)
    assert sorted(reversed(told), key=order) == told


def test_the_newest_patch_is_the_highest_version() -> None:
    of = {vllm: ran(run(vllm, vllm=vllm)) for vllm in ("0.20.10", "0.20.9")}
    assert newest(ASKED, of) is of["0.20.10"]
    assert str(patch(ASKED, of["0.20.9"])) == "0.20.9"
    assert str(patch(OF_VLLM, of["0.20.9"])) == NEXT


def test_what_a_run_says_of_itself() -> None:
    one = ran(run("a"))
    assert (one.python, one.record) == ("3.11", one.entry.record)
    place = one.place
    assert (place.cell, place.platform, place.torch, place.vllm) == (NAME, "cpu", NEXT, "0.20.2")
