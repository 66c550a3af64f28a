"""What a program that shows the output of several others puts before each line of a whole text.

One line alone does not say whether its first word is a host, as `gpu-3: ` of pdsh, or the begin of
a message. Those of several lines do, where a traceback or the head of a log follows one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# pdsh and clush: a host. stern: a pod of a StatefulSet, which has a number, and its container.
_HOST = r"[a-z0-9][a-z0-9.-]{0,120}:"
_POD = r"[a-z0-9](?:[a-z0-9-]{0,60}[a-z0-9])?-\d{1,4} [a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PREFIX = re.compile(rf"(?P<prefix>{_HOST}|{_POD})(?: |$)")
_NUMBERED = re.compile(
    rf"(?:[a-z0-9-]{{0,60}}\d[a-z0-9-]{{0,60}}(?:\.[a-z0-9.-]{{1,60}})?:|{_POD})"
)
# They begin the lines of a tool's, a shell's or a loader's own message.
_NO_HOST = re.compile(
    r"(?:trace|debug|info|notice|warn(?:ing)?|err(?:or)?|critical|fatal|exception|note|hint|help)s?:"
    r"|(?:[a-z0-9_-]*-)?(?:cc|c|gcc|g|clang|ld|nvcc|ptxas|python|pypy|pip|uv|sh|bash)[\d.-]*:"
    r"|(?:ninja|make|cmake|vllm|torchrun|docker|nvidia-smi|ray|pdsh|ssh):|.*\.(?:so|py)[\d.]*:"
)
_FOLLOWS = re.compile(
    r"Traceback \(most recent call last\)|  File \"|\(\w{1,60} pid=\d"
    r"|\[?(?:INFO|WARNING|ERROR|CRITICAL)\b[\] ]|\[rank\d|\[?\d{4}-\d\d-\d\d[T ]\d\d:"
)


def without_prefixes(lines: Sequence[str]) -> Sequence[str]:
    r"""Return the lines of a text without the hosts or the pods that they begin with.

    >>> without_prefixes(["gpu-3: Traceback (most recent call last):", "gpu-3: KeyError: 1"])
    ['Traceback (most recent call last):', 'KeyError: 1']
    >>> without_prefixes(["vllm-0 vllm   File \"a.py\", line 1, in f", "vllm-0 vllm KeyError: 1"])
    ['  File "a.py", line 1, in f', 'KeyError: 1']
    >>> without_prefixes(["ValueError: 1", "gcc-11: error: 2"])
    ['ValueError: 1', 'gcc-11: error: 2']
    """
    found = [_prefix(line) for line in lines]
    counts: dict[str, int] = {}
    for prefix in filter(None, found):
        counts[prefix] = counts.get(prefix, 0) + 1
    if not counts:
        return lines
    known = {
        prefix
        for prefix, line in zip(found, lines, strict=True)
        if counts.get(prefix, 0) > 1 and _FOLLOWS.match(line[len(prefix) + 1 :])
    }
    if not known and _all_numbered(zip(found, lines, strict=True)):
        known = {prefix for prefix in counts if counts[prefix] > 1}
    return [
        line[len(prefix) + 1 :] if prefix in known else line
        for prefix, line in zip(found, lines, strict=True)
    ]


def _prefix(line: str) -> str:
    found = _PREFIX.match(line)
    return "" if found is None or _NO_HOST.match(found["prefix"]) else found["prefix"]


def _all_numbered(pairs: Iterable[tuple[str, str]]) -> bool:
    """Tell whether each line begins with the name of a host, or of a pod, that has a number."""
    return all(bool(_NUMBERED.fullmatch(prefix)) for prefix, line in pairs if line.strip())
