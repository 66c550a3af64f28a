"""The pytest plugin of upstream's own tests: it fills the hub's cache, and reports what happened.

It changes nothing of a test. The hub's cache gets the configurations of `matrix/data/models` under
their names on the hub, as files that were fetched before, and no weights. Upstream's tests make a
tokenizer of each model, so one without gets a small one; and what a model's repository brings as
code is a small class of our own. The report names each such stand-in.
Each thing that happens is a line of JSON in the file that `MATRIX_UPSTREAM_REPORT` names.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from matrix.inside.hub_code import add_code
from matrix.inside.models import MODELS

REPORT = "MATRIX_UPSTREAM_REPORT"
_HUB = "HF_HUB_CACHE"
_REVISION = "0" * 40
_STDERR_LIMIT = 256 * 1024  # characters: the traceback of a child is at its end
_SMALL = MODELS["kimi-k2.5"]  # has a small tokenizer of our own
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Prepare what upstream's conftest needs before pytest imports it."""
    for stand_in in fill_hub(Path(os.environ[_HUB])):
        _report(stand_in=stand_in)
    if importlib.util.find_spec("tblib") is None:
        _stand_in_for_tblib()
        _report(stand_in="tblib")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Report the tests that were collected."""
    _report(collected=[item.nodeid for item in session.items])


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Report a module that cannot be collected, or is skipped as a whole."""
    if report.failed:
        _report(uncollected=report.longreprtext, of=report.nodeid)
    elif report.skipped:
        _report(skipped_module=_skip_reason(report), of=report.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Report one phase of a test."""
    if report.skipped:
        expected = getattr(report, "wasxfail", None)
        text = _skip_reason(report) if expected is None else f"expected to fail: {expected}"
    else:
        text = report.longreprtext if report.failed else ""
    _report(when=report.when, outcome=report.outcome, text=text, stderr=_end_of_stderr(report))


def fill_hub(folder: Path) -> list[str]:
    """Put the models' configurations into a cache of the hub, where they are not there yet.

    Return what a model got that is not its own.
    """
    stand_ins: dict[str, None] = {}
    for model in MODELS.values():
        if model.repository is None:
            continue
        home = folder / f"models--{model.repository.replace('/', '--')}"
        if home.exists():
            continue
        files = home / "snapshots" / _REVISION
        shutil.copytree(model.folder, files)
        if not (files / _TOKENIZER[0]).exists():
            stand_ins["tokenizer"] = None
            for name in _TOKENIZER:
                shutil.copyfile(_SMALL.folder / name, files / name)
        stand_ins |= dict.fromkeys(add_code(model, files))
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text(_REVISION, encoding="utf-8")
    return list(stand_ins)


def _stand_in_for_tblib() -> None:
    """Let upstream's conftest import tblib, which lets exceptions keep tracebacks when pickled.

    A cell lacks it. Without it an exception that comes from another process has no traceback there.
    """
    module, support = ModuleType("tblib"), ModuleType("tblib.pickling_support")
    support.install = lambda *_arguments, **_options: None  # type: ignore[attr-defined]
    module.pickling_support = support  # type: ignore[attr-defined]
    sys.modules |= {"tblib": module, "tblib.pickling_support": support}


def _skip_reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Return why upstream skips it."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr or "")
    return text.removeprefix("Skipped: ")


def _end_of_stderr(report: pytest.TestReport) -> str:
    """Return the end of what a failed test and its children wrote to standard error."""
    return report.capstderr[-_STDERR_LIMIT:] if report.failed else ""


def _report(**facts: object) -> None:
    # Opened each time, so that a forked child of a test shares no buffer with this process.
    with Path(os.environ[REPORT]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts) + "\n")
