"""Caches that another torch, another vLLM or another GPU left, and some that nobody can read.

A start that finds them loads what is in them or compiles again; it never fails because of them.
"""

from collections.abc import Callable
from functools import partial

import pytest

from matrix.inside.foreign_caches import ANOTHER, spoil
from matrix.inside.laws import loads_or_compiles
from matrix.record.model import CacheKind


@pytest.mark.full
@pytest.mark.parametrize("another", ANOTHER)
def test_foreign_cache_startup(another: str, startup: Callable[..., None]) -> None:
    startup("small-dense", cold_in=ANOTHER[another], law=loads_or_compiles)


@pytest.mark.full
@pytest.mark.parametrize("kind", [CacheKind.AOT, CacheKind.ARTIFACT])
def test_unreadable_cache_startup(kind: CacheKind, startup: Callable[..., None]) -> None:
    startup("small-dense", between=partial(spoil, kind), law=loads_or_compiles)
