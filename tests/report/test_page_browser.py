"""The page in a real Chromium, opened from disk: `tox -e page`.

Not among the unit tests: it needs playwright and a Chromium (`MATRIX_CHROMIUM` names one; else
`chromium` of the PATH, else the one that playwright has).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from matrix._util.versions import VersionRange
from matrix.record.model import Case, Platform, Record, Start, StartKind
from matrix.report.model import Report
from matrix.report.page import PAGE, mark, render
from matrix.rules.expectations_file import parse_expectations
from matrix.rules.notes import Note
from matrix.verdict.grid import environments
from pages import RELEASES, make, whole_report

sync_api = pytest.importorskip("playwright.sync_api", reason="tox -e page installs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="tox -e page has axe")

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
    provenance, flags = {"os": EVIL}, {"VLLM_X": EVIL}
    return make(cell, torch, vllm, *cases, platform=platform, provenance=provenance, flags=flags)


def moe(loaded: int = 3, **more: Any) -> Case:
    starts = (
        Start(
            start=StartKind.COLD,
            seconds={"total": 61.2, "dynamo": 6.0},
            counters={"num_compiled_artifacts_saved": 3},
        ),
        Start(
            start=StartKind.WARM,
            seconds={"total": 15.3, "load": 2.0},
            counters={"num_compiled_artifacts_loaded": loaded},
        ),
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
NOTES = (
    Note(
        id="a",
        text=EVIL,
        evidence=("results/cuda/a.json",),
        platform=Platform.CUDA,
        torch=VersionRange(">=2.11"),
        vllm=VersionRange(),
    ),
)
HISTORY = {
    ("py311-torch210-vllm019", "cuda", "moe", start): [
        (f"2026-{month:02}-01T00:00:00Z", base + month) for month in range(1, 11)
    ]
    for start, base in (("cold", 50.0), ("warm", 10.0))
}


def reported(records: Iterable[tuple[Path, Record]]) -> Report:
    return whole_report(records, RULES, NOTES)


@pytest.fixture(scope="module")
def report() -> Report:
    return reported(RECORDS)


@pytest.fixture(scope="module")
def file(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / PAGE
    path.write_text(render(report, environments(RELEASES), HISTORY), encoding="utf-8")
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
        page.on("console", lambda message: faults.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri() + hash_)
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.evil") is None
            assert page.title() == "torch × vLLM: what starts, cold and warm"
        context.close()
    assert faults == []
    assert {url.partition("#")[0] for url in asked} == {file.as_uri()}


def page_of(browser: Any, folder: Path, *records: tuple[Path, Record]) -> Any:
    """The page of these records alone, opened."""
    path = folder / PAGE
    path.write_text(render(reported(records), environments(RELEASES)), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")
    return page


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
def test_the_grid_is_the_table_s(opened: Any, report: Report, platform: str, python: str) -> None:
    page = opened(f"#platform={platform}&python={python}")
    grid = report.grid
    assert grid is not None
    marks, styles = [], []
    for vllm in grid.rows:
        for torch in grid.columns:
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
    assert heads[1:] == [torch.version for torch in grid.columns]


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
        ["start", "total", "dynamo", "load"],
        ["cold", "61.2", "6.0", "-"],
        ["warm", "15.3", "-", "2.0"],
    ]
    steps = panel.locator(".climb li").all_inner_texts()
    assert len(steps) == 7 and "failed, a record says so" in steps[6]
    assert "2026-11-22T18:00:00Z" in message and "py311-torch211-vllm020.json" in message
    assert "Whose fault: unknown" in message
    assert "vLLM 0.20.2 under torch 2.11.0 counts warm num_compiled_artifacts_loaded 1" in message
    assert "What: warm num_compiled_artifacts_loaded 1, not 3" in message
    assert "Whose fault: unknown in 1 case" in message
    missing = panel.locator(".case li").all_inner_texts()
    assert missing and all(item.startswith("to know whether it is ") for item in missing)
    page.click(OFF)
    message = panel.inner_text()
    assert "Off-pin: vLLM 0.20.2 pins torch 2.11.0; an override installs 2.12.1." in message
    assert EVIL in message and "Whose fault: torch" in message
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


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("2.10.*", ["2.10.0"]),
        ("~=2.10", ["2.10.0", "2.11.0", "2.12.1", "2.13.0", "2.14.0", "2.14.1", "2.15.0"]),
        ("~=2.12.1", ["2.12.1"]),
        ("~=2.12.2", []),
        ("!=2.10.*, <2.12, >=2.9.1", ["2.9.1", "2.11.0"]),
        ("==2.10.*", ["2.10.0"]),
        (">= 2.14", ["2.14.0", "2.14.1", "2.15.0"]),
    ],
)
def test_version_filters_are_read_as_specifiers(opened: Any, wanted: str, found: list[str]) -> None:
    page = opened()
    page.fill("[name=torch]", wanted)
    heads = page.locator("#grid thead th[scope=col]:visible").all_text_contents()[1:]
    assert heads == found
    assert page.get_attribute("[name=torch]", "aria-invalid") is None


@pytest.mark.parametrize(
    "wanted",
    ["2.10.*x", "abc", "!2.10", "2.11.0+cu130", "2.12.0rc1", "~=2", ">=2.10.*", ">=", "2..1", "="],
)
def test_a_version_filter_that_is_not_understood_says_so(opened: Any, wanted: str) -> None:
    page = opened()
    page.fill("[name=torch]", f"2.10, {wanted}")
    assert page.get_attribute("[name=torch]", "aria-invalid") == "true"
    message = page.inner_text("#status")
    assert f"torch: {wanted} is not understood" in message and "2.10, 2.12 or >=2.11" in message
    # What is understood still holds.
    assert page.locator("#grid thead th[scope=col]:visible").all_text_contents()[1:] == ["2.10.0"]
    page.fill("[name=vllm]", wanted)
    assert f"vLLM: {wanted} is not understood" in page.inner_text("#status")
    page.click("button[type=reset]")
    page.wait_for_selector("[name=torch]:not([aria-invalid])")
    assert "not understood" not in page.inner_text("#status")


def test_a_release_that_the_page_leaves_out_is_named(opened: Any) -> None:
    page = opened()
    page.fill("[name=torch]", "2.12.0")
    message = page.inner_text("#status")
    assert "nothing fits; torch 2.12.0 is in compatibility.json alone" in message
    page.fill("[name=torch]", "3.0")
    assert page.inner_text("#status").endswith("nothing fits; clear a filter")
    legend = " ".join(page.inner_text(".legend").split())
    assert (
        f"Shown are the newest patch of each minor release, what is pinned and what ran; "
        f"compatibility.json has all {len(RELEASES.torch)} torch and {len(RELEASES.vllm)} vLLM"
    ) in legend


def test_filters_narrow_the_grid_and_stay_in_the_url(opened: Any, report: Report) -> None:
    page = opened()
    everything = len(shown(page))
    page.get_by_text("≠ drift", exact=True).first.click()
    assert [item.split(":")[0] for item in shown(page)] == ["torch 2.11.0, vLLM 0.20.2"]
    assert page.inner_text("#status").startswith(f"1 of {everything} pairs of releases on cuda")
    assert page.url.endswith("#platform=cuda&verdict=drift") or page.url.endswith("#verdict=drift")
    page.click("button[type=reset]")
    page.wait_for_function("!location.hash.includes('drift')")
    assert len(shown(page)) == everything
    page.fill("[name=torch]", ">=2.10, <2.12")
    page.fill("[name=vllm]", "0.19, 0.20")
    page.select_option("[name=pin]", "on")
    assert [item.split(":")[0] for item in shown(page)] == [
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
    page.locator("#detail .top", has_text="cuda, Python 3.11").wait_for()
    assert page.is_checked("[name=platform][value=cuda]")
    assert "platform" not in page.url


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
    assert "The run was not judged: its counters are told alone." in cut.inner_text()
    assert "No expectation speaks of what ran" in other.inner_text()


def test_back_closes_the_cell_and_keeps_the_filters(opened: Any) -> None:
    page = opened(viewport={"width": 380, "height": 800})
    panel = page.locator("#detail")
    page.click(PIN)
    page.locator(".pythons button").nth(4).click()
    page.go_back()
    panel.wait_for(state="hidden")
    assert page.evaluate("location.hash") in ("", "#")
    page.go_forward()
    assert "cuda, Python 3.14" in page.inner_text("#detail .top")
    # What was filtered beside the open cell stays when it is closed, and Back is as it was before.
    page.locator(".controls > summary").click(force=True)
    page.evaluate(
        "(() => { const pin = document.querySelector('[name=pin]'); pin.value = 'on';"
        " pin.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    before = page.evaluate("history.length")
    for _ in range(3):
        page.keyboard.press("Escape")
        page.wait_for_timeout(100)
        assert page.url.endswith("#pin=on") and panel.is_hidden()
        page.click(PIN)
    assert page.evaluate("history.length") == before
    page.go_back()
    panel.wait_for(state="hidden")
    assert page.url.endswith("#pin=on")
    assert page.input_value("[name=pin]") == "on"


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


def test_a_record_without_a_place_closes_with_back_too(opened: Any) -> None:
    page = opened()
    page.click("#list summary")
    page.click("#list button:has-text('py311-torch210-vllm017')")
    page.go_back()
    page.locator("#detail").wait_for(state="hidden")


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


def test_a_text_is_looked_for_as_a_person_means_it(opened: Any) -> None:
    page = opened()
    for asked, word in [("compatible", "compatible"), ("INCOMPATIBLE", "incompatible")]:
        page.fill("[name=q]", asked)
        labels = shown(page)
        assert labels and all(f": {word}, " in item for item in labels)
    page.fill("[name=q]", "3.11")
    assert f"{shown(page)}".count("torch 2.11.0, vLLM 0.20.2: drift") == 1


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
