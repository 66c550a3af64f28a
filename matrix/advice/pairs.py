"""The pairs to choose from, the newest first. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from matrix._util.versions import parse_version
from matrix.advice.wish import Wish
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A torch and a vLLM release; `off_pin` where this vLLM pins another torch."""

    torch: Torch
    vllm: Vllm

    @property
    def off_pin(self) -> bool:
        """Whether this vLLM pins another torch."""
        return parse_version(self.vllm.torch) != parse_version(self.torch.version)


def pairs(releases: Releases, wish: Wish) -> Iterator[Pair]:
    """Yield each pair that a person may mean: the newest vLLM first, and of each its pin first.

    An off-pin torch is there only where a person asked for a torch. A vLLM that pins another one is
    there with its pin all the same, to say so, where no torch is as asked.
    """
    torches = {row.version: row for row in releases.torch}
    for vllm in reversed(releases.vllm):
        if wish.vllm is not None and not wish.vllm.contains(vllm.version, prereleases=True):
            continue
        pin = torches[vllm.torch]
        found = [Pair(torch=pin, vllm=vllm)]
        if wish.torch is not None:
            others = (row for row in reversed(releases.torch) if row is not pin)
            found += [
                Pair(torch=row, vllm=vllm)
                for row in others
                if wish.torch.contains(row.version, prereleases=True) and row.yanked is None
            ]
        yield from found
