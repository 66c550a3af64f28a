"""Run upstream's own tests in a cell: unmodified, a process for each, the hub offline.

The files are copied into a folder of the run. pytest reads upstream's configuration and conftest.
The hub's cache holds the package's own configurations of models alone. No network is cut off.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matrix._util.files import digest_of
from matrix._util.jit_folders import jit_environment
from matrix._util.scratch import Scratch
from matrix.record.model import Platform
from matrix.record.startup_tests import CASE_TIMEOUT
from matrix.record.upstream import INTERRUPTED, NOT_ENDED, SuiteCase, UpstreamOutcome, UpstreamSuite
from matrix.rules.upstream.unpack import copy_tests, origin
from matrix.run.process import How, ProcessEnd, watch
from matrix.run.upstream_files import UpstreamRequest
from matrix.run.upstream_outcome import of_file, of_test, untested

_OVER = "the time of the whole run was over"
_PLUGIN = "matrix.inside.upstream_plugin"
_TAIL = 16 * 1024  # bytes of what a process printed that can tell why it ended
_REPORT_LIMIT = 64 << 20
_FAILURES_LIMIT = 4 << 20  # bytes of all failures in a record, which a reader refuses above 16 MiB
_UNSET = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "PYTEST_ADDOPTS", "PYTEST_PLUGINS")
# Upstream's tests make themselves the leader of a group, which the leader of a session must not.
_LAUNCHER = """
import os, resource, subprocess, sys
try:
    code = subprocess.call(sys.argv[1:])
except KeyboardInterrupt:
    code = 130
if code < 0:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@dataclass(frozen=True, kw_only=True)
class UpstreamRun:
    """How upstream's tests are to run.

    `seconds` is for all of them, `test_seconds` for one. `received` has the names of signals that
    end the run. `log` gets all that pytest prints. `kernels` is the folder of the kernels that the
    cell's cases built just in time, which the tests use and add to; None is a fresh one.
    """

    request: UpstreamRequest
    platform: Platform
    root: Path
    python: Sequence[str]
    seconds: float
    received: Sequence[str]
    log: Path
    test_seconds: float = CASE_TIMEOUT
    kernels: Path | None = None


def suite_not_run(request: UpstreamRequest, reason: str) -> UpstreamSuite:
    """Return the suite of a run that did not come to upstream's tests."""
    cases = tuple(untested(text, reason) for text in dict.fromkeys(request.asked))
    return UpstreamSuite(cases=cases)


def run_upstream(run: UpstreamRun, keep: Callable[[UpstreamSuite], None]) -> UpstreamSuite:
    """Run the tests one after another and return what they did.

    `keep` is given what is known after each test, those that are still to run as untested; what is
    returned it is not given. The failures of a record have room for some MiB: beyond it a failed
    test has its reason and its signature only. Raises OSError if the disk refuses or a process
    cannot be started.
    """
    with Scratch("upstream") as folder:
        tests = folder / "sdist"
        copy_tests(run.request.folder, tests)
        return _Session(run, folder, tests, keep).run()


class _Session:
    """The tests of one run, in a folder of their own."""

    def __init__(
        self, run: UpstreamRun, folder: Path, tests: Path, keep: Callable[[UpstreamSuite], None]
    ) -> None:
        self._run, self._folder, self._tests, self._keep = run, folder, tests, keep
        self._until = time.monotonic() + run.seconds
        sdist, sha256 = origin(run.request.folder) or (None, None)
        self._suite = UpstreamSuite(sdist=sdist, sha256=sha256)
        self._stand_ins: dict[str, None] = {}
        self._cases: dict[str, SuiteCase] = {}
        self._waiting: list[str] = []
        self._digests: dict[str, str] = {}
        self._room = _FAILURES_LIMIT

    def run(self) -> UpstreamSuite:
        """Collect and run each path that was asked for."""
        every = list(dict.fromkeys(self._run.request.asked))
        self._run.log.unlink(missing_ok=True)
        self._waiting = every
        self._keep(self._known())
        for number, asked in enumerate(every):
            if not self._may_go_on(asked):
                continue
            names = self._collect(asked)
            self._waiting = [*names, *every[number + 1 :]]
            self._keep(self._known())
            for name in names:
                if name not in self._cases and self._may_go_on(name):
                    self._test(name)
                    self._keep(self._known())
        self._waiting = []
        return self._known()

    def _may_go_on(self, name: str) -> bool:
        """Return whether there is time; else the test is untested."""
        if self._run.received:
            self._cases[name] = untested(name, f"{INTERRUPTED} {self._run.received[0]}")
        elif time.monotonic() >= self._until:
            self._cases[name] = untested(name, _OVER)
        else:
            return True
        return False

    def _collect(self, asked: str) -> list[str]:
        """Return the names of the tests at a path; without any, the path becomes a case."""
        lines, ended, output = self._pytest("--collect-only", asked)
        if ended.how is How.TIMED_OUT:
            late = f"pytest did not collect its tests within {ended.seconds:.0f} s"
            why = _OVER if self._is_over(ended) else late
            self._add(untested(asked, why, round(ended.seconds, 1)))
            return []
        names = [str(name) for line in lines for name in line.get("collected", ())]
        for line in lines:
            if "uncollected" in line or (names and "skipped_module" in line):
                place = str(line.get("of") or asked)
                self._add(of_file(place, [line], ended, output, self._run.platform))
        if not names and not any("uncollected" in line for line in lines):
            self._add(of_file(asked, lines, ended, output, self._run.platform))
        return names

    def _test(self, name: str) -> None:
        lines, ended, output = self._pytest(name)
        if self._is_over(ended):
            self._add(untested(name, _OVER, round(ended.seconds, 1)))
        else:
            self._add(of_test(name, lines, ended, output, self._run.platform))

    def _is_over(self, ended: ProcessEnd) -> bool:
        """Return whether the time of the whole run ended a process, and not that of one test."""
        return ended.how is How.TIMED_OUT and time.monotonic() >= self._until

    def _add(self, case: SuiteCase) -> None:
        size = len(json.dumps(case.failure)) if case.failure else 0
        if size > self._room:
            case, size = replace(case, failure=None), 0
        self._room -= size
        self._cases[case.case] = case
        why = f": {case.reason}" if case.reason and case.outcome != UpstreamOutcome.PASSED else ""
        line = f"upstream  {case.case}  {case.seconds:.1f} s  {case.outcome}{why}"
        with contextlib.suppress(OSError, ValueError):
            print(line, flush=True)  # noqa: T201 - as pytest's own line of a case

    def _known(self) -> UpstreamSuite:
        """Return what is known now."""
        left = [name for name in dict.fromkeys(self._waiting) if name not in self._cases]
        cases = [*self._cases.values(), *(untested(name, NOT_ENDED) for name in left)]
        return replace(
            self._suite,
            files=self._digests_of(case.case for case in cases),
            stand_ins=tuple(self._stand_ins),
            cases=tuple(cases),
        )

    def _digests_of(self, names: Iterable[str]) -> Mapping[str, str]:
        """Return the hashes of the tests' files; each is read once."""
        paths = sorted({name.partition("::")[0] for name in names})
        for path in paths:
            file = self._run.request.folder / path
            if path not in self._digests and file.is_file():
                self._digests[path] = digest_of(file)
        return {path: self._digests[path] for path in paths if path in self._digests}

    def _pytest(self, *words: str) -> tuple[list[dict[str, Any]], ProcessEnd, str]:
        """Run pytest; return what the plugin reported, how it ended, and what it printed last."""
        home = self._folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        kernels = jit_environment(self._run.kernels or self._folder / "jit")
        for path in (home / "tmp", home / "hub", *map(Path, kernels.values())):
            path.mkdir(parents=True, exist_ok=True)
        report, log = self._folder / "report", self._folder / "log"
        report.unlink(missing_ok=True)
        ended = watch(
            self._command(words),
            environ={**self._environment(home, report), **kernels},
            folder=self._tests,
            log=log,
            timeout=max(0.0, min(self._run.test_seconds, self._until - time.monotonic())),
            received=self._run.received,
            silent=lambda seconds: f"upstream  {words[-1]}, {seconds:.0f} s",
        )
        lines = _lines(report)
        self._stand_ins |= {str(line["stand_in"]): None for line in lines if "stand_in" in line}
        return lines, ended, self._kept(words, log)

    def _command(self, words: Sequence[str]) -> list[str]:
        python = self._run.python
        return [
            *(*python, "-c", _LAUNCHER, *python),
            *("-m", "pytest", "-p", _PLUGIN, "-p", "no:cacheprovider"),
            *("-c", str(self._tests / "pyproject.toml"), "--rootdir", str(self._tests)),
            *("-q", "--no-header", "--tb=native", *words),
        ]

    def _environment(self, home: Path, report: Path) -> dict[str, str]:
        """Return the environment of a test: the hub offline, no token, its own compile caches.

        The kernels that libraries build just in time are apart from that: the tests share them.
        """
        environ = {name: value for name, value in os.environ.items() if name not in _UNSET}
        paths = (environ.get("PYTHONPATH"), str(self._run.root))
        environ |= {
            "MATRIX_PLATFORM": self._run.platform,
            "MATRIX_UPSTREAM_REPORT": str(report),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(home / "tmp"),
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "VLLM_CACHE_ROOT": str(home / "vllm"),
            "TORCHINDUCTOR_CACHE_DIR": str(home / "inductor"),
            "TRITON_CACHE_DIR": str(home / "triton"),
            "VLLM_USE_MODELSCOPE": "0",
            "VLLM_NO_USAGE_STATS": "1",
            **dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"), "1"),
        }
        if self._run.platform is Platform.CPU:
            environ["CUDA_VISIBLE_DEVICES"] = ""
        return environ

    def _kept(self, words: Sequence[str], log: Path) -> str:
        """Add what a process printed to the log of the suite; return its end."""
        content = log.read_bytes()
        with contextlib.suppress(OSError), self._run.log.open("ab") as file:
            file.write(f"== {' '.join(words)}\n".encode() + content)
        return content[-_TAIL:].decode("utf-8", "replace")


def _lines(report: Path) -> list[dict[str, Any]]:
    """Return what the plugin reported; a line that its process could not end is left out."""
    lines: list[dict[str, Any]] = []
    try:
        with report.open("rb") as file:
            text = file.read(_REPORT_LIMIT).decode("utf-8", "replace")
    except OSError:
        return lines
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                lines.append(found)
    return lines
