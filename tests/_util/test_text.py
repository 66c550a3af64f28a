"""Text for people: whatever a record holds, what is shown is harmless and reads as itself."""

import html
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix._util.text import (
    aligned,
    clean,
    clean_lines,
    clip,
    code,
    listed,
    markdown,
    mib,
    no_command,
    plural,
    ratio,
    seconds,
    shorten,
    spans,
    tabular,
)

hostile = st.text(
    st.one_of(st.characters(), st.sampled_from("\x1b\x9b[]m\u202e\u200b:#|`$@<&\\*_~\n\r\t/.w"))
)
BREAKS = str.maketrans(dict.fromkeys("\r\u2028\u2029", "\n"))


@given(hostile)
def test_a_clean_text_is_one_line_that_nothing_acts_on(text: str) -> None:
    line = clean(text)
    assert not any(unicodedata.category(mark)[0] == "C" for mark in line)
    assert line == " ".join(line.split())
    assert "##[" not in line
    assert clean(line) == line


@given(hostile)
def test_clean_lines_are_lines_that_nothing_acts_on(text: str) -> None:
    shown = clean_lines(text)
    assert not any(unicodedata.category(mark)[0] == "C" for mark in shown if mark not in "\n\t")
    assert shown.count("\n") == text.replace("\r\n", "\n").translate(BREAKS).count("\n")
    assert clean_lines(shown) == shown


@pytest.mark.parametrize(
    "command", ["::error::x", "::add-mask::y", "  ::set-output name=a::b", "##[group]x"]
)
def test_no_line_is_a_command_to_a_runner(command: str) -> None:
    shown = no_command(f"before\n{command}\nafter")
    assert command not in shown.splitlines()
    assert shown.replace(" ", "") == f"before\n{command}\nafter".replace(" ", "")


@given(hostile, st.integers(1, 40))
def test_a_clipped_text_is_within_its_limit(text: str, limit: int) -> None:
    shown = clip(text, limit)
    assert len(shown) <= limit
    assert shown == text or (shown.endswith("…") and text.startswith(shown[:-1]))


@given(hostile, st.integers(3, 40), st.integers(3, 99))
def test_a_shortened_message_keeps_its_ends(text: str, word: int, limit: int) -> None:
    shown = shorten(text, word, limit)
    assert len(shown) <= min(limit, len(text))
    assert all(len(part) <= 2 * word + 1 for part in shown.split(" "))
    assert shown[:1] == text[:1] and shown[-1:] == text[-1:]
    if len(text) <= min(word, limit):
        assert shown == text


@given(hostile)
def test_markdown_reads_as_the_clean_text_and_makes_no_html_or_cell(text: str) -> None:
    shown = markdown(text, limit=10**6)
    assert not set("<>|`$@\n") & set(shown)
    assert "://" not in shown
    assert "www." not in shown.lower()
    plain = html.unescape(shown)
    for mark in "*_[]~#":
        plain = plain.replace(f"\\{mark}", mark)
    assert plain.replace("\\\\", "\\") == clean(text)


def test_a_name_is_a_code_span_where_it_is_plain() -> None:
    assert code("a[b=1]") == "`a[b=1]`"
    assert code("a`b") == "a&#96;b"
    assert code("x" * 200) == f"{'x' * 119}…"


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (seconds(1.25), "1.2"),
        (seconds(None), "-"),
        (ratio(1), "1.00"),
        (ratio(None), "-"),
        (plural(1, "cell"), "1 cell"),
        (plural(0, "cell"), "0 cells"),
        (mib(3 << 19), "1.5 MiB"),
        (listed([]), ""),
        (listed(["a"]), "a"),
        (listed(["a", "b"]), "a and b"),
        (spans(["a", "b", "c"], []), ""),
        (spans(["a", "b", "c"], [0, 1, 2]), "a to c"),
    ],
)
def test_how_values_are_shown(shown: str, text: str) -> None:
    assert shown == text


def test_tables_have_columns_of_one_width() -> None:
    rows = [["name", "n"], ["a", "100"], ["b", ""]]
    assert aligned(rows, right=(1,)) == ["name    n", "a     100", "b"]
    assert aligned(rows) == ["name  n", "a     100", "b"]
    assert aligned([]) == []
    assert tabular(["a", "b"], [], right=(0,)) == "| a | b |\n| --: | --- |\n"
