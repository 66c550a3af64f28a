"""Where the seconds of one start went, as vLLM and torch report them.

vLLM reports its times in its log and nowhere else. They are taken from the arguments of the log's
records, whose message is still a template (`... takes %.2f s`): nothing hangs on how a line is
formatted, and nothing is lost to its rounding or to a level at which it is not shown.
"""

import contextlib
import logging
import logging.config
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_LOGGER = "vllm"
_REGISTRY = "vllm.model_executor.models.registry"
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
    """Return which time a record of vLLM's log reports, and its seconds; None where it has none.

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
    """What vLLM's log reports of one start, in seconds; fed one record after the other."""

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
        if name == "whole":
            self._close(seconds)
        elif name in ("inspect", "load"):
            _raise(self._parts, name, seconds)
        else:
            _raise(self._open, name, seconds)

    def parts(self, torch: Mapping[str, float]) -> dict[str, float]:
        """Return the parts of the start, in seconds; one that nobody reported is left out.

        `torch` has the sums of torch's own timed events (`vllm_compat.compiler_seconds`). No second
        is in two parts, and the parts need not add up to the whole start.

        | part             | means                                                     | source  |
        |------------------|-----------------------------------------------------------|---------|
        | `inspect`        | asking the model's class what it can do, which imports    | vLLM    |
        |                  | vLLM again in a process of its own; its cache is vLLM's   |         |
        | `load`           | making the model and loading its weights                  | vLLM    |
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
        return parts

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


class _Listener(logging.Handler):
    """Feeds vLLM's records to the timings, and shows none of them."""

    def __init__(self, timings: Timings) -> None:
        super().__init__()
        self._timings = timings

    def emit(self, record: logging.LogRecord) -> None:
        self._timings.add(record.msg, record.args)


class _AsBefore(logging.Filter):
    """Keeps from a handler what the loggers would have dropped at the levels that they had."""

    def __init__(self, levels: Mapping[logging.Logger, int]) -> None:
        super().__init__()
        self._levels = levels

    def filter(self, record: logging.LogRecord) -> bool:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            level = self._levels.get(logger, logger.level)
            if level:
                return record.levelno >= level
            logger = logger.parent
        return True


class _Attachment:
    """The listener on vLLM's loggers, and how they were without it."""

    def __init__(self, timings: Timings) -> None:
        self._listener = _Listener(timings)
        self._levels: dict[logging.Logger, int] = {}
        self._quieted: list[tuple[logging.Handler, _AsBefore]] = []

    def attach(self) -> None:
        top, registry = logging.getLogger(_LOGGER), logging.getLogger(_REGISTRY)
        self._levels = {top: top.level, registry: registry.level}
        quiet = _AsBefore(self._levels)
        self._quieted = [(handler, quiet) for handler in _handlers(top)]
        wanted = min(top.getEffectiveLevel(), logging.INFO)
        for handler, _ in self._quieted:
            handler.addFilter(quiet)
        top.addHandler(self._listener)
        top.setLevel(wanted)
        registry.setLevel(logging.DEBUG)

    def detach(self) -> None:
        logging.getLogger(_LOGGER).removeHandler(self._listener)
        for logger, level in self._levels.items():
            logger.setLevel(level)
        for handler, quiet in self._quieted:
            handler.removeFilter(quiet)


@contextlib.contextmanager
def watch() -> Iterator[Timings]:
    """Listen to vLLM's log meanwhile, whatever level it is shown at, and show no more of it.

    vLLM 0.32 sets its log up again while it starts, which removes every handler and resets the
    levels: the listener is taken off for that and put on again.
    """
    timings = Timings()
    attachment = _Attachment(timings)
    config: Any = logging.config
    usual = config.dictConfigClass

    def configurator(asked_for: dict[str, Any]) -> Any:
        asked = usual(asked_for)
        configure = asked.configure

        def aside() -> None:
            attachment.detach()
            try:
                configure()
            finally:
                attachment.attach()

        asked.configure = aside
        return asked

    attachment.attach()
    # What logging.config.dictConfig makes one of: documented as a place for one's own.
    config.dictConfigClass = configurator
    try:
        yield timings
    finally:
        config.dictConfigClass = usual
        attachment.detach()


def _handlers(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    """Every handler that sees the logger's records."""
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
