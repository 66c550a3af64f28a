"""The wheels of vLLM that were built here, and the folder of the cache that keeps them.

A wheel has a folder of its own, named by a digest of what it is made of.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from matrix._util.caches import cache_folder
from matrix._util.files import digest_of, read_text
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.model import Candidate, SourceKind
from matrix.catalog.cells import Made

FACTS = "built.json"
_WHEELS = "vllm-wheels"


@dataclass(frozen=True, kw_only=True)
class Built:
    """A wheel that was built, and what it was made of.

    `version` is the wheel's own, with its local part. `kind`, `identity`, `revision` and
    `source_version` are those of its sources, `requirements` what these say that a build needs,
    `tools` the versions that it was built with. `seconds` is how long that took,
    `from_cache` whether it was there already. `log` has all that the build printed, `made` says how
    it was built.
    """

    wheel: Path
    version: str
    sha256: str
    kind: SourceKind
    identity: str
    revision: str | None
    source_version: str
    python: str
    requirements: tuple[str, ...]
    tools: Mapping[str, str]
    seconds: float
    log: Path
    from_cache: bool
    made: Made = Made.WITHOUT_COMPILING

    @property
    def requirement(self) -> str:
        """The requirement that installs this wheel and no other."""
        return f"vllm @ {self.wheel.as_uri()}#sha256={self.sha256}"


def wheels_of(cache: Path) -> Path:
    """Return the folder of a cache that has a folder for each wheel."""
    return cache / _WHEELS


def kept_wheel(folder: Path) -> Built | None:
    """Return the wheel of a folder of the cache; None if there is none, or it was changed."""
    found = facts_of(folder)
    with contextlib.suppress(OSError):
        if found is not None and digest_of(found.wheel) == found.sha256:
            return found
    return None


def facts_of(folder: Path) -> Built | None:
    """Return what is written of the wheel of a folder; None if that cannot be read."""
    try:
        facts = json.loads(read_text(folder / FACTS))
        wheel, log = folder / facts.pop("name"), folder / facts.pop("log")
        return Built(
            wheel=wheel,
            log=log,
            requirements=tuple(facts.pop("requirements")),
            kind=SourceKind(facts.pop("kind")),
            made=Made(facts.pop("made", Made.WITHOUT_COMPILING)),
            from_cache=True,
            **facts,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def built_before(candidate: Candidate, python: str, *, cache: Path | None = None) -> Built | None:
    """Return a wheel that was built without compiling of a candidate, for a Python, else None.

    It may have been built with other tools than a build today would have. The sources need not be
    here.
    """
    folder = (cache or cache_folder()).resolve() / _WHEELS
    for path in sorted(folder.glob(f"*/{FACTS}"), key=lambda path: -path.stat().st_mtime):
        found = facts_of(path.parent)
        if found is None or (found.kind, found.identity) != candidate.sources:
            continue
        of_the_cpu = found.made is Made.WITHOUT_COMPILING
        if of_the_cpu and (found.source_version, found.python) == (candidate.version, python):
            kept = kept_wheel(path.parent)
            if kept is not None:
                return kept
    return None


def forget_wheels(
    candidate: Candidate, others: Iterable[Candidate] = (), *, cache: Path | None = None
) -> int:
    """Remove the wheels that were built of a candidate's sources, and return how many those were.

    Not those of sources that one of the `others` has too. Raises CandidateError if one cannot be
    removed.
    """
    if candidate.sources is None or candidate.sources in (other.sources for other in others):
        return 0
    removed = 0
    for path in sorted(((cache or cache_folder()).resolve() / _WHEELS).glob(f"*/{FACTS}")):
        found = facts_of(path.parent)
        if found is None or (found.kind, found.identity) != candidate.sources:
            continue
        try:
            path.unlink()  # without it nobody takes the rest for a wheel
            shutil.rmtree(path.parent)
        except OSError as error:
            raise CandidateError(
                f"{path.parent}: cannot be removed ({error.strerror}); remove it by hand"
            ) from None
        removed += 1
    return removed
