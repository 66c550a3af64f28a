"""The step of a run that asks the C++ compiler once. Pure, and importable inside a cell."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class CppCompiler:
    """The step before the cases that asks the C++ compiler what every start would ask it.

    `seconds` are those of the step, `reason` says why it failed: then each case asks the compiler
    for itself.
    """

    seconds: float
    reason: str | None = None
