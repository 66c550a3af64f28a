"""Which cases run, how many are counted as not asked for, and which options are refused."""

import sys
from pathlib import Path

import pytest

from cell_pytest import Place, Ran, Session
from matrix.inside.pytest_plugin import case_name

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl"),
]

NAMED = """
class TestIn:
    def test_inner(self): both()

@pytest.mark.parametrize("n", range(3))
def test_n(n):
    if n == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    both()

def test_nothing(): both()
"""
STARTUP = "tests/startup"
CASES, MORE = f"{STARTUP}/test_cases.py", f"{STARTUP}/test_more.py"
COUNTED = [
    (["tests"], 6, 0),
    ([STARTUP], 6, 0),
    (["tests", "-k", "n and not nothing and not inner"], 3, 3),
    (["tests", "-m", "isolated"], 0, 6),
    (["tests", "--deselect", f"{CASES}::test_n["], 3, 3),
    ([MORE], 1, 5),
    ([f"{CASES}::test_n"], 3, 3),
    ([f"{CASES}::test_n[1]"], 1, 5),
    ([f"{CASES}::TestIn"], 1, 5),
    ([f"{CASES}::test_n", "-k", "1"], 1, 5),
    ([MORE, f"{CASES}::test_nothing"], 2, 4),
]
STOPPED = [
    (["-x"], ["inner", "n[0]", "n[1]"], 1),
    (["--maxfail=2", "-q"], ["inner", "n[0]", "n[1]", "n[2]", "nothing", "more"], 1),
    (["-k", "n and 2", "-v"], ["n[2]"], 0),
    (["--collect-only", "-q"], [], 0),
]
BAD = [
    (["--pdb"], "--pdb cannot reach"),
    (["--setup-only"], "start nothing; use --collect-only"),
    (["--setup-plan"], "start nothing; use --collect-only"),
    (["--platform=cuda"], "is of cpu"),
    (["--record", "nowhere.json"], "`matrix run` makes one"),
    (["--case-timeout", "0"], "--case-timeout"),
    (["--jobs", "0"], "--jobs"),
    ([f"{CASES}::test_m"], f"ERROR: not found: {CASES}::test_m"),
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Ran]:
    """Every session of this module, by its arguments."""
    place = Place(tmp_path_factory.mktemp("selection"))
    place.tests(NAMED)
    place.tests("def test_more(): both()", MORE)
    place.tests("def test_plain(): pass", "tests/test_plain.py")
    asked = [
        *(arguments for arguments, _, _ in COUNTED),
        *(arguments for arguments, _, _ in STOPPED),
        *(arguments for arguments, _ in BAD),
    ]
    sessions = [
        Session(arguments=arguments, target=["tests"] if arguments[0].startswith("-") else [])
        for arguments in asked
    ]
    ran = place.run_all(*sessions)
    return {tuple(arguments): session for arguments, session in zip(asked, ran, strict=True)}


@pytest.mark.parametrize(("arguments", "cases", "deselected"), COUNTED)
def test_what_was_not_asked_for_is_counted(
    ran: dict[tuple[str, ...], Ran], arguments: list[str], cases: int, deselected: int
) -> None:
    record = ran[tuple(arguments)].record
    assert (len(record.cases), record.deselected) == (cases, deselected)


@pytest.mark.parametrize(("arguments", "cases", "status"), STOPPED)
def test_pytests_own_options(
    ran: dict[tuple[str, ...], Ran], arguments: list[str], cases: list[str], status: int
) -> None:
    session = ran[tuple(arguments)]
    assert [case.case for case in session.record.cases] == cases
    assert session.status == status


def test_collect_only_leaves_the_record_alone(ran: dict[tuple[str, ...], Ran]) -> None:
    record = ran["--collect-only", "-q"].record
    assert (record.finished, record.rungs, record.flags) == (False, (), {})


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_options(ran: dict[tuple[str, ...], Ran], arguments: list[str], message: str) -> None:
    session = ran[tuple(arguments)]
    assert session.status == 4
    assert message in session.output
    assert "Traceback" not in session.output


def test_what_cannot_be_collected_is_recorded_and_two_cases_of_one_name_are_refused(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path)
    place.tests("import nowhere_to_be_found", "tests/startup/bad/test_bad.py")
    place.tests("def test_x(): both()", "tests/startup/one/test_one.py")
    place.tests("def test_x(): both()", "tests/startup/two/test_two.py")
    bad, two = place.run_all(
        Session(target=["tests/startup/bad"]),
        Session(target=["tests/startup/one", "tests/startup/two"]),
    )
    assert bad.status == 2
    assert bad.error is not None and bad.error[0] == "internal"
    assert "nowhere_to_be_found" in bad.error[1]
    assert two.status == 4
    assert "are both the case x" in two.output


def test_case_names() -> None:
    assert case_name("test_moe_startup[mega_aot=1]") == "moe_startup[mega_aot=1]"
