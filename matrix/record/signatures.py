"""Failure text in a form that compares across runs, and its first line of why for a person.

A signature is `Type: message @ package/module.py:function`: the innermost error that means
something, and the innermost frame of a package that is no plumbing, where the text has one.

Pure, and importable inside a cell.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matrix.record.model import Case

__all__ = ["REASON_LIMIT", "SIGNATURE_LIMIT", "reason", "signature", "signature_of"]

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
    r"|\([\w =-]{1,80} pid=\d{1,9}(?:, ip=[\d.]{1,15})?\) ?"  # vLLM and Ray, those of workers
    r"|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d [\d:]+ (?:\[[^\]]*\]|[\w./]+:\d+\]) ?"
    r"|\[rank\d+\]: ?"
    # torch's log: W0225 03:39:37.849000 1394121 torch/_dynamo/convert_frame.py:1125] [1/0]
    r"|[VDIWE]\d{4} [\d:.]+ \d+ [\w./-]+:\d+\] ?(?:\[\d+/\d[\d_]*\] ?)?"
    r"|\[?\d{4}-\d\d-\d\dT[\d:.]+Z\]? "  # CI services put the time before each line
    r")"
)
_MEMBER = re.compile(r"(?P<indent> *)\+(?:-\+)?-{4,} (?P<number>\d+|\.\.\.) -{4,}")
_MEMBERS_END = re.compile(r"(?P<indent> *)\+-{20,}")
_BAR = re.compile(r"^ *(?:\| ?|\+ (?=Exception Group Traceback))")
_ASSERT = re.compile(r"^E +assert ")
_RAISED = re.compile(
    r"(?P<module>(?:[A-Za-z_]\w*\.)*)"
    r"(?P<type>(?:[A-Z]\w*)?"
    r"(?:Error|Exception|Exit|Interrupt|Failed|Failure|OutOfResources|Unsupported|Violation))"
    r"(?:: ?(?P<message>.*))?"
)
# What ends a traceback is an error, whatever its name: triton.runtime.errors.OutOfResources.
_ENDS_TRACEBACK = re.compile(
    r"(?P<module>(?:[A-Za-z_]\w*\.)*)(?P<type>[A-Za-z_]\w*)(?:: ?(?P<message>.*))?"
)
_TRACEBACK = "Traceback (most recent call last)"
_BECAUSE = "The above exception was the direct cause of the following exception:"
_MEANWHILE = "During handling of the above exception, another exception occurred:"
_ENDED = re.compile(
    r"(?P<how>killed by \S+(?: \(out of memory[^()]*\))?"
    r"|the process exited with .{1,80} before the test ended"
    r"|timed out after \S+(?: s)?)"
    r"(?:; SIGKILL did not end \d+ of its processes)?"
)
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
_WRAPPERS = re.compile(
    r"root cause above|stack trace for root cause|backend=.* raised:|^\w+ failed during startup"
)
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
_LIBRARY = re.compile(r"[^/]+\.so(?:\.\d+)*")
# A file that a person named, so that which one is missing is told: config.json, pytorch_model.bin.
_NAMED = re.compile(r"[A-Za-z][A-Za-z_-]{0,40}\d?\.[a-z]{1,12}")
# A Python's own advice, which each release words otherwise.
_ADVICE = re.compile(
    r"\.? (?:Or did|Did) you (?:mean|forget to import):? ['\"][^'\"]*['\"]"
    r"(?: instead of ['\"][^'\"]*['\"])?\??"
)
# What another Python says in other words; the newest one's are kept.
_REWORDED: Sequence[tuple[re.Pattern[str], str]] = (
    (
        re.compile(r"\b(?:local variable (?P<name>'\w+') referenced before assignment)$"),
        r"cannot access local variable \g<name> where it is not associated with a value",
    ),
    (
        re.compile(
            r"\bfree variable (?P<name>'\w+') referenced before assignment in enclosing scope$"
        ),
        r"cannot access free variable \g<name> where it is not associated with a value in"
        r" enclosing scope",
    ),
    (
        re.compile(
            r"(?P<what>\bCan't instantiate abstract class \S+) "
            r"(?:with|without an implementation for) (?P<methods>abstract methods?) "
            r"(?P<names>.*)$"
        ),
        r"\g<what> without an implementation for \g<methods> \g<names>",
    ),
    (re.compile(r" and no __dict__ for setting new attributes$"), ""),
    (
        re.compile(r"(?P<name>'\w+') is an invalid keyword argument for (?P<call>[\w.]+\(\))$"),
        r"\g<call> got an unexpected keyword argument \g<name>",
    ),
    (re.compile(r"\b(max|min)\(\) arg is an empty sequence$"), r"\1() iterable argument is empty"),
    (re.compile(r"(?<=string indices must be integers), not '\w+'$"), ""),
)
_ABSTRACT = re.compile(r"(?<=abstract method )\w+$|(?<=abstract methods )\w+(?:, \w+)*$")
# The order of a set of texts changes with each process.
_SET = re.compile(r"\{('[^'{}]*'(?:, '[^'{}]*')+)\}")
# Torch wraps what went wrong in these, in one release more than in another.
_WRAPPED = re.compile(
    r"(?:(?:[a-z_]\w*\.)*(?:InductorError|BackendCompilerFailed|LoweringException): )+"
    r"(?=(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)\b)"
)
_VARYING: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"\b(?:[0-9a-fA-F]{4,8}:)[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.\d)?\b"), "<bus>"),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<address>"),
    (re.compile(r"\.(?:cpython|pypy)-?3\d+[\w-]*(?=\.so\b)"), ""),
    (
        re.compile(r"\b__compiled_fn_\d+(?:_[0-9a-fA-F]{8}(?:_[0-9a-fA-F]+){4})?\b"),
        "__compiled_fn_<n>",
    ),
    (re.compile(r"\b(torch_dynamo_resume_in_\w+?_at)_\d+\b"), r"\1_<line>"),
    (re.compile(r"\b((?:triton|cpp)_(?:[a-z]{2,4}_)?fused)_\w+"), r"\1_<kernel>"),
    (re.compile(r"\b((?:sub|sub_)?graph|graph_module|submod|primals|tangents)_\d+\b"), r"\1_<n>"),
    (re.compile(r"\b(buf|op)\d+\b"), r"\1<n>"),
    (re.compile(r"\barg\d+_\d+\b"), "arg<n>"),
    (re.compile(r"(<eval_with_key>)\.\d+\b"), r"\1.<n>"),
    # Inductor names a file by its content's hash, in base 32; tempfile by eight random characters.
    (re.compile(r"\bc[a-z2-7]{48,54}\b"), "<generated>"),
    (re.compile(r"\btmp[a-z0-9_]{8}\b"), "<tmp>"),
    (re.compile(r"\b\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
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
    (re.compile(r"(?<![\w.])(?!127\.|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}:<port>"), "<host>:<port>"),
    (re.compile(r"\b((?i:line)) \d+\b"), r"\1 <line>"),
    (re.compile(r"(<path>(?:/[\w.-]+)?|\.py):\d+(?::\d+)?\b"), r"\1:<line>"),
    (re.compile(r"\b(Worker_TP)\d+\b"), r"\1<rank>"),
    (re.compile(r"\b(rank)([ =:]{1,2})\d+\b"), r"\1\2<rank>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b"), "<id>"),
)


_FRAME_LIMIT = 120
_FRAME = re.compile(r"""\s*File "(?P<file>[^"]+)", line \d+(?:,? in (?P<function>\S+))?\s*""")
_PYTEST_FRAME = re.compile(r"(?P<file>[^\s:]+\.py):\d+: ?(?:in (?P<function>\S+)|[\w.]*)")
_DEFINED = re.compile(r"[> ]\s*(?:async )?def (?P<function>\w+)\(.*")
_CRASHED = "Fatal Python error:"
_THREAD = re.compile(r"Current thread .*\(most recent call first\):")
_USER_CODE = "from user code:"
# Of these the frames of the code that was traced say more than those of the tracer.
_TRACED = re.compile(r"torch\._dynamo\.exc\.(?!BackendCompilerFailed|InternalTorchDynamoError)")
_SIGNED = re.compile(r"(?P<said>.*) @ (?P<where>(?:[\w.<>+-]+/)+[\w.<>+-]+\.py:[\w<>]+…?|…\S+)")

_INSTALLED = re.compile(r".*(?:site|dist)-packages/")
_STANDARD = re.compile(r"(?:.*/)?lib(?:64)?/python3\.\d+/")
_PACKAGES = frozenset(
    ("flashinfer", "matrix", "torch", "torchaudio", "torchvision", "transformers", "triton", "vllm")
)
# What only passes a call on, and stands innermost for faults of every kind.
_PLUMBING_FILES = re.compile(
    r"(?:_pytest|pluggy|pytest|pydantic|typing_extensions)\b.*"
    r"|torch/_(?:compile|ops|utils_internal)\.py|torch/overrides\.py"
    r"|torch/_dynamo/(?:convert_frame|eval_frame|repro/\w+)\.py"
    r"|torch/fx/(?:graph_module|_lazy_graph_module|interpreter)\.py"
    r"|torch/utils/(?:_contextlib|_device|_python_dispatch)\.py"
    r"|torch/distributed/c10d_logger\.py"
    r"|vllm/tracing/.*"
)
_PLUMBING_FUNCTIONS = frozenset(
    (
        "__getattr__",
        "__getattribute__",
        "__torch_dispatch__",
        "__torch_function__",
        "_call_impl",
        "_call_user_compiler",
        "_child",
        "_compile",
        "_compile_inner",
        "_fn",
        "_inner",
        "_wrapped_call_impl",
        "_wrapper",
        "async_wrapper",
        "call_user_compiler",
        "compile_inner",
        "decorate_context",
        "inner",
        "sync_wrapper",
        "time_wrapper",
        "wrapped",
        "wrapper",
        "wrapper_function",
        # Python 3.12 has no frame of its own for these any more (PEP 709).
        "<dictcomp>",
        "<listcomp>",
        "<setcomp>",
    )
)
_FAILURES = ("failed", "crashed", "timed_out", "out_of_memory")


def signature(failure_text: str) -> str:
    """What failed, so that the same failure of two runs reads the same; "" for an empty text.

    The type and the message of the innermost error that means something, and where it was raised,
    without addresses, folders, process numbers, ports, times, sizes of memory, hashes, generated
    names and line numbers. A text that ends with how a process died is of that, and of no error
    that was only logged.

    >>> signature("OSError: [Errno 98] port 4711 of pid 12 at /run/x.sock is in use")
    'OSError: [Errno 98] port <port> of pid <pid> at <path>/x.sock is in use'
    >>> signature('''Traceback (most recent call last):
    ...   File "/x/site-packages/vllm/config/model.py", line 497, in __post_init__
    ... ValueError: no such model''')
    'ValueError: no such model @ vllm/config/model.py:__post_init__'
    """
    text, settled = failure_text, ""
    # What is left can match anew (a cut ends a word), and a signature must be its own signature.
    for _ in range(8):
        said, where = _said_and_where(_lines(text))
        suffix = f" @ {where}" if where else ""
        settled = _clip(_settle(said), SIGNATURE_LIMIT - len(suffix)) + suffix
        if settled == text:
            break
        text = settled
    return settled


def signature_of(case: Case) -> str | None:
    """The signature of a record's case, by today's rules; None for a case that did not fail.

    It is made of the failure's text, so that records of all ages compare; where there is none, or
    the process that wrote it was ended from outside, it is the one that was written.
    """
    if case.outcome not in _FAILURES or not (case.failure or "").strip():
        return case.signature
    return _signature_of(case.outcome, case.failure or "") or case.signature


@functools.lru_cache(maxsize=1024)
def _signature_of(outcome: str, failure: str) -> str:
    """The signature that the text tells, or "" where its end does not say how the case ended."""
    if outcome in ("crashed", "timed_out"):
        lines = _lines(failure)
        if not (lines and _ENDED.fullmatch(lines[-1])):
            return ""
    return signature(failure)


def reason(failure_text: str) -> str:
    """The first line of why, for a person: at most 200 characters; "" for an empty text.

    A path keeps only its last part, since a record is published and a path can name its user.

    >>> reason("ImportError: /home/joe/lib/vllm/_C.abi3.so: undefined symbol: _ZN3c10E")
    'ImportError: _C.abi3.so: undefined symbol: _ZN3c10E'
    """
    return _clip(_PATH.sub(_last_part, _why(_lines(failure_text))), REASON_LIMIT)


def _lines(text: str) -> list[str]:
    lines: list[str] = []
    text = _ESCAPE.sub("", text) if "\x1b" in text else text
    for raw in text.splitlines():
        line = raw[:_LINE_LIMIT]
        if not line.isprintable():
            line = _CONTROL.sub(" ", line)
        # Most lines of a trace are indented, and nothing stands before those.
        if not line[:1].isspace():
            if not (lines and _RAISED.fullmatch(lines[-1])):
                line = _ASSERT.sub("AssertionError: assert ", line)
            while (bare := _PREFIX.sub("", line, count=1)) != line:
                line = bare
        lines.append(line.rstrip())
    if "Exception Group Traceback" in "\n".join(lines):
        lines = _first_members(lines)
    return [line for line in lines if line.strip()]


def _first_members(lines: Iterable[str]) -> list[str]:
    """The text of groups of exceptions without their bars, and of each group its first alone.

    The others depend on what else went on at that time.
    """
    kept: list[str] = []
    left_out: int | None = None
    for line in lines:
        if found := _MEMBER.fullmatch(line):
            if left_out is None and found["number"] != "1":
                left_out = len(found["indent"])
        elif found := _MEMBERS_END.fullmatch(line):
            if left_out is not None and len(found["indent"]) <= left_out:
                left_out = None
        elif left_out is None:
            kept.append(_BAR.sub("", line))
    return kept


def _errors(lines: Sequence[str]) -> list[tuple[int, re.Match[str]]]:
    """The lines that name an error and its message, with their places.

    A line right below the error of a traceback is more of its message, or a note that was added
    to it (Python 3.11 and newer), unless that error only introduces it: `backend=... raised:`.
    """
    errors: list[tuple[int, re.Match[str]]] = []
    in_traceback = False
    told = -2  # the place of the last line that belongs to the error of a traceback
    for at, line in enumerate(lines):
        found = None if line[:1] == " " else _RAISED.fullmatch(line)
        if in_traceback and not line.startswith(" "):
            found = found or _ENDS_TRACEBACK.fullmatch(line)
            if found and found["type"].isupper():  # a line of a log: WARNING: ...
                found = None
            in_traceback = found is None
            told = at if found and not line.endswith(":") else told
        elif found and told == at - 1:
            told, found = at, None
        if found:
            errors.append((at, found))
        in_traceback = in_traceback or _TRACEBACK in line
    return errors


def _why(lines: Sequence[str]) -> str:
    """The one line that says why: an error's type and message, else how it died, else the last."""
    return _why_and_where(lines, _errors(lines))[0]


def _why_and_where(
    lines: Sequence[str], errors: Sequence[tuple[int, re.Match[str]]]
) -> tuple[str, int | None]:
    """The line that says why, and the place of its error in the text, if it is one."""
    for last in range(len(errors) - 1, -1, -1):
        at, found = errors[last]
        said = (found["message"] or "").strip()
        if last and (_WRAPPERS.search(said) or _is_caused(lines, errors[last - 1][0], at)):
            continue
        name = found["type"]
        if name in _BARE:
            name = ".".join([*found["module"].rstrip(".").split(".")[-1:], name]).lstrip(".")
        below = _below(said, lines[at + 1 : at + 1 + _MOST_BELOW])
        return _one_line(": ".join(part for part in (name, said, below) if part)), at
    return _last_words(lines) or (_one_line(lines[-1]) if lines else ""), None


def _last_words(lines: Iterable[str]) -> str:
    """What C++ or the interpreter said when the process died; "" where neither did."""
    died = [found for line in lines if (found := _DIED.fullmatch(line))]
    if not died:
        return ""
    words = [found["thrown"] or found["what"] or "" for found in died]
    thrown = ": ".join(word for word in words if word)
    last = died[-1]
    return _one_line(
        next((found["fatal"] for found in died if found["fatal"]), "")
        or thrown
        or (last["fault"] or "")
    )


def _said_and_where(lines: Sequence[str]) -> tuple[str, str]:
    """What went wrong and where, before what varies is taken out."""
    if len(lines) == 1 and (signed := _SIGNED.fullmatch(lines[0])):
        return _unwrapped(_why([signed["said"]])), signed["where"]
    ended = _ENDED.fullmatch(lines[-1]) if lines else None
    if ended:
        return _died(lines, ended["how"])
    errors = _errors(lines)
    said, at = _why_and_where(lines, errors)
    where = "" if at is None else _innermost(_frames(lines, at, {place for place, _ in errors}))
    return _unwrapped(said), where


def _unwrapped(said: str) -> str:
    said = _ADVICE.sub("", said)
    for worded, newest in _REWORDED:
        said = worded.sub(newest, said)
    said = _ABSTRACT.sub(_quoted, said)
    rest = _WRAPPED.sub("", said, count=1) if _WRAPPED.match(said) else said
    return said if rest == said else _why([rest])


def _quoted(found: re.Match[str]) -> str:
    return ", ".join(f"'{name}'" for name in found[0].split(", "))


def _died(lines: Sequence[str], how: str) -> tuple[str, str]:
    """How a process died: by C++'s last words where there are some, and where Python was then."""
    if not how.startswith("killed by"):
        return how, ""
    text = "\n".join(lines[:-1])
    _, words, rest = text.rpartition("terminate called after")
    thrown = _last_words((words + rest).partition(_CRASHED)[0].splitlines()) if words else ""
    crash = max((at for at, line in enumerate(lines) if line.startswith(_CRASHED)), default=None)
    stack: list[tuple[str, str]] = []
    if crash is not None:
        threads = [at for at in range(crash, len(lines)) if _THREAD.fullmatch(lines[at])]
        for line in lines[threads[0] + 1 :] if threads else ():
            found = _FRAME.fullmatch(line)
            if found is None:
                break
            stack.append((found["file"], found["function"] or ""))
    return thrown or how, _innermost(stack)


def _frames(lines: Sequence[str], at: int, errors: Container[int]) -> list[tuple[str, str]]:
    """The files and functions on the way to the error of that line, the innermost first."""
    if _TRACED.match(lines[at]):
        traced = _traced(lines, at)
        if traced:
            return traced
    frames: list[tuple[str, str]] = []
    next_error = at
    for place in range(at - 1, -1, -1):
        line = lines[place]
        if _TRACEBACK in line or _BECAUSE in line or _MEANWHILE in line:
            break
        if place in errors:
            # An error that wraps another ends with its name, on a line of its own.
            if frames or place != next_error - 1:
                break
            next_error = place
        elif found := _FRAME.fullmatch(line):
            frames.append((found["file"], found["function"] or ""))
    return frames or _pytest_frames(lines, at)


def _traced(lines: Sequence[str], at: int) -> list[tuple[str, str]]:
    frames: list[tuple[str, str]] = []
    below = lines[at + 1 : at + 1 + _MOST_BELOW]
    start = next((place for place, line in enumerate(below) if line.strip() == _USER_CODE), None)
    for line in below[start + 1 :] if start is not None else ():
        if found := _FRAME.fullmatch(line):
            frames.append((found["file"], found["function"] or ""))
        elif not line.startswith("    "):
            break
    return frames[::-1]


def _pytest_frames(lines: Sequence[str], at: int) -> list[tuple[str, str]]:
    """The same where pytest told the failure: its own entries end with `file.py:12: Error`."""
    frames: list[tuple[str, str]] = []
    function = ""
    for place, line in enumerate(lines):
        if found := _DEFINED.fullmatch(line):
            function = found["function"]
        elif found := _PYTEST_FRAME.fullmatch(line):
            frames.append((found["file"], found["function"] or function))
            function = ""
            if place > at:
                break
    return frames[::-1]


def _innermost(frames: Sequence[tuple[str, str]]) -> str:
    """The first frame of a package that is no plumbing, else the first of a package, else ""."""
    places = (
        (path, function.rpartition(".")[2])
        for file, function in frames
        if function and (path := _module(file))
    )
    first = next(places, None)
    if first is None:
        return ""
    told = (
        (path, function)
        for path, function in chain([first], places)
        if not _PLUMBING_FILES.fullmatch(path) and function not in _PLUMBING_FUNCTIONS
    )
    path, function = next(told, first)
    where = f"{path}:{_settle(function)}"
    return where if len(where) <= _FRAME_LIMIT else "…" + where[1 - _FRAME_LIMIT :]


def _module(file: str) -> str:
    """A file below the folder that its package lies in; "" where it is no package's that counts.

    >>> _module("/src/vllm/vllm/config/model.py")
    'vllm/config/model.py'
    """
    if not file.endswith(".py") or " " in file:
        return ""
    if found := _INSTALLED.match(file):
        return file[found.end() :] if "/" in file[found.end() :] else ""
    if _STANDARD.match(file):
        return ""
    parts = file.split("/")
    for at, part in enumerate(parts[:-1]):
        if part in _PACKAGES or parts[at : at + 2] == ["tests", "startup"]:
            # A checkout of vLLM is often a folder of that name too, below one of another package.
            while at + 2 < len(parts) and (
                parts[at + 1] == parts[at]
                or (parts[at + 1] in _PACKAGES and parts[at + 2] == parts[at + 1])
            ):
                at += 1
            return "/".join(parts[at:])
    return ""


def _below(said: str, lines: Sequence[str]) -> str:
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


def _first_fault(lines: Sequence[str]) -> str:
    """The first fault of a list of pydantic's: the field, where it names one, and what it is."""
    parts: list[str] = []
    for line in lines[:2]:
        if _NOT_TELLING.match(line) or _RAISED.fullmatch(line):
            break
        parts.append(_INPUT.sub("", line.strip()))
        if " " in parts[-1]:
            break
    return ": ".join(parts)


def _is_caused(lines: Sequence[str], earlier: int, later: int) -> bool:
    return any(_BECAUSE in line for line in lines[earlier + 1 : later])


@functools.lru_cache(maxsize=4096)
def _settle(text: str) -> str:
    text = _PATH.sub(_no_path, text)
    text = _SET.sub(lambda found: f"{{{', '.join(sorted(found[1].split(', ')))}}}", text)
    for varying, name in _VARYING:
        text = varying.sub(name, text)
    return text


def _no_path(found: re.Match[str]) -> str:
    """Of a path the name of a library or of a file that a person named, for the fault is about it.

    A library is found in another folder by each installation, so its name alone says all.
    """
    quote, quoted = found["quote"] or "", _last_part(found)
    name = quoted.strip("'\"")
    if _LIBRARY.fullmatch(name):
        return quoted
    return f"{quote}<path>{f'/{name}' if _NAMED.fullmatch(name) else ''}{quote}"


def _last_part(found: re.Match[str]) -> str:
    quote = found["quote"] or ""
    return quote + found[0].strip("'\"").rstrip("/").rpartition("/")[2] + quote


def _one_line(text: str) -> str:
    return " ".join(text[:_LINE_LIMIT].split())


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
