"""How a forked child ended, in the record's words."""

from __future__ import annotations

import os
import re
import signal as signals
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matrix._util.process import signal_name
from matrix.record.model import Outcome

TAIL_BYTES = 16 * 1024
"""How much of an output or a traceback is kept: its last 16 KiB."""

FROM_OUTSIDE = frozenset(
    {
        signals.SIGKILL,
        signals.SIGTERM,
        signals.SIGINT,
        signals.SIGHUP,
        signals.SIGQUIT,
        signals.SIGXCPU,
    }
)
"""The signals by which others end a process; a program's own faults raise others."""

Kind = Literal["returned", "raised", "exited", "signalled", "timed_out"]

_OUT_OF_MEMORY = re.compile(
    r"^(?:E\s+)?(?:[\w.]+\.)?(?:MemoryError|OutOfMemoryError)\b"
    r"|std::bad_alloc|CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|Cannot allocate memory|\bout of memory: the kernel"
    r"|Resource temporarily unavailable|failed to map segment from shared object",
    re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a forked child ended.

    `seconds` is the child's whole life. `output` is the end of what it wrote to stdout and stderr
    (at most `TAIL_BYTES`; empty if no output file was given). `survivors` are process ids that
    SIGKILL did not end within 5 s; it is empty in all but broken machines.
    `idle` is why a child that timed out could not get on, such as that somebody stopped it; None
    where it could.
    """

    kind: Kind
    seconds: float
    value: Any = None
    error: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    output: str = ""
    oom_killed: bool = False
    idle: str | None = None
    survivors: tuple[int, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Return it as the record's outcome; `interrupted` where others ended it."""
        if self.kind == "returned":
            return Outcome.PASSED
        if self.kind == "timed_out":
            return Outcome.TIMED_OUT
        if self.oom_killed or out_of_memory(self.error or ""):
            return Outcome.OUT_OF_MEMORY
        if self.kind == "raised":
            return Outcome.FAILED
        if out_of_memory(self.output):
            return Outcome.OUT_OF_MEMORY
        return Outcome.INTERRUPTED if self.signal in FROM_OUTSIDE else Outcome.CRASHED

    @property
    def reason(self) -> str:
        """Return one line about how it ended."""
        if self.kind == "timed_out":
            text = f"timed out after {self.seconds:.{0 if self.seconds >= 10 else 1}f} s"
        elif self.kind == "signalled":
            number = self.signal or 0
            outside = number in FROM_OUTSIDE and not self.oom_killed
            text = f"killed {'from outside ' if outside else ''}by {signal_name(number)}"
            if self.oom_killed:
                text += " (out of memory: the kernel's OOM killer)"
        elif self.kind == "exited":
            status = "an unknown status" if self.exit_code is None else f"status {self.exit_code}"
            text = f"the process exited with {status} before the test ended"
        elif self.kind == "raised":
            lines = [line for line in (self.error or "").splitlines() if line.strip()]
            text = lines[-1].strip() if lines else "an error without a message"
        else:
            text = "returned"
        if self.survivors:
            text += f"; SIGKILL did not end {len(self.survivors)} of its processes"
        return text

    @property
    def evidence(self) -> str:
        """Return the text of its signature: the error, else C++'s last words, else the reason.

        Not the whole output: an error that was logged and survived would pass for the cause.
        """
        if self.error:
            return self.error
        _, words, rest = self.output.rpartition("terminate called after")
        if self.kind == "signalled" and words:
            return (words + rest).partition("Fatal Python error:")[0]
        return self.reason

    @property
    def failure(self) -> str:
        """Return what a person needs to see of a bad end, its reason last; at most `TAIL_BYTES`."""
        parts = [self.output.rstrip(), (self.error or "").rstrip()]
        if self.kind != "raised" or self.survivors:
            parts.append(self.reason)
        return tail("\n".join(part for part in parts if part))


def out_of_memory(text: str) -> bool:
    """Return whether a traceback or a log reports that memory ran out.

    >>> out_of_memory("terminate called after throwing an instance of 'std::bad_alloc'")
    True
    >>> out_of_memory("KeyError: 'MemoryError'")
    False
    """
    return _OUT_OF_MEMORY.search(text) is not None


def tail(text: str, limit: int = TAIL_BYTES) -> str:
    """Return the end of `text`: at most `limit` bytes of UTF-8, from a line's start if one fits."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode("utf-8")
    cut = data[-limit:]
    _, newline, rest = cut.partition(b"\n")
    return (rest if newline and rest else cut).decode("utf-8", "ignore")


def read_tail(path: Path) -> str:
    """Return the `tail` of a file; empty if there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES - 1))
            return tail(file.read().decode("utf-8", "replace"))
    except OSError:
        return ""
