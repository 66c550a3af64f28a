"""So many of so many: how often what the CPU predicts of CUDA is right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of so many. The percentage is rounded down: 100 % is all of them and nothing less.

    >>> str(Share(right=212, of=230))
    '212 of 230 (92 %)'
    >>> str(Share(right=0, of=0))
    '0 of 0'
    """

    right: int
    of: int

    @property
    def part(self) -> float | None:
        """The share between 0 and 1; None of nothing."""
        return self.right / self.of if self.of else None

    def __str__(self) -> str:
        """Both numbers, and the percentage where there is one."""
        return f"{self.right} of {self.of}" + (
            f" ({100 * self.right // self.of} %)" if self.of else ""
        )
