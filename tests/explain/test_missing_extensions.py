"""An extension of vLLM that did not load: which vLLM's links with which torch."""

from pathlib import Path

import pytest

from attributions import bad, record
from commanded import make, written
from explained import apart, commands, kinds, lines, only
from matrix.explain.model import FaultKind
from matrix.record.model import Rung, RungResult
from matrix.report.explain import five

NEWEST = apart("0.33.0", "2.14.0", "cuda-python>=13")
INDEXER = (
    "RuntimeError: Sparse Attention Indexer CUDA op requires DeepGEMM support in the current vLLM"
    " environment."
)
TEXTS = (
    INDEXER,
    "RuntimeError: DeepGEMM backend is not available or outdated.",
    "ModuleNotFoundError: No module named 'deep_gemm'",
    "ModuleNotFoundError: No module named 'vllm.third_party.deep_gemm'",
    "WARNING [x.py:408] Module vllm.third_party.deep_gemm was found but failed to import",
)


@pytest.mark.parametrize("text", TEXTS)
def test_it_says_with_which_torch_the_extension_of_each_vllm_links(text: str) -> None:
    found = lines(text)
    assert found["means"] == "vLLM needs DeepGEMM here, and it did not load"
    assert found["releases"] == (
        "on Python 3.12, DeepGEMM links: that of vLLM 0.20.0 to 0.26.0 with torch 2.11.0, that of"
        " vLLM 0.27.0 to 0.27.1, 0.30.0 to 0.32.0 with torch 2.13.0, that of vLLM 0.28.0 to 0.29.0"
        " with torch 2.13.0 to 2.15.0, that of vLLM 0.33.0 with torch 2.11.0 to 2.15.0; no DeepGEMM"
        " is in vLLM 0.14.0 to 0.19.1"
    )
    assert found["to do"] == NEWEST


@pytest.mark.parametrize(
    ("vllm", "torch", "why", "first"),
    [
        (
            "0.32.0",
            "2.14.1",
            ": that of vLLM 0.32.0 does not link with torch 2.14.1",
            apart("0.32.0", "2.13.0"),
        ),
        ("0.32.0", "2.13.0", "", apart("0.32.0", "2.13.0")),
        ("0.19.1", "2.10.0", ": vLLM 0.19.1 does not bring it", NEWEST),
    ],
)
def test_it_holds_the_versions_of_the_text_against_that(
    vllm: str, torch: str, why: str, first: str
) -> None:
    text = f"vllm=={vllm}\ntorch=={torch}\n{INDEXER}"
    assert lines(text)["means"] == f"vLLM needs DeepGEMM here, and it did not load{why}"
    assert commands(only(text))[0].startswith(first.partition(" 'cuda")[0])


@pytest.mark.parametrize(
    "text", ["No module named 'deep_gemm_other'", "ImportError: DeepGEMM kernels are slow"]
)
def test_another_error_is_none_of_it(text: str) -> None:
    assert FaultKind.MISSING_EXTENSION not in kinds(text)


def test_words_of_it_are_the_nearest_kind() -> None:
    assert lines("RuntimeError: DeepGEMM kernels are slow")["means"].endswith(
        "the nearest kind that is: an extension of vLLM that did not load"
    )


def test_a_cause_of_several_cells_is_written_once(tmp_path: Path) -> None:
    runs = [bad("2.12.0"), record("2.11.0"), bad("2.13.0")]
    line = five(only("KeyError: None", [written(tmp_path, *runs)]))[3]
    assert line.count("torch, since 2.12") == line.count("the same attribution") == 1


def test_a_record_shows_it_in_whichever_words(tmp_path: Path) -> None:
    rung = RungResult(rung=Rung.STARTS_COLD, ok=False, reason=INDEXER)
    place = written(tmp_path, make(rungs=(rung,), cases=()))
    records = only(TEXTS[1], [place]).records
    assert records is not None
    assert [shown.cell for shown in records] == ["py311-torch210-vllm019"]


OPERATOR = "AttributeError: '_OpNamespace' '{}' object has no attribute '{}'"


@pytest.mark.parametrize("namespace", ["_C", "_C_cache_ops", "_moe_C"])
def test_an_operator_that_did_not_load_is_of_the_core(namespace: str) -> None:
    found = lines(OPERATOR.format(namespace, "rms_norm"))
    assert found["means"].startswith(f"torch lacks an operator of {namespace}, a namespace of vLLM")
    assert found["releases"].startswith(
        "on Python 3.12, the core links: that of vLLM 0.14.0 to 0.16.0 with torch 2.9.0 to 2.9.1, "
    )
    assert found["to do"].startswith("look above it in the log for `Failed to import from vllm`")
    assert found["to do"].endswith(NEWEST)


def test_an_operator_of_another_extension_is_of_that_one() -> None:
    found = lines(OPERATOR.format("_flashmla_C", "sparse_prefill_fwd"))
    assert found["releases"].startswith("on Python 3.12, FlashMLA links: ")


def test_a_torch_with_which_the_core_does_not_link_is_named() -> None:
    text = f"vllm==0.26.0\ntorch==2.13.0\n{OPERATOR.format('_C', 'rms_norm')}"
    assert lines(text)["means"].endswith("those of vLLM 0.26.0 do not link with torch 2.13.0")
    assert commands(only(text))[0] == apart("0.26.0", "2.11.0")


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("ImportError('/x/vllm/_C.abi3.so: undefined symbol: _ZN3c105x')", "undefined_symbol"),
        (
            "ImportError('libcudart.so.12: cannot open shared object file: No such file')",
            "missing_library",
        ),
        ("ModuleNotFoundError(\"No module named 'vllm._C'\")", "missing_module"),
    ],
)
def test_why_the_extension_did_not_load_is_the_answer(cause: str, kind: str) -> None:
    text = f"Failed to import from vllm._C with {cause}\n{OPERATOR.format('_C', 'rms_norm')}"
    assert [str(found) for found in kinds(text)] == [kind]


def test_an_operator_of_others_is_none_of_it() -> None:
    text = OPERATOR.format("my_ops", "f")
    assert kinds(text) == [FaultKind.UNKNOWN]
