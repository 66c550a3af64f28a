"""The records that a policy may delete, without any record that is shown or named.

Pure. A cell here is always a cell on a platform.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from matrix.store.summary import HistoryError
from matrix.verdict.precedence import RunOrder


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """The policy: records beyond the `keep` newest of their cell that started before `before`.

    Where both are given, both must hold. `before` is a time in UTC as a record has it. Raises
    HistoryError for a policy that says nothing, or would keep none.
    """

    keep: int | None = None
    before: str | None = None

    def __post_init__(self) -> None:
        """Refuse a policy without a condition."""
        if self.keep is None and self.before is None:
            raise HistoryError("no policy: give --keep N, --older-than DAYS, or both")
        if self.keep is not None and self.keep < 1:
            raise HistoryError(f"--keep {self.keep}: must be 1 at least")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A record as it is stored: `key` names it, `order` sorts it from old to new.

    `shown`: the table shows it, or could; `failed`: it is the newest of its kind
    (`matrix.store.fingerprint`), and fails or drifts; `named`: an expectation, explanation or note
    names it; `first`: it is the first of its vLLM on CUDA, which decides what is held out. `paths`
    are all its files.
    """

    key: str
    cell: str
    platform: str
    order: RunOrder
    whole: bool
    shown: bool = False
    failed: bool = False
    named: bool = False
    first: bool = False
    paths: tuple[str, ...] = ()

    @property
    def started(self) -> str:
        """When it started, in UTC."""
        return self.order.started

    @property
    def is_protected(self) -> bool:
        """Whether it stays, whatever its age and whatever other records its cell has."""
        return self.shown or self.failed or self.named or self.first


def prunable(stored: Iterable[Stored], policy: RetentionPolicy) -> tuple[Stored, ...]:
    """Return what the policy deletes, oldest first, the same for any order of the records.

    Never the newest of a cell, nor its newest whole one, nor the newest of each kind that failed,
    nor one that the table shows, nor one that is named as evidence, nor a vLLM's first on CUDA.
    """
    cells: dict[tuple[str, str], list[Stored]] = {}
    for record in stored:
        cells.setdefault((record.cell, record.platform), []).append(record)
    gone: list[Stored] = []
    for records in cells.values():
        newest = sorted(records, key=lambda record: (record.order, record.key), reverse=True)
        last_whole = next((record for record in newest if record.whole), None)
        for rank, record in enumerate(newest):
            if rank == 0 or record is last_whole or record.is_protected:
                continue
            beyond = policy.keep is None or rank >= policy.keep
            old = policy.before is None or record.started < policy.before
            if beyond and old:
                gone.append(record)
    return tuple(
        sorted(gone, key=lambda record: (record.started, record.cell, record.platform, record.key))
    )
