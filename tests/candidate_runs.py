"""Made-up records of candidates' cells, and what a plan of them knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from candidates import torch_candidate, vllm_candidate, with_candidates
from made import NO_RULES, Told, make
from matrix.catalog.cells import Cell, build_of
from matrix.catalog.releases import Releases
from matrix.qualify.candidate_plan import (
    CandidatePlan,
    CandidateQuery,
    Known,
    plan_candidate,
)
from matrix.record.model import Case, Platform
from matrix.record.origin import Origin
from matrix.record.startup_tests import load_startup_tests
from matrix.rules.expectations import Expectations

TESTS = load_startup_tests()
RC = torch_candidate()
MAIN = vllm_candidate()
RELEASES = with_candidates(RC, MAIN)


def run_of(cell: Cell, *cases: Case, day: int = 22, number: int = 0, **more: Any) -> Told:
    """Give a run of a cell, which may be of candidates, with the startup tests as they are now."""
    provenance = {"tests": {"commit": None, "version": TESTS.current}, **more.pop("provenance", {})}
    provenance["started"] = f"2026-11-{day:02}T18:{number:02}:00Z"
    path, record = make(
        cell.torch.partition("+")[0],
        *cases,
        vllm=cell.vllm.partition("+")[0],
        python=cell.python,
        day=day,
        provenance=provenance,
        **{"defaults": {}, **more},
    )
    origins = tuple(
        Origin(project=project, candidate=build_of(version))
        for project, version in (("torch", cell.torch), ("vllm", cell.vllm))
    )
    folder = path.parent
    name = f"{cell.name}.202611{day:02}T18{number:02}00Z.json"
    return Path(folder, name), replace(record, cell=cell.name, origins=origins)


def known(
    *records: Told,
    releases: Releases = RELEASES,
    rules: Expectations = NO_RULES,
    **more: Any,
) -> Known:
    return Known(releases=releases, tests=TESTS, expectations=rules, records=records, **more)


def plan(
    *records: Told, candidate: Any = RC, releases: Releases = RELEASES, **more: Any
) -> CandidatePlan:
    asked = CandidateQuery(candidate=candidate, **{"platform": Platform.CPU, **more})
    return plan_candidate(asked, known(*records, releases=releases))
