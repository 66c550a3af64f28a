"""Programs of a test's own, found in place of those of the machine."""

from pathlib import Path


def program(folder: Path, name: str, body: str) -> Path:
    """Write a program of the shell, which may be called by its path."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path
