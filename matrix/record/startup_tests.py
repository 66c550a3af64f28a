"""The version of the startup tests: what they measure, and which records a change can affect.

`STARTUP_TESTS_VERSION` is raised by hand when a start does, counts or records something else than
before. `matrix/data/startup_tests.toml` has a row for each version. Records from before versions
name a fingerprint of source bytes instead; the rows map those fingerprints to versions.

Pure but for reading that file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from packaging.version import InvalidVersion

from matrix._util.paths import DATA
from matrix._util.toml_rows import check_keys, read_text, rows, version_range
from matrix._util.versions import VersionRange, parse_version
from matrix.catalog.cells import factors, is_candidate
from matrix.errors import MatrixError
from matrix.record.model import PLATFORMS, RUNGS, Outcome, Platform, Record, Rung

STARTUP_TESTS_VERSION = 31
"""The version of what the startup tests of this checkout measure. Raise it by one when a start
does, counts or records something else, and add its row to `matrix/data/startup_tests.toml`. The row
names the platforms where that is so: records of others stay current (`TestsChange.affects`)."""

CASE_TIMEOUT = 900.0
"""Seconds that a case may take unless `--case-timeout` among pytest's arguments differs. One that
takes them all hangs; a shorter limit shows less."""

GPUS_NEEDED: Mapping[str, int] = {"tensor_parallel_startup": 2}
"""How many GPUs a case needs, by its name without parameters; every other one needs one or none.

A run where fewer are visible is whole without such a case, and so is a record from before it."""

SUITES = ("startup", "full")
"""The suites of startup tests, the default first. The full one adds cases that decide nothing: a
record has them apart, in `full_suite`, and is whole, or a part, by those of the startup suite."""

_DATA = DATA / "startup_tests.toml"
_NEEDED = ("number", "changed")
_KEYS = (
    *_NEEDED,
    *("platforms", "torch", "vllm", "cases", "failed_at", "seconds_only", "unjudged_only"),
    "fingerprints",
)
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


class StartupTestsError(MatrixError):
    """The versions of the startup tests cannot be read: names the file, the row and the fix."""


@dataclass(frozen=True, kw_only=True)
class TestsChange:
    """The change of one version of the startup tests, and the records that it can affect.

    `platforms`, `torch` and `vllm` limit the records by what ran, `failed_at` to runs that failed
    at that rung. `cases` are the cases that changed; a bare name means all its parameters. None or
    an empty tuple does not limit it. With `seconds_only` a start counts as before and takes another
    time, so only a comparison of seconds asks for it. With `unjudged_only` only numbers differ that
    no expectation names: no verdict can, so a record stays current. `fingerprints` are those of
    earlier checkouts of this version.
    """

    number: int
    changed: str
    platforms: tuple[Platform, ...] = ()
    torch: VersionRange = field(default_factory=VersionRange)
    vllm: VersionRange = field(default_factory=VersionRange)
    cases: tuple[str, ...] = ()
    failed_at: Rung | None = None
    seconds_only: bool = False
    unjudged_only: bool = False
    fingerprints: tuple[str, ...] = ()

    def affects(
        self,
        record: Record,
        case: str | None = None,
        *,
        seconds: bool = False,
        unjudged: bool = False,
    ) -> bool:
        """Return whether a run like this, or this case of it, can come out otherwise now.

        With `seconds`, whether it can take another time, and with `unjudged`, whether it can count
        otherwise what no expectation names.

        A run that has any case is affected by a change of a case: it holds that case, or lacks it
        because the case is new.
        """
        if self.seconds_only and not seconds:
            return False
        if self.unjudged_only and not (seconds or unjudged):
            return False
        if self.platforms and record.platform not in self.platforms:
            return False
        if self.failed_at is not None and not any(
            rung.rung == self.failed_at and not rung.ok for rung in record.rungs
        ):
            return False
        if self.cases and not (record.cases if case is None else self._names(case)):
            return False
        named = factors(record.cell)
        return all(
            _may_hold(versions, record.version(key) or _release(getattr(named, key)))
            for key, versions in (("torch", self.torch), ("vllm", self.vllm))
        )

    def _names(self, case: str) -> bool:
        return case in self.cases or case.partition("[")[0] in self.cases


@dataclass(frozen=True, kw_only=True)
class StartupTests:
    """All versions of the startup tests, oldest first; the last is the current one."""

    changes: tuple[TestsChange, ...]

    @property
    def current(self) -> int:
        """The version of the startup tests as they are now; 0 if there is none."""
        return self.changes[-1].number if self.changes else 0

    @property
    def of_fingerprint(self) -> Mapping[str, int]:
        """The version that each known fingerprint belongs to."""
        return {
            fingerprint: change.number
            for change in self.changes
            for fingerprint in change.fingerprints
        }

    def version_of(self, record: Record) -> int | None:
        """Return the version of the startup tests that a record was made with, None if unknown."""
        tests = record.provenance.get("tests")
        if not isinstance(tests, Mapping):
            return None
        number = tests.get("version")
        if type(number) is int:
            return number
        fingerprint = tests.get("fingerprint")
        return self.of_fingerprint.get(fingerprint) if isinstance(fingerprint, str) else None

    def identity_of(self, record: Record) -> str | None:
        """Return what two records of the same startup tests share: their version, as text.

        Of tests of an unknown version it is the fingerprint, which at least shows whether the same
        tests made two records. None if the record has neither.
        """
        number = self.version_of(record)
        if number is not None:
            return str(number)
        tests = record.provenance.get("tests")
        fingerprint = tests.get("fingerprint") if isinstance(tests, Mapping) else None
        return fingerprint if isinstance(fingerprint, str) else None

    def changes_since(self, record: Record) -> tuple[TestsChange, ...] | None:
        """Return what changed since the record was made and can affect it, oldest first.

        None if the version of its startup tests is unknown, or newer than the current one.
        """
        made = self.version_of(record)
        if made is None or made > self.current:
            return None
        return tuple(
            change for change in self.changes if change.number > made and change.affects(record)
        )

    def differ(
        self,
        one: Record,
        other: Record,
        case: str | None = None,
        *,
        seconds: bool = False,
        unjudged: bool = False,
    ) -> bool:
        """Return whether something measured changed between two records that can affect either.

        With `case`, whether it can affect that case, with `seconds` also how long that takes, and
        with `unjudged` also what it counts that no expectation names: a change of that alone counts
        then, and else does not. Unknown startup tests differ from all others but those of the same
        identity.
        """
        if self.identity_of(one) == self.identity_of(other):
            return False
        first, second = self.version_of(one), self.version_of(other)
        if first is None or second is None or max(first, second) > self.current:
            return True
        older, newer = sorted((first, second))
        return any(
            change.affects(record, case, seconds=seconds, unjudged=unjudged)
            for change in self.changes
            if older < change.number <= newer
            for record in (one, other)
        )


def applies_by_gpus(record: Record, case: str) -> bool:
    """Return False for a case that a whole run lacks because it saw too few GPUs for it."""
    needed = GPUS_NEEDED.get(case.partition("[")[0], 1)
    is_held = any(held.case == case for held in record.cases)
    return needed < 2 or is_held or not record.is_complete


def only_full_suite_is_left(record: Record) -> bool:
    """Return whether a run has begun what the full suite adds, and ended all its other cases.

    Who ends such a run takes nothing from its verdict.
    """
    ended = all(case.outcome is not Outcome.RUNNING for case in record.cases)
    return bool(record.full_suite) and ended and len(record.cases) == record.selected


def version_of_tests(record: Record) -> int | None:
    """Return the version of the startup tests that a record was made with, None if unknown."""
    return load_startup_tests().version_of(record)


def identity_of_tests(record: Record) -> str | None:
    """Return `StartupTests.identity_of` a record, by the known versions."""
    return load_startup_tests().identity_of(record)


@cache
def load_startup_tests() -> StartupTests:
    """Read `matrix/data/startup_tests.toml`, once.

    Raises StartupTestsError for a bad row, or where its last version is not the current one.
    """
    found = parse_startup_tests(read_text(_DATA, StartupTestsError), str(_DATA))
    if found.current != STARTUP_TESTS_VERSION:
        raise StartupTestsError(
            f"{_DATA}: the last version is {found.current}, and STARTUP_TESTS_VERSION is"
            f" {STARTUP_TESTS_VERSION}; add the row that says what changed, or put the number back"
        )
    return found


def parse_startup_tests(text: str, name: str) -> StartupTests:
    """Return the versions that a TOML text lists. Raises StartupTestsError, which names `name`."""
    changes = []
    known: set[str] = set()
    for number, row in enumerate(rows(text, name, "version", StartupTestsError), 1):
        where = f"{name}: version {number}"
        check_keys(row, where, _KEYS, _NEEDED, StartupTestsError)
        if type(row["number"]) is not int or row["number"] != number:
            raise StartupTestsError(f"{where}: number: is {row['number']!r}; write {number}")
        change = _change(row, where)
        for fingerprint in change.fingerprints:
            if not _FINGERPRINT.fullmatch(fingerprint) or fingerprint in known:
                raise StartupTestsError(
                    f"{where}: fingerprints: {fingerprint!r} is listed twice, or is not one;"
                    " list each once, as sha256: and 64 hexadecimal digits"
                )
            known.add(fingerprint)
        changes.append(change)
    return StartupTests(changes=tuple(changes))


def _change(row: Mapping[str, Any], where: str) -> TestsChange:
    changed = row["changed"]
    if not isinstance(changed, str) or not changed.strip() or "\n" in changed:
        raise StartupTestsError(f"{where}: changed: is not one line of text; write what changed")
    failed_at = row.get("failed_at")
    if failed_at is not None and failed_at not in RUNGS:
        raise StartupTestsError(
            f"{where}: failed_at: {failed_at!r} is not a rung; use one of {', '.join(RUNGS)}"
        )
    platforms = _texts(row, "platforms", where)
    for platform in platforms:
        if platform not in PLATFORMS:
            raise StartupTestsError(
                f"{where}: platforms: {platform!r} is not a platform; use {' or '.join(PLATFORMS)}"
            )
    for key in ("seconds_only", "unjudged_only"):
        if type(row.get(key, False)) is not bool:
            raise StartupTestsError(f"{where}: {key}: is {row[key]!r}; write true, or leave it out")
    return TestsChange(
        number=row["number"],
        changed=changed,
        platforms=tuple(map(Platform, platforms)),
        torch=version_range(row, "torch", where, StartupTestsError),
        vllm=version_range(row, "vllm", where, StartupTestsError),
        cases=_texts(row, "cases", where),
        failed_at=None if failed_at is None else Rung(failed_at),
        seconds_only=row.get("seconds_only", False),
        unjudged_only=row.get("unjudged_only", False),
        fingerprints=_texts(row, "fingerprints", where),
    )


def _texts(row: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = row.get(key, [])
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise StartupTestsError(f"{where}: {key}: is not a list of texts; write it as [...]")
    return tuple(value)


def _release(factor: str) -> str | None:
    """Return the minor release of a name; None for a candidate, whose version it does not hold."""
    return None if is_candidate(factor) else factor


def _may_hold(wanted: VersionRange, ran: object) -> bool:
    """Return whether a version that ran is, or where nobody knows it may be, in a range."""
    if wanted.text is None or not isinstance(ran, str):
        return True
    try:
        return wanted.contains(parse_version(ran))
    except InvalidVersion:
        return True
