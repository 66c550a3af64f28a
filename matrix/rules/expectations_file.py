"""Read expectations from their file: TOML, a row a rule.

Importable inside a cell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from matrix._util.nearest import suggestion
from matrix._util.paths import DATA
from matrix._util.toml_rows import (
    case_of,
    check_keys,
    choice_of,
    name_of,
    read_text,
    rows,
    texts_of,
)
from matrix._util.versions import VersionRange, VersionRangeError
from matrix.record.model import Platform, StartKind
from matrix.rules.counters import COUNTERS
from matrix.rules.expectations import (
    UPSTREAM,
    Expectations,
    ExpectationsError,
    PublishedCounters,
    Rule,
)

EXPECTATIONS_FILE = DATA / "expectations.toml"
"""The rules of the package."""

_KEYS = (
    "id",
    "case",
    "platform",
    "torch",
    "vllm",
    "flags",
    "tests",
    "start",
    "counters",
    "evidence",
    "upstream",
)
_TESTS = re.compile(r"<\d{1,6}|>=\d{1,6}(, ?<\d{1,6})?", re.ASCII)
_NEEDED = ("start", "counters", "evidence")


def load_expectations(path: Path | None = None) -> Expectations:
    """Read the rules of a file, by default those of the package.

    Raises ExpectationsError, which names the file, the rule, the key and the fix.
    """
    path = path or EXPECTATIONS_FILE
    return parse_expectations(read_text(path, ExpectationsError), str(path))


def parse_expectations(text: str, name: str) -> Expectations:
    """Read rules from the text of a TOML file; ``name`` stands for the file in errors.

    Raises ExpectationsError as ``load_expectations`` does.
    """
    found = rows(text, name, "rule", ExpectationsError)
    ranges: dict[str, VersionRange] = {}
    return Expectations(
        rules=tuple(_rule(row, n, name, ranges) for n, row in enumerate(found, 1)), name=name
    )


def _rule(
    row: Mapping[str, object], number: int, name: str, ranges: dict[str, VersionRange]
) -> Rule:
    """Return the rule of a row. `ranges` are those of the rows before: many rules share one."""
    rule_id = name_of(row, f"{name}: rule {number}", ExpectationsError)
    where = f"{name}: rule {rule_id!r}"
    check_keys(row, where, _KEYS, _NEEDED, ExpectationsError)
    start = choice_of(row, "start", StartKind, where, ExpectationsError)
    assert start is not None  # it is needed
    platform = choice_of(row, "platform", Platform, where, ExpectationsError)
    case = case_of(row, where, ExpectationsError)
    rule = Rule(
        id=rule_id,
        start=start,
        counters=_counters(row["counters"], where),
        evidence=texts_of(row, "evidence", where, "records or links", ExpectationsError),
        case=case,
        platform=platform,
        torch=_range(row, "torch", where, ranges),
        vllm=_range(row, "vllm", where, ranges),
        flags=_flags(row.get("flags", {}), where),
        tests=_tests(row, where, ranges),
    )
    if rule.vllm.end is None:
        raise ExpectationsError(
            f"{where}: vllm: has no upper bound; end it after the newest release that its evidence"
            ' is of, as ">=0.19,<0.34"'
        )
    if "upstream" not in row:
        return rule
    return replace(rule, upstream=_published(row["upstream"], rule, f"{where}: upstream"))


def _published(value: object, rule: Rule, where: str) -> PublishedCounters:
    if not isinstance(value, dict) or value.keys() != {"counters", "link"}:
        raise ExpectationsError(f'{where}: write {{ counters = {{ ... }}, link = "https://..." }}')
    link = value["link"]
    if not isinstance(link, str) or not UPSTREAM.fullmatch(link):
        raise ExpectationsError(
            f"{where}: link: {link!r} is not a link to vllm-project or pytorch on GitHub; write "
            f"https://github.com/vllm-project/vllm/..."
        )
    counters = _counters(value["counters"], where)
    for counter, count in counters.items():
        if counter not in rule.counters:
            raise ExpectationsError(
                f"{where}: counters: {counter} is not among the rule's own; name a measured one"
            )
        if count == rule.counters[counter]:
            raise ExpectationsError(
                f"{where}: counters: {counter} = {count} is also what the rule expects; leave it "
                f"out, and name the link as evidence"
            )
    if not rule.records:
        raise ExpectationsError(f"{where}: evidence names no record; name the one that measured")
    return PublishedCounters(counters=counters, link=link)


def _range(
    row: Mapping[str, object], key: str, where: str, ranges: dict[str, VersionRange]
) -> VersionRange:
    if key not in row:
        return VersionRange()
    value = row[key]
    if not isinstance(value, str):
        raise ExpectationsError(f'{where}: {key}: {value!r} is not a string; write ">=2.10"')
    if value not in ranges:
        try:
            ranges[value] = VersionRange(value)
        except VersionRangeError as error:
            raise ExpectationsError(f"{where}: {key}: {error}") from error
    return ranges[value]


def _tests(row: Mapping[str, object], where: str, ranges: dict[str, VersionRange]) -> VersionRange:
    if "tests" in row and not _TESTS.fullmatch(str(row["tests"])):
        raise ExpectationsError(
            f"{where}: tests: {row['tests']!r} does not name versions of the startup tests; write"
            ' "<24" or ">=24"'
        )
    return _range(row, "tests", where, ranges)


def _flags(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ExpectationsError(f"{where}: flags: is not a table; write {{ NAME = true }}")
    for flag, wanted in value.items():
        if not isinstance(wanted, (bool, int, str)):
            raise ExpectationsError(
                f"{where}: flags: {flag} = {wanted!r} cannot be compared; write true, false, a "
                f"whole number or a string"
            )
    return value


def _counters(value: object, where: str) -> Mapping[str, int]:
    if not isinstance(value, dict) or not value:
        raise ExpectationsError(
            f"{where}: counters: names no counter; write {{ num_compiled_artifacts_saved = 3 }}"
        )
    for counter, count in value.items():
        if isinstance(count, dict):
            dotted = f"{counter}.{next(iter(count), 'total')}"
            raise ExpectationsError(
                f'{where}: counters: {counter} is a table; quote the whole name, "{dotted}"'
            )
        if counter not in COUNTERS:
            fix = suggestion(counter, sorted(COUNTERS)) or "see COUNTERS in expectations.py"
            raise ExpectationsError(f"{where}: counters: unknown counter {counter!r}; {fix}")
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ExpectationsError(
                f"{where}: counters: {counter} = {count!r} is not a count; write a whole number "
                f"from 0"
            )
    return value
