"""The cell that a mistyped name probably means. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from matrix._util.nearest import nearest

_RELEASE = re.compile(r"(py|torch|vllm)[0-9]+")
_JOINED = re.compile(r"(?<=[0-9])(?=torch|vllm)")
"""Where a hyphen is missing."""
_ORDER = ("py", "torch", "vllm")


def nearest_cell(name: str, factors: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the name of a cell that is nearest to a word; None if none is near.

    `factors` are those that names are made of. Each part of the word is taken for the factor that
    is nearest, so that the other parts stay as they are, also off the pin; else, among `names`, the
    nearest whole one.

    >>> factors = ["py312", "torch211", "torch213", "vllm026"]
    >>> nearest_cell("py312-trch213-vllm26", factors, [])
    'py312-torch213-vllm026'
    >>> nearest_cell("py312torch211", factors, [])
    'py312-torch211'
    """
    known = dict.fromkeys(factors)
    parts = _JOINED.sub("-", name.lower().replace("_", "-")).split("-")
    if all(part in known for part in name.split("-")):
        return None  # each is right, and what is wrong is something else
    found = [part if part in known else nearest_factor(part, known) for part in parts]
    kinds = [_kind(part) for part in found if part is not None]
    if len(kinds) == len(parts) and kinds == list(_ORDER[: len(kinds)]) and len(kinds) > 1:
        return "-".join(filter(None, found))
    if any(_RELEASE.fullmatch(part) and part not in known for part in parts):
        return None  # a release that nobody knows is not near another one
    return nearest(name, names)


def lacks_hyphen(part: str) -> bool:
    """Tell whether two factors are joined in what would be one.

    >>> lacks_hyphen("torch211vllm026"), lacks_hyphen("torch216rc1")
    (True, False)
    """
    return _JOINED.search(part) is not None


def factor_names(
    pythons: Iterable[str], releases: Mapping[str, Iterable[str]], candidates: Iterable[str]
) -> list[str]:
    """Return the factors of these Pythons, minor releases by project, and candidates.

    >>> factor_names(["3.12"], {"torch": ["2.11"], "vllm": ["0.26"]}, ["vllmmain"])
    ['py312', 'torch211', 'vllm026', 'vllmmain']
    """
    minors = [(f"py{python}") for python in pythons]
    minors += [f"{project}{minor}" for project, every in releases.items() for minor in every]
    return [minor.replace(".", "") for minor in minors] + list(candidates)


def nearest_factor(part: str, known: Iterable[str]) -> str | None:
    """Return the factor that a part is taken for; of a release the one with the same digits."""
    if _RELEASE.fullmatch(part) is None:
        return nearest(part, known)
    return next((name for name in known if name.replace("0", "") == part.replace("0", "")), None)


def _kind(factor: str) -> str:
    return next(kind for kind in _ORDER if factor.startswith(kind))
