"""The terminal output while cases run: a line for each case, updated as it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import pytest

from matrix.record.model import StartKind


class ProgressLine(Protocol):
    """The progress line of one case."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Show an event of the case's journal."""

    def stream(self, text: str) -> None:
        """Show what the case's child wrote (under `-s`)."""

    def end(self, word: str, *, good: bool | None) -> None:
        """Show how the case ended; `good` is None if that is neither good nor bad."""


class SessionProgress:
    """A line that grows as a case runs: `  moe_startup[mega_aot=1]  cold 61.2 s  warm 20.4 s ...`.

    It is the `ProgressLine` of the case that `begin` named last.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._name = ""
        self._open = False
        self.width = 0

    @property
    def _terminal(self) -> Any:
        return self._config.pluginmanager.get_plugin("terminalreporter")

    def line(self, text: str) -> None:
        """Show a line of its own."""
        if self._terminal is not None:
            self._terminal.ensure_newline()
            self._terminal.write(f"  {text}\n", flush=True)

    def begin(self, name: str) -> None:
        """Open the line of a case."""
        self._name = name
        if self._terminal is not None:
            # Not ensure_newline: after that, pytest writes the file's name again for the next case.
            if self._config.get_terminal_writer().width_of_current_line:
                self._terminal.write("\n")
            self._reopen()

    def event(self, event: Mapping[str, Any]) -> None:
        """Add an event of the case's journal to its line."""
        if text := _event_text(event):
            self._add(text)

    def stream(self, text: str) -> None:
        """Show what the child wrote (under `-s`)."""
        if self._terminal is not None and text:
            self._close()
            self._terminal.write(text if text.endswith("\n") else text + "\n", flush=True)

    def end(self, word: str, *, good: bool | None) -> None:
        """Add how the case ended to its line, and close it."""
        self._add("  ")
        self._add(word, **_colour(good=good))
        self._close()

    def whole_line(self, name: str, events: str, word: str, *, good: bool | None) -> None:
        """Show the line of a case at once, as it would have grown."""
        if self._terminal is not None:
            self._terminal.ensure_newline()
            self._terminal.write(f"  {name:<{self.width}}{events}  ")
            self._terminal.write(word, **_colour(good=good))
            self._terminal.write("\n", flush=True)

    @contextmanager
    def without_files(self) -> Iterator[None]:
        """Keep pytest from the name of the file before each case: neighbours are of several."""
        shown = self._terminal is not None and self._terminal.showfspath
        if shown:
            self._terminal.showfspath = False
        yield
        if shown:
            self._terminal.showfspath = True

    def _add(self, text: str, **markup: bool) -> None:
        if self._terminal is not None:
            if not self._open:
                self._reopen()
            self._terminal.write(text, flush=True, **markup)

    def _reopen(self) -> None:
        self._terminal.write(f"  {self._name:<{self.width}}", flush=True)
        self._open = True

    def _close(self) -> None:
        if self._terminal is not None and self._open:
            self._terminal.write("\n", flush=True)
            self._open = False


class ConcurrentProgress:
    """The lines of cases that run side by side: a line cannot grow while its neighbours do."""

    def __init__(self, progress: SessionProgress) -> None:
        self.progress = progress
        self._began = time.monotonic()

    def case(self, name: str) -> CaseLine:
        """Return the line of a case that begins."""
        return CaseLine(self, name)

    def show(self, text: str) -> None:
        """Show a line with the time since the first case began."""
        self.progress.line(f"[{time.monotonic() - self._began:4.0f} s]  {text}")


class CaseLine:
    """The line of one case among others: shown after its cold start, and again at its end."""

    def __init__(self, lines: ConcurrentProgress, name: str) -> None:
        self._lines, self._name = lines, name
        self._events = ""

    def event(self, event: Mapping[str, Any]) -> None:
        """Add an event of the case's journal to its line; show it when the cold start is over."""
        self._events += _event_text(event)
        if event["event"] == "started" and event.get("start") == StartKind.COLD:
            self._lines.show(f"{self._name:<{self._lines.progress.width}}{self._events}")

    def stream(self, text: str) -> None:
        """Show what the child wrote (under `-s`), each line with the name of the case."""
        for line in text.splitlines():
            self._lines.progress.line(f"{self._name} | {line}")

    def end(self, word: str, *, good: bool | None) -> None:
        """Show the whole line, with how the case ended."""
        self._lines.progress.whole_line(self._name, self._events, word, good=good)


def _event_text(event: Mapping[str, Any]) -> str:
    """Return what a progress line shows of an event."""
    if event["event"] == "starting":
        return f"  {event.get('start')}"
    if event["event"] == "started":
        seconds = event.get("seconds")
        total = seconds.get("total") if isinstance(seconds, Mapping) else seconds
        return f" {total:.1f} s" if isinstance(total, (int, float)) else " done"
    return ""


def _colour(*, good: bool | None) -> dict[str, bool]:
    return {"yellow": True} if good is None else {"green" if good else "red": True}
