"""The origin of the torch and the vLLM of a run, in words."""

from __future__ import annotations

from matrix._util.text import clean
from matrix.record.model import Record
from matrix.record.origin import Origin


def made_words(origin: Origin | None) -> str | None:
    """Return how a vLLM was had whose sources a person named; None if no sources were named.

    >>> from matrix.catalog.cells import Made
    >>> made_words(Origin(project="vllm", made=Made.WITH_EXTENSIONS, extensions="vllm-1.whl"))
    'built with the extensions of vllm-1.whl'
    """
    if origin is None or origin.made is None:
        return None
    if origin.extensions is not None:
        return f"built with the extensions of {clean(origin.extensions)}"
    return str(origin.made)


def vllm_made(record: Record) -> str | None:
    """Return `made_words` of the vLLM of a record."""
    return made_words(record.origin("vllm"))
