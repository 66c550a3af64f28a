"""Sessions of the startup suite and of the full one, whose further cases decide nothing."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from cell_pytest import Place, Ran, Session

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl"),
]

CASES = """
def test_one(): both()
def test_two():
    both()
    note("untested", reason="no expectation for the warm start")
"""
MORE = """
@pytest.mark.full
@pytest.mark.parametrize("how", ["well", "badly"])
def test_more(how):
    both()
    if how == "badly":
        pytest.fail("warm loaded is 2, not 3")

@pytest.mark.full
def test_no_rule():
    both()
    note("untested", reason="no expectation for the cold start")
    pytest.skip("untested: no expectation for the cold start")

@pytest.mark.full
def test_killed():
    start("cold")
    os.kill(os.getpid(), signal.SIGTERM)

@pytest.mark.full
def test_taken():
    start("cold")
    raise OSError(98, "Address already in use")
"""
STOPS = """
@pytest.mark.full
def test_stops():
    start("cold")
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)

@pytest.mark.full
def test_waits(): both()
"""
FILE = "tests/startup/test_and_more.py"
FULL = ("--suite", "full")
SESSIONS: Mapping[str, Session] = {
    "startup": Session(),
    "full": Session(arguments=FULL),
    "side by side": Session(arguments=(*FULL, "--jobs", "2")),
    "a part": Session(arguments=(*FULL, "-k", "one or well")),
    "more alone": Session(arguments=(*FULL, "-k", "well")),
    "named": Session(arguments=FULL, target=(f"{FILE}::test_more[well]",)),
    "not asked for": Session(arguments=("-k", "well")),
    "named, not asked for": Session(target=(f"{FILE}::test_more",)),
    "no suite": Session(arguments=("--suite", "half")),
}
NINE = {"one": "passed", "two": "passed"}
ALL = {
    "more[well]": "passed",
    "more[badly]": "failed",
    "no_rule": "passed",
    "killed": "interrupted",
    "taken": "failed",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    place = Place(tmp_path_factory.mktemp("suites"))
    place.tests(CASES)
    place.tests(MORE, FILE)
    return dict(zip(SESSIONS, place.run_all(*SESSIONS.values()), strict=True))


@pytest.mark.parametrize(
    ("session", "cases", "more", "deselected"),
    [
        ("startup", NINE, None, 0),
        ("full", NINE, ALL, 0),
        ("side by side", NINE, ALL, 0),
        ("a part", {"one": "passed"}, {"more[well]": "passed"}, 1),
        ("more alone", {}, {"more[well]": "passed"}, 2),
        ("named", {}, {"more[well]": "passed"}, 2),
        ("not asked for", {}, None, 2),
    ],
)
def test_the_cases_of_the_full_suite_are_apart(
    ran: dict[str, Ran],
    session: str,
    cases: dict[str, str],
    more: dict[str, str] | None,
    deselected: int,
) -> None:
    record = ran[session].record
    assert {case.case: str(case.outcome) for case in record.cases} == cases
    full = record.full_suite
    found = None if full is None else {case.case: str(case.outcome) for case in full}
    assert found == more
    assert record.deselected == deselected
    assert record.error is None
    assert record.is_complete == (cases == NINE)
    assert record.total_cases == len(NINE)


def test_they_begin_last_and_have_their_starts(ran: dict[str, Ran]) -> None:
    output = ran["full"].output
    assert output.index("two  ") < output.index("more[well]  ")
    more = ran["full"].record.full_suite
    assert more is not None
    assert [start.counters for start in more[0].starts] == [{"saved": 3}, {"saved": 3}]
    assert more[1].reason == "Failed: warm loaded is 2, not 3"


def test_why_nothing_judges_them_is_in_the_record(ran: dict[str, Ran]) -> None:
    record = ran["full"].record
    (case,) = [case for case in record.full_suite or () if case.case == "no_rule"]
    assert case.reason == "no expectation for the cold start"
    assert [case.reason for case in record.cases] == [None, None]


def test_who_ends_the_run_meanwhile_takes_nothing_from_the_others(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.tests(CASES)
    place.tests(STOPS, FILE)
    record = place.run(*FULL).record
    assert record.finished and record.error is None and record.is_complete
    (stopped,) = record.full_suite or ()
    assert (stopped.case, str(stopped.outcome)) == ("stops", "interrupted")
    place.tests(
        "@pytest.mark.skip\ndef test_one(): pass\n" + STOPS.replace("@pytest.mark.full", "")
    )
    place.tests("", FILE)
    record = place.run(*FULL).record
    assert record.error is not None and str(record.error.kind) == "interrupted"


def test_asked_for_without_the_suite_they_are_named_or_refused(ran: dict[str, Ran]) -> None:
    assert "left out: more[well]; --suite full has them" in ran["not asked for"].output
    assert ran["named, not asked for"].status == ran["no suite"].status == 4
    assert f"{FILE}::test_more: is of the full suite; add --suite full" in (
        ran["named, not asked for"].output
    )
    assert "left out" not in ran["startup"].output
