"""`matrix results`: list, compare, index, pack, export and prune many records."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from matrix.errors import MatrixError
from matrix.records import PLATFORMS
from matrix.verdicts import VERDICTS

__all__ = ["add"]

_DEFAULT_FOLDERS = ("results", "records")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser], show: object) -> None:
    """Add the commands below `matrix results`; `show` is what runs `matrix show`."""
    results = commands.add_parser("results", help="list, compare, pack and prune many records")
    below = results.add_subparsers(metavar="COMMAND", required=True)

    listing = below.add_parser("list", help="list records, newest first", allow_abbrev=False)
    _folders(listing)
    listing.add_argument("--cell", metavar="PATTERN", help="such as 'py311-torch210-*'")
    for name, example in (("torch", "'>=2.11'"), ("vllm", "0.20"), ("python", "3.12")):
        listing.add_argument(f"--{name}", metavar="SPEC", help=f"a release or range: {example}")
    listing.add_argument("--platform", choices=PLATFORMS)
    listing.add_argument("--verdict", choices=VERDICTS)
    listing.add_argument("--since", metavar="DAY", type=_day, help="such as 2026-11-01, in UTC")
    listing.add_argument("--until", metavar="DAY", type=_day, help="that day is included")
    listing.add_argument("--case", metavar="PATTERN", help="such as 'moe_startup*'")
    listing.add_argument("--json", action="store_true", help="print JSON")
    _expectations(listing)
    listing.set_defaults(run=_list, parser=listing)

    shown = below.add_parser("show", help="show one record and its verdict, as `matrix show`")
    shown.add_argument("record", metavar="RECORD", type=Path)
    shown.add_argument("--counters", action="store_true", help="every counter")
    shown.add_argument("--seconds", action="store_true", help="where the seconds went")
    _expectations(shown)
    shown.set_defaults(run=show, parser=shown)

    index = below.add_parser(
        "index", help="make or freshen the index of folders of records, which may be deleted"
    )
    _folders(index)
    index.set_defaults(run=_index, parser=index)


def _list(options: argparse.Namespace) -> int:
    from matrix.engines.history import Asked, History
    from matrix.expectations import load_expectations
    from matrix.report.results import listed_json, listed_lines

    expectations = load_expectations(options.expectations)
    asked = Asked(
        **{
            key: getattr(options, key)
            for key in ("cell", "torch", "vllm", "python", "platform", "verdict", "since", "until")
        },
        case=options.case,
    )
    with History(_places(options.folders), _progress) as history:
        listed = history.list(asked, expectations)
        status = _tell(history.errors)
    print(listed_json(listed) if options.json else listed_lines(listed), end="")
    return status


def _index(options: argparse.Namespace) -> int:
    from matrix.engines.history import History

    with History(_places(options.folders), _progress, index=True) as history:
        status, count = _tell(history.errors), history.count()
    print(f"{count} records indexed")
    return status


def _places(given: Sequence[Path | str], default: Sequence[str] = _DEFAULT_FOLDERS) -> list[Path | str]:
    places = list(given) or [Path(each) for each in default if Path(each).is_dir()]
    if not places:
        raise MatrixError(f"no folder {' or '.join(default)} here; name one with records")
    return places


def _tell(errors: Sequence[MatrixError]) -> int:
    for error in errors:
        _progress(str(error))
    return 2 if errors else 0


def _progress(line: str) -> None:
    from matrix.report.text import clean

    print(f"matrix: {clean(line)}", file=sys.stderr)


def _folders(parser: argparse.ArgumentParser, default: str = "results and records") -> None:
    parser.add_argument(
        "folders",
        metavar="FOLDER",
        nargs="*",
        type=_place,
        help=f"folders of records, records, or an object store's address (default: {default})",
    )


def _expectations(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--expectations", metavar="FILE", type=Path, help="judge by these rules")


def _place(text: str) -> Path | str:
    return text if re.match(r"[a-z][a-z0-9]+://", text) else Path(text)


def _day(text: str) -> str:
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"):
        try:
            if datetime.strptime(text, form).strftime(form) == text:
                return text
        except ValueError:
            continue
    raise argparse.ArgumentTypeError(
        f"{text!r} is neither a day, such as 2026-11-22, nor a time, such as 2026-11-22T18:00:00Z"
    )
