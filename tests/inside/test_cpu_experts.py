import importlib
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SOFTMAX = "topk_softmax(Tensor! topk_weights, Tensor gating_output) -> ()"
GROUPED = "grouped_topk(Tensor scores, int n_group, int topk_group, int topk) -> (Tensor, Tensor)"
UNKNOWN = "topk_hash(Tensor scores) -> Tensor"


@dataclass(kw_only=True)
class Libraries:
    """What a module registers with torch."""

    defined: list[str] = field(default_factory=list)
    kernels: dict[str, Callable[..., object]] = field(default_factory=dict)

    def define(self, schema: str) -> None:
        self.defined.append(schema)

    def impl(self, name: str, kernel: Callable[..., object], key: str) -> None:
        self.kernels[f"{name} {key}"] = kernel


@pytest.fixture
def libraries() -> Libraries:
    return Libraries()


@pytest.fixture
def loaded() -> types.SimpleNamespace:
    """Stands for the operators of an extension that was loaded: at first none was."""
    return types.SimpleNamespace()


@pytest.fixture
def experts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    libraries: Libraries,
    loaded: types.SimpleNamespace,
) -> Iterator[types.ModuleType]:
    """Import the module on a torch and a vLLM that have the names, and no more."""
    (tmp_path / "_moe_C.abi3.so").write_text(f"\0{SOFTMAX}\0{GROUPED}\0{UNKNOWN}\0")
    library = type("Library", (), {"__new__": lambda *_: libraries})
    modules: dict[str, dict[str, object]] = {
        "torch": {
            "Tensor": object,
            "library": types.SimpleNamespace(Library=library),
            "ops": types.SimpleNamespace(_moe_C=loaded),
            "compiler": types.SimpleNamespace(disable=lambda kernel: kernel),
        },
        "vllm": {},
        "vllm.platforms": {},
        "vllm.platforms.interface": {
            "Platform": object,
            "PlatformEnum": types.SimpleNamespace(CUDA="cuda"),
        },
    }
    for name, held in modules.items():
        module = types.ModuleType(name)
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.machinery.ModuleSpec("vllm", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    vars(sys.modules["vllm"])["__spec__"] = spec
    whole = "matrix.inside.cpu.experts"
    monkeypatch.delitem(sys.modules, whole, raising=False)
    yield importlib.import_module(whole)
    sys.modules.pop(whole)


def test_operators_that_nobody_loaded_are_defined_once(
    experts: types.ModuleType, libraries: Libraries
) -> None:
    experts.define_router_operators()
    experts.define_router_operators()
    assert libraries.defined == [SOFTMAX, GROUPED]
    assert sorted(libraries.kernels) == ["grouped_topk CPU", "topk_softmax CPU"]
    assert libraries.kernels["topk_softmax CPU"]("weights", "output") is None


def test_operators_of_a_loaded_extension_only_get_kernels(
    experts: types.ModuleType, libraries: Libraries, loaded: types.SimpleNamespace
) -> None:
    loaded.topk_softmax = loaded.grouped_topk = object()
    experts.define_router_operators()
    assert libraries.defined == []
    assert sorted(libraries.kernels) == ["grouped_topk CPU", "topk_softmax CPU"]
