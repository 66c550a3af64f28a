"""Faults outside of torch and vLLM: read in a line, in their context, and their answers. Pure.

No release of torch or vLLM answers them, so an answer names none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from matrix.explain.model import (
    Fault,
    FaultAnswer,
    FaultKind,
    FaultRemedy,
    RemedyCode,
)
from matrix.explain.outside_faults import (
    DEV_SHM,
    DISK,
    GPU_MEMORY,
    GRAPHS,
    HELD,
    NCCL_CALLS,
    NO_GPU,
    OUTSIDE_FAULTS,
    PLATFORM,
    WAITING,
)

_BY_SUBJECT = {row.subject: row for row in OUTSIDE_FAULTS}
_ROWS = tuple((row, tuple(mark.decode() for mark in row.marks)) for row in OUTSIDE_FAULTS)
OUTSIDE_MARKS = tuple(dict.fromkeys(mark for row in OUTSIDE_FAULTS for mark in row.marks))
"""What a line must have that shows one of them."""
_CAPTURING = re.compile(
    r"Capturing CUDA graph|\bin (?:capture_model|capture_end|_?capture_cudagraphs?)\b"
)
_CAPTURED = re.compile(r"Graph capturing finished|init engine .{0,80}took")
_SIZE = r"(?P<{0}>\d{{1,7}}(?:\.\d{{1,4}})?) (?P<{0}_unit>bytes|[KMG]iB)\b"
_EXHAUSTED = re.compile(
    rf"CUDA out of memory\. Tried to allocate {_SIZE.format('tried')}\. GPU \d+ has a total"
    rf" capacity of {_SIZE.format('total')} of which {_SIZE.format('free')} is free\b.{{0,2000}}?"
    rf" this process has {_SIZE.format('own')} memory in use"
)
_UNITS = {"bytes": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_OF_OTHERS = 0.05  # a share of a GPU: a smaller rest counts as CUDA's own
_OF_DRIVER = ("libcuda.so.1", "libnvidia-ml.so.1")
_BELOW = 200  # characters below a line that its message may go on with


def of_outside(line: str, after: str) -> Fault | None:
    """Read a fault of the machine, its tools, its memory or of NCCL."""
    text = f"{line}\n{after[:_BELOW]}"
    for row, marks in _ROWS:
        if not any(mark in text for mark in marks):
            continue
        found = row.pattern.search(text)
        if found is None or found.start() >= len(line):
            continue
        # Others hold the memory where an empty GPU would have had enough of it.
        if row.subject == GPU_MEMORY and _is_held(line):
            row = _BY_SUBJECT[HELD]  # noqa: PLW2901 - the line says more
        groups = found.groupdict()
        return Fault(
            kind=row.kind,
            signature="",
            subject=row.subject,
            has=groups.get("has"),
            wants=groups.get("wants"),
        )
    return None


def _is_held(line: str) -> bool:
    """Tell whether others hold a part of a GPU that matters, and without it this would fit.

    What CUDA itself takes is in what this process has, but for a few MiB.
    """
    found = _EXHAUSTED.search(line)
    if found is None:
        return False
    tried, total, free, own = (
        float(found[key]) * _UNITS[found[f"{key}_unit"]]
        for key in ("tried", "total", "free", "own")
    )
    return own + tried <= total and total - free - own > total * _OF_OTHERS


def in_context(fault: Fault, before: str) -> Fault:
    """Return a fault as the text before its line says: memory ended while graphs were captured.

    vLLM captures them last, in `capture_model`, under a bar of progress.
    """
    if fault.subject != GPU_MEMORY:
        return fault
    captured = max((found.end() for found in _CAPTURED.finditer(before)), default=0)
    return replace(fault, subject=GRAPHS) if _CAPTURING.search(before, captured) else fault


def without_consequences(faults: Sequence[Fault]) -> list[Fault]:
    """Return the faults without those that another of them causes, or says more of."""
    return [fault for fault in faults if not any(_causes(other, fault) for other in faults)]


def is_report(fault: Fault) -> bool:
    """Tell whether a fault only reports another one, which ended the engine."""
    return fault.kind is FaultKind.REPORT and fault.subject != WAITING


def _causes(cause: Fault, fault: Fault) -> bool:
    """Tell whether a fault is why another one is there."""
    if cause is fault:
        return False
    if fault.kind is FaultKind.REPORT:
        return fault.subject == WAITING or cause.kind is not FaultKind.REPORT
    if fault.subject in (NO_GPU, PLATFORM):
        is_state = cause.kind is FaultKind.GPU_STATE and cause.subject != PLATFORM
        return is_state or cause.kind is FaultKind.OLD_DRIVER or cause.subject in _OF_DRIVER
    if fault.subject == DISK:
        return cause.subject == DEV_SHM
    if fault.subject == GPU_MEMORY:
        return cause.subject in (GRAPHS, HELD)
    if fault.kind is FaultKind.NCCL and fault.subject in NCCL_CALLS:
        is_nccl = cause.kind is FaultKind.NCCL and cause.subject not in NCCL_CALLS
        return is_nccl or cause.subject == DEV_SHM
    return False


def outside_answer(fault: Fault, cuda: str | None) -> FaultAnswer:
    """Return what such a fault means and what helps; `cuda` is that of the torch of the text."""
    row = _BY_SUBJECT[fault.subject or ""]
    wants = fault.wants or cuda
    operand = {RemedyCode.TOOLKIT: wants, RemedyCode.NEWER_GPU: row.least}
    return FaultAnswer(
        fault=fault,
        meaning=row.meaning,
        operands={"cuda": wants} if wants and row.kind is FaultKind.TOOL else {},
        remedies=tuple(FaultRemedy(code=code, what=operand.get(code)) for code in row.remedies),
    )
