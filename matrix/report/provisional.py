"""How a comparison with the nearest expectations is marked, in every form of the table."""

from __future__ import annotations

from matrix._util.text import listed
from matrix.rules.expectations import Difference
from matrix.rules.provisional import DiffersFrom, NearestRelease, Provisional, SameAs

PROVISIONAL = "provisional"


def mark(found: Provisional) -> str:
    """Return `provisional: as vLLM 0.33`, or `provisional: differs from vLLM 0.33`."""
    how = "differs from" if found.differences else "as"
    return f"{PROVISIONAL}: {how} {listed(list(map(release_words, found.releases)))}"


def comparison_words(found: SameAs | DiffersFrom) -> str:
    """Return a comparison in words: `counts as vLLM 0.33 did`."""
    if isinstance(found, SameAs):
        return f"counts as {listed(list(map(release_words, found.releases)))} did"
    first = found.difference
    counts = "not counted" if first.observed is None else str(first.observed)
    more = f", and {found.more} more" if found.more else ""
    return (
        f"differs from {release_words(found.release)} in {first.start} {first.counter}: {counts},"
        f" was {first.expected}{more}"
    )


def release_words(nearest: NearestRelease) -> str:
    """Return the nearest release that a rule covers, as people name it.

    >>> release_words(NearestRelease(vllm="0.33", torch=None))
    'vLLM 0.33'
    """
    known = (("vLLM", nearest.vllm), ("torch", nearest.torch))
    return " with ".join(f"{name} {version}" for name, version in known if version)


def values(found: Provisional | None) -> dict[str, object] | None:
    """Return the comparison as JSON values; None if there is none."""
    if found is None:
        return None
    return {
        "releases": list(map(release_words, found.releases)),
        "differences": [difference(counter) for counter in found.differences],
    }


def of_rank(difference: Difference) -> str:
    """Return which rank counted a counter that differs; "" if the start is one process."""
    return rank_words(difference.rank)


def rank_words(rank: int | None) -> str:
    """Return ` of rank 1`; "" for None."""
    return "" if rank is None else f" of rank {rank}"


def difference(found: Difference) -> dict[str, object]:
    """Return a counter that differs as JSON values."""
    return {
        "start": found.start,
        "counter": found.counter,
        "expected": found.expected,
        "observed": found.observed,
        "rule": found.rule,
        **({} if found.rank is None else {"rank": found.rank}),
    }
