"""The step before the cases that builds kernels just in time, so that no start waits for it.

Only on a GPU; on the CPU platform nothing here does anything.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from matrix.inside import flashinfer_jit, isolation
from matrix.inside.ended import Ended
from matrix.inside.isolation import IsolationError
from matrix.inside.jit_caches import built, fresh_caches
from matrix.inside.pytest_plugin.progress import Progress
from matrix.inside.pytest_plugin.record_file import RecordFile
from matrix.record.jit_modules import JitModulesError, load_jit_modules, modules_for
from matrix.record.model import STEP, Jit, JitModule
from matrix.record.signature import reason as reason_of

_LIBRARY = "flashinfer"
_LOOK_SECONDS = 1.0
# FlashInfer's experts (fused_moe_90 of 0.6.8) are 154 generated files of CUTLASS and some 20 more,
# each a minute or more of one core; the limit of a case says nothing of that.
_LIMIT_SECONDS = 3600.0


class JitStep:
    """The fresh caches of a session and the step that fills them."""

    def __init__(self, record: RecordFile, progress: Progress, *, on_gpu: bool) -> None:
        self._record, self._progress, self._on_gpu = record, progress, on_gpu
        self._stack = ExitStack()
        self._folder: Path | None = None
        self._modules: list[JitModule] = []
        self._step = Jit(seconds=0.0)

    def open(self) -> None:
        """Give the libraries fresh caches, before they are imported."""
        if self._on_gpu:
            self._folder = self._stack.enter_context(fresh_caches())

    def run(self) -> None:
        """Build what this vLLM's starts are known to build; whatever fails, the cases go on."""
        if self._folder is None:
            return
        began = time.monotonic()
        wanted, reason = self._wanted()
        if wanted is not None:
            names = ", ".join(module.name for module in wanted) or "no module of its own"
            self._progress.line(f"jit      builds before the cases: {names}")
            reason = "; ".join(self._build(wanted, self._folder)) or reason
        self._step = Jit(seconds=round(time.monotonic() - began, 3), reason=reason or None)
        self._write()
        self._progress.line(
            f"jit      {self._step.seconds:.1f} s  {len(self._modules)} built"
            f"{f'; {reason}' if reason else ''}"
        )

    def add(self, case: str, events: Iterable[Mapping[str, Any]]) -> None:
        """Add what the starts of a case built, by the events of its journal."""
        if self._folder is None:
            return
        for event in events:
            if event["event"] == "started":
                by = f"{case} {event.get('start')}"
                with suppress(TypeError):  # what is not in the journal's form says nothing
                    found = event.get("jit") or ()
                    self._modules += [JitModule(**module, built_by=by) for module in found]
        self._write()

    def close(self) -> None:
        """Add what the caches hold that nobody spoke of, and remove them."""
        if self._folder is not None:
            self._add_unspoken(self._folder)
            self._write()
            self._folder = None
        self._stack.close()

    def _wanted(self) -> tuple[Sequence[JitModule] | None, str]:
        """Return what to build (None: not even a process for it), and why it is not more."""
        try:
            if importlib.util.find_spec(_LIBRARY) is None:
                return None, "FlashInfer is not installed"
            compat = importlib.import_module("matrix.inside.vllm_compat")
            capability, (_, vllm) = compat.compute_capability(), compat.versions()
            dotted = "unknown" if capability is None else f"{capability[0]}.{capability[1]}"
            wanted = modules_for(load_jit_modules(), vllm, dotted)
        except JitModulesError as error:
            return (), str(error)
        except Exception as error:  # noqa: BLE001 - whatever a release raises, its cases go on
            return None, reason_of(f"{type(error).__name__}: {error}")
        if wanted:
            return wanted, ""
        return (), (
            f"vLLM {vllm} on compute capability {dotted} is not in matrix/data/jit.toml:"
            " its starts build what they need"
        )

    def _build(self, wanted: Sequence[JitModule], folder: Path) -> list[str]:
        """Build the modules in a child; return what went wrong."""
        asked = [
            {
                "name": module.name,
                "generator": module.generator,
                "arguments": dict(module.arguments),
            }
            for module in wanted
        ]
        try:
            ended = isolation.run_forked(
                lambda: flashinfer_jit.build(asked),
                timeout=_LIMIT_SECONDS,
                output=folder / "step.log",
                watch=self._shown_as_built(folder),
            )
        except IsolationError as error:
            return [str(error)]
        described = {module.name: module for module in wanted}
        faults = list(self._took(ended, described))
        if faults:
            self._progress.stream(ended.output)  # a record has one line, the log has it all
        return faults

    def _took(self, ended: Ended, described: Mapping[str, JitModule]) -> Iterable[str]:
        if ended.kind != "returned":
            why = reason_of(ended.error) if ended.error else ended.reason
            yield f"the step: {why}"
            return
        for answer in ended.value:
            name, library = answer["name"], answer["library"]
            if "reason" in answer:
                yield f"{library} {name}: {answer['reason']}"
                continue
            known = described.get(name)
            self._modules.append(
                JitModule(
                    library=library,
                    name=name,
                    seconds=answer["seconds"],
                    built_by=STEP,
                    generator=known.generator if known else None,
                    arguments=known.arguments if known else {},
                )
            )

    def _shown_as_built(self, folder: Path) -> Any:
        """Return what shows each module when it is there, if it is called now and then."""
        began, seen = time.monotonic(), set[str]()
        looked = began

        def look() -> None:
            nonlocal looked
            now = time.monotonic()
            if now - looked < _LOOK_SECONDS:
                return
            looked = now
            for name in sorted(set(built(folder).get(_LIBRARY, ())) - seen):
                seen.add(name)
                self._progress.line(f"jit      [{now - began:4.0f} s]  {name}")

        return look

    def _add_unspoken(self, folder: Path) -> None:
        known = {(module.library, module.name) for module in self._modules}
        self._modules += [
            JitModule(library=library, name=name)
            for library, names in built(folder).items()
            for name in names
            if (library, name) not in known
        ]

    def _write(self) -> None:
        modules = tuple(self._modules)
        self._record.set_jit(
            Jit(seconds=self._step.seconds, reason=self._step.reason, modules=modules)
        )
