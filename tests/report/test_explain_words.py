"""The words of `matrix explain`: what a fault means, which releases, as a person reads them."""

import json
import sys
from unittest import mock

import pytest

from explained import explained, lines, only, read
from failure_texts import FAILURES
from matrix.report.explain import five
from matrix.report.explain_json import to_json

LIBRARY = "x: {}: cannot open shared object file"
NEW_TORCH = "torch 2.11.0 to 2.15.0"


@pytest.mark.parametrize(
    ("text", "means", "releases"),
    [
        (
            "a/_C.abi3.so: undefined symbol: _ZN3c103hip19getCurrentHIPStreamEa",
            (
                "ROCm's build of torch has c10::hip::getCurrentHIPStream(signed char), and the"
                " torch that is installed is another build"
            ),
            "no torch from 2.9.0 to 2.15.0 exports it; no vLLM from 0.14.0 to 0.33.0 needs it",
        ),
        (
            "a/_C.abi3.so: undefined symbol: _PyGen_Send",
            "_PyGen_Send is Python's: _C.abi3.so was built for another Python",
            "no torch from 2.9.0 to 2.15.0 exports it; no vLLM from 0.14.0 to 0.33.0 needs it",
        ),
        (
            "libtorch_cuda.so: undefined symbol: ncclCommRegister",
            (
                "ncclCommRegister is of libnccl.so.2, and another one than torch brings is loaded"
                " first, or none is"
            ),
            "no torch from 2.9.0 to 2.15.0 exports it; no vLLM from 0.14.0 to 0.33.0 needs it",
        ),
        (
            LIBRARY.format("libcudart.so.13"),
            (
                "a file that is loaded needs libcudart.so.13: builds of torch for CUDA 13.0 and"
                " 13.2 bring it, and the one that is installed does not"
            ),
            (
                f"{NEW_TORCH} bring it; vLLM 0.20.0 to 0.33.0 need it; pairs with both: vLLM"
                " 0.20.0 to 0.26.0 with torch 2.11.0, vLLM 0.27.0 to 0.32.0 with torch 2.13.0,"
                " vLLM 0.33.0 with torch 2.14.0"
            ),
        ),
        (
            LIBRARY.format("libnccl.so.2"),
            (
                "libnccl.so.2 comes with the packages that torch requires, and they are not"
                " installed, or are not found"
            ),
            "every torch from 2.9.0 to 2.15.0 brings it; no vLLM from 0.14.0 to 0.33.0 needs it",
        ),
        (
            "version `GLIBC_2.34' not found (required by /x/vllm/_C.abi3.so)",
            "the system has an older library than GLIBC_2.34, which _C.abi3.so was built against",
            (
                "vLLM 0.20.0 to 0.20.2 need that version or a newer one; no torch from 2.9.0 to"
                " 2.15.0 needs it; vLLM 0.33.0 with torch 2.14.0 needs glibc 2.28"
            ),
        ),
        (
            "version `libcudart.so.12' not found (required by x.so)",
            (
                "x.so needs libcudart.so.12 as torch brings it, and another one than torch brings"
                " is loaded first"
            ),
            "vLLM 0.14.0 to 0.19.1 need it",
        ),
        (
            "The NVIDIA driver on your system is too old (found version 12080).",
            (
                "the driver runs programs of CUDA up to 12.8, and what is installed is of CUDA 13,"
                " which takes driver 580.65.06 or newer"
            ),
            f"{NEW_TORCH} and vLLM 0.20.0 to 0.33.0 are built for that CUDA or newer",
        ),
        (
            "ptxas fatal : Value 'sm_121a' is not defined for option 'gpu-name'",
            (
                "the GPU is sm_121a, and the ptxas that compiles for it does not know it: CUDA"
                " knows it since 12.9"
            ),
            f"{NEW_TORCH} and vLLM 0.20.0 to 0.33.0 are built with a CUDA that knows it",
        ),
        (
            "no kernel image is available for execution on the device",
            "what is installed has no code for the GPU, which the text does not name",
            "that depends on the GPU",
        ),
        (
            "vllm 0.19.1 needs torch==2.10.0, and vllm-ascend 0.19.1rc1 needs torch==2.9.0",
            (
                "no version fulfils both: vllm 0.19.1 needs torch==2.10.0 and vllm-ascend 0.19.1rc1"
                " needs torch==2.9.0"
            ),
            "vLLM 0.11.1 to 0.13.0 pin torch==2.9.0",
        ),
        (
            "No matching distribution found for torch==2.7.0+cu128",
            (
                "the index that was asked has no torch==2.7.0+cu128: builds with +cu128 are on"
                " an index of their own, PyPI has the release without it"
            ),
            "vLLM 0.9.0 to 0.9.2 pin torch==2.7.0",
        ),
        (
            "No matching distribution found for vllm==0.33.0",
            (
                "the index that was asked has no vllm==0.33.0 for this Python and platform; it is"
                " published: 0.33.0"
            ),
            "vLLM 0.33.0 is published",
        ),
        (
            "No matching distribution found for xformers==9",
            "the index that was asked has no xformers==9 for this Python and platform",
            "no vLLM from 0.9.0 to 0.33.0 pins xformers==9",
        ),
        (
            "Because a==1 depends on b and we can conclude that a==1 cannot be used.",
            "the resolver found no set of packages that fulfils all requirements",
            "which releases exclude each other is not in the text",
        ),
        (
            "torch==2.10.0 operator torchvision::nms does not exist",
            (
                "torchvision is built for another torch than the one installed, so"
                " torchvision::nms is not there"
            ),
            (
                "they go together as torchvision 0.25.0 with torch 2.10.0, torchvision 0.29.0"
                " with torch 2.14.0, torchvision 0.29.1 with torch 2.14.1 and torchvision 0.29.2"
                " with torch 2.15.0"
            ),
        ),
        (
            "operator torchvision::nms does not exist",
            (
                "torchvision is built for another torch than the one installed, so"
                " torchvision::nms is not there"
            ),
            (
                "the text names no torch; for example, torchvision 0.29.0 with torch 2.14.0,"
                " torchvision 0.29.1 with torch 2.14.1 and torchvision 0.29.2 with torch 2.15.0 go"
                " together"
            ),
        ),
        (
            "torch==2.4.0 operator torchvision::nms does not exist",
            (
                "torchvision is built for another torch than the one installed, so"
                " torchvision::nms is not there"
            ),
            (
                "the torch of the text, 2.4.0, is not known here; for example, torchvision 0.29.0"
                " with torch 2.14.0, torchvision 0.29.1 with torch 2.14.1 and torchvision 0.29.2"
                " with torch 2.15.0 go together"
            ),
        ),
        (
            "flashinfer-cubin version (0.6.13) does not match flashinfer version (0.6.14).",
            (
                "FlashInfer checks that its packages are of one version: flashinfer-cubin is"
                " 0.6.13, flashinfer-python 0.6.14"
            ),
            "vLLM 0.26.0 alone pins flashinfer-python==0.6.14, vLLM 0.25.0 to 0.25.1 pin 0.6.13",
        ),
        (
            "warm  num_compiled_artifacts_saved 4",
            (
                "a warm start saved compiled code again (4 artifacts): it compiled what its caches"
                " should hold"
            ),
            "no complete run among these records loads everything",
        ),
        (
            "warm_artifacts_saved: got 0",
            (
                "a warm start saved nothing: it loaded all that the cold start left, as it"
                " should, and the test expected otherwise"
            ),
            "none has to change",
        ),
        (
            "Compiling model again due to a load failure",
            "a warm start could not load what a cold start had compiled, and compiled it again",
            "no complete run among these records loads everything",
        ),
    ],
)
def test_what_it_means_and_which_releases(text: str, means: str, releases: str) -> None:
    found = lines(text)
    assert (found["means"], found["releases"]) == (means, releases)


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_of_the_corpus_has_words_and_json(name: str) -> None:
    answers = explained(FAILURES[name])
    data = json.loads(to_json(answers, [read(FAILURES[name])]))
    for answer, row in zip(answers, data["answers"], strict=True):
        assert [f"{key:<11}{text}" for key, text in row["text"].items()] == five(answer)
        assert row["known"] is answer.known


def test_a_name_that_nothing_can_read_stays_as_it_is() -> None:
    text = "x.so: undefined symbol: _ZN3c104cuda9SetDeviceEi"
    with mock.patch.dict(sys.modules, {"cxxfilt": None}):
        assert only(text).name is None
        assert "needs _ZN3c104cuda9SetDeviceEi, which no torch" in lines(text)["means"]
    assert only("x.so: undefined symbol: _Znot_mangled").name is None


def test_a_c_name_alone_is_a_symbol() -> None:
    assert lines("aoti_torch_get_dim")["releases"].startswith("every torch from 2.9.0 to 2.15.0")
