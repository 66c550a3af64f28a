"""Which of the known names a person may have meant who mistyped one: everywhere the same."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 200  # characters; of a longer word nothing is near


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is nearest to a word; None where none is near.

    Capitals do not matter, and `_` is a `-`.

    >>> nearest("Grdi", ["grid", "plan"]), nearest("fly", ["grid", "plan"])
    ('grid', None)
    """
    import difflib  # only where something is wrong

    if len(word) > _LONGEST:
        return None
    names: dict[str, str] = {}
    for name in known:
        names.setdefault(_plain(name), name)
    close = difflib.get_close_matches(_plain(word), names, n=1)
    return names[close[0]] if close else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return which known name may be meant, as a question; "" where none is near.

    >>> suggestion("torhc", ["torch", "vllm"])
    "did you mean 'torch'?"
    """
    name = nearest(word, known)
    return "" if name is None else f"did you mean {name!r}?"


def suggested(message: str, word: str, known: Iterable[str]) -> str:
    """Return a message with the name that may be meant at its end, if one is near.

    >>> suggested("'torhc': is not a project", "torhc", ["torch", "vllm"])
    "'torhc': is not a project; did you mean 'torch'?"
    """
    found = suggestion(word, known)
    return f"{message}; {found}" if found else message


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
