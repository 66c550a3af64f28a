"""All faults of a text, each once, with its signature. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace

from matrix._util.text import clean, clip
from matrix.explain.conflicts import PYTHON
from matrix.explain.imports import with_importer
from matrix.explain.model import Fault, FaultKind, TextFaults
from matrix.explain.outside import in_context, is_report, without_consequences
from matrix.explain.recognise import (
    LOAD_FAILURE,
    MARKS,
    RUNTIME,
    of_line,
    versions_in,
    weight_of_count,
)
from matrix.explain.scan import Excerpt, Scanned, scan
from matrix.record.signature import SIGNATURE_LIMIT, signature

MOST_FAULTS = 8
"""How many faults of a text are answered; the others are counted."""
_MANGLED = re.compile(r"(?<![\w$])_Z[A-Za-z0-9_$.]{3,2000}")
_NAME = re.compile(r"(?:aoti_torch|torch|c10|at|caffe2|cuda|cu|nccl|Py|_Py|__)\w{3,200}")
_LIBRARY = re.compile(r"lib[\w+-]{1,80}\.so(?:\.\d+){0,4}")
_GLIBC = re.compile(r"(?:GLIBC|GLIBCXX|CXXABI)_\d[\d.]{0,20}")
_ARCHITECTURE = re.compile(r"sm_\d{2,3}[af]?")
_ERROR = re.compile(
    r"(?:[\w.]{1,200}(?:Error|Exception|Failure)|[\w.]{1,200}Failed)\b(?:: .*| @ .*)?"
)
_DEATH = re.compile(r"killed by .*|timed out .*|std::.*|terminate called .*|Fatal Python error.*")
# Why an extension does not load.
_UNLOADED = (
    FaultKind.UNDEFINED_SYMBOL,
    FaultKind.MISSING_LIBRARY,
    FaultKind.MISSING_MODULE,
    FaultKind.OLD_LIBRARY,
)
# Words that say which kind a text without a known fault is nearest to: the one with most of them.
_NEAR: tuple[tuple[FaultKind, tuple[str, ...]], ...] = (
    (FaultKind.UNDEFINED_SYMBOL, ("symbol", "undefined reference", "no such operator")),
    (FaultKind.MISSING_LIBRARY, (".so", "shared object", "dll load", "no such file", "libcu")),
    (FaultKind.MISSING_MODULE, ("_c'", "vllm._", "_moe_c")),
    (FaultKind.MISSING_EXTENSION, ("deepgemm", "deep_gemm", "deep gemm")),
    (FaultKind.OLD_LIBRARY, ("glibc", "libc.so", "libstdc++", "manylinux")),
    (FaultKind.OLD_DRIVER, ("driver", "nvidia-smi", "nvml", "cuinit")),
    (FaultKind.NO_KERNEL, ("capability", "sm_", "cubin", "ptx", "architecture", "compute_", "gfx")),
    (
        FaultKind.CONFLICT,
        ("depends on", "but you have", "conflict", "incompatible", "no module named"),
    ),
    (FaultKind.TORCHVISION, ("torchvision", "nms")),
    (FaultKind.FLASHINFER, ("flashinfer",)),
    (FaultKind.RECOMPILES, ("recompil", "compile cache", "artifact", "warm start", "_inductor")),
    (FaultKind.OTHER_PACKAGE, ("cannot import name", "transformers", "numpy")),
    (FaultKind.TOOL, ("gcc", "g++", "nvcc", "ninja", "cmake", "fatal error: ", "cuda_home")),
    (FaultKind.MEMORY, ("out of memory", "no space left", "kv cache", "gpu_memory_utilization")),
    (FaultKind.NCCL, ("nccl",)),
    (FaultKind.GPU_STATE, ("cuda error", "xid", "nvlink", "cuda_visible_devices")),
)


def faults_in(chunks: Iterable[bytes]) -> TextFaults:
    """Return the faults of a text that comes in chunks of bytes, known ones before others."""
    scanned = scan(chunks, MARKS)
    found = _merged(map(_completed, scanned.excerpts))
    if not found and scanned.whole:
        found = _named(scanned.head)
    last = _last(scanned, found)
    if last is not None:
        found.append(last)
    found = _causes(found)
    known = any(fault.kind is not FaultKind.UNKNOWN for fault in found)
    return TextFaults(
        faults=tuple(found[:MOST_FAULTS]),
        versions=versions_in((scanned.head, scanned.tail)),
        more=max(0, len(found) - MOST_FAULTS) + scanned.more,
        nearest=None if known else _nearest(found[0].signature if found else ""),
        binary=scanned.binary,
    )


def _completed(excerpt: Excerpt[Fault]) -> Fault:
    """Return the fault of an excerpt with its signature, and with what stands before its line."""
    before = excerpt.text.partition(excerpt.line)[0]
    return with_importer(in_context(_with_signature(excerpt), before), before)


def _with_signature(excerpt: Excerpt[Fault]) -> Fault:
    """Return the fault of an excerpt with its signature: with its place, where that is known."""
    fault = excerpt.found
    for text in (excerpt.text, excerpt.line):
        settled = signature(text)
        again = of_line(settled)
        if again is not None and _alike(fault, again):
            return replace(fault, signature=_shown(settled))
    if fault.kind is FaultKind.CONFLICT and len(fault.demands) == 2:
        # The line is a part of the resolver's sentences, and says less than what they mean.
        needs = (f"{demand.who} needs {demand.name}{demand.range}" for demand in fault.demands)
        return replace(fault, signature=_shown(", and ".join(needs)))
    return replace(fault, signature=_shown(signature(excerpt.line)))


def _alike(fault: Fault, other: Fault) -> bool:
    """Tell whether a signature is of this fault. It has no versions of a machine."""
    if fault.kind is FaultKind.RECOMPILES and fault.has != other.has:
        return False
    if other.demands and fault.demands != other.demands:
        return False
    return (fault.kind, fault.subject) == (other.kind, other.subject)


def _merged(faults: Iterable[Fault]) -> list[Fault]:
    """Return each fault once: one that says less of the same is left out, files are the first's."""
    found: list[Fault] = []
    for fault in faults:
        place = next((at for at, known in enumerate(found) if _same(known, fault)), None)
        if place is None:
            found.append(fault)
            continue
        known = found[place]
        if known.kind is FaultKind.RECOMPILES:
            # Counters of different starts: a load failure outranks them, and a higher one a lower.
            found[place] = max(known, fault, key=_weight)
            continue
        found[place] = replace(
            known,
            subject=known.subject or fault.subject,
            file=known.file or fault.file,
            package=known.package or fault.package,
            has=known.has or fault.has,
            wants=known.wants or fault.wants,
            demands=known.demands or fault.demands,
        )
    return found


def _weight(fault: Fault) -> tuple[bool, int]:
    """Return how much a fault says of a warm start that compiles again."""
    return fault.subject == LOAD_FAILURE, weight_of_count(fault.has)


def _same(known: Fault, fault: Fault) -> bool:
    if known.kind is not fault.kind:
        return False
    if known.kind is FaultKind.OLD_DRIVER and known.subject != fault.subject:
        return False
    if known.kind in (FaultKind.OLD_DRIVER, FaultKind.NO_KERNEL):
        return not (known.has and fault.has and known.has != fault.has)
    if known.kind in (FaultKind.TORCHVISION, FaultKind.RECOMPILES):
        return True
    if known.kind is FaultKind.CONFLICT:
        empty = not (known.subject and fault.subject)
        return empty or (known.subject, known.demands) == (fault.subject, fault.demands)
    return known.subject == fault.subject


def _causes(faults: list[Fault]) -> list[Fault]:
    """Return the faults without those that follow from another of them.

    They are a missing module whose file does not load, an operator of an extension that did not
    load for a reason in the text, a version that an index does not have for this Python, and a
    resolver that found nothing for this glibc.
    """
    ignored = {
        demand.who.partition(" ")[0]
        for fault in faults
        for demand in fault.demands
        if fault.subject == PYTHON
    }
    loading = {fault.file.partition(".")[0] for fault in faults if fault.file}
    is_platform = any(
        fault.kind is FaultKind.OLD_LIBRARY and fault.has not in (None, RUNTIME) for fault in faults
    )
    faults = without_consequences(faults)
    if any(fault.kind in _UNLOADED for fault in faults):
        faults = [fault for fault in faults if not _is_operator(fault)]
    return [
        fault
        for fault in faults
        if not _follows(fault, loading, ignored) and not (is_platform and _is_unsaid(fault))
    ]


def _is_operator(fault: Fault) -> bool:
    return fault.kind is FaultKind.MISSING_EXTENSION and (fault.subject or "").startswith("_")


def _is_unsaid(fault: Fault) -> bool:
    """Tell whether it is a conflict of which no more is known than that there is one."""
    return fault.kind is FaultKind.CONFLICT and not (fault.demands or fault.has)


def _follows(fault: Fault, loading: AbstractSet[str], ignored: AbstractSet[str]) -> bool:
    if fault.kind is FaultKind.MISSING_MODULE:
        return (fault.subject or "").rpartition(".")[2] in loading
    if fault.kind is not FaultKind.CONFLICT or fault.wants is None or fault.demands:
        return False
    return fault.subject in ignored


def _named(text: str) -> list[Fault]:
    """Return what a text only names: symbols, a library, a version of glibc, a GPU's number."""
    words = text.split()
    symbols = list(dict.fromkeys(_MANGLED.findall(text)))
    if not symbols and len(words) == 1 and _NAME.fullmatch(words[0]):
        symbols = words
    faults = [
        Fault(kind=FaultKind.UNDEFINED_SYMBOL, signature=_shown(symbol), subject=symbol, named=True)
        for symbol in symbols
    ]
    if not faults and 0 < len(words) <= 4:
        for word in words:
            bare = word.rpartition("/")[2].strip("'\",:;")
            if _LIBRARY.fullmatch(bare):
                kind = FaultKind.MISSING_LIBRARY
            elif _GLIBC.fullmatch(bare):
                kind = FaultKind.OLD_LIBRARY
            elif _ARCHITECTURE.fullmatch(bare):
                gpu = Fault(kind=FaultKind.NO_KERNEL, signature=bare, has=bare, named=True)
                faults.append(gpu)
                continue
            else:
                continue
            faults.append(Fault(kind=kind, signature=_shown(bare), subject=bare, named=True))
    return faults


def _last(scanned: Scanned[Fault], found: list[Fault]) -> Fault | None:
    """Return the error that a text ends with, where it is none of the known faults."""
    from matrix.record.signature.patterns import WRAPPERS

    for text in (scanned.head if scanned.whole else scanned.tail, scanned.traceback):
        settled = _shown(signature(text)) if text.strip() else ""
        known = of_line(settled)
        if known is not None:
            if scanned.more or any(_same(fault, known) for fault in found):
                return None
            # pip lists every package that it left: those that are known here were read.
            if any(fault.kind is FaultKind.CONFLICT is known.kind for fault in found):
                return None
            return replace(known, signature=settled)
        if _ERROR.fullmatch(settled) or _DEATH.fullmatch(settled):
            is_there = any(settled == fault.signature for fault in found)
            if is_there or (found and WRAPPERS.search(settled)):
                return None
            return Fault(kind=FaultKind.UNKNOWN, signature=settled)
    if not all(map(is_report, found)) or not scanned.tail.strip():
        return None
    text = scanned.head if scanned.whole else scanned.tail
    settled = _shown(signature(text))
    if not settled or (found and WRAPPERS.search(settled)):
        return None
    return Fault(kind=FaultKind.UNKNOWN, signature=settled)


def _nearest(text: str) -> FaultKind | None:
    """Return the kind most of whose words an unknown error has; None if it has none."""
    lowered = text.lower()
    best, most = None, 0
    for kind, words in _NEAR:
        count = sum(word in lowered for word in words)
        if count > most:
            best, most = kind, count
    return best


def _shown(settled: str) -> str:
    return clip(clean(settled), SIGNATURE_LIMIT)
