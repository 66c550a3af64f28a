"""The SQL and the Python of which records count are one rule: laws, for records and for rules."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from matrix.store.precedence_sql import CONTENDERS, without_superseded
from matrix.verdict.precedence import (
    SUPERSESSIONS,
    EvidenceLevel,
    FaultLevel,
    Minimum,
    RunOrder,
    Supersession,
    run_order,
    standing,
)

SECONDS = ("2026-11-01T18:00:00Z", "2026-11-02T18:00:00Z", "2026-11-03T18:00:00Z")
Stands = Callable[[str, Sequence["Row"], str | None], set[int]]


class Row(NamedTuple):
    """What an index has of a record, as far as the rule needs it; `stock` is None where unknown."""

    place: int
    cell: str
    platform: str
    builds: str
    started: str
    stock: bool | None
    evidence: int
    fault: str | None


class Contender(NamedTuple):
    """The same, as Python sees it."""

    place: int
    order: RunOrder
    is_stock: bool
    evidence: EvidenceLevel
    fault: FaultLevel = FaultLevel.NONE
    content: str = ""
    path: str = ""


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(("a", "b")),
                st.sampled_from(("cpu", "cuda")),
                st.sampled_from(("", "b3f2a9c8")),
                st.sampled_from(SECONDS),
                st.sampled_from((True, False, None)),
                st.sampled_from(EvidenceLevel),
                st.sampled_from((None, None, None, "a record that cannot be read")),
            ),
            max_size=12,
        )
    )
    return [Row(place, *row) for place, row in enumerate(rows)]


@pytest.fixture(scope="module")
def by_sql() -> Stands:
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE rows (place INTEGER, cell VARCHAR, platform VARCHAR, builds VARCHAR,"
        " started VARCHAR, stock BOOLEAN, evidence INTEGER, fault VARCHAR)"
    )

    def places(sql: str, rows: Sequence[Row], late: str | None) -> set[int]:
        connection.execute("DELETE FROM rows")
        if rows:
            values = [[*row[:6], int(row.evidence), row.fault] for row in rows]
            connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        parameters = {"late": late} if "$late" in sql else {}
        found = connection.execute(f"SELECT place FROM ({sql})", parameters).fetchall()
        return {place for (place,) in found}

    return places


def by_python(
    rows: Sequence[Row], late: str | None, rules: Sequence[Supersession] = SUPERSESSIONS
) -> set[int]:
    cells: dict[tuple[str, str, str], list[Contender]] = {}
    for row in rows:
        if row.fault is None:
            contender = Contender(
                place=row.place,
                order=run_order(row.started, late),
                is_stock=row.stock is not False,
                evidence=EvidenceLevel(row.evidence),
            )
            cells.setdefault((row.cell, row.platform, row.builds), []).append(contender)
    return {contender.place for cell in cells.values() for contender in standing(cell, rules)}


late_days = st.sampled_from((None, *SECONDS))


def row(place: int, second: int, evidence: EvidenceLevel, *, stock: bool | None = True) -> Row:
    return Row(place, "a", "cpu", "", SECONDS[second], stock, evidence, None)


@example([row(0, 0, EvidenceLevel.PARTIAL), row(1, 1, EvidenceLevel.CONCLUSIVE, stock=False)], None)
@example([row(0, 0, EvidenceLevel.NOTHING), row(1, 1, EvidenceLevel.CONCLUSIVE, stock=False)], None)
@example([row(0, 0, EvidenceLevel.CONCLUSIVE), row(1, 0, EvidenceLevel.NOTHING, stock=None)], None)
@example([row(0, 0, EvidenceLevel.CONCLUSIVE), row(1, 2, EvidenceLevel.CONCLUSIVE)], SECONDS[1])
@given(tables(), late_days)
def test_sql_and_python_leave_the_same_records(
    by_sql: Stands, rows: list[Row], late: str | None
) -> None:
    assert by_sql(CONTENDERS, rows, late) == by_python(rows, late)


some_tests = st.lists(
    st.one_of(
        st.just(Minimum("is_stock", least=True)),
        st.builds(Minimum, st.just("evidence"), st.sampled_from(EvidenceLevel)),
    ),
    min_size=1,
    max_size=2,
).map(tuple)
some_rules = st.lists(
    st.one_of(
        st.builds(Supersession, by=some_tests, older=st.just(True)),
        st.builds(Supersession, by=some_tests, keeps=some_tests),
    ),
    max_size=3,
)


@given(tables(), late_days, some_rules)
def test_any_rule_means_the_same_in_both(
    by_sql: Stands, rows: list[Row], late: str | None, rules: list[Supersession]
) -> None:
    sql = without_superseded("SELECT * FROM rows WHERE fault IS NULL", rules)
    assert by_sql(sql, rows, late) == by_python(rows, late, rules)
