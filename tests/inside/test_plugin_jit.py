"""The step of a session on a GPU that builds kernels before its cases; FlashInfer is a fake."""

import sys

import pytest

from cell_pytest import FAKES, Ran, Session, gpu_place, on_gpu
from fake_flashinfer import write_flashinfer
from matrix.record.model import Jit, JitModule

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")

ASKED = """
compat.compute_capability = lambda: (9, 0)
compat.torch_architectures = lambda: ("sm_90",)
compat.versions = lambda: ("2.11.0", os.environ.get("FAKE_VLLM", "0.26.0"))
import matrix.inside.flashinfer_jit as jit
usual = jit.build
def build(modules):
    exec(os.environ.get("FAKE_BROKEN", ""))
    return usual(modules)
jit.build = build
"""
CASES = """
def test_first():
    # What was built before the cases is there, in a folder of the run.
    cache = Path(os.environ["FLASHINFER_WORKSPACE_BASE"])
    found = sorted(path.stem for path in cache.rglob("*.so"))
    note("starting", start="cold")
    note("started", start="cold", seconds={"total": 1.0}, counters={}, jit=[
        {"library": "flashinfer", "name": "moe", "seconds": 2.5, "generator": None,
         "arguments": {}}])
    note("starting", start="warm")
    note("started", start="warm", seconds={"total": 1.0}, counters={}, jit=[{"name": "odd"}])
    expected = os.environ.get("FAKE_FOUND", "sampling").split()
    assert found == expected, found
    kernel = Path(os.environ["DG_JIT_CACHE_DIR"], "cache", "kernel.gemm." + "ab" * 16)
    kernel.mkdir(parents=True)
    (kernel / "kernel.cubin").touch()
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    place = gpu_place(tmp_path_factory.mktemp("jit"))
    place.file("fake/fakes.py", FAKES + ASKED)
    place.tests(CASES)
    write_flashinfer(place.folder / "with")

    def session(fakes: str | None = "with", **environ: str) -> Session:
        return Session(environ=on_gpu(place, **environ), fakes=fakes)

    sessions = {
        "listed": session(),
        "not listed": session(FAKE_VLLM="0.99.0", FAKE_FOUND=""),
        "raises": session(
            FAKE_BROKEN="print('nvcc said it'); raise OSError('no nvcc')", FAKE_FOUND=""
        ),
        "dies": session(FAKE_BROKEN="os.abort()", FAKE_FOUND=""),
        "without": session(None, FAKE_FOUND=""),
    }
    return dict(zip(sessions, place.run_all(*sessions.values()), strict=True))


def jit(ran: Ran) -> Jit:
    found = ran.record.jit
    assert found is not None
    return found


def test_what_is_listed_is_built_before_the_cases(ran: dict[str, Ran]) -> None:
    found = jit(ran["listed"])
    assert ran["listed"].case("first").outcome == "passed" and found.reason is None
    bridge, sampling, moe, gemm = found.modules
    assert (bridge.library, bridge.built_by) == ("tvm_ffi", "step")
    assert (sampling.name, sampling.built_by) == ("sampling", "step")
    assert sampling.generator == "flashinfer.jit.sampling:gen_sampling_module"
    assert sampling.seconds is not None and sampling.seconds <= found.seconds < 60
    # What a start built, and what was only found.
    assert (moe.name, moe.seconds, moe.built_by) == ("moe", 2.5, "first cold")
    assert gemm == JitModule(library="deep_gemm", name="kernel.gemm")
    output = ran["listed"].output
    assert "jit      builds before the cases: sampling" in output and " 2 built\n" in output


def test_a_release_that_is_not_listed_builds_in_its_cases(ran: dict[str, Ran]) -> None:
    found = jit(ran["not listed"])
    assert ran["not listed"].case("first").outcome == "passed"
    assert found.reason == (
        "vLLM 0.99.0 on compute capability 9.0 is not in matrix/data/jit.toml: its starts build"
        " what they need"
    )
    assert [module.built_by for module in found.modules] == ["step", "first cold", None]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("raises", "the step: OSError: no nvcc"),
        ("dies", "the step: killed by SIGABRT"),
        ("without", "FlashInfer is not installed"),
    ],
)
def test_a_step_that_fails_ends_no_run(ran: dict[str, Ran], name: str, reason: str) -> None:
    assert ran[name].case("first").outcome == "passed" and ran[name].record.is_complete
    assert str(jit(ran[name]).reason).startswith(reason)
    if name == "raises":
        assert "\nnvcc said it\n" in ran[name].output
    assert "step" not in [module.built_by for module in jit(ran[name]).modules]
