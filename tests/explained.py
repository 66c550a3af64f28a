"""What `matrix explain` answers, by the releases of November 2026: later ones change no test."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from packaging.version import Version

from matrix._util.paths import DATA
from matrix.catalog.projects import Project
from matrix.catalog.releases_file import load_releases
from matrix.checks.linkage.link import Tables, load_tables
from matrix.explain.answer import Explainer
from matrix.explain.choice import InstallChoice
from matrix.explain.evidence import SymbolEvidence
from matrix.explain.faults import faults_in
from matrix.explain.model import FaultAnswer, FaultKind, TextFaults
from matrix.report.explain import command, five

SCHEMA: dict[str, Any] = json.loads((DATA / "explain.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
NEWEST = {Project.TORCH: Version("2.15.0"), Project.VLLM: Version("0.33.0")}


@cache
def choice() -> InstallChoice:
    known = load_releases()
    for project, newest in NEWEST.items():
        versions = [Version(version) for version in known.versions(project)]
        known = known.only(project, [version for version in versions if version <= newest])
    return InstallChoice.of(known)


def tables() -> Tables:
    found = load_tables()
    return Tables(
        folder=found.folder,
        torch_versions=_until(found.torch_versions, NEWEST[Project.TORCH]),
        vllm_versions=_until(found.vllm_versions, NEWEST[Project.VLLM]),
    )


def _until(versions: Iterable[str], newest: Version) -> tuple[str, ...]:
    return tuple(version for version in versions if Version(version) <= newest)


@cache
def evidence() -> SymbolEvidence:
    return SymbolEvidence(tables=tables())


def read(text: str | bytes) -> TextFaults:
    return faults_in([text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text])


def explained(text: str | bytes, places: Sequence[Path] | None = None) -> tuple[FaultAnswer, ...]:
    explainer = Explainer(evidence=evidence(), choice=choice(), places=places)
    return explainer.answers(read(text))


def only(text: str | bytes, places: Sequence[Path] | None = None) -> FaultAnswer:
    """Return the one answer to a text."""
    (answer,) = explained(text, places)
    return answer


def lines(text: str) -> dict[str, str]:
    """Return the five lines of the one answer, by their names."""
    found = five(only(text))
    return {line[:11].rstrip(): line[11:] for line in found}


def apart(vllm: str, torch: str, more: str = "") -> str:
    """Return the command that makes an environment of its own with a vLLM and its pin."""
    folder = f"vllm-{vllm}"
    packages = " ".join(filter(None, (f"vllm=={vllm} torch=={torch}", more and f"'{more}'")))
    return f"uv venv {folder} --python 3.12 && uv pip install --python {folder} {packages}"


def commands(answer: FaultAnswer) -> list[str]:
    return [found for remedy in answer.remedies if (found := command(remedy))]


def kinds(text: str | bytes) -> list[FaultKind]:
    return [fault.kind for fault in read(text).faults]
