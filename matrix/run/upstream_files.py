"""The upstream tests that a run is to run, and the folder that has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from matrix._util.caches import cache_folder
from matrix._util.text import clean, clip
from matrix.catalog.cells import Cell
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.errors import MatrixError

_NEAR = 3
_BY_HAND = "or name a folder with its tests: --upstream-tests DIR"


@dataclass(frozen=True, kw_only=True)
class UpstreamRequest:
    """Upstream's tests that a run is to run: a folder that has them, and what of it.

    `asked` are paths below the folder, each maybe with the name of a test in pytest:
    `tests/compile/test_wrapper.py::test_torch_compile_wrapper`.
    """

    folder: Path
    asked: tuple[str, ...]


def check_asked(asked: Sequence[str]) -> None:
    """Raise MatrixError for what cannot be a path of upstream's tests."""
    for text in asked:
        path = text.partition("::")[0]
        parts = PurePosixPath(path).parts
        if not parts or parts[0] != "tests" or ".." in parts or not text.isprintable():
            raise MatrixError(
                f"--upstream {_shown(text)}: is not a path of upstream's tests; name one as its"
                " source distribution has it, such as tests/compile/h100/test_startup.py"
            )


def fetched(cells: Sequence[Cell], releases: Releases, asked: Sequence[str]) -> Path:
    """Fetch upstream's tests for the vLLM of each cell; return the folder of all of them.

    It is in the user's cache folder. Raises MatrixError: a candidate, which has no source
    distribution; a path that a release lacks; an index that does not answer.
    """
    from contextlib import closing

    from matrix.catalog.index import FetchError, Index
    from matrix.rules.upstream.unpack import fetch_tests

    for cell in cells:
        if releases.candidate_of(cell, Project.VLLM) is not None:
            raise MatrixError(
                f"--upstream: {cell.name}: its vLLM is a candidate, which has no source"
                f" distribution; {_BY_HAND}"
            )
    folder = cache_folder() / "upstream"
    versions = tuple(dict.fromkeys(cell.vllm for cell in cells))
    try:
        client = Index()
    except MatrixError as error:
        raise MatrixError(f"--upstream: {error}; {_BY_HAND}") from None
    with closing(client) as index:
        try:
            places = {version: fetch_tests(version, index, folder) for version in versions}
        except FetchError as error:
            raise MatrixError(f"--upstream: {error}; {_BY_HAND}") from None
    for version, place in places.items():
        check_there(place, asked, version)
    return folder


def check_each(folder: Path, cells: Sequence[Cell]) -> None:
    """Raise MatrixError if cells of several vLLMs would run the tests of one of them."""
    versions = tuple(dict.fromkeys(cell.vllm for cell in cells))
    if len(versions) == 1:
        return
    for version in versions:
        if not (folder / f"vllm-{version}" / "tests").is_dir():
            raise MatrixError(
                f"--upstream-tests {folder}: has no vllm-{version}/tests, and the cells have"
                f" {len(versions)} versions of vLLM; give each version a folder vllm-VERSION"
            )


def tests_folder(folder: Path, cell: Cell, asked: Sequence[str]) -> Path:
    """Return where a folder that a person or an outer run named has the tests of a cell's vLLM.

    That is `vllm-VERSION` below it, or the folder itself. Raises MatrixError if neither has
    them, or what was asked for is not there.
    """
    for place in (folder / f"vllm-{cell.vllm}", folder):
        if (place / "tests").is_dir():
            check_there(place, asked, cell.vllm)
            return place.absolute()
    raise MatrixError(
        f"--upstream-tests {folder}: has neither tests nor vllm-{cell.vllm}/tests; name a folder"
        " with the unpacked source distribution of that vLLM"
    )


def check_there(folder: Path, asked: Sequence[str], version: str) -> None:
    """Raise MatrixError for the first path that the folder lacks; it names the nearest."""
    for text in asked:
        path = text.partition("::")[0]
        found = folder / path
        if found.exists() and not _linked(found, folder):
            continue
        name = PurePosixPath(path).name
        near = sorted(
            other.relative_to(folder).as_posix()
            for other in (folder / "tests").rglob("*.py")
            if other.name == name
        )
        hint = f"; it has {', '.join(near[:_NEAR])}" if near else "; look for another name"
        raise MatrixError(
            f"--upstream {_shown(text)}: vLLM {version} has no such file among its tests{hint}"
        )


def _linked(path: Path, folder: Path) -> bool:
    """Return whether the path, or a folder of it below `folder`, is a link."""
    below = path.relative_to(folder).parts
    return any(folder.joinpath(*below[: count + 1]).is_symlink() for count in range(len(below)))


def _shown(text: str) -> str:
    return clip(clean(text), 120)
