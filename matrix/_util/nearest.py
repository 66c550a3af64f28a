"""The known name that a mistyped one probably means, by the same rule everywhere."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 200  # characters; of a longer word nothing is near
_SHORT = 5  # characters; two of so few are alike by chance: `help` is not meant for `wheels`
_ALIKE, _ALIKE_OF_SHORT = 0.6, 0.7  # as difflib counts it


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is nearest to a word; None if none is near.

    Capitals do not matter, and `_` is a `-`.

    >>> nearest("Grdi", ["grid", "plan"]), nearest("fly", ["grid", "plan"])
    ('grid', None)
    """
    import difflib  # only where something is wrong

    if len(word) > _LONGEST:
        return None
    names: dict[str, str] = {}
    for name in known:
        names.setdefault(_plain(name), str(name))
    alike = _ALIKE if len(word) > _SHORT else _ALIKE_OF_SHORT
    close = difflib.get_close_matches(_plain(word), names, n=1, cutoff=alike)
    return names[close[0]] if close else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return which known name may be meant, as a question; "" if none is near.

    >>> suggestion("torhc", ["torch", "vllm"])
    "did you mean 'torch'?"
    """
    return _question(nearest(word, known))


def suggested(message: str, word: str, known: Iterable[str]) -> str:
    """Return a message with the name that may be meant at its end, if one is near.

    >>> suggested("'torhc': is not a project", "torhc", ["torch", "vllm"])
    "'torhc': is not a project; did you mean 'torch'?"
    """
    return with_meant(message, nearest(word, known))


def with_meant(message: str, name: str | None) -> str:
    """Return a message with the name that was meant at its end, where there is one.

    >>> with_meant("'torhc': is not a project", None)
    "'torhc': is not a project"
    """
    return message if name is None else f"{message}; {_question(name)}"


def _question(name: str | None) -> str:
    return "" if name is None else f"did you mean {name!r}?"


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
