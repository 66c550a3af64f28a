"""What a wheel has besides the package: the published records, for where no folder has any.

An editable wheel, such as that of each cell, has the checkout for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PublishedRecords(BuildHookInterface):
    """Adds the records of `results`, without the tables that are made of them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them where they are: a copy of the tree without `results` makes a wheel too."""
        if version != "standard":
            return
        for platform in ("cpu", "cuda"):
            folder = Path(self.root, "results", platform)
            if folder.is_dir():
                build_data["force_include"][str(folder)] = f"matrix/data/published/{platform}"
