"""What an index says, merged into the known releases: which are new, what changed, what to read.

Pure: `matrix.catalog.refreshes` reads the index and writes the file. A release is a row of
``data/releases.json``. Some of a row's facts stand on the index's page and are compared each time;
the others (`READ_FACTS`) stand in a release's own metadata, which is read once and again only when
the release has other files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timezone
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from matrix._util.versions import specifier_text
from matrix.catalog.package_metadata import COMPANIONS, MetadataFault, Read

if TYPE_CHECKING:
    from matrix.catalog.index import Published

__all__ = [
    "OLDEST",
    "PROJECTS",
    "Change",
    "Row",
    "Rows",
    "changes",
    "due",
    "finished",
    "gone",
    "linux_wheel",
    "listed",
    "merged",
    "source_distribution",
    "text",
    "unreadable",
]

# From which release on each project is followed; the companions from those of the oldest torch.
OLDEST: Mapping[str, str] = {
    "torch": "2.7",
    "vllm": "0.9",
    "torchvision": "0.22",
    "torchaudio": "2.7",
}
PROJECTS = tuple(OLDEST)
READ_FACTS = ("torch", *COMPANIONS, "requires", "cuda", "source", "note", "files")
_ORDER = (
    *("version", "torch", *COMPANIONS, "requires", "python", "cuda", "uploaded", "source"),
    *("yanked", "note", "wheels", "files"),
)
_TOLD = tuple(key for key in _ORDER if key not in ("version", "source", "wheels", "files"))

Row = Mapping[str, object]
Rows = Mapping[str, Mapping[str, Row]]  # by project and version


@dataclass(frozen=True)
class Change:
    """One difference of two states of the rows; `kind` is new, changed, yanked or back."""

    kind: str
    project: str
    version: str
    what: str


def listed(project: str, files: Iterable[Published]) -> dict[str, tuple[Published, ...]]:
    """The files of each final release that is followed, oldest first.

    Pre-releases, releases of a local version (`2.9.1+cu128`) and files with a name that is none are
    left out.
    """
    oldest = Version(OLDEST[project])
    found: dict[Version, list[Published]] = {}
    for file in files:
        try:
            version = Version(file.version)
        except InvalidVersion:
            continue
        if version >= oldest and not version.is_prerelease and version.local is None:
            found.setdefault(version, []).append(file)
    return {
        str(version): tuple(sorted(found[version], key=lambda file: file.filename))
        for version in sorted(found)
    }


def due(project: str, rows: Rows, releases: Mapping[str, Sequence[Published]]) -> list[str]:
    """The releases whose metadata is to be read: new ones, and those that have other files."""
    known = rows.get(project, {})
    return [
        version
        for version, files in releases.items()
        if known.get(version, {}).get("files") != _fingerprint(files)
    ]


def gone(project: str, rows: Rows, releases: Mapping[str, object]) -> list[str]:
    """The known releases that the index lists no more; their rows stay."""
    return [
        version
        for version, row in rows.get(project, {}).items()
        if version not in releases and "files" in row
    ]


def linux_wheel(project: str, files: Sequence[Published]) -> Published | None:
    """The wheel that speaks for a release: Linux on x86_64, its newest build, the smallest.

    Where all are yanked, a yanked one.
    """
    fit = [
        (build, file)
        for file in _unyanked(files)
        if file.is_wheel and (build := _linux_build(file)) is not None
    ]
    newest = max((build for build, _ in fit), default=())
    same = [file for build, file in fit if build == newest]
    return min(same, key=lambda file: (file.size or 0, file.filename), default=None)


def source_distribution(files: Sequence[Published]) -> Published | None:
    """The source distribution of a release, if it has one."""
    return next((file for file in _unyanked(files) if not file.is_wheel), None)


def unreadable(project: str, files: Sequence[Published]) -> Read | None:
    """What there is to say of a release without a file to read; None where it has one."""
    if linux_wheel(project, files) or source_distribution(files):
        return None
    return Read({"note": "no wheel for Linux on x86_64 and no source distribution to read"})


def merged(
    rows: Rows, project: str, version: str, files: Sequence[Published], read: Read | None
) -> Rows:
    """The rows with what the index and, where it was `read`, the metadata say of a release.

    A known release of which nothing was read keeps what it has; a new one is left out, but for a
    torch, which a vLLM may pin: it is there without what was not read. Raises MetadataFault where
    the index lists what cannot be understood.
    """
    known = rows.get(project, {}).get(version)
    if read is None and known is None and project != "torch":
        return rows
    row = {**(known or {}), "version": version}
    if read is not None:
        row = {key: value for key, value in row.items() if key not in READ_FACTS}
        row |= {**read.facts, "files": _fingerprint(files)}
    page = _page(project, version, files)
    row |= {key: value for key, value in page.items() if value}
    if "yanked" not in page:
        row.pop("yanked", None)
    if project == "vllm":
        row.setdefault("python", "")
    return _with(rows, project, row)


def finished(rows: Rows) -> Rows:
    """The rows with what follows from other rows: each torch's companions.

    A torch that is pinned and not listed gets a row that says so.
    """
    for version, row in rows.get("vllm", {}).items():
        torch = row.get("torch")
        if isinstance(torch, str) and torch not in rows.get("torch", {}):
            note = f"the index does not list it; vLLM {version} pins it"
            rows = _with(rows, "torch", {"version": torch, "note": note})
    for version, row in rows.get("torch", {}).items():
        found = {name: _companion(rows, name, version) for name in COMPANIONS}
        kept = {key: value for key, value in row.items() if key not in COMPANIONS}
        rows = _with(rows, "torch", {**kept, **{k: v for k, v in found.items() if v}})
    return rows


def changes(old: Rows, new: Rows) -> list[Change]:
    """What differs, release by release, in the order of the file."""
    found = []
    for project in new:
        for version, row in new[project].items():
            before = old.get(project, {}).get(version)
            if before is None:
                what = ", ".join(f"{key} {row[key]}" for key in _TOLD if key in row)
                found.append(Change("new", project, version, what))
                continue
            if "yanked" in row and row["yanked"] != before.get("yanked"):
                found.append(Change("yanked", project, version, str(row["yanked"])))
            elif "yanked" in before and "yanked" not in row:
                found.append(Change("back", project, version, "is yanked no more"))
            keys = [key for key in _ORDER if key != "yanked" and before.get(key) != row.get(key)]
            if keys:
                what = ", ".join(_changed(key, before.get(key), row.get(key)) for key in keys)
                found.append(Change("changed", project, version, what))
    return found


def text(rows: Rows) -> str:
    """The rows as the data file has them: one release a line, oldest first."""
    lists = []
    for project in PROJECTS:
        every = sorted(rows.get(project, {}).values(), key=lambda row: Version(str(row["version"])))
        lines = ",\n".join(
            f"    {json.dumps({key: row[key] for key in _ORDER if key in row})}" for row in every
        )
        lists.append(f'  "{project}": [\n{lines}\n  ]' if lines else f'  "{project}": []')
    return "{\n" + ",\n".join(lists) + "\n}\n"


def _page(project: str, version: str, files: Sequence[Published]) -> dict[str, object]:
    """The facts that stand on the index's page."""
    facts: dict[str, object] = {}
    chosen = linux_wheel(project, files) or source_distribution(files) or files[0]
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


def _wheels(files: Iterable[Published]) -> dict[str, str]:
    """The Pythons by platform tag: `cp311`, `cp313t` (free-threaded), `cp38-abi3`, `py3-none`."""
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


def _tags(file: Published) -> frozenset[_Tag]:
    try:
        return frozenset(
            _Tag(each.interpreter, each.abi, each.platform)
            for each in parse_wheel_filename(file.filename)[3]
        )
    except (InvalidWheelFilename, InvalidVersion, InvalidSdistFilename):
        return frozenset()


@dataclass(frozen=True)
class _Tag:
    interpreter: str
    abi: str
    platform: str


def _linux_build(file: Published) -> tuple[()] | tuple[int, str] | None:
    """The build number of a wheel for Linux on x86_64, () without one; None for another wheel."""
    # A wheel without machine code is for any platform.
    if not any(
        tag.platform == "any" or ("linux" in tag.platform and "x86_64" in tag.platform)
        for tag in _tags(file)
    ):
        return None
    return parse_wheel_filename(file.filename)[2]


def _unyanked(files: Sequence[Published]) -> Sequence[Published]:
    return [file for file in files if not file.yanked] or files


def _fingerprint(files: Iterable[Published]) -> str:
    """Of the files that speak for a release on Linux; it tells when there are others."""
    names = sorted(
        f"{file.filename} {file.sha256}"
        for file in files
        if not file.is_wheel or _linux_build(file) is not None
    )
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def _range(python: str, where: str) -> str:
    try:
        return specifier_text(SpecifierSet(python))
    except InvalidSpecifier:
        raise MetadataFault(f"{where}: the index says Python {python!r}, no range") from None


def _with(rows: Rows, project: str, row: Row) -> Rows:
    """The rows with this one in the place of that release's."""
    every = {**rows.get(project, {}), str(row["version"]): row}
    order = sorted(every, key=Version)
    return {**rows, project: {version: every[version] for version in order}}


def _companion(rows: Rows, name: str, torch: str) -> str | None:
    """The release of a companion that goes with a torch; None where none is known to.

    That is the newest that requires exactly this torch. Where none does, the one that the newest
    vLLM of this torch pins; else, of those that accept it, the newest that came out while this
    torch was the newest; else the newest of all. A torchaudio is never newer than its torch.
    """
    wanted = Version(torch)
    fit = []
    for version, row in rows.get(name, {}).items():
        if "yanked" in row or "source" not in row:
            continue
        required = SpecifierSet(str(row.get("requires", "")))
        if name == "torchaudio" and Version(version).release[:2] > wanted.release[:2]:
            continue
        if required.contains(wanted, prereleases=True):
            fit.append((version, required, str(row.get("uploaded", ""))))
    exact = [version for version, required, _ in fit if _is_exact(required)]
    if exact:
        return max(exact, key=Version)
    pins = {v: row for v, row in rows.get("vllm", {}).items() if row.get("torch") == torch}
    pinned = [str(row[name]) for _, row in sorted(pins.items(), key=_by_version) if name in row]
    if pinned:
        return pinned[-1]
    until = _next_torch(rows, torch)
    in_time = [version for version, _, day in fit if not until or day < until]
    return max(in_time or [version for version, *_ in fit], key=Version, default=None)


def _is_exact(required: SpecifierSet) -> bool:
    return any(each.operator == "==" and "*" not in each.version for each in required)


def _by_version(item: tuple[str, Row]) -> Version:
    return Version(item[0])


def _next_torch(rows: Rows, torch: str) -> str:
    """The day on which the torch after this one came out; "" for the newest."""
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
