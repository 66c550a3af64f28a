"""Merge what an index lists into the known releases: what is new, what changed, what to read.

Pure; `matrix.catalog.refresh` reads the index and writes the file. A release is a row of
``data/releases.json``. Some of a row's facts stand on the index's page and are compared each time.
The others (`_READ_FACTS`) stand in a release's own metadata, which is read once, and again only
when the release has other files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timezone

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from matrix._util.enums import StrEnum
from matrix._util.versions import parse_version, specifier_set, specifier_text
from matrix.catalog.package_metadata import MetadataError, ReleaseMetadata
from matrix.catalog.published_file import PublishedFile
from matrix.catalog.release import COMPANIONS

# The oldest release of each project that is followed; companions from those of that torch on.
OLDEST_RELEASES: Mapping[str, str] = {
    "torch": "2.7",
    "vllm": "0.9",
    "torchvision": "0.22",
    "torchaudio": "2.7",
}
REFRESHED = tuple(OLDEST_RELEASES)
_READ_FACTS = ("torch", *COMPANIONS, "requires", "cuda", "revision", "source", "note", "files")
_ORDER = (
    *("version", "torch", *COMPANIONS, "without", "guessed"),
    *("requires", "python", "cuda", "revision", "uploaded", "source"),
    *("yanked", "note", "wheels", "files"),
)
_SHOWN = tuple(key for key in _ORDER if key not in ("version", "source", "wheels", "files"))

ReleaseRow = Mapping[str, object]
ReleaseRows = Mapping[str, Mapping[str, ReleaseRow]]  # by project and version


class ChangeKind(StrEnum):
    """The change of a release since the last refresh; BACK: it is no longer yanked."""

    NEW = "new"
    CHANGED = "changed"
    YANKED = "yanked"
    BACK = "back"


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """One difference between two states of the rows; `what` is for people."""

    kind: ChangeKind
    project: str
    version: str
    what: str


def followed(project: str, files: Iterable[PublishedFile]) -> dict[str, tuple[PublishedFile, ...]]:
    """Return the files of each final release that is followed, oldest first.

    Without pre-releases, local versions (`2.9.1+cu128`) and files whose version is not valid.
    """
    oldest = Version(OLDEST_RELEASES[project])
    found: dict[Version, list[PublishedFile]] = {}
    for file in files:
        try:
            version = parse_version(file.version)
        except InvalidVersion:
            continue
        if version >= oldest and not version.is_prerelease and version.local is None:
            found.setdefault(version, []).append(file)
    return {
        str(version): tuple(sorted(found[version], key=lambda file: file.filename))
        for version in sorted(found)
    }


def to_read(
    project: str, rows: ReleaseRows, releases: Mapping[str, Sequence[PublishedFile]]
) -> list[str]:
    """Return the releases whose metadata is to be read: new ones, and those with other files."""
    known = rows.get(project, {})
    return [
        version
        for version, files in releases.items()
        if known.get(version, {}).get("files") != _fingerprint(project, files)
    ]


def gone(project: str, rows: ReleaseRows, releases: Mapping[str, object]) -> list[str]:
    """Return the known releases that the index no longer lists; their rows stay."""
    return [
        version
        for version, row in rows.get(project, {}).items()
        if version not in releases and "files" in row
    ]


def linux_wheel(files: Sequence[PublishedFile]) -> PublishedFile | None:
    """Return the wheel to read: for Linux on x86_64, of the newest build, the smallest.

    A yanked one only where all files are yanked; None without such a wheel.
    """
    fit = [
        (build, file)
        for file in _unyanked(files)
        if file.is_wheel and (build := _linux_build(file)) is not None
    ]
    newest = max((build for build, _ in fit), default=())
    same = [file for build, file in fit if build == newest]
    return min(same, key=lambda file: (file.size or 0, file.filename), default=None)


def source_distribution(files: Sequence[PublishedFile]) -> PublishedFile | None:
    """Return the source distribution of a release, None if it has none."""
    return next((file for file in _unyanked(files) if not file.is_wheel), None)


def unreadable(files: Sequence[PublishedFile]) -> ReleaseMetadata | None:
    """Return a note for a release without a file to read; None if it has one."""
    if linux_wheel(files) or source_distribution(files):
        return None
    return ReleaseMetadata(
        facts={"note": "no wheel for Linux on x86_64 and no source distribution to read"}
    )


def merge(
    rows: ReleaseRows,
    project: str,
    version: str,
    files: Sequence[PublishedFile],
    read: ReleaseMetadata | None,
) -> ReleaseRows:
    """Return the rows with what the index says of a release and, if `read`, its metadata.

    A known release whose metadata was not read keeps what it has. A new one is left out, except a
    torch, which a vLLM may pin: its row has only what the index says. Raises MetadataError if
    the index lists something that cannot be parsed.
    """
    known = rows.get(project, {}).get(version)
    if read is None and known is None and project != "torch":
        return rows
    row = {**(known or {}), "version": version}
    if read is not None:
        row = {key: value for key, value in row.items() if key not in _READ_FACTS}
        row |= {**read.facts, "files": _fingerprint(project, files)}
    page = _page(project, version, files)
    row |= {key: value for key, value in page.items() if value}
    if "yanked" not in page:
        row.pop("yanked", None)
    if project == "vllm":
        row.setdefault("python", "")
    return _with(rows, project, row)


def complete(rows: ReleaseRows) -> ReleaseRows:
    """Return the rows with what follows from other rows: the companions of each torch.

    `without` names those of which no release goes with this torch, since each is built for another
    CUDA; `guessed` those whose choice rests on a date alone. A torch that is pinned and not listed
    gets a row with a note.
    """
    for version, row in rows.get("vllm", {}).items():
        torch = row.get("torch")
        if isinstance(torch, str) and torch not in rows.get("torch", {}):
            note = f"the index does not list it; vLLM {version} pins it"
            rows = _with(rows, "torch", {"version": torch, "note": note})
    for version, row in rows.get("torch", {}).items():
        chosen = {name: _companion(rows, name, version) for name in COMPANIONS}
        found = {name: choice.version for name, choice in chosen.items()}
        for key in ("without", "guessed"):
            found[key] = " ".join(name for name in COMPANIONS if getattr(chosen[name], key))
        kept = {key: value for key, value in row.items() if key not in found}
        rows = _with(rows, "torch", {**kept, **{k: v for k, v in found.items() if v}})
    return rows


def changes(old: ReleaseRows, new: ReleaseRows) -> list[RowChange]:
    """Return the differences, release by release, in the order of the file."""
    found = []
    for project in new:
        for version, row in new[project].items():
            for kind, what in _changes_of(old.get(project, {}).get(version), row):
                found.append(RowChange(kind=kind, project=project, version=version, what=what))
    return found


def _changes_of(before: ReleaseRow | None, row: ReleaseRow) -> Iterator[tuple[ChangeKind, str]]:
    if before is None:
        yield ChangeKind.NEW, ", ".join(f"{key} {row[key]}" for key in _SHOWN if key in row)
        return
    if "yanked" in row and row["yanked"] != before.get("yanked"):
        yield ChangeKind.YANKED, str(row["yanked"])
    elif "yanked" in before and "yanked" not in row:
        yield ChangeKind.BACK, "is no longer yanked"
    keys = [key for key in _ORDER if key != "yanked" and before.get(key) != row.get(key)]
    if keys:
        what = ", ".join(_changed(key, before.get(key), row.get(key)) for key in keys)
        yield ChangeKind.CHANGED, what


def to_json(rows: ReleaseRows) -> str:
    """Return the rows as the data file has them: one release a line, oldest first."""
    lists = []
    for project in REFRESHED:
        every = sorted(rows.get(project, {}).values(), key=lambda row: Version(str(row["version"])))
        lines = ",\n".join(
            f"    {json.dumps({key: row[key] for key in _ORDER if key in row})}" for row in every
        )
        lists.append(f'  "{project}": [\n{lines}\n  ]' if lines else f'  "{project}": []')
    return "{\n" + ",\n".join(lists) + "\n}\n"


def _page(project: str, version: str, files: Sequence[PublishedFile]) -> dict[str, object]:
    """Return the facts that stand on the index's page."""
    facts: dict[str, object] = {}
    chosen = linux_wheel(files) or source_distribution(files) or files[0]
    if chosen.requires_python is not None:
        facts["python"] = _range(chosen.requires_python, f"{project} {version}")
    days = [file.uploaded.astimezone(timezone.utc).date() for file in files if file.uploaded]
    if days:
        facts["uploaded"] = min(days).isoformat()
    if all(file.yanked for file in files):
        facts["yanked"] = " ".join((files[0].yanked or "").split())[:200]
    if project in ("torch", "vllm"):
        facts["wheels"] = _wheels(files)
    return facts


def _wheels(files: Iterable[PublishedFile]) -> dict[str, str]:
    """Return the Pythons by platform tag: `cp311`, `cp313t` (free-threaded), `cp38-abi3`."""
    found: dict[str, set[str]] = {}
    for file in files:
        for tag in _tags(file) if file.is_wheel else ():
            short = tag.abi if tag.abi.startswith(tag.interpreter) else None
            found.setdefault(tag.platform, set()).add(short or f"{tag.interpreter}-{tag.abi}")
    return {
        platform: " ".join(sorted(found[platform], key=_tag_order)) for platform in sorted(found)
    }


def _tag_order(tag: str) -> tuple[int, str]:
    digits = re.search(r"\d+", tag)
    number = digits.group() if digits else "0"
    # cp38 is Python 3.8 and cp310 Python 3.10.
    return int(number[1:] or 0), tag


def _tags(file: PublishedFile) -> frozenset[_Tag]:
    try:
        return frozenset(
            _Tag(interpreter=tag.interpreter, abi=tag.abi, platform=tag.platform)
            for tag in parse_wheel_filename(file.filename)[3]
        )
    except (InvalidWheelFilename, InvalidVersion, InvalidSdistFilename):
        return frozenset()


@dataclass(frozen=True, kw_only=True)
class _Tag:
    interpreter: str
    abi: str
    platform: str


def _linux_build(file: PublishedFile) -> tuple[()] | tuple[int, str] | None:
    """Return the build number of a wheel for Linux on x86_64, () without; None for others."""
    # A wheel without machine code is for any platform.
    if not any(
        tag.platform == "any" or ("linux" in tag.platform and "x86_64" in tag.platform)
        for tag in _tags(file)
    ):
        return None
    return parse_wheel_filename(file.filename)[2]


def _unyanked(files: Sequence[PublishedFile]) -> Sequence[PublishedFile]:
    return [file for file in files if not file.yanked] or files


def _fingerprint(project: str, files: Iterable[PublishedFile]) -> str:
    """Return a digest of the files that can be read on Linux: it differs when they do.

    That of a companion has what is read of it besides its metadata, so that rows from before
    `cuda` was read are read again, once.
    """
    names = sorted(
        f"{file.filename} {file.sha256}"
        for file in files
        if not file.is_wheel or _linux_build(file) is not None
    )
    if project in COMPANIONS:
        names.append("version.py")
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def _range(python: str, where: str) -> str:
    try:
        return specifier_text(specifier_set(python))
    except InvalidSpecifier:
        raise MetadataError(
            f"{where}: the index has Python {python!r}, which is not a range"
        ) from None


def _with(rows: ReleaseRows, project: str, row: ReleaseRow) -> ReleaseRows:
    """Return the rows with this one in place of that release's."""
    every = {**rows.get(project, {}), str(row["version"]): row}
    order = sorted(every, key=Version)
    return {**rows, project: {version: every[version] for version in order}}


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """The release of a companion that goes with a torch, None if none is known.

    `without`: there are releases, and each is built for another CUDA. `guessed`: neither release
    names the other, and the CUDA of one of them is not known.
    """

    version: str | None = None
    without: bool = False
    guessed: bool = False


def _companion(rows: ReleaseRows, name: str, torch: str) -> _Choice:
    """Return the release of a companion that goes with a torch.

    It accepts the torch, is built for the same CUDA (where both are known), and a torchaudio is not
    newer than its torch. Of those it is the newest that requires exactly this torch. Without one,
    it is the one that the newest vLLM of this torch pins; else the newest that was published while
    this torch was the newest; else the newest of all.
    """
    known = rows.get(name, {})
    cuda = rows["torch"][torch].get("cuda")
    accept = {version: row for version, row in known.items() if _accepts(name, version, row, torch)}
    fit = {
        version: row
        for version, row in accept.items()
        if cuda is None or row.get("cuda") in (None, cuda)
    }
    exact = [version for version, row in fit.items() if _is_exact(_required(row))]
    if exact:
        return _Choice(version=max(exact, key=Version))
    pins = {v: row for v, row in rows.get("vllm", {}).items() if row.get("torch") == torch}
    pinned = [str(row[name]) for _, row in sorted(pins.items(), key=_by_version) if name in row]
    usable = [version for version in pinned if version in fit or version not in accept]
    if usable:
        return _Choice(version=usable[-1])
    if not fit:
        return _Choice(without=bool(accept))
    until = _next_torch(rows, torch)
    in_time = [v for v, row in fit.items() if not until or str(row.get("uploaded", "")) < until]
    newest = max(in_time or fit, key=Version)
    return _Choice(version=newest, guessed=cuda is None or fit[newest].get("cuda") is None)


def _accepts(name: str, version: str, row: ReleaseRow, torch: str) -> bool:
    """Tell whether a companion that was read and not yanked can be installed with a torch."""
    wanted = Version(torch)
    if "yanked" in row or "source" not in row:
        return False
    if name == "torchaudio" and Version(version).release[:2] > wanted.release[:2]:
        return False
    return _required(row).contains(wanted, prereleases=True)


def _required(row: ReleaseRow) -> SpecifierSet:
    return SpecifierSet(str(row.get("requires", "")))


def _is_exact(required: SpecifierSet) -> bool:
    return any(bound.operator == "==" and "*" not in bound.version for bound in required)


def _by_version(item: tuple[str, ReleaseRow]) -> Version:
    return Version(item[0])


def _next_torch(rows: ReleaseRows, torch: str) -> str:
    """Return the day on which the torch after this one was published; "" for the newest."""
    later = [
        str(row["uploaded"])
        for version, row in rows["torch"].items()
        if Version(version) > Version(torch) and "uploaded" in row
    ]
    return min(later, default="")


def _changed(key: str, before: object, after: object) -> str:
    if key in ("files", "wheels"):
        return f"other {key}" if before else key
    if after is None:
        return f"{key} no more (was {before})"
    return f"{key} {after}" + (f" (was {before})" if before is not None else "")
