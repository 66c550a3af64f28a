"""From an error's text to its answer: each kind of fault, and what nothing here knows."""

from dataclasses import replace

import pytest

from explained import apart, commands, explained, kinds, lines, only, read
from matrix.explain.model import FaultKind, KnownReleases, Meaning
from matrix.report.explain import five

LOGGER = "_ZN3c1013MessageLoggerC1EPKciib"
SYMBOL = f"ImportError: /x/site-packages/vllm/_C.abi3.so: undefined symbol: {LOGGER}"
NO_LIBRARY = "ImportError: {}: cannot open shared object file: No such file or directory"
NEWEST = apart("0.33.0", "2.14.0", "cuda-python>=13")
CUDA_12 = apart("0.19.1", "2.10.0")


def test_a_symbol_is_answered_in_five_lines() -> None:
    assert lines(SYMBOL) == {
        "signature": f"ImportError: _C.abi3.so: undefined symbol: {LOGGER}",
        "means": "_C.abi3.so was built for a torch that exports c10::MessageLogger::MessageLogger("
        "char const*, int, int, bool), but the loaded torch does not",
        "releases": "torch 2.10.0 alone exports it; vLLM 0.17.0 to 0.19.1 need it (_C.abi3.so,"
        " _flashmla_C.abi3.so); pairs with both: vLLM 0.17.0 to 0.19.1 with torch 2.10.0",
        "records": "none was looked through",
        "to do": CUDA_12,
    }


@pytest.mark.parametrize(
    ("text", "kind", "meaning", "subject", "first"),
    [
        (LOGGER, FaultKind.UNDEFINED_SYMBOL, Meaning.OTHER_TORCH, LOGGER, CUDA_12),
        (
            "libcudart.so.13",
            FaultKind.MISSING_LIBRARY,
            Meaning.OTHER_CUDA,
            "libcudart.so.13",
            NEWEST,
        ),
        (
            NO_LIBRARY.format("libcudart.so.12"),
            FaultKind.MISSING_LIBRARY,
            Meaning.OTHER_CUDA,
            "libcudart.so.12",
            CUDA_12,
        ),
        (
            "\tlibcudart.so.13 => not found",
            FaultKind.MISSING_LIBRARY,
            Meaning.OTHER_CUDA,
            "libcudart.so.13",
            NEWEST,
        ),
        (
            NO_LIBRARY.format("libnccl.so.2"),
            FaultKind.MISSING_LIBRARY,
            Meaning.NOT_BROUGHT,
            "libnccl.so.2",
            NEWEST,
        ),
        (
            NO_LIBRARY.format("libtorch_cuda.so"),
            FaultKind.MISSING_LIBRARY,
            Meaning.NO_CUDA_TORCH,
            "libtorch_cuda.so",
            NEWEST,
        ),
        (
            NO_LIBRARY.format("libcuda.so.1"),
            FaultKind.MISSING_LIBRARY,
            Meaning.DRIVER,
            "libcuda.so.1",
            None,
        ),
        ("GLIBC_2.34", FaultKind.OLD_LIBRARY, Meaning.OLD_SYSTEM, "GLIBC_2.34", NEWEST),
        (
            "The NVIDIA driver on your system is too old (found version 12080).",
            FaultKind.OLD_DRIVER,
            Meaning.NEWER_CUDA,
            None,
            CUDA_12,
        ),
        (
            "CUDA error: no kernel image is available for execution on the device",
            FaultKind.NO_KERNEL,
            Meaning.UNNAMED_GPU,
            None,
            "nvidia-smi --query-gpu=compute_cap --format=csv",
        ),
        (
            "x with CUDA capability sm_70 is not compatible with the current PyTorch installation.",
            FaultKind.NO_KERNEL,
            Meaning.ARCHITECTURE,
            None,
            CUDA_12,
        ),
        (
            "ptxas fatal : Value 'sm_121a' is not defined for option 'gpu-name'",
            FaultKind.NO_KERNEL,
            Meaning.OLD_ASSEMBLER,
            "ptxas",
            NEWEST,
        ),
        (
            "No matching distribution found for torch==2.9.1",
            FaultKind.CONFLICT,
            Meaning.NO_SUCH_VERSION,
            "torch",
            apart("0.16.0", "2.9.1"),
        ),
        (
            "No matching distribution found for vllm==9.9",
            FaultKind.CONFLICT,
            Meaning.NO_SUCH_VERSION,
            "vllm",
            NEWEST,
        ),
        (
            "operator torchvision::nms does not exist",
            FaultKind.TORCHVISION,
            Meaning.OTHER_COMPANION,
            "torchvision::nms",
            NEWEST,
        ),
        (
            "flashinfer-cubin version (0.6.11) does not match flashinfer version (0.6.12).",
            FaultKind.FLASHINFER,
            Meaning.VERSIONS_DIFFER,
            "flashinfer-cubin",
            "uv pip install flashinfer-python==0.6.12 flashinfer-cubin==0.6.12",
        ),
        (
            "flashinfer-jit-cache (0.6.9+cu130) != flashinfer (0.6.14) version mismatch",
            FaultKind.FLASHINFER,
            Meaning.VERSIONS_DIFFER,
            "flashinfer-jit-cache",
            "uv pip uninstall flashinfer-jit-cache",
        ),
        (
            "Compiling model again due to a load failure from /x/model, reason: No module named x",
            FaultKind.RECOMPILES,
            Meaning.NOT_LOADED,
            "load failure",
            None,
        ),
        (
            "warm  num_compiled_artifacts_saved 4",
            FaultKind.RECOMPILES,
            Meaning.COMPILED_AGAIN,
            "num_compiled_artifacts_saved",
            None,
        ),
        (
            "AssertionError: warm_artifacts_saved: got 0",
            FaultKind.RECOMPILES,
            Meaning.LOADED_ALL,
            "num_compiled_artifacts_saved",
            None,
        ),
    ],
)
def test_each_kind_is_known_by_its_text(
    text: str, kind: FaultKind, meaning: Meaning, subject: str | None, first: str | None
) -> None:
    answer = only(text)
    assert (answer.fault.kind, answer.meaning, answer.fault.subject) == (kind, meaning, subject)
    if first is not None:
        assert commands(answer)[0] == first


@pytest.mark.parametrize(
    ("symbol", "meaning"),
    [
        ("_ZN5torch3jit17parseSchemaOrNameERKSsb", Meaning.OLD_STRING),
        ("_Z24silu_and_mul_nvfp4_quantRN2at6TensorES1_S1_S1_", Meaning.OWN),
        ("_ZN3c103hip19getCurrentHIPStreamEa", Meaning.ROCM),
        ("cuTensorMapEncodeTiled", Meaning.DRIVER),
        ("ncclCommWindowRegister", Meaning.CUDA),
        ("__nvJitLinkComplete_12_4", Meaning.CUDA),
        ("_PyThreadState_UncheckedGet", Meaning.PYTHON),
        ("_ZSt28__throw_bad_array_new_lengthv", Meaning.RUNTIME),
        ("_ZN3c104cuda9SetDeviceEi", Meaning.NOWHERE),
        ("_ZN3foo3barEv", Meaning.UNKNOWN),
    ],
)
def test_whose_symbol_it_is(symbol: str, meaning: Meaning) -> None:
    answer = only(f"x.so: undefined symbol: {symbol}")
    assert answer.meaning is meaning
    assert answer.known is (meaning is not Meaning.UNKNOWN)


def test_a_symbol_of_a_third_package_is_built_again() -> None:
    text = "/x/site-packages/lmcache/c_ops.abi3.so: undefined symbol: _ZN3c104cuda9SetDeviceEab"
    answer = only(f"ImportError: {text}")
    assert commands(answer)[0].endswith("--reinstall-package lmcache lmcache")
    other = only("flash_attn_2_cuda.so: undefined symbol: _ZN3c104cuda9SetDeviceEab")
    assert commands(other)[0].endswith("--reinstall-package flash-attn flash-attn")
    # Nobody knows which package that is.
    assert "no-binary" not in commands(only("x.so: undefined symbol: _ZN3c104cuda9SetDeviceEab"))[0]


def test_a_mac_and_ldd_write_it_otherwise() -> None:
    mac = f"symbol not found in flat namespace '_{LOGGER}'"
    referenced = f"Symbol not found: _{LOGGER}\n  Referenced from: <AB-12> /x/vllm/_C.abi3.so"
    ldd = f"undefined symbol: {LOGGER}\t(/x/vllm/_C.abi3.so)"
    files = [None, "_C.abi3.so", "_C.abi3.so"]
    for text, file in zip((mac, referenced, ldd), files, strict=True):
        fault = only(text).fault
        assert (fault.subject, fault.file) == (LOGGER, file)


def test_the_versions_of_a_text_decide_what_to_install() -> None:
    text = f"PyTorch version: 2.11.0+cu130\nvLLM Version   : 0.18.1\n{SYMBOL}"
    assert commands(only(text)) == [
        apart("0.18.1", "2.10.0"),
        CUDA_12,
    ]
    kept = f"vLLM API server version 0.24.0\n{NO_LIBRARY.format('libcudart.so.13')}"
    assert commands(only(kept))[0] == apart("0.24.0", "2.11.0")
    by_vllm = "vllm==0.19.1\noperator torchvision::nms does not exist"
    vision = "torch==2.10.0\noperator torchvision::nms does not exist"
    assert commands(only(by_vllm)) == commands(only(vision))
    assert commands(only(vision)) == [
        "uv pip install torch==2.10.0 torchvision==0.25.0 torchaudio==2.10.0"
    ]


def test_the_versions_in_a_log_of_compose_are_read() -> None:
    text = "torch      2.10.0\nvllm   0.18.1\nloading\n" + NO_LIBRARY.format("libcudart.so.12")
    log = "".join(f"vllm-1  | {line}\n" for line in text.splitlines())
    assert read(log).versions == read(text).versions
    assert commands(only(log))[0] == apart("0.18.1", "2.10.0")
    assert read("torch-1  | 2.10.0\nvllm  | 0.18.1\n").versions == read("").versions


def test_another_library_of_cuda_is_loaded_first() -> None:
    text = "/x/libcusparse.so.12: version `libnvJitLink.so.12' not found (required by /x/y.so)"
    answer = only(text)
    assert (answer.meaning, commands(answer)) == (Meaning.CUDA, [])
    assert lines(text)["to do"].startswith("unset LD_LIBRARY_PATH")


def test_a_driver_without_a_version_is_held_against_the_torch_of_the_text() -> None:
    text = "torch==2.8.0\nCUDA driver version is insufficient for CUDA runtime version"
    answer = only(text)
    assert answer.operands == {"driver": "525.60.13", "cuda": "12"}
    text = "CUDA driver version is insufficient for CUDA runtime version"
    assert (only(text).operands, only(text).torch) == ({}, None)
    found = lines(text)
    assert found["means"] == "the driver is too old, and what is installed is of a newer CUDA"
    assert found["releases"] == "not known"
    assert found["to do"] == (
        "nvidia-smi --query-gpu=driver_version --format=csv names the driver: give it to matrix"
        " recommend --driver; or install a newer NVIDIA driver"
    )


@pytest.mark.parametrize(
    ("driver", "means", "first"),
    [
        ("575.64.03", "is 575.64.03, and what is installed is of CUDA 13, which takes", CUDA_12),
        ("535.183.01", "is 535.183.01, and what is installed is of CUDA 13, which takes", CUDA_12),
        ("590.10", "is 590.10, and what is installed needs a newer minor release, as", NEWEST),
        ("999.1", "is 999.1, and what is installed needs a newer CUDA, which is not", NEWEST),
        ("390.48", "is too old, and what is installed is of a newer CUDA", None),
    ],
)
def test_the_driver_that_a_text_names_is_held_against_the_releases(
    driver: str, means: str, first: str | None
) -> None:
    text = "CUDA driver version is insufficient for CUDA runtime version\n{}: {}   CUDA Version: 12"
    for name in ("Nvidia driver version", "NVIDIA-SMI 1   Driver Version"):
        found = only(text.format(name, driver))
        assert means in lines(text.format(name, driver))["means"]
        installs = [line for line in commands(found) if line.startswith("uv ")]
        assert installs == ([first] if first else [])


@pytest.mark.parametrize(
    ("gpus", "architecture"),
    [
        ("GPU 0: NVIDIA GeForce RTX 5090\n", "sm_120"),
        ("GPU 0: Tesla V100-SXM2-32GB\nGPU 1: Tesla V100-SXM2-32GB\n", "sm_70"),
        ("GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\n", "sm_90"),
        ("GPU 0: NVIDIA H100 PCIe\nGPU 1: NVIDIA A100-PCIE-40GB\n", None),
        ("GPU 0: Somebody's\n", None),
        ("GPU 0: 5090\n", None),
    ],
)
def test_the_gpu_that_a_text_names_is_the_one_without_code(
    gpus: str, architecture: str | None
) -> None:
    text = f"GPU models and configuration:\n{gpus}CUDA error: no kernel image is available for"
    answer = only(f"{text} execution on the device")
    assert answer.operands.get("architecture") == architecture
    expected = Meaning.UNNAMED_GPU if architecture is None else Meaning.ARCHITECTURE
    assert answer.meaning is expected


def test_the_number_of_a_gpu_alone_is_explained() -> None:
    asked = "no kernel image is available for execution on the device"
    assert "explain its sm_ number" in lines(asked)["to do"]
    named = only("sm_61\n")
    assert (named.fault.kind, named.fault.has) == (FaultKind.NO_KERNEL, "sm_61")
    assert lines("sm_61")["means"] == (
        "sm_61 is a GPU that CUDA knows since 11.0 or earlier and up to before 13.0"
    )


@pytest.mark.parametrize(
    "text",
    [
        "--index-url=https://a.example/ 1 needs torch==2.10.0, and torch 2.11.0 is installed",
        "foo 1@https://a.example/x.whl requires torch==2.10.0, but you have torch 2.11.0",
        "foo 1 needs --pre==1, and --pre 2 is installed",
        "foo 1 needs torch>=2;@https://a.example/x.whl, and torch 2.11.0 is installed",
        "foo 1.0\x07 requires torch==2.10.0, but you have torch 2.11.0 which is incompatible.",
    ],
)
def test_a_command_takes_no_option_and_no_address_from_a_text(text: str) -> None:
    answer = only(text)
    assert answer.fault.kind is FaultKind.CONFLICT
    assert set(commands(answer)) <= {NEWEST, CUDA_12}


@pytest.mark.parametrize(("folder", "builds"), [("flash_attn", True), ("other_name", False)])
def test_only_a_package_that_is_known_is_built_again(folder: str, builds: bool) -> None:
    """A folder of a text may be called as somebody else's project is."""
    symbol = "_ZN3c1013MessageLoggerC1EPKciib"
    text = f"ImportError: /venv/site-packages/{folder}/x.so: undefined symbol: {symbol}"
    assert any("--no-binary" in command for command in commands(only(text))) is builds


def test_a_gpu_that_no_cuda_here_knows_is_named() -> None:
    text = "x with CUDA capability sm_199 is not compatible with the current PyTorch installation."
    assert "that GPU is unknown here" in lines(text)["means"]
    old = "x with CUDA capability sm_61 is not compatible with the current PyTorch installation."
    assert lines(old)["means"].endswith("CUDA knows it since 11.0 or earlier and up to before 13.0")


UNREAD = "torch 2.7.0 to 2.8.0 and vLLM 0.9.0 to 0.13.0 were not read"


@pytest.mark.parametrize(
    ("gpu", "code", "first"),
    [
        (
            "sm_70",
            (
                "for x86_64 torch 2.9.0 to 2.10.0 and vLLM 0.14.0 to 0.19.1 have code for it;"
                " no wheel for aarch64 that was read has code for it"
            ),
            CUDA_12,
        ),
        (
            "sm_110",
            (
                "for aarch64 torch 2.11.0 to 2.15.0 and vLLM 0.20.0 to 0.33.0 have code for it;"
                " no wheel for x86_64 that was read has code for it"
            ),
            NEWEST,
        ),
        ("sm_61", "no wheel for x86_64 and aarch64 that was read has code for it", None),
        ("sm_199", "no wheel for x86_64 and aarch64 that was read has code for it", None),
    ],
)
def test_the_wheels_that_were_read_say_for_which_gpus_they_have_code(
    gpu: str, code: str, first: str | None
) -> None:
    text = f"x with CUDA capability {gpu} is not compatible with the current PyTorch installation."
    assert lines(text)["releases"] == f"{code}; {UNREAD}"
    assert commands(only(text))[:1] == ([first] if first else [])


def test_a_wheel_that_nobody_read_for_one_processor_is_named_with_it() -> None:
    text = "x with CUDA capability sm_70 is not compatible with the current PyTorch installation."
    answer = only(text)
    x86, arm = answer.code
    every = KnownReleases(holds=arm.torch.asked, asked=arm.torch.asked)
    none = KnownReleases(holds=(), asked=())
    other = replace(arm, torch=none, unread_torch=every)
    releases = five(replace(answer, code=(x86, other)))[2]
    assert "; for x86_64 torch 2.7.0 to 2.8.0 and vLLM 0.9.0 to 0.13.0 were not read" in releases
    assert releases.endswith(
        "; for aarch64 torch 2.9.0 to 2.15.0 and vLLM 0.9.0 to 0.13.0 were not read"
    )


def test_a_ptxas_is_of_the_cuda_of_a_release() -> None:
    text = "ptxas fatal : Value 'sm_121a' is not defined for option 'gpu-name'"
    assert lines(text)["releases"] == (
        "torch 2.11.0 to 2.15.0 and vLLM 0.20.0 to 0.33.0 are built with a CUDA that knows it"
    )


def test_the_wheels_that_were_read_say_which_glibc_they_need() -> None:
    assert lines("GLIBC_2.34")["releases"] == (
        "vLLM 0.20.0 to 0.20.2 need that version or a newer one; no torch from 2.9.0 to 2.15.0"
        " needs it; vLLM 0.33.0 with torch 2.14.0 needs glibc 2.28"
    )
    # No torch that was read takes an older one.
    assert commands(only("GLIBC_2.28")) == []
    assert lines("GLIBC_2.28")["releases"].endswith("every torch from 2.9.0 to 2.15.0 needs it")
    other = lines("GLIBCXX_3.4.29")["releases"]
    assert other == "no vLLM from 0.14.0 to 0.33.0 needs that version or a newer one"


@pytest.mark.parametrize(
    ("found", "first"), [("11060", None), ("12010", CUDA_12), ("12060", CUDA_12), ("13000", NEWEST)]
)
def test_a_driver_runs_what_its_cuda_runs(found: str, first: str | None) -> None:
    text = f"The NVIDIA driver on your system is too old (found version {found})."
    assert commands(only(text))[:1] == ([first] if first else [])


def test_what_excludes_a_pin_is_what_another_vllm_pins() -> None:
    text = "vllm 0.19.1 needs torch==2.10.0, and vllm-ascend 0.19.1rc1 needs torch==2.9.0"
    assert commands(only(text)) == [
        apart("0.13.0", "2.9.0"),
        CUDA_12,
    ]
    asked = "vllm 0.26.0 needs torch==2.11.0, and torch==2.9.1 was asked for"
    assert commands(only(asked))[0] == apart("0.16.0", "2.9.1")
    pins = "vllm 0.33.0 needs flashinfer-python==0.7.2.post1, and x 1 needs flashinfer-python<0.7"
    assert commands(only(pins))[0] == apart("0.30.0", "2.13.0")


def test_several_errors_are_each_answered_once_in_their_order() -> None:
    kernel = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
    library = NO_LIBRARY.format("libcudart.so.13")
    text = f"{library}\n{SYMBOL}\nnoise\n{library}\n{kernel}\n{SYMBOL}"
    assert kinds(text) == [
        FaultKind.MISSING_LIBRARY,
        FaultKind.UNDEFINED_SYMBOL,
        FaultKind.NO_KERNEL,
    ]
    assert [answer.fault.kind for answer in explained(text)] == kinds(text)


def test_an_unknown_error_beside_known_ones_is_named_as_such() -> None:
    text = f"{SYMBOL}\nTraceback (most recent call last):\n  File 'x'\nKeyError: 'weight'\n"
    assert kinds(text) == [FaultKind.UNDEFINED_SYMBOL, FaultKind.UNKNOWN]
    wrapped = f"{SYMBOL}\nRuntimeError: Engine core initialization failed. See root cause above.\n"
    assert kinds(wrapped) == [FaultKind.UNDEFINED_SYMBOL]


def test_more_errors_than_are_answered_are_counted() -> None:
    text = "\n".join(f"x.so: undefined symbol: _ZN3c10{number}aEv" for number in range(50))
    found = read(text)
    assert len(found.faults) == 8
    assert found.more == 42


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("RuntimeError: the driver does not answer nvidia-smi.", FaultKind.OLD_DRIVER),
        ("ModuleNotFoundError: No module named 'vllm'", FaultKind.CONFLICT),
        ("nvcc fatal : Unsupported gpu architecture 'compute_90a'", FaultKind.NO_KERNEL),
        ("KeyError: 'weight'", None),
        ("hello", None),
    ],
)
def test_what_is_not_known_says_so_with_the_nearest(text: str, nearest: FaultKind | None) -> None:
    answer = only(text)
    assert (answer.fault.kind, answer.meaning) == (FaultKind.UNKNOWN, Meaning.UNKNOWN)
    assert answer.nearest == nearest
    assert lines(text)["means"].startswith("not known here")
    assert ("the nearest kind" in lines(text)["means"]) is (nearest is not None)


def test_an_unknown_symbol_and_library_say_the_nearest_name() -> None:
    means = lines("x.so: undefined symbol: _ZN3c104cuda9SetDeviceEi")["means"]
    assert means.endswith("the nearest that is known: c10::cuda::SetDevice(signed char, bool)")
    means = lines("libcudartt.so.13")["means"]
    assert means == "nothing here knows libcudartt.so.13; the nearest name that is: libcudart.so.13"


def test_an_empty_text_has_no_fault() -> None:
    for text in ("", " \n\t\n"):
        assert read(text).faults == ()
        assert explained(text) == ()


def test_a_release_that_an_index_has_is_not_the_one_that_another_asks_for() -> None:
    text = (
        "No solution found when resolving dependencies:\n  ╰─▶ Because only a==0.2.0 is available"
        " and a==0.2.0 depends on torch>=2.1,<2.5, and vllm==0.8.5 depends on torch==2.6.0, we can"
        " conclude that your requirements are unsatisfiable."
    )
    assert lines(text)["means"] == (
        "no version fulfils both: a 0.2.0 needs torch>=2.1,<2.5 and vllm 0.8.5 needs torch==2.6.0"
    )
