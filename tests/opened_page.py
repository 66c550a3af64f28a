"""Fixtures of the page in a browser: `report`, `file`, `browser` and `opened`, which opens it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsed import HISTORY, RECORDS, chromium, opening, reported
from matrix.report.model import Report
from matrix.report.page import PAGE_FILE, render
from matrix.verdict.grid import environments
from pages import RELEASES


@pytest.fixture(scope="module")
def report() -> Report:
    return reported(RECORDS)


@pytest.fixture(scope="module")
def file(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / PAGE_FILE
    path.write_text(render(report, environments(RELEASES), HISTORY), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(pytest.importorskip("playwright.sync_api")) as started:
        yield started


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Any]:
    with opening(browser, file) as open_page:
        yield open_page
