"""Python's garbage collection, paused where it finds nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Collect no garbage during the block, or the function that this decorates.

    The objects that a command reads from many records exist until it ends. To look through it for
    cycles again and again takes a fifth of the CPU seconds of a table of many records:
    `benchmarks/collection.py`.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
