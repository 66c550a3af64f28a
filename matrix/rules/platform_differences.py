"""Why the CPU counts differently from CUDA: explanations by people, in data/differences.toml.

Pure but for reading the file. An explanation changes no figure: it says why two numbers differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from matrix._util.paths import DATA
from matrix._util.toml_rows import (
    case_of,
    check_ids,
    check_keys,
    choice_of,
    name_of,
    read_text,
    rows,
    text_of,
    texts_of,
    version_range,
)
from matrix._util.versions import VersionRange, parse_version
from matrix.errors import MatrixError
from matrix.record.model import StartKind
from matrix.rules.counters import COUNTER_NAME
from matrix.rules.expectations import UPSTREAM

_DATA = DATA / "differences.toml"
_KEYS = ("id", "case", "start", "torch", "vllm", "counters", "text", "evidence")
RECORD = re.compile(r"results/(cpu|cuda)/[\w.-]+\.json", re.ASCII)
"""A published record, as evidence names it."""


class DifferencesError(MatrixError):
    """An explanation that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why these counters differ where the conditions hold (None is any), and on what evidence."""

    id: str
    counters: tuple[str, ...]
    text: str
    evidence: tuple[str, ...]
    case: str | None = None
    start: StartKind | None = None
    torch: VersionRange = field(default_factory=VersionRange)
    vllm: VersionRange = field(default_factory=VersionRange)

    def covers(self, case: str, start: StartKind, counter: str, torch: str, vllm: str) -> bool:
        """Return whether it applies to this counter; a bare case name means all parameters."""
        return (
            counter in self.counters
            and self.case in (None, case, case.partition("[")[0])
            and self.start in (None, start)
            and self.torch.contains(parse_version(torch))
            and self.vllm.contains(parse_version(vllm))
        )


@dataclass(frozen=True, kw_only=True)
class Explanations:
    """All explanations. Raises DifferencesError if two have one id."""

    every: tuple[Explanation, ...] = ()
    name: str = "differences"

    def __post_init__(self) -> None:
        """Refuse two explanations of one id."""
        ids = [explanation.id for explanation in self.every]
        check_ids(ids, f"{self.name}: difference", DifferencesError)

    def explain(
        self, case: str, start: StartKind, counter: str, torch: str, vllm: str
    ) -> tuple[Explanation, ...]:
        """Give each explanation of this difference, in the order of the file."""
        return tuple(
            explanation
            for explanation in self.every
            if counter in explanation.counters  # few are, and to ask for the rest takes longer
            and explanation.covers(case, start, counter, torch, vllm)
        )


def load_explanations(path: Path | None = None) -> Explanations:
    """Read the explanations of a file, by default those of the package.

    Raises DifferencesError, which names the file, the explanation, the key and the fix.
    """
    path = path or _DATA
    return parse_explanations(read_text(path, DifferencesError), str(path))


def parse_explanations(text: str, name: str) -> Explanations:
    """Read explanations from the text of a TOML file; ``name`` stands for the file in errors.

    Raises DifferencesError as ``load_explanations`` does.
    """
    found = rows(text, name, "difference", DifferencesError)
    return Explanations(
        every=tuple(_explanation(row, n, name) for n, row in enumerate(found, 1)), name=name
    )


def _explanation(row: Mapping[str, object], number: int, name: str) -> Explanation:
    named = name_of(row, f"{name}: difference {number}", DifferencesError)
    where = f"{name}: difference {named!r}"
    check_keys(row, where, _KEYS, ("counters", "text", "evidence"), DifferencesError)
    case = case_of(row, where, DifferencesError)
    start = choice_of(row, "start", StartKind, where, DifferencesError)
    text = text_of(row, "text", where, "say why the numbers differ", DifferencesError)
    counters = texts_of(row, "counters", where, "counters", DifferencesError)
    for counter in counters:
        if not COUNTER_NAME.fullmatch(counter):
            raise DifferencesError(f"{where}: counters: {counter!r} is not the name of a counter")
    evidence = texts_of(row, "evidence", where, "records or links", DifferencesError)
    for item in evidence:
        if not RECORD.fullmatch(item) and not UPSTREAM.fullmatch(item):
            raise DifferencesError(
                f"{where}: evidence: {item!r} is neither a published record, such as "
                f"results/cuda/py312-torch211-vllm020.json, nor a link to vllm-project or pytorch "
                f"on GitHub"
            )
    return Explanation(
        id=named,
        counters=counters,
        text=text,
        evidence=evidence,
        case=case,
        start=start,
        torch=version_range(row, "torch", where, DifferencesError),
        vllm=version_range(row, "vllm", where, DifferencesError),
    )
