"""The step of a run that inspects its models once. Pure, and importable inside a cell."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspections:
    """The step before the cases that asks vLLM for the features of all models.

    `seconds` are those of the step, `reason` says why it failed: then each case asks for its own
    model, and imports what that imports.
    """

    seconds: float
    reason: str | None = None
