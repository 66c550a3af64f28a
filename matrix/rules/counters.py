"""The counters of torch and vLLM that a rule may expect."""

import re

COUNTER_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.ASCII)
"""What a counter's name looks like, as a record has it."""

COUNTERS = frozenset(
    {
        # vLLM's CompilationCounter, over the releases of the matrix
        "num_models_seen",
        "num_graphs_seen",
        "num_piecewise_graphs_seen",
        "num_piecewise_capturable_graphs_seen",
        "num_backend_compilations",
        "num_gpu_runner_capture_triggers",
        "num_cudagraph_captured",
        "num_inductor_compiles",
        "num_eager_compiles",
        "num_cache_entries_updated",
        "num_compiled_artifacts_saved",
        "num_compiled_artifacts_loaded",
        "num_aot_compiles",
        "num_aot_artifacts_saved",
        "num_aot_artifacts_loaded",
        "stock_torch_compile_count",
        # torch._dynamo.utils.counters
        "aot_autograd.total",
        "aot_autograd.ok",
        "aot_autograd.not_ok",
        "aot_autograd.autograd_cache_hit",
        "aot_autograd.autograd_cache_miss",
        "aot_autograd.autograd_cache_bypass",
        "aot_autograd.autograd_cache_guard_miss",
        "aot_autograd.autograd_cache_saved",
        "inductor.fxgraph_cache_hit",
        "inductor.fxgraph_cache_miss",
        "inductor.fxgraph_cache_bypass",
        "inductor.fxgraph_cache_pickle_error",
        "inductor.fxgraph_cache_write_error",
    }
)
"""Every counter that a rule may expect: vLLM's, and torch's with their group before a dot."""

DEFAULT_COUNTERS = (
    "num_compiled_artifacts_saved",
    "num_compiled_artifacts_loaded",
    "aot_autograd.total",
    "aot_autograd.autograd_cache_miss",
    "aot_autograd.autograd_cache_hit",
)
"""The counters that `matrix calibrate` proposes unless all are requested."""
