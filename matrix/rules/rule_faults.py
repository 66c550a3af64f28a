"""What `matrix check` finds wrong with rules that changed: asked before they are written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from matrix.catalog.releases import Releases
from matrix.rules.evidence import Overrun, UpstreamEvidence, evidence_of, overruns
from matrix.rules.expectations import Expectations
from matrix.rules.founded import Unfounded, unfounded
from matrix.rules.upstream.hold import UpstreamContradiction, Vanished, hold, torches_of
from matrix.rules.upstream.model import Upstream

RuleFault: TypeAlias = UpstreamContradiction | Vanished | Overrun | Unfounded
"""One thing for which `matrix check` refuses a rule."""


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

    def faults(self, expectations: Expectations, ids: Collection[str]) -> frozenset[RuleFault]:
        """Return the faults of the rules with these ids, and what contradicts upstream in any."""
        asked = replace(
            expectations, rules=tuple(rule for rule in expectations.rules if rule.id in ids)
        )
        held = hold(self.upstream, expectations, self.torches)
        return frozenset(
            (
                *held.contradictions,
                *held.vanished,
                *overruns(asked, self.evidence),
                *unfounded(asked, self.find),
            )
        )


def of_rules(faults: Iterable[RuleFault], ids: Collection[str]) -> frozenset[RuleFault]:
    """Return those of the faults that are of rules with these ids."""
    return frozenset(fault for fault in faults if fault.rule in ids)
