"""Faults that no release answers: of the machine, its tools, its memory, and of NCCL."""

import pytest

from explained import commands, explained, kinds, lines, only
from matrix.explain.model import FaultKind, Meaning
from matrix.report.explain import five

MACHINE = "the machine causes it, whichever pair is installed"
DEVICES = (
    "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling"
    " NumCudaDevices() that might have already set an error? Error 802: system not yet initialized"
)
NO_GPU = "RuntimeError: No CUDA GPUs are available"
ENGINE = "RuntimeError: Engine core initialization failed. See root cause above."
WAITING = (
    "INFO 02-22 23:21:42 [shm_broadcast.py:548] No available shared memory broadcast block found in"
    " 60 seconds. This typically happens when some processes are hanging."
)
OUT_OF_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total"
    " capacity of 23.64 GiB of which 18.00 MiB is free. Including non-PyTorch memory, this process"
    " has {} GiB memory in use."
)
NCCL = (
    "torch.distributed.DistBackendError: NCCL error in: /pytorch/NCCLUtils.hpp:268, unhandled"
    " system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.21.5"
)
SEGMENT = "NCCL WARN Error while creating shared memory segment /dev/shm/nccl-a (size 9637888)"


@pytest.mark.parametrize(
    ("text", "meaning", "to_do"),
    [
        (f"RuntimeError: {DEVICES}", Meaning.NOT_READY, "systemctl status nvidia-fabricmanager"),
        (
            "torch.AcceleratorError: CUDA error: system not yet initialized",
            Meaning.NOT_READY,
            "systemctl status nvidia-fabricmanager",
        ),
        (NO_GPU, Meaning.NO_GPU, "nvidia-smi -L"),
        ("CUDA error: no CUDA-capable device is detected", Meaning.NO_GPU, "nvidia-smi -L"),
        ("NVMLError_DriverNotLoaded: Driver Not Loaded", Meaning.NOT_LOADED_DRIVER, "nvidia-smi"),
        ("CUDA error: uncorrectable ECC error encountered", Meaning.BROKEN_GPU, "dmesg | grep"),
        (
            "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
            Meaning.BUSY_GPU,
            "nvidia-smi lists the processes",
        ),
        ("RuntimeError: CUDA unknown error - this", Meaning.UNKNOWN_STATE, "nvidia-smi -L"),
        ("RuntimeError: Failed to infer device type, p", Meaning.NO_PLATFORM, "nvidia-smi -L"),
        (
            "Failed to find C compiler. Please specify via CC environment variable or set x.",
            Meaning.NO_COMPILER,
            "install a C compiler",
        ),
        (
            "InvalidCxxCompiler: No working C++ compiler found in cpp.cxx: (None, 'g++')",
            Meaning.NO_CXX_COMPILER,
            "install a C++ compiler",
        ),
        (
            "main.c:6:10: fatal error: Python.h: No such file or directory",
            Meaning.NO_HEADERS,
            "install the headers of the Python that runs",
        ),
        (
            "/usr/bin/ld: cannot find -lcuda: No such file or directory",
            Meaning.NO_DRIVER_LINK,
            "see where the driver's is (`ldconfig -p | grep libcuda.so`)",
        ),
        (
            "OSError: CUDA_HOME environment variable is not set. Please set it to your CUDA root.",
            Meaning.NO_TOOLKIT,
            "install the whole toolkit of the CUDA that torch is built for",
        ),
        ("/bin/sh: 1: nvcc: not found", Meaning.NO_TOOLKIT, "install the whole toolkit"),
        (
            "RuntimeError: Could not find nvcc and default cuda_home='/usr' doesn't exist",
            Meaning.NO_TOOLKIT,
            "install the whole toolkit",
        ),
        (
            "a.h(12): fatal error: curand_kernel.h: No such file or directory",
            Meaning.PART_OF_TOOLKIT,
            "install the whole toolkit",
        ),
        (
            "RuntimeError: Ninja is required to load C++ extensions (pip install ninja to get it)",
            Meaning.NO_NINJA,
            "uv pip install ninja installs it; and activate the environment",
        ),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'",
            Meaning.NO_NINJA,
            "uv pip install ninja",
        ),
        ("ld: cannot find crti.o: No such file", Meaning.NO_C_HEADERS, "install a C compiler"),
        (
            "clang: fatal error: 'stdlib.h' file not found",
            Meaning.NO_C_HEADERS,
            "install a C compiler",
        ),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/sbin/ldconfig'",
            Meaning.NO_LDCONFIG,
            "name the folder that has the driver's libcuda.so.1 to Triton by TRITON_LIBCUDA_PATH",
        ),
        (
            "CalledProcessError: Command '['/sbin/ldconfig', '-p']' returned non-zero status 1",
            Meaning.NO_LDCONFIG,
            "name the folder",
        ),
        (
            "RuntimeError: CUDA driver initialization failed, you might not have a CUDA gpu.",
            Meaning.NO_GPU,
            "nvidia-smi -L",
        ),
        (
            "AssertionError: Error in memory profiling. Initial free memory 1 GiB",
            Meaning.CHANGED_GPU,
            "nvidia-smi",
        ),
        (
            "ERROR: Unexpected bus error. It might be caused by insufficient shared memory (shm).",
            Meaning.SHARED_MEMORY,
            "df -h /dev/shm shows its size: a container needs `--ipc=host`",
        ),
        (
            "OSError: [Errno 28] No space left on device: '/psm_1234'",
            Meaning.SHARED_MEMORY,
            "df -h",
        ),
        ("OSError: [Errno 28] No space left on device: '/x'", Meaning.NO_SPACE, "df -h shows"),
    ],
)
def test_the_machine_is_named_and_no_pair(text: str, meaning: Meaning, to_do: str) -> None:
    answer = only(text)
    assert answer.meaning is meaning
    assert (answer.torch, answer.vllm, answer.pairs) == (None, None, ())
    found = lines(text)
    assert found["releases"] == MACHINE
    assert found["to do"].startswith(to_do)
    assert not any("vllm" in command for command in commands(answer))


@pytest.mark.parametrize(
    "text",
    [
        "/usr/bin/ld: cannot find -lcudart",
        "fatal error: custom_ops.hpp: No such file or directory",
        "fatal error: curses.h: No such file or directory",
        "fatal error: cudnn.h: No such file or directory",
        "INFO Free memory on device (70/79 GiB) on startup. Desired GPU memory utilization is 0.9",
        "RuntimeError: CUDA error: an illegal memory access was encountered",
        "CUDA_HOME is set to /usr/local/cuda",
        "RuntimeError: the file system not yet initialized",
    ],
)
def test_what_looks_alike_is_not_known(text: str) -> None:
    assert kinds(text) == [FaultKind.UNKNOWN]


def test_the_toolkit_is_of_the_cuda_of_the_torch_that_a_text_names() -> None:
    text = "OSError: CUDA_HOME environment variable is not set.\ntorch==2.10.0"
    assert "the nvcc of a CUDA toolkit of CUDA 12.8, and" in lines(text)["means"]
    assert lines(text)["to do"].startswith("install the whole toolkit of CUDA 12.8, with nvcc")


def test_a_warning_of_the_toolkit_does_not_hide_the_error() -> None:
    text = (
        "WARNING CUDA_HOME is not set\n"
        "/opt/m/_C.abi3.so: undefined symbol: _ZN3c106ivalue14ConstantString6createEv\n"
    )
    assert kinds(text) == [FaultKind.UNDEFINED_SYMBOL]


def test_a_toolkit_of_another_cuda_than_torchs() -> None:
    text = (
        "RuntimeError: \nThe detected CUDA version (11.8) mismatches the version that was used to"
        " compile\nPyTorch (12.8). Please make sure to use the same CUDA versions.\n"
    )
    found = lines(text)
    assert found["means"] == (
        "the nvcc that was found is of CUDA 11.8, and torch was built for CUDA 12.8"
    )
    assert found["to do"].startswith("install the whole toolkit of CUDA 12.8")


@pytest.mark.parametrize(
    ("own", "meaning", "first"),
    [
        ("23.60", Meaning.GPU_FULL, "take less: a shorter --max-model-len"),
        ("12.00", Meaning.HELD_GPU, "nvidia-smi lists the processes that hold its memory"),
    ],
)
def test_who_holds_the_memory_of_a_gpu(own: str, meaning: Meaning, first: str) -> None:
    answer = only(OUT_OF_MEMORY.format(own))
    assert answer.meaning is meaning
    assert five(answer)[-1][11:].startswith(first)


@pytest.mark.parametrize(
    "before",
    [
        "Capturing CUDA graphs (PIECEWISE):  40%|####      | 27/67 [00:02<00:03, 12.2it/s]\n",
        '  File "/x/vllm/v1/worker/gpu_model_runner.py", line 1, in capture_model\n    a()\n',
    ],
)
def test_memory_that_ends_while_graphs_are_captured(before: str) -> None:
    answer = only(before + OUT_OF_MEMORY.format("23.60"))
    assert answer.meaning is Meaning.GRAPHS_FULL
    assert "--enforce-eager" in five(answer)[-1]


def test_memory_that_ends_after_the_capture_is_the_models() -> None:
    before = (
        "Capturing CUDA graphs (PIECEWISE): 100%|##########| 67/67 [00:05<00:00, 12.2it/s]\n"
        "INFO Graph capturing finished in 5 secs, took 0.61 GiB\n"
        '  File "/x/vllm/v1/worker/gpu_model_runner.py", line 1, in execute_model\n    a()\n'
    )
    assert only(before + OUT_OF_MEMORY.format("23.60")).meaning is not Meaning.GRAPHS_FULL


def test_a_request_that_does_not_fit_takes_a_shorter_context() -> None:
    text = (
        "ValueError: To serve at least one request with the models's max seq len (131072), (16.00"
        " GiB KV cache is needed, which is larger than the available KV cache memory (5.31 GiB)."
    )
    found = lines(text)
    assert found["to do"].startswith("set --max-model-len to what the text says fits, or lower")
    assert found["releases"].startswith("that depends on the model, its settings and the GPU")


def test_a_gpu_that_cannot_be_seen_follows_from_its_cause() -> None:
    for cause in (
        f"UserWarning: CUDA initialization: {DEVICES}",
        "libcuda.so.1: cannot open shared object file: No such file or directory",
        "The NVIDIA driver on your system is too old (found version 12040).",
    ):
        (answer,) = explained(f"{cause}\n{NO_GPU}")
        assert answer.meaning is not Meaning.NO_GPU


def test_a_platform_that_is_not_found_follows_from_its_cause() -> None:
    platform = "RuntimeError: Failed to infer device type, please set the environment variable"
    assert only(f"{NO_GPU}\n{platform}").meaning is Meaning.NO_GPU
    assert only(f"NVML Shared Library Not Found\n{platform}").meaning is Meaning.DRIVER


def test_memory_and_a_disk_are_two_faults() -> None:
    text = f"{OUT_OF_MEMORY.format('23.60')}\nOSError: [Errno 28] No space left on device: '/x'"
    assert {answer.meaning for answer in explained(text)} == {Meaning.GPU_FULL, Meaning.NO_SPACE}


def test_a_failure_of_nccl_follows_from_a_full_dev_shm() -> None:
    assert only(NCCL).meaning is Meaning.NCCL_SYSTEM
    assert lines(NCCL)["to do"].startswith("export NCCL_DEBUG=INFO makes NCCL log the cause")
    assert only(f"{SEGMENT}\n{NCCL}").meaning is Meaning.SHARED_MEMORY


def test_processes_with_other_versions_of_nccl() -> None:
    warned = (
        "NCCL WARN Mismatched NCCL version detected : rank 1 version 22705 rank 0 version 22703"
    )
    answer = only(f"{warned}\n{NCCL}")
    assert answer.meaning is Meaning.NCCL_VERSIONS
    assert commands(answer) == ["python -c 'import torch; print(torch.cuda.nccl.version())'"]


@pytest.mark.parametrize(
    ("error", "meaning", "first"),
    [
        ("unhandled cuda error", Meaning.NCCL_CALL, "export NCCL_DEBUG=INFO"),
        ("internal error - please report", Meaning.NCCL_CALL, "export NCCL_DEBUG=INFO"),
        ("remote process exited or there was a", Meaning.NCCL_PEER, "look above it in the log"),
    ],
)
def test_nccl_does_not_say_why(error: str, meaning: Meaning, first: str) -> None:
    text = NCCL.replace("unhandled system error", error)
    assert only(text).meaning is meaning
    assert lines(text)["releases"] == "that depends on the cause"
    assert lines(text)["to do"].startswith(first)


def test_two_processes_with_one_gpu() -> None:
    usage = NCCL.replace("unhandled system error", "invalid usage")
    last = "Last error:\nDuplicate GPU detected : rank 0 and rank 1 both on CUDA device 1b000"
    assert only(f"{usage}\n{last}").meaning is Meaning.NCCL_ONE_GPU


def test_a_report_gives_way_to_what_it_reports() -> None:
    alone = only(ENGINE)
    assert alone.meaning is Meaning.REPORTS
    assert "explain FILE" in five(alone)[-1]
    assert kinds(f"{OUT_OF_MEMORY.format('23.60')}\n{ENGINE}") == [FaultKind.MEMORY]
    unknown = f"Traceback (most recent call last):\n  File 'x'\nKeyError: 'weight'\n{ENGINE}"
    assert kinds(unknown) == [FaultKind.UNKNOWN]


def test_a_process_that_waits_does_not_mean_a_small_dev_shm() -> None:
    answer = only(WAITING)
    assert answer.meaning is Meaning.WAITING
    assert five(answer)[-1][11:].startswith("wait, while")
    assert kinds(f"{WAITING}\n{NO_GPU}") == [FaultKind.GPU_STATE]
    assert only(f"{WAITING}\n{ENGINE}").meaning is Meaning.REPORTS


def test_a_torch_for_the_cpu_and_another_cudnn() -> None:
    built = only("AssertionError: Torch not compiled with CUDA enabled")
    assert built.meaning is Meaning.NO_CUDA_TORCH
    attribute = "AttributeError: module 'torch._C' has no attribute '_cuda_setDevice'"
    assert only(attribute).meaning is Meaning.NO_CUDA_TORCH
    cudnn = (
        "RuntimeError: cuDNN version incompatibility: PyTorch was compiled  against (9, 1, 0) but"
        " found runtime version (8, 9, 2)."
    )
    assert lines(cudnn)["to do"].startswith(
        "unset LD_LIBRARY_PATH, or remove the other libcudnn.so.9 from it"
    )
    nccl = "ERROR Failed to load NCCL library from libnccl.so.2. It is expected if you are not"
    assert only(nccl).meaning is Meaning.NOT_BROUGHT


def test_cuda_that_was_used_before_a_fork() -> None:
    text = "RuntimeError: Cannot re-initialize CUDA in forked subprocess. To use CUDA with"
    assert lines(text)["releases"] == "the program causes it, whichever pair is installed"
    assert commands(only(text)) == ["export VLLM_WORKER_MULTIPROC_METHOD=spawn"]


def test_fewer_gpus_than_were_asked_for() -> None:
    found = lines("torch.AcceleratorError: CUDA error: invalid device ordinal")
    assert found["releases"] == "that depends on the machine, and on how many GPUs are asked for"
    assert found["to do"].startswith("nvidia-smi -L lists the GPUs that the driver sees")


@pytest.mark.parametrize(
    ("folder", "meaning"),
    [
        ("/home/user/anaconda3/envs/x/bin/../lib/", Meaning.OTHER_RUNTIME),
        ("/opt/conda/lib/", Meaning.OTHER_RUNTIME),
        ("/lib/x86_64-linux-gnu/", Meaning.OLD_SYSTEM),
        ("/usr/lib64/", Meaning.OLD_SYSTEM),
        ("", Meaning.OLD_SYSTEM),
    ],
)
def test_whose_libstdcxx_is_too_old(folder: str, meaning: Meaning) -> None:
    text = (
        f"ImportError: {folder}libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by"
        " /x/site-packages/a/b.so)"
    )
    answer = only(text)
    assert answer.meaning is meaning
    is_system = meaning is Meaning.OLD_SYSTEM
    first = "take a system" if is_system else "update it where it is, as by `conda install"
    assert five(answer)[-1][11:].startswith(first)


@pytest.mark.parametrize(
    ("text", "meaning", "to_do"),
    [
        (
            "Bfloat16 is only supported on GPUs with compute capability of at least 8.0.",
            Meaning.NO_BFLOAT16,
            "start vLLM with `--dtype half`; or take a GPU of compute capability 8.0 or newer",
        ),
        (
            "ptxas a.ptx, line 91; error : Feature '.bf16' requires .target sm_80 or higher",
            Meaning.NO_BFLOAT16,
            "start vLLM with `--dtype half`",
        ),
        (
            'ValueError("type fp8e4nv not supported in this architecture. The supported fp8 are")',
            Meaning.NO_FP8,
            "take a model, or a KV cache (--kv-cache-dtype), that is not of FP8; or take a GPU of",
        ),
    ],
)
def test_a_data_type_that_the_gpu_does_not_have(text: str, meaning: Meaning, to_do: str) -> None:
    assert only(text).meaning is meaning
    assert lines(text)["to do"].startswith(to_do)
