"""One release of torch or vLLM, as its row in the data has it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from packaging.specifiers import SpecifierSet

COMPANIONS = ("torchvision", "torchaudio")


@dataclass(frozen=True, kw_only=True)
class Torch:
    """One release of torch and the companions that go with it; a fact that was not read is None.

    ``python`` is its range of Pythons, ``cuda`` the CUDA of its wheel on the index (``13.0``),
    ``uploaded`` the day of its first file (``2026-03-01``), ``wheels`` the Pythons by platform tag
    (``{"manylinux_2_28_x86_64": ("cp311", "cp312")}``), ``yanked`` why it was withdrawn, ``source``
    where its metadata was read (``metadata``, ``sdist`` or ``wheel``), ``note`` why it was not.
    ``revision`` is the git commit that its own files name, or the beginning of its hash.
    ``without`` are companions whose releases are all built for another CUDA, ``guessed`` those that
    only their date chose.
    """

    version: str
    python: SpecifierSet | None = None
    torchvision: str | None = None
    torchaudio: str | None = None
    without: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()
    cuda: str | None = None
    uploaded: str | None = None
    wheels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    yanked: str | None = None
    source: str | None = None
    note: str | None = None
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class Vllm:
    """One release of vLLM: the torch and companions that it pins, and its range of Pythons.

    A companion that it does not pin is None. The rest is as in `Torch`; an extension on the stable
    ABI has a wheel for ``cp38-abi3``.
    """

    version: str
    torch: str
    torchvision: str | None
    torchaudio: str | None
    python: SpecifierSet
    cuda: str | None = None
    uploaded: str | None = None
    wheels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    yanked: str | None = None
    source: str | None = None
    note: str | None = None
    revision: str | None = None


class Unread(NamedTuple):
    """A published vLLM without cells, since its pins are not known; ``note`` holds the reason."""

    version: str
    note: str
