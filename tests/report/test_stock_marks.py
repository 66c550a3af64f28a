"""A run whose packages are not as its vLLM requires is marked so in every form of the table."""

import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from command import matrix
from histories import RAY
from made import RELEASES, Told, failed, make, passed
from matrix.record.model import By, Departure, Platform, Why
from matrix.record.writer import write
from matrix.report import badges, ci, csv_table, grid_text, markdown, page, table_json, terminal
from matrix.report.model import Report, report_of
from matrix.report.stock import differing, mark, standing
from matrix.rules.expectations_file import parse_expectations
from matrix.verdict.grid import environments, runs, survey
from matrix.verdict.judge import judge
from matrix.verdict.table import tabulate
from page_text import readable
from table_schema import validate

NUMPY = Departure(
    name="numpy", required="numpy>=2", installed="1.26.4", why=Why.OTHER_VERSION, imports=("numpy",)
)
TORCH = Departure(
    name="torch", required="torch==2.10.0", installed="2.11.0", why=Why.OVERRIDDEN, by=By.OVERRIDE
)
RULES_TEXT = "".join(
    f"""
[[rule]]
id = "{start}"
case = "moe"
vllm = "<99"
start = "{start}"
counters = {{ num_graphs_seen = 1 }}
evidence = ["a record"]
"""
    for start in ("cold", "warm")
)
RULES = parse_expectations(RULES_TEXT, "rules.toml")


def told(departures: tuple[Departure, ...] | None = (NUMPY, RAY), **more: Any) -> Told:
    path, record = make("2.11.0", passed(), departures=departures, platform="cuda", **more)
    return Path(path.name), record


def reported(*records: Told) -> Report:
    table = tabulate(records, RULES, releases=RELEASES)
    seen = runs(((entry.record, entry.verdict) for entry in table.entries), RELEASES)
    made = report_of(table, RULES)
    return Report(table=table, agreement=made.agreement, grid=survey(RELEASES, seen=seen))


def as_expected(*records: Told) -> Report:
    """Return the report; every record is compatible by the rules."""
    found = reported(*records)
    assert {entry.verdict.verdict for entry in found.table.entries} == {"compatible"}
    return found


def test_the_markdown_says_it_in_the_square_the_note_and_the_records() -> None:
    output = markdown.render(as_expected(told()))
    assert "| **0.20** | ☑️ as expected, not stock \\[1\\] |" in output
    assert "compatible on Python 3.11, not stock: without ray, with numpy 1.26.4\n" in output
    assert output.count("not stock: without ray, with numpy 1.26.4") == 2
    assert "**☑️ as expected, not stock**" in output
    plain = markdown.render(as_expected(told(())))
    assert "| **0.20** | ✅ as expected |" in plain and "| as required |" in plain
    assert "not known whether stock" in markdown.render(as_expected(told(None)))


def test_the_line_of_counts_says_how_many_are_not_stock(tmp_path: Path) -> None:
    cells = (
        *(
            make("2.11.0", passed(), python=python, departures=(RAY,))
            for python in ("3.10", "3.11")
        ),
        make("2.11.0", passed(), python="3.12", departures=(), deselected=1),
        make("2.11.0", failed(), departures=(RAY,), platform="cuda"),
    )
    for number, (path, record) in enumerate(cells):
        write(record, tmp_path / "records" / f"{path.stem}.{number}.json")
    (tmp_path / "rules.toml").write_text(RULES_TEXT, encoding="utf-8")
    words = (
        "cuda: 1 cell (1 untested; 1 is not stock); "
        "cpu: 3 cells (3 compatible; 2 are not stock, 1 has only some cases). Newest"
    )
    options = ("records", "--expectations", "rules.toml")
    assert words in matrix(tmp_path, "ci", "--format", "github", *options).stdout
    assert matrix(tmp_path, "table", "--out", "table", *options).returncode == 0
    assert words in (tmp_path / "table" / "compatibility.md").read_text(encoding="utf-8")


def test_the_badge_says_it_and_is_not_green() -> None:
    (made,) = badges.render(as_expected(told()).table).values()
    (plain,) = badges.render(as_expected(told(())).table).values()
    assert "vLLM 0.20: compatible, not stock: without ray, and 1 more" in made
    assert "#1a7a37" not in made and "#1a7a37" in plain
    assert badges.is_own("torch211-vllm020.svg", made)
    hostile = Departure(name='a"<b>&', required="", installed=None, why=Why.MISSING)
    (made,) = badges.render(as_expected(told((hostile,))).table).values()
    assert "<b>" not in made and badges.is_own("torch211-vllm020.svg", made)


def test_the_json_has_what_differs() -> None:
    def content(departures: tuple[Departure, ...] | None) -> Any:
        made = json.loads(table_json.render(as_expected(told(departures))))
        validate(made)
        return made

    found = content((NUMPY, RAY, TORCH))
    assert [departure["name"] for departure in found["cells"][0]["not_stock"]] == ["numpy", "ray"]
    ran = [row for square in found["grid"]["squares"] for row in square["results"] if row["ran"]]
    words = ["numpy is 1.26.4, not numpy>=2", "ray>=2.48 is missing"]
    assert [row["not_stock"] for row in ran] == [words]
    assert content(())["cells"][0]["not_stock"] == []
    assert content(None)["cells"][0]["not_stock"] is None


def test_the_csv_has_a_column_of_it() -> None:
    def column(departures: tuple[Departure, ...] | None) -> set[str]:
        text = csv_table.render(as_expected(told(departures)), environments(RELEASES))
        return {row["stock"] for row in csv.DictReader(io.StringIO(text)) if row["ran"]}

    assert column((NUMPY, RAY)) == {"no: without ray, with numpy 1.26.4"}
    assert (column(()), column(None)) == ({"yes"}, {"unknown"})


def test_the_terminal_names_all_of_it() -> None:
    def shown(departures: tuple[Departure, ...] | None, **more: Any) -> str:
        _, record = told(departures, **more)
        return terminal.render(record, judge(record, RULES), "r.json")

    text = shown((NUMPY, RAY), packages={"vllm": "0.20.2"})
    assert text.startswith("py311-torch211-vllm020 on cuda: compatible (as expected), not stock, 1")
    assert "\nstock   no: numpy is 1.26.4, not numpy>=2, ray>=2.48 is missing\n" in text
    assert "stock" not in shown((), packages={"vllm": "0.20.2"})
    assert "stock" not in shown((TORCH,), packages={"vllm": "0.20.2"})
    assert "\nstock   not known whether stock" in shown(None, packages={"vllm": "0.1"})


def test_what_fails_or_counts_otherwise_there_is_shown_with_its_rung() -> None:
    where = "py311-torch211-vllm020"
    stock = "not stock: without ray"
    failing = failed("moe", failure="in f\nKeyError: x")
    for case, how, rung, why, signature in (
        (failing, "fails at starts cold", "starts cold", "failed: why", "KeyError: x"),
        (passed("moe", num_graphs_seen=2), "counts differ", "as expected", "differs: warm", None),
    ):
        path, record = make("2.11.0", case, departures=(RAY,), platform="cuda")
        verdict = judge(record, RULES)
        text = terminal.render(record, verdict, "r.json")
        assert text.startswith(f"{where} on cuda: untested ({how}), not stock, 1 case")
        assert f"\n  moe: {stock}; {why}" in text
        report = reported((path, record))
        found = json.loads(table_json.render(report))
        validate(found)
        [cell] = found["cells"]
        [seen] = cell["cases"]
        assert (cell["fails_at"], seen["fails_at"], seen["signature"]) == (rung, rung, signature)
        assert f"{stock}; {why}" in markdown.render(report)
        suites = ET.fromstring(ci.junit(report.table))
        [skipped] = suites.iter("skipped")
        assert f"{stock}; {why}" in skipped.get("message", "")
        assert ("in f" if signature else "observed 2") in (skipped.text or "")
        assert ("<pre>in f" in ci.summary(report.table)) is bool(signature)


def test_the_page_marks_the_square_and_the_record() -> None:
    found = as_expected(told())
    assert found.grid is not None
    square = found.grid.squares[Platform.CUDA, "2.11.0", "0.20.2"]
    assert page.mark(square.shown) == "✓E*"
    text = readable(page.render(found))
    assert 'class="s3 r p n"' in text and "not stock: without ray, with numpy 1.26.4" in text
    assert "as expected, not stock *" in grid_text.lines(found.grid, [Platform.CUDA])
    plain = as_expected(told(()))
    assert plain.grid is not None
    assert page.mark(plain.grid.squares[Platform.CUDA, "2.11.0", "0.20.2"].shown) == "✓E"


def test_ci_services_are_told(tmp_path: Path) -> None:
    table = as_expected(told()).table
    assert "| compatible, not stock: without ray, with numpy 1.26.4 |" in ci.summary(table)
    suites = ET.fromstring(ci.junit(table))
    (packages,) = suites.iterfind(".//property[@name='packages']")
    assert packages.get("value") == "not stock: without ray, with numpy 1.26.4"


def test_of_two_pythons_the_one_that_is_not_stock_is_shown() -> None:
    found = as_expected(told((), python="3.10"), told(python="3.11"), told((), python="3.12"))
    entry = found.table.worst(Platform.CUDA, "2.11", "0.20")
    assert entry is not None and entry.verdict.not_stock == (NUMPY, RAY)
    assert found.grid is not None
    assert found.grid.squares[Platform.CUDA, "2.11.0", "0.20.2"].shown.not_stock == (NUMPY, RAY)


def test_the_words_are_few_and_clean() -> None:
    other = Departure(
        name="torchvision", required="torch==2.10.0", installed="0.25", why=Why.OTHER_TORCH
    )
    unread = Departure(name="b", required="b<<1", installed="1", why=Why.UNREADABLE)
    assert differing((RAY, NUMPY, other, unread), most=3) == (
        "without ray, with numpy 1.26.4, with torchvision 0.25 for another torch, and 1 more"
    )
    assert differing((unread,)) == "with unreadable metadata of b"
    _, record = told(
        (Departure(name="a\x1b[31m" * 99, required="", installed=None, why=Why.MISSING),)
    )
    text = mark(judge(record, RULES).not_stock)
    assert "\x1b" not in text and len(text) < 120
    _, record = told(())
    assert standing(judge(record, RULES)) == "as required"
