"""Lines of a report that are wider than they had to be."""

from matrix.report.fitting.words import is_command, tied


def wide_lines(text: str, width: int) -> list[str]:
    """Return the lines beyond a width, but for a command and for one word that fits nowhere.

    Either may stand after other cells of its row: `to do      uv pip install vllm`.
    """
    return [line for line in text.splitlines() if len(line) > width and not _must(line, width)]


def _must(line: str, width: int) -> bool:
    cell = line.rpartition("  ")[2]
    indent = len(line) - len(line.lstrip())
    return is_command(cell) or (" " not in tied(cell.strip()) and indent + 4 + len(cell) > width)
