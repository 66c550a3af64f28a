"""The operators that a release's CUDA extension has, read from the file without loading it."""

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

_FIRST = b"(Tensor"
_ROUTER = re.compile(r"(\w*topk\w*)\(.*\) -> .+")


def router_schemas(package: Path, namespace: str) -> dict[str, str]:
    """Return the schemas, by name, of the operators that choose experts.

    They are in the extension that is named for their namespace; its name may have a suffix.
    """
    found: dict[str, str] = {}
    for extension in sorted(package.glob(f"{namespace}*.so")):
        for schema in _schemas(extension):
            name = _ROUTER.fullmatch(schema)
            if name is not None:
                found[name[1]] = schema
    return found


def _schemas(extension: Path) -> Iterator[str]:
    """Yield the strings of a file that have the form of a schema whose first value is a tensor."""
    if extension.stat().st_size == 0:
        return
    with (
        extension.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        at = content.find(_FIRST)
        while at >= 0:
            start = content.rfind(b"\0", 0, at) + 1
            end = content.find(b"\0", at)
            end = len(content) if end < 0 else end
            yield content[start:end].decode("utf-8", "replace")
            at = content.find(_FIRST, end)
