"""The seconds of one start by part, as vLLM and torch report them.

vLLM reports its times in its log and nowhere else. They are taken from the arguments of the log's
records, whose message is still a template (`... takes %.2f s`): nothing hangs on how a line is
formatted, and nothing is lost to its rounding or to a level at which it is not shown.
"""

import contextlib
import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from matrix.inside.events import Events
from matrix.inside.listening import listen
from matrix.inside.timeline import Timeline

_LOGGER = "vllm"
_INSPECTION = "Registry inspect model class"
_SAVING = "CompiledArtifact.save"
# In every template the last argument is the seconds. Since 0.32 some begin with one more %s, which
# names the part of the model. The paths are of 0.16 to 0.32.
_TEMPLATES = {
    # logging_utils/log_time.py, around `inspect_model_cls` of the registry; at DEBUG.
    "inspect": re.compile(r"%s: Elapsed time .* secs"),
    # v1/worker/gpu_model_runner.py, `load_model`; v1/worker/gpu/model_runner.py without "memory"
    # until 0.20. The CPU's runner does not report it.
    "load": re.compile(r"Model loading took .* seconds"),
    # compilation/backends.py, `VllmBackend.__call__`: since the compilation began, or the loading.
    "until backend": re.compile(r"Dynamo bytecode transform time: .* s"),
    # compilation/backends.py, `CompilerManager.compile`: all graphs of one range of sizes.
    "compile": re.compile(r"Compiling a graph for .* takes .* s"),
    "load graphs": re.compile(r"Directly load the compiled graph\(s\) .* took .* s"),
    # compilation/monitor.py, `monitor_torch_compile`: the end of one model's. Not yet in 0.17.
    "whole": re.compile(r"torch\.compile took .* s in total"),
}
# compilation/decorators.py: Dynamo did not run, since what it had made was loaded. No seconds.
_NOT_TRACED = re.compile(r"Directly load AOT compilation from path .*")


def reported(template: object, arguments: object) -> tuple[str, float] | None:
    """Return which time a record of vLLM's log reports, and its seconds; None if it has none.

    >>> reported("Compiling a graph for compile range %s takes %.2f s", ("(1, 1024)", 9.517))
    ('compile', 9.517)
    >>> reported("Compiling a graph for compile range %s takes %.2f s", ("(1, 1024)", "9.5"))
    """
    for name, pattern in _TEMPLATES.items():
        if _is(pattern, template):
            last = arguments[-1] if isinstance(arguments, tuple) and arguments else None
            if name == "inspect" and arguments != (_INSPECTION, last):
                return None
            if isinstance(last, bool) or not isinstance(last, (int, float)):
                return None
            return (name, float(last)) if 0 <= last < math.inf else None
    return None


def _is(pattern: re.Pattern[str], template: object) -> bool:
    if not isinstance(template, str):
        return False
    return any(pattern.fullmatch(text) for text in (template, template.removeprefix("%s")))


@dataclass(kw_only=True)
class Timings:
    """The seconds of one start in vLLM's log; fed one log record after the other.

    Of seconds in which the timeline keeps something else, none is counted.
    """

    timeline: Timeline | None = None
    _parts: dict[str, float] = field(default_factory=dict)
    _open: dict[str, float] = field(default_factory=dict)
    _traced: bool = True

    def add(self, template: object, arguments: object) -> None:
        """Take in one record of the log. One without a time, or malformed, changes nothing."""
        if _is(_NOT_TRACED, template):
            self._traced = False
        found = reported(template, arguments)
        if found is None:
            return
        name, seconds = found
        if self.timeline is not None and (name != "whole" or not self._traced):
            seconds = self.timeline.claim(seconds)
        if name == "whole":
            self._close(seconds)
        elif name in ("inspect", "load"):
            _raise(self._parts, name, seconds)
        else:
            _raise(self._open, name, seconds)

    def parts(self, torch: Mapping[str, float]) -> dict[str, float]:
        """Return the parts of the start, in seconds; one that nobody reported is left out.

        `torch` has the sums of torch's own timed events (`vllm_compat.compiler_seconds`). No second
        is in two parts. What vLLM reports owns its seconds, whatever was imported in them; but for
        those of `jit`. The steps that a hook times have what is left of theirs, and with it what
        torch compiles of a function for which the model asks (`torch.compile` in vLLM's
        kimi_k25_vit.py): nobody reports these seconds.

        | part             | means                                                     | source  |
        |------------------|-----------------------------------------------------------|---------|
        | `import`         | importing modules that the run had not imported yet       | hooks   |
        | `config`         | making vLLM's configuration                               | hook    |
        | `tokenizer`      | making tokenizer, input and output processors             | hooks   |
        | `engine`         | the rest of the engine: scheduler, executor, collection   | hooks   |
        | `device`         | making the worker, taking the device                      | hooks   |
        | `profile`        | the profile run, less what is compiled in it              | hook    |
        | `kv_cache`       | making the KV cache                                       | hooks   |
        | `warmup`         | warming kernels up, less what is compiled in it           | hook    |
        | `jit`            | building, or waiting for, kernels of FlashInfer; building | hooks   |
        |                  | kernels of Triton that Inductor did not write             |         |
        | `inspect`        | asking the model's class what it can do, which imports    | vLLM    |
        |                  | vLLM again in a new interpreter; next to nothing if       |         |
        |                  | the run asked before its cases (`inspections`)            |         |
        | `load`           | making the model and loading its weights                  | vLLM,   |
        |                  |                                                           | or hook |
        | `dynamo`         | tracing, until the backend is called                      | vLLM    |
        | `inductor`       | AOTAutograd and Inductor, less `save`                     | vLLM    |
        | `save`           | writing the compiled artifact of each graph               | torch   |
        | `artifacts_load` | loading what an earlier start compiled                    | vLLM    |

        Of a model that was not traced, vLLM calls Dynamo's what is the reading of the file; it is
        counted as `artifacts_load`. Neither reports how long it takes to write that file.
        """
        self._close(None)
        parts = dict(self._parts)
        saved = torch.get(_SAVING)
        if saved is not None:
            parts["save"] = saved
            # Each graph is written right after it was compiled, within what vLLM measures.
            around = "inductor" if "inductor" in parts else "artifacts_load"
            if around in parts:
                parts[around] = max(0.0, parts[around] - saved)
        for name, seconds in (self.timeline.parts() if self.timeline else {}).items():
            _raise(parts, name, seconds)
        return parts

    def forget(self) -> None:
        """Forget what was reported so far."""
        self._parts, self._open, self._traced = {}, {}, True

    def _close(self, whole: float | None) -> None:
        """Settle what was reported of one model's compilation; it took `whole` if that is known."""
        if not self._traced and whole is not None:
            # A graph that was missing among those to load may have been compiled meanwhile.
            loaded = max(0.0, whole - self._open.get("compile", 0.0))
            self._open = {**self._open, "load graphs": loaded}
            self._open.pop("until backend", None)
        names = {
            "until backend": "dynamo" if self._traced else "artifacts_load",
            "load graphs": "artifacts_load",
            "compile": "inductor",
        }
        for name, seconds in self._open.items():
            _raise(self._parts, names[name], seconds)
        self._open, self._traced = {}, True


def _raise(sums: dict[str, float], name: str, seconds: float) -> None:
    sums[name] = sums.get(name, 0.0) + seconds


@contextlib.contextmanager
def watch(timeline: Timeline | None = None, events: Events | None = None) -> Iterator[Timings]:
    """Listen to the log of vLLM and of torch meanwhile, for times and for events.

    What is reported is claimed from the timeline.
    """
    timings = Timings(timeline=timeline)
    with hearing(timings, events):
        yield timings


@contextlib.contextmanager
def hearing(timings: Timings, events: Events | None = None) -> Iterator[None]:
    """Listen for these times and events, as `watch` does."""

    def hear(record: logging.LogRecord) -> None:
        if record.name.startswith(_LOGGER):
            timings.add(record.msg, record.args)
        if events is not None:
            events.add(record)

    with listen(hear):
        yield
