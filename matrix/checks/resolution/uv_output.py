"""A resolver's conflict, told as its cause in one line. Pure.

uv explains a conflict as a chain of `Because ..., we can conclude that ...`. What it observed (what
a package needs, what the index has, what was asked for) is in the `Because`; the rest follows from
that and is left out. The forms that are known here are those of uv 0.8 to 0.13.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix._util.text import clean, clip

__all__ = ["Conflict", "read_conflict"]

INDEX = "index"
"""No cause of the packages': the index did not give what it was asked for."""

_LONGEST = 200
_READ = 20_000  # characters; the longest explanation that was seen has 3,000
_COMPARED = 100  # facts, each with each
_NO_REASON = "the resolver gave no reason"
# A package as uv writes it, from the beginning of a word: `a`, `a[b]>=1,<2`, `all versions of a`.
_NAME = r"(?<!\S)[A-Za-z0-9](?:[\w.-]*\w)?(?:\[[^\]\s]*\])?"
_RANGE = r"[<>=!~][^\s`]*[^\s`,.;:]"
_TERM = rf"(?:(?<!\S)all versions of )?{_NAME}(?:{_RANGE})?"
_OPERATOR = re.compile(r"[<>=!~]")
_CONCLUSION = re.compile(
    r",? we can conclude that .*?(?=\.\s+(?:And b|B)ecause |\.?\s*(?:\(|hint:|$))"
)
_EXTRA = re.compile(r"\[[^\]]*\]")
_MARKER = re.compile(r"\{[^}]*\}")
_STATUS = re.compile(r"\b(4\d\d|5\d\d) ([A-Z][A-Za-z -]*[a-z])")

_FACTS = re.compile(
    "|".join(
        (
            r"(?P<dependent>{term}) depends? on Python ?(?P<range>{range})",
            r"(?P<refuser>{term}) requires? Python ?(?P<bounds>{range})",
            r"(?P<requirer>{term}) depends? on (?:both )?(?:"
            r"one of: (?P<ranges>{name}{range}(?: {name}{range})*)"
            r"|(?P<needs>{term}(?: and {term}(?=[,.]?(?:\s|$))(?! (?:depend|require|ha|was)))?))"
            r"(?=[,.]?(?:\s|$))",
            r"only (?P<only>{term}) is available",
            r"only the following versions of (?P<some>{term}) are available",
            r"there (?:is|are) no versions? of (?P<none>{term})",
            r"(?P<absent>{term}) was not found in the (?P<where>package registry|cache|provided)",
            r"(?P<wheelless>{term}) ha(?:s|ve) no (?P<lack>(?:usable )?wheels[^,]*?(?:`[^`]+`\))?)"
            r"(?= and |,|\.|$)",
            r"(?P<broken>{term}) ha(?:s|ve) (?:an? )?(?P<fault>(?:invalid|inconsistent) [a-z ]+?)"
            r"(?= and |,|\.|$)",
            r"you require (?P<asked>{term})(?: and (?P<also>{term}))?",
        )
    ).format(term=_TERM, name=_NAME, range=_RANGE)
)


@dataclass(frozen=True)
class Conflict:
    """Why no set of packages fits: one of `cache.CAUSES`, or INDEX, and its reason in one line."""

    cause: str
    reason: str


@dataclass(frozen=True)
class _Fact:
    """What the resolver says about one package: `said`, and which versions it leaves, if any.

    `by` is who demands that; what was asked for comes first in `order`, what is there last.
    """

    about: str
    said: str
    left: str | None
    order: int
    by: str | None = None


def read_conflict(text: str, asked: Mapping[str, str], python: str, platform: str) -> Conflict:
    """The cause of a conflict, from the resolver's explanation and what it was asked for.

    `asked` holds the versions that were asked for, by name; `python` is a minor release and
    `platform` a platform tag, both for the words of the reason.

    >>> read_conflict(
    ...     "Because only b<=2 is available and a==1 depends on b>=3, we can conclude that a==1"
    ...     " cannot be used. And because you require a==1, we can conclude that your requirements"
    ...     " are unsatisfiable.", {"a": "1"}, "3.12", "manylinux_2_35_x86_64")
    Conflict(cause='conflict', reason='a 1 needs b>=3, and the index has up to 2')
    """
    plain, _, hints = _MARKER.sub("", " ".join(text[:_READ].split())).partition("hint:")
    found = [each.groupdict() for each in _FACTS.finditer(_CONCLUSION.sub("", plain))]
    mine = [each for each in found if _is_asked(each, asked)]
    told = (
        _of_the_index(found, asked, hints)
        or _no_wheel(mine, found, asked, python, platform)
        or _python(mine, found, asked, python)
        # A chain may name older releases that do not fit either: what excludes each other is why.
        or _two_demands(found, asked, sure=True)
        or _no_wheel(found, found, asked, python, platform)
        or _python(found, found, asked, python)
        or _two_demands(found, asked, sure=False)
    )
    if told is None:
        first = plain.partition(", we can conclude")[0].strip()
        told = Conflict("conflict", first)
    return Conflict(told.cause, clip(clean(told.reason), _LONGEST) or _NO_REASON)


_Groups = list[dict[str, str | None]]


def _is_asked(each: Mapping[str, str | None], asked: Mapping[str, str]) -> bool:
    """Whether it tells of the wheels or Pythons of what was asked for itself."""
    term = each["wheelless"] or each["dependent"] or each["refuser"]
    return term is not None and _name(term) in asked


def _of_the_index(found: _Groups, asked: Mapping[str, str], hints: str) -> Conflict | None:
    """What is no fault of the packages: the index lacks them, refuses, or gives a bad file."""
    for each in found:
        if absent := each["absent"]:
            status = _STATUS.search(hints)
            if each["where"] == "cache":
                why = f"{_name(absent)} is not in uv's cache, and uv is offline"
            elif status:
                why = f"the index did not give {_name(absent)}: {status[1]} {status[2]}"
            else:
                why = f"the index has no {_name(absent)}"
            return Conflict(INDEX, why)
        if broken := each["broken"]:
            return Conflict(INDEX, f"the index's {_release(broken, asked)} has an {each['fault']}")
        if (none := each["none"]) and _name(none) in asked:
            wanted = f"=={asked[_name(none)]}"
            if _specifier(none) == wanted or not _specifier(none):
                return Conflict(INDEX, f"the index has no {_release(none, asked)}")
    return None


def _no_wheel(
    some: _Groups, found: _Groups, asked: Mapping[str, str], python: str, platform: str
) -> Conflict | None:
    for each in some:
        if not (lacking := each["wheelless"]):
            continue
        lack = each["lack"] or ""
        if "platform" in lack:
            fits = platform
        elif "Python" in lack or "ABI" in lack:
            fits = f"Python {python}"
        else:
            fits = f"Python {python} on {platform}"
        name = _name(lacking)
        needing = next((who for who, need in _needs(found) if _name(need) == name), None)
        if needing is None or name in asked:
            return Conflict("no wheel", f"{_release(lacking, asked)} has no wheel for {fits}")
        what = f"{_release(needing, asked)} needs {name}"
        return Conflict(
            "no wheel", f"{what}, and {_release(lacking, asked)} has no wheel for {fits}"
        )
    return None


def _python(
    some: _Groups, found: _Groups, asked: Mapping[str, str], python: str
) -> Conflict | None:
    for each in some:
        who, bounds = each["dependent"] or each["refuser"], each["range"] or each["bounds"]
        if not who or not bounds:
            continue
        name = _name(who)
        needing = next((one for one, need in _needs(found) if _name(need) == name), None)
        told = f"{_release(who, asked)} needs Python {bounds}, not {python}"
        if needing is not None and name not in asked:
            told = f"{_release(needing, asked)} needs {name}, and {told}"
        return Conflict("python", told)
    return None


def _two_demands(found: _Groups, asked: Mapping[str, str], *, sure: bool) -> Conflict | None:
    """The first two facts of one package that leave no version between them.

    `sure`: their versions say so; else they are told where that cannot be seen.
    """
    facts = sorted(_facts(found, asked), key=lambda fact: fact.order)[:_COMPARED]
    for at, one in enumerate(facts):
        for other in facts[at + 1 :]:
            if one.about == other.about and _apart(one, other):
                disjoint = _disjoint(one.left, other.left)
                if disjoint or (disjoint is None and not sure):
                    return Conflict("conflict", f"{one.said}, and {other.said}")
    return None


def _apart(one: _Fact, other: _Fact) -> bool:
    """Whether both hold at once: the releases of one package are alternatives."""
    if one.by is None or other.by is None:
        return one.said != other.said and not one.order == other.order == 3
    return one.by == other.by or _name(one.by) != _name(other.by)


def _facts(found: _Groups, asked: Mapping[str, str]) -> Iterator[_Fact]:
    for who, need in _needs(found):
        order = 0 if _name(who) in asked else 1
        needed = f"{_release(who, asked)} needs {_EXTRA.sub('', need)}"
        yield _Fact(_name(need), needed, _specifier(need), order, who)
    for each in found:
        for wanted in (each["asked"], each["also"]):
            if wanted and _specifier(wanted):
                yield _Fact(_name(wanted), f"{wanted} was asked for", _specifier(wanted), 2)
        if only := each["only"]:
            left = _specifier(only)
            bound = re.fullmatch(r"<=([^,]+)|==([^,]+)", left)
            has = f"up to {bound[1]}" if bound and bound[1] else f"only {left.lstrip('=')}"
            yield _Fact(_name(only), f"the index has {has}", left, 3)
        if some := each["some"] or each["none"]:
            yield _Fact(_name(some), "the index has no such version", None, 3)


def _needs(found: _Groups) -> Iterator[tuple[str, str]]:
    """Who depends on what, each as the resolver writes it."""
    for each in found:
        who, needs, ranges = each["requirer"], each["needs"], each["ranges"]
        if who and needs:
            yield from ((who, need) for need in needs.split(" and "))
        if who and ranges:
            yield who, " or ".join(ranges.split())


def _name(term: str) -> str:
    from packaging.utils import canonicalize_name  # it imports logging, subprocess and more

    bare = term.removeprefix("all versions of ")
    return canonicalize_name(_OPERATOR.split(bare, maxsplit=1)[0].partition("[")[0].strip())


def _specifier(term: str) -> str:
    found = _OPERATOR.search(term)
    return term[found.start() :] if found else ""


def _release(term: str, asked: Mapping[str, str]) -> str:
    """`vllm 0.33.0` for what was asked for, also where the resolver speaks of a range around it."""
    name, specifier = _name(term), _specifier(term)
    if name in asked:
        return f"{name} {asked[name]}"
    if specifier.startswith("==") and "," not in specifier:
        return f"{name} {specifier[2:]}"
    return f"{name}{specifier}" if specifier else f"every {name}"


def _disjoint(one: str | None, other: str | None) -> bool | None:
    """Whether no version is in both; None where that cannot be told."""
    if one is None or other is None:
        return None
    try:
        both = SpecifierSet(one) & SpecifierSet(other)
        named = [Version(each.version.removesuffix(".*")) for each in both]
    except (InvalidSpecifier, InvalidVersion):
        return None
    near = [close for version in named for close in _near(version)]
    return not any(both.contains(each, prereleases=True) for each in near) if near else False


def _near(version: Version) -> Iterator[Version]:
    """A version with one below and one above it that a range bounded by it may hold."""
    yield version
    yield Version(".".join(map(str, (*version.release, 0, 1))))
    release = list(version.release)
    while release and not release[-1]:
        release.pop()
    if release:
        yield Version(".".join(map(str, (*release[:-1], release[-1] - 1, 99999))))
