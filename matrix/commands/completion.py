"""What a shell offers after Tab: names of cells, releases, cases and candidates, from the data.

argcomplete (the extra `completion`) asks for it by running `matrix` with variables of its own.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from matrix.catalog.releases import Releases

Completer = Callable[..., Iterable[str]]
"""As argcomplete calls it: with `prefix`, the word so far, and more by name."""

_CASE = re.compile(r'(?m)^case = "([^"*]+)"')


def complete(
    parser_of: Callable[[Sequence[str]], argparse.ArgumentParser], environ: Mapping[str, str]
) -> NoReturn:
    """Print how the command line of these variables may go on, and exit.

    Nothing is printed where argcomplete is not installed here.
    """
    try:
        import argcomplete
    except ImportError:
        sys.exit(0)
    point = int(environ.get("COMP_POINT", "0"))
    words = environ.get("COMP_LINE", "").encode()[:point].decode(errors="ignore").split()
    parser = parser_of(words[1:2])
    attach(parser)
    argcomplete.autocomplete(parser)
    sys.exit(0)


def attach(parser: argparse.ArgumentParser) -> None:
    """Let each argument of a parser, and of the commands below it, offer the names it takes."""
    for action in parser._actions:  # noqa: SLF001 - argparse lists them nowhere else
        if isinstance(action.choices, Mapping):
            for below in action.choices.values():
                attach(below)
            continue
        completer = _completer(action, parser.prog)
        if completer is not None:
            action.completer = completer  # type: ignore[attr-defined] # where argcomplete looks


def cell_names(prefix: str, **_: Any) -> Iterator[str]:  # noqa: ANN401 - what argcomplete adds
    """Yield the names of cells that begin so: those on the pin, and after a torch every vLLM."""
    from matrix._util.versions import minor_of

    releases = _releases()
    yield from (name for cell in releases.on_pin() for name in releases.names(cell))
    given = re.fullmatch(r"(py3(\d+)-torch[0-9a-z]+)-.*", prefix)
    if given is not None:
        fit = (row for row in releases.vllm if row.python.contains(f"3.{given[2]}"))
        minors = dict.fromkeys(minor_of(row.version) for row in fit)
        yield from (f"{given[1]}-vllm{minor.replace('.', '')}" for minor in minors)


def case_names(**_: Any) -> list[str]:  # noqa: ANN401 - what argcomplete adds
    """Return the names of cases that the expectations have, with those of their models."""
    from matrix._util.paths import DATA

    text = (DATA / "expectations.toml").read_text(encoding="utf-8")
    return sorted(set(_CASE.findall(text)))


def candidate_names(**_: Any) -> list[str]:  # noqa: ANN401 - what argcomplete adds
    """Return the names of the candidates that there are."""
    return [candidate.name for candidate in _releases().candidates.every]


def _completer(action: argparse.Action, prog: str) -> Completer | None:
    option = action.option_strings[-1] if action.option_strings else ""
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if metavar == "CELL":
        return cell_names
    if option in {"--torch", "--vllm"}:
        return _versions(option[2:])
    if option == "--python":
        return lambda **_: _releases().pythons
    if option == "--case":
        return case_names
    if metavar == "NAME==VERSION" and option != "--have":
        return _named_versions
    if metavar == "CANDIDATE" or prog.endswith(("candidate show", "candidate remove")):
        return candidate_names if not option else None
    return None


def _versions(project: str) -> Completer:
    """Return what offers the minor releases of a project, and its patches; the newest first."""

    def offered(**_: Any) -> list[str]:  # noqa: ANN401 - what argcomplete adds
        from matrix._util.versions import minor_of

        versions = _releases().published[project][::-1]
        return [*dict.fromkeys(map(minor_of, versions)), *versions]

    return offered


def _named_versions(**_: Any) -> list[str]:  # noqa: ANN401 - what argcomplete adds
    return [
        f"{project}=={version}"
        for project, versions in _releases().published.items()
        for version in versions[::-1]
    ]


def _releases() -> Releases:
    from matrix.catalog.releases_file import load_releases

    return load_releases()
