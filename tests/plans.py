"""A few releases, versions of the startup tests, and records for plans of them."""

from __future__ import annotations

from typing import Any

from packaging.specifiers import SpecifierSet

from matrix.catalog.cells import Cell
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases
from matrix.checks.facts import quoted
from matrix.checks.lookup import Answer
from matrix.record.model import (
    Case,
    Outcome,
    Platform,
    Record,
    Rung,
)
from matrix.record.startup_tests import parse_startup_tests
from matrix.verdict.grid import runs, survey
from matrix.verdict.judge import CellVerdict
from matrix.verdict.plan import Planned, Wanted, plan
from matrix.verdict.states import Verdict


def vllm(version: str, torch: str, python: str = ">=3.10", yanked: str | None = None) -> Vllm:
    return Vllm(
        version=version,
        torch=torch,
        torchvision="0.1",
        torchaudio="2.1",
        python=SpecifierSet(python),
        yanked=yanked,
    )


RELEASES = Releases(
    torch=tuple(Torch(version=f"2.{minor}.0") for minor in (9, 10, 11, 12, 13, 14)),
    vllm=(
        vllm("0.16.0", "2.9.0"),
        vllm("0.19.0", "2.10.0"),
        vllm("0.19.1", "2.10.0"),
        vllm("0.20.0", "2.11.0", ">=3.11"),
        vllm("0.26.0", "2.11.0"),
        vllm("0.27.0", "2.13.0"),
    ),
    pythons=("3.10", "3.11"),
    matrix_vllm=(),
)


TESTS = parse_startup_tests(
    """
[[version]]
number = 1
changed = "the first"
fingerprints = ["sha256:%s"]

[[version]]
number = 2
changed = "graphs are counted once"
platforms = ["cuda"]
vllm = "<0.20"

[[version]]
number = 3
changed = "a case starts with images"
vllm = ">=0.19.1"
cases = ["a"]

[[version]]
number = 4
changed = "an extension that does not link fails nothing"
platforms = ["cpu"]
failed_at = "imports"
"""
    % ("0" * 64),
    "startup_tests.toml",
)


NOW = {"version": 4}


UNKNOWN = "made with startup tests that this checkout does not know"
COMMIT = "64b5a65a9e81ce85ec2f65010296d126dcbfeaee"


def record(cell: str = "py311-torch210-vllm019", platform: str = "cuda", **more: Any) -> Record:
    provenance = {
        "started": "2026-11-22T18:00:00Z",
        "seconds": 300.0,
        "torch": "2.10.0+cu128",
        "vllm": "0.19.1",
        "tests": {"commit": COMMIT, **NOW},
        **more.pop("provenance", {}),
    }
    return Record(
        cell=cell,
        platform=Platform(platform),
        finished=True,
        provenance=provenance,
        **{"cases": (Case(case="a", outcome=Outcome.PASSED),), **more},
    )


def links(cell: Cell) -> Answer:
    return Answer(
        ok=cell.vllm != "0.27.0" or cell.torch in ("2.13.0", "2.14.0"),
        facts=quoted("needs c10::f()"),
    )


def planned(wanted: Wanted, *records: Record) -> tuple[Planned, ...]:
    verdict = CellVerdict(verdict=Verdict.COMPATIBLE, rung=Rung.AS_EXPECTED)
    seen = runs([(run, verdict) for run in records], RELEASES)
    grid = survey(RELEASES, links=links, seen=seen)
    return plan(grid, RELEASES, records, TESTS, wanted)
