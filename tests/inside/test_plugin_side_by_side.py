"""Cases of a session that run side by side, and how many."""

import re
import signal
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from capacity import has_room_for
from cell_pytest import Place, Ran, Session
from waiting import alive, pids_in, wait_for

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl"),
]

ABREAST = """
def meet(mine, others):
    Path(os.environ["FOLDER"], f"{mine}.here").touch()
    for other in others:
        until = time.monotonic() + 30
        while not Path(os.environ["FOLDER"], f"{other}.here").exists():
            assert time.monotonic() < until, f"{other} did not come"
            time.sleep(0.01)

ALL = ["fine", "segfault", "kill", "hangs"]

def test_fine(record_property):
    record_property("word", 3)
    print("said by fine")
    note("model", model=os.environ["VLLM_PORT"])
    meet("fine", ALL)
    both()

def test_segfault():
    print("said by segfault")
    start("cold")
    meet("segfault", ALL)
    note("starting", start="warm")
    ctypes.string_at(0)

def test_kill():
    os.write(2, b"said by kill\\n")
    note("model", model=os.environ["VLLM_PORT"])
    meet("kill", ALL)
    os.kill(os.getpid(), signal.SIGKILL)

def test_hangs():
    leave_grandchild()
    meet("hangs", ALL)
    time.sleep(60)

def test_other():
    both()
"""


@pytest.fixture(scope="module")
def abreast(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    place = Place(tmp_path_factory.mktemp("abreast"))
    place.tests(ABREAST)
    place.tests("def test_last(): both()", "tests/startup/test_more.py")
    return place.run("-rA", "--junitxml=junit.xml", "--case-timeout", "4", "--jobs", "4")


def test_side_by_side_every_end_becomes_its_outcome(abreast: Ran) -> None:
    outcomes = [(case.case, case.outcome) for case in abreast.record.cases]
    assert outcomes == [
        ("fine", "passed"),
        ("segfault", "crashed"),
        ("kill", "interrupted"),
        ("hangs", "interrupted"),
        ("other", "passed"),
        ("last", "passed"),
    ]
    assert abreast.case("segfault").reason == "killed by SIGSEGV in the warm start"
    assert [start.start for start in abreast.case("segfault").starts] == ["cold"]
    assert abreast.status == 1
    assert abreast.record.finished
    assert abreast.error == ("interrupted", "kill: killed from outside by SIGKILL")
    assert abreast.record.jobs == 4
    assert not any(map(alive, pids_in(abreast.folder / "grandchild")))


def test_side_by_side_each_case_has_its_own_output(abreast: Ran) -> None:
    for name, other in (("segfault", "kill"), ("kill", "segfault")):
        failure = abreast.case(name).failure or ""
        assert f"said by {name}" in failure
        assert f"said by {other}" not in failure and "said by fine" not in failure
    root = ET.parse(abreast.folder / "junit.xml").getroot()
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert len(cases) == len(list(root.iter("testcase"))) == 6
    failed = {name for name, case in cases.items() if case.find("failure") is not None}
    assert failed == {"test_segfault", "test_kill", "test_hangs"}
    assert cases["test_fine"].find("properties/property[@name='word']") is not None


def test_side_by_side_pytest_counts_as_ever(abreast: Ran) -> None:
    last = abreast.output.strip().splitlines()[-1]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", last)}
    assert (counts["passed"], counts["failed"]) == (3, 3)
    assert "PASSED tests/startup/test_cases.py::test_fine" in abreast.output


def test_side_by_side_progress_is_whole_lines(abreast: Ran) -> None:
    lines = abreast.output.splitlines()
    assert "  6 cases, 4 side by side" in lines
    assert "  fine      cold 1.2 s  warm 1.2 s  passed" in lines
    assert "  segfault  cold 1.2 s  warm  crashed: killed by SIGSEGV in the warm start" in lines
    assert any(re.fullmatch(r"  \[ +\d+ s\]  segfault  cold 1\.2 s", line) for line in lines)
    assert not any(line.startswith("tests/startup/") for line in lines)
    assert "\x1b" not in abreast.output


def test_side_by_side_each_case_has_ports_of_its_own(abreast: Ran) -> None:
    fine, kill = (abreast.case(name).model for name in ("fine", "kill"))
    assert fine is not None and kill is not None
    assert abs(int(fine) - int(kill)) >= 100


WAITING = """
def wait_for_slow():
    while not Path(os.environ["FOLDER"], "pid").exists():
        time.sleep(0.01)

def test_slow():
    start("cold")
    sleeper = subprocess.Popen(["sleep", "60"], start_new_session=True)
    Path(os.environ["FOLDER"], "pid").write_text(str(sleeper.pid))
    time.sleep(60)

def test_fails():
    wait_for_slow()
    assert 0

def test_exits():
    wait_for_slow()
    pytest.exit("enough", returncode=7)

def test_waits():
    wait_for_slow()
    Path(os.environ["FOLDER"], "up").touch()
    time.sleep(60)

def test_never():
    both()

@pytest.mark.parametrize("n", [0, 1])
def test_talks(n):
    print(f"said by {n}", flush=True)
    both()

def test_orphaned():
    start("cold")
    note("starting", start="warm")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
"""
STOPPED = {
    "x": (["-k", "slow or fails or never", "-x"], 1, "fails", None),
    "maxfail": (["-k", "slow or fails or never", "--maxfail=1"], 1, "fails", None),
    "exit": (["-k", "slow or exits or never"], 7, "exits", "interrupted"),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    place = Place(tmp_path_factory.mktemp("jobs"))
    place.tests(WAITING)
    sessions = {}
    for name, (arguments, *_) in STOPPED.items():
        folder = place.folder / name
        folder.mkdir()
        sessions[name] = Session(
            arguments=["--jobs=2", *arguments], environ={"FOLDER": str(folder)}
        )
    sessions["one"] = Session(arguments=["--jobs=1", "-k", "talks"])
    sessions["auto"] = Session(arguments=["--jobs=auto", "-k", "talks"])
    sessions["nine"] = Session(arguments=["--jobs=9", "-k", "talks", "-s"])
    sessions["orphaned"] = Session(arguments=["--jobs=2", "-k", "orphaned or never"])
    return dict(zip(sessions, place.run_all(*sessions.values()), strict=True))


def test_one_job_is_one_after_another(ran: dict[str, Ran]) -> None:
    assert ran["one"].record.jobs == 1
    assert "side by side" not in ran["one"].output
    assert [case.outcome for case in ran["one"].record.cases] == ["passed", "passed"]


def test_auto_is_as_many_as_have_a_core_and_memory(ran: dict[str, Ran]) -> None:
    fit = has_room_for(2)
    if fit and not has_room_for(2, spare=2):
        pytest.skip("this machine's free memory may be that of one case or of two")
    assert ran["auto"].record.jobs == (2 if fit else 1)


def test_more_jobs_than_cases_are_as_many_as_cases(ran: dict[str, Ran]) -> None:
    assert (ran["nine"].status, ran["nine"].record.jobs) == (0, 2)


def test_output_of_neighbours_streams_with_their_names(ran: dict[str, Ran]) -> None:
    lines = ran["nine"].output.splitlines()
    assert {"  talks[0] | said by 0", "  talks[1] | said by 1"} <= set(lines)


@pytest.mark.parametrize("name", STOPPED)
def test_a_case_that_ends_the_session_ends_its_neighbours(ran: dict[str, Ran], name: str) -> None:
    _, status, ends, error = STOPPED[name]
    assert ran[name].status == status, ran[name].output
    slow, ended = ran[name].record.cases
    assert (slow.case, slow.outcome, [start.start for start in slow.starts]) == (
        "slow",
        "interrupted",
        ["cold"],
    )
    assert slow.reason == "ended with the session, which another case stopped"
    assert (ended.case, ended.outcome) == (ends, "failed")
    assert (ran[name].error or (None,))[0] == error
    assert not any(map(alive, pids_in(ran[name].folder / name / "pid")))


def test_a_killed_supervisor_is_an_interrupted_case(ran: dict[str, Ran]) -> None:
    case = ran["orphaned"].case("orphaned")
    assert (case.outcome, case.reason) == (
        "interrupted",
        "killed from outside by SIGKILL in the warm start",
    )
    assert ran["orphaned"].case("never").outcome == "passed"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_that_run(place: Place, number: signal.Signals) -> None:
    place.tests(WAITING)
    process = place.start("--jobs", "2", "-k", "slow or waits or never")
    [sleeper] = pids_in(place.folder / "pid")
    wait_for((place.folder / "up").exists)
    process.send_signal(number)
    ran = place.ended(process)
    assert ran.status == 2
    assert [(case.case, case.outcome) for case in ran.record.cases] == [
        ("slow", "interrupted"),
        ("waits", "interrupted"),
    ]
    assert ran.error == ("interrupted", "stopped by a signal")
    assert not alive(sleeper)


def test_nothing_outlives_a_killed_session(place: Place) -> None:
    place.tests("""
        @pytest.mark.parametrize("n", [0, 1])
        def test_n(n):
            with open(os.environ["FOLDER"] + "/pids", "a") as file:
                file.write(f"{os.getpid()} ")
            time.sleep(60)
    """)
    process = place.start("--jobs", "2")
    children = pids_in(place.folder / "pids", 2)
    process.kill()
    process.communicate(timeout=30)
    wait_for(lambda: not any(map(alive, children)))


def test_no_fixture_is_up_where_cases_run_side_by_side(place: Place) -> None:
    place.tests(
        """
        @pytest.fixture(scope="session")
        def whole():
            yield
            Path(os.environ["FOLDER"], "down").open("a").write(f"{os.getpid()} ")

        def test_plain(whole):
            Path(os.environ["FOLDER"], "plain").write_text(str(os.getpid()))

        @pytest.mark.isolated
        @pytest.mark.parametrize("n", [0, 1])
        def test_marked(n):
            plain = Path(os.environ["FOLDER"], "plain").read_text()
            assert Path(os.environ["FOLDER"], "down").read_text() == plain + " "
            both()

        def test_plain_again(whole):
            pass

        @pytest.mark.isolated
        def test_marked_again():
            both()
        """,
        "tests/a/test_a.py",
    )
    ran = place.run("--jobs", "2", "-rA")
    assert ran.status == 0, ran.output
    assert [case.case for case in ran.record.cases] == ["marked[0]", "marked[1]", "marked_again"]
    first, second = (ran.folder / "down").read_text().split()
    assert first == second
