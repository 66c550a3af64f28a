"""A small bundle for this machine: its files are whole, and hold nothing that installs."""

import hashlib
import io
import json
import platform
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matrix.bundle import run as offline
from matrix.bundle.manifest import BundleItem
from matrix.bundle.parts import Parts

PYTHON = ".".join(map(str, sys.version_info[:2]))
CELL = f"py{PYTHON.replace('.', '')}-torch211-vllm020"
GLIBC = platform.libc_ver()[1]


def item(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_bundle(folder: Path, content_of: dict[str, bytes], size: int = 0, **changes: Any) -> Path:
    """Return a bundle of these files, cut into parts where a size is given."""
    folder.mkdir()
    parts: list[BundleItem] = []
    if size:
        pieces = Parts(folder, size, "part")
        with tarfile.open(fileobj=pieces, mode="w|") as archive:  # type: ignore[call-overload]
            for name, content in content_of.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        parts = pieces.done()
    else:
        for name, content in content_of.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    data = {
        "schema": 1,
        "made": "2026-11-22T21:00:00Z",
        "python": PYTHON,
        "machine": platform.machine(),
        "glibc": GLIBC,
        "gpu_arch": None,
        "installer": next(iter(content_of)),
        "without": [],
        "cells": {CELL: {"have": {}, "left_out": {}, "lock": []}},
        "parts": [
            {"name": part.name, "bytes": part.bytes, "sha256": part.sha256} for part in parts
        ],
        "files": [item(name, content) for name, content in content_of.items()],
        **changes,
    }
    (folder / "bundle.json").write_text(json.dumps(data))
    return folder


FILES = {"wheels/uv.whl": b"uv" * 700, "wheels/a.whl": b"a" * 5000, "project/a.py": b"x = 1\n"}


def run(bundle: Path, work: Path, arguments: Sequence[str] = (CELL,)) -> int:
    return offline.main(["--bundle", str(bundle), "--work", str(work), *arguments])
