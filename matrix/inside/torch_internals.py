"""Counters and defaults of torch's compiler: `torch._inductor.metrics`, the configs.

Both are internals of torch, which change with every release, so what is not there, or is of another
form, is left out. torch is imported inside the functions.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from typing import Any

from matrix.record.model import (
    DEFAULT_ITEMS_LIMIT,
    DEFAULT_TEXT_LIMIT,
    DEFAULTS_LIMIT,
    METRICS_LIMIT,
    DefaultValue,
)

CONFIGS = ("torch._dynamo.config", "torch._functorch.config", "torch._inductor.config")
"""The modules whose defaults are kept."""

_LARGEST = 2**63 - 1
# What torch computes from the machine or from variables of the environment that are about it.
_OF_THE_MACHINE = re.compile(
    r"(^|[._])(threads|dir|root|path|logpath|cxx|cuda_cxx|march|arch|cpu_target|worker_start_method"
    r"|compile_threads|error_on_custom_op_aliasing)(_|$)|_(dir|path|root)\b"
)
_PATH = re.compile(r"[/\\~]")


def metrics() -> dict[str, int] | None:
    """Return the numbers that Inductor keeps of this process, by name; None if it has none.

    They count what is compiled in the process, and what a hit in Inductor's graph cache adds.
    """
    try:
        module = importlib.import_module("torch._inductor.metrics")
        found = {
            name: value
            for name, value in vars(module).items()
            if type(value) is int and 0 <= value <= _LARGEST and not name.startswith("_")
        }
    except Exception:  # noqa: BLE001 - an internal of torch, which may be anything
        return None
    return dict(sorted(found.items())[:METRICS_LIMIT]) or None


def defaults() -> dict[str, dict[str, DefaultValue]] | None:
    """Return the defaults of torch's configs that are plain data, by module and name.

    They are read from the entries of the configs, so what vLLM sets does not hide them. A default
    that torch reads from the environment while it is imported is what it read. What depends on
    the machine, such as paths, is left out. None if no config has entries of that form.
    """
    found = {name: plain for name in CONFIGS if (plain := _defaults_of(name))}
    return found or None


def _defaults_of(config: str) -> dict[str, DefaultValue]:
    """Return the plain defaults of one config; none where it is not there or of another form."""
    try:
        entries: Any = importlib.import_module(config)._config
        return _plain_defaults(entries)
    except Exception:  # noqa: BLE001 - an internal of torch, which may be anything
        return {}


def _plain_defaults(entries: Mapping[str, Any]) -> dict[str, DefaultValue]:
    """Return the plain defaults of one config; none of one that has too many to be believed."""
    found: dict[str, DefaultValue] = {}
    for name, entry in sorted(entries.items()):
        if getattr(entry, "alias", None) is not None or not hasattr(entry, "default"):
            continue
        if len(name) > DEFAULT_TEXT_LIMIT or _OF_THE_MACHINE.search(name):
            continue
        value = entry.default
        if _is_plain(value):
            found[name] = value
        elif isinstance(value, (list, tuple)) and len(value) <= DEFAULT_ITEMS_LIMIT:
            items = list(value)
            if all(map(_is_plain, items)):
                found[name] = items
    return found if len(found) <= DEFAULTS_LIMIT else {}


def _is_plain(value: object) -> bool:
    """Return whether a value is a scalar that a record can hold and that names no path."""
    if value is None or type(value) is bool:
        return True
    if type(value) is int:
        return abs(value) <= _LARGEST
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is str and len(value) <= DEFAULT_TEXT_LIMIT and not _PATH.search(value)
