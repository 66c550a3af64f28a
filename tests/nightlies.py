"""Builds of torch and vLLM on the tests' index: small wheels with metadata beside them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from local_index import Served

LINUX = "manylinux_2_17_x86_64"


def publish(
    served: Served, project: str, version: str, *requires: str, python: str = "312", **facts: Any
) -> None:
    """Serve a wheel of a version for one Python, with its metadata (PEP 658)."""
    lines = [f"Requires-Dist: {line}" for line in requires]
    head = ["Metadata-Version: 2.1", f"Name: {project}", f"Version: {version}"]
    text = "\n".join([*head, "Requires-Python: >=3.10", *lines, ""])
    content = served.wheel({f"{project}-{version}.dist-info/METADATA": text})
    name = f"{project}-{version}-cp{python}-cp{python}-{LINUX}.whl"
    served.add(project, name, content, pep658=text, **facts)


def serve_nightlies(served: Served, days: Iterable[date], minor: str = "2.17") -> None:
    """Serve a torch and its torchvision of each of these days."""
    for day in days:
        uploaded = f"{day.isoformat()}T08:00:00.000000Z"
        torch = f"{minor}.0.dev{day:%Y%m%d}"
        publish(served, "torch", f"{torch}+cu130", upload_time=uploaded)
        publish(
            served, "torchvision", f"0.31.0.dev{day:%Y%m%d}+cu130", f"torch=={torch}",
            upload_time=uploaded,
        )  # fmt: skip
