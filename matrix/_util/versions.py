"""Versions and sets of them: parsed once, compared, and read from what people write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import NamedTuple, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix.errors import MatrixError

_Release = TypeVar("_Release")


class SpecifierError(MatrixError):
    """A text that names neither a release nor a set of them."""


@lru_cache(maxsize=4096)
def parse_version(text: str) -> Version:
    """Return the version that the text names, from the project's one cache of parsed versions.

    A large matrix compares the same few hundred texts all over. Raises packaging's InvalidVersion
    where the text is not a version.

    >>> parse_version("2.9.1") < parse_version("2.10")
    True
    """
    try:
        return Version(text)
    except InvalidVersion:
        raise
    except ValueError:  # of more digits than Python reads
        raise InvalidVersion(f"Invalid version: {text[:40]!r}…") from None


def minor_of(text: str) -> str:
    """Return the minor release of a version.

    >>> minor_of("2.10.1")
    '2.10'
    """
    parsed = parse_version(text)
    return f"{parsed.major}.{parsed.minor}"


def next_minor(minor: str) -> str:
    """Return the minor release after this one.

    >>> next_minor("2.9")
    '2.10'
    """
    parsed = parse_version(minor)
    return f"{parsed.major}.{parsed.minor + 1}"


def newest_patches(
    releases: Iterable[_Release], version_of: Callable[[_Release], str]
) -> list[_Release]:
    """Return the newest patch of each minor release, oldest first.

    >>> newest_patches(["0.20.2", "0.9.1", "0.20.10"], str)
    ['0.9.1', '0.20.10']
    """
    order = sorted(releases, key=lambda release: parse_version(version_of(release)))
    return list({minor_of(version_of(release)): release for release in order}.values())


def neighbours(wanted: str, known: Iterable[str]) -> list[str]:
    """Return the newest known version below the wanted one, and the oldest that is not below it.

    >>> neighbours("2.10", ["2.8", "2.9", "2.11", "2.12"])
    ['2.9', '2.11']
    """
    middle = parse_version(wanted)
    order = sorted(set(known), key=lambda text: (parse_version(text), text))
    below = [text for text in order if parse_version(text) < middle]
    return [*below[-1:], *order[len(below) :][:1]]


def distance(one: str, other: str) -> tuple[int, int, int]:
    """Return how far two releases are apart, as something to compare: major, minor, patch.

    From one minor release to another the number of the patch counts last, whichever way.

    >>> distance("2.15.0", "3.0.0") < distance("2.7.0", "3.0.0")
    True
    """
    low, high = sorted((parse_version(one), parse_version(other)))
    return high.major - low.major, high.minor - low.minor, abs(high.micro - low.micro)


def parse_specifier(text: str, option: str) -> SpecifierSet:
    """Return the releases that a person means: specifiers, or one minor release or version.

    Raises SpecifierError, which names the option of the command.

    >>> str(parse_specifier("2.11", "--torch")), str(parse_specifier(">=2.11", "--torch"))
    ('==2.11.*', '>=2.11')
    """
    _must_say_something(text, option)
    try:
        parsed = parse_version(text)
    except InvalidVersion:
        pass
    else:
        text = f"=={text}.*" if len(parsed.release) < 3 else f"=={text}"
    try:
        return specifier_set(text)
    except InvalidSpecifier:
        raise SpecifierError(
            f"{option} {text!r}: is neither a release nor a specifier; write it as 2.11 or '>=2.11'"
        ) from None


def specifier_set(text: str) -> SpecifierSet:
    """Return the specifiers of a text that nobody here wrote.

    Raises packaging's InvalidSpecifier, also for a number of more digits than Python reads.
    """
    found = SpecifierSet(text)
    try:
        for specifier in found:
            specifier.contains("0")  # packaging reads the version only now
    except ValueError:
        raise InvalidSpecifier(f"Invalid specifier: {text[:40]!r}…") from None
    return found


def newest_patch(text: str, known: Iterable[str]) -> str:
    """Return the release that a person means: of a minor release its newest known patch.

    What is not a minor release, or has no known patch, stays as it is. Without pre-releases and
    local versions. Raises packaging's InvalidVersion where the text is not a version.

    >>> newest_patch("2.12", ["2.12.0", "2.12.1", "2.13.0"]), newest_patch("2.12.0", ["2.12.1"])
    ('2.12.1', '2.12.0')
    """
    wanted = parse_version(text)
    if len(wanted.release) > 2 or wanted.is_prerelease or wanted.local:
        return text
    patches = [
        version
        for version in known
        if minor_of(version) == minor_of(text)
        and not parse_version(version).is_prerelease
        and not parse_version(version).local
    ]
    return max(patches, key=parse_version, default=text)


def chosen_versions(text: str | None, known: Sequence[str], option: str) -> list[str]:
    """Return those of the known versions that a person means: a release, a minor one, or a range.

    A minor release means its newest patch. A release that is not known is returned as it is; None
    means all. Raises SpecifierError, which names the option, for any other text and for a range
    without a known version.

    >>> chosen_versions("2.12", ["2.12.0", "2.12.1"], "--torch")
    ['2.12.1']
    >>> chosen_versions("<2.12.1", ["2.12.0", "2.12.1"], "--torch")
    ['2.12.0']
    """
    if text is None:
        return list(known)
    _must_say_something(text, option)
    try:
        newest = newest_patch(text, known)
    except InvalidVersion:
        ranged = parse_specifier(text, option)
        found = [version for version in known if ranged.contains(version, prereleases=True)]
        if not found:
            raise SpecifierError(
                f"{option} {text!r}: none of {', '.join(known) or 'no releases'} is in it; name a"
                " wider range"
            ) from None
        return found
    same = [version for version in known if parse_version(version) == parse_version(newest)]
    return same[:1] or [newest]


def chosen_specifier(text: str, known: Iterable[str], option: str) -> SpecifierSet:
    """Return the releases that a person means in a filter: a minor one is its newest known patch.

    That is what `chosen_versions` means. The name of a candidate is its release key. `==2.12.*` are
    all patches of a minor release; so is a minor one without a known patch. Raises SpecifierError,
    which names the option.

    >>> str(chosen_specifier("2.12", ["2.12.0", "2.12.1"], "--torch"))
    '==2.12.1'
    >>> str(chosen_specifier("==2.12.*", ["2.12.0", "2.12.1"], "--torch"))
    '==2.12.*'
    """
    _must_say_something(text, option)
    every = list(known)
    if (key := _key_of(text, every)) is not None:
        return SpecifierSet(f"==={key}")
    try:
        return parse_specifier(newest_patch(text, every), option)
    except InvalidVersion:
        return parse_specifier(text, option)


def _key_of(name: str, known: Iterable[str]) -> str | None:
    """Return the known version whose local part begins with a candidate's name; None without."""
    return next((key for key in known if key.partition("+")[2].partition(".")[0] == name), None)


def _must_say_something(text: str, option: str) -> None:
    if not text.strip():
        raise SpecifierError(f"{option} {text!r}: is empty; write it as 2.11 or '>=2.11'")


def specifier_text(specifiers: SpecifierSet) -> str:
    """Return a range as people read it, its lower bound first; a SpecifierSet has no order."""
    return ",".join(sorted(map(str, specifiers), reverse=True))


class VersionRangeError(MatrixError):
    """A text that does not name a set of base versions."""


class Base(NamedTuple):
    """The base of a version, without pre-release, post-release and local part."""

    text: str
    version: Version


def base_of(version: Version) -> Base:
    """Return the base of a version.

    >>> base_of(Version("2.12.0rc1+cu128")).text
    '2.12.0'
    """
    text = version.base_version
    return Base(text, parse_version(text))


@dataclass(frozen=True, kw_only=True, order=True)
class End:
    """The upper bound of a range; `inclusive`: the bound itself is in the range."""

    bound: Version
    inclusive: bool

    def before(self, base: Base) -> bool:
        """Tell whether this base is beyond the bound."""
        return base.version > self.bound if self.inclusive else base.version >= self.bound

    @cached_property
    def last(self) -> str:
        """Return the newest release of the range, as far as its bound says which.

        >>> End(bound=Version("0.34"), inclusive=False).last
        '0.33'
        """
        *head, number = self.bound.release
        while head and not number:
            number = head.pop()
        if self.inclusive:
            return str(self.bound)
        # Nothing says which release came last before 1.0.
        return f"<{self.bound}" if not head else ".".join(map(str, (*head, number - 1)))


@dataclass(frozen=True)  # positional: VersionRange(">=2.10") reads as SpecifierSet(">=2.10") does
class VersionRange:
    """A set of base versions, written as a specifier; no text is every version.

    Raises VersionRangeError for a text that is not a specifier, that no base version satisfies, or
    whose bounds are not base versions (they would never be met, or mislead).

    Why not `SpecifierSet.is_subset`: it compares all versions, not base versions. It denies that
    `>=2.9,!=2.9.*` lies within `>=2.10` (pre-releases of 2.10) and that `>=2.9,!=2.9` lies within
    `>2.9` (post-releases of 2.9). The report of a tie also needs a version that both ranges share,
    which `is_disjoint` does not give.
    """

    text: str | None = None

    def __post_init__(self) -> None:
        """Read the text once, so that a bad one fails where it is written."""
        if not _is_met(self.text):
            raise VersionRangeError(f"no version satisfies {self.text!r}; widen it")

    def contains(self, version: Version) -> bool:
        """Tell whether the base of this version satisfies the specifier."""
        return self.has(base_of(version))

    def has(self, base: Base) -> bool:
        """Tell whether this base satisfies the specifier."""
        return self.text is None or _contains(self.text, base.text)

    def implies(self, other: VersionRange) -> bool:
        """Tell whether every version in this range is in the other one, too."""
        return _implies(self, other)

    def shared(self, other: VersionRange) -> Version | None:
        """Give a version that is in both ranges, or None."""
        return _shared(self, other)

    @cached_property
    def boundaries(self) -> tuple[tuple[int, ...], ...]:
        """The base versions, as release numbers, where membership can change."""
        return _boundaries(self.text)

    @cached_property
    def end(self) -> End | None:
        """The end of the range; None if it has no end.

        Worked out once: each record of a release beyond asks every rule of its cases, which takes
        30 ms a record otherwise, and 3 ms so.
        """
        return None if self.text is None else _end(self.text, self.boundaries)

    @property
    def first(self) -> Base | None:
        """The first release of the range; None if nothing says which one that is.

        >>> VersionRange(">=2.13,<2.15").first.text, VersionRange(">2.13").first
        ('2.13', None)
        """
        text = self.text
        if text is None or _contains(text, "0"):
            return None
        for bound in (".".join(map(str, cut)) for cut in sorted(set(self.boundaries))):
            if _contains(text, bound):
                return base_of(parse_version(bound))
            if _contains(text, f"{bound}.0.0.0.1"):  # nothing says which release comes after it
                return None
        return None

    def ended_before(self, version: Version) -> bool:
        """Tell whether the base of this version is newer than every version in the range.

        >>> VersionRange(">=2.10,<2.15").ended_before(Version("2.15.0rc1"))
        True
        """
        return self.is_below(base_of(version))

    def is_below(self, base: Base) -> bool:
        """Tell whether this base is newer than every version in the range."""
        end = self.end
        return end is not None and end.before(base)

    def is_above(self, base: Base) -> bool:
        """Tell whether this base is older than the first version in the range, if that is known."""
        first = self.first
        return first is not None and base.version < first.version


@lru_cache(maxsize=16384)
def _contains(text: str, version: str) -> bool:
    return _specifiers(text).contains(parse_version(version), prereleases=True)


def _specifiers(text: str) -> SpecifierSet:
    return SpecifierSet(text)


def _boundaries(text: str | None) -> tuple[tuple[int, ...], ...]:
    """Return the base versions, as release numbers, where membership in a range can change."""
    if text is None:
        return ()
    if not text.strip(" ,"):
        raise VersionRangeError("is empty; leave the key out to match every version")
    try:
        specifiers = _specifiers(text)
        for specifier in specifiers:
            specifier.contains("0")  # packaging reads the version only now
    except ValueError as error:  # InvalidSpecifier, or of more digits than Python reads
        raise VersionRangeError(f"{text!r} is not a specifier; write it as >=2.10,<2.12") from error
    found: list[tuple[int, ...]] = []
    for specifier in specifiers:
        if specifier.operator == "===":
            raise VersionRangeError(f"{str(specifier)!r} compares strings; write == instead")
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


def _critical(boundaries: Iterable[tuple[int, ...]]) -> list[Base]:
    """Return a base version of each interval that the boundaries cut the versions into.

    The boundaries themselves come first, then one just above and one just below each.
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
    texts = (".".join(map(str, point)) for point in points)
    return [Base(text, parse_version(text)) for text in texts]


@cache
def _is_met(text: str | None) -> bool:
    """Tell whether any base version is in the range."""
    return text is None or any(
        _contains(text, point.text) for point in _critical(_boundaries(text))
    )


def _end(text: str, boundaries: Iterable[tuple[int, ...]]) -> End | None:
    """Return the upper bound of a range: the highest boundary that it reaches, from below or up."""
    cuts = sorted(set(boundaries))
    length = max(map(len, cuts))
    above = [".".join(map(str, (*cut, *(0 for _ in range(length - len(cut))), 1))) for cut in cuts]
    if _contains(text, above[-1]):
        return None
    for place in range(len(cuts) - 1, 0, -1):
        bound = Version(".".join(map(str, cuts[place])))
        if _contains(text, bound.base_version):
            return End(bound=bound, inclusive=True)
        if _contains(text, above[place - 1]):
            return End(bound=bound, inclusive=False)
    bound = Version(".".join(map(str, cuts[0])))
    return End(bound=bound, inclusive=_contains(text, bound.base_version))


def _implies(inner: VersionRange, outer: VersionRange) -> bool:
    if outer.text is None or inner == outer:
        return True
    points = _critical(inner.boundaries + outer.boundaries)
    return all(outer.has(point) for point in points if inner.has(point))


@cache
def _shared(one: VersionRange, other: VersionRange) -> Version | None:
    points = _critical(one.boundaries + other.boundaries)
    return next((point.version for point in points if one.has(point) and other.has(point)), None)
