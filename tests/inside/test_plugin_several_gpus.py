"""Sessions with cases that need two GPUs; on the CPU a variable says how many ranks there are."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from cell_pytest import Place, Ran, Session
from matrix._util.shared_memory import SHARED_MEMORY
from matrix.inside.gpus import CPU_RANKS

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl"),
]

CASES = """
def test_one(): both()

@pytest.mark.gpus(2)
@pytest.mark.parametrize("model", ["dense", "moe"])
def test_two(model):
    if os.environ.get("MATRIX_CPU_RANKS") == "2":
        both()
    else:
        note("not_applicable", reason="needs two GPUs; none is visible")
        pytest.skip("none")
"""
TWO = {CPU_RANKS: "2"}
SESSIONS: Mapping[str, Session] = {
    "all": Session(),
    "without": Session(arguments=("-k", "not two")),
    "named": Session(arguments=("-k", "two")),
    "one case": Session(target=("tests/startup/test_cases.py::test_two[moe]",)),
    "two GPUs": Session(environ=TWO),
    "two GPUs, without": Session(environ=TWO, arguments=("-k", "not two")),
    "one rank": Session(environ={CPU_RANKS: "1"}),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    place = Place(tmp_path_factory.mktemp("several"))
    place.tests(CASES)
    return dict(zip(SESSIONS, place.run_all(*SESSIONS.values()), strict=True))


@pytest.mark.parametrize(
    ("session", "cases", "deselected"),
    [
        ("all", {"one": "passed"}, 0),
        ("one rank", {"one": "passed"}, 0),
        # Nobody can ask for less than all by leaving out what would not run.
        ("without", {"one": "passed"}, 0),
        ("named", {"two[dense]": "not_applicable", "two[moe]": "not_applicable"}, 1),
        ("one case", {"two[moe]": "not_applicable"}, 1),
        ("two GPUs", {"one": "passed", "two[dense]": "passed", "two[moe]": "passed"}, 0),
        ("two GPUs, without", {"one": "passed"}, 2),
    ],
)
def test_a_run_without_two_gpus_is_whole_without_their_cases(
    ran: dict[str, Ran], session: str, cases: dict[str, str], deselected: int
) -> None:
    record = ran[session].record
    assert {case.case: str(case.outcome) for case in record.cases} == cases
    assert (record.selected, record.deselected) == (len(cases), deselected)
    assert record.is_complete == (not deselected)


def test_a_run_says_which_cases_do_not_apply(ran: dict[str, Ran]) -> None:
    for name, seen in (("all", "none is"), ("one rank", "one is")):
        for model in ("dense", "moe"):
            line = f"two[{model}]  not applicable: needs two GPUs; {seen} visible"
            assert line in ran[name].output
    assert "not applicable" not in ran["two GPUs"].output
    assert ran["one case"].case("two[moe]").reason == "needs two GPUs; none is visible"


KILLED = """
from multiprocessing import shared_memory

@pytest.mark.gpus(2)
def test_killed():
    kept = shared_memory.SharedMemory(create=True, size=10)
    Path(os.environ["FOLDER"], "name").write_text(kept.name)
    note("starting", start="cold")
    os.kill(os.getpid(), signal.SIGSEGV)
"""


def test_a_case_whose_processes_were_killed_leaves_no_shared_memory(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.tests(KILLED)
    ran = place.run(environment={**TWO, "FOLDER": str(tmp_path)})
    assert ran.case("killed").outcome == "crashed"
    assert not (SHARED_MEMORY / (tmp_path / "name").read_text()).exists()
