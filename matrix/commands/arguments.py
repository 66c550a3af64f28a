"""What several commands take: folders of records, expectations, and the forms of their values."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import matrix
from matrix._util.console import LEAST_WIDTH, print_status
from matrix._util.paths import CHECKOUT, INSTALLED, PACKAGE, PUBLISHED, is_checkout
from matrix.errors import MatrixError

_Value = TypeVar("_Value")
_ROOT = CHECKOUT
DEFAULT_FOLDERS = ("results", "records")
"""The folders that are read where none is named, as far as they exist."""


def add_folders(
    parser: argparse.ArgumentParser,
    default: Sequence[str] = DEFAULT_FOLDERS,
    *,
    stores: bool = True,
) -> None:
    """Let the command take places of records, `stores` those of object stores too."""
    kinds = ["folders of records", "single records"]
    kinds += ["an object store's address"] if stores else []
    exist = "they exist" if len(default) > 1 else "it exists"
    parser.add_argument(
        "folders",
        metavar="FOLDER",
        nargs="*",
        type=place,
        help=f"{', '.join(kinds)} (default: {' and '.join(default)}, where {exist})",
    )


def add_releases(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, keys: Sequence[str]
) -> None:
    """Let the command take some releases only, by these keys: torch, vllm, python."""
    texts = {
        "torch": "2.12 (its newest patch), '==2.12.*' (all of them) or '>=2.11'",
        "vllm": "0.20 (its newest patch), '==0.20.*' (all of them) or '>=0.20'",
        "python": "3.12 or '>=3.11'",
    }
    for key in keys:
        # argparse reads % as a format.
        parser.add_argument(f"--{key}", metavar="SPEC", help=f"only these: {texts[key]}")


def add_selection(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Let the command choose cells by their releases and by what is known of them."""
    add_releases(parser, ("torch", "vllm", "python"))
    parser.add_argument(
        "--stale",
        action="store_true",
        help="only cells without a record that holds: they never ran, or only in part, or with"
        " other releases, wheels, packages, startup tests, GPU or driver",
    )
    parser.add_argument(
        "--max-age",
        metavar="DAYS",
        type=days,
        help="older records do not hold",
    )
    parser.add_argument("--force", action="store_true", help="also run cells whose record holds")
    parser.add_argument(
        "--off-pin", action="store_true", help="also each torch that the vLLM does not pin"
    )
    parser.add_argument(
        "--new",
        metavar="NAME==VERSION",
        action="append",
        default=[],
        help="only the cells of this release, off-pin if no vLLM pins it: torch==2.15.0",
    )
    parser.add_argument(
        "--neighbours",
        metavar="NAME==VERSION",
        action="append",
        default=[],
        help="only the cells next to those of this release: the same vLLM with the next torch, or"
        " the same torch with the next vLLM",
    )


def add_limits(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Let the command take less of this machine than it has."""
    for name, metavar, what in (
        ("cores", "N", "CPU cores"),
        ("memory", "MIB", "MiB of memory"),
        ("disk", "MIB", "MiB of disk, for environments"),
        ("gpus", "N", "GPUs"),
    ):
        parser.add_argument(
            f"--{name}", metavar=metavar, type=_amount, help=f"take at most so many {what}"
        )


def _amount(text: str) -> int:
    """Return a whole number from 0. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def add_platform_and_folders(parser: argparse.ArgumentParser) -> None:
    """Let the command take places of records, and one platform of them only."""
    add_folders(parser)
    parser.add_argument("--platform", choices=("cuda", "cpu"), help="default: both")


def add_index(parser: argparse.ArgumentParser) -> None:
    """Let the command read another package index."""
    parser.add_argument(
        "--index",
        metavar="URL",
        help="the index's simple API (default: the index configured for uv or pip, else PyPI)",
    )


def add_jobs(parser: argparse.ArgumentParser, default: int, what: str) -> None:
    """Let the command choose how many of `what`, such as releases, it does at a time."""
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=count,
        default=default,
        help=f"how many {what} at a time (default: {default})",
    )


def finish(parser: argparse.ArgumentParser, run: object) -> None:
    """Let the command judge by other expectations, and set the function that runs it."""
    parser.add_argument(
        "--expectations",
        metavar="FILE",
        type=Path,
        help="judge by these rules (default: the package's own)",
    )
    parser.set_defaults(run=run, parser=parser)


def given_or_default(
    given: Sequence[Path | str], default: Sequence[str] = DEFAULT_FOLDERS
) -> list[Path | str]:
    """Return the places that were named, else the default folders that exist (maybe none).

    Where none exists, a line on stderr says so. Where no default folder has a record the published
    ones are read, if a wheel brought them; a checkout only names its folders. Raises MatrixError as
    `places_of` does.
    """
    found = places_of(given, default)
    if given or (found and found != [PUBLISHED]):
        return found
    if not found:
        print_status(f"{_none_here(default)}, so no record is read{_checkout_has(default)}")
        return found
    here = _folders_here(default)
    why = f"no record in {named(here)}" if here else _none_here(default)
    read = f"so the records published with matrix {matrix.__version__} are read"
    print_status(f"{why}, {read}{_checkout_has(default)}")
    return found


def required(
    given: Sequence[Path | str], default: Sequence[str] = DEFAULT_FOLDERS
) -> list[Path | str]:
    """Return what `given_or_default` does. Raises MatrixError too where no folder is there."""
    if not places_of(given, default):
        raise MatrixError(no_folder(default))
    return given_or_default(given, default)


def no_folder(default: Sequence[str] = DEFAULT_FOLDERS) -> str:
    """Return the line where none of these folders is here, or has a record, and what makes one."""
    if here := _folders_here(default):
        return no_record(here)
    makes = "`matrix run CELL` makes records, or name a folder of them"
    return f"{_none_here(default)}; {makes}{_checkout_has(default)}"


def places_of(
    given: Sequence[Path | str], default: Sequence[str] = DEFAULT_FOLDERS
) -> list[Path | str]:
    """Return what `given_or_default` does, and print nothing.

    Raises MatrixError where nothing that was named is there; of several the reader names those that
    are not, and reads the others.
    """
    if given:
        must_exist_any(given)
        return list(given)
    here = _folders_here(default)
    if DEFAULT_FOLDERS[0] in default and PUBLISHED.is_dir() and not _any_record(here):
        return [PUBLISHED]
    return list(here)


def to_write(given: Path | None, own: Path, option: str) -> Path:
    """Return the data file or folder that a command writes: `given` by `option`, or the package's.

    Raises MatrixError where the package's own is that of an installed release.
    """
    if given is None and INSTALLED:
        here = CHECKOUT / PACKAGE.name / own.relative_to(PACKAGE)
        fix = "update torch-vllm-matrix, use a checkout"
        if is_checkout(CHECKOUT) and here.exists():
            fix = "`pip install -e .` lets matrix write that of the checkout here"
        raise MatrixError(
            f"{own.name}: is part of the installed matrix {matrix.__version__}, whose updates bring"
            f" new data; {fix}, or name another by {option}"
        )
    return given or own


def must_exist(places: Iterable[Path | str], option: str = "") -> None:
    """Raise MatrixError for places of records that were named, by `option`, and are not there.

    Whether an object store has a place is asked when it is read.
    """
    from matrix.record.reader import NOTHING_THERE

    gone = [found for found in places if isinstance(found, Path) and not found.exists()]
    if gone:
        raise MatrixError(f"{option}{named(gone)}: {NOTHING_THERE}")


def must_exist_any(places: Sequence[Path | str]) -> None:
    """Raise MatrixError where nothing of what was named is there, as `must_exist` does."""
    if not any(isinstance(found, str) or found.exists() for found in places):
        must_exist(places)


def no_record(places: Sequence[Path | str]) -> str:
    """Return the line about places that hold no record."""
    return f"no record in {named(places)}; `matrix run CELL` makes one"


def _folders_here(default: Sequence[str]) -> list[Path]:
    return [Path(folder) for folder in default if Path(folder).is_dir()]


def _any_record(folders: Sequence[Path]) -> bool:
    """Tell whether one of the folders may hold a record: an unrelated `results` does not."""
    if not folders:
        return False
    from matrix.store.layout import has_record

    return any(map(has_record, folders))


def _none_here(default: Sequence[str]) -> str:
    return f"no folder {' or '.join(default)} here"


def _checkout_has(default: Sequence[str]) -> str:
    there = [str(path) for folder in default if (path := _ROOT / folder).is_dir()]
    if not there or _folders_here(default):
        return ""
    return f"; the checkout has {' and '.join(there)}"


def given_of(options: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """Return those of these options that were given and are not the default: `--dry-run`."""
    return [
        f"--{name.replace('_', '-')}"
        for name in names
        if getattr(options, name) != options.parser.get_default(name)
    ]


def read_of(options: argparse.Namespace, name: str, read: Callable[[str], _Value]) -> _Value | None:
    """Return what an option says; None without it. Raises MatrixError, which names the option."""
    text = getattr(options, name)
    if text is None:
        return None
    try:
        return read(text)
    except MatrixError as error:
        raise MatrixError(f"--{name} {error}") from None


def repeated(options: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """Return these options and the folders as they were given, to repeat a command."""
    given = ((name, getattr(options, name)) for name in names)
    parts = [part for name, value in given if value is not None for part in (f"--{name}", value)]
    return [str(part) for part in (*parts, *options.folders)]


def named(places: Sequence[Path | str]) -> str:
    """Return the names of these places, or without one those of the default folders."""
    return ", ".join(map(str, places)) or ", ".join(DEFAULT_FOLDERS)


def place(text: str) -> Path | str:
    """Return a folder or file of records, or the address of a folder in an object store.

    Raises ArgumentTypeError for an empty text, which as a path would be the current folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("'' is not a path; write . for the current folder")
    return text if re.match(r"[a-z][a-z0-9+.-]*://", text) else Path(text)


def positive_seconds(text: str) -> float:
    """Seconds above 0. Raises ArgumentTypeError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def python(text: str) -> str:
    """Return a minor release of Python, such as 3.12. Raises ArgumentTypeError."""
    if not re.fullmatch(r"3\.[1-9][0-9]?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a minor release of Python; write it as 3.12"
        )
    return text


def jobs(text: str) -> str:
    """Return how many cases run side by side, or `auto`. Raises ArgumentTypeError."""
    if text != "auto" and not (text.isascii() and text.isdigit() and 0 < int(text) < 1000):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither auto nor a number of cases from 1 up"
        )
    return text


def rounds(text: str) -> int:
    """Return a number from 2 to 64: one round has no spread. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 2 <= int(text) <= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rounds from 2 to 64")
    return int(text)


def ci_jobs(text: str) -> int:
    """Return a number of a CI service's jobs from 1 to 500. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= 500):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of jobs from 1 to 500")
    return int(text)


def days(text: str) -> int:
    """Return a number of days from 1 to 99999. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 1 up")
    return int(text)


def count(text: str) -> int:
    """Return a number from 1 to 64. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 64")
    return int(text)


def width(text: str) -> int:
    """Return a number of columns of text, the least or more. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) < 5 and int(text) >= LEAST_WIDTH):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of columns from {LEAST_WIDTH} to 9999"
        )
    return int(text)
