"""Records in an object store: what is refused, and what nobody installs unasked."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from histories import silent
from matrix.cli import main
from matrix.store.database import RecordDatabase
from matrix.store.query import History
from matrix.store.summary import HistoryError


@pytest.mark.parametrize("scheme", ["gs", "https", "hf", "azure", "file"])
@pytest.mark.parametrize("command", [["results", "list"], ["results", "index"], ["table"]])
def test_another_scheme_is_refused_by_its_name(
    capsys: pytest.CaptureFixture[str], scheme: str, command: list[str]
) -> None:
    assert main([*command, f"{scheme}://bucket/records"]) == 2
    assert capsys.readouterr().err == (
        f"matrix: {scheme}://bucket/records: {scheme}:// is not supported; name a folder, or one"
        " in an object store with S3's interface, as s3://bucket/records\n"
    )


def test_without_httpfs_the_command_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute = RecordDatabase.execute

    def refuse(self: RecordDatabase, sql: str, values: object = None) -> Any:
        if sql == "LOAD httpfs":
            raise duckdb.IOException('Extension "/home/me/.duckdb/httpfs" not found.\nInstall it')
        return execute(self, sql, values)

    monkeypatch.setattr(RecordDatabase, "execute", refuse)
    with pytest.raises(HistoryError) as caught:
        History(["s3://bucket/records"], silent)
    assert str(caught.value) == (
        "s3://bucket/records: needs DuckDB's extension httpfs, which is not installed here or of"
        " another version; install it once: python -c"
        " \"import duckdb; duckdb.sql('INSTALL httpfs')\""
    )


def test_nothing_is_installed_unasked(tmp_path: Path) -> None:
    with History([tmp_path], silent) as history:
        (found,) = history.rows.execute(
            "SELECT current_setting('autoinstall_known_extensions')"
        ).fetchone()
    assert found is False


@pytest.mark.parametrize(("command", "done"), [("pack", "packed"), ("prune", "pruned")])
def test_a_store_is_neither_packed_nor_pruned(
    capsys: pytest.CaptureFixture[str], command: str, done: str
) -> None:
    more = ["--keep", "1"] if command == "prune" else []
    assert main(["results", command, "s3://bucket/records", *more]) == 2
    assert f"an object store is not {done} from here" in capsys.readouterr().err
