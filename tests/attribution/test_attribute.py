"""What a failure or a count comes from: torch, vLLM, the pair, or nothing that is known."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attributions import (
    FLAG,
    KEY_ERROR,
    NO_RULES,
    SAVED,
    attributed,
    bad,
    minor,
    of,
    record,
    shown,
    torch_axis,
    vllm_axis,
    with_tests,
)
from matrix.attribution import reasons
from matrix.attribution.model import Cause
from matrix.catalog.cells import Cell
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Rung,
    RungResult,
)
from matrix.report.attribution.sentences import sentence
from matrix.rules.expectations_file import parse_expectations

SINCE_212, UNTIL_213 = minor("2.11.0", "2.12.0"), minor("2.12.0", "2.13.0")
SINCE_020, UNTIL_021 = minor("0.19.0", "0.20.0"), minor("0.20.0", "0.21.0")


# Each line: the records near the failing cell (2.12.0, 0.20.0), the answer, and its reason.
@pytest.mark.parametrize(
    ("near", "answer", "reason"),
    [
        (
            [record("2.11.0"), bad("2.13.0")],
            Cause.TORCH,
            reasons.AxisChanges(
                change=torch_axis("2.11.0", shows=("2.12.0", "2.13.0"), since=SINCE_212)
            ),
        ),
        (
            [record("2.13.0")],
            Cause.TORCH,
            reasons.AxisChanges(change=torch_axis("2.13.0", until=UNTIL_213)),
        ),
        (
            [record("2.11.0"), record("2.13.0")],
            Cause.TORCH,
            reasons.AxisChanges(
                change=torch_axis("2.11.0", "2.13.0", since=SINCE_212, until=UNTIL_213)
            ),
        ),
        (
            [record("2.9.0")],
            Cause.TORCH,
            reasons.AxisChanges(
                change=torch_axis(
                    "2.9.0",
                    since=reasons.Boundary(
                        low="2.9.0", high="2.12.0", precision=reasons.Precision.RANGE
                    ),
                )
            ),
        ),
        (
            [record("2.11.0"), bad("2.12.0", "0.19.0")],
            Cause.TORCH,
            reasons.AxisChanges(
                change=torch_axis("2.11.0", since=SINCE_212),
                also_shown=shown(reasons.Along.VLLM, "0.19.0"),
            ),
        ),
        (
            [record("2.12.0", "0.19.0")],
            Cause.VLLM,
            reasons.AxisChanges(change=vllm_axis("0.19.0", since=SINCE_020)),
        ),
        (
            [record("2.12.0", "0.21.0"), bad("2.11.0")],
            Cause.VLLM,
            reasons.AxisChanges(
                change=vllm_axis("0.21.0", until=UNTIL_021),
                also_shown=shown(reasons.Along.TORCH, "2.11.0"),
            ),
        ),
        (
            [record("2.11.0"), record("2.12.0", "0.21.0")],
            Cause.PAIR,
            reasons.BothAxesChange(
                torch=torch_axis("2.11.0", since=SINCE_212),
                vllm=vllm_axis("0.21.0", until=UNTIL_021),
            ),
        ),
        # What changes on one Python alone is said with it.
        (
            [record("2.12.0", python="3.12")],
            Cause.ENVIRONMENT,
            reasons.OtherPythonClean(clean_pythons=("3.12",)),
        ),
        (
            [record("2.12.0", python="3.12"), record("2.11.0")],
            Cause.TORCH,
            reasons.AxisChanges(
                change=torch_axis("2.11.0", since=SINCE_212), clean_pythons=("3.12",)
            ),
        ),
        (
            [record("2.12.0", python="3.12"), record("2.12.0", "0.19.0")],
            Cause.VLLM,
            reasons.AxisChanges(
                change=vllm_axis("0.19.0", since=SINCE_020), clean_pythons=("3.12",)
            ),
        ),
        (
            [record("2.12.0", python="3.12"), record("2.11.0"), record("2.12.0", "0.19.0")],
            Cause.PAIR,
            reasons.BothAxesChange(
                torch=torch_axis("2.11.0", since=SINCE_212),
                vllm=vllm_axis("0.19.0", since=SINCE_020),
                clean_pythons=("3.12",),
            ),
        ),
        (
            [record("2.12.0", platform="cuda")],
            Cause.ENVIRONMENT,
            reasons.OtherPlatformClean(platform=Platform.CUDA, counted=None),
        ),
        (
            [record("2.12.0", platform="cuda"), record("2.11.0")],
            Cause.TORCH,
            reasons.AxisChanges(change=torch_axis("2.11.0", since=SINCE_212)),
        ),
        (
            [record("2.12.0", started="2026-11-21T18:00:00Z")],
            Cause.FLAKY,
            reasons.RepeatsDisagree(shows=1, runs=2),
        ),
        (
            [
                bad("2.12.0", started="2026-11-20T18:00:00Z"),
                *(
                    record(
                        "2.12.0",
                        started=f"2026-11-{day}T18:00:00Z",
                        packages={"transformers": "4.57.6"},
                    )
                    for day in (19, 21)
                ),
            ],
            Cause.ENVIRONMENT,
            reasons.RepeatsDisagree(
                shows=2,
                runs=4,
                differences=(
                    reasons.RepeatDifference(name="transformers", shows="5.1.0", clean=("4.57.6",)),
                ),
            ),
        ),
        ([], Cause.UNKNOWN, reasons.NoCleanNeighbour()),
        (
            [bad("2.11.0")],
            Cause.UNKNOWN,
            reasons.NoCleanNeighbour(also_shown=(shown(reasons.Along.TORCH, "2.11.0"),)),
        ),
        (
            [bad("2.10.0"), record("2.11.0")],
            Cause.UNKNOWN,
            reasons.Intermittent(along=reasons.Along.TORCH),
        ),
        # Another defect says nothing of this one.
        ([record("2.11.0", fails="OSError: x")], Cause.UNKNOWN, reasons.NoCleanNeighbour()),
        # One that fails at a lower rung neither; one at a higher rung got past.
        ([bad("2.11.0", at="starts cold")], Cause.UNKNOWN, reasons.NoCleanNeighbour()),
    ],
)
def test_the_rules(
    near: Sequence[Record], answer: Cause, reason: reasons.AttributionReason
) -> None:
    found = of("2.12.0", bad("2.12.0"), *near, platform="cpu")
    assert (found.answer, found.reason) == (answer, reason)


def test_a_record_from_the_future_is_the_oldest_of_its_cell() -> None:
    late = {"late": "2026-11-24T00:00:00Z"}
    future = with_tests("x", record("2.12.0", started="2031-01-01T00:00:00Z"))
    assert attributed(bad("2.12.0"), future) == ()
    assert of("2.12.0", bad("2.12.0"), future, **late).answer == Cause.UNKNOWN
    future = bad("2.11.0", started="2031-01-01T00:00:00Z")
    beside = [bad("2.12.0"), with_tests("x", record("2.11.0")), future]
    assert of("2.12.0", *beside).answer == Cause.UNKNOWN
    assert of("2.12.0", *beside, **late).answer == Cause.TORCH


def test_the_same_defect_of_a_run_is_one_by_its_signature() -> None:
    def dead(torch: str, pid: int) -> Record:
        error = RunError(kind=ErrorKind.IMPORTS, reason=f"OSError: lock of pid {pid} held")
        return record(
            torch, cases=(), rungs=(RungResult(rung=Rung.IMPORTS, ok=False),), error=error
        )

    found = of("2.12.0", dead("2.12.0", 4711), dead("2.11.0", 12), record("2.10.0"))
    assert (found.answer, found.after, found.since) == (Cause.TORCH, "2.10.0", "2.11.0")


CELLS = st.tuples(
    st.sampled_from(["2.11.0", "2.12.0", "2.13.0"]),
    st.sampled_from(["0.19.0", "0.20.0", "0.21.0"]),
    st.sampled_from(["3.11", "3.12"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(CELLS, min_size=1, max_size=9))
@settings(max_examples=80, deadline=None)
def test_a_release_is_blamed_by_a_run_that_differs_in_it_alone(
    drawn: list[tuple[str, str, str, bool, bool, bool]],
) -> None:
    """On the same Python, and with flags of which no run says that they are not its own."""
    records = [
        record(
            torch,
            vllm,
            python=python,
            fails=KEY_ERROR if fails else None,
            flags={FLAG: flag},
            deselected=int(part),
            started=f"2026-11-{number + 1:02}T18:00:00Z",
        )
        for number, (torch, vllm, python, fails, flag, part) in enumerate(drawn)
    ]
    assert attributed(*reversed(records)) == attributed(*records)
    for found in attributed(*records):
        if found.answer not in (Cause.TORCH, Cause.VLLM, Cause.PAIR):
            continue
        at = found.cell
        clean = [
            (torch, vllm)
            for torch, vllm, python, fails, _, _ in drawn
            if python == at.python and not fails and (torch, vllm) != (at.torch, at.vllm)
        ]
        assert found.answer == Cause.VLLM or any(vllm == at.vllm for _, vllm in clean)
        assert found.answer == Cause.TORCH or any(torch == at.torch for torch, _ in clean)
        for missing in found.missing:
            runs = [run for run in drawn if Cell(run[2], run[0], run[1]).name == missing.name]
            # What ran is asked again with given flags, or where its own flags are not known.
            assert not runs or missing.flags or len({run[4] for run in runs}) == 2


def test_a_neighbour_that_fails_at_a_higher_rung_is_clean_of_it() -> None:
    found = of("2.12.0", bad("2.12.0", at="starts cold"), bad("2.11.0"))
    assert found.answer == Cause.TORCH
    assert "starts cold under torch 2.11.0" in sentence(found)


def test_the_newest_run_speaks_for_a_neighbour() -> None:
    older = bad("2.11.0", started="2026-11-21T18:00:00Z")
    assert of("2.12.0", bad("2.12.0"), older, record("2.11.0")).answer == Cause.TORCH


def test_two_defects_of_one_case_are_attributed_on_their_own() -> None:
    found = attributed(
        record("2.12.0", fails="OSError: disk"), bad("2.13.0"), record("2.11.0"), platform="cpu"
    )
    said = {failure.name: sentence(failure) for failure in found}
    assert (
        "under torch 2.11.0 and fails to start warm under 2.12.0:" in said["py311-torch212-vllm020"]
    )
    # What 2.12 does says nothing of what 2.13 does.
    assert said["py311-torch213-vllm020"].endswith(
        "torch, since a release after 2.11.0 and up to 2.13.0"
    )


def test_what_does_not_import_is_attributed_as_the_run() -> None:
    dead = record(
        "2.12.0",
        cases=(),
        rungs=(RungResult(rung=Rung.IMPORTS, ok=False, reason="undefined symbol"),),
        error=RunError(kind=ErrorKind.IMPORTS, reason="undefined symbol"),
    )
    found = of("2.12.0", dead, record("2.11.0"))
    assert (found.case, found.answer) == ("", Cause.TORCH)
    assert "is imported under torch 2.11.0 and is not imported under 2.12.0" in sentence(found)


@pytest.mark.parametrize("kind", ["no_space", "gpu_fault", "interrupted"])
def test_a_fault_of_the_machine_is_nobodys(kind: str) -> None:
    faulty = Record(
        **{**vars(record("2.12.0", fails="x")), "error": RunError(kind=ErrorKind(kind), reason="x")}
    )
    found = [failure.answer for failure in attributed(faulty, record("2.11.0"))]
    assert found == ([Cause.TORCH] if kind == "interrupted" else [])


FROM_OUTSIDE = ("killed from outside by SIGKILL", "timed out after 5.0 s; it had no CPU time")


@pytest.mark.parametrize("reason", FROM_OUTSIDE)
@pytest.mark.parametrize("outcome", [Outcome.INTERRUPTED, Outcome.CRASHED])
def test_a_case_that_others_ended_is_nobodys(outcome: Outcome, reason: str) -> None:
    ended = Case(case="a", outcome=outcome, reason=reason, signature=reason, flags={FLAG: False})
    is_outside = outcome == Outcome.INTERRUPTED
    error = RunError(kind=ErrorKind.INTERRUPTED, reason=reason) if is_outside else None
    found = attributed(record("2.12.0", cases=(ended,), error=error), record("2.11.0"), grid=True)
    assert [failure.answer for failure in found] == ([] if is_outside else [Cause.TORCH])


@pytest.mark.parametrize(
    "kind",
    [
        "no_compiler",
        "no_space",
        "unusable_tmpdir",
        "no_memory",
        "wrong_cell",
        "broken_install",
        "imports",
    ],
)
def test_a_run_that_a_fault_from_outside_ended_before_any_case_is_nobodys(kind: str) -> None:
    error = RunError(kind=ErrorKind(kind), reason="torch/lib/libtorch_cpu.so has 1 of 2 bytes")
    ended = record("2.12.0", cases=(), rungs=(), error=error)
    found = [failure.answer for failure in attributed(ended, record("2.11.0"), grid=True)]
    assert found == ([Cause.TORCH] if kind == "imports" else [])


def test_cells_platforms_and_cases_are_chosen() -> None:
    records = [bad("2.12.0"), bad("2.12.0", platform="cuda"), bad("2.13.0", case="m[x=1]")]
    assert len(attributed(*records)) == 3
    assert [failure.platform for failure in attributed(*records, platform="cuda")] == ["cuda"]
    assert [failure.case for failure in attributed(*records, case="m")] == ["m[x=1]"]
    assert attributed(*records, case="m[x=2]") == ()


def test_a_record_of_no_known_cell_is_left_out() -> None:
    other = record(
        "2.12.0", error=RunError(kind=ErrorKind.WRONG_CELL, reason="ran another torch"), fails="x"
    )
    assert attributed(other) == ()


@st.composite
def lines(draw: st.DrawFn) -> tuple[list[Record], int, int]:
    """Return records along torch with one change point: the first bad minor, the last good one."""
    minors = sorted(draw(st.sets(st.integers(9, 15), min_size=2)))
    first = draw(st.sampled_from(minors[1:]))
    records = [
        bad(f"2.{number}.0") if number >= first else record(f"2.{number}.0") for number in minors
    ]
    return draw(st.permutations(records)), first, max(number for number in minors if number < first)


@given(lines())
@settings(max_examples=40, deadline=None)
def test_one_change_along_torch_is_torch_since_then(
    line: tuple[list[Record], int, int],
) -> None:
    records, first, before = line
    for found in attributed(*records):
        assert found.answer == Cause.TORCH
        assert (found.after, found.since) == (f"2.{before}.0", f"2.{first}.0")


@given(
    st.lists(st.sampled_from(["ok", "bad", "other", "none"]), min_size=7, max_size=7), st.randoms()
)
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_records_changes_nothing(outcomes: list[str], rand: random.Random) -> None:
    kinds = {"ok": None, "bad": KEY_ERROR, "other": "OSError"}
    records = [
        record(f"2.{9 + number}.0", fails=kinds[kind])
        for number, kind in enumerate(outcomes)
        if kind != "none"
    ]
    found = attributed(*records)
    rand.shuffle(records)
    assert attributed(*records) == found
    # An answer names a clean neighbour, and nothing is missing that ran.
    ran = {run.cell for run in records}
    for failure in found:
        assert (failure.answer in (Cause.TORCH, Cause.PAIR, Cause.VLLM)) <= bool(
            failure.after or failure.until
        )
        assert not ran & {
            missing.name for missing in failure.missing if failure.answer != Cause.UNKNOWN
        }


# --- history, by records of real runs ---


def test_a_counter_is_attributed_by_what_neighbours_counted() -> None:
    found = of("2.12.0", record("2.12.0", saved=4), record("2.11.0"), bad("2.10.0"))
    assert found.answer == Cause.TORCH
    assert sentence(found) == (
        f"vLLM 0.20.0 counts warm {SAVED} 0 under torch 2.11.0 and 4 under 2.12.0: torch,"
        " since 2.12"
    )
    assert [(symptom.observed, symptom.wanted) for symptom in found.symptoms] == [(4, 0)]


def test_a_third_value_is_another_drift() -> None:
    found = of("2.12.0", record("2.12.0", saved=4), record("2.11.0", saved=2))
    assert found.answer == Cause.UNKNOWN


def test_counters_that_are_told_alike_are_one() -> None:
    found = of("2.12.0", record("2.12.0", saved=4, total=9), record("2.11.0"))
    assert [symptom.counter for symptom in found.symptoms] == ["aot_autograd.total", SAVED]


def test_without_an_expectation_a_cell_off_the_pin_is_held_against_its_pin() -> None:
    records = [record("2.12.0", saved=4), record("2.11.0"), record("2.10.0", saved=4)]
    found = attributed(*records, rules=NO_RULES)
    assert [(failure.name, failure.symptoms[0].kind) for failure in found] == [
        ("py311-torch210-vllm020", "changed"),
        ("py311-torch212-vllm020", "changed"),
    ]
    assert (
        found[0].answer == Cause.UNKNOWN
    )  # 2.10 and 2.12 count it, and 2.11 between them does not


def test_what_changed_as_expected_is_told_where_it_is_asked_for() -> None:
    records = [record("2.11.0", "0.20.0"), record("2.11.0", "0.21.0", total=9)]
    rules = parse_expectations(
        '[[rule]]\nid = "x"\ncase = "a"\nvllm = ">=0.21,<99"\nstart = "cold"\n'
        'counters = { "aot_autograd.total" = 9 }\nevidence = ["https://github.com/a/b/issues/1"]\n',
        "rules",
    )
    assert attributed(*records, rules=rules) == ()
    (found,) = attributed(*records, rules=rules, changes=True)
    assert (found.answer, found.since) == (Cause.VLLM, "0.21.0")


CONFIG = "torch._inductor.config"
OLD, NEW = ({CONFIG: {"epilogue_fusion": on, "other": 1}} for on in (True, False))


def test_defaults_that_torch_changed_where_it_came_are_a_hint() -> None:
    clean, shows = record("2.11.0", defaults=OLD), bad("2.12.0", defaults=NEW)
    later = bad("2.13.0", defaults={CONFIG: {"epilogue_fusion": False, "other": 2}})
    *_, found = attributed(clean, shows, later)
    assert (found.name, found.since) == ("py311-torch213-vllm020", "2.12.0")
    [change] = found.defaults
    assert (change.name, change.before, change.after) == ("epilogue_fusion", True, False)
    assert sentence(found).endswith(
        "; a hint: torch changed the default of torch._inductor.config.epilogue_fusion from true to"
        " false there"
    )


def test_defaults_are_no_hint_where_they_are_not_known_or_vllm_changed() -> None:
    for before, after in ((OLD, None), (None, NEW), (OLD, OLD)):
        [found] = attributed(record("2.11.0", defaults=before), bad("2.12.0", defaults=after))
        assert (found.answer, found.defaults) == (Cause.TORCH, ())
    vllm = record("2.12.0", "0.19.0", defaults=OLD)
    [found] = attributed(vllm, bad("2.12.0", defaults=NEW))
    assert (found.answer, found.defaults) == (Cause.VLLM, ())
