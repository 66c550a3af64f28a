import ast
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import provenance
from matrix.record.model import SCHEMA, Case, Outcome, Record, RecordError, Rung, RungResult
from matrix.record.reader import parse, read
from matrix.record.startup_tests import (
    GPUS_NEEDED,
    STARTUP_TESTS_VERSION,
    StartupTests,
    StartupTestsError,
    applies_by_gpus,
    identity_of_tests,
    load_startup_tests,
    parse_startup_tests,
    version_of_tests,
)
from matrix.record.writer import to_json

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted(
    [*(ROOT / "results").glob("c*/*.json"), *(ROOT / "tests" / "attribution").glob("*/*.json")]
)
PRINT = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
TEXT = f"""
[[version]]
number = 1
changed = "the first"
fingerprints = ["{PRINT}"]

[[version]]
number = 2
changed = "the CPU platform counts graphs once"
platforms = ["cpu"]
torch = "<2.12"
vllm = ">=0.20"
cases = ["moe[mega=1]", "small"]

[[version]]
number = 3
changed = "an extension that does not link fails nothing"
failed_at = "imports"
"""
TESTS = parse_startup_tests(TEXT, "startup_tests.toml")


def record(tests: object, torch: str = "2.11.0", vllm: str = "0.20.2", **more: Any) -> Record:
    values = {
        "platform": "cpu",
        "cases": (Case(case="moe[mega=1]", outcome=Outcome.PASSED),),
        **more,
    }
    facts = provenance(f"{torch}+cu130", vllm, tests=tests)
    return Record(cell="py311-torch211-vllm020", finished=True, provenance=facts, **values)


def numbers(tests: object, **more: Any) -> list[int] | None:
    found = TESTS.changes_since(record(tests, **more))
    return None if found is None else [change.number for change in found]


def test_the_last_row_is_the_version_of_this_checkout() -> None:
    found = load_startup_tests()
    assert found.current == STARTUP_TESTS_VERSION
    assert [change.number for change in found.changes] == list(range(1, found.current + 1))
    for change in found.changes:
        assert len(change.changed) <= 110 and not change.changed.endswith(".")


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_published_record_has_a_known_version(path: Path) -> None:
    known = version_of_tests(read(path))
    assert known is not None and 17 <= known <= STARTUP_TESTS_VERSION


def test_what_is_published_was_not_changed_up_to_version_22() -> None:
    then = StartupTests(changes=load_startup_tests().changes[:22])
    versions = {then.version_of(read(path)) for path in PUBLISHED}
    assert versions == {17, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}
    assert [path for path in PUBLISHED if then.changes_since(read(path))] == []


def test_a_change_on_gpus_leaves_records_of_the_cpu_current() -> None:
    known = load_startup_tests()
    [change] = [change for change in known.changes if change.number == 23]
    assert change.platforms == ("cuda",)
    for path in PUBLISHED:
        found = read(path)
        made = replace(found, provenance={**found.provenance, "tests": {"version": 22}})
        changes = StartupTests(changes=known.changes[:23]).changes_since(made)
        assert changes == ((change,) if found.platform == "cuda" else ())


def test_a_record_names_its_version_or_an_old_fingerprint() -> None:
    assert TESTS.version_of(record({"commit": None, "version": 2})) == 2
    assert TESTS.version_of(record({"commit": None, "fingerprint": PRINT})) == 1
    assert TESTS.identity_of(record({"commit": None, "fingerprint": PRINT})) == "1"
    # Of a checkout with changes that nobody committed: only that two are the same.
    assert TESTS.version_of(record({"commit": None, "fingerprint": OTHER})) is None
    assert TESTS.identity_of(record({"commit": None, "fingerprint": OTHER})) == OTHER
    for nothing in (None, {}, {"version": True}, {"fingerprint": 3}, "7"):
        assert TESTS.version_of(record(nothing)) is None
        assert TESTS.identity_of(record(nothing)) is None
    published = read(PUBLISHED[0])
    assert identity_of_tests(published) == str(version_of_tests(published))


def test_a_change_is_of_the_records_that_it_can_affect() -> None:
    first = {"version": 1}
    assert numbers(first) == [2]
    assert numbers({"version": 2}) == numbers({"version": 3}) == []
    assert numbers({"fingerprint": PRINT}) == [2]
    for unaffected in (
        {"platform": "cuda"},
        {"torch": "2.12.1"},
        {"vllm": "0.19.1"},
        {"cases": ()},
    ):
        assert numbers(first, **unaffected) == []
    # A run without that case lacks one that is new.
    assert numbers(first, cases=(Case(case="other", outcome=Outcome.PASSED),)) == [2]
    broken = (RungResult(rung=Rung.IMPORTS, ok=False, seconds=0.0, reason="undefined symbol"),)
    assert numbers(first, cases=(), rungs=broken) == [3]
    assert numbers(first, cases=(), rungs=(RungResult(rung=Rung.IMPORTS, ok=True),)) == []


def test_a_change_of_seconds_alone_leaves_records_current() -> None:
    row = '\n[[version]]\nnumber = 4\nchanged = "faster"\nseconds_only = true\n'
    tests = parse_startup_tests(TEXT + row, "startup_tests.toml")
    old, new = record({"version": 3}), record({"version": 4})
    assert tests.changes_since(old) == ()
    assert not tests.differ(old, new)
    assert tests.differ(old, new, seconds=True) and tests.differ(new, old, seconds=True)
    assert not tests.differ(new, new, seconds=True)


def test_a_change_of_what_no_expectation_names_leaves_records_current() -> None:
    row = '\n[[version]]\nnumber = 4\nchanged = "fused"\nunjudged_only = true\ncases = ["small"]\n'
    tests = parse_startup_tests(TEXT + row, "startup_tests.toml")
    old, new = record({"version": 3}), record({"version": 4})
    assert tests.changes_since(old) == ()
    assert not tests.differ(old, new)
    assert tests.differ(old, new, seconds=True)
    for case, differs in (("small[a]", True), ("moe[mega=1]", False)):
        assert tests.differ(new, old, case, unjudged=True) is differs
    assert not tests.differ(new, new, unjudged=True)


def test_what_nobody_knows_of_the_versions_may_be_affected() -> None:
    told = record({"version": 1})
    unknown = replace(told, provenance={**told.provenance, "torch": None, "vllm": "x"})
    # The cell's name has a torch.
    assert [change.number for change in TESTS.changes_since(unknown) or ()] == [2]


@pytest.mark.parametrize("tests", [None, {"fingerprint": OTHER}, {"version": 4}])
def test_of_unknown_tests_nobody_knows_what_changed(tests: object) -> None:
    assert numbers(tests) is None
    assert TESTS.differ(record(tests), record({"version": 3}))
    assert not TESTS.differ(record(tests), record(tests))


def test_two_records_differ_where_a_change_affects_either() -> None:
    old, new = {"version": 1}, {"version": 3}
    assert TESTS.differ(record(old), record(new))
    assert TESTS.differ(record(old, torch="2.12.1"), record(new))
    assert not TESTS.differ(record(old, torch="2.12.1"), record(new, torch="2.13.0"))
    for case, differs in (("moe[mega=1]", True), ("moe[mega=0]", False), ("small[a]", True)):
        assert TESTS.differ(record(old), record(new), case) is differs


@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from(("2.11.0", "2.12.1")))
def test_to_differ_has_no_order_and_needs_a_change(one: int, other: int, torch: str) -> None:
    first, second = record({"version": one}), record({"version": other}, torch=torch)
    assert TESTS.differ(first, second) == TESTS.differ(second, first)
    if one == other:
        assert not TESTS.differ(first, second)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("number = 2", "number = 3", "version 2: number: is 3; write 2"),
        ('changed = "the first"', "", "version 1: changed: is missing"),
        ('changed = "the first"', 'changed = ""', "version 1: changed: is not one line"),
        ('"cpu"', '"tpu"', "platforms: 'tpu' is not a platform; use cuda or cpu"),
        ('"imports"', '"import"', "version 3: failed_at: 'import' is not a rung"),
        ('"<2.12"', '"<x"', "version 2: torch: "),
        (PRINT, "sha256:1", "version 1: fingerprints: 'sha256:1' is listed twice, or is not one"),
        (f'"{PRINT}"', f'"{PRINT}", "{PRINT}"', "fingerprints: "),
        ('cases = ["moe[mega=1]", "small"]', 'cases = "moe"', "cases: is not a list of texts"),
        ('changed = "the first"', 'changed = "a"\nunjudged_only = 1', "unjudged_only: is 1; write"),
        ("platforms", "platform", "version 2: platform: unknown key; did you mean 'platforms'?"),
    ],
)
def test_a_bad_row_is_named_with_what_to_do(old: str, new: str, said: str) -> None:
    assert old in TEXT
    with pytest.raises(StartupTestsError, match=re.escape(said)):
        parse_startup_tests(TEXT.replace(old, new, 1), "startup_tests.toml")


def test_old_and_new_records_are_both_valid() -> None:
    first = ROOT / "results" / "cpu" / "py311-torch210-vllm017.json"
    old = json.loads(first.read_text(encoding="utf-8"))
    assert old["schema"] == 1 and "version" not in old["provenance"]["tests"]
    found = read(first)
    assert to_json(found) == first.read_text(encoding="utf-8")
    new = replace(
        found,
        schema=SCHEMA,
        provenance={**found.provenance, "tests": {"commit": None, "version": 22}},
    )
    assert parse(to_json(new), "new") == new
    neither = {**old, "provenance": {**old["provenance"], "tests": {"commit": None}}}
    with pytest.raises(RecordError, match=r"provenance\.tests"):
        parse(json.dumps(neither), "neither")


@pytest.mark.programs
def test_an_installed_copy_and_the_checkout_plan_alike(tmp_path: Path) -> None:
    installed = tmp_path / "site"
    shutil.copytree(ROOT / "matrix", installed / "matrix")
    answers = []
    for home in (ROOT, installed):
        done = subprocess.run(
            [sys.executable, "-m", "matrix", "plan", "--stale", "--json", str(ROOT / "results")],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(home),
                "PYTHONDONTWRITEBYTECODE": "1",
                "TOX_WORK_DIR": str(tmp_path),  # the checkout may have cells of its own
            },
        )
        answers.append(done.stdout)
    assert answers[0] == answers[1]
    content = json.loads(answers[0])
    assert content["tests_version"] == STARTUP_TESTS_VERSION
    assert not any("does not know" in cell["why"] for cell in content["cells"])


def test_the_cases_that_need_several_gpus_are_those_that_are_marked_so() -> None:
    marked: dict[str, int] = {}
    for path in (ROOT / "tests/startup").glob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for mark in getattr(node, "decorator_list", ()):
                if ast.unparse(mark).startswith("pytest.mark.gpus("):
                    assert isinstance(node, ast.FunctionDef)
                    marked[node.name.removeprefix("test_")] = ast.literal_eval(mark.args[0])
    assert marked == GPUS_NEEDED


def test_a_whole_record_lacks_a_case_of_several_gpus_because_it_saw_fewer() -> None:
    two = "tensor_parallel_startup[moe]"
    whole = record({"version": 23})
    assert not applies_by_gpus(whole, two)
    assert applies_by_gpus(whole, "small") and applies_by_gpus(replace(whole, deselected=1), two)
    held = replace(whole, cases=(*whole.cases, Case(case=two, outcome=Outcome.PASSED)))
    assert applies_by_gpus(held, two)


def test_no_published_record_is_stale_for_the_cases_of_several_gpus() -> None:
    tests = load_startup_tests()
    assert not any(GPUS_NEEDED.keys() & {*change.cases} for change in tests.changes)
