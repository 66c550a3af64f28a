"""Prose in lines that fit, and commands that a person can still copy from them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import takewhile

TIE = "\ue000"
"""The sign for a space at which no line ends."""

_WORD = r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:\\.|[^"\\])*")"""
_SHELL_WORD = re.compile(f"{_WORD}+")
_FIRST_WORDS = {
    "matrix": "attribute|bisect|bundle|calibrate|candidate|check|ci|doctor|explain|grid|jit|linkage"
    "|plan|predict|qualify|recommend|refresh|resolve|results|run|show|sync|table|upgrade|upstream"
    "|watch|wheels",
    "nvidia-smi": "",
    "pip": "cache|check|config|download|install|list|show|uninstall|wheel",
    "printf": "['\"]\\S+",
    "python3": r"\S+\.py",
    "tox": "config|exec|list|run",
    "uv": "cache|pip|python|run|tool|venv",
}
"""What follows the name of a program, where no option does."""
_PROGRAM = "|".join(
    rf"{program} (?:-\S+{'|' * bool(words)}{words})" for program, words in _FIRST_WORDS.items()
)
_COMMAND = re.compile(rf"\$ \S|(?:\w+={_WORD}* )*(?:{_PROGRAM})(?: |$)")
_PROSE = re.compile(r"\w[,;:.]$")  # how no word of a command ends
_CODE = re.compile(r"`[^`]+`")
_AMOUNT = re.compile(r"(?<=\d) (?=(?:%|s|min|h|KiB|MiB|GiB|MB|GB)(?![\w%]))")
_RELEASE = re.compile(r"\b(torch|vLLM|Python|CUDA|glibc) (?=\d)")
_COUNT = re.compile(r"(?<!\S)([(\w.+-]{1,30}) (?=\d[\w.+-]{,20}(?:[,;)]|:(?: |$)|$))")
_CONTINUED = " \\"
_HANG = 2  # blanks before the lines of a sentence that follow its first one
_LEAST_INDENT = 4
_FURTHER = "    "  # before the lines of a command that follow its first one
_MOST_WORDS = 60  # of a symbol


def is_command(text: str) -> bool:
    """Return whether a text is a command to copy: a program, an option or a command of its own.

    No word of it ends as one of a sentence does, but in a comment.

    >>> is_command("uv pip install vllm"), is_command("$ ulimit -n 65536"), is_command("tox: 4.30")
    (True, True, False)
    >>> is_command("uv does not find a Python 3.15"), is_command("matrix plan, or matrix run")
    (False, False)
    """
    plain = text.strip()
    if _COMMAND.match(plain) is None:
        return False
    words = takewhile(lambda word: not word.startswith("#"), _SHELL_WORD.findall(plain))
    return not any(map(_PROSE.search, words))


def tied(text: str) -> str:
    """Return a text in which what belongs together is one word.

    That is code, a symbol of C++, an amount with its unit, and a number after its name, in a list
    of such or of a release.

    >>> tied("CUDA 13.0 in 3.4 s by `matrix plan`, c10::f(int, char const*)").replace(TIE, "_")
    'CUDA_13.0 in 3.4_s by `matrix_plan`, c10::f(int,_char_const*)'
    >>> tied("saved 4, loaded 0").replace(TIE, "_")
    'saved_4, loaded_0'
    """
    text = _CODE.sub(lambda code: code[0].replace(" ", TIE), text)
    if "::" in text:
        text = " ".join(_with_symbols(text.split(" ")))
    return _RELEASE.sub(rf"\1{TIE}", _COUNT.sub(rf"\1{TIE}", _AMOUNT.sub(TIE, text)))


def _with_symbols(words: Sequence[str]) -> Iterator[str]:
    """Return the words, those of a symbol as one: up to the end of its brackets."""
    place = 0
    while place < len(words):
        end = place + 1
        if "::" in words[place]:
            end = _end_of_symbol(words, place)
        yield TIE.join(words[place:end])
        place = end


def _end_of_symbol(words: Sequence[str], place: int) -> int:
    depth = 0
    for end in range(place, min(place + _MOST_WORDS, len(words))):
        plain = words[end].replace("->", "")
        depth += sum(map(plain.count, "(<")) - sum(map(plain.count, ")>"))
        if depth <= 0:
            is_const = words[end + 1 : end + 2] and words[end + 1].startswith("const")
            return end + 2 if words[end].endswith(")") and is_const else end + 1
    return place + 1


def longest(text: str) -> int:
    """Return how long the longest word of a text is, of a command the longest of the shell's."""
    words = _SHELL_WORD.findall(text) if is_command(text) else tied(text).split()
    return max(map(len, words), default=0)


def wrapped(text: str, width: int, hang: str = "", *, shell: bool = True) -> list[str]:
    r"""Return a text in lines of a width; the first keeps its indent, `hang` is that of the others.

    A command goes on after a backslash, and stays on one line without `shell`. What is longer than
    a line and is one word stands on a line of its own, whole.

    >>> wrapped("needs `matrix plan` to know", 14, "  ")
    ['needs', '  `matrix plan`', '  to know']
    >>> wrapped("uv pip install 'a b' c", 20, "  ")
    ['uv pip install \\', "    'a b' c"]
    """
    if len(text) <= width:
        return [text]
    if is_command(text):
        return _continued(text, width) if shell else [text]
    lines = _folded(tied(text), width, hang)
    return [line.replace(TIE, " ") for line in lines] or [text]


def sentence(line: str, width: int, *, shell: bool = True) -> list[str]:
    """Return a line in lines of a width; one far to the right moves left for a long word.

    >>> sentence("  to know since when, run it again", 20)
    ['  to know since', '    when, run it', '    again']
    """
    if len(line) <= width:
        return [line]
    plain = line.lstrip(" ")
    most = max(width - longest(plain) - _HANG, _LEAST_INDENT)
    indent = " " * min(len(line) - len(plain), most)
    return wrapped(indent + plain, width, indent + " " * _HANG, shell=shell)


def _folded(text: str, width: int, hang: str) -> list[str]:
    plain = text.lstrip(" ")
    return textwrap.wrap(
        plain,
        max(width, 1),
        initial_indent=text[: len(text) - len(plain)],
        subsequent_indent=hang,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _continued(text: str, width: int) -> list[str]:
    """Return a command in lines that end with a backslash, for a shell still the same command.

    A backslash does not continue a comment.
    """
    plain = text.lstrip(" ")
    words = _SHELL_WORD.findall(plain)
    if " ".join(words) != plain or any(word.startswith("#") for word in words):
        return [text]
    indent = text[: len(text) - len(plain)]
    line = indent + " ".join(word.replace(" ", TIE) for word in words)
    *first, last = _folded(line, width - len(_CONTINUED), indent + _FURTHER)
    lines = [*(part + _CONTINUED for part in first), last]
    return [part.replace(TIE, " ") for part in lines]
