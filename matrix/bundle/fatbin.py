"""Drop the GPU code of other chips from a CUDA library, in place: no offset moves, no size changes.

A machine loads only the image of its own chip (`matrix.checks.gpu_code.images` has the layout).
With zeros for the others the library loads as before, and packs small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from matrix.catalog.hardware import Capability
from matrix.checks.gpu_code.fits import CodeFit, fit_of
from matrix.checks.gpu_code.images import Content, Image, fatbins

_BLOCK = 1 << 20


class Buffer(Content, Protocol):
    """The bytes of a library, changed in place: a bytearray or a writable mmap."""

    def __setitem__(self, index: slice, value: bytes, /) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """How much GPU code of a library was kept and dropped, in bytes, and counts of its fatbins.

    `other` counts fatbins without an image of the chip itself, of which a near image or PTX stays;
    `none` counts fatbins with nothing that the chip could run.
    """

    kept: int = 0
    dropped: int = 0
    fatbins: int = 0
    other: int = 0
    none: int = 0

    def __add__(self, more: Pruned) -> Pruned:
        """Return the sums of both."""
        return Pruned(
            kept=self.kept + more.kept,
            dropped=self.dropped + more.dropped,
            fatbins=self.fatbins + more.fatbins,
            other=self.other + more.other,
            none=self.none + more.none,
        )


def keep_only(library: Buffer, arch: int) -> Pruned:
    """Put zeros where the library holds GPU code that a chip of this architecture never loads.

    Of each fatbin the chip's own images stay. Where it has none, the newest machine code that the
    chip can run stays; failing that, the newest PTX that the driver can compile for it
    (`matrix.checks.gpu_code.fits` says which these are). Any other file than a CUDA library stays
    as it is.
    """
    found = Pruned()
    for images in fatbins(library):
        found += _prune(library, images, arch)
    return found


def _prune(library: Buffer, images: list[Image], arch: int) -> Pruned:
    fit, keep = _kept(images, Capability(*divmod(arch, 10)))
    kept = dropped = 0
    for image in images:
        if image in keep:
            kept += image.size
            continue
        dropped += image.size
        for start in range(image.start, image.start + image.size, _BLOCK):
            stop = min(start + _BLOCK, image.start + image.size)
            library[start:stop] = bytes(stop - start)
    return Pruned(
        kept=kept,
        dropped=dropped,
        fatbins=1,
        other=int(fit in (CodeFit.NEAR, CodeFit.PTX)),
        none=int(bool(images) and not keep),
    )


def _kept(images: list[Image], chip: Capability) -> tuple[CodeFit, list[Image]]:
    """Return the newest of the images that fit a chip best, and how they fit."""
    fits = [fit_of([image.name], chip) for image in images]
    best = next((fit for fit in CodeFit if fit in fits), CodeFit.NONE)
    if best is CodeFit.NONE:
        return best, []
    usable = [image for image, fit in zip(images, fits, strict=True) if fit is best]
    newest = max(image.arch for image in usable)
    return best, [image for image in usable if image.arch == newest]
