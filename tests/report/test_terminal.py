"""Records and a prune, shown on a terminal."""

import re
from dataclasses import replace

import pytest

from made import reported
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.inspections import Inspections
from matrix.record.jit import Jit, JitModule
from matrix.record.model import Case, Outcome, Start, StartKind
from matrix.record.origin import Origin
from matrix.report import markdown, terminal
from matrix.report import timings as split
from matrix.report.results import prune_lines
from matrix.store.retention import Stored
from matrix.verdict.judge import judge
from matrix.verdict.precedence import run_order
from report_records import IMPORTED, RECORDS, SPLIT, failed, make, make_case
from rules import MOE


def test_where_a_release_is_from_and_what_of_it_is_unknown() -> None:
    path, record = RECORDS[0]
    known = Origin(
        project="torch",
        version="2.10.0",
        index="https://example.org/simple/",
        file="torch-2.10.0-x.whl\x1b[1m",
        sha256="a" * 64,
        revision="b" * 40,
        built="2026-03-23T18:10:03Z",
    )
    origins = (known, Origin(project="vllm", version="0.19.1"))
    shown = terminal.render(replace(record, origins=origins), judge(record, MOE), str(path))
    (torch, vllm) = [line for line in shown.splitlines() if line.startswith("from ")]
    assert torch == (
        "from    torch-2.10.0-x.whl, of https://example.org/simple/, SHA-256 aaaaaaaaaaaa,"
        " git bbbbbbbbbbbb, uploaded 2026-03-23"
    )
    assert vllm == "from    vllm 0.19.1, index unknown, SHA-256 unknown, git unknown"
    none = replace(record, origins=(Origin(project="vllm"),))
    assert "\nfrom " not in terminal.render(none, judge(record, MOE), str(path))


def test_a_terminal_shows_what_a_person_asks() -> None:
    path, record = make("py311-torch210-vllm019", make_case(), make_case("moe[1]", loaded=1))
    shown = terminal.render(record, judge(record, MOE), str(path))
    assert shown == (
        "py311-torch210-vllm019 on cpu: drift (counts differ), 2 cases in 312 s\n"
        "  moe[1]: warm num_compiled_artifacts_loaded is 1, expected 3\n"
        "\n"
        "case        start  seconds  counters\n"
        "moe         cold      61.2  1 of 1 as expected: saved 3\n"
        "compatible  warm      20.0  2 of 2 as expected: saved 0, loaded 3\n"
        "moe[1]      cold      61.2  1 of 1 as expected: saved 3\n"
        "drift       warm      20.0  1 of 2 as expected: saved 0\n"
        f"{'':28}! num_compiled_artifacts_loaded  observed    1  expected    3\n"
        "\n"
        "counts  compiled artifacts saved and loaded; "
        "AOTAutograd's total, cache miss and cache hit;"
        " whole models compiled ahead of time (aot), saved and loaded\n"
        "ran     torch 2.10.0+cu128, vLLM 0.19.1, Python 3.11.7, on EPYC 9B14\n"
        "record  py311-torch210-vllm019.json\n"
    )


def test_a_terminal_holds_the_cold_start_of_a_case_that_failed_against_what_was_expected() -> None:
    cold = make_case().starts[0]
    off = replace(cold, counters={**cold.counters, "num_compiled_artifacts_saved": 9})
    for starts, message in [((cold,), "1 of 1 as expected"), ((off,), "0 of 1 as expected")]:
        case = make_case(outcome="crashed", starts=starts, reason="it died")
        _, record = make("py311-torch210-vllm019", case)
        shown = terminal.render(record, judge(record, MOE), "x.json")
        assert message in shown and "not judged" not in shown and "it died" in shown
        assert ("! num_compiled_artifacts_saved  observed    9  expected    3" in shown) == (
            starts == (off,)
        )


def test_cases_side_by_side_are_said_for_what_their_seconds_are_worth() -> None:
    path, record = make("py311-torch210-vllm019", make_case())
    together = replace(record, provenance={**record.provenance, "jobs": 7})
    shown = terminal.render(together, judge(together, MOE), str(path))
    assert ", Python 3.11.7, on EPYC 9B14, 7 side by side\n" in shown
    assert "side by side" not in terminal.render(record, judge(record, MOE), str(path))
    output = markdown.render(reported([(path, together)], MOE)).partition("## Records\n")[2]
    assert "| 1 case, 7 side by side | 2026-11-22T18:00:00Z |" in output


def test_a_terminal_says_that_a_run_was_partial() -> None:
    path, record = make("py311-torch210-vllm019", make_case(), deselected=8)
    assert ": compatible (as expected), 1 of 9 cases in 312 s\n" in terminal.render(
        record, judge(record, MOE), str(path)
    )
    early = replace(record, deselected=0, selected=9, finished=False)
    assert ", 1 of 9 cases in 312 s\n" in terminal.render(early, judge(early, MOE), str(path))


def test_a_terminal_shows_every_counter_where_asked() -> None:
    path, record = RECORDS[0]
    shown = terminal.render(record, judge(record, MOE), str(path), every=True)
    assert shown.startswith("py311-torch210-vllm019 on cpu: compatible (as expected), 1 case in")
    assert "  num_compiled_artifacts_saved   observed    3  expected    3\n" in shown


def test_a_terminal_shows_what_was_not_judged() -> None:
    _, record = make("py311-torch210-vllm019", failed("KeyError"), make_case("other"))
    shown = terminal.render(record, judge(record, MOE), "r.json")
    assert "incompatible at starts cold, 2 cases" in shown
    assert "moe[1]        cold         -  did not run to its end\n" in shown
    assert "incompatible                  KeyError\n" in shown
    assert "other         cold      61.2  nothing expected\n" in shown
    assert "untested                        num_compiled_artifacts_saved   observed    3\n" in shown


def test_a_terminal_says_where_the_seconds_went_where_asked() -> None:
    cut = make_case(
        "cut", outcome="failed", starts=(Start(start=StartKind.COLD, seconds={"total": 100.0}),)
    )
    _, record = make("py311-torch210-vllm019", SPLIT, cut, rungs=IMPORTED)
    verdict = judge(record, MOE)
    quiet = terminal.render(record, verdict, "r.json")
    shown = terminal.render(record, verdict, "r.json", split=True)
    seconds = (
        "seconds  start  total  import  inspect  load  jit  dynamo  inductor"
        "  other steps  unnamed  warm/cold  save or load\n"
        "moe      cold    61.2     1.0      9.2   1.5    -     7.2      40.0"
        "          0.8      0.4             saved 0.8\n"
        "moe      warm    20.0       -        -     -    -       -         -"
        "            -     18.8       0.33  loaded 1.2\n"
        "cut      cold   100.0       -        -     -    -       -         -"
        "            -        -             -\n"
        "import 37.2 s, once for all starts\n\n"
    )
    assert seconds in shown and shown.replace(seconds, "") == quiet
    module = JitModule(library="flashinfer", name="sampling", built_by="step")
    built = replace(record, jit=Jit(seconds=43.04, reason="b: no nvcc", modules=(module,)))
    shown = terminal.render(built, verdict, "r.json", split=True)
    assert "\njit 43.0 s before the cases; 1 kernel module built: b: no nvcc\n" in shown
    asked = replace(record, cpp_compiler=CppCompiler(seconds=14.2))
    shown = terminal.render(asked, verdict, "r.json", split=True)
    assert "\nC++ compiler 14.2 s while torch and vLLM were imported\n" in shown
    assert terminal.render(asked, verdict, "r.json") == quiet
    inspected = replace(record, inspections=Inspections(seconds=9.5))
    shown = terminal.render(inspected, verdict, "r.json", split=True)
    assert "\ninspections 9.5 s before the cases\n" in shown
    assert terminal.render(inspected, verdict, "r.json") == quiet
    _, bare = make("py311-torch210-vllm019")
    empty = terminal.render(bare, judge(bare, MOE), "r.json", split=True)
    assert empty == terminal.render(bare, judge(bare, MOE), "r.json")


@pytest.mark.parametrize(
    ("totals", "wanted"),
    [
        ({"cold": 40.0, "warm": 10.0}, 0.25),
        ({"cold": 40.0, "warm": 0.0}, 0.0),
        ({"cold": 0.0, "warm": 10.0}, None),
        ({"cold": 40.0}, None),
        ({"warm": 10.0}, None),
        ({}, None),
    ],
)
def test_a_ratio_needs_both_starts(totals: dict[str, float], wanted: float | None) -> None:
    starts = tuple(
        Start(start=StartKind(start), seconds={"total": total}) for start, total in totals.items()
    )
    assert split.warm_over_cold(Case(case="a", outcome=Outcome.PASSED, starts=starts)) == wanted
    assert (
        split.warm_over_cold(
            Case(
                case="a",
                outcome=Outcome.PASSED,
                starts=(Start(start=StartKind.COLD), Start(start=StartKind.WARM)),
            )
        )
        is None
    )


def test_a_terminal_says_why_a_case_does_not_apply() -> None:
    skipped = make_case(outcome="not_applicable", starts=(), reason="needs a Hopper GPU")
    _, record = make("py311-torch210-vllm019", skipped)
    shown = terminal.render(record, judge(record, MOE), "r.json")
    assert "needs a Hopper GPU\nnot applicable\n" in shown
    assert "did not run" not in shown


def test_a_record_without_cases_has_no_empty_table() -> None:
    _, record = RECORDS[-1]
    shown = terminal.render(record, judge(record, MOE), "r.json")
    assert "on cuda: untested, no cases in 312 s\n  no GPU is visible\n\nran  " in shown


def test_a_run_that_died_shows_no_seconds_of_its_own() -> None:
    path, record = make("py311-torch210-vllm019", make_case())
    died = replace(record, finished=False, provenance={**record.provenance, "seconds": 0.0})
    shown = terminal.render(died, judge(died, MOE), str(path))
    assert ": untested, 1 case\n  the run did not finish\n" in shown


def test_colour_is_only_colour() -> None:
    path, record = RECORDS[1]
    verdict = judge(record, MOE)
    shown = terminal.render(record, verdict, str(path), colour=True)
    assert "\x1b[33mdrift\x1b[0m" in shown
    assert re.sub(r"\x1b\[\d+m", "", shown) == terminal.render(record, verdict, str(path))


ORDER = run_order("2026", None)
GONE = [
    Stored(key=str(index), cell="py311-torch210-vllm019", platform="cpu", order=ORDER, whole=True)
    for index in range(2)
]


def test_a_prune_tells_what_it_did_and_not_what_it_wanted() -> None:
    paths = ["a.json", "b.json", "c.json"]
    assert prune_lines(GONE, paths, 4, done=3) == "deleted 2 records (3 files); 4 stay\n"
    assert prune_lines(GONE, paths, 4, done=1) == (
        "deleted 1 of 3 files; 4 other records stay\n"
        "2 files already gone, or written meanwhile and kept\n"
    )
    assert prune_lines(GONE, paths, 4, done=None).splitlines() == [
        *paths,
        "2 records (3 files) would be deleted, 4 stay; --yes deletes them",
    ]
    assert prune_lines([], [], 4, done=None) == "nothing to delete, 4 records stay\n"
