"""A release beyond the end of the expectations is shown as provisional in every form."""

import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from made import RELEASES, Told, make, passed
from matrix._util.text import markdown as escaped
from matrix.record.model import Platform
from matrix.report import (
    badges,
    ci,
    csv_table,
    grid,
    grid_text,
    markdown,
    page,
    table_json,
    terminal,
)
from matrix.report.model import Report, report_of
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import parse_expectations
from matrix.verdict.grid import environments, runs, survey
from matrix.verdict.judge import judge
from matrix.verdict.table import tabulate
from page_text import readable
from table_schema import validate

PLACE = Platform.CUDA, "2.11.0", "0.20.2"


def rules(graphs: int, end: str = "0.20") -> Expectations:
    """Return what both starts count up to this vLLM; a record of `told` counts 1."""
    return parse_expectations(
        "".join(
            f"""
[[rule]]
id = "{start}"
case = "moe"
vllm = "<{end}"
start = "{start}"
counters = {{ num_graphs_seen = {graphs} }}
evidence = ["a record"]
"""
            for start in ("cold", "warm")
        ),
        "rules.toml",
    )


SAME, DIFFERS, KNOWN = rules(1), rules(2), rules(1, "0.21")


def told() -> Told:
    path, record = make("2.11.0", passed(), departures=(), platform="cuda")
    return Path(path.name), record


def reported(expectations: Expectations) -> Report:
    table = tabulate([told()], expectations, releases=RELEASES)
    seen = runs(((entry.record, entry.verdict) for entry in table.entries), RELEASES)
    made = report_of(table, expectations)
    return Report(table=table, agreement=made.agreement, grid=survey(RELEASES, seen=seen))


SAME_WORDS = "provisional: counts as vLLM 0.19 did"
DIFFERS_WORDS = "provisional: differs from vLLM 0.19 in cold num_graphs_seen: 1, was 2, and 1 more"


@pytest.mark.parametrize(("expectations", "words"), [(SAME, SAME_WORDS), (DIFFERS, DIFFERS_WORDS)])
def test_the_markdown_says_it_in_the_square_the_note_and_the_case(
    expectations: Expectations, words: str
) -> None:
    output = markdown.render(reported(expectations))
    assert "| **0.20** | ❔ provisional \\[1\\] |" in output
    assert f"untested on Python 3.11: {escaped(f'moe: {words}')}\n" in output
    assert "| `moe` | ❔ provisional |" in output
    assert "as expected |" not in output.partition("## Every torch")[0].partition("## cuda")[2]
    assert "provisional" not in markdown.render(reported(KNOWN)).partition("## cuda")[2]


@pytest.mark.parametrize(
    ("expectations", "words"),
    [
        (SAME, "untested, provisional: as vLLM 0.19"),
        (DIFFERS, "untested, provisional: differs from vLLM 0.19"),
    ],
)
def test_the_badge_says_it_and_is_not_green(expectations: Expectations, words: str) -> None:
    (made,) = badges.render(reported(expectations).table).values()
    assert f'vLLM 0.20: {words}"' in made
    assert "#1a7a37" not in made and "#8f5f00" not in made
    assert badges.is_own("torch211-vllm020.svg", made)


def test_the_json_has_the_releases_and_the_differences() -> None:
    def content(expectations: Expectations) -> Any:
        made = json.loads(table_json.render(reported(expectations)))
        validate(made)
        (cell,) = made["cells"]
        (row,) = [
            row for square in made["grid"]["squares"] for row in square["results"] if row["ran"]
        ]
        return cell, row

    cell, row = content(SAME)
    same = {"releases": ["vLLM 0.19"], "differences": []}
    assert cell["provisional"] == cell["cases"][0]["provisional"] == row["provisional"] == same
    assert (cell["verdict"], cell["rung"], row["reached"]) == (
        "untested",
        "starts warm",
        "starts warm",
    )
    cell, row = content(DIFFERS)
    assert row["provisional"]["differences"][0] == {
        "start": "cold",
        "counter": "num_graphs_seen",
        "expected": 2,
        "observed": 1,
        "rule": "cold",
    }
    assert cell["cases"][0]["differences"] == []
    cell, row = content(KNOWN)
    assert cell["provisional"] is None and "provisional" not in row


def test_the_csv_gives_it_as_the_reason() -> None:
    text = csv_table.render(reported(SAME), environments(RELEASES))
    (row,) = [row for row in csv.DictReader(io.StringIO(text)) if row["ran"]]
    assert (row["verdict"], row["reason"]) == ("untested", f"moe: {SAME_WORDS}")


def test_the_terminal_shows_what_was_counted_before() -> None:
    def shown(expectations: Expectations, **more: Any) -> str:
        _, record = told()
        return terminal.render(record, judge(record, expectations), "r.json", **more)

    text = shown(DIFFERS)
    assert text.startswith(
        "py311-torch211-vllm020 on cuda: untested (provisional: differs from vLLM 0.19), 1 case"
    )
    assert "provisional: 0 of 1 as in the nearest known release" in text
    assert "! num_graphs_seen  observed    1  was    2 in vLLM 0.19" in text
    assert DIFFERS_WORDS in text
    text = shown(SAME, every=True)
    assert "provisional: 1 of 1 as in the nearest known release" in text
    assert "  num_graphs_seen" in text and "! num" not in text
    assert "was    1 in vLLM 0.19" in text
    assert "provisional" not in shown(KNOWN)


def test_the_page_has_a_sign_of_it() -> None:
    found = reported(SAME)
    assert found.grid is not None
    assert page.mark(found.grid.squares[PLACE].shown) == "≈W"
    text = readable(page.render(found))
    assert ">≈W<" in text and SAME_WORDS in text
    assert "starts warm, provisional [1] *" in grid_text.lines(found.grid, [Platform.CUDA])
    assert "**❔ provisional \\[" in grid.section(found.grid)
    plain = reported(KNOWN)
    assert plain.grid is not None
    assert page.mark(plain.grid.squares[PLACE].shown) == "✓E"


def test_ci_services_do_not_call_it_a_failure() -> None:
    for expectations, words in ((SAME, SAME_WORDS), (DIFFERS, DIFFERS_WORDS)):
        table = reported(expectations).table
        suites = ET.fromstring(ci.junit(table))
        assert suites.find(".//failure") is None and suites.find(".//error") is None
        (skipped,) = suites.iterfind(".//skipped")
        assert skipped.get("message") == f"untested: {words}"
        assert words.partition(" in ")[0] in ci.summary(table)
