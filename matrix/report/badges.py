"""SVG badges: one a pair of minor releases that ran.

A badge has the worst verdict over the Pythons, as a word and a colour, on the first platform
(`cuda` before `cpu`) with a run that decides something about the pair; where that is not `cuda`,
which is authoritative, it names the platform: `compatible (cpu)`. Where the packages of that run
were not as the vLLM requires, it says so and is not green: `compatible, not stock: without ray`. A
release beyond the end of the expectations is `untested, provisional: as vLLM 0.33`. Cases that
compile again on their warm start, and a partial run, are named and not green, too: `compatible, 2
cases recompile warm`, `compatible, 1 of 9 cases`. The worst is chosen as the grid does
(`matrix.verdict.ladder.badness`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from matrix.record.model import PLATFORMS
from matrix.report.marks import marks
from matrix.report.page import template
from matrix.verdict.states import Verdict
from matrix.verdict.table import Entry, Table

FOLDER = "badges"
_COLOURS: Mapping[str, str] = {
    Verdict.COMPATIBLE: "#1a7a37",
    Verdict.DRIFT: "#8f5f00",
    Verdict.INCOMPATIBLE: "#b3261e",
    Verdict.UNTESTED: "#59636f",
}
_NOT_STOCK = "#5d6b1f"
_OWN = re.compile(
    r'<svg xmlns="http://www\.w3\.org/2000/svg" width="\d+" height="20" role="img"'
    r' aria-label="torch (?P<torch>\d+\.\d+) \| vLLM (?P<vllm>\d+\.\d+): [a-z]+'
    r'(?:, (?:(?:not stock|provisional): |\d+ cases? recompiles? |\d+ of )[^"<>\n]*)?'
    r'(?: \([a-z]+\))?">\n'
)
_WIDTH, _MARGIN = 6.6, 12
"""Pixels of an average letter of the 11 px font, and those around a word."""


def render(table: Table) -> Mapping[str, str]:
    """Return each badge by its path in the folder of the table: badges/torch210-vllm019.svg."""
    pairs = sorted({(entry.factors.torch, str(entry.factors.vllm)) for entry in table.entries})
    badges = {}
    for torch, vllm in pairs:
        entry = _decisive(table, torch, vllm)
        if entry is not None:
            name = _name(torch, vllm)
            label = f"torch {torch} | vLLM {vllm}"
            title = f"{entry.record.platform}, Python {entry.factors.python}, {entry.date}"
            where = entry.record.platform if entry.record.platform != PLATFORMS[0] else None
            apart = ", ".join(marks(entry.ran, most=1))
            badges[f"{FOLDER}/{name}"] = badge(label, entry.verdict.verdict, title, where, apart)
    return badges


def badge(
    label: str, verdict: str, title: str = "", platform: str | None = None, apart: str = ""
) -> str:
    """Return one badge: a label (`torch 2.10 | vLLM 0.19`), its verdict and, if given, a platform.

    `title` is shown when a pointer is on it; `apart` are the marks of a run
    (`matrix.report.marks`).
    """
    words = f"{verdict}, {apart}" if apart else verdict
    words = f"{words} ({platform})" if platform else words
    colour = _COLOURS.get(verdict, _COLOURS[Verdict.UNTESTED])
    if apart and verdict == Verdict.COMPATIBLE:
        colour = _NOT_STOCK
    split, right = (round(len(text) * _WIDTH) + _MARGIN for text in (label, words))
    return str(
        template("badge.svg.j2").render(
            label=label,
            verdict=verdict,
            said=words,
            told=title,
            split=split,
            width=split + right,
            colour=colour,
        )
        + "\n"
    )


def is_own(name: str, text: str) -> bool:
    """Tell whether a file of this name is a badge made here, which names the pair of its file name.

    >>> is_own("torch210-vllm019.svg", "<svg>mine</svg>")
    False
    """
    found = _OWN.match(text)
    return found is not None and name == _name(found["torch"], found["vllm"])


def _name(torch: str, vllm: str) -> str:
    return f"torch{torch.replace('.', '')}-vllm{vllm.replace('.', '')}.svg"


def _decisive(table: Table, torch: str, vllm: str) -> Entry | None:
    """Return the worst entry of a pair on the first platform that has a verdict on the pair."""
    found = [table.worst(platform, torch, vllm) for platform in PLATFORMS]
    entries = [entry for entry in found if entry is not None]
    return next(
        (entry for entry in entries if entry.verdict.verdict != Verdict.UNTESTED),
        next(iter(entries), None),
    )
