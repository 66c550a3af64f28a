"""The child process of a run: pytest with the startup tests and the plugin of cells."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix._util.files import FileError, write_text
from matrix._util.scratch import Scratch
from matrix.record.model import Platform
from matrix.record.startup_tests import CASE_TIMEOUT, SUITES
from matrix.run.process import ProcessEnd, watch

_TAIL = 16 * 1024  # bytes of the log that can tell why it died


@dataclass(frozen=True, kw_only=True)
class PytestChild:
    """The arguments of pytest, and its record.

    `arguments` are the user's own; `timeout` is in seconds, for the whole run.
    """

    record: Path
    platform: Platform
    root: Path
    python: Sequence[str]
    arguments: Sequence[str]
    timeout: float
    model_source: str
    suite: str
    jobs: str | None

    @property
    def log(self) -> Path:
        """The file of all that pytest prints."""
        return self.record.with_suffix(".log")

    @property
    def junit(self) -> Path:
        """The file of pytest's JUnit report."""
        return self.record.with_suffix(".junit.xml")

    def command(self) -> list[str]:
        """Return the command line; the user's own arguments come last, so that they win."""
        startup = self.root / "tests" / "startup"
        named = [
            self.root / argument.partition("::")[0]
            for argument in self.arguments
            if not argument.startswith("-")
        ]
        chosen = any(path.exists() and path.resolve().is_relative_to(startup) for path in named)
        return [
            *self.python,
            *("-m", "pytest", "-p", "matrix.inside.pytest_plugin"),
            *("-c", str(startup / "pytest.ini"), "--rootdir", str(self.root)),
            *([] if chosen else ["tests/startup"]),
            *("--record", str(self.record), "--platform", self.platform),
            *("--model-source", self.model_source),
            *(() if self.suite == SUITES[0] else ("--suite", self.suite)),
            *("--case-timeout", f"{min(CASE_TIMEOUT, self.timeout):g}"),
            *(() if self.jobs is None else ("--jobs", self.jobs)),
            *("--junitxml", str(self.junit)),
            *self.arguments,
        ]

    def last_output(self) -> str:
        """Return the end of the log; empty if there is none."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""


def run(
    child: PytestChild,
    received: Sequence[str],
    silent: Callable[[float], str] | None = None,
) -> tuple[ProcessEnd, bool]:
    """Run pytest to its end; return how it ended, and whether that was while it imported vLLM.

    It is ended early once `received` has the name of a signal. `silent` is that of `watch`.
    """
    with Scratch("run") as folder:
        importing = folder / "importing"
        ended = watch(
            child.command(),
            environ=_environment(child.platform, str(folder), importing),
            folder=child.root,
            log=child.log,
            timeout=child.timeout,
            received=received,
            silent=silent,
        )
        in_import = importing.exists()
    _keep_last_words(child.record.with_suffix(".imports.log"), child.log)
    keep_whole_junit(child.junit)
    return ended, in_import


def _environment(platform: Platform, temporary: str, importing: Path) -> dict[str, str]:
    """Return the child's environment; what cases leave in the temporary folder goes with it.

    The file `importing` exists while the child imports vLLM.
    """
    environ = {
        **os.environ,
        "MATRIX_PLATFORM": platform,
        "MATRIX_IMPORTING": str(importing),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": temporary,
        "COLUMNS": str(shutil.get_terminal_size((100, 24)).columns),
    }
    if platform is Platform.CPU:
        environ["CUDA_VISIBLE_DEVICES"] = ""
    return environ


def _keep_last_words(held: Path, log: Path) -> None:
    """Add to the log what an import printed that took the whole process with it."""
    with contextlib.suppress(OSError):
        text = held.read_bytes()
        with log.open("ab") as file:
            file.write(b"\nwhile torch and vLLM were imported:\n" + text)
        held.unlink()


def keep_whole_junit(junit: Path) -> None:
    """Empty the attribute in which pytest names this machine; remove a report that is not whole."""
    with contextlib.suppress(OSError):
        text = junit.read_text(encoding="utf-8", errors="replace")
        head, mark, cases = text.partition("<testcase ")
        head = re.sub(r' hostname="[^"]*"', ' hostname=""', head)
        is_whole = text.rstrip().endswith("</testsuites>")
        try:
            write_text(junit, head + mark + cases)
        except FileError:
            is_whole = False
        if not is_whole:
            junit.unlink()
