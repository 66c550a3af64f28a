"""A table with failures of each kind, as a CI service is given it."""

from pathlib import Path
from typing import Any

from matrix.catalog.releases_file import load_releases
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
)
from matrix.rules.expectations_file import parse_expectations
from matrix.verdict.table import Table, tabulate
from rules import ANY_CASE_TEXT

RULES = parse_expectations(ANY_CASE_TEXT.replace("saved = 0", "saved = 3"), "rules.toml")
FAILURE = """\
(EngineCore_0 pid={pid}) INFO 11-23 00:13:45 [core.py:1] starting
Traceback (most recent call last):
  File "/x/site-packages/vllm/config.py", line {pid}, in load
    go()
    ^^^^
KeyError: 'x' of pid {pid}
"""


def passed(name: str = "small[a]", saved: int = 3) -> Case:
    counters = {"num_compiled_artifacts_saved": saved}
    starts = (
        Start(start=StartKind.COLD, seconds={"total": 61.2}, counters=counters),
        Start(start=StartKind.WARM, seconds={"total": 20.0}, counters=counters),
    )
    return Case(case=name, outcome=Outcome.PASSED, seconds=81.2, starts=starts)


def failed(name: str = "moe[1]", pid: int = 7, **more: Any) -> Case:
    values = {"reason": f"KeyError: 'x' of pid {pid}", "failure": FAILURE.format(pid=pid)}
    return Case(case=name, outcome=Outcome.FAILED, seconds=12.3456, **{**values, **more})


def make(
    cell: str = "py311-torch210-vllm019", *cases: Case, platform: str = "cpu", **more: Any
) -> tuple[Path, Record]:
    provenance = {
        "started": "2026-11-22T18:00:00Z",
        "seconds": 312.4,
        "python": "3.11.7",
        "torch": "2.10.0+cu128",
        "vllm": "0.19.1",
    }
    record = Record(
        **{
            "cell": cell,
            "platform": platform,
            "finished": True,
            "provenance": provenance,
            "cases": cases,
            **more,
        }
    )
    return Path(f"{cell}.json"), record


def table(*records: tuple[Path, Record]) -> Table:
    return tabulate(records, RULES, releases=load_releases())


TABLE = table(
    make("py311-torch210-vllm019", passed(), failed(pid=7), failed("moe[2]", pid=8)),
    make("py312-torch210-vllm019", failed(pid=9), passed()),
    make("py311-torch29-vllm016", passed(saved=1), passed("small[b]")),
    make("py311-torch211-vllm020", passed()),
    make(
        "py311-torch213-vllm032",
        error=RunError(kind=ErrorKind.NO_GPU, reason="no GPU is visible"),
        platform="cuda",
    ),
    make(
        "py310-torch210-vllm019",
        Case(case="small[a]", outcome=Outcome.NOT_APPLICABLE, reason="no such model"),
        rungs=(
            RungResult(
                rung=Rung.IMPORTS,
                ok=False,
                seconds=2.0,
                reason="ImportError: /x/vllm/_C.abi3.so: undefined symbol: y",
            ),
        ),
    ),
)
