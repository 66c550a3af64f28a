"""Hold the expectations of CUDA against the numbers of upstream's own startup tests. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from matrix._util.versions import minor_of, newest_patches, parse_version
from matrix.catalog.releases import Releases
from matrix.record.model import Platform, StartKind
from matrix.record.startup_tests import STARTUP_TESTS_VERSION
from matrix.rules.expectations import Expectations, Expected, Nearest, Rule, Situation
from matrix.rules.upstream.model import FLAG, Upstream, UpstreamCase, UpstreamRelease, within

_PLATFORM = Platform.CUDA
_CASE = re.compile(r"test_(moe_startup|moe_compilation_cold_start|model_startup)(?:\[([^\]]*)\])?")


@dataclass(frozen=True, kw_only=True)
class UpstreamContradiction:
    """A number of upstream's that a rule contradicts; `expected` is the rule's."""

    rule: str
    case: str
    start: StartKind
    counter: str
    expected: int
    upstream: int
    vllm: str
    torch: str
    link: str


@dataclass(frozen=True, kw_only=True)
class Vanished:
    """A rule that expects numbers of a case which upstream's test no longer has.

    `vllm` are the releases for which no record among the rule's evidence speaks, `since` is the
    first release without the case.
    """

    rule: str
    case: str
    start: StartKind
    vllm: tuple[str, ...]
    since: str
    link: str


@dataclass(frozen=True, kw_only=True)
class UpstreamComparison:
    """The result of the comparison; each number is one of upstream's under one torch.

    `measured`: the rule itself says that upstream has another number, and names the record.
    `beyond`: the rules ended before these releases, such as a torch that no vLLM pins yet.
    """

    releases: int = 0
    numbers: int = 0
    agree: int = 0
    measured: int = 0
    beyond: int = 0
    no_rule: int = 0
    contradictions: tuple[UpstreamContradiction, ...] = ()
    vanished: tuple[Vanished, ...] = ()

    @property
    def ok(self) -> bool:
        """Tell whether nothing contradicts."""
        return not self.contradictions and not self.vanished


@dataclass(frozen=True, kw_only=True)
class Stated:
    """One number of upstream's, in a situation that a rule can be asked about."""

    release: UpstreamRelease
    situation: Situation | None
    start: StartKind
    counter: str
    number: int
    link: str


def torches_of(upstream: Upstream, releases: Releases) -> tuple[str, ...]:
    """Return the torch releases to compare under: the newest patch of each known minor release.

    They begin with the oldest minor release that one of the vLLM releases pins.
    """
    read = {release.version for release in upstream.releases}
    pins = [parse_version(release.torch) for release in releases.vllm if release.version in read]
    oldest = min(pins, default=None)
    known = newest_patches([release.version for release in releases.torch], str)
    return tuple(
        torch
        for torch in known
        if oldest is None or parse_version(torch).release[:2] >= oldest.release[:2]
    )


def hold(
    upstream: Upstream, expectations: Expectations, torches: Sequence[str]
) -> UpstreamComparison:
    """Compare every number of every release's startup tests, under each torch, with the rules."""
    rules = {rule.id: rule for rule in expectations.rules}
    asked: dict[tuple[object, ...], Mapping[str, Expected]] = {}
    contradictions: list[UpstreamContradiction] = []
    nearest: dict[tuple[object, ...], Mapping[str, Nearest]] = {}
    numbers = agree = measured = beyond = no_rule = 0
    for stated in every_number(upstream, torches):
        numbers += 1
        where = stated.situation
        expected, ended = None, False
        if where is not None:
            key = (where.case, where.torch, where.vllm, stated.start, where.flags.get(FLAG))
            if key not in asked:
                asked[key] = expectations.expect(where, stated.start)
                nearest[key] = expectations.nearest(where, stated.start)
            expected = asked[key].get(stated.counter)
            ended = stated.counter in nearest[key]
        if where is None or expected is None:
            beyond += ended
            no_rule += not ended
        elif expected.value == stated.number:
            agree += 1
        elif _says_so(rules[expected.rule], stated):
            measured += 1
        else:
            contradictions.append(
                UpstreamContradiction(
                    rule=expected.rule,
                    case=where.case,
                    start=stated.start,
                    counter=stated.counter,
                    expected=expected.value,
                    upstream=stated.number,
                    vllm=where.vllm,
                    torch=where.torch,
                    link=stated.link,
                )
            )
    return UpstreamComparison(
        releases=len(upstream.releases),
        numbers=numbers,
        agree=agree,
        measured=measured,
        beyond=beyond,
        no_rule=no_rule,
        contradictions=tuple(contradictions),
        vanished=tuple(_vanished(upstream, expectations)),
    )


def every_number(upstream: Upstream, torches: Sequence[str]) -> Iterator[Stated]:
    """Yield every number of the startup tests, under each torch on which its test runs."""
    for release in upstream.releases:
        for path, case in release.startup_cases():
            for torch in torches:
                if not within(torch, case.torch):
                    continue
                situation = _situation(release, case, torch)
                for start in case.starts:
                    for counter, number in start.numbers.items():
                        if (value := number.at(torch)) is not None:
                            yield Stated(
                                release=release,
                                situation=situation,
                                start=start.start,
                                counter=counter,
                                number=value,
                                link=release.link(path),
                            )


def _situation(release: UpstreamRelease, case: UpstreamCase, torch: str) -> Situation | None:
    """Return the situation of our own case that an upstream one is; None if we have none."""
    given = case.environment.get(FLAG)
    if given in ("0", "1"):
        mega: int | None = int(given)
    else:
        mega = release.flags[FLAG].at(torch) if FLAG in release.flags else None
    ours = our_case(case.case, mega)
    if ours is None:
        return None
    flags = {} if mega is None else {FLAG: bool(mega)}
    return Situation(
        case=ours,
        platform=_PLATFORM,
        torch=torch,
        vllm=release.version,
        flags=flags,
        tests=STARTUP_TESTS_VERSION,
    )


def our_case(case: str, mega: int | None) -> str | None:
    """Return our name of an upstream case under this value of the flag; None: we have no such case.

    >>> our_case("test_moe_startup[1]", 1), our_case("test_model_startup[glm_4.5]", 0)
    ('moe_startup[mega_aot=1]', 'model_startup[glm_4.5]')
    """
    found = _CASE.fullmatch(case)
    if found is None:
        return None
    if found[1] == "model_startup":
        return f"model_startup[{found[2]}]" if found[2] else None
    return None if mega is None else f"moe_startup[mega_aot={mega}]"


def _says_so(rule: Rule, stated: Stated) -> bool:
    published = rule.upstream
    return published is not None and published.counters.get(stated.counter) == stated.number


def _vanished(upstream: Upstream, expectations: Expectations) -> Iterator[Vanished]:
    """Yield the rules that apply to a case which upstream's test once had and has no more."""
    last: dict[str, UpstreamRelease] = {}
    without: dict[str, list[UpstreamRelease]] = {}
    for release in upstream.releases:
        found = {
            where.case
            for _, case in release.startup_cases()
            if (where := _situation(release, case, "0")) is not None
        }
        for case in found:
            last[case] = release
            without[case] = []
        if release.files and not release.every_fault():
            for case in last.keys() - found:
                without[case].append(release)
    for case, releases in sorted(without.items()):
        for rule in expectations.rules:
            if rule.case != case or rule.platform not in (None, _PLATFORM):
                continue
            beyond = [
                upstream_release.version
                for upstream_release in releases
                if rule.vllm.contains(parse_version(upstream_release.version))
                and not _measured(rule, upstream_release.version)
            ]
            if beyond:
                yield Vanished(
                    rule=rule.id,
                    case=case,
                    start=rule.start,
                    vllm=tuple(beyond),
                    since=releases[0].version,
                    link=releases[0].link(next(path for path, _ in releases[0].startup_cases())),
                )


def _measured(rule: Rule, version: str) -> bool:
    """Tell whether a record among a rule's evidence is of this minor release of vLLM, on CUDA."""
    factor = f"-vllm{minor_of(version).replace('.', '')}"
    return any(
        record.startswith(f"results/{_PLATFORM}/") and factor in re.split(r"(?=-)|(?=\.)", record)
        for record in rule.records
    )
