"""Removal of the parts of a failure's text that vary from run to run."""

from __future__ import annotations

import re

from matrix.record.signature.patterns import LIBRARY, LIBRARY_FOLDERS, NAMED, PATH, SET, VARYING


def settle(text: str) -> str:
    """Return the text with a name in place of each address, path, time, number of a process etc."""
    text = PATH.sub(_no_path, LIBRARY_FOLDERS.sub("", text))
    text = SET.sub(lambda found: f"{{{', '.join(sorted(found[1].split(', ')))}}}", text)
    for varying, name in VARYING:
        text = varying.sub(name, text)
    return text


def _no_path(found: re.Match[str]) -> str:
    """Return what to keep of a path: the name of a library, or of a file that a person named.

    A library is found in another folder by each installation, so its name alone says all.
    """
    quote, quoted = found["quote"] or "", last_part(found)
    name = quoted.strip("'\"")
    if LIBRARY.fullmatch(name):
        return quoted
    return f"{quote}<path>{f'/{name}' if NAMED.fullmatch(name) else ''}{quote}"


def last_part(found: re.Match[str]) -> str:
    """Return the last part of a path that `PATH` found, in the quotes that it had."""
    quote = found["quote"] or ""
    return quote + found[0].strip("'\"").rstrip("/").rpartition("/")[2] + quote
