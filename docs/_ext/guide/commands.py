"""The commands as the guide shows them: their parsers, and the exit statuses that these name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from matrix.cli import parser_of
from matrix.commands.helps import HELPS
from matrix.commands.parser import CommandParser

EXAMPLES = "\n\nexamples:\n"
"""What stands between the last words of a command's help and its examples."""

_STATUS = re.compile(r"Exit status: (.+?)(?:\. |\.?$)", re.DOTALL)


def every_parser(parser: argparse.ArgumentParser | None = None) -> Iterator[CommandParser]:
    """Give the parser of `matrix`, or another one, and those of all commands below it."""
    parser = parser or parser_of(())
    assert isinstance(parser, CommandParser)
    yield parser
    for below in _below(parser).values():
        yield from every_parser(below)


def documented() -> CommandParser:
    """Return the parser with the descriptions and examples that `--help` would add.

    sphinx-argparse-cli makes one block of an epilog of several lines; the extension splits it.
    """
    found = parser_of(())
    for parser in every_parser(found):
        texts = HELPS[parser.command]
        parser.description = texts.description.replace("`", "")
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = f"{parser.epilog or ''}{EXAMPLES}" + "\n".join(texts.examples)
    return found


def exit_statuses() -> dict[str, str]:
    """Return what each command that runs says of its exit status; "" where it says nothing."""
    found = {}
    for parser in every_parser():
        if not _below(parser):
            named = _STATUS.search(" ".join((parser.epilog or "").split()))
            found[parser.command] = named[1] if named else ""
    return found


def exit_status_table() -> str:
    """Return a table in Markdown of the commands and their exit statuses."""
    rows = ["| command | exit status |", "|---|---|"]
    rows += [f"| `matrix {command}` | {text} |" for command, text in exit_statuses().items()]
    return "\n".join(rows) + "\n"


def _below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to its commands
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            found |= action.choices
    return found
