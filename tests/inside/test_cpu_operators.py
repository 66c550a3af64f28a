from pathlib import Path

from matrix.inside.cpu.operators import router_schemas

SOFTMAX = "topk_softmax(Tensor! topk_weights, Tensor gating_output, Tensor? bias) -> ()"
GROUPED = "grouped_topk(Tensor scores, int topk, float factor) -> (Tensor, Tensor)"
OTHER = "moe_sum(Tensor input, Tensor! output) -> ()"


def extension(folder: Path, *strings: str, name: str = "_moe_C.abi3.so") -> None:
    (folder / name).write_bytes(b"\x7fELF\xff\0" + "\0".join(strings).encode())


def test_operators_that_choose_experts_are_read_from_the_extension(tmp_path: Path) -> None:
    extension(tmp_path, "_moe_C", SOFTMAX, OTHER, "topk_softmax", GROUPED)
    assert router_schemas(tmp_path, "_moe_C") == {"topk_softmax": SOFTMAX, "grouped_topk": GROUPED}


def test_the_extension_may_have_a_suffix(tmp_path: Path) -> None:
    extension(tmp_path, GROUPED, "", name="_moe_C_stable_libtorch.abi3.so")
    assert list(router_schemas(tmp_path, "_moe_C")) == ["grouped_topk"]


def test_a_string_that_only_resembles_a_schema_is_left_out(tmp_path: Path) -> None:
    extension(tmp_path, "topk_softmax(Tensor", "see topk(Tensor x) -> ()", "topk(Tensor x)")
    assert router_schemas(tmp_path, "_moe_C") == {}


def test_a_package_without_an_extension_has_none(tmp_path: Path) -> None:
    (tmp_path / "_moe_C.abi3.so").touch()
    (tmp_path / "_C.abi3.so").write_bytes(GROUPED.encode())
    assert router_schemas(tmp_path, "_moe_C") == {}
