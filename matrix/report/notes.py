"""Notes on pairs of releases, as Markdown and for programs."""

from __future__ import annotations

from collections.abc import Iterable

from matrix._util.text import code, markdown
from matrix.rules.notes import Note


def section(notes: Iterable[Note]) -> str:
    """Return the notes as a section of Markdown; "" without a note."""
    items = [
        f"- {markdown(pairs_of(note))}: {markdown(note.text, len(note.text))} "
        f"Evidence: {', '.join(map(code, note.evidence))}."
        for note in notes
    ]
    return "\n".join(["## What to know of some pairs\n", *items]) + "\n" if items else ""


def content(notes: Iterable[Note]) -> list[dict[str, object]]:
    """Return the notes as JSON values; null means any."""
    return [
        {
            "id": note.id,
            "platform": note.platform,
            "torch": note.torch.text,
            "vllm": note.vllm.text,
            "text": note.text,
            "evidence": list(note.evidence),
        }
        for note in notes
    ]


def pairs_of(note: Note) -> str:
    """Return the pairs that the note is about, in words."""
    named = (("torch", note.torch.text), ("vLLM", note.vllm.text))
    pairs = ", ".join(f"{name} {text}" for name, text in named if text) or "every pair"
    return f"{pairs} on {note.platform}" if note.platform else pairs
