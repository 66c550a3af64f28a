"""The place of an error: the innermost frame of a package that counts."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import chain

from matrix.record.signature.patterns import (
    BECAUSE,
    DEFINED,
    FRAME,
    FRAME_LIMIT,
    GENERATED,
    GENERATED_BELOW,
    INSTALLED,
    MEANWHILE,
    MOST_BELOW,
    OWN_PACKAGES,
    PLUMBING_FILES,
    PLUMBING_FUNCTIONS,
    PYTEST_FRAME,
    STANDARD,
    TRACEBACK,
    TRACED,
    USER_CODE,
)
from matrix.record.signature.varying import settle


def innermost(frames: Sequence[tuple[str, str]]) -> str:
    """Return the first frame of a package that does more than pass a call on, else of a package."""
    places = (
        (path, function.rpartition(".")[2])
        for file, function in frames
        if function and (path := _module(file)) and " " not in path
    )
    first = next(places, None)
    if first is None:
        return ""
    working = (
        (path, function)
        for path, function in chain([first], places)
        if not PLUMBING_FILES.fullmatch(path) and function not in PLUMBING_FUNCTIONS
    )
    path, function = next(working, first)
    where = f"{path}:{settle(function)}"
    return where if len(where) <= FRAME_LIMIT else "…" + where[1 - FRAME_LIMIT :]


def frames_of(lines: Sequence[str], at: int, errors: Container[int]) -> list[tuple[str, str]]:
    """Return the files and functions on the way to the error of that line, innermost first."""
    if TRACED.match(lines[at]):
        traced = _traced(lines, at)
        if traced:
            return traced
    frames: list[tuple[str, str]] = []
    next_error = at
    for place in range(at - 1, -1, -1):
        line = lines[place]
        if TRACEBACK in line or BECAUSE in line or MEANWHILE in line:
            break
        if place in errors:
            # An error that wraps another ends with its name, on a line of its own.
            if frames or place != next_error - 1:
                break
            next_error = place
        elif found := FRAME.fullmatch(line):
            file, function = found["file"], found["function"]
            frames.append((file or found["cell_file"], function or found["cell_function"] or ""))
    return frames or _pytest_frames(lines, at)


def _traced(lines: Sequence[str], at: int) -> list[tuple[str, str]]:
    frames: list[tuple[str, str]] = []
    below = lines[at + 1 : at + 1 + MOST_BELOW]
    start = next((place for place, line in enumerate(below) if line.strip() == USER_CODE), None)
    for line in below[start + 1 :] if start is not None else ():
        if found := FRAME.fullmatch(line):
            frames.append((found["file"], found["function"] or ""))
        elif not line.startswith("    "):
            break
    return frames[::-1]


def _pytest_frames(lines: Sequence[str], at: int) -> list[tuple[str, str]]:
    """Return the same from a report of pytest, whose entries end with `file.py:12: Error`."""
    frames: list[tuple[str, str]] = []
    function = ""
    for place, line in enumerate(lines):
        if found := DEFINED.fullmatch(line):
            function = found["function"]
        elif found := PYTEST_FRAME.fullmatch(line):
            frames.append((found["file"], found["function"] or function))
            function = ""
            if place > at:
                break
    return frames[::-1]


def _module(file: str) -> str:
    """Return a file's path within its packages' folder; "" if it belongs to no package that counts.

    >>> _module("/src/vllm/vllm/config/model.py")
    'vllm/config/model.py'
    """
    if not file.endswith(".py"):
        return ""
    if found := INSTALLED.match(file):
        return file[found.end() :] if "/" in file[found.end() :] else ""
    if STANDARD.match(file) or GENERATED.fullmatch(file):
        return ""
    parts = file.split("/")
    for place, part in enumerate(parts[:-1]):
        if part in OWN_PACKAGES or parts[place : place + 2] == ["tests", "startup"]:
            start = place
            # A checkout of vLLM is often a folder of that name too, below one of another package.
            while start + 2 < len(parts) and (
                parts[start + 1] == parts[start]
                or (parts[start + 1] in OWN_PACKAGES and parts[start + 2] == parts[start + 1])
            ):
                start += 1
            path = "/".join(parts[start:])
            return "" if GENERATED_BELOW.fullmatch(path) else path
    return ""
