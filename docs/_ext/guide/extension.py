"""The Sphinx extension: it writes generated Markdown into pages, and shortens some headings.

A page has a fence where what is generated belongs, such as this one, and headings around it:

    ```{generated} schema record
    ```
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from guide.commands import exit_status_table
from guide.environments import environment_table
from guide.schemas import SchemaReader

_ROOT = Path(__file__).resolve().parents[3]
_COMMANDS = "reference/commands"
_FENCE = re.compile(r"^```\{generated\} (.+)\n```$", re.MULTILINE)


def _schema(name: str) -> str:
    path = _ROOT / "matrix" / "data" / f"{name}.schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    return SchemaReader(schema=schema, name=name).markdown()


_MAKERS: Mapping[str, Callable[..., str]] = {
    "environments": lambda: environment_table((_ROOT / "tox.ini").read_text(encoding="utf-8")),
    "exit-statuses": exit_status_table,
    "schema": _schema,
}


def generate(_: Sphinx, __: str, source: list[str]) -> None:
    """Put what a fence names, with its arguments, in the place of the fence."""

    def made(fence: re.Match[str]) -> str:
        name, *arguments = fence[1].split()
        return _MAKERS[name](*arguments)

    source[0] = _FENCE.sub(made, source[0])


def shorten_headings(app: Sphinx, document: nodes.document) -> None:
    """Take from a heading of the commands' page what the heading above it says already."""
    if app.env.docname != _COMMANDS:
        return
    for section in document.findall(nodes.section):
        title, above = section.next_node(nodes.title), section.parent.next_node(nodes.title)
        if title is not None and above is not None and above.astext() != "matrix":
            short = title.astext().removeprefix(f"{above.astext()} ")
            title.children = [nodes.Text(short)]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add them to Sphinx."""
    app.connect("source-read", generate)
    app.connect("doctree-read", shorten_headings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
