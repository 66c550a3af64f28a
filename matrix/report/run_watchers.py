"""Who shows a run while it continues: plain lines, or on a terminal a table that changes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from matrix._util.addresses import without_logins
from matrix._util.reported import last_line
from matrix._util.text import clean, clip
from matrix.report.run_progress import (
    View,
    build_words,
    done_words,
    duration,
    end_line,
    event_line,
    named,
    silent_line,
    stage_words,
)
from matrix.run.job import Job, JobEnd
from matrix.run.process import SILENCE
from matrix.run.run_state import Happened, RunEvent
from matrix.run.task import TaskKind
from matrix.run.watcher import Working

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_REDRAW = 0.5  # seconds
_ROWS = 40
_WIDE = 70  # columns of a terminal in which four columns of a table can be read


class LineWatcher:
    """Says a line for each event, and one of all that is at work after `every` seconds without.

    `judged` returns the first line of what is shown of a record; None if there is none. `why`
    has why each job runs, by its key. `made` are the environments that are there at the begin.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        say: Callable[[str], None],
        judged: Callable[[JobEnd], str | None],
        *,
        why: Mapping[str, str] | None = None,
        made: Iterable[str] = (),
        every: float = SILENCE,
    ) -> None:
        """Begin to watch; the first line comes with the first event."""
        self._why = why or {}
        self._made = set(made)
        self._jobs, self._say, self._judged, self._every = jobs, say, judged, every
        self._ends: dict[str, JobEnd] = {}
        self._working: Sequence[Working] = ()
        self._last = time.monotonic()

    def event(self, event: RunEvent) -> None:
        """Say what happened."""
        line = event_line(event, self._jobs, self._why)
        if event.what is Happened.BUILT and event.works and event.environment is not None:
            self._made.add(event.environment)
        if event.what is Happened.REMOVED and event.environment is not None:
            self._made.discard(event.environment)
        if event.end is not None:
            self._ends[event.end.job] = event.end
            line = end_line(event.end, self._jobs, self._judged(event.end))
            self._working = [work for work in self._working if work.task.job != event.end.job]
            line = f"{line} ({done_words(self.view(self._working))})"
        if line is not None:
            self._say(line)
            self._last = time.monotonic()

    def tick(self, working: Sequence[Working]) -> None:
        """Say what is at work, where no line came for a while."""
        self._working = working
        if working and time.monotonic() - self._last > self._every:
            self._say(silent_line(self.view(working), _last_lines(working)))
            self._last = time.monotonic()

    def view(self, working: Sequence[Working]) -> View:
        """Return what there is to show now."""
        now = time.monotonic()
        return View(
            jobs=self._jobs,
            ends=self._ends,
            working=working,
            seconds=[now - work.began for work in working],
            made=self._made,
        )


class TableWatcher(LineWatcher):
    """Shows what is at work and what waits as a table at the end of a terminal, by rich.

    Above it the lines of events stay.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        console: Console,
        judged: Callable[[JobEnd], str | None],
        *,
        why: Mapping[str, str] | None = None,
        made: Iterable[str] = (),
    ) -> None:
        """Begin to watch."""
        from rich.live import Live

        super().__init__(jobs, self._print, judged, why=why, made=made)
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._drawn = 0.0

    def __enter__(self) -> TableWatcher:  # noqa: PYI034 - Self is not in Python 3.10
        """Take the end of the terminal."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back. One that is gone changes nothing about the run."""
        with contextlib.suppress(OSError):
            self._live.stop()

    def tick(self, working: Sequence[Working]) -> None:
        """Draw the table again, where it is time to."""
        self._working = working
        if time.monotonic() - self._drawn > _REDRAW:
            self._drawn = time.monotonic()
            found = self.view(working), _last_lines(working)
            self._live.update(table(*found, width=self._console.width), refresh=True)

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def table(view: View, last: Mapping[int, str], rows: int = _ROWS, width: int = _WIDE) -> Table:
    """Return a table of what is at work, and of as many of those that wait as `rows` leaves.

    It has one column where the terminal has less than `_WIDE` columns: names stay whole there.
    """
    from rich.table import Table
    from rich.text import Text

    wide = width >= _WIDE
    shown = Table(
        title=done_words(view), title_justify="left", box=None, pad_edge=False, show_header=wide
    )
    for head in ("cell", "what", "seconds", "about") if wide else ("",):
        right = head in ("seconds", "about")
        shown.add_column(head, justify="right" if right else "left", overflow="fold")
    for cells in _rows(view, last, rows):
        words = [clip(clean(cell), 100) for cell in cells]
        if not wide:
            name, what, seconds, about = words
            takes = [f"{seconds} s" * bool(seconds), f"about {about}" * bool(about)]
            parts = filter(None, [what, " of ".join(filter(None, takes))])
            words = [f"{name}: {', '.join(parts)}"]
        shown.add_row(*map(Text, words))
    return shown


def _rows(view: View, last: Mapping[int, str], most: int) -> Iterator[tuple[str, str, str, str]]:
    """Yield the cell, what it is at, its seconds so far, and how long it is thought to take."""
    busy = set()
    for work, seconds in zip(view.working[:most], view.seconds, strict=False):
        task = work.task
        of = [job for job in view.jobs.values() if job.environment == task.environment]
        job = view.jobs.get(task.job or "") or next(iter(of), None)
        if task.kind is TaskKind.REMOVE or job is None:
            yield task.environment, "removes its environment", f"{seconds:.0f}", ""
            continue
        busy.add(job.key)
        whole, what = job.estimate.run_seconds, stage_words(work.stage)
        if task.kind is TaskKind.BUILD:
            whole, what = job.estimate.build_seconds, build_words(work, last.get(task.number, ""))
        yield named(job), what, f"{seconds:.0f}", duration(whole)
    waits = [job for key, job in view.jobs.items() if key not in view.ends and key not in busy]
    room = max(most - len(view.working), 0)
    for job in waits[:room]:
        yield named(job), "waits", "", duration(job.estimate.run_seconds)
    if len(waits) > room:
        yield f"{len(waits) - room} more", "wait", "", ""


def _last_lines(working: Sequence[Working]) -> dict[int, str]:
    """Return the last line of the logs of environments that are being made."""
    found = {}
    for work in working:
        if work.task.kind is TaskKind.BUILD and work.log is not None:
            with contextlib.suppress(OSError):
                found[work.task.number] = without_logins(last_line(work.log))
    return found
