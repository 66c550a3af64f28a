"""The numbers of vLLM's own startup tests, their changes, and the rules that contradict them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from matrix._util.text import aligned, clean, clip, listed, plural
from matrix._util.versions import parse_version
from matrix.rules.upstream.changes import ChangeOf, UpstreamChange

if TYPE_CHECKING:
    from matrix.rules.evidence import Overrun
    from matrix.rules.upstream.hold import UpstreamComparison, UpstreamContradiction, Vanished
    from matrix.rules.upstream.model import UpstreamRelease
    from matrix.rules.upstream.sdist import UpstreamRead

_MOST_LETTERS = 300


def render_read(done: UpstreamRead, shown: str) -> str:
    """Return what upstream changed from release to release, a line each, and a summary.

    `shown` is the path of the data file.
    """
    lines = aligned([_change(change) for change in done.changes]) if done.changes else []
    part = [release.version for release in done.upstream.releases if release.every_fault()]
    summary = (
        f"{shown}: {plural(len(done.upstream.releases), 'release')}, {done.read} read,"
        f" {plural(len(done.changes), 'change')}"
    )
    if part:
        summary += f"; not all was read of {listed(part)}"
    if done.failures:
        summary += f"; {len(done.failures)} failed"
    return "".join(f"{line}\n" for line in [*lines, summary])


def render_held(held: UpstreamComparison) -> str:
    """Return how many of upstream's numbers the rules agree with, in one line."""
    parts = [
        f"{held.agree:,} agree",
        f"{len(held.contradictions):,} contradict",
        *([f"{held.measured:,} were measured otherwise"] if held.measured else []),
        *([f"{held.beyond:,} are beyond the end of the rules"] if held.beyond else []),
        f"{held.no_rule:,} have no rule",
    ]
    return f"{held.numbers:,} numbers of {plural(held.releases, 'release')}: {', '.join(parts)}"


def render_unread(releases: Iterable[UpstreamRelease]) -> list[str]:
    """Return what of upstream's own tests could not be read, a line each."""
    return [
        clip(clean(f"not read of vLLM {release.version}: {fault}"), _MOST_LETTERS)
        for release in releases
        for fault in release.every_fault()
    ]


def contradictions(held: UpstreamComparison, where: str) -> list[str]:
    """Return a line for each rule and counter that contradicts upstream, with what to do."""
    grouped: dict[tuple[str, ...], list[UpstreamContradiction]] = {}
    for contradiction in held.contradictions:
        key = (
            contradiction.rule,
            contradiction.case,
            contradiction.start,
            contradiction.counter,
            str(contradiction.expected),
            str(contradiction.upstream),
        )
        grouped.setdefault(key, []).append(contradiction)
    return [
        *(_contradiction(group, where) for group in grouped.values()),
        *(_vanished(case, where) for case in held.vanished),
    ]


def beyond(overruns: Iterable[Overrun], where: str) -> list[str]:
    """Return a line for each rule that goes beyond its evidence, with what to do."""
    return [_overrun(overrun, where) for overrun in overruns]


def _overrun(overrun: Overrun, where: str) -> str:
    project = overrun.project.label
    if overrun.carried is None:
        end = f" belongs to no release of {project}; name a record or a link to a tag's test"
    else:
        end = f" ends with {project} {overrun.carried}; end the rule with {overrun.end}"
    return (
        f"{where}: rule {overrun.rule!r}: {overrun.project}:"
        f" {overrun.versions or 'every release'}, and its evidence on {overrun.platform}{end}"
    )


def _contradiction(group: list[UpstreamContradiction], where: str) -> str:
    first = group[0]
    vllm = _span(contradiction.vllm for contradiction in group)
    torch = _span(contradiction.torch for contradiction in group)
    return (
        f"{where}: rule {first.rule!r}: {first.counter} = {first.expected} in the {first.start}"
        f" start of {first.case}, and upstream's test says {first.upstream} for vLLM {vllm}"
        f" under torch {torch}"
        f" ({plural(len(group), 'number')}; {group[-1].link}); correct the rule, or write"
        " upstream = {...} with the record that measured it"
    )


def _vanished(one: Vanished, where: str) -> str:
    return (
        f"{where}: rule {one.rule!r}: expects numbers of the {one.start} start of {one.case} for"
        f" vLLM {_span(one.vllm)}, and upstream's test is without that case since vLLM {one.since}"
        f" ({one.link}); end the rule before it, or name a CUDA record of that release"
    )


def _span(versions: Iterable[str]) -> str:
    order = sorted(set(versions), key=parse_version)
    return order[0] if len(order) == 1 else f"{order[0]} to {order[-1]}"


def _change(change: UpstreamChange) -> list[str]:
    where = clean(change.case + (f", {change.start}" if change.start else ""))
    return [f"vLLM {change.version}", change.kind.value, where, _what(change)]


def _what(change: UpstreamChange) -> str:
    """Return what changed, for people."""
    if change.kind is ChangeOf.GONE:
        return f"was there in {change.before_version}"
    if change.kind is ChangeOf.NEW:
        assert isinstance(change.after, Mapping)
        return "; ".join(f"{start}: {_numbers(counts)}" for start, counts in change.after.items())
    if change.kind is ChangeOf.UNREAD:
        return f"cannot be compared with {change.before_version}: the tests of one were not read"
    before, after = _value(change.before), _value(change.after)
    return f"{f'{clean(change.what)} ' if change.what else ''}{after} (was {before})"


def _numbers(counts: Mapping[str, object]) -> str:
    return ", ".join(f"{clean(counter)} {_value(number)}" for counter, number in counts.items())


def _value(value: object) -> str:
    """Return a number, a number by torch, or a setting."""
    if value is None:
        return "none"
    if isinstance(value, dict) and any(key.startswith((">=", "<")) for key in value):
        by_torch = [f"{_value(number)} with torch {versions}" for versions, number in value.items()]
        return listed(by_torch)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = listed(value)
    return clip(clean(value if isinstance(value, str) else json.dumps(value)), 200)
