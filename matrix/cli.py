# PYTHON_ARGCOMPLETE_OK
"""The `matrix` command: its parser, of the modules in `matrix.commands`, and its exit status."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn, TextIO

import matrix
from matrix._util.console import open_streams, patient, print_status
from matrix.commands.parser import CommandParser, UsageError
from matrix.errors import MatrixError

# The commands of each module of `matrix.commands`, in the order of `matrix --help`.
COMMANDS = {
    "run": ("run",),
    "doctor": ("doctor",),
    "bundle": ("bundle",),
    "resolve": ("resolve",),
    "data": ("refresh", "linkage"),
    "upstream": ("upstream",),
    "show": ("show",),
    "calibrate": ("calibrate",),
    "jit": ("jit",),
    "table": ("table", "ci", "predict", "grid", "plan"),
    "watch": ("watch",),
    "qualify": ("qualify",),
    "attribute": ("attribute",),
    "bisect": ("bisect",),
    "explain": ("explain",),
    "candidate": ("candidate",),
    "check": ("sync", "check"),
    "results": ("results",),
    "advice": ("recommend", "upgrade"),
    "wheels": ("wheels",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status: 2 for an input that cannot be used."""
    if argv is None:
        # Nearly all that a command makes lives to its end, without cycles. To look for them after
        # each 700 objects, as Python does by itself, costs CPU seconds: `benchmarks/cycles.py`.
        gc.set_threshold(100_000)
        _complete(os.environ)
        open_streams()
        sys.stdout, sys.stderr = map(patient, (sys.stdout, sys.stderr))
    try:
        return _run(argv)
    finally:
        if argv is None:
            # The program ends here, and Python would look through all that was read once more.
            gc.freeze()


def _run(argv: Sequence[str] | None) -> int:
    """Run the subcommand that these arguments, or those of the process, name."""
    try:
        for stream in (sys.stdout, sys.stderr):
            _never_fail_to_encode(stream)
        options = parse(list(sys.argv[1:] if argv is None else argv))
        status: int = options.run(options)
        sys.stdout.flush()
    except UsageError as error:
        print_status(str(error), error.program)
        return 2
    except MatrixError as error:
        print_status(str(error))
        return 2
    except KeyboardInterrupt:
        print_status("interrupted")
        return 130
    except OSError as error:
        print_status(f"{error.filename or 'input or output'}: {error.strerror or error}")
        return 2
    return status


def parse(given: list[str]) -> argparse.Namespace:
    """Return what a command line asks for; exits for `--help`. Raises UsageError."""
    if given[:1] == ["help"]:
        given = [*given[1:], "--help"]
    # What follows the first -- is pytest's, and argparse would mix it up with its own. So is, for
    # `run`, what only pytest knows: `tox -e CELL -- -k moe` hands over `-k moe` alone.
    cut = given.index("--") if "--" in given else len(given)
    parser = parser_of(given[:1])
    _refuse_unknown_option(parser, given[:1])
    options, unknown = parser.parse_known_args(given[:cut])
    options.pytest_args = [*unknown, *given[cut + 1 :]]
    options.given, options.unknown = given, unknown
    if "folders" in options and all(not option.startswith("-") for option in unknown):
        # argparse does not know the folders that follow a later option for what they are.
        from matrix.commands.arguments import place

        try:
            options.folders = [*options.folders, *map(place, unknown)]
        except argparse.ArgumentTypeError as error:
            options.parser.error(f"FOLDER: {error}")
        options.pytest_args = given[cut + 1 :]
    if options.pytest_args and "takes_pytest_args" not in options:
        options.parser.refuse_unknown(options.pytest_args)
    return options


def _refuse_unknown_option(parser: CommandParser, first: Sequence[str]) -> None:
    """Refuse an unknown option before the command: argparse would name the missing command.

    Raises UsageError.
    """
    for word in first:
        named = word.partition("=")[0]
        is_long = len(named) > 2 and named.startswith("--")
        if is_long and not any(option.startswith(named) for option in parser.options()):
            parser.refuse_unknown([word])


def _complete(environ: Mapping[str, str]) -> None:
    """Answer a shell that asks how a command line continues, and exit; else nothing.

    argcomplete sets that variable; without it nothing of completion is imported.
    """
    if "_ARGCOMPLETE" not in environ:
        return
    from matrix.commands.completion import complete

    complete(parser_of, environ)


class _Version(argparse.Action):
    """Print the version. argparse's own action would read it for each command that runs."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"matrix {matrix.__version__}")
        parser.exit()


def _never_fail_to_encode(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def parser_of(given: Sequence[str]) -> CommandParser:
    """Return the parser; if the first argument is a command, only with those of its module.

    To import and make all of them takes as long as the rest of a small command.
    """
    parser = CommandParser(prog="matrix")
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show the version of this program and exit"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = [module for module, names in COMMANDS.items() if set(given).intersection(names)]
    for module in chosen or COMMANDS:
        importlib.import_module(f"matrix.commands.{module}").add(commands)
    return parser
