"""Wheels on disk: drop the GPU code of other chips from one, and write that of this project."""

from __future__ import annotations

import base64
import csv
import importlib
import io
import mmap
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from matrix._util.archives import BAD_ARCHIVE
from matrix._util.files import digest_of
from matrix._util.text import pip_install
from matrix.bundle.fatbin import Pruned, keep_only
from matrix.errors import MatrixError

_LEAST = 1 << 16  # bytes below which a library contains no GPU code worth the reading
_BLOCK = 1 << 20
# Bytes from which a packed file may need the wide fields of ZIP64: incompressible data grows by up
# to 0.4%. Where it does not need them, zipfile before Python 3.11.4 writes a header that is wrong.
_LARGE = (1 << 31) - (1 << 24)
_DEFLATE_LEVEL = 6  # zeros pack away at any, and above it little but the time grows
_ZSTD_LEVEL = 12
# A file below SMALL packs at a level of its own. At 12, Zstandard takes 25 ms to set up its tables
# for each file, and most files of a wheel are small (benchmarks/repack.py).
SMALL = 1 << 20
_ZSTD_LEVEL_SMALL = 8


def rewrite(wheel: Path, arch: int | None, *, repack: bool = False) -> Pruned | None:
    """Rewrite a wheel: with the GPU code of one architecture only, or packed with Zstandard.

    The wheel's RECORD follows, so that it installs as before. `arch` is None to leave the code as
    it is; `repack` packs with Zstandard, which uv reads and pip does not. Returns what this
    dropped, or None if there is nothing to do, which leaves the wheel as it was. So does a
    failure. Raises MatrixError for any other file than a wheel.
    """
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            tempfile.TemporaryDirectory(prefix="matrix-wheel-", dir=wheel.parent.parent) as name,
        ):
            folder = Path(name)
            changed: dict[str, Path] = {}
            pruned = Pruned()
            if arch is not None:
                changed, pruned = _pruned_libraries(archive, folder, arch)
            if not changed and not repack:
                return None
            fresh = folder / "wheel"
            with _writer(fresh, repack=repack) as writer:
                _write(archive, changed, writer, folder / "member")
            fresh.replace(wheel)
    except (*BAD_ARCHIVE, csv.Error) as error:
        raise MatrixError(f"{wheel}: is not a wheel ({error}); fetch it again") from error
    return pruned


def _pruned_libraries(
    archive: zipfile.ZipFile, folder: Path, arch: int
) -> tuple[dict[str, Path], Pruned]:
    changed: dict[str, Path] = {}
    total = Pruned()
    for member in archive.infolist():
        if ".so" not in Path(member.filename).suffixes or member.file_size < _LEAST:
            continue
        library = folder / f"{len(changed)}.so"
        _extract(archive, member.filename, library)
        with library.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
            pruned = keep_only(content, arch)
        total += pruned
        if pruned.dropped:
            changed[member.filename] = library
    return changed, total


def _write(
    archive: zipfile.ZipFile, changed: Mapping[str, Path], writer: zipfile.ZipFile, scratch: Path
) -> None:
    """Write the wheel again, with the changed files in it and a RECORD that is true of them."""
    members = archive.namelist()
    record = next((name for name in members if name.endswith(".dist-info/RECORD")), None)
    if record is None:
        raise zipfile.BadZipFile("it has no RECORD")
    for member in archive.infolist():
        if member.filename == record or member.is_dir():
            continue
        path = changed.get(member.filename, scratch)
        if path is scratch:
            _extract(archive, member.filename, scratch)
        _add(writer, member.filename, path, member.external_attr)
    rows = list(csv.reader(io.StringIO(archive.read(record).decode("utf-8"))))
    scratch.write_bytes(_record(rows, changed))
    _add(writer, record, scratch, archive.getinfo(record).external_attr)


def _add(writer: zipfile.ZipFile, name: str, source: Path, attributes: int) -> None:
    """Add a file, with zipfile's `external_attr`; of a fixed date, so that its bytes are too."""
    size = source.stat().st_size
    large = size >= _LARGE
    if size < SMALL and writer.compression not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        info = zstd_zipfile().ZipInfo(name)
        info.external_attr = attributes
        packed = {"compress_type": writer.compression, "compresslevel": _ZSTD_LEVEL_SMALL}
        writer.writestr(info, source.read_bytes(), **packed)
        return
    with writer.open(name, "w", force_zip64=large) as member, source.open("rb") as file:
        shutil.copyfileobj(file, member, _BLOCK)
    writer.getinfo(name).external_attr = attributes


def zstd_zipfile() -> ModuleType:
    """Return a `zipfile` that packs with Zstandard: Python's own from 3.14 on, else the backport.

    It packs a wheel of triton to 129.7 MiB in 33 CPU seconds, and one of NCCL to 196.6 MiB in 4,
    where the program `zstd` with a window of 128 MiB takes 127.9 MiB and 41 seconds, and 195.1 MiB
    and 10: zipfile has no option for the window. Raises MatrixError if the backport is missing.
    """
    if sys.version_info >= (3, 14):
        return zipfile
    try:
        return importlib.import_module("backports.zstd.zipfile")
    except ImportError:
        raise MatrixError(
            f"backports.zstd is not installed; --repack needs it: {pip_install('bundle')}"
        ) from None


def _writer(path: Path, *, repack: bool) -> zipfile.ZipFile:
    if repack:
        module = zstd_zipfile()
        method, level = module.ZIP_ZSTANDARD, _ZSTD_LEVEL
    else:
        module, method, level = zipfile, zipfile.ZIP_DEFLATED, _DEFLATE_LEVEL
    writer: zipfile.ZipFile = module.ZipFile(path, "w", method, compresslevel=level)
    return writer


def _extract(archive: zipfile.ZipFile, member: str, path: Path) -> None:
    with archive.open(member) as source, path.open("wb") as file:
        shutil.copyfileobj(source, file, _BLOCK)


def _record(rows: list[list[str]], changed: Mapping[str, Path]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        path = changed.get(row[0]) if row else None
        writer.writerow([row[0], *_hashed(path)] if path else row)
    return text.getvalue().encode("utf-8")


def _hashed(path: Path) -> tuple[str, str]:
    digest = base64.urlsafe_b64encode(bytes.fromhex(digest_of(path))).rstrip(b"=")
    return f"sha256={digest.decode('ascii')}", str(path.stat().st_size)


@dataclass(frozen=True, kw_only=True)
class ProjectMetadata:
    """The declarations of the project's pyproject.toml; `entry_points` are by group and name."""

    name: str
    version: str
    requires_python: str
    dependencies: tuple[str, ...]
    entry_points: Mapping[str, Mapping[str, str]]


def write_project_wheel(folder: Path, project: ProjectMetadata) -> Path:
    """Write the wheel that makes this project known in an environment; return its path.

    It holds metadata and no code: a `.pth` file names the project's tree, because the startup tests
    are there next to the package, and a refresh of the bundle replaces that tree alone. `uv build`
    would put a second copy of the package into the wheel, and needs the build backend from an
    index.
    """
    stem = f"{project.name.replace('-', '_')}-{project.version}"
    points = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in named.items()) + "\n"
        for group, named in project.entry_points.items()
    )
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {project.name}",
        f"Version: {project.version}",
        f"Requires-Python: {project.requires_python}",
        *(f"Requires-Dist: {requirement}" for requirement in project.dependencies),
    ]
    files = {
        "METADATA": "".join(f"{line}\n" for line in metadata),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: matrix\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        "entry_points.txt": points,
    }
    rows = []
    path = folder / f"{stem}-py3-none-any.whl"
    with (
        tempfile.TemporaryDirectory() as scratch_folder,
        _writer(path, repack=False) as writer,
    ):
        scratch = Path(scratch_folder, "member")
        for file, text in files.items():
            scratch.write_text(text, encoding="utf-8")
            inside = f"{stem}.dist-info/{file}"
            rows.append([inside, *_hashed(scratch)])
            _add(writer, inside, scratch, 0o644 << 16)
        record = f"{stem}.dist-info/RECORD"
        scratch.write_bytes(_record([*rows, [record, "", ""]], {}))
        _add(writer, record, scratch, 0o644 << 16)
    return path
