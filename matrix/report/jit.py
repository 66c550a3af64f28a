"""The just-in-time builds of a run, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from matrix._util.text import clean, seconds
from matrix.record.content import plain
from matrix.record.jit_modules import ListedModule
from matrix.record.model import Record

_SCHEMA = 1


def render(record: Record, path: str, *, is_new: bool, written: bool) -> str:
    """Return the step, every module with its seconds and who built it, and the list's heading.

    `path` is the list's; `is_new`: rows for it follow; `written`: they are added to it.
    """
    jit = record.jit
    if jit is None:
        return "the record lists no kernels that were built just in time\n"
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


def to_json(
    record: Record, name: str, path: str, new: Sequence[ListedModule], *, written: bool
) -> str:
    """Return the step, every module, and what is new for the list at `path`, as JSON.

    `name` is the record's; `written`: the new modules were added to the list.
    `data/jit.schema.json` describes it.
    """
    content = {
        "schema": _SCHEMA,
        "record": name,
        "cell": record.cell,
        "jit": record.jit,
        "list": path,
        "new": list(map(_listed, new)),
        "written": written,
    }
    return json.dumps(content, indent=1, sort_keys=True, default=plain) + "\n"


def _listed(row: ListedModule) -> dict[str, object]:
    module = row.module
    return {
        "vllm": row.vllm.text,
        "capability": row.capability,
        "library": module.library,
        "name": module.name,
        "generator": module.generator,
        "arguments": dict(module.arguments),
        "evidence": list(row.evidence),
    }
