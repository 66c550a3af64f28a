"""Sessions on a machine with a GPU, of which nvidia-smi and the kernel's log are fakes."""

import sys
from ctypes.util import find_library

import pytest

from cell_pytest import FAKES, Ran, Session, gpu_place, on_gpu
from matrix.rules.expectations_file import load_expectations
from matrix.verdict.judge import judge

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl"),
]

XIDS = """
def logs(number, bus="0000:3b:00"):
    with open(os.environ["FOLDER"] + "/kernel.log", "a") as log:
        log.write(f"[{time.monotonic()}] NVRM: Xid (PCI:{bus}): {number}, pid=7\\n")

def cuda(said):
    raise RuntimeError(f"CUDA error: {said}")
"""
OWN = """
def test_access():
    logs(31)
    cuda("an illegal memory access was encountered")

def test_another_gpus():
    logs(79, "0000:5e:00")
    cuda("unspecified launch failure")

def test_after():
    both()

def test_asked():
    import matrix.inside.vllm_compat as compat
    assert compat.asked == []
    both()
"""
MORE = """
@pytest.mark.full
def test_more_full():
    raise ValueError("Free memory on device cuda:0 is less than desired GPU memory utilization")

@pytest.mark.full
def test_more_fallen():
    logs(79)
    cuda("unspecified launch failure")
"""
FAULTS = {
    "fallen": ("logs(79); cuda('unspecified launch failure')", "failed", "gpu_fault"),
    "gsp": ("logs(119); time.sleep(60)", "interrupted", "gpu_fault"),
    "contained": ("logs(95); os.kill(os.getpid(), signal.SIGABRT)", "crashed", "gpu_fault"),
    "ecc": ("cuda('uncorrectable ECC error encountered')", "failed", "gpu_fault"),
    "image": (
        "cuda('no kernel image is available for execution on the device')",
        "failed",
        "gpu_unsupported",
    ),
    "driver": (
        "cuda('CUDA driver version is insufficient for CUDA runtime version')",
        "failed",
        "driver_too_old",
    ),
    "free": (
        (
            "raise ValueError('Free memory on device cuda:0 (1.2/79.1 GiB) on startup is less than"
            " desired GPU memory utilization (0.25, 19.8 GiB).')"
        ),
        "failed",
        "gpu_full",
    ),
    "held": (
        (
            "raise MemoryError('CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total"
            " capacity of 79.11 GiB of which 1.62 MiB is free. Including non-PyTorch memory, this"
            " process has 1.09 GiB memory in use.')"
        ),
        "out_of_memory",
        "gpu_full",
    ),
    "own": ("cuda('out of memory')", "out_of_memory", None),
}
ASKED = """
asked = []
compat.torch_architectures = lambda: asked.append(os.getpid()) or tuple(
    os.environ.get("FAKE_CODE", "sm_70").split())
compat.asked = asked
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    place = gpu_place(tmp_path_factory.mktemp("gpu"))
    place.file("fake/fakes.py", FAKES + ASKED)
    place.tests(XIDS + OWN)
    faults = "".join(
        f"\ndef test_{name}():\n    note('starting', start='cold'); {body}\n"
        for name, (body, *_) in FAULTS.items()
    )
    place.tests(XIDS + faults, "tests/startup/test_faults.py")
    place.tests(XIDS + MORE, "tests/startup/test_more.py")
    place.file("no_driver/vllm/__init__.py", '__version__ = "0.19.1"')
    place.file(
        "no_driver/vllm/_C.py",
        'raise ImportError("libcuda.so.1: cannot open shared object file")',
    )

    def session(*arguments: str, fakes: str | None = None, **environ: str) -> Session:
        return Session(arguments=arguments, environ=on_gpu(place, **environ), fakes=fakes)

    own = session("-k", "test_access or test_another_gpus or test_after or test_asked")
    sessions = {
        "own failures": own,
        "touched": session(FAKE_TOUCH="1"),
        "no code": session(FAKE_CODE="sm_75 sm_80"),
        "no gpu": session(FAKE_CHOICE="UnspecifiedPlatform"),
        "no driver": session(fakes="no_driver"),
        "full suite": session("--suite", "full", "-k", "test_after or test_more_full"),
        "full suite, fallen": session("--suite", "full", "-k", "test_after or test_more_fallen"),
        **{name: session("-k", f"test_{name}", "--case-timeout", "2") for name in FAULTS},
    }
    return dict(zip(sessions, place.run_all(*sessions.values()), strict=True))


def test_what_spoils_a_fork_is_asked_in_a_child(ran: dict[str, Ran]) -> None:
    assert ran["own failures"].case("asked").outcome == "passed"


def test_an_import_that_touches_cuda_ends_the_run(ran: dict[str, Ran]) -> None:
    error = ran["touched"].error
    assert error is not None and error[0] == "internal"
    assert "CUDA was touched while" in error[1]
    assert ran["touched"].record.cases == ()


def test_an_xid_of_a_program_stays_the_cases_own_failure(ran: dict[str, Ran]) -> None:
    own = ran["own failures"]
    assert own.record.error is None and own.status == 1
    access = own.case("access")
    assert access.outcome == "failed"
    assert access.reason == (
        "RuntimeError: CUDA error: an illegal memory access was encountered;"
        " the kernel logged Xid 31"
    )
    assert access.signature == (
        "AcceleratorError: CUDA error: an illegal memory access was encountered"
        " @ tests/startup/test_cases.py:cuda"
    )
    assert own.case("another_gpus").reason == "RuntimeError: CUDA error: unspecified launch failure"
    assert own.case("after").outcome == "passed"  # one case's CUDA error is not the next one's
    verdicts = [case.verdict for case in judge(own.record, load_expectations()).cases]
    assert verdicts == ["incompatible", "incompatible", "untested", "untested"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_gpu_is_never_the_pairs(ran: dict[str, Ran], name: str) -> None:
    _, outcome, kind = FAULTS[name]
    record, error = ran[name].record, ran[name].error
    assert ran[name].case(name).outcome == outcome
    assert (error and error[0]) == kind
    verdict = judge(record, load_expectations())
    assert verdict.verdict == "untested" and verdict.reason


def test_of_the_full_suite_only_a_gpu_that_fails_ends_a_run(ran: dict[str, Ran]) -> None:
    assert ran["full suite"].error is None
    error = ran["full suite, fallen"].error
    assert error is not None and error[0] == "gpu_fault"


def test_a_gpu_that_this_torch_has_no_code_for(ran: dict[str, Ran]) -> None:
    assert ran["no code"].status == 1 and ran["no code"].record.cases == ()
    assert ran["no code"].error == (
        "gpu_unsupported",
        (
            "this torch has code for sm_75, sm_80, and none that a GPU of compute capability 7.0"
            " can run: use another GPU, or a torch that was built for this one"
        ),
    )


@pytest.mark.skipif(find_library("nvidia-ml") is not None, reason="there is a driver here")
def test_where_vllm_finds_no_gpu_the_driver_is_named(ran: dict[str, Ran]) -> None:
    assert ran["no gpu"].error == (
        "no_driver",
        (
            "vLLM chose the platform UnspecifiedPlatform, not cuda: libnvidia-ml.so.1, the driver's"
            " library, does not load"
        ),
    )


def test_an_import_that_lacks_the_driver_is_the_machines_fault(ran: dict[str, Ran]) -> None:
    error = ran["no driver"].error
    assert error is not None and error[0] == "no_driver"
    assert judge(ran["no driver"].record, load_expectations()).verdict == "untested"
