"""Who is shown what an engine does: events, and what is at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from matrix.run.run_state import RunEvent
from matrix.run.stage import Stage
from matrix.run.task import Task


@dataclass(frozen=True, kw_only=True)
class Working:
    """A running task: its begin (by `time.monotonic`), its log, and the progress of its run."""

    task: Task
    began: float
    log: Path | None = None
    stage: Stage | None = None


class Watcher(Protocol):
    """Who is shown what happens."""

    def event(self, event: RunEvent) -> None:
        """Show something that happened."""

    def tick(self, working: Sequence[Working]) -> None:
        """Show what is running, if it is time to; called some times a second."""
