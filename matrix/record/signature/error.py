"""The error of a text that names the cause: the innermost that has a meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from matrix.record.signature.compilers import (
    build_fault,
    faults_of,
    is_build,
    kernel_fault,
    without_steps,
)
from matrix.record.signature.conflict import conflict_in
from matrix.record.signature.lines import one_line
from matrix.record.signature.patterns import (
    ASIDE,
    BARE,
    BECAUSE,
    COMMAND_FAILED,
    COMMAND_PATTERNS,
    DIED,
    EMBEDDED,
    ENDS_TRACEBACK,
    EXTENSION,
    FAILED_WORKER,
    FAKE_RUN,
    IMPORT_FAILED,
    INPUT,
    INVALID,
    MEANWHILE,
    MOST_BELOW,
    NOT_A_MESSAGE,
    NOT_LOADED,
    NOT_TELLING,
    QUOTED_ERROR,
    RAISED,
    TRACEBACK,
    WRAPPER_TYPES,
    WRAPPERS,
)


class Reading:
    """A failure's text as lines, with the errors in it and what its build tools printed."""

    def __init__(self, lines: Sequence[str]) -> None:
        """Find the errors of these lines, and what build tools printed, which may be thousands."""
        self.lines = lines
        self.errors = _errors_of(lines)
        self.faults = faults_of(lines)


def why(lines: Sequence[str]) -> str:
    """Return the line that says why: an error's type and message, how it died, or the last one."""
    reading = Reading(lines)
    message, at = why_and_where(reading)
    return introduced(reading, message, at)


def why_and_where(reading: Reading) -> tuple[str, int | None]:
    """Return the line that says why, and the place of its error in the text, if it is one."""
    chosen = _innermost(reading)
    if chosen is None:
        return _without_errors(reading.lines), None
    at, found = reading.errors[chosen]
    message = _message(reading, chosen)
    if loading := _failed_import(reading, chosen):
        return loading, None
    if _is_wrapper(reading, chosen, message) and (better := _elsewhere(reading.lines, message)):
        return better, None
    name = found["type"]
    if name in BARE:
        name = ".".join([*found["module"].rstrip(".").split(".")[-1:], name]).lstrip(".")
    return one_line(": ".join(part for part in (name, message) if part)), at


def introduced(reading: Reading, message: str, at: int | None) -> str:
    """Return a bare error with the line right above it, if that introduces it: `... raised:`."""
    places = [place for place, _ in reading.errors]
    if ": " in message or at is None or at - 1 not in places:
        return message
    before, wrapper = reading.errors[places.index(at - 1)]
    if not reading.lines[before].endswith(":"):
        return message
    return one_line(f"{wrapper['type']}: {(wrapper['message'] or '').strip()} {message}")


def _errors_of(lines: Sequence[str]) -> list[tuple[int, re.Match[str]]]:
    """Return the lines that name an error and its message, with their places.

    A line right below the error of a traceback is more of its message, or a note that was added
    to it (Python 3.11 and newer), unless that error only introduces it: `backend=... raised:`.
    """
    errors: list[tuple[int, re.Match[str]]] = []
    in_traceback = False
    last = -2  # the place of the last line that belongs to the error of a traceback
    for index, line in enumerate(lines):
        found = None if line[:1] == " " else RAISED.fullmatch(line)
        if in_traceback and not line.startswith(" "):
            found = found or ENDS_TRACEBACK.fullmatch(line)
            if found and found["type"].isupper():  # a line of a log: WARNING: ...
                found = None
            in_traceback = found is None
            last = index if found and not line.endswith(":") else last
        elif found and last == index - 1:
            last, found = index, None
        if found:
            errors.append((index, found))
        in_traceback = in_traceback or TRACEBACK in line
    return errors


def last_words(lines: Iterable[str]) -> str:
    """Return what C++ or the interpreter printed when the process died; "" if neither did."""
    died = [found for line in lines if (found := DIED.fullmatch(line))]
    if not died:
        return ""
    words = [found["thrown"] or found["what"] or "" for found in died]
    thrown = ": ".join(word for word in words if word)
    last = died[-1]
    return one_line(
        next((found["fatal"] for found in died if found["fatal"]), "")
        or thrown
        or (last["fault"] or "")
    )


def _innermost(reading: Reading) -> int | None:
    """Return the number of the last error that neither points elsewhere nor has another cause."""
    errors = reading.errors
    caused: int | None = None
    for number in range(len(errors) - 1, -1, -1):
        if _is_wrapper(reading, number, _message(reading, number)):
            continue
        if number and _is_caused(reading.lines, errors[number - 1][0], errors[number][0]):
            caused = number
            continue
        return number
    if caused is not None or not errors:
        return caused
    # All point elsewhere: the first is the nearest to it, unless it only repeats the next.
    telling = (
        number for number, (_, found) in enumerate(errors) if found["type"] != "RayTaskError"
    )
    return next(telling, 0)


def _message(reading: Reading, number: int) -> str:
    """Return the message of an error, with what is below it if that says what failed."""
    lines = reading.lines
    at, found = reading.errors[number]
    message = (found["message"] or "").strip()
    for command, shortened in COMMAND_PATTERNS:
        message = command.sub(shortened, message)
    below = lines[at + 1 : at + 1 + MOST_BELOW]
    if found["type"] == "TorchRuntimeError" and (raised := FAKE_RUN.match(message)):
        # torch 2.7 puts what was raised into the line; before that, it is the next one.
        return raised["raised"] or next(iter(below), "").strip() or message
    if not message and lines[at].endswith(":"):
        return _spilled(found["type"], below)
    if INVALID.fullmatch(message):
        return ": ".join(part for part in (message, _first_fault(below)) if part)
    if fault := kernel_fault(message, below):
        return _embedded(fault) or fault
    if is_build(message):
        message = without_steps(message)
        fault = build_fault(lines, reading.faults, at)
        return f"{message.rstrip(' .:')}: {fault}" if fault and fault not in message else message
    return message


def _is_wrapper(reading: Reading, number: int, message: str) -> bool:
    """Tell whether an error only says that something else failed."""
    lines, errors = reading.lines, reading.errors
    at, found = errors[number]
    if WRAPPERS.search(message):
        return True
    if COMMAND_FAILED.match(message):
        handled = number and any(MEANWHILE in line for line in lines[errors[number - 1][0] : at])
        return not handled and not (is_build(message) and build_fault(lines, reading.faults, at))
    return bool(WRAPPER_TYPES.fullmatch(found["type"]))


def _failed_import(reading: Reading, chosen: int) -> str:
    """Return why an extension did not load whose operator the chosen error misses; "" if unknown.

    Which operator is missed first depends on the model.
    """
    lines, errors = reading.lines, reading.errors
    at, found = errors[chosen]
    missed = NOT_LOADED.search(found["message"] or "")
    if missed is None:
        return ""
    namespace = missed[missed.lastindex or 0]
    failed = [
        (logged["name"].replace("/", ".").rpartition(".")[2], message)
        for line in lines[:at]
        if (logged := IMPORT_FAILED.search(line)) and (message := _embedded(line))
    ]
    exact = (text for name, text in failed if name == namespace)
    # One extension has operators in several namespaces, and not each that fails is logged.
    other = (text for name, text in failed if EXTENSION.fullmatch(name))
    if message := next(exact, "") or (next(other, "") if EXTENSION.fullmatch(namespace) else ""):
        return message
    library = re.compile(
        rf"(?<!\w){re.escape(namespace)}(?:\.[\w-]+)*\.so\b|\.{re.escape(namespace)}'"
    )
    for place, earlier in errors[:chosen]:
        if earlier["type"] in ("ImportError", "OSError") and library.search(lines[place]):
            return one_line(f"{earlier['type']}: {earlier['message'] or ''}")
    return ""


def _without_errors(lines: Sequence[str]) -> str:
    """Return why, in a text without an error on a line of its own."""
    return (
        conflict_in(lines)
        or last_words(lines)
        or next((message for line in lines if (message := _embedded(line))), "")
        or one_line(_last_telling(lines))
    )


def _last_telling(lines: Sequence[str]) -> str:
    """Return the last line, without hints and versions below what they belong to."""
    telling = (line for line in reversed(lines) if not ASIDE.match(line))
    return next(telling, lines[-1] if lines else "")


def _elsewhere(lines: Sequence[str], message: str) -> str:
    """Return the error that a wrapper quotes, or that the text has in another form; "" if none."""
    quoted, failed = QUOTED_ERROR.search(message), FAILED_WORKER.match(message)
    return (
        (one_line(quoted["message"]) if quoted else "")
        or _embedded(message)
        or conflict_in(lines)
        or next((error for line in lines if (error := _embedded(line))), "")
        or last_words(lines)
        or (one_line(f"RuntimeError: {failed['message']}") if failed else "")
    )


def _embedded(line: str) -> str:
    """Return `Type: message` of an error that a line has as Python's repr; "" if it has none.

    >>> _embedded("Failed to import from vllm._C with ImportError('x.so: undefined symbol: y')")
    'ImportError: x.so: undefined symbol: y'
    """
    found = EMBEDDED.search(line)
    if found is None:
        return ""
    message = found["message"].partition("\\n")[0].replace("\\'", "'").replace('\\"', '"')
    return one_line(f"{found['type']}: {message}")


def _spilled(kind: str, below: Sequence[str]) -> str:
    """Return the message of an error that begins with a line break; "" if it has none."""
    if not below or kind == "AssertionError" or WRAPPER_TYPES.fullmatch(kind):
        return ""
    if NOT_A_MESSAGE.match(below[0]) or RAISED.fullmatch(below[0]):
        return ""
    return below[0].strip()


def _first_fault(lines: Sequence[str]) -> str:
    """Return the first fault of a list by pydantic: its field, if it names one, and what it is."""
    parts: list[str] = []
    for line in lines[:2]:
        if NOT_TELLING.match(line) or RAISED.fullmatch(line):
            break
        parts.append(INPUT.sub("", line.strip()))
        if " " in parts[-1]:
            break
    return ": ".join(parts)


def _is_caused(lines: Sequence[str], earlier: int, later: int) -> bool:
    return any(BECAUSE in line for line in lines[earlier + 1 : later])
