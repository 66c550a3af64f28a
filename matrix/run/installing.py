"""Lines while tox makes an environment, which prints nothing itself for minutes."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from matrix.run.process import SILENCE


class Installing:
    """Has a thread say every so often for how long an environment is being made.

    `words` makes the line of the seconds and of the MiB of the disk that went meanwhile.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        words: Callable[[float, int], str],
        *,
        every: float = SILENCE,
    ) -> None:
        """Begin to speak; `folder` is on the disk that the environment takes."""
        self._folder, self._say, self._words, self._every = folder, say, words, every
        self._over = threading.Event()
        self._began, self._free = time.monotonic(), self._free_bytes()
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Be silent from now on."""
        self._over.set()
        self._thread.join()

    def _speak(self) -> None:
        while not self._over.wait(self._every):
            taken = max(self._free - self._free_bytes(), 0) >> 20
            self._say(self._words(time.monotonic() - self._began, taken))

    def _free_bytes(self) -> int:
        folder = next(
            (path for path in (self._folder, *self._folder.parents) if path.exists()), None
        )
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder or Path("/")).free
        return 0
