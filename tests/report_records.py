"""Records of a few cells, as reports show them."""

from pathlib import Path
from typing import Any

from made import provenance
from matrix.record.model import (
    Case,
    ErrorKind,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
)


def make_case(name: str = "moe", loaded: int = 3, **more: Any) -> Case:
    starts = (
        Start(
            start=StartKind.COLD,
            seconds={"total": 61.24},
            counters={"num_compiled_artifacts_saved": 3, "num_compiled_artifacts_loaded": 0},
        ),
        Start(
            start=StartKind.WARM,
            seconds={"total": 20.0},
            counters={"num_compiled_artifacts_saved": 0, "num_compiled_artifacts_loaded": loaded},
        ),
    )
    return Case(case=name, **{"outcome": "passed", "starts": starts, **more})


def make(
    cell: str = "py311-torch210-vllm019", *cases: Case, day: int = 22, **more: Any
) -> tuple[Path, Record]:
    record = Record(
        **{
            "cell": cell,
            "platform": "cpu",
            "finished": True,
            "provenance": provenance(
                "2.10.0+cu128",
                "0.19.1",
                started=f"2026-11-{day:02}T18:00:00Z",
                seconds=312.4,
                cpu={"model": "EPYC 9B14", "cores": 2},
            ),
            "cases": cases,
            **more,
        }
    )
    return Path(f"{cell}.json"), record


def failed(reason: str) -> Case:
    return make_case("moe[1]", outcome="failed", starts=(), reason=reason, signature="KeyError")


RECORDS = [
    make("py311-torch210-vllm019", make_case()),
    make("py311-torch29-vllm016", make_case(loaded=1)),
    make("py310-torch211-vllm020", make_case()),
    make("py312-torch211-vllm020", failed("KeyError: 'x | y'"), make_case("other"), day=23),
    make(
        "py311-torch211-vllm020",
        platform="cuda",
        error=RunError(kind=ErrorKind.NO_GPU, reason="no GPU is visible"),
    ),
]


COLD = {
    "total": 61.24,
    "import": 1.0,
    "config": 0.25,
    "profile": 0.5,
    "unnamed": 0.375,
    "shutdown": 9.0,
    "inspect": 9.25,
    "load": 1.5,
    "dynamo": 7.25,
    "inductor": 40.0,
    "save": 0.75,
}


SPLIT = make_case(
    starts=(
        Start(start=StartKind.COLD, seconds=COLD),
        Start(start=StartKind.WARM, seconds={"total": 20.0, "artifacts_load": 1.25}),
    )
)


IMPORTED = (RungResult(rung=Rung.IMPORTS, ok=True, seconds=37.25),)
