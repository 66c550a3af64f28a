"""What a start only logged, beside its counts: named where it differs, silence is no answer."""

import dataclasses

from judgements import GOOD, judged, make_case, words
from matrix.record.model import (
    Case,
    Event,
    EventKind,
)

AGAIN = Event(kind=EventKind.LOAD_FAILED, text="load failure from /tmp/x-17, reason: no key")


BYPASSED = Event(kind=EventKind.CACHE_BYPASSED, text="Bypassing autograd cache due to: it")


def logged(case: Case, *events: Event) -> Case:
    """Return the case with these events in its warm start, and none in its cold one."""
    cold, warm = (dataclasses.replace(start, events=()) for start in case.starts)
    return dataclasses.replace(case, starts=(cold, dataclasses.replace(warm, events=events)))


def test_drift_names_what_its_start_only_logged() -> None:
    counters = {"cold": GOOD["cold"], "warm": {"num_compiled_artifacts_saved": 3}}
    drifting = logged(make_case(counters=counters), BYPASSED, AGAIN)
    verdict = judged(drifting)
    assert str(words(verdict.reason)).endswith(
        "expected 3, and 1 more; warm start compiled again: a cached artifact did not load:"
        " load failure from <path>, reason: no key"
    )
    # What each release does at each start explains nothing.
    [quiet] = judged(logged(make_case(counters=counters), BYPASSED)).cases
    assert str(words(quiet.reason)).endswith("expected 3, and 1 more")
    assert [event.kind for event in quiet.events or ()] == [EventKind.CACHE_BYPASSED]


def test_events_of_two_runs_compare() -> None:
    there, here = (
        dataclasses.replace(AGAIN, text=f"load failure from {folder}, reason: no key")
        for folder in ("/tmp/matrix-1/a", "/data/b/matrix-2/a")
    )
    assert judged(logged(make_case(), there)) == judged(logged(make_case(), here))


def test_that_nobody_listened_is_not_that_nothing_was_logged() -> None:
    [before], [quiet] = judged(make_case()).cases, judged(logged(make_case())).cases
    assert (before.events, quiet.events) == (None, ())
    assert judged(make_case(outcome="failed", counters={}, reason="no")).cases[0].events is None
    half = make_case()
    cold, warm = half.starts
    half = dataclasses.replace(half, starts=(dataclasses.replace(cold, events=()), warm))
    assert judged(half).cases[0].events is None
