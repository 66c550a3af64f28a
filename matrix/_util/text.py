"""Text for people: made safe to show, since a record may hold anything that a run printed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")
# What GitHub's runner takes for a command, in any line of a job's output.
_COMMAND = re.compile(
    r"(?m)^(?P<indent>\s*):(?=:(?:add-(?:mask|matcher|path)|debug|echo|endgroup|error|group"
    r"|internal-set-repo-path|notice|remove-matcher|save-state|set-(?:env|output)|stop-commands"
    r"|warning)\b)"
    r"|##(?=\[)"
)
_PLAIN = re.compile(r"[A-Za-z0-9_.,:=+/\[\]() -]+")
_PUNCTUATION = re.compile(r"[\W_]+")
_LINK = re.compile(r"(?i)://|www\.")
_MARKDOWN = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "\\*_[]~#"},
        # Entities where a backslash is not enough in every reader: a pipe ends a cell, a dollar
        # starts mathematics, an at sign a mention.
        **{mark: f"&#{ord(mark)};" for mark in "|`$@"},
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
    }
)


def clean(text: str) -> str:
    r"""Return one line without what a terminal or a runner would act on.

    That is control characters, escapes, marks that reorder text, and commands.

    >>> clean("a\x1b[31mred\x1b[0m\n\tb")
    'ared b'
    """
    if not text.isprintable():  # as little text is
        text = " ".join(_ESCAPE.sub("", text).split())
        text = "".join(mark for mark in text if unicodedata.category(mark)[0] != "C")
    return no_command(" ".join(text.split()))


def clean_lines(text: str) -> str:
    r"""Return lines as `clean` shows each, but with their indents, tabs and number kept.

    >>> clean_lines("a\x1b[31mred\r\n\tb\u202e\x07\n")
    'ared\n\tb\n'
    """
    lines = re.split(r"\r\n?|[\n\u2028\u2029]", text)
    return no_command("\n".join(line if line.isprintable() else _shown(line) for line in lines))


def _shown(line: str) -> str:
    line = _ESCAPE.sub("", line)
    return "".join(mark for mark in line if mark == "\t" or unicodedata.category(mark)[0] != "C")


def no_command(text: str) -> str:
    """Return the text without commands to GitHub's runner, which obeys what a job prints.

    >>> no_command("::error::x"), no_command("at::cuda of ::at::cuda")
    (': :error::x', 'at::cuda of ::at::cuda')
    """
    return _COMMAND.sub(
        lambda found: f"{found['indent']}: " if found["indent"] is not None else "## ", text
    )


def clip(text: str, limit: int) -> str:
    """Return at most `limit` characters, with an ellipsis where something was cut.

    >>> clip("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def shorten(line: str, word: int = 240, limit: int = 2000) -> str:
    """Return a message without the middle of words, or of a whole, that nobody would read.

    A message repeats what it is about, such as an argument, whose length nobody limits. What to do
    about it stands at the end.

    >>> shorten("torch: '" + "1" * 5000 + "' has too many digits; write fewer", word=11)
    "torch: '1111…1111' has too many digits; write fewer"
    """
    words = (_without_middle(found, word) for found in line.split(" "))
    return _without_middle(" ".join(words), limit)


def _without_middle(text: str, limit: int) -> str:
    half = limit // 2
    return text if len(text) <= limit else f"{text[: limit - half - 1]}…{text[-half:]}"


@lru_cache(maxsize=4096)
def markdown(text: str, limit: int = 300) -> str:
    """Return any text as one line of Markdown that reads as itself.

    It makes no HTML, link, emphasis or new cell of a table.

    >>> markdown("<b>|`x`")
    '&lt;b&gt;&#124;&#96;x&#96;'
    """
    line = clip(clean(text), limit)
    escaped = line.translate(_MARKDOWN)
    return _LINK.sub(lambda found: found[0].replace(":", "&#58;").replace(".", "&#46;"), escaped)


@lru_cache(maxsize=4096)
def code(text: str, limit: int = 120) -> str:
    """Return a plain name as a code span, any other as escaped text.

    >>> code("moe_startup[mega_aot=1]")
    '`moe_startup[mega_aot=1]`'
    """
    line = clip(clean(text), limit)
    return f"`{line}`" if _PLAIN.fullmatch(line) else markdown(line)


def seconds(value: float | None) -> str:
    """Return seconds with one decimal; a dash where they were not measured."""
    return "-" if value is None else f"{value:.1f}"


def ratio(value: float | None) -> str:
    """Return a ratio with two decimals; a dash where it is not known.

    >>> ratio(0.2444)
    '0.24'
    """
    return "-" if value is None else f"{value:.2f}"


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return rows of plain text as lines with aligned columns; `right` names columns of numbers.

    >>> aligned([["a", "1"], ["bcd", "20"]], right=(1,))
    ['a     1', 'bcd  20']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if number in right else f"{cell:<{width}}"
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def tabular(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return a table of cells that are Markdown already; `right` names columns of numbers.

    >>> print(tabular(["a", "b"], [["x", "1"]], right=(1,)), end="")
    | a | b |
    | --- | --: |
    | x | 1 |
    """
    rule = ["--:" if number in right else "---" for number in range(len(head))]
    lines = (f"| {' | '.join(row)} |" for row in (head, rule, *rows))
    return "\n".join(lines) + "\n"


def is_named(name: str, text: str) -> bool:
    """Tell whether a text has a name, case and punctuation aside.

    >>> is_named("DeepGEMM", "needs deep_gemm"), is_named("DeepGEMM", "needs FlashMLA")
    (True, False)
    """
    plain, wanted = (_PUNCTUATION.sub("", words).casefold() for words in (text, name))
    return wanted in plain


def plural(count: int, word: str) -> str:
    """Return a count with its word: `1 cell`, `2 cells`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them.

    >>> listed(["2.11.0", "2.12.1", "2.13.0"])
    '2.11.0, 2.12.1 and 2.13.0'
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def at_most(most: int, words: Sequence[str]) -> list[str]:
    """Return the first words, and in a word of its own how many more there are.

    >>> at_most(2, ["2.11.0", "2.12.1", "2.13.0"]), at_most(2, ["2.11.0"])
    (['2.11.0', '2.12.1', '1 more'], ['2.11.0'])
    """
    left = len(words) - most
    return [*words[:most], *([f"{left} more"] if left > 0 else [])]


def spans(names: Sequence[str], places: Sequence[int]) -> str:
    """Return the names at these places, neighbours as a range.

    >>> spans(["2.9", "2.10", "2.11", "2.12", "2.13"], [0, 2, 3, 4])
    '2.9, 2.11 to 2.13'
    """
    found: list[list[int]] = []
    for place in places:
        if found and place == found[-1][-1] + 1:
            found[-1].append(place)
        else:
            found.append([place])
    return ", ".join(
        names[span[0]] if len(span) == 1 else f"{names[span[0]]} to {names[span[-1]]}"
        for span in found
    )


def mib(size: int) -> str:
    """Return a size in bytes as people read it: `58.0 MiB`."""
    return f"{size / 2**20:.1f} MiB"


def pip_install(extras: str) -> str:
    """Return the command that installs these extras of the matrix, as a shell takes it.

    >>> pip_install("history,table")
    "pip install 'torch-vllm-matrix[history,table]'"
    """
    return f"pip install 'torch-vllm-matrix[{extras}]'"
