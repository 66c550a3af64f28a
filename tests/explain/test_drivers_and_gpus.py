"""What a text says of a machine: no driver, an older one, a GPU by its name."""

import pytest

from explained import apart, commands, explained, lines, only
from matrix.explain.model import FaultKind, RemedyCode

NEWEST = apart("0.33.0", "2.14.0", "cuda-python>=13")
CUDA_12 = apart("0.19.1", "2.10.0")
NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"
NO_LIBRARY = "ImportError: {}: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize("library", ["libcuda.so.1", "libnvidia-ml.so.1"])
def test_a_driver_that_is_not_there_is_no_old_one(library: str) -> None:
    text = NO_LIBRARY.format(library)
    assert [remedy.code for remedy in only(text).remedies] == [RemedyCode.SOME_DRIVER]
    shown = lines(text)
    assert shown["means"] == (
        f"{library} is the NVIDIA driver's: it is not installed, or is not passed into the"
        " container"
    )
    assert shown["releases"].startswith("no torch from 2.9.0 to 2.15.0 brings it; ")
    assert shown["to do"].startswith("install the NVIDIA driver, or use a machine with a GPU; ")


def test_a_driver_whose_nvml_is_not_there_is_missing_too() -> None:
    answer = only("pynvml.NVMLError_LibraryNotFound: NVML Shared Library Not Found")
    assert answer.fault.subject == "libnvidia-ml.so.1"
    assert [remedy.code for remedy in answer.remedies] == [RemedyCode.SOME_DRIVER]


def test_torchs_words_for_no_driver_are_known() -> None:
    answer = only("RuntimeError: Found no NVIDIA driver on your system. Please check that you have")
    assert answer.fault.subject == "libcuda.so.1"
    assert [remedy.code for remedy in answer.remedies] == [RemedyCode.SOME_DRIVER]


def test_a_library_that_every_torch_brings_comes_with_a_new_environment() -> None:
    assert commands(only(NO_LIBRARY.format("libcudnn.so.9"))) == [NEWEST]


@pytest.mark.parametrize(
    ("library", "first"), [("libnvrtc.so.12", CUDA_12), ("libnvrtc.so.13", NEWEST)]
)
def test_a_library_of_some_torch_comes_with_that_torch(library: str, first: str) -> None:
    assert commands(only(NO_LIBRARY.format(library))) == [first]


@pytest.mark.parametrize(
    ("name", "architecture", "first"),
    [
        ("NVIDIA GeForce RTX 5090", "sm_120", NEWEST),
        ("rtx 5090", "sm_120", NEWEST),
        ("V100", "sm_70", CUDA_12),
        ("Tesla T4", "sm_75", NEWEST),
        ("RTX 6000 Ada", "sm_89", NEWEST),
    ],
)
def test_the_gpu_that_a_text_names_is_the_one_without_a_kernel(
    name: str, architecture: str, first: str
) -> None:
    text = f"{NO_KERNEL}; GPU {name}, vllm 0.11.0"
    assert lines(text)["means"].startswith(
        f"the GPU, {name}, is {architecture}, and what is installed has no code for it"
    )
    assert commands(only(text)) == [first]


def test_two_forms_of_one_name_are_one_gpu() -> None:
    text = f"{NO_KERNEL} on our H100 box, NVIDIA H100 80GB HBM3"
    assert lines(text)["means"].startswith("the GPU, H100, is sm_90, ")


@pytest.mark.parametrize("name", ["NVIDIA A100-SXM4-80GB", "A100-80GB", "NVIDIA A100-PCIE-40GB"])
def test_the_form_and_the_memory_of_a_gpu_may_follow_its_name(name: str) -> None:
    assert " A100, is sm_80, and " in lines(f"{NO_KERNEL} on {name}")["means"]


@pytest.mark.parametrize("more", ["A100 and H100", "device_name=NVIDIA_H100", "B1000", "v1.A100"])
def test_other_words_are_no_gpu(more: str) -> None:
    assert "does not name" in lines(f"{NO_KERNEL}: {more}")["means"]


def test_the_build_of_torch_that_a_text_names_is_the_installed_one() -> None:
    assert commands(only(f"{NO_KERNEL} on an H100, torch 2.10.0+cu128")) == [NEWEST]
    named = commands(only(f"torch 2.10.0+cu128: {NO_LIBRARY.format('libtorch_cuda.so')}"))
    assert named == [CUDA_12, NEWEST]


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("v100", "v100 is sm_70, a GPU that CUDA knows since 11.0 or earlier and up to before"),
        ("H100", "H100 is sm_90, a GPU that CUDA knows since 11.8"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 is sm_90, a GPU that CUDA knows since 11.8"),
        (
            "NVIDIA A100-SXM4-80GB",
            "NVIDIA A100-SXM4 is sm_80, a GPU that CUDA knows since 11.0 or earlier",
        ),
    ],
)
def test_the_name_of_a_gpu_alone_is_answered(name: str, means: str) -> None:
    (answer,) = explained(name)
    assert (answer.fault.kind, answer.known) == (FaultKind.NO_KERNEL, True)
    assert lines(name)["means"].startswith(means)


def test_a_word_that_names_nothing_stays_unknown() -> None:
    assert [answer.known for answer in explained("v101")] == [False]


def test_a_newer_minor_release_has_two_drivers() -> None:
    text = "torch==2.15.0\nThe NVIDIA driver on your system is too old (found version 13000)."
    assert lines(text)["means"] == (
        "the driver runs programs of CUDA up to 13.0, and what is installed needs a newer minor"
        " release, as CUDA 13.2 (driver 595.45.04 is that of CUDA 13.2 itself, and driver 580.65.06"
        " runs it by minor-version compatibility, without PTX), or a CUDA that is not known here"
    )


LISTED = (
    "UserWarning: Found GPU0 {} which is of cuda capability {}. Minimum and Maximum cuda capability"
    " supported by this version of PyTorch is ({}) - ({})"
)


@pytest.mark.parametrize(
    ("gpu", "capability", "first", "last", "is_fine"),
    [
        ("NVIDIA GB10", "12.1", "8.0", "12.0", True),
        ("NVIDIA B300", "10.3", "8.0", "10.0", True),
        ("NVIDIA GB10", "12.1", "5.0", "9.0", False),
        ("Tesla P100-PCIE-16GB", "6.0", "7.0", "12.0", False),
        ("Tesla V100-SXM2-16GB", "7.0", "7.5", "9.0", False),
        ("Orin", "8.7", "5.0", "8.6", False),  # of its major, but code for Tegra is its own
    ],
)
def test_a_gpu_after_the_last_one_of_torchs_list_is_fine_within_a_major(
    gpu: str, capability: str, first: str, last: str, *, is_fine: bool
) -> None:
    text = LISTED.format(gpu, capability, first, last)
    assert (lines(text)["to do"] == "nothing has to change") is is_fine
    assert lines(text)["means"].startswith("a warning alone: ") is is_fine


def test_the_gpu_of_one_line_of_collect_env_has_its_processor() -> None:
    report = "GPU models and configuration : GPU 0: {}\nNvidia driver version : 580.126.09\n"
    missing = NO_LIBRARY.format("libcudart.so.12")
    # The index has torch of CUDA 12 for aarch64 without CUDA.
    assert commands(only(report.format("NVIDIA GB10") + missing)) == [NEWEST]
    assert commands(only(report.format("NVIDIA H100 80GB HBM3") + missing)) == [CUDA_12, NEWEST]


def test_another_libcuda_than_the_drivers_is_named_as_such() -> None:
    error = "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error {}"
    mixed = error.format("803: system has unsupported display driver / cuda driver combination")
    assert [remedy.code for remedy in only(mixed).remedies] == [RemedyCode.OWN_DRIVER]
    assert "(CUDA's error 803)" in lines(mixed)["means"]
    forward = error.format("804: forward compatibility was attempted on non supported HW")
    found = only(f"Nvidia driver version: 570.133.07\n{forward}")
    assert commands(found) == [CUDA_12]
    codes = [remedy.code for remedy in found.remedies]
    assert codes == [RemedyCode.INSTALL, RemedyCode.NEWER_DRIVER, RemedyCode.OWN_DRIVER]


def test_a_driver_that_no_torch_of_the_text_asks_for_has_the_drivers_of_both_majors() -> None:
    old = "The NVIDIA driver on your system is too old (found version 11040)."
    assert lines(old)["means"].endswith(
        "is of CUDA 12, which takes driver 525.60.13 or newer, or of CUDA 13, which takes driver"
        " 580.65.06 or newer"
    )
    assert lines(old)["to do"] == "install driver 580.65.06 or newer"
    named = lines(f"torch==2.10.0\n{old}")
    assert named["means"].endswith("is of CUDA 12, which takes driver 525.60.13 or newer")
    assert named["to do"] == "install driver 525.60.13 or newer"
    newer = lines(f"torch==2.13.0\n{old}")
    assert newer["means"].endswith("is of CUDA 13, which takes driver 580.65.06 or newer")
    assert newer["releases"].startswith("torch 2.11.0 to 2.15.0 and vLLM 0.20.0 to 0.33.0")


def test_a_driver_that_does_not_know_the_gpu_is_the_one_to_replace() -> None:
    text = f"{NO_KERNEL}\nGPU 0: NVIDIA B300 SXM6 AC\nNvidia driver version: {{}}"
    assert lines(text.format("570.133.20"))["to do"] == "install driver 575 or newer"
    assert commands(only(text.format("580.95.05"))) == [NEWEST]


@pytest.mark.parametrize(
    "text",
    [
        "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 570.124",
        "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch",
        "pynvml.NVMLError_LibRmVersionMismatch: RM has detected an NVML/RM version mismatch.",
    ],
)
def test_a_driver_that_was_updated_takes_a_restart(text: str) -> None:
    assert [remedy.code for remedy in only(text).remedies] == [RemedyCode.SAME_DRIVER]
    shown = lines(text)
    assert shown["means"].startswith("NVML, a library of the NVIDIA driver, is of another version ")
    assert shown["to do"].startswith("restart the machine, ")


@pytest.mark.parametrize(("gpu", "capability"), [("Tesla P40", "6.1"), ("Tesla M60", "5.2")])
def test_a_gpu_that_triton_refuses_takes_another_gpu(gpu: str, capability: str) -> None:
    text = (
        f"RuntimeError: Found {gpu} which is too old to be supported by the triton GPU compiler,"
        " which is used as the backend. Triton only supports devices of CUDA Capability >= 7.0,"
        f" but your device is of CUDA capability {capability}"
    )
    arch = f"sm_{capability.replace('.', '')}"
    assert lines(text)["means"] == (
        f"the GPU is {arch}, and Triton, to which torch.compile hands its kernels, compiles for"
        " GPUs of compute capability 7.0 or newer"
    )
    assert lines(text)["to do"] == "take a GPU of compute capability 7.0 or newer"


@pytest.mark.parametrize("more", ["", "vllm==0.27.0\n", "torch==2.13.0\n"])
def test_a_companion_of_torch_is_installed_and_not_built(more: str) -> None:
    file = "/x/torchaudio/lib/_torchaudio.abi3.so"
    text = f"{more}OSError: {file}: undefined symbol: torch_library_impl"
    expected = "uv pip install torch==2.13.0 torchvision==" if more else "uv venv vllm-"
    assert commands(only(text))[0].startswith(expected)
    assert "build " not in lines(text)["to do"]


def test_cudas_name_of_an_old_driver_is_one_too() -> None:
    text = "RuntimeError: Error in function 'TopKMaskLogits': cudaErrorInsufficientDriver (35)"
    assert only(text).fault.kind is FaultKind.OLD_DRIVER
