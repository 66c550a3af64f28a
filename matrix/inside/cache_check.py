"""The cache check: whether torch alone finds in its caches what another process left there.

vLLM keeps compiled graphs as artifacts of its own and loads them by the keys that they were saved
with: `_load_impl` of `torch/_inductor/standalone_compile.py`, as seen with torch 2.11.0 and vLLM
0.26.0. So an unstable key of Inductor's graph cache, which costs others their warm start, shows in
no start of vLLM. The check asks torch itself. It compiles a small function in two forked processes
with caches of their own, before the cases; this process compiles nothing. torch is imported inside
the functions.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matrix.inside.isolation import IsolationError, run_forked
from matrix.record.model import METRICS_LIMIT, CacheCheck, CheckedCompile

_SECONDS = 120.0  # for a process that compiles, which takes one to ten
_GROUPS = ("aot_autograd", "inductor")
_FOLDERS = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def check() -> CacheCheck | None:
    """Return what torch counted in each compilation of the check.

    None if no process can be forked, or one did not come to its end, as with a torch that cannot
    compile at all: that is for the cases to show.
    """
    with tempfile.TemporaryDirectory(prefix="matrix-check-", ignore_cleanup_errors=True) as name:
        output = Path(name, "output")
        found: dict[CheckedCompile, Mapping[str, int]] = {}
        for compiles in (
            (CheckedCompile.COLD,),
            (CheckedCompile.WARM, CheckedCompile.GRAPHS),
        ):
            compiling = partial(_compile_each, Path(name), compiles)
            try:
                ended = run_forked(compiling, timeout=_SECONDS, output=output)
            except IsolationError:
                return None
            if ended.kind != "returned":
                return None
            found.update(zip(compiles, ended.value, strict=True))
    return found


def _compile_each(folder: Path, compiles: Sequence[CheckedCompile]) -> list[dict[str, int]]:
    return [_compile(folder, compiled) for compiled in compiles]


def _compile(folder: Path, compiled: CheckedCompile) -> dict[str, int]:
    """Compile the function with the caches in a folder; return what torch counted meanwhile.

    The function is one product of matrices, for which Inductor generates Python alone.
    """
    for variable in _FOLDERS:
        os.environ[variable] = str(folder / variable)
    import torch
    from torch._dynamo.utils import counters

    def product(left: Any, right: Any) -> Any:
        return torch.mm(left, right)

    torch._dynamo.reset()
    counters.clear()
    with torch.no_grad(), _without_autograd(compiled):
        torch.compile(product)(torch.ones(4, 4), torch.ones(4, 4))
    found = {
        f"{group}.{name}": value
        for group in _GROUPS
        for name, value in counters.get(group, {}).items()
        if type(value) is int and value >= 0
    }
    return dict(sorted(found.items())[:METRICS_LIMIT])


def _without_autograd(compiled: CheckedCompile) -> contextlib.AbstractContextManager[Any]:
    """Return a context without AOTAutograd's cache, which would answer for Inductor's."""
    if compiled is not CheckedCompile.GRAPHS:
        return contextlib.nullcontext()
    import torch._functorch.config

    off: contextlib.AbstractContextManager[Any] = torch._functorch.config.patch(
        enable_autograd_cache=False
    )
    return off
