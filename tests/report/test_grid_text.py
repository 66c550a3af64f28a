"""The grid on a terminal: blocks of columns that fit it, newest first, and colour."""

from __future__ import annotations

import io
import itertools
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from command import matrix
from matrix._util.console import Terminal, report_width, terminal_of
from matrix.catalog.releases_file import load_releases
from matrix.checks.facts import quoted
from matrix.checks.lookup import Answer, load_answers
from matrix.commands import context
from matrix.record.model import Platform
from matrix.report.grid_text import blocks, lines
from matrix.verdict.grid import survey

RESULTS = Path(__file__).parents[2] / "results"
RELEASES = load_releases()
GRID = context.grid_of([], RELEASES, load_answers(RELEASES))
"""Of all releases, with what the checks say and without a record."""


@given(
    widths=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    key=st.integers(1, 12),
    width=st.none() | st.integers(20, 300),
)
def test_a_block_fits_and_has_its_columns_alone(
    widths: list[int], key: int, width: int | None
) -> None:
    """Together the blocks have every column once, in order; one that is too wide stands alone."""
    found = blocks(widths, key, width)
    assert [place for block in found for place in block] == list(range(len(widths)))
    for block in found:
        taken = key + sum(2 + widths[place] for place in block)
        assert width is None or taken <= width or len(block) == 1
    # No block could have taken the first column of the next one.
    for block, after in itertools.pairwise(found):
        assert width is not None
        assert key + sum(2 + widths[place] for place in (*block, after[0])) > width


def parts(text: str) -> list[list[str]]:
    """Return the lines of each block: its head and its rows."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("vLLM  "):
            found.append([])
        if found and re.match(r"vLLM  |\d", line):
            found[-1].append(line)
    return found


@pytest.mark.parametrize("platform", list(Platform))
@pytest.mark.parametrize("width", [40, 80, 81, 100, 132, 200, 400])
def test_the_blocks_of_a_real_grid_have_every_release_once(platform: Platform, width: int) -> None:
    text = lines(GRID, (platform,), terminal=Terminal(width=width))
    found = parts(text)
    # A symbol of C++ is not broken where it is too long.
    lasting = text.splitlines() if width >= 80 else [line for part in found for line in part]
    assert max(map(len, lasting)) <= width
    heads = [word for part in found for word in part[0].split()[1:]]
    assert heads == ["pins", *(torch.version for torch in reversed(GRID.columns))]
    for part in found:
        rows = [row.split()[0] for row in part[1:]]
        assert rows == [vllm.version for vllm in reversed(GRID.rows)]


def test_without_a_width_there_is_one_block() -> None:
    text = lines(GRID, (Platform.CUDA,))
    (part,) = parts(text)
    assert len(part[0].split()) == len(GRID.columns) + 2
    assert text.startswith("cuda: vLLM below, torch to the right\n")


def test_a_legend_explains_what_is_there_alone() -> None:
    asked = "?: a rung below was not asked"
    assert asked in lines(GRID, (Platform.CUDA,)) and asked not in lines(GRID, (Platform.CPU,))


def test_what_the_index_lacked_has_a_line() -> None:
    lacks = Answer(ok=False, unknown=True, facts=quoted("needs certifi>=2"), asked="2026-11-23")
    links = Answer(ok=True)
    grid = survey(RELEASES, resolves=lambda _cell, _platform: lacks, links=lambda _cell: links)
    text = lines(grid.only(SpecifierSet("==2.14.0"), SpecifierSet("==0.33.0")), (Platform.CUDA,))
    assert "\n0.33.0  2.14.0  links ? [1] *\n" in text
    assert "?: a rung below was not asked, or has no answer\n" in text
    assert text.endswith(
        "  [1] vLLM 0.33.0 under torch 2.14.0: resolves: no answer, as the index lacked it: needs"
        " certifi>=2 (asked on 2026-11-23)\n"
    )


@pytest.fixture
def published(tmp_path: Path) -> Path:
    for platform in ("cpu", "cuda"):
        shutil.copytree(RESULTS / platform, tmp_path / "results" / platform)
    return tmp_path


def test_marks_become_letters_where_one_block_is_too_wide(published: Path) -> None:
    wide = matrix(published, "grid", "--platform", "cpu").stdout
    assert "as expected, 2 cases recompile warm *" in wide and "[a]" not in wide
    narrow = matrix(published, "grid", "--platform", "cpu", "--width", "80").stdout
    [letter] = re.findall(r"\n  \[(\w)\] 2 cases recompile warm\n", narrow)
    assert f"as expected [{letter}] *" in narrow
    assert max(map(len, narrow.splitlines())) <= 80
    assert "cpu: vLLM below, torch to the right, 1 of 4\n" in narrow
    pair = ("--platform", "cpu", "--torch", "==2.11.0")
    one = matrix(published, "grid", *pair, "--width", "80").stdout
    assert "as expected, 2 cases recompile warm" in one and "1 of" not in one


@pytest.mark.parametrize("width", ["19", "0", "-1", "wide", "10000", "²"])
def test_a_width_that_no_terminal_has_is_refused(tmp_path: Path, width: str) -> None:
    ended = matrix(tmp_path, "grid", f"--width={width}")
    assert ended.returncode == 2 and "is not a number of columns from 20" in ended.stderr


def test_colour_is_forced_or_absent_in_a_pipe(published: Path) -> None:
    asked = ("grid", "--platform", "cuda", "--vllm", "0.19", "--torch", ">=2.9,<2.12")
    plain = matrix(published, *asked, FORCE_COLOR="", NO_COLOR="").stdout
    assert "\x1b" not in plain
    colour = matrix(published, *asked, FORCE_COLOR="1", NO_COLOR="").stdout
    assert "\x1b[31mno links [1]\x1b[0m" in colour and "\x1b[32mas expected" in colour
    assert re.sub(r"\x1b\[\d*m", "", colour) == plain
    assert matrix(published, *asked, FORCE_COLOR="1", NO_COLOR="1").stdout == plain


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Terminal(colour=True, width=80)),
        ({"COLUMNS": "132", "TERM": "dumb"}, Terminal(colour=False, width=132)),
        ({"COLUMNS": "3"}, Terminal(colour=True, width=20)),
        ({"COLUMNS": "many", "NO_COLOR": "1"}, Terminal(colour=False, width=80)),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, Terminal(colour=False, width=80)),
        ({"NO_COLOR": ""}, Terminal(colour=True, width=80)),
    ],
)
def test_a_terminal_says_how_it_shows(environ: dict[str, str], expected: Terminal) -> None:
    assert terminal_of(_Screen(), environ) == expected


def test_a_pipe_has_no_width_unless_columns_names_it() -> None:
    assert terminal_of(io.StringIO(), {}) == Terminal()
    assert terminal_of(io.StringIO(), {"COLUMNS": "80"}) == Terminal(width=80)
    assert terminal_of(io.StringIO(), {"FORCE_COLOR": "1"}) == Terminal(colour=True)


@pytest.mark.parametrize(
    ("stream", "environ", "width"),
    [
        (_Screen(), {}, 80),
        (_Screen(), {"COLUMNS": "132"}, 132),
        (io.StringIO(), {}, 100),
        (io.StringIO(), {"COLUMNS": "132"}, 132),
        (io.StringIO(), {"COLUMNS": "many"}, 100),
        (io.StringIO(), {"COLUMNS": "3"}, 20),
    ],
)
def test_a_report_is_as_wide_as_its_stream(
    stream: io.StringIO, environ: dict[str, str], width: int
) -> None:
    assert report_width(stream, environ) == width
