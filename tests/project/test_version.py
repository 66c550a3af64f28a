import importlib.metadata
import subprocess
import sys

import pytest

import matrix


def test_the_version_is_that_of_the_distribution() -> None:
    assert matrix.__version__ == importlib.metadata.version("torch-vllm-matrix")
    with pytest.raises(AttributeError, match="module 'matrix' has no attribute 'versions'"):
        _ = matrix.versions  # type: ignore[attr-defined]


def test_without_the_distribution_there_is_still_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", refuse)
    assert matrix.__version__ == "0+unknown"


def test_the_help_does_not_read_metadata_of_packages() -> None:
    code = """
import sys
from matrix.cli import main
try:
    main(["--help"])
finally:
    print("importlib.metadata" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
