"""Filters, links, keys and the way back, in a real Chromium: `tox -e page`."""

from __future__ import annotations

from typing import Any

import pytest

from browsed import DRIFT, PIN, focused, shown
from matrix.report.model import Report
from pages import RELEASES

pytest_plugins = ["opened_page"]

pytest.importorskip("playwright.sync_api", reason="tox -e page installs playwright")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("2.10.*", ["2.10.0"]),
        ("~=2.10", ["2.15.0", "2.14.1", "2.14.0", "2.13.0", "2.12.1", "2.11.0", "2.10.0"]),
        ("~=2.12.1", ["2.12.1"]),
        ("~=2.12.2", []),
        ("!=2.10.*, <2.12, >=2.9.1", ["2.11.0", "2.9.1"]),
        ("==2.10.*", ["2.10.0"]),
        (">= 2.14", ["2.15.0", "2.14.1", "2.14.0"]),
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
    page.wait_for_url(lambda url: "drift" not in url)  # no script of a string: the page forbids it
    assert len(shown(page)) == everything
    page.fill("[name=torch]", ">=2.10, <2.12")
    page.fill("[name=vllm]", "0.19, 0.20")
    page.select_option("[name=pin]", "on")
    assert [item.split(":")[0] for item in shown(page)] == [
        "torch 2.11.0, vLLM 0.20.2",
        "torch 2.10.0, vLLM 0.19.1",
    ]
    kept = page.url.partition("#")[2]
    again = opened("#" + kept)
    assert shown(again) == shown(page)
    assert again.input_value("[name=torch]") == ">=2.10, <2.12"
    page.click("button[type=reset]")
    page.fill("[name=q]", "window.evil")
    assert len(shown(page)) > 3  # the note of many pairs has these words
    page.select_option("[name=ran]", "yes")
    assert len(shown(page)) == 3
    page.fill("[name=q]", "moe")
    assert len(shown(page)) == 3
    page.fill("[name=q]", "there is no such text")
    assert shown(page) == [] and "nothing fits" in page.inner_text("#status")


def test_a_link_opens_what_it_names(opened: Any) -> None:
    page = opened("#platform=cpu&python=3.11&at=2.10.0,0.19.1")
    assert "cpu, Python 3.11" in page.locator("#detail").inner_text()
    assert page.locator(".case").count() == 2
    page.evaluate("location.hash = '#at=2.11.0,0.20.2'")
    page.locator("#detail h2", has_text="2.11.0").wait_for()
    hostile = opened("#platform=<img src=x>&python=9&verdict=x,drift&at=</script>,1&torch=%3Cb%3E")
    assert hostile.locator("#detail").is_hidden()


def test_clear_takes_the_open_cell_along(opened: Any) -> None:
    page = opened("#platform=cpu&at=2.10.0,0.19.1")
    assert "cpu, Python 3.11" in page.inner_text("#detail .top")
    page.click("button[type=reset]")
    page.locator("#detail .top", has_text="cuda, Python 3.11").wait_for()
    assert page.is_checked("[name=platform][value=cuda]")
    # A link to a cell names its platform: the page may open on another one some day.
    assert page.url.endswith("#platform=cuda&at=2.10.0%2C0.19.1")


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


def test_a_record_without_a_place_closes_with_back_too(opened: Any) -> None:
    page = opened()
    page.click("#list summary")
    page.click("#list button:has-text('py311-torch210-vllm017')")
    page.go_back()
    page.locator("#detail").wait_for(state="hidden")


def test_a_text_is_looked_for_as_a_person_means_it(opened: Any) -> None:
    page = opened()
    for text, word in [("compatible", "compatible"), ("INCOMPATIBLE", "incompatible")]:
        page.fill("[name=q]", text)
        labels = shown(page)
        assert labels and all(f": {word}, " in item for item in labels)
    page.fill("[name=q]", "3.11")
    assert f"{shown(page)}".count("torch 2.11.0, vLLM 0.20.2: drift") == 1


def test_the_keyboard_moves_opens_and_comes_back(opened: Any) -> None:
    page = opened()
    page.focus(PIN)
    assert page.locator('#grid button[tabindex="0"]').count() == 1
    for key, wanted in [
        ("ArrowLeft", "torch 2.11.0, vLLM 0.19.1"),
        ("ArrowUp", "torch 2.11.0, vLLM 0.20.2"),
        ("ArrowRight", "torch 2.10.0, vLLM 0.20.2"),
        ("ArrowDown", "torch 2.10.0, vLLM 0.19.1"),
        ("Home", f"torch {RELEASES.torch[-1].version}, vLLM 0.19.1"),
        ("End", f"torch {RELEASES.torch[0].version}, vLLM 0.19.1"),
        ("Control+Home", f"torch {RELEASES.torch[-1].version}, vLLM "),
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
    page.keyboard.press("ArrowUp")
    assert focused(page).startswith("torch 2.11.0, vLLM 0.20.2")
