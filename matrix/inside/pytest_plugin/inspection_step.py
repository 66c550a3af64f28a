"""The step before the cases that asks and imports once what every start would ask and import."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from matrix.inside import inspections
from matrix.inside.isolation import IsolationError, run_forked
from matrix.inside.models import MODELS
from matrix.inside.pytest_plugin.progress import SessionProgress
from matrix.record.model import Platform
from matrix.record.signature import reason as reason_of

_LIMIT_SECONDS = 300.0


class InspectionStep:
    """What vLLM says of the models, held for the cases of a session."""

    def __init__(self, progress: SessionProgress, platform: Platform) -> None:
        self._progress, self._platform = progress, platform
        self._folder: Path | None = None

    def run(self) -> None:
        """Ask, and import what that imports; whatever fails in it, the cases go on and ask."""
        began = time.monotonic()
        folder = self._folder = Path(tempfile.mkdtemp(prefix="matrix-inspections-"))
        asked = sorted({model.architecture for model in MODELS.values()})
        try:
            ended = run_forked(
                lambda: inspections.ask(asked, self._platform, folder / "vllm"),
                timeout=_LIMIT_SECONDS,
                output=folder / "log",
            )
        except IsolationError as error:
            self._progress.line(f"inspects nothing before the cases: {error}")
            return
        if ended.kind != "returned":
            why = reason_of(ended.error) if ended.error else ended.reason
            self._progress.line(f"inspects nothing before the cases: {why}")
            return
        os.environ[inspections.INSPECTIONS_VARIABLE] = str(folder / "vllm")
        count = inspections.import_all(ended.value["modules"])
        if ended.value["asked"]:
            self._progress.line(
                f"inspects {time.monotonic() - began:.1f} s  {ended.value['asked']} models for all"
                f" cases, {count} modules imported"
            )

    def close(self) -> None:
        """Remove the answers."""
        os.environ.pop(inspections.INSPECTIONS_VARIABLE, None)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
