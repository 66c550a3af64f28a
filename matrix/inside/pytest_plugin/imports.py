"""The import of torch and vLLM, done once for all children to inherit, and what it shows."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest
from packaging.version import InvalidVersion, Version

from matrix._util.nvidia import dotted
from matrix.inside import cache_check, gpus, isolation, torch_internals
from matrix.inside.companions import chosen_companion
from matrix.inside.machine_faults import built_for
from matrix.inside.pytest_plugin.record_file import RecordFile
from matrix.record.machine_marks import machine_fault
from matrix.record.model import ErrorKind, Platform, Rung, RungResult
from matrix.record.signature import reason as reason_of

_EXTENSIONS = (
    "vllm._C",
    "vllm._moe_C",
    "vllm._C_stable_libtorch",
    "vllm._moe_C_stable_libtorch",
)
# How the dynamic linker reports that a symbol, or that a library, is missing.
_UNLINKED = re.compile(
    r"undefined symbol: [^\s,]+|[^\s/:]+\.so[.\d]*(?=: cannot open shared object)"
)
_SHOWN_BYTES = 64 * 1024
_IMPORTING = "MATRIX_IMPORTING"  # the file by which `matrix run` learns of an import under way
_QUERY_SECONDS = 60.0  # for a child that only answers a question


def import_for_session(record: RecordFile, platform: Platform, prepare: Callable[[], None]) -> str:
    """Import torch and vLLM and fill the record with the result; return a line for people.

    Once they are imported, `prepare` is called, before this process or a child of it compiles.

    Ends the session by pytest.exit where they do not import, or cannot use this machine.
    """
    with _import_announced():
        line = _import(record, platform)
    prepare()
    record.set_cache_check(cache_check.check())
    return line


def _import(record: RecordFile, platform: Platform) -> str:
    began = time.monotonic()
    try:
        with quiet_unless_it_fails(record.path):
            torch, vllm, missed = _import_stack(platform)
            compat = importlib.import_module("matrix.inside.vllm_compat")
            compat.preload(platform)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        failure = traceback.format_exc()
        why = reason_of(failure)
        fault = machine_fault(failure)
        if fault is None and (ours := chosen_companion(failure)) is not None:
            fault, why = ErrorKind.COMPANION, f"{ours}: {why}"
        if fault is None:
            failed = RungResult(
                rung=Rung.IMPORTS, ok=False, seconds=_seconds_since(began), reason=why
            )
            record.add_rung(failed)
        record.fail(fault or ErrorKind.IMPORTS, why)
        pytest.exit(f"torch and vLLM do not import: {why}", returncode=1)
    wrong = _wrong_releases(record.packages, {"torch": torch, "vllm": vllm})
    if wrong is not None:
        record.fail(ErrorKind.WRONG_CELL, wrong)
        pytest.exit(wrong, returncode=1)
    seconds = _seconds_since(began)
    record.add_rung(
        RungResult(rung=Rung.IMPORTS, ok=True, seconds=seconds, reason=_missed_text(missed))
    )
    record.add_provenance(_stack_facts(torch, vllm, platform))
    unfit = _unfit(compat, platform)
    if unfit is not None:
        record.fail(*unfit)
        pytest.exit(unfit[1], returncode=1)
    try:
        record.set_flags(compat.effective_flags())
    except Exception:  # noqa: BLE001 - whatever a release raises, the record has it
        why = f"effective flags: {reason_of(traceback.format_exc())}"
        record.fail(ErrorKind.INTERNAL, why)
        pytest.exit(why, returncode=1)
    record.set_defaults(torch_internals.defaults())
    versions = f"torch {torch.__version__}, vllm {vllm.__version__}, {platform}"
    return f"imports  {seconds:.1f} s  {versions}"


def _wrong_releases(packages: Mapping[str, str], modules: Mapping[str, Any]) -> str | None:
    """Return which module is of another release than its installed package; None if all agree.

    Such a module comes from elsewhere, such as a folder in PYTHONPATH, and shows nothing of the
    cell. Local parts of versions do not count; what is not a version says nothing.
    """
    for name, module in modules.items():
        try:
            imported = Version(str(module.__version__)).public
            installed = Version(packages[name]).public
        except (AttributeError, KeyError, InvalidVersion):
            continue
        if imported != installed:
            return (
                f"{name} {installed} is installed, and {name} {imported} was imported from"
                f" {_folder(module)}: remove that from PYTHONPATH, or make the environment again"
            )
    return None


def _folder(module: Any) -> str:
    return str(Path(str(getattr(module, "__file__", None) or "?")).parent)


def _seconds_since(began: float) -> float:
    return round(time.monotonic() - began, 3)


@contextmanager
def _import_announced() -> Iterator[None]:
    """Let `matrix run` know that it was the import that ended this process, should it do so."""
    name = os.environ.pop(_IMPORTING, None)
    if name is None:
        yield
        return
    with suppress(OSError):
        Path(name).touch()
    try:
        yield
    finally:
        with suppress(OSError):
            Path(name).unlink()


@contextmanager
def quiet_unless_it_fails(record: Path | None) -> Iterator[None]:
    """Hold back what imports print (torch and vLLM print much); show it where one of them fails.

    A file next to the record holds it: there `matrix run` finds the last words of an import that
    took the whole process with it.
    """
    with _holding_file(record) as held, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = [(number, os.dup(number)) for number in (1, 2)]
        isolation.flush_output()
        for number, _ in kept:
            os.dup2(held.fileno(), number)
        failed = True
        try:
            yield
            failed = False
        finally:
            isolation.flush_output()
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
            if failed:
                held.seek(0)
                os.write(2, held.read()[-_SHOWN_BYTES:])


@contextmanager
def _holding_file(record: Path | None) -> Iterator[IO[bytes]]:
    if record is None:
        with tempfile.TemporaryFile() as held:
            yield held
        return
    path = record.with_suffix(".imports.log")
    with path.open("w+b") as held:
        yield held
    path.unlink(missing_ok=True)


def _import_stack(platform: Platform) -> tuple[Any, Any, dict[str, str]]:
    """Import torch and vLLM, with the extensions that vLLM itself imports only on use; return both.

    The third value has the extensions that were not loaded, and why. On the CPU platform no kernel
    of an extension ever runs, so one that cannot be linked here shows nothing about the compiler:
    the driver's library is missing, or one of the CUDA libraries that it was built with, or this
    torch does not export a symbol. vLLM forgives those too.
    """
    missed = {}
    torch = importlib.import_module("torch")
    vllm = importlib.import_module("vllm")
    for name in _EXTENSIONS:
        if importlib.util.find_spec(name) is not None:
            try:
                importlib.import_module(name)
            except ImportError as error:
                unlinked = _UNLINKED.search(str(error))
                if platform is not Platform.CPU or unlinked is None:
                    raise
                missed[name] = unlinked[0]
    return torch, vllm, missed


def _missed_text(missed: Mapping[str, str]) -> str | None:
    """Return the note of the rung `imports` on extensions that were not loaded, or None."""
    by_library: dict[str, list[str]] = {}
    others = []
    for name, why in missed.items():
        if why.startswith("undefined"):
            others.append(f"not loaded: {name} ({why})")
        else:
            by_library.setdefault(why, []).append(name)
    absent = [
        f"{library} is not here, so not loaded: {', '.join(names)}"
        for library, names in by_library.items()
    ]
    return "; ".join((*absent, *others)) or None


def _stack_facts(torch: Any, vllm: Any, platform: Platform) -> dict[str, object]:
    """Return what the record's provenance has of the stack, found without initialising CUDA."""
    triton = None
    with suppress(importlib.metadata.PackageNotFoundError):
        triton = importlib.metadata.version("triton")
    cuda = torch.version.cuda
    return {
        "torch": str(torch.__version__),
        "vllm": str(vllm.__version__),
        "triton": triton,
        "cuda": None if cuda is None else str(cuda),
        "gpu": gpus.first_gpu() if platform is Platform.CUDA else None,
    }


def _unfit(compat: Any, platform: Platform) -> tuple[ErrorKind, str] | None:
    """Return the kind of error and why, where vLLM or torch cannot use the machine as asked to."""
    chosen = compat.chosen_platform()
    if chosen != platform:
        why = f"vLLM chose the platform {chosen}, not {platform}"
        if platform is not Platform.CUDA:
            return ErrorKind.INTERNAL, why
        fault = gpus.nvml_fault()
        return (
            (ErrorKind.NO_GPU, why) if fault is None else (ErrorKind.NO_DRIVER, f"{why}: {fault}")
        )
    if platform is not Platform.CUDA:
        return None
    # The second question would spoil the forks of this process, so a child of its own asks.
    asked = isolation.run_forked(
        lambda: [compat.cuda_spoilt_by_fork(), *compat.torch_architectures()],
        timeout=_QUERY_SECONDS,
    )
    spoilt, *built = asked.value or [False]
    if spoilt:
        why = "CUDA was touched while torch and vLLM were imported; no fork can use it"
        return ErrorKind.INTERNAL, why
    capability = compat.compute_capability()
    if capability is None or built_for(built, capability):
        return None
    return (
        ErrorKind.GPU_UNSUPPORTED,
        (
            f"this torch has code for {', '.join(built)}, and none that a GPU of compute capability"
            f" {dotted(capability)} can run: use another GPU, or a torch that was built for this"
            " one"
        ),
    )
