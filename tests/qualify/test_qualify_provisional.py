"""A candidate that is beyond the expectations is compared with its baseline, with a caveat."""

from made import make, passed
from matrix.rules.expectations_file import parse_expectations
from qualifications import NEXT, OLD, held, kinds, notes
from rules import LOADED, cold_and_warm

RULES = parse_expectations(
    cold_and_warm('vllm = "<99"\ntorch = "<2.12"', {"num_graphs_seen": 1}, {LOADED: 3}),
    "rules.toml",
)


def test_equal_counts_pass_with_a_caveat() -> None:
    found = held(make(OLD, passed()), make(NEXT, passed()), rules=RULES)
    assert (found.verdict, kinds(found)) == ("qualified", [])
    (note,) = (text for text in notes(found) if "provisional" in text)
    assert note.endswith(
        "is beyond the expectations of 1 case: provisional, compared with torch 2.11, from"
        " which 0 of 1 differ"
    )


def test_a_count_that_changed_is_a_drift_of_its_own_and_no_pass() -> None:
    new = make(NEXT, passed(num_compiled_artifacts_loaded=4))
    found = held(make(OLD, passed()), new, rules=RULES)
    assert (found.verdict, kinds(found)) == ("not qualified", ["no expectation"])
    assert any(note.endswith("torch 2.11, from which 1 of 1 differ") for note in notes(found))


def test_what_is_known_has_no_caveat() -> None:
    found = held(make(OLD, passed()), make(OLD, passed(), vllm="0.19.1"), rules=RULES)
    assert not any("provisional" in note for note in notes(found))
