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

from matrix._util.text import pip_install, plural
from matrix.catalog.cells import Cell
from matrix.errors import MatrixError
from matrix.record.model import Platform, Rung
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
from matrix.report.page.extras import Extras, extras_of
from matrix.report.page.head import NEWEST, answer_lines
from matrix.report.page.legend import legend
from matrix.report.page.squares import LETTERS, SIGNS, mark, sign, style
from matrix.verdict.grid import Grid
from matrix.verdict.predictions import Predictions
from matrix.verdict.states import VERDICTS
from matrix.verdict.table import Table

__all__ = ["LETTERS", "PAGE_FILE", "SIGNS", "Template", "mark", "render", "template"]

PAGE_FILE = "index.html"
_LEGEND: Mapping[str, str] = {Rung.BUILDS: "builds (a vLLM from its sources)"}
_SCRIPTS = (
    *("elements.js", "versions.js", "search.js", "trends.js", "side_by_side.js", "detail.js"),
    "page.js",
)
_TEMPLATES = Path(__file__).parent / "templates"


def render(
    report: Report,
    environments: Mapping[str, Cell] | None = None,
    history: SecondsOverTime | None = None,
) -> str:
    """Return the table as a page. `environments` are the cells that have a name (`verdict.grid`).

    `history` has the seconds of a start over time, which are drawn where there are two or more.
    Raises MatrixError if Jinja2 is not installed.
    """
    table, grid, script, css = report.table, report.grid, _script(), _source("page.css")
    platforms = grid.platforms if grid is not None else ()
    rows = {release.version for release in grid.rows} if grid is not None else set()
    answers, extras = answer_lines(report, rows, style), extras_of(report, environments or {})
    return template("page.html.j2").render(
        style=_safe(css),
        style_hash=_hash(css),
        script=_safe(script),
        script_hash=_hash(script),
        data=_safe(embedded(pack(report, environments, history, extras))),
        newest=table.newest,
        answers=answers[:NEWEST],
        older=answers[NEWEST:],
        entries=len(table.entries),
        totals=[_total(table, platform) for platform in table.platforms],
        signs=SIGNS,
        ran_signs=[sign(verdict, ran=True) for verdict in VERDICTS],
        verdicts=VERDICTS,
        rungs=[(LETTERS[SHOWN_RUNGS.index(rung)], _LEGEND.get(rung, rung)) for rung in Rung],
        platforms=platforms,
        first=first_platform(table),
        pythons=grid.pythons if grid is not None else (),
        columns=_columns(grid),
        releases=(len(grid.torch), len(grid.vllm)) if grid is not None else (0, 0),
        rows=_rows(grid, first_platform(table), report.predictions, extras),
        legend=legend(report, extras),
        asked=report.asked,
    )


class Template(Protocol):
    """A template of Jinja2, whose types a checker need not have."""

    def render(self, **values: object) -> str:
        """Return the template with these values."""


class _Environment(Protocol):
    def get_template(self, name: str) -> Template: ...


def template(name: str) -> Template:
    """Return a template of the package, in which every value is escaped.

    Raises MatrixError if Jinja2 is not installed.
    """
    return _environment().get_template(name)


@cache
def _environment() -> _Environment:
    """Return the templates, compiled once a process: a table writes hundreds of badges."""
    try:
        jinja2 = importlib.import_module("jinja2")
    except ImportError:
        raise MatrixError(f"the page needs Jinja2; {pip_install('table')}") from None
    loader = jinja2.FileSystemLoader(_TEMPLATES)
    environment: _Environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment


def _columns(grid: Grid | None) -> list[dict[str, object]]:
    return [
        {"version": torch.version, "yanked": torch.yanked is not None}
        for torch in (shown_columns(grid) if grid is not None else ())
    ]


def _rows(
    grid: Grid | None, platform: Platform, predictions: Predictions, extras: Extras
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
                "style": style(square.shown),
                "corner": extras.of(square.shown),
            }
            for square in squares
        ]
        yanked = vllm.yanked is not None
        rows.append({"version": vllm.version, "pins": vllm.torch, "yanked": yanked, "cells": cells})
    return rows


def _total(table: Table, platform: Platform) -> dict[str, object]:
    """Return how many cells ran on the platform, and the verdicts on them."""
    found = [entry.verdict.verdict for entry in table.entries if entry.record.platform == platform]
    counts = [(verdict, found.count(verdict)) for verdict in VERDICTS]
    return {"platform": platform, "cells": plural(len(found), "cell"), "counts": counts}


def _script() -> str:
    """Return the script of the page: `page.js`, which starts it, comes last."""
    return '"use strict";\n' + "\n".join(map(_source, _SCRIPTS))


def _source(name: str) -> str:
    """Return a script or a style without its indents and comments, which a page need not have."""
    lines = map(str.strip, (_TEMPLATES / name).read_text(encoding="utf-8").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def _hash(text: str) -> str:
    """Return the hash of the text, as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _safe(text: str) -> object:
    """Return text of this package, or text that is escaped already, so that it stays as it is."""
    markup: object = importlib.import_module("markupsafe").Markup(text)
    return markup
