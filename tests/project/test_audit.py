"""scripts/audit.py: what pip-audit said, or that it could not be asked."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "audit.py"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def said(*packages: Mapping[str, object]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


NOTHING = "audit: nothing was audited, pip-audit ended without an answer:"
GOOD = {"name": "duckdb", "version": "1.5", "vulns": []}
UNKNOWN = {"name": "torch-vllm-matrix", "skip_reason": "not found"}
BAD = {
    "name": "urllib3",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}


@pytest.mark.parametrize(
    ("output", "errors", "status", "lines"),
    [
        (said(GOOD), "", 0, ["audit: 1 packages audited, 0 unknown, 0 vulnerable"]),
        (
            said(GOOD, BAD, UNKNOWN),
            "Found 2 known vulnerabilities",
            1,
            [
                "audit: urllib3 1.0: PYSEC-1, fixed in 1.1",
                "audit: urllib3 1.0: PYSEC-2, fixed in no release",
                "audit: 2 packages audited, 1 unknown, 2 vulnerable",
            ],
        ),
        (
            said(UNKNOWN),
            "",
            0,
            ["audit: nothing was audited, the service knows none of these packages"],
        ),
        (
            "",
            "Traceback\nConnectionError: no route\n",
            0,
            [f"{NOTHING} ConnectionError: no route"],
        ),
        (
            "[]",
            "",
            0,
            [f"{NOTHING} it printed nothing"],
        ),
    ],
)
def test_what_was_found_out(
    audit: ModuleType, output: str, errors: str, status: int, lines: list[str]
) -> None:
    assert audit.judged(output, errors) == (status, lines)
