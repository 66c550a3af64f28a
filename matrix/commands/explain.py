"""`matrix explain`: from an error's text, a log, a symbol or a library to an answer."""

from __future__ import annotations

import argparse
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from matrix._util.console import print_status
from matrix.commands.arguments import given_or_default, must_exist, place
from matrix.commands.output import show
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.explain.model import FaultAnswer, TextFaults
    from matrix.explain.third import ThirdWheel

_BLOCK = 1 << 20
_ENDINGS = (".log", ".txt", ".out", ".err", ".whl", ".json")
_USE = "name a file, give the text, or pipe it in: matrix explain < build.log"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `matrix explain`."""
    explain = commands.add_parser(
        "explain",
        help="explain an error: its meaning, the releases that have and need the missing part,"
        " and what to install",
        epilog="It reads files of any size, and the standard input without an argument or for -."
        " Write a text that begins with a dash after --. Exit status: 0; 1 if it contains no"
        " known error (the nearest is named); 2 if there is nothing to read.",
        allow_abbrev=False,
    )
    explain.add_argument(
        "words",
        metavar="TEXT",
        nargs="*",
        help="an error's text, a symbol, a library, a GPU as sm_90; or files: logs, records,"
        " wheels, libraries",
    )
    explain.add_argument(
        "--wheel",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="also answer for a wheel of another package, such as flash_attn-....whl (the extra"
        " linkage)",
    )
    explain.add_argument(
        "--records",
        metavar="FOLDER",
        type=place,
        action="append",
        default=[],
        help="search these records: folders, archives, one in an object store (default: results"
        " and records, if they exist)",
    )
    explain.add_argument("--json", action="store_true", help="as JSON")
    explain.set_defaults(run=_explain, parser=explain, takes_pytest_args=True)


class _Input(NamedTuple):
    """What to read: its name for an error, and its bytes in chunks."""

    name: str
    chunks: Iterator[bytes]


def _explain(options: argparse.Namespace) -> int:
    from matrix.explain.answer import Explainer
    from matrix.explain.faults import faults_in
    from matrix.report import explain as report
    from matrix.report.explain_json import to_json

    if options.unknown:
        options.parser.error(
            f"unrecognized arguments: {' '.join(options.unknown)} (a text comes after --)"
        )
    wheels: list[Path] = list(options.wheel)
    read: list[TextFaults] = []
    texts = list(_inputs([*options.words, *options.pytest_args], wheels))
    if not (texts or wheels):
        texts.append(_standard_input(asked=False))
    must_exist(options.records, "--records ")
    third = _read_wheels(wheels)
    for text in texts:
        found = faults_in(text.chunks)
        _check(text.name, found)
        read.append(found)
    places = given_or_default(options.records) if read else None
    explainer = Explainer(places=places, wheels=third, progress=print_status)
    answers: list[FaultAnswer] = list(explainer.of_wheels())
    for found in read:
        answers += explainer.answers(found)
    answered = to_json(answers, read) if options.json else report.lines(answers)
    show(answered, fit=not options.json)
    for found in read:
        if more := report.more_words(found):
            print_status(more)
    for fault in explainer.evidence.faults:
        print_status(fault)
    return 0 if any(answer.known for answer in answers) else 1


def _inputs(words: Sequence[str], wheels: list[Path]) -> Iterator[_Input]:
    """Yield what the arguments name; wheels and libraries go to `wheels`.

    The words that name no file are one text together: a shell cuts a text at its blanks.
    """
    texts = []
    for word in words:
        if word == "-":
            yield _standard_input(asked=True)
        elif _is_there(word):
            path = Path(word)
            if _is_compiled(path):
                wheels.append(path)
            else:
                yield _Input(word, _failures(path) or _chunks(path))
        else:
            texts.append(word)
    # An error's text without quotes has other words too.
    if texts and all(map(_is_path, texts)):
        raise MatrixError(f"{texts[0]}: no such file; {_USE}")
    if texts:
        yield _Input("the text", iter([" ".join(texts).encode("utf-8", "surrogateescape")]))


def _is_there(word: str) -> bool:
    """Tell whether there is something of this name; a text may be none at all."""
    try:
        # An empty text as a path is this folder.
        return bool(word) and Path(word).exists()
    except (OSError, ValueError):
        return False


def _is_path(word: str) -> bool:
    """Tell whether a word can only be meant as a path."""
    return not any(map(str.isspace, word)) and (
        word.endswith(_ENDINGS) or word.startswith(("/", "./", "../", "~"))
    )


def _is_compiled(path: Path) -> bool:
    """Tell whether a file is a wheel or a library; raises MatrixError where it cannot be read."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise MatrixError(f"{path}: is a folder; {_USE}")
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise MatrixError(f"{path}: is neither a file nor a pipe; {_USE}")
        if not stat.S_ISREG(mode):
            return False
        with path.open("rb") as file:
            return path.suffix == ".whl" or file.read(4) == b"\x7fELF"
    except OSError as error:
        raise MatrixError(f"{path}: cannot be read ({error.strerror or error}); {_USE}") from None


def _failures(path: Path) -> Iterator[bytes] | None:
    """Return what failed in the run of a record; None for another file, or if nothing did."""
    if path.suffix != ".json":
        return None
    from matrix.explain.failures import text_of
    from matrix.record.model import RecordError
    from matrix.record.reader import read

    try:
        text = text_of(read(path))
    except RecordError:
        return None
    return iter([text.encode("utf-8", "replace")]) if text else None


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from _blocks(file)
    except OSError as error:
        raise MatrixError(f"{path}: cannot be read ({error.strerror or error}); {_USE}") from None


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _standard_input(*, asked: bool) -> _Input:
    if sys.stdin is None or (not asked and sys.stdin.isatty()):
        raise MatrixError(f"explain: there is nothing to read; {_USE}")
    return _Input("the standard input", _blocks(sys.stdin.buffer))


def _read_wheels(paths: Sequence[Path]) -> tuple[ThirdWheel, ...]:
    if not paths:
        return ()
    from matrix.explain.third import read_third

    return tuple(map(read_third, paths))


def _check(name: str, found: TextFaults) -> None:
    """Raise MatrixError for a text that holds nothing, or that is not text."""
    if found.known:
        return
    if found.binary:
        raise MatrixError(f"{name}: is not text; {_USE}")
    if not found.faults:
        raise MatrixError(f"{name}: is empty; {_USE}")
