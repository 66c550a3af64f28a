"""Why no set of packages fits, in the raw output of pip and of uv."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_CAUSED = "The conflict is caused by:"
_UNSOLVED = "No solution found"
_READ = 20_000  # characters; the longest explanation that was seen has 3,000
_COMPARED = 100  # demands, every two of them
_NAME = r"[A-Za-z0-9](?:[\w.-]{0,80}\w)?"
# The end of a demand is not the full stop of its sentence.
_RANGE = r"[<>=!~][^\s`;()]*[^\s`,.;:()]"
_PIP = re.compile(
    rf"\s*(?:(?P<who>{_NAME})(?:\[[^\]]*\])? (?P<version>\S{{1,80}}) depends on"
    r"|(?P<user>The user requested)(?: \(constraint\))?)"
    rf" (?P<name>{_NAME})(?:\[[^\]]*\])? ?"
    rf"(?:\(?(?P<range>{_RANGE}(?:(?:, ?| and ){_RANGE})*)\)?)?.*"
)
# pip writes the last bound of a demand so: c!=2, <3 and >=1
_BOUNDS = re.compile(r", ?| and ")
_INSTALLED = re.compile(
    rf"\s*(?P<who>{_NAME}) (?P<version>\S{{1,80}}) (?:requires|has requirement)"
    rf" (?P<name>{_NAME})(?:\[[^\]]*\])?(?P<range>{_RANGE})?, (?:but you(?:'ll)? have"
    rf" {_NAME} (?P<other>\S{{1,80}}?)(?: which is incompatible)?\.?"
    r"|(?P<missing>which is not installed)\.?)"
)
_MISSING = re.compile(r"(?:ERROR: )?(?P<message>No matching distribution found for .*)")
_FRAME = re.compile(r"^[\s\u00d7\u2500-\u25ff\u00b7]+")
_MARKER = re.compile(r"\{[^{}]*\}")
_EXTRA = re.compile(r"(?<=\w)\[[\w,. -]*\]")
_UV = re.compile(
    rf"(?<!\S)(?P<who>{_NAME})==(?P<version>[^\s,]+) depends on"
    rf" (?P<name>{_NAME})(?P<range>{_RANGE})"
    rf"(?: and (?P<second>{_NAME})(?P<second_range>{_RANGE})(?=[,.]?(?:\s|$))(?! depends))?"
    rf"|\b(?:you require|your project depends on|your workspace depends on)"
    rf" (?P<asked>{_NAME})(?P<asked_range>{_RANGE})"
    rf"(?: and (?P<also>{_NAME})(?P<also_range>{_RANGE})(?=[,.]?(?:\s|$))(?! depends))?"
)
_ABSENT = re.compile(
    rf"^Because (?:there (?:is|are) no versions? of (?P<missing>{_NAME}{_RANGE})(?=[,.]?\s)"
    rf"|only (?:(?P<only>{_NAME}){_RANGE} (?:is|are) available(?=[,.]?\s)"
    rf"|the following versions of (?P<listed>{_NAME}) are available:)"
    rf"|(?P<unknown>{_NAME}) was not found in the (?:package registry|provided package locations))"
)
# Somebody may copy these sentences alone.
_BARE = re.compile(
    rf"Because (?:only |there (?:is|are) no versions? of |you require |your (?:project|workspace) "
    rf"|(?:all versions of )?{_NAME}\S* depends on ).*"
)
# It also tells what follows from a demand, in the same words.
_CONCLUSION = re.compile(r",? we can conclude that .*?(?=\.? And because |\.? Because |$)")


@dataclass(frozen=True, kw_only=True)
class _Demand:
    """Who asks for which versions of a package; `who` is "" for the one who installs."""

    who: str
    name: str
    range: str

    @property
    def words(self) -> str:
        # uv writes the lower bound first, pip the upper one.
        bounds = sorted(self.range.split(","), key=lambda bound: (bound[:1] == "<", bound))
        wanted = f"{self.name}{','.join(bounds)}"
        return f"{self.who} needs {wanted}" if self.who else f"{wanted} was asked for"


def conflict_in(lines: Sequence[str]) -> str:
    """Return what excludes each other or is absent, else uv's sentences; "" if that is not there.

    >>> conflict_in(["The conflict is caused by:", "    The user requested torch==2.9.0",
    ...              "    vllm 0.26.0 depends on torch==2.11.0"])
    'vllm 0.26.0 needs torch==2.11.0, and torch==2.9.0 was asked for'
    """
    caused = next((index for index, line in enumerate(lines) if line.strip() == _CAUSED), None)
    if caused is not None:
        if found := _excluding(_of_pip(lines[caused + 1 :]), sure=False):
            return found
    elif (headed := _unsolved(lines)) is not None:
        explanation = _explanation(lines[headed:])
        return _unsolved_by(explanation) or explanation
    elif (bare := _bare(lines)) is not None and (found := _unsolved_by(_explanation(lines[bare:]))):
        return found
    if installed := _of_installed(lines):
        return installed
    missing = (_MISSING.fullmatch(line.strip()) for line in lines)
    return next((found["message"] for found in missing if found), "")


def _unsolved_by(explanation: str) -> str:
    """Return what uv's sentences say excludes each other, or is absent; "" if they say neither."""
    demands = list(_of_uv(explanation))
    return _excluding(demands) or _absent(explanation, demands)


def _absent(explanation: str, demands: Iterable[_Demand]) -> str:
    """Return, in pip's words, what an index does not have; "" if uv does not begin with that."""
    found = _ABSENT.match(_EXTRA.sub("", explanation))
    if found is None:
        return ""
    missing = found["missing"] or found["unknown"]
    if only := found["only"] or found["listed"]:
        name = _canonical(only)
        asked = (demand for demand in demands if demand.name == name)
        missing = next((f"{name}{demand.range}" for demand in asked), "")
    return f"No matching distribution found for {missing}" if missing else ""


def _of_installed(lines: Iterable[str]) -> str:
    """Return what pip says of packages that it left installed: the first of another version."""
    absent = ""
    for line in lines:
        found = _INSTALLED.fullmatch(line) if " requi" in line else None
        if found is None:
            continue
        needs = f"{_canonical(found['who'])} {found['version']} needs {found['name']}"
        if not found["missing"]:
            has = f"{found['name']} {found['other']} is installed"
            return f"{needs}{found['range'] or ''}, and {has}"
        absent = absent or f"{needs}{found['range'] or ''}, which is not installed"
    return absent


def _unsolved(lines: Sequence[str]) -> int | None:
    return next((index for index, line in enumerate(lines) if _UNSOLVED in line), None)


def _bare(lines: Sequence[str]) -> int | None:
    """Return where uv's sentences begin that somebody copied without their headline."""
    bare = (index for index, line in enumerate(lines) if _BARE.match(_FRAME.sub("", line.rstrip())))
    return next(bare, None)


def _of_pip(lines: Iterable[str]) -> Iterator[_Demand]:
    for line in lines:
        found = _PIP.fullmatch(line)
        if found is None:
            break
        who = "" if found["user"] else f"{_canonical(found['who'])} {found['version']}"
        bounds = _BOUNDS.sub(",", found["range"] or "")
        yield _Demand(who=who, name=_canonical(found["name"]), range=bounds)


def _explanation(lines: Iterable[str]) -> str:
    """Return the paragraph of uv that begins with Because, without its markers."""
    return _MARKER.sub("", " ".join(_paragraph(lines))[:_READ])


def _paragraph(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of that paragraph, without the frame drawn around it."""
    begun = False
    for line in lines:
        plain = _FRAME.sub("", line.rstrip()).removeprefix("cause: ")
        # Its lines are indented; what follows is not, or is a hint.
        if begun and (not line[:1].isspace() or plain.startswith(("hint:", "error:", "help:"))):
            return
        begun = begun or plain.startswith("Because ")
        if begun:
            yield plain


def _of_uv(explanation: str) -> Iterator[_Demand]:
    text = _CONCLUSION.sub("", _EXTRA.sub("", explanation))
    for found in _UV.finditer(text):
        who = f"{_canonical(found['who'])} {found['version']}" if found["who"] else ""
        for name, bounds in (
            ("name", "range"),
            ("second", "second_range"),
            ("asked", "asked_range"),
            ("also", "also_range"),
        ):
            if found[name]:
                yield _Demand(who=who, name=_canonical(found[name]), range=found[bounds])


def _excluding(demands: Iterable[_Demand], *, sure: bool = True) -> str:
    """Return the first two demands for one package that no version meets, ordered by who asks.

    The order in which a resolver names them depends on the run. If they need not be `sure`, and no
    two exclude each other by their bounds, two different pins, or two ranges, of a package do.
    """
    read = [demand for demand in demands if demand.range][:_COMPARED]
    pairs = [
        (demand, other)
        for number, demand in enumerate(read)
        for other in read[number + 1 :]
        if demand.name == other.name
        and demand.range != other.range
        and demand.who.partition(" ")[0] != other.who.partition(" ")[0]
    ]
    found = next((pair for pair in pairs if _exclude(pair[0].range, pair[1].range)), None)
    if found is None and not sure:
        pinned = (
            pair for pair in pairs if all(requirement.range[:2] == "==" for requirement in pair)
        )
        found = next(pinned, pairs[0] if pairs else None)
    if found is None:
        return ""
    one, two = sorted(found, key=lambda requirement: (not requirement.who, requirement.who))
    return f"{one.words}, and {two.words}"


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name  # it imports logging, subprocess and more

    return canonicalize_name(name)


def _exclude(one: str, other: str) -> bool:
    """Tell whether no version is in both ranges, as far as their own bounds show it."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        ranges = SpecifierSet(one), SpecifierSet(other)
        bounds = [
            clause.version.removesuffix(".*") for specifiers in ranges for clause in specifiers
        ]
        tried = [Version(bound) for bound in bounds]
        tried += [Version(f"{version.base_version}.0.1") for version in tried]
    except (InvalidSpecifier, InvalidVersion):  # one that compares texts (===), or neither
        return False
    return not any(
        all(specifiers.contains(version, prereleases=True) for specifiers in ranges)
        for version in tried
    )
