"""The compatibility table as one HTML page, which works from disk and asks the network for nothing.

The grid stands in the page as markup; `data` packs all else, and the page's script shows it as
text. A content security policy allows that one script and that one style and nothing else,
whatever a record holds.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

from matrix.catalog.cells import Cell
from matrix.errors import MatrixError
from matrix.record.model import Platform, Rung
from matrix.report import prediction
from matrix.report.model import Report
from matrix.report.page.data import (
    SHOWN_RUNGS,
    SecondsOverTime,
    first_platform,
    pack,
    shown_columns,
    shown_rows,
)
from matrix.report.page.encoding import embedded
from matrix.report.page.head import NEWEST, answer_lines
from matrix.verdict.grid import Grid
from matrix.verdict.ladder import Progress
from matrix.verdict.predictions import Predictions
from matrix.verdict.states import VERDICTS, Verdict
from matrix.verdict.table import Table

PAGE_FILE = "index.html"
LETTERS = ("D", "R", "L", "I", "C", "W", "E", "B")
"""The letter of each rung of `SHOWN_RUNGS`."""
SIGNS = ("×", "≠", "·", "✓")
"""The sign of each verdict, worst first, for readers who do not see colours."""

_LEGEND: Mapping[str, str] = {Rung.BUILDS: "builds (a vLLM from its sources)"}
_TEMPLATES = Path(__file__).parent / "templates"


def render(
    report: Report,
    environments: Mapping[str, Cell] | None = None,
    history: SecondsOverTime | None = None,
) -> str:
    """Return the table as a page. `environments` are the cells that have a name (`verdict.grid`).

    `history` has the seconds of a start over time, which are drawn where there are two or more.
    Raises MatrixError where Jinja2 is not installed.
    """
    table, grid, script, style = report.table, report.grid, _source("page.js"), _source("page.css")
    platforms = grid.platforms if grid is not None else ()
    rows = {release.version for release in grid.rows} if grid is not None else set()
    answers = answer_lines(report, rows, _style)
    return template("page.html.j2").render(
        style=_safe(style),
        style_hash=_hash(style),
        script=_safe(script),
        script_hash=_hash(script),
        data=_safe(embedded(pack(report, environments, history))),
        newest=table.newest,
        answers=answers[:NEWEST],
        older=answers[NEWEST:],
        entries=len(table.entries),
        totals=[_total(table, platform) for platform in table.platforms],
        signs=SIGNS,
        ran_signs=[_sign(verdict, ran=True) for verdict in VERDICTS],
        verdicts=VERDICTS,
        rungs=[(LETTERS[SHOWN_RUNGS.index(rung)], _LEGEND.get(rung, rung)) for rung in Rung],
        platforms=platforms,
        first=first_platform(table),
        pythons=grid.pythons if grid is not None else (),
        columns=_columns(grid),
        releases=(len(grid.torch), len(grid.vllm)) if grid is not None else (0, 0),
        rows=_rows(grid, first_platform(table), report.predictions),
        predicted=prediction.legend(report.predictions.accuracy),
    )


class Template(Protocol):
    """A template of Jinja2, whose types a checker need not have."""

    def render(self, **values: object) -> str:
        """Return the template with these values."""


class _Environment(Protocol):
    def get_template(self, name: str) -> Template: ...


def template(name: str) -> Template:
    """Return a template of the package, in which every value is escaped.

    Raises MatrixError where Jinja2 is not installed.
    """
    return _environment().get_template(name)


@cache
def _environment() -> _Environment:
    """Return the templates, compiled once a process: a table writes hundreds of badges."""
    try:
        jinja2 = importlib.import_module("jinja2")
    except ImportError:
        raise MatrixError("the page needs Jinja2; pip install 'torch-vllm-matrix[table]'") from None
    loader = jinja2.FileSystemLoader(_TEMPLATES)
    environment: _Environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment


def mark(progress: Progress, *, predicted: bool = False) -> str:
    """Return what a square shows: the sign of its verdict and the letter of the rung that decides.

    That is the rung where it fails, else the highest that it reached, with a question mark where
    the state of a rung below is unknown; no letter where nothing is known. An asterisk says that it
    ran with packages that are not as the vLLM requires. What is provisional has a sign of its own,
    and so has what is predicted, after what is measured.
    """
    rung = progress.fails or progress.reached
    sign = _sign(progress.verdict, ran=progress.ran is not None)
    if progress.fails is None and progress.provisional is not None:
        sign = "≈"
    letter = LETTERS[SHOWN_RUNGS.index(rung)] if rung else ""
    doubt = "?" if progress.fails is None and progress.skipped else ""
    apart = ("*" if progress.not_stock else "") + _extra(progress)
    return sign + letter + doubt + apart + ("◌" if predicted else "")


def _extra(progress: Progress) -> str:
    """Return the signs of a run with cases that recompile warm, and of a partial one."""
    ran = progress.ran
    if ran is None:
        return ""
    return ("↻" if ran.recompiling else "") + ("◔" if ran.part else "")


def _sign(verdict: Verdict, *, ran: bool) -> str:
    """Return the sign of a verdict; an untested cell that ran has one of its own."""
    return "?" if ran and verdict == Verdict.UNTESTED else SIGNS[VERDICTS.index(verdict)]


def _style(progress: Progress) -> str:
    """Return the classes of a square: its verdict, whether it ran, whether it is the pin."""
    ran, pin = " r" if progress.ran is not None else "", "" if progress.off_pin else " p"
    apart = " n" if progress.not_stock or _extra(progress) else ""
    return f"s{VERDICTS.index(progress.verdict)}{ran}{pin}{apart}"


def _columns(grid: Grid | None) -> list[dict[str, object]]:
    return [
        {"version": torch.version, "yanked": torch.yanked is not None}
        for torch in (shown_columns(grid) if grid is not None else ())
    ]


def _rows(
    grid: Grid | None, platform: Platform, predictions: Predictions
) -> list[dict[str, object]]:
    """Return the squares of the platform shown first, which can be read without the script."""
    if grid is None or not grid.platforms:
        return []
    rows: list[dict[str, object]] = []
    for vllm in shown_rows(grid):
        across = shown_columns(grid)
        squares = [grid.squares[platform, torch.version, vllm.version] for torch in across]
        cells = [
            {
                "mark": mark(square.shown, predicted=predictions.at(square) is not None),
                "style": _style(square.shown),
            }
            for square in squares
        ]
        yanked = vllm.yanked is not None
        rows.append({"version": vllm.version, "pins": vllm.torch, "yanked": yanked, "cells": cells})
    return rows


def _total(table: Table, platform: Platform) -> dict[str, object]:
    """Return how many cells ran on the platform, and the verdicts on them."""
    found = [entry.verdict.verdict for entry in table.entries if entry.record.platform == platform]
    cells = f"{len(found)} cell{'' if len(found) == 1 else 's'}"
    counts = [(verdict, found.count(verdict)) for verdict in VERDICTS]
    return {"platform": platform, "cells": cells, "counts": counts}


def _source(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    """Return the hash of the text, as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _safe(text: str) -> object:
    """Return text of this package, or text that is escaped already, so that it stays as it is."""
    markup: object = importlib.import_module("markupsafe").Markup(text)
    return markup
