"""A record without what is secret, and without folders, users and hosts of this machine.

Importable inside a cell: the session of a run writes its record so, and the run cleans it once more
at its end. So a run that was killed leaves nothing that another would not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from matrix._util.text import clip
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.inspections import Inspections
from matrix.record.jit import Jit
from matrix.record.model import (
    EVENT_LIMIT,
    Case,
    Defaults,
    DefaultValue,
    Event,
    Record,
    RunError,
    RungResult,
    Start,
    clip_failure,
)
from matrix.record.scrub import scrub
from matrix.record.upstream import UpstreamSuite


def clean_record(record: Record, root: Path) -> Record:
    """Return the whole record so; `root` is the checkout."""
    origins = record.origins and tuple(
        replace(origin, index=_text(origin.index, root), file=_text(origin.file, root))
        for origin in record.origins
    )
    return replace(
        record,
        error=record.error and clean_error(record.error, root),
        rungs=tuple(clean_rung(rung, root) for rung in record.rungs),
        cases=tuple(clean_case(case, root) for case in record.cases),
        full_suite=record.full_suite
        and tuple(clean_case(case, root) for case in record.full_suite),
        jit=record.jit and clean_jit(record.jit, root),
        cpp_compiler=record.cpp_compiler and clean_cpp_compiler(record.cpp_compiler, root),
        inspections=record.inspections and clean_inspections(record.inspections, root),
        departures=record.departures
        and tuple(
            replace(departure, required=scrub(departure.required, root))
            for departure in record.departures
        ),
        origins=origins,
        defaults=clean_defaults(record.defaults, root),
        upstream=record.upstream and clean_upstream(record.upstream, root),
    )


def clean_case(case: Case, root: Path) -> Case:
    """Return the case so."""
    return replace(
        case,
        reason=_text(case.reason, root),
        signature=_text(case.signature, root),
        failure=case.failure and clip_failure(scrub(case.failure, root)),
        starts=tuple(_start(start, root) for start in case.starts),
    )


def clean_error(error: RunError, root: Path) -> RunError:
    """Return the error so."""
    return replace(error, reason=scrub(error.reason, root))


def clean_rung(rung: RungResult, root: Path) -> RungResult:
    """Return the rung so."""
    return replace(rung, reason=_text(rung.reason, root))


def clean_jit(jit: Jit, root: Path) -> Jit:
    """Return what was built just in time so."""
    return replace(jit, reason=_text(jit.reason, root))


def clean_cpp_compiler(step: CppCompiler, root: Path) -> CppCompiler:
    """Return the step that asks the C++ compiler so."""
    return replace(step, reason=_text(step.reason, root))


def clean_inspections(step: Inspections, root: Path) -> Inspections:
    """Return the step that inspects the models so."""
    return replace(step, reason=_text(step.reason, root))


def clean_upstream(suite: UpstreamSuite, root: Path) -> UpstreamSuite:
    """Return what upstream's own tests did so."""
    cases = tuple(
        replace(
            case,
            case=scrub(case.case, root),
            reason=_text(case.reason, root),
            signature=_text(case.signature, root),
            failure=case.failure and clip_failure(scrub(case.failure, root)),
        )
        for case in suite.cases
    )
    return replace(suite, cases=cases)


def clean_defaults(defaults: Defaults | None, root: Path) -> Defaults | None:
    """Return the defaults without those whose texts name a user, a host or a folder."""
    if defaults is None:
        return None

    def is_clean(value: DefaultValue) -> bool:
        texts = value if isinstance(value, list) else [value]
        return all(scrub(text, root) == text for text in texts if isinstance(text, str))

    return {
        module: {name: value for name, value in named.items() if is_clean(value)}
        for module, named in defaults.items()
    }


def _start(start: Start, root: Path) -> Start:
    ranks = start.ranks and tuple(
        replace(rank, events=_events(rank.events, root)) for rank in start.ranks
    )
    return replace(start, events=_events(start.events, root), ranks=ranks)


def _text(text: str | None, root: Path) -> str | None:
    return None if text is None else scrub(text, root)


def _events(events: tuple[Event, ...] | None, root: Path) -> tuple[Event, ...] | None:
    if events is None:
        return None
    return tuple(
        replace(event, text=clip(scrub(event.text, root), EVENT_LIMIT)) for event in events
    )
