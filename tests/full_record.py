"""A record with a value in every key."""

import dataclasses
from typing import Any

from matrix.record.model import (
    Case,
    Outcome,
    Platform,
    Record,
    Rung,
    RungResult,
    Start,
    StartKind,
)

CELL = "py311-torch210-vllm019"


def make(**changes: Any) -> Record:
    record = Record(
        cell=CELL,
        platform=Platform.CPU,
        finished=True,
        provenance={
            "started": "2026-11-22T18:00:00Z",
            "seconds": 312.4,
            "python": "3.11.7",
            "os": "Linux",
            "machine": "x86_64",
            "cpu": {"model": "EPYC", "cores": 2},
            "memory_mib": 24000,
            "gpu": None,
            "torch": "2.10.0+cu128",
            "vllm": "0.19.1",
            "triton": "3.6.0",
            "cuda": "12.8",
            "tests": {"commit": None, "fingerprint": "sha256:00"},
            "command": ["pytest"],
            "model_source": "data",
        },
        packages={"torch": "2.10.0"},
        flags={"VLLM_USE_AOT_COMPILE": True},
        rungs=(RungResult(rung=Rung.IMPORTS, ok=True, seconds=7.1),),
        cases=(
            Case(
                case="moe_startup[mega_aot=1]",
                outcome=Outcome.PASSED,
                seconds=101.2,
                starts=(
                    Start(
                        start=StartKind.COLD,
                        seconds={"total": 61.2},
                        counters={"num_compiled_artifacts_saved": 3},
                    ),
                    Start(
                        start=StartKind.WARM,
                        seconds={"total": 20.2},
                        counters={"num_compiled_artifacts_saved": 0},
                    ),
                ),
            ),
        ),
    )
    return dataclasses.replace(record, **changes)
