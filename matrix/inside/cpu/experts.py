"""Lets the experts' operators run as on CUDA: router and shared experts, but not the experts.

Their body is opaque to vLLM-compile, and compiles on its own what torch.compile decorates inside.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from vllm.platforms.interface import Platform, PlatformEnum

from matrix.inside.cpu.operators import router_schemas

_ROUTER = "vllm.model_executor.layers.fused_moe.router.grouped_topk_router"
# The modules that ask for CUDA before they call a router's kernel.
_ROUTING = ("vllm._custom_ops", _ROUTER)
_METHODS = "vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method"
_NAMESPACE = "_moe_C"
_NOTHING = " -> ()"
_GROUPED = "grouped_topk"

_library: torch.library.Library | None = None


class _Cuda(Platform):
    """The platform as routing modules see it, so that they take the path of CUDA."""

    _enum = PlatformEnum.CUDA
    device_type = "cpu"


def define_router_operators() -> None:
    """Give the operators by which vLLM's CUDA extension chooses experts empty CPU kernels.

    Most releases' extension wants libcuda and was not loaded here: then its operators are defined
    as well. It has to be done before vLLM looks which operators there are, to register fake
    kernels. Calling it again does nothing.
    """
    global _library  # noqa: PLW0603 - the library lives as long as the process
    if _library is not None:
        return
    _library = torch.library.Library(_NAMESPACE, "FRAGMENT")
    there = getattr(torch.ops, _NAMESPACE)
    for name, schema in _schemas().items():
        kernel = _leave if schema.endswith(_NOTHING) else _choose if name == _GROUPED else None
        if kernel is None:
            continue
        if not hasattr(there, name):
            _library.define(schema)
        # Dynamo would compile a kernel in Python that it meets at a graph break.
        _library.impl(name, torch.compiler.disable(kernel), "CPU")


def install_experts() -> bool:
    """Let routers take CUDA's path, and replace the experts' kernels by an empty result.

    Returns whether vLLM has a module of routers, as 0.16 and newer do: without one, the body of
    the experts' operators is not for this platform. Calling it again does nothing.
    """
    method: Any = importlib.import_module(_METHODS).UnquantizedFusedMoEMethod
    # vLLM 0.20 asks a class of kernels that an out-of-tree platform lacks; CUDA's answers no.
    method.is_monolithic = property(lambda _: False)
    try:
        routing: list[Any] = [importlib.import_module(name) for name in _ROUTING]
    except ModuleNotFoundError:
        return False
    for module in routing:
        module.current_platform = _Cuda()
    method.apply = _experts
    return True


def _experts(*_: Any, x: torch.Tensor, **__: Any) -> torch.Tensor:
    """Compute nothing: a startup test reads no result."""
    return torch.empty_like(x)


def _leave(*_: Any) -> None:
    """Write nothing, for the same reason."""


def _choose(scores: torch.Tensor, *options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights and numbers of as many experts a token as the router asks for."""
    shape = (scores.size(0), options[2])
    return scores.new_zeros(shape, dtype=torch.float32), scores.new_zeros(shape, dtype=torch.int32)


def _schemas() -> dict[str, str]:
    package = importlib.util.find_spec("vllm")
    places = package.submodule_search_locations if package is not None else None
    return router_schemas(Path(places[0]), _NAMESPACE) if places else {}
