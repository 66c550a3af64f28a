"""The cases that the full suite adds: shown with a record, and no part of its verdict."""

from dataclasses import replace
from pathlib import Path

import pytest

from command import matrix
from commanded import RECORD, make, with_one_record
from matrix.record.model import Case, ErrorKind, Outcome, Record, RunError, Start, StartKind
from matrix.record.writer import write
from matrix.rules.expectations import Expectations
from matrix.verdict.judge import exit_status, judge

COLD = Start(
    start=StartKind.COLD,
    seconds={"total": 29.7},
    counters={"num_compiled_artifacts_saved": 0, "num_graphs_seen": 1},
)
OFF = Case(case="cache_off_startup", outcome=Outcome.PASSED, starts=(COLD,))
HOME = Case(case="another_home_startup", outcome=Outcome.FAILED, reason="Failed: warm \x1b[1m")
DRAFT = Case(
    case="speculative_startup",
    outcome=Outcome.FAILED,
    reason="AssertionError",
    signature="AssertionError @ vllm/a.py:run",
)
LORA = Case(case="lora_startup", outcome=Outcome.PASSED, reason="no expectation", starts=(COLD,))
GRAPHS = Case(case="cudagraph_startup[NONE]", outcome=Outcome.NOT_APPLICABLE, reason="no GPU")

TAKEN = "OSError: [Errno 98] Address already in use"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return with_one_record(tmp_path)


def show(here: Path, record: Record, *options: str) -> str:
    write(record, here / RECORD)
    ended = matrix(here, "show", RECORD, "--expectations", "rules.toml", *options)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_they_are_shown_apart(here: Path) -> None:
    alone = show(here, make())
    shown = show(here, make(full_suite=(OFF, HOME, LORA, GRAPHS)))
    block = (
        "\n"
        "full suite               start  seconds  outcome and counters\n"
        "cache_off_startup                        passed\n"
        "                         cold      29.7  num_compiled_artifacts_saved 0\n"
        "another_home_startup                     failed: Failed: warm\n"
        "lora_startup                             untested: no expectation\n"
        "                         cold      29.7  num_compiled_artifacts_saved 0\n"
        "cudagraph_startup[NONE]                  not applicable: no GPU\n"
    )
    assert block in shown
    rest = shown.replace(block, "").replace(" and 4 of the full suite (1 failed)", "")
    assert rest == alone
    assert "num_graphs_seen 1" in show(here, make(full_suite=(OFF,)), "--counters")
    assert "\nfull suite: none of its further cases ran\n" in show(here, make(full_suite=()))


def test_a_failure_is_shown_with_its_place(here: Path) -> None:
    shown = show(here, make(full_suite=(OFF, DRAFT)))
    assert " and 2 of the full suite (1 failed)" in shown.splitlines()[0]
    assert "  failed: AssertionError @ vllm/a.py:run\n" in shown
    full = replace(DRAFT, reason=f"Free memory (5.1/139.8 GiB) {'x' * 200}", seconds=13.9)
    shown = " ".join(show(here, make(full_suite=(full,))).split())
    assert "13.9 failed: Free memory (5.1/139.8 GiB) xx" in shown
    assert "@ vllm/a.py:run" in shown
    unplaced = replace(DRAFT, signature="AssertionError")
    assert "  failed: AssertionError\n" in show(here, make(full_suite=(unplaced,)))


@pytest.mark.parametrize(("reason", "failure"), [(HOME.reason, None), (TAKEN, None), ("", TAKEN)])
@pytest.mark.parametrize("outcome", Outcome)
def test_no_verdict_rests_on_them(
    outcome: Outcome, reason: str | None, failure: str | None
) -> None:
    record = make()
    case = replace(HOME, outcome=outcome, reason=reason, failure=failure)
    more = replace(record, full_suite=(case,))
    expectations = Expectations(rules=())
    assert judge(more, expectations) == judge(record, expectations)
    assert (more.is_complete, more.total_cases) == (record.is_complete, record.total_cases)
    verdict = judge(record, expectations)
    status = exit_status(verdict, record)
    of_the_machine = TAKEN in (reason, failure)
    failed = outcome == "timed_out" or (outcome in {"failed", "crashed"} and not of_the_machine)
    assert exit_status(verdict, more) == (1 if failed else status) and status != 1
    full_disk = RunError(kind=ErrorKind.NO_SPACE, reason="No space left on device")
    assert exit_status(verdict, replace(more, error=full_disk)) == status
