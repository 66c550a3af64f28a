"""The head of the page in a real Chromium: answers, search, the command to copy. `tox -e page`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from browsed import wait_until
from pages import RELEASES

pytest_plugins = ["opened_page"]

pytest.importorskip("playwright.sync_api", reason="tox -e page installs playwright")

LINES = ".answers li"


def lines(page: Any) -> list[str]:
    """Return the answers that can be seen, a line each."""
    found = page.locator(f"{LINES}:visible").all_inner_texts()
    return [" ".join(line.split()) for line in found]


def test_the_page_answers_newest_first(opened: Any) -> None:
    page = opened()
    newest = [release.version for release in reversed(RELEASES.vllm)]
    shown = lines(page)
    assert len(shown) == 8 and shown[0].startswith(f"vLLM {newest[0]} ")
    assert "older releases of vLLM" in page.inner_text("#older summary")


def test_an_answer_says_which_torch_where_it_ran_and_what_to_run(opened: Any) -> None:
    page = opened("#q=0.19")
    (line,) = lines(page)
    assert line.startswith("vLLM 0.19.1 torch 2.10.0 its pin ✓ starts warm starts warm: 1 case,")
    assert "none compiles again" in line and "2026-11-22 (" in line
    assert "uv venv vllm-0.19.1 --python 3.11 && uv pip install --python vllm-0.19.1 " in line
    assert page.locator("#older").get_attribute("open") is not None
    page.click(f"{LINES}:visible a")
    assert "torch 2.10.0 × vLLM 0.19.1" in page.inner_text("#detail")
    assert page.url.endswith("#platform=cuda&q=0.19&at=2.10.0%2C0.19.1")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("0.19.1", ["0.19.1"]),
        ("vllm==0.19.1", ["0.19.1"]),
        ("v0.19 torch 2.10", ["0.19.1"]),
        ("0.19.0", ["0.19.1"]),
        ("torch==2.10.0 0.19", ["0.19.1"]),
        ("0.19 2.13", []),
    ],
)
def test_a_version_is_looked_for_on_its_axis(opened: Any, wanted: str, found: list[str]) -> None:
    page = opened()
    page.fill("[name=q]", wanted)
    assert [line.split()[1] for line in lines(page)] == found
    if wanted == "0.19.0":
        assert "vLLM 0.19.0 has no place of its own here; shown is 0.19.1." in page.inner_text(
            "#hint"
        )
    if not found:
        assert "torch 2.13.0 × vLLM 0.19.1" in page.inner_text("#found")


def test_a_build_is_that_of_a_run(opened: Any) -> None:
    page = opened("#q=2.10.0%2Bcu126")
    assert lines(page) == []
    assert page.inner_text("#hint") == "Nothing fits. No run here has 2.10.0+cu126."


def test_the_words_of_an_error_lead_to_its_pairs(opened: Any) -> None:
    page = opened()
    page.select_option("[name=ran]", "yes")
    page.fill("[name=q]", "document.title window.evil b 7 and-a-word-of-mine")
    assert "Not every word fits; these have the most of them, 4 of 5." in page.inner_text("#hint")
    found = page.locator("#found li").first
    assert "torch 2.12.1 × vLLM 0.20.2" in found.inner_text()
    found.locator("button").click()
    assert "torch 2.12.1 × vLLM 0.20.2" in page.inner_text("#detail h2")
    page.click("button[type=reset]", force=True)
    wait_until(page, "document.getElementById('found').hidden")
    assert len(lines(page)) == 8


def test_the_command_is_copied(browser: Any, opened: Any) -> None:
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    line = page.locator(LINES).first
    button = line.locator("button")
    assert button.get_attribute("aria-label").startswith("Copy the command that installs vLLM ")
    button.click()
    page.locator(LINES).first.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == line.locator("code").inner_text()


def test_each_pair_has_the_command_that_installs_it(opened: Any) -> None:
    page = opened("#at=2.12.1,0.20.2")
    folder = "vllm-0.20.2-torch-2.12.1"
    made, written, installed = _command(page).split(" && ")
    assert made == f"uv venv {folder} --python 3.11"
    assert written.startswith(r"printf '%s\n' torch==2.12.1 torchvision==")
    assert written.endswith(f" > {folder}/overrides.txt")
    assert installed == (
        f"uv pip install --python {folder} vllm==0.20.2 --override {folder}/overrides.txt"
    )
    page = opened("#at=2.11.0,0.20.2,3.12")
    assert _command(page) == (
        "uv venv vllm-0.20.2 --python 3.12 && uv pip install --python vllm-0.20.2 vllm==0.20.2"
    )
    page = opened("#at=2.10.0,0.20.2")
    assert " vllm==0.20.2 --torch-backend=cu130 --override " in _command(page)


def _command(page: Any) -> str:
    return str(page.inner_text("#detail pre[aria-label='the command that installs it']"))


def test_a_browser_that_cannot_read_the_data_says_so(browser: Any, file: Path) -> None:
    context = browser.new_context()
    context.add_init_script("delete window.DecompressionStream")
    page = context.new_page()
    page.goto(file.as_uri())
    page.locator("#status", has_text="This browser cannot read the details").wait_for()
    assert page.locator(f"{LINES}:visible").count() == 8
    context.close()


def test_a_search_names_the_other_platform_where_it_fits_there(opened: Any) -> None:
    page = opened("#q=2.10.0 0.19 other")
    assert page.inner_text("#hint") == "Nothing fits. On cpu 1 pair fits; choose it below."
