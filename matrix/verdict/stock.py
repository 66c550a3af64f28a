"""Whether a record's environment was as its vLLM requires, by the record or the data.

Pure but for the data of the package. A record from before `departures` does not say; the packages
that it lists are then compared with the requirements in `matrix.catalog.requirements` for its vLLM.
These are the direct ones, so that such an answer may miss what a newer record would name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from matrix._util.versions import parse_version
from matrix.catalog.requirements import known_requirements
from matrix.record.model import Departure, ErrorKind, Outcome, Record, Why
from matrix.record.stock import (
    TORCH_FAMILY,
    InstalledPackages,
    attributed,
    departures,
    named_by,
    not_stock,
)

BROKEN_PAIR = frozenset({ErrorKind.BUILDS, ErrorKind.IMPORTS, ErrorKind.RESOLVES})
"""The kinds of error that the pair can cause; `blames_pair` of `judge` tells whether it did."""

_FAILED = (Outcome.FAILED, Outcome.CRASHED, Outcome.TIMED_OUT)
# What a line of `Requires-Dist` begins with (PEP 508); to parse all of it takes longer.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def departures_of(record: Record) -> tuple[Departure, ...] | None:
    """Return what of the record's environment was not as its vLLM requires, None if unknown.

    What an off-pin cell overrides is among them (`matrix.record.stock.not_stock` leaves it out).
    """
    if record.departures is not None:
        return record.departures
    vllm = record.packages.get("vllm")
    lines = known_requirements().get(vllm) if vllm else None
    if lines is None:
        return None
    python, machine = (str(record.provenance.get(key) or "") for key in ("python", "machine"))
    if _markers(python, machine) is None:
        return None
    found: dict[str, Departure] = {}
    for line, name in _named(lines):
        departure = _of_line(line, name, record.packages.get(name), python, machine)
        if departure is not None:
            found.setdefault(departure.name, departure)
    # The name of a cell says which torch it has: another than the pin is there on purpose.
    return attributed(
        [found[name] for name in sorted(found)],
        left_out=(),
        overridden=TORCH_FAMILY if "torch" in found else (),
    )


def blamed(departures: tuple[Departure, ...] | None, *failures: str | None) -> Departure | None:
    """Return the one of a record's departures that a failure names as its cause, or None."""
    for failure in failures:
        if failure and "rror" in failure:
            departure = named_by(departures, failure)
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
    there = departures_of(record)
    causes = (blamed(there, case.reason, case.signature) for case in failed)
    apart = not_stock(there)
    return blamed(there, *reasons) or next(filter(None, causes), None) or next(iter(apart), None)


@lru_cache(maxsize=64)
def _named(lines: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return each line with the package that it names; with "" if it begins with no name."""
    return tuple((line, _name(line)) for line in lines)


def _name(line: str) -> str:
    found = _NAME.match(line)
    return canonicalize_name(found[0]) if found else ""


@lru_cache(maxsize=16384)
def _of_line(
    line: str, name: str, installed: str | None, python: str, machine: str
) -> Departure | None:
    """Return how one package departs from a line of vLLM's requirements, or None.

    Most environments have most packages in common: `benchmarks/departures.py`.
    """
    found = departures(
        InstalledPackages(
            versions={"vllm": ""} if installed is None else {"vllm": "", name: installed},
            requires=lambda package: (line,) if package == "vllm" else (),
            twice={},
            markers=_markers(python, machine),
        )
    )
    return found[0] if found else None


def _markers(python: str, machine: str) -> Mapping[str, str] | None:
    """Return the values of markers in the record's environment; None if it does not say."""
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
