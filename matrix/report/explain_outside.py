"""Sentences and remedies for faults of the machine, its tools, its memory, and of packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from matrix._util.text import clip
from matrix.explain.model import FaultAnswer, FaultKind, FaultRemedy, Meaning, RemedyCode

NAME_LIMIT = 200

MACHINE_MEANINGS: Mapping[Meaning, str] = {
    Meaning.NO_BFLOAT16: "the GPU has no bfloat16, which takes compute capability 8.0 or newer",
    Meaning.NO_FP8: "Triton has no FP8 of the form e4m3 (fp8e4nv) for this GPU: that takes compute"
    " capability 8.9 or newer",
    Meaning.NOT_READY: "CUDA is not ready on this machine (CUDA's error 802): where GPUs are behind"
    " NVSwitch, the fabric manager of the NVIDIA driver does not run, has not finished, or is of"
    " another version than the driver",
    Meaning.NO_GPU: "CUDA sees no GPU: CUDA_VISIBLE_DEVICES hides all of them, the container has"
    " none, or the machine has none",
    Meaning.FEWER_GPUS: "a process asks for a GPU by a number that is not there: the machine, the"
    " container or CUDA_VISIBLE_DEVICES has fewer GPUs than it asks for",
    Meaning.NO_PLATFORM: "vLLM found no device that it can run on: it sees no GPU, or it is a build"
    " for another kind of device",
    Meaning.NOT_LOADED_DRIVER: "NVML is there, but the kernel module of the NVIDIA driver is not"
    " loaded",
    Meaning.BROKEN_GPU: "the GPU, or its link, reports a fault of the hardware",
    Meaning.BUSY_GPU: "another process uses the GPU exclusively, or the GPU is not available",
    Meaning.UNKNOWN_STATE: "CUDA gives no cause: the driver, its kernel modules or the environment"
    " are not in order, as where CUDA_VISIBLE_DEVICES changed after the program started",
    Meaning.FORKED: "the program used CUDA, and then a process was forked, in which CUDA cannot be"
    " used again",
    Meaning.NO_C_HEADERS: "a C compiler is there, but the C library's headers or objects, which it"
    " needs, are not",
    Meaning.NO_LDCONFIG: "Triton asks /sbin/ldconfig for the folder of the driver's libcuda.so.1,"
    " and that program is not there, or fails, as on NixOS",
    Meaning.NO_COMPILER: "Triton compiles C code to launch its kernels, and finds no C compiler: CC"
    " is not set, and neither gcc nor clang is there",
    Meaning.NO_CXX_COMPILER: "torch's compiler compiles C++ code, and finds no C++ compiler that"
    " works: it takes the one that CXX names, or else g++",
    Meaning.PART_OF_TOOLKIT: "code for the GPU is compiled here, and a header of the CUDA toolkit"
    " is not there: only a part of the toolkit is installed",
    Meaning.NO_HEADERS: "a C compiler finds no headers of the Python that runs; Triton and torch's"
    " compiler need them",
    Meaning.NO_DRIVER_LINK: "the linker finds no libcuda.so: the NVIDIA driver's library is there"
    " only as libcuda.so.1, is in a folder that is not searched, or is not there",
    Meaning.NO_NINJA: "a kernel is compiled by ninja, which is not installed, or is not on PATH: it"
    " is in the environment's folder bin, which PATH has only where the environment is active",
    Meaning.GPU_FULL: "the GPU's memory does not suffice for the model and its settings",
    Meaning.HELD_GPU: "other processes hold memory of the GPU, so less is free than vLLM was asked"
    " to take",
    Meaning.CHANGED_GPU: "another process gave memory of the GPU back while vLLM measured it",
    Meaning.GRAPHS_FULL: "the GPU's memory ended while CUDA graphs were captured, which vLLM does"
    " after it reserves memory for the weights and the KV cache",
    Meaning.NO_CACHE: "the weights and the peak of a run leave no memory for the KV cache, of the"
    " share of the GPU that vLLM may take",
    Meaning.LONG_CONTEXT: "the KV cache that fits into the GPU is too small for one request of"
    " the model's full length",
    Meaning.SHARED_MEMORY: "the shared memory of the machine, /dev/shm, is too small: processes of"
    " vLLM and NCCL exchange data through it",
    Meaning.NO_SPACE: "the disk, or the file system of the named file, is full",
    Meaning.WAITING: "a process of vLLM waits for another one: that compiles or loads, or it hangs;"
    " this says nothing of the size of /dev/shm",
    Meaning.NCCL_VERSIONS: "the processes of a group have different versions of NCCL, which refuses"
    " that: their environments have different torch or nvidia-nccl packages",
    Meaning.NCCL_ONE_GPU: "two processes of a group use the same GPU, which NCCL refuses: fewer"
    " GPUs are visible than processes start, or they all see the same one",
    Meaning.NCCL_SYSTEM: "a call of NCCL to the system failed, such as one on a socket or on"
    " shared memory; the text does not say which",
    Meaning.NCCL_PEER: "another process of the group ended, or the network to it failed: the cause"
    " is in the log of that process",
    Meaning.NCCL_CALL: "a call of NCCL failed; the text does not say why",
    Meaning.REPORTS: "it only reports another error, which is not in this text",
}
_DEPENDS = "that depends on the model, its settings and the GPU, not on the pair alone"
_MACHINE = "the machine causes it, whichever pair is installed"
_BY_MEANING: Mapping[Meaning, str] = {
    Meaning.FORKED: "the program causes it, whichever pair is installed",
    Meaning.FEWER_GPUS: "that depends on the machine, and on how many GPUs are asked for",
    Meaning.HELD_GPU: _MACHINE,
    Meaning.CHANGED_GPU: _MACHINE,
    Meaning.SHARED_MEMORY: _MACHINE,
    Meaning.NO_SPACE: _MACHINE,
    Meaning.WAITING: "that depends on what is done",
    Meaning.NCCL_VERSIONS: "the environments of the processes differ: each pair alone may work",
    Meaning.NCCL_ONE_GPU: _MACHINE,
    Meaning.NCCL_SYSTEM: _MACHINE,
}
_RELEASES: Mapping[FaultKind, str] = {
    FaultKind.GPU_STATE: _MACHINE,
    FaultKind.TOOL: _MACHINE,
    FaultKind.DATA_TYPE: _DEPENDS,
    FaultKind.MEMORY: _DEPENDS,
    FaultKind.NCCL: "that depends on the cause",
    FaultKind.REPORT: "that depends on the other error",
}


def of_toolkit(answer: FaultAnswer, *_: str) -> str:
    """Return which nvcc is missing, or of which CUDA the found one is."""
    fault, cuda = answer.fault, answer.operands.get("cuda")
    if answer.meaning is Meaning.NO_TOOLKIT:
        needs = f" of CUDA {cuda}" if cuda else ""
        return (
            f"code for the GPU is compiled here, by the nvcc of a CUDA toolkit{needs}, and"
            " none was found by CUDA_HOME, on PATH, or in /usr/local/cuda"
        )
    has = f" of CUDA {fault.has}" if fault.has and fault.has[0].isdigit() else ""
    torch = f"CUDA {fault.wants}" if fault.wants else "another CUDA"
    return f"the nvcc that was found is{has or ' of another CUDA'}, and torch was built for {torch}"


def of_name(answer: FaultAnswer, name: str, _: str) -> str:
    """Return that a package lacks a name, and who asks for it."""
    package, importer = answer.fault.wants, answer.fault.package
    who = f"{clip(importer, NAME_LIMIT)} asks for" if importer else "the code asks for"
    return (
        f"{who} {name}, which the {package} that is installed does not have: it is for another one"
    )


def of_numpy(answer: FaultAnswer, *_: str) -> str:
    """Return that a module was compiled for another NumPy."""
    has = f", {answer.fault.has}" if answer.fault.has else ""
    module = answer.fault.package
    who = f"a module that {clip(module, NAME_LIMIT)} loads" if module else "some module"
    none = ", or no NumPy is installed" if "none" in answer.operands else ""
    return f"{who} was compiled for another NumPy than the one that is installed{has}{none}"


def of_model(_: FaultAnswer, name: str, __: str) -> str:
    """Return that transformers does not know a model."""
    return (
        f"the transformers that is installed does not know the model type {name}: it is older than"
        " the model, or the model brings code of its own"
    )


SENTENCES: Mapping[Meaning, Callable[[FaultAnswer, str, str], str]] = {
    Meaning.NO_TOOLKIT: of_toolkit,
    Meaning.OTHER_TOOLKIT: of_toolkit,
    Meaning.NO_SUCH_NAME: of_name,
    Meaning.OTHER_NUMPY: of_numpy,
    Meaning.UNKNOWN_MODEL: of_model,
}


def releases(answer: FaultAnswer) -> str | None:
    """Return which releases have to do with such a fault."""
    if answer.meaning in _BY_MEANING:
        return _BY_MEANING[answer.meaning]
    if answer.fault.kind in _RELEASES:
        return _RELEASES[answer.fault.kind]
    operands = answer.operands
    if answer.meaning is Meaning.OTHER_NUMPY or "vllm" not in operands:
        return None
    package, vllm = operands["package"], operands["vllm"]
    if package == "triton":
        return "each torch requires a triton of its own"
    who = f"vLLM {vllm}"
    if not operands["of"]:
        who = f"the text names no vLLM that is known here; the newest, {vllm},"
    if more := operands.get("with"):
        return f"{who} goes with {more}: cuda-python and cuda-bindings share files"
    if "range" not in operands:
        return f"{who} does not name {package}"
    needs = f"{who} needs {package}{operands['range']}"
    if bound := operands.get("bound"):
        needs += f", without an upper bound; vLLM {operands['bound of']} needs {package}{bound}"
    return needs


NOTES: Mapping[RemedyCode, str] = {
    RemedyCode.FABRIC_MANAGER: "shows on the host whether it runs: start it, and where it does not"
    " start, install the nvidia-fabricmanager of exactly the driver's version (`nvidia-smi -q`"
    " shows the state of the fabric); in a rented machine or container its owner does that",
    RemedyCode.SEE_GPUS: "lists the GPUs that the driver sees; a container needs `--gpus all`, or"
    " what its runtime calls that",
    RemedyCode.UNHIDE_GPUS: "lets CUDA see every GPU of the list",
    RemedyCode.FREE_SPACE: "shows which is full: compile caches are in /tmp and ~/.cache, shared"
    " memory in /dev/shm",
    RemedyCode.FREE_GPU: "lists the processes that hold its memory: end them, or choose another GPU"
    " by CUDA_VISIBLE_DEVICES",
    RemedyCode.KERNEL_LOG: "shows what the driver logged of the GPU; reset the GPU, or restart the"
    " machine",
    RemedyCode.MORE_LOG: "makes vLLM log why it takes none of its platforms: start it again",
    RemedyCode.SPAWN: "lets vLLM spawn its processes; the program needs `if __name__ =="
    " '__main__':` around its start of vLLM; or use no function of torch.cuda before vLLM",
    RemedyCode.NINJA: "installs it; and activate the environment, or put its folder bin on PATH",
    RemedyCode.OLDER_NUMPY: "until the module has such a release; `uv pip check` shows what needs"
    " NumPy 2",
    RemedyCode.SHARED_MEMORY: "shows its size: a container needs `--ipc=host`, or a larger"
    " `--shm-size`",
    RemedyCode.SAME_NCCL: "shows the version in each environment: install the same torch, and the"
    " nvidia-nccl package that it requires, in all of them",
    RemedyCode.NCCL_LOG: "makes NCCL log the cause: start it again, and explain the first line with"
    " NCCL WARN",
}
COMMANDS: Mapping[RemedyCode, str] = {
    RemedyCode.FABRIC_MANAGER: "systemctl status nvidia-fabricmanager",
    RemedyCode.SEE_GPUS: "nvidia-smi -L",
    RemedyCode.UNHIDE_GPUS: "unset CUDA_VISIBLE_DEVICES",
    RemedyCode.FREE_GPU: "nvidia-smi",
    RemedyCode.FREE_SPACE: "df -h",
    RemedyCode.KERNEL_LOG: "dmesg | grep -i xid",
    RemedyCode.MORE_LOG: "export VLLM_LOGGING_LEVEL=DEBUG",
    RemedyCode.SPAWN: "export VLLM_WORKER_MULTIPROC_METHOD=spawn",
    RemedyCode.NINJA: "uv pip install ninja",
    RemedyCode.OLDER_NUMPY: "uv pip install 'numpy<2'",
    RemedyCode.SHARED_MEMORY: "df -h /dev/shm",
    RemedyCode.SAME_NCCL: "python -c 'import torch; print(torch.cuda.nccl.version())'",
    RemedyCode.NCCL_LOG: "export NCCL_DEBUG=INFO",
}
REMEDIES: Mapping[RemedyCode, str] = {
    RemedyCode.HALF: "start vLLM with `--dtype half`",
    RemedyCode.WITHOUT_FP8: "take a model, or a KV cache (--kv-cache-dtype), that is not of FP8",
    RemedyCode.COMPILER: "install a C compiler, such as `apt-get install -y build-essential` or"
    " `dnf install -y gcc`, or name one by CC",
    RemedyCode.CXX_COMPILER: "install a C++ compiler, such as `apt-get install -y g++` or `dnf"
    " install -y gcc-c++`, or name one by CXX",
    RemedyCode.HEADERS: "install the headers of the Python that runs, such as `apt-get install -y"
    " python3.12-dev` or `dnf install -y python3.12-devel`; a Python of `uv python install` has its"
    " own",
    RemedyCode.DRIVER_LINK: "see where the driver's is (`ldconfig -p | grep libcuda.so`), and make"
    " a link libcuda.so to libcuda.so.1; or name a folder with libcuda.so to the linker by"
    " LIBRARY_PATH, such as lib64/stubs of a CUDA toolkit, or to Triton by TRITON_LIBCUDA_PATH",
    RemedyCode.DRIVER_FOLDER: "name the folder that has the driver's libcuda.so.1 to Triton by"
    " TRITON_LIBCUDA_PATH",
    RemedyCode.SYSTEM_RUNTIME: "let the system's be loaded, if that is newer: take the other folder"
    " out of LD_LIBRARY_PATH, or use a Python that is not conda's (`uv python install`)",
    RemedyCode.SMALLER_MODEL: "take less: a shorter --max-model-len, a smaller --max-num-seqs, a"
    " quantized model, or more GPUs by --tensor-parallel-size",
    RemedyCode.FEWER_GRAPHS: "leave more memory by a lower --gpu-memory-utilization, capture fewer"
    " graphs (cudagraph_capture_sizes of --compilation-config), or none by --enforce-eager",
    RemedyCode.MORE_SHARE: "raise --gpu-memory-utilization, if nothing else needs the GPU's memory",
    RemedyCode.LESS_SHARE: "lower --gpu-memory-utilization to the share that is free",
    RemedyCode.SHORTER_CONTEXT: "set --max-model-len to what the text says fits, or lower",
    RemedyCode.WAIT: "wait, while the log or the load of the machine shows that something is done",
    RemedyCode.ABOVE: "look above it in the log for the first error of a worker or of the engine,"
    " and explain that: `matrix explain FILE` reads a whole log",
    RemedyCode.SPLIT_EXTRAS: "if they are never installed together, declare the extras or groups as"
    " conflicting in `tool.uv.conflicts` of pyproject.toml",
    RemedyCode.SOURCES: "if it is a project of your own, name its path, its repository or its"
    " workspace in `tool.uv.sources` of pyproject.toml; else look whether the index has it under"
    " another name",
    RemedyCode.SPLIT_MEMBERS: "relax one of the two; uv resolves a workspace as a whole, so members"
    " that need different versions belong in separate projects",
}


def remedy_words(remedy: FaultRemedy, wants: str | None) -> str:
    """Return what to do, in words; "" for a remedy that has a command or words elsewhere."""
    what = clip(remedy.what or "", NAME_LIMIT)
    match remedy.code:
        case RemedyCode.NEWER_RUNTIME:
            return (
                "update it where it is, as by `conda install -c conda-forge libstdcxx-ng` (`strings"
                f" FILE | grep {what}` shows whether a libstdc++.so.6 has that version)"
            )
        case RemedyCode.TOOLKIT:
            cuda = f"CUDA {what}" if what else "the CUDA that torch is built for"
            return (
                f"install the whole toolkit of {cuda}, with nvcc, and set CUDA_HOME to its folder,"
                " as by `export CUDA_HOME=/usr/local/cuda`; where something is built from its"
                " sources, a wheel of it needs no nvcc"
            )
        case RemedyCode.OTHER_RELEASE:
            return f"install a release of {what!r} that is for the {wants} that vLLM needs"
        case RemedyCode.NEWER_MODULE:
            named = f"of {what!r}, or of what it loads," if what else "of the module"
            return f"install a release {named} that is compiled for NumPy 2, which runs with both"
    return REMEDIES.get(remedy.code, "")
