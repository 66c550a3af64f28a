"""Modules that stand for those of torch and vLLM, which the tests do not install."""

import sys
import types
from typing import Any

import pytest


def stub_module(monkeypatch: pytest.MonkeyPatch, name: str) -> dict[str, Any]:
    """Put an empty module, and packages above it, in the place of a module; return its names."""
    for end in range(1, name.count(".") + 1):
        parent = ".".join(name.split(".")[:end])
        if parent not in sys.modules:
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    return vars(module)
