"""The data file of upstream's numbers: it round-trips, refuses what is bad, and is as shipped."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.record.model import StartKind
from matrix.rules.counters import COUNTERS
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import load_expectations
from matrix.rules.upstream.file import (
    UPSTREAM_FILE,
    load_upstream,
    parse_upstream,
    to_json,
    write_upstream,
)
from matrix.rules.upstream.hold import hold
from matrix.rules.upstream.model import (
    FLAG,
    SOURCE,
    STARTUP_TESTS,
    ByTorch,
    Upstream,
    UpstreamCase,
    UpstreamError,
    UpstreamFile,
    UpstreamRelease,
    UpstreamStart,
    bounds_of,
    within,
)

SHIPPED = load_upstream()
PATH = "tests/compile/h100/test_startup.py"

BY_TORCH: list[dict[str, int | None]] = [
    {"": 3},
    {"<2.12.0": 4, ">=2.12.0": 0},
    {"<2.10.0": None, ">=2.10.0": 1},
]
NUMBERS = st.sampled_from([ByTorch(values=values) for values in BY_TORCH])
WORDS = st.sampled_from(["a", "b.c", "d[e]", 'f "g"', "\u00e9", ""])
SETTINGS = st.dictionaries(WORDS, st.none() | WORDS, max_size=2)
FAULTS = st.lists(WORDS, max_size=2).map(tuple)


@st.composite
def cases(draw: st.DrawFn) -> UpstreamCase:
    plain = st.sampled_from([None, True, 3, "x", [1], {"mode": "A.B", "nested": {"c": None}}])
    starts = [
        UpstreamStart(
            start=start,
            numbers=draw(st.dictionaries(WORDS, NUMBERS, max_size=2)),
            environment=draw(SETTINGS),
        )
        for start in draw(st.sampled_from([(), (StartKind.COLD,), tuple(StartKind)]))
    ]
    return UpstreamCase(
        case=draw(WORDS),
        starts=tuple(starts),
        parameters=draw(st.dictionaries(WORDS, WORDS, max_size=1)),
        torch=draw(st.sampled_from(["", ">=2.10.0", ">=2.10.0,<2.13.0"])),
        environment=draw(SETTINGS),
        fixtures=draw(FAULTS),
        engine=draw(st.dictionaries(WORDS, plain, max_size=2)),
    )


@st.composite
def upstreams(draw: st.DrawFn) -> Upstream:
    files = [
        UpstreamFile(
            sha256=f"{number:064x}",
            cases=tuple(draw(st.lists(cases(), max_size=1))),
            faults=draw(FAULTS),
        )
        for number in range(2)
    ]
    return Upstream(
        releases=tuple(
            UpstreamRelease(
                version=version,
                sha256=draw(st.sampled_from([None, "e" * 64])),
                files=draw(st.dictionaries(WORDS, st.sampled_from(files), max_size=2)),
                flags=draw(st.dictionaries(st.just(FLAG), NUMBERS)),
                faults=draw(FAULTS),
            )
            for version in ("0.16.0", "0.100.0")
        )
    )


@given(upstreams())
def test_what_is_written_is_what_is_read(upstream: Upstream) -> None:
    text = to_json(upstream)
    assert parse_upstream(text, "x.json") == upstream
    assert to_json(parse_upstream(text, "x.json")) == text


def test_a_file_that_says_the_same_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "upstream.json"
    write_upstream(path, SHIPPED)
    path.chmod(0o444)
    before = path.stat()
    write_upstream(path, load_upstream(path))
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def row() -> dict[str, Any]:
    """Return a file with one release, one file of tests and one case."""
    start = {"start": "cold", "numbers": {"num_aot_compiles": 1}}
    case = {"case": "test_moe_startup[0]", "starts": [start]}
    release = {"version": "0.20.0", "sha256": "e", "tests": {PATH: "f"}, "flags": {FLAG: 0}}
    return {"releases": [release], "files": [{"sha256": "f", "cases": [case]}]}


@pytest.mark.parametrize(
    ("way", "value", "fault"),
    [
        (("releases",), {}, "x.json: releases: is not a list"),
        (("releases", 0, "version"), "new", "releases 1: 'new' is not a version"),
        (("releases", 0, "version"), 20, "releases 1: version: is not a string"),
        (("releases", 0, "sha256"), 1, "releases 1 (0.20.0): sha256: is not a string"),
        (("releases", 0, "tests"), {PATH: "a"}, f"tests: {PATH}: files have no 'a'"),
        (("releases", 0, "tests"), {PATH: [1]}, f"tests: {PATH}: files have no [1]"),
        (("releases", 0, "tests"), {}, "files: no release has f"),
        (("releases", 0, "flags"), {FLAG: True}, f"flags: {FLAG}: True is not a count"),
        (("releases", 0, "flags"), {FLAG: {">2": 1}}, "'>2' is not a range of torch releases"),
        (("releases", 0, "flags"), {FLAG: {">=new": 1}}, "is not a range of torch releases"),
        (("releases", 0, "flags"), {FLAG: None}, "None is not a count"),
        (("releases", 0, "more"), 1, "releases 1: 'more' is an unknown key"),
        (("releases", 0, "faults"), [1], "faults 1: is not a string"),
        (("files", 0, "cases", 0, "starts", 0, "start"), "hot", "'hot' is neither cold nor warm"),
        (("files", 0, "cases", 0, "starts", 0, "numbers"), {"a": -1}, "a: -1 is not a count"),
        (("files", 0, "cases", 0, "environment"), {"A": 1}, "A is neither a string nor null"),
        (("files", 0, "cases", 0, "torch"), "2.10", "'2.10' is not a range of torch releases"),
        (("files", 0, "cases", 0), {"case": "a"}, "cases 1: starts is missing"),
        (("files", 0, "cases", 0), 1, "cases 1: is not an object"),
        (("files", 0, "cases", 0, "engine"), [], "engine: is not an object"),
    ],
)
def test_a_bad_file_is_refused(way: tuple[Any, ...], value: object, fault: str) -> None:
    data: Any = row()
    assert parse_upstream(json.dumps(data), "x.json").releases
    inner = data
    for step in way[:-1]:
        inner = inner[step]
    inner[way[-1]] = value
    with pytest.raises(UpstreamError, match=re.escape(fault)) as raised:
        parse_upstream(json.dumps(data), "x.json")
    assert str(raised.value).startswith("x.json: ") and "\n" not in str(raised.value)
    assert str(raised.value).endswith("; restore it, or run `matrix upstream --all`")


@pytest.mark.parametrize("versions", [("0.20.0", "0.19.0"), ("0.20.0", "0.20.0")])
def test_releases_stand_in_order_and_once(versions: tuple[str, str]) -> None:
    data = row()
    data["releases"] = [data["releases"][0] | {"version": version} for version in versions]
    with pytest.raises(UpstreamError, match="are not in order, each once"):
        parse_upstream(json.dumps(data), "x.json")


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b"\xff", None])
def test_what_is_no_file_of_it_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "upstream.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UpstreamError, match=re.escape(f"{path}: ")):
        load_upstream(path)


def test_ranges_compare_as_upstream_does() -> None:
    assert [within(torch, "<2.12.0") for torch in ("2.11.0", "2.12.0rc1", "2.12.0")] == [
        True,
        True,
        False,
    ]
    assert within("2.12.0.dev1", ">=2.12.0.dev") and within("2.12.0+cu130", ">=2.12.0")
    assert within("0", "") and bounds_of("") == []


def test_the_shipped_file_is_as_the_command_writes_it() -> None:
    assert to_json(SHIPPED) == UPSTREAM_FILE.read_text(encoding="utf-8")
    assert [release.version for release in SHIPPED.releases if release.every_fault()] == []


def test_every_shipped_number_is_of_a_counter_that_a_rule_may_name() -> None:
    names = {
        counter
        for release in SHIPPED.releases
        for file in release.files.values()
        for case in file.cases
        for start in case.starts
        for counter in start.numbers
    }
    assert names <= COUNTERS and "num_aot_artifacts_saved" in names


def numbers(version: str, case: str, torch: str) -> dict[str, tuple[int | None, int | None]]:
    release = SHIPPED.release(version)
    assert release is not None
    (found,) = [
        upstream_case
        for file in release.files.values()
        for upstream_case in file.cases
        if upstream_case.case == case
    ]
    return {
        start.start: tuple(  # type: ignore[misc]
            start.numbers[f"num_compiled_artifacts_{what}"].at(torch)
            for what in ("saved", "loaded")
        )
        for start in found.starts
    }


@pytest.mark.parametrize(
    ("version", "case", "torch", "cold", "warm"),
    [
        ("0.17.1", "test_moe_startup", "2.10.0", (3, 0), (1, 3)),
        ("0.19.1", "test_model_startup[kimi_k2.5]", "2.12.1", (4, 0), (4, 0)),
        ("0.20.0", "test_model_startup[kimi_k2.5]", "2.12.1", (4, 0), (0, 4)),
        ("0.24.0", "test_model_startup[deepseek_v3.2]", "2.11.0", (4, 0), (4, 0)),
        ("0.25.0", "test_model_startup[deepseek_v3.2]", "2.11.0", (9, 0), (9, 0)),
        ("0.28.0", "test_model_startup[deepseek_v3.2]", "2.13.0", (9, 0), (0, 9)),
        ("0.33.0", "test_model_startup[gpt_oss_120b]", "2.14.0", (3, 0), (0, 3)),
    ],
)
def test_shipped_numbers(
    version: str, case: str, torch: str, cold: tuple[int, int], warm: tuple[int, int]
) -> None:
    assert numbers(version, case, torch) == {"cold": cold, "warm": warm}


@pytest.mark.parametrize(("version", "default"), [("0.18.1", 0), ("0.19.0", 1), ("0.33.0", 1)])
def test_the_shipped_default_of_the_flag(version: str, default: int) -> None:
    release = SHIPPED.release(version)
    assert release is not None
    assert [release.flags[FLAG].at(torch) for torch in ("2.11.0", "2.12.0")] == [0, default]


RULES = load_expectations().rules
LINKS = [(rule, item) for rule in RULES for item in rule.evidence if item.startswith(f"{SOURCE}/v")]


@pytest.mark.parametrize(("rule", "link"), LINKS, ids=lambda item: getattr(item, "id", ""))
def test_a_link_to_a_tag_is_to_a_test_that_says_so(rule: Any, link: str) -> None:
    version, _, path = link.removeprefix(f"{SOURCE}/v").partition("/")
    release = SHIPPED.release(version)
    assert release is not None and path in release.files, link
    file = release.files[path]
    if path.rpartition("/")[2] not in STARTUP_TESTS:  # of another model: it counts the same way
        said = [
            {counter: number.at("2.13.0") for counter, number in start.numbers.items()}
            for case in file.cases
            for start in case.starts
            if start.start == rule.start
        ]
        assert any(numbers.items() >= rule.counters.items() for numbers in said), link
        return
    alone = Upstream(
        releases=(
            UpstreamRelease(version=version, sha256="", files={path: file}, flags=release.flags),
        )
    )
    held = hold(alone, Expectations(rules=(rule,)), ("2.9.1", "2.11.0", "2.13.0"))
    assert held.agree, link


def test_rules_link_to_tags() -> None:
    assert len(LINKS) >= 20
