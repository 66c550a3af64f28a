"""vLLM's sources in a folder of their own, ready to be read or built, with what names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from matrix._util.addresses import without_secrets
from matrix._util.reported import Say
from matrix._util.scratch import Scratch
from matrix._util.text import clip
from matrix._util.versions import specifier_set
from matrix.catalog.candidates.model import Commit, Sdist, SourceKind, Tree
from matrix.catalog.located import find_file, is_remote, name_of
from matrix.catalog.vllm_sources.folder import (
    SourcesError,
    check_is_vllm,
    check_links,
    copy_tree,
    read_source,
    unpack,
)
from matrix.catalog.vllm_sources.git import Repository, described_head
from matrix.catalog.vllm_sources.version import (
    SDIST_VERSION_FILES,
    commit_mark,
    tree_mark,
    version_of,
)

# What says the pins and the CUDA of a release, as `read_vllm` takes them of an sdist.
_FACTS = ("requirements/cuda.txt", "vllm/envs.py", "setup.py")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Sources of vLLM in a folder that is theirs alone; `version` is what they are built as.

    `kind` and `identity` are what they are: a commit and its full hash, a tree and the digest of
    its files, an sdist and its SHA-256. `shown` calls them in messages. `project` is their
    pyproject.toml.
    """

    folder: Path
    kind: SourceKind
    identity: str
    version: str
    shown: str
    project: Mapping[str, Any]

    @property
    def revision(self) -> str | None:
        """The commit that they are, by its full hash; None for a tree and an sdist."""
        return self.identity if self.kind is SourceKind.COMMIT else None

    @property
    def python(self) -> SpecifierSet | None:
        """The Pythons that they are for; None if they do not say it."""
        value = self.project["project"].get("requires-python")
        try:
            return specifier_set(value) if isinstance(value, str) else None
        except InvalidSpecifier:
            raise SourcesError(
                f"{self.shown}: pyproject.toml: requires-python: {clip(value, 60)!r} is not a range"
            ) from None

    def members(self) -> dict[str, str]:
        """Return the text of what `read_vllm` reads of a source distribution.

        The metadata are made here, since a commit has none.
        """
        lines = ["Metadata-Version: 2.1", "Name: vllm", f"Version: {self.version}"]
        if self.python is not None:
            lines.append(f"Requires-Python: {self.python}")
        found = {name: read_source(self.folder, name, self.shown) for name in _FACTS}
        texts = {name: text for name, text in found.items() if text is not None}
        return {**texts, "PKG-INFO": "\n".join([*lines, "", ""])}


def open_sources(
    source: Commit | Tree | Sdist,
    folder: Path,
    say: Say,
    *,
    version: str | None = None,
    cache: Path | None = None,
) -> Sources:
    """Put the sources that a candidate is from into an empty folder, or one that is not there.

    `version` is what they are built as (None: chosen, see `version_of`). Raises MatrixError, one
    line: no git, no such commit, folder or file; a folder that changed, or a file of another hash,
    since the candidate was added; sources that are not vLLM's, or say no version.
    """
    if isinstance(source, Commit):
        repository = Repository(address=source.repository, say=say, cache=cache)
        return open_commit(repository, source.revision, folder, version=version)
    if isinstance(source, Tree):
        return open_tree(source.path, folder, state=source.state, version=version)
    return open_sdist(source.location, folder, sha256=source.sha256, version=version)


def open_commit(
    repository: Repository, commit: str, folder: Path, *, version: str | None = None
) -> Sources:
    """Fetch a commit, by its full hash, as `open_sources` does.

    `Repository.resolve` gives the full hash of a branch or tag.
    """
    folder.mkdir(exist_ok=True)
    repository.write(commit, folder)
    shown = f"{repository.shown}: {commit[:12]}"
    check_links(folder, shown)
    project = check_is_vllm(folder, shown)
    described = None if version else repository.describe(commit)
    return Sources(
        folder=folder,
        kind=SourceKind.COMMIT,
        identity=commit,
        version=version_of(
            shown,
            given=version,
            described=described,
            files=_version_files(folder, shown),
            mark=commit_mark(commit),
        ),
        shown=shown,
        project=project,
    )


def open_tree(
    path: str, folder: Path, *, state: str | None = None, version: str | None = None
) -> Sources:
    """Copy a folder of sources, as `open_sources` does.

    `state`: the digest that it must have (None: any; `identity` has it then).
    """
    place = Path(path)
    project = check_is_vllm(place, path)
    folder.mkdir(exist_ok=True)
    found = copy_tree(place, folder)
    check_links(folder, path)
    if state is not None and found != state:
        raise SourcesError(
            f"{path}: changed since it became a candidate; add it again to build what it has now"
        )
    described = described_head(place) if version is None and (place / ".git").exists() else None
    return Sources(
        folder=folder,
        kind=SourceKind.TREE,
        identity=found,
        version=version_of(
            path,
            given=version,
            described=described,
            files=_version_files(place, path),
            mark=tree_mark(found),
        ),
        shown=path,
        project=project,
    )


def tree_state(path: str) -> str:
    """Return the digest of what a folder of vLLM's sources holds now, as `open_tree` has it.

    Raises SourcesError if it is not one.
    """
    check_is_vllm(Path(path), path)
    with Scratch("tree") as folder:
        copy = folder / "sources"  # the folder has a file of its own
        copy.mkdir()
        return copy_tree(Path(path), copy)


def open_sdist(
    location: str, folder: Path, *, sha256: str | None = None, version: str | None = None
) -> Sources:
    """Unpack a source distribution, by its path or address, as `open_sources` does.

    One that a server has needs its SHA-256.
    """
    name = name_of(without_secrets(location) if "://" in location else location)
    if sha256 is None and is_remote(location):
        raise SourcesError(f"{name}: its SHA-256 is not known, so it is not fetched; name it")
    with Scratch("sdist") as scratch:
        path, found = find_file(location, scratch, sha256=sha256)
        folder.mkdir(exist_ok=True)
        unpacked = unpack(path, folder)
    project = check_is_vllm(unpacked, name)
    return Sources(
        folder=unpacked,
        kind=SourceKind.SDIST,
        identity=found,
        version=version_of(name, given=version, files=_version_files(unpacked, name)),
        shown=name,
        project=project,
    )


def _version_files(folder: Path, shown: str) -> dict[str, str]:
    found = {name: read_source(folder, name, shown) for name in SDIST_VERSION_FILES}
    return {name: text for name, text in found.items() if text is not None}
