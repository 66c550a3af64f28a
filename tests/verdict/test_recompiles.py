"""A case that is as expected and recompiles warm; the badge of a pair and the grid say the same."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from packaging.specifiers import SpecifierSet

from made import NO, YES, Answers, reported
from matrix._util.paths import DATA
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases
from matrix.checks.lookup import Answer
from matrix.record.model import (
    CacheFiles,
    CacheKind,
    Case,
    Departure,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Start,
    StartKind,
    Why,
)
from matrix.record.reader import read
from matrix.report import badges, table_json
from matrix.report.ci import junit
from matrix.report.markdown import results
from matrix.report.marks import issue_name, marks, others, recompile_for
from matrix.report.reasons import recompiles_words
from matrix.rules.expectations import Expectations, Expected
from matrix.rules.expectations_file import load_expectations, parse_expectations
from matrix.verdict.grid import runs, survey
from matrix.verdict.judge import judge
from matrix.verdict.ladder import Progress
from matrix.verdict.recompiles import Recompiles, WrittenCode, recompiles
from matrix.verdict.states import Verdict
from matrix.verdict.table import tabulate

ISSUE = "https://github.com/vllm-project/vllm/issues/38051"
RULES = parse_expectations(
    "".join(
        f'[[rule]]\nid = "{start}"\nstart = "{start}"\nvllm = "<1"\n'
        f'counters = {{ num_compiled_artifacts_saved = 4 }}\nevidence = ["{ISSUE}"]\n'
        for start in ("cold", "warm")
    ),
    "rules",
)
UNLINKED = parse_expectations(
    "".join(
        f'[[rule]]\nid = "{start}"\nstart = "{start}"\nvllm = "<1"\n'
        'counters = { num_compiled_artifacts_saved = 4 }\nevidence = ["a record"]\n'
        for start in ("cold", "warm")
    ),
    "rules",
)
RELEASES = Releases(
    torch=(Torch(version="2.10.0"),),
    vllm=(
        Vllm(
            version="0.19.1",
            torch="2.10.0",
            torchvision="0.1",
            torchaudio="2.1",
            python=SpecifierSet(">=3.10"),
            yanked=None,
        ),
    ),
    pythons=("3.10", "3.11", "3.12"),
    matrix_vllm=("0.19.1",),
)
COLOUR = re.compile(r"#[0-9a-f]{6}")
ROOT = Path(__file__).parents[2]
COMPILED, AOT = "num_compiled_artifacts_saved", "num_aot_artifacts_saved"
AUTOGRAD_MISS = "aot_autograd.autograd_cache_miss"
AUTOGRAD_SAVED = "aot_autograd.autograd_cache_saved"
INDUCTOR_MISS = "inductor.fxgraph_cache_miss"
COUNTS = st.dictionaries(
    st.sampled_from(
        [
            *(COMPILED, AOT, AUTOGRAD_MISS, AUTOGRAD_SAVED, INDUCTOR_MISS),
            *("num_inductor_compiles", "inductor.async_compile_cache_miss"),
        ]
    ),
    st.integers(0, 9),
)


def case(cold: dict[str, int], warm: dict[str, int], name: str = "a") -> Case:
    starts = (
        Start(start=StartKind.COLD, counters=cold),
        Start(start=StartKind.WARM, counters=warm),
    )
    return Case(case=name, outcome=Outcome.PASSED, starts=starts)


def record(python: str, cases: tuple[Case, ...], deselected: int = 0) -> tuple[Path, Record]:
    cell = f"py{python.replace('.', '')}-torch210-vllm019"
    provenance = {"started": "2026-11-22T18:00:00Z", "torch": "2.10.0", "vllm": "0.19.1"}
    return Path(f"{cell}.json"), Record(
        cell=cell,
        platform=Platform.CUDA,
        finished=True,
        provenance=provenance,
        cases=cases,
        deselected=deselected,
    )


@given(COUNTS, COUNTS)
def test_it_recompiles_where_it_saves_again_or_misses_what_was_saved(
    cold: dict[str, int], warm: dict[str, int]
) -> None:
    shown = set()
    if cold.get(COMPILED) or cold.get(AOT):
        if warm.get(COMPILED):
            shown.add(COMPILED)
        # Of the warm misses, the cold start can account for as many as it missed in vain.
        for name in (AUTOGRAD_MISS, INDUCTOR_MISS):
            missed, saved = cold.get(AUTOGRAD_MISS), cold.get(AUTOGRAD_SAVED)
            if missed is None or saved is None:
                continue
            unexplained = list(range(warm.get(name, 0)))[len(range(saved, missed)) :]
            if unexplained:
                shown.add(name)
    found = recompiles(case(cold, warm), {})
    assert (set() if found is None else set(found.counters)) == shown
    if found is not None:
        assert all(found.counters[name] == warm[name] for name in shown)


def wrote(kind: CacheKind, new: int, saved: int = 4) -> Case:
    """Give a case whose counters say that its warm start loaded, and which wrote so many files."""
    found = case({COMPILED: saved, AUTOGRAD_MISS: 4, AUTOGRAD_SAVED: 4}, {COMPILED: 0})
    files = CacheFiles(files=9, bytes=90_000, new_files=new, new_bytes=new * 10_000)
    return replace(found, starts=(found.starts[0], replace(found.starts[1], caches={kind: files})))


@pytest.mark.parametrize(
    ("kind", "new", "again"),
    [
        (CacheKind.FXGRAPH, 2, True),
        (CacheKind.AOTAUTOGRAD, 2, True),
        (CacheKind.GENERATED, 2, True),
        (CacheKind.COMPILED, 2, True),
        (CacheKind.COMPILED, 0, False),
        (CacheKind.TRITON, 2, False),
        (CacheKind.ARTIFACT, 2, False),
        (CacheKind.OTHER, 2, False),
    ],
)
def test_it_recompiles_where_it_writes_compiled_code(
    kind: CacheKind, new: int, *, again: bool
) -> None:
    found = recompiles(wrote(kind, new), {})
    assert (found is not None) is again
    if found is not None:
        assert (found.counters, found.code) == ({}, WrittenCode(files=2, bytes=20_000))
        words = "recompiles warm (2 files of compiled code, 20 KiB), no public issue known"
        assert recompiles_words(found) == words
    # What left nothing to load does not compile again.
    assert recompiles(wrote(kind, new, saved=0), {}) is None


def test_what_counters_say_stands_before_the_code() -> None:
    found = recompiles(case({COMPILED: 4}, {COMPILED: 4}), {})
    assert found is not None and found.code is None
    with_code = replace(found, code=WrittenCode(files=1, bytes=10))
    words = "recompiles warm (num_compiled_artifacts_saved 4; 1 file of compiled code, 1 KiB)"
    assert recompiles_words(with_code) == f"{words}, no public issue known"


def test_the_table_shows_code_that_a_warm_start_wrote() -> None:
    found = replace(wrote(CacheKind.FXGRAPH, 2), case="moe")
    rules = parse_expectations(
        "".join(
            f'[[rule]]\nid = "{start}"\nstart = "{start}"\nvllm = "<1"\n'
            f'counters = {{ num_compiled_artifacts_saved = {saved} }}\nevidence = ["a record"]\n'
            for start, saved in (("cold", 4), ("warm", 0))
        ),
        "rules",
    )
    content = json.loads(table_json.render(reported([record("3.12", (found,))], rules)))
    schema = json.loads((DATA / "table.schema.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(content)
    assert content["cells"][0]["cases"][0]["recompiles"] == {
        "counters": {},
        "links": [],
        "code": {"files": 2, "bytes": 20_000},
    }


def test_which_published_cases_recompile_warm() -> None:
    def marked(cell: str) -> dict[str, dict[str, int]]:
        loaded = read(ROOT / "results" / "cuda" / f"{cell}.json")
        found = {item.case: recompiles(item, {}) for item in loaded.cases}
        return {name: dict(again.counters) for name, again in found.items() if again is not None}

    # kimi misses 6, all of functions that its cold start did not save; glm the same, and no more.
    assert marked("py312-torch210-vllm019") == {"model_startup[kimi_k2.5]": {COMPILED: 4}}
    # glm misses 12 in vain: the cold start missed 17 and saved 5.
    assert marked("py312-torch211-vllm020") == {
        "model_startup[deepseek_v3.2]": {COMPILED: 4},
        "model_startup[kimi_k2.5]": {COMPILED: 4},
    }
    # deepseek misses 1, and its cold start saved all that it missed.
    assert marked("py312-torch211-vllm026") == {
        "model_startup[deepseek_v3.2]": {COMPILED: 9, AUTOGRAD_MISS: 1},
        "model_startup[kimi_k2.5]": {COMPILED: 4},
    }
    # glm and kimi miss 1, as their cold starts saved all but 1.
    assert marked("py312-torch213-vllm032") == {}
    assert marked("py312-torch210-vllm017")["model_startup[glm_4.5]"] == {COMPILED: 2}


def test_the_links_are_the_issues_of_the_rules_that_expect_it() -> None:
    expected = {
        "num_compiled_artifacts_saved": Expected(
            value=4, rule="warm", evidence=(ISSUE, "results/cuda/a.json", f"{ISSUE}?x=<b>")
        ),
        "num_compiled_artifacts_loaded": Expected(value=0, rule="b", evidence=(f"{ISSUE}1",)),
    }
    again = {"num_compiled_artifacts_saved": 4}
    found = recompiles(case(again, again), {StartKind.WARM: expected})
    assert found is not None and found.links == (ISSUE,)
    assert recompiles_words(found) == f"recompiles warm (num_compiled_artifacts_saved 4) {ISSUE}"


def test_each_published_case_that_recompiles_has_its_issue() -> None:
    expectations = load_expectations(None)
    for path in sorted((ROOT / "results").glob("*/*.json")):
        for verdict in judge(read(path), expectations).cases:
            assert verdict.recompiles is None or verdict.recompiles.issues, (path, verdict.case)


def test_without_an_issue_every_form_says_that_none_is_known() -> None:
    again = {"num_compiled_artifacts_saved": 4}
    table = tabulate([record("3.11", (case(again, again),))], UNLINKED)
    (entry,) = table.entries
    (verdict,) = entry.verdict.cases
    assert verdict.recompiles is not None
    words = "recompiles warm (num_compiled_artifacts_saved 4)"
    assert recompiles_words(verdict.recompiles) == f"{words}, no public issue known"
    mark = "1 case recompiles warm (no public issue known)"
    assert others(entry.ran) == (mark,)
    assert f"compatible, {mark}" in badges.render(table)["badges/torch210-vllm019.svg"]
    assert f"compatible on Python 3.11, {mark}" in results(table, Platform.CUDA)[1]


def test_the_issue_is_a_link_in_the_markdown_table_and_short_in_a_badge() -> None:
    again = {"num_compiled_artifacts_saved": 4}
    table = tabulate([record("3.11", (case(again, again), case(again, again, "b")))], RULES)
    note = results(table, Platform.CUDA)[1]
    assert rf"2 cases recompile warm ([vllm\#38051]({ISSUE}))" in note
    badge = badges.render(table)["badges/torch210-vllm019.svg"]
    assert "compatible, 2 cases recompile warm (vllm#38051)" in badge
    assert recompile_for([(ISSUE,), ()]).endswith("(vllm#38051; 1 case: no public issue known)")
    assert issue_name("https://example.org/1") == "https://example.org/1"


def test_an_issue_comes_before_the_pull_request_that_a_rule_names() -> None:
    pull = ISSUE.replace("issues", "pull")
    assert Recompiles(counters={}, links=(pull, ISSUE)).issues == (ISSUE,)
    assert Recompiles(counters={}, links=(pull,)).issues == (pull,)


def test_what_drifts_or_only_loads_does_not_recompile() -> None:
    again = {"num_compiled_artifacts_saved": 4}
    table = tabulate([record("3.11", (case(again, again), case(again, {}, "b")))], RULES)
    compatible, drifts = table.entries[0].verdict.cases
    assert compatible.recompiles is not None and drifts.recompiles is None
    assert drifts.verdict == Verdict.DRIFT


def test_a_badge_names_what_recompiles_and_what_is_partial() -> None:
    again = {"num_compiled_artifacts_saved": 4}
    cases = (case(again, again), case(again, again, "b"))
    made = badges.render(tabulate([record("3.11", cases, deselected=7)], RULES))
    (name, text), *_ = made.items()
    assert "vLLM 0.19: compatible, 2 cases recompile warm (vllm#38051), 2 of 9 cases" in text
    assert badges.is_own(name.rpartition("/")[2], text)
    plain = badges.badge("torch 2.10 | vLLM 0.19", Verdict.COMPATIBLE)
    assert not set(COLOUR.findall(plain)) <= set(COLOUR.findall(text))


# Two patch releases of each project; the rules end before vLLM 0.19.1, which is provisional.
PATCHES = Releases(
    torch=(Torch(version="2.10.0"), Torch(version="2.10.1")),
    vllm=tuple(
        Vllm(
            version=version,
            torch="2.10.0",
            torchvision="0.1",
            torchaudio="2.1",
            python=SpecifierSet(">=3.10"),
            yanked=None,
        )
        for version in ("0.19.0", "0.19.1")
    ),
    pythons=("3.10", "3.11", "3.12"),
    matrix_vllm=("0.19.1",),
)
ENDING = parse_expectations(
    "".join(
        f'[[rule]]\nid = "{start}"\nstart = "{start}"\nvllm = "<0.19.1"\n'
        f'counters = {{ num_compiled_artifacts_saved = 4 }}\nevidence = ["{ISSUE}"]\n'
        for start in ("cold", "warm")
    ),
    "rules",
)
RAY = Departure(name="ray", required="ray>=2", installed=None, why=Why.MISSING)
NO_GPU = RunError(kind=ErrorKind.NO_GPU, reason="no GPU is visible")
PLACES = [(platform, python) for platform in Platform for python in PATCHES.pythons]
SOME_CASES = st.lists(
    st.one_of(
        st.builds(
            case,
            st.fixed_dictionaries({COMPILED: st.integers(3, 4)}),
            st.fixed_dictionaries({COMPILED: st.integers(3, 4)}),
        ),
        st.sampled_from(
            [Case(case="a", outcome=outcome, reason="x") for outcome in (*Outcome,)],
        ),
        st.sampled_from([case({COMPILED: 4}, {COMPILED: 4}), case({COMPILED: 4}, {})]),
    ),
    max_size=3,
).map(tuple)
RUN = st.fixed_dictionaries(
    {
        "torch": st.sampled_from(["2.10.0", "2.10.1"]),
        "vllm": st.sampled_from(["0.19.0", "0.19.1"]),
        "cases": SOME_CASES,
        "deselected": st.integers(0, 2),
        "departures": st.sampled_from([None, (), (RAY,)]),
        "error": st.sampled_from([None, None, NO_GPU]),
    }
)
ANSWER = st.sampled_from([None, NO, YES])
ANSWERS = st.dictionaries(
    st.tuples(st.sampled_from(["2.10.0", "2.10.1"]), st.sampled_from(["0.19.0", "0.19.1"])), ANSWER
)


def ran(place: tuple[Platform, str], told: dict[str, Any]) -> tuple[Path, Record]:
    platform, python = place
    path, made = record(python, told["cases"], told["deselected"])
    provenance = {**made.provenance, "torch": told["torch"], "vllm": told["vllm"]}
    return Path(f"{platform}/{path}"), replace(
        made,
        platform=platform,
        provenance=provenance,
        departures=told["departures"],
        error=told["error"],
    )


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(PLACES), RUN, min_size=1),
    ANSWERS,
    ANSWERS,
    st.sampled_from([RULES, ENDING]),
)
def test_the_badge_of_a_pair_says_what_the_grid_shows(
    pair: dict[tuple[Platform, str], dict[str, Any]],
    resolves: dict[tuple[str, str], Answer],
    links: dict[tuple[str, str], Answer],
    rules: Expectations,
) -> None:
    table = tabulate([ran(place, verdict) for place, verdict in pair.items()], rules)
    answers = Answers(resolves, links)
    grid = survey(
        PATCHES,
        resolves=answers.resolves,
        links=answers.links,
        seen=runs([(entry.record, entry.verdict) for entry in table.entries], PATCHES),
    )
    # Of releases that ran, the squares of both platforms: what a check rules out is no cpu matter.
    ran_there = {
        place: any(progress.ran for progress in square.cells)
        for place, square in grid.squares.items()
    }
    ran_anywhere = {place[1:] for place, did_run in ran_there.items() if did_run}
    told = {
        platform: [
            square.shown
            for place, square in grid.squares.items()
            if place[0] == platform
            and (ran_there[place] or (place[1:] in ran_anywhere and square.shown.ruled_out))
        ]
        for platform in ("cuda", "cpu")
    }
    (made,) = badges.render(table, grid).values()
    label = re.search(r'aria-label="[^"]* vLLM 0.19: ([^"]*)"', made)
    assert label is not None
    # The squares that the badge may stand for: those that it repeats word by word.
    name, shown = min(
        (
            (name, shown)
            for name, squares in told.items()
            for shown in squares
            if ", ".join([shown.verdict, *marks(shown.ran, most=1)]) + " (cpu)" * (name == "cpu")
            == label[1]
        ),
        key=lambda one: WORSE.index(standing(one[1])),
    )
    event(f"{shown.verdict} on {name} by {'a check' if shown.ruled_out else 'a run'}")
    # Nothing on its platform is worse, and cuda, which is authoritative, decides nothing before it.
    for square in told[name]:
        assert WORSE.index(standing(square)) >= WORSE.index(standing(shown))
    other = told["cpu" if name == "cuda" else "cuda"]
    if other and (name == "cpu" or shown.verdict == Verdict.UNTESTED):
        worst = min(WORSE.index(standing(square)) for square in other)
        assert WORSE[worst] in ("untested", "nothing")


WORSE = ("incompatible", "drift", "untested", "compatible", "nothing")


def standing(shown: Progress) -> str:
    """Return the verdict of a square; `nothing` where its runs show nothing and no check fails."""
    silent = shown.ran is None or not shown.ran.is_informative
    return "nothing" if silent and shown.verdict == Verdict.UNTESTED else shown.verdict


@pytest.mark.parametrize(
    ("error", "said"),
    [(NO_GPU, "incompatible"), (None, "compatible, 1 case recompiles warm (vllm#38051)")],
)
def test_a_check_that_fails_stands_where_the_run_shows_nothing(
    error: RunError | None, said: str
) -> None:
    again = {COMPILED: 4}
    path, made = record("3.11", (case(again, again),) if error is None else ())
    table = tabulate([(path, replace(made, error=error))], RULES)
    seen = runs([(entry.record, entry.verdict) for entry in table.entries], RELEASES)
    grid = survey(RELEASES, links=lambda _cell: NO, seen=seen)
    (text,) = badges.render(table, grid).values()
    assert f'vLLM 0.19: {said}"' in text
    assert ("check of links)" in text) == (error is not None)
    assert grid.squares[Platform.CUDA, "2.10.0", "0.19.1"].shown.verdict == said.partition(",")[0]


@pytest.mark.parametrize("links", [NO, YES, None])
def test_a_pair_that_ran_on_the_cpu_alone_has_the_badge_of_its_cuda_square(
    links: Answer | None,
) -> None:
    """Of cuda, which decides, a check says that it cannot work, or nothing does."""
    again = {COMPILED: 4}
    path, made = record("3.11", (case(again, again),))
    table = tabulate([(path, replace(made, platform=Platform.CPU))], RULES)
    seen = runs([(entry.record, entry.verdict) for entry in table.entries], RELEASES)
    grid = survey(RELEASES, links=lambda _cell: links, seen=seen)
    assert grid.squares[Platform.CUDA, "2.10.0", "0.19.1"].shown.ruled_out is (links is NO)
    (text,) = badges.render(table, grid).values()
    if links is NO:
        assert 'vLLM 0.19: incompatible"' in text and "(cuda, Python 3.10, check of links)" in text
    else:
        assert 'vLLM 0.19: compatible, 1 case recompiles warm (vllm#38051) (cpu)"' in text


def test_a_release_that_the_grid_does_not_have_speaks_for_itself() -> None:
    again = {COMPILED: 4}
    good = record("3.11", (case(again, again),))
    path, made = record("3.12", (Case(case="a", outcome=Outcome.FAILED, reason="x"),))
    provenance = {**made.provenance, "vllm": "0.19.7"}
    table = tabulate([good, (path, replace(made, provenance=provenance))], RULES)
    seen = runs([(entry.record, entry.verdict) for entry in table.entries], RELEASES)
    (text,) = badges.render(table, survey(RELEASES, seen=seen)).values()
    assert 'vLLM 0.19: incompatible"' in text and "Python 3.12" in text


def test_junit_has_the_marks_and_the_issue() -> None:
    again = {"num_compiled_artifacts_saved": 4}
    table = tabulate([record("3.11", (case(again, again),), deselected=8)], RULES)
    text = junit(table)
    assert 'name="mark" value="1 case recompiles warm (vllm#38051)"' in text
    assert 'name="mark" value="1 of 9 cases"' in text
    assert f'value="a: recompiles warm (num_compiled_artifacts_saved 4) {ISSUE}"' in text
