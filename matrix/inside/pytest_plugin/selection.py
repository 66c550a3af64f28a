"""The tests that run in a forked child, their names, and the tests that a user selects."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest


def case_name(test_name: str) -> str:
    """Return the name of the case that a test is.

    >>> case_name("test_moe_startup[mega_aot=1]")
    'moe_startup[mega_aot=1]'
    """
    return test_name.removeprefix("test_")


def is_isolated(item: pytest.Item) -> bool:
    """Return whether the test runs in a forked child."""
    inside = startup_folder(item.path) is not None
    return inside or item.get_closest_marker("isolated") is not None


def gpus_of(item: pytest.Item) -> int:
    """Return how many GPUs the test needs: what its mark `gpus` says, else 1."""
    mark = item.get_closest_marker("gpus")
    return 1 if mark is None else int(mark.args[0])


def is_of_full_suite(item: pytest.Item) -> bool:
    """Return whether the full suite alone has this test: whether it has the mark `full`."""
    return is_isolated(item) and item.get_closest_marker("full") is not None


def startup_folder(path: Path) -> Path | None:
    """Return the folder tests/startup that holds the path, or is it."""
    folders = (path, *path.parents)
    return next((folder for folder in folders if folder.parts[-2:] == ("tests", "startup")), None)


@dataclass(frozen=True, kw_only=True)
class NamedTests:
    """A file, a folder or a node id that the command line names: `text` as it was written."""

    text: str
    path: Path
    inner: str

    @classmethod
    def of(cls, text: str, config: pytest.Config) -> NamedTests:
        """Return what an argument of the command line names."""
        name, _, inner = text.partition("::")
        path = Path(os.path.abspath(config.invocation_params.dir / name))
        return cls(text=text, path=path, inner=inner)

    def holds(self, item: pytest.Item) -> bool:
        """Return whether the test is one of these."""
        inner = item.nodeid.partition("::")[2]
        inside = inner == self.inner or inner.startswith((f"{self.inner}::", f"{self.inner}["))
        return self.path in (item.path, *item.path.parents) and (not self.inner or inside)
