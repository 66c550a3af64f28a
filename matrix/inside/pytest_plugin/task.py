"""One running case: its folder, its child, and the threads that follow it."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from matrix._util.shared_memory import sweep_shared
from matrix.inside import journal
from matrix.inside.ended import Ended, read_tail, tail
from matrix.inside.machine_faults import KernelLog
from matrix.inside.ports import CasePorts
from matrix.inside.pytest_plugin.progress import ProgressLine
from matrix.inside.pytest_plugin.record_file import RecordFile
from matrix.inside.pytest_plugin.reports import run_and_report
from matrix.inside.pytest_plugin.selection import case_name, gpus_of


class CaseTask:
    """One running case: the folder of its journal and output, its ports, its progress line.

    `kernel` is the kernel's log from now on, where it counts.
    """

    def __init__(
        self,
        item: pytest.Item,
        record: RecordFile,
        line: ProgressLine,
        kernel: KernelLog | None,
    ) -> None:
        self.item = item
        self.name = case_name(item.name)
        self.line = line
        self.kernel = kernel
        self.began = time.monotonic()
        self._since = time.time() - 1.0  # of files, whose times are rounded
        self._record = record
        self._ports = CasePorts()
        self._temporary = tempfile.TemporaryDirectory(prefix="matrix-", ignore_cleanup_errors=True)
        self._folder = Path(self._temporary.name)
        self._journal = self._folder / "journal"
        self._streams = item.config.getoption("capture") == "no"
        self._seen_events = 0
        self._shown_bytes = 0
        _make_base_temp(item.config)

    @property
    def output(self) -> Path:
        """The file for what the case's child writes to stdout and stderr."""
        return self._folder / "output"

    def run(self) -> dict[str, Any]:
        """Run the test, in the child; return its reports as JSON."""
        os.environ.update(self._ports.environment)
        _capture_apart(self.item.config, self._folder)
        os.environ[journal.JOURNAL_VARIABLE] = str(self._journal)
        return run_and_report(self.item)

    def watch(self) -> None:
        """Follow the running case: its journal, for progress line and record; its output for -s."""
        events = self.events()
        for event in events[self._seen_events :]:
            self.line.event(event)
            if event["event"] == "started":
                self._record.put(journal.fold(self.name, events, seconds=self.seconds()))
        self._seen_events = len(events)
        if self._streams:
            with suppress(OSError), self.output.open("rb") as file:
                file.seek(self._shown_bytes)
                data = file.read()
                self._shown_bytes += len(data)
                self.line.stream(data.decode("utf-8", "replace"))

    def events(self) -> tuple[dict[str, Any], ...]:
        """Return the events of the case's journal so far."""
        return journal.read(self._journal)

    def seconds(self) -> float:
        """Return how long the case has been at work."""
        return time.monotonic() - self.began

    def with_output(self, ended: Ended) -> Ended:
        """Add what pytest had captured, and what the cold start printed, where the child died."""
        if ended.kind == "returned":
            return ended
        captured = [read_tail(self._folder / f"captured.{name}") for name in ("out", "err")]
        parts = [part.rstrip() for part in (*captured, ended.output) if part.strip()]
        output = tail("\n".join(parts))
        cold = self._folder / "cold.log"
        if cold.exists():
            printed = cold.read_text(encoding="utf-8", errors="replace")
            output = tail(f"{output}\nthe cold start printed\n{printed}")
        return replace(ended, output=output)

    def close(self) -> None:
        """Remove the folder, and what ranks that were killed left; give the ports back."""
        self._ports.close()
        self._temporary.cleanup()
        if gpus_of(self.item) > 1:
            sweep_shared(self._since)


def _make_base_temp(config: pytest.Config) -> None:
    # Where the parent has none, every child makes one, and none removes the old ones.
    factory = getattr(config, "_tmp_path_factory", None)
    if factory is not None:
        factory.getbasetemp()


def _capture_apart(config: pytest.Config, folder: Path) -> None:
    """Let pytest's capture write to files in the folder, in the child.

    A fork shares the files of its parent's capture, and all its siblings would write to the same.
    """
    manager: Any = config.pluginmanager.get_plugin("capturemanager")
    capturing = getattr(manager, "_global_capturing", None)
    for name in ("out", "err"):
        file: Any = getattr(getattr(capturing, name, None), "tmpfile", None)
        with suppress(AttributeError, OSError):  # no capture, or one in memory: not shared
            number = file.fileno()
            own = os.open(folder / f"captured.{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.dup2(own, number, inheritable=False)
            os.close(own)
