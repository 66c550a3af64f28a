"""Which vLLM links with which torch, for a terminal and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from matrix._util.text import clean, clip
from matrix.checks.linkage.link import Linkage, Linked

_ABIS = {"stable": "stable", "c++": "C++", "none": "-"}
_SHOWN = 3  # missing symbols of an extension; JSON has them all
_LEGEND = """\
yes  every extension finds what it needs of that torch
-X   the core does, the extensions of X do not:
no   the core does not
*    the torch that this vLLM pins
"""


def one(linkage: Linkage) -> str:
    """One pair: its verdict, and each extension with what it misses."""
    head = f"vLLM {linkage.vllm} with torch {linkage.torch} on Python {linkage.python}"
    rows = [("extension", "serves", "ABI", "links")]
    for each in linkage.extensions:
        rows.append((each.name, _serves(each), _ABIS[each.abi], "yes" if each.ok else "no"))
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    lines = [clean(f"{head}: {linkage.verdict}"), ""]
    for at, row in enumerate(rows):
        cells = [clean(cell).ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[3]]).rstrip())
        if at:
            lines += [f"  {clip(clean(each), 200)}" for each in _why(linkage.extensions[at - 1])]
    return "\n".join(lines) + "\n"


def grid(linkages: Sequence[Linkage], pins: Mapping[str, str], python: str) -> str:
    """Every pair: a line for each vLLM, a column for each torch, and what the marks mean.

    `pins` is the torch of each vLLM.
    """
    torches = list(dict.fromkeys(each.torch for each in linkages))
    marks = _marks(linkages)
    rows = [["", *torches]]
    for vllm in dict.fromkeys(each.vllm for each in linkages):
        found = {each.torch: each for each in linkages if each.vllm == vllm}
        rows.append(
            [
                vllm,
                *(
                    _mark(found.get(torch), marks) + ("*" if pins.get(vllm) == torch else "")
                    for torch in torches
                ),
            ]
        )
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [f"vLLM down, torch across, Python {python}", ""]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.append("")
    for line in _LEGEND.splitlines():
        lines.append(line)
        if line.startswith("-X"):
            if not marks:
                lines.pop()
            lines += [f"     {mark}  {clean(', '.join(names))}" for names, mark in marks.items()]
    counts = Counter(
        "do not link" if not each.ok else "link, without a feature" if each.without else "link"
        for each in linkages
    )
    told = ", ".join(
        f"{counts[each]} {each}"
        for each in ("link", "link, without a feature", "do not link")
        if counts[each]
    )
    lines += ["", f"{len(linkages)} pairs: {told}"]
    return "\n".join(lines) + "\n"


def to_json(linkages: Sequence[Linkage], *, extensions: bool) -> str:
    """The pairs as JSON, each with its extensions where they are asked for."""
    pairs = []
    for each in linkages:
        row: dict[str, object] = {
            "python": each.python,
            "torch": each.torch,
            "vllm": each.vllm,
            "verdict": each.verdict,
            "ok": each.ok,
            "without": list(each.without),
            "reason": each.reason,
        }
        if extensions:
            row["extensions"] = [_extension(linked) for linked in each.extensions]
        pairs.append(row)
    return json.dumps({"schema": 1, "pairs": pairs}, indent=2) + "\n"


def _extension(linked: Linked) -> dict[str, object]:
    return {
        "path": linked.path,
        "feature": linked.feature,
        "abi": linked.abi,
        "ok": linked.ok,
        "reason": linked.reason,
        "libraries": list(linked.libraries),
        "symbols": list(linked.symbols),
        "names": list(linked.names),
    }


def _serves(linked: Linked) -> str:
    return linked.feature or "core"


def _why(linked: Linked) -> list[str]:
    if linked.ok:
        return []
    if linked.fault is not None:
        return [linked.fault]
    found = list(linked.libraries)
    found += linked.names[:_SHOWN]
    more = len(linked.names) - _SHOWN
    return [f"needs {each}" for each in found] + ([f"and {more} more symbols"] if more > 0 else [])


def _marks(linkages: Sequence[Linkage]) -> dict[tuple[str, ...], str]:
    """A short mark for each set of features that some pair is without: -a, -b, ..."""
    sets = dict.fromkeys(each.without for each in linkages if each.ok and each.without)
    return {names: f"-{_letters(at)}" for at, names in enumerate(sets)}


def _letters(number: int) -> str:
    """As a column of a sheet is called.

    >>> _letters(0), _letters(25), _letters(26)
    ('a', 'z', 'aa')
    """
    head, tail = divmod(number, 26)
    return (_letters(head - 1) if head else "") + chr(ord("a") + tail)


def _mark(linkage: Linkage | None, marks: Mapping[tuple[str, ...], str]) -> str:
    if linkage is None:
        return "?"
    if not linkage.ok:
        return "no"
    return marks[linkage.without] if linkage.without else "yes"
