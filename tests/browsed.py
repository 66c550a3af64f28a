"""The page in a browser: its records, and what opens it and looks at it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from matrix._util.versions import VersionRange
from matrix.record.model import Case, Platform, Record, Start, StartKind
from matrix.report.model import Report
from matrix.report.page import PAGE_FILE, render
from matrix.rules.expectations_file import parse_expectations
from matrix.rules.notes import Note
from matrix.verdict.grid import environments
from pages import RELEASES, make, whole_report
from rules import LOADED, SAVED, cold_and_warm

RULES = parse_expectations(
    cold_and_warm('case = "moe"\nvllm = "<99"', {SAVED: 3}, {LOADED: 3}), "rules.toml"
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
            seconds={"total": 70.2, "inspect": 9.0, "dynamo": 6.0},
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


def page_of(browser: Any, folder: Path, *records: tuple[Path, Record]) -> Any:
    """Return the page of these records alone, opened."""
    path = folder / PAGE_FILE
    path.write_text(render(reported(records), environments(RELEASES)), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")
    return page


def shown(page: Any) -> list[str]:
    """Return the labels of the squares that can be seen."""
    found: list[str] = page.eval_on_selector_all(
        "#grid tbody button",
        "all => all.filter(b => b.checkVisibility({visibilityProperty: true}))"
        ".map(b => b.getAttribute('aria-label'))",
    )
    return found


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label')"))


@contextlib.contextmanager
def chromium(sync_api: Any) -> Iterator[Any]:
    """Start the Chromium that MATRIX_CHROMIUM names, that of the PATH, or playwright's own."""
    found = os.environ.get("MATRIX_CHROMIUM") or shutil.which("chromium")
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield started
        started.close()


@contextlib.contextmanager
def opening(browser: Any, file: Path) -> Iterator[Callable[..., Any]]:
    """Give what opens the page; at its end nothing was asked for and no script failed."""
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


def wait_until(page: Any, expression: str) -> None:
    """Wait until an expression holds in the page; fail after ten seconds.

    Playwright's `wait_for_function` asks again by `eval`, which the page's policy forbids.
    """
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{expression} did not hold within ten seconds")
