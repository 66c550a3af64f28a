"""The list of kernel modules that are built before the cases, and how records fill it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from command import matrix
from full_record import make
from matrix._util.paths import DATA
from matrix.record.jit import Jit, JitModule
from matrix.record.jit_modules import (
    JitModulesError,
    load_jit_modules,
    modules_for,
    new_rows,
    parse_jit_modules,
)
from matrix.record.model import Record, RecordError
from matrix.record.reader import parse
from matrix.record.writer import to_json

VALIDATOR = Draft202012Validator(json.loads((DATA / "record.schema.json").read_text()))
ROW = """
[[module]]
vllm = ">=0.26,<0.27"
capability = "9.0"
library = "flashinfer"
name = "sampling"
generator = "flashinfer.jit.sampling:gen_sampling_module"
arguments = { fast = true, dtype = "torch.bfloat16" }
evidence = ["a record"]
"""
MOE = JitModule(
    library="flashinfer",
    name="fused_moe_90",
    seconds=71.5,
    built_by="moe_startup[mega_aot=0] cold",
    generator="flashinfer.jit.fused_moe:gen_cutlass_fused_moe_sm90_module",
    arguments={"use_fast_build": False, "x": None},
)
BRIDGE = JitModule(library="tvm_ffi", name="import", seconds=4.0, built_by="step")


def found(*modules: JitModule, **facts: object) -> Record:
    record = make(jit=Jit(seconds=43.0, modules=modules))
    gpu = {"name": "H200", "capability": "9.0"}
    return replace(record, provenance={**record.provenance, "gpu": gpu, "vllm": "0.26.0", **facts})


def test_a_release_on_a_gpu_has_its_modules() -> None:
    listed = parse_jit_modules(ROW, "jit.toml")
    [module] = modules_for(listed, "0.26.0+cu130", "9.0")
    assert (module.name, module.arguments["dtype"]) == ("sampling", "torch.bfloat16")
    for vllm, capability in (("0.27.0", "9.0"), ("0.26.0", "10.0"), ("none", "9.0")):
        assert modules_for(listed, vllm, capability) == ()
    # Of two rows of one module the newest counts, and it is built once.
    assert len(modules_for(listed * 2, "0.26.0", "9.0")) == 1


def test_the_shipped_list_is_one() -> None:
    listed = load_jit_modules()
    found = {
        vllm: {module.name for module in modules_for(listed, vllm, "9.0")}
        for vllm in ("0.16.0", "0.17.1", "0.19.1", "0.20.2", "0.26.0", "0.32.0")
    }
    assert found["0.16.0"] == found["0.20.2"] == {"fused_moe_90", "trtllm_utils"}
    assert found["0.17.1"] == found["0.19.1"] == set()
    assert found["0.26.0"] == {"sampling"}
    assert found["0.32.0"] == {"sampling", "fp8_blockscale_gemm_90"}
    assert modules_for(listed, "0.26.0", "10.0") == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"9.0"', '"sm_90"', "module 1: capability: is not a compute capability"),
        ("flashinfer.jit.sampling:", "os:", "module 1: generator: is not a function of FlashInfer"),
        (":gen_sampling_module", ":system", "module 1: generator: is not a function"),
        ('"flashinfer"', '"triton"', "module 1: generator: is not a function of FlashInfer"),
        ('name = "sampling"', "name = 3", "module 1: name: is not a text"),
        ("fast = true", "fast = [1]", "module 1: arguments: is not a table"),
        ('["a record"]', "[]", "module 1: evidence: is not a list of texts"),
        ('">=0.26,<0.27"', '"new"', "module 1: vllm: "),
        ("evidence", "evidnce", "did you mean 'evidence'"),
        ("[[module]]", "[[modules]]", "unknown key"),
    ],
)
def test_a_bad_row_is_named(old: str, new: str, said: str) -> None:
    assert old in ROW
    with pytest.raises(JitModulesError) as error:
        parse_jit_modules(ROW.replace(old, new), "jit.toml")
    assert said in str(error.value) and str(error.value).startswith("jit.toml: ")


def test_what_a_record_found_becomes_rows_once() -> None:
    text = new_rows(found(BRIDGE, MOE, MOE), (), "results/a.json")
    [listed] = parse_jit_modules(text, "new")
    assert (listed.vllm.text, listed.capability) == (">=0.26,<0.27", "9.0")
    assert listed.module == replace(
        MOE, seconds=None, built_by=None, arguments={"use_fast_build": False}
    )
    assert listed.evidence == ("results/a.json",)
    assert new_rows(found(MOE), parse_jit_modules(text, "new"), "b.json") == ""


printable = st.characters(codec="utf-8").filter(str.isprintable)
names = st.text(printable, min_size=1, max_size=9)
scalars = st.booleans() | st.integers(-9, 9) | st.text(printable, max_size=5)


@given(names, st.dictionaries(names, scalars, max_size=3), names)
def test_any_name_and_argument_survives_the_list(
    name: str, arguments: dict[str, object], evidence: str
) -> None:
    module = JitModule(
        library="flashinfer", name=name, generator="flashinfer.jit:gen_x", arguments=arguments
    )
    [listed] = parse_jit_modules(new_rows(found(module), (), evidence), "new")
    assert (listed.module, listed.evidence) == (module, (evidence,))


def test_what_is_no_function_of_flashinfer_is_never_listed() -> None:
    assert new_rows(found(replace(MOE, name="a\nb")), (), "a") == ""
    for generator in (None, "os:system", "flashinfer.jit.x:system", "flashinfer.jit.x:gen_y()"):
        assert new_rows(found(replace(MOE, generator=generator)), (), "a") == ""


@pytest.mark.parametrize(
    "record",
    [make(), found(gpu=None), found(gpu={"name": "x"}), found(vllm=None), found(vllm="new")],
)
def test_a_record_that_does_not_say_what_ran_adds_nothing(record: Record) -> None:
    with pytest.raises(JitModulesError, match=r"^a\.json: "):
        new_rows(record, (), "a.json")


def test_the_command_shows_and_fills_the_list(tmp_path: Path) -> None:
    record = found(BRIDGE, MOE, vllm="0.19.1")
    path, listed = tmp_path / f"{record.cell}.json", tmp_path / "jit.toml"
    path.write_text(to_json(record))
    listed.write_text(ROW)
    asked = ("jit", str(path), "--list", str(listed))
    shown = matrix(tmp_path, *asked)
    assert shown.returncode == 0 and "the step took 43.0 s" in shown.stdout
    assert "fused_moe_90    71.5  flashinfer, moe_startup[mega_aot=0] cold" in shown.stdout
    assert "tvm_ffi, step, cannot be listed" in shown.stdout
    assert "new for" in shown.stdout and listed.read_text() == ROW
    matrix(tmp_path, *asked, "--write")
    assert [rule.module.name for rule in load_jit_modules(listed)] == ["sampling", "fused_moe_90"]
    assert "nothing new for" in matrix(tmp_path, *asked, "--write").stdout
    assert len(load_jit_modules(listed)) == 2


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("jit", None, "jit: is null"),
        ("seconds", -1, r"jit\.seconds: is -1"),
        ("reason", 3, r"jit\.reason: is 3"),
        ("modules", {}, r"jit\.modules: is \{\}, but must be a list"),
        ("modules", [{"name": "x"}], r"jit\.modules\[0\]: has no key 'library'"),
    ],
)
def test_a_bad_step_is_named(key: str, value: object, fault: str) -> None:
    content = json.loads(to_json(found(MOE)))
    (content if key == "jit" else content["jit"])[key] = value
    assert list(VALIDATOR.iter_errors(content))
    with pytest.raises(RecordError, match=fault):
        parse(json.dumps(content), "a")
