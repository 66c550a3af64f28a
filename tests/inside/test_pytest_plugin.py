"""The plugin in a pytest of its own, with fakes of torch and vllm on PYTHONPATH, and real forks."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from ctypes.util import find_library
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from matrix.inside import journal
from matrix.inside.pytest_plugin import case_name
from matrix.record import model as records
from matrix.record.model import Case, ErrorKind, Platform, Record, RunError
from matrix.rules.expectations import Situation, load_expectations
from matrix.verdict.judge import judge

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")

HERE = Path(__file__).resolve().parents[2]
CELL = "py311-torch210-vllm019"

TORCH = """
import os
from types import SimpleNamespace
__version__ = "2.10.0+cu128"
version = SimpleNamespace(cuda="12.8")
cuda = SimpleNamespace(is_initialized=lambda: bool(os.environ.get("FAKE_CUDA_IS_UP")))
"""
VLLM = """
import torch
__version__ = "0.19.1"
"""
FAKES = """
import os, sys, types
features = types.ModuleType("matrix.inside.vllm_compat")
features.effective_flags = lambda: {"VLLM_USE_AOT_COMPILE": True}
features.preload = lambda platform: None
features.engine_arguments = lambda: frozenset()
features.compute_capability = lambda: (7, 0)
features.cuda_spoilt_by_fork = lambda: "FAKE_TOUCH" in os.environ
features.torch_architectures = lambda: tuple(os.environ.get("FAKE_CODE", "sm_70").split())
features.chosen_platform = lambda: os.environ.get("FAKE_CHOICE", os.environ["MATRIX_PLATFORM"])
sys.modules[features.__name__] = features
"""
HEAD = """
import ctypes, os, resource, signal, subprocess, sys, time
from pathlib import Path
import pytest
from matrix.inside.journal import Journal

def note(event, **fields):
    Journal(os.environ["MATRIX_JOURNAL"]).write(event, **fields)

def start(name, seconds=1.25):
    note("starting", start=name)
    note("started", start=name, seconds={"total": seconds}, counters={"saved": 3})

def both():
    start("cold")
    start("warm")
"""


@dataclass
class Ran:
    status: int
    output: str
    record: Record
    folder: Path

    def case(self, name: str) -> Case:
        return next(case for case in self.record.cases if case.case == name)


class Place:
    """A folder with fakes, startup tests and an unfinished record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        self.record = folder / f"{CELL}.20261122T180000Z.json"
        self.file("fake/torch/__init__.py", TORCH)
        self.file("fake/vllm/__init__.py", VLLM)
        self.file("fake/fakes.py", FAKES)
        self.file("pytest.ini", "[pytest]\n")
        provenance = {"started": "2026-11-22T18:00:00Z"}
        records.write(
            Record(cell=CELL, platform=Platform.CPU, finished=False, provenance=provenance),
            self.record,
        )

    def file(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def tests(self, text: str, name: str = "tests/startup/test_cases.py") -> None:
        self.file(name, HEAD + textwrap.dedent(text))

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None, target: str = "tests"
    ) -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            "-m",
            "pytest",
            target,
            "-p",
            "matrix.inside.pytest_plugin",
        ]
        command += [
            "-p",
            "fakes",
            "-p",
            "no:cacheprovider",
            "--record",
            str(self.record),
            *arguments,
        ]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MATRIX"))},
                "PYTHONPATH": f"{HERE}{os.pathsep}{self.folder / 'fake'}",
                "FOLDER": str(self.folder),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                **(environment or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.processes.append(process)
        return process

    def ended(self, process: "subprocess.Popen[str]") -> Ran:
        output, _ = process.communicate(timeout=60)
        return Ran(process.returncode, output, records.read(self.record), self.folder)

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Ran:
        return self.ended(self.start(*arguments, environment=environment))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for process in place.processes:
        with process:
            process.kill()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for(path: Path) -> int:
    for _ in range(300):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.02)
    raise AssertionError(f"{path.name} did not come")


ENDS = """
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
    subprocess.Popen([sys.executable, "-I", "-S", "-c", '''if True:
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork(): os._exit(0)
        os.setsid()
        open(os.environ["FOLDER"] + "/grandchild", "w").write(str(os.getpid()))
        time.sleep(60)'''])
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

def test_says_nothing():
    pass
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    place = Place(tmp_path_factory.mktemp("ends"))
    place.tests(ENDS)
    return place.run("-rA", "--junitxml=junit.xml", "-ojunit_logging=all", "--case-timeout", "2")


def test_every_end_becomes_its_outcome(ends: Ran) -> None:
    outcomes = {case.case: (case.outcome, case.reason) for case in ends.record.cases}
    hang = outcomes.pop("hangs")
    assert hang[0] == "timed_out" and hang[1]
    assert re.fullmatch(r"timed out after [\d.]+ s in the cold start", hang[1])
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
        "kill": ("crashed", "killed by SIGKILL"),
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
        "much_then_dies": ("crashed", "killed by SIGKILL"),
        "says_nothing": ("failed", "the test ended without a cold and a warm start"),
    }
    assert ends.status == 1
    assert ends.record.finished and ends.record.error is None


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


def test_the_record_holds_what_the_journal_said(ends: Ran) -> None:
    case = ends.case("fine[mega_aot=1]")
    assert (case.model, case.flags) == ("phi", {"VLLM_USE_MEGA_AOT_ARTIFACT": True})
    assert [(each.start, each.seconds, each.counters) for each in case.starts] == [
        ("cold", {"total": 1.25}, {"saved": 3}),
        ("warm", {"total": 1.25}, {"saved": 3}),
    ]
    assert [each.start for each in ends.case("segfault").starts] == ["cold"]
    assert ends.case("kill").started("warm") is not None


def test_the_record_shows_why_it_died(ends: Ran) -> None:
    assert "before the end" in (ends.case("segfault").failure or "")
    assert "in test_segfault" in (ends.case("segfault").failure or "")
    assert "before the hang" in (ends.case("hangs").failure or "")
    assert "in test_hangs" in (ends.case("hangs").failure or "")
    assert "the last before death" in (ends.case("much_then_dies").failure or "")
    assert ends.case("segfault").signature == "killed by SIGSEGV"
    for case in ends.record.cases:
        assert len(case.failure or "") <= records.FAILURE_LIMIT


def test_the_record_is_valid(ends: Ran) -> None:
    [path] = ends.folder.glob(f"{CELL}*.json")
    data = json.loads(path.read_text())
    full = {"seconds": 1.0, "python": "3.11", "os": "x", "machine": "x", "memory_mib": 1}
    full |= {"cpu": {"model": None, "cores": 1}, "command": [], "model_source": "data"}
    full |= {"tests": {"commit": None, "fingerprint": "sha256:0"}}
    data["provenance"] |= full
    records.validate(data, "record")


def test_nothing_is_left_of_a_hang(ends: Ran) -> None:
    assert not alive(wait_for(ends.folder / "grandchild"))


def test_output_reaches_the_parents_summary(ends: Ran) -> None:
    for text in ("said by print", "said by the descriptor", "said by a program"):
        assert text in ends.output
    assert "the last of much" in ends.output
    assert "characters before this are left out" in ends.output
    assert len(ends.output) < 1 << 20


def test_junit_has_every_case_and_its_output(ends: Ran) -> None:
    root = ElementTree.parse(ends.folder / "junit.xml").getroot()
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
        r"^  imports  \d\.\d s  torch 2\.10\.0\+cu128, vllm 0\.19\.1", ends.output, re.M
    )


FIVE = """
@pytest.mark.parametrize("n", range(5))
def test_n(n):
    both()
    if n % 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("arguments", "expected", "status"),
    [
        (["-x"], ["n[0]", "n[1]"], 1),
        (["--maxfail=2", "-q"], ["n[0]", "n[1]", "n[2]", "n[3]"], 1),
        (["-k", "n and 4", "-v"], ["n[4]"], 0),
    ],
)
def test_pytests_own_options(
    place: Place, arguments: list[str], expected: list[str], status: int
) -> None:
    place.tests(FIVE)
    ran = place.run(*arguments)
    assert [case.case for case in ran.record.cases] == expected
    assert ran.status == status


NAMED = """
class TestIn:
    def test_inner(self): both()

@pytest.mark.parametrize("n", range(3))
def test_n(n): both()

def test_nothing(): both()
"""


@pytest.mark.parametrize(
    ("arguments", "ran", "deselected"),
    [
        (["tests"], 6, 0),
        (["tests/startup"], 6, 0),
        (["tests", "-k", "n and not nothing and not inner"], 3, 3),
        (["tests", "-m", "isolated"], 0, 6),
        (["tests", "--deselect", "tests/startup/test_cases.py::test_n["], 3, 3),
        (["tests/startup/test_more.py"], 1, 5),
        (["tests/startup/test_cases.py::test_n"], 3, 3),
        (["tests/startup/test_cases.py::test_n[1]"], 1, 5),
        (["tests/startup/test_cases.py::TestIn"], 1, 5),
        (["tests/startup/test_cases.py::test_n", "-k", "1"], 1, 5),
        (["tests/startup/test_more.py", "tests/startup/test_cases.py::test_nothing"], 2, 4),
    ],
)
def test_what_was_not_asked_for_is_counted(
    place: Place, arguments: list[str], ran: int, deselected: int
) -> None:
    place.tests(NAMED)
    place.tests("def test_more(): both()", "tests/startup/test_more.py")
    place.tests("def test_plain(): pass", "tests/test_plain.py")
    target, *rest = arguments
    record = place.ended(place.start(*rest, target=target)).record
    assert (len(record.cases), record.deselected) == (ran, deselected)


def test_a_named_test_that_is_not_there_is_refused(place: Place) -> None:
    place.tests(NAMED)
    ran = place.ended(place.start(target="tests/startup/test_cases.py::test_m"))
    assert ran.status == 4
    assert "ERROR: not found: tests/startup/test_cases.py::test_m" in ran.output


@pytest.mark.parametrize(
    "body",
    [
        "raise OSError(28, os.strerror(28))",
        "note('failed', start='warm', failure='OSError: [Errno 28] No space left on device')",
        "os.write(2, b'g++: error: No space left on device\\n'); os.abort()",
    ],
)
def test_a_full_disk_is_the_machines_fault(place: Place, body: str) -> None:
    place.tests(f"""
        def test_full():
            start("cold")
            {body}
    """)
    ran = place.run()
    assert ran.status in (0, 1)
    assert ran.case("full").outcome in ("failed", "crashed")
    assert ran.record.error is not None and ran.record.error.kind == "no_space"
    assert ran.record.error.reason.startswith("full: ")


def test_an_import_under_way_is_told(place: Place) -> None:
    place.tests("def test_x(): assert 'MATRIX_IMPORTING' not in os.environ; both()")
    place.file(
        "fake/vllm/__init__.py",
        f"""
        import os
        __version__ = "0.19.1"
        assert os.path.exists({str(place.folder / "importing")!r})
        """,
    )
    told = place.folder / "importing"
    ran = place.run(environment={"MATRIX_IMPORTING": str(told)})
    assert ran.status == 0, ran.output
    assert not told.exists()


def test_output_streams_while_a_case_runs(place: Place) -> None:
    place.tests("""
        def test_talks():
            note("starting", start="cold")
            print("first words", flush=True)
            while not Path(os.environ["FOLDER"], "heard").exists():
                time.sleep(0.01)
            both()
    """)
    process = place.start("-s")
    assert process.stdout is not None
    seen = ""
    while "first words" not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    assert "  talks  cold" in seen
    (place.folder / "heard").touch()
    ran = place.ended(process)
    assert ran.status == 0
    assert "  cold 1.2 s  warm 1.2 s  passed" in ran.output


def test_the_record_follows_a_case(place: Place) -> None:
    place.tests("""
        def test_slow():
            start("cold")
            Path(os.environ["FOLDER"], "pid").write_text(str(os.getpid()))
            time.sleep(60)
    """)
    process = place.start()
    child = wait_for(place.folder / "pid")
    for _ in range(100):
        [case] = records.read(place.record).cases
        if case.starts:
            break
        time.sleep(0.02)
    assert (case.outcome, [each.start for each in case.starts]) == ("running", ["cold"])
    process.kill()
    process.communicate(timeout=10)
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.02)
    assert not alive(child)
    assert not records.read(place.record).finished


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_kills_the_tree_and_is_recorded(place: Place, number: signal.Signals) -> None:
    place.tests("""
        def test_slow():
            start("cold")
            sleeper = subprocess.Popen(["sleep", "60"], start_new_session=True)
            Path(os.environ["FOLDER"], "pid").write_text(str(sleeper.pid))
            time.sleep(60)

        def test_never():
            both()
    """)
    process = place.start()
    sleeper = wait_for(place.folder / "pid")
    process.send_signal(number)
    ran = place.ended(process)
    assert not alive(sleeper)
    assert ran.status == 2
    [case] = ran.record.cases
    assert (case.outcome, [each.start for each in case.starts]) == ("interrupted", ["cold"])
    assert ran.record.error is not None and ran.record.error.kind == "interrupted"
    assert ran.record.finished


def test_an_import_that_fails_is_a_rung_not_climbed(place: Place) -> None:
    place.tests("def test_x(): both()")
    place.file(
        "fake/vllm/__init__.py",
        'raise ImportError("/a/_C.abi3.so: undefined symbol: _ZN3c104cuda")',
    )
    ran = place.run()
    assert ran.status == 1
    [rung] = ran.record.rungs
    assert (rung.ok, rung.reason) == (
        False,
        "ImportError: _C.abi3.so: undefined symbol: _ZN3c104cuda",
    )
    assert ran.record.error is not None and ran.record.error.kind == "imports"
    assert ran.record.cases == ()
    assert "do not import: ImportError: _C.abi3.so: undefined symbol" in ran.output


def test_a_missing_driver_is_not_the_cells_fault_on_a_cpu(place: Place) -> None:
    place.tests("def test_x(): both()")
    place.file(
        "fake/vllm/_C.py", 'raise ImportError("libcuda.so.1: cannot open shared object file")'
    )
    assert place.run().status == 0


def test_a_case_after_cuda_came_up_fails(place: Place) -> None:
    place.tests("def test_x(): both()")
    ran = place.run(environment={"FAKE_CUDA_IS_UP": "1"})
    assert ran.status == 1
    case = ran.case("x")
    assert case.outcome == "failed" and case.reason
    assert "CUDA was initialised" in case.reason


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("both(); note('untested', reason='no expectation')", 5),
        ("note('not_applicable', reason='needs a GPU'); pytest.skip('needs a GPU')", 5),
    ],
)
def test_the_exit_status(place: Place, body: str, status: int) -> None:
    place.tests(f"def test_x(): {body}")
    assert place.run().status == status


def test_a_test_may_stop_the_session(place: Place) -> None:
    place.tests("""
        def test_a():
            pytest.exit("enough", returncode=7)

        def test_b():
            both()
    """)
    ran = place.run()
    assert ran.status == 7
    assert [case.case for case in ran.record.cases] == ["a"]
    assert ran.record.error is not None and ran.record.error.kind == "interrupted"


def test_only_startup_tests_and_marked_ones_are_forked(place: Place) -> None:
    place.tests("def test_inside(): assert os.getpid() != int(os.environ['PARENT']); both()")
    place.tests(
        """
        os.environ["PARENT"] = str(os.getpid())

        @pytest.fixture(scope="session")
        def whole():
            yield
            Path(os.environ["FOLDER"], "down").open("a").write(f"{os.getpid()} ")

        def test_plain(whole):
            assert os.getpid() == int(os.environ["PARENT"])

        @pytest.mark.isolated
        def test_marked():
            assert os.getpid() != int(os.environ["PARENT"])
            assert Path(os.environ["FOLDER"], "down").read_text() == os.environ["PARENT"] + " "
            both()

        def test_plain_again(whole):
            pass
        """,
        "tests/a/test_a.py",
    )
    ran = place.run("-rA")
    assert ran.status == 0, ran.output
    assert [case.case for case in ran.record.cases] == ["marked", "inside"]
    first, second = (ran.folder / "down").read_text().split()
    assert first == second


def test_a_module_that_cannot_be_collected_is_said(place: Place) -> None:
    place.tests("import nowhere_to_be_found")
    ran = place.run()
    assert ran.status == 2
    assert ran.record.error is not None and ran.record.error.kind == "internal"
    assert "nowhere_to_be_found" in ran.record.error.reason


def test_two_tests_of_one_name_are_refused(place: Place) -> None:
    place.tests("def test_x(): both()")
    place.tests("def test_x(): both()", "tests/startup/more/test_more.py")
    ran = place.run()
    assert ran.status == 4
    assert "are both the case x" in ran.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pdb"], "--pdb cannot reach"),
        (["--setup-only"], "start nothing; use --collect-only"),
        (["--setup-plan"], "start nothing; use --collect-only"),
        (["--platform=cuda"], "is of cpu"),
        (["--record", "nowhere.json"], "`matrix run` makes one"),
        (["--case-timeout", "0"], "--case-timeout"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_bad_options(place: Place, arguments: list[str], message: str) -> None:
    ran = place.run(*arguments)
    assert ran.status == 4
    assert message in ran.output
    assert "Traceback" not in ran.output


def test_a_record_that_cannot_be_written_is_said(place: Place) -> None:
    place.tests("""
        def test_x():
            both()
            for path in Path(os.environ["FOLDER"]).glob("py311*.json"):
                path.unlink()
                path.mkdir()
    """)
    process = place.start()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "the record is lost: " in output
    assert "cannot be written" in output


def test_collect_only_leaves_the_record_alone(place: Place) -> None:
    place.tests("def test_x(): both()")
    before = place.record.read_bytes()
    ran = place.run("--collect-only", "-q")
    assert ran.status == 0
    assert place.record.read_bytes() == before


def test_counts_that_differ_are_journalled_before_the_test_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location(
        "its_conftest", HERE / "tests/startup/conftest.py"
    )
    assert spec is not None and spec.loader is not None
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    (tmp_path / "rules.toml").write_text(
        '[[rule]]\nid = "x"\nstart = "cold"\nevidence = ["y"]\ncounters = { num_graphs_seen = 2 }\n'
    )
    rules = load_expectations(tmp_path / "rules.toml")
    monkeypatch.setattr(conftest, "load_expectations", lambda: rules)
    diary = journal.Journal(tmp_path / "journal")
    observed = {"cold": {"num_graphs_seen": 3}, "warm": {"num_graphs_seen": 2}}
    with pytest.raises(pytest.fail.Exception, match="counts differ"):
        conftest._judge(Situation("x", "cpu", "2.10.0", "0.19.1", {}), observed, diary)
    [event] = journal.read(diary.path)
    difference = "cold num_graphs_seen: expected 2, observed 3 (rule x)"
    assert event == {"event": "differs", "differences": [difference]}


def test_case_names() -> None:
    assert case_name("test_moe_startup[mega_aot=1]") == "moe_startup[mega_aot=1]"


def test_vllm_on_another_platform_than_asked_is_refused(place: Place) -> None:
    place.tests("def test_x(): both()")
    ran = place.run(environment={"FAKE_CHOICE": "RocmPlatform"})
    assert ran.status == 1
    assert ran.record.error is not None
    assert ran.record.error.kind == "internal"
    assert ran.record.error.reason == "vLLM chose the platform RocmPlatform, not cpu"


def test_a_missing_driver_is_noted_beside_the_rung(place: Place) -> None:
    place.tests("def test_x(): both()")
    place.file(
        "fake/vllm/_C.py", 'raise ImportError("libcuda.so.1: cannot open shared object file")'
    )
    [rung] = place.run().record.rungs
    assert (rung.ok, rung.reason) == (True, "libcuda.so.1 is not here, so not loaded: vllm._C")


@pytest.mark.parametrize(
    ("said", "noted"),
    [
        (
            {
                "_C": "libcuda.so.1: cannot open shared object file: No such file or directory",
                "_moe_C": "/a/vllm/_moe_C.abi3.so: undefined symbol: _ZN3c105ErrorE",
            },
            "libcuda.so.1 is not here, so not loaded: vllm._C;"
            " not loaded: vllm._moe_C (undefined symbol: _ZN3c105ErrorE)",
        ),
        (
            {
                "_C": "libcudart.so.12: cannot open shared object file: No such file or directory",
                "_moe_C": "libcudart.so.12: cannot open shared object file: No such file",
            },
            "libcudart.so.12 is not here, so not loaded: vllm._C, vllm._moe_C",
        ),
        (
            {"_C": "/a/vllm/_C.abi3.so: undefined symbol: f, version V_2"},
            "not loaded: vllm._C (undefined symbol: f)",
        ),
    ],
)
def test_an_extension_that_does_not_link_is_noted_on_a_cpu(
    place: Place, said: dict[str, str], noted: str
) -> None:
    place.tests("def test_x(): both()")
    for name, line in said.items():
        place.file(f"fake/vllm/{name}.py", f"raise ImportError({line!r})")
    ran = place.run()
    [rung] = ran.record.rungs
    assert (ran.status, rung.ok, rung.reason) == (0, True, noted)


def test_an_extension_that_does_not_load_for_another_reason_fails_on_a_cpu(place: Place) -> None:
    place.tests("def test_x(): both()")
    place.file("fake/vllm/_C.py", 'raise ImportError("libstdc++.so.6: GLIBCXX_3.4.32 not found")')
    [rung] = place.run().record.rungs
    assert (rung.ok, rung.reason) == (
        False,
        "ImportError: libstdc++.so.6: GLIBCXX_3.4.32 not found",
    )


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("ValueError: Free memory on device cuda:0 (1/80 GiB) is less than desired", "gpu_full"),
        ("OSError: We couldn't connect to the hub", "internal"),
        ("StateError: this process has compiled before the start", "internal"),
    ],
)
def test_a_fault_of_the_machine_is_the_runs_error(place: Place, said: str, kind: str) -> None:
    place.tests(f"def test_x(): note('failed', start='cold', failure={said!r}); raise SystemError")
    ran = place.run()
    assert ran.status == 1
    assert ran.record.error is not None and ran.record.error.kind == kind


@pytest.fixture
def gpu(place: Place) -> Place:
    """A machine with a GPU, of which nvidia-smi and the kernel's log are fakes."""
    records.write(replace(records.read(place.record), platform=Platform.CUDA), place.record)
    log = place.folder / "kernel.log"
    log.write_text("[1.0] NVRM: Xid (PCI:0000:3b:00): 79, of an earlier run\n")
    for name, body in (
        ("nvidia-smi", "case $1 in *bus_id*) echo 00000000:3B:00.0;; *) exit 9;; esac"),
        ("dmesg", f"cat {log}"),
    ):
        place.file(f"bin/{name}", f"#!/bin/sh\n{body}\n")
        (place.folder / "bin" / name).chmod(0o755)
    return place


def run_on(gpu: Place, *arguments: str, **environ: str) -> Ran:
    path = f"{gpu.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return gpu.run(*arguments, environment={"PATH": path, "CUDA_VISIBLE_DEVICES": "0", **environ})


def test_what_spoils_a_fork_is_asked_in_a_child(gpu: Place) -> None:
    gpu.file(
        "fake/fakes.py",
        FAKES
        + """
asked = []
features.torch_architectures = lambda: asked.append(os.getpid()) or ("sm_70",)
features.asked = asked
""",
    )
    gpu.tests(
        """
        def test_x():
            import matrix.inside.vllm_compat as features
            assert features.asked == []
            both()
        """
    )
    assert run_on(gpu).case("x").outcome == "passed"


def test_an_import_that_touches_cuda_ends_the_run(gpu: Place) -> None:
    gpu.tests("def test_x():\n    both()\n")
    ran = run_on(gpu, FAKE_TOUCH="1")
    assert ran.record.error is not None and ran.record.error.kind == "internal"
    assert "CUDA was touched while" in ran.record.error.reason
    assert ran.record.cases == ()


XIDS = """
def logs(number, bus="0000:3b:00"):
    with open(os.environ["FOLDER"] + "/kernel.log", "a") as log:
        log.write(f"[{time.monotonic()}] NVRM: Xid (PCI:{bus}): {number}, pid=7\\n")

def cuda(said):
    raise RuntimeError(f"CUDA error: {said}")
"""


def test_an_xid_of_a_program_stays_the_cases_own_failure(gpu: Place) -> None:
    gpu.tests(
        XIDS
        + """
def test_access():
    logs(31)
    cuda("an illegal memory access was encountered")

def test_another_gpus():
    logs(79, "0000:5e:00")
    cuda("unspecified launch failure")

def test_after():
    both()
"""
    )
    ran = run_on(gpu)
    assert ran.record.error is None and ran.status == 1
    access = ran.case("access")
    assert access.outcome == "failed"
    assert access.reason == (
        "RuntimeError: CUDA error: an illegal memory access was encountered;"
        " the kernel logged Xid 31"
    )
    assert access.signature == (
        "RuntimeError: CUDA error: an illegal memory access was encountered"
        " @ tests/startup/test_cases.py:cuda"
    )
    assert ran.case("another_gpus").reason == "RuntimeError: CUDA error: unspecified launch failure"
    assert ran.case("after").outcome == "passed"  # one case's CUDA error is not the next one's
    verdicts = judge(ran.record, load_expectations()).cases
    assert [each.verdict for each in verdicts] == ["incompatible", "incompatible", "untested"]


@pytest.mark.parametrize(
    ("body", "outcome", "kind"),
    [
        ("logs(79); cuda('unspecified launch failure')", "failed", "gpu_fault"),
        ("logs(119); time.sleep(60)", "timed_out", "gpu_fault"),
        ("logs(95); os.kill(os.getpid(), signal.SIGABRT)", "crashed", "gpu_fault"),
        ("cuda('uncorrectable ECC error encountered')", "failed", "gpu_fault"),
        ("cuda('no kernel image is available for execution on the device')", "failed",
         "gpu_unsupported"),
        ("cuda('CUDA driver version is insufficient for CUDA runtime version')", "failed",
         "driver_too_old"),
        ("raise ValueError('Free memory on device cuda:0 (1.2/79.1 GiB) on startup is less than"
         " desired GPU memory utilization (0.25, 19.8 GiB).')", "failed", "gpu_full"),
        ("raise MemoryError('CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total"
         " capacity of 79.11 GiB of which 1.62 MiB is free. Including non-PyTorch memory, this"
         " process has 1.09 GiB memory in use.')", "out_of_memory", "gpu_full"),
        ("cuda('out of memory')", "out_of_memory", None),
    ],
)  # fmt: skip
def test_a_fault_of_the_gpu_is_never_the_pairs(
    gpu: Place, body: str, outcome: str, kind: str | None
) -> None:
    gpu.tests(f"{XIDS}\ndef test_x():\n    note('starting', start='cold'); {body}\n")
    ran = run_on(gpu, "--case-timeout", "2")
    assert ran.case("x").outcome == outcome
    assert (ran.record.error and ran.record.error.kind) == kind
    verdict = judge(ran.record, load_expectations())
    assert verdict.verdict == "untested" and verdict.reason


def test_a_gpu_that_this_torch_has_no_code_for(gpu: Place) -> None:
    gpu.tests("def test_x(): both()")
    ran = run_on(gpu, FAKE_CODE="sm_75 sm_80")
    assert ran.status == 1 and ran.record.cases == ()
    assert ran.record.error == RunError(
        kind=ErrorKind.GPU_UNSUPPORTED,
        reason="this torch has code for sm_75, sm_80, and none that a GPU of compute capability 7.0"
        " can run: use another GPU, or a torch that was built for this one",
    )


@pytest.mark.skipif(find_library("nvidia-ml") is not None, reason="there is a driver here")
def test_where_vllm_finds_no_gpu_the_driver_is_named(gpu: Place) -> None:
    gpu.tests("def test_x(): both()")
    ran = run_on(gpu, FAKE_CHOICE="UnspecifiedPlatform")
    assert ran.record.error == RunError(
        kind=ErrorKind.NO_DRIVER,
        reason="vLLM chose the platform UnspecifiedPlatform, not cuda: libnvidia-ml.so.1, the"
        " driver's library, does not load",
    )


def test_an_import_that_lacks_the_driver_is_the_machines_fault(gpu: Place) -> None:
    gpu.tests("def test_x(): both()")
    gpu.file("fake/vllm/_C.py", 'raise ImportError("libcuda.so.1: cannot open shared object file")')
    ran = run_on(gpu)
    assert ran.record.error is not None and ran.record.error.kind == "no_driver"
    assert judge(ran.record, load_expectations()).verdict == "untested"


def test_a_hung_cold_start_shows_what_it_printed(place: Place) -> None:
    place.tests("""
        def test_x():
            log = Path(os.environ["MATRIX_JOURNAL"]).with_name("cold.log")
            log.write_text("the cold start got as far as this")
            time.sleep(60)
    """)
    case = place.run("--case-timeout", "2").case("x")
    assert case.outcome == "timed_out"
    assert "the cold start got as far as this" in str(case.failure)


# Side by side

ABREAST = """
def meet(mine, others):
    Path(os.environ["FOLDER"], f"{mine}.here").touch()
    for other in others:
        for _ in range(1000):
            if Path(os.environ["FOLDER"], f"{other}.here").exists():
                break
            time.sleep(0.01)
        else:
            raise AssertionError(f"{other} did not come")

ALL = ["fine", "segfault", "kill", "hangs"]

def test_fine(record_property):
    record_property("word", 3)
    print("said by fine")
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
    meet("kill", ALL)
    os.kill(os.getpid(), signal.SIGKILL)

def test_hangs():
    subprocess.Popen([sys.executable, "-I", "-S", "-c", '''if True:
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork(): os._exit(0)
        os.setsid()
        open(os.environ["FOLDER"] + "/grandchild", "w").write(str(os.getpid()))
        time.sleep(60)'''])
    meet("hangs", ALL)
    time.sleep(60)

def test_ports():
    note("model", model=os.environ["VLLM_PORT"])
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
        ("kill", "crashed"),
        ("hangs", "timed_out"),
        ("ports", "passed"),
        ("last", "passed"),
    ]
    assert abreast.case("segfault").reason == "killed by SIGSEGV in the warm start"
    assert [each.start for each in abreast.case("segfault").starts] == ["cold"]
    assert abreast.status == 1
    assert abreast.record.finished and abreast.record.error is None
    assert abreast.record.jobs == 4
    assert not alive(wait_for(abreast.folder / "grandchild"))


def test_side_by_side_each_case_has_its_own_output(abreast: Ran) -> None:
    for name, other in (("segfault", "kill"), ("kill", "segfault")):
        failure = abreast.case(name).failure or ""
        assert f"said by {name}" in failure
        assert f"said by {other}" not in failure and "said by fine" not in failure
    root = ElementTree.parse(abreast.folder / "junit.xml").getroot()
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
    assert abreast.case("ports").model == "20400"


def test_one_job_is_one_after_another(place: Place) -> None:
    place.tests(FIVE)
    ran = place.run("--jobs", "1")
    assert ran.record.jobs == 1
    assert "side by side" not in ran.output
    assert [case.outcome for case in ran.record.cases] == ["passed", "crashed"] * 2 + ["passed"]


def test_more_jobs_than_cases_are_as_many_as_cases(place: Place) -> None:
    place.tests("def test_a(): both()\ndef test_b(): both()")
    ran = place.run("--jobs", "9")
    assert (ran.status, ran.record.jobs) == (0, 2)


WAITING = """
def test_slow():
    start("cold")
    sleeper = subprocess.Popen(["sleep", "60"], start_new_session=True)
    Path(os.environ["FOLDER"], "pid").write_text(str(sleeper.pid))
    time.sleep(60)

def test_ends():
    while not Path(os.environ["FOLDER"], "pid").exists():
        time.sleep(0.01)
    {end}

def test_never():
    both()
"""


@pytest.mark.parametrize(
    ("end", "arguments", "status", "outcome", "error"),
    [
        ("assert 0", ["-x"], 1, "failed", None),
        ("assert 0", ["--maxfail=1"], 1, "failed", None),
        ("pytest.exit('enough', returncode=7)", [], 7, "failed", "interrupted"),
    ],
)
def test_a_case_that_ends_the_session_ends_its_neighbours(
    place: Place, end: str, arguments: list[str], status: int, outcome: str, error: str | None
) -> None:
    place.tests(WAITING.format(end=end))
    ran = place.run("--jobs", "2", *arguments)
    assert ran.status == status, ran.output
    slow, ends = ran.record.cases
    assert (slow.case, slow.outcome, [each.start for each in slow.starts]) == (
        "slow",
        "interrupted",
        ["cold"],
    )
    assert slow.reason == "ended with the session, which another case stopped"
    assert (ends.case, ends.outcome) == ("ends", outcome)
    assert (ran.record.error and ran.record.error.kind) == error
    assert not alive(wait_for(place.folder / "pid"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_that_run(place: Place, number: signal.Signals) -> None:
    place.tests(WAITING.format(end="Path(os.environ['FOLDER'], 'up').touch(); time.sleep(60)"))
    process = place.start("--jobs", "2")
    sleeper = wait_for(place.folder / "pid")
    for _ in range(300):
        if (place.folder / "up").exists():
            break
        time.sleep(0.02)
    process.send_signal(number)
    ran = place.ended(process)
    assert ran.status == 2
    assert [(case.case, case.outcome) for case in ran.record.cases] == [
        ("slow", "interrupted"),
        ("ends", "interrupted"),
    ]
    assert ran.record.error is not None and ran.record.error.reason == "stopped by a signal"
    assert not alive(sleeper)


def test_a_killed_supervisor_is_a_crashed_case(place: Place) -> None:
    place.tests("""
        def test_a():
            start("cold")
            note("starting", start="warm")
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)

        def test_b():
            both()
    """)
    ran = place.run("--jobs", "2")
    assert ran.case("a").outcome == "crashed"
    assert ran.case("a").reason == "killed by SIGKILL in the warm start"
    assert ran.case("b").outcome == "passed"


def test_nothing_outlives_a_killed_session(place: Place) -> None:
    place.tests("""
        @pytest.mark.parametrize("n", [0, 1])
        def test_n(n):
            Path(os.environ["FOLDER"], f"pid{n}").write_text(str(os.getpid()))
            time.sleep(60)
    """)
    process = place.start("--jobs", "2")
    children = [wait_for(place.folder / f"pid{n}") for n in (0, 1)]
    process.kill()
    process.communicate(timeout=10)
    for _ in range(200):
        if not any(map(alive, children)):
            break
        time.sleep(0.02)
    assert not any(map(alive, children))


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


def test_output_of_neighbours_streams_with_their_names(place: Place) -> None:
    place.tests("""
        @pytest.mark.parametrize("n", [0, 1])
        def test_n(n):
            print(f"said by {n}", flush=True)
            both()
    """)
    lines = place.run("--jobs", "2", "-s").output.splitlines()
    assert {"  n[0] | said by 0", "  n[1] | said by 1"} <= set(lines)


@pytest.fixture(autouse=True, scope="module")
def interruptible() -> Iterator[None]:
    """A job in the background starts with SIGINT ignored, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
