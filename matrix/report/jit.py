"""The just-in-time builds of a run, as text."""

from __future__ import annotations

from matrix._util.text import clean, seconds
from matrix.record.model import Record


def render(record: Record, path: str, *, is_new: bool, written: bool) -> str:
    """Return the step, every module with its seconds and who built it, and the list's heading.

    `path` is the list's; `is_new`: rows for it follow; `written`: they are added to it.
    """
    jit = record.jit
    if jit is None:
        return "the record knows no kernels built just in time\n"
    why = f": {clean(jit.reason)}" if jit.reason else ""
    lines = [f"{clean(record.cell)}: the step took {seconds(jit.seconds)} s{why}"]
    width = max((len(clean(module.name)) for module in jit.modules), default=0)
    for module in jit.modules:
        by = clean(module.built_by or "not known who")
        again = "" if module.generator else ", cannot be listed"
        lines.append(
            f"  {clean(module.name):<{width}}  {seconds(module.seconds):>6}"
            f"  {clean(module.library)}, {by}{again}"
        )
    if is_new:
        lines.append(f"{'added to' if written else 'new for'} {clean(path)}:")
    else:
        lines.append(f"nothing new for {clean(path)}")
    return "\n".join(lines) + "\n"
