"""The observation of one start in one process: its log, its steps, its just-in-time builds.

vLLM forks its workers from the process of the start, so a rank inherits all of this as it was then.
It forgets what came before, and goes on with a copy of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from matrix.inside import flashinfer_jit, timings, torch_internals, vllm_compat
from matrix.inside.events import Events
from matrix.inside.spans import following
from matrix.inside.timeline import Timeline

_followed: list[Observing] = []


class Observing:
    """The observations of the start in this process so far."""

    def __init__(self) -> None:
        """Begin now, with nothing seen."""
        self._events = Events()
        self._modules: list[dict[str, Any]] = []
        self._timeline = Timeline(kept=("jit",))
        self._heard = timings.Timings(timeline=self._timeline)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to what torch and vLLM log meanwhile."""
        with timings.hearing(self._heard, self._events):
            yield

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Time the steps of the start meanwhile."""
        steps = {
            **vllm_compat.startup_steps(),
            flashinfer_jit.MODULE: (flashinfer_jit.watching(self._modules),),
        }
        with following(self._timeline, steps):
            yield

    def forget(self) -> None:
        """Forget all that was seen, in a process that was forked from the one that saw it."""
        self._events.forget()
        self._modules.clear()
        self._timeline.forget()
        self._heard.forget()

    def parts(self) -> dict[str, float]:
        """Return the seconds of each part so far: those of `timings.Timings.parts`."""
        return self._heard.parts(vllm_compat.compiler_seconds())

    def seen(self) -> dict[str, Any]:
        """Return what was counted, logged and built in this process so far, as JSON."""
        return {
            "counters": vllm_compat.counters(),
            "events": self._events.found(),
            "jit": self._modules,
            "metrics": torch_internals.metrics(),
        }


@contextlib.contextmanager
def observing() -> Iterator[Observing]:
    """Follow a start in this process, and what vLLM forks from it meanwhile."""
    found = Observing()
    _followed.append(found)
    try:
        with found.listening():
            yield found
    finally:
        _followed.remove(found)


def inherited() -> Observing | None:
    """Return what the process followed that this one was forked from; None if it is another."""
    return _followed[-1] if _followed else None
