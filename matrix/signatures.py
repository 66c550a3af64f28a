"""Failure text in a form that compares across runs, and its first line of why for a person.

Pure, and importable inside a cell.
"""

import re
from collections.abc import Sequence

__all__ = ["REASON_LIMIT", "SIGNATURE_LIMIT", "reason", "signature"]

REASON_LIMIT = 200
"""The most characters of a reason."""
SIGNATURE_LIMIT = 300
"""The most characters of a signature."""

_LINE_LIMIT = 4096
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PREFIX = re.compile(
    r"^(?:"
    r"E   +"  # pytest marks the lines of an error so
    r"|\([\w -]+? pid=\d+\) ?"  # vLLM marks the lines of its workers so
    r"|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d [\d:]+ \[[^\]]*\] ?"
    r"|\[rank\d+\]: ?"
    r")"
)
_ASSERT = re.compile(r"^E +assert ")
_RAISED = re.compile(
    r"(?P<module>(?:[A-Za-z_]\w*\.)*)"
    r"(?P<type>(?:[A-Z]\w*)?"
    r"(?:Error|Exception|Exit|Interrupt|Failed|Failure|Unsupported|Violation))"
    r"(?:: ?(?P<message>.*))?"
)
_BECAUSE = "The above exception was the direct cause of the following exception:"
_DIED = re.compile(
    r"(?P<fatal>Fatal Python error: .*)"
    r"|.*terminate called after throwing an instance of '(?P<thrown>[^']+)'"
    r"|\s*what\(\): *(?P<what>.*)"
    r"|.*?(?P<fault>Segmentation fault|Bus error|Illegal instruction|Aborted|Killed)"
    r"(?: \(core dumped\))?\s*"
)
# Such a name says little without its module: binascii.Error.
_BARE = {"Error", "Exception"}
# These say only that something else failed: where that is in the text, it is the better answer.
_WRAPPERS = re.compile(r"root cause above|backend=.* raised:|^\w+ failed during startup")
# These say what failed only in the lines below them: pydantic's, and torch's C++ compiler's.
_INVALID = re.compile(r"\d+ validation errors? for \S+")
_NOT_COMPILED = re.compile(r"(?:.*: )?C\+\+ compile error")
_COMPILER = re.compile(r".*?(?P<said>(?:fatal )?error: (?!ld returned).*)")
_INPUT = re.compile(r" \[type=\w+, input_value=.*")
_NOT_TELLING = re.compile(
    r"\s*(?:For further information|Traceback|File \"|-{3,}|={3,}|_{3,})|\S+:\d+: "
)
_MOST_BELOW = 400

_PATH = re.compile(
    r"(?P<quote>['\"])(?:~|\.{0,2})/[^'\"\n]*(?P=quote)"
    r"|(?<![\w<>./:])(?:~|\.{1,2})?/(?:[\w.+@=~%,-]+/)*[\w.+@=~%-]+/?"
    r"|(?<![\w<>./])(?:[\w.+@=-]+/)+[\w.+@=-]+\.(?:py|pyc|so|cpp|cc|cu|h|json|toml|yaml|log)\b[\w.]*"
)
_VARYING: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"\b(?:[0-9a-fA-F]{4,8}:)[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.\d)?\b"), "<bus>"),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<address>"),
    (
        re.compile(
            r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?\b"
        ),
        "<time>",
    ),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    (
        re.compile(r"\b\d+(?:\.\d+)? ?(?:ns|us|µs|ms|s|secs?|seconds?|min|mins|minutes?|hours?)\b"),
        "<time>",
    ),
    (re.compile(r"\b\d+(?:\.\d+)? ?[KMGT]i?B\b"), "<size>"),
    (re.compile(r"\b\d+(?:\.\d+)?/<size>"), "<size>/<size>"),
    (re.compile(r"\bcuda:\d+\b"), "cuda:<device>"),
    (re.compile(r"\bGPU( ?)\d+\b"), r"GPU\1<device>"),
    (re.compile(r"\b((?i:pid|process|thread)(?: id)?)(\s*[=:#]?\s*)\d+\b"), r"\1\2<pid>"),
    # torch names each program that holds memory of a GPU that is full.
    (re.compile(r"(?: Process <pid> has <size> memory in use\.)+"), ""),
    (re.compile(r"\b((?i:port))(\s*[=:#]?\s*)\d+\b"), r"\1\2<port>"),
    (re.compile(r"((?:\d{1,3}\.){3}\d{1,3}|\blocalhost|\[[0-9a-f:]*\]):\d+\b"), r"\1:<port>"),
    (re.compile(r"\b((?i:line)) \d+\b"), r"\1 <line>"),
    (re.compile(r"(<path>|\.py):\d+(?::\d+)?\b"), r"\1:<line>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b"), "<id>"),
)


def signature(failure_text: str) -> str:
    """What failed, so that the same failure of two runs reads the same; "" for an empty text.

    The type and the message of the innermost error that means something, without addresses,
    paths, process numbers, ports, times, sizes of memory, hashes and line numbers.

    >>> signature("OSError: [Errno 98] port 4711 of pid 12 at /run/x.sock is in use")
    'OSError: [Errno 98] port <port> of pid <pid> at <path> is in use'
    """
    text, settled = failure_text, ""
    # What is left can match anew (a cut ends a word), and a signature must be its own signature.
    for _ in range(8):
        settled = _clip(_settle(_why(_lines(text))), SIGNATURE_LIMIT)
        if settled == text:
            break
        text = settled
    return settled


def reason(failure_text: str) -> str:
    """The first line of why, for a person: at most 200 characters; "" for an empty text.

    A path keeps only its last part, since a record is published and a path can name its user.

    >>> reason("ImportError: /home/joe/lib/vllm/_C.abi3.so: undefined symbol: _ZN3c10E")
    'ImportError: _C.abi3.so: undefined symbol: _ZN3c10E'
    """
    return _clip(_PATH.sub(_last_part, _why(_lines(failure_text))), REASON_LIMIT)


def _lines(text: str) -> list[str]:
    lines: list[str] = []
    for raw in _ESCAPE.sub("", text).splitlines():
        line = _CONTROL.sub(" ", raw)
        if not (lines and _RAISED.fullmatch(lines[-1])):
            line = _ASSERT.sub("AssertionError: assert ", line)
        while (bare := _PREFIX.sub("", line, count=1)) != line:
            line = bare
        lines.append(line.rstrip())
    return [line for line in lines if line.strip()]


def _why(lines: list[str]) -> str:
    """The one line that says why: an error's type and message, else how it died, else the last."""
    errors = [(at, found) for at, line in enumerate(lines) if (found := _RAISED.fullmatch(line))]
    while errors:
        at, found = errors.pop()
        said = (found["message"] or "").strip()
        if errors and (_WRAPPERS.search(said) or _is_caused(lines, errors[-1][0], at)):
            continue
        name = found["type"]
        if name in _BARE:
            name = ".".join([*found["module"].rstrip(".").split(".")[-1:], name]).lstrip(".")
        below = _below(said, lines[at + 1 : at + 1 + _MOST_BELOW])
        return _one_line(": ".join(part for part in (name, said, below) if part))
    died = [found for line in lines if (found := _DIED.fullmatch(line))]
    if died:
        words = [found["thrown"] or found["what"] or "" for found in died]
        thrown = ": ".join(word for word in words if word)
        last = died[-1]
        return _one_line(
            next((found["fatal"] for found in died if found["fatal"]), "")
            or thrown
            or (last["fault"] or "")
        )
    return _one_line(lines[-1]) if lines else ""


def _below(said: str, lines: list[str]) -> str:
    """What the lines below a message add to it, where it says only that there is more."""
    if _INVALID.fullmatch(said):
        return _first_fault(lines)
    if _NOT_COMPILED.fullmatch(said):
        told = next((found for line in lines if (found := _COMPILER.fullmatch(line))), None)
        if told:
            return told["said"]
        outputs = [at for at, line in enumerate(lines[:-1]) if line.strip() == "Output:"]
        return lines[outputs[0] + 1].strip() if outputs else ""
    return ""


def _first_fault(lines: list[str]) -> str:
    """The first fault of a list of pydantic's: the field, where it names one, and what it is."""
    parts: list[str] = []
    for line in lines[:2]:
        if _NOT_TELLING.match(line) or _RAISED.fullmatch(line):
            break
        parts.append(_INPUT.sub("", line.strip()))
        if " " in parts[-1]:
            break
    return ": ".join(parts)


def _is_caused(lines: list[str], earlier: int, later: int) -> bool:
    return any(_BECAUSE in line for line in lines[earlier + 1 : later])


def _settle(text: str) -> str:
    text = _PATH.sub(lambda found: f"{found['quote'] or ''}<path>{found['quote'] or ''}", text)
    for varying, name in _VARYING:
        text = varying.sub(name, text)
    return text


def _last_part(found: re.Match[str]) -> str:
    quote = found["quote"] or ""
    return quote + found[0].strip("'\"").rstrip("/").rpartition("/")[2] + quote


def _one_line(text: str) -> str:
    return " ".join(text[:_LINE_LIMIT].split())


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
