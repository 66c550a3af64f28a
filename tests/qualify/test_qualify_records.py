"""Which records decide, what their caveats are, and the seconds of their runs."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import Told, failed, make, passed
from matrix.qualify.model import FailureKind
from matrix.qualify.query import MOST_RUNS
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.model import ErrorKind, Platform, RunError
from matrix.report.qualify.json import render
from matrix.report.qualify.markdown import page
from matrix.report.qualify.sections import commands
from matrix.report.qualify.sections import notes as sections_notes
from matrix.report.qualify.text import lines
from matrix.store.stats import shifted
from qualifications import (
    LATE,
    NEXT,
    OLD,
    OTHER_TESTS,
    ask,
    held,
    judged,
    kinds,
    no_times,
    notes,
)


def test_a_name_that_means_another_patch_is_told() -> None:
    found = held(make(OLD, passed()), query=ask("torch", "2.12.0", OLD, (Platform.CPU,)))
    assert notes(found)[-1] == (
        "tox -e py311-torch212-vllm020 installs torch 2.12.1, and not 2.12.0"
    )
    found = held(make(OLD, passed()), query=ask("torch", NEXT, OLD, (Platform.CPU,)))
    assert not any("installs" in note for note in notes(found))


def test_a_cell_that_would_install_another_patch_is_not_proposed() -> None:
    found = held(make(OLD, passed()), query=ask("torch", "2.12.0", OLD, (Platform.CPU,)))
    assert commands(found, []) == [
        f"matrix qualify --torch 2.12.0 --baseline {OLD} --platform cpu",
    ]
    assert sections_notes(found)[-1] == (
        "py311-torch212-vllm020 installs torch 2.12.1, and no cell name means torch 2.12.0, so no"
        " run is proposed; `matrix candidate add NAME --wheel WHEEL` gives the"
        " wheel of torch 2.12.0 a name"
    )
    found = held(make(OLD, passed()), query=ask("torch", NEXT, OLD, (Platform.CPU,)))
    assert commands(found, [])[0] == "tox -e py311-torch212-vllm020 -- --platform cpu"


def test_no_run_is_proposed_that_would_have_another_release_of_the_other_project() -> None:
    """py311-torch212-vllm020 installs torch 2.12.1, so it never gives 2.12.0 with vLLM 0.20.2."""
    ran = make("2.12.0", passed(), vllm="0.19.1"), make(NEXT, passed(), vllm="0.19.1")
    found = held(*ran, query=ask("vllm", "0.20.2", "0.19.1", (Platform.CPU,)))
    runs = "tox -e py311-torch212-vllm020 -- --platform cpu"
    assert commands(found, [])[0] == runs  # for the torch that it installs
    found = held(ran[0], query=ask("vllm", "0.20.2", "0.19.1", (Platform.CPU,)))
    assert commands(found, []) == ["matrix qualify --vllm 0.20.2 --baseline 0.19.1 --platform cpu"]
    assert sections_notes(found)[-1].startswith(
        "py311-torch212-vllm020 installs torch 2.12.1, and no cell name means torch 2.12.0"
    )
    # Nor one of the baseline's side.
    found = held(
        make("2.12.0", passed(), vllm="0.19.1"),
        make(NEXT, failed()),
        query=ask("torch", NEXT, "2.12.0", (Platform.CPU,)),
    )
    assert commands(found, []) == [
        "tox -e py311-torch212-vllm019 -- --platform cpu",
        "matrix qualify --torch 2.12.1 --baseline 2.12.0 --platform cpu",
    ]


def test_another_patch_with_records_is_named_where_nothing_was_compared() -> None:
    old = make("2.12.0", passed())
    asked = ask("torch", "2.13.0", NEXT, (Platform.CPU,))
    found = held(old, make("2.13.0", passed()), query=asked)
    text = "nothing of torch 2.12.1 was compared; 2.12.0 has records of what 2.13.0 ran"
    assert notes(found)[0] == f"{text}: --baseline 2.12.0"
    asked = ask("torch", NEXT, "2.13.0", (Platform.CPU,))
    found = held(old, make("2.13.0", passed()), query=asked)
    text = "nothing of torch 2.12.1 was compared; 2.12.0 has records of what 2.13.0 ran"
    assert notes(found)[0] == f"{text}: --torch 2.12.0"
    # Not where something was compared, or where it ran with another vLLM or elsewhere.
    for more in (
        [old, make(NEXT, passed())],
        [make("2.12.0", passed(), vllm="0.19.1")],
        [make("2.12.0", passed(), platform="cuda")],
    ):
        found = held(*more, make("2.13.0", passed()), query=asked)
        assert not any("--torch" in note for note in notes(found))


def test_of_several_records_the_newest_decides_and_the_others_are_told() -> None:
    other = {"tests": {"fingerprint": "sha256:0"}}
    records = [
        make(NEXT, failed(), day=20, file="old", provenance=other),
        make(NEXT, passed(), day=21, file="new"),
    ]
    found = held(make(OLD, passed()), *records)
    assert found.exit_status == 0
    assert notes(found)[1:] == (
        (
            "results/cpu/new.json decides for py311-torch212-vllm020 on cpu, and 1 other record of"
            " it does not"
        ),
    )


def test_a_copy_counts_once_and_is_told() -> None:
    path, record = make(NEXT, passed())
    found = held(make(OLD, passed()), (path, record), (Path("records/copy.json"), record))
    assert found.exit_status == 0
    assert notes(found)[1:] == (
        (
            "results/cpu/py311-torch212-vllm020.json exists more than once (records/copy.json)"
            " and counts once"
        ),
    )


def test_a_clock_that_is_ahead_is_told() -> None:
    found = held(make(OLD, passed()), make(NEXT, passed(), day=25))
    assert "has the start 2026-11-25T18:00:00Z, which is in the future" in notes(found)[1]


def test_a_run_of_the_future_is_the_oldest_of_its_cell() -> None:
    records = [
        make(OLD, passed()),
        make(NEXT, failed(), day=22),
        make(NEXT, passed(), day=30, file="ahead", provenance=OTHER_TESTS),
    ]
    late = "2026-11-24T18:00:00Z"
    assert held(*records).exit_status == 0
    found = held(*records, late=late)
    assert found.exit_status == 1
    assert any(
        "ahead.json has the start 2026-11-30T18:00:00Z, which is in the future; it counts"
        " as the oldest of its cell" in note
        for note in notes(found)
    )


def test_other_tests_on_the_two_sides_are_told() -> None:
    other = {"tests": {"fingerprint": "sha256:2"}, "model_source": "hub"}
    found = held(make(OLD, passed()), make(NEXT, passed(), provenance=other))
    assert notes(found.matches[0]) == (
        "the startup tests changed between the two records",
        "the models' source changed between the two records",
    )
    assert "the startup tests changed" in page(found)


def test_a_run_in_another_environment_is_told() -> None:
    error = RunError(kind=ErrorKind.WRONG_CELL, reason="it has torch 2.11.0, not 2.12.1")
    found = held(make(OLD, passed()), make(NEXT, error=error, provenance={"torch": OLD}))
    assert (
        "results/cpu/py311-torch212-vllm020.json ran in an environment that is not this cell (it"
        " has torch 2.11.0, not 2.12.1), and counts for nothing"
    ) in notes(found)


def test_a_release_without_a_record_is_no_answer() -> None:
    found = held(make(OLD, passed()), query=ask("torch", OLD, "2.10.0"))
    assert found.exit_status == 3
    assert "no record of torch 2.10.0 on cpu; it has records of 2.11.0" in notes(found)
    found = held(make(OLD, passed()), make(NEXT, passed()), pythons=("3.12",))
    assert found.exit_status == 3
    assert notes(found) == (
        "no record of torch 2.11.0 or 2.12.1 on cuda, nor of any other release",
        (
            "no record of torch 2.11.0 or 2.12.1 on cpu that was asked for; it has records of"
            " 2.11.0, 2.12.1"
        ),
    )


def test_swapped_releases_are_told() -> None:
    query = ask("torch", OLD, NEXT)
    found = held(make(OLD, passed()), make(NEXT, passed()), query=query)
    assert notes(found)[0] == (
        "the baseline 2.12.1 is newer than the candidate 2.11.0: this asks what going back changes"
    )


def three(torch: str, *cold: float, **more: Any) -> list[Told]:
    return [
        make(torch, passed(cold=seconds), day=day, file=f"{torch}.{day}", **more)
        for day, seconds in enumerate(cold, 20)
    ]


def test_seconds_beyond_noise_are_told_and_not_judged() -> None:
    found = held(*three(OLD, 60, 63, 61), *three(NEXT, 90, 94, 91))
    [time] = found.times
    assert (time.start, time.before, time.after) == ("cold", (60, 63, 61), (90, 94, 91))
    assert found.exit_status == 0
    assert "  cold   61.0  ->   91.0  moe   py311-torch212-vllm020 on cpu" in lines(found)
    assert "| cold | 61.0 (3) | 91.0 (3) |" in page(found)
    assert not held(*three(OLD, 60, 63, 92), *three(NEXT, 90, 94, 91)).times  # they overlap
    assert not held(*three(OLD, 60, 63, 61), *three(NEXT, 64, 65, 66)).times  # by too little


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"jobs": 2}, "not comparable: the baseline ran 1 case at a time, the candidate 2"),
        ({"cpu": {"model": "Xeon", "cores": 2}}, "not comparable: other machine"),
        ({"gpu": {"name": "H200"}}, "not comparable: other machine"),
        ({"machine": "aarch64"}, "not comparable: other machine"),
    ],
)
def test_seconds_of_another_kind_are_not_compared(changed: dict[str, Any], why: str) -> None:
    found = held(*three(OLD, 60, 63, 61), *three(NEXT, 90, 94, 91, provenance=changed))
    assert (found.times, no_times(found)) == ((), why)
    assert why in lines(found) and why in page(found)


def test_seconds_of_cases_side_by_side_compare_with_as_many_at_once() -> None:
    several = {"provenance": {"jobs": 2}}
    [time] = held(*three(OLD, 60, 63, 61, **several), *three(NEXT, 90, 94, 91, **several)).times
    assert (time.before, time.after) == ((60, 63, 61), (90, 94, 91))
    found = held(*three(OLD, 60, 63, 61, **several), *three(NEXT, 90, 94, 91))
    assert json.loads(render(found))["cells"][0]["no_times"] == {
        "code": "other jobs",
        "operands": {"baseline": 2, "candidate": 1},
    }
    assert lines(found).count("comparable") == 1  # the geometric means lack for the same reason


def test_seconds_after_a_failed_step_compare_with_no_others() -> None:
    step = CppCompiler(seconds=3.25, reason="g++: not found")
    olds, slow = three(OLD, 60, 63, 61), three(NEXT, 90, 94, 91, cpp_compiler=step)
    found = held(*olds, *slow)
    why = "not comparable: a step before the cases failed in one of the two runs alone, so its"
    assert (found.times, str(no_times(found)).startswith(why)) == ((), True)
    assert json.loads(render(found))["cells"][0]["no_times"]["code"] == "other steps"
    assert lines(found).count("comparable") == 1
    both = three(OLD, 60, 63, 61, cpp_compiler=step)
    assert [time.after for time in held(*both, *slow).times] == [(90, 94, 91)]
    fine = three(NEXT, 90, 94, 91, cpp_compiler=replace(step, reason=None))
    again = make(NEXT, passed(cold=500), day=19, file="failed", cpp_compiler=step)
    assert [time.after for time in held(*olds, *fine, again).times] == [(90, 94, 91)]


def test_only_runs_of_one_kind_make_a_sample() -> None:
    others = [
        make(OLD, passed(cold=500), day=10, file="jobs", provenance={"jobs": 4}),
        make(OLD, passed(cold=500), day=11, file="machine", provenance={"machine": "aarch64"}),
        make(OLD, failed(), day=12, file="failed"),
    ]
    [time] = held(*others, *three(OLD, 60, 63, 61), *three(NEXT, 90, 94, 91)).times
    assert time.before == (60, 63, 61)


def test_one_run_tells_no_noise_and_a_copy_is_no_second_run() -> None:
    path, record = make(NEXT, passed(cold=600.0))
    copies = [(Path(f"records/{number}.json"), record) for number in range(3)]
    found = held(*three(OLD, 60, 63, 61), (path, record), *copies)
    assert no_times(found) == (
        "not comparable: 3 runs of the baseline and 1 of the candidate are too few to estimate"
        " noise; three of each are enough, and two of each, in turns, for geometric means"
    )
    assert found.times == ()


_SECONDS = st.lists(st.floats(0, 1e6), max_size=6)


@given(_SECONDS)
def test_no_sample_is_beyond_its_own_noise(sample: list[float]) -> None:
    assert not shifted(sample, sample)
    assert not shifted(sample, [])


_TWO_OF_CUDA = [make(OLD, passed(), platform="cuda", file=f"b{day}", day=day) for day in (21, 22)]


@pytest.mark.parametrize(
    "records",
    [
        # Each of two cells has its note: one of the future, and one of several runs.
        [*_TWO_OF_CUDA, make(OLD, passed(), file="a", day=30)],
        # Each patch of a cell without a baseline fails in its own way.
        [
            make(NEXT, failed(signature=f"KeyError: {vllm}"), vllm=vllm)
            for vllm in ("0.20.0", "0.20.1", "0.20.2")
        ],
        # Of a newer run that failed there are two copies, of one name in two folders.
        [
            make(OLD, passed()),
            make(NEXT, passed()),
            *(
                (Path(f"{folder}/again.json"), make(NEXT, failed(), day=21)[1])
                for folder in ("one", "two")
            ),
        ],
        # Two copies of what decides, alike.
        [(Path(f"{folder}/a.json"), make(OLD, passed())[1]) for folder in ("one", "two", "three")],
        # Runs of one cell by what ran, and of two by name.
        [
            make(OLD, passed()),
            make(NEXT, passed(), day=20),
            make(NEXT, failed(), file="other", provenance={"torch": OLD}, day=23),
        ],
        # The same, of one second.
        [
            make(OLD, passed()),
            make(NEXT, passed()),
            make(OLD, failed(), file="other", provenance={"torch": NEXT}),
        ],
    ],
)
def test_in_any_order_of_the_records_the_same_is_told(records: list[Told]) -> None:
    orders = itertools.permutations(records)
    assert len({render(judged([*item])) for item in orders}) == 1


def test_of_two_names_that_ran_the_same_releases_the_newest_run_stands() -> None:
    records = [make(OLD, passed()), make(NEXT, passed()), make("2.11.0", failed(), day=23)]
    path, run = records[-1]
    of_next = replace(run, provenance={**run.provenance, "torch": NEXT})
    for order in itertools.permutations((*records[:-1], (path, of_next))):
        assert kinds(judged([*order])) == [FailureKind.REGRESSION]


def test_a_run_under_another_cell_name_is_named_with_its_verdict() -> None:
    """Of two cells that ran the same releases, the loser does not vanish."""
    _, run = make(OLD, failed(), day=20)
    other = (
        Path("results/cpu/other.json"),
        replace(run, provenance={**run.provenance, "torch": NEXT}),
    )
    found = held(make(OLD, passed()), make(NEXT, passed()), other)
    assert (found.exit_status, kinds(found)) == (0, [])
    assert notes(found)[1:] == (
        (
            "results/cpu/py311-torch212-vllm020.json decides for py311-torch212-vllm020 on cpu, and"
            " results/cpu/other.json, which ran the same releases as py311-torch211-vllm020, does"
            " not; its verdict is incompatible"
        ),
    )


def test_a_partial_run_or_a_future_dated_one_hides_no_complete_one() -> None:
    before, whole = make(OLD, passed(), passed("b")), make(NEXT, failed(), passed("b"), day=20)
    short = make(NEXT, passed(), day=21, file="short", finished=False)
    assert held(before, whole, short).exit_status == 1
    ahead = make(NEXT, passed(), passed("b"), day=29, file="ahead", provenance=OTHER_TESTS)
    assert held(before, whole, ahead, late=LATE).exit_status == 1
    assert held(before, whole, ahead).exit_status == 0


def test_of_many_runs_the_newest_tell_the_seconds() -> None:
    nights = [make(OLD, passed(cold=day), day=day, file=f"n{day}") for day in range(1, 24)]
    found = held(*nights, *three(NEXT, 90, 94, 91))
    assert len(found.matches[0].baseline.timed) == MOST_RUNS
    [time] = found.times
    assert time.before == tuple(range(4, 24))
    # Those of the future are the oldest.
    late = nights[-2][1].started
    [time] = held(*nights, *three(NEXT, 90, 94, 91), late=late).times
    assert time.before == tuple(range(3, 23))


def test_two_runs_of_one_second_both_tell_their_seconds_and_a_copy_does_not() -> None:
    runs = [make(OLD, passed(cold=seconds), file=f"{seconds}") for seconds in (60, 70)]
    copy = Path("results/cpu/c.json"), runs[0][1]
    for records in itertools.permutations((*runs, copy)):
        match = judged([*records, make(NEXT, passed())]).matches[0]
        assert sorted(run.cases[0].seconds for run in match.baseline.timed) == [70.0, 80.0]


def test_a_driver_is_not_hardware() -> None:
    def gpu(torch: str, driver: str, *cold: int) -> list[Told]:
        return three(torch, *cold, provenance={"gpu": {"name": "H100", "driver": driver}})

    assert len(held(*gpu(OLD, "1", 60, 63, 61), *gpu(NEXT, "2", 90, 94, 91)).times) == 1
