"""Small symbol tables of a torch and a vLLM."""

from matrix.checks.linkage.tables import (
    DescribedWheel,
    Extension,
    Library,
    Names,
    TorchSymbols,
    VllmSymbols,
)

CHECK = "_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_jb"
CHECK_NAME = (
    "c10::cuda::c10_cuda_check_implementation(int, char const*, char const*, unsigned int, bool)"
)


def torch_of(
    *exports: str, needed: tuple[str, ...] = ("libcudart.so.12",), version: str = "2.10.0"
) -> TorchSymbols:
    """Return a torch whose libc10 exports these, reached through libtorch and libtorch_cpu."""
    file = f"torch-{version}-cp312-cp312-manylinux_2_28_x86_64.whl"
    return TorchSymbols(
        wheel=DescribedWheel(project="torch", version=version, file=file, sha256="00"),
        libraries=(
            Library(name="libtorch.so", needed=("libtorch_cpu.so",), exports=Names.of([])),
            Library(name="libtorch_cpu.so", needed=("libc10.so", *needed), exports=Names.of([])),
            Library(
                name="libc10.so", needed=(), exports=Names.of(name.encode() for name in exports)
            ),
            Library(
                name="libtorch_python.so",
                needed=("libtorch.so",),
                exports=Names.of([b"THPVariable_Wrap"]),
            ),
        ),
    )


def extension(
    *imports: str,
    path: str = "vllm/_C.abi3.so",
    needed: tuple[str, ...] = ("libtorch.so",),
    python: str | None = None,
    exports: tuple[str, ...] = (),
    rpath: tuple[str, ...] = (),
    fault: str | None = None,
) -> Extension:
    return Extension(
        path=path,
        python=python,
        needed=needed,
        rpath=rpath,
        imports=imports,
        versioned={},
        exports=exports,
        fault=fault,
    )


def vllm_of(*extensions: Extension, version: str = "0.19.1") -> VllmSymbols:
    file = f"vllm-{version}-cp38-abi3-manylinux_2_31_x86_64.whl"
    return VllmSymbols(
        wheel=DescribedWheel(project="vllm", version=version, file=file, sha256="00"),
        extensions=extensions,
        demangled={CHECK: CHECK_NAME},
    )
