"""What the CPU platform saves where it repeats a weight's values, and leaves new memory.

Fills a weight as vLLM does, with a random value for each, then as the platform does: once in memory
that was used before, and once in memory that is new. Prints the seconds of all three, and fails
where one of the latter two takes more than a share of the first.

    python benchmarks/weights.py [--mib 1024] [--limit 0.25]
"""

import argparse
import time
from collections.abc import Callable

import torch
from vllm.model_executor.model_loader import weight_utils

from matrix.inside.cpu.weights import quick_dummy_weights


def main() -> int:
    """Measure, print, and return 0 where both shares are within the limit."""
    parser = argparse.ArgumentParser(description="What filling weights quickly saves.")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--limit", type=float, default=0.25)
    options = parser.parse_args()
    values = (options.mib << 20) // torch.bfloat16.itemsize
    used = torch.ones(values, dtype=torch.bfloat16)
    drawn = _seconds(weight_utils.initialize_single_dummy_weight, used)
    with quick_dummy_weights():
        repeated = _seconds(weight_utils.initialize_single_dummy_weight, used)
        new = torch.empty(values, dtype=torch.bfloat16)
        left = _seconds(weight_utils.initialize_single_dummy_weight, new)
    print(f"a weight of {options.mib} MiB: {drawn:.2f} s drawn by vLLM")
    shares = {"used memory": repeated / drawn, "new memory": left / drawn}
    for memory, share in shares.items():
        print(f"{memory}: share {share:.3f}, limit {options.limit:.2f}")
    return 0 if max(shares.values()) <= options.limit else 1


def _seconds(fill: Callable[[torch.Tensor], None], weight: torch.Tensor) -> float:
    begun = time.perf_counter()
    fill(weight)
    return time.perf_counter() - begun


if __name__ == "__main__":
    raise SystemExit(main())
