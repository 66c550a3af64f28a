"""Find the file on an index that an installed release of torch or vLLM is, and note it.

An install from an index leaves no trace of the index and the file. tox therefore asks the user's
index once for each environment, from outside. A file counts where its RECORD has the same rows as
the installed one, which has a SHA-256 for each file of the package: neither the version nor the
name of a file says as much. Of a wheel only its RECORD is fetched (two seconds for torch and vLLM);
where the server cannot send parts of a file, the file stays unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib import metadata
from pathlib import Path

from packaging.tags import Tag
from packaging.utils import parse_wheel_filename
from packaging.version import InvalidVersion, Version

from matrix._util.addresses import without_secrets
from matrix.catalog.candidates.choose import Tags, machine_tags, wheel_version
from matrix.catalog.index import Index, NoProjectError
from matrix.catalog.projects import Project
from matrix.catalog.published_file import PublishedFile
from matrix.run.wheel_content import IndexedFile, content_of, read_note, write_note

_TRIES = 3  # wheels of one release that fit this Python


def note_published(
    environment: Path,
    site: Path,
    python: str,
    projects: Collection[Project],
    *,
    index: Callable[[], Index] = lambda: Index(tries=1),
    tags: Tags = machine_tags,
) -> None:
    """Note the files of the releases that are installed in an environment, unless it has them.

    `site` is its folder of packages, `python` its Python, `projects` those that are from an index.
    Raises MatrixError if the index does not answer or cannot be asked here; the next call then
    asks again.
    """
    installed = {project: seen for project in projects if (seen := _look(site, project))}
    contents = {content for _, content in installed.values()}
    noted = {key: value for key, value in read_note(environment).items() if key in contents}
    lacking = {project: seen for project, seen in installed.items() if seen[1] not in noted}
    if not lacking:
        return
    with closing(index()) as client, ThreadPoolExecutor(len(lacking)) as workers:
        found = {
            content: workers.submit(_find, client, project, version, content, tags(python))
            for project, (version, content) in lacking.items()
        }
        answers = {content: future.result() for content, future in found.items()}
    write_note(environment, {**noted, **answers})


def _look(site: Path, project: Project) -> tuple[str, str] | None:
    """Return the version and the content of an installed package; None if it has no RECORD."""
    try:
        found = next(iter(metadata.distributions(name=str(project), path=[str(site)])), None)
        if found is None or found.read_text("direct_url.json") is not None:
            return None  # not there, or not from an index
        version, content = found.version, content_of(found.read_text("RECORD") or "")
    except (OSError, ValueError, KeyError):
        return None
    return (version, content) if version and content else None


def _find(
    index: Index, project: Project, version: str, content: str, tags: Sequence[Tag]
) -> IndexedFile | None:
    """Return the file of the index that has this content; None if it has no such file."""
    try:
        files = index.files(project)
    except NoProjectError:
        return None
    for file in _fitting(files, version, tags)[:_TRIES]:
        members = index.parts(file, lambda name: name.endswith(".dist-info/RECORD")) or {}
        if any(content_of(record) == content for record in members.values()):
            return IndexedFile(
                index=without_secrets(index.url),
                file=file.filename,
                sha256=file.sha256,
                built=f"{file.uploaded:%Y-%m-%dT%H:%M:%SZ}" if file.uploaded else None,
            )
    return None


def _fitting(
    files: Sequence[PublishedFile], version: str, tags: Sequence[Tag]
) -> list[PublishedFile]:
    """Return the wheels of a version that an installer takes here, the best first."""
    rank = {tag: place for place, tag in enumerate(tags)}
    try:
        wanted = Version(version)
    except InvalidVersion:
        return []
    ranked = [
        (min(places), file.filename, file)
        for file in files
        if wheel_version(file) == wanted
        if (places := [rank[tag] for tag in parse_wheel_filename(file.filename)[3] if tag in rank])
    ]
    return [file for _, _, file in sorted(ranked, key=lambda entry: entry[:2])]
