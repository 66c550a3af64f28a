"""A command reads the releases once, and hands them to all that asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from commanded import with_one_record
from matrix.catalog import releases_file
from matrix.cli import main
from matrix.run import limits


@pytest.mark.parametrize(
    "command",
    [
        "grid records",
        "table records --out docs",
        "plan --stale --torch 2.10 --vllm 0.19 records",
        "attribute --all records",
        "run --torch 2.10 --vllm 0.19 --platform cpu --dry-run",
    ],
)
def test_the_releases_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with_one_record(tmp_path)
    (tmp_path / "tox.ini").write_text("[tox]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(limits, "available_memory_mib", lambda _: 24 << 10)  # a run needs 4 GiB
    read: list[Path] = []
    checked = releases_file._checked

    def counted(path: Path) -> Any:
        read.append(path)
        return checked(path)

    monkeypatch.setattr(releases_file, "_checked", counted)
    assert main(command.split()) == 0
    assert len(read) == 1
