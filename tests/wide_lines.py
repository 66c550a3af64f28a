"""Lines of a report that are wider than they had to be."""

from matrix.report.fitting.words import is_command, tied


def wide_lines(text: str, width: int) -> list[str]:
    """Return the lines beyond a width that hold more than one word, and no command.

    A command may stand after the name of a row: `to do      uv pip install vllm`.
    """
    return [
        line
        for line in text.splitlines()
        if len(line) > width
        and " " in tied(line.strip())
        and not is_command(line.rpartition("  ")[2])
    ]
