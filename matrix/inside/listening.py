"""Listen to what torch and vLLM log, whatever level it is shown at, and show no more of it."""

import contextlib
import logging
import logging.config
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Hear = Callable[[logging.LogRecord], None]
"""What is called with each record."""

_TOP = ("vllm", "torch._dynamo", "torch._functorch", "torch._inductor")
# Loggers that hear more than they show, and the level from which they do. The registry's times are
# at DEBUG (vLLM 0.16 to 0.33); of torch only the two modules of its caches speak at INFO of what an
# event is made of, and others would log for each graph.
_LEVELS = {
    "vllm": logging.INFO,
    "vllm.model_executor.models.registry": logging.DEBUG,
    "torch._functorch._aot_autograd.autograd_cache": logging.INFO,
    "torch._inductor.codecache": logging.INFO,
}


class _Listener(logging.Handler):
    """Hands records on, and shows none of them."""

    def __init__(self, hear: Hear) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._hear(record)
        except Exception:  # noqa: BLE001 - a start does not fail for what it logs
            self.handleError(record)


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
    """The listener on the loggers, and how they were without it."""

    def __init__(self, hear: Hear) -> None:
        self._listener = _Listener(hear)
        self._levels: dict[logging.Logger, int] = {}
        self._quieted: list[tuple[logging.Handler, _AsBefore]] = []

    def attach(self) -> None:
        loggers = {logging.getLogger(name): level for name, level in _LEVELS.items()}
        self._levels = {logger: logger.level for logger in loggers}
        quiet = _AsBefore(self._levels)
        handlers = dict.fromkeys(handler for logger in loggers for handler in _handlers(logger))
        self._quieted = [(handler, quiet) for handler in handlers]
        wanted = {
            logger: min(logger.getEffectiveLevel(), level) for logger, level in loggers.items()
        }
        for handler, _ in self._quieted:
            handler.addFilter(quiet)
        for name in _TOP:
            logging.getLogger(name).addHandler(self._listener)
        for logger, level in wanted.items():
            logger.setLevel(level)

    def detach(self) -> None:
        for name in _TOP:
            logging.getLogger(name).removeHandler(self._listener)
        for logger, level in self._levels.items():
            logger.setLevel(level)
        for handler, quiet in self._quieted:
            handler.removeFilter(quiet)


@contextlib.contextmanager
def listen(hear: Hear) -> Iterator[None]:
    """Call `hear` with each record of the loggers of vLLM and of torch's compiler meanwhile.

    vLLM 0.32 sets its log up again while it starts, which removes every handler and resets the
    levels: the listener is taken off for that and put on again.
    """
    attachment = _Attachment(hear)
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
        yield
    finally:
        config.dictConfigClass = usual
        attachment.detach()


def _handlers(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    """Every handler that sees the logger's records."""
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
