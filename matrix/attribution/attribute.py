"""Who changed? What fails or drifts in a cell, attributed by the cell's neighbours.

Pure. One **symptom** is attributed at a time: a case that fails with a signature, or one counter of
one start that is not as expected. An off-pin cell often has no expectation; then its vLLM under the
torch that it pins is the reference. With `changes`, what is as expected but differs from the
reference is attributed too.

A neighbour **shows** the symptom if it fails at that rung with the same signature, or counts the
same value. It is **clean** if it gets past that rung, or counts the reference's value, or its own
expected one. Anything else (another failure, a third value, not run, not applicable) is silent:
another defect is attributed on its own. Of several runs of one pair the newest on the same Python
with the pair's own flags represents it (`matrix.attribution.observations` says which these are),
and a future-dated run counts as the oldest.

The rules and their order stand in `matrix.attribution.rules`; rule 1, where *flaky* is decided, in
`matrix.attribution.flaky`. The change lies *since* the first release that shows it, if no release
lies between that and the last clean one, else *between* the two; *until* where newer ones are
clean.

Flags change their default with the releases. Where the flags of the cell and its clean neighbour
differ, they are named, as the flag may be the whole cause: a run of the same pair with the
neighbour's flags decides that (`matrix.attribution.flags`). Where the tests, the machine or (along
torch) other packages differ, and no run shows that they make no difference, they are named too,
with the older of the two as a run to repeat (`matrix.attribution.confounders`).

Extensions of vLLM do not link with each torch. Where one does not in the cell and does in its clean
neighbour, neither release is blamed alone (`matrix.attribution.extensions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from packaging.version import Version

from matrix._util.versions import parse_version
from matrix.attribution.known import KnownPairs
from matrix.attribution.model import Attribution, Cause, FlagDifference, MissingRun
from matrix.attribution.neighbours import Neighbourhood
from matrix.attribution.observations import Observation, ObservationEnd
from matrix.attribution.reruns import Planner
from matrix.attribution.rules import attribute_symptom
from matrix.attribution.runs_index import Judged, RunsIndex
from matrix.attribution.symptoms import (
    COMPARED_KEYS,
    Symptom,
    counter_changes,
    drifts,
    failure,
)
from matrix.catalog.releases import Releases
from matrix.record.model import PLATFORMS, WHOLE_RUN, Platform, Record
from matrix.verdict.grid import environments
from matrix.verdict.judge import CellVerdict


def attribute(
    judged: Iterable[Judged | tuple[Record, CellVerdict]],
    releases: Releases,
    known: KnownPairs | None = None,
    *,
    names: frozenset[str] | None = None,
    platform: Platform | None = None,
    case: str | None = None,
    changes: bool = False,
    late: str | None = None,
) -> tuple[Attribution, ...]:
    """Attribute what fails or drifts in each cell, by platform, vLLM, torch, Python and case.

    `judged` are all records, repeats too, or the newest of each fingerprint and environment;
    `known` shows which missing runs cannot work, and which extensions do not link. `names` (of
    environments), `platform` and `case` select; a case may be given without its parameters.
    `changes` also attributes what changed as expected.
    A run that started after `late` is future-dated (`matrix.verdict.precedence.late_from`).
    """
    known = known or KnownPairs()
    cells = environments(releases)
    index = RunsIndex.of(judged, cells, late)
    planner = Planner.of(index, known.grid, releases, cells)
    found = []
    for own in index.representatives():
        if names is not None and own.cell.name not in names:
            continue
        if platform not in (None, own.platform) or not _is_case(own.case, case):
            continue
        symptoms = _symptoms(own, index, planner.pins, changes=changes)
        if symptoms:
            around = Neighbourhood.of(own, index)
            answers = (
                attribute_symptom(symptom, around, planner, releases, known.features)
                for symptom in symptoms
            )
            found.append((_order(own), list(_merge(answers))))
    found.sort(key=lambda item: item[0])
    return tuple(attribution for _, merged in found for attribution in merged)


def _order(own: Observation) -> tuple[int, Version, Version, Version, str, str]:
    cell = own.cell
    return (
        PLATFORMS.index(own.platform),
        parse_version(cell.vllm),
        parse_version(cell.torch),
        parse_version(cell.python),
        own.case,
        str(sorted(own.flags.items())),
    )


def _symptoms(
    own: Observation, index: RunsIndex, pins: Mapping[str, str], *, changes: bool
) -> list[Symptom]:
    """Return what to attribute in an observation: its failure, or its counters."""
    if own.ended is ObservationEnd.FAILED:
        return list(failure(own))
    if own.ended is not ObservationEnd.RAN:
        return []
    found = list(drifts(own))
    drifting = {symptom.key for symptom in found}
    keys = [
        key
        for key in COMPARED_KEYS
        if key in own.counters and key not in drifting and (changes or key not in own.expected)
    ]
    reference = index.reference(own, pins, changes=changes) if keys else None
    if reference is not None:
        found += counter_changes(own, reference, keys)
    return found


class _GroupKey(NamedTuple):
    """The facts that two symptoms of one observation share if they have one attribution."""

    answer: Cause
    after: str | None
    since: str | None
    until: str | None
    flags: tuple[FlagDifference, ...]
    rests_on: tuple[str, ...]
    fails: bool
    missing: tuple[MissingRun, ...]
    extensions: tuple[str, ...]


def _merge(answers: Iterable[Attribution]) -> Iterator[Attribution]:
    """Yield the attributions of one observation, those with the same answer as one."""
    groups: dict[_GroupKey, list[Attribution]] = {}
    for found in answers:
        key = _GroupKey(
            answer=found.answer,
            after=found.after,
            since=found.since,
            until=found.until,
            flags=found.flags,
            rests_on=found.rests_on,
            fails=found.symptoms[0].fails,
            missing=found.missing,
            extensions=found.extensions,
        )
        groups.setdefault(key, []).append(found)
    for group in groups.values():
        symptoms = tuple(symptom for found in group for symptom in found.symptoms)
        yield replace(group[0], symptoms=symptoms)


def unanswered(
    judged: Iterable[Judged | tuple[Record, CellVerdict]],
    releases: Releases,
    *,
    names: frozenset[str] | None = None,
    platform: Platform | None = None,
    case: str | None = None,
) -> tuple[tuple[str, str], ...]:
    """Return the cells, by name and platform, of which no run shows whether the selection fails.

    Their runs were interrupted, or had none of these cases.
    """
    selected, answered = set(), set()
    for (where, name_of_case), pairs in RunsIndex.of(judged, environments(releases)).cases.items():
        if platform not in (None, where):
            continue
        for run in (run for runs in pairs.values() for run in runs):
            if names is not None and run.cell.name not in names:
                continue
            selected.add((run.cell.name, where))
            if name_of_case == WHOLE_RUN:
                has_answer = run.ended is ObservationEnd.FAILED
            else:
                has_result = run.ended is not ObservationEnd.NOTHING or not run.applies
                has_answer = has_result and _is_case(name_of_case, case)
            if has_answer:
                answered.add((run.cell.name, where))
    return tuple(sorted(selected - answered))


def _is_case(name: str, selected: str | None) -> bool:
    return selected is None or name == selected or name.partition("[")[0] == selected
