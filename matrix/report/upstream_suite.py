"""The results of upstream's own tests in a run, as text and for programs.

It stands next to the verdict of the startup tests, which does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable

from matrix._util.text import clean, clip, seconds
from matrix.record.model import Platform
from matrix.record.upstream import SuiteCase, UpstreamOutcome, UpstreamSuite

_ON_CPU = (
    "  on the CPU platform vLLM's kernels compute nothing, so a test of numbers shows nothing"
    " about the pair there"
)
_DIGITS = 12  # of a hash, for people
_MOST = 3  # names of failed tests in a line


def counts(suite: UpstreamSuite | None) -> str:
    """Return how its tests ended, such as `2 passed, 1 failed`; "" if none was asked for."""
    if suite is None:
        return ""
    found = {outcome: len(suite.of(outcome)) for outcome in UpstreamOutcome}
    return ", ".join(f"{count} {outcome}" for outcome, count in found.items() if count)


def mark(suite: UpstreamSuite | None) -> str:
    """Return the counts as what follows a verdict; "" if none was asked for."""
    found = counts(suite)
    return f"upstream's own tests: {found}" if found else ""


def failures(suite: UpstreamSuite | None, name: Callable[[str], str] = clean) -> str:
    """Return which of upstream's tests failed, by name and signature; "" if none did.

    `name` makes the text of either.
    """
    failed = () if suite is None else suite.of(UpstreamOutcome.FAILED)
    if suite is None or not failed:
        return ""
    more = f" and {len(failed) - _MOST} more" if len(failed) > _MOST else ""
    names = ", ".join(_named(case, name) for case in failed[:_MOST])
    return f"{len(failed)} of {len(suite.cases)} of upstream's own tests failed: {names}{more}"


def _named(case: SuiteCase, name: Callable[[str], str]) -> str:
    return name(case.case) + (f" ({name(case.signature)})" if case.signature else "")


def lines(suite: UpstreamSuite, on: Platform) -> list[str]:
    """Return where the tests are from, and each with its outcome, its seconds and why."""
    source = "files that are not known to be a source distribution's"
    if suite.sdist is not None:
        digest = (suite.sha256 or "unknown")[:_DIGITS]
        source = f"{clip(clean(suite.sdist), 120)}, SHA-256 {clean(digest)}"
    if suite.stand_ins:
        source += f"; stand-ins for the real ones: {clip(clean(', '.join(suite.stand_ins)), 300)}"
    found = [f"upstream's own tests, from {source}"]
    if on is Platform.CPU:
        found.append(_ON_CPU)
    for case in suite.cases:
        found.append(
            f"  {case.outcome:<8}  {seconds(case.seconds):>6}  {clip(clean(case.case), 120)}"
        )
        why = case.signature if case.outcome is UpstreamOutcome.FAILED else case.reason
        if why := why or case.reason:
            found.append(f"{'':<20}{clip(clean(why), 300)}")
    return found


def values(suite: UpstreamSuite) -> dict[str, object]:
    """Return the counts and the failures as JSON values."""
    return {
        **{str(outcome): len(suite.of(outcome)) for outcome in UpstreamOutcome},
        "failures": [
            {"case": case.case, "reason": case.reason, "signature": case.signature}
            for case in suite.of(UpstreamOutcome.FAILED)
        ],
    }
