"""The page in a real Chromium, opened from disk: `tox -e page`.

Not among the unit tests: it needs playwright and a Chromium (`MATRIX_CHROMIUM` names one; else
`chromium` of the PATH, else the one that playwright has).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from browsed import (
    DRIFT,
    EVIL,
    OFF,
    PIN,
    RECORDS,
    moe,
    page_of,
    record,
)
from matrix.record.model import Platform, Start, StartKind
from matrix.report.model import Report
from matrix.report.page import PAGE_FILE, mark, render
from matrix.rules.expectations_file import parse_expectations
from matrix.verdict.grid import environments
from pages import RELEASES, whole_report

pytest_plugins = ["opened_page"]

pytest.importorskip("playwright.sync_api", reason="tox -e page installs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="tox -e page has axe")


@pytest.mark.parametrize("platform", list(Platform))
@pytest.mark.parametrize("python", ["", "3.11", "3.14"])
def test_the_grid_is_the_table_s(
    opened: Any, report: Report, platform: Platform, python: str
) -> None:
    page = opened(f"#platform={platform}&python={python}")
    grid = report.grid
    assert grid is not None
    marks, styles = [], []
    for vllm in grid.rows[::-1]:
        for torch in grid.columns[::-1]:
            square = grid.squares[platform, torch.version, vllm.version]
            progress = square.shown
            if python:
                progress = next(
                    progress for progress in square.cells if progress.cell.python == python
                )
            marks.append(mark(progress))
            styles.append((progress.verdict, progress.ran is not None, not progress.off_pin))
    assert page.locator("#grid tbody button").all_text_contents() == marks
    seen = page.eval_on_selector_all("#grid tbody button", "all => all.map(b => b.className)")
    verdicts = ["incompatible", "drift", "untested", "compatible"]
    assert [(verdicts[int(item[1])], " r" in item, item.endswith(" p")) for item in seen] == styles
    heads = page.locator("#grid thead th[scope=col]").all_text_contents()
    assert heads[1:] == [torch.version for torch in grid.columns[::-1]]


def test_what_stands_in_the_page_is_what_the_script_paints(browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(file.as_uri())
    still = plain.locator("#grid tbody button").all_text_contents()
    assert "Filters and details need JavaScript" in plain.content()
    context.close()
    context = browser.new_context()
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#grid tbody button").all_text_contents() == still
    context.close()


def test_a_click_tells_all_of_a_cell(opened: Any) -> None:
    page = opened()
    page.click(DRIFT)
    panel = page.locator("#detail")
    message = panel.inner_text()
    assert "torch 2.11.0 × vLLM 0.20.2" in message
    assert "cuda, Python 3.11" in message and "drift" in message
    assert "tox -e py311-torch211-vllm020 -- --platform cuda" in message
    assert "warm num_compiled_artifacts_loaded is 1, expected 3" in message
    assert panel.locator("td.diff").all_text_contents() == ["≠ 1"]
    rows = panel.locator('table[aria-label="Seconds by part"] tr').all_inner_texts()
    assert [row.split() for row in rows] == [
        ["start", "total", "inspect", "dynamo", "load"],
        ["cold", "70.2", "9.0", "6.0", "-"],
        ["warm", "15.3", "-", "-", "2.0"],
    ]
    steps = panel.locator(".climb li").all_inner_texts()
    assert len(steps) == 7 and "failed, a record says so" in steps[6]
    assert "2026-11-22T18:00:00Z" in message and "py311-torch211-vllm020.json" in message
    assert "Who changed: unknown" in message
    assert "vLLM 0.20.2 under torch 2.11.0 counts warm num_compiled_artifacts_loaded 1" in message
    assert "What: warm num_compiled_artifacts_loaded 1, not 3" in message
    assert "Who changed: unknown in 1 case" in message
    missing = panel.locator(".case li").all_inner_texts()
    assert missing and all(item.startswith("to know whether it is ") for item in missing)
    page.click(OFF)
    message = panel.inner_text()
    assert "Off-pin: vLLM 0.20.2 pins torch 2.11.0; an override installs 2.12.1." in message
    assert EVIL in message and "Who changed: torch" in message
    assert (
        "vLLM 0.20.2 starts cold under torch 2.11.0 and fails to start cold under 2.12.1" in message
    )
    panel.get_by_text("The end of its output").click()
    assert panel.locator("pre[aria-label=Output]").inner_text() == f"a\n{EVIL}\nb 7"


def test_each_python_can_be_chosen_in_the_detail(opened: Any) -> None:
    page = opened()
    page.click(PIN)
    page.locator(".pythons button").nth(4).click()
    assert "cuda, Python 3.14" in page.locator("#detail").inner_text()
    assert "No record" in page.locator("#detail").inner_text()
    assert page.url.endswith("at=2.10.0%2C0.19.1%2C3.14")
    page.locator(".pythons button").nth(1).click()
    assert page.locator(".case").count() == 1
    page.locator(".case summary").first.click()
    drawn = page.locator("svg.spark title").all_text_contents()
    assert drawn[0].startswith("10 runs from 2026-01-01 to 2026-10-01: 51.0 s then, 60.0 s now")
    assert len(drawn) == 2


def test_the_other_platform_is_told_with_its_python(opened: Any) -> None:
    page = opened("#platform=cpu&at=2.11.0,0.20.2")
    there = page.locator("#detail > p", has_text="On cuda, Python").all_inner_texts()
    shown = page.inner_text("#detail .top").partition("cpu, ")[2].partition("\n")[0]
    assert shown == "Python 3.10"
    assert len(there) == 2 and there[0].startswith("On cuda, Python 3.10: ")
    assert "untested" in there[0]
    assert there[1] == "On cuda, Python 3.11: ≠E drift, counts differ"
    page.locator(".pythons button").nth(1).click()
    there = page.locator("#detail > p", has_text="On cuda, Python").all_inner_texts()
    assert there == ["On cuda, Python 3.11: ≠E drift, counts differ"]


def test_the_page_opens_where_something_ran(browser: Any, tmp_path: Path) -> None:
    page = page_of(browser, tmp_path, RECORDS[0])
    assert page.is_checked("[name=platform][value=cpu]")
    assert "it ran" in str(page.locator(PIN).get_attribute("aria-label"))
    page.click(PIN)
    assert "cpu, Python 3.11" in page.inner_text("#detail .top")


def test_a_case_that_failed_shows_what_was_expected_of_the_start_that_ran(
    browser: Any, tmp_path: Path
) -> None:
    cold = Start(
        start=StartKind.COLD, seconds={"total": 36.8}, counters={"num_compiled_artifacts_saved": 4}
    )
    page = page_of(
        browser,
        tmp_path,
        record(
            *("py311-torch210-vllm019", "2.10.0", "0.19.1", "cuda"),
            moe(outcome="crashed", starts=(cold,), reason="it died"),
            moe(outcome="interrupted", starts=(cold,), reason="Ctrl-C", case="cut"),
            moe(outcome="crashed", starts=(cold,), reason="it died", case="other"),
        ),
    )
    page.click(PIN)
    page.evaluate("document.querySelectorAll('#detail .case').forEach(d => d.open = true)")
    case, cut, other = (
        page.locator(".case", has=page.locator(f"summary b:text-is('{name}')"))
        for name in ("moe", "cut", "other")
    )
    rows = case.locator('table[aria-label="Counters expected and observed"] tbody tr')
    assert [row.split() for row in rows.all_inner_texts()] == [
        ["num_compiled_artifacts_saved", "3", "≠", "4", "-", "-"]
    ]
    assert "No expectation" not in case.inner_text()
    assert "The run was not judged: its counters are only shown." in cut.inner_text()
    assert "No expectation speaks of what ran" in other.inner_text()


def test_a_note_stands_beside_its_pairs(opened: Any) -> None:
    page = opened()
    page.click(DRIFT)
    assert page.inner_text("#detail .note") == f"To know: {EVIL} Evidence: results/cuda/a.json"
    page.locator("fieldset").nth(0).get_by_text("cpu").click()
    assert page.locator("#detail .note").count() == 0
    page.keyboard.press("Escape")
    page.locator("fieldset").nth(0).get_by_text("cuda").click()
    page.click(PIN)
    assert page.locator("#detail .note").count() == 0


@pytest.mark.parametrize("width", [360, 380])
def test_a_narrow_screen_shows_all_of_the_counters(opened: Any, width: int) -> None:
    page = opened("#at=2.11.0,0.20.2", viewport={"width": width, "height": 800})
    table = page.locator('.scroll[aria-label="Counters expected and observed"]')
    scrolled, seen = table.evaluate("e => [e.scrollWidth, e.clientWidth]")
    assert scrolled <= seen
    marked = table.locator("td.diff").bounding_box()
    assert marked is not None and marked["x"] + marked["width"] <= width


def test_what_ran_and_is_untested_has_one_sign_everywhere(opened: Any) -> None:
    page = opened("#platform=cpu&at=2.10.0,0.19.1")
    legend = page.locator(".legend .chip", has_text="?I").inner_text()
    assert legend == "?I"
    cpu = page.locator(".totals li", has_text="cpu").inner_text()
    assert "? 1 untested" in cpu
    case = page.locator(".case", has=page.locator("summary b:text-is('other')"))
    assert case.locator("summary .chip").inner_text() == "?"
    page.keyboard.press("Escape")
    page.click("#list summary")
    assert page.locator("#list .chip", has_text="untested").first.inner_text() == "? untested"
    assert "whatever is filtered" in page.inner_text("#list summary")


def test_a_case_says_what_it_is_once(browser: Any, tmp_path: Path) -> None:
    cold = Start(
        start=StartKind.COLD, seconds={"total": 36.8}, counters={"num_compiled_artifacts_saved": 3}
    )
    page = page_of(
        browser,
        tmp_path,
        record(
            *("py311-torch210-vllm019", "2.10.0", "0.19.1", "cuda"),
            moe(case="not", outcome="not_applicable", starts=(), reason="no Hopper"),
            moe(outcome="crashed", starts=(cold,), reason="it died"),
        ),
    )
    page.click(PIN)
    page.locator(".case summary").nth(1).click()
    died, none = page.locator(".case").all_inner_texts()
    message = "– not does not apply here not applicable no Hopper"
    assert " ".join(none.split()) == message
    assert "cold 36.8 s, no warm start" in died
    assert "incompatible at starts warm, outcome crashed" in " ".join(died.split())
    assert page.locator(".legend .chip", has_text="–").count() == 1


def test_all_that_ran_is_listed_also_what_has_no_place(opened: Any) -> None:
    page = opened()
    page.click("#list summary")
    page.wait_for_selector("#list tbody tr")  # details tell of their opening a moment later
    assert page.locator("#list tbody tr").count() == len(RECORDS)
    page.click("#list button:has-text('py311-torch210-vllm017')")
    message = page.locator("#detail").inner_text()
    assert "tox -e py311-torch210-vllm017 -- --platform cpu" in message and "2.10.0.dev1" in message
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "py311-torch210-vllm017"


def test_the_colours_can_be_switched_and_stay(opened: Any) -> None:
    page = opened(color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.select_option("#theme", "dark")
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate(background) == dark
    assert opened(color_scheme="dark").evaluate(background) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 360])
@pytest.mark.parametrize("fragment", ["", "#at=2.11.0,0.20.2", "#at=2.12.1,0.20.2"])
def test_axe_finds_nothing(opened: Any, scheme: str, width: int, fragment: str) -> None:
    page = opened(
        fragment,
        color_scheme=scheme,
        viewport={"width": width, "height": 900},
        reduced_motion="reduce",
    )
    if fragment:
        page.evaluate("document.querySelectorAll('#detail details').forEach(d => d.open = true)")
    else:
        page.locator("#list summary").click()
        if width < 600:
            page.locator(".controls > summary").click()
    found = axe.Axe().run(page).response
    assert [(finding["id"], finding["nodes"][0]["html"]) for finding in found["violations"]] == []
    assert {finding["id"] for finding in found["passes"]} >= {"color-contrast", "button-name"}


def test_a_narrow_screen_scrolls_the_grid_and_not_the_page(opened: Any) -> None:
    page = opened(viewport={"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.evaluate("document.querySelector('.wrap').scrollLeft = 300")
    head = page.locator("#grid tbody th").first.bounding_box()
    assert head is not None and 0 <= head["x"] < 30


def test_it_prints_without_its_controls(opened: Any) -> None:
    page = opened("#at=2.11.0,0.20.2")
    page.emulate_media(media="print")
    assert page.locator(".controls").is_hidden() and page.locator(".close").is_hidden()
    assert page.locator("#grid").is_visible() and page.locator("#detail").is_visible()
    assert page.locator(".wrap").first.evaluate("e => getComputedStyle(e).maxHeight") == "none"


def test_a_green_square_says_what_recompiles_and_how_much_ran(browser: Any, tmp_path: Path) -> None:
    issue = "https://github.com/vllm-project/vllm/issues/38051"
    rules = "".join(
        f'[[rule]]\nid = "{start}"\nstart = "{start}"\nvllm = "<1"\n'
        f'counters = {{ num_compiled_artifacts_saved = 4 }}\nevidence = ["{issue}"]\n'
        for start in ("cold", "warm")
    )
    again = tuple(
        Start(start=start, counters={"num_compiled_artifacts_saved": 4}) for start in StartKind
    )
    where, made = record("py311-torch210-vllm019", "2.10.0", "0.19.1", "cuda", moe(starts=again))
    report = whole_report([(where, replace(made, deselected=8))], parse_expectations(rules, "r"))
    path = tmp_path / PAGE_FILE
    path.write_text(render(report, environments(RELEASES)), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri() + "#at=2.10.0,0.19.1")
    page.wait_for_selector("html[data-ready]")
    square = page.locator(PIN)
    label = "compatible, as expected, 1 case recompiles warm (vllm#38051), 1 of 9 cases"
    assert label in square.get_attribute("aria-label")
    assert square.text_content() == "✓E↻◔"
    page.evaluate("document.querySelectorAll('#detail details').forEach(d => d.open = true)")
    link = page.locator("#detail a", has_text=issue)
    assert link.get_attribute("href") == issue
    page.close()
