"""The origin of the installed torch and vLLM, and its comparison with the cell's request.

It runs in the cell's Python, before torch is imported: version files are read as text. uv compares
a candidate's hash when it installs it by its address; `direct_url.json` then names the address.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

from matrix._util.addresses import without_secrets
from matrix._util.text import clean, clip, listed
from matrix._util.versions import parse_version
from matrix.catalog.candidates.channels import is_public
from matrix.catalog.candidates.model import Candidate, Commit, File
from matrix.catalog.candidates.update import described
from matrix.catalog.cells import Cell, Made
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.catalog.revision import VERSION_FILES, revision_of, same_revision
from matrix.record.model import ErrorKind, Platform
from matrix.record.origin import Origin
from matrix.record.stock import InstalledPackages
from matrix.run.preflight import Refusal
from matrix.run.wheel_content import (
    IndexedFile,
    before_a_bundle,
    content_of,
    read_bundled,
    read_note,
)

# What vLLM's setup.py ends the version with, after `+` or `.`.
_EMPTY, _PRECOMPILED = "empty", "precompiled"
_SHOWN = 12  # digits of a revision, for people
_INDEX_NAME = "MATRIX_INDEX_NAME"
"""The environment variable with what records call an index instead of its address."""
_LONGEST_NAME = 60


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The facts that an installed torch or vLLM states; None if it does not state one.

    `url` is the address or path that it was installed from, without secrets; an index leaves none.
    `published` is the file of an index that has its content, where tox found one.
    """

    version: str
    url: str | None = None
    sha256: str | None = None
    commit: str | None = None
    revision: str | None = None
    content: str | None = None
    wheel: str | None = None
    published: IndexedFile | None = None

    @property
    def file(self) -> str | None:
        """The name of the wheel: that of the index or its address, else by its own tags."""
        if self.published is not None:
            return self.published.file
        named = unquote(urlsplit(self.url).path).rpartition("/")[2] if self.url else ""
        return named if named.endswith(".whl") else self.wheel


def look_at_origins() -> Mapping[Project, Installed]:
    """Return what the torch and the vLLM of this Python say of themselves."""
    found = {}
    for project in Project:
        try:
            distribution = metadata.distribution(project)
            version = distribution.version
        except Exception:  # noqa: BLE001, S112 - not there, or metadata that nobody can read
            continue
        if version:
            found[project] = _installed(project, distribution, version)
    return found


def origins_of(
    cell: Cell, releases: Releases, found: Mapping[Project, Installed], platform: Platform
) -> tuple[Origin, ...]:
    """Return where the torch and the vLLM of a cell are from, for its record on a platform.

    A candidate that is not installed has its own version, so that the record is of this build.
    """
    origins = []
    for project in Project:
        candidate = _candidate(cell, releases, project)
        origin = _origin(project, cell, candidate, found.get(project))
        if candidate is not None and candidate.is_built:
            origin = _with_way(origin, candidate, found.get(project), cell, platform)
        origins.append(origin)
    return tuple(origins)


def named_index(index: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return what a record says of an index: its address, or what MATRIX_INDEX_NAME calls it.

    An address may have the host name of a company, which a published record should not. The
    addresses of the built-in channels are public, and stay.
    """
    name = clip(clean(environ.get(_INDEX_NAME, "")).strip(), _LONGEST_NAME)
    return name if index is not None and name and not is_public(index) else index


def wrong_origin(
    cell: Cell,
    releases: Releases,
    found: Mapping[Project, Installed],
    environment: InstalledPackages,
) -> Refusal | None:
    """Return what of the environment is another build than the cell's, or None."""
    faults = []
    for project, installed in found.items():
        candidate = _candidate(cell, releases, project)
        if candidate is None:
            fault = _no_release(project, installed, releases)
        else:
            fault = _no_candidate(candidate, installed, cell, environment)
        if fault is not None:
            faults.append(f"its {project.label} {fault}")
    if not faults:
        return None
    return Refusal(
        kind=ErrorKind.WRONG_CELL,
        reason=(
            f"this environment is not the cell {cell.name}: {'; '.join(faults)}."
            f" Run tox -r -e {cell.name}"
        ),
    )


def without_extensions(
    cell: Cell, found: Mapping[Project, Installed], platform: Platform
) -> Refusal | None:
    """Return why an environment cannot run on cuda whose vLLM was built without compiling."""
    vllm = found.get(Project.VLLM)
    if platform is not Platform.CUDA or vllm is None or _EMPTY not in _marks(vllm):
        return None
    return Refusal(
        kind=ErrorKind.WRONG_CELL,
        reason=(
            f"this environment is not the cell {cell.name}: its vLLM {vllm.version} was built"
            " without compiling, which is for the platform cpu alone. Run tox -e"
            f" {cell.name} -- --platform cuda"
        ),
    )


def _brought_by(environment: InstalledPackages, candidate: Candidate, version: str) -> str:
    """Return which packages require what is there and not the candidate; "" without any."""
    names = []
    for name in environment.versions:
        for line in environment.requires(name) if name != candidate.project else ():
            if _requires(line, candidate, version):
                names.append(name)
                break
    if not names:
        return ""
    return f", which {listed(names[:4])} require{'s' if len(names) == 1 else ''}"


def _requires(line: str, candidate: Candidate, version: str) -> bool:
    """Tell whether a requirement is on the candidate's project, met by a version and not by it."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return False
    if requirement.name.lower() != candidate.project or "extra" in str(requirement.marker):
        return False
    own = requirement.specifier.contains(candidate.version, prereleases=True)
    return not own and requirement.specifier.contains(version, prereleases=True)


def _candidate(cell: Cell, releases: Releases, project: Project) -> Candidate | None:
    return releases.candidate_of(cell, project)


def _origin(
    project: Project, cell: Cell, candidate: Candidate | None, found: Installed | None
) -> Origin:
    origin = Origin(project=str(project))
    if found is not None:
        origin = replace(
            origin,
            version=found.version,
            file=found.file,
            sha256=found.sha256,
            revision=found.commit or found.revision,
            content=found.content,
        )
    if found is not None and (published := found.published) is not None:
        origin = replace(
            origin, index=published.index, sha256=published.sha256, built=published.built
        )
    if candidate is None:
        return origin
    file = candidate.file(cell.python)
    if file is not None:
        origin = replace(origin, file=file.name, sha256=file.sha256, built=file.uploaded)
    revision = origin.revision or candidate.revision
    if isinstance(candidate.source, Commit):
        whole = candidate.source.revision
        # A version file may have the beginning alone.
        revision = whole if revision is None or same_revision(revision, whole) else revision
    return replace(
        origin,
        candidate=candidate.build,
        version=origin.version or candidate.version,
        index=candidate.index,
        revision=revision,
    )


def _with_way(
    origin: Origin, candidate: Candidate, found: Installed | None, cell: Cell, platform: Platform
) -> Origin:
    """Return the origin of a vLLM from sources with how it was had.

    What is installed says it, by the local version that vLLM's setup.py gives; else the platform
    and the candidate do.
    """
    way = candidate.on_cuda
    file = way.file(cell.python) if way is not None else None
    own, given = (
        file if way is not None and way.way is kind else None
        for kind in (Made.PUBLISHED, Made.WITH_EXTENSIONS)
    )
    made = _made_here(candidate, platform) if found is None else _made(found, own)
    if made is Made.PUBLISHED and way is not None and own is not None:
        return replace(
            origin, index=way.index, file=own.name, sha256=own.sha256, built=own.uploaded, made=made
        )
    extensions = given.name if made is Made.WITH_EXTENSIONS and given is not None else None
    return replace(origin, made=made, extensions=extensions)


def _made(found: Installed, file: File | None) -> Made:
    """Return how an installed vLLM was made; `file` is the published wheel of its commit."""
    marks = _marks(found)
    if _EMPTY in marks:
        return Made.WITHOUT_COMPILING
    if _PRECOMPILED in marks:
        return Made.WITH_EXTENSIONS
    is_published = file is not None and (found.sha256 == file.sha256 or found.url == file.url)
    return Made.PUBLISHED if is_published else Made.COMPILED


def _made_here(candidate: Candidate, platform: Platform) -> Made | None:
    """Return how a vLLM would have been made that is not installed."""
    if platform is not Platform.CUDA:
        return Made.WITHOUT_COMPILING
    return candidate.on_cuda.way if candidate.on_cuda is not None else None


def _marks(found: Installed) -> Sequence[str]:
    """Return the parts of the local version, such as `g4152872ac` and `empty`."""
    return found.version.partition("+")[2].split(".")


def _no_release(project: Project, found: Installed, releases: Releases) -> str | None:
    """Return why what is installed is not the release of its version, or None.

    A known git revision identifies a release. Of another one a local version, such as
    2.16.0+cu130 of PyTorch's test index, may be that of a candidate.
    """
    add = "; add it with matrix candidate add to run it"
    if found.url is not None:
        return (
            f"was installed from {found.file or 'a file'}, not from an index as a release is{add}"
        )
    known = releases.revision(project, found.version)
    if known is not None and found.revision is not None:
        if same_revision(known, found.revision):
            return None
        release, revision = _public(found.version), found.revision[:_SHOWN]
        return f"is of git revision {revision}, and the release {release} of {known[:_SHOWN]}{add}"
    local = found.version.partition("+")[2]
    if local and project is Project.TORCH:
        return f"has the local version {local}, which the release of the index does not have{add}"
    return None


def _no_candidate(
    candidate: Candidate, found: Installed, cell: Cell, environment: InstalledPackages
) -> str | None:
    """Return why what is installed is not the candidate, or None."""
    what, file = described(candidate), candidate.file(cell.python)
    known = candidate.revision
    if isinstance(candidate.source, Commit):
        known = candidate.source.revision
    if _public(found.version) != _public(candidate.version):
        by = _brought_by(environment, candidate, found.version)
        return f"is {found.version}{by}, not {what}"
    revision = found.commit or found.revision
    same = known is not None and revision is not None and same_revision(known, revision)
    if known is not None and revision is not None and not same:
        return f"is of git revision {revision[:_SHOWN]}, and {what} of {known[:_SHOWN]}"
    if candidate.is_built and found.url is None and not same:
        return f"was installed from an index, and {what} is built from its sources"
    if file is None or same:
        return None
    if found.sha256 is not None and found.sha256 != file.sha256:
        return f"has another SHA-256 than {what}"
    if found.url is None:
        return f"was installed from an index, so it is not known to be {what}"
    if found.sha256 is None and found.url != file.url:
        return f"was installed from {found.file or 'elsewhere'}, which is not {what}"
    return None


def _installed(project: Project, distribution: metadata.Distribution, version: str) -> Installed:
    url, sha256, commit = _direct(distribution)
    text = _text(Path(str(distribution.locate_file(VERSION_FILES[project]))))
    record = _record(distribution)
    content = content_of(record)
    return Installed(
        version=version,
        url=url,
        sha256=sha256,
        commit=commit,
        revision=revision_of(project, version, text),
        content=content,
        wheel=_wheel(project, version, distribution),
        published=_published(project, record, content) if url is None else None,
    )


def _direct(distribution: metadata.Distribution) -> tuple[str | None, str | None, str | None]:
    """Return the address, the hash and the commit that `direct_url.json` has (PEP 610)."""
    try:
        data = json.loads(distribution.read_text("direct_url.json") or "null")
        url = str(data["url"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None, None, None
    archive, vcs = data.get("archive_info"), data.get("vcs_info")
    hashes = archive.get("hashes") if isinstance(archive, dict) else None
    sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
    fragment = urlsplit(url).fragment
    if sha256 is None and fragment.startswith("sha256="):
        sha256 = fragment.removeprefix("sha256=")  # uv writes it so for a file of this machine
    if isinstance(sha256, str):
        sha256 = before_a_bundle(Path(sys.prefix), sha256)
    commit = vcs.get("commit_id") if isinstance(vcs, dict) else None
    return (
        without_secrets(url),
        sha256 if isinstance(sha256, str) else None,
        commit if isinstance(commit, str) else None,
    )


def _published(project: Project, record: str, content: str | None) -> IndexedFile | None:
    """Return the file of an index that an installed release is, as tox or a bundle noted it."""
    environment = Path(sys.prefix)
    bundled = read_bundled(environment, project, record)
    if bundled is not None or content is None:
        return bundled
    return read_note(environment).get(content)


def _record(distribution: metadata.Distribution) -> str:
    """Return the RECORD of a distribution; "" if nobody can read it."""
    try:
        return distribution.read_text("RECORD") or ""
    except (OSError, ValueError):
        return ""


def _wheel(project: Project, version: str, distribution: metadata.Distribution) -> str | None:
    """Return the name that the wheel had, by the tags that it says; None without one tag."""
    try:
        lines = (distribution.read_text("WHEEL") or "").splitlines()
    except (OSError, ValueError):
        return None
    tags = [line.partition(":")[2].strip() for line in lines if line.startswith("Tag:")]
    return f"{project}-{version}-{_joined(tags)}.whl" if tags else None


def _joined(tags: Sequence[str]) -> str:
    """Return tags as a wheel's name has them: each part once, with dots."""
    parts = zip(*(tag.split("-", 2) for tag in tags if tag.count("-") >= 2), strict=False)
    return "-".join(".".join(dict.fromkeys(part)) for part in parts)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _public(version: str) -> str:
    try:
        return parse_version(version).public
    except InvalidVersion:
        return version
