"""The step of a session on a GPU that builds kernels before its cases; FlashInfer is a fake."""

import re
import sys

import pytest

from cell_pytest import CELL, FAKES, TORCH, Ran, Session, gpu_place, on_gpu
from fake_flashinfer import write_flashinfer
from matrix.record.jit import Jit, JitModule
from waiting import alive

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl"),
]

ASKED = """
import time
from pathlib import Path
compat.compute_capability = lambda: (9, 0)
compat.torch_architectures = lambda: ("sm_90",)
import matrix.inside.flashinfer_jit as jit
usual = jit.build
def build(modules):
    exec(os.environ.get("FAKE_BROKEN", ""))
    return usual(modules)
jit.build = build
"""
# The step says which process it is, in a file of the session.
AT_WORK = "Path(os.environ['FAKE_AT']).write_text(str(os.getpid())); {then}"
# A torch whose import ends when something is there: what the step builds meanwhile.
WAITS = """
import time
from pathlib import Path
until = time.monotonic() + 30
at = Path(os.environ["FAKE_AT"])
while not (at.exists() and at.read_text()):
    if time.monotonic() > until:
        raise ImportError("nothing was built meanwhile")
    time.sleep(0.01)
if "FAKE_NO_TORCH" in os.environ:
    raise ImportError("libcudart.so.13: cannot open shared object file")
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


KEPT = f"kept/{CELL}/flashinfer/.cache/flashinfer/0.6.14/90a/cached_ops/sampling"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    place = gpu_place(tmp_path_factory.mktemp("jit"))
    place.file("fake/fakes.py", FAKES + ASKED)
    place.tests(CASES)
    smi = "case $1 in *bus_id*) echo 00000000:3B:00.0;; *) echo H200, 9.0, 580.1, 143771;; esac"
    place.file("bin/nvidia-smi", f"#!/bin/sh\n{smi}\n")
    for folder, version in (("with", "0.26.0"), ("newer", "0.99.0"), ("slow", "0.26.0")):
        write_flashinfer(place.folder / folder)
        metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"
        place.file(f"{folder}/vllm-{version}.dist-info/METADATA", metadata)
    place.file("slow/torch/__init__.py", TORCH + WAITS)

    def session(fakes: str | None = "with", *, kept: str | None = None, **environ: str) -> Session:
        arguments = () if kept is None else ("--jit-cache", str(place.folder / kept))
        return Session(environ=on_gpu(place, **environ), fakes=fakes, arguments=arguments)

    place.file(f"{KEPT}/sampling.so", "")
    place.file("no-folder", "")

    sessions = {
        "listed": session(),
        "not listed": session("newer", FAKE_FOUND=""),
        "raises": session(
            FAKE_BROKEN="print('nvcc said it'); raise OSError('no nvcc')", FAKE_FOUND=""
        ),
        "dies": session(FAKE_BROKEN="os.abort()", FAKE_FOUND=""),
        "without": session(None, FAKE_FOUND=""),
        "meanwhile": session(
            "slow", FAKE_AT=str(place.folder / "at"), FAKE_BROKEN=AT_WORK.format(then="")
        ),
        "kept": session(kept="kept"),
        "no folder": session(kept="no-folder"),
        "no torch": session(
            "slow",
            FAKE_AT=str(place.folder / "left"),
            FAKE_NO_TORCH="1",
            FAKE_BROKEN=AT_WORK.format(then="time.sleep(300)"),
        ),
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
    assert "jit      builds before the cases: sampling" in output
    assert re.search(r"  jit      [\d.]+ s  2 built; the cases waited [\d.]+ s for it\n", output)


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


def test_the_step_is_at_work_while_torch_is_imported(ran: dict[str, Ran]) -> None:
    found = jit(ran["meanwhile"])
    assert ran["meanwhile"].case("first").outcome == "passed" and found.reason is None
    assert [module.built_by for module in found.modules[:2]] == ["step", "step"]


def test_a_torch_that_does_not_import_leaves_no_step_behind(ran: dict[str, Ran]) -> None:
    assert ran["no torch"].error is not None and ran["no torch"].error[0] == "imports"
    assert not alive(int((ran["no torch"].folder / "left").read_text()))


def test_a_kept_folder_gives_what_an_earlier_run_built(ran: dict[str, Ran]) -> None:
    found = jit(ran["kept"])
    assert ran["kept"].case("first").outcome == "passed" and found.reason is None
    assert [(module.name, module.built_by) for module in found.modules] == [
        ("sampling", "an earlier run"),
        ("import", "step"),
        ("moe", "first cold"),
        ("kernel.gemm", None),
    ]
    assert "  1 built, 1 there already; the cases waited" in ran["kept"].output
    kept = ran["kept"].folder / "kept" / CELL
    assert (kept / "deep_gemm/cache").is_dir() and list(kept.rglob("sampling.so"))


def test_a_kept_folder_that_is_a_file_is_named(ran: dict[str, Ran]) -> None:
    output = ran["no folder"].output
    assert f"--jit-cache {ran['no folder'].folder / 'no-folder'}: Not a directory; name a" in output
    assert "Traceback" not in output
