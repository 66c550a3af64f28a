"""Which vLLM links with which torch, for a terminal and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from matrix._util.text import aligned, clean, clip
from matrix.catalog.candidates.model import Candidate
from matrix.catalog.candidates.update import described
from matrix.checks.facts import LinkCode, LinkFact
from matrix.checks.linkage.build import WheelBuild
from matrix.checks.linkage.link import Linkage, Linked
from matrix.checks.linkage.why import link_fact
from matrix.report.coded import coded
from matrix.report.facts import link_fault, link_words
from matrix.report.grid_text import blocks

_ABIS = {"stable": "stable", "c++": "C++", "none": "-"}
_NO_TABLE = "no table; by the name of the build"
_SHOWN = 3  # missing symbols of an extension; JSON has them all
_LEGEND = """\
yes  every extension finds what it needs of that torch
-X   the core does, the extensions of X do not:
no   the core does not
*    the torch that this vLLM pins
"""


def one(linkage: Linkage) -> str:
    """Return one pair: its verdict, and each extension with what it misses."""
    head = f"vLLM {linkage.vllm} with torch {linkage.torch} on Python {linkage.python}"
    rows = [("extension", "serves", "ABI", "links")]
    rows += [
        (linked.name, _serves(linked), _ABIS[linked.abi], "yes" if linked.ok else "no")
        for linked in linkage.extensions
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [clean(f"{head}: {verdict_words(linkage)}")]
    lines += [
        clean(f"{name}  {build.file or _NO_TABLE}, {_built_for(build)}")
        for name, build in zip(("vLLM ", "torch"), linkage.builds, strict=True)
    ]
    lines.append("")
    for place, row in enumerate(rows):
        cells = [clean(cell).ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[3]]).rstrip())
        if place:
            why = _why(linkage, linkage.extensions[place - 1])
            lines += [f"  {clip(clean(reason), 200)}" for reason in why]
    return "\n".join(lines) + "\n"


def without_extensions(candidate: Candidate, python: str, *, as_json: bool) -> str:
    """Return that the rung *links* has no answer for a vLLM without compiled files, and why."""
    fact = LinkFact(code=LinkCode.NO_EXTENSIONS if candidate.has_extensions else LinkCode.BUILT)
    why = link_words(fact)
    if as_json:
        row = {
            "python": python,
            "vllm": candidate.key,
            "verdict": "no answer",
            "ok": None,
            "reason": why,
            "because": coded(fact),
        }
        return json.dumps({"schema": 1, "pairs": [row]}, indent=2) + "\n"
    return (
        f"{clean(described(candidate))}: {why}. On the platform cpu none is loaded, so the rung"
        " links does not apply; on cuda it is unknown.\n"
    )


def grid(
    linkages: Sequence[Linkage], pins: Mapping[str, str], python: str, width: int | None = None
) -> str:
    """Return every pair: a line for each vLLM, a column for each torch, and what the marks mean.

    `pins` is the torch of each vLLM. Of each the major release of CUDA is there that it is built
    for. The columns stand in as many blocks as it takes for a `width`.
    """
    torches = list(dict.fromkeys(linkage.torch for linkage in linkages))
    marks = _marks(linkages)
    cuda = {linkage.torch: linkage.builds[1].cuda or "none" for linkage in linkages}
    of_vllm = {linkage.vllm: linkage.builds[0].cuda or "none" for linkage in linkages}
    rows = [["", "CUDA", *torches], ["CUDA", "", *(cuda[torch] for torch in torches)]]
    for vllm in dict.fromkeys(linkage.vllm for linkage in linkages):
        found = {linkage.torch: linkage for linkage in linkages if linkage.vllm == vllm}
        rows.append(
            [
                vllm,
                of_vllm[vllm],
                *(
                    _mark(found.get(torch), marks) + ("*" if pins.get(vllm) == torch else "")
                    for torch in torches
                ),
            ]
        )
    builds = [build for linkage in linkages for build in linkage.builds if build.sha256]
    machines = " and ".join(sorted({build.machine or "an unknown processor" for build in builds}))
    lines = [f"vLLM down, torch across, Python {python}, wheels for {clean(machines)}", ""]
    lines += [*_in_blocks(rows, width), ""]
    for line in _LEGEND.splitlines():
        lines.append(line)
        if line.startswith("-X"):
            if not marks:
                lines.pop()
            lines += [f"     {mark}  {clean(', '.join(names))}" for names, mark in marks.items()]
    counts = Counter(
        "do not link"
        if not linkage.ok
        else "link, without a feature"
        if linkage.without
        else "link"
        for linkage in linkages
    )
    summary = ", ".join(
        f"{counts[word]} {word}"
        for word in ("link", "link, without a feature", "do not link")
        if counts[word]
    )
    lines += ["", f"{len(linkages)} pairs: {summary}"]
    return "\n".join(lines) + "\n"


def _in_blocks(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Return aligned rows in blocks that fit, each with the first two columns at its left."""
    first, second, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    key = first + len("  ") + second
    parts = [
        aligned([[*row[:2], *(row[2 + place] for place in part)] for row in rows])
        for part in blocks(widths, key, width)
    ]
    return "\n\n".join("\n".join(part) for part in parts).split("\n")


def to_json(linkages: Sequence[Linkage], *, extensions: bool) -> str:
    """Return the pairs as JSON, each with its extensions where they are asked for."""
    pairs = []
    for linkage in linkages:
        row: dict[str, object] = {
            "python": linkage.python,
            "torch": linkage.torch,
            "vllm": linkage.vllm,
            "verdict": verdict_words(linkage),
            "ok": linkage.ok,
            "without": list(linkage.without),
            **_reason(
                linkage, next((linked for linked in linkage.extensions if not linked.ok), None)
            ),
            "builds": dict(zip(("vllm", "torch"), map(_build, linkage.builds), strict=True)),
        }
        if extensions:
            row["extensions"] = [_extension(linkage, linked) for linked in linkage.extensions]
        pairs.append(row)
    return json.dumps({"schema": 1, "pairs": pairs}, indent=2) + "\n"


def _build(build: WheelBuild) -> dict[str, object]:
    return {
        "version": build.version,
        "wheel": build.file,
        "sha256": build.sha256,
        "machine": build.machine,
        "cuda": build.cuda,
    }


def _built_for(build: WheelBuild) -> str:
    cuda = f"CUDA {build.cuda}" if build.cuda else "no CUDA"
    return f"{build.machine or 'unknown processor'}, {cuda}"


def verdict_words(linkage: Linkage) -> str:
    """Return `links`, `links, without X` or `does not link`."""
    if not linkage.ok:
        return "does not link"
    return f"links, without {', '.join(linkage.without)}" if linkage.without else "links"


def extension_words(linkage: Linkage, linked: Linked) -> str | None:
    """Return why an extension does not load, in one line; None if it does."""
    return None if linked.ok else link_words(link_fact(linkage, linked))


def _reason(linkage: Linkage, linked: Linked | None) -> dict[str, object]:
    """Return why an extension does not load: the sentence, and its code with operands."""
    if linked is None or linked.ok:
        return {"reason": None, "because": None}
    return {
        "reason": extension_words(linkage, linked),
        "because": coded(link_fact(linkage, linked)),
    }


def _extension(linkage: Linkage, linked: Linked) -> dict[str, object]:
    return {
        "path": linked.path,
        "feature": linked.feature,
        "abi": linked.abi,
        "ok": linked.ok,
        **_reason(linkage, linked),
        "libraries": list(linked.libraries),
        "symbols": list(linked.symbols),
        "names": list(linked.names),
    }


def _serves(linked: Linked) -> str:
    return linked.feature or "core"


def _why(linkage: Linkage, linked: Linked) -> list[str]:
    if linked.ok:
        return []
    if not linked.is_complete:
        return [link_fault(link_fact(linkage, linked))]
    found = list(linked.libraries)
    found += linked.names[:_SHOWN]
    more = len(linked.names) - _SHOWN
    return [f"needs {name}" for name in found] + ([f"and {more} more symbols"] if more > 0 else [])


def _marks(linkages: Sequence[Linkage]) -> dict[tuple[str, ...], str]:
    """Return a short mark for each set of features that some pair is without: -a, -b, ..."""
    sets = dict.fromkeys(linkage.without for linkage in linkages if linkage.ok and linkage.without)
    return {names: f"-{_letters(number)}" for number, names in enumerate(sets)}


def _letters(number: int) -> str:
    """Return the letters of a number from 0 up, like those of a spreadsheet's columns.

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
