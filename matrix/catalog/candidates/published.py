"""Make a candidate from what an index publishes. Nothing of a candidate is run or imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from matrix.catalog.candidates.channels import ChosenIndex
from matrix.catalog.candidates.choose import (
    Tags,
    choose_files,
    choose_version,
    machine_tags,
    recorded,
)
from matrix.catalog.candidates.companions import find_companions
from matrix.catalog.candidates.gathered import CandidateRequest, Gathered, check_pythons, of_wheels
from matrix.catalog.candidates.model import OnIndex
from matrix.catalog.candidates.wheels import named_companions, with_named
from matrix.catalog.index import Index
from matrix.catalog.package_metadata import metadata_of, wanted_member
from matrix.catalog.projects import Project
from matrix.catalog.published_file import PublishedFile
from matrix.catalog.releases import Releases
from matrix.catalog.revision import VERSION_FILES


def from_index(
    wanted: CandidateRequest,
    place: ChosenIndex,
    version: str | None,
    releases: Releases,
    *,
    index: Index,
    tags: Tags = machine_tags,
) -> Gathered:
    """Read an index once, and return the candidate of a version, by default the newest.

    Raises FetchError if the index does not answer, CandidateError if it has no such version
    or none for this machine and these Pythons.
    """
    where = f"the index {place.index}"
    files = choose_version(wanted.project, index.files(wanted.project), version, where)
    chosen = choose_files(
        wanted.project, files, wanted.pythons or releases.pythons, where, tags=tags
    )
    check_pythons(wanted, chosen, where)
    members = _members(index, wanted.project, chosen.files[0])
    own = tuple(recorded(file, index.digest(file)) for file in chosen.files)
    source = OnIndex(
        index=place.index,
        version=chosen.version,
        channel=place.channel,
        pythons=wanted.pythons,
        companions=named_companions(wanted),
    )
    candidate = of_wheels(wanted, source, own, members)
    if wanted.project is Project.VLLM:
        return Gathered(candidate=candidate)
    found = find_companions(
        index, chosen, metadata_of(members), releases.torch, where=where, tags=tags
    )
    candidate = replace(
        candidate, companions=found.files, pins=dict(found.pins), without=found.without
    )
    gathered = Gathered(candidate=candidate, notes=found.notes)
    return with_named(gathered, wanted, releases, tags=tags)


def _members(index: Index, project: Project, file: PublishedFile) -> Mapping[str, str]:
    """Return a wheel's metadata and its version file; the metadata alone where that is cheap."""
    own = VERSION_FILES[project]
    if not index.ranged(file) and (served := index.served_metadata(file)) is not None:
        return {"METADATA": served}
    return index.members(file, lambda name: name == own or wanted_member(name))
