"""The compatibility table as one HTML page, which works from disk and asks the network for nothing.

The grid stands in the page as markup; all else is packed once (`page_data`), and the page's script
shows it as text. A content security policy lets that one script and that one style in and nothing
else, whatever a record says.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from matrix.catalog.cells import Cell
from matrix.errors import MatrixError
from matrix.record.model import RUNGS
from matrix.report.model import Report
from matrix.report.page.data import History, embedded, first_platform, pack
from matrix.verdict.grid import Grid
from matrix.verdict.ladder import Progress
from matrix.verdict.states import VERDICTS, Verdict
from matrix.verdict.table import Table

PAGE = "index.html"
LETTERS = ("D", "R", "L", "I", "C", "W", "E")
"""The letter of each rung, in their order."""
SIGNS = ("×", "≠", "·", "✓")  # noqa: RUF001
"""The sign of each verdict, worst first: a colour alone tells nothing to some."""

_TEMPLATES = Path(__file__).parent / "templates"


def render(
    report: Report, environments: Mapping[str, Cell] | None = None, history: History | None = None
) -> str:
    """The table as a page. `environments` are the cells that have a name (`grid.environments`).

    `history` has the seconds of a start over time, which are drawn where there are two or more.
    Raises MatrixError where Jinja2 is not installed.
    """
    table, grid, script, style = report.table, report.grid, _source("page.js"), _source("page.css")
    platforms = grid.platforms if grid is not None else ()
    text: str = template("page.html.j2").render(
        style=_safe(style),
        style_hash=_hash(style),
        script=_safe(script),
        script_hash=_hash(script),
        data=_safe(embedded(pack(report, environments, history))),
        newest=table.newest,
        entries=len(table.entries),
        totals=[_total(table, platform) for platform in table.platforms],
        signs=SIGNS,
        ran_signs=[_sign(verdict, ran=True) for verdict in VERDICTS],
        verdicts=VERDICTS,
        rungs=RUNGS,
        letters=LETTERS,
        platforms=platforms,
        first=first_platform(table),
        pythons=grid.pythons if grid is not None else (),
        columns=_columns(grid),
        releases=(len(grid.torch), len(grid.vllm)) if grid is not None else (0, 0),
        rows=_rows(grid, first_platform(table)),
    )
    return text


def template(name: str) -> Any:
    """A template of the package, in which every value is escaped.

    Raises MatrixError where Jinja2 is not installed.
    """
    return _environment(_jinja2()).get_template(name)


@cache
def _environment(jinja2: Any) -> Any:
    loader = jinja2.FileSystemLoader(_TEMPLATES)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


def mark(progress: Progress) -> str:
    """What a square shows: the sign of its verdict and the letter of the rung that decides.

    That is the rung where it fails, else the highest that it reached, with a question mark where a
    rung below was not asked; nothing where nobody asked.
    """
    rung = progress.fails or progress.reached
    sign = _sign(progress.verdict, ran=progress.ran is not None)
    letter = LETTERS[RUNGS.index(rung)] if rung else ""
    return sign + letter + ("?" if progress.fails is None and progress.skipped else "")


def _sign(verdict: str, *, ran: bool) -> str:
    """The sign of a verdict; to be untested is another thing where it ran."""
    return "?" if ran and verdict == Verdict.UNTESTED else SIGNS[VERDICTS.index(verdict)]


def _style(progress: Progress) -> str:
    """The classes of a square: its verdict, whether it ran, whether it is the pin."""
    ran, pin = " r" if progress.ran is not None else "", "" if progress.off_pin else " p"
    return f"s{VERDICTS.index(progress.verdict)}{ran}{pin}"


def _columns(grid: Grid | None) -> list[dict[str, object]]:
    columns = grid.columns if grid is not None else ()
    return [{"version": each.version, "yanked": each.yanked is not None} for each in columns]


def _rows(grid: Grid | None, platform: str) -> list[dict[str, object]]:
    """The squares of the platform that is shown first, which can be read without the script."""
    if grid is None or not grid.platforms:
        return []
    return [
        {
            "version": vllm.version,
            "pins": vllm.torch,
            "yanked": vllm.yanked is not None,
            "cells": [
                {"mark": mark(shown), "style": _style(shown)}
                for torch in grid.columns
                for shown in [grid.squares[platform, torch.version, vllm.version].shown]
            ],
        }
        for vllm in grid.rows
    ]


def _total(table: Table, platform: str) -> dict[str, object]:
    """How many cells ran on the platform, and the verdicts on them."""
    of = [entry.verdict.verdict for entry in table.entries if entry.record.platform == platform]
    cells = f"{len(of)} cell{'' if len(of) == 1 else 's'}"
    counts = [(verdict, of.count(verdict)) for verdict in VERDICTS]
    return {"platform": platform, "cells": cells, "counts": counts}


def _source(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    """The text as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _safe(text: str) -> object:
    """Text of ours, or made safe before, that is not escaped again."""
    return importlib.import_module("markupsafe").Markup(text)


def _jinja2() -> Any:
    try:
        return importlib.import_module("jinja2")
    except ImportError:
        raise MatrixError("the page needs Jinja2; pip install 'torch-vllm-matrix[table]'") from None
