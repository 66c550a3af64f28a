"""The table as Markdown and as JSON: what it says, in which order, and of hostile text."""

import itertools
import json
import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from made import reported
from matrix._util import text
from matrix.catalog.cells import Build, Made
from matrix.catalog.releases_file import load_releases
from matrix.record.model import (
    ErrorKind,
    Platform,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
)
from matrix.record.origin import Origin
from matrix.record.reader import parse
from matrix.record.writer import to_json
from matrix.report import markdown, page, table_json, terminal
from matrix.report import timings as split
from matrix.report.model import Report, report_of
from matrix.rules.expectations_file import parse_expectations
from matrix.verdict.judge import judge
from matrix.verdict.table import Table, tabulate
from page_text import readable
from report_records import COLD, IMPORTED, RECORDS, SPLIT, failed, make, make_case
from rules import MOE

SCHEMA = json.loads(Path(text.__file__).parents[1].joinpath("data/table.schema.json").read_text())
HOSTILE = [
    "<script>alert(1)</script>",
    "a | b || c \\| d \\\\| e",
    "`code` ``more``` ",
    "line\nbreak\r\n# heading\n\n| x |\n|---|",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x00\x07\x08\x9b31m",
    "[link](javascript:alert(1)) ![image](http://evil.example/x.png) [^1]",
    "https://evil.example www.evil.example joe@evil.example",
    "*bold* _em_ ~~gone~~ $x$ &lt; &#60;script> <!-- -->",
    "\u202eright to left\u2066 \u200bzero\ud800",
]


WANTED = """\
# torch × vLLM: what starts, cold and warm

Each cell starts vLLM once with empty compile caches (cold) and once more with the caches that the \
first start left (warm), and compares the counts of the compiler with those that this pair of \
releases should have.

cuda: 1 cell (1 untested); cpu: 4 cells (2 compatible, 1 drift, 1 incompatible). Newest record: \
2026-11-23.

| | |
|---|---|
| ✅ as expected | compatible: starts cold and warm, and every counter that has an expectation is \
as expected |
| ☑️ as expected, not stock | the same, in an environment without, or with another version of, a \
package that this vLLM requires: the note names it |
| ☑️ as expected, 2 cases recompile warm | these cases are as expected, but compile again on their \
warm start, which is known for this pair; the note names the issue, or says that no public issue \
is known |
| ☑️ as expected, 1 of 9 cases | a run of only some cases |
| ⚠️ counts differ | drift: starts cold and warm, but a counter is not as expected |
| ❌ *rung* | incompatible: does not get past this rung of declared, builds (a vLLM from its \
sources), resolves, links, imports, starts cold, starts warm |
| ❔ provisional | starts cold and warm, and is beyond the releases whose counters are known: \
the note says how it compares with the nearest of them |
| ❔ untested | was tried, but shows nothing about the pair: the note gives the reason |
| – not applicable | this case does not apply to this cell; it does not count |
| · | no record: this cell was never run |

## cuda

On a GPU. This platform decides.

| vLLM ↓ torch → | 2.11 |
| --- | --- |
| **0.20** | ❔ untested \\[1\\] |

1. **torch 2.11, vLLM 0.20**: untested on Python 3.11: no GPU is visible

## cpu

Without a GPU: the compiler stack is the same, the kernels are not.

| vLLM ↓ torch → | 2.9 | 2.10 | 2.11 |
| --- | --- | --- | --- |
| **0.16** | ⚠️ counts differ \\[1\\] | · | · |
| **0.19** | · | ✅ as expected | · |
| **0.20** | · | · | ❌ starts cold \\[2\\] |

1. **torch 2.9, vLLM 0.16**: drift on Python 3.11: moe: warm \
num\\_compiled\\_artifacts\\_loaded is 1, expected 3
2. **torch 2.11, vLLM 0.20**: compatible on Python 3.10; incompatible at *starts cold* on Python \
3.12: moe\\[1\\]: KeyError: 'x &#124; y'

## Cases

| cell | platform | case | verdict | cold, s | warm, s | warm/cold | what differs | date |
| --- | --- | --- | --- | --: | --: | --: | --- | --- |
| `py311-torch29-vllm016` | cpu | `moe` | ⚠️ counts differ | 61.2 | 20.0 | 0.33 | warm \
`num_compiled_artifacts_loaded`: expected 3, observed 1 | 2026-11-22 |
| `py311-torch210-vllm019` | cpu | `moe` | ✅ as expected | 61.2 | 20.0 | 0.33 |  | 2026-11-22 |
| `py310-torch211-vllm020` | cpu | `moe` | ✅ as expected | 61.2 | 20.0 | 0.33 |  | 2026-11-22 |
| `py312-torch211-vllm020` | cpu | `moe[1]` | ❌ starts cold | - | - | - | KeyError: 'x &#124; y' \
| 2026-11-23 |
| `py312-torch211-vllm020` | cpu | `other` | ❔ untested | 61.2 | 20.0 | 0.33 | no expectation for \
its cold and warm starts | 2026-11-23 |

## Seconds

How each start spent its time, as torch and vLLM report it, or as the run timed their steps. A \
dash means that this release, platform or record has no value. A run imports torch and vLLM once, \
before all starts; *import* is the time of further imports in a start. In *inspect*, vLLM asks the \
model's class for its features, and a new interpreter imports torch and vLLM again for that. A run \
does this once for all its models, before its cases; `small_startup[dense]` does it again, and so \
did the starts of older records. In *jit*, a start builds kernels that no release brings built, or \
waits for them. *other steps* are configuration, tokenizer, device, profile run, KV cache, warm-up \
and the rest of the engine. *unnamed* is the time without a step. No time is judged.
"""


def test_an_off_pin_cell_is_marked_where_the_releases_are_known() -> None:
    name = "py312-torch212-vllm020"
    records = [make(name, make_case()), make("py311-torch210-vllm019", make_case())]
    output = markdown.render(report_of(tabulate(records, MOE, releases=load_releases()), MOE))
    assert output.count(f"| `{name}` (off-pin) | cpu |") == 2  # its case, and its record
    assert "`py311-torch210-vllm019` (off-pin)" not in output
    assert "off-pin" not in markdown.render(reported(records, MOE))


def test_the_table_reads_as_a_release_manager_would_have_it() -> None:
    output = markdown.render(reported(RECORDS, MOE))
    assert output.partition("\n## Records\n")[0] == WANTED
    assert (
        "| `py311-torch210-vllm019` | cpu | 2.10.0+cu128 | 0.19.1 | 3.11.7 | EPYC 9B14 |" in output
    )


@settings(deadline=None)
@given(st.permutations(RECORDS + RECORDS[:2]))
def test_the_table_is_the_same_for_any_order(records: list[tuple[Path, Record]]) -> None:
    wanted, table = reported(RECORDS, MOE), reported(records, MOE)
    assert markdown.render(table) == markdown.render(wanted)
    assert table_json.render(table) == table_json.render(wanted)


@settings(deadline=None)
@given(st.permutations([1, 22, 30]))
def test_the_newest_record_of_a_cell_wins(days: list[int]) -> None:
    records = [
        make("py311-torch210-vllm019", make_case(loaded=day % 4), day=day, platform=platform)
        for day in days
        for platform in ("cpu", "cuda")
    ]
    table = tabulate(records, MOE)
    assert [entry.date for entry in table.entries] == ["2026-11-30"] * 2
    assert table.newest == "2026-11-30"


def test_another_second_of_a_case_is_another_line_of_json() -> None:
    case = make_case()
    slower = replace(case.starts[0], seconds={"total": 99.0})
    runs = [
        make("py311-torch210-vllm019", replace(case, starts=(cold, case.starts[1])), make_case("b"))
        for cold in (case.starts[0], slower)
    ]
    before, after = (table_json.render(reported([run], MOE)).splitlines() for run in runs)
    (differs,) = (pair for pair in zip(before, after, strict=True) if pair[0] != pair[1])
    assert json.loads(differs[0].strip().rstrip(","))["case"] == "moe"


@given(st.text() | st.text(" a:[]#\n\x1b"))
def test_clean_text_is_printable_and_keeps_its_words(message: str) -> None:
    line = text.clean(message)
    assert line.isprintable()
    if message.isprintable():
        assert line == text.no_command(" ".join(message.split()))


CUT_SHORT: dict[str, Any] = {
    "a full disk": {"error": RunError(kind=ErrorKind.NO_SPACE, reason="no space left")},
    "it died": {"finished": False},
    "other cases were asked for": {"deselected": 5},
    "no case was asked for": {"cases": (), "deselected": 9},
    "no case was there": {"cases": ()},
}


def kept(*records: tuple[Path, Record]) -> Record:
    """Return the record that stands for the one cell of these, whatever their order."""
    tables = [reported(order, MOE) for order in itertools.permutations(records)]
    assert len({table_json.render(table) for table in tables}) == 1
    [entry] = tables[0].table.entries
    return entry.record


@pytest.mark.parametrize("why", sorted(CUT_SHORT))
def test_a_run_that_was_cut_short_does_not_hide_an_older_verdict(why: str) -> None:
    old = make("py311-torch210-vllm019", make_case(), day=20)
    cut = make(**{"day": 21, "cases": (make_case(),), **CUT_SHORT[why]})
    broken = make(day=22, error=RunError(kind=ErrorKind.IMPORTS, reason="undefined symbol"))
    drifted = make("py311-torch210-vllm019", make_case(loaded=1), day=20)
    assert kept(old, cut) == old[1]
    assert kept(drifted, cut) == drifted[1]
    assert kept(cut) == cut[1]
    assert kept(old, cut, broken) == broken[1]
    assert kept(broken, make("py311-torch210-vllm019", make_case(), day=23)).started > "2026-11-23"


@pytest.mark.parametrize("why", ["a full disk", "it died", "other cases were asked for"])
def test_a_fault_is_shown_however_the_run_ended(why: str) -> None:
    name = "py311-torch210-vllm019"
    old = make(name, make_case(), day=20)
    red = make(name, day=21, **{"cases": (make_case(loaded=1),), **CUT_SHORT[why]})
    green = make(name, make_case(), day=22, deselected=5)
    assert kept(old, red) == red[1]
    assert kept(old, red, green) == red[1]
    # What is only in part as bad as a whole record's fault does not hide it.
    assert kept(make(name, failed("KeyError"), day=20), red).cases[0].outcome == "failed"


def test_a_partial_record_says_how_much_it_holds() -> None:
    record = make("py311-torch210-vllm019", make_case(), deselected=8)
    table = reported([record, *RECORDS[1:]], MOE)
    output = markdown.render(table)
    assert "| **0.19** | · | ☑️ as expected, 1 of 9 cases \\[2\\] | · |" in output
    assert "2. **torch 2.10, vLLM 0.19**: compatible on Python 3.11 (1 of 9 cases)\n" in output
    assert "| EPYC 9B14 | not known whether stock | 1 of 9 cases | 2026-11-22T18:00:00Z |" in output
    assert "| EPYC 9B14 | not known whether stock | 2 cases | 2026-11-23T18:00:00Z |" in output
    # So do its cases and its seconds, and the number of cells that ran.
    case = "| `py311-torch210-vllm019`, 1 of 9 cases | cpu | `moe` | ✅ as expected |"
    assert case in output and "| `py311-torch29-vllm016` | cpu | `moe` |" in output
    assert "cpu: 4 cells (2 compatible, 1 drift, 1 incompatible; 1 has only some cases)" in output
    content = json.loads(table_json.render(table))
    Draft202012Validator(SCHEMA).validate(content)
    counts = {cell["cell"]: cell["deselected"] for cell in content["cells"]}
    assert counts["py311-torch210-vllm019"] == 8
    assert counts["py311-torch29-vllm016"] == 0


def test_what_was_never_run_and_what_does_not_apply_look_different() -> None:
    skipped = make_case("gpu only", outcome="not_applicable", starts=(), reason="no CPU kernel")
    output = markdown.render(reported([make("py311-torch210-vllm019", skipped)], MOE))
    assert "| – not applicable | - | - | - | no CPU kernel |" in output
    assert "| · " not in output.partition("## cpu")[2]


def test_of_one_second_the_content_decides() -> None:
    one, other = make("py311-torch210-vllm019", make_case()), make("py311-torch210-vllm019")
    tables = [reported(pair, MOE) for pair in ([one, other], [other, one])]
    assert tables[0] == tables[1]


def test_the_worst_python_of_a_pair_is_shown() -> None:
    table = tabulate(RECORDS, MOE)
    entry = table.worst(Platform.CPU, "2.11", "0.20")
    assert entry is not None and entry.record.cell.startswith("py312")
    assert table.worst(Platform.CPU, "2.9", "0.20") is None


def test_releases_sort_as_versions_do() -> None:
    cells = ["py39-torch210-vllm10", "py311-torch29-vllm020", "py311-torch29-vllm09"]
    table = tabulate([make(cell) for cell in cells], MOE)
    assert table.releases(Platform.CPU) == (("2.9", "2.10"), ("0.9", "0.20", "1.0"))


def test_the_json_obeys_its_schema() -> None:
    content = json.loads(table_json.render(reported(RECORDS, MOE)))
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(content)
    drift = next(cell for cell in content["cells"] if cell["verdict"] == "drift")
    assert drift["cases"][0]["differences"] == [
        {
            "start": "warm",
            "counter": "num_compiled_artifacts_loaded",
            "expected": 3,
            "observed": 1,
            "rule": "warm",
        }
    ]


def test_the_table_says_how_a_vllm_from_sources_was_had() -> None:
    origin = Origin(
        project="vllm",
        candidate=Build(name="vllmfix", identity="b3f2a9c81d0e5c77"),
        made=Made.WITH_EXTENSIONS,
        extensions="vllm-0.33.0-cp38-abi3-manylinux_2_28_x86_64.whl",
    )
    made = "built with the extensions of vllm-0.33.0-cp38-abi3-manylinux_2_28_x86_64.whl"
    record = make("py311-torch210-vllmfix", make_case(), origins=(origin,))
    plain = make("py311-torch210-vllm019", make_case())
    found = reported([record, plain], MOE)
    assert f"0.19.1, {made}" in markdown.render(found).replace("\\", "")
    content = json.loads(table_json.render(found))
    Draft202012Validator(SCHEMA).validate(content)
    assert {cell["cell"]: cell.get("vllm_made") for cell in content["cells"]} == {
        "py311-torch210-vllmfix": made,
        "py311-torch210-vllm019": None,
    }
    shown = terminal.render(record[1], judge(record[1], MOE), "x.json")
    assert f"vllmfix, build b3f2a9c81d0e5c77: {made}" in shown
    assert made in readable(page.render(Report(table=tabulate([record], MOE))))
    assert made not in readable(page.render(Report(table=tabulate([plain], MOE))))


def test_an_empty_table_is_a_table() -> None:
    Draft202012Validator(SCHEMA).validate(
        json.loads(table_json.render(Report(table=Table(entries=()))))
    )
    assert "0 cells" in markdown.render(Report(table=Table(entries=())))


def shape(output: str) -> list[int]:
    """Return the cells of each line that is a table's."""
    return [line.count("|") for line in output.splitlines() if line.startswith("|")]


def hostile(message: str) -> tuple[Path, Record]:
    provenance = {
        **RECORDS[0][1].provenance,
        **dict.fromkeys(("python", "torch", "vllm"), message),
        "gpu": {"name": message},
    }
    starts = (
        Start(start=StartKind.COLD, seconds={message: 1.0}, counters={message: 1}),
        Start(start=StartKind.WARM, seconds={message: 1.0}, counters={message: 1}),
    )
    cases = (
        make_case(message or "x", outcome="failed", starts=(), reason=message, model=message),
        make_case(f"x{message}", starts=starts, reason=message, failure=message, signature=message),
    )
    error = RunError(kind=ErrorKind.INTERRUPTED, reason=message)
    return make("py311-torch210-vllm019", *cases, provenance=provenance, error=error)


def calm(message: str) -> None:
    path, record = hostile(message)
    table = reported([(path, record)], MOE)
    output = markdown.render(table)
    assert shape(output) == shape(markdown.render(reported([hostile("calm")], MOE)))
    assert len(output.splitlines()) == len(
        markdown.render(reported([hostile("calm")], MOE)).splitlines()
    )
    assert "<" not in output and ">" not in output
    # Nothing is a link inside a code span, and none of these names can end one.
    assert not re.search(r"://|www\.|(?<!\\)\]\(", re.sub(r"`[^`\n]*`", "", output))
    output.encode("utf-8")
    Draft202012Validator(SCHEMA).validate(json.loads(table_json.render(table)))
    shown = terminal.render(record, judge(record, MOE), f"{message}.json")
    for rendered in (output, shown):
        assert not [c for c in rendered if c != "\n" and unicodedata.category(c)[0] == "C"]


@pytest.mark.parametrize("message", HOSTILE)
def test_hostile_text_is_shown_as_text(message: str) -> None:
    calm(message)


@settings(deadline=None)
@given(st.text(max_size=40) | st.text("<>|`\\*_[]()#~$&@!\n\r\x1b[0;m:/w.", max_size=40))
def test_any_text_is_shown_as_text(message: str) -> None:
    # The name of a part of the seconds makes a start split, which rightly adds a table.
    assume(not split.is_split(Start(start=StartKind.COLD, seconds={message: 1.0})))
    calm(message)


def test_markup_of_a_record_cannot_be_seen_as_markup() -> None:
    assert text.markdown("**a**_b_") == "\\*\\*a\\*\\*\\_b\\_"
    assert text.markdown("\\|") == "\\\\&#124;"
    assert text.code("a`b") == "a&#96;b"
    assert text.code("a\nb") == "`a b`"
    assert len(text.markdown("x" * 1000)) == 300


def test_the_table_says_where_the_seconds_went() -> None:
    split_one = make("py311-torch210-vllm019", SPLIT, make_case("old"), rungs=IMPORTED)
    old = make(
        "py311-torch29-vllm016",
        make_case(),
        rungs=(RungResult(rung=Rung.IMPORTS, ok=False, seconds=3.0, reason="no"),),
    )
    output = markdown.render(reported([split_one, old], MOE))
    assert output.partition("## Seconds\n")[2].partition("## Records")[0].split("\n\n")[1:] == [
        "`py311-torch210-vllm019` on cpu: import 37.2 s",
        (
            "| case | start | total | import | inspect | load | jit | dynamo | inductor "
            "| other steps | unnamed | save or load |\n"
            "| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --- |\n"
            "| `moe` | cold | 61.2 | 1.0 | 9.2 | 1.5 | - | 7.2 | 40.0 | 0.8 | 0.4 | saved 0.8 |\n"
            "| `moe` | warm | 20.0 | - | - | - | - | - | - | - | 18.8 | loaded 1.2 |"
        ),
        "",
    ]
    unknown = markdown.render(reported([make("py311-torch210-vllm019", SPLIT)], MOE))
    assert "\n`py311-torch210-vllm019` on cpu\n\n| case | start |" in unknown


def test_the_json_has_every_part_of_the_seconds() -> None:
    record = make("py311-torch210-vllm019", SPLIT, failed("KeyError"), rungs=IMPORTED)
    content = json.loads(table_json.render(reported([record, RECORDS[1]], MOE)))
    Draft202012Validator(SCHEMA).validate(content)
    old, new = content["cells"]
    assert (old["import_seconds"], new["import_seconds"]) == (None, 37.25)
    assert old["cases"][0]["parts"] == {"cold": {"total": 61.24}, "warm": {"total": 20.0}}
    whole, broken = new["cases"]
    assert (whole["warm_over_cold"], broken["warm_over_cold"]) == (0.327, None)
    assert whole["parts"] == {"cold": COLD, "warm": {"total": 20.0, "artifacts_load": 1.25}}
    assert broken["parts"] == {"cold": None, "warm": None}


def test_the_records_of_these_tests_are_records() -> None:
    for path, record in RECORDS:
        assert parse(to_json(record), path.name) == record


def test_only_the_first_differences_are_told() -> None:
    rules = parse_expectations(
        '[[rule]]\nid = "all"\nvllm = "<99"\nstart = "cold"\nevidence = ["a record"]\ncounters = { '
        "num_models_seen = 9, num_graphs_seen = 9, num_inductor_compiles = 9, "
        "num_eager_compiles = 9, num_backend_compilations = 9 }\n",
        "rules.toml",
    )
    output = markdown.render(reported(RECORDS[:1], rules))
    assert "expected 9, observed nothing; 1 more in compatibility.json |" in output


def test_the_schema_of_the_table_has_every_rung() -> None:
    rungs = {*map(str, Rung)}
    assert {*SCHEMA["$defs"]["rung"]["enum"]} == {*rungs, None}
    assert {*SCHEMA["$defs"]["fails_at"]["enum"]} == {*rungs - {"declared"}, None}
