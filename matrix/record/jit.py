"""The just-in-time builds of a run. Pure, and importable inside a cell."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

CAPABILITY = re.compile(r"\d+\.\d+", re.ASCII)
"""A compute capability of a GPU, such as 9.0."""
STEP = "step"
"""Who built a kernel module that was built before the cases."""
EARLIER = "an earlier run"
"""Who built a kernel module that was there when the run began, in the folder of `--jit-cache`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JitModule:
    """A kernel module that a library built just in time.

    `built_by` is `step` where it was built before the cases, `an earlier run` where it was there
    already, or the case and the start that built it, such as `small_startup[dense] cold`; None
    where it was found afterwards and no start is known to have built it.
    `generator` is the function that describes how to build it, `package.module:function`, with its
    arguments: scalars, and types of torch as `torch.bfloat16`; None if that is not known.
    """

    library: str
    name: str
    seconds: float | None = None
    built_by: str | None = None
    generator: str | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Jit:
    """The step of a run that builds kernels before its cases, and all modules that the run built.

    `seconds` are those of the step, `reason` says why it built nothing, or what failed in it.
    """

    seconds: float
    reason: str | None = None
    modules: tuple[JitModule, ...] = ()
