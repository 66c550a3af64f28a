"""The newest build at the place that a candidate is from. It asks the index."""

from __future__ import annotations

from collections.abc import Callable

from matrix._util.versions import parse_version
from matrix.catalog.candidates.channels import ChosenIndex, place_of
from matrix.catalog.candidates.choose import Tags, machine_tags
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.gathered import CandidateRequest, Gathered
from matrix.catalog.candidates.model import Candidate, OnIndex, companion_pin
from matrix.catalog.candidates.published import from_index
from matrix.catalog.candidates.update import Update, update
from matrix.catalog.index import Index
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases


def _newest_build(
    candidate: Candidate,
    releases: Releases,
    *,
    tags: Tags = machine_tags,
    index_of: Callable[[str], Index] = Index,
) -> Gathered:
    """Return what the index of a candidate has now, as `matrix candidate add` would.

    Of a development version that is the newest build; of another version its files as they are now,
    since a release candidate may have the version of the final. Raises CandidateError for a
    candidate of no index, and as `from_index` does.
    """
    source = candidate.source
    if not isinstance(source, OnIndex):
        raise CandidateError(
            f"candidate {candidate.name!r}: is from a {source.kind}, which does not change; watch"
            " one from an index"
        )
    wanted = CandidateRequest(
        name=candidate.name,
        project=candidate.project,
        pin=candidate.pins["torch"] if candidate.project is Project.VLLM else None,
        pythons=source.pythons,
        companions=tuple(text for text in source.companions if companion_pin(text) is None),
        companion_pins=dict(filter(None, map(companion_pin, source.companions))),
    )
    version = None if parse_version(candidate.version).is_devrelease else candidate.version
    place = _place(source, candidate, releases)
    index = index_of(place.address)
    try:
        return from_index(wanted, place, version, releases, index=index, tags=tags)
    finally:
        index.close()


def newer_build(candidate: Candidate, releases: Releases) -> Gathered | None:
    """Return what `_newest_build` does; None if the index still has this very build."""
    gathered = _newest_build(candidate, releases)
    if update(candidate, gathered.candidate) is Update.UNCHANGED:
        return None
    return gathered


def _place(source: OnIndex, candidate: Candidate, releases: Releases) -> ChosenIndex:
    """Return the index of a candidate; that of a channel may be another one by now."""
    if source.channel is None:
        return ChosenIndex(address=source.index, index=source.index, channel=None)
    return place_of(source.channel, candidate.project, releases.candidates.channels)
