"""Names that another version of a Python package has, and NumPy's ABI."""

import pytest

from explained import apart, commands, kinds, lines, only
from matrix.explain.model import FaultKind, Meaning
from matrix.report.explain import five

NEWEST = apart("0.33.0", "2.14.0", "cuda-python>=13")
TRANSFORMERS = (
    "ImportError: cannot import name 'A' from 'transformers.utils' (/x/transformers/utils.py)"
)
TORCH = "ImportError: cannot import name 'Lib' from 'torch.library' (/x/torch/library.py)"
FRAME = '  File "/x/site-packages/{}/a.py", line 1, in <module>\n'
NUMPY = (
    "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.2.6 as it may crash.\n"
)


def raised_in(package: str, error: str) -> str:
    """Return a traceback whose last file is one of a package."""
    return f"Traceback (most recent call last):\n{FRAME.format(package)}{error}"


@pytest.mark.parametrize(
    ("vllm", "releases", "first"),
    [
        (
            "0.11.0",
            (
                "vLLM 0.11.0 needs transformers>=4.55.2, without an upper bound; vLLM 0.11.1 needs"
                " transformers<5"
            ),
            (
                "uv pip install --upgrade-package transformers vllm==0.11.0"
                " 'transformers>=4.55.2,<5'"
            ),
        ),
        (
            "0.33.0",
            "vLLM 0.33.0 needs transformers>=5.16.1,<5.21.0",
            (
                "uv pip install --upgrade-package transformers vllm==0.33.0"
                " 'transformers>=5.16.1,<5.21.0'"
            ),
        ),
        (
            "9.9.9",
            (
                "the text names no vLLM that is known here; the newest, 0.33.0, needs"
                " transformers>=5.16.1,<5.21.0"
            ),
            NEWEST,
        ),
    ],
)
def test_a_name_of_transformers_gets_the_range_of_the_vllm(
    vllm: str, releases: str, first: str
) -> None:
    text = f"vllm=={vllm}\n{TRANSFORMERS}"
    assert lines(text)["releases"] == releases
    assert commands(only(text))[0] == first


def test_a_name_of_torch_gets_the_pin_of_the_vllm() -> None:
    text = f"vllm==0.19.1\n{TORCH}"
    assert lines(text)["releases"] == "vLLM 0.19.1 needs torch==2.10.0"
    assert commands(only(text)) == [apart("0.19.1", "2.10.0"), NEWEST]
    assert lines(TORCH)["means"] == (
        "the code asks for torch.library.Lib, which the torch that is installed does not have: it"
        " is for another one"
    )


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        (TORCH, "torch.library.Lib"),
        (
            "No module named 'torch._inductor.custom_graph_pass'",
            "torch._inductor.custom_graph_pass",
        ),
        ("module 'torch.library' has no attribute 'infer_schema'", "torch.library.infer_schema"),
        (
            "cannot import name 'triton_key' from 'triton.compiler.compiler' (/x/compiler.py)",
            "triton.compiler.compiler.triton_key",
        ),
        (
            "Qwen2Tokenizer has no attribute all_special_tokens_extended. Did you mean: 'a'?",
            "all_special_tokens_extended",
        ),
    ],
)
def test_what_is_missing_is_named(text: str, subject: str) -> None:
    answer = only(text)
    assert (answer.meaning, answer.fault.subject) == (Meaning.NO_SUCH_NAME, subject)


@pytest.mark.parametrize(
    "text",
    [
        "cannot import name 'a' from partially initialized module 'torch' (most likely due to a",
        "cannot import name 'a' from 'torchaudio.b' (/x/b.py)",
        "No module named 'torch'",
        "No module named 'torch.nn'; 'torch' is not a package",
        "No module named 'torch._C._distributed_c10d'; 'torch._C' is not a package",
        "partially initialized module 'torch.library' has no attribute 'x' (most likely due to a",
        "module 'torch.ops.other' has no attribute 'a'",
    ],
)
def test_what_another_cause_has_is_not_known(text: str) -> None:
    assert kinds(f"ImportError: {text}") == [FaultKind.UNKNOWN]


@pytest.mark.parametrize(
    ("importer", "means", "to_do"),
    [
        ("vllm", "vllm asks for", None),
        (
            "trl",
            "trl asks for",
            "install a release of 'trl' that is for the transformers that vLLM needs",
        ),
        ("transformers", "the code asks for", None),
    ],
)
def test_who_asks_is_the_last_of_the_traceback(
    importer: str, means: str, to_do: str | None
) -> None:
    frames = FRAME.format("evil") + FRAME.format(importer) + FRAME.format("transformers")
    if importer == "transformers":
        frames = FRAME.format("transformers")
    answer = only(f"Traceback (most recent call last):\n{frames}{TRANSFORMERS}")
    *_, shown, _, _, last = five(answer)
    assert shown[11:].startswith(means)
    assert (to_do in last) if to_do else ("install a release" not in last)


def test_numpy_names_the_package_that_loads_the_module() -> None:
    text = f"{NUMPY}\nTraceback:\n{FRAME.format('cv2')}AttributeError: _ARRAY_API not found\n"
    found = lines(text)
    assert found["means"] == (
        "a module that cv2 loads was compiled for another NumPy than the one that is installed,"
        " 2.2.6"
    )
    assert found["to do"].startswith("install a release of 'cv2', or of what it loads,")
    assert commands(only(text)) == ["uv pip install 'numpy<2'"]
    assert lines(NUMPY)["means"].startswith("some module was compiled for another NumPy")
    unavailable = lines("RuntimeError: Numpy is not available")["means"]
    assert unavailable.endswith("is installed, or no NumPy is installed")


def test_a_model_that_transformers_does_not_know() -> None:
    text = (
        "ValueError: The checkpoint you are trying to load has model type `new_model` but"
        " Transformers does not recognize this architecture."
    )
    assert "does not know the model type new_model" in lines(text)["means"]
    assert commands(only(text)) == [NEWEST]
    named = only(f"vLLM API server version 0.19.1\n{text}")
    assert commands(named) == [
        (
            "uv pip install --upgrade-package transformers vllm==0.19.1"
            " 'transformers>=4.56.0,!=5.0.*,!=5.1.*,!=5.2.*,!=5.3.*,!=5.4.*,!=5.5.0,<5.18.0'"
        ),
        NEWEST,
    ]


def test_an_operator_that_is_not_there_is_of_an_extension() -> None:
    text = "AttributeError: module 'torch.ops._C' has no attribute 'rms_norm'"
    assert only(text).meaning is Meaning.NO_OPERATOR


def test_a_triton_is_that_of_a_torch() -> None:
    text = raised_in(
        "torch",
        "ImportError: cannot import name 'triton_key' from 'triton.compiler.compiler' (/x/a.py)",
    )
    found = lines(f"vllm==0.19.1\n{text}")
    assert found["means"].startswith(
        "torch asks for triton.compiler.compiler.triton_key, which the"
    )
    assert found["releases"] == "each torch requires a triton of its own"
    assert commands(only(f"vllm==0.19.1\n{text}")) == [apart("0.19.1", "2.10.0"), NEWEST]


def test_the_bindings_of_cuda_share_files_with_another_package() -> None:
    text = raised_in(
        "nvidia_cutlass_dsl",
        "AttributeError: module 'cuda.bindings.runtime' has no attribute 'cudaLibrary_t'",
    )
    found = lines(f"vllm==0.32.0\n{text}")
    assert found["means"].endswith(
        "which the cuda-bindings that is installed does not have: it is for another one"
    )
    assert found["releases"] == (
        "vLLM 0.32.0 goes with cuda-python>=13: cuda-python and cuda-bindings share files"
    )
    assert commands(only(f"vllm==0.32.0\n{text}"))[0] == apart(
        "0.32.0", "2.13.0", "cuda-python>=13"
    )
    assert lines(f"vllm==0.19.1\n{text}")["releases"] == "vLLM 0.19.1 does not name cuda-bindings"
