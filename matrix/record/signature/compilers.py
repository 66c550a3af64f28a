"""The message of a compiler, assembler or linker, if an error only reports its failure."""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from dataclasses import dataclass

from matrix.record.signature.lines import one_line
from matrix.record.signature.patterns import MOST_BELOW, TRACEBACK

_TOOLS = r"(?:ninja|nvcc|ptxas|hipcc|gcc|g\+\+|cc|c\+\+|clang(?:\+\+)?|ld|cmake|make)"
# Such an error says what failed, and not why: that is on other lines.
_BUILD = re.compile(
    r"(?i:compile error|compilation (?:error|failed)|failed to compile|build failed"
    r"|error (?:building|compiling)|codegen error)|`(?:ptxas|nvcc)` failed"
    rf"|Command '(?:\[')?[^' ]*?(?<![\w.]){_TOOLS}(?:-[\d.]+)?[' ]"
)
_PLACE = re.compile(r"at \d+:\d+:.*")
_CARET = re.compile(r"\s*\^\s*")
_TOOL = (
    r".*?(?P<tool>\b(?:ptxas|nvcc|nvlink|cicc)\b[^:]{0,200}?\b(?:fatal|error) *: .*)"
    r"|(?:\S*/)?ld(?:\.\w+)?: (?P<linker>cannot find [^\s:]+|.*undefined reference to .*?)"
    r"(?:: No such .*)?"
    r"|(?P<llvm>LLVM ERROR: .*)"
    r"|(?:\S*/)?(?:ba)?sh: (?:line )?(?:\d+: )?(?P<absent>\S+): "
    r"(?:command not found|not found|No such file or directory)"
)
_ERROR = r"\b(?:(?:fatal|catastrophic) )?error ?(?:#[\w-]+ ?)?: (?!ld returned|command ).*)"
_CERTAIN = re.compile(
    rf"{_TOOL}|\S+?(?::\d+){{1,2}}: (?P<message>{_ERROR}|\S+\(\d+\): (?P<placed>{_ERROR}"
)
_OTHER = re.compile(rf".*?(?P<message>{_ERROR}")
_WORDS = ("error", "fatal", "ld: ", "ERROR: ", "found", "No such file")
# ninja counts its steps, and the first of them follows in the same line.
_STEP = re.compile(r":? *\[\d+/\d+\] .*")
# What calls ninja says that it failed, each in words of its own, before what a tool printed.
_NINJA = re.compile(
    r"(?:\w+: )?(?:Ninja build failed(?:\. Ninja output)?"
    r"|Command 'ninja' returned non-zero exit status \d+"
    r"|Error (?:building extension '[^']*'|compiling objects for extension)): "
    r"(?P<fault>(?:ptxas|nvcc|nvlink|cicc|ld|LLVM ERROR|(?:(?:fatal|catastrophic) )?error)\b.*"
    r"|\S+: not found)"
)
_OUTPUT = "Output:"
_MOST_COMMAND = 20  # lines, from the error to its output


@dataclass(frozen=True, kw_only=True)
class ToolFault:
    """The message of a tool on that line; `certain` if it names the tool or the source."""

    at: int
    message: str
    certain: bool


def is_build(message: str) -> bool:
    """Tell whether a message says that a compiler, an assembler or a linker failed."""
    return bool(_BUILD.search(message))


def kernel_fault(message: str, below: Sequence[str]) -> str:
    """Return what Triton says of a kernel below its source and a caret; "" for another message."""
    if not _PLACE.fullmatch(message):
        return ""
    caret = next((index for index, line in enumerate(below) if _CARET.fullmatch(line)), None)
    return one_line(below[caret + 1]) if caret is not None and caret + 1 < len(below) else ""


def faults_of(lines: Sequence[str]) -> list[ToolFault]:
    """Return what compilers, assemblers and linkers say in a text."""
    found: list[ToolFault] = []
    for index, line in enumerate(lines):
        if not any(word in line for word in _WORDS):
            continue
        if certain := _CERTAIN.fullmatch(line):
            found.append(ToolFault(at=index, message=_tool_message(certain), certain=True))
        elif other := _OTHER.fullmatch(line):
            found.append(ToolFault(at=index, message=other["message"], certain=False))
    return found


def build_fault(lines: Sequence[str], faults: Sequence[ToolFault], at: int) -> str:
    """Return what a tool printed below the error of a build at that line, else above it.

    Below it is the output of its tools, up to the next traceback.
    """
    start = bisect.bisect_right(faults, at, key=lambda fault: fault.at)
    below = faults[start] if start < len(faults) else None
    between = lines[at + 1 : min(below.at, at + 1 + MOST_BELOW)] if below else ()
    if below and below.at - at <= MOST_BELOW and not any(TRACEBACK in line for line in between):
        return below.message
    for above in faults[max(0, start - MOST_BELOW) : start]:
        if above.certain and at - above.at <= MOST_BELOW:
            return above.message
    output = lines[at + 1 : at + 1 + _MOST_COMMAND]
    place = next((place for place, line in enumerate(output[:-1]) if line.strip() == _OUTPUT), None)
    return output[place + 1].strip() if place is not None else ""


def fault_of_ninja(message: str) -> str:
    """Return what a tool printed that ninja ran, from a message with it; "" for another message.

    FlashInfer, torch and `subprocess` put their own words before it.

    >>> fault_of_ninja("RuntimeError: Ninja build failed. Ninja output: nvcc: not found")
    'nvcc: not found'
    """
    found = _NINJA.fullmatch(message)
    return found["fault"] if found else ""


def without_steps(message: str) -> str:
    """Return the message of a failed build without the output that begins in the same line."""
    return _STEP.sub("", message)


def _tool_message(found: re.Match[str]) -> str:
    if absent := found["absent"]:
        return f"{absent.rpartition('/')[2]}: not found"
    if linker := found["linker"]:
        return f"ld: {linker}"
    return found["tool"] or found["llvm"] or found["message"] or found["placed"] or ""
