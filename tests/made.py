"""Made-up runs of a cell, with all that a record must say, and answers of the first rungs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matrix.catalog.cells import Cell
from matrix.catalog.releases_file import load_releases
from matrix.checks.facts import LinkCode, LinkFact
from matrix.checks.lookup import Answer
from matrix.record.model import Case, Outcome, Record, Start, StartKind
from matrix.report.model import Report, report_of
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import parse_expectations
from matrix.rules.platform_differences import Explanations
from matrix.verdict.table import tabulate

RELEASES = load_releases()
NO_RULES = Expectations(rules=())
ONE_RULE = parse_expectations(
    """
[[rule]]
id = "warm"
case = "moe"
vllm = "<99"
start = "warm"
counters = { num_compiled_artifacts_loaded = 3 }
evidence = ["a record"]
""",
    "rules.toml",
)
NEEDS = LinkFact(code=LinkCode.NEEDS, extension="_C", symbol="c10::f()")
NO = Answer(ok=False, facts=(NEEDS._replace(extension="_C.abi3.so", more=2),), cause=(NEEDS,))
YES = Answer(ok=True)
Told = tuple[Path, Record]


def provenance(
    torch: str | None, vllm: str | None = "0.20.2", python: str = "3.11", **more: Any
) -> dict[str, Any]:
    """Return what a record says of where, when and with what it ran."""
    return {
        "started": "2026-11-22T18:00:00Z",
        "seconds": 70.0,
        "os": "Linux",
        "machine": "x86_64",
        "memory_mib": 24000,
        "triton": None,
        "cuda": None,
        "command": ["matrix"],
        "model_source": "data",
        "python": f"{python}.7",
        "torch": torch,
        "vllm": vllm,
        "cpu": {"model": "EPYC", "cores": 2},
        "gpu": None,
        "tests": {"commit": None, "fingerprint": "sha256:1"},
        **more,
    }


def passed(name: str = "moe", /, cold: float = 60.0, warm: float = 10.0, **warmly: int) -> Case:
    counts = {"num_graphs_seen": 1, "num_compiled_artifacts_loaded": 3, **warmly}
    starts = (
        Start(start=StartKind.COLD, seconds={"total": cold}, counters={"num_graphs_seen": 1}),
        Start(start=StartKind.WARM, seconds={"total": warm}, counters=counts),
    )
    return Case(case=name, outcome=Outcome.PASSED, seconds=cold + warm, starts=starts)


def failed(name: str = "moe", signature: str = "KeyError: x", **more: Any) -> Case:
    more = {"outcome": "failed", "reason": f"why: {signature}", **more}
    return Case(case=name, signature=signature, **more)


def make(
    torch: str,
    *cases: Case,
    vllm: str = "0.20.2",
    python: str = "3.11",
    file: str = "",
    day: int = 22,
    **changes: Any,
) -> Told:
    """Return a run of that day in November 2026, and its file."""
    cell = Cell(python, torch, vllm).name
    more = {"started": f"2026-11-{day:02}T18:00:00Z", **changes.pop("provenance", {})}
    facts = {**provenance(f"{torch}+cu130", vllm, python), **more}
    values = {"platform": "cpu", "finished": True, "provenance": facts, "cases": cases, **changes}
    record = Record(cell=cell, **values)
    return Path(f"results/{record.platform}/{file or cell}.json"), record


class Answers:
    """What the first rungs answer of a torch and a vLLM: `resolves` on both platforms, `links`.

    `features` says which extensions besides the core link.
    """

    def __init__(
        self,
        resolves: Mapping[tuple[str, str], Answer] | None = None,
        links: Mapping[tuple[str, str], Answer] | None = None,
        otherwise: Answer | None = None,
        features: Mapping[tuple[str, str], Mapping[str, bool]] | None = None,
    ) -> None:
        self._features = features or {}
        self._resolves, self._links, self._otherwise = resolves or {}, links or {}, otherwise

    def resolves(self, cell: Cell, platform: str) -> Answer | None:
        return self._resolves.get((cell.torch, cell.vllm), self._otherwise)

    def links(self, cell: Cell) -> Answer | None:
        return self._links.get((cell.torch, cell.vllm), self._otherwise)

    def features(self, cell: Cell) -> Mapping[str, bool] | None:
        return self._features.get((cell.torch, cell.vllm))


def reported(
    records: Iterable[tuple[Path, Record]],
    rules: Expectations,
    explanations: Explanations | None = None,
) -> Report:
    """Return the report on the table of these records."""
    return report_of(tabulate(records, rules), rules, explanations)
