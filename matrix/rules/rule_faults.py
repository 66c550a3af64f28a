"""What `matrix check` finds wrong with rules; `matrix calibrate --write` asks before it writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from matrix.catalog.releases import Releases
from matrix.rules.evidence import Overrun, UpstreamEvidence, evidence_of, overruns
from matrix.rules.expectations import Expectations
from matrix.rules.founded import Unfounded, unfounded
from matrix.rules.upstream.hold import (
    UpstreamComparison,
    UpstreamContradiction,
    Vanished,
    hold,
    torches_of,
)
from matrix.rules.upstream.model import Upstream

RuleFault: TypeAlias = UpstreamContradiction | Vanished | Overrun | Unfounded
"""One thing for which `matrix check` refuses a rule."""


@dataclass(frozen=True, kw_only=True)
class CheckedRules:
    """How rules compare with upstream's own tests, and which their evidence does not support."""

    held: UpstreamComparison
    overruns: tuple[Overrun, ...]
    unfounded: tuple[Unfounded, ...]

    @property
    def faults(self) -> tuple[RuleFault, ...]:
        """All for which `matrix check` refuses rules, in the order of its lines."""
        return (
            *self.held.contradictions,
            *self.held.vanished,
            *self.overruns,
            *self.unfounded,
        )


@dataclass(frozen=True, kw_only=True)
class RuleChecks:
    """What rules are checked with: upstream's numbers, and `find` for the records they name."""

    upstream: Upstream
    torches: tuple[str, ...]
    evidence: UpstreamEvidence
    find: Callable[[str], Path | None]

    @classmethod
    def of(
        cls, upstream: Upstream, releases: Releases, find: Callable[[str], Path | None]
    ) -> RuleChecks:
        """Read what upstream states under each torch."""
        return cls(
            upstream=upstream,
            torches=torches_of(upstream, releases),
            evidence=evidence_of(upstream, releases),
            find=find,
        )

    def check(self, expectations: Expectations, ids: Collection[str] | None = None) -> CheckedRules:
        """Compare all rules with upstream's tests, and each with its evidence.

        With `ids` only the rules with these are compared with their evidence.
        """
        asked = expectations
        if ids is not None:
            rules = tuple(rule for rule in expectations.rules if rule.id in ids)
            asked = replace(expectations, rules=rules)
        return CheckedRules(
            held=hold(self.upstream, expectations, self.torches),
            overruns=tuple(overruns(asked, self.evidence)),
            unfounded=tuple(unfounded(asked, self.find)),
        )


def of_rules(faults: Iterable[RuleFault], ids: Collection[str]) -> tuple[RuleFault, ...]:
    """Return those of the faults that are of rules with these ids."""
    return tuple(fault for fault in faults if fault.rule in ids)
