"""Trends, two runs side by side, marks and links of the page in a real Chromium: `tox -e page`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from browsed import DRIFT, EVIL, PIN, moe, page_of, record, wait_until
from matrix.record.model import Start, StartKind

pytest_plugins = ["opened_page"]

pytest.importorskip("playwright.sync_api", reason="tox -e page installs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="tox -e page has axe")

RUNS = "#runs=cuda/py311-torch210-vllm019,cuda/py311-torch211-vllm020"


def test_a_case_is_drawn_across_releases(opened: Any) -> None:
    page = opened()
    page.click("#trends summary")
    page.wait_for_selector("#trends svg")
    assert page.input_value("#trends [name=case]") == "moe"
    titles = page.locator("#trends svg").first.locator("title").all_text_contents()
    assert titles == [
        "vLLM 0.19.1, torch 2.10.0, Python 3.11.7, 2026-11-22: cold 61.2",
        "vLLM 0.20.2, torch 2.11.0, Python 3.11.7, 2026-11-22: cold 61.2",
        "vLLM 0.19.1, torch 2.10.0, Python 3.11.7, 2026-11-22: warm 15.3",
        "vLLM 0.20.2, torch 2.11.0, Python 3.11.7, 2026-11-22: warm 15.3",
    ]
    page.select_option("#trends [name=of]", "num_compiled_artifacts_loaded")
    page.locator("#trends details summary").first.click()
    rows = page.locator("#trends details").first.locator("tbody tr").all_inner_texts()
    assert [row.split() for row in rows] == [
        ["0.19.1", "2.10.0", "3.11.7", "-", "3", "cuda", "2026-11-22"],
        ["0.20.2", "2.11.0", "3.11.7", "-", "1", "cuda", "2026-11-22"],
    ]
    assert "plot=moe%7Cnum_compiled_artifacts_loaded" in page.url
    again = opened(page.url[page.url.index("#") :])
    again.wait_for_selector("#trends svg")
    assert again.input_value("#trends [name=of]") == "num_compiled_artifacts_loaded"
    again.locator("#trends details summary").first.click()
    again.locator("#trends details button").first.click()
    assert "torch 2.10.0 × vLLM 0.19.1" in again.inner_text("#detail h2")


def test_two_runs_stand_side_by_side(opened: Any) -> None:
    page = opened(RUNS)
    page.wait_for_selector("#compare table")
    marked = page.locator("#compare td.diff").all_inner_texts()
    assert marked == ["≠ drift", "≠ 2.11.0", "≠ 0.20.2", "≠ 1"]
    assert "1 of 2 counts differ" in page.inner_text("#compare")
    page.check("#compare [name=every]")
    rows = page.locator("#compare table").nth(1).locator("tbody tr").all_inner_texts()
    assert [row.split() for row in rows] == [
        ["moe", "cold", "seconds", "70.2", "70.2"],
        ["moe", "cold", "num_compiled_artifacts_saved", "3", "3"],
        ["moe", "warm", "seconds", "15.3", "15.3"],
        ["moe", "warm", "num_compiled_artifacts_loaded", "3", "≠", "1"],
    ]
    page.select_option("#compare [name=other]", "cpu/py311-torch210-vllm019")
    assert page.locator("#compare tbody tr", has_text="not there").count() == 1
    page.click("#compare summary")
    wait_until(page, "!location.hash.includes('runs')")


def test_a_run_is_compared_from_its_cell(opened: Any) -> None:
    page = opened()
    page.click(DRIFT)
    page.click("#detail button:has-text('Compare with another run')")
    page.wait_for_selector("#compare table")
    assert page.locator("#detail").is_hidden()
    assert page.input_value("#compare [name=one]") == "cuda/py311-torch211-vllm020"
    assert page.evaluate("document.activeElement.name") == "other"


@pytest.mark.parametrize("width", [1440, 360])
def test_axe_finds_nothing_in_trends_and_runs(opened: Any, width: int) -> None:
    page = opened(RUNS + "&plot=moe", viewport={"width": width, "height": 900})
    page.wait_for_selector("#trends svg")
    page.wait_for_selector("#compare table")
    page.evaluate("document.querySelectorAll('#trends details').forEach(d => d.open = true)")
    found = axe.Axe().run(page).response
    assert [(finding["id"], finding["nodes"][0]["html"]) for finding in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_square_has_marks_and_hover_text(opened: Any) -> None:
    page = opened()
    square = page.locator(DRIFT)
    assert square.get_attribute("data-m") == "†◷"
    assert square.get_attribute("aria-label").endswith(", the pin, a note, stale")
    assert page.locator(PIN).get_attribute("data-m") == "◷"
    square.hover()
    lines = square.get_attribute("title").split("\n")
    assert lines[0] == square.get_attribute("aria-label")
    assert lines[1] == "moe: warm num_compiled_artifacts_loaded is 1, expected 3"
    assert lines[2].startswith("Ran 2026-11-22 (")
    assert lines[3].startswith("Stale: ") and lines[4].startswith(f"To know: {EVIL}")


def test_the_legend_has_what_is_used_and_nothing_else(
    browser: Any, opened: Any, tmp_path: Path
) -> None:
    legend = opened().inner_text(".legend")
    assert "drift: starts" in legend and "a note" in legend and "stale: " in legend
    assert "predicted" not in legend and "provisional" not in legend
    page = page_of(browser, tmp_path, record("py311-torch210-vllm019", "2.10.0", "0.19.1", "cpu"))
    legend = page.inner_text(".legend")
    assert "drift: starts" not in legend
    page.close()


def test_a_link_that_leads_nowhere_says_so_and_one_to_a_cell_opens_it(opened: Any) -> None:
    page = opened("#at=9.9.9,0.1.0")
    assert page.inner_text("#status").endswith(
        "The link names 9.9.9,0.1.0, which this page does not have"
    )
    page = opened("#platform=cuda&at=py311-torch211-vllm020")
    assert "torch 2.11.0 × vLLM 0.20.2" in page.inner_text("#detail h2")
    page = opened("#platform=cpu&at=py311-torch210-vllm017")
    assert "py311-torch210-vllm017" in page.inner_text("#detail h2")


def test_every_issue_upstream_is_a_link(browser: Any, tmp_path: Path) -> None:
    died = "see vllm#38051 and https://github.com/pytorch/pytorch/issues/180912, not evil#7"
    cold = Start(start=StartKind.COLD, counters={"num_compiled_artifacts_saved": 3})
    case = moe(outcome="failed", starts=(cold,), reason=died)
    page = page_of(
        browser, tmp_path, record("py311-torch210-vllm019", "2.10.0", "0.19.1", "cuda", case)
    )
    wanted = {
        "https://github.com/vllm-project/vllm/issues/38051",
        "https://github.com/pytorch/pytorch/issues/180912",
    }
    page.click("#older summary")
    answer = page.locator(".answers li", has_text="vLLM 0.19.1")
    found = answer.locator("a[rel]").evaluate_all("all => all.map(a => a.href)")
    assert set(found) == wanted
    page.click(PIN)
    page.evaluate("document.querySelectorAll('#detail details').forEach(d => d.open = true)")
    links = page.locator("#detail a").evaluate_all("all => all.map(a => a.href)")
    assert set(links) == wanted
    page.close()


def test_a_phone_has_targets_that_a_thumb_finds(opened: Any) -> None:
    page = opened(viewport={"width": 360, "height": 800})
    sizes = page.locator("#grid tbody button, .copy:visible").evaluate_all(
        "all => all.map(b => b.getBoundingClientRect()).map(r => [r.width, r.height])"
    )
    assert min(width for width, _ in sizes) >= 40 and min(height for _, height in sizes) >= 44


def test_forced_colours_keep_the_pin_and_the_choice(opened: Any) -> None:
    page = opened(forced_colors="active")
    style = "e => getComputedStyle(e).outlineStyle"
    assert page.locator(PIN).evaluate(style) == "solid"
    chosen = page.locator(".seg input:checked + span").first
    other = page.locator(".seg input:not(:checked) + span").first
    background = "e => getComputedStyle(e).backgroundColor"
    assert chosen.evaluate(background) != other.evaluate(background)
