"""A FlashInfer whose modules are built by writing a file; its classes are as in flashinfer 0.6."""

from pathlib import Path

CORE = """
import dataclasses, os, time
from pathlib import Path

CACHE = Path(os.environ["FLASHINFER_WORKSPACE_BASE"], ".cache", "flashinfer", "0.6.14", "90a")
JIT = CACHE / "cached_ops"


class JitSpecRegistry:
    def __init__(self):
        self._specs = {}

    def register(self, spec):
        self._specs.setdefault(spec.name, spec)


jit_spec_registry = JitSpecRegistry()


@dataclasses.dataclass
class JitSpec:
    name: str
    flags: object = None

    @property
    def jit_library_path(self):
        return JIT / self.name / f"{self.name}.so"

    @property
    def is_aot(self):
        return self.name == "brought"

    def build(self, verbose, need_lock=True):
        if self.flags == "broken":
            raise RuntimeError("Ninja build failed. Ninja output:\\nnvcc fatal : no such file")
        self.jit_library_path.parent.mkdir(parents=True, exist_ok=True)
        with (self.jit_library_path.parent / "built").open("a") as log:
            log.write(os.environ.get("MAX_JOBS", "") + "\\n")
        if not self.jit_library_path.exists():  # as ninja does, of the same sources
            self.jit_library_path.touch()

    def build_and_load(self):
        if not self.is_aot:
            self.build(False, need_lock=False)
        return self.name


def gen_jit_spec(name, flags=None):
    spec = JitSpec(name, flags)
    jit_spec_registry.register(spec)
    return spec
"""
SAMPLING = """
from .core import gen_jit_spec

def gen_sampling_module():
    return gen_jit_spec("sampling")

def gen_broken_module():
    return gen_jit_spec("broken", "broken")

def gen_brought_module():
    return gen_jit_spec("brought")
"""
MOE = """
from .core import gen_jit_spec

def gen_cutlass_fused_moe_sm90_module(use_fast_build=False):
    return gen_cutlass_fused_moe_module(["-O3"], "90", use_fast_build)

def gen_cutlass_fused_moe_module(nvcc_flags, device_arch, use_fast_build=False):
    return gen_jit_spec(f"fused_moe_{device_arch}")

def gen_prefill_module(backend, head_dim, *, dtype=None):
    return gen_jit_spec(f"prefill_{backend}_{head_dim}_{dtype}")
"""


def write_flashinfer(folder: Path) -> None:
    """Write the package into a folder that is on the path, with TVM's."""
    files = {
        "flashinfer/__init__.py": "",
        "flashinfer/jit/__init__.py": "",
        "flashinfer/jit/core.py": CORE,
        "flashinfer/jit/sampling.py": SAMPLING,
        "flashinfer/jit/fused_moe.py": MOE,
        "tvm_ffi/__init__.py": "",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
