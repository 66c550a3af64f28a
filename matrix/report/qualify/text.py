"""A qualification as aligned text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from matrix._util.grouped import group
from matrix._util.text import aligned, clean, seconds
from matrix.qualify.model import Drift, Failure, Qualification
from matrix.report.provisional import rank_words
from matrix.report.qualify import sections, unjudged
from matrix.store.stats import median


def lines(qualification: Qualification, given: Sequence[str] = ()) -> str:
    """Return the text, without any control character of a record's.

    `given` are the command's arguments that are not of the query: files and folders.
    """
    rows = [f"{sections.title(qualification)}: {qualification.verdict}"]
    rows.append(f"  {sections.counts(qualification)}")
    rows += [f"  {line}" for line in sections.obstacles(qualification)]
    rows += [f"  {clean(line)}" for line in unjudged.alerts(qualification)]
    warm = unjudged.warm_code_lines(qualification)
    rows += _section(unjudged.WARM_CODE, [f"  {clean(line)}" for line in warm])
    for heading, failures in sections.failure_sections(qualification):
        rows += ["", heading, *_failure_lines(failures)]
    flags = sections.flag_lines(qualification)
    rows += _section(sections.FLAGS, [f"  {line}" for line in flags])
    for heading, drifts in sections.drift_sections(qualification):
        rows += ["", heading, *_drift_lines(drifts)]
    rows += _unjudged_sections(qualification)
    for heading, unknown in sections.unknown_sections(qualification):
        rows += ["", heading, *(f"  {clean(line)}" for line in unknown)]
    rows += _section(sections.FIRST_RUNGS, _rung_lines(qualification))
    rows += _section(sections.TIMES, _time_lines(qualification))
    rows += _section("Waivers", [f"  {clean(line)}" for line in _waiver_lines(qualification)])
    notes = sections.notes(qualification)
    rows += _section("Notes", [f"  {clean(line)}" for line in notes])
    commands = sections.commands(qualification, given)
    rows += _section("To repeat, or to know more", [f"  {line}" for line in commands])
    return "\n".join(row.rstrip() for row in rows) + "\n"


def _unjudged_sections(qualification: Qualification) -> list[str]:
    defaults = unjudged.default_lines(qualification)
    metrics = unjudged.metric_rows(qualification)
    return [
        *_section(unjudged.DEFAULTS, [f"  {clean(line)}" for line in defaults]),
        *_section(
            unjudged.METRICS,
            aligned([[f"  {row[0]}", *row[1:]] for row in metrics]) if metrics else [],
        ),
    ]


def _section(heading: str, rows: list[str]) -> list[str]:
    return ["", heading, *rows] if rows else []


def _failure_lines(failures: Sequence[Failure]) -> list[str]:
    rows = []
    for signature, alike in group(failures, lambda item: item.signature).items():
        rows.append(f"  {clean(signature)}")
        groups = group(alike, lambda item: (item.place, item.rung))
        for (place, rung), items in groups.items():
            where = f"    {sections.place_name(place)}, {rung}: "
            rows += [f"{where}{sections.failure_name(item)}{_marked(item)}" for item in items]
        before = sections.signatures_before(signature, alike)
        rows += [f"    at the baseline: {clean(text)}" for text in before]
    return rows


def _marked(failure: Failure) -> str:
    mark = clean(sections.mark(failure))
    return f" ({mark})" if mark else ""


def _drift_lines(drifts: Sequence[Drift]) -> list[str]:
    """Return one line a counter and start, with each of its changes, the most frequent first."""
    groups = group(
        drifts,
        lambda drift: (drift.start, drift.counter, rank_words(drift.rank), sections.mark(drift)),
    )
    rows = []
    for (start, counter, rank, mark), items in groups.items():
        changes = Counter(sections.change(drift) for drift in items)
        rows.append(
            [
                f"  {start}",
                f"{clean(counter)}{rank}",
                ", ".join(change for change, _ in changes.most_common()),
                sections.few([sections.case_name(drift.case) for drift in items]),
                clean(mark),
            ]
        )
    return aligned(rows)


def _rung_lines(qualification: Qualification) -> list[str]:
    rows = sections.rung_rows(qualification.rungs, qualification.query.other.label)
    return aligned([[f"  {row[0]}", *row[1:]] for row in rows]) if rows else []


def _time_lines(qualification: Qualification) -> list[str]:
    rows = [
        [
            f"  {time.start}",
            seconds(median(time.before)),
            "->",
            seconds(median(time.after)),
            sections.case_name(time.case),
            sections.place_name(time.place),
        ]
        for time in qualification.times
    ]
    head = ["  start", "from", "", "to, s", "case", "cell"]
    table = aligned([head, *rows], right=(1, 3)) if rows else []
    more = [*sections.no_times_lines(qualification), *unjudged.speed_lines(qualification)]
    return [*table, *(f"  {clean(line)}" for line in more)]


def _waiver_lines(qualification: Qualification) -> list[str]:
    rows = [
        f"{waiver.id} waives {count}, until {waiver.until}: {waiver.why} ({waiver.link})"
        for waiver, count in qualification.waivers
    ]
    rows += [
        f"{waiver.id} EXPIRED on {waiver.until}, so {count} it waived count again: {waiver.link}"
        for waiver, count in qualification.expired
    ]
    rows += [
        f"{waiver.id} matches nothing here{sections.if_expired(qualification, waiver)}; remove it"
        f" if the failure is fixed: {waiver.link}"
        for waiver in qualification.unused
    ]
    rows += [
        f"{waiver.id} matches the candidate but no compared cell"
        f"{sections.conditions(waiver)}; correct or remove it: {waiver.link}"
        for waiver in qualification.unmatched
    ]
    return rows
