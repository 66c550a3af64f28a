"""Errors of public reports, and what is answered to each."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from explained import commands, explained
from failure_texts import FAILURES, INDEX
from matrix._util.text import clean
from matrix.explain.model import FaultKind
from matrix.report.explain import five

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "reports"
REPORTS: Mapping[str, Any] = tomllib.loads(FOLDER.with_suffix(".toml").read_text(encoding="utf-8"))
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.txt"))}
KNOWN = {
    "actor-died": FaultKind.REPORT,
    "bfloat16-": FaultKind.DATA_TYPE,
    "certifi": FaultKind.CONFLICT,
    "cuda-library": FaultKind.OTHER_PACKAGE,
    "cudart": FaultKind.MISSING_LIBRARY,
    "driver-": FaultKind.OLD_DRIVER,
    "engine-alone": FaultKind.REPORT,
    "fp8e4nv-": FaultKind.DATA_TYPE,
    "gcc-no": FaultKind.TOOL,
    "glibc": FaultKind.OLD_LIBRARY,
    "hip-cascade": FaultKind.UNDEFINED_SYMBOL,
    "inspected-alone": FaultKind.REPORT,
    "log-milliseconds": FaultKind.OTHER_PACKAGE,
    "moe-no-cubin": FaultKind.TOOL,
    "nccl-": FaultKind.NCCL,
    "ninja-command": FaultKind.TOOL,
    "ninja-no-nvcc": FaultKind.TOOL,
    "ninja-repeated": FaultKind.TOOL,
    "nms": FaultKind.TORCHVISION,
    "no-driver": FaultKind.MISSING_LIBRARY,
    "no-kernel": FaultKind.NO_KERNEL,
    "op-of": FaultKind.UNDEFINED_SYMBOL,
    "pip-": FaultKind.CONFLICT,
    "ptxas-bf16": FaultKind.DATA_TYPE,
    "ptxas-sm": FaultKind.NO_KERNEL,
    "python-logging-no-memory": FaultKind.MEMORY,
    "ray-repeated": FaultKind.UNDEFINED_SYMBOL,
    "stage-engine-dead": FaultKind.REPORT,
    "unknown-model": FaultKind.UNKNOWN_MODEL,
    "warn-no-extension": FaultKind.MISSING_MODULE,
    "undefined": FaultKind.UNDEFINED_SYMBOL,
    "uv-": FaultKind.CONFLICT,
    "warm-artifacts": FaultKind.RECOMPILES,
    "warn-hip": FaultKind.UNDEFINED_SYMBOL,
    "warn-parse": FaultKind.UNDEFINED_SYMBOL,
    "warn-silu": FaultKind.UNDEFINED_SYMBOL,
}
"""The kinds of those in `tests/failures`, by the begin of their names; others are unknown."""
AND = {"moe-no-cubin": {FaultKind.UNKNOWN}}
"""What else some of them show: a missing nvcc is a line before the error."""


def test_the_corpus_is_whole_and_names_nobody() -> None:
    assert REPORTS.keys() == TEXTS.keys()
    sources = [report["from"] for report in REPORTS.values()]
    assert len(set(sources)) == len(sources) >= 20
    assert all(re.fullmatch(r"https://github\.com/[\w./-]+/\d+", source) for source in sources)
    for text in TEXTS.values():
        assert not re.search(r"/(?:home|Users)/(?!user/)", text)
    kinds = {row["kind"] for report in REPORTS.values() for row in report["answers"]}
    assert kinds == {str(kind) for kind in FaultKind} - {FaultKind.WHEEL}


@pytest.mark.parametrize("name", TEXTS)
def test_a_report_gets_its_answer(name: str) -> None:
    answers = explained(TEXTS[name])
    report = REPORTS[name]
    assert report["status"] == (0 if any(answer.known for answer in answers) else 1)
    found = [
        {
            "kind": answer.fault.kind,
            "meaning": answer.meaning,
            "signature": answer.fault.signature,
            "facts": {
                key: value
                for key in ("subject", "file", "package", "has", "wants")
                if (value := getattr(answer.fault, key))
            },
            "command": next(iter(commands(answer)), ""),
        }
        for answer in answers
    ]
    assert found == report["answers"]
    assert [len(five(answer)) for answer in answers] == [5] * len(answers)


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_as_records_keep_it_has_its_kind_and_signature(name: str) -> None:
    wanted = next((kind for begin, kind in KNOWN.items() if name.startswith(begin)), None)
    answers = explained(FAILURES[name])
    kinds = {answer.fault.kind for answer in answers}
    assert kinds == {wanted or FaultKind.UNKNOWN} | AND.get(name, set())
    assert clean(INDEX[name]["signature"]) in [answer.fault.signature for answer in answers]
