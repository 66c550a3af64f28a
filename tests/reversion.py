"""Copy a wheel under another version, with some members replaced, also a large one in seconds.

Members that stay are copied as they are compressed. `zipfile` still writes the central directory,
so archives and members above 4 GiB work as far as it knows them.
"""

from __future__ import annotations

import base64
import copy
import csv
import hashlib
import io
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from packaging.utils import parse_wheel_filename
from packaging.version import Version

_BLOCK = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field
_SIZES_FOLLOW = 0x08  # a flag: sizes stand behind the data; here they stand in the header
_ZIP64_EXTRA = 1
_ZIP64_FROM = (1 << 31) - 1
_SETTING = (
    r"(?m)^(?P<head>{name}(?::[^=\n]+)?\s*=\s*)(?P<quote>['\"])(?P<value>[^'\"\n]*)(?P=quote)"
)


class ReversionError(ValueError):
    """A wheel that cannot be copied as asked."""


def reversion(
    wheel: Path,
    folder: Path,
    version: str | None = None,
    *,
    git_version: str | None = None,
    replace: Mapping[str, bytes] | None = None,
) -> Path:
    """Copy a wheel into a folder as another version; returns the path of the copy.

    `version` is the new one (None: as it was), `git_version` the new revision of torch.version.
    In PROJECT/version.py the version keeps its local part, such as `+cu130`, unless the new version
    has one itself. `replace` has the new content of members by name; each must be there.
    Raises ReversionError where the wheel lacks what is to change, or is the copy itself.
    """
    name, old, _, _ = parse_wheel_filename(wheel.name)
    new = str(Version(version)) if version else str(old)
    stem, _, tags = wheel.name.split("-", 2)
    target = folder / f"{stem}-{new}-{tags}"
    if target.resolve() == wheel.resolve():
        raise ReversionError(f"{wheel.name}: the copy would take the place of the wheel")
    with zipfile.ZipFile(wheel) as archive, wheel.open("rb") as source:
        info = _dist_info(archive, wheel.name)
        changed = dict(replace or {})
        module = f"{name.replace('-', '_')}/version.py"
        if module in archive.namelist() and (version or git_version):
            text = changed.get(module, archive.read(module)).decode()
            changed[module] = _version_module(text, new if version else None, git_version).encode()
        elif git_version:
            raise ReversionError(f"{wheel.name}: has no {module}, so no git_version to change")
        metadata = f"{info}/METADATA"
        text = changed.get(metadata, archive.read(metadata)).decode()
        changed[metadata] = _put(r"(?m)^Version: .*$", f"Version: {new}", text).encode()
        if missing := changed.keys() - set(archive.namelist()):
            raise ReversionError(f"{wheel.name}: has no member {', '.join(sorted(missing))}")
        renamed = f"{stem}-{new}.dist-info"
        record = _record(archive.read(f"{info}/RECORD").decode(), info, renamed, changed)
        changed[f"{info}/RECORD"] = record.encode()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
            for member in archive.infolist():
                if member.filename not in changed:
                    _copy(member, _moved(member.filename, info, renamed), source, out)
            for member_name, content in changed.items():  # RECORD is the last, as it should be
                fresh = zipfile.ZipInfo(_moved(member_name, info, renamed))
                fresh.external_attr = archive.getinfo(member_name).external_attr
                fresh.compress_type = zipfile.ZIP_DEFLATED
                out.writestr(fresh, content)
    return target


def record_row(name: str, content: bytes) -> tuple[str, str, str]:
    """Return the row of RECORD for a file."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return name, f"sha256={digest}", str(len(content))


def _dist_info(archive: zipfile.ZipFile, wheel: str) -> str:
    found = {
        name.partition("/")[0]
        for name in archive.namelist()
        if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)
    }
    if len(found) != 1:
        raise ReversionError(f"{wheel}: has {len(found)} folders *.dist-info with METADATA, not 1")
    return found.pop()


def _moved(name: str, old: str, new: str) -> str:
    return f"{new}/{name[len(old) + 1 :]}" if name.startswith(f"{old}/") else name


def _version_module(text: str, version: str | None, git_version: str | None) -> str:
    if version is not None:
        pattern = _SETTING.format(name="__version__")
        before = re.search(pattern, text)
        if before is None:
            raise ReversionError("version.py: has no __version__ that is a text")
        plus, local = before["value"].partition("+")[1:]
        inner = version if "+" in version else f"{version}{plus}{local}"
        text = _put(pattern, rf"\g<head>\g<quote>{inner}\g<quote>", text)
    if git_version is not None:
        pattern = _SETTING.format(name="git_version")
        text = _put(pattern, rf"\g<head>\g<quote>{git_version}\g<quote>", text)
    return text


def _put(pattern: str, new: str, text: str) -> str:
    """Put a text for the first match; raises where nothing matches."""
    text, count = re.subn(pattern, new, text, count=1)
    if not count:
        raise ReversionError(f"nothing matches {pattern!r}")
    return text


def _record(text: str, old: str, new: str, changed: Mapping[str, bytes]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in csv.reader(io.StringIO(text)):
        if not row:
            continue
        name = _moved(row[0], old, new)
        if row[0] in changed:
            writer.writerow(record_row(name, changed[row[0]]))
        else:
            writer.writerow([name, *row[1:]])
    return out.getvalue()


def _copy(member: zipfile.ZipInfo, name: str, source: IO[bytes], out: zipfile.ZipFile) -> None:
    """Copy one member as it is compressed, under a name."""
    source.seek(member.header_offset)
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(source.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise ReversionError(f"{member.filename}: its header is not where the directory says")
    source.seek(name_length + extra_length, 1)
    fresh = copy.copy(member)
    fresh.filename = fresh.orig_filename = name
    fresh.flag_bits &= ~_SIZES_FOLLOW
    fresh.extra = _without_zip64(member.extra)
    assert out.fp is not None  # it is open
    out.fp.seek(out.start_dir)
    fresh.header_offset = out.fp.tell()
    large = max(fresh.file_size, fresh.compress_size) > _ZIP64_FROM
    out.fp.write(fresh.FileHeader(zip64=large))
    left = fresh.compress_size
    while left:
        block = source.read(min(_BLOCK, left))
        if not block:
            raise ReversionError(f"{member.filename}: the archive ends inside it")
        out.fp.write(block)
        left -= len(block)
    out.start_dir = out.fp.tell()
    out.filelist.append(fresh)
    out.NameToInfo[fresh.filename] = fresh


def _without_zip64(extra: bytes) -> bytes:
    """Return an extra field without sizes of ZIP64, which zipfile writes where they are needed."""
    kept = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind != _ZIP64_EXTRA:
            kept += extra[: 4 + length]
        extra = extra[4 + length :]
    return kept
