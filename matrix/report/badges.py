"""SVG badges: one a pair of minor releases that ran.

A badge says the worst verdict over the Pythons, as a word beside its colour, on the first platform
(`cuda` before `cpu`) where a run says something of the pair; where that is not `cuda`, which
decides, it names the platform: `compatible (cpu)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from matrix.record.model import PLATFORMS
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
_OWN = re.compile(
    r'<svg xmlns="http://www\.w3\.org/2000/svg" width="\d+" height="20" role="img"'
    r' aria-label="torch (?P<torch>\d+\.\d+) \| vLLM (?P<vllm>\d+\.\d+): [a-z]+(?: \([a-z]+\))?">\n'
)
_WIDTH, _MARGIN = 6.6, 12
"""Pixels of an average letter of the 11 px font, and those around a word."""


def render(table: Table) -> Mapping[str, str]:
    """Each badge by its path under the folder of the table: `badges/torch210-vllm019.svg`."""
    pairs = sorted({(entry.factors.torch, str(entry.factors.vllm)) for entry in table.entries})
    badges = {}
    for torch, vllm in pairs:
        entry = _decisive(table, torch, vllm)
        if entry is not None:
            name = _name(torch, vllm)
            label = f"torch {torch} | vLLM {vllm}"
            told = f"{entry.record.platform}, Python {entry.factors.python}, {entry.date}"
            where = entry.record.platform if entry.record.platform != PLATFORMS[0] else None
            badges[f"{FOLDER}/{name}"] = badge(label, entry.verdict.verdict, told, where)
    return badges


def badge(label: str, verdict: str, told: str = "", platform: str | None = None) -> str:
    """One badge: a label (`torch 2.10 | vLLM 0.19`) and its verdict, and on which platform if told.

    `told` goes to its title.
    """
    said = f"{verdict} ({platform})" if platform else verdict
    split, right = (round(len(text) * _WIDTH) + _MARGIN for text in (label, said))
    return str(
        template("badge.svg.j2").render(
            label=label,
            verdict=verdict,
            said=said,
            told=told,
            split=split,
            width=split + right,
            colour=_COLOURS.get(verdict, _COLOURS[Verdict.UNTESTED]),
        )
        + "\n"
    )


def is_own(name: str, text: str) -> bool:
    """Whether a file of this name is surely a badge made here: it says the pair that it is named.

    >>> is_own("torch210-vllm019.svg", "<svg>mine</svg>")
    False
    """
    found = _OWN.match(text)
    return found is not None and name == _name(found["torch"], found["vllm"])


def _name(torch: str, vllm: str) -> str:
    return f"torch{torch.replace('.', '')}-vllm{vllm.replace('.', '')}.svg"


def _decisive(table: Table, torch: str, vllm: str) -> Entry | None:
    """The worst entry of a pair on the first platform where it says something of the pair."""
    found = [table.worst(platform, torch, vllm) for platform in PLATFORMS]
    told = [entry for entry in found if entry is not None]
    return next(
        (each for each in told if each.verdict.verdict != Verdict.UNTESTED), next(iter(told), None)
    )
