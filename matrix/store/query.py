"""Questions to many records: what the table needs of them, verdicts and times.

A record itself is read only for what its row (`matrix.store.database`) does not have. The platform
of a row stays text, here and in what is made of rows: an index or an archive may hold any.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from matrix._util.files import READ_LIMIT, read_bytes
from matrix.errors import MatrixError
from matrix.record.model import Record, RecordError
from matrix.rules.expectations import Expectations
from matrix.rules.provisional import Provisional
from matrix.store.database import OnProgress, RecordDatabase, failure, one_line
from matrix.store.layout import RecordSource
from matrix.store.loaded import LoadedRecords
from matrix.store.precedence_sql import CELL, CONTENDERS, last_first, struct
from matrix.store.retention import Stored
from matrix.store.sources import add, records_of, texts_of
from matrix.store.summary import HistoryError, Times
from matrix.verdict.agreement import first_starts
from matrix.verdict.judge import judge
from matrix.verdict.precedence import FAULTS, RUN_ORDER, FaultLevel, run_order
from matrix.verdict.states import Verdict

if TYPE_CHECKING:
    from matrix.store.protected import ProtectedRecords

_STORED = "path, source, file, cell, platform, started"
"""The columns of `matrix.store.sources.RowPlace`."""


class RunRow(NamedTuple):
    """A record as far as its summary (`matrix.store.summary.Summary`) describes it, and its path.

    `torch` and `vllm` are the minor releases of the cell's name where the record does not know what
    ran. `outcome_key` is equal where two runs ended alike.
    """

    path: str
    cell: str
    platform: str
    started: str
    torch: str
    vllm: str
    error: str | None
    jobs: int
    outcome_key: str
    has_cases: bool


class KeyVerdict(NamedTuple):
    """The verdict that a `verdict_key` stands for, with its comparison where it is provisional."""

    verdict: Verdict
    provisional: Provisional | None = None


class StoredRow(NamedTuple):
    """A record by its content, with the paths of all its files."""

    content: str
    cell: str
    platform: str
    started: str
    complete: bool
    paths: list[str]


class _Candidate(NamedTuple):
    """A record that can count, and the digest of its content."""

    path: str
    source: str | None
    file: str
    cell: str
    platform: str
    started: str
    content: str


class _Alike(NamedTuple):
    """The newest record of some runs that are alike, and how many they are."""

    path: str
    source: str | None
    file: str
    cell: str
    platform: str
    started: str
    runs: int


_SOME = 500  # records that are read at once to be judged


class History:
    """The rows of all records of some places, and the questions to them.

    Opening it brings the index of each folder up to date. Raises HistoryError if DuckDB is
    missing.
    """

    def __init__(
        self,
        places: Sequence[RecordSource],
        progress: OnProgress,
        *,
        index: bool | None = None,
        jobs: int | None = None,
    ) -> None:
        """Read the places. `index`: write one always, never, or (None) where `pays` says so."""
        self.rows = RecordDatabase(progress, jobs)
        try:
            add(self.rows, places, index=index)
            self.rows.set_running_aside()
        except failure() as error:
            self.close()
            raise _unsearchable(error) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> History:  # noqa: PYI034 (typing.Self is of Python 3.11)
        """Return this history, which closes at the end of the block."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Close. What DuckDB itself fails at ends in one line, a HistoryError."""
        self.close()
        if isinstance(error, failure()):
            raise _unsearchable(error) from None

    def close(self) -> None:
        """Free the memory and the temporary files; the indexes stay."""
        self.rows.close()

    @property
    def errors(self) -> list[MatrixError]:
        """Return an error for each bad place and file, by path."""
        bad = self.rows.execute(
            "SELECT path, fault FROM rows WHERE fault IS NOT NULL ORDER BY path"
        ).fetchall()
        return [*self.rows.errors, *(RecordError(f"{path}{fault}") for path, fault in bad)]

    def count(self) -> int:
        """Return the number of good record files."""
        return int(self.rows.execute("SELECT count(*) FROM rows WHERE fault IS NULL").fetchone()[0])

    def newest(self, late: str | None, repeats: int | None = 0) -> LoadedRecords:
        """Return what `matrix.store.load.newest_records` returns.

        Of each cell on each platform the records that can count (`matrix.verdict.precedence`).
        """
        say = self._attributable(late, repeats)
        rows = {row[0]: row[:6] for row in (*self._candidates(late), *say)}
        records, faults = records_of(self.rows, list(rows.values()))
        found = [(Path(path), record) for path, record in records.items()]
        found.sort(key=lambda pair: pair[0])
        runs = {Path(row.path): row.runs for row in say}
        errors = [*self.errors, *faults]
        return LoadedRecords(
            records=found,
            errors=errors,
            late=self.late(late),
            times=self.times(late),
            runs=runs,
            running=self._running(),
            first_on_cuda=self._first_on_cuda(),
        )

    def _first_on_cuda(self) -> Mapping[str, str]:
        """Return when each vLLM release first ran on CUDA."""
        return first_starts(
            self.rows.execute(
                "SELECT vllm, min(started) FROM rows"
                " WHERE fault IS NULL AND platform = 'cuda' AND vllm IS NOT NULL GROUP BY vllm"
            ).fetchall()
        )

    def _running(self) -> list[tuple[Path, Record]]:
        """Return the records of unfinished runs as they are now, also those that ended since."""
        held = self.rows.execute(f"SELECT {_STORED} FROM running ORDER BY path").fetchall()
        records, _ = records_of(self.rows, held)
        return [(Path(path), record) for path, record in records.items()]

    def late(self, late: str | None) -> list[tuple[str, str]]:
        """Return the path and start of each record from the future; none where all are."""
        future: list[tuple[str, str]] = self.rows.execute(
            "SELECT path, started FROM rows WHERE fault IS NULL AND started > ? ORDER BY path",
            [late],
        ).fetchall()
        return [] if len(future) == self.count() else future

    def shown(self, late: str | None) -> set[str]:
        """Return the digests of the contents of all records that the table could show."""
        return {row.content for row in self._candidates(late)}

    def first(self) -> set[str]:
        """Return the digests of the contents of the first record of each vLLM on CUDA."""
        starts = self._first_on_cuda()
        every = self.rows.execute(
            "SELECT content, vllm, started FROM rows"
            " WHERE fault IS NULL AND platform = 'cuda' AND vllm IS NOT NULL"
        ).fetchall()
        return {
            content
            for content, vllm, started in every
            for release, start in first_starts([(vllm, started)]).items()
            if starts[release] == start
        }

    def failing(self, late: str | None, expectations: Expectations) -> set[str]:
        """Return the digests of the contents of the newest record of each outcome that is a fault.

        A copy of it in the same second counts too.
        """
        faults = [key for key, fault in self._faults(expectations).items() if fault]
        found = self.rows.execute(
            f"""
            SELECT DISTINCT content FROM rows
            WHERE fault IS NULL AND verdict_key IN (SELECT unnest($faults))
            QUALIFY rank() OVER (
              PARTITION BY {CELL}, outcome_key ORDER BY {last_first(RUN_ORDER)}
            ) = 1
            """,
            {"late": late, "faults": faults},
        ).fetchall()
        return {content for (content,) in found}

    def _faults(self, expectations: Expectations) -> dict[str, FaultLevel]:
        """Return the fault that each `verdict_key` stands for."""
        return {
            key: FAULTS.get(judged.verdict, FaultLevel.NONE)
            for key, judged in self.verdicts(expectations).items()
        }

    def _candidates(self, late: str | None) -> list[_Candidate]:
        """Return the records that can count by some expectations.

        Two contenders with one verdict key have the same verdict by all of them, so that of as much
        evidence the newest can count, or one of several that started in the same second.
        """
        found = self.rows.execute(
            f"""
            WITH contenders AS ({CONTENDERS})
            SELECT {_STORED}, content FROM contenders
            QUALIFY rank() OVER (
              PARTITION BY {CELL}, verdict_key, evidence ORDER BY {last_first(RUN_ORDER)}
            ) = 1
            ORDER BY path
            """,
            {"late": late},
        ).fetchall()
        return [_Candidate(*row) for row in found]

    def _attributable(self, late: str | None, repeats: int | None) -> list[_Alike]:
        """Return what `newest_records` describes of `repeats`.

        Of several that started together as the newest of a kind, each is one; the first by path
        stands for the older ones too.
        """
        found = self.rows.execute(
            f"""
            WITH newest AS (
              SELECT *, {struct(RUN_ORDER)} AS run_order FROM rows WHERE fault IS NULL
              QUALIFY $most IS NULL
                OR rank() OVER (PARTITION BY {CELL} ORDER BY {last_first(RUN_ORDER)}) <= $most
            ), alike AS (
              SELECT *, count(*) OVER kinds AS runs, max(run_order) OVER kinds AS last FROM newest
              WINDOW kinds AS (PARTITION BY {CELL}, outcome_key, environment_key)
            ), last_runs AS (
              SELECT *, count(*) OVER kinds AS ties,
                row_number() OVER (kinds ORDER BY path) AS place
              FROM alike WHERE run_order = last
              WINDOW kinds AS (PARTITION BY {CELL}, outcome_key, environment_key)
            )
            SELECT {_STORED}, CASE WHEN place = 1 THEN runs - ties + 1 ELSE 1 END
            FROM last_runs ORDER BY path
            """,
            {"late": late, "most": repeats},
        ).fetchall()
        return [_Alike(*row) for row in found]

    def verdicts(
        self, expectations: Expectations, where: str = "true", values: Mapping[str, object] = {}
    ) -> dict[str, KeyVerdict]:
        """Return the verdict of each verdict key: one record of each is read and judged.

        `where` is SQL of this module, its parameters in `values`.
        """
        rows = self.rows.execute(
            f"""
            SELECT path, source, file, cell, platform, started, verdict_key FROM rows
            WHERE {where} AND fault IS NULL
            QUALIFY row_number() OVER (
              PARTITION BY verdict_key ORDER BY source IS NOT NULL, path
            ) = 1
            """,
            dict(values),
        ).fetchall()
        found: dict[str, KeyVerdict] = {}
        for start in range(0, len(rows), _SOME):
            some = rows[start : start + _SOME]
            of, faults = records_of(self.rows, [row[:6] for row in some])
            self.rows.errors += faults
            for row in some:
                # A file that was lost meanwhile: the rest of the list stays.
                found[row[6]] = _judged(of.get(row[0]), expectations)
        return found

    def times(
        self, late: str | None = None, *, most: int = 60, cell: tuple[str, str] | None = None
    ) -> Times:
        """Return the newest `most` times of each start of each case.

        They are those of `matrix.store.summary.times`.

        `late` as there. `cell`: of one cell on one platform alone.
        """
        rows = self.rows.execute(
            """
            WITH once AS (
              SELECT cell, platform, started, jobs, cases,
                row_number() OVER oldest_first AS age
              FROM rows WHERE fault IS NULL
                AND ($cell IS NULL OR (cell = $cell AND platform = $platform))
                AND (started <= $late OR (SELECT coalesce(min(started) > $late, true)
                  FROM rows WHERE fault IS NULL))
              WINDOW oldest_first AS (PARTITION BY cell, platform ORDER BY started, content)
              QUALIFY content IS DISTINCT FROM lag(content) OVER oldest_first
            ), flat AS (
              SELECT cell, platform, age, started, jobs, unnest(cases) AS c FROM once
            ), alike AS (
              SELECT cell, platform, c."case" AS name, jobs,
                max(age) FILTER (c.cold IS NOT NULL) AS cold_age,
                max(age) FILTER (c.warm IS NOT NULL) AS warm_age,
                arg_max((started, c.cold), age, $most) FILTER (c.cold IS NOT NULL) AS cold,
                arg_max((started, c.warm), age, $most) FILTER (c.warm IS NOT NULL) AS warm
              FROM flat GROUP BY ALL
            ), series AS (
              SELECT cell, platform, name, 'cold' AS start, cold_age AS age, cold AS newest_first
              FROM alike WHERE cold_age IS NOT NULL
              UNION ALL
              SELECT cell, platform, name, 'warm', warm_age, warm
              FROM alike WHERE warm_age IS NOT NULL
            )
            SELECT cell, platform, name, start,
              list_transform(list_reverse(newest_first), lambda x: x[1]),
              list_transform(list_reverse(newest_first), lambda x: x[2])
            FROM series
            QUALIFY age = max(age) OVER (PARTITION BY cell, platform, name, start)
            ORDER BY ALL
            """,
            {
                "most": most,
                "cell": cell and cell[0],
                "platform": cell and cell[1],
                "late": late,
            },
        ).fetchall()
        # Two lists and not one of pairs: DuckDB hands those over as a dictionary each.
        return Times(series={tuple(row[:4]): tuple(zip(*row[4:], strict=True)) for row in rows})

    def record(self, path: str) -> Record | None:
        """Return the record at this path (also one inside an archive), or None."""
        rows = self.rows.execute(
            "SELECT path, source, file, cell, platform, started FROM rows"
            " WHERE path = ? AND fault IS NULL",
            [path],
        ).fetchall()
        records, faults = records_of(self.rows, rows)
        if faults:
            raise faults[0]
        return records.get(path)

    def records(self, paths: Iterable[str]) -> tuple[dict[str, Record], list[MatrixError]]:
        """Return the records at these paths (also inside archives), and what cannot be read."""
        rows = self.rows.execute(
            "SELECT path, source, file, cell, platform, started FROM rows"
            " WHERE path IN (SELECT unnest(?)) AND fault IS NULL ORDER BY path",
            [list(paths)],
        ).fetchall()
        return records_of(self.rows, rows)

    def texts(self) -> Iterator[tuple[str, bytes, bool]]:
        """Yield the path and the text of each good record, and whether it is a file of its own.

        Also those whose run is not finished. A file that was lost meanwhile is left out.
        """
        held = self.rows.execute(
            f"SELECT {_STORED} FROM rows WHERE fault IS NULL"
            f" UNION ALL SELECT {_STORED} FROM running ORDER BY path"
        ).fetchall()
        for start in range(0, len(held), _SOME):
            some = held[start : start + _SOME]
            packed = texts_of(self.rows, some)
            for path, source, *_ in some:
                if source is not None:
                    if path in packed:
                        yield path, packed[path].encode("utf-8", "surrogatepass"), False
                    continue
                with contextlib.suppress(OSError):
                    yield path, read_bytes(Path(path), READ_LIMIT), True

    def runs(self) -> list[RunRow]:
        """Return every good record file, by path, without reading it."""
        found = self.rows.execute(
            "SELECT path, cell, platform, started, torch, vllm, error, jobs, outcome_key,"
            " len(cases) > 0 FROM rows WHERE fault IS NULL ORDER BY path"
        ).fetchall()
        return [RunRow(*row) for row in found]

    def for_policy(
        self, late: str, expectations: Expectations, named: ProtectedRecords
    ) -> list[Stored]:
        """Return every record as a policy sees it, once, whatever the number of its files.

        `named` are the records that are evidence. The age of a future-dated record is not known, so
        it counts as one of them.
        """
        shown, failing, first = self.shown(late), self.failing(late, expectations), self.first()
        return [
            Stored(
                key=row.content,
                cell=row.cell,
                platform=row.platform,
                order=run_order(row.started, late),
                whole=row.complete,
                shown=row.content in shown,
                failed=row.content in failing,
                named=row.started > late or any(named.has(path, row.content) for path in row.paths),
                first=row.content in first,
                paths=tuple(row.paths),
            )
            for row in self.stored()
        ]

    def stored(self) -> list[StoredRow]:
        """Return every record once, whatever the number of its files."""
        found = self.rows.execute(
            """
            SELECT content, any_value(cell), any_value(platform), any_value(started),
              any_value(complete), list(path ORDER BY path)
            FROM rows WHERE fault IS NULL GROUP BY content
            """
        ).fetchall()
        return [StoredRow(*row) for row in found]


def _unsearchable(error: BaseException) -> HistoryError:
    return HistoryError(f"the records cannot be searched: {one_line(error)}")


def _judged(record: Record | None, expectations: Expectations) -> KeyVerdict:
    """Return the verdict on a record; of a file that was lost, that nothing is known."""
    if record is None:
        return KeyVerdict(Verdict.UNTESTED)
    verdict = judge(record, expectations)
    return KeyVerdict(verdict.verdict, verdict.provisional)
