"""The environments of tox.ini that are not cells, as a table in Markdown."""

from __future__ import annotations

from configparser import ConfigParser


def environment_table(text: str) -> str:
    """Return a table of the environments in the text of a tox.ini that describe themselves."""
    parser = ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.read_string(text)
    rows = ["| `tox -e` | does |", "|---|---|"]
    for section in parser.sections():
        kind, _, name = section.partition(":")
        if kind == "testenv" and "description" in parser[section]:
            description = " ".join(parser[section]["description"].split())
            rows.append(f"| `{name}` | {description.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"
