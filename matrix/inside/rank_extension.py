"""A class for vLLM's worker, by which each rank of a start reports its observations.

vLLM imports this module in each worker by the name of the class (`worker_extension_cls`), before it
makes the worker, and nobody else does: what is followed here begins with the import. A worker that
was forked goes on with what it inherited. One that vLLM starts as a new interpreter (where CUDA was
initialised before, or VLLM_WORKER_MULTIPROC_METHOD says so) has the seconds that are logged alone.
"""

from __future__ import annotations

import contextlib
from typing import Any

from matrix.inside import vllm_compat
from matrix.inside.observing import Observing, inherited, observing
from matrix.inside.rank_faults import noting

_left_open = contextlib.ExitStack()  # for as long as the worker lives
_left_open.enter_context(noting())


def _observing() -> Observing:
    found = inherited()
    if found is None:
        return _left_open.enter_context(observing())
    found.forget()
    return found


_compiled_before = vllm_compat.clean_state()
_seen = _observing()


class RankExtension:
    """Methods that vLLM's worker gets; `rank` and `vllm_config` are the worker's own."""

    rank: int
    vllm_config: Any

    def matrix_observed(self) -> dict[str, Any]:
        """Return what this rank observed of the start so far, as JSON.

        That is `rank`, `seconds`, `counters`, `events`, `jit` and `metrics`, and in
        `compiled_before` what this process had compiled before it became a worker (None: nothing).
        """
        compilation = float(self.vllm_config.compilation_config.compilation_time)
        seconds = {"compilation": compilation, **_seen.parts()}
        return {
            "rank": int(self.rank),
            "seconds": {part: round(value, 3) for part, value in seconds.items()},
            "compiled_before": _compiled_before,
            **_seen.seen(),
        }
