"""NVIDIA GPUs by nvidia-smi and by device files: CUDA stays untouched, and torch unimported.

Standard library only: code inside a cell imports this module too.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

GPU_SHARE = 0.25
"""The share of a GPU's whole memory that one start asks vLLM for, where that is below START_MIB."""
START_MIB = 11 * 1024
"""MiB of GPU memory that one start may take. The largest model of the startup tests, Phi-tiny-MoE
at full width, has 7.0 GiB of weights; CUDA's context, activations and KV cache come on top.

The most that nvidia-smi showed of one start was 8434 (vLLM 0.32.0, nine cases on an H200).
"""
ANSWER_SECONDS = 60.0
"""Seconds after which a driver counts as hung. Without persistence mode a GPU needs a few."""

DEVICES = Path("/dev")
VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Where CUDA reads which GPUs a process sees."""


def dotted(version: tuple[int, int]) -> str:
    """Return a compute capability, or a version of CUDA, as people write it.

    >>> dotted((9, 0))
    '9.0'
    """
    return f"{version[0]}.{version[1]}"


def capture(
    command: Sequence[str], seconds: float = ANSWER_SECONDS, *, stderr: int = subprocess.STDOUT
) -> tuple[int, str] | None:
    """Return a program's exit status and what it printed, or None if it does not run or end.

    A process that hangs inside the driver cannot be killed, so its end is not waited for.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="replace",
        )
    except OSError:
        return None
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)
        return None
    return process.returncode, output


def smi_list() -> tuple[int, str] | None:
    """Return the exit status and the output of `nvidia-smi -L`; None if it does not run."""
    return capture(["nvidia-smi", "-L"])


def smi_query(gpus: str, *fields: str, seconds: float = ANSWER_SECONDS) -> list[str]:
    """Return a line for each GPU, its fields separated by commas; none where it does not answer.

    `gpus` names them as CUDA_VISIBLE_DEVICES does; empty for all. It may take so many seconds.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    if gpus:
        command += ["-i", gpus]
    answer = capture(command, seconds, stderr=subprocess.DEVNULL)
    if answer is None or answer[0] != 0:
        return []
    return [line.strip() for line in answer[1].splitlines() if line.strip()]


def smi_visible(
    environ: Mapping[str, str], *fields: str, seconds: float = ANSWER_SECONDS
) -> list[str]:
    """Return what `smi_query` does, of the GPUs that a CUDA program would see.

    Of several names of which it does not know one, and of the begin of a UUID, nvidia-smi answers
    for none or for others than CUDA takes; its list says then which they are.
    """
    if is_hidden(environ):
        return []
    chosen = (part.strip() for part in environ.get(VISIBLE_VARIABLE, "").split(","))
    names = list(dict.fromkeys(filter(None, chosen)))
    lines = smi_query(",".join(names), *fields, seconds=seconds)
    if not names or len(lines) == len(names):
        return lines
    found = (re.match(r"GPU (\d+):", line) for line in visible_gpus(environ))
    numbers = dict.fromkeys(match[1] for match in found if match)
    return smi_query(",".join(numbers), *fields, seconds=seconds) if numbers else []


def listed_gpus() -> tuple[str, ...]:
    """Return the lines of `nvidia-smi -L` that name a GPU."""
    answer = smi_list()
    if answer is None or answer[0] != 0:
        return ()
    return tuple(line for line in answer[1].splitlines() if re.match(r"GPU \d+:", line))


def _device_files(devices: Path = DEVICES) -> tuple[str, ...]:
    """Return the names of the device files of GPUs."""
    return tuple(sorted(file.name for file in devices.glob("nvidia*") if file.name[6:].isdecimal()))


def present_gpus(devices: Path = DEVICES) -> tuple[str, ...]:
    """Return the GPUs that the driver lists, or else those that have a device file."""
    return listed_gpus() or _device_files(devices)


def is_hidden(environ: Mapping[str, str]) -> bool:
    """Return whether CUDA_VISIBLE_DEVICES hides every GPU."""
    chosen = environ.get(VISIBLE_VARIABLE)
    return chosen is not None and chosen.strip() in ("", "-1", "NoDevFiles")


def gpu_visible(environ: Mapping[str, str], devices: Path = DEVICES) -> bool:
    """Return whether an NVIDIA GPU is visible; nvidia-smi runs only if no device file shows it."""
    return not is_hidden(environ) and bool(_device_files(devices) or listed_gpus())


def visible_gpus(environ: Mapping[str, str], devices: Path = DEVICES) -> tuple[str, ...]:
    """Return the NVIDIA GPUs that a CUDA program would see, as nvidia-smi or /dev names them.

    Those of `nvidia-smi -L`, or else the device files, less what CUDA_VISIBLE_DEVICES hides.
    """
    if is_hidden(environ):
        return ()
    present = present_gpus(devices)
    chosen = environ.get(VISIBLE_VARIABLE)
    if chosen is None or not present:
        return present
    seen: list[str] = []
    for name in (part.strip() for part in chosen.split(",")):
        found = _named(name, present)
        if found is None:
            break  # CUDA itself stops at the first name that it does not know
        seen.append(found)
    return tuple(seen)


def _named(name: str, present: Sequence[str]) -> str | None:
    if name.isdecimal():
        return present[int(name)] if int(name) < len(present) else None
    if name.startswith("MIG-"):
        return name  # a slice of a GPU has its own name, which the list of GPUs does not give
    return next((gpu for gpu in present if name and name in gpu), None)
