"""What Linux's prctl does for a process and its children."""

import contextlib
import ctypes
import signal
import sys
from collections.abc import Iterator

# Loaded before any fork: a dlopen between fork and exec could wait for a lock for ever.
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 1, 36, 37
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Let orphans of the child come to this process, so that they can be found and ended."""
    before = ctypes.c_int(0)
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        _prctl(_PR_SET_CHILD_SUBREAPER, before.value)


def die_with_parent() -> None:
    """Have the kernel end this process by SIGTERM when the one that started it ends."""
    # Not SIGKILL: what the child started in sessions of its own can be ended by the child alone.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: object) -> None:
    if _LIBC is not None:
        _LIBC.prctl(option, value, 0, 0, 0)
