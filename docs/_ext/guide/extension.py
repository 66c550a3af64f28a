"""The Sphinx extension: it writes generated Markdown into pages, and tidies that of the commands.

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

from guide.commands import EXAMPLES, exit_status_table
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


def tidy_commands(app: Sphinx, document: nodes.document) -> None:
    """Shorten the headings of the commands' page, and show the examples as what one types."""
    if app.env.docname == _COMMANDS:
        for section in document.findall(nodes.section):
            _shorten_heading(section)
        for block in [*document.findall(nodes.literal_block)]:
            _split_examples(block)


def _shorten_heading(section: nodes.section) -> None:
    """Take from a heading what the heading above it says already."""
    title, above = section.next_node(nodes.title), section.parent.next_node(nodes.title)
    if title is not None and above is not None and above.astext() != "matrix":
        short = title.astext().removeprefix(f"{above.astext()} ")
        title.children = [nodes.Text(short)]


def _split_examples(block: nodes.literal_block) -> None:
    """Put a paragraph and a block of commands in the place of what `--help` has at its end."""
    words, mark, lines = block.astext().partition(EXAMPLES)
    if mark:
        typed = "\n".join(f"$ {line.strip()}" for line in lines.splitlines())
        made = [nodes.literal_block(typed, typed, language="console")]
        text = " ".join(words.split())
        block.parent.replace(block, [nodes.paragraph(text, text), *made] if text else made)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add them to Sphinx."""
    app.connect("source-read", generate)
    app.connect("doctree-read", tidy_commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
