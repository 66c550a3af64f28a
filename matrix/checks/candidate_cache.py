"""Forget what was found out of a candidate without a run, which lies in the user's cache.

There is a symbol table for each build, and one file with the resolver's answers about all of them.
"""

from __future__ import annotations

from collections.abc import Callable

from matrix._util.files import write_text
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.cells import Build, build_of
from matrix.checks.linkage.candidate import tables_folder
from matrix.checks.linkage.tables import TABLE
from matrix.checks.resolution.cache import (
    Resolutions,
    candidates_path,
    load_candidate_resolutions,
    text_of,
)


def forget(is_gone: Callable[[Build], bool]) -> None:
    """Remove the tables and answers of some builds.

    Raises CandidateError if one cannot be removed.
    """
    for path in sorted(tables_folder().glob(f"*{TABLE}")):
        build = build_of(path.name.removesuffix(TABLE).partition("-")[2])
        if build is None or not is_gone(build):
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CandidateError(f"{path}: cannot be removed ({error.strerror})") from None
    every = load_candidate_resolutions()
    kept = tuple(row for row in every.rows if not any(map(is_gone, row.cell.builds)))
    if len(kept) < len(every.rows):
        write_text(candidates_path(), text_of(Resolutions(rows=kept)))
