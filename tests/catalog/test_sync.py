"""`matrix sync`: the block of tox.ini against the releases, read as a person and as tox would."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrix import cli
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.catalog.tox_ini import BEGIN, END, SyncError, block, describe, difference, synced

ROOT = Path(__file__).parents[2]
TOX_INI = (ROOT / "tox.ini").read_text(encoding="utf-8")
RELEASES = load_releases()

TORCH = [
    {"version": "2.9.0", "torchvision": "0.24.0", "torchaudio": "2.9.0"},
    {"version": "2.9.1", "torchvision": "0.24.1", "torchaudio": "2.9.1"},
    {"version": "2.12.0", "torchvision": "0.27.0", "torchaudio": "2.11.0"},
    {"version": "2.12.1", "yanked": "bad wheel"},
    {"version": "2.15.0"},
]
WANTED = """\
[testenv:py312-torch29{,-vllm016},py{311,312}-torch29{-vllm09,-vllm013}]
base = cell, testenv
deps =
    {[cell]deps}
    vllm09,vllm013: torch==2.9.0
    !vllm09-!vllm013: torch==2.9.1
    vllm09: vllm==0.9.2
    vllm013: vllm==0.13.0
    !vllm09-!vllm013: vllm==0.16.0

# Any other pair is off-pin: the newest patch of each, with the companions of that torch. tox does
# not list these; toxfile.py makes the one that is asked for, and has uv override vLLM's pins.
[off-pin]
deps =
    {[cell]deps}
    torch29:  torch==2.9.1
    torch29:  torchvision==0.24.1
    torch29:  torchaudio==2.9.1
    torch212: torch==2.12.0
    torch212: torchvision==0.27.0
    torch212: torchaudio==2.11.0
    torch215: torch==2.15.0
    vllm09:   vllm==0.9.2
    vllm013:  vllm==0.13.0
    vllm016:  vllm==0.16.0
"""


def pinning(version: str, torch: str, python: str = ">=3.10") -> dict[str, str]:
    return {
        "version": version,
        "torch": torch,
        "torchvision": "0.24.0",
        "torchaudio": "2.9.0",
        "python": python,
    }


VLLM = [
    pinning("0.9.1", "2.9.0"),
    pinning("0.9.2", "2.9.0"),
    pinning("0.13.0", "2.9.0"),
    pinning("0.16.0", "2.9.1", ">=3.12"),
    {**pinning("0.16.1", "2.9.1"), "yanked": "broken"},
]


def load(folder: Path, torch: list[Any] = TORCH, vllm: list[Any] = VLLM) -> Releases:
    releases, cells = folder / "releases.json", folder / "cells.json"
    releases.write_text(json.dumps({"torch": torch, "vllm": vllm}))
    cells.write_text(json.dumps({"pythons": ["3.11", "3.12"], "vllm": []}))
    return load_releases(releases, cells)


def test_the_block_of_the_committed_tox_ini_is_up_to_date() -> None:
    assert difference(TOX_INI, synced(TOX_INI, RELEASES)) == []


def test_a_section_a_torch_and_the_factors_of_the_others(tmp_path: Path) -> None:
    head, _, rest = block(load(tmp_path)).partition("\n\n")
    assert all(line.startswith("# ") for line in head.splitlines())
    assert rest == WANTED


def test_a_torch_with_one_vllm_needs_no_condition(tmp_path: Path) -> None:
    told = block(load(tmp_path, vllm=VLLM[3:]))
    assert "[testenv:py312-torch29{,-vllm016}]\n" in told
    assert "    {[cell]deps}\n    torch==2.9.1\n    vllm==0.16.0\n\n" in told


def test_the_block_has_the_factors_of_every_minor() -> None:
    told = block(RELEASES)
    found = set(re.findall(r"^ +(\w+): ", told.partition("[off-pin]")[2], re.MULTILINE))
    named = {f"torch{'.'.join(release.version.split('.')[:2])}" for release in RELEASES.torch}
    named |= {f"vllm{'.'.join(release.version.split('.')[:2])}" for release in RELEASES.vllm}
    assert found == {factor.replace(".", "") for factor in named}


def test_a_person_can_read_the_block() -> None:
    for line in block(RELEASES).splitlines():
        assert line == line.rstrip()
        assert not line.startswith("#") or len(line) <= 100


def test_what_is_synced_is_up_to_date_whatever_it_said(tmp_path: Path) -> None:
    releases = load(tmp_path)
    before, after = "[tox]\nenv_list = lint\n\n", "\n\n[testenv:lint]\n"
    for within in ("", "\n", "torch==1.0\n", block(RELEASES)):
        fresh = synced(f"{before}{BEGIN}\n{within}{END}{after}", releases)
        assert fresh == f"{before}{BEGIN}\n{block(releases)}{END}{after}"
        assert synced(fresh, releases) == fresh


@settings(deadline=None, max_examples=10)
@given(st.data())
def test_any_change_within_the_block_is_seen(data: st.DataObject) -> None:
    lines = TOX_INI.split("\n")
    at = data.draw(st.integers(lines.index(BEGIN) + 1, lines.index(END) - 1))
    changed = data.draw(st.sampled_from([[], [lines[at] + "0"], [lines[at], "    numpy"]]))
    stale = "\n".join([*lines[:at], *changed, *lines[at + 1 :]])
    told = difference(stale, synced(stale, RELEASES))
    assert told and all(line[0] in "+-" for line in told)
    assert synced(stale, RELEASES) == TOX_INI


def test_a_difference_is_short() -> None:
    told = difference("", "\n".join(map(str, range(100))), most=5)
    assert len(told) == 6
    assert re.fullmatch(r"\.\.\. \d+ more", told[-1])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[tox]\n", "has the line '# >>>"),
        (f"{BEGIN}\n", "0 times; restore it"),
        (f"{BEGIN}\n{BEGIN}\n{END}\n", "2 times"),
        (f"{END}\n{BEGIN}\n", "stands before"),
    ],
)
def test_a_tox_ini_without_its_marks_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SyncError) as caught:
        synced(text, RELEASES)
    assert str(caught.value).startswith("tox.ini: ")
    assert reason in str(caught.value)


def test_an_off_pin_cell_is_described_so() -> None:
    cell = RELEASES.resolve("py312-torch212-vllm020")
    assert describe(cell, RELEASES) == (
        f"off-pin (vLLM {cell.vllm} pins torch 2.11.0): torch {cell.torch} with vLLM {cell.vllm} "
        "on Python 3.12: cold and warm starts, and their verdict"
    )
    for cell in RELEASES.on_pin():
        assert "off-pin" not in describe(cell, RELEASES)


def test_the_command_says_what_is_stale_and_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tox.ini"
    line = next(text for text in TOX_INI.split("\n") if " torch212: torch==" in text)
    stale = TOX_INI.replace(line, "    torch212: torch==2.12.99")
    path.write_text(stale, encoding="utf-8")
    shown = f"-    torch212: torch==2.12.99\n+{line}\n"

    assert cli.main(["sync", "--check"]) == 1
    told = capsys.readouterr()
    assert told.out == shown
    assert told.err == ("matrix: tox.ini is stale, it differs from matrix/data; run matrix sync\n")
    assert path.read_text(encoding="utf-8") == stale

    assert cli.main(["sync"]) == 0
    assert capsys.readouterr().out.endswith(shown)
    assert path.read_text(encoding="utf-8") == TOX_INI
    assert [entry.name for entry in tmp_path.iterdir()] == ["tox.ini"]

    assert cli.main(["sync", "--check"]) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"[tox]\n"])
def test_the_command_names_what_it_cannot_use(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "tox.ini").write_bytes(content)
    assert cli.main(["sync"]) == 2
    assert re.fullmatch(r"matrix: tox\.ini: [^\n]+\n", capsys.readouterr().err)
    assert content is None or (tmp_path / "tox.ini").read_bytes() == content
