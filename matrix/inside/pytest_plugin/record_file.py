"""The record on the disk while its session runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from matrix._util.nvidia import gpu_visible
from matrix.inside.cpu_platform import PLATFORM_VARIABLE
from matrix.record import reader, writer
from matrix.record.cleaned import (
    clean_case,
    clean_cpp_compiler,
    clean_defaults,
    clean_error,
    clean_inspections,
    clean_jit,
    clean_rung,
)
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.inspections import Inspections
from matrix.record.jit import Jit
from matrix.record.model import (
    PLATFORMS,
    CacheCheck,
    Case,
    Defaults,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RecordError,
    RunError,
    RungResult,
)
from matrix.record.startup_tests import only_full_suite_is_left


class RecordFile:
    """The record of this session, written at each change. Without a path it is only remembered.

    What is written is clean of secrets and of folders and names of this machine: `root` is the
    checkout.
    A disk that refuses a write does not stop the run: `trouble` has the error until a write
    succeeds. Raises pytest.UsageError if there is a path but no record in it.
    """

    def __init__(self, path: Path | None, root: Path) -> None:
        self.path = path
        self._root = root
        self._began = time.monotonic()
        self.trouble: str | None = None
        self._cases: dict[str, Case] = {}
        self._full_suite: dict[str, Case] = {}
        self._of_full_suite: frozenset[str] = frozenset()
        self._record: Record | None = None
        if path is not None:
            try:
                self._record = reader.read(path)
            except RecordError as error:
                raise pytest.UsageError(f"--record: {error}; `matrix run` makes one") from None
            self._cases = {case.case: case for case in self._record.cases}

    def platform(self, asked: str) -> Platform:
        """Return the platform of the session: `asked` is the value of `--platform`.

        Raises pytest.UsageError if it contradicts the record, and for another word in
        MATRIX_PLATFORM.
        """
        if self._record is None:
            here = Platform.CUDA if gpu_visible(os.environ) else Platform.CPU
            named = os.environ.get(PLATFORM_VARIABLE) or here if asked == "auto" else asked
            if named not in PLATFORMS:
                raise pytest.UsageError(
                    f"{PLATFORM_VARIABLE}={named}: is not a platform; write cpu or cuda"
                )
            return Platform(named)
        if asked not in ("auto", self._record.platform):
            raise pytest.UsageError(
                f"--platform {asked}: but the record {self.path} is of {self._record.platform}"
            )
        return self._record.platform

    @property
    def packages(self) -> Mapping[str, str]:
        """The packages that were found installed, with their versions; none without a record."""
        return {} if self._record is None else self._record.packages

    @property
    def cell(self) -> str | None:
        """The cell that runs; None without a record."""
        return None if self._record is None else self._record.cell

    def put(self, case: Case) -> None:
        """Add a case, or replace it by what is known of it now."""
        cases = self._full_suite if self.is_of_full_suite(case.case) else self._cases
        cases[case.case] = clean_case(case, self._root)
        if cases is self._cases:
            self._change(cases=tuple(cases.values()))
        else:
            self._change(full_suite=tuple(cases.values()))

    def begin_full_suite(self, names: Iterable[str]) -> None:
        """Note that the full suite runs, with these cases; it reaches the disk with the next write.

        They do not count among the cases of the startup suite.
        """
        self._of_full_suite = frozenset(names)
        self._change(write=False, full_suite=())

    def is_of_full_suite(self, name: str) -> bool:
        """Return whether the case is one that the full suite adds."""
        return name in self._of_full_suite

    def any_judged(self) -> bool:
        """Return whether some case applied."""
        cases = (*self._cases.values(), *self._full_suite.values())
        return any(case.outcome is not Outcome.NOT_APPLICABLE for case in cases)

    def deselect(self, cases: int) -> None:
        """Count cases that are not to run; they reach the disk with the next write."""
        if self._record is not None:
            self._change(write=False, deselected=self._record.deselected + cases)

    def select(self, cases: int) -> None:
        """Note how many cases are to run; it reaches the disk with the next write."""
        self._change(write=False, selected=cases)

    def add_rung(self, rung: RungResult) -> None:
        """Add a rung, or replace the one of its name."""
        if self._record is not None:
            others = tuple(other for other in self._record.rungs if other.rung != rung.rung)
            self._change(rungs=(*others, clean_rung(rung, self._root)))

    def add_provenance(self, facts: Mapping[str, object]) -> None:
        """Add facts to the provenance."""
        if self._record is not None:
            self._change(provenance={**self._record.provenance, **facts})

    def set_flags(self, flags: Mapping[str, object]) -> None:
        """Set the effective flags of the session."""
        self._change(flags=dict(flags))

    def set_defaults(self, defaults: Defaults | None) -> None:
        """Set the defaults of torch's configs."""
        self._change(defaults=clean_defaults(defaults, self._root))

    def set_cache_check(self, check: CacheCheck | None) -> None:
        """Set what the cache check counted."""
        self._change(cache_check=check)

    def set_cpp_compiler(self, step: CppCompiler) -> None:
        """Set what became of the step that asks the C++ compiler."""
        self._change(cpp_compiler=clean_cpp_compiler(step, self._root))

    def set_inspections(self, step: Inspections) -> None:
        """Set what became of the step that inspects the models."""
        self._change(inspections=clean_inspections(step, self._root))

    def set_jit(self, jit: Jit) -> None:
        """Set what was built just in time so far."""
        self._change(jit=clean_jit(jit, self._root))

    def fail(self, kind: ErrorKind, why: str, *, write: bool = True) -> None:
        """Note why the run as a whole ended early; the first reason stays."""
        if self._record is not None and self._record.error is None:
            error = clean_error(RunError(kind=kind, reason=why), self._root)
            self._change(write=write, error=error)

    def interrupt(self, how: str) -> None:
        """Note that somebody ended the run, unless only cases of the full suite were left."""
        if not self.only_full_suite_is_left():
            self.fail(ErrorKind.INTERRUPTED, f"stopped by {how}", write=False)

    def only_full_suite_is_left(self) -> bool:
        """Return whether every case of the startup suite that was to run has ended."""
        return self._record is not None and only_full_suite_is_left(self._record)

    def finish(self) -> None:
        """Mark the record as finished, with the seconds of this session.

        Who began the session writes its own seconds, a few more, unless it is killed before.
        """
        if self._record is not None:
            seconds = round(time.monotonic() - self._began, 1)
            facts = {**self._record.provenance, "seconds": seconds}
            self._change(finished=True, provenance=facts)

    def _change(self, *, write: bool = True, **fields: Any) -> None:
        if self._record is None or self.path is None:
            return
        self._record = replace(self._record, **fields)
        if write:
            try:
                self._record = writer.write(self._record, self.path)
                self.trouble = None
            except RecordError as error:
                self.trouble = str(error)
