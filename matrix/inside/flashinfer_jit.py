"""FlashInfer's just-in-time modules: build some before a start, and see what a start builds.

FlashInfer describes a module by a function `gen_..._module`, whose result (`JitSpec`) builds it by
ninja and nvcc into its cache; a start that needs a module takes the built one, or builds it under a
lock. From `flashinfer/jit/core.py` of 0.3 to 0.7, which vLLM 0.14 to 0.33 ask for.
"""

import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType, ModuleType
from typing import Any

from matrix._util.cores import available_cores
from matrix._util.memory import available_memory_mib
from matrix.inside.spans import Hook, Hooks
from matrix.record.signature import reason as reason_of

MODULE = "flashinfer.jit.core"
"""The module that `watching` hooks."""

BRIDGE = "tvm_ffi"
"""TVM's package, by which FlashInfer calls what it built."""

_LIBRARY = "flashinfer"
_JOBS = "MAX_JOBS"
_COMPILER_MIB = 4096  # the most that one nvcc of CUTLASS's templates takes
_FILES = 3  # of a small module
_DTYPE = "torch."


def watching(found: list[dict[str, Any]]) -> Hook:
    """Return the hook that adds each module which is built to `found`, as a record has it.

    The seconds of a start in FlashInfer's builds, waiting for another's included, are `jit`.
    """

    def hook(core: ModuleType, hooks: Hooks) -> None:
        generators: dict[str, tuple[str, dict[str, object]]] = {}

        def registering(usual: Callable[..., Any]) -> Callable[..., Any]:
            def register(registry: Any, spec: Any) -> Any:
                described = _generator()
                if described is not None:
                    generators[spec.name] = described
                return usual(registry, spec)

            return register

        def building(usual: Callable[..., Any]) -> Callable[..., Any]:
            def build(spec: Any, *arguments: Any, **named: Any) -> Any:
                before, began = _written(spec), time.perf_counter()
                made = usual(spec, *arguments, **named)
                if _written(spec) not in (None, before):
                    generator, given = generators.get(spec.name, (None, {}))
                    found.append(
                        {
                            "library": _LIBRARY,
                            "name": spec.name,
                            "seconds": round(time.perf_counter() - began, 3),
                            "generator": generator,
                            "arguments": given,
                        }
                    )
                return made

            return build

        registry = getattr(core, "JitSpecRegistry", None)
        if registry is not None:
            hooks.replace(registry, "register", registering)
        spec = getattr(core, "JitSpec", None)
        if spec is not None:
            hooks.replace(spec, "build", building)
            hooks.time(spec, "build_and_load", "jit")

    return hook


def build(modules: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Build modules, several at once; return each with its seconds, or with why it was not built.

    A module has `name`, `generator` and `arguments`, as a record has them; the answers have
    `library`, `name`, and `seconds` or `reason`, and `found` where an earlier build's library still
    holds; the traceback of a build that fails is printed.
    The first answer is the import of FlashInfer's TVM, which builds a bridge to torch into its own
    cache. This may initialise CUDA: call it in a process of its own. MAX_JOBS, unless it is set, is
    as many compilers as cores and memory serve.
    """
    os.environ.setdefault(_JOBS, str(_compilers(len(modules))))
    bridge = _imported_bridge()
    specs = [_described(module) for module in modules]  # one after the other: they write sources
    with ThreadPoolExecutor(max_workers=max(1, len(specs))) as pool:
        return [bridge, *pool.map(_built, modules, specs)]


def _imported_bridge() -> dict[str, Any]:
    answer: dict[str, Any] = {"library": BRIDGE, "name": "import"}
    began = time.perf_counter()
    try:
        importlib.import_module(BRIDGE)
    except Exception:  # noqa: BLE001 - a FlashInfer that needs it says so itself
        return {**answer, "reason": reason_of(traceback.format_exc())}
    return {**answer, "seconds": round(time.perf_counter() - began, 3)}


def _described(module: Mapping[str, Any]) -> Any:
    """Return the specification of a module, or why there is none."""
    try:
        where, _, function = str(module["generator"]).partition(":")
        arguments = {name: _decoded(value) for name, value in module["arguments"].items()}
        return getattr(importlib.import_module(where), function)(**arguments)
    except Exception:  # noqa: BLE001 - whatever this release raises, the others are built
        return reason_of(traceback.format_exc())


def _built(module: Mapping[str, Any], spec: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"library": _LIBRARY, "name": module["name"]}
    if isinstance(spec, str):
        return {**answer, "reason": spec}
    if spec.name != module["name"]:
        return {**answer, "reason": f"{module['generator']} makes {spec.name}"}
    if getattr(spec, "is_aot", False):
        return {**answer, "reason": "comes built"}
    before, began = _written(spec), time.perf_counter()
    try:
        spec.build(verbose=False)
    except Exception:  # noqa: BLE001 - as above
        traceback.print_exc()
        return {**answer, "reason": reason_of(traceback.format_exc())}
    if before is not None and _written(spec) == before:
        answer["found"] = True
    return {**answer, "seconds": round(time.perf_counter() - began, 3)}


def _compilers(modules: int) -> int:
    """Return how many compilers each module may have, so that all of them together fit.

    Only one of a release's modules is large (`fused_moe_90` has 181 files); the small ones have two
    or three files each, and need no more compilers.
    """
    memory = available_memory_mib()
    fits = available_cores() if memory is None else memory // _COMPILER_MIB
    most = min(available_cores(), fits)
    small = max(0, modules - 1)
    fit = (number for number in range(most, 1, -1) if number + small * min(number, _FILES) <= most)
    return next(fit, 1)


def _written(spec: Any) -> int | None:
    """Return when the library of a module was written, in nanoseconds; None if it is not."""
    path = getattr(spec, "jit_library_path", None)
    return None if path is None or not path.exists() else path.stat().st_mtime_ns


def _generator() -> tuple[str, dict[str, object]] | None:
    """Return the outermost of FlashInfer's generators that called this, with its arguments."""
    found: FrameType | None = None
    for frame in _callers(sys._getframe(2)):
        package = frame.f_globals.get("__name__", "")
        if not package.startswith("flashinfer.jit"):
            break
        if frame.f_code.co_name.startswith("gen_") and frame.f_code.co_name != "gen_jit_spec":
            found = frame
    if found is None:
        return None
    code = found.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    try:
        arguments = {name: _encoded(found.f_locals[name]) for name in names}
    except (KeyError, TypeError):
        return None
    return f"{found.f_globals['__name__']}:{code.co_name}", arguments


def _callers(frame: FrameType | None) -> Iterable[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _encoded(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if type(value).__module__ == "torch" and str(value).startswith(_DTYPE):
        return str(value)
    raise TypeError(value)


def _decoded(value: object) -> object:
    if isinstance(value, str) and value.startswith(_DTYPE):
        return getattr(importlib.import_module("torch"), value.removeprefix(_DTYPE))
    return value
