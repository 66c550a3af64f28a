"""The step before the cases that asks and imports once what every start would ask and import."""

from __future__ import annotations

import os
import time
from typing import Any

from matrix._util.scratch import Scratch
from matrix.inside import inspections
from matrix.inside.isolation import IsolationError, run_forked
from matrix.inside.models import MODELS
from matrix.inside.pytest_plugin.imports import quiet_unless_it_fails
from matrix.inside.pytest_plugin.progress import SessionProgress
from matrix.inside.pytest_plugin.record_file import RecordFile
from matrix.record.inspections import Inspections
from matrix.record.model import Platform
from matrix.record.signature import reason as reason_of

_LIMIT_SECONDS = 300.0


class InspectionStep:
    """vLLM's inspections of the models, kept for the cases of a session."""

    def __init__(self, record: RecordFile, progress: SessionProgress, platform: Platform) -> None:
        self._record, self._progress, self._platform = record, progress, platform
        self._scratch: Scratch | None = None

    def run(self) -> None:
        """Ask, and import what that imports; whatever fails in it, the cases continue and ask.

        The record says so.
        """
        began = time.monotonic()
        os.environ.pop(inspections.INSPECTIONS_VARIABLE, None)
        done, reason = "", None
        try:
            found, reason = self._ask()
            if reason is None:
                with quiet_unless_it_fails(self._record.path):
                    count = inspections.import_all(found["modules"])
                done = f"{found['answered']} models for all cases, {count} modules imported"
        except (IsolationError, OSError) as error:
            reason = str(error)
        took = time.monotonic() - began
        self._record.set_inspections(Inspections(seconds=round(took, 3), reason=reason))
        self._progress.line(
            f"inspects {took:.1f} s  {done}"
            if reason is None
            else f"inspects no model before the cases: {reason}"
        )

    def close(self) -> None:
        """Remove the answers."""
        os.environ.pop(inspections.INSPECTIONS_VARIABLE, None)
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def _ask(self) -> tuple[dict[str, Any], str | None]:
        """Return what the child answers, and why that is of no use to the cases, or None."""
        self._scratch = Scratch("inspections")
        held = self._scratch.path / "vllm"
        asked = sorted({model.architecture for model in MODELS.values()})
        ended = run_forked(
            lambda: inspections.ask(asked, self._platform, held),
            timeout=_LIMIT_SECONDS,
            output=self._scratch.path / "log",
        )
        if ended.kind != "returned":
            return {}, reason_of(ended.error) if ended.error else ended.reason
        os.environ[inspections.INSPECTIONS_VARIABLE] = str(held)
        return ended.value, None if ended.value["answered"] else "no answer is kept"
