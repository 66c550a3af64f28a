"""The parser of `matrix` and of each command: its help with examples, and errors of one line."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from matrix._util.addresses import without_logins
from matrix._util.nearest import nearest, suggested, with_meant
from matrix._util.text import listed, shorten
from matrix.errors import MatrixError

_SYNONYMS = {"compare": "diff", "find": "list", "ls": "list", "search": "list"}
"""Commands as other programs call them."""
_FEW = 8  # names that an error lists


class UsageError(MatrixError):
    """What a command line asks for and no command does, with the command that was named.

    `program` is how a person writes that command: `matrix grid`.
    """

    def __init__(self, message: str, program: str = "matrix") -> None:
        super().__init__(message)
        self.program = program


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one line, which repeats no password and nothing too long.

    A name that is not known comes with the nearest one that is. The description and the examples
    of a command are those of `matrix.commands.helps`, by its name; they are read for `--help`
    alone.
    """

    @property
    def command(self) -> str:
        """The command as a person writes it after `matrix`; "" for `matrix` itself."""
        return self.prog.partition(" ")[2]

    def format_help(self) -> str:
        """Return the help, with the description above the options and examples below."""
        from matrix.commands.helps import HELPS

        found = HELPS.get(self.command)
        if found is None:
            return super().format_help()
        self.description = found.description
        examples = "\n".join(f"  {example}" for example in found.examples)
        return f"{super().format_help()}\nexamples:\n{examples}\n"

    def error(self, message: str) -> NoReturn:
        """Refuse the command line. Raises UsageError, which names the help unless it has a fix.

        argparse calls this with the words of its own errors too.
        """
        line = shorten(without_logins(message)).removeprefix("argument ")
        fix = "" if "; " in line else f"; `{self.prog} --help` shows what it takes"
        raise UsageError(f"{line}{fix}", self.prog)

    def refuse_unknown(self, words: Sequence[str], note: str = "") -> NoReturn:
        """Refuse arguments that are not known, with the option that one may be meant for.

        `note` says what they might have been. Raises UsageError.
        """
        message = f"unrecognized arguments: {' '.join(words)}{note}"
        for word in words:
            option = word.partition("=")[0]
            # The dashes alone would make each short option like another one.
            names = [name.removeprefix("--") for name in self.options()]
            near = nearest(option[2:], names) if option.startswith("--") else None
            if near is not None:
                self.error(with_meant(message, f"--{near}"))
        self.error(message)

    def options(self) -> list[str]:
        """Return the long options of the command."""
        return [name for name in self._option_string_actions if name.startswith("--")]

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # noqa: ANN401 - of any type
        """Refuse a value that is none of the known ones. Raises UsageError."""
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        is_command = isinstance(action.choices, Mapping)
        what = "is not a command" if is_command else f"is not {_either(names)}"
        name = "" if is_command else f"{'/'.join(action.option_strings) or action.metavar} "
        meant = _SYNONYMS.get(str(value), "") if is_command else ""
        message = f"{name}{str(value)!r}: {what}"
        message = (
            with_meant(message, meant) if meant in names else suggested(message, str(value), names)
        )
        if is_command and message.endswith("command"):
            message += f"; `{self.prog} --help` has all of them"
        raise UsageError(without_logins(message), self.prog)


def _either(names: Iterable[str]) -> str:
    """Return names as what one of them is to be: `auto, cpu or cuda`."""
    found = list(names)
    if len(found) > _FEW:
        found = [*found[:_FEW], "another"]
    return listed(found).replace(" and ", " or ")
