"""The features of this vLLM: the only module that asks. It looks, and compares no versions.

torch and vLLM are imported inside the functions, so that importing this module is free.
"""

import importlib
import importlib.machinery
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from matrix.inside.spans import Hook, Hooks
from matrix.record.model import Platform

_FLAGS = (
    "VLLM_USE_AOT_COMPILE",
    "VLLM_USE_MEGA_AOT_ARTIFACT",
    "VLLM_USE_STANDALONE_COMPILE",
    "VLLM_USE_BYTECODE_HOOK",
    "VLLM_DISABLE_COMPILE_CACHE",
    "VLLM_USE_V2_MODEL_RUNNER",
)
_CAPTURED_SIZE = 8
_RANK_EXTENSION = "matrix.inside.rank_extension.RankExtension"
_OBSERVED = "matrix_observed"
_SPARSE_MLA = "DeepseekV32ForCausalLM"
# What v1/worker/cpu_model_runner.py asserts of a draft in vLLM 0.16 to 0.19, and not from 0.21 on.
_NO_DRAFT = "spec decode is not supported"
# What every start imports on its way, though `vllm` does not: hundreds of modules, none of which
# calls CUDA or imports FlashInfer (which does) at its top.
STARTED = ("vllm.v1.worker.gpu_worker", "vllm.v1.worker.gpu_model_runner")
_DYNAMO_COUNTERS = {
    "aot_autograd": ("total", "autograd_cache_miss", "autograd_cache_hit"),
    "inductor": ("fxgraph_cache_miss", "fxgraph_cache_hit"),
}


# The steps of a start: module, method there, part of the seconds. From vLLM 0.14 to 0.33; a release
# has some of these. What a method calls for another step counts there.
_STEPS = (
    ("vllm.engine.arg_utils", "EngineArgs.create_engine_config", "config"),
    ("vllm.v1.engine.llm_engine", "LLMEngine.__init__", "engine"),
    ("vllm.v1.engine.llm_engine", "renderer_from_config", "tokenizer"),
    ("vllm.v1.engine.llm_engine", "init_tokenizer_from_config", "tokenizer"),
    ("vllm.v1.engine.llm_engine", "cached_tokenizer_from_config", "tokenizer"),
    ("vllm.v1.engine.llm_engine", "InputProcessor.__init__", "tokenizer"),
    ("vllm.v1.engine.llm_engine", "Processor.__init__", "tokenizer"),
    ("vllm.v1.engine.llm_engine", "OutputProcessor.__init__", "tokenizer"),
    ("vllm.renderers.base", "BaseRenderer.warmup", "tokenizer"),
    ("vllm.v1.engine.core", "EngineCore.__init__", "engine"),
    ("triton.runtime.jit", "JITFunction._do_compile", "jit"),
)
_WORKER = "vllm.v1.worker.worker_base"
_WORKER_STEPS = {
    "init_device": "device",
    "load_model": "load",
    "determine_available_memory": "profile",
    "get_kv_cache_spec": "kv_cache",
    "initialize_from_config": "kv_cache",
    "compile_or_warm_up_model": "warmup",
}


def versions() -> tuple[str, str]:
    """Return the full versions of torch and vLLM as they name themselves."""
    import torch
    import vllm

    return str(torch.__version__), str(vllm.__version__)


def effective_flags() -> dict[str, bool | int | str]:
    """Return the flags that steer compilation, as this process would see them now.

    vLLM computes some defaults from torch's version, so the environment alone does not show them.
    A flag that this release does not have is left out.
    """
    from vllm import envs

    found: dict[str, bool | int | str] = {}
    for name in _FLAGS:
        if name in envs.environment_variables:
            value = envs.environment_variables[name]()
            if isinstance(value, (bool, int, str)):
                found[name] = value
    return found


def knows(variable: str) -> bool:
    """Return whether this release reads that environment variable."""
    from vllm import envs

    return variable in envs.environment_variables


def counters() -> dict[str, int]:
    """Return every counter of vLLM's compiler and of torch's, as `name` or `group.name`.

    A counter of torch's that was never raised does not exist yet; those that expectations name are
    then given as 0.
    """
    from torch._dynamo.utils import counters as dynamo
    from vllm.compilation.counter import compilation_counter

    found = {
        name: value for name, value in asdict(compilation_counter).items() if type(value) is int
    }
    for group, expected in _DYNAMO_COUNTERS.items():
        counted: Mapping[str, int] = dynamo.get(group, {})
        for name in (*expected, *counted):
            found[f"{group}.{name}"] = int(counted.get(name, 0))
    return found


def compiler_seconds() -> dict[str, float]:
    """Return the seconds of torch's own timed events by name, each summed over its occurrences.

    From `compilation_time_metrics` of torch._dynamo.utils, which 2.9 to 2.13 keep alike. One event
    may lie within another, so they must not be added up.
    """
    from torch._dynamo.utils import compilation_time_metrics as spent

    return {name: sum(seconds) for name, seconds in spent.items() if seconds}


def startup_steps() -> dict[str, Sequence[Hook]]:
    """Return the hooks by module that time the steps of this release's start."""
    steps: dict[str, list[Hook]] = {_WORKER: [_time_worker]}
    for module, method, part in _STEPS:
        steps.setdefault(module, []).append(partial(_time_method, method=method, part=part))
    return {module: tuple(hooks) for module, hooks in steps.items()}


def _time_method(module: ModuleType, hooks: Hooks, *, method: str, part: str) -> None:
    hooks.time(module, method, part)


def _time_worker(module: ModuleType, hooks: Hooks) -> None:
    """Time the worker, whatever its class is, once the wrapper around it has made it."""

    def timed(usual: Any) -> Any:
        making = hooks.timed(usual, "device")

        def init_worker(wrapper: Any, *arguments: Any, **named: Any) -> Any:
            made = making(wrapper, *arguments, **named)
            for method, part in _WORKER_STEPS.items():
                hooks.time(wrapper.worker, method, part)
            return made

        return init_worker

    hooks.replace(module.WorkerWrapperBase, "init_worker", timed)


def clean_state() -> str | None:
    """Return None if nothing was compiled in this process yet, else what was."""
    raised = [f"{name}={value}" for name, value in counters().items() if value]
    return ", ".join(raised) if raised else None


def compilation_config(cudagraphs: str | None = None) -> Any:
    """Return the configuration that every startup test compiles with.

    vLLM-compile without CUDA graphs, or with those of a mode, for one size. `CompilationMode` was
    called `CompilationLevel` once.
    """
    from vllm import config

    if hasattr(config, "CompilationMode"):
        level: dict[str, Any] = {"mode": config.CompilationMode.VLLM_COMPILE}
    else:
        level = {"level": config.CompilationLevel.PIECEWISE}
    if cudagraphs is not None:
        level["cudagraph_capture_sizes"] = [_CAPTURED_SIZE]
    return config.CompilationConfig(cudagraph_mode=cudagraphs or "NONE", **level)


def without_allreduce_fusion(compilation: Any) -> Any:
    """Turn the fusion of all-reduce with RMS norm off, under the name that it has here."""
    passes = compilation.pass_config
    for name in ("fuse_allreduce_rms", "enable_fi_allreduce_fusion"):
        if name in {option.name for option in fields(passes)}:
            setattr(passes, name, False)
    return compilation


def compiles_encoders() -> bool:
    """Return whether what looks at images can be compiled here."""
    from vllm import config

    return "compile_mm_encoder" in {option.name for option in fields(config.CompilationConfig)}


def drafts_with_models() -> bool:
    """Return whether a model can be the draft of speculative decoding here."""
    return importlib.util.find_spec("vllm.v1.spec_decode.draft_model") is not None


def cpu_runner_drafts() -> bool:
    """Return whether vLLM's model runner for CPUs takes a draft; that of 0.19 and older refuses."""
    runner = importlib.util.find_spec("vllm.v1.worker.cpu_model_runner")
    source = None if runner is None else runner.origin
    return source is None or _NO_DRAFT not in Path(source).read_text(encoding="utf-8")


def ranks_can_be_asked() -> bool:
    """Return whether this release lets a worker have methods of ours (vLLM 0.14 to 0.33 do)."""
    return "worker_extension_cls" in engine_arguments()


def on_ranks(ranks: int) -> dict[str, Any]:
    """Return the arguments that start a model on so many ranks, a process of this machine each."""
    return {
        "tensor_parallel_size": ranks,
        "distributed_executor_backend": "mp",
        **asked_from_outside(),
    }


def asked_from_outside() -> dict[str, Any]:
    """Return the arguments that let a worker in another process be asked what it observed."""
    return {"worker_extension_cls": _RANK_EXTENSION}


def ask_ranks(llm: Any) -> list[dict[str, Any]]:
    """Return what each rank observed, the first one first (`RankExtension.matrix_observed`)."""
    found = llm.collective_rpc(_OBSERVED)
    return sorted(found, key=lambda rank: int(rank["rank"]))


def shut_down(llm: Any) -> None:
    """End the workers of an engine; several ranks outlive an engine that is only released."""
    llm.llm_engine.engine_core.shutdown()


def learn_model_type(model_type: str) -> None:
    """Give vLLM a plain configuration class for a model type that its transformers does not know.

    On the hub such a model brings its class as code; here its configuration is data alone.
    """
    from vllm.transformers_utils import config

    known = config._CONFIG_REGISTRY
    if model_type not in known and (plain := plain_config_class(model_type)) is not None:
        known[model_type] = plain


def plain_config_class(model_type: str) -> type[Any] | None:
    """Return a configuration class for a model type; None if vLLM's transformers has one."""
    from vllm.transformers_utils import config

    try:
        config.AutoConfig.for_model(model_type)
    except ValueError:
        # transformers 5 spells it PreTrainedConfig, and so does a vLLM that needs it.
        base = getattr(config, "PretrainedConfig", None) or config.PreTrainedConfig
        return type("PlainConfig", (base,), {"model_type": model_type})
    return None


def compiles_sparse_mla() -> bool:
    """Return whether CUDA compiles DeepSeek's sparse MLA here: whether its class is the common one.

    vLLM 0.29 has one of its own for CUDA, apart from the common models, and does not compile it.
    """
    from vllm.model_executor.models import ModelRegistry

    model: Any = ModelRegistry.models[_SPARSE_MLA]
    return str(model.module_name).startswith("vllm.model_executor.models.")


def lacks_deep_gemm() -> bool:
    """Return whether sparse MLA will not start on CUDA here, because it needs DeepGEMM.

    vLLM 0.19 refuses without that package, which is not among its requirements; the wheel of 0.20
    brings a copy, built for Python 3.12 alone. It is not imported: that would touch CUDA.
    """
    layer: Any = importlib.import_module("vllm.model_executor.layers.sparse_attn_indexer")
    if not hasattr(layer, "has_deep_gemm") or importlib.util.find_spec("deep_gemm") is not None:
        return False
    copy = importlib.util.find_spec("vllm.third_party.deep_gemm")
    places = [] if copy is None else copy.submodule_search_locations
    return importlib.machinery.PathFinder.find_spec("_C", places) is None


def preload(platform: Platform) -> None:
    """Import what every start needs, once, for all the forked children to inherit.

    CUDA stays untouched: what might ask a GPU while it is imported is left to the starts there.
    """
    importlib.import_module("torch._inductor.compile_fx")
    importlib.import_module(importlib.import_module("vllm").LLM.__module__)
    if platform is Platform.CPU:
        for name in STARTED:
            importlib.import_module(name)


def cuda_spoilt_by_fork() -> bool:
    """Return whether a process that this one was forked from had touched CUDA."""
    import torch

    return bool(torch.cuda._is_in_bad_fork())


def chosen_platform() -> str:
    """Return the platform that vLLM runs on: `cpu` (ours), `cuda`, or the name of another."""
    from vllm.platforms import current_platform

    if current_platform.is_cuda():
        return "cuda"
    ours = type(current_platform).__module__.startswith("matrix.")
    return "cpu" if ours else type(current_platform).__name__


def engine_arguments() -> frozenset[str]:
    """Return the names of the arguments that this release's engine takes."""
    from vllm.engine.arg_utils import EngineArgs

    return frozenset(field.name for field in fields(EngineArgs))


def architectures() -> frozenset[str]:
    """Return the model architectures that this release has code for."""
    from vllm.model_executor.models import ModelRegistry

    return frozenset(ModelRegistry.get_supported_archs())


def inspect_model(architecture: str) -> tuple[str, ...]:
    """Have vLLM find out here what this model's class can do, and keep it below VLLM_CACHE_ROOT.

    vLLM would have another interpreter do it, since a model's module may touch CUDA while it is
    imported: call it in a process of its own. Return the modules that it imports. From
    model_executor/models/registry.py of 0.14 to 0.33. Raises whatever the module raises.
    """
    registry: Any = importlib.import_module("vllm.model_executor.models.registry")
    model = registry.ModelRegistry.models[architecture]
    registry._run_in_subprocess = lambda function: function()
    model.inspect_model_cls()
    return (model.module_name,) if hasattr(model, "module_name") else ()


def compute_capability() -> tuple[int, int] | None:
    """Return the GPU's compute capability by way of NVML (CUDA stays uninitialised), or None."""
    from vllm.platforms import current_platform

    capability = current_platform.get_device_capability()
    return None if capability is None else (capability.major, capability.minor)


def device_memory_mib() -> int:
    """Return the GPU's whole memory in MiB, by way of NVML where it has it."""
    from vllm.platforms import current_platform

    return int(current_platform.get_device_total_memory()) >> 20


def torch_architectures() -> tuple[str, ...]:
    """Return what this torch has GPU code for, such as `sm_90`; empty if it does not say.

    CUDA stays uninitialised, but torch counts the question as a touch: forks of the process that
    asked cannot use CUDA (torch 2.9 to 2.13, `csrc/cuda/Module.cpp`: THCPModule_getArchFlags).
    """
    import torch

    names = getattr(torch._C, "_cuda_getArchFlags", lambda: None)()
    return tuple(names.split()) if names else ()
