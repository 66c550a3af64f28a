"""The page in a real Chromium, opened from disk: `tox -e page`.

Not among the unit tests: it needs playwright and a Chromium (`MATRIX_CHROMIUM` names one; else
`chromium` of the PATH, else the one that playwright has).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from matrix.expectations import parse_expectations
from matrix.grid import environments, runs, survey
from matrix.records import Case, Record, Start
from matrix.releases import load_releases
from matrix.report import page as report
from matrix.report.table import Table, tabulate

sync_api = pytest.importorskip("playwright.sync_api", reason="tox -e page installs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="tox -e page has axe")

RELEASES = load_releases()
RULES = parse_expectations(
    """
[[rule]]
id = "saved"
case = "moe"
start = "cold"
counters = { num_compiled_artifacts_saved = 3 }
evidence = ["a record"]

[[rule]]
id = "loaded"
case = "moe"
start = "warm"
counters = { num_compiled_artifacts_loaded = 3 }
evidence = ["a record"]
""",
    "rules.toml",
)
EVIL = (
    "</script><script>window.evil = 1; document.title = 'evil'</script>"
    "<img src=x onerror='window.evil = 2'><svg onload='window.evil = 3'>"
)
ARGUMENTS = [
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
PIN = '#grid button[aria-label^="torch 2.10.0, vLLM 0.19.1:"]'
DRIFT = '#grid button[aria-label^="torch 2.11.0, vLLM 0.20.2:"]'
OFF = '#grid button[aria-label^="torch 2.12.1, vLLM 0.20.2:"]'


def record(cell: str, torch: str, vllm: str, platform: str, *cases: Case) -> tuple[Path, Record]:
    provenance = {
        "started": "2026-11-22T18:00:00Z",
        "seconds": 312.4,
        "python": "3.11.7",
        "torch": torch,
        "vllm": vllm,
        "os": EVIL,
        "gpu": None,
    }
    made = Record(cell, platform, True, provenance, flags={"VLLM_X": EVIL}, cases=cases)
    return Path(f"{cell}.json"), made


def moe(loaded: int = 3, **more: Any) -> Case:
    starts = (
        Start("cold", {"total": 61.2, "dynamo": 6.0}, {"num_compiled_artifacts_saved": 3}),
        Start("warm", {"total": 15.3, "load": 2.0}, {"num_compiled_artifacts_loaded": loaded}),
    )
    return Case(**{"case": "moe", "outcome": "passed", "starts": starts, **more})


def failing() -> Case:
    return moe(outcome="failed", starts=(), reason=EVIL, signature=EVIL, failure=f"a\n{EVIL}\nb 7")


RECORDS = [
    record("py311-torch210-vllm019", "2.10.0", "0.19.1", "cpu", moe(), moe(case="other")),
    record("py311-torch210-vllm019", "2.10.0", "0.19.1", "cuda", moe()),
    record("py311-torch211-vllm020", "2.11.0", "0.20.2", "cuda", moe(loaded=1)),
    record("py311-torch212-vllm020", "2.12.1", "0.20.2", "cuda", failing()),
    record("py311-torch210-vllm017", "2.10.0.dev1", "0.17.1", "cpu", moe()),
]
HISTORY = {
    ("py311-torch210-vllm019", "cuda", "moe", start): [
        (f"2026-{month:02}-01T00:00:00Z", base + month) for month in range(1, 11)
    ]
    for start, base in (("cold", 50.0), ("warm", 10.0))
}


def tabled(records: Iterable[tuple[Path, Record]]) -> Table:
    judged = tabulate(records, RULES, releases=RELEASES)
    seen = runs(((each.record, each.verdict) for each in judged.entries), RELEASES)
    return replace(judged, grid=survey(RELEASES, seen=seen))


@pytest.fixture(scope="module")
def table() -> Table:
    return tabled(RECORDS)


@pytest.fixture(scope="module")
def file(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / report.PAGE
    path.write_text(report.render(table, environments(RELEASES), HISTORY), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = os.environ.get("MATRIX_CHROMIUM") or shutil.which("chromium")
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Any]:
    """A function that opens the page; at its end nothing was asked for and no script failed."""
    contexts, faults, asked = [], [], []

    def open_page(hash_: str = "", **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri() + hash_)
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.evil") is None
            assert page.title() == "torch × vLLM: what starts, cold and warm"  # noqa: RUF001
        context.close()
    assert faults == []
    assert {url.partition("#")[0] for url in asked} == {file.as_uri()}


def shown(page: Any) -> list[str]:
    """The labels of the squares that can be seen."""
    found: list[str] = page.eval_on_selector_all(
        "#grid tbody button",
        "all => all.filter(b => b.checkVisibility({visibilityProperty: true}))"
        ".map(b => b.getAttribute('aria-label'))",
    )
    return found


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label')"))


@pytest.mark.parametrize("platform", ["cuda", "cpu"])
@pytest.mark.parametrize("python", ["", "3.11", "3.14"])
def test_the_grid_is_the_table_s(opened: Any, table: Table, platform: str, python: str) -> None:
    page = opened(f"#platform={platform}&python={python}")
    grid = table.grid
    assert grid is not None
    marks, styles = [], []
    for vllm in grid.rows:
        for torch in grid.columns:
            square = grid.squares[platform, torch.version, vllm.version]
            climb = square.shown
            if python:
                climb = next(each for each in square.climbs if each.cell.python == python)
            marks.append(report.mark(climb))
            styles.append((climb.verdict, climb.ran is not None, not climb.off_pin))
    assert page.locator("#grid tbody button").all_text_contents() == marks
    seen = page.eval_on_selector_all("#grid tbody button", "all => all.map(b => b.className)")
    verdicts = ["incompatible", "drift", "untested", "compatible"]
    assert [(verdicts[int(each[1])], " r" in each, each.endswith(" p")) for each in seen] == styles
    heads = page.locator("#grid thead th[scope=col]").all_text_contents()
    assert heads[1:] == [each.version for each in grid.columns]


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
    said = panel.inner_text()
    assert "torch 2.11.0 × vLLM 0.20.2" in said  # noqa: RUF001
    assert "cuda, Python 3.11" in said and "drift" in said
    assert "tox -e py311-torch211-vllm020 -- --platform cuda" in said
    assert "warm num_compiled_artifacts_loaded is 1, expected 3" in said
    assert panel.locator("td.diff").all_text_contents() == ["≠ 1"]
    rows = panel.locator('table[aria-label="Seconds by part"] tr').all_inner_texts()
    assert [row.split() for row in rows] == [
        ["start", "total", "dynamo", "load"],
        ["cold", "61.2", "6.0", "-"],
        ["warm", "15.3", "-", "2.0"],
    ]
    steps = panel.locator(".climb li").all_inner_texts()
    assert len(steps) == 7 and "failed, a record says so" in steps[6]
    assert "2026-11-22T18:00:00Z" in said and "py311-torch211-vllm020.json" in said
    page.click(OFF)
    said = panel.inner_text()
    assert "Off-pin: vLLM 0.20.2 pins torch 2.11.0; an override installs 2.12.1." in said
    assert EVIL in said
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


def test_filters_narrow_the_grid_and_stay_in_the_url(opened: Any, table: Table) -> None:
    page = opened()
    everything = len(shown(page))
    page.get_by_text("≠ drift", exact=True).first.click()
    assert [each.split(":")[0] for each in shown(page)] == ["torch 2.11.0, vLLM 0.20.2"]
    assert page.inner_text("#status").startswith(f"1 of {everything} pairs of releases on cuda")
    assert page.url.endswith("#platform=cuda&verdict=drift") or page.url.endswith("#verdict=drift")
    page.click("button[type=reset]")
    page.wait_for_function("!location.hash.includes('drift')")
    assert len(shown(page)) == everything
    page.fill("[name=torch]", ">=2.10, <2.12")
    page.fill("[name=vllm]", "0.19, 0.20")
    page.select_option("[name=pin]", "on")
    assert [each.split(":")[0] for each in shown(page)] == [
        "torch 2.10.0, vLLM 0.19.1",
        "torch 2.11.0, vLLM 0.20.2",
    ]
    kept = page.url.partition("#")[2]
    again = opened("#" + kept)
    assert shown(again) == shown(page)
    assert again.input_value("[name=torch]") == ">=2.10, <2.12"
    page.click("button[type=reset]")
    page.fill("[name=q]", "window.evil")
    assert len(shown(page)) == 3
    page.select_option("[name=ran]", "yes")
    page.fill("[name=q]", "moe")
    assert len(shown(page)) == 3
    page.fill("[name=q]", "there is no such text")
    assert shown(page) == [] and "nothing fits" in page.inner_text("#status")


def test_a_link_opens_what_it_names(opened: Any) -> None:
    page = opened("#platform=cpu&python=3.11&at=2.10.0,0.19.1")
    assert "cpu, Python 3.11" in page.locator("#detail").inner_text()
    assert page.locator(".case").count() == 2
    page.evaluate("location.hash = '#at=2.11.0,0.20.2'")
    page.wait_for_function("document.querySelector('#detail h2').textContent.includes('2.11.0')")
    hostile = opened("#platform=<img src=x>&python=9&verdict=x,drift&at=</script>,1&torch=%3Cb%3E")
    assert hostile.locator("#detail").is_hidden()


def test_clear_takes_the_open_cell_along(opened: Any) -> None:
    page = opened("#platform=cpu&at=2.10.0,0.19.1")
    assert "cpu, Python 3.11" in page.inner_text("#detail .top")
    page.click("button[type=reset]")
    page.wait_for_function("!location.hash.includes('platform')")
    assert page.is_checked("[name=platform][value=cuda]")
    assert "cuda, Python 3.11" in page.inner_text("#detail .top")


def test_the_filter_s_python_takes_the_place_of_one_chosen_in_the_cell(opened: Any) -> None:
    page = opened()
    page.click(PIN)
    page.locator(".pythons button").nth(4).click()
    assert "cuda, Python 3.14" in page.inner_text("#detail .top")
    page.locator("fieldset").nth(0).get_by_text("cpu").click()
    assert "cpu, Python 3.14" in page.inner_text("#detail .top")
    page.locator("fieldset").nth(1).get_by_text("3.12").click()
    assert "cpu, Python 3.12" in page.inner_text("#detail .top")
    assert page.evaluate("document.activeElement.name") == "python"


@pytest.mark.parametrize("platform", ["__proto__", "constructor", "toString", "rocm"])
def test_what_a_link_names_and_the_form_does_not_offer_is_left_out(
    opened: Any, platform: str
) -> None:
    page = opened(f"#platform={platform}&pin=zzz&ran=zzz&python=__proto__")
    assert page.inner_text("#status") == opened().inner_text("#status")
    assert (page.input_value("[name=pin]"), page.input_value("[name=ran]")) == ("", "")


def test_the_page_opens_where_something_ran(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / report.PAGE
    path.write_text(report.render(tabled(RECORDS[:1]), environments(RELEASES)), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")
    assert page.is_checked("[name=platform][value=cpu]")
    assert "it ran" in str(page.locator(PIN).get_attribute("aria-label"))
    page.click(PIN)
    assert "cpu, Python 3.11" in page.inner_text("#detail .top")
    page.close()


def test_the_keyboard_moves_opens_and_comes_back(opened: Any) -> None:
    page = opened()
    page.focus(PIN)
    assert page.locator('#grid button[tabindex="0"]').count() == 1
    for key, wanted in [
        ("ArrowRight", "torch 2.11.0, vLLM 0.19.1"),
        ("ArrowDown", "torch 2.11.0, vLLM 0.20.2"),
        ("ArrowLeft", "torch 2.10.0, vLLM 0.20.2"),
        ("ArrowUp", "torch 2.10.0, vLLM 0.19.1"),
        ("Home", f"torch {RELEASES.torch[0].version}, vLLM 0.19.1"),
        ("End", f"torch {RELEASES.torch[-1].version}, vLLM 0.19.1"),
        ("Control+Home", f"torch {RELEASES.torch[0].version}, vLLM "),
    ]:
        page.keyboard.press(key)
        assert focused(page).startswith(wanted), key
        assert page.locator('#grid button[tabindex="0"]').count() == 1
    page.focus(DRIFT)
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "detail-title"
    assert page.locator(DRIFT).get_attribute("aria-expanded") == "true"
    page.keyboard.press("Escape")
    assert page.locator("#detail").is_hidden()
    assert focused(page).startswith("torch 2.11.0, vLLM 0.20.2")
    assert "at=" not in page.url
    # The keys pass over what a filter hides.
    page.select_option("[name=ran]", "yes")
    page.focus(PIN)
    page.keyboard.press("ArrowDown")
    assert focused(page).startswith("torch 2.11.0, vLLM 0.20.2")


def test_all_that_ran_is_listed_also_what_has_no_place(opened: Any) -> None:
    page = opened()
    page.click("#list summary")
    assert page.locator("#list tbody tr").count() == len(RECORDS)
    page.click("#list button:has-text('py311-torch210-vllm017')")
    said = page.locator("#detail").inner_text()
    assert "tox -e py311-torch210-vllm017 -- --platform cpu" in said and "2.10.0.dev1" in said
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
@pytest.mark.parametrize("at", ["", "#at=2.11.0,0.20.2", "#at=2.12.1,0.20.2"])
def test_axe_finds_nothing(opened: Any, scheme: str, width: int, at: str) -> None:
    page = opened(
        at,
        color_scheme=scheme,
        viewport={"width": width, "height": 900},
        reduced_motion="reduce",
    )
    if at:
        page.evaluate("document.querySelectorAll('#detail details').forEach(d => d.open = true)")
    else:
        page.locator("#list summary").click()
        if width < 600:
            page.locator(".controls > summary").click()
    found = axe.Axe().run(page).response
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
    assert {each["id"] for each in found["passes"]} >= {"color-contrast", "button-name"}


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
