"""Whether a record's environment was as its vLLM requires: what the record says, or else its data.

Pure but for the data of the package. A record from before `departures` does not say; the packages
that it lists are then held against the requirements that `matrix.catalog.requirements` has of its
vLLM. These are the direct ones, so that such an answer may miss what a newer record would name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from matrix._util.versions import parse_version
from matrix.catalog.requirements import known_requirements
from matrix.record.model import Departure, ErrorKind, Outcome, Record, Why
from matrix.record.stock import (
    TORCH_FAMILY,
    Environment,
    attributed,
    departures,
    named_by,
    not_stock,
    parsed,
)

BROKEN_PAIR = frozenset({ErrorKind.BUILDS, ErrorKind.IMPORTS, ErrorKind.RESOLVES})
"""The kinds of error that the pair can cause; `blames_pair` of `judge` tells whether it did."""

_FAILED = (Outcome.FAILED, Outcome.CRASHED, Outcome.TIMED_OUT)


def departures_of(record: Record) -> tuple[Departure, ...] | None:
    """Return what of the record's environment was not as its vLLM requires, None where unknown.

    What an off-pin cell overrides is among them (`matrix.record.stock.not_stock` leaves it out).
    """
    if record.departures is not None:
        return record.departures
    vllm = record.packages.get("vllm")
    lines = known_requirements().get(vllm) if vllm else None
    if lines is None:
        return None
    facts = (str(record.provenance.get(key) or "") for key in ("python", "machine"))
    packages = record.packages
    there = frozenset([(name, packages[name]) for name in _names(lines) & packages.keys()])
    return _computed(lines, there, *facts)


def blamed(record: Record, *failures: str | None) -> Departure | None:
    """Return the package that is not as required and that a failure names as its cause, or None."""
    for failure in failures:
        # Most records end here: the answer needs no look at their packages.
        if failure and "rror" in failure:
            departure = named_by(departures_of(record), failure)
            if departure is not None:
                return departure
    return None


def hindrance(record: Record) -> Departure | None:
    """Return a package that is not as required, where a run or a case of it failed for it, or None.

    In an environment that is not stock any failure may be its own, whatever the failure names.
    Such a run has no answer there, however complete it is.
    """
    error = record.error
    reasons = [error.reason] if error is not None and error.kind in BROKEN_PAIR else []
    reasons += [rung.reason or "" for rung in record.rungs if not rung.ok]
    failed = [case for case in record.cases if case.outcome in _FAILED]
    if not reasons and not failed:
        return None
    causes = (blamed(record, case.reason, case.signature) for case in failed)
    apart = not_stock(departures_of(record))
    return blamed(record, *reasons) or next(filter(None, causes), None) or next(iter(apart), None)


@lru_cache(maxsize=64)
def _names(lines: tuple[str, ...]) -> frozenset[str]:
    """Return the packages that these lines name, whatever their markers."""
    return frozenset(canonicalize_name(parsed(line).name) for line in lines)


@lru_cache(maxsize=256)
def _computed(
    lines: tuple[str, ...], there: frozenset[tuple[str, str]], python: str, machine: str
) -> tuple[Departure, ...] | None:
    """Return the departures of packages; many records share one environment."""
    markers = _markers(python, machine)
    if markers is None:
        return None
    versions = {"vllm": "", **dict(there)}
    found = departures(
        Environment(
            versions=versions,
            requires=lambda name: lines if name == "vllm" else (),
            twice={},
            markers=markers,
        )
    )
    # The name of a cell says which torch it has: another than the pin is there on purpose.
    off_pin = any(departure.name == "torch" for departure in found)
    return attributed(found, left_out=(), overridden=TORCH_FAMILY if off_pin else ())


def _markers(python: str, machine: str) -> Mapping[str, str] | None:
    """Return the values of markers in the record's environment; None where it does not say."""
    try:
        release = parse_version(python).release
    except InvalidVersion:
        return None
    if not machine or len(release) < 2:
        return None
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": python,
        "python_version": ".".join(map(str, release[:2])),
        "sys_platform": "linux",
    }


def departure_signature(departure: Departure) -> str:
    """Return a package that differs in comparable form.

    Waivers hold it, so it stays as it is when a report words the difference otherwise.
    """
    name, required, version = departure.name, departure.required, departure.installed
    return {
        Why.MISSING: f"{required} is missing",
        Why.OTHER_VERSION: f"{name} is {version}, not {required}",
        Why.OVERRIDDEN: f"{name} is {version}, an override of {required}",
        Why.OTHER_TORCH: f"{name} {version} is for {required}",
        Why.TWO_VERSIONS: f"{name} is there as {version}",
        Why.UNREADABLE: f"the metadata of {name} {version} cannot be read",
    }[departure.why]
