"""Notes on pairs of releases, as Markdown and for programs."""

from __future__ import annotations

from collections.abc import Iterable

from matrix._util.text import code, markdown
from matrix.rules.notes import Note


def section(notes: Iterable[Note]) -> str:
    """The notes as a section of Markdown; nothing where there is none."""
    told = [
        f"- {markdown(_of(each))}: {markdown(each.text, len(each.text))} "
        f"Evidence: {', '.join(map(code, each.evidence))}."
        for each in notes
    ]
    return "\n".join(["## What to know of some pairs\n", *told]) + "\n" if told else ""


def content(notes: Iterable[Note]) -> list[dict[str, object]]:
    """The notes for programs; null is any."""
    return [
        {
            "id": each.id,
            "platform": each.platform,
            "torch": each.torch.text,
            "vllm": each.vllm.text,
            "text": each.text,
            "evidence": list(each.evidence),
        }
        for each in notes
    ]


def _of(note: Note) -> str:
    """Of which pairs the note speaks, in words."""
    named = (("torch", note.torch.text), ("vLLM", note.vllm.text))
    pairs = ", ".join(f"{name} {text}" for name, text in named if text) or "every pair"
    return f"{pairs} on {note.platform}" if note.platform else pairs
