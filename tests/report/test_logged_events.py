"""What starts only logged, where people and programs look."""

import json
from dataclasses import replace
from pathlib import Path

from jsonschema import Draft202012Validator

from made import reported
from matrix._util import text
from matrix.record.model import Case, Event, EventKind
from matrix.report import markdown, table_json, terminal
from matrix.verdict.judge import judge
from report_records import make, make_case
from rules import MOE

SCHEMA = json.loads(Path(text.__file__).parents[1].joinpath("data/table.schema.json").read_text())
AGAIN = Event(
    kind=EventKind.LOAD_FAILED, text="load failure from /tmp/a1, reason: KeyError: 'x'", count=2
)
BYPASSED = Event(kind=EventKind.CACHE_BYPASSED, text="Bypassing autograd cache due to: it")
WORDS = (
    "warm start compiled again: a cached artifact did not load (2 times): load failure from"
    " &lt;path&gt;, reason: KeyError: 'x'"
)


def logged(case: Case) -> Case:
    cold, warm = case.starts
    return replace(case, starts=(replace(cold, events=()), replace(warm, events=(BYPASSED, AGAIN))))


def test_what_was_only_logged_is_shown_where_it_can_explain_something() -> None:
    drifting = make_case(loaded=2)
    for case in (make_case(), drifting):
        heard = make("py311-torch210-vllm019", logged(case))
        report = reported([heard], MOE)
        [row] = [row for row in markdown.render(report).splitlines() if "| `moe` | " in row][:1]
        assert WORDS in row and "Bypassing" not in row
        content = json.loads(table_json.render(report))
        Draft202012Validator(SCHEMA).validate(content)
        [of_case] = content["cells"][0]["cases"]
        assert [(event["kind"], event["start"], event["count"]) for event in of_case["events"]] == [
            ("cache_bypassed", "warm", 1),
            ("load_failed", "warm", 2),
        ]
        shown = terminal.render(heard[1], judge(heard[1], MOE), "r.json")
        assert "compiled again: a cached artifact did not load (2 times): load failure" in shown
    # Of a record from before events nobody knows.
    content = json.loads(
        table_json.render(reported([make("py311-torch210-vllm019", drifting)], MOE))
    )
    assert content["cells"][0]["cases"][0]["events"] is None
