"""Upstream's tests are read by their syntax trees: numbers, settings, branches on torch, faults."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.rules.upstream.model import ByTorch, UpstreamCase, UpstreamFile
from matrix.rules.upstream.tests import read_tests
from matrix.rules.upstream.values import Branch, by_torch

HEAD = """
import multiprocessing as mp
from typing import NamedTuple
import pytest
import torch
import vllm.envs as envs
from torch._dynamo.utils import counters
from vllm.compilation.counter import compilation_counter
from vllm.config import CompilationConfig, CompilationMode
from vllm.utils.torch_utils import is_torch_equal_or_newer
"""

COLD_AND_WARM = """
def _run(vllm_runner):
    with vllm_runner("a/model", max_model_len=256,
                     compilation_config=CompilationConfig(mode=CompilationMode.VLLM_COMPILE)):
        pass

def _cold(vllm_runner):
    counters.clear()
    with compilation_counter.expect(num_compiled_artifacts_saved=3):
        _run(vllm_runner)
    assert counters["aot_autograd"]["total"] == 33

def test_moe_startup(monkeypatch, vllm_runner, fresh_vllm_cache):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    ctx = mp.get_context("fork")
    p = ctx.Process(target=_cold, args=(vllm_runner,))
    p.start()
    assert p.exitcode == 0, "failed"
    counters.clear()
    with compilation_counter.expect(num_compiled_artifacts_saved=0):
        _run(vllm_runner)
    assert counters["aot_autograd"]["total"] == 30
"""

SPECS = """
class Spec(NamedTuple):
    model: str
    cold: int
    warm: int = 0

SPECS = [
    pytest.param(Spec(model="a/one", cold=4, warm={warm}), id="one"),
    pytest.param({other}, id="two"),
]

def _check(vllm_runner, spec: Spec, is_cold: bool):
    old = compilation_counter.clone()
    with vllm_runner(spec.model):
        pass
    saved = compilation_counter.num_compiled_artifacts_saved - old.num_compiled_artifacts_saved
    if is_cold:
        expected = spec.cold
    else:
        expected = spec.warm
    assert saved == expected, f"got {{saved}}"

def _cold_start(vllm_runner, spec):
    _check(vllm_runner, spec, is_cold=True)

@pytest.mark.parametrize("spec", SPECS)
def test_model_startup(monkeypatch, vllm_runner, spec):
    ctx = mp.get_context("spawn") if needs_spawn() else mp.get_context("fork")
    p = ctx.Process(target=_cold_start, args=(vllm_runner, spec))
    _check(vllm_runner, spec, is_cold=False)
"""

SAVED, TOTAL = "num_compiled_artifacts_saved", "aot_autograd.total"


def read(source: str, *, startup: bool = True) -> UpstreamFile:
    return read_tests(HEAD + textwrap.dedent(source), startup=startup)


def specs(warm: str = "0", other: str = 'Spec("a/two", 5)') -> UpstreamFile:
    return read(SPECS.format(warm=warm, other=other))


def asserting(numbers: str, setup: str = "") -> UpstreamFile:
    """Return a test of one start, which asserts these numbers."""
    return read(f"""
{setup}
def test_cold(monkeypatch, vllm_runner):
    monkeypatch.setenv("VLLM_FLAG", "1")
    with vllm_runner("a/model"):
        pass
    {numbers}
""")


def numbers(case: UpstreamCase) -> dict[str, dict[str, object]]:
    return {
        start.start: {
            name: number.values.get("", dict(number.values))
            for name, number in start.numbers.items()
        }
        for start in case.starts
    }


def only(found: UpstreamFile) -> dict[str, dict[str, object]]:
    assert found.faults == ()
    (case,) = found.cases
    return numbers(case)


def test_the_child_process_is_the_cold_start_and_what_follows_is_the_warm_one() -> None:
    found = read(COLD_AND_WARM)
    assert only(found) == {"cold": {SAVED: 3, TOTAL: 33}, "warm": {SAVED: 0, TOTAL: 30}}
    (case,) = found.cases
    assert case.case == "test_moe_startup"
    assert case.environment == {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    assert case.fixtures == ("fresh_vllm_cache",)
    assert case.engine == {
        "model": "a/model",
        "max_model_len": 256,
        "compilation_config": {"mode": "CompilationMode.VLLM_COMPILE"},
    }


def test_a_start_in_the_process_of_the_test_is_cold() -> None:
    found = read("""
        from vllm import LLM

        def test_moe_compilation_cold_start(monkeypatch, use_fresh_inductor_cache):
            monkeypatch.setenv("VLLM_DISABLE_COMPILE_CACHE", "1")
            _ = LLM(model="a/model", num_gpu_blocks_override=8)
            assert counters["aot_autograd"]["autograd_cache_miss"] == 3
    """)
    assert only(found) == {"cold": {"aot_autograd.autograd_cache_miss": 3}}


def test_specs_give_a_case_each() -> None:
    found = specs()
    assert found.faults == ()
    assert {case.case: numbers(case) for case in found.cases} == {
        "test_model_startup[one]": {"cold": {SAVED: 4}, "warm": {SAVED: 0}},
        "test_model_startup[two]": {"cold": {SAVED: 5}, "warm": {SAVED: 0}},
    }
    assert [case.engine["model"] for case in found.cases] == ["a/one", "a/two"]


def test_specs_may_be_dicts_and_dataclasses() -> None:
    found = read("""
        from dataclasses import dataclass

        BASE = {"cold": 2, "warm": 0}

        @dataclass
        class More:
            cold: int

        @pytest.mark.parametrize(("spec", "more"), [({**BASE, "warm": 1}, More(cold=7))])
        def test_startup(vllm_runner, spec, more):
            with vllm_runner("a/model"):
                pass
            assert compilation_counter.num_aot_compiles == spec["warm"]
            assert compilation_counter.num_aot_artifacts_saved == more.cold
    """)
    assert only(found) == {"cold": {"num_aot_compiles": 1, "num_aot_artifacts_saved": 7}}


@pytest.mark.parametrize(
    "condition",
    [
        'is_torch_equal_or_newer("2.12.0")',
        'not (not is_torch_equal_or_newer("2.12.0"))',
        'Version(torch.__version__) >= Version("2.12.0")',
        'torch.__version__ >= "2.12.0"',
        'True and is_torch_equal_or_newer("2.12.0")',
        'not Version(torch.__version__) < Version("2.12.0")',
    ],
)
def test_a_branch_on_torch_is_a_condition(condition: str) -> None:
    by_choice = specs(warm=f"4 if {condition} else 0")
    assert by_choice.faults == ()
    first, _ = by_choice.cases
    (_, warm) = first.starts
    number = warm.numbers[SAVED]
    assert number.values == {"<2.12.0": 0, ">=2.12.0": 4}
    assert (number.at("2.11.0"), number.at("2.12.0"), number.at("2.12.0rc1")) == (0, 4, 0)
    statements = f"""if {condition}:
        assert {COUNTER} == 4
    else:
        assert {COUNTER} == 0"""
    assert only(asserting(statements)) == {"cold": {SAVED: {"<2.12.0": 0, ">=2.12.0": 4}}}


COUNTER = "compilation_counter.num_compiled_artifacts_saved"


def test_the_flag_that_a_test_sets_decides_with_torch() -> None:
    found = read(f"""
        @pytest.mark.parametrize("mega", ["0", "1"])
        def test_moe_startup(monkeypatch, vllm_runner, mega):
            monkeypatch.setenv("VLLM_USE_MEGA_AOT_ARTIFACT", mega)
            with vllm_runner("a/model"):
                pass
            active = envs.VLLM_USE_MEGA_AOT_ARTIFACT and is_torch_equal_or_newer("2.10.0")
            if active:
                expected = 0
            else:
                expected = 30
            assert {COUNTER} == expected
    """)
    assert found.faults == ()
    assert {case.case: numbers(case) for case in found.cases} == {
        "test_moe_startup[0]": {"cold": {SAVED: 30}},
        "test_moe_startup[1]": {"cold": {SAVED: {"<2.10.0": 30, ">=2.10.0": 0}}},
    }
    assert [case.parameters for case in found.cases] == [{"mega": "0"}, {"mega": "1"}]


def test_an_early_return_on_torch_ends_one_way_only() -> None:
    found = asserting(f"""if is_torch_equal_or_newer("2.11.0"):
        assert {COUNTER} == 1
    assert compilation_counter.num_aot_compiles == 2""")
    assert only(found) == {"cold": {SAVED: {"<2.11.0": None, ">=2.11.0": 1}, "num_aot_compiles": 2}}


def test_starts_without_an_engine_are_counted_by_their_windows() -> None:
    found = read(
        """
        @pytest.mark.skipif(not is_torch_equal_or_newer("2.10.0"), reason="old")
        def test_save_and_load(monkeypatch):
            with monkeypatch.context() as m:
                m.setenv("VLLM_USE_AOT_COMPILE", "1")
                m.setenv("VLLM_CACHE_ROOT", str(1))
                with use(config), compilation_counter.expect(num_aot_compiles=1):
                    Mod()
                m.setenv("VLLM_FORCE_AOT_LOAD", "1")
                with use(config), compilation_counter.expect(num_aot_compiles=0):
                    Mod()

        @pytest.mark.parametrize("other", make())
        def test_something_else(other):
            assert other == 1
        """,
        startup=False,
    )
    assert only(found) == {"cold": {"num_aot_compiles": 1}, "warm": {"num_aot_compiles": 0}}
    (case,) = found.cases
    assert case.torch == ">=2.10.0"
    assert case.environment == {"VLLM_CACHE_ROOT": None, "VLLM_USE_AOT_COMPILE": "1"}
    assert case.starts[1].environment == {"VLLM_FORCE_AOT_LOAD": "1"}


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def test_(:\n", "this Python does not read its syntax"),
        ("match = type X[T] = int\n", "this Python does not read its syntax"),
        ("x = 1\x00\n", "this Python does not"),
        (f"x = {'(' * 5000}1{')' * 5000}\n", "this Python does not"),
        (f"x = {'-' * 100_000}1\n", "this Python does not parse it|too deep"),
        ("#" * ((1 << 20) + 1), "is larger than 1 MiB"),
        ("x = 1\n", "no number of a start was found in it"),
        (f"x = {'9' * 10_000}\n", "this Python does not|no number of a start"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(source: str, fault: str) -> None:
    found = read_tests(source, startup=True)
    assert found.cases == ()
    (line,) = found.faults
    assert any(part in line for part in fault.split("|")) and "\n" not in line


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (
            "make_spec(cold=3)",
            "a parameter of test_model_startup is not a literal: `make_spec(...)`",
        ),
        ("OTHER.spec", "a parameter of test_model_startup is not a literal: `OTHER.spec`"),
        ("lambda: 1", None),
    ],
)
def test_a_spec_that_is_not_a_literal_is_named_and_the_rest_goes_on(
    spec: str, fault: str | None
) -> None:
    found = specs(other=spec)
    assert [case.case for case in found.cases] == ["test_model_startup[one]"]
    assert found.faults and all(fault is None or fault in line for line in found.faults)


def test_a_list_of_specs_that_is_not_a_literal_is_named() -> None:
    found = read(SPECS.format(warm=0, other="Spec('a', 1)").replace("SPECS)", "make_specs())"))
    assert found.cases == ()
    (line,) = found.faults
    assert "the parameters of test_model_startup are not literals" in line
    assert line.split(":")[0].isdecimal()


@pytest.mark.parametrize(
    "number",
    ["2 * 3", "layers + 1", "compute()", "'3'", "3.0", "-1", "True", f"0x{'f' * 5000}", "1e999"],
)
def test_a_number_that_is_an_expression_is_named_and_the_rest_goes_on(number: str) -> None:
    found = specs(warm=number)
    assert {case.case: numbers(case) for case in found.cases} == {
        "test_model_startup[one]": {"cold": {SAVED: 4}},
        "test_model_startup[two]": {"cold": {SAVED: 5}, "warm": {SAVED: 0}},
    }
    (line,) = found.faults
    assert f"is not a literal number of {SAVED}" in line


AGAIN = "with vllm_runner('b'):\n        pass\n    "
ON_TORCH = (
    "if is_torch_equal_or_newer('2.12.0'):\n        with vllm_runner('b'):\n            pass\n    "
)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (f"assert {COUNTER} <= 3", "is not one comparison with =="),
        (f"assert 1 < {COUNTER} == 3", "is not one comparison with =="),
        (f"if on_rocm():\n        assert {COUNTER} == 3", "decides about numbers"),
        (f"for n in range(3):\n        assert {COUNTER} == n", "is in a statement (for)"),
        (f"assert {COUNTER} == 3\n    assert {COUNTER} == 4", "contradicts another number"),
        (f"{AGAIN}{AGAIN}assert {COUNTER} == 3", "has more starts than"),
        (f"{ON_TORCH}assert {COUNTER} == 3", "decides about more than numbers"),
        ("compilation_counter.expect(num_aot_compiles=1)", "is not the head of a with statement"),
        (f"assert {COUNTER} == (3 if is_torch_equal_or_newer('new') else 4)", "not a literal"),
        ("with compilation_counter.expect(**wanted):\n        pass", "is not a literal number"),
    ],
)
def test_what_is_not_understood_is_named(statement: str, fault: str) -> None:
    found = asserting(statement)
    assert any(fault in line for line in found.faults), found.faults


def test_an_if_that_only_running_decides_is_passed_over() -> None:
    found = asserting(f"""if on_rocm():
        monkeypatch.setenv("VLLM_ROCM", "1")
    assert {COUNTER} == 3""")
    assert only(found) == {"cold": {SAVED: 3}}


@pytest.mark.parametrize(
    ("mark", "torch"),
    [
        ('@pytest.mark.skip(reason="broken")', "<0"),
        ("@pytest.mark.skip", "<0"),
        ("@pytest.mark.skipif(True, reason='')", "<0"),
        ('@pytest.mark.skipif(is_torch_equal_or_newer("2.12.0"), reason="")', "<2.12.0"),
        ('@pytest.mark.skipif(not on_cuda(), reason="")', ""),
    ],
)
def test_a_test_that_is_skipped_says_nothing_there(mark: str, torch: str) -> None:
    found = read(f"""
        {mark}
        def test_startup(vllm_runner):
            with vllm_runner("a"):
                pass
            assert {COUNTER} == 3
    """)
    assert [case.torch for case in found.cases] == [torch]


def test_a_parameter_may_be_skipped() -> None:
    found = specs(other='Spec("a/two", 5), marks=[pytest.mark.skip(reason="broken")]')
    assert [case.torch for case in found.cases] == ["", "<0"]


def test_a_skip_in_a_test_ends_it_there() -> None:
    found = asserting(f"""if not is_torch_equal_or_newer("2.12.0"):
        pytest.skip("old")
    assert {COUNTER} == 3""")
    assert only(found) == {"cold": {SAVED: {"<2.12.0": None, ">=2.12.0": 3}}}
    helper = 'def helper():\n    pytest.skip("old")\n'
    found = asserting(f"helper()\n    assert {COUNTER} == 3", setup=helper)
    assert any("is in a helper" in line for line in found.faults)


@pytest.mark.parametrize(
    "source",
    ["class TestX:\n    def test_a(self): pass\n", "async def test_a(): pass\n"],
)
def test_a_test_of_another_form_is_named(source: str) -> None:
    found = read(source)
    (line,) = found.faults
    assert "`test_a` is not a plain function" in line


def test_a_test_that_never_ends_is_given_up() -> None:
    calls = "\n    ".join(["f()"] * 200)
    found = asserting("f()", setup=f"def f():\n    {calls}\n")
    assert found.cases == ()
    assert any("too long or deep to follow" in line for line in found.faults)


def test_a_setting_that_json_cannot_hold_is_left_out() -> None:
    found = read(f"""
        def test_startup(vllm_runner):
            with vllm_runner("a", block_size=0x{"f" * 5000}, share=1e999, name=b"x", more={{1, 2}}):
                pass
            assert {COUNTER} == 3
    """)
    (case,) = found.cases
    settings = {"block_size": None, "share": None, "name": None, "more": None}
    assert case.engine == settings | {"model": "a"}


def test_nothing_of_a_test_runs() -> None:
    found = read_tests(
        "raise SystemExit(3)\nimport os\nos.abort()\n__import__('os').abort()\n", startup=True
    )
    assert found.cases == ()


@given(st.text(max_size=80))
def test_any_text_is_read_or_named(text: str) -> None:
    found = read_tests(HEAD + text, startup=True)
    assert found.cases or found.faults
    assert all("\n" not in line for line in found.faults)


TREES = st.recursive(
    st.integers(0, 3),
    lambda inner: st.builds(
        lambda version, newer, older: Branch(version=version, newer=newer, older=older),
        st.sampled_from(["2.9.0", "2.10.0", "2.11.0", "2.12.0"]),
        inner,
        inner,
    ),
    max_leaves=6,
)


@given(TREES, st.sampled_from(["2.8.0", "2.9.0", "2.9.1", "2.10.0", "2.11.0", "2.12.0", "2.13.0"]))
def test_ranges_hold_what_the_branches_say(tree: object, torch: str) -> None:
    at = tree
    while isinstance(at, Branch):
        newer = tuple(map(int, torch.split("."))) >= tuple(map(int, at.version.split(".")))
        at = at.newer if newer else at.older
    ranges = {versions: value for versions, value in by_torch(tree) if isinstance(value, int)}
    assert ByTorch(values=ranges).at(torch) == at
    assert list(ranges.values()) == [
        value
        for value, after in zip(ranges.values(), [*list(ranges.values())[1:], None], strict=True)
        if value != after
    ]
