"""The origin of a record's torch and vLLM, and how the vLLM was built. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from matrix.catalog.cells import Build, Made


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The origin of the torch or the vLLM of a run; an unknown value is None.

    `candidate` is None if the cell names a release. `version` is the installed one, or that of a
    candidate which is not installed. `index` is without credentials, `file` the name of the wheel,
    `revision` the git commit that its own files name. `built` is the time of the upload: no file of
    a wheel says when it was built. Of a release, index, SHA-256 and `built` are known where tox
    found the file on the index whose content is the installed one (`matrix.run.published`).
    `content` is a SHA-256 over the rows of its RECORD, which distinguishes two builds, whatever way
    they were installed. `made` is None if no sources were named, and `extensions` is the wheel
    that it has its extensions from, where that is another one.
    """

    project: str
    candidate: Build | None = None
    version: str | None = None
    index: str | None = None
    file: str | None = None
    sha256: str | None = None
    revision: str | None = None
    built: str | None = None
    content: str | None = None
    made: Made | None = None
    extensions: str | None = None
