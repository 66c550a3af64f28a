"""Why an installation failed, from what the installer said: the cell's fault, or this machine's."""

import re

from matrix.record.model import ErrorKind, RunError

__all__ = ["conflict_of", "error_of", "why_install_failed"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r"^[\s\u00d7\u2500-\u25ff\u00b7]+")
_URL = re.compile(r"`?\bhttps?://\S*?([^/\s`]*)/?`?(?=:?(?:[\s)`]|$))")
_CONFLICTS = ("No solution found", "ResolutionImpossible", "No matching distribution found")
_LONGEST = 400


def why_install_failed(output: str) -> RunError:
    """The kind and the meaningful line of a failed installation, without addresses of an index.

    `resolves` only where a resolver says that no set of packages fits. Anything else (no network,
    no such Python, a full disk) is this machine's, and says nothing of the cell.
    """
    text, lines = _plain(output)
    if full := next((line for line in lines if "No space left on device" in line), None):
        return RunError(kind=ErrorKind.NO_SPACE, reason=_clip(full))
    found = next((line for line in lines if any(each in line for each in _CONFLICTS)), None)
    if found is not None and "network was disabled" not in text:
        return RunError(kind=ErrorKind.RESOLVES, reason=_clip(_because(lines) or found))
    return RunError(
        kind=ErrorKind.INTERNAL, reason=f"the environment could not be made: {error_of(output)}"
    )


def error_of(output: str) -> str:
    """What an installer says went wrong, in one line without addresses of an index."""
    return _clip(_error(_plain(output)[1]))


def conflict_of(output: str) -> str | None:
    """The resolver's explanation that no set of packages fits, with its hints; None for no such.

    An explanation that only tells of a disabled network is none.
    """
    text, lines = _plain(output)
    if not any(each in text for each in _CONFLICTS) or "network was disabled" in text:
        return None
    hints = [line for line in lines if line.startswith("hint:")]
    return " ".join([_because(lines), *hints]).strip() or None


def _plain(output: str) -> tuple[str, list[str]]:
    """What was said without colours, and its lines without the frame that uv draws."""
    text = _COLOUR.sub("", output)
    return text, [plain for line in text.splitlines() if (plain := _FRAME.sub("", line).strip())]


def _because(lines: list[str]) -> str:
    """The resolver's own reason: a paragraph that it wraps over lines, told as one."""
    reason: list[str] = []
    for line in lines:
        if reason and line.startswith(("hint:", "error:", "help:")):
            break
        if reason or line.removeprefix("cause: ").startswith("Because "):
            reason.append(line.removeprefix("cause: "))
    return " ".join(reason)


def _error(lines: list[str]) -> str:
    """The line that says error, with the first cause that follows it."""
    at = next((i for i, line in enumerate(lines) if "error" in line.lower()), 0)
    error = lines[at].removeprefix("error: ") if lines else "the installer gave no reason"
    cause = next((line for line in lines[at + 1 :] if line.startswith("cause: ")), "")
    return f"{error}: {cause.removeprefix('cause: ')}" if cause else error


def _clip(text: str) -> str:
    text = " ".join(_URL.sub(r"\1", text).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
