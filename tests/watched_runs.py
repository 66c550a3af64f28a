"""Who watches an engine in tests."""

from __future__ import annotations

from collections.abc import Sequence

from matrix.run.run_state import RunEvent
from matrix.run.watcher import Working


class Seen:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self.stages: set[str] = set()

    def event(self, event: RunEvent) -> None:
        self.events.append(event)

    def tick(self, working: Sequence[Working]) -> None:
        self.stages |= {work.stage.cases[0] for work in working if work.stage and work.stage.cases}
