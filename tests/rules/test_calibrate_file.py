"""What is written of a record's proposals: nothing for which `matrix check` would refuse a rule."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from matrix._util.versions import VersionRange
from matrix.catalog.releases_file import load_releases
from matrix.report.check import fault_lines
from matrix.rules.calibrate import Calibration
from matrix.rules.calibrate_file import update_rules
from matrix.rules.expectations_file import parse_expectations
from matrix.rules.founded import find_record
from matrix.rules.rule_faults import RuleChecks
from matrix.rules.upstream.file import load_upstream
from matrix.rules.widen import Proposal

RECORD = "results/cuda/py312-torch210-vllm019.json"
WRONG = f"""
[[rule]]
id = "wrong"
case = "moe_startup"
platform = "cuda"
torch = "<2.11"
vllm = ">=0.19,<0.20"
start = "cold"
counters = {{ "aot_autograd.total" = 99 }}
evidence = ["{RECORD}"]
"""
RIGHT = WRONG.replace("wrong", "right").replace("99", "33").replace('<0.20"', '<0.19.9"')


def checks(folder: Path) -> RuleChecks:
    return RuleChecks.of(load_upstream(), load_releases(), partial(find_record, folder=folder))


def test_a_wider_rule_that_lets_a_wrong_one_win_is_reported(tmp_path: Path) -> None:
    """The wide rule is less specific than the other one, which then contradicts upstream."""
    known = parse_expectations(WRONG + RIGHT, "rules.toml")
    right = known.rules[1]
    wider = replace(right, torch=VersionRange("<2.12"), vllm=VersionRange(">=0.19,<0.20"))
    part = Proposal(rule=wider, follows=right, widens=True)
    found = Calibration(name="a.json", parts=(part,))
    # The evidence of the rule ends with torch 2.10, so that it is left out.
    update = update_rules(WRONG + RIGHT, known, found, checks(tmp_path))
    assert (update.text, update.expectations, update.changed) == (WRONG + RIGHT, known, ())
    (left_out,) = update.left_out
    assert left_out.rule == wider and not update.hinders
    assert any("ends with torch 2.10" in line for line in fault_lines(left_out.faults, "a"))

    newer = RECORD.replace("210", "211")
    cited = replace(wider, evidence=(RECORD, newer))
    published = Path(__file__).parents[2] / RECORD
    found = replace(found, parts=(replace(part, rule=cited),))
    given = replace(checks(tmp_path), find=lambda _: published)
    update = update_rules(WRONG + RIGHT, known, found, given)
    assert not update.left_out
    assert {fault.rule for fault in update.hinders} == {"wrong"}
    lines = fault_lines(update.hinders, "rules.toml")
    assert lines and all("aot_autograd.total = 99" in line for line in lines)


def test_nothing_proposed_is_the_same_text(tmp_path: Path) -> None:
    known = parse_expectations(WRONG, "rules.toml")
    update = update_rules(WRONG, known, Calibration(name="a.json", parts=()), checks(tmp_path))
    assert (update.text, update.expectations) == (WRONG, known)
    assert not (update.changed or update.left_out or update.hinders)
