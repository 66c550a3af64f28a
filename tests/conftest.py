"""What every test has: a small index on this machine, how laws are tried, and Ctrl-C."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import pytest

from fake_tox import fake_tox
from local_index import Served, serving
from matrix.checks import lookup
from matrix.checks.linkage.link import Tables, load_tables
from matrix.rules import expectations_file
from toxed import server, tox

__all__ = ["fake_tox", "server", "tox"]

with contextlib.suppress(ImportError):  # lint and page have no property to test
    from hypothesis import Phase, settings

    # No clock judges a test: machines are shared. The same commit gives the same answer in CI.
    in_ci = bool(os.environ.get("CI"))
    settings.register_profile("dev", deadline=None, max_examples=20, derandomize=in_ci)
    settings.register_profile(
        "ci", deadline=None, max_examples=100, derandomize=True, print_blob=True
    )
    settings.register_profile("nightly", deadline=None, max_examples=1000, print_blob=True)
    # A mutant that fails need not fail with the smallest example, which takes long to find.
    settings.register_profile(
        "mutation", deadline=None, max_examples=20, phases=(Phase.explicit, Phase.generate)
    )
    profile = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if in_ci else "dev")
    settings.load_profile(profile)

# Most tests read a sentence whole; those of the width of a report say how wide it is.
os.environ["COLUMNS"] = "5000"

# Tests judge the package's own releases, not the candidates of whoever runs them.
os.environ["MATRIX_CANDIDATES"] = "/nowhere/candidates.toml"


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what tests fetch and build apart from the caches of who runs them."""
    os.environ["MATRIX_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Give an index on this machine, with nothing on it yet."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    monkeypatch.setenv("NETRC", "/dev/null")
    with serving() as index:
        yield index


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """Handle SIGINT: a job in the background ignores it, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def read_once() -> Iterator[None]:
    """All commands in this process share the package's symbol tables and one text's expectations.

    Nobody changes them, and what is made of them is the slow part of a grid.
    """
    own = load_tables()
    parse = lru_cache(maxsize=4)(expectations_file.parse_expectations)

    def tables(folder: Path = own.folder, candidates: Mapping[str, Path] | None = None) -> Tables:
        return load_tables(folder, candidates) if candidates or folder != own.folder else own

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "load_tables", tables)
        patch.setattr(expectations_file, "parse_expectations", parse)
        yield


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave what the collection made out of every later search for garbage.

    Thousands of tests and their modules live to the end, and these searches took a tenth of the
    seconds of all tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
