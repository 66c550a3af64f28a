"""The head of the page: the answer for each vLLM that has a row, as its template takes it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple
from urllib.parse import urlencode

from matrix.report.answers import words
from matrix.report.model import Report
from matrix.report.page.links import TextPart, linked
from matrix.report.uv_commands import command_line
from matrix.verdict.answer import VllmAnswer
from matrix.verdict.ladder import Progress

NEWEST = 8
"""How many answers the page shows at first; the older ones open below them."""


class HeadLine(NamedTuple):
    """One answer as the template takes it: `at` is its pair, `link` what opens it."""

    at: str
    link: str
    vllm: str
    torch: str
    pin: str
    label: str
    style: str
    warm: list[TextPart]
    where: str
    started: str
    others: str
    command: str


def answer_lines(
    report: Report,
    rows: Collection[str],
    style: Callable[[Progress], str],
) -> list[HeadLine]:
    """Return the answers for the vLLM releases that have a row, newest first."""
    return [
        _line(answer, style, command_line(report.install(answer.progress.cell)))
        for answer in report.answers
        if answer.vllm.version in rows
    ]


def _line(answer: VllmAnswer, style: Callable[[Progress], str], command: str) -> HeadLine:
    wording = words(answer)
    at = f"{answer.torch},{answer.vllm.version}"
    where = " · ".join(filter(None, [wording.where, wording.build, wording.packages]))
    return HeadLine(
        at=at,
        link="#" + urlencode({"platform": answer.progress.platform, "at": at}, safe=","),
        vllm=answer.vllm.version,
        torch=answer.torch,
        pin=f"pins {answer.vllm.torch}" if answer.off_pin else "its pin",
        label=wording.label,
        style=style(answer.progress).replace(" p", ""),
        warm=list(linked(wording.warm)),
        where=where,
        started=wording.started,
        others=wording.others,
        command=command,
    )
