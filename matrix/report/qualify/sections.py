"""The sections of a qualification as plain lines and rows, which text and Markdown share."""

from __future__ import annotations

import json
import shlex
from collections.abc import Container, Iterable, Iterator, Sequence

from packaging.version import Version

from matrix._util.grouped import group
from matrix._util.text import clean, clip, listed, plural, spans
from matrix.catalog.cells import build_of
from matrix.catalog.projects import Project
from matrix.qualify.caveats import InstallsAnother
from matrix.qualify.model import (
    Drift,
    DriftKind,
    Failure,
    FailureKind,
    Qualification,
    QualificationVerdict,
    Unknown,
)
from matrix.qualify.reasons import ExtensionNotTestable
from matrix.qualify.static_checks import RungChange, RungComparison, Standing
from matrix.record.model import STARTS, WHOLE_RUN, CellRef, Departure, Rung
from matrix.report.qualify.sentences import (
    caveat_sentence,
    no_times_sentence,
    unknown_sentence,
    variant_phrase,
)
from matrix.report.reasons import reason_words
from matrix.report.stock import described
from matrix.rules.waivers import Waiver

FAILURES = {
    FailureKind.REGRESSION: "Regressions: passed at the baseline",
    FailureKind.FAILS_OTHERWISE: (
        "Failures with another signature, or at another rung, than the baseline's"
    ),
    FailureKind.FAILS_AS_BEFORE: "Failures that the baseline has too",
    FailureKind.REPAIR: "Repairs: failed at the baseline",
}
DRIFTS = {
    DriftKind.UNEXPECTED: "Counters that differ from this release's own expectation",
    DriftKind.NO_RULE: "Counters that changed and have no expectation yet",
    DriftKind.EXPECTED: "Counters that changed as expected",
    DriftKind.EXPECTED_AGAIN: "Counters that are as expected again",
    DriftKind.AS_BEFORE: "Counters that drift as they did before",
    DriftKind.NEW: "Counters that the baseline did not count",
    DriftKind.NOT_JUDGED: "Counters that changed and are not judged",
}
FLAGS = "Effective flags that differ"
FIRST_RUNGS = "First rungs, which need no run; a passed rung is not an answer"
TIMES = "Seconds, which are not judged"
_NOT_TESTABLE = "Cannot be asked with these wheels: no regression, and no answer"
_CHANGES = {RungChange.NOT_TESTABLE: "cannot be asked with these wheels"}
_MOST_NAMES = 2


def title(qualification: Qualification) -> str:
    """Return the query in one line."""
    query, platforms = qualification.query, qualification.platforms
    on = f" on {listed(platforms)}" if platforms else ""
    under = f", under {query.other.label} {query.under}" if query.under else ""
    if query.others:
        others = listed([release_name(query.other, other) for other in query.others])
        under += f", under {others}"
    python = f", Python {listed(query.pythons)}" if query.pythons else ""
    cases = f", {listed(query.cases)} alone" if query.cases else ""
    name = release_name(query.project, query.candidate)
    return f"{name} against {query.baseline}{on}{under}{python}{cases}"


def release_name(project: Project, version: str) -> str:
    """Return what a person calls a release, or a candidate by its release key.

    >>> release_name(Project.TORCH, "2.15.0")
    'torch 2.15.0'
    >>> release_name(Project.TORCH, "2.16.0+torch216rc1.b3f2a9c81d0e5c77")
    'torch216rc1 (torch 2.16.0, build b3f2a9c81d0e5c77)'
    """
    build = build_of(version)
    if build is None:
        return f"{project.label} {version}"
    public = version.partition("+")[0]
    return f"{build.name} ({project.label} {public}, build {build.identity})"


def counts(qualification: Qualification) -> str:
    """Return how much was compared and found."""
    kinds = [
        failure.kind
        for failure in qualification.failures
        if failure.fails or failure.kind is FailureKind.REPAIR
    ]
    drifts = [drift for drift in qualification.drifts if drift.fails]
    broken = kinds.count(FailureKind.REGRESSION) + kinds.count(FailureKind.FAILS_OTHERWISE)
    waived = sum(count for _, count in qualification.waivers)
    untestable = [unknown.case for unknown in qualification.blocking if unknown.rung is not None]
    cases = sum(case != WHOLE_RUN for case in untestable)
    unknown = len(qualification.blocking) - len(untestable)
    doubtful = qualification.doubtful
    parts = [
        plural(broken, "regression"),
        plural(kinds.count(FailureKind.REPAIR), "repair"),
        _drifts_of(drifts),
        *([f"{_drifts_of(doubtful)} that may be an extension's"] if doubtful else []),
        *([f"{waived} waived"] if waived else []),
        f"{unknown} not known",
        *(
            f"{plural(count, what)} cannot be asked"
            for count, what in ((len(untestable) - cases, "cell"), (cases, "case"))
            if count
        ),
    ]
    cells = sum(match.compared > 0 for match in qualification.matches)
    compared = f"{plural(qualification.compared, 'case')} of {plural(cells, 'cell')} compared"
    return f"{compared}: {', '.join(parts)}"


def _drifts_of(drifts: Sequence[Drift]) -> str:
    """Return how many drifts there are, and in how many cases."""
    cases = {(drift.place, drift.case) for drift in drifts}
    return plural(len(drifts), "drift") + (f" in {plural(len(cases), 'case')}" if cases else "")


def obstacles(qualification: Qualification) -> list[str]:
    """Return why the candidate does not qualify, apart from the failures that are listed."""
    lines = []
    not_enough = qualification.verdict is QualificationVerdict.NOT_ENOUGH
    if not qualification.compared:
        lines.append("no case has an answer on both sides, so nothing was compared")
    elif not qualification.passed and not_enough:
        lines.append("no case that was compared passes, so nothing shows that it works")
    failing = list(qualification.failing)
    if failing and all(_has_no_rule(finding) for finding in failing):
        lines.append(
            "every drift is of a counter that no expectation names, so `matrix grid` shows these"
            " cells as expected and `matrix attribute` finds nothing; a rule or a waiver decides"
        )
    if any(finding.waived.expired for finding in qualification.failing):
        lines.append(
            "a failure that an expired waiver accepted counts again, also if the baseline has it"
        )
    if qualification.unread:
        lines.append(f"{plural(qualification.unread, 'record')} could not be read, and may decide")
    one_sided = [
        unknown
        for unknown in qualification.blocking
        if not isinstance(unknown.reason, ExtensionNotTestable)
    ]
    if not_enough and one_sided and qualification.compared:
        lines.append("results on only one side are not enough; see the unknown results")
    if qualification.doubtful and not_enough:
        lines.append(
            "a drift decides nothing where an extension that does not link with the candidate may"
            " be why; a waiver accepts it"
        )
    if any(unknown.rung == Rung.LINKS for unknown in qualification.blocking):
        lines.append(
            "what cannot be asked with these wheels has no answer until one is built for that"
            " torch; --under asks without it, and a waiver of its signature accepts that"
        )
    return lines


def _has_no_rule(finding: Failure | Drift) -> bool:
    return isinstance(finding, Drift) and finding.kind is DriftKind.NO_RULE


def failure_sections(qualification: Qualification) -> Iterator[tuple[str, list[Failure]]]:
    """Yield the failures of each kind with their title."""
    for kind, heading in FAILURES.items():
        failures = [failure for failure in qualification.failures if failure.kind is kind]
        if failures:
            yield heading, failures


def signatures_before(signature: str, failures: Iterable[Failure]) -> list[str]:
    """Return the signatures that failures of one signature have at the baseline."""
    return sorted(
        {failure.before for failure in failures if failure.before and failure.before != signature}
    )


def drift_sections(qualification: Qualification) -> Iterator[tuple[str, list[Drift]]]:
    """Yield the drifts of each kind with their title, in their order.

    Cold comes before warm, and the counters that expectations name come first.
    """

    def order(drift: Drift) -> tuple[int, bool, str, int, int]:
        before, after = (-1 if count is None else count for count in (drift.before, drift.after))
        return STARTS.index(drift.start), not drift.judged, drift.counter, before, after

    for kind, heading in DRIFTS.items():
        drifts = [drift for drift in qualification.drifts if drift.kind is kind]
        if drifts:
            yield heading, sorted(drifts, key=order)


def change(drift: Drift, arrow: str = "->") -> str:
    """Return what a counter counted on both sides."""
    text = _count(drift.after)
    if not drift.alone:
        text = f"{_count(drift.before)}{arrow}{text}"
    unexpected = drift.kind is DriftKind.UNEXPECTED
    return f"{text} (expected {drift.expected})" if unexpected else text


def flag_lines(qualification: Qualification) -> list[str]:
    """Return each flag that differs, and how many of the drifts are where it does."""
    minor = (DriftKind.AS_BEFORE, DriftKind.NEW, DriftKind.NOT_JUDGED)
    drifting = [drift for drift in qualification.drifts if drift.kind not in minor]
    groups = group(
        qualification.flags,
        lambda flag: (flag.flag, json.dumps(flag.before), json.dumps(flag.after)),
    )
    lines = []
    for (name, before, after), flags in groups.items():
        cases = {(flag.place, flag.case) for flag in flags}
        together = sum((drift.place, drift.case) in cases for drift in drifting)
        same = qualification.compared - len(cases)
        impact = _flag_impact(together, len(drifting), same) if drifting else ""
        lines.append(
            f"{clean(name)}: {clean(before)}, now {clean(after)}, in {len(cases)} of"
            f" {plural(qualification.compared, 'case')}{impact}"
        )
    return lines


def _flag_impact(together: int, drifts: int, same: int) -> str:
    """Return how many of the drifts are in cases where a flag differs.

    `same` is the number of cases where it does not.
    """
    if together < drifts:
        return f"; {together} of {plural(drifts, 'counter change')} are there"
    none = f", and none in the {plural(same, 'case')} where it is the same" if same else ""
    return f"; all {plural(together, 'counter change')} are there{none}"


def unknown_sections(qualification: Qualification) -> Iterator[tuple[str, list[str]]]:
    """Yield the lines of what is unknown, and of what is not testable, each with its title."""
    unknown = qualification.unknown
    for heading, items in (
        ("Not known", [item for item in unknown if item.rung is None]),
        (_NOT_TESTABLE, [item for item in unknown if item.rung is not None]),
    ):
        if items:
            yield heading, _unknown_lines(items)


def _unknown_lines(unknown: Sequence[Unknown]) -> list[str]:
    """Return what blocks first; the same reason of many cases is one line."""
    groups = group(
        sorted(unknown, key=lambda item: not item.blocks),
        lambda item: (item.cell, item.platform, unknown_sentence(item), mark(item), item.blocks),
    )
    lines = []
    for (cell, platform, sentence, marked, blocks), items in groups.items():
        names = [case_name(item.case) for item in items if item.case != WHOLE_RUN]
        cases = f", {few(names)}" if names else ""
        more = f" ({marked})" if marked else ""
        counts_not = "" if blocks else "; this does not count"
        lines.append(f"{cell} on {platform}{cases}: {clip(clean(sentence), 400)}{more}{counts_not}")
    return lines


def rung_rows(rungs: Sequence[RungComparison], project: str) -> list[list[str]]:
    """Return the rungs as rows of plain text: both standings, of what, and what it means.

    Releases that fare alike but for their reason are one row, with the reasons in it.
    """
    groups = group(
        rungs, lambda row: (row.platform, row.baseline, row.candidate, row.change, row.pythons)
    )
    order = list(dict.fromkeys(other for row in rungs for other in row.others))
    order.sort(key=Version)
    rows = []
    for (platform, before, after, changed, pythons), items in groups.items():
        others = {other for row in items for other in row.others}
        places = [place for place, other in enumerate(order) if other in others]
        on = f" on Python {listed(pythons)}" if pythons else ""
        reasons = list(
            dict.fromkeys(clean(why) for row in items if (why := reason_words(row.reason)))
        )
        more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        why = f"{clip(reasons[0], 160)}{more}" if reasons and changed is not None else ""
        what = "" if changed is None else _CHANGES.get(changed, changed)
        rows.append(
            [
                platform,
                f"{_standing(before)} -> {_standing(after)}",
                f"{project} {spans(order, places)}{on}",
                ": ".join(filter(None, [what, why])),
            ]
        )
    return rows


def _standing(standing: Standing) -> str:
    return f"no {standing.fails}" if standing.fails else standing.passed or "not asked"


def no_times_lines(qualification: Qualification) -> list[str]:
    """Return why seconds are not comparable, and in which cells."""
    found = [
        (no_times_sentence(match.no_times), match.candidate.place)
        for match in qualification.matches
        if match.no_times is not None
    ]
    return [
        f"{sentence}: {few([place_name(place) for _, place in places], 'cell')}"
        for sentence, places in group(found, lambda item: item[0]).items()
    ]


def conditions(waiver: Waiver) -> str:
    """Return the cell and the platform that a waiver names, in brackets."""
    where = [text for text in (waiver.cell, waiver.platform) if text is not None]
    return f" ({', '.join(where)})" if where else ""


def if_expired(qualification: Qualification, waiver: Waiver) -> str:
    """Return when an unused waiver expired, or nothing."""
    return f" and expired on {waiver.until}" if waiver.expired(qualification.today) else ""


def notes(qualification: Qualification) -> list[str]:
    """Return the caveats of the query, of records and of pairs of records, each once."""
    lines = [
        caveat_sentence(caveat)
        for caveat in qualification.caveats
        if not isinstance(caveat, InstallsAnother)
    ]
    lines += _unnamed_lines(
        [caveat for caveat in qualification.caveats if isinstance(caveat, InstallsAnother)]
    )
    for match in qualification.matches:
        name = place_name(match.candidate.place)
        lines += [f"{name}: {caveat_sentence(caveat)}" for caveat in match.caveats]
    if qualification.elsewhere:
        lines.append(
            f"{plural(qualification.elsewhere, 'waiver')} of other releases or platforms left out"
        )
    return list(dict.fromkeys(lines))


def _unnamed_lines(caveats: Sequence[InstallsAnother]) -> list[str]:
    """Return which patch has no name of tox, one line a patch, and how it gets one."""
    lines = []
    groups = group(caveats, lambda caveat: (caveat.project, caveat.candidate, caveat.release))
    for (project, asked, release), alike in groups.items():
        first, *rest = [caveat.cell for caveat in alike]
        more = f" and {plural(len(rest), 'other cell')}" if rest else ""
        install = "install" if rest else "installs"
        patch = f"{project.label} {asked}"
        lines.append(
            f"{first}{more} {install} {project.label} {release}, and no cell name means {patch}, so"
            f" no run is proposed; `matrix candidate add NAME --wheel WHEEL`"
            f" gives the wheel of {patch} a name"
        )
    return lines


def commands(qualification: Qualification, given: Sequence[str]) -> list[str]:
    """Return what runs the candidate's cells again, or for the first time, and asks this again.

    Where the run that counts is not stock, its packages stand behind the command, and so do those
    of the baseline. A run is left out if the cell's name would install another patch.
    """
    query = qualification.query
    apart = {
        (caveat.cell, caveat.candidate)
        for caveat in qualification.caveats
        if isinstance(caveat, InstallsAnother)
    }
    cells: dict[tuple[str, str], tuple[Departure, ...]] = {
        (unknown.decides or unknown.cell, unknown.platform): ()
        for unknown in qualification.unknown
        if unknown.blocks and unknown.rung is None and not _is_apart(unknown.place, apart)
    }
    for match in qualification.matches:
        place = match.candidate.place
        if _is_apart(place, apart):
            continue
        cells.setdefault((place.cell, place.platform), ())
        for run in (match.baseline, match.candidate):
            if run.not_stock:
                cells[run.place.cell, run.place.platform] = run.not_stock
    which = query.platforms[0] if len(query.platforms) == 1 else "all"
    more = "".join(f" --python {python}" for python in query.pythons)
    more += f" --under '{query.under}'" if query.under else ""
    more += "".join(f" {shlex.quote(part)}" for part in given)
    again = f"matrix qualify --{query.project} {query.candidate} --baseline {query.baseline}"
    build = build_of(query.candidate)
    if build is not None:
        again = f"matrix qualify {build.name} --baseline {query.baseline}"
        more += " --quick" if query.cases else ""
    runs = [
        f"tox -e {cell} -- --platform {platform}{_stock_comment(packages)}"
        for (cell, platform), packages in cells.items()
    ]
    return [*runs, f"{again} --platform {which}{more}"]


def _is_apart(place: CellRef | None, apart: Container[tuple[str, str]]) -> bool:
    """Return whether the cell's name installs another patch than the run must have."""
    if place is None:
        return False
    return (place.cell, place.torch) in apart or (place.cell, place.vllm) in apart


def _stock_comment(packages: Sequence[Departure]) -> str:
    """Return the shell's comment that a command must have a stock environment; "" for no packages.

    The texts are of a record, and a comment ends with its line.
    """
    if not packages:
        return ""
    differ = clip(clean(", ".join(map(described, packages))), 200)
    return f"  # in a stock environment; that of the run that counts is not: {differ}"


def mark(finding: Failure | Drift | Unknown) -> str:
    """Return what sets a finding apart: its variant, packages that are not stock, its waiver."""
    marks = []
    if not isinstance(finding, Unknown) and finding.variant is not None:
        marks.append(f"with {variant_phrase(finding.variant)}")
    if isinstance(finding, Drift) and finding.not_stock:
        sides = listed(finding.not_stock)
        marks.append(f"the {sides} is not stock, so packages may be why: a stock run is missing")
    if isinstance(finding, Drift) and finding.without:
        marks.append(f"{listed(finding.without)} may be why")
    waiver, expired = finding.waived
    if waiver is not None:
        marks.append(f"waived by {waiver.id}")
    elif expired is not None:
        marks.append(f"waiver {expired.id} expired on {expired.until}")
    return ", ".join(marks)


def place_name(place: CellRef) -> str:
    """Return the cell and the platform of a place."""
    return f"{place.cell} on {place.platform}"


def failure_name(failure: Failure) -> str:
    """Return what failed: a case, the whole run, or a rung without a run."""
    return case_name(failure.case) if failure.ran else "no run, the rung alone"


def case_name(case: str) -> str:
    """Return the name of a case, clipped, or that of the whole run."""
    return clip(clean(case), 80) if case != WHOLE_RUN else "the whole run"


def _count(value: int | None) -> str:
    return "none" if value is None else str(value)


def few(names: Sequence[str], what: str = "case") -> str:
    """Return the names, or how many where they are many; a name of two cells counts twice."""
    return ", ".join(names) if len(names) <= _MOST_NAMES else plural(len(names), what)
