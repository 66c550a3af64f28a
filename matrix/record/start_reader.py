"""Read what a record has of one start, of torch's defaults, and of the cache check.

Importable inside a cell. A part of `matrix.record.reader`.
"""

from __future__ import annotations

import dataclasses
from typing import TypeGuard

from matrix.record.json_value import (
    SHOWN,
    JsonValue,
    are_counts,
    count_from,
    is_count,
    is_plain,
)
from matrix.record.model import (
    DEFAULT_ITEMS_LIMIT,
    DEFAULT_TEXT_LIMIT,
    DEFAULTS_LIMIT,
    EVENT_LIMIT,
    EVENTS_LIMIT,
    METRICS_LIMIT,
    RANKS_LIMIT,
    CacheCheck,
    CacheFiles,
    CacheKind,
    CheckedCompile,
    Defaults,
    DefaultValue,
    Event,
    EventKind,
    Rank,
    Start,
    StartKind,
)

_START_KEYS = dict.fromkeys(field.name for field in dataclasses.fields(Start))
_RANK_KEYS = dict.fromkeys(field.name for field in dataclasses.fields(Rank))
_EVENT_KEYS = dict.fromkeys(field.name for field in dataclasses.fields(Event))
_CACHE_KEYS = dict.fromkeys(field.name for field in dataclasses.fields(CacheFiles))
_CONFIGS_LIMIT = 8
_DEFAULT = (
    f"true, false, a number, null, a string of at most {DEFAULT_TEXT_LIMIT} characters, or a list"
    f" of at most {DEFAULT_ITEMS_LIMIT} of these"
)


def start_of(value: JsonValue) -> Start:
    """Return the start that this object is. Raises RecordError."""
    # Records from before these keys say nothing of them, which is not that there was nothing.
    value.has_keys(_START_KEYS, ["events", "metrics", "caches", "ranks"])
    return Start(
        start=value.one_of("start", StartKind),
        seconds=value.all_seconds("seconds"),
        counters=value.counts("counters"),
        events=_events(value) if "events" in value.data else None,
        metrics=_metrics(value) if "metrics" in value.data else None,
        caches=_caches(value.member("caches")) if "caches" in value.data else None,
        ranks=_ranks(value) if "ranks" in value.data else None,
    )


def _ranks(value: JsonValue) -> tuple[Rank, ...]:
    items = list(value.items("ranks"))
    found = value.member("ranks")
    if not items:
        found.fail("is empty; a start of one process is without the key")
    _limit(found, len(items), RANKS_LIMIT)
    ranks = tuple(map(_rank, items))
    for item, rank in zip(items, ranks, strict=True):
        if sum(other.rank == rank.rank for other in ranks) > 1:
            item.fail(f"is the second rank {rank.rank} of one start")
    return ranks


def _rank(value: JsonValue) -> Rank:
    value.has_keys(_RANK_KEYS, ["events", "metrics"])
    return Rank(
        rank=value.count("rank"),
        seconds=value.all_seconds("seconds"),
        counters=value.counts("counters"),
        events=_events(value) if "events" in value.data else None,
        metrics=_metrics(value) if "metrics" in value.data else None,
    )


def defaults_of(value: JsonValue) -> Defaults:
    """Return the defaults of torch's configs that this object holds. Raises RecordError."""
    configs = value.mapping()
    _limit(value, len(configs), _CONFIGS_LIMIT)
    return {name: _defaults(value.member(name), value, name) for name in configs}


def _defaults(config: JsonValue, value: JsonValue, name: str) -> dict[str, DefaultValue]:
    found = value.values(name, _is_default, _DEFAULT, sure=_SURE)
    _limit(config, len(found), DEFAULTS_LIMIT)
    for key in found:
        if len(key) > DEFAULT_TEXT_LIMIT:
            config.fail(f"has a key of {len(key)} characters, {key[:SHOWN]!r}…")
    return found


def cache_check_of(value: JsonValue) -> CacheCheck:
    """Return the cache check that this object is. Raises RecordError."""
    value.has_keys(dict.fromkeys(compiled.value for compiled in CheckedCompile))
    found = {compiled: value.counts(compiled) for compiled in CheckedCompile}
    for compiled, counts in found.items():
        _limit(value.member(compiled), len(counts), METRICS_LIMIT)
    return found


_SURE: frozenset[type] = frozenset({bool, int, type(None)})
"""The types whose every value is a default."""


def _is_default(value: object) -> TypeGuard[DefaultValue]:
    if isinstance(value, list):
        return len(value) <= DEFAULT_ITEMS_LIMIT and all(map(_is_scalar, value))
    return _is_scalar(value)


def _is_scalar(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= DEFAULT_TEXT_LIMIT
    return is_plain(value)


def _limit(value: JsonValue, count: int, most: int) -> None:
    if count > most:
        value.fail(f"has {count} items, but at most {most} are kept")


def _events(value: JsonValue) -> tuple[Event, ...]:
    events = tuple(map(_event, value.items("events")))
    _limit(value.member("events"), len(events), EVENTS_LIMIT)
    return events


def _event(value: JsonValue) -> Event:
    value.has_keys(_EVENT_KEYS)
    text = value.text("text")
    if len(text) > EVENT_LIMIT:
        value.member("text").fail(f"has {len(text)} characters, but at most {EVENT_LIMIT} are kept")
    return Event(kind=value.one_of("kind", EventKind), text=text, count=value.count("count", 1))


def _metrics(value: JsonValue) -> dict[str, int]:
    found = value.values("metrics", is_count, count_from(0))
    _limit(value.member("metrics"), len(found), METRICS_LIMIT)
    return found


def _caches(value: JsonValue) -> dict[CacheKind, CacheFiles]:
    value.has_keys(dict.fromkeys(CacheKind), tuple(CacheKind))
    return {kind: _cache_files(value, kind) for kind in map(CacheKind, value.data)}


def _cache_files(caches: JsonValue, kind: CacheKind) -> CacheFiles:
    counts = caches.data[kind]
    if isinstance(counts, dict) and counts.keys() == _CACHE_KEYS.keys():
        numbers = counts.values()
        if are_counts(numbers):
            return CacheFiles(**counts)
    value = caches.member(kind)
    value.has_keys(_CACHE_KEYS)
    return CacheFiles(
        files=value.count("files"),
        bytes=value.count("bytes"),
        new_files=value.count("new_files"),
        new_bytes=value.count("new_bytes"),
    )
