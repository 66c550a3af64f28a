"""The command that installs a pair: that of the page, of the JSON and of the advice are one."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from matrix.catalog.cells import Cell
from matrix.report import api
from matrix.report.page.commands import commands
from matrix.report.page.encoding import Pool
from matrix.report.uv_commands import command_line, new_environment
from page_text import decoded
from pages import RELEASES, whole_report
from rules import MOE

REPORT = whole_report([], MOE)
GRID = REPORT.grid


def test_the_commands_of_a_pair_change_no_other_environment() -> None:
    assert len(REPORT.installs) == len(RELEASES.torch) * len(RELEASES.vllm)
    for install in REPORT.installs.values():
        made, *_, installed = new_environment(install)
        assert made.startswith(f"uv venv {install.environment} --python ")
        assert installed.startswith(f"uv pip install --python {install.environment} vllm==")


def test_no_report_has_an_answer_that_it_cannot_install() -> None:
    """It is refused where it is made, not where its page or its JSON is."""
    (first, *_) = REPORT.answers
    pair = first.progress.cell.torch, first.progress.cell.vllm
    rest = {key: install for key, install in REPORT.installs.items() if key != pair}
    for installs in ({}, rest):
        with pytest.raises(ValueError, match=r"^answers: nothing in `installs` is for torch "):
            replace(REPORT, installs=installs)
    assert replace(REPORT, answers=(), installs={}).answers == ()
    assert replace(REPORT, answers=(first,), installs={pair: REPORT.installs[pair]}).answers


def test_off_its_pin_a_pair_has_overrides_in_its_folder() -> None:
    made, written, installed = new_environment(REPORT.install(Cell("3.12", "2.12.1", "0.20.2")))
    folder = "vllm-0.20.2-torch-2.12.1"
    assert made == f"uv venv {folder} --python 3.12"
    assert re.fullmatch(rf"printf '%s\\n' torch==2\.12\.1 .* > {folder}/overrides\.txt", written)
    assert installed.endswith(f" --override {folder}/overrides.txt")


def test_the_page_makes_the_command_that_the_advice_makes() -> None:
    texts = Pool()
    torches = [torch.version for torch in RELEASES.torch]
    vllms = [vllm.version for vllm in RELEASES.vllm]
    packed = commands(
        REPORT.installs, torches, vllms, lambda text: texts.place(text, text) if text else 0
    )
    forms, installs, overrides = (
        [texts.held[at] if at else "" for at in packed[key]]  # type: ignore[attr-defined]
        for key in ("commands", "installs", "overrides")
    )
    backends = [texts.held[at] or "" for at in decoded(str(packed["backends"]))]
    for row, vllm in enumerate(vllms):
        for column, torch in enumerate(torches):
            backend = backends[row * len(torches) + column]
            off_pin = RELEASES.vllm[row].torch != torch
            parts = {
                "vllm": vllm,
                "torch": torch,
                "python": "3.12",
                "requirements": installs[row],
                "overrides": overrides[column],
                "backend": backend,
            }
            form = str(forms[2 * off_pin + bool(backend)])
            made = re.sub(r"@(\w+)", lambda part, known=parts: str(known[part[1]]), form)  # type: ignore[misc]
            assert made == command_line(REPORT.install(Cell("3.12", torch, vllm)))


def test_the_json_has_the_same_command() -> None:
    answer = json.loads(api.render(REPORT)["api/vllm/0.32.0.json"])["answer"]
    install = REPORT.install(Cell(answer["python"], answer["torch"], "0.32.0"))
    assert answer["command"] == command_line(install)
    assert answer["requirements"] == ["vllm==0.32.0", "cuda-python>=13"]
    assert answer["backend"] is None
