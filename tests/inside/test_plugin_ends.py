"""Every way in which a case can end, in one session: its outcome, record, report and output."""

import re
import sys
import xml.etree.ElementTree as ET

import pytest

from cell_pytest import CELL, Place, Ran
from made import NO_RULES
from matrix.attribution.observations import observe
from matrix.catalog.cells import Cell
from matrix.record import reader
from matrix.record.model import FAILURE_LIMIT, StartKind
from matrix.verdict.judge import judge
from matrix.verdict.states import Verdict
from waiting import alive, pids_in

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl"),
]

ENDS = """
from matrix.inside.isolation import run_forked

@pytest.fixture(scope="session")
def whole():
    yield "session"
    Path(os.environ["FOLDER"], "down").open("a").write("session ")

@pytest.fixture(scope="module")
def part(whole):
    return [whole]

@pytest.mark.parametrize("mega", [0, 1], ids="mega_aot={}".format)
def test_fine(mega, part, tmp_path):
    part.append("module")
    assert part == ["session", "module"]
    note("flags", flags={"VLLM_USE_MEGA_AOT_ARTIFACT": bool(mega)})
    note("model", model="phi")
    both()

def test_prints(record_property):
    record_property("word", 3)
    print("said by print")
    os.write(2, b"said by the descriptor\\n")
    subprocess.run(["echo", "said by a program"])
    both()

def test_drifts():
    both()
    note("differs", differences=["cold saved: expected 2, observed 3"])
    assert 3 == 1 + 1

def test_fails_after_both():
    both()
    raise RuntimeError("not of counts")

def test_asserts():
    start("cold")
    note("starting", start="warm")
    raise RuntimeError("operator torchvision::nms does not exist")

def test_segfault():
    start("cold")
    note("starting", start="warm")
    print("before the end")
    ctypes.string_at(0)

def test_signal():
    os.kill(os.getpid(), signal.SIGSEGV)

def test_kill():
    both()
    os.kill(os.getpid(), signal.SIGKILL)

def in_cold(number):
    note("starting", start="cold")
    ended = run_forked(lambda: os.kill(os.getpid(), number) or time.sleep(60), timeout=60)
    Journal(os.environ["MATRIX_JOURNAL"]).failed("cold", ended)
    pytest.fail(f"the cold start {ended.reason}")

def test_kill_cold():
    in_cold(signal.SIGKILL)

def test_crash_cold():
    in_cold(signal.SIGBUS)

def test_stopped():
    in_cold(signal.SIGSTOP)

def test_exits():
    both()
    os._exit(0)

def test_memory_limit():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
    bytearray(1 << 33)

def test_bad_alloc():
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\\n")
    os.write(2, b"  what():  std::bad_alloc\\n")
    os.abort()

def test_hangs():
    note("starting", start="cold")
    print("before the hang")
    while time.process_time() < 0.1:
        pass
    leave_grandchild()
    time.sleep(60)

@pytest.mark.skip(reason="by a mark")
def test_skipped():
    raise AssertionError

def test_not_applicable():
    note("not_applicable", reason="needs Hopper")
    pytest.skip("needs Hopper")

@pytest.mark.xfail(reason="known")
def test_xfail():
    assert 0

@pytest.mark.xfail(strict=True)
def test_xpass():
    both()

@pytest.fixture
def broken():
    raise ValueError("no such fixture value")

def test_setup(broken):
    both()

@pytest.fixture
def broken_end():
    yield
    raise ValueError("cannot stop")

def test_teardown(broken_end):
    both()

def test_drifts_ends(broken_end):
    test_drifts()

def test_closes():
    os.close(1)
    os.close(2)
    both()

def test_closes_python():
    sys.stdout.close()
    both()

def test_much():
    os.write(1, (b"x" * 1023 + b"\\n") * 20480)
    print("the last of much")
    both()

def test_much_then_dies():
    os.write(1, (b"x" * 1023 + b"\\n") * 20480)
    print("the last before death")
    os.kill(os.getpid(), signal.SIGKILL)

def test_does_nothing():
    pass
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    place = Place(tmp_path_factory.mktemp("ends"))
    place.tests(ENDS)
    return place.run(
        *("-rA", "--junitxml=junit.xml", "-ojunit_logging=all", "--case-timeout", "2"),
        environment={"FAKE_LIMIT": "2"},
    )


def test_every_end_becomes_its_outcome(ends: Ran) -> None:
    outcomes = {case.case: (case.outcome, case.reason) for case in ends.record.cases}
    hang = outcomes.pop("hangs")
    assert hang[0] == "timed_out" and hang[1]
    assert re.fullmatch(r"timed out after [\d.]+ s in the cold start", hang[1])
    stopped = outcomes.pop("stopped")
    assert stopped[0] == "interrupted" and stopped[1]
    assert stopped[1].endswith(" in the cold start; one of its processes was stopped from outside")
    # Whether pytest can go on without sys.stdout is a matter of its release.
    assert outcomes.pop("closes_python")[0] in ("passed", "failed")
    assert outcomes == {
        "fine[mega_aot=0]": ("passed", None),
        "fine[mega_aot=1]": ("passed", None),
        "prints": ("passed", None),
        "drifts": ("passed", None),
        "asserts": ("failed", "RuntimeError: operator torchvision::nms does not exist"),
        "segfault": ("crashed", "killed by SIGSEGV in the warm start"),
        "signal": ("crashed", "killed by SIGSEGV"),
        "kill": ("interrupted", "killed from outside by SIGKILL"),
        "kill_cold": ("interrupted", "killed from outside by SIGKILL in the cold start"),
        "crash_cold": ("crashed", "killed by SIGBUS in the cold start"),
        "exits": ("crashed", "the process exited with status 0 before the test ended"),
        "memory_limit": ("out_of_memory", "MemoryError"),
        "bad_alloc": ("out_of_memory", "killed by SIGABRT: std::bad_alloc: std::bad_alloc"),
        "skipped": ("not_applicable", "by a mark"),
        "not_applicable": ("not_applicable", "needs Hopper"),
        "xfail": ("failed", "AssertionError: assert 0"),
        "xpass": ("passed", None),
        "setup": ("failed", "ValueError: no such fixture value"),
        "teardown": ("failed", "ValueError: cannot stop"),
        "drifts_ends": ("failed", "ValueError: cannot stop"),
        "fails_after_both": ("failed", "RuntimeError: not of counts"),
        "closes": ("passed", None),
        "much": ("passed", None),
        "much_then_dies": ("interrupted", "killed from outside by SIGKILL"),
        "does_nothing": ("failed", "the test ended without a cold and a warm start"),
    }
    assert ends.status == 1
    # A run of which others ended a case is not complete.
    assert ends.record.finished
    assert ends.error == ("interrupted", "kill: killed from outside by SIGKILL")


def test_what_others_ended_is_untested_and_blames_nobody(ends: Ran) -> None:
    judged = judge(ends.record, NO_RULES)
    verdicts = {case.case: case.verdict for case in judged.cases}
    for name in ("kill", "kill_cold", "stopped", "much_then_dies"):
        assert verdicts[name] is Verdict.UNTESTED
    for name in ("segfault", "signal", "crash_cold", "exits", "hangs"):
        assert verdicts[name] is Verdict.INCOMPATIBLE
    seen = observe(ends.record, judged, Cell("3.11", "2.10.0", "0.19.1"))
    failed = {event.case for event in seen if event.faulty}
    assert not failed & {"kill", "kill_cold", "stopped", "much_then_dies"}


def test_pytest_counts_them_as_if_they_had_run_here(ends: Ran) -> None:
    last = ends.output.strip().splitlines()[-1]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", last)}
    assert counts["skipped"] == 2
    assert counts["xfailed"] == 1
    # The teardown's error comes on top of its pass; what closing sys.stdout does to pytest differs.
    assert counts["errors"] >= 2
    assert counts["failed"] >= 10
    assert "PASSED tests/startup/test_cases.py::test_fine[mega_aot=1]" in ends.output
    assert "FAILED tests/startup/test_cases.py::test_exits" in ends.output
    assert "SKIPPED [1] tests/startup/test_cases.py" in ends.output
    assert "XFAIL tests/startup/test_cases.py::test_xfail - known" in ends.output


def test_the_record_holds_the_events_of_the_journal(ends: Ran) -> None:
    case = ends.case("fine[mega_aot=1]")
    assert (case.model, case.flags) == ("phi", {"VLLM_USE_MEGA_AOT_ARTIFACT": True})
    assert [(start.start, start.seconds, start.counters) for start in case.starts] == [
        ("cold", {"total": 1.25}, {"saved": 3}),
        ("warm", {"total": 1.25}, {"saved": 3}),
    ]
    assert [start.start for start in ends.case("segfault").starts] == ["cold"]
    assert ends.case("kill").started(StartKind.WARM) is not None


def test_the_record_shows_why_it_died(ends: Ran) -> None:
    assert "before the end" in (ends.case("segfault").failure or "")
    assert "in test_segfault" in (ends.case("segfault").failure or "")
    assert "before the hang" in (ends.case("hangs").failure or "")
    assert "in test_hangs" in (ends.case("hangs").failure or "")
    assert "the last before death" in (ends.case("much_then_dies").failure or "")
    assert ends.case("segfault").signature == "killed by SIGSEGV"
    for case in ends.record.cases:
        assert len(case.failure or "") <= FAILURE_LIMIT


def test_the_record_is_valid(ends: Ran) -> None:
    [path] = ends.folder.glob(f"main/{CELL}*.json")
    assert reader.read(path).finished


def test_nothing_is_left_of_a_hang(ends: Ran) -> None:
    assert not any(map(alive, pids_in(ends.folder / "grandchild")))


def test_output_reaches_the_parents_summary(ends: Ran) -> None:
    for text in ("said by print", "said by the descriptor", "said by a program"):
        assert text in ends.output
    assert "the last of much" in ends.output
    assert "characters before this are left out" in ends.output
    assert len(ends.output) < 1 << 20


def test_junit_has_every_case_and_its_output(ends: Ran) -> None:
    root = ET.parse(ends.folder / "junit.xml").getroot()
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert len(cases) == len(ends.record.cases)
    failed = {name for name, case in cases.items() if case.find("failure") is not None}
    assert {"test_segfault", "test_hangs", "test_exits", "test_drifts"} <= failed
    assert not failed & {"test_fine[mega_aot=0]", "test_skipped", "test_prints", "test_much"}
    assert "said by print" in (cases["test_prints"].findtext("system-out") or "")
    assert cases["test_prints"].find("properties/property[@name='word']") is not None
    assert cases["test_skipped"].find("skipped") is not None
    assert "before the end" in (cases["test_segfault"].findtext("system-out") or "")


def test_session_fixtures_are_torn_down_in_each_child(ends: Ran) -> None:
    assert (ends.folder / "down").read_text() == "session session "


def test_progress_lines(ends: Ran) -> None:
    lines = ends.output.splitlines()
    assert "  fine[mega_aot=1]  cold 1.2 s  warm 1.2 s  passed" in lines
    assert "  not_applicable    not applicable: needs Hopper" in lines
    assert (
        "  segfault          cold 1.2 s  warm  crashed: killed by SIGSEGV in the warm start"
        in lines
    )
    [drift] = [line for line in lines if line.startswith("  drifts ")]
    assert drift.endswith("warm 1.2 s  failed: AssertionError: assert 3 == (1 + 1)")
    assert lines.count("tests/startup/test_cases.py ") == 1


def test_the_stack_goes_into_the_record(ends: Ran) -> None:
    [rung] = ends.record.rungs
    assert (rung.rung, rung.ok, rung.reason) == ("imports", True, None)
    assert ends.record.flags == {"VLLM_USE_AOT_COMPILE": True}
    facts = ends.record.provenance
    assert (facts["torch"], facts["vllm"], facts["cuda"]) == ("2.10.0+cu128", "0.19.1", "12.8")
    assert re.search(
        r"^  imports  \d\.\d s  torch 2\.10\.0\+cu128, vllm 0\.19\.1", ends.output, re.MULTILINE
    )
