"""Conflicts of packages in a line, as pip and uv print them.

Pure, as `matrix.explain.recognise`, which has the other kinds.
"""

from __future__ import annotations

import re

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from matrix.explain.model import Demanded, Fault, FaultKind

_REQUIRES = re.compile(
    r"(?P<who>[A-Za-z0-9][\w.-]{0,80}) (?P<version>\d\S{0,80}) (?:requires|has requirement)"
    r" (?P<name>[A-Za-z0-9][\w.-]{0,80}?)(?:\[[^\]]{0,80}\])?"
    r"(?P<range>[<>=!~][^\s,;]{1,80}(?:,[<>=!~][^\s,;]{1,80}){0,5})"
    r"(?:; [^,]{1,200})?, but you(?:'ll)? have (?P=name)"
    r" (?P<has>\d\S{0,80}?)(?: which is incompatible)?\.?(?:\s|$)"
)
_NEEDS = re.compile(
    r"(?P<who>\S{1,90} \S{1,90}) needs (?P<name>[a-z0-9-]{1,90})(?P<range>[<>=!~]\S{0,200}?), and"
    r" (?:(?P<other>\S{1,90} \S{1,90}) needs (?P=name)(?P<other_range>[<>=!~]\S{0,200})"
    r"|(?P=name)(?P<asked>[<>=!~]\S{0,200}) was asked for"
    r"|(?P=name) (?P<has>\S{1,90}) is installed)"
)
_NO_VERSION = re.compile(
    r"(?:there is no version of |[Nn]o matching distribution found for "
    r"|\bonly (?P<only>[\w.-]{1,80}?)[<>=!~]\S{1,80} (?:is|are) available and \S{1,160}"
    r" depends on (?=(?P=only)[^\w.-]))"
    r"(?P<name>[A-Za-z0-9][\w.-]{0,80}?)(?:\[[^\]]{0,80}\])?(?:\{[^}]{0,200}\})?"
    r"(?P<range>[<>=!~][^\s;()]{1,80})"
)
# A project that an index does not have at all: a name without versions.
_NO_PROJECT = re.compile(
    r"(?:[Nn]o matching distribution found for (?P<name>[A-Za-z0-9](?:[\w.-]{0,80}?\w)?)"
    r"(?:\[[^\]]{0,80}\])?\.?\s*$"
    r"|Because there are no versions of (?P<other>[A-Za-z0-9](?:[\w.-]{0,80}\w)?)(?=,? |$))"
)
_OWN_NAMES = re.compile(
    r"(?i)(?:py)?(?:torch|torchvision|torchaudio|vllm|triton|nvidia|flashinfer)(?:[-_].*)?"
)
_HEADS = re.compile(r"No solution found|The conflict is caused by:")
_BECAUSE = "╰─▶ Because "
# Docker's builder begins each line with its step and its seconds.
_OF_BUILDER = re.compile(r"(?m)^#\d{1,5} \d{1,7}\.\d{1,4} ?")
_WANTED = (
    r"(?P<{0}name>[A-Za-z0-9][\w.-]{{0,80}}?)(?:\[[^\]]{{0,80}}\])?(?:\{{[^}}]{{0,200}}\}})?"
    r"(?P<{0}range>[<>=!~][^\s,]{{1,80}}(?:,[<>=!~][^\s,]{{1,80}}){{0,5}})(?=[\s,]|$)"
)
# A user's own project has no version here, but the name of its extra or group.
_DEPENDS = re.compile(
    r"(?<!\S)(?:(?:your (?:project|workspace) (?:depends on|requires)|you require)"
    r"|(?P<who>[A-Za-z0-9][\w.-]{0,80}?)(?P<part>\[[^\]]{0,80}\]|:[\w-]{1,80})?"
    r"(?P<whose>[<>=!~]\S{1,80})? depends on)"
    rf" {_WANTED.format('')}(?: and {_WANTED.format('second_')}(?! depends on))?"
)
PYTHON = "python"
"""The subject of a conflict with the Python that runs, as no package is called."""
_OTHER_PYTHON = re.compile(
    r"the (?:current|requested) Python version \((?P<has>[^()\s]{1,80})\) does not satisfy"
    r" Python(?P<range>[<>=!~]\S{0,200}) and (?P<who>[A-Za-z0-9][\w.-]{0,80})"
    r"==(?P<version>\S{1,80}) depends on Python(?P=range)(?=[\s,.])"
)
_IGNORED = re.compile(
    r"(?<=[:;] )(?P<version>\d[\w.+!]{0,80}) Requires-Python"
    r" (?P<range>[<>=!~][^;,\s]{1,80}(?:, {0,2}[<>=!~][^;,\s]{1,80}){0,9})"
)
_ASKED = re.compile(
    r"(?:satisfies the requirement |[Nn]o matching distribution found for )"
    r"(?P<name>[A-Za-z0-9][\w.-]{0,80}?)(?:\[[^\]]{0,80}\])?"
    r"(?P<range>[<>=!~][^\s;()]{1,80})?(?=[\s;]|$)"
)
# uv says for which platforms there are wheels, in a hint. It breaks its lines anywhere.
_NO_WHEEL = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]{0,80})==(?P<version>[\w.+!]{1,80}) has no wheels with a matching"
    r" platform tag \(e\.g\., `(?P<platform>\w{1,60})`\)"
    r"|You're on \w{1,20} \(`(?P<here>\w{1,60})`\), but `(?P<hinted>[A-Za-z0-9][\w.-]{0,80})`"
    r" \(v(?P<hinted_version>[\w.+!]{1,80})\) only has wheels for the following"
)
_WHEELS_FOR = re.compile(
    r"(?:only has wheels for the following|on the following) platforms?: (?P<tags>[\w`, ]{1,2000})"
)
_MANYLINUX = re.compile(r"manylinux_(?P<glibc>2_\d{1,3})_(?P<machine>\w{1,20})")
_NO_TAG = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]{0,80}?)(?:==[\w.+!]{1,60})? (?:has|have) no wheels with a matching"
    r" Python (?:ABI|implementation) tag \(e\.g\., `cp(?P<has>3\d{1,2})t?`\)"
    r"|You require CPython [\d.]{3,6} \(`cp(?P<required>3\d{1,2})t?`\), but we only found wheels"
    r" for `(?P<hinted>[A-Za-z0-9][\w.-]{0,80})` "
)
_PINNED_VLLM = re.compile(r"\bvllm==(?P<version>\d[\w.]{0,40}\w)")
_REFUSED = re.compile(r"(?P<file>[\w.+!-]{5,300}\.whl) is not a supported wheel on this platform")
_EXPLAINED = re.compile(
    r"Because .{1,2000}? (?:depends? on|is available|can be used|we can conclude) "
)


def of_installed(line: str, _: str) -> Fault | None:
    """Read what pip says of a package that it left, where that is one of those known here."""
    found = _REQUIRES.search(line)
    if found is None or not any(_OWN_NAMES.fullmatch(found[key]) for key in ("who", "name")):
        return None
    name = canonicalize_name(found["name"])
    return Fault(
        kind=FaultKind.CONFLICT,
        signature="",
        subject=name,
        has=found["has"],
        demands=(
            Demanded(
                who=f"{canonicalize_name(found['who'])} {found['version']}",
                name=name,
                range=found["range"],
            ),
        ),
    )


def of_unsolved(line: str, after: str) -> Fault | None:
    """Read the explanation of a resolver, which is below this line."""
    from matrix.record.signature.conflict import conflict_in
    from matrix.record.signature.lines import lines_of

    text = _OF_BUILDER.sub("", f"{line}\n{after}")
    is_begun = _HEADS.search(line) is not None
    if not is_begun and (place := text.find(_BECAUSE)) >= 0:
        # Its first line is cut off.
        text, is_begun = f"No solution found when resolving dependencies:\n{text[place:]}", True
    sentence = conflict_in(lines_of(text)) if is_begun else ""
    return of_sentence(sentence, "") or (
        Fault(kind=FaultKind.CONFLICT, signature="") if sentence else None
    )


def _of_python(line: str) -> Fault | None:
    """Read that a release does not accept uv's Python."""
    found = _OTHER_PYTHON.search(line)
    if found is None:
        return None
    who = f"{canonicalize_name(found['who'])} {found['version']}"
    demand = Demanded(who=who, name=PYTHON, range=found["range"])
    return Fault(
        kind=FaultKind.CONFLICT,
        signature="",
        subject=PYTHON,
        has=found["has"],
        demands=(demand,),
    )


def of_ignored(line: str, after: str) -> Fault | None:
    """Read the versions that pip ignored for its Python; those that were asked for are below."""
    ignored = [(found["version"], found["range"]) for found in _IGNORED.finditer(line)]
    name, asked = "", None
    if found := _ASKED.search(after):
        name, asked = canonicalize_name(found["name"]), found["range"]
    fits = [row for row in ignored if asked is None or is_within(row[0], asked)]
    if not fits:
        return None
    version, wanted = fits[-1]
    demand = Demanded(who=f"{name} {version}" if name else "", name=PYTHON, range=wanted)
    return Fault(
        kind=FaultKind.CONFLICT,
        signature="",
        subject=PYTHON,
        wants=version,
        demands=(demand,),
    )


def of_platform(line: str, after: str) -> Fault | None:
    """Read that uv found no wheel for this platform: its glibc is older, or there is none."""
    text = " ".join(f"{line}\n{after[:2000]}".split())
    found = _NO_WHEEL.search(text)
    if found is None:
        return None
    name = canonicalize_name(found["name"] or found["hinted"])
    version = found["version"] or found["hinted_version"]
    here = _MANYLINUX.fullmatch(found["platform"] or found["here"])
    hint = _WHEELS_FOR.search(text)
    tags = _MANYLINUX.finditer(hint["tags"]) if hint else ()
    wheels = [tag["glibc"] for tag in tags if here and tag["machine"] == here["machine"]]
    least = min(wheels, key=_minor_of, default=None)
    if here and least and _minor_of(here["glibc"]) < _minor_of(least):
        return Fault(
            kind=FaultKind.OLD_LIBRARY,
            signature="",
            subject=f"GLIBC_{least.replace('_', '.')}",
            file=f"{name} {version}",
            has=here["glibc"].replace("_", "."),
        )
    tag = found["platform"] or found["here"]
    return Fault(kind=FaultKind.CONFLICT, signature="", subject=name, has=tag, wants=f"=={version}")


def of_tags(line: str, after: str) -> Fault | None:
    """Read that uv found no wheel of a package for this Python; `wants` is the vLLM that needs it.

    A demand without a range says that no wheel has the tag of this Python.
    """
    text = " ".join(f"{line}\n{after[:2000]}".split())
    found = _NO_TAG.search(text)
    if found is None:
        return None
    digits = found["has"] or found["required"]
    vllm = _PINNED_VLLM.search(text)
    name = canonicalize_name(found["name"] or found["hinted"])
    return Fault(
        kind=FaultKind.CONFLICT,
        signature="",
        subject=PYTHON,
        has=f"{digits[0]}.{digits[1:]}",
        wants=vllm["version"] if vllm else None,
        demands=(Demanded(who=name, name=PYTHON, range=""),),
    )


def of_wheel(line: str, _: str) -> Fault | None:
    """Read that pip refuses a wheel that somebody named, by the tags in its name."""
    found = _REFUSED.search(line)
    if found is None:
        return None
    try:
        name, *_rest = parse_wheel_filename(found["file"])
    except InvalidWheelFilename:
        return None
    return Fault(kind=FaultKind.CONFLICT, signature="", subject=name, file=found["file"])


def _minor_of(glibc: str) -> int:
    return int(glibc.rpartition("_")[2])


def is_within(version: str, wanted: str) -> bool:
    """Tell whether a version is within a range; False if either cannot be parsed."""
    return _compared(version, wanted) is True


def _compared(version: str, wanted: str) -> bool | None:
    """Return whether a version is within a range; None if either cannot be parsed."""
    try:
        return SpecifierSet(wanted).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return None


def of_sentence(line: str, _: str) -> Fault | None:
    """Read a conflict in the words of a signature, or a version that an index does not have."""
    if found := _NEEDS.search(line):
        name = found["name"]
        demands = [Demanded(who=found["who"], name=name, range=found["range"])]
        if found["other"]:
            demands.append(Demanded(who=found["other"], name=name, range=found["other_range"]))
        elif found["asked"]:
            demands.append(Demanded(who="", name=name, range=found["asked"]))
        return Fault(
            kind=FaultKind.CONFLICT,
            signature="",
            subject=name,
            has=found["has"],
            demands=tuple(demands),
        )
    if found := _NO_VERSION.search(line):
        wanted = found["range"].rstrip(".,")
        return Fault(
            kind=FaultKind.CONFLICT,
            signature="",
            subject=canonicalize_name(found["name"]),
            wants=wanted,
        )
    if found := _NO_PROJECT.search(line):
        name = canonicalize_name(found["name"] or found["other"])
        return Fault(kind=FaultKind.CONFLICT, signature="", subject=name, wants="")
    if _EXPLAINED.match(line):
        pins = _excluding(line)
        if not pins and (other := _of_python(line)):
            return other
        name = pins[0].name if pins else None
        return Fault(kind=FaultKind.CONFLICT, signature="", subject=name, demands=pins)
    return None


def _excluding(line: str) -> tuple[Demanded, ...]:
    """Return a pin and another demand of one package in uv's sentences that exclude each other."""
    demands: dict[str, list[Demanded]] = {}
    for found in _DEPENDS.finditer(line):
        for key in ("", "second_"):
            if not found[f"{key}name"]:
                continue
            name = canonicalize_name(found[f"{key}name"])
            # A sentence may end with it.
            demand = Demanded(who=_asking(found), name=name, range=found[f"{key}range"].rstrip("."))
            for first in demands.setdefault(name, []):
                if first.who != demand.who and _exclude(first.range, demand.range):
                    return first, demand
            demands[name].append(demand)
    return ()


def _asking(found: re.Match[str]) -> str:
    """Return who asks: a release with its version, a user's own project without; "" for a user.

    What belongs to a release's extra is that release's.
    """
    if found["who"] is None:
        return ""
    name = canonicalize_name(found["who"])
    if found["whose"]:
        return f"{name} {found['whose'].removeprefix('==')}"
    return f"{name}{found['part'] or ''}"


def is_own(who: str) -> bool:
    """Tell whether a user, or a project of the user's own, asks, not a release.

    >>> is_own(""), is_own("my-app[gpu]"), is_own("vllm 0.11.0")
    (True, True, False)
    """
    return " " not in who


def _exclude(first: str, second: str) -> bool:
    """Tell whether no version fulfils two demands, of which one is a pin.

    >>> _exclude(">=2.1,<2.5", "==2.6.0"), _exclude("==2.6.0+cpu", "==2.6.0")
    (True, False)
    """
    pins = [
        (pin, other)
        for pin, other in ((first, second), (second, first))
        if re.fullmatch(r"==[^*,]+", pin)
    ]
    return bool(pins) and all(_compared(pin[2:], other) is False for pin, other in pins)
