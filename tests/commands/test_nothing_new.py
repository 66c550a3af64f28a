"""A command that reads an index says so where it reads nothing new."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from command import matrix

if TYPE_CHECKING:
    from local_index import Served


@pytest.mark.parametrize(("command", "option"), [("linkage", "--tables"), ("wheels", "--file")])
def test_a_fill_without_a_new_wheel(
    served: Served, tmp_path: Path, command: str, option: str
) -> None:
    for project in ("torch", "vllm"):
        served.add(project, f"{project}-0.1.tar.gz", served.sdist(f"{project}-0.1", {}))
    data = tmp_path / "data"
    if command == "wheels":
        data.write_text('{"wheels": []}', encoding="utf-8")
    done = matrix(tmp_path, command, "--fill", "--index", served.url, option, str(data))
    line = (
        "data: nothing new; the index has no wheel for x86_64 of torch 2.9 or vllm 0.14 or a newer"
        " release that was not read before\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, line, "")
