"""Time the steps of a start by hooks on vLLM, FlashInfer, Triton and on imports, while it lasts.

A module is hooked as soon as it is imported, whoever imports it, and nothing is imported for it: on
a GPU that could touch CUDA too early. What a release does not have is not timed. Afterwards all is
as it was before.
"""

import contextlib
import functools
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from matrix.inside.timeline import Timeline

Hook = Callable[[ModuleType, "Hooks"], None]
"""What is done with a module that was imported; it replaces by `Hooks.replace`."""

_IMPORT = "import"

# Only of these every module has a loader of its own, which may be given other methods.
_LOADERS = (
    importlib.machinery.SourceFileLoader,
    importlib.machinery.SourcelessFileLoader,
    importlib.machinery.ExtensionFileLoader,
)


class Hooks:
    """The attributes replaced for one start, and the timeline that they fill."""

    def __init__(self, timeline: Timeline) -> None:
        """Start with nothing replaced. Spans are of the thread that makes this."""
        self._timeline = timeline
        self._thread = threading.get_ident()
        self._undo: list[Callable[[], None]] = []

    @contextlib.contextmanager
    def span(self, part: str) -> Iterator[None]:
        """Give the seconds meanwhile to the part; in another thread than the start's do nothing."""
        if threading.get_ident() != self._thread:
            yield
            return
        with self._timeline.span(part):
            yield

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return the function, whose seconds belong to the part."""

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.span(part):
                return function(*arguments, **named)

        return timed

    def replace(self, holder: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace the holder's attribute, if it has one, by what `make` returns for it."""
        usual = getattr(holder, name, None)
        if usual is None:
            return
        own = name in vars(holder)
        try:
            setattr(holder, name, make(usual))
        except (AttributeError, TypeError):  # slots, or a built-in type
            return
        if own:
            self._undo.append(functools.partial(setattr, holder, name, usual))
        else:
            self._undo.append(functools.partial(delattr, holder, name))

    def time(self, holder: Any, name: str, part: str) -> None:
        """Give the seconds of the holder's method to the part; a dotted name goes down to it."""
        *way, last = name.split(".")
        for step in way:
            holder = getattr(holder, step, None)
        if holder is not None:
            self.replace(holder, last, lambda usual: self.timed(usual, part))

    def undo(self) -> None:
        """Put everything back, the last first."""
        while self._undo:
            with contextlib.suppress(AttributeError, TypeError):
                self._undo.pop()()


class _Finder:
    """The first finder of modules: it asks the others, and times what they find and load."""

    def __init__(self, hooks: Hooks, by_module: Mapping[str, Sequence[Hook]]) -> None:
        self._hooks, self._by_module = hooks, by_module

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find, with a loader that is timed."""
        with self._hooks.span(_IMPORT):
            spec = self._found(name, path, target)
        loader = None if spec is None else spec.loader
        if type(loader) in _LOADERS:
            self._time_loader(loader, name)
        return spec

    def _found(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                return spec
        return None

    def _time_loader(self, loader: Any, name: str) -> None:
        create, execute = loader.create_module, loader.exec_module

        def created(spec: ModuleSpec) -> Any:
            with self._hooks.span(_IMPORT):
                return create(spec)

        def executed(module: ModuleType) -> None:
            for method in ("create_module", "exec_module"):
                loader.__dict__.pop(method, None)
            with self._hooks.span(_IMPORT):
                execute(module)
            self.hook(name, module)

        loader.create_module, loader.exec_module = created, executed

    def hook(self, name: str, module: ModuleType) -> None:
        for hook in self._by_module.get(name, ()):
            hook(module, self._hooks)


@contextlib.contextmanager
def following(timeline: Timeline, by_module: Mapping[str, Sequence[Hook]]) -> Iterator[None]:
    """Fill the timeline meanwhile, by the hooks of each module and by what is imported."""
    hooks = Hooks(timeline)
    finder: Any = _Finder(hooks, by_module)
    for name in by_module:
        module = sys.modules.get(name)
        if module is not None:
            finder.hook(name, module)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(finder)
        hooks.undo()
