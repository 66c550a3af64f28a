"""One record on a terminal: the verdict, its cases, and the path of the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from matrix._util.text import clean, clip, plural, ratio, seconds
from matrix.record.model import STARTS, Case, Record, Rung, Start, StartKind
from matrix.record.origin import Origin
from matrix.report import full_suite, marks, stock, upstream_suite
from matrix.report.origin import made_words
from matrix.report.provisional import PROVISIONAL, mark, of_rank, release_words
from matrix.report.reasons import event_words, reason_words, recompiles_words
from matrix.report.stock import NOT_STOCK, described
from matrix.report.timings import (
    PARTS,
    artifacts,
    import_seconds,
    other_steps,
    unnamed,
    warm_over_cold,
)
from matrix.rules.counters import DEFAULT_COUNTERS
from matrix.rules.expectations import compare
from matrix.rules.provisional import nearest_release
from matrix.verdict.events import telling
from matrix.verdict.judge import CaseVerdict, CellVerdict, failed_of_full_suite
from matrix.verdict.states import Verdict

DIM = "dim"
"""The state of what says least, for `painted`."""

_COLOURS: Mapping[str, str] = {
    Verdict.COMPATIBLE: "32",
    Verdict.DRIFT: "33",
    Verdict.INCOMPATIBLE: "31",
    Verdict.UNTESTED: "36",
    DIM: "2",
}
_SHORT = {
    "num_compiled_artifacts_saved": "saved",
    "num_compiled_artifacts_loaded": "loaded",
    "aot_autograd.total": "total",
    "aot_autograd.autograd_cache_miss": "miss",
    "aot_autograd.autograd_cache_hit": "hit",
    "num_aot_compiles": "aot",
    "num_aot_artifacts_saved": "aot saved",
    "num_aot_artifacts_loaded": "aot loaded",
}
_LEGEND = (
    "counts  compiled artifacts saved and loaded; AOTAutograd's total, cache miss and cache hit;"
    " whole models compiled ahead of time (aot), saved and loaded"
)
_Paint = Callable[[str, str], str]
_Line = tuple[str, str, str]
_DIGITS = 12  # of a hash, for people


def render(
    record: Record,
    verdict: CellVerdict,
    path: str,
    *,
    colour: bool = False,
    every: bool = False,
    split: bool = False,
    pin: str | None = None,
) -> str:
    """Return the record and its verdict as aligned text, without the record's control characters.

    Counters without a rule are shown with `every` only, the parts of the seconds with `split` only.
    `pin` is the torch that the vLLM of an off-pin cell pins, else None.
    """
    paint = _painter(colour=colour)
    lines = [verdict_line(record, verdict, colour=colour, off_pin=pin is not None)]
    if verdict.reason and verdict.verdict != Verdict.COMPATIBLE:
        lines.append(f"  {clip(clean(reason_words(verdict.reason)), 300)}")
    if record.cases:
        lines += ["", *_cases(record, verdict, paint, every=every)]
    if record.full_suite is not None:
        lines += ["", *full_suite.lines(record.full_suite, every=every)]
    if split and record.cases:
        lines += ["", *_seconds(record)]
    if record.upstream is not None:
        lines += ["", *upstream_suite.lines(record.upstream, record.platform)]
    lines.append("")
    if any(case.expected for case in verdict.cases):
        lines.append(_LEGEND)
    if pin is not None:
        lines.append(f"off-pin its vLLM pins torch {pin}, which was overridden")
    if record.packages and (verdict.departures is None or verdict.not_stock):
        lines.append(f"stock   {_not_stock(verdict)}")
    if record.cpp_compiler is not None and record.cpp_compiler.reason is not None:
        why = clip(clean(record.cpp_compiler.reason), 200)
        lines.append(f"step    failed, so each case asked the C++ compiler itself: {why}")
    if record.inspections is not None and record.inspections.reason is not None:
        why = clip(clean(record.inspections.reason), 200)
        lines.append(f"step    failed, so each case inspected its model itself: {why}")
    lines += [*_facts(record), f"record  {clean(path)}"]
    return "\n".join(lines) + "\n"


def _not_stock(verdict: CellVerdict) -> str:
    """Return what is not as the vLLM requires, all of it; or that nobody knows."""
    named = ", ".join(clip(clean(described(departure)), 120) for departure in verdict.not_stock)
    return f"no: {named}" if named else f"{stock.UNKNOWN}: no record of what its vLLM requires"


def verdict_line(
    record: Record, verdict: CellVerdict, *, colour: bool = False, off_pin: bool = False
) -> str:
    """Return the first line of what is shown of a record: its cell, its verdict, its cases."""
    paint = _painter(colour=colour)
    how = {
        Verdict.COMPATIBLE: " (as expected)",
        Verdict.DRIFT: " (counts differ)",
        Verdict.INCOMPATIBLE: f" at {verdict.rung}" if verdict.rung else "",
    }
    count = len(record.cases)
    cases = plural(count, "case") if count else "no cases"
    if 0 < count < record.total_cases:
        cases = f"{count} of {record.total_cases} cases"
    if record.full_suite:
        failed = len(failed_of_full_suite(record))
        cases += f" and {len(record.full_suite)} of the full suite"
        cases += f" ({failed} failed)" if failed else ""
    took = record.provenance.get("seconds")
    # A run that died before its end knows no seconds of its own.
    time = f" in {took:.0f} s" if isinstance(took, (int, float)) and took > 0 else ""
    word = paint(verdict.verdict, verdict.verdict)
    how[Verdict.UNTESTED] = f" ({mark(verdict.provisional)})" if verdict.provisional else ""
    if verdict.fails_at is not None:
        drifts = verdict.fails_at == Rung.AS_EXPECTED
        how[Verdict.UNTESTED] = " (counts differ)" if drifts else f" (fails at {verdict.fails_at})"
    again = marks.recompile(len(verdict.recompiling))
    apart = f", {NOT_STOCK}" if verdict.not_stock else ""
    apart += f", {again}" if again else ""
    mark_of_upstream = upstream_suite.mark(record.upstream)
    tests = f"; {mark_of_upstream}" if mark_of_upstream else ""
    cell = f"{clean(record.cell)}{' (off-pin)' if off_pin else ''}"
    return (
        f"{cell} on {clean(record.platform)}: {word}{how.get(verdict.verdict, '')}{apart},"
        f" {cases}{time}{tests}"
    )


def _cases(record: Record, verdict: CellVerdict, paint: _Paint, *, every: bool) -> list[str]:
    """Return each case with its verdict below its name, and what its starts counted."""
    rows: list[tuple[str, _Line]] = [("case", ("start", "seconds", "counters"))]
    for case, judged in zip(record.cases, verdict.cases, strict=True):
        lines = _starts(case, judged, every=every)
        lines += [("", "", "")] * (2 - len(lines))
        names = [clip(clean(case.case), 60), judged.verdict]
        rows += zip(names + [""] * (len(lines) - 2), lines, strict=True)
    widths = [max(len(name) for name, _ in rows)]
    widths += [max(len(line[column]) for _, line in rows) for column in (0, 1)]
    return [
        f"{paint(name, name)}{'':<{widths[0] - len(name)}}  {start:<{widths[1]}}"
        f"  {took:>{widths[2]}}  {counters}".rstrip()
        for name, (start, took, counters) in rows
    ]


def _seconds(record: Record) -> list[str]:
    """Return the seconds of each start in aligned columns, and those of the import."""
    head = [*PARTS, "other steps", "unnamed", "warm/cold", "save or load"]
    rows = [["seconds", "start", "total", *head]]
    for case in record.cases:
        for seen in filter(None, map(case.started, STARTS)):
            shares = ratio(warm_over_cold(case)) if seen.start == StartKind.WARM else ""
            name = clip(clean(case.case), 60)
            rows.append([name, seen.start, *_parts(seen), shares, artifacts(seen)])
            for rank in seen.ranks or ():
                own = replace(seen, seconds=rank.seconds)
                rows.append([name, f"rank {rank.rank}", *_parts(own), "", artifacts(own)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, 1, len(widths) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    took = import_seconds(record)
    if took is not None:
        lines.append(f"import {seconds(took)} s, once for all starts")
    if record.jit is not None:
        built = plural(len(record.jit.modules), "kernel module")
        why = f": {clip(clean(record.jit.reason), 200)}" if record.jit.reason else ""
        lines.append(f"jit {seconds(record.jit.seconds)} s before the cases; {built} built{why}")
    if record.cpp_compiler is not None:
        failed = "" if record.cpp_compiler.reason is None else "; the step failed"
        asked = seconds(record.cpp_compiler.seconds)
        lines.append(f"C++ compiler {asked} s while torch and vLLM were imported{failed}")
    if record.inspections is not None:
        failed = "" if record.inspections.reason is None else "; the step failed"
        lines.append(
            f"inspections {seconds(record.inspections.seconds)} s before the cases{failed}"
        )
    return lines


def _parts(seen: Start) -> list[str]:
    """Return the total of a start and its parts; a rank has no total."""
    parts = [seconds(seen.seconds.get(part)) for part in ("total", *PARTS)]
    return [*parts, seconds(other_steps(seen)), seconds(unnamed(seen))]


def _starts(case: Case, judged: CaseVerdict, *, every: bool) -> list[_Line]:
    lines: list[_Line] = []
    for start in STARTS:
        seen = case.started(start)
        if seen is None:
            if judged.verdict != Verdict.NOT_APPLICABLE:
                lines.append((start, seconds(None), "did not run to its end"))
            break
        first, *others = _counted(seen, judged, every=every)
        lines.append((start, seconds(seen.seconds.get("total")), first))
        lines += [("", "", line) for line in others]
        logged = (event for event in telling(judged.events) if event.start == start)
        lines += [("", "", clip(clean(event_words(event)), 200)) for event in logged]
    if judged.recompiles is not None:
        lines.append(("", "", clip(clean(recompiles_words(judged.recompiles)), 300)))
    if judged.reason and not judged.differences and not judged.no_rule:
        lines.append(("", "", clip(clean(reason_words(judged.reason)), 200)))
    return lines


def _counted(seen: Start, judged: CaseVerdict, *, every: bool) -> list[str]:
    """Return what one start counted and should have: one line, and one for each counter."""
    expected = judged.expected.get(seen.start, {})
    near = judged.provisional.nearest.get(seen.start, {}) if judged.provisional else {}
    # A case that failed is not judged by its counters, and has no differences of its own.
    differing = {
        difference.counter
        for known in (expected, near)
        for counters in seen.counted.values()
        for difference in compare(known, counters, seen.start)
    }
    of_ranks = [found for found in judged.differences if found.start == seen.start and found.rank]
    if expected:
        agree = [name for name in expected if name not in differing]
        head = f"{len(agree)} of {len(expected)} as expected"
        if agree:
            agree.sort(key=_rank)
            values = (f"{_SHORT.get(name, clean(name))} {expected[name].value}" for name in agree)
            head += f": {', '.join(values)}"
        listed = sorted(expected) if every else sorted(differing)
    elif near:
        agree = [name for name in near if name not in differing]
        head = f"{PROVISIONAL}: {len(agree)} of {len(near)} as in the nearest known release"
        listed = sorted(near) if every else sorted(differing)
    else:
        head = "nothing expected" if seen.start in judged.no_rule else "not judged"
        listed = [name for name in DEFAULT_COUNTERS if name in seen.counters]
    if every:
        listed += sorted(set(seen.counters) - set(listed))
    shown = {name: clip(clean(name), 60) for name in listed}
    width = max((len(name) for name in shown.values()), default=0)
    if seen.ranks is not None and not of_ranks:
        head += f" (each of {len(seen.ranks)} ranks)"
    lines = [head]
    lines += [
        f"! {clip(clean(found.counter), 60)}{of_rank(found)}"
        f"  observed {'none' if found.observed is None else found.observed:>4}"
        f"  expected {found.expected:>4}"
        for found in of_ranks
    ]
    for name in listed:
        observed = seen.counters.get(name)
        line = f"{'!' if name in differing else ' '} {shown[name]:<{width}}"
        line += f"  observed {'none' if observed is None else observed:>4}"
        if name in expected:
            line += f"  expected {expected[name].value:>4}"
        elif name in near:
            line += f"  was {near[name].value:>4} in {release_words(nearest_release(near[name]))}"
        lines.append(line)
    return lines


def _rank(counter: str) -> tuple[int, str]:
    names = list(_SHORT)
    return (names.index(counter) if counter in names else len(names), counter)


def _facts(record: Record) -> list[str]:
    found = record.provenance
    device = found.get("gpu") or found.get("cpu")
    name = (device.get("name") or device.get("model")) if isinstance(device, dict) else None
    known = [
        f"{label} {clean(str(found[key]))}"
        for key, label in (("torch", "torch"), ("vllm", "vLLM"), ("python", "Python"))
        if found.get(key)
    ]
    if name:
        known.append(f"on {clean(str(name))}")
    if record.jobs > 1:
        known.append(f"{record.jobs} side by side")
    ran = [f"ran     {', '.join(known)}"] if known else []
    installed = [origin for origin in record.origins or () if origin.candidate or origin.version]
    return [*ran, *map(_from, installed)]


def _from(origin: Origin) -> str:
    """Return where a torch or a vLLM is from: of a candidate its name and build as well."""
    if origin.candidate is None:
        return _from_an_index(origin)
    facts = [origin.file, f"of {origin.index}" if origin.index else None]
    facts += [made_words(origin)]
    facts += [f"git {origin.revision[:_DIGITS]}" if origin.revision else None]
    known = clean(", ".join(fact for fact in facts if fact))
    name, identity = origin.candidate.name, origin.candidate.identity
    return f"from    {name}, build {identity}{f': {known}' if known else ''}"


def _from_an_index(origin: Origin) -> str:
    """Return where a release is from, and what of it is unknown."""
    facts = [
        origin.file or f"{origin.project} {origin.version}",
        f"of {origin.index}" if origin.index else "index unknown",
        f"SHA-256 {origin.sha256[:_DIGITS] if origin.sha256 else 'unknown'}",
        f"git {origin.revision[:_DIGITS] if origin.revision else 'unknown'}",
    ]
    facts += [f"uploaded {origin.built[:10]}"] if origin.built else []
    return f"from    {clean(', '.join(facts))}"


def painted(text: str, state: str, *, colour: bool) -> str:
    """Return the text in the colour of a verdict, or of another state that has one."""
    code = _COLOURS.get(state) if colour else None
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def _painter(*, colour: bool) -> _Paint:
    def paint(text: str, verdict: str) -> str:
        return painted(text, verdict, colour=colour)

    return paint
