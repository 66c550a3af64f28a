"""The result of reading the records of some places, with or without an index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from matrix.errors import MatrixError
from matrix.record.model import Record
from matrix.store.summary import Times


@dataclass(frozen=True, kw_only=True)
class LoadedRecords:
    """Records with their paths, and one error for each file that is bad.

    `late` has what comes from the future: the path and when it says that it started. `times` are
    those of all records, also of older ones. `runs` has those that have a say in an attribution,
    each with how many runs of its kind (`matrix.store.fingerprint`) and setting it stands for.
    `running` are those whose run is not finished (`matrix.record.running`), which `records` has
    not. `first_on_cuda` is when each vLLM release first ran on CUDA, of all records, too.
    """

    records: list[tuple[Path, Record]]
    errors: list[MatrixError]
    late: list[tuple[str, str]]
    times: Times
    runs: Mapping[Path, int] = field(default_factory=dict)
    running: list[tuple[Path, Record]] = field(default_factory=list)
    first_on_cuda: Mapping[str, str] = field(default_factory=dict)
