"""What the step that asks the C++ compiler once saves the cases of a run on the CPU.

A process probes this machine's vector instructions, and another one is given the answers. Then
Inductor compiles a small function in two processes, each with empty compile caches: the first one
precompiles the header, and the second one finds it. Prints the CPU seconds of each, and fails where
the second of a pair takes more than a share of the first one's.

    python benchmarks/cpp_compiler.py [--limit 0.65]

This environment's torch counts.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from matrix.inside import cpp_compiler
from matrix.inside.isolation import run_forked

_SECONDS = 300.0


def main() -> int:
    """Measure, print, and return 0 where both shares are within the limit."""
    parser = argparse.ArgumentParser(description="What one step with the C++ compiler spares.")
    parser.add_argument("--limit", type=float, default=0.65)
    options = parser.parse_args()
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # a pool of processes would count too
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        probes, probing = _forked(lambda: cpp_compiler.probe(folder))
        _, taking = _forked(lambda: cpp_compiler.take(probes))
        (_, making), (_, finding) = (
            _forked(lambda: cpp_compiler.precompile(folder), probes) for _ in range(2)
        )
        sizes = [path.stat().st_size for path in folder.rglob("*.gch")]
    if len(sizes) != 1:
        raise SystemExit(f"{len(sizes)} headers where one is expected; nothing to compare")
    print("CPU seconds, with empty compile caches")
    print(f"vector instructions: {len(probes)} probes          {probing:5.1f}")
    print(f"  with the answers of another process   {taking:5.1f}  {taking / probing:4.0%}")
    print(f"a small function, with a header to make {making:5.1f}  {sizes[0] / 1e6:.0f} MB")
    print(f"  with the header of another process    {finding:5.1f}  {finding / making:4.0%}")
    shares = taking / probing, finding / making
    print(f"limit of both {options.limit:.0%}")
    return 0 if max(shares) <= options.limit else 1


def _forked(
    work: Callable[[], Any], probes: Sequence[cpp_compiler.Probe] | None = None
) -> tuple[Any, float]:
    """Return what the work returns in a child, and its CPU seconds there."""

    def measured() -> tuple[Any, float]:
        import_module("torch._inductor.compile_fx")
        if probes is not None:
            cpp_compiler.take(probes)
        before = _times()
        return work(), _times() - before

    ended = run_forked(measured, timeout=_SECONDS)
    if ended.kind != "returned":
        raise SystemExit(f"nothing to compare: {ended.error or ended.reason}")
    found: tuple[Any, float] = ended.value
    return found


def _times() -> float:
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


if __name__ == "__main__":
    raise SystemExit(main())
