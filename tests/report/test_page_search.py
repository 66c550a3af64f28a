"""What the search of the page understands: its script in node, where that is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import matrix.report.page

NODE = shutil.which("node")
SCRIPT = Path(matrix.report.page.__file__).parent / "templates" / "versions.js"
DATA = {
    "torch": [["2.15.0"], ["2.10.0"]],
    "vllm": [["0.33.0"], ["0.19.1"]],
    "apart": {"torch": ["2.12.0"], "vllm": ["0.19.0"]},
}
SYMBOL = "_ZN3c1013MessageLoggerC1EPKciib"

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


def understood(text: str) -> Any:
    """Return what the search makes of a text: its words and how many versions it names."""
    call = f"understood({json.dumps(text)}, {json.dumps(DATA)})"
    script = (
        f"{SCRIPT.read_text(encoding='utf-8')}\nconst {{ words, conditions }} = {call};"
        "console.log(JSON.stringify([words, conditions.length]));"
    )
    done = subprocess.run(
        [str(NODE), "-e", script], capture_output=True, text=True, check=True, timeout=30
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("text", "words", "versions"),
    [
        ("0.19", [], 1),
        ("2.10.0+cu128", [], 1),
        ("vllm==0.19.1 2.10", [], 2),
        ("requires DeepGEMM support", ["requires", "deepgemm", "support"], 0),
        ("no such model", ["no", "such", "model"], 0),
        (
            f"ImportError: /a/b/_C.abi3.so: undefined symbol: {SYMBOL}",
            ["_c.abi3.so", "c10::messagelogger"],
            0,
        ),
        ("'libcudart.so.12: cannot open shared object file'", ["libcudart.so.12"], 0),
        ("model_startup[glm_4.5]", ["model_startup[glm_4.5]"], 0),
        ("_ZN3 _ZN99999x", ["_zn3", "_zn99999x"], 0),
        ('"', [], 0),
    ],
)
def test_a_text_is_read_as_versions_and_as_the_words_of_the_page(
    text: str, words: list[str], versions: int
) -> None:
    assert understood(text) == [words, versions]
