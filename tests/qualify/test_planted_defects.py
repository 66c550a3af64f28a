"""Defects that were planted in torch 2.11.0 and ran under vLLM 0.26.0, by copies of their records.

The wheels are those of `tests/planted.py`. Each ran by `matrix qualify CANDIDATE --quick` on the
CPU. What does not decide (packages, most defaults, events) was cut from the copies.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from made import Told
from matrix.catalog.releases_file import load_releases
from matrix.qualify.candidate_plan import narrowed
from matrix.qualify.engine import qualify
from matrix.qualify.model import Qualification
from matrix.record.model import Platform
from matrix.record.reader import read
from matrix.report.qualify.markdown import page
from matrix.report.qualify.text import lines
from matrix.rules.expectations_file import load_expectations
from qualifications import ask, context

FOLDER = Path(__file__).parent / "planted"
ASKED = ("small_startup",)  # as --quick asks
BASELINE = FOLDER / "py311-torch211-vllm026.json"


def told(path: Path) -> Told:
    return path, narrowed(read(path), ASKED)


@cache
def qualified(defect: str) -> Qualification:
    [path] = FOLDER.glob(f"py311-torch*-vllm026.{defect}.json")
    key = read(path).version("torch")
    assert key is not None
    judging = replace(context(load_expectations()), releases=load_releases())
    query = ask(candidate=key, baseline="2.11.0", platforms=(Platform.CPU,), cases=ASKED)
    return qualify(query, [told(BASELINE), told(path)], judging)


@pytest.mark.parametrize(
    ("defect", "status", "words"),
    [
        (
            "aot-key",
            1,
            (
                "cold  num_compiled_artifacts_saved      3->5 (expected 3)",
                "cold  aot_autograd.autograd_cache_miss  3->5 (expected 3)",
            ),
        ),
        (
            "fx-key",
            1,
            (
                "Inductor's cache of graphs misses in a second process what the first one saved",
                "the baseline's hits under the same vLLM, so torch changed: py311-",
                "0 regressions, 0 repairs, 1 drift in 1 case",
                "warm  inductor.fxgraph_cache_hit  1->0 (expected 1)  cache_check",
            ),
        ),
        (
            "cpp-key",
            1,
            (
                "2 cases of 1 cell compared: 0 regressions, 0 repairs, 2 drifts in 2 cases",
                "the warm start of 2 cases writes more compiled code than the baseline's is",
                "known to under the same vLLM, so torch changed; see below",
                "warm  caches.compiled.new_files  0->7 (expected 0), 0->9 (expected 0)  small_",
                "small_startup[dense]: 18 files of compiled code, 260 KiB; the baseline's wrote",
            ),
        ),
        (
            "codegen",
            1,
            (
                "AssertionError: buffer buf<n> is freed before its last use @ torch/_inductor",
                "py311-torch2111rc6-vllm026 on cpu, starts cold: small_startup[dense]",
            ),
        ),
        (
            "fx-load",
            1,
            (
                "AOTAutograd's cache misses in a second process what the first one saved",
                "FXGraphCacheMiss @ torch/_functorch/_aot_autograd/aot_autograd_result.py:load",
                "py311-torch2111rc5-vllm026 on cpu, starts warm: small_startup[dense]",
            ),
        ),
        (
            "caches-off",
            1,
            (
                "AOTAutograd's cache is off: a second process does not use it; the baseline's hits",
                "Inductor's cache of graphs is off: a second process does not use it",
                "torch._functorch.config.enable_autograd_cache: true, now false",
                "torch._inductor.config.fx_graph_cache: true, now false",
                "RuntimeError: The compiled artifact is not serializable.",
            ),
        ),
        (
            "static-shapes",
            0,
            (
                "Inductor generates other code of as many nodes and kernels as at the baseline in",
                "small_startup[dense], small_startup[moe]; see below",
                "Numbers of Inductor that changed, which are not judged\n  cold  caches.compiled.",
                "  cold  caches.generated.bytes  109516->108425  small_startup[dense]\n",
            ),
        ),
        (
            "no-fusion",
            0,
            (
                "Inductor fuses less: of as many nodes as at the baseline it generates more",
                "(20 instead of 19, 22 instead of 21) in small_startup[dense], small_startup[moe]",
                "torch._inductor.config.max_fusion_size: 64, now 1",
                "cold  generated_cpp_vec_kernel_count  16->22          small_startup[dense]",
            ),
        ),
    ],
)
def test_a_planted_defect_is_found_by_its_own_reason(
    defect: str, status: int, words: tuple[str, ...]
) -> None:
    found = qualified(defect)
    text = lines(found)
    for line in words:
        assert line in text, text
    assert found.exit_status == status
    assert page(found)


@pytest.mark.parametrize("defect", ["aot-key", "fx-key", "no-fusion"])
def test_the_same_code_has_the_same_bytes(defect: str) -> None:
    """A key changes no byte of the code; more kernels are named as what they are."""
    assert "generates other code" not in lines(qualified(defect))


def test_a_torch_that_cannot_compile_has_no_cache_check() -> None:
    assert "torch.compile alone" not in lines(qualified("codegen"))


def test_a_cache_that_is_off_is_named_before_its_symptom() -> None:
    text = lines(qualified("caches-off"))
    assert text.index("AOTAutograd's cache is off") < text.index("is not serializable")
