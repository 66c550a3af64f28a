"""The step before the cases that does what Inductor would do with the C++ compiler in each start.

It is at work while torch and vLLM are imported. Only on the CPU platform: on a GPU Inductor
generates no C++ kernels.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from matrix._util.scratch import Scratch
from matrix.inside import cpp_compiler
from matrix.inside.isolation import Background, IsolationError
from matrix.inside.pytest_plugin.progress import SessionProgress
from matrix.inside.pytest_plugin.record_file import RecordFile
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.model import Platform
from matrix.record.signature import reason as reason_of

_LIMIT_SECONDS = 300.0


class CompilerStep:
    """What a session asks the C++ compiler for all its cases."""

    def __init__(self, record: RecordFile, progress: SessionProgress, platform: Platform) -> None:
        self._record, self._progress, self._platform = record, progress, platform
        self._scratch: Scratch | None = None
        self._child: Background | None = None
        self._seconds = 0.0
        self._reason: str | None = None

    def begin(self) -> None:
        """Begin, in a child that imports torch for itself."""
        os.environ.pop(cpp_compiler.HEADERS_VARIABLE, None)
        if self._platform is not Platform.CPU:
            return
        try:
            self._scratch = Scratch("compiler")
            held = self._scratch.path
            self._child = Background(lambda: _answers(held), held / "log")
        except (IsolationError, OSError) as error:
            self._reason = str(error)

    def finish(self) -> None:
        """Wait for the child, and let this process know what it found; torch is imported by now.

        Whatever failed in it, this process probes the instructions, and each case precompiles its
        own header. The record says so.
        """
        if self._platform is not Platform.CPU:
            return
        began = time.monotonic()
        found = self._joined()
        try:
            cpp_compiler.take(found.get("probes", ()))
        except Exception as error:  # noqa: BLE001 - the cases that need it say why
            self._reason, found = reason_of(f"{type(error).__name__}: {error}"), {}
        if found.get("headers") and self._scratch is not None:
            os.environ[cpp_compiler.HEADERS_VARIABLE] = str(self._scratch.path)
        waited = f"{time.monotonic() - began:.1f} s"
        self._record.set_cpp_compiler(
            CppCompiler(seconds=round(self._seconds, 3), reason=self._reason)
        )
        self._progress.line(
            f"compiler {self._seconds:.1f} s  asked once for all cases; the run waited {waited}"
            if self._reason is None
            else f"compiler {waited}  each case prepares its own: {self._reason}"
        )

    def close(self) -> None:
        """End the child, and remove the headers."""
        os.environ.pop(cpp_compiler.HEADERS_VARIABLE, None)
        if self._child is not None:
            self._child.close()
            self._child = None
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def _joined(self) -> dict[str, Any]:
        """Return what the child answers; nothing where it does not, and `_reason` says why.

        `_seconds` are those of the step, or of the child's life.
        """
        child, self._child = self._child, None
        if child is None:
            return {}
        ended = child.join(timeout=_LIMIT_SECONDS)
        self._seconds = ended.seconds
        if ended.kind != "returned":
            self._reason = reason_of(ended.error) if ended.error else ended.reason
            return {}
        found: dict[str, Any] = ended.value
        self._seconds = found["seconds"]
        return found


def _answers(folder: Path) -> dict[str, Any]:
    """Probe and precompile, in the child; the answers, and the seconds of both."""
    began = time.monotonic()
    probes, headers = cpp_compiler.probe(folder), cpp_compiler.precompile(folder)
    return {"probes": probes, "headers": headers, "seconds": time.monotonic() - began}
