"""What the startup tests do around two starts: their laws, their rules, what does not apply."""

import importlib.util
import inspect
import re
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from cell_pytest import ROOT
from matrix.inside import journal
from matrix.inside.ended import Ended
from matrix.inside.foreign_caches import spoil
from matrix.inside.laws import counts
from matrix.record.model import CacheKind, Platform, StartKind
from matrix.rules.expectations import Situation
from matrix.rules.expectations_file import load_expectations

RETURNED = Ended(kind="returned", seconds=1.0)


def conftest_of_the_startup_tests(patch: pytest.MonkeyPatch, folder: Path, vllm: str) -> ModuleType:
    """Load it with one rule: a cold start of these vLLM sees 2 graphs."""
    spec = importlib.util.spec_from_file_location(
        "its_conftest", ROOT / "tests/startup/conftest.py"
    )
    assert spec is not None and spec.loader is not None
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    (folder / "rules.toml").write_text(
        f'[[rule]]\nid = "x"\nvllm = "{vllm}"\n'
        'start = "cold"\nevidence = ["y"]\ncounters = { num_graphs_seen = 2 }\n'
    )
    rules = load_expectations(folder / "rules.toml")
    patch.setattr(conftest, "load_expectations", lambda: rules)
    return conftest


def test_counts_that_differ_are_journalled_before_the_test_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conftest = conftest_of_the_startup_tests(monkeypatch, tmp_path, "<99")
    diary = journal.Journal(tmp_path / "journal")
    observed = {
        StartKind.COLD: {None: {"num_graphs_seen": 3}},
        StartKind.WARM: {None: {"num_graphs_seen": 2}},
    }
    with pytest.raises(pytest.fail.Exception, match="counts differ"):
        conftest._judge(
            Situation(case="x", platform=Platform.CPU, torch="2.10.0", vllm="0.19.1", flags={}),
            observed,
            diary,
        )
    [event] = journal.read(diary.path)
    difference = "cold num_graphs_seen: expected 2, observed 3 (rule x)"
    assert event == {"event": "differs", "differences": [difference]}


def test_a_case_that_no_judge_reads_fails_where_its_counts_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conftest = conftest_of_the_startup_tests(monkeypatch, tmp_path, "<99")
    diary = journal.Journal(tmp_path / "journal")
    observed = {kind: {0: {"num_graphs_seen": 3}} for kind in StartKind}
    why = "counts differ: cold num_graphs_seen of rank 0: expected 2, observed 3"
    with pytest.raises(pytest.fail.Exception, match=why):
        conftest._judge(
            Situation(case="x", platform=Platform.CPU, torch="2.10.0", vllm="0.19.1", flags={}),
            observed,
            diary,
            decides=False,
        )
    assert not journal.read(diary.path)


def test_a_law_holds_or_not_or_cannot_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conftest = conftest_of_the_startup_tests(monkeypatch, tmp_path, "<99")
    observed = {kind: {None: {"num_cudagraph_captured": 1}} for kind in StartKind}
    assert conftest._holds(counts("num_cudagraph_captured", 1), observed)
    assert not conftest._holds(lambda *_: None, observed)
    with pytest.raises(
        pytest.fail.Exception, match="cold num_cudagraph_captured is 1, not 2; warm"
    ):
        conftest._holds(counts("num_cudagraph_captured", 2), observed)


def test_what_cannot_be_changed_between_two_starts_does_not_apply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conftest = conftest_of_the_startup_tests(monkeypatch, tmp_path, "<99")
    diary = journal.Journal(tmp_path / "journal")
    monkeypatch.setenv("MATRIX_PLATFORM", "cpu")
    monkeypatch.setenv("MATRIX_JOURNAL", str(diary.path))
    monkeypatch.setattr(conftest.starts, "cannot_start", lambda _: None)
    monkeypatch.setattr(conftest.vllm_compat, "effective_flags", dict)
    monkeypatch.setattr(conftest, "_cold", lambda *_: {})
    request = SimpleNamespace(config=SimpleNamespace(getoption=lambda _: None))
    run = inspect.unwrap(conftest.startup)(request, tmp_path, None)
    with pytest.raises(pytest.skip.Exception, match="left no file of the kind aot"):
        run("small-dense", between=partial(spoil, CacheKind.AOT))
    case = journal.fold("unreadable_cache_startup[aot]", journal.read(diary.path), ended=RETURNED)
    assert (case.outcome, case.reason) == (
        "not_applicable",
        "the cold start left no file of the kind aot",
    )


@pytest.mark.parametrize(
    ("saved", "reason"),
    [
        (2, "provisional: counts as vLLM 0.18 did; no expectation for the warm start"),
        (
            3,
            (
                "provisional: differs from vLLM 0.18 in cold num_graphs_seen: 3, was 2;"
                " no expectation for the warm start"
            ),
        ),
    ],
)
def test_a_release_beyond_the_rules_is_skipped_and_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: int, reason: str
) -> None:
    conftest = conftest_of_the_startup_tests(monkeypatch, tmp_path, "<0.19")
    diary = journal.Journal(tmp_path / "journal")
    with pytest.raises(pytest.skip.Exception, match=f"untested: {re.escape(reason)}"):
        conftest._judge(
            Situation(case="x", platform=Platform.CPU, torch="2.10.0", vllm="0.19.1", flags={}),
            {
                StartKind.COLD: {None: {"num_graphs_seen": saved}},
                StartKind.WARM: {None: {"num_graphs_seen": 1}},
            },
            diary,
        )
    assert [*journal.read(diary.path)] == [{"event": "untested", "reason": reason}]
