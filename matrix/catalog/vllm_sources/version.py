"""Choose the version of sources of vLLM that no release has, so that expectations match it. Pure.

setuptools-scm, without a tag, would call them `0.1.dev1`, which no expectation is for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from packaging.version import InvalidVersion, Version

from matrix._util.text import clip
from matrix._util.versions import parse_version
from matrix.catalog.vllm_sources.git import Described
from matrix.errors import MatrixError

SDIST_VERSION_FILES = ("PKG-INFO", "vllm/_version.py")
"""The files of a tree that may say its version, the better first."""

_SHORT = 9  # digits of a hash in a version, as setuptools-scm has them
_PKG_INFO = re.compile(r"(?m)^Version: *(\S+) *$")
# vllm/_version.py, by setuptools-scm: __version__ = version = '0.33.0'
_MODULE = re.compile(r"""(?m)^__version__\s*(?::[^=\n]+)?=.*?["']([^"'\n]+)["']\s*$""")
_LAST_NUMBER = re.compile(r"\d+$")
_EMPTY = re.compile(r"(?:^|\.)empty$")
_PLACEHOLDER = Version("0.2")  # older than every vLLM that is here; setuptools-scm's guess is 0.1


class VersionError(MatrixError):
    """Sources whose version nothing says."""


def version_of(
    where: str,
    *,
    given: str | None = None,
    described: Described | None = None,
    files: Mapping[str, str] | None = None,
    mark: str | None = None,
) -> str:
    """Return the version to build sources as: the given one, else by a tag, else by their files.

    `mark` distinguishes them from others of the version, such as `g` and a hash: it becomes the
    local part, unless the given version has one. Raises VersionError, which begins with `where`,
    where nothing says a version, or the given one is none.

    >>> version_of("x", described=Described(tag="v0.33.0", distance=3), mark="g4152872ac")
    '0.33.1.dev3+g4152872ac'
    >>> version_of("x", files={"PKG-INFO": "Version: 0.33.0"}, mark="g4152872ac")
    '0.33.0+g4152872ac'
    """
    if given is not None:
        try:
            version = parse_version(given)
        except InvalidVersion:
            raise VersionError(
                f"--version {clip(given, 60)!r}: is not a version; write it as 0.34.0"
            ) from None
        return str(version) if version.local or not mark else f"{version}+{mark}"
    if described is not None and (tagged := _version(described.tag.removeprefix("v"))):
        after = f"{_next(tagged.public)}.dev{described.distance}"
        return _with(after if described.distance else tagged.public, mark)
    for name, pattern in zip(SDIST_VERSION_FILES, (_PKG_INFO, _MODULE), strict=True):
        found = pattern.search((files or {}).get(name, ""))
        version_there = _version(found[1]) if found else None
        if version_there is not None and version_there >= _PLACEHOLDER:
            local = _EMPTY.sub("", version_there.local or "")
            return _with(version_there.public, ".".join(filter(None, (local, mark))))
    raise VersionError(
        f"{where}: has no tag such as v0.34.0 and no file that states its version; state it:"
        " --version 0.34.0"
    )


def commit_mark(commit: str) -> str:
    """Return the mark of a commit: `g` and the beginning of its hash."""
    return f"g{commit[:_SHORT]}"


def tree_mark(state: str) -> str:
    """Return the mark of a folder that is not a commit: `d` and the beginning of its digest."""
    return f"d{state[:_SHORT]}"


def _version(text: str) -> Version | None:
    try:
        return parse_version(text)
    except InvalidVersion:
        return None


def _next(public: str) -> str:
    """Return the version after one, as setuptools-scm guesses it: its last number and one more."""
    return _LAST_NUMBER.sub(lambda found: str(int(found[0]) + 1), public)


def _with(version: str, mark: str | None) -> str:
    return f"{version}+{mark}" if mark else version
