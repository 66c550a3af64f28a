"""Versions, read once: the same few hundred texts are compared all over a large matrix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix.errors import MatrixError

__all__ = ["version"]


@lru_cache(maxsize=4096)
def version(text: str) -> Version:
    """The version that the text names; raises packaging's InvalidVersion where it is none.

    >>> version("2.9.1") < version("2.10")
    True
    """
    try:
        return Version(text)
    except InvalidVersion:
        raise
    except ValueError:  # of more digits than Python reads
        raise InvalidVersion(f"Invalid version: {text[:40]!r}…") from None


@cache
def minor_of(version: str) -> str:
    """The minor release of a version.

    >>> minor_of("2.10.1")
    '2.10'
    """
    parsed = Version(version)
    return f"{parsed.major}.{parsed.minor}"


class VersionRangeError(MatrixError):
    """A text that does not name a set of base versions."""


@dataclass(frozen=True)
class VersionRange:
    """A set of base versions, written as a specifier; no text is every version.

    Raises VersionRangeError for a text that is no specifier, that no base version satisfies, or
    whose bounds are not base versions (they would never be met, or mislead).
    """

    text: str | None = None

    def __post_init__(self) -> None:
        """Read the text once, so that a bad one fails where it is written."""
        _boundaries(self.text)
        if not any(self.contains(point) for point in _critical(_boundaries(self.text))):
            raise VersionRangeError(f"no version satisfies {self.text!r}; widen it")

    def contains(self, version: Version) -> bool:
        """Tell whether the base of this version satisfies the specifier."""
        if self.text is None:
            return True
        return _contains(self.text, version.base_version)

    def implies(self, other: VersionRange) -> bool:
        """Tell whether every version in this range is in the other one, too."""
        return _implies(self.text, other.text)

    def shared(self, other: VersionRange) -> Version | None:
        """Give a version that is in both ranges, or None."""
        return _shared(self.text, other.text)


@lru_cache(maxsize=16384)
def _contains(text: str, version: str) -> bool:
    return _specifiers(text).contains(version, prereleases=True)


@cache
def _specifiers(text: str) -> SpecifierSet:
    return SpecifierSet(text)


@cache
def _boundaries(text: str | None) -> tuple[tuple[int, ...], ...]:
    """The base versions, as release numbers, at which membership in a range can change."""
    if text is None:
        return ()
    if not text.strip(" ,"):
        raise VersionRangeError("is empty; leave the key out to match every version")
    try:
        specifiers = _specifiers(text)
    except InvalidSpecifier as error:
        raise VersionRangeError(f"{text!r} is not a specifier; write it as >=2.10,<2.12") from error
    found: list[tuple[int, ...]] = []
    for specifier in specifiers:
        if specifier.operator == "===":
            raise VersionRangeError(f"{str(specifier)!r} compares texts; write == instead")
        version = Version(specifier.version.removesuffix(".*"))
        if version != Version(version.base_version) or version.epoch:
            raise VersionRangeError(
                f"{str(specifier)!r} is never met as it looks: versions are compared by base "
                f"version; write {specifier.operator}{'.'.join(map(str, version.release))}"
            )
        release = version.release
        found.append(release)
        prefix = release if specifier.version.endswith(".*") else release[:-1]
        if specifier.operator == "~=" or specifier.version.endswith(".*"):
            found.append((*prefix[:-1], prefix[-1] + 1))
    return tuple(found)


def _critical(boundaries: Iterable[tuple[int, ...]]) -> list[Version]:
    """Versions of which one lies in each stretch that the boundaries cut the versions into.

    Each boundary itself first, as the plainest, then just above and just below each.
    """
    cuts = sorted(set(boundaries)) or [(0,)]
    length = max(map(len, cuts))
    large = max(map(max, cuts)) + 1
    points = list(cuts)
    for cut in cuts:
        # Longer than every boundary, so that none lies between the two.
        points.append((*cut, *(0 for _ in range(length - len(cut))), 1))
        below = list(cut)
        while below and not below[-1]:
            below.pop()
        if below:
            points.append((*below[:-1], below[-1] - 1, large))
    return [Version(".".join(map(str, point))) for point in points]


@cache
def _implies(one: str | None, other: str | None) -> bool:
    if other is None or one == other:
        return True
    inner, outer = VersionRange(one), VersionRange(other)
    points = _critical(_boundaries(one) + _boundaries(other))
    return all(outer.contains(point) for point in points if inner.contains(point))


@cache
def _shared(one: str | None, other: str | None) -> Version | None:
    left, right = VersionRange(one), VersionRange(other)
    points = _critical(_boundaries(one) + _boundaries(other))
    return next((p for p in points if left.contains(p) and right.contains(p)), None)
