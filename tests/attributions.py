"""Records of one case near a failing cell, and what `attribute` answers about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from packaging.specifiers import SpecifierSet

from matrix.attribution import reasons
from matrix.attribution.attribute import attribute
from matrix.attribution.extensions import Features, nothing_known
from matrix.attribution.known import KnownPairs
from matrix.attribution.model import Attribution
from matrix.catalog.cells import Cell
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases
from matrix.checks.facts import quoted
from matrix.checks.lookup import Answer
from matrix.record.model import (
    By,
    Case,
    Departure,
    Outcome,
    Platform,
    Record,
    Rung,
    RungResult,
    Start,
    StartKind,
    Why,
)
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import parse_expectations
from matrix.verdict.grid import survey
from matrix.verdict.judge import judge

FLAG = "VLLM_USE_MEGA_AOT_ARTIFACT"
SAVED = "num_compiled_artifacts_saved"
RULES = parse_expectations(
    f'[[rule]]\nid = "warm"\ncase = "a"\nstart = "warm"\ncounters = {{ {SAVED} = 0 }}\n'
    'vllm = "<99"\n'
    'evidence = ["https://github.com/vllm-project/vllm/issues/35708"]\n'
    '[[rule]]\nid = "cold"\ncase = "a"\nstart = "cold"\ncounters = { "aot_autograd.total" = 3 }\n'
    'vllm = "<99"\n'
    'evidence = ["https://github.com/vllm-project/vllm/issues/35708"]\n',
    "rules",
)


def vllm(version: str, torch: str) -> Vllm:
    return Vllm(
        version=version,
        torch=torch,
        torchvision="0.1",
        torchaudio="2.1",
        python=SpecifierSet(">=3.10"),
    )


RELEASES = Releases(
    torch=tuple(Torch(version=f"2.{minor}.0") for minor in range(9, 16)),
    vllm=(
        vllm("0.19.0", "2.10.0"),
        vllm("0.20.0", "2.11.0"),
        vllm("0.21.0", "2.11.0"),
        vllm("0.22.0", "2.11.0"),
    ),
    pythons=("3.11", "3.12"),
    matrix_vllm=(),
)


KEY_ERROR = "KeyError: None"

FLASHINFER = Departure(
    name="flashinfer-python",
    required="flashinfer-python==0.5.2",
    installed=None,
    why=Why.MISSING,
    by=By.BUNDLE,
)


def record(  # a record has all that the rules look at
    torch: str,
    vllm: str = "0.20.0",
    *,
    fails: str | None = None,
    at: str = "starts warm",
    saved: int = 0,
    total: int = 3,
    python: str = "3.11",
    platform: str = "cpu",
    flags: Mapping[str, object] | None = None,
    packages: Mapping[str, str] | None = None,
    started: str = "2026-11-22T18:00:00Z",
    case: str = "a",
    **more: Any,
) -> Record:
    """Return the record of one case, which fails with a signature at a rung or counts this."""
    cold = Start(start=StartKind.COLD, seconds={}, counters={"aot_autograd.total": total})
    warm = Start(start=StartKind.WARM, seconds={}, counters={SAVED: saved})
    ran = (cold, warm) if fails is None else (cold,) if at == "starts warm" else ()
    seen = Case(
        case=case,
        outcome=Outcome("passed" if fails is None else "failed"),
        reason=fails,
        signature=fails,
        flags=flags or {FLAG: False},
        starts=ran,
    )
    return Record(
        cell=Cell(python, torch, vllm).name,
        platform=Platform(platform),
        finished=True,
        provenance={
            "started": started,
            "torch": f"{torch}+cu130",
            "vllm": vllm,
            "python": f"{python}.7",
            "os": "Debian",
            "tests": {"commit": "c", "fingerprint": "f"},
        },
        packages=packages or {"transformers": "5.1.0"},
        flags=flags or {FLAG: False},
        **{"cases": (seen,), "rungs": (RungResult(rung=Rung.IMPORTS, ok=True),), **more},
    )


def attributed(
    *records: Record,
    rules: Expectations = RULES,
    grid: bool = False,
    features: Features = nothing_known,
    **asked: Any,
) -> tuple[Attribution, ...]:
    known = survey(RELEASES, links=no_links) if grid else None
    pairs = KnownPairs(grid=known, features=features)
    return attribute([(run, judge(run, rules)) for run in records], RELEASES, pairs, **asked)


def no_links(cell: Cell) -> Answer | None:
    pinned = any(
        release.version == cell.vllm and release.torch == cell.torch for release in RELEASES.vllm
    )
    return Answer(ok=pinned, facts=() if pinned else quoted("undefined symbol: c10_cuda"))


def of(torch: str, *records: Record, **asked: Any) -> Attribution:
    """Return the one attribution in the cell of vLLM 0.20.0 under that torch, on Python 3.11."""
    name = Cell("3.11", torch, "0.20.0").name
    (found,) = attributed(*records, names=frozenset([name]), **asked)
    return found


def bad(torch: str, vllm: str = "0.20.0", **more: Any) -> Record:
    return record(torch, vllm, fails=KEY_ERROR, **more)


def along(
    along: reasons.Along, *clean: str, shows: Sequence[str], **ends: reasons.Boundary
) -> reasons.AxisChange:
    return reasons.AxisChange(
        along=along,
        clean=clean,
        shows=tuple(shows),
        counted=None,
        since=ends.get("since"),
        until=ends.get("until"),
    )


def torch_axis(
    *clean: str, shows: Sequence[str] = ("2.12.0",), **ends: reasons.Boundary
) -> reasons.AxisChange:
    return along(reasons.Along.TORCH, *clean, shows=shows, **ends)


def vllm_axis(
    *clean: str, shows: Sequence[str] = ("0.20.0",), **ends: reasons.Boundary
) -> reasons.AxisChange:
    return along(reasons.Along.VLLM, *clean, shows=shows, **ends)


def minor(low: str, high: str) -> reasons.Boundary:
    return reasons.Boundary(low=low, high=high, precision=reasons.Precision.MINOR)


def shown(along: reasons.Along, *releases: str) -> reasons.ShownAlong:
    return reasons.ShownAlong(along=along, releases=releases)


def with_tests(fingerprint: str, record: Record) -> Record:
    told = {**record.provenance, "tests": {"commit": "c", "fingerprint": fingerprint}}
    return Record(**{**vars(record), "provenance": told})


NO_RULES = Expectations(rules=())
TESTS_DIFFER = reasons.Confounder(kind=reasons.ConfounderKind.TESTS)


def on_cpu(model: str, record: Record) -> Record:
    return Record(**{**vars(record), "provenance": {**record.provenance, "cpu": {"model": model}}})


def names(found: Attribution) -> list[tuple[str, str]]:
    return [(run.name, run.platform) for run in found.missing]
