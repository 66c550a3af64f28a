"""Reports in a width: no word is lost, no line is wider than it must be, commands stay commands."""

from __future__ import annotations

import re
import subprocess
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix._util.text import aligned
from matrix.cli import COMMANDS
from matrix.report.fitting import table as fitting_table
from matrix.report.fitting import words as fitting_words
from matrix.report.fitting.text import fitted
from matrix.report.fitting.words import is_command
from matrix.report.terminal import painted
from matrix.verdict.states import Verdict
from wide_lines import wide_lines

SYMBOL = "c10::cuda::check(int, char const*, std::vector<int, std::allocator<int> >) const"
WORDS = st.one_of(
    st.text("abcxyz-_.=[]0159", min_size=1, max_size=14),
    st.sampled_from(["`matrix plan --all`", SYMBOL, "https://github.com/vllm-project/vllm/pull/1"]),
)
SENTENCES = st.lists(WORDS, max_size=24).map(" ".join)
LINES = st.tuples(st.integers(0, 50), SENTENCES).map(lambda found: " " * found[0] + found[1])
TABLES = st.integers(2, 5).flatmap(
    lambda size: st.lists(
        st.lists(SENTENCES.filter(bool), min_size=size, max_size=size), min_size=1, max_size=4
    ).map(lambda rows: "\n".join(aligned(rows)))
)
REPORTS = st.lists(st.one_of(LINES, TABLES, st.just("")), max_size=6).map("\n".join)
WIDTHS = st.integers(20, 140)
WHOLE = re.compile(rf"`[^`]+`|{re.escape(SYMBOL)}|\S+")


def words(text: str) -> Counter[str]:
    return Counter(WHOLE.findall(text))


@given(text=REPORTS, width=WIDTHS)
def test_no_word_is_lost_or_broken(text: str, width: int) -> None:
    assert words(fitted(text, width, shell=False)) == words(text)


@given(text=REPORTS, width=WIDTHS)
def test_no_line_is_wider_than_its_one_word(text: str, width: int) -> None:
    assert wide_lines(fitted(text, width), width) == []


@given(text=REPORTS)
def test_what_fits_stays_as_it_is(text: str) -> None:
    assert fitted(text, max(map(len, text.split("\n")))) == text


@given(text=REPORTS, width=WIDTHS)
def test_a_colour_takes_no_room(text: str, width: int) -> None:
    verdict = painted("compatible", Verdict.COMPATIBLE, colour=True)
    drift = painted("drift", Verdict.DRIFT, colour=True)
    plain = f"compatible and drift\n{text}\na  b\ncompatible  {'word ' * 30}drift"
    colours = plain.replace("compatible", verdict).replace("drift", drift)
    shown = fitted(colours, width)
    assert shown.replace(verdict, "compatible").replace(drift, "drift") == fitted(plain, width)


def test_two_words_of_one_colour_keep_it() -> None:
    text = painted("not stock", Verdict.DRIFT, colour=True)
    assert (
        fitted(f"{'word ' * 4}{text}", 26)
        == f"{'word ' * 4}\x1b[33mnot\x1b[0m\n  \x1b[33mstock\x1b[0m"
    )
    assert fitted(f"{text} {'word ' * 4}", 26).startswith(f"{text} word")


@pytest.mark.parametrize(
    "command",
    [
        "uv pip install --python vllm-0.33.0 vllm==0.33.0 'cuda-python>=13' torch==2.14.0",
        "MATRIX_JOBS=2 tox -e py311-torch29-vllm020 -- -k 'small_startup[moe] or  moe' --jobs 2",
        "printf '%s\\n' 'torch==2.14.0' \"a \\\" b\" 'flashinfer-python==0.7.2' > overrides.txt",
    ],
)
@pytest.mark.parametrize("width", [32, 40, 60])
def test_a_shell_reads_a_command_in_lines_as_the_same_command(
    tmp_path: Path, command: str, width: int
) -> None:
    text = fitted(f"    {command}", width)
    *first, last = text.splitlines()
    assert first and all(line.endswith(" \\") for line in first) and not last.endswith("\\")
    assert in_bash(tmp_path, text) == in_bash(tmp_path, command) != ""
    assert fitted(f"    {command}", width, shell=False) == f"    {command}"


def in_bash(here: Path, command: str) -> str:
    """Return the arguments that programs get of a command, and what it writes into a file."""
    programs = "uv() { printf '<%s>' \"$@\"; }; tox() { printf '<%s>' \"$@\"; }; > overrides.txt"
    return subprocess.run(
        ["bash", "-c", f"{programs}\n{command}\ncat overrides.txt"],
        cwd=here,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_what_no_shell_could_read_stays_on_one_line() -> None:
    text = f"matrix explain 'without an end {'word ' * 20}"
    assert fitted(text, 40) == text


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("$ /a/b/uv python install 3.12", True),
        ("A=1 B='x y' C=\"z 'z\" D= tox -e x", True),
        ("A=1 tox -e x", True),
        ("A=1 B='x y tox -e x", False),
        ("nvidia-smi --query-gpu=compute_cap --format=csv", True),
        ("printf '%s\\n' 'torch==2.14.0' > overrides.txt", True),
        ("python3 -m pip install 'tox>=4.40'", True),
        ("tox -e py312-torch215-vllm033 -- --platform cpu  # installs: torch, numpy", True),
        ("uv pip install .", True),
        ("matrix explain 'a sentence, in quotes; it ends.'", True),
        ("uv does not find a Python 3.15 anywhere on this machine; install one", False),
        ("tox makes the environment of a cell", False),
        ("pip cannot install it", False),
        ("matrix plan, then matrix run", False),
        ("matrix check reads the records that rules name.", False),
        ("$ uv python install 3.15, or another one", False),
        ("nvidia-smi is missing", False),
        ("tox: is missing", False),
        ("matrix", False),
        ("the command uv pip", False),
    ],
)
def test_a_command_begins_with_its_program(text: str, is_one: bool) -> None:
    assert is_command(text) is is_one


def test_every_command_of_matrix_is_one() -> None:
    names = [name for names in COMMANDS.values() for name in names]
    assert [name for name in names if not is_command(f"matrix {name} x")] == []


def test_a_command_with_a_comment_stays_on_one_line() -> None:
    """A shell does not continue a comment after a backslash."""
    command = "tox -e py312-torch215-vllm033 -- --platform cpu # on another machine"
    assert fitted(command, 40) == command


def test_prose_that_begins_with_a_program_is_broken_as_prose() -> None:
    text = "uv does not find a Python 3.15 anywhere on this machine; install one"
    assert (
        fitted(text, 40, shell=False).splitlines()
        == fitted(text, 40).splitlines()
        == [
            "uv does not find a Python 3.15 anywhere",
            "  on this machine; install one",
        ]
    )


def table(*rows: list[str]) -> str:
    return "\n".join(aligned(rows))


def test_a_last_cell_goes_on_below_itself() -> None:
    text = table(["cell", "why"], ["py312-torch211", "ran on 2026-11-29 and is not stale"])
    assert fitted(text, 44).splitlines() == [
        "cell            why",
        "py312-torch211  ran on 2026-11-29 and is not",
        "                stale",
    ]


def test_a_long_last_cell_stands_below_its_row_and_a_short_one_in_it() -> None:
    text = table(
        ["cell", "platform", "why"],
        ["py312-torch211-vllm026", "cpu", "never ran"],
        [
            "py312-torch213-vllm032",
            "cuda",
            "startup tests changed: the CPU compiles what CUDA does",
        ],
    )
    assert fitted(text, 50).splitlines() == [
        "cell                    platform  why",
        "py312-torch211-vllm026  cpu       never ran",
        "py312-torch213-vllm032  cuda",
        "    startup tests changed: the CPU compiles what",
        "    CUDA does",
    ]


def test_a_heading_is_in_two_lines_before_the_cells_below_it_are() -> None:
    rows = [["pair", "of all that CUDA counted", "cases"], ["2.9.1, 0.16.0", "100 % of 72", "9"]]
    assert fitted(table(*rows), 36).splitlines() == [
        "pair           of all that     cases",
        "               CUDA counted",
        "2.9.1, 0.16.0  100 % of 72     9",
    ]


def test_columns_that_fit_nowhere_stand_in_lines_of_their_own() -> None:
    rows = [["started", "cell", "record"], ["2026-11-30T02:08:56Z", "py312-torch215", "r/1.json"]]
    assert fitted(table(*rows), 38).splitlines() == [
        "started               cell",
        "    record",
        "2026-11-30T02:08:56Z  py312-torch215",
        "    r/1.json",
    ]


def test_numbers_stay_at_the_right() -> None:
    rows = [["", "minutes", "why"], ["a", "3.0", "x " * 20], ["bb", "12.5", "it never ran"]]
    shown = fitted("\n".join(aligned(rows, right=(1,))), 34).splitlines()
    assert shown[1].startswith("a       3.0  x x") and shown[-1] == "bb     12.5  it never ran"


def test_a_line_far_to_the_right_moves_left_for_a_long_word() -> None:
    link = "https://github.com/vllm-project/vllm/issues/38051"
    first = f"{'case':<28}  counters"
    row = "model_startup[deepseek_v3.2]  8 of 8 as expected"
    more = f"{'':<30}recompiles warm {link}"
    assert fitted(f"{first}\n{row}\n{more}", 60).splitlines() == [
        first,
        row,
        f"{'':<11}recompiles warm",
        f"{'':<11}{link}",
    ]


def test_a_sentence_inside_a_table_does_not_end_it() -> None:
    rows = [["ext", "links", "why"], ["_C.so", "no", "b " * 18], ["_moe_C.so", "no", "c " * 18]]
    head, first, last = aligned(rows)
    note = f"  needs {SYMBOL}"
    shown = fitted(f"{head}\n{first}\n{note}\n{last}", 40).splitlines()
    assert shown[0] == "ext        links  why"
    assert [line for line in shown if "needs" in line or "c10" in line] == [
        "  needs",
        f"    {SYMBOL}",
    ]
    assert shown[-1].startswith(" " * 18 + "c")


def test_rows_without_a_common_column_are_fitted_alone() -> None:
    text = f"a  {'b ' * 30}\n{'c ' * 10}d  e"
    assert words(fitted(text, 40)) == words(text)


def test_in_a_pipe_a_command_alone_stands_below_its_row() -> None:
    command = "uv pip install vllm==0.33.0 torch==2.14.0"
    rows = [["means", "torch 2.11.0 does not export it"], ["to do", command], ["", command]]
    assert fitted(table(*rows), 30, shell=False).splitlines() == [
        "means  torch 2.11.0 does not",
        "       export it",
        "to do",
        f"    {command}",
        f"    {command}",
    ]


def test_a_layout_is_chosen_by_a_part_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    count, size = 0, 4_000
    real = fitting_words.wrapped

    def counted(text: str, width: int, hang: str = "", *, shell: bool = True) -> list[str]:
        nonlocal count
        count += 1
        return real(text, width, hang, shell=shell)

    monkeypatch.setattr(fitting_table, "wrapped", counted)
    rows = [
        [f"py312-torch{row}", "cuda", "as expected", f"{row} {'x ' * 40}"] for row in range(size)
    ]
    text = fitted(table(*rows), 60)
    assert text.count("as expected") == size and max(map(len, text.splitlines())) <= 60
    # Each row has two cells of its own; a layout is tried on some 200 rows.
    assert count < 2 * size + 10 * 500


def test_a_long_cell_takes_little_memory() -> None:
    rows = [*[["a", "x"]] * 2_000, ["b", "word " * 10_000]]
    tracemalloc.start()
    fitted("\n".join(map("  ".join, rows)), 80)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30 << 20


def test_rows_that_are_not_tried_keep_every_word() -> None:
    rows = [
        [f"py312-torch{row}", f"{row} {'x ' * (row % 31)}{'y' * (row % 43)}"] for row in range(999)
    ]
    text = table(*rows)
    assert words(fitted(text, 40)) == words(text)
    assert wide_lines(fitted(text, 60), 60) == []
