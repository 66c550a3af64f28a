"""An examination of this machine as lines and as JSON: what it lacks, and what helps.

What helps is made in `matrix.report.doctor_fixes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from matrix._util.console import Terminal
from matrix._util.files import from_here
from matrix._util.text import clean, clip
from matrix.report.doctor_fixes import fix
from matrix.report.terminal import painted
from matrix.run.doctor.model import (
    CheckState,
    Examination,
    FoundCode,
    MachineCheck,
    Need,
)
from matrix.verdict.states import Verdict

_SCHEMA = 1
_COLOURS = {
    CheckState.OK: Verdict.COMPATIBLE,
    CheckState.LACKS: Verdict.INCOMPATIBLE,
    CheckState.UNKNOWN: Verdict.UNTESTED,
}
_ORDER = (CheckState.LACKS, CheckState.UNKNOWN, CheckState.OK)
_LABELS: Mapping[Need, str] = {
    Need.SYSTEM: "system",
    Need.WHEELS: "wheels of {subject}",
    Need.PYTHON: "Python {subject}",
    Need.HEADERS: "headers of Python {subject}",
    Need.COMPILER: "C++ compiler",
    Need.C_COMPILER: "C compiler",
    Need.OPENSSL: "openssl",
    Need.CHECKOUT: "checkout of the matrix",
    Need.TOX: "tox",
    Need.UV: "uv",
    Need.ENVIRONMENTS_DISK: "disk for environments",
    Need.TEMPORARY_DISK: "disk for temporary files",
    Need.TEMPORARY_PATH: "path of temporary files",
    Need.RECORDS_DISK: "disk for records",
    Need.MEMORY: "memory",
    Need.OPEN_FILES: "limit of open files",
    Need.THREADS: "limit of threads",
    Need.GPU: "GPU",
    Need.DRIVER: "NVIDIA driver",
    Need.GPU_MEMORY: "memory of the GPU",
    Need.NVCC: "nvcc",
    Need.SHARED_MEMORY: "shared memory",
    Need.INDEX: "index: {subject}",
}
_WANTED: Mapping[Need, str] = {
    Need.HEADERS: "Python.h",
    Need.COMPILER: "one that compiles",
    Need.C_COMPILER: "one that compiles",
    Need.OPENSSL: "one that runs",
    Need.UV: "any",
    Need.TEMPORARY_PATH: "no space or quote in it",
    Need.GPU: "one that CUDA sees",
}
_SIZES = {
    Need.ENVIRONMENTS_DISK,
    Need.TEMPORARY_DISK,
    Need.RECORDS_DISK,
    Need.MEMORY,
    Need.GPU_MEMORY,
    Need.SHARED_MEMORY,
}
_LIMITS = {Need.OPEN_FILES, Need.THREADS}
_FOUND: Mapping[FoundCode, str] = {
    FoundCode.ABSENT: "none",
    FoundCode.FETCHED: "none here; it is fetched when it is needed",
    FoundCode.HIDDEN: "hidden by CUDA_VISIBLE_DEVICES",
    FoundCode.NO_DRIVER: "one on the PCI bus, and no driver answers for it",
    FoundCode.SILENT: "no answer",
    FoundCode.NOT_KNOWN: "not known",
    FoundCode.NO_CLIENT: "cannot be asked",
}
_DETAIL = 90  # characters of what a program printed


def lines(found: Examination, terminal: Terminal | None = None) -> str:
    """Return what was found, what is lacking first, each with the command that helps."""
    colour = (terminal or Terminal()).colour
    checks = sorted(found.checks, key=lambda check: _ORDER.index(check.state))
    rows = [("", "what", "found", "wanted"), *(_row(check) for check in checks)]
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    text = [_summary(found)]
    for row, check in zip(rows, [None, *checks], strict=True):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        line = "  ".join([*cells, row[3]]).rstrip()
        state = "" if check is None else _COLOURS[check.state]
        text.append(painted(line[: widths[0]], state, colour=colour) + line[widths[0] :])
        if check is not None and check.state is not CheckState.OK:
            text += [f"{'':<{widths[0]}}    {words}" for words in _below(check, found)]
    if not found.asked_index:
        text.append("not asked: whether the index answers and has the releases (--network)")
    return "\n".join(text) + "\n"


def content(found: Examination) -> str:
    """Return what was found as JSON."""
    rows = []
    for check in found.checks:
        helps = fix(check, found.system)
        rows.append(
            {
                "need": check.need,
                "state": check.state,
                "subject": check.subject or None,
                "found": check.found,
                "code": check.code,
                "detail": check.detail or None,
                "wanted": check.wanted,
                "cells": list(check.cells or found.cells),
                "remedy": check.remedy,
                "command": helps.command or None,
                "note": helps.note or None,
            }
        )
    whole = {
        "schema": _SCHEMA,
        "platform": found.platform,
        "cells": list(found.cells),
        "system": list(found.system.kinds),
        "asked_index": found.asked_index,
        "counts": {state: found.count(state) for state in CheckState},
        "checks": rows,
    }
    return json.dumps(whole, indent=1) + "\n"


def _summary(found: Examination) -> str:
    names = ", ".join(found.cells[:3])
    names += f" and {len(found.cells) - 3} more" if len(found.cells) > 3 else ""
    counts = [
        f"{found.count(CheckState.LACKS)} lacking" if found.count(CheckState.LACKS) else "",
        f"{found.count(CheckState.UNKNOWN)} unknown" if found.count(CheckState.UNKNOWN) else "",
        f"{found.count(CheckState.OK)} ok",
    ]
    return f"{names} on {found.platform}: {', '.join(filter(None, counts))}"


def _row(check: MachineCheck) -> tuple[str, str, str, str]:
    label = _LABELS[check.need].format(subject=check.subject)
    return check.state, label, _found(check), _wanted(check)


def _found(check: MachineCheck) -> str:
    """Return what was found in words, with what a program printed where it does not work."""
    value = clean(str(check.found)) if check.found is not None else ""
    if check.need is Need.NVCC and check.subject:
        value = f"{value} ({clean(check.subject)})".strip()
    if check.need in _SIZES:
        value = "" if check.found is None else f"{_size(check.found)} free"
        where = clean(from_here(check.subject)) if check.subject else ""
        value += f"{' in ' if value else ''}{where}" if where else ""
        value += ", and the environment is there" if check.code is FoundCode.THERE else ""
    if check.need in _LIMITS and check.found is None:
        return "none"
    if check.need is Need.DRIVER and value:
        value = f"CUDA {value} at most"
    detail = clip(clean(check.detail), _DETAIL)
    if check.code is FoundCode.DOES_NOT_START:
        return f"{value} does not start{f': {detail}' if detail else ''}".strip()
    if check.code is FoundCode.FAILS:
        return f"{value} fails: {detail}"
    if check.code is FoundCode.NOT_WRITABLE:
        return f"{value} cannot be written: {detail}".strip()
    if check.code is FoundCode.SILENT and detail and check.need is Need.INDEX:
        return detail
    words = _FOUND.get(check.code, "") if check.code is not None else ""
    if check.need in {Need.NVCC, Need.HEADERS} and check.code is FoundCode.ABSENT:
        return f"none in {clean(check.subject if check.need is Need.NVCC else str(check.found))}"
    return ", ".join(filter(None, (value, words))) or "runs"


def _wanted(check: MachineCheck) -> str:
    if check.wanted is None:
        return _WANTED.get(check.need, "")
    if check.need in _SIZES and isinstance(check.wanted, int):
        return _size(check.wanted)
    if check.need in _LIMITS:
        return f"{check.wanted} or more"
    if check.need in {Need.DRIVER, Need.NVCC}:
        return f"CUDA {check.wanted}"
    return str(check.wanted)


def _below(check: MachineCheck, found: Examination) -> list[str]:
    """Return what stands below the line of what is not ok: the cells, why, what helps."""
    helps = fix(check, found.system)
    words = []
    if check.cells:
        words.append(f"for {', '.join(check.cells)}")
    if check.need is Need.DRIVER and check.detail:
        words.append(clip(clean(check.detail), 300))
    if helps.command:
        words.append(f"$ {helps.command}")
    if helps.note:
        words.append(helps.note)
    return words


def _size(found: str | int) -> str:
    """Return a number of MiB as people read it.

    >>> _size(10240), _size(512)
    ('10.0 GiB', '512 MiB')
    """
    number = int(found)
    return f"{number / 1024:.1f} GiB" if number >= 1024 else f"{number} MiB"
