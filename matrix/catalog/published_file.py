"""One file of a project on a package index, as the index's page has it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from matrix._util import addresses

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One file of a project on an index; what the index does not name is None.

    `size` is in bytes, `requires_python` as published, `yanked` why it was withdrawn (None: it was
    not). `has_metadata`: the index serves its metadata as a file of its own (PEP 658).
    """

    project: str
    version: str
    filename: str
    url: str
    sha256: str | None = None
    size: int | None = None
    uploaded: datetime | None = None
    requires_python: str | None = None
    yanked: str | None = None
    has_metadata: bool = False
    metadata_sha256: str | None = None

    @property
    def is_wheel(self) -> bool:
        """Tell whether it is a wheel; else it is a source distribution."""
        return self.filename.endswith(".whl")


def published_file(package: DistributionPackage, project: str, index: str) -> PublishedFile | None:
    """Return a file of an index's page; None if neither wheel nor source distribution.

    A name that leads to another folder, as the text of an HTML page can, is none either.
    """
    if any(sign in package.filename for sign in "/\\\0"):
        return None
    if package.package_type not in ("wheel", "sdist") or not package.version:
        return None
    if canonicalize_name(package.project or "") != canonicalize_name(project):
        return None
    if package.package_type == "wheel" and not _is_readable(package.filename):
        return None
    return PublishedFile(
        project=project,
        version=package.version,
        filename=package.filename,
        url=addresses.as_user(package.url, index),
        sha256=_sha256(package.digests.get("sha256")),
        size=package.size,
        uploaded=_in_utc(package.upload_time),
        requires_python=package.requires_python,
        yanked=(package.yanked_reason or "no reason given") if package.is_yanked else None,
        has_metadata=bool(package.has_metadata),
        metadata_sha256=_sha256((package.metadata_digests or {}).get("sha256")),
    )


def _is_readable(filename: str) -> bool:
    """Tell whether the name of a wheel has no number of more digits than Python reads."""
    try:
        parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return True  # whoever takes the name apart leaves it out
    except ValueError:
        return False
    return True


def _in_utc(uploaded: datetime | None) -> datetime | None:
    """Return a time in UTC, which one without a zone is; None for one that no upload can have."""
    if uploaded is None or not 1970 < uploaded.year < 9999:
        return None
    if uploaded.tzinfo is None:
        return uploaded.replace(tzinfo=timezone.utc)
    return uploaded.astimezone(timezone.utc)


def _sha256(text: str | None) -> str | None:
    """Return a digest in small letters; None for what is none, as if the index had not named it."""
    return text.lower() if text is not None and _SHA256.fullmatch(text) else None
