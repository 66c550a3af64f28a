"""The findings of `matrix check` in the data files, as lines."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date

from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.report.upstream_tests import beyond, contradictions
from matrix.rules.evidence import Overrun
from matrix.rules.expectations import Expectations
from matrix.rules.founded import NoEvidence, Unfounded
from matrix.rules.platform_differences import Explanations
from matrix.rules.rule_faults import RuleFault
from matrix.rules.upstream.hold import UpstreamComparison, UpstreamContradiction, Vanished
from matrix.rules.waivers import Waivers
from matrix.verdict.agreement import Agreement


def release_lines(releases: Releases, cells: Iterable[Cell]) -> list[str]:
    """Return what the releases are, and what is special about their cells."""
    count = len(list(cells))
    lines = [
        f"releases      {len(releases.torch)} of torch, {len(releases.vllm)} of vLLM",
        f"cells         {count}, each with its companions",
    ]
    lines += [
        f"constraints   vLLM {constraint.vllm.text} with {constraint.requirement}"
        for constraint in releases.constrained
    ]
    for torch in releases.torch:
        lines += [
            f"companions    torch {torch.version}: no {name}, each is built for another CUDA"
            for name in torch.without
        ]
        lines += [
            f"companions    torch {torch.version}: its {name} is a guess, by the date"
            for name in torch.guessed
        ]
    candidates = [candidate.name for candidate in releases.candidates.every]
    return [*lines, f"candidates    {', '.join(candidates) or 'none'}"]


def rule_line(expectations: Expectations) -> str:
    """Return how many rules there are."""
    return f"expectations  {len(expectations.rules)} rules, no two of them tie"


def otherwise_line(expectations: Expectations) -> str:
    """Return how many counters were measured with other numbers than upstream's."""
    count = sum(len(rule.upstream.counters) for rule in expectations.rules if rule.upstream)
    return f"              counters measured differently from what upstream publishes: {count}"


def fault_lines(faults: Collection[RuleFault], where: str) -> list[str]:
    """Return lines for all that is wrong with rules, with what to do; `where` is their file."""
    held = UpstreamComparison(
        contradictions=tuple(fault for fault in faults if isinstance(fault, UpstreamContradiction)),
        vanished=tuple(fault for fault in faults if isinstance(fault, Vanished)),
    )
    return [
        *contradictions(held, where),
        *beyond((fault for fault in faults if isinstance(fault, Overrun)), where),
        *(
            f"{where}: rule {fault.rule!r}: evidence: {_why(fault)}"
            for fault in faults
            if isinstance(fault, Unfounded)
        ),
    ]


def _why(item: Unfounded) -> str:
    if item.why is NoEvidence.MISSING:
        return f"{item.record}: is not there; restore it, or name another record"
    if item.why is NoEvidence.UNREADABLE:
        return str(item.detail)
    return (
        f"{item.record}: has no start that the rule is about and that counts so; correct the rule,"
        " or name another record"
    )


def difference_lines(explanations: Explanations, agreement: Agreement) -> list[str]:
    """Return what published records show of the explanations of differences of the platforms."""
    used = {item.id for difference in agreement.differences for item in difference.why}
    unused = [item.id for item in explanations.every if item.id not in used]
    line = f"differences   explanations: {len(explanations.every)}"
    if not agreement.pairs:
        return [f"{line}; no torch and vLLM have results of both platforms to compare"]
    differing, unexplained = len(agreement.differences), len(agreement.unexplained)
    line += f"; counters that differ: {differing}, not explained: {unexplained}"
    return [line, *(f"              {name} explains nothing" for name in unused)]


def waiver_line(waivers: Waivers, today: date) -> str:
    """Return how many failures are accepted, and which waivers have expired."""
    expired = [waiver.id for waiver in waivers.every if waiver.expired(today)]
    over = f", expired: {', '.join(expired)}" if expired else ""
    return f"waivers       {len(waivers.every)} known failures that are accepted{over}"
