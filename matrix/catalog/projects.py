"""The two projects of a pair."""

from __future__ import annotations

from matrix._util.enums import StrEnum


class Project(StrEnum):
    """One of the two projects of a pair."""

    TORCH = "torch"
    VLLM = "vllm"

    @property
    def label(self) -> str:
        """The name as a message spells it."""
        return "vLLM" if self is Project.VLLM else "torch"
