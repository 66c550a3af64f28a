"""A case that is as expected and recompiles warm; the badge of a pair and the grid say the same."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from matrix.catalog.releases import Releases, Torch, Vllm
from matrix.record.model import Case, Outcome, Platform, Record, Start, StartKind
from matrix.record.reader import read
from matrix.report import badges
from matrix.report.badges import badge
from matrix.report.ci import junit
from matrix.report.marks import marks
from matrix.rules.expectations import Expected
from matrix.rules.expectations_file import parse_expectations
from matrix.verdict.grid import runs, survey
from matrix.verdict.recompiles import recompiles
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
    found = recompiles(case(again, again), {"warm": expected})
    assert found is not None and found.links == (ISSUE,)
    assert found.words == f"recompiles warm (num_compiled_artifacts_saved 4) {ISSUE}"


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
    assert "vLLM 0.19: compatible, 2 cases recompile warm, 2 of 9 cases" in text
    assert badges.is_own(name.rpartition("/")[2], text)
    assert badges._COLOURS[Verdict.COMPATIBLE] not in text


SOME_CASES = st.lists(
    st.one_of(
        st.builds(
            case,
            st.fixed_dictionaries({"num_compiled_artifacts_saved": st.integers(3, 4)}),
            st.fixed_dictionaries({"num_compiled_artifacts_saved": st.integers(3, 4)}),
        ),
        st.sampled_from(
            [Case(case="a", outcome=outcome, reason="x") for outcome in (*Outcome,)],
        ),
    ),
    max_size=3,
).map(tuple)
PAIR = st.dictionaries(
    st.sampled_from(RELEASES.pythons), st.tuples(SOME_CASES, st.integers(0, 2)), min_size=1
)


@given(PAIR)
def test_the_badge_of_a_pair_says_what_the_grid_shows(
    pair: dict[str, tuple[tuple[Case, ...], int]],
) -> None:
    table = tabulate(
        [record(python, cases, deselected) for python, (cases, deselected) in pair.items()], RULES
    )
    grid = survey(
        RELEASES,
        seen=runs([(entry.record, entry.verdict) for entry in table.entries], RELEASES),
    )
    shown = grid.squares[Platform.CUDA, "2.10.0", "0.19.1"].shown
    (made,) = badges.render(table).values()
    worst = table.worst("cuda", "2.10", "0.19")
    assert worst is not None
    title = f"cuda, Python {worst.factors.python}, {worst.date}"
    label = "torch 2.10 | vLLM 0.19"
    if shown.ran is None or not shown.ran.is_informative:
        assert worst.verdict.verdict == Verdict.UNTESTED == shown.verdict
        return
    wanted = badge(label, shown.verdict, title, None, ", ".join(marks(shown.ran, most=1)))
    assert made == wanted


def test_junit_has_the_marks_and_the_issue() -> None:
    again = {"num_compiled_artifacts_saved": 4}
    table = tabulate([record("3.11", (case(again, again),), deselected=8)], RULES)
    text = junit(table)
    assert 'name="mark" value="1 case recompiles warm"' in text
    assert 'name="mark" value="1 of 9 cases"' in text
    assert f'value="a: recompiles warm (num_compiled_artifacts_saved 4) {ISSUE}"' in text
