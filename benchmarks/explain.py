"""What `matrix explain` takes: of a symbol and a library from data, and of logs.

    python benchmarks/explain.py [--rounds N] [--size MB] [--most SECONDS] [--most-log SECONDS]

Each runs as a program of its own, as for a person, with the published records where the checkout's
`results` are the working folder's. The logs are made here: one of lines of vLLM, with an error in
the middle and one at the end, and one of 200 kB that repeats the mark of an error. Prints the CPU
seconds (what else runs on the machine does not count), the best of the rounds, and the memory of
each. Exits with 1 where an answer from data takes more than SECONDS (default 0.5), a log more than
its own (default 5), or its memory grows with the log: more than 48 MiB beyond that of a symbol.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_LINE = (
    "(EngineCore_DP0 pid={0}) INFO 11-22 18:{1:02}:{2:02}.123 [core.py:842] Avg prompt throughput:"
    " {0}.4 tokens/s, Running: {1} reqs, GPU KV cache usage: {2}.0%, version 2.10 requires\n"
)
_SYMBOL = "_ZN3c1013MessageLoggerC1EPKciib"
_IN_THE_MIDDLE = f"ImportError: /x/vllm/_C.abi3.so: undefined symbol: {_SYMBOL}\n"
_GPU = "x with CUDA capability sm_70 is not compatible with the current PyTorch installation."
_AT_THE_END = "CUDA error: no kernel image is available for execution on the device\n"
_BEYOND = 48  # MiB


def main() -> int:
    """Measure and print; return 1 where something takes too much."""
    parser = argparse.ArgumentParser(description="The CPU seconds and memory of an explanation.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--most", type=float, default=0.5)
    parser.add_argument("--most-log", type=float, default=5.0)
    options = parser.parse_args()
    slow = False
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "vllm.log"
        write_log(log, options.size * 1_000_000)
        hostile = Path(folder) / "hostile.log"
        hostile.write_text(f"{'NCCL error' * 800}\n" * 25 + _AT_THE_END)
        least = 0
        for name, text, most in (
            ("a symbol", _SYMBOL, options.most),
            ("a library", "libcudart.so.13", options.most),
            ("a GPU", _GPU, options.most),
            ("what compiles again", "warm num_compiled_artifacts_saved 4", options.most),
            (f"a log of {options.size} MB", str(log), options.most_log),
            ("a mark 20,000 times", str(hostile), options.most_log),
        ):
            measured = [measure(text) for _ in range(options.rounds)]
            took, memory = min(seconds for seconds, _ in measured), max(kib for _, kib in measured)
            least = least or memory
            print(f"{name:<22}{took:7.3f} s, may take {most:.3f} s; {memory >> 10} MiB", flush=True)
            slow |= took > most or (memory - least) >> 10 > _BEYOND
    return int(slow)


def write_log(path: Path, size: int) -> None:
    """Write a log of that many bytes, with an error in its middle and one at its end."""
    block = "".join(_LINE.format(number, number % 60, number % 59) for number in range(5000))
    half = size // 2 // len(block)
    with path.open("w", encoding="utf-8") as file:
        for error in (_IN_THE_MIDDLE, _AT_THE_END):
            for _ in range(half):
                file.write(block)
            file.write(error)


def measure(text: str) -> tuple[float, int]:
    """Return the CPU seconds of an explanation and the most memory that it had, in KiB."""
    command = [sys.executable, "-m", "matrix", "explain", text]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"matrix explain {text}: exit status {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss


if __name__ == "__main__":
    raise SystemExit(main())
