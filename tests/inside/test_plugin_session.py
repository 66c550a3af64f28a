"""A session in a cell: its import, its record while it runs, its interrupts and its exit status."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cell_pytest import Place, Ran, Session
from matrix.record import reader
from waiting import alive, pids_in, wait_for

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl"),
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


# Cases that end in some way, each in a session of its own

CASES = """
def test_full_raised():
    start("cold")
    raise OSError(28, os.strerror(28))

def test_full_noted():
    start("cold")
    note("failed", start="warm", failure="OSError: [Errno 28] No space left on device")

def test_full_aborted():
    start("cold")
    os.write(2, b"g++: error: No space left on device\\n")
    os.abort()

def test_free_memory():
    note("failed", start="cold", failure="ValueError: Free memory on device cuda:0 (1/80 GiB)"
         " is less than desired")
    raise SystemError

def test_hub():
    note("failed", start="cold", failure="OSError: We couldn't connect to the hub")
    raise SystemError

def test_dirty():
    note("failed", start="cold", failure="StateError: this process has compiled before")
    raise SystemError

def test_fine():
    assert "MATRIX_IMPORTING" not in os.environ
    both()

def test_no_rule():
    both()
    note("untested", reason="no expectation")

def test_no_gpu():
    note("not_applicable", reason="needs a GPU")
    pytest.skip("needs a GPU")

def test_hangs_cold():
    log = Path(os.environ["MATRIX_JOURNAL"]).with_name("cold.log")
    log.write_text("the cold start got as far as this")
    time.sleep(60)

def test_stops():
    pytest.exit("enough", returncode=7)

def test_then():
    both()
"""
IMPORTING = """
import os
__version__ = "0.19.1"
assert os.path.exists("importing")
"""
UNFIT = "Detected that PyTorch and TorchAudio were compiled with different CUDA versions. x"
COMPANIONS = {"own companion": "2.11.0", "pinned companion": "2.11.0"}
MISSING = ": cannot open shared object file: No such file or directory"
EXTENSIONS = {
    "driver": {"_C": "libcuda.so.1: cannot open shared object file"},
    "driver and symbol": {
        "_C": f"libcuda.so.1{MISSING}",
        "_moe_C": "/a/vllm/_moe_C.abi3.so: undefined symbol: _ZN3c105ErrorE",
    },
    "runtime": {"_C": f"libcudart.so.12{MISSING}", "_moe_C": f"libcudart.so.12{MISSING}"},
    "symbol": {"_C": "/a/vllm/_C.abi3.so: undefined symbol: f, version V_2"},
    "other": {"_C": "libstdc++.so.6: GLIBCXX_3.4.32 not found"},
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Sessions that differ in the case that they run, or in the torch and vLLM that they import."""
    place = Place(tmp_path_factory.mktemp("session"))
    place.tests(CASES)
    names = [line[9:-3] for line in CASES.splitlines() if line.startswith("def test_")]
    sessions = {
        name: Session(arguments=["-k", f"test_{name}", "--case-timeout", "2"]) for name in names
    }
    fine = ["-k", "test_fine"]
    sessions["stops"] = Session(arguments=["-k", "test_stops or test_then"])
    sessions["cuda is up"] = Session(arguments=fine, environ={"FAKE_CUDA_IS_UP": "1"})
    sessions["chose"] = Session(arguments=fine, environ={"FAKE_CHOICE": "RocmPlatform"})
    sessions["no flags"] = Session(arguments=fine, environ={"FAKE_FLAG": "unset"})
    sessions["no record"] = Session(
        arguments=["-k", "test_fine or test_hub"],
        environ={"CUDA_VISIBLE_DEVICES": ""},
        recorded=False,
    )
    place.file("importing/vllm/__init__.py", IMPORTING)
    sessions["importing"] = Session(
        arguments=fine,
        environ={"MATRIX_IMPORTING": str(place.folder / "importing")},
        fakes="importing",
    )
    place.file(
        "no_import/vllm/__init__.py",
        'raise ImportError("/a/_C.abi3.so: undefined symbol: _ZN3c104cuda")',
    )
    sessions["no import"] = Session(arguments=fine, fakes="no_import")
    for name, audio in COMPANIONS.items():
        place.file(f"{name}/vllm/__init__.py", f"raise RuntimeError({UNFIT!r})")
        for package, version, required in (
            ("vllm", "0.26.0", ("torch==2.11.0", "torchaudio==2.11.0")),
            ("torch", "2.11.0" if name == "pinned companion" else "2.15.0+cu132", ()),
            ("torchaudio", audio, ()),
        ):
            lines = [f"Requires-Dist: {requirement}" for requirement in required]
            text = "\n".join([f"Name: {package}", f"Version: {version}", *lines, ""])
            place.file(f"{name}/{package}-{version}.dist-info/METADATA", text)
        sessions[name] = Session(arguments=fine, fakes=name)
    for name, extensions in EXTENSIONS.items():
        place.file(f"{name}/vllm/__init__.py", '__version__ = "0.19.1"')
        for extension, message in extensions.items():
            place.file(f"{name}/vllm/{extension}.py", f"raise ImportError({message!r})")
        sessions[name] = Session(arguments=fine, fakes=name)
    return dict(zip(sessions, place.run_all(*sessions.values()), strict=True))


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("full_raised", "failed"), ("full_noted", "failed"), ("full_aborted", "crashed")],
)
def test_a_full_disk_is_the_machines_fault(ran: dict[str, Ran], name: str, outcome: str) -> None:
    assert ran[name].case(name).outcome == outcome
    error = ran[name].error
    assert error is not None and error[0] == "no_space"
    assert error[1].startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "kind"), [("free_memory", "gpu_full"), ("hub", "internal"), ("dirty", "internal")]
)
def test_a_fault_of_the_machine_is_the_runs_error(
    ran: dict[str, Ran], name: str, kind: str
) -> None:
    error = ran[name].error
    assert ran[name].status == 1
    assert error is not None and error[0] == kind


@pytest.mark.parametrize(
    ("name", "status"), [("fine", 0), ("no_rule", 5), ("no_gpu", 5), ("full_raised", 1)]
)
def test_the_exit_status(ran: dict[str, Ran], name: str, status: int) -> None:
    assert ran[name].status == status, ran[name].output


def test_a_failed_step_with_the_compiler_is_in_the_record_and_the_cases_run(
    ran: dict[str, Ran],
) -> None:
    """The torch of these sessions has no Inductor."""
    step = ran["fine"].record.cpp_compiler
    assert step is not None
    assert step.reason == "ModuleNotFoundError: No module named 'torch._inductor'"
    assert f"each case prepares its own: {step.reason}\n" in ran["fine"].output
    assert ran["fine"].case("fine").outcome == "passed"


def test_a_failed_inspection_step_is_in_the_record_and_the_cases_run(ran: dict[str, Ran]) -> None:
    """The vLLM of these sessions keeps no answers."""
    step = ran["fine"].record.inspections
    assert step is not None and step.seconds >= 0 and step.reason
    assert f"inspects no model before the cases: {step.reason}\n" in ran["fine"].output
    assert ran["fine"].case("fine").outcome == "passed"


def test_a_test_may_stop_the_session(ran: dict[str, Ran]) -> None:
    stopped = ran["stops"]
    assert stopped.status == 7
    assert [case.case for case in stopped.record.cases] == ["stops"]
    assert stopped.error == ("interrupted", "stopped by pytest.exit")


def test_a_hung_cold_start_shows_what_it_printed(ran: dict[str, Ran]) -> None:
    case = ran["hangs_cold"].case("hangs_cold")
    assert case.outcome == "interrupted"
    assert str(case.reason).endswith("; the limit of 2 s is below the default of 900 s")
    assert "the cold start got as far as this" in str(case.failure)


def test_a_case_after_cuda_came_up_fails(ran: dict[str, Ran]) -> None:
    case = ran["cuda is up"].case("fine")
    assert ran["cuda is up"].status == 1
    assert case.outcome == "failed"
    assert "CUDA was initialised" in str(case.reason)


def test_vllm_on_another_platform_than_asked_is_refused(ran: dict[str, Ran]) -> None:
    assert ran["chose"].status == 1
    assert ran["chose"].error == (
        "internal",
        "vLLM chose the platform RocmPlatform, not cpu",
    )


def test_flags_that_cannot_be_read_end_the_run(ran: dict[str, Ran]) -> None:
    assert ran["no flags"].status == 1
    assert ran["no flags"].error is not None
    assert ran["no flags"].error[0] == "internal"
    assert ran["no flags"].error[1].startswith("effective flags: ValueError: invalid literal")


def test_without_a_record_the_cases_run_all_the_same(ran: dict[str, Ran]) -> None:
    assert ran["no record"].status == 1
    assert "vllm 0.19.1, cpu" in ran["no record"].output
    assert "  fine  cold 1.2 s  warm 1.2 s  passed" in ran["no record"].output
    assert "1 failed, 1 passed" in ran["no record"].output
    assert not ran["no record"].record.cases


def test_an_import_under_way_is_announced(ran: dict[str, Ran]) -> None:
    assert ran["importing"].status == 0, ran["importing"].output


def test_a_companion_that_this_project_chose_is_not_blamed_on_the_pair(
    ran: dict[str, Ran],
) -> None:
    chosen = ran["own companion"]
    assert (chosen.status, chosen.record.rungs) == (1, ())
    assert chosen.error is not None and chosen.error[0] == "companion"
    assert chosen.error[1].startswith(
        "torchaudio 2.11.0 does not go with torch 2.15.0+cu132, and vLLM does not require these"
        " two together: RuntimeError: Detected that PyTorch and TorchAudio were compiled with"
    )
    pinned = ran["pinned companion"]
    assert pinned.error is not None and pinned.error[0] == "imports"
    assert [rung.ok for rung in pinned.record.rungs] == [False]


def test_an_import_that_fails_is_a_failed_rung(ran: dict[str, Ran]) -> None:
    failed = ran["no import"]
    assert failed.status == 1
    [rung] = failed.record.rungs
    assert (rung.ok, rung.reason) == (
        False,
        "ImportError: _C.abi3.so: undefined symbol: _ZN3c104cuda",
    )
    assert failed.error is not None and failed.error[0] == "imports"
    assert failed.record.cases == ()
    assert "do not import: ImportError: _C.abi3.so: undefined symbol" in failed.output


@pytest.mark.parametrize(
    ("name", "ok", "reason"),
    [
        ("driver", True, "libcuda.so.1 is not here, so not loaded: vllm._C"),
        (
            "driver and symbol",
            True,
            (
                "libcuda.so.1 is not here, so not loaded: vllm._C;"
                " not loaded: vllm._moe_C (undefined symbol: _ZN3c105ErrorE)"
            ),
        ),
        ("runtime", True, "libcudart.so.12 is not here, so not loaded: vllm._C, vllm._moe_C"),
        ("symbol", True, "not loaded: vllm._C (undefined symbol: f)"),
        ("other", False, "ImportError: libstdc++.so.6: GLIBCXX_3.4.32 not found"),
    ],
)
def test_an_extension_that_does_not_link_is_noted_on_a_cpu(
    ran: dict[str, Ran], name: str, ok: bool, reason: str
) -> None:
    [rung] = ran[name].record.rungs
    assert (rung.ok, rung.reason, ran[name].status) == (ok, reason, 0 if ok else 1)


# The record and the terminal while a case runs


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


def test_the_record_follows_a_case_and_a_kill_leaves_no_child(place: Place) -> None:
    place.tests("""
        def test_slow():
            start("cold")
            Path(os.environ["FOLDER"], "pid").write_text(str(os.getpid()))
            time.sleep(60)
    """)
    process = place.start()
    [child] = pids_in(place.folder / "pid")
    wait_for(lambda: any(case.starts for case in reader.read(place.record).cases))
    [case] = reader.read(place.record).cases
    assert (case.outcome, [start.start for start in case.starts]) == ("running", ["cold"])
    process.kill()
    process.communicate(timeout=30)
    wait_for(lambda: not alive(child))
    assert not reader.read(place.record).finished


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
    [sleeper] = pids_in(place.folder / "pid")
    process.send_signal(number)
    ran = place.ended(process)
    assert not alive(sleeper)
    assert ran.status == 2
    [case] = ran.record.cases
    assert (case.outcome, [start.start for start in case.starts]) == ("interrupted", ["cold"])
    assert ran.error is not None and ran.error[0] == "interrupted"
    assert ran.record.finished
    # Who began the session writes its own seconds, unless it is killed before.
    assert isinstance(ran.record.provenance["seconds"], float)
    assert ran.record.provenance["seconds"] > 0


def test_a_record_that_cannot_be_written_is_reported(place: Place) -> None:
    place.tests("""
        def test_x():
            both()
            path = Path(os.environ["RECORD"])
            while not path.is_dir():  # the session may write the record in between
                path.unlink(missing_ok=True)
                try:
                    path.mkdir()
                except FileExistsError:
                    pass
    """)
    process = place.start(environment={"RECORD": str(place.record)})
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "the record is lost: " in output
    assert "cannot be written" in output


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
