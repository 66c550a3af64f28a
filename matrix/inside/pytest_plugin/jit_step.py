"""The step before the cases that builds kernels just in time, so that no start waits for it.

It is at work while torch and vLLM are imported, and has ended before the first case begins. Only on
a GPU; on the CPU platform nothing here does anything.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from matrix.inside import flashinfer_jit, gpus
from matrix.inside.ended import Ended
from matrix.inside.isolation import Background, IsolationError
from matrix.inside.jit_caches import built, caches
from matrix.inside.pytest_plugin.progress import SessionProgress
from matrix.inside.pytest_plugin.record_file import RecordFile
from matrix.record.jit import EARLIER, STEP, Jit, JitModule
from matrix.record.jit_modules import JitModulesError, load_jit_modules, modules_for
from matrix.record.signature import reason as reason_of

_LIBRARY = "flashinfer"
_LOOK_SECONDS = 1.0
# FlashInfer's experts (fused_moe_90 of 0.6.8) are 154 generated files of CUTLASS and some 20 more,
# each a minute or more of one core; the limit of a case says nothing of that.
_LIMIT_SECONDS = 3600.0


class JitStep:
    """The caches of a session and the step that fills them.

    They are fresh, or in the folder `kept`, with what earlier runs built.
    """

    def __init__(
        self,
        record: RecordFile,
        progress: SessionProgress,
        *,
        on_gpu: bool,
        kept: Path | None = None,
    ) -> None:
        self._record, self._progress, self._on_gpu = record, progress, on_gpu
        self._kept = kept
        self._stack = ExitStack()
        self._folder: Path | None = None
        self._modules: list[JitModule] = []
        self._step = Jit(seconds=0.0)
        self._child: Background | None = None
        self._wanted: Sequence[JitModule] = ()
        self._began = 0.0

    def begin(self) -> None:
        """Give the libraries their caches, and begin to build what this vLLM's starts build.

        Call it before they are imported, which this process may do meanwhile. The child that builds
        imports FlashInfer and torch for itself. Raises pytest.UsageError if the folder of
        --jit-cache cannot be made, and OSError if no temporary one can.
        """
        if not self._on_gpu:
            if self._kept is not None:
                self._progress.line("jit      --jit-cache: nothing is built just in time on a CPU")
            return
        # Kernels of one environment are of no use to another one: their sources lie in it.
        kept = None if self._kept is None else self._kept / (self._record.cell or "none")
        try:
            self._folder = self._stack.enter_context(caches(kept))
        except OSError as error:
            if kept is None:
                raise
            raise pytest.UsageError(
                f"--jit-cache {self._kept}: {error.strerror}; name a folder, or leave it out"
            ) from None
        self._began = time.monotonic()
        self._modules = [
            JitModule(library=library, name=name, built_by=EARLIER)
            for library, names in built(self._folder).items()
            for name in names
        ]
        wanted, reason = self._find_wanted()
        if wanted is not None:
            self._wanted = wanted
            names = ", ".join(module.name for module in wanted) or "no module of its own"
            self._progress.line(f"jit      builds before the cases: {names}")
            asked = [
                {
                    "name": module.name,
                    "generator": module.generator,
                    "arguments": dict(module.arguments),
                }
                for module in wanted
            ]
            try:
                self._child = Background(lambda: _timed_build(asked), self._folder / "step.log")
                self._stack.callback(self._child.close)
            except IsolationError as error:
                reason = str(error)
        self._step = Jit(seconds=0.0, reason=reason or None)

    def finish(self) -> None:
        """Wait for the end of the step; whatever failed in it, the cases continue."""
        if self._folder is None:
            return
        began, built_in, reason = time.monotonic(), 0.0, self._step.reason
        if self._child is not None:
            watch = self._shown_as_built(self._folder)
            ended = self._child.join(timeout=_LIMIT_SECONDS, watch=watch)
            built_in = ended.value["seconds"] if ended.kind == "returned" else ended.seconds
            faults = list(self._took(ended, {module.name: module for module in self._wanted}))
            if faults:
                self._progress.stream(ended.output)  # a record has one line, the log has it all
            reason = "; ".join(faults) or reason
        self._step = Jit(seconds=round(built_in, 3), reason=reason)
        self._write()
        self._progress.line(
            f"jit      {built_in:.1f} s  {self._counted()}; the cases waited"
            f" {time.monotonic() - began:.1f} s for it{f'; {reason}' if reason else ''}"
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

    def _find_wanted(self) -> tuple[Sequence[JitModule] | None, str]:
        """Return what to build (None: not even a process for it), and why it is not more."""
        try:
            if importlib.util.find_spec(_LIBRARY) is None:
                return None, "FlashInfer is not installed"
            vllm = importlib.metadata.version("vllm")
            listed = load_jit_modules()
        except JitModulesError as error:
            return (), str(error)
        except Exception as error:  # noqa: BLE001 - whatever an environment raises, its cases go on
            return None, reason_of(f"{type(error).__name__}: {error}")
        capability = str((gpus.first_gpu() or {}).get("capability", "unknown"))
        if wanted := modules_for(listed, vllm, capability):
            return wanted, ""
        return (), (
            f"vLLM {vllm} on compute capability {capability} is not in matrix/data/jit.toml:"
            " its starts build what they need"
        )

    def _counted(self) -> str:
        """Return how many modules there are, and how many of them an earlier run built."""
        earlier = sum(module.built_by == EARLIER for module in self._modules)
        built_now = len(self._modules) - earlier
        return f"{built_now} built, {earlier} there already" if earlier else f"{built_now} built"

    def _took(self, ended: Ended, described: Mapping[str, JitModule]) -> Iterable[str]:
        if ended.kind != "returned":
            why = reason_of(ended.error) if ended.error else ended.reason
            yield f"the step: {why}"
            return
        for answer in ended.value["answers"]:
            name, library = answer["name"], answer["library"]
            if answer.get("found"):
                continue
            if "reason" in answer:
                yield f"{library} {name}: {answer['reason']}"
                continue
            known = described.get(name)
            self._modules = [
                module
                for module in self._modules
                if (module.library, module.name) != (library, name)
            ]
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
        seen, looked = set[str](), 0.0

        def look() -> None:
            nonlocal looked
            now = time.monotonic()
            if now - looked < _LOOK_SECONDS:
                return
            looked = now
            for name in sorted(set(built(folder).get(_LIBRARY, ())) - seen):
                seen.add(name)
                self._progress.line(f"jit      [{now - self._began:4.0f} s]  {name}")

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


def _timed_build(asked: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Build the modules, in the child; return the answers, and the seconds of it all.

    The child may have ended long before somebody asks for its answer.
    """
    began = time.monotonic()
    answers = flashinfer_jit.build(asked)
    return {"seconds": time.monotonic() - began, "answers": answers}
