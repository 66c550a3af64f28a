"""Read what uv and pip print when they fail: whether the cell is at fault, and why. Pure.

uv explains a conflict as a chain of `Because ..., we can conclude that ...`. What it observed (what
a package needs, what the index has, what was asked for) is in the `Because`; the rest follows from
that, and this module leaves it out. It knows the forms of uv 0.8 to 0.13.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from matrix._util.text import clean, clip
from matrix.checks.facts import LONGEST, Fact, FactCode, quoted
from matrix.checks.resolution.cause import ConflictCause
from matrix.record.model import ErrorKind, RunError
from matrix.record.signature.conflict import conflict_in

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r"^[\s\u00d7\u2500-\u25ff\u00b7]+")
_URL = re.compile(r"`?\bhttps?://\S*?([^/\s`]*)/?`?(?=:?(?:[\s)`]|$))")
_CONFLICTS = ("No solution found", "ResolutionImpossible", "No matching distribution found")
# uv (0.9 to 0.13) finds no interpreter, or cannot fetch the one of its own that it would take.
_NO_PYTHON = re.compile(
    r"No interpreter found for C?Python (3\.[0-9]+)"
    r"|Failed to download\s+`?\S*cpython-(3\.[0-9]+)"
)
_LONGEST_ERROR = 400
_READ = 20_000  # characters; the longest explanation that was seen has 3,000
_COMPARED = 100  # facts, every two of them
# The ranks of facts: the reason names those of a lower rank first.
_OF_THE_REQUEST, _OF_A_DEPENDENCY, _REQUESTED, _IN_THE_INDEX = range(4)
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

# What uv says of packages, one form each.
_FORMS = (
    r"(?P<dependent>{term}) depends? on Python ?(?P<range>{range})",
    r"(?P<refuser>{term}) requires? Python ?(?P<bounds>{range})",
    (
        r"(?P<requirer>{term}) depends? on (?:both )?(?:"
        r"one of: (?P<ranges>{name}{range}(?: {name}{range})*)"
        r"|(?P<needs>{term}(?: and {term}(?=[,.]?(?:\s|$))(?! (?:depend|require|ha|was)))?))"
        r"(?=[,.]?(?:\s|$))"
    ),
    r"only (?P<only>{term}) is available",
    r"only the following versions of (?P<some>{term}) are available",
    r"there (?:is|are) no versions? of (?P<none>{term})",
    r"(?P<absent>{term}) was not found in the (?P<where>package registry|cache|provided)",
    (
        r"(?P<wheelless>{term}) ha(?:s|ve) no (?P<lack>(?:usable )?wheels[^,]*?(?:`[^`]+`\))?)"
        r"(?= and |,|\.|$)"
    ),
    (
        r"(?P<broken>{term}) ha(?:s|ve) (?:an? )?(?P<fault>(?:invalid|inconsistent) [a-z ]+?)"
        r"(?= and |,|\.|$)"
    ),
    r"you require (?P<asked>{term})(?: and (?P<also>{term}))?",
)
_FACTS = re.compile("|".join(_FORMS).format(term=_TERM, name=_NAME, range=_RANGE))


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Why no set of packages fits: the cause, and the facts.

    Of the cause INDEX, which says nothing of the packages, `error` is the message instead.
    """

    cause: ConflictCause
    facts: tuple[Fact, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class _Demand:
    """The resolver's statement about the package `about`, and the versions that it allows.

    `demander` is the package that demands it. `order` ranks the facts: what the requested packages
    need comes first, what the index has comes last. `allowed` is a specifier; None if unknown.
    """

    about: str
    fact: Fact
    allowed: str | None
    order: int
    demander: str | None = None
    up_to: bool = False  # the newest release that the index has


def why_install_failed(output: str, brought: Collection[str] = ()) -> RunError:
    """Return the kind and the meaningful line of a failed installation, without index addresses.

    The kind is `resolves` only where a resolver says that no set of packages fits, and
    `not_published` where all that it says is that the index lacks a release. Anything else (no
    network, no such Python, a full disk) comes from this machine. All but the first says nothing of
    the cell. `brought` as for `read_conflict`.
    """
    text, lines = _plain(output)
    if full := next((line for line in lines if "No space left on device" in line), None):
        return RunError(kind=ErrorKind.NO_SPACE, reason=_clip_error(full))
    if missing := _NO_PYTHON.search(text):
        version = missing[1] or missing[2]
        return RunError(
            kind=ErrorKind.NO_PYTHON,
            reason=f"Python {version} is missing on this machine, and uv could not fetch it:"
            f" install python{version}, or run `uv python install {version}` where there is a"
            " network",
        )
    found = next((line for line in lines if any(mark in line for mark in _CONFLICTS)), None)
    if found is not None and "network was disabled" not in text:
        why = _because(lines) or ("" if "ResolutionImpossible" not in text else conflict_in(lines))
        lacks = index_lacks(conflict_of(output) or "", brought)
        kind = ErrorKind.NOT_PUBLISHED if lacks else ErrorKind.RESOLVES
        return RunError(kind=kind, reason=_clip_error(why or found))
    return RunError(
        kind=ErrorKind.INTERNAL, reason=f"the environment could not be made: {error_of(output)}"
    )


def index_lacks(explanation: str, brought: Collection[str] = ()) -> bool:
    """Tell whether a resolver's explanation says no more than that the index lacks a release.

    >>> index_lacks("Because only b<=2 is available and a==1 depends on b>=3, we can conclude ...")
    True
    >>> index_lacks("Because a==1 depends on b<2 and c==1 depends on b>=2, we can conclude ...")
    False
    """
    required = re.findall(rf"you require ({_NAME})==([^\s,`]+)", explanation[:_READ])
    asked = {_name(name): version.rstrip(".") for name, version in required}
    found = read_conflict(explanation, asked, python="", platform="", brought=brought)
    return found.cause in (ConflictCause.NOT_PUBLISHED, ConflictCause.INDEX)


def error_of(output: str) -> str:
    """Return what an installer says went wrong, in one line without addresses of an index."""
    return _clip_error(_error(_plain(output)[1]))


def conflict_of(output: str) -> str | None:
    """Return the resolver's explanation that no set of packages fits, with its hints.

    None if it gives no explanation, or only one about a disabled network.
    """
    text, lines = _plain(output)
    if not any(mark in text for mark in _CONFLICTS) or "network was disabled" in text:
        return None
    hints = [line for line in lines if line.startswith("hint:")]
    return " ".join([_because(lines), *hints]).strip() or None


def _plain(output: str) -> tuple[str, list[str]]:
    """Return the output without colours, and its lines without the frame that uv draws."""
    text = _COLOUR.sub("", output)
    return text, [plain for line in text.splitlines() if (plain := _FRAME.sub("", line).strip())]


def _because(lines: list[str]) -> str:
    """Return the resolver's own reason, a paragraph over several lines, as one line."""
    reason: list[str] = []
    for line in lines:
        if reason and line.startswith(("hint:", "error:", "help:")):
            break
        if reason or line.removeprefix("cause: ").startswith("Because "):
            reason.append(line.removeprefix("cause: "))
    return " ".join(reason)


def _error(lines: list[str]) -> str:
    """Return the line that says error, with the first cause that follows it."""
    number = next((i for i, line in enumerate(lines) if "error" in line.lower()), 0)
    error = lines[number].removeprefix("error: ") if lines else "the installer gave no reason"
    cause = next((line for line in lines[number + 1 :] if line.startswith("cause: ")), "")
    return f"{error}: {cause.removeprefix('cause: ')}" if cause else error


def _clip_error(text: str) -> str:
    text = " ".join(_URL.sub(r"\1", text).split())
    return text if len(text) <= _LONGEST_ERROR else f"{text[: _LONGEST_ERROR - 1]}…"


def read_conflict(
    text: str,
    asked: Mapping[str, str],
    python: str,
    platform: str,
    brought: Collection[str] = (),
) -> Conflict:
    """Return the cause of a conflict, from the resolver's explanation and the request.

    `asked` holds the requested versions by name; `python` is a minor release and `platform` a
    platform tag, both for the facts. `brought` are the projects that a candidate should bring: an
    index that lacks a version of one says nothing of the packages.

    >>> read_conflict(
    ...     "Because only b<=2 is available and a==1 depends on b>=3, we can conclude that a==1"
    ...     " cannot be used. And because you require a==1, we can conclude that your requirements"
    ...     " are unsatisfiable.", {"a": "1"}, "3.12", "manylinux_2_35_x86_64").facts[1].key
    'the index has up to 2'
    """
    plain, _, hints = _MARKER.sub("", " ".join(text[:_READ].split())).partition("hint:")
    found = [match.groupdict() for match in _FACTS.finditer(_CONCLUSION.sub("", plain))]
    own = [groups for groups in found if _is_about_request(groups, asked)]
    conflict = (
        _index_failure(found, asked, hints)
        or _not_brought(found, asked, brought)
        or _missing_wheel(own, found, asked, python, platform)
        or _refused_python(own, found, asked, python)
        # A chain may name older releases that do not fit either: what excludes each other is why.
        or _two_demands(found, asked, disjoint_only=True)
        or _missing_wheel(found, found, asked, python, platform)
        or _refused_python(found, found, asked, python)
        or _two_demands(found, asked, disjoint_only=False)
    )
    if conflict is None:
        first = plain.partition(", we can conclude")[0].strip()
        conflict = Conflict(cause=ConflictCause.CONFLICT, facts=quoted(first))
    return Conflict(
        cause=conflict.cause,
        facts=tuple(map(_clean_fact, conflict.facts)),
        error=clip(clean(conflict.error), LONGEST),
    )


def _clean_fact(fact: Fact) -> Fact:
    """Return a fact without what a terminal would act on, each operand of limited length."""
    operands = {
        name: clip(clean(value), LONGEST) or None
        for name, value in fact._asdict().items()
        if name != "code" and value is not None
    }
    if fact.code is FactCode.QUOTED and operands["text"] is None:
        return Fact(code=FactCode.NO_REASON)
    return Fact(code=fact.code, **operands)


_Groups = Mapping[str, "str | None"]


def _is_about_request(groups: _Groups, asked: Mapping[str, str]) -> bool:
    """Tell whether a requested package itself lacks a wheel or refuses the Python."""
    term = groups["wheelless"] or groups["dependent"] or groups["refuser"]
    return term is not None and _name(term) in asked


def _index_failure(
    found: Sequence[_Groups], asked: Mapping[str, str], hints: str
) -> Conflict | None:
    """Return what is not due to the packages: the index lacks or refuses one, or a file is bad."""
    for groups in found:
        if absent := groups["absent"]:
            status = _STATUS.search(hints)
            if groups["where"] == "cache":
                why = f"{_name(absent)} is not in uv's cache, and uv is offline"
            elif status:
                why = f"the index did not give {_name(absent)}: {status[1]} {status[2]}"
            else:
                why = f"the index has no {_name(absent)}"
            return Conflict(cause=ConflictCause.INDEX, error=why)
        if broken := groups["broken"]:
            release = _fact(FactCode.QUOTED, broken, asked).subject
            why = f"the index's {release} has an {groups['fault']}"
            return Conflict(cause=ConflictCause.INDEX, error=why)
        if (none := groups["none"]) and _name(none) in asked:
            wanted = f"=={asked[_name(none)]}"
            if _specifier(none) == wanted or not _specifier(none):
                why = f"the index has no {_fact(FactCode.QUOTED, none, asked).subject}"
                return Conflict(cause=ConflictCause.INDEX, error=why)
    return None


def _not_brought(
    found: Sequence[_Groups], asked: Mapping[str, str], brought: Collection[str]
) -> Conflict | None:
    """Return the version of a companion that the index lacks, and who needs it."""
    for groups in found:
        if not (none := groups["none"]) or _name(none) not in brought:
            continue
        who = next((who for who, need in _needs(found) if _name(need) == _name(none)), None)
        needed = (_fact(FactCode.NEEDS, who, asked, wanted=none),) if who else ()
        absent = Fact(code=FactCode.ABSENT, package=_name(none), wanted=none)
        return Conflict(cause=ConflictCause.NOT_PUBLISHED, facts=(*needed, absent))
    return None


def _missing_wheel(
    candidates: Sequence[_Groups],
    found: Sequence[_Groups],
    asked: Mapping[str, str],
    python: str,
    platform: str,
) -> Conflict | None:
    """Return the first of the candidates that lacks a wheel, and who of `found` needs it."""
    for groups in candidates:
        if not (lacking := groups["wheelless"]):
            continue
        lack = groups["lack"] or ""
        of_python, of_platform = "Python" in lack or "ABI" in lack, "platform" in lack
        fact = _fact(
            FactCode.NO_WHEEL,
            lacking,
            asked,
            python=python if not of_platform else None,
            platform=platform if of_platform or not of_python else None,
        )
        return Conflict(cause=ConflictCause.NO_WHEEL, facts=(*_needed(lacking, found, asked), fact))
    return None


def _refused_python(
    candidates: Sequence[_Groups], found: Sequence[_Groups], asked: Mapping[str, str], python: str
) -> Conflict | None:
    """Return the first of the candidates that refuses the Python, and who of `found` needs it."""
    for groups in candidates:
        who, bounds = groups["dependent"] or groups["refuser"], groups["range"] or groups["bounds"]
        if not who or not bounds:
            continue
        fact = _fact(FactCode.NEEDS_PYTHON, who, asked, wanted=bounds, python=python)
        return Conflict(cause=ConflictCause.PYTHON, facts=(*_needed(who, found, asked), fact))
    return None


def _needed(term: str, found: Sequence[_Groups], asked: Mapping[str, str]) -> tuple[Fact, ...]:
    """Return who needs a package that was not asked for; () for any other."""
    name = _name(term)
    needing = next((who for who, need in _needs(found) if _name(need) == name), None)
    if needing is None or name in asked:
        return ()
    return (_fact(FactCode.NEEDS, needing, asked, wanted=name),)


def _two_demands(
    found: Sequence[_Groups], asked: Mapping[str, str], *, disjoint_only: bool
) -> Conflict | None:
    """Return the first two facts about one package that allow no version in common.

    With `disjoint_only` their ranges must prove that; else two facts whose ranges cannot be
    compared count too. A demand for a newer release than the index has is a conflict of packages
    only where two others are.
    """
    demands = sorted(_demands(found, asked), key=lambda demand: demand.order)[:_COMPARED]
    ahead: Conflict | None = None
    for number, demand in enumerate(demands):
        for other in demands[number + 1 :]:
            if demand.about == other.about and _hold_together(demand, other):
                disjoint = _disjoint(demand.allowed, other.allowed)
                if not (disjoint or (disjoint is None and not disjoint_only)):
                    continue
                facts = demand.fact, other.fact
                if not (disjoint and other.up_to):
                    return Conflict(cause=ConflictCause.CONFLICT, facts=facts)
                ahead = ahead or Conflict(cause=ConflictCause.NOT_PUBLISHED, facts=facts)
    return ahead


def _hold_together(one: _Demand, other: _Demand) -> bool:
    """Tell whether both facts hold at once: the releases of one package are alternatives."""
    if one.demander is None or other.demander is None:
        return one.fact != other.fact and not one.order == other.order == _IN_THE_INDEX
    return one.demander == other.demander or _name(one.demander) != _name(other.demander)


def _demands(found: Sequence[_Groups], asked: Mapping[str, str]) -> Iterator[_Demand]:
    for who, need in _needs(found):
        yield _Demand(
            about=_name(need),
            fact=_fact(FactCode.NEEDS, who, asked, wanted=_EXTRA.sub("", need)),
            allowed=_specifier(need),
            order=_OF_THE_REQUEST if _name(who) in asked else _OF_A_DEPENDENCY,
            demander=who,
        )
    for groups in found:
        for wanted in (groups["asked"], groups["also"]):
            if wanted and _specifier(wanted):
                specifier = _specifier(wanted)
                package = wanted.removesuffix(specifier)
                yield _Demand(
                    about=_name(wanted),
                    fact=Fact(code=FactCode.ASKED_FOR, package=package, specifier=specifier),
                    allowed=specifier,
                    order=_REQUESTED,
                )
        if only := groups["only"]:
            allowed = _specifier(only)
            bound = re.fullmatch(r"<=([^,]+)", allowed)
            code = FactCode.UP_TO if bound else FactCode.ONLY
            has = bound[1] if bound else allowed.lstrip("=")
            yield _Demand(
                about=_name(only),
                fact=Fact(code=code, package=_name(only), wanted=has),
                allowed=allowed,
                order=_IN_THE_INDEX,
                up_to=allowed.startswith("<="),
            )
        if some := groups["some"] or groups["none"]:
            yield _Demand(
                about=_name(some),
                fact=Fact(code=FactCode.NO_SUCH_VERSION, package=_name(some)),
                allowed=None,
                order=_IN_THE_INDEX,
            )


def _needs(found: Sequence[_Groups]) -> Iterator[tuple[str, str]]:
    """Yield who depends on what, both as the resolver writes them."""
    for groups in found:
        who, needs, ranges = groups["requirer"], groups["needs"], groups["ranges"]
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


def _fact(code: FactCode, term: str, asked: Mapping[str, str], **operands: str | None) -> Fact:
    """Return a fact of a package as the resolver writes it.

    A requested package has the version that was asked for, even where the resolver names a range.
    """
    name, specifier = _name(term), _specifier(term)
    version = asked.get(name)
    if version is None and specifier.startswith("==") and "," not in specifier:
        version = specifier[2:]
    allowed = specifier if version is None and specifier else None
    return Fact(code=code, package=name, version=version, specifier=allowed, **operands)


def _disjoint(one: str | None, other: str | None) -> bool | None:
    """Tell whether no version is in both ranges; None if that cannot be determined."""
    if one is None or other is None:
        return None
    try:
        return SpecifierSet(one).is_disjoint(SpecifierSet(other))
    except ValueError:  # not a specifier, or one that compares texts (===)
        return None
