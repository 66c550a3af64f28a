"""Wheels on disk: take the GPU code of other chips out of one, and make the one of this project."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import mmap
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from matrix.errors import MatrixError
from matrix.gpu_code import Pruned, keep_only

__all__ = ["digest_of", "keep_gpu_code", "write_project_wheel"]

_LEVEL = 6  # zeros pack away at any level, and above 6 only the time grows
_BLOCK = 1 << 20
_LEAST = 1 << 16  # bytes below which a library holds no GPU code worth the reading
_EPOCH = (1980, 1, 1, 0, 0, 0)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def keep_gpu_code(wheel: Path, arch: int) -> Pruned | None:
    """Rewrite a wheel so that its libraries hold the GPU code of one architecture only.

    The wheel's RECORD follows, so that it installs as before. Returns what was dropped, or None
    where the wheel holds nothing to drop and is left as it was. Raises MatrixError for what is no
    wheel; a failure leaves the wheel as it was.
    """
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            tempfile.TemporaryDirectory(prefix="matrix-wheel-", dir=wheel.parent) as folder,
        ):
            changed, pruned = _pruned_libraries(archive, Path(folder), arch)
            if not changed:
                return None
            fresh = Path(folder, wheel.name)
            _write(archive, changed, fresh)
            fresh.replace(wheel)
    except zipfile.BadZipFile as error:
        raise MatrixError(f"{wheel}: is no wheel ({error}); fetch it again") from error
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
        with archive.open(member) as source, library.open("wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
        with library.open("r+b") as both, mmap.mmap(both.fileno(), 0) as content:
            pruned = keep_only(content, arch)
        total += pruned
        if pruned.dropped:
            changed[member.filename] = library
        else:
            library.unlink()
    return changed, total


def _write(archive: zipfile.ZipFile, changed: Mapping[str, Path], path: Path) -> None:
    """The wheel again, with other files in it and a RECORD that is true of them."""
    record = next((each for each in archive.namelist() if each.endswith(".dist-info/RECORD")), None)
    if record is None:
        raise zipfile.BadZipFile("it has no RECORD")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as fresh:
        for member in archive.infolist():
            if member.filename == record or member.is_dir():
                continue
            with _content(archive, member, changed) as source:
                _add(fresh, member.filename, source, member.external_attr)
        rows = list(csv.reader(io.StringIO(archive.read(record).decode("utf-8"))))
        lines = _record(rows, changed)
        _add(fresh, record, io.BytesIO(lines), archive.getinfo(record).external_attr)


def _content(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, changed: Mapping[str, Path]
) -> IO[bytes]:
    path = changed.get(member.filename)
    return archive.open(member) if path is None else path.open("rb")


def _add(archive: zipfile.ZipFile, name: str, source: IO[bytes], attributes: int) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = attributes
    with archive.open(info, "w", force_zip64=True) as file:
        shutil.copyfileobj(source, file, _BLOCK)


def _record(rows: list[list[str]], changed: Mapping[str, Path]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        path = changed.get(row[0]) if row else None
        writer.writerow([row[0], *_hashed(path)] if path else row)
    return text.getvalue().encode("utf-8")


def _hashed(path: Path) -> tuple[str, str]:
    return _record_hash(digest_of(path)), str(path.stat().st_size)


def _record_hash(digest: str) -> str:
    encoded = base64.urlsafe_b64encode(bytes.fromhex(digest)).rstrip(b"=").decode("ascii")
    return f"sha256={encoded}"


def write_project_wheel(
    folder: Path, name: str, version: str, entry_points: Mapping[str, Mapping[str, str]]
) -> Path:
    """Write the wheel that makes this project known in an environment: its name and entry points.

    It holds no code: that is in the project's tree, which is the same one that the tests are in.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    points = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in named.items()) + "\n"
        for group, named in entry_points.items()
    )
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: matrix\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        "entry_points.txt": points,
    }
    rows = []
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            content = text.encode("utf-8")
            inside = f"{stem}.dist-info/{file}"
            rows.append(
                [inside, _record_hash(hashlib.sha256(content).hexdigest()), str(len(content))]
            )
            _add(archive, inside, io.BytesIO(content), 0o644 << 16)
        record = f"{stem}.dist-info/RECORD"
        _add(archive, record, io.BytesIO(_record([*rows, [record, "", ""]], {})), 0o644 << 16)
    return path
