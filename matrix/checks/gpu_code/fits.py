"""Whether a wheel has code that a chip of some compute capability can run. Pure.

Machine code runs on chips of its own major capability that are not older than it; that of `sm_90a`
on this chip alone, that of `sm_100f` on the chips of its family. That of a Tegra chip runs on this
chip alone, which runs no machine code of another (NVIDIA's CUDA programming guide, "Binary
compatibility"). PTX is compiled by the driver for
the chip or a newer one. What decides is the library with the kernels that all models use: of it the
fatbins of the kind that most of its sources were compiled to, since kernels for one chip alone say
nothing of the others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from matrix._util.enums import StrEnum
from matrix.catalog.hardware import Capability
from matrix.checks.gpu_code.wheels import Groups, ReadWheel
from matrix.checks.linkage.link import feature_of

_NAME = re.compile(r"(?P<kind>sm|compute)_(?P<arch>[0-9]{2,3})(?P<only>[af]?)")
_TEGRA = (53, 62, 72, 87)
"""The chips of Jetson boards that share their major capability with those of graphics cards."""

_FLASH_ATTENTION = re.compile(r"/_vllm_fa(?P<version>[0-9]+)_C\.")
_MAIN = {
    "torch": re.compile(r"(^|/)libtorch_cuda\.so$"),
    "vllm": re.compile(r"(^|/)vllm/_C(_stable_libtorch)?\."),
}


class CodeFit(StrEnum):
    """The code of a library that a chip can run, the best first.

    `OWN`: machine code for this very chip. `NEAR`: machine code of the same major capability.
    `PTX`: only what the driver compiles. `NONE`: nothing.
    """

    OWN = "own"
    NEAR = "near"
    PTX = "ptx"
    NONE = "none"


_ORDER = tuple(CodeFit)


@dataclass(frozen=True, kw_only=True)
class WheelCode:
    """The code of a wheel that a chip can run.

    `fit` is that of what decides. `archs` are the architectures that this was compiled for.
    `without` are the features, such as FlashMLA, of whose code nothing is for it.
    """

    fit: CodeFit
    archs: tuple[str, ...]
    without: tuple[str, ...] = ()


def code_for(wheel: ReadWheel, capability: Capability) -> WheelCode | None:
    """Return what of a wheel a chip can run; None if its main library was not found in it."""
    main = Counter[frozenset[str]]()
    for path, groups in wheel.code.items():
        if _MAIN[wheel.project].search(path):
            main.update(groups)
    if not main:
        return None
    deciding = max(main, key=lambda names: (main[names], len(names), sorted(names)))
    return WheelCode(
        fit=fit_of(deciding, capability),
        archs=archs_of(deciding),
        without=_without(wheel, capability),
    )


def fit_of(names: Iterable[str], capability: Capability) -> CodeFit:
    """Return the best that images of these architectures are for a chip.

    >>> fit_of(["sm_80", "sm_90a"], Capability(8, 9)), fit_of(["sm_90a"], Capability(10, 0))
    (<CodeFit.NEAR: 'near'>, <CodeFit.NONE: 'none'>)
    """
    return min((_fit(name, capability) for name in names), key=_ORDER.index, default=CodeFit.NONE)


def archs_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return architectures in the order of their numbers."""
    return tuple(sorted(names, key=lambda name: (_arch(name), name)))


def _arch(name: str) -> int:
    found = _NAME.fullmatch(name)
    return int(found["arch"]) if found else 0


def _fit(name: str, capability: Capability) -> CodeFit:
    found = _NAME.fullmatch(name)
    if found is None:
        return CodeFit.NONE
    arch, only, chip = int(found["arch"]), found["only"], capability.arch
    same_major = arch // 10 == capability.major
    if arch == chip:
        return CodeFit.OWN if found["kind"] == "sm" else CodeFit.PTX
    if arch > chip or only == "a" or (only == "f" and not same_major):
        return CodeFit.NONE
    if found["kind"] == "compute":
        return CodeFit.PTX
    if arch in _TEGRA or chip in _TEGRA:
        return CodeFit.NONE
    return CodeFit.NEAR if same_major else CodeFit.NONE


def _runs(groups: Groups, capability: Capability) -> bool:
    return any(fit_of(names, capability) is not CodeFit.NONE for names in groups)


def _without(wheel: ReadWheel, capability: Capability) -> tuple[str, ...]:
    """Return the features of whose code a chip can run nothing."""
    runs: dict[str, bool] = {}
    for path, groups in wheel.code.items():
        feature = _feature_of(path) if wheel.project == "vllm" else None
        if feature is not None:
            runs[feature] = runs.get(feature, False) or _runs(groups, capability)
    return tuple(feature for feature, is_any in sorted(runs.items()) if not is_any)


def _feature_of(path: str) -> str | None:
    """Return what a library serves; None for the core. Each FlashAttention is for chips of its own.

    >>> _feature_of("vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so")
    'FlashAttention 3'
    """
    found = _FLASH_ATTENTION.search(path)
    return f"FlashAttention {found['version']}" if found else feature_of(path)
