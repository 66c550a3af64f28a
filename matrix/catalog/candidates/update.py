"""Whether a candidate can replace the candidate with its name. Pure."""

from __future__ import annotations

from matrix._util.enums import StrEnum
from matrix._util.versions import parse_version
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.model import Candidate, Commit, OnIndex, Sdist, Tree, Wheel
from matrix.catalog.projects import Project


class Update(StrEnum):
    """The change of the file by an addition."""

    ADDED = "added"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


def update(old: Candidate | None, new: Candidate, *, force: bool = False) -> Update:
    """Return what the new candidate does to the one that has its name (None: nobody has it).

    The next build from the same place takes its place. Raises CandidateError if the name belongs
    to another place, or where a channel went back in time, unless `force`.
    """
    if old is None:
        return Update.ADDED
    if old.identity == new.identity and old.version == new.version:
        return Update.UNCHANGED if old == new else Update.REPLACED
    if force:
        return Update.REPLACED
    if _place(old) != _place(new):
        raise CandidateError(
            f"candidate {old.name!r}: the name is taken, by {described_source(old)}; choose"
            f" another, or matrix candidate remove {old.name}, or --force"
        )
    if isinstance(new.source, OnIndex) and (back := _went_back(old, new)) is not None:
        raise CandidateError(
            f"candidate {old.name!r}: its index has an older build, {back}; to take it anyway:"
            f" matrix candidate add {old.name} ... --force"
        )
    return Update.REPLACED


def described(candidate: Candidate) -> str:
    """Return what a candidate is, in a few words: name, version, and where it is from.

    Such as `torch216rc1 (torch 2.16.0+cu130 of test/cu130)`.
    """
    source = candidate.source
    if isinstance(source, OnIndex):
        place = f"of {source.channel or source.index}"
    elif isinstance(source, Commit):
        place = f"of commit {source.revision[:12]}"
    else:
        place = f"of a {source.kind}"
    name = "torch" if candidate.project is Project.TORCH else "vLLM"
    return f"{candidate.name} ({name} {candidate.version} {place})"


def described_source(candidate: Candidate) -> str:
    """Return where a candidate is from, in a few words."""
    source = candidate.source
    if isinstance(source, OnIndex):
        place = f"{source.channel} ({source.index})" if source.channel else source.index
        return f"{source.version} of {place}"
    if isinstance(source, Commit):
        return f"commit {source.revision[:12]} of {source.repository}"
    if isinstance(source, Tree):
        return f"the tree {source.path}"
    return f"the {source.kind} {source.location}"


def _place(candidate: Candidate) -> tuple[str, str]:
    source = candidate.source
    if isinstance(source, OnIndex):
        return source.kind, source.index
    if isinstance(source, (Wheel, Sdist)):
        return source.kind, source.location
    return source.kind, source.path if isinstance(source, Tree) else source.repository


def _went_back(old: Candidate, new: Candidate) -> str | None:
    """Return how a candidate is older than the one that was recorded, or None."""
    before, after = parse_version(old.version), parse_version(new.version)
    if after < before:
        return f"from {old.version} to {new.version}"
    times = [
        max((file.uploaded or "" for file in candidate.files), default="")
        for candidate in (old, new)
    ]
    if after == before and times[1] and times[1] < times[0]:
        return f"from the files of {times[0]} to those of {times[1]}"
    return None
