"""`matrix calibrate --write`: what it changes in the file of expectations, and what it refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from command import matrix
from commanded import make
from made import provenance
from matrix.record.model import Case, Outcome, Platform, Record, Start, StartKind
from matrix.record.reader import read
from matrix.record.writer import write
from matrix.rules.expectations_file import EXPECTATIONS_FILE, load_expectations

ROOT = Path(__file__).parents[2]
CELL = "py312-torch214-vllm034"
RECORD = f"results/cpu/{CELL}.json"
SAVED = "num_compiled_artifacts_saved"
RULES = """\
# What a start should count.

[[rule]]
id = "dense-cold"
case = "dense"
platform = "cpu"
torch = "<2.15"
vllm = ">=0.19,<0.34"  # widened often
start = "cold"
counters = { num_compiled_artifacts_saved = 3 }
evidence = ["results/cpu/py312-torch214-vllm033.json"]

# --- moe ---

[[rule]]
id = "moe-cold"
case = "moe"
platform = "cpu"
torch = "<2.15"
vllm = ">=0.19,<0.34"
start = "cold"
counters = { num_compiled_artifacts_saved = 3 }
evidence = ["results/cpu/py312-torch214-vllm033.json"]

# The end.
"""
WIDENED = RULES.replace('<0.34"  #', '<0.35"  #').replace(
    '["results/cpu/py312-torch214-vllm033.json"]\n\n# --- moe',
    f'[\n    "results/cpu/py312-torch214-vllm033.json",\n    "{RECORD}",\n]\n\n# --- moe',
)
ADDED = f"""\
[[rule]]
id = "moe-cold-0.34"
case = "moe"
platform = "cpu"
torch = "<2.15"
vllm = ">=0.34,<0.35"
start = "cold"
counters = {{ num_compiled_artifacts_saved = 4 }}
evidence = ["{RECORD}"]

"""


def record(vllm: str, cases: Mapping[str, int], **changes: Any) -> Record:
    """Return a run whose cases save so many artifacts in a cold start."""
    values: dict[str, Any] = {
        "cell": f"py312-torch214-vllm{vllm[:4].replace('.', '')}",
        "provenance": provenance("2.14.0+cpu", vllm, "3.12"),
        "cases": tuple(
            Case(
                case=name,
                outcome=Outcome.PASSED,
                starts=(Start(start=StartKind.COLD, seconds={}, counters={SAVED: count}),),
            )
            for name, count in cases.items()
        ),
        **changes,
    }
    return make(**values)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return a folder with rules, the record of their evidence, and one beyond their end."""
    write(record("0.33.0", {"dense": 3, "moe": 3}), tmp_path / RECORD.replace("034", "033"))
    write(record("0.34.0", {"dense": 3, "moe": 4}), tmp_path / RECORD)
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    return tmp_path


def calibrate(here: Path, *words: str) -> tuple[int, list[str], list[str]]:
    """Return the status of the command with --write, and its lines on stdout and on stderr."""
    done = matrix(
        here, "calibrate", *words, "--write", "--expectations", "rules.toml", COLUMNS="200"
    )
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def rules(here: Path) -> str:
    return (here / "rules.toml").read_text(encoding="utf-8")


def test_rules_are_widened_where_they_stand_and_added_after_those_of_their_case(
    here: Path,
) -> None:
    assert calibrate(here, RECORD) == (
        0,
        [
            f"{RECORD}: 1 rule widened, 1 rule added",
            "  widened dense-cold: vllm >=0.19,<0.35 (was >=0.19,<0.34)",
            "  added moe-cold-0.34: torch <2.15, vllm >=0.34,<0.35",
            "rules.toml was written: 1 rule widened, 1 rule added",
        ],
        [],
    )
    assert rules(here) == WIDENED.replace("# The end.", f"{ADDED}# The end.")
    assert matrix(here, "check", "--expectations", "rules.toml").returncode == 0
    assert not [path for path in here.iterdir() if path.name.endswith(".tmp")]


def test_a_second_call_changes_nothing(here: Path) -> None:
    calibrate(here, RECORD)
    before = (here / "rules.toml").stat()
    assert calibrate(here, RECORD) == (
        0,
        [f"{RECORD}: no rule to widen or to add", "rules.toml is unchanged"],
        [],
    )
    after = (here / "rules.toml").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_each_of_several_records_meets_the_rules_of_those_before_it(here: Path) -> None:
    newer = RECORD.replace("034", "035")
    write(record("0.35.0", {"dense": 3, "moe": 4}), here / newer)
    status, lines, errors = calibrate(here, RECORD, newer)
    assert (status, errors) == (0, [])
    assert lines[3:] == [
        f"{newer}: 2 rules widened",
        "  widened dense-cold: vllm >=0.19,<0.36 (was >=0.19,<0.35)",
        "  widened moe-cold-0.34: vllm >=0.34,<0.36 (was >=0.34,<0.35)",
        "rules.toml was written: 3 rules widened, 1 rule added",
    ]
    at_once = rules(here)
    (here / "rules.toml").write_text(RULES, encoding="utf-8")
    calibrate(here, RECORD)
    calibrate(here, newer)
    assert rules(here) == at_once


def test_several_records_are_printed_as_they_would_be_written(here: Path) -> None:
    newer = RECORD.replace("034", "035")
    write(record("0.35.0", {"dense": 3, "moe": 4}), here / newer)
    done = matrix(here, "calibrate", RECORD, newer, "--expectations", "rules.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "rule 'moe-cold-0.34' ends before this record, which counts the same" in done.stdout
    assert rules(here) == RULES


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_the_rules_of_the_package_follow_a_new_release(tmp_path: Path, kind: str) -> None:
    published = read(ROOT / "results" / kind / "py312-torch214-vllm033.json")
    versions = {**published.provenance, "vllm": "0.34.0"}
    write(
        replace(published, cell=CELL, provenance=versions),
        tmp_path / "results" / kind / f"{CELL}.json",
    )
    before = EXPECTATIONS_FILE.read_text(encoding="utf-8")
    (tmp_path / "rules.toml").write_text(before, encoding="utf-8")
    status, lines, errors = calibrate(tmp_path, f"results/{kind}/{CELL}.json")
    assert (status, errors) == (0, [])
    known, after = load_expectations(), load_expectations(tmp_path / "rules.toml")
    changed = [rule for rule in after.rules if rule not in known.rules]
    assert len(changed) == sum(line.startswith(("  widened ", "  added ")) for line in lines) > 30
    comments = [line for line in before.splitlines() if line.startswith("#")]
    assert [line for line in rules(tmp_path).splitlines() if line.startswith("#")] == comments
    done = matrix(tmp_path, "check", "--expectations", "rules.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert calibrate(tmp_path, f"results/{kind}/{CELL}.json")[1][-1] == "rules.toml is unchanged"


@pytest.mark.parametrize("is_there", [False, True])
def test_a_record_that_is_not_published_is_refused(here: Path, is_there: bool) -> None:
    run = f"records/{CELL}.20261122T180000Z.json"
    write(record("0.34.0", {"dense": 5}), here / run)
    if not is_there:
        (here / RECORD).unlink()
    what = "is the record of another run" if is_there else "is not there"
    assert calibrate(here, run) == (
        2,
        [],
        [f"matrix: {run}: a rule names it as {RECORD}, which {what}; copy it there first"],
    )
    assert rules(here) == RULES


def test_the_record_of_a_candidate_is_refused(here: Path) -> None:
    cell = "py312-torchnightly-vllm033"
    versions = provenance("2.16.0.dev20261128+torchnightly.b0123456789abcde", "0.33.0", "3.12")
    write(record("0.33.0", {"dense": 3}, cell=cell, provenance=versions), here / f"{cell}.json")
    message = "a candidate is evidence of no release; calibrate the record of a release"
    assert calibrate(here, f"{cell}.json") == (2, [], [f"matrix: {cell}.json: {message}"])


def test_the_same_record_elsewhere_is_as_good(here: Path) -> None:
    run = f"records/{CELL}.20261122T180000Z.json"
    write(read(here / RECORD), here / run)
    assert calibrate(here, run)[0] == 0
    assert rules(here) != RULES


def test_what_contradicts_a_rule_is_left_out(here: Path) -> None:
    write(record("0.33.0", {"dense": 3, "moe": 4, "new": 3}), here / RECORD.replace("034", "033"))
    write(record("0.34.0", {"dense": 3, "moe": 4}), here / RECORD)
    name = RECORD.replace("034", "033")
    left_out = (
        f"matrix: {name}: left out: rule 'cpu-moe-torch214-vllm033-cold': counts {SAVED} = 4, and"
        f" rule 'moe-cold' expects 3; find out why, `matrix calibrate {name}` prints the new rule"
    )
    added = "  added cpu-new-torch214-vllm033-cold: torch ==2.14.*, vllm ==0.33.*"
    assert calibrate(here, name) == (
        1,
        [f"{name}: 1 rule added", added, "rules.toml was written: 1 rule added"],
        [left_out],
    )
    assert rules(here).startswith(RULES)
    assert calibrate(here, name) == (
        1,
        [f"{name}: no rule to widen or to add", "rules.toml is unchanged"],
        [left_out],
    )


def test_what_check_would_refuse_is_left_out(here: Path) -> None:
    """Upstream's own test of vLLM 0.19 states other numbers, and none of the case `moe`."""
    name = "results/cuda/py312-torch210-vllm019.json"
    cases = {"moe_startup[mega_aot=1]": 99, "moe": 99}
    cuda = provenance("2.10.0+cu128", "0.19.1", "3.12")
    flags = {"VLLM_USE_MEGA_AOT_ARTIFACT": True}
    write(
        record(
            "0.19.1",
            cases,
            cell="py312-torch210-vllm019",
            platform=Platform.CUDA,
            provenance=cuda,
            flags=flags,
        ),
        here / name,
    )
    status, lines, errors = calibrate(here, name)
    assert (status, lines[0]) == (1, f"{name}: 1 rule added")
    (line,) = errors
    assert line.startswith(
        f"matrix: {name}: left out: rule 'cuda-moe_startup[mega_aot=1]-torch210-vllm019-cold': "
    )
    assert f"{SAVED} = 99 in the cold start of moe_startup[mega_aot=1], and upstream's" in line
    assert matrix(here, "check", "--expectations", "rules.toml").stderr == ""


def test_rules_that_would_tie_are_refused(here: Path) -> None:
    """The new rule is of narrower releases, and the other one of a flag of the record."""
    other = (
        RULES.partition("# --- moe")[0]
        .replace('start = "cold"', 'flags = { X = true }\nstart = "cold"')
        .replace('"dense', '"other')
        .replace('case = "other"', 'case = "new"')
    )
    (here / "rules.toml").write_text(other.replace("= 3 }", "= 3, num_graphs_seen = 1 }"))
    tied = record("0.33.0", {"new": 3}, flags={"X": False})
    name = RECORD.replace("034", "033")
    write(tied, here / name)
    before = rules(here)
    status, lines, errors = calibrate(here, name)
    assert (status, lines, len(errors)) == (2, [], 1)
    assert "rules 'other-cold' and 'cpu-new-torch214-vllm033-cold' tie on" in errors[0]
    assert rules(here) == before


def test_rules_of_a_file_in_another_form_are_refused(here: Path) -> None:
    inline = (
        'rule = [{ id = "a", case = "dense", platform = "cpu", vllm = "<0.34", start = "cold",'
        f" counters = {{ {SAVED} = 3 }}, evidence = ["
        f'"{RECORD.replace("034", "033")}"] }}]\n'
    )
    (here / "rules.toml").write_text(inline, encoding="utf-8")
    assert calibrate(here, RECORD) == (
        2,
        [],
        [
            "matrix: rules.toml: not every rule begins with a line [[rule]]; write each of them so",
        ],
    )
    assert rules(here) == inline


def test_a_file_that_cannot_be_written_stays(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "replace", refuse)
    status, lines, errors = calibrate(here, RECORD)
    assert (status, lines) == (2, [])
    assert errors == ["matrix: rules.toml: cannot be written: Read-only file system"]
    monkeypatch.undo()
    assert rules(here) == RULES and len(list(here.iterdir())) == 2


def test_a_link_to_the_file_stays_one(here: Path) -> None:
    (here / "rules.toml").rename(here / "own.toml")
    (here / "rules.toml").symlink_to("own.toml")
    assert calibrate(here, RECORD)[0] == 0
    assert (here / "rules.toml").is_symlink() and rules(here) != RULES


def test_a_case_that_failed_is_named(here: Path) -> None:
    run = read(here / RECORD)
    failed = replace(run.cases[1], outcome=Outcome.FAILED, reason="why")
    write(replace(run, cases=(run.cases[0], failed)), here / RECORD)
    status, lines, errors = calibrate(here, RECORD)
    assert (status, errors) == (0, [])
    assert lines[2] == "  moe: failed (why), so it justifies no rule"
    assert rules(here) == WIDENED


def test_with_all_every_counter_gets_a_rule(here: Path) -> None:
    run = record("0.34.0", {"dense": 3})
    start = replace(run.cases[0].starts[0], counters={SAVED: 3, "num_graphs_seen": 1})
    write(replace(run, cases=(replace(run.cases[0], starts=(start,)),)), here / RECORD)
    assert "num_graphs_seen" not in (calibrate(here, RECORD), rules(here))[1]
    status, lines, errors = calibrate(here, RECORD, "--all")
    assert (status, errors, lines[0]) == (0, [], f"{RECORD}: 1 rule added")
    assert "num_graphs_seen = 1" in rules(here)
